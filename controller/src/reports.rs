//! What replicas tell each other about their proxies, so that the one that writes status counts all of them.
//!
//! Every replica serves some of the proxies. Those that do not hold the lease write what theirs acknowledged into a
//! ConfigMap each; versions name contents, so that the holder knows what they stand for. A single replica writes nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::lease::Leadership;
use crate::publish::Hub;

/// Marks the ConfigMaps.
const LABEL: &str = "postern.dev/component";
const COMPONENT: &str = "proxies";
const ENTRY: &str = "report";
/// A report is written at most this often.
const INTERVAL: Duration = Duration::from_millis(500);
/// It is written again after this, so that others see that its replica lives.
const BEAT: Duration = Duration::from_secs(10);
/// A report that was not written for so long counts no more: its proxies went elsewhere.
const EXPIRY: Duration = Duration::from_secs(30);
/// And after this it is deleted.
const REMNANT: Duration = Duration::from_secs(300);
/// Refusals that one proxy's line holds: more are not shown, and a ConfigMap has its bounds.
const REFUSALS: usize = 20;

/// A proxy of another replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Stands for the store that it may share with others.
    #[serde(default)]
    pub(crate) store: String,
    /// Acknowledged last.
    pub(crate) version: Option<String>,
    #[serde(default)]
    pub(crate) refusals: BTreeMap<String, String>,
}

/// One replica's word.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Report {
    /// Counts up.
    beat: u64,
    proxies: Vec<Line>,
}

impl Report {
    fn of(hub: &Hub, beat: u64) -> Self {
        let line = |proxy: crate::publish::Proxy| Line {
            name: proxy.name.to_string(),
            store: proxy.store.to_string(),
            version: proxy.version.map(|version| version.to_string()),
            refusals: proxy
                .refusals
                .iter()
                .take(REFUSALS)
                .map(|(key, reason)| (key.to_string(), reason.to_string()))
                .collect(),
        };
        Self {
            beat,
            proxies: hub.proxies().into_iter().map(line).collect(),
        }
    }

    fn read(config_map: &ConfigMap) -> Option<Self> {
        serde_json::from_str(config_map.data.as_ref()?.get(ENTRY)?).ok()
    }
}

/// Tells and listens until `shutdown`.
pub(crate) async fn run(
    client: kube::Client,
    namespace: String,
    pod: String,
    hub: Hub,
    leadership: Leadership,
    others: watch::Sender<Arc<[Line]>>,
    shutdown: CancellationToken,
) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let name = format!("postern-proxies-{pod}");
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tell(&api, &name, &hub, leadership) => {}
        () = listen(&api, &name, &others) => {}
    }
    withdraw(&api, &name).await;
}

/// Writes this replica's report while it does not hold the lease.
async fn tell(api: &Api<ConfigMap>, name: &str, hub: &Hub, mut leadership: Leadership) {
    let mut changes = hub.changes();
    let mut written: Option<Report> = None;
    let mut beat = 0;
    loop {
        if leadership.held() {
            if written.take().is_some() {
                withdraw(api, name).await;
            }
            leadership.lost().await;
        }
        let report = Report::of(hub, beat);
        let silent = report.proxies.is_empty()
            && written
                .as_ref()
                .is_none_or(|written| written.proxies.is_empty());
        if !silent && written.as_ref() != Some(&report) {
            match write(api, name, &report).await {
                Ok(()) => written = Some(report),
                Err(error) => {
                    tracing::warn!(%error, "cannot tell the other replicas of this one's proxies; trying again")
                }
            }
        }
        tokio::time::sleep(INTERVAL).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = leadership.gained() => {}
            () = tokio::time::sleep(BEAT) => beat += 1,
        }
    }
}

async fn write(api: &Api<ConfigMap>, name: &str, report: &Report) -> Result<(), kube::Error> {
    let text = serde_json::to_string(report).map_err(kube::Error::SerdeError)?;
    let config_map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([
                (LABEL.into(), COMPONENT.into()),
                ("app.kubernetes.io/managed-by".into(), "postern".into()),
            ])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(ENTRY.into(), text)])),
        ..ConfigMap::default()
    };
    let params = PatchParams::apply(crate::FIELD_MANAGER).force();
    api.patch(name, &params, &Patch::Apply(&config_map))
        .await
        .map(drop)
}

async fn withdraw(api: &Api<ConfigMap>, name: &str) {
    let deleted = tokio::time::timeout(
        Duration::from_secs(3),
        api.delete(name, &DeleteParams::default()),
    )
    .await;
    match deleted {
        Ok(Ok(_)) | Err(_) => {}
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "cannot withdraw the report of this replica's proxies")
        }
    }
}

