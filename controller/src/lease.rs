//! Which replica writes: the holder of a Lease.
//!
//! Clocks of nodes are never compared. A lease that somebody else holds counts as expired when it has not changed for its
//! duration, measured by this replica's own steady clock; one's own leadership ends by the same clock a while before
//! others may think so.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Others may take a lease over that has not been renewed for so long.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long stops writing.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often a lease is renewed, or looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// One request may not take longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether this replica holds the lease. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Leadership {
    until: watch::Receiver<Option<Instant>>,
}

impl Leadership {
    /// Whether this replica may write now.
    #[must_use]
    pub(crate) fn held(&self) -> bool {
        self.until
            .borrow()
            .is_some_and(|until| Instant::now() < until)
    }

    /// Waits until this replica holds the lease.
    pub(crate) async fn gained(&mut self) {
        while self
            .until
            .wait_for(|until| until.is_some_and(|until| Instant::now() < until))
            .await
            .is_err()
        {
            // Whoever kept the lease is gone: this replica will not hold it again.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until this replica no longer holds the lease.
    pub(crate) async fn lost(&mut self) {
        loop {
            let Some(until) = *self.until.borrow_and_update() else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep_until(until) => {
                    if !self.held() {
                        return;
                    }
                }
                changed = self.until.changed() => if changed.is_err() {
                    tokio::time::sleep_until(until).await;
                    return;
                },
            }
        }
    }

    /// Always held.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn always() -> Self {
        let (sender, until) = watch::channel(Some(
            Instant::now() + Duration::from_secs(10 * 365 * 86_400),
        ));
        drop(sender);
        Self { until }
    }
}

/// What this replica knows of the lease; no I/O.
#[derive(Debug)]
struct Machine {
    identity: String,
    /// The record as last seen, and when it was first seen so.
    seen: Option<(Record, Instant)>,
}

/// What of a Lease matters: any change of it is a sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Record {
    holder: String,
    renewed: Option<Timestamp>,
    transitions: i32,
    acquired: Option<Timestamp>,
    duration: Duration,
}

/// What to do about the lease.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Write it anew: it is ours.
    Renew,
    /// Write it: it is free.
    Acquire,
    /// Somebody else holds it.
    Wait,
}

impl Machine {
    const fn new(identity: String) -> Self {
        Self {
            identity,
            seen: None,
        }
    }

    /// Looks at the lease as the API server has it.
    fn observe(&mut self, record: Record, now: Instant) -> Step {
        let since = match &self.seen {
            Some((seen, since)) if *seen == record => *since,
            _ => {
                self.seen = Some((record.clone(), now));
                now
            }
        };
        if record.holder == self.identity {
            Step::Renew
        } else if record.holder.is_empty() || now.duration_since(since) >= record.duration {
            Step::Acquire
        } else {
            Step::Wait
        }
    }

    /// The record to write.
    fn record(&self, old: &Record, step: &Step, now: Timestamp) -> Record {
        let renewing = *step == Step::Renew;
        Record {
            holder: self.identity.clone(),
            renewed: Some(now),
            transitions: if renewing {
                old.transitions
            } else {
                old.transitions.saturating_add(1)
            },
            acquired: if renewing { old.acquired } else { Some(now) },
            duration: DURATION,
        }
    }
}

impl Record {
    fn read(spec: Option<&LeaseSpec>) -> Self {
        let Some(spec) = spec else {
            return Self::default();
        };
        let seconds = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            holder: spec.holder_identity.clone().unwrap_or_default(),
            renewed: spec.renew_time.as_ref().map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or_default(),
            acquired: spec.acquire_time.as_ref().map(|time| time.0),
            duration: seconds.map_or(DURATION, Duration::from_secs),
        }
    }

    fn write(&self) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            renew_time: self.renewed.map(MicroTime),
            lease_transitions: Some(self.transitions),
            acquire_time: self.acquired.map(MicroTime),
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
            ..LeaseSpec::default()
        }
    }
}

/// Strives for a lease.
pub(crate) struct Elector {
    api: Api<Lease>,
    name: String,
    machine: Machine,
    until: watch::Sender<Option<Instant>>,
}

impl Elector {
    /// Will strive for the Lease `name` as `identity`.
    #[must_use]
    pub(crate) fn new(
        client: kube::Client,
        namespace: &str,
        name: String,
        identity: String,
    ) -> (Self, Leadership) {
        let (until, receiver) = watch::channel(None);
        let api = Api::namespaced(client, namespace);
        (
            Self {
                api,
                name,
                machine: Machine::new(identity),
                until,
            },
            Leadership { until: receiver },
        )
    }

    /// Strives until `shutdown`, then lets go, so that another replica follows at once.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut complained = false;
        loop {
            let began = Instant::now();
            let tried = tokio::time::timeout(REQUEST_TIMEOUT, self.attempt()).await;
            let held = match tried {
                Ok(Ok(held)) => {
                    complained = false;
                    held
                }
                failed => {
                    if !std::mem::replace(&mut complained, true) {
                        let error = failed.ok().and_then(Result::err);
                        let error = error.map_or_else(
                            || "no answer within 5 s".into(),
                            |error| error.to_string(),
                        );
                        tracing::warn!(
                            lease = self.name,
                            error,
                            "cannot renew or look at the lease; trying again"
                        );
                    }
                    // What was held stays held until its deadline; a change of hands is noticed when answers come again.
                    self.still_held(began)
                }
            };
            self.announce(held, began);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
        let _ = self.until.send_replace(None);
        if tokio::time::timeout(REQUEST_TIMEOUT, self.release())
            .await
            .is_err()
        {
            tracing::warn!(
                lease = self.name,
                "could not release the lease: it expires by itself"
            );
        }
    }

