//! Puts what arrived together to what workers read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use plugins::directory::Directory;
use rustls::crypto::CryptoProvider;
use snapshot::proto;

use super::parts::{BackendParts, Filters, ListenerParts, RouteParts, RuleParts};
use super::upstreams::{UpstreamState, Upstreams};
use crate::extras::{BackendExtras, Cors, Extras, Mirror};
use crate::metrics::{Metrics, RuleId};
use crate::router::{Builder, Hosts, Order, intersection};
use crate::runtime::{self, Backend, Chain, ChainPlugin, Port, Rule, Runtime};
use crate::sorting::{Listener, Sorting, TlsBackend, TlsRule};
use crate::tls::{Certificate, ListenerCertificates, Tls};
use crate::upstream::{Connector, Connectors};

/// What runtimes are built of, by key; upstreams by name.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) listeners: BTreeMap<Box<str>, ListenerParts>,
    pub(super) routes: BTreeMap<Box<str>, RouteParts>,
    pub(super) upstreams: Upstreams,
    pub(super) plugins: HashMap<Box<str>, Arc<ChainPlugin>>,
    pub(super) certificates: HashMap<Box<str>, Arc<Certificate>>,
}

#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) metrics: &'a Metrics,
    pub(super) directory: &'a Arc<Directory>,
    pub(super) tls: &'a mut TlsPorts,
    pub(super) version: &'a Arc<str>,
    /// Plugins that are gone now: Consumers may refer to them for a moment.
    pub(super) leaving: Vec<(Box<str>, Arc<ChainPlugin>)>,
}

/// A port that is being built.
#[derive(Debug)]
struct Building<'a> {
    tls: bool,
    public_port: u16,
    listeners: Vec<Arc<runtime::Listener>>,
    router: Builder,
    certificates: Vec<ListenerCertificates>,
    clients: Option<&'a proto::ClientValidation>,
    /// Listeners by name, where not all of them are for HTTP.
    sorted: Hosts<Listener>,
    is_sorted: bool,
    first: &'a str,
}

/// What cannot be served beside something else, by key, and why.
pub(super) type Conflicts = BTreeMap<Box<str>, String>;

/// Where a listener's routes go: its port, its number in the router there, and what it says itself.
type Places<'a> = HashMap<&'a str, (u16, usize, &'a ListenerParts)>;

impl Tables {
    /// Builds the runtime.
    pub(super) fn build(&self, context: Context<'_>) -> (Runtime, Conflicts) {
        let mut conflicts = Conflicts::new();
        let (mut building, places) = self.open(&mut conflicts);
        let mut chains = Chains {
            tables: self,
            metrics: context.metrics,
            known: HashMap::new(),
            connectors: &mut context.tls.connectors,
            provider: Arc::clone(context.tls.tls.provider()),
        };
        for route in self.routes.values() {
            let metrics = context.metrics.rule(&route.name);
            for (key, hostnames) in &route.attachments {
                if let Some((number, at, listener)) = places.get(key.as_str())
                    && let Some(port) = building.get_mut(number)
                {
                    let (router, of) = (&mut port.router, (route, hostnames.as_slice()));
                    if listener.passthrough.is_some() {
                        chains.add_tls_route(&mut port.sorted, listener, of);
                    } else {
                        add_route(router, (*at, listener), of, &mut chains, &metrics);
                    }
                }
            }
        }
        let mut ports = BTreeMap::new();
        for (number, port) in building {
            match port.finish(number, context.tls) {
                Ok(port) => drop(ports.insert(number, Arc::new(port))),
                Err((key, reason)) => drop(conflicts.insert(key.into(), reason)),
            }
        }
        context.tls.connectors.forget_unused();
        context.tls.keep(|number| ports.contains_key(&number));
        let mut plugins: HashMap<_, _> = context.leaving.into_iter().collect();
        let own = self.plugins.iter();
        plugins.extend(own.map(|(key, plugin)| (key.clone(), Arc::clone(plugin))));
        let runtime = Runtime {
            version: Arc::clone(context.version),
            ports,
            directory: Arc::clone(context.directory),
            plugins,
        };
        (runtime, conflicts)
    }

    /// The ports of all listeners, without routes.
    fn open<'a>(&'a self, conflicts: &mut Conflicts) -> (BTreeMap<u16, Building<'a>>, Places<'a>) {
        let mut building: BTreeMap<u16, Building<'_>> = BTreeMap::new();
        let mut places = Places::new();
        for (key, listener) in &self.listeners {
            let number = listener.port;
            let port = building.entry(number).or_insert_with(|| Building {
                tls: listener.tls,
                public_port: listener.public_port,
                listeners: Vec::new(),
                router: Builder::default(),
                certificates: Vec::new(),
                clients: listener.client_validation.as_ref(),
                sorted: Hosts::default(),
                is_sorted: false,
                first: key,
            });
            if port.tls != listener.tls {
                let other = port.first;
                let reason = format!("port {number} is served with another protocol for {other}");
                conflicts.insert(key.clone(), reason);
                continue;
            }
            if port.clients != listener.client_validation.as_ref() {
                let other = port.first;
                let reason = format!(
                    "port {number} is served with other rules about clients' certificates for {other}"
                );
                conflicts.insert(key.clone(), reason);
                continue;
            }
            port.is_sorted |= listener.passthrough.is_some();
            port.sorted
                .entry(&listener.says.hostname, || match listener.passthrough {
                    None => Listener::Http,
                    Some(passthrough) => Listener::Tls {
                        passthrough,
                        routes: Hosts::default(),
                    },
                });
            // Also those without a route: they keep their hosts to themselves.
            let at = port.router.listener(&listener.says.hostname);
            port.listeners.push(Arc::clone(&listener.says));
            places.insert(key, (number, at, listener));
            if listener.tls {
                let keys = listener.certificates.iter();
                let certificates = keys
                    .filter_map(|key| self.certificates.get(&**key))
                    .cloned();
                let certificates = certificates.collect();
                port.certificates
                    .push((listener.says.hostname.clone(), certificates));
            }
        }
        (building, places)
    }
}

