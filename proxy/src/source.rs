//! Where the snapshot comes from, and the thread that takes it in.
//!
//! One thread owns the [`State`]: it applies deltas whole and in order, swaps the runtime in, has the listeners opened,
//! hands the change to the last-good file and answers with an acknowledgement. Sources only bring deltas.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::runtime::Runtime;

/// A new runtime, of which listeners are to be opened and closed.
///
/// It is in [`Started::runtime`] already. Whoever takes this answers on `done` when every port is open, with those that
/// could not be opened and why; the change is acknowledged then.
#[derive(Debug)]
pub(crate) struct Reconcile {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) done: oneshot::Sender<BTreeMap<u16, String>>,
}

/// The way of changes, at work.
#[derive(Debug)]
pub(crate) struct Started {
    /// What workers load for each request. Empty until the first snapshot.
    pub(crate) runtime: Arc<ArcSwap<Runtime>>,
    /// New runtimes, one at a time, in order. Endpoints, Consumers and credentials change without one.
    pub(crate) reconcile: mpsc::Receiver<Reconcile>,
}
