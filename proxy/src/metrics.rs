//! What is counted, and how it is shown to Prometheus.
//!
//! Each worker has cells of its own, which only its thread writes; a scrape adds them up. So counting is a load and a
//! store, and labels are formatted only when somebody asks.

mod expose;
mod upstreams;

pub use expose::CONTENT_TYPE;
pub use upstreams::{Overflow, UpstreamSeries};

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use store::Store;

/// Upper bounds of the latency histogram's buckets, in microseconds.
const BOUNDS: [u64; 15] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000, 60_000_000,
];

/// How many reasons a plugin, or the gateway itself, can give for its verdicts before they are all "other".
const REASONS: usize = 24;

/// Adds to a cell that only the calling thread writes.
fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}

/// The cells of one route.
#[derive(Debug, Clone)]
pub struct RuleId(Arc<RouteSeries>);

#[derive(Debug)]
struct RouteSeries {
    route: Arc<str>,
    workers: Box<[RouteCells]>,
}

/// A line of memory of its own for each worker.
#[derive(Debug, Default)]
#[repr(align(128))]
struct RouteCells {
    /// 1xx to 5xx.
    classes: [AtomicU64; 5],
    /// By bucket, not cumulated; the last one is beyond all bounds.
    latencies: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

/// The cells of one plugin.
#[derive(Debug, Clone)]
pub struct PluginId(Arc<PluginSeries>);

#[derive(Debug)]
struct PluginSeries {
    name: Arc<str>,
    kind: &'static str,
    workers: Box<[Reasons]>,
}

/// How often each reason was given.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Reasons {
    cells: [(OnceLock<(&'static str, bool)>, AtomicU64); REASONS],
    other: AtomicU64,
}

impl Reasons {
    fn count(&self, reason: &'static str, passed: bool) {
        for (given, cell) in &self.cells {
            let given = given.get_or_init(|| (reason, passed));
            // Mostly the very same text; equal text elsewhere in the program counts too.
            if given.1 == passed && (std::ptr::eq(given.0, reason) || given.0 == reason) {
                return bump(cell, 1);
            }
        }
        bump(&self.other, 1);
    }
}

/// Things that happen to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A client's connection was accepted, without TLS.
    PlainAccepted,
    /// A client's connection was accepted, for TLS.
    TlsAccepted,
    /// A client's connection without TLS was closed.
    PlainClosed,
    /// A client's connection for TLS was closed.
    TlsClosed,
    /// A TLS handshake failed.
    HandshakeFailed,
    /// A connection that should have begun with a header of the PROXY protocol did not.
    ProxyHeaderFailed,
    /// A connection was refused, because the worker has as many as it may.
    ConnectionRefused,
    /// A connection to an endpoint was opened.
    UpstreamConnected,
    /// A connection to an endpoint could not be opened.
    UpstreamConnectFailed,
    /// A connection to an endpoint was closed.
    UpstreamClosed,
    /// A request went over a connection from the pool.
    PoolHit,
    /// A connection was put into the pool.
    PoolPut,
    /// A connection left the pool, to be used or closed.
    PoolTaken,
    /// A request was sent again, because it had not reached an upstream.
    Retried,
    /// Bytes are passed on both ways, after a change of protocol or for a TLSRoute.
    TunnelOpened,
    /// One side had no more.
    TunnelClosed,
}

const EVENTS: usize = Event::TunnelClosed as usize + 1;

#[derive(Debug, Default)]
#[repr(align(128))]
struct WorkerCells {
    events: [AtomicU64; EVENTS],
    failures: Reasons,
}

/// All of it.
#[derive(Debug)]
pub struct Metrics {
    workers: Box<[WorkerCells]>,
    unrouted: RuleId,
    routes: Mutex<HashMap<Arc<str>, RuleId>>,
    plugins: Mutex<HashMap<Arc<str>, PluginId>>,
    /// Of those with a policy.
    upstreams: Mutex<HashMap<Arc<str>, Arc<UpstreamSeries>>>,
    process: Process,
}

/// What there is once.
#[derive(Debug, Default)]
pub struct Process {
    version: Mutex<Arc<str>>,
    /// When it was taken in, in seconds since 1970; 0: there is none yet.
    taken: AtomicI64,
    refused: AtomicU64,
    connected: AtomicU64,
    connects: AtomicU64,
    log_drops: AtomicU64,
    credentials: AtomicU64,
    consumers: AtomicU64,
    store: OnceLock<Store>,
}

impl Metrics {
    /// For so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        let workers = workers.max(1);
        Arc::new(Self {
            workers: (0..workers).map(|_| WorkerCells::default()).collect(),
            unrouted: RuleId::new(Arc::from(""), workers),
            routes: Mutex::default(),
            plugins: Mutex::default(),
            upstreams: Mutex::default(),
            process: Process::default(),
        })
    }

    /// The part that the worker with this number counts in, from 0. Only its thread may use it.
    #[must_use]
    pub fn worker(self: &Arc<Self>, number: usize) -> WorkerMetrics {
        WorkerMetrics {
            shared: Arc::clone(self),
            number: number.min(self.workers.len().saturating_sub(1)),
        }
    }

    /// The cells of a route ("HTTPRoute/shop/orders"), the same ones as long as somebody holds them.
    #[must_use]
    pub fn rule(&self, route: &Arc<str>) -> RuleId {
        let mut routes = self.routes.lock();
        let new = || RuleId::new(Arc::clone(route), self.workers.len());
        routes.entry(Arc::clone(route)).or_insert_with(new).clone()
    }

    /// The cells of a plugin ("shop/api-key") of a type.
    #[must_use]
    pub fn plugin(&self, name: &Arc<str>, kind: &'static str) -> PluginId {
        let new = || {
            let workers = self.workers.iter().map(|_| Reasons::default()).collect();
            PluginId(Arc::new(PluginSeries {
                name: Arc::clone(name),
                kind,
                workers,
            }))
        };
        let mut plugins = self.plugins.lock();
        let id = plugins.entry(Arc::clone(name)).or_insert_with(new);
        if id.0.kind != kind {
            *id = new();
        }
        id.clone()
    }

    /// Forgets routes, plugins and upstreams that nobody holds any more.
    pub fn forget_unused(&self) {
        self.routes
            .lock()
            .retain(|_, id| Arc::strong_count(&id.0) > 1);
        self.plugins
            .lock()
            .retain(|_, id| Arc::strong_count(&id.0) > 1);
        self.upstreams
            .lock()
            .retain(|_, series| Arc::strong_count(series) > 1);
    }

    /// What there is once.
    #[must_use]
    pub const fn process(&self) -> &Process {
        &self.process
    }
}

impl RuleId {
    fn new(route: Arc<str>, workers: usize) -> Self {
        let workers = (0..workers).map(|_| RouteCells::default()).collect();
        Self(Arc::new(RouteSeries { route, workers }))
    }
}

impl Process {
    /// A snapshot is in force.
    pub fn snapshot(&self, version: &Arc<str>, now: i64, refused: usize) {
        *self.version.lock() = Arc::clone(version);
        self.taken.store(now, Relaxed);
        self.refused.store(refused as u64, Relaxed);
    }

