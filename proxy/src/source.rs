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
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::admin::Status;
use crate::last_good::LastGood;
use crate::metrics::Metrics;
use crate::options::{Options, Source};
use crate::runtime::Runtime;
use crate::state::State;
use crate::{Error, dns};
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
}

/// Starts the keeper and the source. Whoever calls this serves [`Started::reconcile`] from then on.
///
/// # Errors
/// The state folder cannot be used, or no thread can be started.
pub(crate) fn start(
    options: &Options,
    source: Source,
    metrics: &Arc<Metrics>,
    status: &Arc<Status>,
    shutdown: &CancellationToken,
) -> Result<Started, Error> {
    // A local control plane is as near as a file would be, and has newer news.
    let last_good = match (&source, &options.state_dir) {
        (Source::Controller(_), Some(folder)) => {
            Some(LastGood::open(folder, options.state_key_file.as_deref())?)
        }
        _ => None,
    };
    let state = State::new(Arc::clone(metrics));
    let runtime = Arc::clone(state.runtime());
    let (reconciles, reconcile) = mpsc::channel(1);
    let (dns_upstreams, dns_watch) = watch::channel(Vec::new());
    let (later_sender, later) = mpsc::unbounded_channel();
    let keeper = Keeper {
        state,
        last_good,
        metrics: Arc::clone(metrics),
        status: Arc::clone(status),
        reconciles,
        dns_upstreams,
        later: later_sender,
        failed_ports: BTreeMap::new(),
    };
    let handle = keeper.start()?;
    tokio::spawn(dns::follow(dns_watch, shutdown.clone()));
    match source {
        Source::Controller(options) => {
            let source = grpc::Source {
                options,
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
    Ok(Started { runtime, reconcile })
}

#[cfg(test)]
mod tests;