impl Building<'_> {
    /// The finished port. One that is meant for TLS is never served without.
    fn finish(self, number: u16, tls: &mut TlsPorts) -> Result<Port, (String, String)> {
        let first = self.first;
        let made_of = (self.certificates, self.clients.cloned());
        let config = self.tls.then(|| tls.config(number, made_of));
        let wrong = |error| (first.to_owned(), format!("port {number}: no TLS: {error}"));
        let config = config.transpose().map_err(wrong)?;
        let sorting = config.as_ref().filter(|_| self.is_sorted).map(|config| {
            let mut plain = (**config).clone();
            plain.alpn_protocols = Vec::new();
            Arc::new(Sorting::new(self.sorted, Arc::new(plain)))
        });
        Ok(Port {
            number,
            tls: config,
            sorting,
            public_port: self.public_port,
            listeners: self.listeners,
            router: self.router.build(),
        })
    }
}

fn add_route<'a>(
    router: &mut Builder,
    (at, listener): (usize, &'a ListenerParts),
    (route, hostnames): (&'a RouteParts, &'a [String]),
    chains: &mut Chains<'a>,
    metrics: &RuleId,
) {
    // An Ingress's wildcard stands for one label; the Gateway API's for any number.
    let one_label = &*route.kind == "Ingress";
    for (index, parts) in route.rules.iter().enumerate() {
        let mut own: Vec<&str> = if parts.hostnames.is_empty() {
            hostnames.iter().map(String::as_str).collect()
        } else {
            let pairs = parts.hostnames.iter().flat_map(|of_rule| {
                hostnames
                    .iter()
                    .filter_map(move |of_listener| intersection(of_rule, of_listener))
            });
            pairs.collect()
        };
        own.sort_unstable();
        own.dedup();
        if own.is_empty() {
            continue;
        }
        let rule = Arc::new(chains.rule(route, parts, listener, metrics));
        let (created, name, kind) = (
            route.created,
            Arc::clone(&route.object),
            Arc::clone(&route.kind),
        );
        let order = Order {
            created,
            name,
            kind,
            rule: index,
        };
        for hostname in own {
            router.add(at, (hostname, one_label), &parts.matches, &order, &rule);
        }
    }
}

/// Merges plugins, and remembers what it merged: most rules have the plugins of many others.
struct Chains<'a> {
    tables: &'a Tables,
    metrics: &'a Metrics,
    known: HashMap<Vec<&'a str>, Arc<Chain>>,
    connectors: &'a mut Connectors,
    provider: Arc<CryptoProvider>,
}

