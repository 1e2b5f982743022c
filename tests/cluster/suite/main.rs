//! Postern in a real cluster, installed with Helm from its own image, as README says.
//!
//! `make test-cluster` starts the cluster and runs this inside the cluster's network, one test at a time: all share one
//! installation, and some of them disturb it. Each leaves it as it was found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod absence;
mod bad_objects;
mod chart;
mod client;
mod crds;
mod fleet;
mod gateway_services;
mod ingress;
mod installation;
mod keys;
mod kubectl;
mod leader;
mod shop;
mod stage;
mod token;
mod uninstall;
