//! What the data plane asks of others than its upstreams: key sets, discovery documents, tokens.
//!
//! There is one HTTP client for all of it ([`Client`]), bounded in time, size and number of calls, that never follows a
//! redirect and never calls a denied network. Handlers run on single-threaded runtimes, one per worker; connections live on
//! one background runtime, and whoever asks only awaits the answer. [`SingleFlight`] makes many who ask for the same
//! thing share one answer, [`Refreshed`] keeps a value that is fetched ahead of time.

mod client;
mod deny;
mod dial;
mod error;
mod profile;
mod race;
mod refreshed;
mod single_flight;
mod tls;

pub use client::{Client, Options};
pub use error::Error;
pub use profile::{ForwardProxies, ForwardProxy, Profile, ProfileError, ProfileOptions, Verify};
pub use race::race;
pub use refreshed::{Fresh, Refreshed, Schedule};
pub use single_flight::{Aborted, SingleFlight};
pub use tls::system_roots;

#[cfg(test)]
mod tests;
