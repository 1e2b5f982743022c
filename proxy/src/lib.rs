//! Postern's data plane: listen, route, authenticate, forward.
//!
//! The way of a request: `listen` -> `http` (hygiene) -> `Runtime::find` -> `pipeline` -> `upstream` -> `log`.
//! The way of a change: `source` (gRPC, or in-process) -> `state` (decode, build what changed) -> swap [`runtime::Runtime`]
//! -> last-good file -> acknowledge.

mod admin;
mod attend;
mod background;
mod body;
mod clock;
mod dns;
pub mod explain;
pub mod extras;
mod filters;
mod fleet;
mod gather;
mod http;
mod identity;
#[cfg(any(test, feature = "invariants"))]
pub mod invariants;
mod key_file;
mod last_good;
mod limits;
mod listen;
mod log;
pub mod metrics;
pub mod options;
mod pipeline;
mod record;
mod refusals;
mod respond;
mod router;
pub mod runtime;
pub mod sorting;
mod source;
mod state;
pub mod storage;
mod tls;
mod upstream;
mod visit;
mod worker;

pub use options::{ControllerOptions, Options, Source};

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use store::Store;
use tokio_util::sync::CancellationToken;

use crate::admin::Status;
use crate::background::Background;
use crate::explain::Explainer;
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::refusals::Ring;
use crate::source::{Reconcile, Started};
use crate::worker::Settings;

/// Why the data plane cannot work at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that was needed from the start is not there.
    #[error("{what}: {source}")]
    Start {
        /// What was tried, with the flag that would change it.
        what: String,
        /// What came of it.
        source: std::io::Error,
    },
}

/// The data plane with its store, before it serves anybody.
#[derive(Debug)]
pub struct Plane {
    options: Options,
    background: Background,
    store: Store,
}

impl Plane {
    /// Opens the store.
    ///
    /// # Errors
    /// It cannot be used; there is no thread to be had.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let background = Background::start(&options.outbound_deny)?;
        let store = options.store.open(background.handle().clone()).await?;
        Ok(Self {
            options,
            background,
            store,
        })
    }

    /// The store of tokens and sessions. It works for as long as the plane is there.
    #[must_use]
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// Serves until `shutdown` is cancelled and running requests are done, or the drain timeout is over.
    ///
    /// # Errors
    /// What is needed from the start is not there: the status address, the state folder, the log file, threads. Or all
    /// workers have ended, which they never should.
    pub async fn run(self, source: Source, shutdown: CancellationToken) -> Result<(), Error> {
        run(self, source, shutdown).await
    }
}

async fn run(plane: Plane, source: Source, shutdown: CancellationToken) -> Result<(), Error> {
    let Plane {
        options,
        background,
        store,
    } = plane;
    let count = options
        .workers
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get);
    let metrics = Metrics::new(count);
    metrics.process().store(&store);
    let status = Arc::new(Status::default());
    let explainer = Arc::new(OnceLock::new());
    let refusals: Vec<Arc<Ring>> = (0..count).map(|_| Arc::default()).collect();
    let (log, writer) = log::open(&options.access_log, &metrics)?;
    // Status and source go on while requests are being finished.
    let stop = CancellationToken::new();
    let _stopped = stop.clone().drop_guard();
    admin::serve(
        options.status_address,
        Arc::clone(&status),
        Arc::clone(&metrics),
        Arc::clone(&explainer),
        stop.clone(),
    )
    .await?;
    let services = background.services(store);
    let mut started = source::start(&options, source, services, &metrics, &status, &stop)?;
    let settings = Arc::new(Settings::new(&options));
    let state_dir = options.state_dir.as_deref();
    let explains = Explainer::new(
        state_dir,
        Arc::clone(&started.runtime),
        Arc::clone(&settings),
        refusals.clone(),
    );
    // Nobody else sets it.
    let _set = explainer.set(Arc::new(explains));
    let fleet = Fleet::start(
        &settings,
        &options,
        &started.runtime,
        &metrics,
        &log,
        &refusals,
    );
    let mut fleet = fleet.map_err(|source| Error::Start {
        what: "starting the workers".to_owned(),
        source,
    })?;
    follow(&mut fleet, &mut started, shutdown.cancelled()).await?;
    status.drain();
    tracing::info!(
        "draining: no new connections after {:?}, the end after {:?}",
        options.drain_delay,
        options.drain_timeout
    );
    follow(
        &mut fleet,
        &mut started,
        tokio::time::sleep(options.drain_delay),
    )
    .await?;
    fleet.drain(options.drain_timeout).await;
    drop(log);
    stop.cancel();
    let closed = tokio::task::spawn_blocking(move || {
        writer.close();
        started.close();
    });
    if let Err(error) = closed.await {
        tracing::error!(%error, "access log and last good snapshot could not be closed");
    }
    drop(background);
    Ok(())
}

/// Opens and closes ports as snapshots come.
async fn follow(
    fleet: &mut Fleet,
    started: &mut Started,
    until: impl Future<Output = ()>,
) -> Result<(), Error> {
    tokio::pin!(until);
    loop {
        tokio::select! {
            biased;
            () = &mut until => return Ok(()),
            () = fleet.ended() => {
                let source = std::io::Error::other("all workers have ended");
                return Err(Error::Start { what: "serving requests".to_owned(), source });
            }
            Some(Reconcile { runtime, done }) = started.reconcile.recv() => {
                // Whoever asked may have been replaced by somebody who will ask again.
                let _ = done.send(fleet.follow(&runtime));
            }
        }
    }
}

#[cfg(test)]
mod tests;
