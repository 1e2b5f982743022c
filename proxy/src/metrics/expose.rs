//! The Prometheus text.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use store::Stats;

use super::{BOUNDS, EVENTS, Event, Metrics, PluginId, Reasons, RuleId};

/// Media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Metrics {
    /// All metrics, in the text format of OpenMetrics.
    ///
    /// # Errors
    /// Never in practice: writing to a `String` does not fail.
    pub fn text(self: &Arc<Self>) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("postern");
        registry.register_collector(Box::new(Scrape(Arc::clone(self))));
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(out)
    }
}

#[derive(Debug)]
struct Scrape(Arc<Metrics>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metrics = &*self.0;
        let mut routes: Vec<RuleId> = metrics.routes.lock().values().cloned().collect();
        routes.sort_by(|a, b| a.0.route.cmp(&b.0.route));
        routes.push(metrics.unrouted.clone());
        let mut plugins: Vec<PluginId> = metrics.plugins.lock().values().cloned().collect();
        plugins.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        requests(&mut encoder, &routes)?;
        durations(&mut encoder, &routes)?;
        verdicts(&mut encoder, &plugins)?;
        failures(&mut encoder, metrics)?;
        connections(&mut encoder, metrics)?;
        super::upstreams::encode(&mut encoder, metrics)?;
        process(&mut encoder, metrics)?;
        metrics
            .process
            .store
            .get()
            .map_or(Ok(()), |held| store(&mut encoder, held.stats()))
    }
}

fn sum<'a>(cells: impl Iterator<Item = &'a AtomicU64>) -> u64 {
    cells
        .map(|cell| cell.load(Relaxed))
        .fold(0, u64::wrapping_add)
}

