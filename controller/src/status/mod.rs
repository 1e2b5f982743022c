//! Writes what the compiler and the proxies say about objects into their status.
//!
//! Every replica knows what should be written; only the holder of the lease writes. What the API server holds is known
//! from the watches by fingerprint, so that nothing is written that is there already.

mod queue;
mod render;
mod writer;

pub(crate) use writer::Writer;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use compile::{Kind, ObjectRef, ObjectStatus};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

/// Where clients reach something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Ip(String),
    Hostname(String),
}

/// Addresses by what they lead to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Addresses {
    /// Of the fleet's own Service: of all Ingresses.
    pub(crate) ingresses: Vec<Address>,
    /// Of each Gateway's Service.
    pub(crate) gateways: BTreeMap<ObjectRef, Vec<Address>>,
}

/// What the engine tells the writer; merged until the writer takes it.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pending: Mutex<Pending>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    /// None: no longer ours, or gone.
    statuses: BTreeMap<ObjectRef, Option<ObjectStatus>>,
}

impl Inbox {
    pub(crate) fn put(&self, statuses: BTreeMap<ObjectRef, ObjectStatus>, dropped: Vec<ObjectRef>) {
        if statuses.is_empty() && dropped.is_empty() {
            return;
        }
        let mut pending = self.pending.lock();
        pending
            .statuses
            .extend(dropped.into_iter().map(|object| (object, None)));
        pending.statuses.extend(
            statuses
                .into_iter()
                .map(|(object, status)| (object, Some(status))),
        );
        drop(pending);
        self.wake.notify_one();
    }

    async fn take(&self) -> BTreeMap<ObjectRef, Option<ObjectStatus>> {
        self.wake.notified().await;
        std::mem::take(&mut self.pending.lock().statuses)
    }
}

/// Fingerprints of the statuses that the API server holds, as the watches saw them last.
#[derive(Debug)]
pub(crate) struct Seen {
    controller: String,
    state: Mutex<SeenState>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct SeenState {
    fingerprints: HashMap<ObjectRef, u64>,
    changed: BTreeSet<ObjectRef>,
}

impl Seen {
    /// `controller` is this controller's name in the parents of routes.
    pub(crate) fn new(controller: String) -> Self {
        Self {
            controller,
            state: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Takes the status of an object that a watch saw.
    pub(crate) fn record(&self, object: &ObjectRef, status: Option<&Value>) {
        if has_status(object.kind) {
            self.set(
                object,
                render::fingerprint(object.kind, status, &self.controller),
                true,
            );
        }
    }

    fn set(&self, object: &ObjectRef, fingerprint: u64, tell: bool) {
        let mut state = self.state.lock();
        if state.fingerprints.insert(object.clone(), fingerprint) != Some(fingerprint) && tell {
            state.changed.insert(object.clone());
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Forgets an object that is gone.
    pub(crate) fn forget(&self, object: &ObjectRef) {
        let mut state = self.state.lock();
        state.fingerprints.remove(object);
        state.changed.remove(object);
    }

    fn holds(&self, object: &ObjectRef) -> Option<u64> {
        self.state.lock().fingerprints.get(object).copied()
    }

    async fn changed(&self) -> BTreeSet<ObjectRef> {
        self.wake.notified().await;
        std::mem::take(&mut self.state.lock().changed)
    }
}

/// Kinds whose status Postern writes.
const fn has_status(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::GatewayClass
            | Kind::Gateway
            | Kind::HttpRoute
            | Kind::ListenerSet
            | Kind::GrpcRoute
            | Kind::TlsRoute
            | Kind::BackendTlsPolicy
            | Kind::Ingress
            | Kind::Consumer
            | Kind::Credential
            | Kind::AuthPlugin
            | Kind::UpstreamPolicy
    )
}
