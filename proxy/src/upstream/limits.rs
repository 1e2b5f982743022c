//! How much an upstream may have at a time: requests, connections, and requests that wait for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use snapshot::proto;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pool::Home;
use crate::clock;
use crate::metrics::{Overflow, UpstreamSeries};
use crate::respond::Failure;
use crate::runtime::Upstream;

/// Of one upstream, over all workers.
#[derive(Debug, Default)]
pub(super) struct Limits {
    max_requests: Option<u32>,
    pub(super) connections: Option<Arc<Connections>>,
    budget: Option<Budget>,
    /// Whether requests under way are counted.
    counts: bool,
}

/// How many connections there may be, and who waits for one.
#[derive(Debug)]
pub(super) struct Connections {
    free: Arc<Semaphore>,
    max_pending: u32,
    pending: AtomicU32,
}

/// The right to a connection; it ends when the last who holds it lets go.
#[derive(Debug)]
pub(super) struct Permit {
    _free: OwnedSemaphorePermit,
    of: Arc<Connections>,
}

impl Permit {
    /// Whether somebody waits for a connection of the same upstream.
    pub(super) fn is_wanted(&self) -> bool {
        self.of.pending.load(Relaxed) > 0
    }
}

/// How many requests may be sent again.
#[derive(Debug)]
struct Budget {
    /// Of the requests under way.
    percent: u32,
    min_per_second: u32,
    /// Those that are being sent again.
    retrying: Arc<AtomicU32>,
    /// A second, and how many of the least number were used in it.
    used: AtomicU64,
}

/// A request under way, counted for as long as this lives.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<UpstreamSeries>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// A request that is being sent again, counted for as long as this lives.
#[derive(Debug)]
pub(super) struct Again(Arc<AtomicU32>);

impl Drop for Again {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// How a request gets a connection that is limited.
#[derive(Debug)]
pub(super) enum Turn {
    /// It may open one.
    Open(Arc<Permit>),
    /// One that was in use here is free.
    Freed,
}

impl Limits {
    pub(super) fn read(from: &proto::UpstreamPolicy) -> Self {
        let limits = from.limits.unwrap_or_default();
        let bounded = from
            .consistent_hash
            .as_ref()
            .is_some_and(|hash| hash.max_load_percent > 0);
        let at_all = |number: u32| (number > 0).then_some(number);
        Self {
            counts: limits.max_requests > 0 || from.retry_budget.is_some() || bounded,
            max_requests: at_all(limits.max_requests),
            connections: at_all(limits.max_connections).map(|most| {
                Arc::new(Connections {
                    free: Arc::new(Semaphore::new(most as usize)),
                    max_pending: limits.max_pending,
                    pending: AtomicU32::new(0),
                })
            }),
            budget: from.retry_budget.map(|budget| Budget {
                percent: budget.percent,
                min_per_second: budget.min_per_second,
                retrying: Arc::default(),
                used: AtomicU64::new(0),
            }),
        }
    }
}

impl Upstream {
    /// Counts a request, where somebody wants to know how many there are.
    pub(super) fn enter(&self) -> Result<Option<UnderWay>, Failure> {
        let Some(policy) = &self.policy else {
            return Ok(None);
        };
        let limits = &policy.limits;
        if !limits.counts {
            return Ok(None);
        }
        let before = policy.series.requests.fetch_add(1, Relaxed);
        let under_way = UnderWay(Arc::clone(&policy.series));
        if limits.max_requests.is_some_and(|most| before >= most) {
            return Err(policy.series.overflow(Overflow::Requests));
        }
        Ok(Some(under_way))
    }

    /// Whether there may be so many connections and no more.
    pub(super) fn limits_connections(&self) -> bool {
        let policy = self.policy.as_ref();
        policy.is_some_and(|policy| policy.limits.connections.is_some())
    }

