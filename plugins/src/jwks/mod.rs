//! The keys that issuers publish (RFC 7517): parsed into keys that are ready to verify, fetched ahead of time, kept
//! through an outage, and fetched again when a token names a key that is not there yet.
//!
//! A set says which keys there are; which algorithm counts, the configuration says. Only public keys for signatures
//! count: symmetric keys are nothing to publish, and a private key that was published proves nobody.

#[cfg(any(test, feature = "invariants"))]
pub mod invariants;
mod key;
mod remote;
mod set;
#[cfg(test)]
pub(crate) mod tests;

pub use remote::{KeySets, RemoteKeys};
pub use set::{Candidates, KeySet, Unusable};