    fn still_held(&self, now: Instant) -> Option<Instant> {
        self.until.borrow().filter(|until| now < *until)
    }

    fn announce(&self, until: Option<Instant>, now: Instant) {
        let before = self.still_held(now).is_some();
        self.until.send_replace(until);
        match (before, until.is_some()) {
            (false, true) => tracing::info!(
                lease = self.name,
                "this replica holds the lease: it writes status"
            ),
            (true, false) => {
                tracing::info!(lease = self.name, "this replica no longer holds the lease")
            }
            _ => {}
        }
    }

    /// Looks, and writes where that is due. Some: held until then.
    async fn attempt(&mut self) -> Result<Option<Instant>, kube::Error> {
        let began = Instant::now();
        let found = self.api.get_opt(&self.name).await?;
        let old = Record::read(found.as_ref().and_then(|lease| lease.spec.as_ref()));
        let step = self.machine.observe(old.clone(), Instant::now());
        if step == Step::Wait {
            return Ok(None);
        }
        let record = self.machine.record(&old, &step, Timestamp::now());
        let written = match found {
            None => {
                self.api
                    .create(&PostParams::default(), &self.lease(&record, None))
                    .await
            }
            Some(found) => {
                let lease = self.lease(&record, found.metadata.resource_version);
                self.api
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await
            }
        };
        match written {
            Ok(_) => Ok(Some(began + RENEW_DEADLINE)),
            // Somebody else wrote in between; look again in the next round.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(if step == Step::Renew {
                self.still_held(began)
            } else {
                None
            }),
            Err(error) => Err(error),
        }
    }

    async fn release(&self) {
        let Ok(Some(found)) = self.api.get_opt(&self.name).await else {
            return;
        };
        let mut record = Record::read(found.spec.as_ref());
        if record.holder != self.machine.identity {
            return;
        }
        record.holder.clear();
        let lease = self.lease(&record, found.metadata.resource_version);
        match self
            .api
            .replace(&self.name, &PostParams::default(), &lease)
            .await
        {
            Ok(_) => tracing::info!(lease = self.name, "released the lease"),
            Err(error) => {
                tracing::warn!(lease = self.name, %error, "could not release the lease: it expires by itself")
            }
        }
    }

    fn lease(&self, record: &Record, resource_version: Option<String>) -> Lease {
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            resource_version,
            ..ObjectMeta::default()
        };
        Lease {
            metadata,
            spec: Some(record.write()),
        }
    }
}

/// Tells one replica from another, also from itself before a restart.
#[must_use]
pub(crate) fn identity(pod: &str) -> Arc<str> {
    format!("{pod}_{}", uuid::Uuid::new_v4()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn held_by(holder: &str, renewed: i64) -> Record {
        Record {
            holder: holder.into(),
            renewed: Some(at(renewed)),
            transitions: 3,
            acquired: Some(at(1)),
            duration: DURATION,
        }
    }

    #[test]
    fn another_ones_lease_is_taken_only_when_it_has_not_changed_for_its_duration() {
        let mut machine = Machine::new("me".into());
        let start = Instant::now();
        // How old the renewal looks by its own clock does not matter.
        assert_eq!(machine.observe(held_by("other", 0), start), Step::Wait);
        assert_eq!(
            machine.observe(
                held_by("other", 0),
                start + DURATION - Duration::from_millis(1)
            ),
            Step::Wait
        );
        assert_eq!(
            machine.observe(held_by("other", 5), start + DURATION),
            Step::Wait,
            "a sign of life"
        );
        assert_eq!(
            machine.observe(held_by("other", 5), start + DURATION * 2),
            Step::Acquire
        );
    }

    #[test]
    fn a_free_lease_is_taken_at_once_and_ones_own_is_renewed() {
        let mut machine = Machine::new("me".into());
        let now = Instant::now();
        assert_eq!(machine.observe(Record::default(), now), Step::Acquire);
        assert_eq!(machine.observe(held_by("", 5), now), Step::Acquire);
        assert_eq!(machine.observe(held_by("me", 5), now), Step::Renew);
    }

    #[test]
    fn taking_over_counts_and_renewing_does_not() {
        let machine = Machine::new("me".into());
        let old = held_by("other", 5);
        let taken = machine.record(&old, &Step::Acquire, at(9));
        assert_eq!(
            (taken.holder.as_str(), taken.transitions, taken.acquired),
            ("me", 4, Some(at(9)))
        );
        let renewed = machine.record(&taken, &Step::Renew, at(11));
        assert_eq!(
            (renewed.transitions, renewed.acquired, renewed.renewed),
            (4, Some(at(9)), Some(at(11)))
        );
        assert_eq!(Record::read(Some(&renewed.write())), renewed);
    }

    #[tokio::test(start_paused = true)]
    async fn leadership_ends_by_itself_when_nobody_renews_it() {
        let (sender, until) = watch::channel(None);
        let mut leadership = Leadership { until };
        assert!(!leadership.held());
        sender.send_replace(Some(Instant::now() + RENEW_DEADLINE));
        leadership.gained().await;
        assert!(leadership.held());
        let began = Instant::now();
        leadership.lost().await;
        assert_eq!(began.elapsed().as_secs(), RENEW_DEADLINE.as_secs());
        assert!(!leadership.held());
    }

    /// A holder must have stopped before anybody else may begin.
    const _: () =
        assert!(RENEW_DEADLINE.as_secs() + REQUEST_TIMEOUT.as_secs() <= DURATION.as_secs());
}
