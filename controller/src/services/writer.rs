//! Makes what stands what it should be.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use compile::{GatewayService, ServicePlace};
use futures::stream::{FuturesUnordered, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, Preconditions};
use kube::runtime::events::Recorder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::sight::Sight;
use super::told::{Foreign, Told};
use super::{Plan, owner, service, slices};

/// EndpointSlices that are written at a time: when a proxy comes or goes, those of all Gateways change.
const WRITES: usize = 8;

/// An object of a namespace.
pub(super) trait Object:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}
impl Object for Service {}
impl Object for EndpointSlice {}

/// See the module.
pub(super) struct Writer {
    client: kube::Client,
    plan: Plan,
    told: Told,
    /// Who owns the Services, as it was last seen.
    owner: Option<OwnerReference>,
}

/// What became of a write.
enum Written {
    Done,
    Failed,
    /// Nothing was written: what stands there is somebody else's.
    Foreign(Foreign),
}

/// An object that is not as it should be.
struct Change<'a, K> {
    wanted: &'a GatewayService,
    held: Option<Arc<K>>,
    desired: K,
}

impl Writer {
    pub(super) const fn new(client: kube::Client, plan: Plan, recorder: Recorder) -> Self {
        Self {
            client,
            plan,
            told: Told::new(recorder),
            owner: None,
        }
    }

    /// False where something is to be tried again.
    pub(super) async fn reconcile(&mut self, wanted: &[GatewayService], sight: &Sight) -> bool {
        let mut foreign = Vec::new();
        let mut done = self.write_services(wanted, sight, &mut foreign).await;
        done &= self.write_slices(wanted, sight, &mut foreign).await;
        let named: BTreeSet<(&str, &str)> = wanted
            .iter()
            .map(|service| (service.namespace.as_str(), service.name.as_str()))
            .collect();
        for service in sight.services() {
            let meta = &service.metadata;
            if self.plan.is_ours(meta) && !named.contains(&place(meta)) {
                done &= delete::<Service>(&self.client, meta).await;
            }
        }
        done &= foreign.is_empty();
        self.told.tell(foreign).await;
        done
    }

    async fn write_services(
        &mut self,
        wanted: &[GatewayService],
        sight: &Sight,
        foreign: &mut Vec<Foreign>,
    ) -> bool {
        let missing =
            |wanted: &GatewayService| sight.service(&wanted.namespace, &wanted.name).is_none();
        // What is missing may have gone with its owner.
        if wanted.iter().any(missing) {
            self.owner = None;
        }
        if !wanted.is_empty() && !self.find_owner().await {
            return false;
        }
        let changes = wanted.iter().filter_map(|wanted| {
            let desired = self.plan.service(wanted, self.owner.as_ref());
            let held = sight.service(&wanted.namespace, &wanted.name);
            let fits = held
                .as_ref()
                .is_some_and(|held| service::fits(held, &desired));
            (!fits).then_some(Change {
                wanted,
                held,
                desired,
            })
        });
        let mut done = true;
        for change in changes.collect::<Vec<_>>() {
            let (wanted, held) = (change.wanted, change.held.clone());
            match self.write(change).await {
                Written::Done => {
                    tracing::info!(gateway = %wanted.gateway, namespace = wanted.namespace, service = wanted.name, "wrote a Gateway's Service");
                    done &= self.drop_selector(wanted, held.as_deref()).await;
                }
                Written::Failed => done = false,
                Written::Foreign(one) => foreign.push(one),
            }
        }
        done
    }

    /// Finds out who owns the Services, where somebody is to. False where that cannot be known: without an owner they would
    /// stay when the right to change them is gone.
    async fn find_owner(&mut self) -> bool {
        let Some(name) = self.plan.owner.as_deref() else {
            return true;
        };
        if self.plan.place == ServicePlace::Release || self.owner.is_some() {
            return true;
        }
        match owner::reference(&self.client, name).await {
            Ok(owner) => {
                self.owner = Some(owner);
                true
            }
            Err(error) => {
                tracing::warn!(
                    cluster_role = name, %error,
                    "cannot read the ClusterRole that is to own the Services of Gateways; none is written"
                );
                false
            }
        }
    }