/// Takes the reports of other replicas.
async fn listen(api: &Api<ConfigMap>, own: &str, others: &watch::Sender<Arc<[Line]>>) {
    let config = watcher::Config::default().labels(&format!("{LABEL}={COMPONENT}"));
    let events = watcher::watcher(api.clone(), config);
    pin_mut!(events);
    let mut heard = Heard::default();
    let mut backoff = Backoff::default();
    let mut tick = tokio::time::interval(EXPIRY / 6);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                for remnant in heard.remnants(Instant::now()) {
                    withdraw(api, &remnant).await;
                }
            }
            event = events.next() => match event {
                None => return,
                Some(Ok(event)) => {
                    backoff.reset();
                    heard.take(event, own, Instant::now());
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "the watch of other replicas' reports broke");
                    tokio::time::sleep(backoff.next()).await;
                }
            },
        }
        let lines = heard.lines(Instant::now());
        others.send_if_modified(|old| {
            let changed = **old != *lines;
            if changed {
                *old = lines.into();
            }
            changed
        });
    }
}

/// Reports as they came, with the time of this replica's own clock.
#[derive(Debug, Default)]
struct Heard {
    reports: HashMap<String, (Report, Instant)>,
}

impl Heard {
    fn take(&mut self, event: Event<ConfigMap>, own: &str, now: Instant) {
        match event {
            Event::Apply(config_map) | Event::InitApply(config_map) => {
                let name = config_map.metadata.name.clone().unwrap_or_default();
                let Some(report) = Report::read(&config_map).filter(|_| name != own) else {
                    return;
                };
                // A list that brings the same again is no sign of life.
                if self
                    .reports
                    .get(&name)
                    .is_none_or(|(before, _)| *before != report)
                {
                    self.reports.insert(name, (report, now));
                }
            }
            Event::Delete(config_map) => {
                self.reports
                    .remove(config_map.metadata.name.as_deref().unwrap_or_default());
            }
            // What a list lacks expires.
            Event::Init | Event::InitDone => {}
        }
    }

    /// All proxies of live replicas, by name; of two lines of one proxy, the newer.
    fn lines(&self, now: Instant) -> Vec<Line> {
        let live = self
            .reports
            .values()
            .filter(|(_, at)| now.duration_since(*at) < EXPIRY);
        let mut lines: BTreeMap<&str, (&Line, Instant)> = BTreeMap::new();
        for (report, at) in live {
            for line in &report.proxies {
                if lines
                    .get(line.name.as_str())
                    .is_none_or(|(_, before)| before < at)
                {
                    lines.insert(&line.name, (line, *at));
                }
            }
        }
        lines.into_values().map(|(line, _)| line.clone()).collect()
    }

    /// Reports that replicas left behind.
    fn remnants(&self, now: Instant) -> Vec<String> {
        let old = self
            .reports
            .iter()
            .filter(|(_, (_, at))| now.duration_since(*at) >= REMNANT);
        old.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, version: &str) -> Line {
        Line {
            name: name.into(),
            store: String::new(),
            version: Some(version.into()),
            refusals: BTreeMap::new(),
        }
    }

    fn written(replica: &str, beat: u64, proxies: &[Line]) -> Event<ConfigMap> {
        let report = Report {
            beat,
            proxies: proxies.to_vec(),
        };
        Event::Apply(ConfigMap {
            metadata: ObjectMeta {
                name: Some(replica.into()),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(
                ENTRY.into(),
                serde_json::to_string(&report).unwrap(),
            )])),
            ..ConfigMap::default()
        })
    }

    #[test]
    fn proxies_of_other_replicas_count_while_these_live() {
        let (mut heard, start) = (Heard::default(), Instant::now());
        heard.take(written("me", 0, &[line("p0", "1")]), "me", start);
        heard.take(
            written("a", 0, &[line("p1", "1"), line("p2", "1")]),
            "me",
            start,
        );
        heard.take(
            written("b", 0, &[line("p2", "2")]),
            "me",
            start + Duration::from_secs(1),
        );
        let now = start + Duration::from_secs(2);
        assert_eq!(
            heard.lines(now),
            [line("p1", "1"), line("p2", "2")],
            "p2 went over to b"
        );

        heard.take(
            written("b", 1, &[line("p2", "2")]),
            "me",
            start + Duration::from_secs(20),
        );
        heard.take(
            written("a", 0, &[line("p1", "1"), line("p2", "1")]),
            "me",
            start + Duration::from_secs(20),
        );
        assert_eq!(
            heard.lines(start + EXPIRY),
            [line("p2", "2")],
            "a was only listed again"
        );
        assert_eq!(heard.remnants(start + REMNANT), ["a"]);
    }

    #[test]
    fn what_is_no_report_is_nothing() {
        let mut heard = Heard::default();
        let Event::Apply(mut config_map) = written("a", 0, &[line("p", "1")]) else {
            unreachable!()
        };
        config_map.data = Some(BTreeMap::from([(ENTRY.into(), "nonsense".into())]));
        heard.take(Event::Apply(config_map), "me", Instant::now());
        assert!(heard.lines(Instant::now()).is_empty());
    }
}
