//! The upstream's answer on its way back.

use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::Passage;
use crate::body::Body;
use crate::filters;
use crate::http::remove_named;
use crate::respond::Failure;
use crate::runtime::{Backend, Rule};
use crate::upstream::{self, Lease};

impl Passage<'_> {
    /// Passes the upstream's answer on.
    pub(super) fn respond(
        &self,
        mut response: Response<Incoming>,
        lease: Lease,
        client: Option<OnUpgrade>,
        deadline: Option<Instant>,
        rule: &Rule,
        backend: &Backend,
    ) -> Result<Response<Body>, Failure> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let client = client.ok_or(Failure::BadResponse)?;
            let upstream = hyper::upgrade::on(&mut response);
            upstream::open_tunnel(&self.conn.worker, client, upstream, lease);
            let (head, _) = response.into_parts();
            return Ok(Response::from_parts(head, Body::empty()));
        }
        let (mut head, incoming) = response.into_parts();
        head.version = Version::HTTP_11;
        strip(&mut head.headers);
        for (plugin, watch) in self.watching.iter().rev() {
            if let Ok(handler) = &plugin.handler {
                handler.response(head.status, &mut head.headers, *watch);
            }
        }
        for edit in backend
            .response_filters
            .iter()
            .chain(&rule.response_filters)
        {
            filters::apply_headers(edit, &mut head.headers);
        }
        Ok(Response::from_parts(
            head,
            Body::upstream(incoming, lease, deadline),
        ))
    }
}

/// Removes what is of the upstream's connection only.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        remove_named(headers);
        headers.remove(CONNECTION);
    }
    // Mostly there is nothing to remove: one look at the names is cheaper than a look-up for each.
    while let Some(hop) = headers.keys().find(|name| is_hop(name)).cloned() {
        headers.remove(hop);
    }
}

fn is_hop(name: &HeaderName) -> bool {
    matches!(*name, TRANSFER_ENCODING | TE | UPGRADE)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
