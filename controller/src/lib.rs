//! Postern's control plane: reads objects, compiles them, serves the snapshot to proxies and writes what became of it.
//!
//! The way of a change: `watch` -> `engine` (owns the compiler) -> [`publish::Hub`] (each proxy gets its own difference)
//! -> acknowledgements -> `status`. What only one replica may do (`status`, `secrets`, `services`, `events`) waits for
//! the `lease`.

pub mod api;
mod authority;
mod backoff;
mod engine;
mod events;
pub mod files;
mod held;
mod http;
mod lease;
mod metrics;
mod options;
pub mod publish;
pub mod rbac;
mod reports;
mod run;
mod secrets;
mod services;
mod status;
mod watch;

pub use options::{Options, Pairs, Place, Ports, ServiceType};
pub use run::{Error, run};

/// Names this controller in the fields that it owns.
const FIELD_MANAGER: &str = "postern-controller";
