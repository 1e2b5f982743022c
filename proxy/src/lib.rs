//! Postern's data plane: listen, route, authenticate, forward.
//!
//! The way of a request: `listen` -> `http` (hygiene) -> `Runtime::find` -> `pipeline` -> `upstream` -> `log`.
//! The way of a change: `source` (gRPC, or in-process) -> `state` (decode, build what changed) -> swap [`runtime::Runtime`]
//! -> last-good file -> acknowledge.

// The entry that `postern` calls, once it is there:
// pub async fn run(options: Options, source: Source, shutdown: CancellationToken) -> Result<(), Error>;

pub mod options;
pub mod runtime;

pub use options::{ControllerOptions, Options, Source};
