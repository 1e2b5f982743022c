//! The product as a process: manifests in, requests through, and what came out at either end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod absence;
mod active_health;
mod admin;
mod affinity;
mod any_of;
mod auth0;
mod canaries;
mod client_certs;
mod documents;
mod drain;
mod explain;
mod explain_tokens;
mod extras;
mod failure;
mod forwarded;
mod grants;
mod grpc;
mod history;
mod hosts;
mod hygiene;
mod identity;
mod import;
mod import_apisix;
mod ingress;
mod jwt;
mod key_auth;
mod key_body;
mod key_sets;
mod logs;
mod malformed;
mod methods;
mod metrics;
mod namespaces;
mod openid_connect;
mod parsers;
mod paths;
mod patience;
mod plugins;
mod precedence;
mod protocols;
mod proxy_protocol;
mod reload;
mod routing;
mod several;
mod slow;
mod smuggling;
mod streaming;
mod tls;
mod tls_routes;
mod upgrade;
mod upstream_limits;
mod upstream_policy;
mod upstream_tls;
