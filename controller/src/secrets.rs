//! Makes the Secrets that Credentials and AuthPlugins want generated.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use compile::WantedSecret;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lease::Leadership;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const LENGTH: usize = 32;
/// What was made is not made again while the watch has not brought it yet, nor what failed at once.
const PAUSE: Duration = Duration::from_secs(10);

/// A Secret could not be made.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Api(#[from] kube::Error),
    #[error("the system gives no randomness")]
    Randomness,
    #[error(
        "Secret {namespace}/{name} exists, is not owned by {owner} and lacks {entries}: add what is missing, or delete it"
    )]
    Foreign {
        namespace: Arc<str>,
        name: Arc<str>,
        owner: String,
        entries: String,
    },
}

/// Makes wanted Secrets while this replica holds the lease.
pub(crate) async fn run(
    client: kube::Client,
    mut wanted: watch::Receiver<Arc<[WantedSecret]>>,
    mut leadership: Leadership,
    shutdown: CancellationToken,
) {
    let mut tried: HashMap<(Arc<str>, Arc<str>), Instant> = HashMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = leadership.gained() => {}
        }
        let all = Arc::clone(&wanted.borrow_and_update());
        tried.retain(|_, at| at.elapsed() < PAUSE);
        for secret in all.iter() {
            if !leadership.held() {
                break;
            }
            let key = (Arc::clone(&secret.owner_uid), Arc::clone(&secret.name));
            if tried.contains_key(&key) {
                continue;
            }
            tried.insert(key, Instant::now());
            match make(&client, secret).await {
                Ok(()) => {
                    tracing::info!(owner = %secret.owner, secret = %secret.name, "generated a Secret")
                }
                Err(error) => {
                    tracing::warn!(owner = %secret.owner, %error, "cannot generate a Secret; trying again")
                }
            }
        }
        let again = if all.is_empty() {
            Duration::from_secs(3600)
        } else {
            PAUSE
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(again) => {}
        }
    }
}

async fn make(client: &kube::Client, wanted: &WantedSecret) -> Result<(), Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &wanted.owner.namespace);
    match api
        .create(&PostParams::default(), &secret(wanted, &wanted.entries)?)
        .await
    {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error.into()),
    }
    // It exists: entries that it lacks are added where it is the owner's own.
    let Some(found) = api.get_opt(&wanted.name).await? else {
        return Ok(());
    };
    let held = found.data.unwrap_or_default();
    let missing: Vec<&'static str> = wanted
        .entries
        .iter()
        .copied()
        .filter(|entry| !held.contains_key(*entry))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let owned = found
        .metadata
        .owner_references
        .unwrap_or_default()
        .iter()
        .any(|owner| *owner.uid == *wanted.owner_uid);
    if !owned {
        return Err(Error::Foreign {
            namespace: Arc::clone(&wanted.owner.namespace),
            name: Arc::clone(&wanted.name),
            owner: wanted.owner.to_string(),
            entries: missing.join(", "),
        });
    }
    let mut patch = secret(wanted, &missing)?;
    // Nobody else's write in between may be lost.
    patch.metadata.resource_version = found.metadata.resource_version;
    api.patch(&wanted.name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

fn secret(wanted: &WantedSecret, entries: &[&'static str]) -> Result<Secret, Error> {
    let data = entries
        .iter()
        .map(|entry| Ok(((*entry).to_owned(), ByteString(generate()?))))
        .collect::<Result<BTreeMap<_, _>, Error>>()?;
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(wanted.name.to_string()),
            namespace: Some(wanted.owner.namespace.to_string()),
            labels: Some(BTreeMap::from([(
                "app.kubernetes.io/managed-by".into(),
                "postern".into(),
            )])),
            owner_references: Some(vec![OwnerReference {
                api_version: wanted.owner.kind.api_version().into(),
                kind: wanted.owner.kind.kind().into(),
                name: wanted.owner.name.to_string(),
                uid: wanted.owner_uid.to_string(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: Some("Opaque".into()),
        ..Secret::default()
    })
}

/// 32 characters of 62, each equally likely: about 190 bits.
fn generate() -> Result<Vec<u8>, Error> {
    let mut value = Vec::with_capacity(LENGTH);
    let mut bytes = [0; 64];
    while value.len() < LENGTH {
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Randomness)?;
        // Bytes from 248 on would favour the first letters.
        let letters = bytes
            .iter()
            .filter(|byte| **byte < 248)
            .filter_map(|byte| ALPHABET.get(usize::from(*byte) % 62));
        value.extend(letters.take(LENGTH - value.len()));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use compile::{Kind, ObjectRef};
    use std::collections::BTreeSet;

    #[test]
    fn values_have_32_letters_or_digits_and_never_repeat() {
        let values: BTreeSet<Vec<u8>> = (0..200).map(|_| generate().unwrap()).collect();
        assert_eq!(values.len(), 200);
        assert!(
            values
                .iter()
                .all(|value| value.len() == 32 && value.iter().all(u8::is_ascii_alphanumeric))
        );
        let used: BTreeSet<u8> = values.iter().flatten().copied().collect();
        assert_eq!(used.len(), 62, "6,400 draws use every character");
    }

    #[test]
    fn the_credential_owns_what_is_made_for_it() {
        let wanted = WantedSecret {
            owner: ObjectRef::new(Kind::Credential, "shop", "alice"),
            owner_uid: "1-2-3".into(),
            name: "alice".into(),
            entries: vec!["key"],
        };
        let made = secret(&wanted, &wanted.entries).unwrap();
        let owner = &made.metadata.owner_references.unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
            ("Credential", "1-2-3", Some(true))
        );
        assert_eq!(owner.api_version, "postern.dev/v1alpha1");
        assert_eq!(made.data.unwrap()["key"].0.len(), 32);
    }
}
