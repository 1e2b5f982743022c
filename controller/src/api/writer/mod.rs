//! Where entities are written: the cluster, or a folder beside the user's manifests.

mod cluster;
mod folder;

use std::collections::BTreeMap;
use std::time::Duration;

use compile::{Compiler, Kind, Level, Object, ObjectRef};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use super::refused::Refused;
use crate::held::Held;
use cluster::Cluster;

pub(crate) use folder::Folder;

/// Who writes, in the fields that it owns.
pub(crate) const MANAGER: &str = "postern-admin";
/// Label of Secrets that the API made for a Credential, and may change with it.
pub(crate) const MANAGED: (&str, &str) = ("postern.dev/managed-by", "admin-api");
/// How long a change may take until it is in force.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a change is made again that somebody else's change overtook.
const ATTEMPTS: usize = 16;

/// What a Credential is to have in its Secret.
#[derive(Clone, Default)]
pub(crate) struct SecretData {
    pub(crate) name: String,
    pub(crate) entries: BTreeMap<String, String>,
}

/// What is to be written.
#[derive(Clone, Default)]
pub(crate) struct Edit {
    /// The whole object.
    pub(crate) object: Value,
    pub(crate) secret: Option<SecretData>,
}

/// Makes the new state of an object out of the one that is there.
pub(crate) type Change<'a> = &'a (dyn Fn(&Compiler, Value) -> Result<Edit, Refused> + Sync);

/// Refuses a new object in view of those that are there.
pub(crate) type Guard<'a> = &'a (dyn Fn(&Compiler) -> Result<(), Refused> + Sync);

/// Where entities are written.
pub(crate) struct Writer {
    backend: Backend,
    /// One change at a time: it is judged, made and in force before the next is judged.
    turn: Mutex<()>,
}

enum Backend {
    Cluster(Cluster),
    Folder(Folder),
}

impl Writer {
    pub(crate) fn cluster(client: kube::Client) -> Self {
        Self {
            backend: Backend::Cluster(Cluster::new(client)),
            turn: Mutex::new(()),
        }
    }

    pub(crate) fn folder(folder: Folder) -> Self {
        Self {
            backend: Backend::Folder(folder),
            turn: Mutex::new(()),
        }
    }

    /// Writes a new object, and waits until it is in force. What then turns out not to fit is taken back.
    pub(crate) async fn create(
        &self,
        held: &Held,
        guard: Guard<'_>,
        edit: Edit,
    ) -> Result<ObjectRef, Refused> {
        let object = decoded(&edit.object)?;
        let reference = object.reference().clone();
        let _turn = self.turn.lock().await;
        guard(&held.read())?;
        match &self.backend {
            Backend::Cluster(cluster) => cluster.create(held, &reference, &edit).await?,
            Backend::Folder(folder) => folder.create(held, object, &edit).await?,
        }
        if let Err(refused) = judge(held, &reference) {
            self.remove(held, &reference).await?;
            return Err(refused);
        }
        Ok(reference)
    }

    /// Changes an object. What somebody else wrote meanwhile is the basis of another attempt, so that nothing is lost.
    pub(crate) async fn update(
        &self,
        held: &Held,
        reference: &ObjectRef,
        change: Change<'_>,
    ) -> Result<(), Refused> {
        let _turn = self.turn.lock().await;
        for _ in 0..ATTEMPTS {
            let Some(before) = self.attempt(held, reference, change).await? else {
                continue;
            };
            if let Err(refused) = judge(held, reference) {
                let back = move |_: &Compiler, _: Value| Ok(before.clone());
                self.attempt(held, reference, &back).await?;
                return Err(refused);
            }
            return Ok(());
        }
        Err(Refused::Conflict(format!(
            "{reference} is being changed by others at the same time: try again"
        )))
    }

