//! What stands: Services, the fleet's EndpointSlices and those that are kept here, as watches tell it.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use compile::ServicePlace;
use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll, select_all};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};

use super::slices::{MANAGED_BY, MANAGER, SERVICE_NAME};
use super::{COMPONENT, INSTALLATION, LABEL, Plan};

/// Objects of a kind, from watches that do not overlap.
type Stores<K> = Vec<Store<K>>;

/// See the module.
#[derive(Default)]
pub(super) struct Sight {
    services: Stores<Service>,
    fleet: Stores<EndpointSlice>,
    slices: Stores<EndpointSlice>,
}

/// The watches, by which what is seen changes.
pub(super) struct Watches {
    changes: SelectAll<BoxStream<'static, Change>>,
    /// Watches that have not told all that there is.
    waiting: HashSet<usize>,
}

/// What a watch told; what exactly is in its store.
enum Change {
    /// All that there was is told.
    Listed(usize),
    Other,
}

impl Watches {
    /// Watches what matters to a plan. Nothing is seen before [`Self::changed`] is awaited.
    pub(super) fn start(client: &kube::Client, plan: &Plan) -> (Self, Sight) {
        let mut watches = Self {
            changes: select_all([]),
            waiting: HashSet::new(),
        };
        let mut sight = Sight::default();
        let own = &plan.namespace;
        // Without labels: what stands in the way has none of ours, and the fleet's own Service is among them.
        let everything = watcher::Config::default();
        let services = watches.watch(Api::namespaced(client.clone(), own), everything);
        sight.services.push(services);
        if plan.place == ServicePlace::Gateway {
            let fleet =
                watcher::Config::default().labels(&format!("{SERVICE_NAME}={}", plan.fleet));
            let fleet = watches.watch(Api::namespaced(client.clone(), own), fleet);
            sight.fleet.push(fleet);
            watches.outside(client, plan, &mut sight);
        }
        (watches, sight)
    }

    /// What is kept in the namespaces of Gateways.
    fn outside(&mut self, client: &kube::Client, plan: &Plan, sight: &mut Sight) {
        let own = &plan.namespace;
        let services = watcher::Config::default()
            .labels(&format!("{LABEL}={COMPONENT},{INSTALLATION}={own}"))
            .fields(&format!("metadata.namespace!={own}"));
        let slices = watcher::Config::default()
            .labels(&format!("{MANAGED_BY}={MANAGER},{INSTALLATION}={own}"));
        if plan.watched.is_empty() {
            let all = self.watch(Api::all(client.clone()), services);
            sight.services.push(all);
            let all = self.watch(Api::all(client.clone()), slices);
            sight.slices.push(all);
            return;
        }
        for namespace in &plan.watched {
            if namespace != own {
                let api = Api::namespaced(client.clone(), namespace);
                sight.services.push(self.watch(api, services.clone()));
            }
            let api = Api::namespaced(client.clone(), namespace);
            sight.slices.push(self.watch(api, slices.clone()));
        }
    }

    fn watch<K>(&mut self, api: Api<K>, config: watcher::Config) -> Store<K>
    where
        K: kube::Resource<DynamicType = ()>
            + Clone
            + Debug
            + serde::de::DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let number = self.changes.len();
        let kind = K::kind(&());
        let (store, writer) = reflector::store();
        let events = reflector::reflector(writer, watcher::watcher(api, config)).default_backoff();
        let changes = events.filter_map(move |event| {
            let change = match event {
                // The store takes a new list when it is whole.
                Ok(Event::Init | Event::InitApply(_)) => None,
                Ok(Event::InitDone) => Some(Change::Listed(number)),
                Ok(_) => Some(Change::Other),
                Err(error) => {
                    tracing::warn!(%kind, %error, "a watch for the Services of Gateways broke; what was seen stays in force");
                    None
                }
            };
            std::future::ready(change)
        });
        self.changes.push(changes.boxed());
        self.waiting.insert(number);
        store
    }

    /// Waits for the next change; false where there will be none.
    pub(super) async fn changed(&mut self) -> bool {
        match self.changes.next().await {
            None => return false,
            Some(Change::Listed(number)) => {
                self.waiting.remove(&number);
            }
            Some(Change::Other) => {}
        }
        true
    }

    /// Whether all that there was is known.
    pub(super) fn is_complete(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Sight {
    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        find(&self.services, namespace, name)
    }

    pub(super) fn services(&self) -> impl Iterator<Item = Arc<Service>> {
        self.services.iter().flat_map(Store::state)
    }

    pub(super) fn slice(&self, namespace: &str, name: &str) -> Option<Arc<EndpointSlice>> {
        find(&self.slices, namespace, name)
    }

    pub(super) fn slices(&self) -> impl Iterator<Item = Arc<EndpointSlice>> {
        self.slices.iter().flat_map(Store::state)
    }

    /// The fleet's own, which Kubernetes keeps.
    pub(super) fn fleet(&self) -> Vec<Arc<EndpointSlice>> {
        self.fleet.iter().flat_map(Store::state).collect()
    }
}

fn find<K>(stores: &Stores<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let key = ObjectRef::new(name).within(namespace);
    stores.iter().find_map(|store| store.get(&key))
}
