//! One contract, run over every kind of store, each with real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod contract;
mod file;
mod memory;
mod redis;
mod servers;
