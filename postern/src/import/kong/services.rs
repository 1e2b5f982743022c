//! Services, upstreams and targets.

use compile::Kind;
use serde_json::{Value, json};

use super::entity::{Default, Entity, list, reference};
use crate::import::manifests::{Manifests, is_host, target};

const KNOWN: &[&str] = &[
    "id",
    "name",
    "host",
    "port",
    "protocol",
    "path",
    "url",
    "retries",
    "connect_timeout",
    "read_timeout",
    "write_timeout",
    "tags",
    "enabled",
    "ca_certificates",
    "client_certificate",
    "tls_verify",
    "tls_verify_depth",
    "created_at",
    "updated_at",
    "routes",
    "plugins",
];

/// A rule has at most so many backends.
const MOST_BACKENDS: usize = 16;

/// What is spoken with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
    Grpc,
    Grpcs,
}

/// A service as routes need it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) entity: Entity,
    pub(super) enabled: bool,
    pub(super) scheme: Scheme,
    /// Without a slash at its end; empty where the service has none.
    pub(super) path: String,
    /// The host that upstreams are asked for, where it is a name.
    pub(super) host: Option<String>,
    /// Host, port and weight.
    targets: Vec<(String, u16, u64)>,
    /// Field and reason for which its routes are closed.
    pub(super) closed: Option<(String, String)>,
    /// Names of the Services, as soon as they are there.
    pub(super) backends: Vec<(String, u16, u64)>,
}

impl Service {
    pub(super) fn read(entity: Entity, upstreams: &[Upstream], manifests: &mut Manifests) -> Self {
        let mut service = Self {
            enabled: entity.flag("enabled", Default::On),
            entity,
            scheme: Scheme::Http,
            path: String::new(),
            host: None,
            targets: Vec::new(),
            closed: None,
            backends: Vec::new(),
        };
        if !service.enabled {
            let message = "enabled: it is disabled and left out, with its routes";
            manifests.note(
                &service.entity.at("enabled"),
                &service.entity.label,
                message,
            );
            return service;
        }
        if let Err((field, reason)) = service.fill(upstreams) {
            service.closed = Some((field, reason));
            return service;
        }
        for (field, usual) in [("retries", 5), ("write_timeout", 60000)] {
            let own = service.entity.number(field);
            let same = own == service.entity.number("read_timeout") && field == "write_timeout";
            if own.is_some_and(|own| own != usual) && !same {
                let message = format!(
                    "{field}: is not carried over; HTTPRoute retries and UpstreamPolicy timeouts are there for it"
                );
                manifests.note(&service.entity.at(field), &service.entity.label, message);
            }
        }
        service
    }

    fn fill(&mut self, upstreams: &[Upstream]) -> Result<(), (String, String)> {
        let wrong = |field: &str, reason: &str| (field.to_owned(), reason.to_owned());
        let enabled = self.entity.fields.get("enabled");
        if enabled.is_some_and(|value| !value.is_null() && !value.is_boolean()) {
            return Err(wrong("enabled", "must be true or false"));
        }
        if let Some(field) = self.entity.unknown(KNOWN).first() {
            return Err(wrong(
                field,
                "is not known; remove it where it means nothing",
            ));
        }
        let parts = match self.entity.text("url") {
            Some(url) => {
                Some(url_parts(url).ok_or_else(|| wrong("url", "is no URL that can be read"))?)
            }
            None => None,
        };
        let (scheme, host, port, path) = parts.unwrap_or_default();
        let protocol = self.entity.text("protocol").map(str::to_owned).or(scheme);
        let usual = match protocol.as_deref().unwrap_or("http") {
            "http" | "ws" => (Scheme::Http, 80),
            "https" | "wss" => (Scheme::Https, 443),
            "grpc" => (Scheme::Grpc, 80),
            "grpcs" => (Scheme::Grpcs, 443),
            other => {
                return Err((
                    "protocol".to_owned(),
                    format!("{other:?} is not HTTP; use a TLSRoute or another gateway for it"),
                ));
            }
        };
        self.scheme = usual.0;
        let host = self.entity.text("host").map(str::to_owned).or(host);
        let host = host.ok_or_else(|| wrong("host", "is missing"))?;
        // Without one Kong takes 80, whatever the protocol, but with a URL that of its scheme.
        let usual = if self.entity.text("url").is_some() {
            usual.1
        } else {
            80
        };
        let port = match self
            .entity
            .fields
            .get("port")
            .filter(|port| !port.is_null())
        {
            Some(port) => port.as_u64().and_then(|port| u16::try_from(port).ok()),
            None => Some(port.unwrap_or(usual)),
        };
        let port = port
            .filter(|port| *port > 0)
            .ok_or_else(|| wrong("port", "must be 1 to 65535"))?;
        let path = self
            .entity
            .text("path")
            .map(str::to_owned)
            .or(path)
            .unwrap_or_default();
        self.path = path.trim_end_matches('/').to_owned();
        if self.path.contains(['?', '#', '%', ' ']) || self.path.contains("//") {
            return Err(wrong(
                "path",
                "has characters that a rewritten path cannot have",
            ));
        }
        self.aim(host, port, upstreams)
    }

