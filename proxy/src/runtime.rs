//! What workers read: the snapshot with everything computed that does not depend on a request.
//!
//! A [`Runtime`] never changes; a new one is swapped in. Only endpoints and the directory of consumers and credentials
//! change underneath it, each behind its own swap, because they change often and alone.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue, StatusCode};
use plugins::directory::{ConsumerRef, Directory};
use plugins::handler::Handler;

use crate::extras::{BackendExtras, Extras};

/// Everything in force.
#[derive(Debug)]
pub struct Runtime {
    /// Version of the snapshot.
    pub version: Arc<str>,
    /// What to listen on.
    pub ports: BTreeMap<u16, Arc<Port>>,
    /// Consumers and credentials; the same object for the life of the process.
    pub directory: Arc<Directory>,
    /// All plugins by their keys: those of Consumers are looked up here, see [`Runtime::plugins_of`].
    pub plugins: HashMap<Box<str>, Arc<ChainPlugin>>,
}

impl Runtime {
    /// The plugins that are attached to a Consumer, in running order. Each takes the place of the one of its type in the
    /// chain, or is added to it. None in the list: it is not there (any more), so that the request is refused with the
    /// 500 of an incomplete configuration.
    ///
    /// Costs nothing for a Consumer without plugins.
    #[must_use]
    pub fn plugins_of(&self, consumer: &ConsumerRef) -> Vec<Option<&Arc<ChainPlugin>>> {
        let mut found: Vec<_> = consumer
            .plugins()
            .map(|key| self.plugins.get(key))
            .collect();
        found.sort_by_key(|plugin| plugin.map(|plugin| plugin.kind));
        found
    }
}

/// A port that the proxy opens.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    /// Present on HTTPS: resolves certificates by SNI, ALPN h2 and http/1.1, TLS 1.2 and 1.3.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Present where the name in a client's hello decides whether HTTP is spoken.
    pub sorting: Option<Arc<crate::sorting::Sorting>>,
    /// The port as clients see it.
    pub public_port: u16,
    /// All that share it, in the order of their keys.
    pub listeners: Vec<Arc<Listener>>,
    /// Hosts and routes; how it is indexed is the router's business (see [`Port::find`]).
    pub router: crate::router::Router,
}

/// One rule of a route on one listener, ready to serve.
#[derive(Debug)]
pub struct Rule {
    /// For log and metrics: "HTTPRoute/shop/orders", and the rule's name or index.
    pub route: Arc<str>,
    pub name: Arc<str>,
    pub listener: Arc<Listener>,
    /// Of rule and route.
    pub plugins: Arc<Attached>,
    pub request_filters: Vec<RequestFilter>,
    pub response_filters: Vec<HeaderEdit>,
    /// Answers instead of forwarding. Plugins of the rule run first, see `redirect_chain`.
    pub redirect: Option<Redirect>,
    pub redirect_chain: Arc<Chain>,
    pub backends: Vec<Backend>,
    /// Sum of the backends' weights; 0 with backends present: 500 (all weights are zero).
    pub total_weight: u32,
    pub request_timeout: Option<std::time::Duration>,
    pub backend_timeout: Option<std::time::Duration>,
    /// Every request gets 500: why.
    pub closed: Option<Arc<str>>,
    /// What only some rules ask for.
    pub extras: Option<Box<Extras>>,
    /// Index into per-worker metrics.
    pub metrics: crate::metrics::RuleId,
}

/// Where requests go.
#[derive(Debug)]
pub struct Backend {
    pub weight: u32,
    /// None: requests that fall to this backend get 500.
    pub upstream: Option<Arc<Upstream>>,
    pub request_filters: Vec<RequestFilter>,
    pub response_filters: Vec<HeaderEdit>,
    /// Plugins of rule, Service and listener merged: the narrowest of each type, in running order.
    pub chain: Arc<Chain>,
    /// How to connect to an upstream that speaks TLS.
    pub(crate) connector: Option<Arc<crate::upstream::Connector>>,
    /// What only some backends ask for.
    pub extras: Option<Box<BackendExtras>>,
}

/// Plugins in the order in which they run.
#[derive(Debug, Default)]
pub struct Chain {
    pub plugins: Vec<Arc<ChainPlugin>>,
    /// Their names, and those of the plugins that they leave no place for, by the scope that names them: the rule and its
    /// route; the Service; the listener, its Gateway and its class.
    pub scopes: [Vec<Box<str>>; 3],
}

/// Plugins of one scope.
#[derive(Debug, Clone, Default)]
pub struct Attached {
    /// Keys.
    pub keys: Vec<String>,
    /// What each is attached to, for people.
    pub places: Vec<String>,
}

impl Attached {
    /// What a plugin is attached to, by its name.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<&str> {
        let named = |key: &String| key.strip_prefix("Plugin/").unwrap_or(key) == name;
        let at = self.keys.iter().position(named)?;
        self.places.get(at).map(String::as_str)
    }
}

/// What a listener says of itself.
#[derive(Debug, Default)]
pub struct Listener {
    /// "shop/gateway/http".
    pub name: Box<str>,
    /// In lower case; "" any.
    pub hostname: Box<str>,
    pub plugins: Attached,
}

