//! What the control plane counts.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use compile::{Diagnostic, Kind, Level};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::lease::Leadership;
use crate::publish::Hub;
use crate::watch::Source;

type Labels<const N: usize> = [(&'static str, String); N];

/// All metrics of the control plane.
#[derive(Debug)]
pub(crate) struct Metrics {
    objects: Family<Labels<1>, Gauge>,
    /// Objects by source, because a kind may be watched in several namespaces.
    counts: Mutex<HashMap<Source, usize>>,
    refused: Family<Labels<2>, Gauge>,
    compile: Histogram,
    watch_errors: Family<Labels<1>, Counter>,
    status_writes: Family<Labels<1>, Counter>,
    events: Family<Labels<1>, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            objects: Family::default(),
            counts: Mutex::default(),
            refused: Family::default(),
            compile: Histogram::new(exponential_buckets(0.000_25, 2.0, 14)),
            watch_errors: Family::default(),
            status_writes: Family::default(),
            events: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn register(&self, registry: &mut Registry, hub: Hub, leadership: Leadership) {
        registry.register(
            "postern_objects",
            "Objects that are read, by kind",
            self.objects.clone(),
        );
        registry.register(
            "postern_refused_objects",
            "Objects refused, by kind and reason",
            self.refused.clone(),
        );
        registry.register(
            "postern_compile_duration_seconds",
            "How long compilations took",
            self.compile.clone(),
        );
        let help = "Watches that broke and objects that could not be read, by kind";
        registry.register("postern_watch_errors", help, self.watch_errors.clone());
        registry.register(
            "postern_status_writes",
            "Writes of status, by result",
            self.status_writes.clone(),
        );
        registry.register(
            "postern_events",
            "Kubernetes Events, by result",
            self.events.clone(),
        );
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("postern_build", "Version of the program", build);
        registry.register_collector(Box::new(Live { hub, leadership }));
    }

    pub(crate) fn objects(&self, source: &Source, count: usize) {
        let mut counts = self.counts.lock();
        counts.insert(source.clone(), count);
        let all: usize = counts
            .iter()
            .filter(|(of, _)| of.kind == source.kind)
            .map(|(_, count)| count)
            .sum();
        let gauge = self
            .objects
            .get_or_create(&[("kind", source.kind.to_string())]);
        gauge.set(i64::try_from(all).unwrap_or(i64::MAX));
    }

    /// Takes all findings in force.
    pub(crate) fn refused(&self, diagnostics: &[Diagnostic]) {
        let mut counts: BTreeMap<(Kind, &'static str), i64> = BTreeMap::new();
        let mut last = None;
        for finding in diagnostics
            .iter()
            .filter(|finding| finding.level == Level::Error)
        {
            // Several findings of one reason are one refused object; they are sorted by object.
            let this = (&finding.object, finding.reason);
            if last != Some(this) {
                *counts
                    .entry((finding.object.kind, finding.reason))
                    .or_default() += 1;
            }
            last = Some(this);
        }
        self.refused.clear();
        for ((kind, reason), count) in counts {
            self.refused
                .get_or_create(&[("kind", kind.to_string()), ("reason", reason.to_owned())])
                .set(count);
        }
    }

    pub(crate) fn compiled(&self, took: Duration) {
        self.compile.observe(took.as_secs_f64());
    }

    pub(crate) fn watch_error(&self, kind: Kind) {
        self.watch_errors
            .get_or_create(&[("kind", kind.to_string())])
            .inc();
    }

    pub(crate) fn status_write(&self, result: &'static str) {
        self.status_writes
            .get_or_create(&[("result", result.to_owned())])
            .inc();
    }

    pub(crate) fn event(&self, result: &'static str) {
        self.events
            .get_or_create(&[("result", result.to_owned())])
            .inc();
    }
}

/// Read when somebody asks.
#[derive(Debug)]
struct Live {
    hub: Hub,
    leadership: Leadership,
}

impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let proxies = self.hub.proxies();
        let version = self.hub.version();
        let current =
            |proxy: &&crate::publish::Proxy| proxy.version.is_some() && proxy.version == version;
        let gauges = [
            (
                "postern_connected_proxies",
                "Proxies that are connected",
                count(proxies.len()),
            ),
            (
                "postern_current_proxies",
                "Connected proxies that have acknowledged the snapshot in force",
                count(proxies.iter().filter(current).count()),
            ),
            (
                "postern_refused_resources",
                "Resources that connected proxies refused",
                count(proxies.iter().map(|proxy| proxy.refusals.len()).sum()),
            ),
            (
                "postern_snapshot_resources",
                "Resources in the snapshot in force",
                count(self.hub.resources()),
            ),
            (
                "postern_leader",
                "1 on the replica that writes status",
                i64::from(self.leadership.held()),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        if let Some(published) = self.hub.published() {
            let age = ConstGauge::new(published.elapsed().as_secs_f64());
            let help = "Time since the snapshot changed";
            age.encode(encoder.encode_descriptor(
                "postern_snapshot_age_seconds",
                help,
                None,
                age.metric_type(),
            )?)?;
        }
        let changes = ConstCounter::new(self.hub.changes().borrow().published);
        let help = "Snapshots published";
        changes.encode(encoder.encode_descriptor(
            "postern_snapshots",
            help,
            None,
            changes.metric_type(),
        )?)?;
        if let Some(version) = version {
            let info = Info::new([("version", version.to_string())]);
            let help = "Version of the snapshot in force";
            info.encode(encoder.encode_descriptor(
                "postern_snapshot",
                help,
                None,
                info.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use compile::ObjectRef;

    fn text(metrics: &Metrics, hub: &Hub) -> String {
        let mut registry = Registry::default();
        metrics.register(&mut registry, hub.clone(), Leadership::always());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn refused_objects_are_counted_once_per_reason() {
        let metrics = Metrics::default();
        let finding = |name: &str, reason, level| Diagnostic {
            object: ObjectRef::new(Kind::AuthPlugin, "shop", name),
            level,
            reason,
            field: String::new(),
            message: String::new(),
        };
        metrics.refused(&[
            finding("a", "InvalidField", Level::Error),
            finding("a", "InvalidField", Level::Error),
            finding("b", "InvalidField", Level::Error),
            finding("c", "Conflicted", Level::Error),
            finding("d", "Insecure", Level::Warning),
        ]);
        let shown = text(&metrics, &Hub::default());
        assert!(
            shown.contains(r#"postern_refused_objects{kind="AuthPlugin",reason="InvalidField"} 2"#),
            "{shown}"
        );
        assert!(
            shown.contains(r#"reason="Conflicted"} 1"#) && !shown.contains("Insecure"),
            "{shown}"
        );
        metrics.refused(&[]);
        assert!(!text(&metrics, &Hub::default()).contains("postern_refused_objects{"));
    }

    #[test]
    fn a_kind_in_several_namespaces_is_summed() {
        let metrics = Metrics::default();
        let source = |namespace: &str| Source {
            kind: Kind::Secret,
            namespace: Some(namespace.into()),
        };
        metrics.objects(&source("a"), 3);
        metrics.objects(&source("b"), 4);
        metrics.objects(&source("a"), 1);
        let hub = Hub::default();
        hub.publish(&snapshot::Diff::default());
        let shown = text(&metrics, &hub);
        assert!(
            shown.contains(r#"postern_objects{kind="Secret"} 5"#),
            "{shown}"
        );
        assert!(
            shown.contains("postern_leader 1") && shown.contains("postern_snapshots_total 1"),
            "{shown}"
        );
    }
}
