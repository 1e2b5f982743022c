//! The cluster. Every write says on which version of the object it is based, so that none undoes another.

use compile::{Kind, ObjectRef};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{
    Change, Edit, MANAGED, MANAGER, SecretData, decoded, holds, in_force, secret, secret_ref,
};
use crate::api::refused::{Refused, Violations};
use crate::api::tree::set;
use crate::held::Held;
use crate::watch::resource;

/// The API server.
pub(crate) struct Cluster {
    client: kube::Client,
}

impl Cluster {
    pub(crate) const fn new(client: kube::Client) -> Self {
        Self { client }
    }

    fn api(&self, reference: &ObjectRef) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.client.clone(),
            &reference.namespace,
            &resource(reference.kind),
        )
    }

    pub(crate) async fn create(
        &self,
        held: &Held,
        reference: &ObjectRef,
        edit: &Edit,
    ) -> Result<(), Refused> {
        let object =
            serde_json::from_value(edit.object.clone()).map_err(|_| Refused::Unexpected)?;
        let api = self.api(reference);
        let made: DynamicObject = api.create(&parameters(), &object).await.map_err(refused)?;
        if let Some(data) = &edit.secret
            && let Err(error) = self.put_secret(held, reference, &made, data).await
        {
            self.delete(held, reference).await?;
            return Err(error);
        }
        self.seen(held, reference, &made).await
    }

    /// None where somebody else wrote in between; else what was there before.
    pub(crate) async fn update(
        &self,
        held: &Held,
        reference: &ObjectRef,
        change: Change<'_>,
    ) -> Result<Option<Edit>, Refused> {
        let api = self.api(reference);
        let current = api.get_opt(&reference.name).await.map_err(refused)?;
        let current = current.ok_or(Refused::NotFound)?;
        let version = current.metadata.resource_version.clone();
        let before = serde_json::to_value(&current).map_err(|_| Refused::Unexpected)?;
        let edit = change(&held.read(), before.clone())?;
        let before_secret = match &edit.secret {
            Some(data) => self.entries(reference, data).await?,
            None => None,
        };
        decoded(&edit.object)?;
        let mut object: DynamicObject =
            serde_json::from_value(edit.object).map_err(|_| Refused::Unexpected)?;
        object.metadata.resource_version = version;
        object.metadata.managed_fields = None;
        let made = match api.replace(&reference.name, &parameters(), &object).await {
            Ok(made) => made,
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(None),
            Err(error) => return Err(refused(error)),
        };
        if let Some(data) = &edit.secret {
            self.put_secret(held, reference, &made, data).await?;
        }
        self.seen(held, reference, &made).await?;
        Ok(Some(Edit {
            object: before,
            secret: before_secret,
        }))
    }

    pub(crate) async fn delete(&self, held: &Held, reference: &ObjectRef) -> Result<(), Refused> {
        // Its Secret goes with it: the Credential owns it.
        match self
            .api(reference)
            .delete(&reference.name, &DeleteParams::background())
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(refused(error)),
        }
        in_force(held, |compiler| compiler.object(reference).is_none()).await
    }

    /// Waits until the watch has brought what was written.
    async fn seen(
        &self,
        held: &Held,
        reference: &ObjectRef,
        made: &DynamicObject,
    ) -> Result<(), Refused> {
        let uid = made.metadata.uid.as_deref().unwrap_or_default();
        let generation = made.metadata.generation.unwrap_or_default();
        in_force(held, |compiler| {
            compiler
                .object(reference)
                .is_some_and(|object| **object.uid() == *uid && object.generation() >= generation)
                && compiler.is_compiled(reference)
        })
        .await
    }

    /// The entries of a Secret that are about to be changed.
    async fn entries(
        &self,
        of: &ObjectRef,
        data: &SecretData,
    ) -> Result<Option<SecretData>, Refused> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &of.namespace);
        let Some(found) = api.get_opt(&data.name).await.map_err(refused)? else {
            return Ok(None);
        };
        let held = found.data.unwrap_or_default();
        let entries = data.entries.keys().filter_map(|name| {
            let value = String::from_utf8(held.get(name)?.0.clone()).ok()?;
            Some((name.clone(), value))
        });
        Ok(Some(SecretData {
            name: data.name.clone(),
            entries: entries.collect(),
        }))
    }

    /// Writes the Secret of a Credential, which owns it: nobody else's is touched.
    async fn put_secret(
        &self,
        held: &Held,
        of: &ObjectRef,
        owner: &DynamicObject,
        data: &SecretData,
    ) -> Result<(), Refused> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &of.namespace);
        let uid = owner.metadata.uid.clone().unwrap_or_default();
        let mut object = secret(of, data);
        let owners = json!([{
            "apiVersion": of.kind.api_version(),
            "kind": of.kind.kind(),
            "name": &*of.name,
            "uid": uid,
            "controller": true,
        }]);
        set(&mut object, &["metadata", "ownerReferences"], owners);
        let object: Secret = serde_json::from_value(object).map_err(|_| Refused::Unexpected)?;
        match api.create(&parameters(), &object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let found = api.get(&data.name).await.map_err(refused)?;
                let labels = found.metadata.labels.unwrap_or_default();
                let owners = found.metadata.owner_references.unwrap_or_default();
                let own = owners.iter().any(|owner| owner.uid == uid);
                if !own && labels.get(MANAGED.0).map(String::as_str) != Some(MANAGED.1) {
                    return Err(Refused::ReadOnly(format!(
                        "Secret {}/{} is not {of}'s own: change it itself",
                        of.namespace, data.name
                    )));
                }
                let patch = json!({
                    "metadata": {"resourceVersion": found.metadata.resource_version},
                    "stringData": data.entries,
                });
                let how = PatchParams {
                    field_manager: Some(MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                api.patch(&data.name, &how, &Patch::<Value>::Merge(patch))
                    .await
                    .map_err(refused)?;
            }
            Err(error) => return Err(refused(error)),
        }
        let reference = secret_ref(of, data);
        // A Secret that nothing refers to is held without its data.
        let referred = held
            .read()
            .referrers(&reference)
            .any(|user| user.kind == Kind::Credential);
        if referred {
            in_force(held, |compiler| holds(compiler, &reference, data)).await?;
        }
        Ok(())
    }
}

fn parameters() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// The API server's refusal in our words.
fn refused(error: kube::Error) -> Refused {
    let status = match error {
        kube::Error::Api(status) => status,
        other => {
            tracing::error!(error = %other, "the Admin API cannot reach the API server");
            return Refused::Unavailable("the API server does not answer".to_owned());
        }
    };
    match status.code {
        404 => Refused::NotFound,
        409 => Refused::Conflict(status.message),
        422 => {
            let causes = status.details.map(|details| details.causes);
            let mut violations = Violations::default();
            for cause in causes.unwrap_or_default() {
                let (field, message) = super::super::renamed(&cause.field, &cause.message);
                violations.add(field, message);
            }
            if violations.0.is_empty() {
                violations.add("", status.message);
            }
            Refused::Violations(violations)
        }
        _ => {
            tracing::error!(
                code = status.code,
                reason = status.reason,
                "the API server refused the Admin API"
            );
            Refused::Unavailable(format!("the API server refuses: {}", status.reason))
        }
    }
}