impl<'a> Chains<'a> {
    fn rule(
        &mut self,
        route: &'a RouteParts,
        parts: &'a RuleParts,
        listener: &'a ListenerParts,
        metrics: &RuleId,
    ) -> Rule {
        let backends: Vec<_> = parts
            .backends
            .iter()
            .map(|backend| self.backend(backend, &parts.plugins.keys, listener))
            .collect();
        let Filters {
            request,
            response,
            redirect,
            mirrors,
            cors,
        } = &parts.filters;
        let extras = Extras {
            // What cannot be read was refused when it came.
            cors: cors.as_ref().and_then(|cors| Cors::read(cors).ok()),
            retry: parts.retry.clone(),
            https_port: parts.https_port,
            sources: parts.sources.clone(),
            max_body: parts.max_body,
            affinity: parts.affinity.clone(),
            patience: parts.patience,
            mirrors: self.mirrors(mirrors, listener),
        };
        Rule {
            route: Arc::clone(&route.name),
            name: Arc::clone(&parts.name),
            listener: Arc::clone(&listener.says),
            plugins: Arc::clone(&parts.plugins),
            request_filters: request.clone(),
            response_filters: response.clone(),
            redirect: redirect.clone(),
            redirect_chain: self.chain([&parts.plugins.keys, &[], &listener.says.plugins.keys]),
            total_weight: backends
                .iter()
                .fold(0, |sum, backend| backend.weight.saturating_add(sum)),
            backends,
            request_timeout: parts.request_timeout,
            backend_timeout: parts.backend_timeout,
            closed: parts.closed.clone(),
            extras: extras.boxed(),
            metrics: metrics.clone(),
        }
    }

    fn backend(
        &mut self,
        parts: &'a BackendParts,
        of_rule: &'a [String],
        listener: &'a ListenerParts,
    ) -> Backend {
        let name = parts
            .upstream
            .as_deref()
            .map(|key| key.strip_prefix("Upstream/").unwrap_or(key));
        let state = name.and_then(|name| self.tables.upstreams.get(name));
        let of_service = state
            .map(|state| state.plugins.as_slice())
            .unwrap_or_default();
        Backend {
            weight: parts.weight,
            upstream: state.map(|state| Arc::clone(&state.upstream)),
            request_filters: parts.filters.request.clone(),
            response_filters: parts.filters.response.clone(),
            chain: self.chain([of_rule, of_service, &listener.says.plugins.keys]),
            connector: name
                .zip(state)
                .and_then(|(name, state)| self.connector(name, state, listener)),
            extras: BackendExtras {
                mirrors: self.mirrors(&parts.filters.mirrors, listener),
                redirect: parts.filters.redirect.clone(),
            }
            .boxed(),
        }
    }

    fn connector(
        &mut self,
        name: &str,
        state: &UpstreamState,
        listener: &ListenerParts,
    ) -> Option<Arc<Connector>> {
        let key = listener.client_certificate.as_str();
        let certificates = &self.tables.certificates;
        let shown = (!key.is_empty()).then(|| (key, certificates.get(key)));
        let tls = state.tls.as_ref()?;
        Some(self.connectors.of(name, tls, shown, &self.provider))
    }

    /// Adds a TLSRoute to a listener. Plugins cannot look into it: where one is attached, it is not served.
    fn add_tls_route(
        &mut self,
        sorted: &mut Hosts<Listener>,
        listener: &'a ListenerParts,
        (route, hostnames): (&'a RouteParts, &'a [String]),
    ) {
        let Some(parts) = route.rules.first() else {
            return;
        };
        let rule = Arc::new(self.tls_rule(route, parts, listener));
        let Listener::Tls { routes, .. } = sorted.entry(&listener.says.hostname, Listener::default)
        else {
            return;
        };
        for hostname in hostnames {
            // Routes come by their keys; of two for one name the older serves.
            let (created, name) = (route.created, &route.name);
            let held = routes.entry(hostname, || (created, Arc::clone(name), Arc::clone(&rule)));
            if (created, name) < (held.0, &held.1) {
                *held = (created, Arc::clone(name), Arc::clone(&rule));
            }
        }
    }

    fn tls_rule(
        &mut self,
        route: &'a RouteParts,
        parts: &'a RuleParts,
        listener: &'a ListenerParts,
    ) -> TlsRule {
        let mut closed = parts.closed.clone();
        let mut total_weight = 0_u32;
        let backends = parts.backends.iter().map(|backend| {
            let read = self.backend(backend, &parts.plugins.keys, listener);
            if !read.chain.plugins.is_empty() {
                closed = Some("a plugin is attached, which cannot look into TLS".into());
            }
            total_weight = total_weight.saturating_add(read.weight);
            TlsBackend {
                weight: read.weight,
                upstream: read.upstream,
                // What is passed on as it is, is encrypted already.
                connector: read
                    .connector
                    .filter(|_| listener.passthrough == Some(false)),
            }
        });
        TlsRule {
            route: Arc::clone(&route.name),
            backends: backends.collect(),
            closed,
            total_weight,
        }
    }

