//! The one task that decides what is written, and the writes themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use compile::{Kind, ObjectRef, ObjectStatus, StatusBody};
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::queue::Queue;
use super::render::{self, Rendered, Surroundings};
use super::{Addresses, Inbox, Seen};
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::publish::{self, Hub, Proxy};
use crate::reports::Line;

/// How long an object may wait for the proxies before it is written that it waits: mostly it is programmed by then, and
/// one write does for both.
const PATIENCE: Duration = Duration::from_millis(300);
/// Proxies come and go in a rollout: their numbers are written when it has been quiet for so long.
const QUIET: Duration = Duration::from_secs(2);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Writer {
    pub(crate) client: kube::Client,
    pub(crate) controller: String,
    pub(crate) hub: Hub,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) addresses: watch::Receiver<Addresses>,
    /// Proxies of other replicas.
    pub(crate) others: watch::Receiver<Arc<[Line]>>,
    pub(crate) leadership: Leadership,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) per_second: u32,
}

/// What should be in the statuses.
#[derive(Default)]
struct Desired {
    statuses: BTreeMap<ObjectRef, Arc<ObjectStatus>>,
    /// Those that wait for proxies.
    unsettled: BTreeSet<ObjectRef>,
}

struct Running {
    writer: Writer,
    desired: Desired,
    proxies: Vec<Proxy>,
    /// How many stores they have between them.
    stores: usize,
    /// How far proxies of other replicas were, for while they are at a version that never was in force here.
    remembered: BTreeMap<String, u64>,
    queue: Queue,
    writes: JoinSet<(ObjectRef, bool)>,
}

impl Writer {
    /// Writes until `shutdown`. Begins when `synced` is true.
    pub(crate) async fn run(self, mut synced: watch::Receiver<bool>, shutdown: CancellationToken) {
        if synced.wait_for(|synced| *synced).await.is_err() {
            return;
        }
        let queue = Queue::new(self.per_second, Instant::now());
        let running = Running {
            proxies: Vec::new(),
            stores: 0,
            remembered: BTreeMap::new(),
            writer: self,
            desired: Desired::default(),
            queue,
            writes: JoinSet::new(),
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = running.run() => {}
        }
    }
}

/// A status without what was ours in it, where it may hold what is others'.
const fn emptied(body: &StatusBody) -> Option<StatusBody> {
    match body {
        StatusBody::Route { .. } => Some(StatusBody::Route {
            parents: Vec::new(),
        }),
        StatusBody::Policy { .. } => Some(StatusBody::Policy {
            ancestors: Vec::new(),
        }),
        _ => None,
    }
}

/// What woke the task.
enum Wake {
    Statuses(BTreeMap<ObjectRef, Option<ObjectStatus>>),
    Seen(BTreeSet<ObjectRef>),
    Proxies,
    Others,
    Addresses,
    Everything,
    Written(ObjectRef, bool),
    Leader,
    Time,
}

impl Running {
    async fn run(mut self) {
        let mut changes = self.writer.hub.changes();
        let mut others = self.writer.others.clone();
        let mut addresses = self.writer.addresses.clone();
        self.count();
        let mut leadership = self.writer.leadership.clone();
        let mut leading = false;
        // When proxies came or went: everything is looked at again, once it is quiet.
        let mut recount: Option<Instant> = None;
        loop {
            let wake_at = if leading { self.queue.wake_at() } else { None };
            let leader = async {
                if leading {
                    leadership.lost().await
                } else {
                    leadership.gained().await
                }
            };
            let wake = tokio::select! {
                statuses = self.writer.inbox.take() => Wake::Statuses(statuses),
                seen = self.writer.seen.changed() => Wake::Seen(seen),
                Ok(()) = changes.changed() => Wake::Proxies,
                Ok(()) = others.changed() => Wake::Others,
                Ok(()) = addresses.changed() => Wake::Addresses,
                Some(Ok((object, written))) = self.writes.join_next() => Wake::Written(object, written),
                () = leader => Wake::Leader,
                () = sleep_until(recount) => Wake::Everything,
                () = sleep_until(wake_at) => Wake::Time,
            };
            match wake {
                Wake::Statuses(statuses) => self.take(statuses),
                Wake::Seen(objects) => objects
                    .iter()
                    .for_each(|object| self.look(object, Instant::now())),
                Wake::Proxies | Wake::Others => {
                    if self.count() {
                        recount = Some(Instant::now() + QUIET);
                    }
                }
                Wake::Addresses => self.look_at_all(),
                Wake::Everything => {
                    recount = None;
                    self.look_at_all();
                }
                Wake::Written(object, written) => {
                    self.queue.done(&object, written, Instant::now());
                    self.look(&object, Instant::now());
                }
                Wake::Leader => {
                    leading = !leading;
                    if leading {
                        self.look_at_all();
                    } else {
                        self.queue.clear();
                    }
                }
                Wake::Time => {}
            }
            if leading {
                self.write();
            }
        }
    }

