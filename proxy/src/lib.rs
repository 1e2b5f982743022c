//! Postern's data plane: listen, route, authenticate, forward.
//!
//! The way of a request: `listen` -> `http` (hygiene) -> `Runtime::find` -> `pipeline` -> `upstream` -> `log`.
//! The way of a change: `source` (gRPC, or in-process) -> `state` (decode, build what changed) -> swap [`runtime::Runtime`]
//! -> last-good file -> acknowledge.

mod body;
mod clock;
mod filters;
mod fleet;
mod http;
mod identity;
mod limits;
mod listen;
#[path = "log_stub.rs"]
mod log;
pub mod metrics;
pub mod options;
mod pipeline;
mod record;
mod respond;
mod router;
pub mod runtime;
mod upstream;
mod visit;
mod worker;

pub use options::{ControllerOptions, Options, Source};

use tokio_util::sync::CancellationToken;

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

/// Runs the data plane until `shutdown` is cancelled and running requests are done, or the drain timeout is over.
///
/// # Errors
/// What is needed from the start is not there: the status address, the state folder, the log file, threads.
pub async fn run(_options: Options, _source: Source, shutdown: CancellationToken) -> Result<(), Error> {
    shutdown.cancelled().await;
    Ok(())
}

#[cfg(test)]
mod tests;