    /// How many credentials and Consumers there are.
    pub fn directory(&self, credentials: usize, consumers: usize) {
        self.credentials.store(credentials as u64, Relaxed);
        self.consumers.store(consumers as u64, Relaxed);
    }

    /// The store whose figures are told, set once.
    pub fn store(&self, store: &Store) {
        let _set = self.store.set(store.clone());
    }

    /// The stream to the control plane was opened or closed.
    pub fn connected(&self, connected: bool) {
        self.connected.store(u64::from(connected), Relaxed);
        if connected {
            self.connects.fetch_add(1, Relaxed);
        }
    }

    /// A line of the access log was lost.
    pub fn log_dropped(&self, lines: u64) {
        self.log_drops.fetch_add(lines, Relaxed);
    }
}

/// The part that one worker counts in.
#[derive(Debug, Clone)]
pub struct WorkerMetrics {
    shared: Arc<Metrics>,
    number: usize,
}

impl WorkerMetrics {
    /// Counts nothing.
    pub(crate) fn nowhere() -> Self {
        Self {
            shared: Metrics::new(1),
            number: usize::MAX,
        }
    }

    /// A request was answered; `rule` is none where no route took it.
    pub fn request(&self, rule: Option<&RuleId>, status: StatusCode, took: Duration) {
        let series = &rule.unwrap_or(&self.shared.unrouted).0;
        let Some(cells) = series.workers.get(self.number) else {
            return;
        };
        if let Some(class) = cells
            .classes
            .get(usize::from(status.as_u16() / 100).saturating_sub(1))
        {
            bump(class, 1);
        }
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().take_while(|bound| **bound < took).count();
        if let Some(bucket) = cells.latencies.get(bucket) {
            bump(bucket, 1);
        }
        bump(&cells.microseconds, took);
    }

    /// A plugin passed a request on, or refused it.
    pub fn verdict(&self, plugin: &PluginId, reason: &'static str, passed: bool) {
        if let Some(reasons) = plugin.0.workers.get(self.number) {
            reasons.count(reason, passed);
        }
    }

    /// The gateway itself answered, for want of something better.
    pub fn failure(&self, kind: &'static str) {
        if let Some(worker) = self.shared.workers.get(self.number) {
            worker.failures.count(kind, false);
        }
    }

    /// Something happened.
    pub fn event(&self, event: Event) {
        if let Some(cell) = self
            .shared
            .workers
            .get(self.number)
            .and_then(|worker| worker.events.get(event as usize))
        {
            bump(cell, 1);
        }
    }
}
