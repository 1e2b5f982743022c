//! The data plane as clients and upstreams see it: real sockets, raw bytes.

mod auth;
mod backends;
mod h1;
mod h2;
mod lifecycle;
mod support;
mod tls;
mod tunnel;