    /// A selector that somebody gave a Service with EndpointSlices of its own is theirs, and applying leaves it.
    async fn drop_selector(&self, wanted: &GatewayService, held: Option<&Service>) -> bool {
        let spec = held.and_then(|held| held.spec.as_ref());
        let has_selector = spec.is_some_and(|spec| spec.selector.is_some());
        if self.plan.place == ServicePlace::Release || !has_selector {
            return true;
        }
        let api: Api<Service> = Api::namespaced(self.client.clone(), &wanted.namespace);
        let patch = Patch::Merge(json!({"spec": {"selector": null}}));
        let params = PatchParams {
            field_manager: Some(crate::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match api.patch(&wanted.name, &params, &patch).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(gateway = %wanted.gateway, service = wanted.name, %error, "cannot remove a Service's selector");
                false
            }
        }
    }

    /// Only for Services that stand: the slices belong to them. Those that nobody wants go.
    async fn write_slices(
        &self,
        wanted: &[GatewayService],
        sight: &Sight,
        foreign: &mut Vec<Foreign>,
    ) -> bool {
        if self.plan.place == ServicePlace::Release {
            return true;
        }
        let fleet = sight.fleet();
        let mut named = BTreeSet::new();
        let mut changes = Vec::new();
        for wanted in wanted {
            let Some(service) = sight
                .service(&wanted.namespace, &wanted.name)
                .filter(|service| self.plan.is_ours(&service.metadata))
            else {
                continue;
            };
            for desired in slices::of(&self.plan, wanted, &service, &fleet) {
                let (namespace, name) = place(&desired.metadata);
                let held = sight.slice(namespace, name);
                named.insert((namespace.to_owned(), name.to_owned()));
                if !held
                    .as_ref()
                    .is_some_and(|held| slices::fits(held, &desired))
                {
                    changes.push(Change {
                        wanted,
                        held,
                        desired,
                    });
                }
            }
        }
        let mut done = true;
        let mut changes = changes.into_iter();
        let mut writes = FuturesUnordered::new();
        loop {
            writes.extend(
                changes
                    .by_ref()
                    .take(WRITES - writes.len())
                    .map(|change| self.write(change)),
            );
            match writes.next().await {
                None => break,
                Some(Written::Done) => {}
                Some(Written::Failed) => done = false,
                Some(Written::Foreign(one)) => foreign.push(one),
            }
        }
        for slice in sight.slices() {
            let (namespace, name) = place(&slice.metadata);
            if !named.contains(&(namespace.to_owned(), name.to_owned())) {
                done &= delete::<EndpointSlice>(&self.client, &slice.metadata).await;
            }
        }
        done
    }

    async fn write<K: Object>(&self, change: Change<'_, K>) -> Written {
        let Change {
            wanted,
            held,
            mut desired,
        } = change;
        let (namespace, name) = place(desired.meta());
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let kind = K::kind(&());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let written = async {
            // A watch shows only what is labelled as ours, or is late.
            let found = match &held {
                Some(held) => Some(held.meta().clone()),
                None => api
                    .get_metadata_opt(&name)
                    .await?
                    .map(|found| found.metadata),
            };
            if let Some(found) = found {
                if !self.plan.is_ours(&found) {
                    return Ok(false);
                }
                // Whatever has taken its place meanwhile is refused.
                desired.meta_mut().uid = found.uid;
            }
            let params = PatchParams::apply(crate::FIELD_MANAGER).force();
            api.patch(&name, &params, &Patch::Apply(&desired)).await?;
            Ok::<_, kube::Error>(true)
        };
        match written.await {
            Ok(true) => Written::Done,
            Ok(false) => Written::Foreign(Foreign {
                gateway: wanted.gateway.clone(),
                gateway_uid: Arc::clone(&wanted.gateway_uid),
                kind: kind.into_owned(),
                namespace,
                name,
            }),
            Err(error) => {
                tracing::warn!(gateway = %wanted.gateway, %kind, namespace, name, %error, "cannot write what leads to a Gateway");
                Written::Failed
            }
        }
    }
}

/// Deletes this very object; false where that is to be tried again.
async fn delete<K: Object>(client: &kube::Client, meta: &ObjectMeta) -> bool {
    let (namespace, name) = place(meta);
    let kind = K::kind(&());
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: meta.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    match api.delete(name, &params).await {
        Ok(_) => {
            tracing::info!(%kind, namespace, name, "deleted what no Gateway needs any more");
            true
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => true,
        Err(error) => {
            tracing::warn!(%kind, namespace, name, %error, "cannot delete what no Gateway needs any more");
            false
        }
    }
}

fn place(meta: &ObjectMeta) -> (&str, &str) {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    (namespace, meta.name.as_deref().unwrap_or_default())
}