    /// Finds its targets: its own host, or those of the upstream of that name.
    fn aim(
        &mut self,
        host: String,
        port: u16,
        upstreams: &[Upstream],
    ) -> Result<(), (String, String)> {
        let wrong = |field: &str, reason: &str| (field.to_owned(), reason.to_owned());
        self.host = Some(host.clone());
        match upstreams
            .iter()
            .find(|upstream| upstream.entity.text("name") == Some(&*host))
        {
            Some(upstream) => {
                if let Some(reason) = &upstream.closed {
                    return Err((
                        "host".to_owned(),
                        format!("{}: {reason}", upstream.entity.label),
                    ));
                }
                self.targets.clone_from(&upstream.targets);
                // Kong asks each target for its own name, where the upstream has none for all.
                let own = upstream.entity.text("host_header").map(str::to_owned);
                self.host = own.or_else(|| match self.targets.as_slice() {
                    [(host, ..)] => Some(host.clone()),
                    _ => None,
                });
            }
            None => self.targets = vec![(host, port, 1)],
        }
        if self.targets.is_empty() || self.targets.len() > MOST_BACKENDS {
            return Err((
                "host".to_owned(),
                format!(
                    "has {} targets, and a rule has 1 to {MOST_BACKENDS} backends; put one Service with EndpointSlices in their place",
                    self.targets.len()
                ),
            ));
        }
        for (host, ..) in &self.targets {
            if !is_host(host) {
                return Err(wrong("host", "is neither a DNS name nor an address"));
            }
            if self.is_tls() && is_address(host) {
                return Err(wrong(
                    "host",
                    "is an address, whose certificate cannot be checked; give it a name",
                ));
            }
        }
        // Only a name can be asked for.
        self.host = self
            .host
            .take()
            .filter(|host| is_host(host) && !is_address(host));
        Ok(())
    }

    fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Grpcs)
    }

    pub(super) const fn is_grpc(&self) -> bool {
        matches!(self.scheme, Scheme::Grpc | Scheme::Grpcs)
    }

    /// Its Services, made when the first route needs them.
    pub(super) fn backends(&mut self, manifests: &mut Manifests) -> Vec<(String, u16, u64)> {
        if !self.backends.is_empty() {
            return self.backends.clone();
        }
        let name = self
            .entity
            .text("name")
            .or_else(|| self.entity.text("host"))
            .unwrap_or("service")
            .to_owned();
        let protocol = match self.scheme {
            Scheme::Http => None,
            Scheme::Grpc => Some("kubernetes.io/h2c"),
            Scheme::Https | Scheme::Grpcs => Some("https"),
        };
        let several = self.targets.len() > 1;
        for (host, port, weight) in self.targets.clone() {
            let wanted = if several {
                format!("{name}-{host}")
            } else {
                name.clone()
            };
            let own = manifests.name(Kind::Service, &wanted);
            manifests.external(
                &own,
                host.trim_start_matches('[').trim_end_matches(']'),
                port,
                protocol,
            );
            if self.is_tls() {
                self.trust(&own, &host, manifests);
            }
            self.patience(&own, manifests);
            self.backends.push((own, port, weight));
        }
        self.backends.clone()
    }

    /// Kong does not check certificates unless it is told to; here they always are.
    fn trust(&self, service: &str, host: &str, manifests: &mut Manifests) {
        let name = manifests.name(Kind::BackendTlsPolicy, service);
        let spec = json!({
            "targetRefs": [target(Kind::Service, service)],
            "validation": {"hostname": host.to_ascii_lowercase(), "wellKnownCACertificates": "System"},
        });
        manifests.add(Kind::BackendTlsPolicy, &name, json!({"spec": spec}));
        let set = |field: &str| {
            self.entity
                .fields
                .get(field)
                .is_some_and(|value| !value.is_null())
        };
        if !self.entity.flag("tls_verify", Default::Off) {
            let message = "tls_verify: certificates are checked now, by the system's authorities; name another in BackendTLSPolicy";
            manifests.note(&self.entity.at("tls_verify"), &self.entity.label, message);
        }
        for (field, message) in [
            (
                "ca_certificates",
                "is not carried over: certificates are checked by the system's authorities; name yours in BackendTLSPolicy",
            ),
            (
                "client_certificate",
                "is not carried over: set spec.tls.backend of the Gateway",
            ),
        ] {
            if set(field) {
                manifests.note(
                    &self.entity.at(field),
                    &self.entity.label,
                    format!("{field}: {message}"),
                );
            }
        }
    }

    fn patience(&self, service: &str, manifests: &mut Manifests) {
        let usual = 60000;
        let connect = self
            .entity
            .number("connect_timeout")
            .filter(|own| *own != usual);
        let read = self
            .entity
            .number("read_timeout")
            .filter(|own| *own != usual);
        if connect.is_none() && read.is_none() {
            return;
        }
        let mut timeouts = serde_json::Map::new();
        if let Some(connect) = connect {
            timeouts.insert(
                "connectMilliseconds".to_owned(),
                json!(connect.clamp(1, 600_000)),
            );
        }
        if let Some(read) = read {
            timeouts.insert(
                "responseSeconds".to_owned(),
                json!(read.div_ceil(1000).clamp(1, 86400)),
            );
        }
        let name = manifests.name(Kind::UpstreamPolicy, service);
        let spec = json!({"targetRefs": [{"name": service}], "timeouts": timeouts});
        manifests.add(Kind::UpstreamPolicy, &name, json!({"spec": spec}));
    }
}