    /// Whether a request may be sent again; counted while it is.
    pub(super) fn again(&self) -> Result<Option<Again>, Spent> {
        let Some(policy) = &self.policy else {
            return Ok(None);
        };
        let Some(budget) = &policy.limits.budget else {
            return Ok(None);
        };
        let active = policy.series.requests.load(Relaxed);
        match budget.take(active, clock::shared_millis() / 1000) {
            Some(again) => Ok(Some(again)),
            None => {
                policy.series.overflow(Overflow::RetryBudget);
                Err(Spent)
            }
        }
    }

    /// Waits for the right to a connection. None: as many as are wanted may be opened. With `home`, also for one of its
    /// connections that becomes free.
    pub(super) async fn turn(
        &self,
        home: Option<&Home>,
        patience: Duration,
    ) -> Result<Option<Turn>, Failure> {
        let Some((policy, connections)) = self
            .policy
            .as_ref()
            .and_then(|policy| Some((policy, policy.limits.connections.as_ref()?)))
        else {
            return Ok(None);
        };
        if let Ok(free) = Arc::clone(&connections.free).try_acquire_owned() {
            return Ok(Some(connections.open(free)));
        }
        let Some(_pending) = Pending::begin(connections) else {
            return Err(policy.series.overflow(Overflow::Pending));
        };
        let freed = async {
            match home {
                Some(home) => home.freed().await,
                None => std::future::pending().await,
            }
        };
        let free = Arc::clone(&connections.free).acquire_owned();
        tokio::select! {
            biased;
            () = freed => Ok(Some(Turn::Freed)),
            // It is never closed.
            Ok(free) = free => Ok(Some(connections.open(free))),
            () = tokio::time::sleep(patience) => Err(policy.series.overflow(Overflow::PendingTimeout)),
        }
    }
}

/// There have been as many retries as there may be.
#[derive(Debug)]
pub(super) struct Spent;

impl Connections {
    fn open(self: &Arc<Self>, free: OwnedSemaphorePermit) -> Turn {
        Turn::Open(Arc::new(Permit {
            _free: free,
            of: Arc::clone(self),
        }))
    }
}

/// One that waits.
struct Pending<'c>(&'c Connections);

impl<'c> Pending<'c> {
    /// None: as many wait as may.
    fn begin(connections: &'c Connections) -> Option<Self> {
        let before = connections.pending.fetch_add(1, Relaxed);
        let pending = Self(connections);
        (before < connections.max_pending).then_some(pending)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Relaxed);
    }
}

impl Budget {
    fn take(&self, active: u32, second: u64) -> Option<Again> {
        let before = self.retrying.fetch_add(1, Relaxed);
        let again = Again(Arc::clone(&self.retrying));
        let share = u64::from(active) * u64::from(self.percent) / 100;
        (u64::from(before) < share || self.take_of_least(second)).then_some(again)
    }

    /// One of those that there may be each second in any case.
    fn take_of_least(&self, second: u64) -> bool {
        let second = second & u64::from(u32::MAX);
        let step = |used: u64| {
            let count = if used >> 32 == second {
                used & u64::from(u32::MAX)
            } else {
                0
            };
            (count < u64::from(self.min_per_second)).then(|| (second << 32) | (count + 1))
        };
        self.used.fetch_update(Relaxed, Relaxed, step).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(percent: u32, min_per_second: u32) -> Budget {
        Budget {
            percent,
            min_per_second,
            retrying: Arc::default(),
            used: AtomicU64::new(0),
        }
    }

    #[test]
    fn a_share_of_the_requests_under_way_may_be_sent_again() {
        let budget = budget(20, 0);
        let held: Vec<_> = (0..5).map(|_| budget.take(15, 1)).collect();
        assert_eq!(held.iter().flatten().count(), 3);
        drop(held);
        assert!(budget.take(15, 1).is_some());
        assert!(budget.take(4, 1).is_none(), "a fifth of four is none");
    }

    #[test]
    fn some_may_each_second_in_any_case() {
        let budget = budget(0, 2);
        let granted = |second| (0..4).filter(|_| budget.take(0, second).is_some()).count();
        assert_eq!((granted(7), granted(7), granted(8)), (2, 0, 2));
    }
}