    /// One whose upstream is not there gets no copies.
    fn mirrors(&mut self, from: &[proto::Mirror], listener: &ListenerParts) -> Vec<Mirror> {
        let read = |mirror: &proto::Mirror| {
            let key = mirror.upstream.as_str();
            let name = key.strip_prefix("Upstream/").unwrap_or(key);
            let state = self.tables.upstreams.get(name)?;
            let upstream = Arc::clone(&state.upstream);
            (!upstream.missing).then(|| Mirror {
                upstream,
                connector: self.connector(name, state, listener),
                numerator: mirror.numerator,
                denominator: mirror.denominator,
            })
        };
        from.iter().filter_map(read).collect()
    }

    /// Of each type the plugin of the first scope that has one, in running order. Those whose type nobody knows are all
    /// there, first: what they would have done cannot be left out.
    fn chain(&mut self, scopes: [&'a [String]; 3]) -> Arc<Chain> {
        let mut keys: Vec<&'a str> = Vec::new();
        for scope in scopes {
            keys.extend(scope.iter().map(String::as_str));
            // Scopes of the same keys in another order are another chain: "|" is in no key.
            keys.push("|");
        }
        if let Some(chain) = self.known.get(&keys) {
            return Arc::clone(chain);
        }
        let mut plugins: Vec<Arc<ChainPlugin>> = Vec::new();
        for key in keys.iter().filter(|key| **key != "|") {
            let plugin = self
                .tables
                .plugins
                .get(*key)
                .map_or_else(|| self.absent(key), Arc::clone);
            let covered =
                |other: &Arc<ChainPlugin>| plugin.kind.is_some() && other.kind == plugin.kind;
            if !plugins.iter().any(covered) {
                plugins.push(plugin);
            }
        }
        // Stable, and none before all types.
        plugins.sort_by_key(|plugin| plugin.kind);
        let names = |scope: &[String]| scope.iter().map(|key| name_of(key).into()).collect();
        let scopes = scopes.map(names);
        let chain = Arc::new(Chain { plugins, scopes });
        self.known.insert(keys, Arc::clone(&chain));
        chain
    }

    /// Stands for a plugin that is not in the snapshot: closed.
    fn absent(&self, key: &str) -> Arc<ChainPlugin> {
        let name: Arc<str> = name_of(key).into();
        let metrics = self.metrics.plugin(&name, "");
        let handler = Err("the snapshot does not hold this plugin".into());
        Arc::new(ChainPlugin {
            name,
            kind: None,
            handler,
            same_consumer: false,
            metrics,
        })
    }
}

/// "shop/api-key" of "Plugin/shop/api-key".
fn name_of(key: &str) -> &str {
    key.strip_prefix("Plugin/").unwrap_or(key)
}

/// What a TLS configuration is made of.
type MadeOf = (Vec<ListenerCertificates>, Option<proto::ClientValidation>);

/// TLS configurations in use, with what they were made of: one that would be the same is the same.
#[derive(Debug, Default)]
pub(super) struct TlsPorts {
    pub(super) tls: Tls,
    pub(super) connectors: Connectors,
    ports: HashMap<u16, (MadeOf, Arc<rustls::ServerConfig>)>,
}

impl TlsPorts {
    fn config(&mut self, port: u16, made_of: MadeOf) -> Result<Arc<rustls::ServerConfig>, String> {
        if let Some((old, config)) = self.ports.get(&port)
            && same(&old.0, &made_of.0)
            && old.1 == made_of.1
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.tls.server_config(&made_of.0, made_of.1.as_ref())?);
        self.ports.insert(port, (made_of, Arc::clone(&config)));
        Ok(config)
    }

    fn keep(&mut self, used: impl Fn(u16) -> bool) {
        self.ports.retain(|number, _| used(*number));
    }
}

/// Whether the same listeners have the very same certificates.
fn same(a: &[ListenerCertificates], b: &[ListenerCertificates]) -> bool {
    let same_certificates = |a: &[Arc<Certificate>], b: &[Arc<Certificate>]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
    };
    let all = a.iter().zip(b);
    a.len() == b.len()
        && all
            .into_iter()
            .all(|((a, of_a), (b, of_b))| a == b && same_certificates(of_a, of_b))
}