/// An upstream with its targets.
#[derive(Debug)]
pub(super) struct Upstream {
    entity: Entity,
    targets: Vec<(String, u16, u64)>,
    closed: Option<String>,
}

/// All upstreams; `loose` are targets that stand for themselves.
///
/// # Errors
/// Targets are no list of maps.
pub(super) fn upstreams(
    entities: Vec<Entity>,
    loose: &[Entity],
    manifests: &mut Manifests,
) -> Result<Vec<Upstream>, String> {
    const PLAIN: &[&str] = &[
        "id",
        "name",
        "targets",
        "tags",
        "host_header",
        "slots",
        "algorithm",
        "created_at",
        "updated_at",
    ];
    let mut all = Vec::new();
    for entity in entities {
        let mut targets = list(&entity.fields, &entity.at, "targets", "target")?;
        for other in loose {
            if reference(&other.fields, "upstream")?.is_some_and(|name| entity.is(&name)) {
                targets.push(other.clone());
            }
        }
        let mut upstream = Upstream {
            entity,
            targets: Vec::new(),
            closed: None,
        };
        for field in upstream.entity.unknown(PLAIN) {
            let at = upstream.entity.at(&field);
            let usual = match upstream.entity.fields.get(&field) {
                Some(Value::String(text)) => text == "none" || text == "/",
                Some(Value::Bool(on)) => !on,
                _ => false,
            };
            if !usual {
                let message = format!(
                    "{field}: is not carried over; UpstreamPolicy has health checks and hashing"
                );
                manifests.note(&at, &upstream.entity.label, message);
            }
        }
        for target in targets {
            let weight = target.number("weight").unwrap_or(100);
            match target.text("target").and_then(host_and_port) {
                Some((host, port)) => upstream.targets.push((host, port, weight)),
                None => upstream.closed = Some("a target is no host with a port".to_owned()),
            }
        }
        all.push(upstream);
    }
    Ok(all)
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    if text.ends_with(']') || !text.contains(':') {
        return Some((text.to_owned(), 8000));
    }
    let (host, port) = text.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

type Parts = (Option<String>, Option<String>, Option<u16>, Option<String>);

fn url_parts(url: &str) -> Option<Parts> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if authority.contains('@') {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (authority, None),
    };
    let path = (!path.is_empty()).then(|| path.to_owned());
    Some((Some(scheme.to_owned()), Some(host.to_owned()), port, path))
}

fn is_address(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_targets_fall_into_parts() {
        let parts = url_parts("https://a.test:8443/x/").unwrap();
        assert_eq!(parts.1.as_deref(), Some("a.test"));
        assert_eq!((parts.2, parts.3.as_deref()), (Some(8443), Some("/x/")));
        assert_eq!(url_parts("http://[::1]").unwrap().2, None);
        for bad in ["a.test", "http://a:b", "http://u:p@a"] {
            assert!(url_parts(bad).is_none(), "{bad}");
        }
        assert_eq!(host_and_port("[::1]:80"), Some(("[::1]".to_owned(), 80)));
        assert_eq!(host_and_port("a.test"), Some(("a.test".to_owned(), 8000)));
        assert_eq!(host_and_port("a.test:x"), None);
    }
}