#[derive(Debug)]
pub struct ChainPlugin {
    /// "shop/api-key", for log and metrics.
    pub name: Arc<str>,
    pub kind: Option<plugins::Type>,
    /// Err: closed, every request gets 500 with the fixed body of the contract; the text is for the log.
    pub handler: Result<Arc<Handler>, Arc<str>>,
    /// Refuse where a plugin that ran before has authenticated another Consumer.
    pub same_consumer: bool,
    pub metrics: crate::metrics::PluginId,
}

impl ChainPlugin {
    /// Whether it proves who calls.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        self.kind.is_some_and(plugins::Type::authenticates)
    }
}

#[derive(Debug, Clone)]
pub enum RequestFilter {
    Headers(HeaderEdit),
    Rewrite(Rewrite),
}

#[derive(Debug, Clone, Default)]
pub struct HeaderEdit {
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub add: Vec<(HeaderName, HeaderValue)>,
    pub remove: Vec<HeaderName>,
}

#[derive(Debug, Clone)]
pub struct Rewrite {
    pub hostname: Option<HeaderValue>,
    pub path: Option<PathEdit>,
}

#[derive(Debug, Clone)]
pub enum PathEdit {
    Full(Box<str>),
    /// Replaces the prefix that the request's match named, on the canonical path.
    Prefix(Box<str>),
    /// In full, with what an expression captured of the canonical path.
    Template(Arc<regex::Regex>, Box<str>),
}

#[derive(Debug, Clone)]
pub struct Redirect {
    pub scheme: Option<Box<str>>,
    pub hostname: Option<Box<str>>,
    pub path: Option<PathEdit>,
    pub port: Option<u16>,
    pub status: StatusCode,
}

/// A Service's port.
#[derive(Debug)]
pub struct Upstream {
    /// "shop/orders/80": name in log and metrics, and key of worker-local pools.
    pub name: Arc<str>,
    pub scheme: snapshot::proto::upstream::Scheme,
    /// Those that may get requests now: ready ones, or where none is, serving ones. Swapped alone.
    pub endpoints: ArcSwap<EndpointSet>,
    /// The Service does not exist: 500. (Exists without a ready endpoint: 503.)
    pub missing: bool,
    /// What only some upstreams ask for.
    pub(crate) policy: Option<Box<crate::upstream::Policy>>,
}

#[derive(Debug, Default)]
pub struct EndpointSet {
    pub usable: Vec<Arc<Endpoint>>,
    /// Whose turn it is, counted over all workers.
    pub turn: std::sync::atomic::AtomicUsize,
    /// How one is picked, where that is not as usual.
    pub(crate) manner: Option<Box<crate::upstream::Manner>>,
}

impl EndpointSet {
    /// The first turn is anybody's, so that many proxies do not begin with the same endpoint.
    #[must_use]
    pub fn new(usable: Vec<Arc<Endpoint>>) -> Self {
        let first = RandomState::new().hash_one(0) % usable.len().max(1) as u64;
        Self {
            usable,
            turn: usize::try_from(first).unwrap_or(0).into(),
            manner: None,
        }
    }

    pub(crate) fn with(self, manner: Option<Box<crate::upstream::Manner>>) -> Self {
        Self { manner, ..self }
    }
}

/// The same `Arc` for the same address across swaps, so that counters survive.
#[derive(Debug)]
pub struct Endpoint {
    pub address: std::net::SocketAddr,
    /// Where else it is.
    pub(crate) other: Option<Box<crate::upstream::Other>>,
    /// Requests under way over all workers, for least-request.
    pub active: std::sync::atomic::AtomicU32,
    /// Looked at only where a policy asks for it.
    pub(crate) health: crate::upstream::Health,
}

impl Endpoint {
    /// One that nothing is known of yet.
    #[must_use]
    pub fn new(address: std::net::SocketAddr) -> Self {
        Self {
            address,
            other: None,
            active: 0.into(),
            health: crate::upstream::Health::default(),
        }
    }
}

/// What the router looks at. All of it canonical already (see `http`).
#[derive(Debug)]
pub struct Request<'a> {
    /// Lower case, without port and trailing dot.
    pub host: &'a str,
    /// Canonical path.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub method: &'a http::Method,
    pub headers: &'a http::HeaderMap,
}

/// The rule that serves a request.
#[derive(Debug)]
pub struct Found<'a> {
    pub rule: &'a Arc<Rule>,
    /// How much of the path the match's prefix took, for prefix rewrites; a slash at its end not counted, so that "/" takes
    /// 0 and the rest of the path is empty or begins with a slash. Exact paths and expressions take all.
    pub prefix_len: usize,
}

impl Port {
    /// A number for the listener that a host belongs to, equal for two hosts of one listener. A connection whose TLS
    /// handshake named a host of another listener than a request does: 421.
    #[must_use]
    pub fn listener(&self, host: &str) -> Option<usize> {
        self.router.listener(host)
    }

    /// The number of the listener with this hostname, as [`Port::listener`] tells it.
    #[must_use]
    pub(crate) fn number_of(&self, hostname: &str) -> Option<usize> {
        self.router.number_of(hostname)
    }

    /// The rule for a request, by the precedence of the Gateway API. None: 404.
    #[must_use]
    pub fn find(&self, request: &Request<'_>) -> Option<Found<'_>> {
        self.router.find(request)
    }
}