    /// None where somebody else wrote in between; else what was there before.
    async fn attempt(
        &self,
        held: &Held,
        reference: &ObjectRef,
        change: Change<'_>,
    ) -> Result<Option<Edit>, Refused> {
        match &self.backend {
            Backend::Cluster(cluster) => cluster.update(held, reference, change).await,
            Backend::Folder(folder) => folder.update(held, reference, change).await.map(Some),
        }
    }

    /// Deletes an object, and waits until that is in force. One that is gone already is no error.
    pub(crate) async fn delete(&self, held: &Held, reference: &ObjectRef) -> Result<(), Refused> {
        let _turn = self.turn.lock().await;
        self.remove(held, reference).await
    }

    async fn remove(&self, held: &Held, reference: &ObjectRef) -> Result<(), Refused> {
        match &self.backend {
            Backend::Cluster(cluster) => cluster.delete(held, reference).await,
            Backend::Folder(folder) => folder.delete(held, reference).await,
        }
    }

    /// Refuses what cannot be changed here, before anything else is.
    pub(crate) fn writable(&self, reference: &ObjectRef) -> Result<(), Refused> {
        match &self.backend {
            Backend::Cluster(_) => Ok(()),
            Backend::Folder(folder) => folder.writable(reference),
        }
    }
}

/// The object of a manifest, whose fields fit.
pub(crate) fn decoded(manifest: &Value) -> Result<Object, Refused> {
    let object = Object::from_json(manifest.clone()).map_err(|error| {
        tracing::error!(%error, "the Admin API made an object that cannot be read");
        Refused::Unexpected
    })?;
    if let Some(bad) = object.unreadable() {
        return Err(super::violations(&bad.field, &bad.message));
    }
    Ok(object)
}

/// What the compiler has against an object, as far as only the whole can tell: a key that is taken, a bad public key.
fn judge(held: &Held, reference: &ObjectRef) -> Result<(), Refused> {
    let compiler = held.read();
    let errors = compiler
        .diagnostics_of(reference)
        .iter()
        .filter(|diagnostic| diagnostic.level == Level::Error);
    for error in errors {
        match error.reason {
            "Conflicted" => return Err(Refused::Conflict(error.message.clone())),
            "InvalidField" => return Err(super::violations(&error.field, &error.message)),
            _ => {}
        }
    }
    Ok(())
}

/// Waits until the compiler's objects are as they should be, now or later.
async fn in_force(held: &Held, fits: impl Fn(&Compiler) -> bool) -> Result<(), Refused> {
    let revisions = held.revisions();
    if fits(&held.read()) {
        return Ok(());
    }
    in_force_after(held, revisions, fits).await
}

/// Waits for a revision in which the compiler's objects are as they should be.
async fn in_force_after(
    held: &Held,
    mut revisions: watch::Receiver<u64>,
    fits: impl Fn(&Compiler) -> bool,
) -> Result<(), Refused> {
    let wait = async {
        while revisions.changed().await.is_ok() {
            if fits(&held.read()) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.map_err(|_| {
        Refused::Unavailable(format!(
            "the change is written, but was not in force within {} s: see the log",
            PATIENCE.as_secs()
        ))
    })
}

/// The Secret of a Credential as an object.
fn secret(of: &ObjectRef, data: &SecretData) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": data.name,
            "namespace": &*of.namespace,
            "labels": {MANAGED.0: MANAGED.1},
        },
        "type": "Opaque",
        "stringData": data.entries,
    })
}

fn secret_ref(of: &ObjectRef, data: &SecretData) -> ObjectRef {
    ObjectRef::new(Kind::Secret, &of.namespace, &data.name)
}

/// Whether the data of a Secret are these.
fn holds(compiler: &Compiler, secret: &ObjectRef, data: &SecretData) -> bool {
    compiler.object(secret).is_some_and(|object| {
        let mut entries = data.entries.iter();
        entries.all(|(name, value)| object.secret_entry(name) == Some(value.as_bytes()))
    })
}
