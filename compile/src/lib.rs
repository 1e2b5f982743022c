//! Pure: Kubernetes objects in, snapshot, statuses and diagnostics out.
//!
//! Nothing here reads a clock, a file or a socket. Adapters decode objects with [`Object::from_json`], hand them to
//! [`Compiler::apply`] and take what follows from them with [`Compiler::update`]. The result does not depend on the order
//! in which objects came: an update after any history equals a compilation of the same objects from nothing.

mod allowed_routes;
mod attachments;
mod backend_tls;
mod backends;
mod callbacks;
mod certificates;
mod classes;
mod compiler;
mod config_maps;
mod consumers;
mod credentials;
mod dirty;
mod durations;
mod endpoint_slices;
mod findings;
mod gateways;
mod grants;
mod grpc_routes;
mod hostnames;
mod http_cors;
mod http_filters;
mod http_matches;
mod http_routes;
mod ingress_annotations;
mod ingresses;
mod inputs;
mod keys;
mod kind;
mod ledger;
mod listener_sets;
mod listeners;
mod object;
mod output;
mod pass;
mod plugins;
mod ports;
mod retries;
mod route_filters;
mod secrets;
mod selectors;
mod services;
mod tls_routes;
mod trust;
mod upstream_policies;
mod values;
mod view;

pub use compiler::Compiler;
pub use http_filters::is_framing;
pub use kind::{Kind, ObjectRef};
pub use object::{DecodeError, Object, Unreadable};
pub use output::{
    Condition, ConditionStatus, Diagnostic, GatewayService, Level, ListenerStatus, ObjectStatus,
    ParentStatus, ProgrammedBy, ServicePlace, Settings, StatusBody, Update, WantedSecret,
};

#[cfg(test)]
mod tests;
