//! What is counted of upstreams with a policy.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Metrics;
use super::expose::gauge;

/// Of one upstream. What is counted here is rare.
#[derive(Debug)]
pub struct UpstreamSeries {
    name: Arc<str>,
    healthy: AtomicU64,
    unhealthy: AtomicU64,
    ejections: AtomicU64,
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
            })
        };
        let mut upstreams = self.upstreams.lock();
        Arc::clone(upstreams.entry(Arc::clone(&name)).or_insert_with(new))
    }
}

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let mut all: Vec<_> = metrics.upstreams.lock().values().cloned().collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let mut family = encoder.encode_descriptor(
        "upstream_endpoints",
        "Endpoints of upstreams with an UpstreamPolicy, by state",
        None,
        MetricType::Gauge,
    )?;
    for series in &all {
        let states = [
            ("healthy", &series.healthy),
            ("unhealthy", &series.unhealthy),
        ];
        for (state, cell) in states {
            let labels = [("upstream", &*series.name), ("state", state)];
            ConstGauge::new(gauge(cell.load(Relaxed))).encode(family.encode_family(&labels)?)?;
        }
    }
    let mut family = encoder.encode_descriptor(
        "upstream_ejections",
        "How often an endpoint was left out because requests failed",
        None,
        MetricType::Counter,
    )?;
    for series in &all {
        let labels = [("upstream", &*series.name)];
        let count = series.ejections.load(Relaxed);
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
