//! From a socket to requests: accept, TLS, HTTP/1.1 or HTTP/2.

mod accept;
mod connections;
mod frames;
mod framing;
#[cfg(any(test, feature = "invariants"))]
pub(crate) mod invariants;
mod passage;
mod ports;
mod proxied;
mod serve;
mod stream;

pub(crate) use accept::Listeners;
pub(crate) use connections::{Connections, State as ConnState};
pub(crate) use ports::Ports;
pub(crate) use serve::Conn;
