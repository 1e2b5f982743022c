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
mod survey;

use std::sync::Arc;

pub(crate) use build::{Builder, Order};
pub(crate) use conditions::Lack;
pub(crate) use conditions::{Match, Regexes};
pub(crate) use hosts::{Hosts, has_one_label_more, intersection};

use crate::runtime::{Found, Request, Rule};
use paths::Paths;
pub(crate) use paths::Pattern;
pub(crate) use survey::Why;

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
        self.fits_host(request, wildcard_suffix) && self.lack(request).is_none()
    }

    fn fits_host(&self, request: &Request<'_>, wildcard_suffix: Option<&str>) -> bool {
        !self.one_label
            || wildcard_suffix.is_none_or(|suffix| has_one_label_more(request.host, suffix))
    }

    fn lack(&self, request: &Request<'_>) -> Option<Lack<'_>> {
        self.conditions
            .as_ref()
            .and_then(|conditions| conditions.lack(request))
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

    /// The number of the listener with this hostname.
    pub(crate) fn number_of(&self, hostname: &str) -> Option<usize> {
        let mut all = self.listeners.all();
        all.find(|(own, _)| own == hostname)
            .map(|(_, number)| *number)
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

/// What stands behind "*." in a wildcard.
fn suffix_of(hostname: &str) -> Option<&str> {
    hostname.strip_prefix("*.")
}

#[cfg(test)]
mod tests;
