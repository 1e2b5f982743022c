//! Against servers on loopback.

mod calls;
mod flights;
mod freshness;
mod proxies;
mod servers;