fn requests(encoder: &mut DescriptorEncoder<'_>, routes: &[RuleId]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "requests",
        "Requests by route and class of the response's status; an empty route: no route took them",
        None,
        MetricType::Counter,
    )?;
    for series in routes.iter().map(|id| &id.0) {
        for (at, class) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().enumerate() {
            let count = sum(series
                .workers
                .iter()
                .filter_map(|cells| cells.classes.get(at)));
            if count > 0 {
                let labels = [("route", &*series.route), ("class", class)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

fn durations(encoder: &mut DescriptorEncoder<'_>, routes: &[RuleId]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "request_duration_seconds",
        "From the end of a request's head to the end of its response",
        None,
        MetricType::Histogram,
    )?;
    for series in routes.iter().map(|id| &id.0) {
        let mut buckets = Vec::with_capacity(BOUNDS.len() + 1);
        let mut total = 0_u64;
        for at in 0..=BOUNDS.len() {
            let count = sum(series
                .workers
                .iter()
                .filter_map(|cells| cells.latencies.get(at)));
            total += count;
            buckets.push((
                BOUNDS
                    .get(at)
                    .map_or(f64::INFINITY, |bound| seconds(*bound)),
                count,
            ));
        }
        if total > 0 {
            let took = seconds(sum(series.workers.iter().map(|cells| &cells.microseconds)));
            family
                .encode_family(&[("route", &*series.route)])?
                .encode_histogram::<NoLabelSet>(took, total, &buckets, None)?;
        }
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a measurement; 52 bits of microseconds are 142 years"
)]
fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

/// Reasons of all workers, summed up: (reason, passed, count), sorted.
fn reasons<'a>(workers: impl Iterator<Item = &'a Reasons>) -> Vec<(&'static str, bool, u64)> {
    let mut all = std::collections::BTreeMap::new();
    for worker in workers {
        for (given, cell) in &worker.cells {
            let Some((reason, passed)) = given.get() else {
                break;
            };
            *all.entry((*reason, *passed)).or_insert(0) += cell.load(Relaxed);
        }
        let other = worker.other.load(Relaxed);
        if other > 0 {
            *all.entry(("other", false)).or_insert(0) += other;
        }
    }
    all.into_iter()
        .map(|((reason, passed), count)| (reason, passed, count))
        .collect()
}

fn verdicts(encoder: &mut DescriptorEncoder<'_>, plugins: &[PluginId]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "auth_verdicts",
        "Verdicts of plugins, by plugin, its type and the reason",
        None,
        MetricType::Counter,
    )?;
    for series in plugins.iter().map(|id| &id.0) {
        for (reason, passed, count) in reasons(series.workers.iter()) {
            let verdict = if passed { "continue" } else { "refuse" };
            let labels = [
                ("plugin", &*series.name),
                ("type", series.kind),
                ("verdict", verdict),
                ("reason", reason),
            ];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn failures(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "failures",
        "Responses that the gateway gave in its own name, by the kind of failure; verdicts of plugins apart",
        None,
        MetricType::Counter,
    )?;
    for (kind, _, count) in reasons(metrics.workers.iter().map(|worker| &worker.failures)) {
        ConstCounter::new(count).encode(family.encode_family(&[("kind", kind)])?)?;
    }
    Ok(())
}

fn connections(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let mut totals = [0_u64; EVENTS];
    for worker in &metrics.workers {
        for (total, cell) in totals.iter_mut().zip(&worker.events) {
            *total = total.wrapping_add(cell.load(Relaxed));
        }
    }
    let total = |event: Event| totals.get(event as usize).copied().unwrap_or_default();
    let open = |opened, closed| total(opened).saturating_sub(total(closed));

    let mut family = encoder.encode_descriptor(
        "connections_accepted",
        "Connections of clients",
        None,
        MetricType::Counter,
    )?;
    for (tls, event) in [
        ("false", Event::PlainAccepted),
        ("true", Event::TlsAccepted),
    ] {
        ConstCounter::new(total(event)).encode(family.encode_family(&[("tls", tls)])?)?;
    }
    let mut family = encoder.encode_descriptor(
        "connections_open",
        "Open connections of clients",
        None,
        MetricType::Gauge,
    )?;
    for (tls, opened, closed) in [
        ("false", Event::PlainAccepted, Event::PlainClosed),
        ("true", Event::TlsAccepted, Event::TlsClosed),
    ] {
        ConstGauge::new(gauge(open(opened, closed)))
            .encode(family.encode_family(&[("tls", tls)])?)?;
    }
    upstreams(encoder, total)
}

/// Single numbers of connections, most of them of those to endpoints.
fn upstreams(encoder: &mut DescriptorEncoder<'_>, total: impl Fn(Event) -> u64) -> fmt::Result {
    let open = |opened, closed| total(opened).saturating_sub(total(closed));
    for (name, help, event) in [
        (
            "tls_handshake_failures",
            "TLS handshakes that failed",
            Event::HandshakeFailed,
        ),
        (
            "proxy_header_failures",
            "Connections closed, for they did not begin with a valid header of the PROXY protocol",
            Event::ProxyHeaderFailed,
        ),
        (
            "connections_refused",
            "Connections closed at once, for there were too many",
            Event::ConnectionRefused,
        ),
        (
            "upstream_connects",
            "Connections opened to endpoints",
            Event::UpstreamConnected,
        ),
        (
            "upstream_connect_failures",
            "Connections to endpoints that failed",
            Event::UpstreamConnectFailed,
        ),
        (
            "upstream_pool_hits",
            "Requests sent over a connection from the pool",
            Event::PoolHit,
        ),
        (
            "upstream_retries",
            "Requests sent again, because they had not reached an upstream",
            Event::Retried,
        ),
        (
            "tunnels",
            "Connections passed on both ways: WebSockets and other changes of protocol, TLSRoutes",
            Event::TunnelOpened,
        ),
    ] {
        counter(encoder, name, help, total(event))?;
    }
    let (connected, closed) = (Event::UpstreamConnected, Event::UpstreamClosed);
    level(
        encoder,
        "upstream_connections_open",
        "Open connections to endpoints",
        open(connected, closed),
    )?;
    level(
        encoder,
        "tunnels_open",
        "Of them, those that are open",
        open(Event::TunnelOpened, Event::TunnelClosed),
    )?;
    let idle = open(Event::PoolPut, Event::PoolTaken);
    level(
        encoder,
        "upstream_connections_idle",
        "Connections to endpoints that wait in a pool",
        idle,
    )
}

fn process(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let process = &metrics.process;
    let version = Arc::clone(&process.version.lock());
    let taken = process.taken.load(Relaxed);
    if taken > 0 {
        let mut info = encoder.encode_descriptor(
            "snapshot",
            "The snapshot in force",
            None,
            MetricType::Info,
        )?;
        info.encode_info(&[("version", &*version)])?;
        let age = jiff::Timestamp::now()
            .as_second()
            .saturating_sub(taken)
            .max(0);
        let help = "Since the last change was taken in";
        level(
            encoder,
            "snapshot_age_seconds",
            help,
            u64::try_from(age).unwrap_or_default(),
        )?;
    }
    let read = |cell: &AtomicU64| cell.load(Relaxed);
    level(
        encoder,
        "refused_resources",
        "Resources that this proxy could not take",
        read(&process.refused),
    )?;
    level(
        encoder,
        "credentials",
        "Credentials in force, expired ones included",
        read(&process.credentials),
    )?;
    level(
        encoder,
        "consumers",
        "Consumers in force",
        read(&process.consumers),
    )?;
    let help = "1 while the stream to the control plane is open";
    level(
        encoder,
        "control_plane_connected",
        help,
        read(&process.connected),
    )?;
    let help = "Streams opened to the control plane";
    counter(
        encoder,
        "control_plane_connects",
        help,
        read(&process.connects),
    )?;
    let help = "Lines of the access log that were lost, because it was not written quickly enough";
    counter(encoder, "access_log_drops", help, read(&process.log_drops))
}

fn store(encoder: &mut DescriptorEncoder<'_>, stats: Stats) -> fmt::Result {
    if let Some(entries) = stats.entries {
        level(
            encoder,
            "store_entries",
            "Entries in the memory store, expired ones included for a moment",
            entries,
        )?;
    }
    if let Some((bytes, limit)) = stats.bytes {
        let help = "Bytes that entries take in the memory store";
        level(encoder, "store_bytes", help, bytes)?;
        let help = "Bytes that entries may take in the memory store";
        level(encoder, "store_limit_bytes", help, limit)?;
    }
    for (name, help, value) in [
        (
            "store_expired",
            "Entries that were removed because they had expired",
            stats.expired,
        ),
        (
            "store_full",
            "Operations refused, for the store was full",
            stats.full,
        ),
        (
            "store_unavailable",
            "Operations that failed, for the store did not answer",
            stats.unavailable,
        ),
        (
            "store_unreadable",
            "Entries that no sealing key opened",
            stats.unreadable,
        ),
    ] {
        counter(encoder, name, help, value)?;
    }
    Ok(())
}

pub(super) fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn level(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstGauge::new(gauge(value));
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}
