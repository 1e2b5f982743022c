//! Ports where TLS is not always terminated for HTTP: the name in a client's hello decides.

use std::sync::Arc;

use crate::router::Hosts;
use crate::runtime::Upstream;
use crate::upstream::Connector;

/// What becomes of connections, by the name that they ask for.
#[derive(Debug)]
pub struct Sorting {
    listeners: Hosts<Listener>,
    /// For TLS that ends here without HTTP in it: no protocol is agreed on.
    pub(crate) plain: Arc<rustls::ServerConfig>,
}

/// A listener of such a port.
#[derive(Debug, Default)]
pub(crate) enum Listener {
    /// HTTPS.
    #[default]
    Http,
    /// TLS, ended here or passed on as it is.
    Tls {
        passthrough: bool,
        /// With the age and the name of the route, which decide between two for one name.
        routes: Hosts<(i64, Arc<str>, Arc<TlsRule>)>,
    },
}

/// Where connections for a name go.
#[derive(Debug)]
pub(crate) struct TlsRule {
    /// "TLSRoute/shop/db".
    pub(crate) route: Arc<str>,
    /// Not served: why.
    pub(crate) closed: Option<Arc<str>>,
    pub(crate) backends: Vec<TlsBackend>,
    pub(crate) total_weight: u32,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct TlsBackend {
    pub(crate) weight: u32,
    /// None: connections that fall to it are closed.
    pub(crate) upstream: Option<Arc<Upstream>>,
    pub(crate) connector: Option<Arc<Connector>>,
}

/// What is to be done with a connection.
#[derive(Debug)]
pub(crate) enum Sorted {
    /// To be served as HTTPS.
    Http,
    /// To be passed on, decrypted or as it is.
    Tls {
        passthrough: bool,
        rule: Arc<TlsRule>,
    },
    /// Nobody serves this name.
    Nobody,
}

impl Sorting {
    pub(crate) const fn new(listeners: Hosts<Listener>, plain: Arc<rustls::ServerConfig>) -> Self {
        Self { listeners, plain }
    }

    /// What becomes of a client that asks for a name, or for none.
    pub(crate) fn of(&self, server_name: Option<&str>) -> Sorted {
        let name = server_name.unwrap_or_default().trim_end_matches('.');
        let Some((listener, _)) = self.listeners.candidates(name).next() else {
            // As on ports with HTTPS only: the first certificate, and 404 for the host.
            return if server_name.is_none() {
                Sorted::Http
            } else {
                Sorted::Nobody
            };
        };
        match listener {
            Listener::Http => Sorted::Http,
            Listener::Tls {
                passthrough,
                routes,
            } => match routes.candidates(name).next() {
                Some(((_, _, rule), _)) => Sorted::Tls {
                    passthrough: *passthrough,
                    rule: Arc::clone(rule),
                },
                None => Sorted::Nobody,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str) -> Arc<TlsRule> {
        Arc::new(TlsRule {
            route: name.into(),
            closed: None,
            backends: Vec::new(),
            total_weight: 0,
        })
    }

    #[test]
    fn names_are_sorted_by_listener_and_then_by_route() {
        let mut listeners: Hosts<Listener> = Hosts::default();
        listeners.entry("web.test", || Listener::Http);
        let mut routes = Hosts::default();
        routes.entry("a.db.test", || (0, "a".into(), rule("a")));
        routes.entry("*.db.test", || (0, "wild".into(), rule("wild")));
        listeners.entry("*.db.test", || Listener::Tls {
            passthrough: true,
            routes,
        });
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = rustls::ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
        let sorting = Sorting::new(listeners, Arc::new(config));
        let of = |name: Option<&str>| match sorting.of(name) {
            Sorted::Http => "http".to_owned(),
            Sorted::Nobody => "nobody".to_owned(),
            Sorted::Tls { rule, .. } => rule.route.to_string(),
        };
        for (name, expected) in [
            (Some("web.test"), "http"),
            (Some("a.db.test"), "a"),
            (Some("b.db.test"), "wild"),
            (Some("db.test"), "nobody"),
            (Some("other.test"), "nobody"),
            (None, "http"),
        ] {
            assert_eq!(of(name), expected, "{name:?}");
        }
    }
}
