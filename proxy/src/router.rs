//! Which rule serves a request, by the precedence of the Gateway API.
//!
//! First the listener: the one with the most specific hostname, and no other (isolation). In it, hostnames of routes
//! from the most specific to the least; under each, an exact path, then prefixes from the longest, then regular
//! expressions; on one path those with a method first, with more headers, with more query parameters, of the older
//! route, of the route first by namespace and name, of the earlier rule. The first that matches serves.
//!
//! Everything is indexed when it is built: a look-up hashes the host once and each path segment once, whatever the number
//! of routes, and allocates nothing.

mod build;
mod conditions;
mod hosts;
mod paths;

use std::sync::Arc;

pub(crate) use build::{Builder, Order};
pub(crate) use conditions::{Match, Regexes};
pub(crate) use hosts::{Hosts, has_one_label_more, intersection};

use crate::runtime::{Found, Request, Rule};
use paths::Paths;

/// Hosts and routes of one port.
#[derive(Debug, Default)]
pub struct Router {
    /// Which listener.
    listeners: Hosts<usize>,
    /// Hostnames of the routes of each listener.
    routes: Vec<Hosts<Paths>>,
}

/// What may serve a request whose path has been found already.
#[derive(Debug)]
struct Entry {
    conditions: Option<Arc<conditions::Conditions>>,
    /// An Ingress's wildcard stands for one label only.
    one_label: bool,
    rule: Arc<Rule>,
}

impl Entry {
    fn matches(&self, request: &Request<'_>, wildcard_suffix: Option<&str>) -> bool {
        (!self.one_label
            || wildcard_suffix.is_none_or(|suffix| has_one_label_more(request.host, suffix)))
            && self
                .conditions
                .as_ref()
                .is_none_or(|conditions| conditions.match_request(request))
    }
}

impl Router {
    /// The rule that serves a request.
    #[must_use]
    pub fn find(&self, request: &Request<'_>) -> Option<Found<'_>> {
        let hosts = self.routes.get(self.listener(request.host)?)?;
        hosts
            .candidates(request.host)
            .find_map(|(paths, suffix)| paths.find(request, suffix))
    }

    /// A number for the listener that a host belongs to; equal for two hosts of one listener. None: no listener takes it.
    /// A client that named one host in its TLS handshake must not reach the listener of another.
    #[must_use]
    pub fn listener(&self, host: &str) -> Option<usize> {
        self.listeners
            .candidates(host)
            .next()
            .map(|(listener, _)| *listener)
    }
}

#[cfg(test)]
mod tests;
