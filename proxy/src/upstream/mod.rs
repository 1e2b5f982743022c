//! From a request that may pass to the upstream's response.
//!
//! Every worker has its own connections. A request is sent again only where it cannot have reached an upstream, or where
//! it is safe to repeat, has no body, and the connection that it went over had been idle in the pool.

mod balance;
mod check;
mod connect;
mod dial;
mod families;
mod hash;
mod health;
mod limits;
mod patience;
mod policy;
mod pool;
mod retry;
mod ring;
mod secure;
mod send;
mod tunnel;
mod waits;

pub(crate) use balance::{Manner, pick};
pub(crate) use check::check;
pub(crate) use dial::dial;
pub(crate) use families::{Other, Place, places};
pub(crate) use hash::HashOn;
pub(crate) use health::Health;
pub(crate) use patience::Patience;
pub(crate) use policy::{Policy, recover};
pub(crate) use pool::{Lease, Pools};
pub(crate) use retry::{Times, discard, persist};
pub(crate) use secure::{Connector, Connectors, check as check_tls, roots};
pub(crate) use send::{Forward, forward};
pub(crate) use tunnel::open as open_tunnel;
pub(crate) use waits::Waits;