    /// Looks at the proxies again; true where some came or went, or have other stores.
    fn count(&mut self) -> bool {
        let others = Arc::clone(&self.writer.others.borrow());
        let proxies = all_proxies(&self.writer.hub, &others, &mut self.remembered);
        let names = |proxies: &[Proxy]| -> BTreeSet<Arc<str>> {
            proxies
                .iter()
                .map(|proxy| Arc::clone(&proxy.name))
                .collect()
        };
        let refusals = |proxies: &[Proxy]| -> BTreeSet<(Arc<str>, Arc<str>, Arc<str>)> {
            let of = |proxy: &Proxy| -> Vec<_> {
                let refusals = proxy.refusals.iter();
                refusals
                    .map(|(key, why)| (Arc::clone(&proxy.name), Arc::clone(key), Arc::clone(why)))
                    .collect()
            };
            proxies.iter().flat_map(of).collect()
        };
        let stores = publish::stores(&proxies);
        let moved = names(&self.proxies) != names(&proxies) || self.stores != stores;
        let refused = refusals(&self.proxies) != refusals(&proxies);
        self.proxies = proxies;
        self.stores = stores;
        if refused {
            self.look_at_all();
        } else {
            self.look_at_unsettled();
        }
        moved
    }

    fn take(&mut self, statuses: BTreeMap<ObjectRef, Option<ObjectStatus>>) {
        for (object, status) in statuses {
            match status {
                Some(status) => {
                    self.desired
                        .statuses
                        .insert(object.clone(), Arc::new(status));
                    self.look(&object, Instant::now());
                }
                None => self.drop_status(&object),
            }
        }
    }

    /// What is no longer ours: routes lose our parents, other statuses stay as they are.
    fn drop_status(&mut self, object: &ObjectRef) {
        let old = self.desired.statuses.remove(object);
        self.desired.unsettled.remove(object);
        self.queue.forget(object);
        if let Some(old) = old
            && let Some(body) = emptied(&old.body)
            && self.writer.seen.holds(object).is_some()
        {
            let status = ObjectStatus {
                body,
                ..(*old).clone()
            };
            self.desired
                .statuses
                .insert(object.clone(), Arc::new(status));
            self.look(object, Instant::now());
        }
    }

    fn look_at_all(&mut self) {
        let (all, now): (Vec<ObjectRef>, _) = (
            self.desired.statuses.keys().cloned().collect(),
            Instant::now(),
        );
        all.iter().for_each(|object| self.look(object, now));
    }

    fn look_at_unsettled(&mut self) {
        let (some, now): (Vec<ObjectRef>, _) = (
            self.desired.unsettled.iter().cloned().collect(),
            Instant::now(),
        );
        some.iter().for_each(|object| self.look(object, now));
    }

    /// Compares what should be there with what is, and wants a write where they differ.
    fn look(&mut self, object: &ObjectRef, now: Instant) {
        let Some(Rendered { status, settled }) = self.rendered(object) else {
            return;
        };
        if settled {
            self.desired.unsettled.remove(object);
        } else {
            self.desired.unsettled.insert(object.clone());
        }
        let fingerprint = render::fingerprint(object.kind, Some(&status), &self.writer.controller);
        if self.writer.seen.holds(object) == Some(fingerprint) {
            self.queue.forget(object);
        } else {
            let patience = match (settled, self.proxies.is_empty()) {
                (true, _) => Duration::ZERO,
                (false, false) => PATIENCE,
                // They may only be on their way from another replica.
                (false, true) => QUIET,
            };
            self.queue.push(object.clone(), now + patience);
        }
    }

    fn rendered(&self, object: &ObjectRef) -> Option<Rendered> {
        let status = self.desired.statuses.get(object)?;
        let addresses = self.writer.addresses.borrow();
        let none = Vec::new();
        let progress = |keys: &[Arc<str>]| self.writer.hub.progress(keys, &self.proxies);
        let around = Surroundings {
            controller: &self.writer.controller,
            progress: &progress,
            stores: self.stores,
            addresses: match object.kind {
                Kind::Gateway => addresses.gateways.get(object).unwrap_or(&none),
                _ => &addresses.ingresses,
            },
        };
        Some(render::render(status, &around))
    }

