//! What an UpstreamPolicy asks for, and the endpoints that it is asked of.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use snapshot::proto;
use tokio::sync::Notify;

use super::balance::Manner;
use super::check::Active;
use super::families::{Place, renewed, same};
use super::hash::HashOn;
use super::health::Health;
use super::limits::Limits;
use super::patience::Patience;
use super::ring::{Bound, Ring};
use crate::clock;
use crate::metrics::UpstreamSeries;
use crate::respond::Failure;
use crate::runtime::{Endpoint, EndpointSet, Upstream};

/// Of one upstream. Upstreams without a policy have none of it.
#[derive(Debug)]
pub(crate) struct Policy {
    passive: Option<Passive>,
    pub(super) active: Option<Active>,
    max_unhealthy_percent: usize,
    pub(super) limits: Limits,
    /// What is hashed, where rules do not say otherwise.
    hash: Option<HashOn>,
    /// How much an endpoint of the ring may have; none: there is no ring.
    ring: Option<Option<Bound>>,
    patience: Patience,
    /// Milliseconds; 0: none.
    slow_start: u64,
    /// Those that Kubernetes or the DNS names, healthy or not. Locked only while which of them are used changes.
    members: Mutex<Vec<Arc<Endpoint>>>,
    /// One was left out: somebody must see when it may come back.
    changed: Notify,
    /// One came or went: somebody may have to check it.
    pub(super) moved: Notify,
    pub(super) series: Arc<UpstreamSeries>,
}

/// When an endpoint is left out because of how it serves requests.
#[derive(Debug)]
struct Passive {
    consecutive_failures: u32,
    statuses: Box<[StatusCode]>,
    /// Milliseconds for which it is left out, at first and at most.
    lengths: (u64, u64),
}

impl Policy {
    /// Reads what the control plane says.
    pub(crate) fn read(from: &proto::UpstreamPolicy, series: Arc<UpstreamSeries>) -> Self {
        let passive = from.passive_health.as_ref().map(|passive| Passive {
            consecutive_failures: passive.consecutive_failures.max(1),
            statuses: statuses(&passive.statuses),
            lengths: (
                passive.ejection_ms.max(1).into(),
                passive.max_ejection_ms.max(1).into(),
            ),
        });
        let hash = from.consistent_hash.as_ref();
        Self {
            passive,
            active: from.active_health.as_ref().and_then(Active::read),
            limits: Limits::read(from),
            hash: hash.and_then(|hash| HashOn::read(hash.key.as_ref()?)),
            ring: hash.map(|hash| {
                (hash.max_load_percent > 0).then(|| Bound {
                    percent: hash.max_load_percent.into(),
                    series: Arc::clone(&series),
                })
            }),
            patience: from
                .patience
                .as_ref()
                .map(Patience::read)
                .unwrap_or_default(),
            max_unhealthy_percent: from.max_unhealthy_percent as usize,
            slow_start: from.slow_start_ms.into(),
            members: Mutex::default(),
            changed: Notify::new(),
            moved: Notify::new(),
            series,
        }
    }

    /// Whether an endpoint may be left out for a time, so that somebody has to take it back in.
    pub(crate) const fn ejects(&self) -> bool {
        self.passive.is_some()
    }

    /// Whether somebody has to ask endpoints how they are.
    pub(crate) const fn checks(&self) -> bool {
        self.active.is_some()
    }

    /// All endpoints there are.
    pub(super) fn members(&self) -> Vec<Arc<Endpoint>> {
        self.members.lock().clone()
    }

    /// Checks find an endpoint otherwise than before; None: it is well.
    pub(super) fn turn_health(
        &self,
        upstream: &Upstream,
        endpoint: &Arc<Endpoint>,
        problem: Option<String>,
    ) {
        let members = self.members.lock();
        if !members.iter().any(|member| Arc::ptr_eq(member, endpoint)) {
            return;
        }
        endpoint
            .health
            .turn(problem.is_none(), clock::shared_millis());
        self.choose(upstream, &members);
        drop(members);
        let (name, address) = (&upstream.name, endpoint.address);
        match problem {
            None => tracing::info!(upstream = %name, endpoint = %address, "well again"),
            Some(why) => {
                tracing::warn!(upstream = %name, endpoint = %address, %why, "left out: checks fail");
            }
        }
    }

    /// Which of the members are used now.
    fn choose(&self, upstream: &Upstream, members: &[Arc<Endpoint>]) {
        let healthy: Vec<_> = members
            .iter()
            .filter(|endpoint| endpoint.health.is_good())
            .cloned()
            .collect();
        let unhealthy = members.len() - healthy.len();
        self.series.endpoints(healthy.len(), unhealthy);
        // With so many out it is more likely that the fault is elsewhere.
        let usable = if unhealthy * 100 > self.max_unhealthy_percent * members.len() {
            members.to_vec()
        } else {
            healthy
        };
        let ring = self.ring.clone().map(|bound| Ring::new(&usable, bound));
        let manner = Manner::of(&usable, self.slow_start, ring);
        let set = EndpointSet::new(usable).with(manner);
        upstream.endpoints.store(Arc::new(set));
    }

