//! Where the snapshot comes from, and the thread that takes it in.
//!
//! One thread, the keeper, owns the [`State`]: it applies deltas whole and in order, swaps the runtime in, has the
//! listeners opened, hands the change to the last-good file and answers with an acknowledgement. Sources only bring
//! deltas. Before any of them is asked, what the last-good file holds is in force.

mod backoff;
mod grpc;
mod keeper;
mod local;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use plugins::handler::Services;
use store::Url;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::admin::Status;
use crate::last_good::LastGood;
use crate::metrics::Metrics;
use crate::options::{Options, Source};
use crate::runtime::Runtime;
use crate::state::State;
use crate::{Error, attend};
use keeper::{Keeper, KeeperHandle};

/// A new runtime, of which listeners are to be opened and closed.
///
/// It is in [`Started::runtime`] already. Whoever takes this answers on `done` when every port is open, with those that
/// could not be opened and why; the change is acknowledged then. While there are such ports, the same runtime comes again
/// every few seconds.
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
    keeper: JoinHandle<()>,
}

impl Started {
    /// Returns when the last change is in the last-good file. The source must have been told to stop.
    pub(crate) fn close(self) {
        // The keeper does not wait for listeners any more.
        drop(self.reconcile);
        if self.keeper.join().is_err() {
            tracing::error!("the thread that takes snapshots in has panicked");
        }
    }
}

/// Starts the keeper and the source. Whoever calls this serves [`Started::reconcile`] from then on.
///
/// # Errors
/// The state folder cannot be used, or no thread can be started.
pub(crate) fn start(
    options: &Options,
    source: Source,
    services: Services,
    metrics: &Arc<Metrics>,
    status: &Arc<Status>,
    shutdown: &CancellationToken,
) -> Result<Started, Error> {
    let key = options.state_key_file.as_deref();
    let open = |folder: &PathBuf| LastGood::open(folder, key);
    let last_good = options.state_dir.as_ref().map(open).transpose()?;
    // A local control plane is as near as the file, and has newer news.
    let restores = matches!(source, Source::Controller(_));
    let state = State::new(Arc::clone(metrics), services).in_zone(options.zone.as_deref());
    let runtime = Arc::clone(state.runtime());
    let (reconciles, reconcile) = mpsc::channel(1);
    let (attended, attended_watch) = watch::channel(Vec::new());
    let (later_sender, later) = mpsc::unbounded_channel();
    let keeper = Keeper {
        state,
        last_good,
        restores,
        metrics: Arc::clone(metrics),
        status: Arc::clone(status),
        reconciles,
        attended,
        later: later_sender,
        failed_ports: BTreeMap::new(),
        unsettled: 0,
    };
    let (handle, keeper) = keeper.start()?;
    tokio::spawn(attend::follow(attended_watch, shutdown.clone()));
    match source {
        Source::Controller(controller) => {
            let store = options.store.place.url.as_ref().and_then(Url::shared_name);
            let source = grpc::Source {
                options: controller,
                store: store.unwrap_or_default(),
                handle,
                later,
                metrics: Arc::clone(metrics),
                status: Arc::clone(status),
            };
            tokio::spawn(source.run(shutdown.clone()));
        }
        Source::Local { changes, acks } => {
            tokio::spawn(local::run(changes, acks, handle, later, shutdown.clone()));
        }
    }
    Ok(Started {
        runtime,
        reconcile,
        keeper,
    })
}

#[cfg(test)]
mod tests;