    /// Begins the writes that are due.
    fn write(&mut self) {
        while let Some(object) = self.queue.pop(Instant::now()) {
            let (Some(Rendered { status, .. }), Some(desired)) =
                (self.rendered(&object), self.desired.statuses.get(&object))
            else {
                self.queue.done(&object, true, Instant::now());
                continue;
            };
            if !self.writer.leadership.held() {
                self.queue.done(&object, true, Instant::now());
                return;
            }
            let write = Write {
                client: self.writer.client.clone(),
                controller: self.writer.controller.clone(),
                seen: Arc::clone(&self.writer.seen),
                uid: Arc::clone(&desired.uid),
                object,
                status,
            };
            let metrics = Arc::clone(&self.writer.metrics);
            self.writes.spawn(async move {
                let result = match tokio::time::timeout(WRITE_TIMEOUT, write.run()).await {
                    Ok(result) => result.map_err(|error| error.to_string()),
                    Err(_) => Err("no answer within 10 s".to_owned()),
                };
                let written = match result {
                    Ok(outcome) => {
                        metrics.status_write(outcome);
                        true
                    }
                    Err(error) => {
                        metrics.status_write("failed");
                        tracing::warn!(object = %write.object, error, "cannot write status; trying again");
                        false
                    }
                };
                (write.object, written)
            });
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The proxies of all replicas whose number counts: one that has just come and acknowledged nothing yet takes nobody's
/// `Programmed` away.
fn all_proxies(hub: &Hub, others: &[Line], remembered: &mut BTreeMap<String, u64>) -> Vec<Proxy> {
    let mut all = hub.proxies();
    remembered.retain(|name, _| others.iter().any(|line| line.name == *name));
    for line in others {
        if all.iter().any(|proxy| *proxy.name == *line.name) {
            continue;
        }
        let known = line
            .version
            .as_deref()
            .and_then(|version| hub.sequence_of(version));
        if let Some(sequence) = known {
            remembered.insert(line.name.clone(), sequence);
        }
        let refusals = line
            .refusals
            .iter()
            .map(|(key, why)| (Arc::from(key.as_str()), Arc::from(why.as_str())));
        all.push(Proxy {
            name: line.name.as_str().into(),
            program: Arc::default(),
            store: line.store.as_str().into(),
            version: line.version.as_deref().map(Arc::from),
            acknowledged: remembered.get(&line.name).copied().unwrap_or_default(),
            refusals: Arc::new(refusals.collect()),
            connected: Instant::now(),
        });
    }
    let settled: Vec<Proxy> = all
        .iter()
        .filter(|proxy| proxy.acknowledged > 0)
        .cloned()
        .collect();
    if settled.is_empty() { all } else { settled }
}

struct Write {
    client: kube::Client,
    controller: String,
    seen: Arc<Seen>,
    uid: Arc<str>,
    object: ObjectRef,
    status: Value,
}

impl Write {
    /// Reads what is there, and writes where it differs. Says what it did.
    async fn run(&self) -> Result<&'static str, kube::Error> {
        let resource = crate::watch::resource(self.object.kind);
        let api: Api<DynamicObject> = if self.object.kind.namespaced() {
            Api::namespaced_with(self.client.clone(), &self.object.namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        };
        let Some(found) = api.get_opt(&self.object.name).await? else {
            return Ok("gone");
        };
        if found.metadata.uid.as_deref() != Some(&self.uid) {
            // Deleted and made again: the new one gets a status of its own.
            return Ok("gone");
        }
        let desired = render::fingerprint(self.object.kind, Some(&self.status), &self.controller);
        let present = found.data.get("status").unwrap_or(&Value::Null);
        if render::fingerprint(self.object.kind, Some(present), &self.controller) == desired {
            self.seen.set(&self.object, desired, false);
            return Ok("unchanged");
        }
        let status = render::merged(
            self.object.kind,
            &self.status,
            present,
            &self.controller,
            Timestamp::now(),
        );
        // The version keeps what another controller writes into the same lists in between.
        let patch = json!({
            "metadata": {"resourceVersion": found.metadata.resource_version},
            "status": status,
        });
        let params = PatchParams {
            field_manager: Some(crate::FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        match api
            .patch_status(&self.object.name, &params, &Patch::Merge(&patch))
            .await
        {
            Ok(_) => {
                self.seen.set(&self.object, desired, false);
                Ok("written")
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok("gone"),
            Err(error) => Err(error),
        }
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
            refusals: BTreeMap::from([("Plugin/a/b".into(), "why".into())]),
        }
    }

    #[test]
    fn proxies_of_other_replicas_count_by_the_content_that_they_have() {
        let (hub, mut remembered) = (Hub::default(), BTreeMap::new());
        hub.publish(&snapshot::Diff::default());
        let version = hub.version().unwrap();
        let all = all_proxies(
            &hub,
            &[line("p", &version), line("q", "unknown")],
            &mut remembered,
        );
        assert_eq!(all.len(), 1, "q is not known to have anything yet");
        assert_eq!((&*all[0].name, all[0].acknowledged), ("p", 1));
        assert_eq!(
            hub.progress(&[Arc::from("Plugin/a/b")], &all)
                .refusals
                .len(),
            1
        );

        let all = all_proxies(&hub, &[line("p", "between two of ours")], &mut remembered);
        assert_eq!(all[0].acknowledged, 1, "it keeps what it had");
        assert!(all_proxies(&hub, &[], &mut remembered).is_empty() && remembered.is_empty());
    }
}