    fn eject(&self, upstream: &Upstream, endpoint: &Arc<Endpoint>, passive: &Passive) {
        let members = self.members.lock();
        let is_member = members.iter().any(|member| Arc::ptr_eq(member, endpoint));
        if !is_member || !endpoint.health.is_good() {
            return;
        }
        let length = endpoint
            .health
            .eject(clock::shared_millis(), passive.lengths);
        self.series.ejected();
        self.choose(upstream, &members);
        drop(members);
        tracing::warn!(
            upstream = %upstream.name,
            endpoint = %endpoint.address,
            seconds = length / 1000,
            "left out: requests fail"
        );
        self.changed.notify_one();
    }

    /// Takes back in whose time is over; when that is for the next one.
    fn recover(&self, upstream: &Upstream) -> Option<Duration> {
        let members = self.members.lock();
        let now = clock::shared_millis();
        let back = members
            .iter()
            .filter(|endpoint| endpoint.health.recover(now));
        let back: Vec<_> = back.map(|endpoint| endpoint.address).collect();
        if !back.is_empty() {
            self.choose(upstream, &members);
            tracing::info!(upstream = %upstream.name, endpoints = ?back, "in use again");
        }
        let next = members
            .iter()
            .filter_map(|endpoint| endpoint.health.ejected_until())
            .min()?;
        Some(Duration::from_millis(next.saturating_sub(now)))
    }

    fn set_places(&self, upstream: &Upstream, places: &[Place]) {
        let mut members = self.members.lock();
        if !members.is_empty() && same(&members, places) {
            return;
        }
        // Those that are there from the beginning have nobody to leave their share to.
        let since = if members.is_empty() {
            0
        } else {
            clock::shared_millis()
        };
        let new = |place| Endpoint {
            health: Health::new(since),
            ..Endpoint::at(place)
        };
        *members = renewed(&members, places, new);
        self.choose(upstream, &members);
        self.moved.notify_one();
    }
}

impl Upstream {
    /// An endpoint has answered.
    pub(super) fn answered(&self, endpoint: &Arc<Endpoint>, status: StatusCode) {
        if let Some(policy) = &self.policy
            && let Some(passive) = &policy.passive
        {
            if passive.statuses.contains(&status) {
                policy.count_failure(self, endpoint, passive);
            } else {
                endpoint.health.succeeded();
            }
        }
    }

    /// What is hashed, where rules do not say otherwise.
    pub(crate) fn hash(&self) -> Option<&HashOn> {
        self.policy.as_ref()?.hash.as_ref()
    }

    /// How long is waited for it, where rules do not say otherwise.
    pub(super) fn patience(&self) -> Patience {
        let said = self.policy.as_ref().map(|policy| policy.patience);
        said.unwrap_or_default()
    }

    /// An endpoint has taken a connection, and more cannot be told of it.
    pub(super) fn connected(&self, endpoint: &Endpoint) {
        if self.policy.is_some() {
            endpoint.health.succeeded();
        }
    }

    /// A request to an endpoint came to nothing.
    pub(super) fn failed(&self, endpoint: &Arc<Endpoint>, failure: &Failure) {
        if let Some(policy) = &self.policy
            && let Some(passive) = &policy.passive
            && failure.is_upstreams()
        {
            policy.count_failure(self, endpoint, passive);
        }
    }

    /// Swaps the endpoints, where they differ; what stays keeps its counters.
    pub(crate) fn set_places(&self, places: &[Place]) {
        if let Some(policy) = &self.policy {
            return policy.set_places(self, places);
        }
        let old = self.endpoints.load();
        if !same(&old.usable, places) {
            let usable = renewed(&old.usable, places, Endpoint::at);
            self.endpoints.store(Arc::new(EndpointSet::new(usable)));
        }
    }
}

impl Policy {
    fn count_failure(&self, upstream: &Upstream, endpoint: &Arc<Endpoint>, passive: &Passive) {
        if endpoint.health.failed() >= passive.consecutive_failures {
            self.eject(upstream, endpoint, passive);
        }
    }
}

/// Takes endpoints back in when their time is over.
pub(crate) async fn recover(upstream: Arc<Upstream>) {
    let Some(policy) = &upstream.policy else {
        return;
    };
    loop {
        let changed = policy.changed.notified();
        match policy.recover(&upstream) {
            None => changed.await,
            Some(wait) => {
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }
}

pub(super) fn statuses(from: &[u32]) -> Box<[StatusCode]> {
    let read = |status: &u32| StatusCode::from_u16(u16::try_from(*status).ok()?).ok();
    from.iter().filter_map(read).collect()
}
