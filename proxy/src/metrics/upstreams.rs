//! What is counted of upstreams with a policy.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Metrics;
use super::expose::gauge;
use crate::respond::Failure;

/// What an upstream has as much of as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// Requests under way.
    Requests,
    /// Requests that wait for a connection.
    Pending,
    /// No connection became free in time.
    PendingTimeout,
    /// Requests that are sent again.
    RetryBudget,
}

impl Overflow {
    const ALL: [Self; 4] = [
        Self::Requests,
        Self::Pending,
        Self::PendingTimeout,
        Self::RetryBudget,
    ];

    /// Short and constant, for the log and the metric.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Requests => "max_requests",
            Self::Pending => "max_pending",
            Self::PendingTimeout => "pending_timeout",
            Self::RetryBudget => "retry_budget",
        }
    }
}

/// Of one upstream. What is counted here is rare.
#[derive(Debug)]
pub struct UpstreamSeries {
    name: Arc<str>,
    healthy: AtomicU64,
    unhealthy: AtomicU64,
    ejections: AtomicU64,
    passed: AtomicU64,
    failed: AtomicU64,
    overflows: [AtomicU64; Overflow::ALL.len()],
    /// Under way, where a policy limits them.
    pub(crate) requests: AtomicU32,
}

impl UpstreamSeries {
    /// How many endpoints there are.
    pub(crate) fn endpoints(&self, healthy: usize, unhealthy: usize) {
        self.healthy.store(healthy as u64, Relaxed);
        self.unhealthy.store(unhealthy as u64, Relaxed);
    }

    /// An endpoint was left out, because requests failed.
    pub(crate) fn ejected(&self) {
        self.ejections.fetch_add(1, Relaxed);
    }

    /// An endpoint was asked how it is.
    pub(crate) fn checked(&self, well: bool) {
        let cell = if well { &self.passed } else { &self.failed };
        cell.fetch_add(1, Relaxed);
    }

    /// A request finds a limit reached: what it is answered.
    pub(crate) fn overflow(&self, what: Overflow) -> Failure {
        if let Some(cell) = self.overflows.get(what as usize) {
            cell.fetch_add(1, Relaxed);
        }
        Failure::Overloaded(what)
    }
}

impl Metrics {
    /// The cells of an upstream ("shop/orders/80"), the same ones as long as somebody holds them.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Arc<UpstreamSeries> {
        let name: Arc<str> = name.into();
        let new = || {
            Arc::new(UpstreamSeries {
                name: Arc::clone(&name),
                healthy: AtomicU64::default(),
                unhealthy: AtomicU64::default(),
                ejections: AtomicU64::default(),
                passed: AtomicU64::default(),
                failed: AtomicU64::default(),
                overflows: Default::default(),
                requests: AtomicU32::default(),
            })
        };
        let mut upstreams = self.upstreams.lock();
        Arc::clone(upstreams.entry(Arc::clone(&name)).or_insert_with(new))
    }
}

/// A family of metrics: name, help, and the label beside the upstream's name, where there is one.
type Family = (&'static str, &'static str, MetricType, Option<&'static str>);

/// The values of a family, each with that label's value.
type Values<'s> = Vec<(&'static str, &'s AtomicU64)>;

/// Where they are.
type Read = fn(&UpstreamSeries) -> Values<'_>;

/// All that are counted in 64 bits.
const FAMILIES: [(Family, Read); 4] = [
    (
        (
            "upstream_endpoints",
            "Endpoints of upstreams with an UpstreamPolicy, by state",
            MetricType::Gauge,
            Some("state"),
        ),
        |series| {
            vec![
                ("healthy", &series.healthy),
                ("unhealthy", &series.unhealthy),
            ]
        },
    ),
    (
        (
            "upstream_ejections",
            "How often an endpoint was left out because requests failed",
            MetricType::Counter,
            None,
        ),
        |series| vec![("", &series.ejections)],
    ),
    (
        (
            "upstream_health_checks",
            "Active health checks of endpoints, by their result",
            MetricType::Counter,
            Some("result"),
        ),
        |series| vec![("passed", &series.passed), ("failed", &series.failed)],
    ),
    (
        (
            "upstream_overflows",
            "How often a request found a limit of an UpstreamPolicy reached",
            MetricType::Counter,
            Some("limit"),
        ),
        |series| {
            let labels = Overflow::ALL.into_iter().map(Overflow::label);
            labels.zip(&series.overflows).collect()
        },
    ),
];

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let mut all: Vec<_> = metrics.upstreams.lock().values().cloned().collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    for ((name, help, kind, label), values) in FAMILIES {
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for series in &all {
            for (value, cell) in values(series) {
                let mut labels = vec![("upstream", &*series.name)];
                labels.extend(label.map(|label| (label, value)));
                let count = cell.load(Relaxed);
                let one = family.encode_family(&labels)?;
                match kind {
                    MetricType::Gauge => ConstGauge::new(gauge(count)).encode(one)?,
                    _ => ConstCounter::new(count).encode(one)?,
                }
            }
        }
    }
    let help = "Requests under way, of upstreams whose UpstreamPolicy has to count them";
    let name = "upstream_requests_active";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for series in &all {
        let labels = [("upstream", &*series.name)];
        let count = series.requests.load(Relaxed);
        ConstGauge::new(i64::from(count)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
