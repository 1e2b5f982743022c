//! Values that are fetched ahead of time, and kept through an outage of whoever has them.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use aws_lc_rs::rand;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How many things are remembered that were not brought.
const MAX_MISSED: usize = 64;

/// When a value is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// How long a value is good where its answer does not say; it is fetched again some time before.
    pub lifetime: Duration,
    /// An answer cannot make it shorter than this.
    pub shortest: Duration,
    /// An answer cannot make it longer than this.
    pub longest: Duration,
    /// At least this long between two fetches that somebody demanded, however many demand them.
    pub between_demands: Duration,
    /// How long to wait after a first failure; each further one doubles it.
    pub retry: Duration,
    /// How long to wait after a failure at most.
    pub longest_retry: Duration,
    /// How long nothing is fetched for what the last fetch did not bring, see [`Refreshed::newer_for`].
    pub missed: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(300),
            shortest: Duration::from_secs(30),
            longest: Duration::from_secs(3600),
            between_demands: Duration::from_secs(5),
            retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(30),
            missed: Duration::from_secs(30),
        }
    }
}

/// What a fetch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fresh<T> {
    /// A value, and how long its answer says that it is good.
    Value(T, Option<Duration>),
    /// What is there already is still right.
    Same(Option<Duration>),
}

/// A value that is fetched in the background: at once, again before it expires, and after failures again with growing
/// pauses. The last good value stays however long the outage is. Dropping it ends the fetching.
pub struct Refreshed<T> {
    shared: Arc<Shared<T>>,
    task: AbortHandle,
}

struct Shared<T> {
    value: ArcSwapOption<T>,
    progress: watch::Sender<Progress>,
    demanded: Notify,
    schedule: Schedule,
    missed: Mutex<VecDeque<Missed>>,
    hasher: RandomState,
}

/// What a fetch was demanded for, and did not bring.
struct Missed {
    what: u64,
    until: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    /// A fetch is under way, or about to be.
    running: bool,
    /// How many fetches have ended.
    ended: u64,
    last_demand: Option<Instant>,
    failure: Option<&'static str>,
}

impl<T> fmt::Debug for Refreshed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refreshed")
    }
}

impl<T> Drop for Refreshed<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T: Send + Sync + 'static> Refreshed<T> {
    /// `what` is for the log, "key set https://idp.test/keys". `fetch` gets the value that is there; its error is a constant
    /// reason.
    pub(crate) fn start<F>(
        runtime: &Handle,
        what: String,
        schedule: Schedule,
        fetch: impl Fn(Option<Arc<T>>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Fresh<T>, &'static str>> + Send + 'static,
    {
        let progress = Progress {
            running: true,
            ended: 0,
            last_demand: None,
            failure: None,
        };
        let shared = Arc::new(Shared {
            value: ArcSwapOption::empty(),
            progress: watch::Sender::new(progress),
            demanded: Notify::new(),
            schedule,
            missed: Mutex::default(),
            hasher: RandomState::new(),
        });
        let task = runtime.spawn(follow(Arc::clone(&shared), what, schedule, fetch));
        Self {
            shared,
            task: task.abort_handle(),
        }
    }

    /// The last good value, without waiting.
    #[must_use]
    pub fn current(&self) -> Guard<Option<Arc<T>>> {
        self.shared.value.load()
    }

    /// Why the last fetch failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&'static str> {
        self.shared.progress.borrow().failure
    }

    /// The last good value; where there is none yet, waits for the fetch that is under way or that may be demanded.
    ///
    /// # Errors
    /// There is none, and the last fetch failed for this reason.
    pub async fn value(&self) -> Result<Arc<T>, &'static str> {
        if let Some(value) = self.shared.value.load_full() {
            return Ok(value);
        }
        match self.newer(None).await {
            Some(value) => Ok(value),
            None => Err(self.failure().unwrap_or("unavailable")),
        }
    }

    /// A value other than the one that was `seen` and does not do. It is fetched where nobody has demanded that for some
    /// time; whoever asks while it is being fetched waits for it too. None: there is nothing newer.
    pub async fn newer(&self, seen: Option<&Arc<T>>) -> Option<Arc<T>> {
        if let Some(value) = self.other(seen) {
            return Some(value);
        }
        let mut progress = self.shared.progress.subscribe();
        let awaited = self.demand()?;
        // It ends with an error when the data plane is being shut down.
        progress
            .wait_for(|progress| progress.ended >= awaited)
            .await
            .ok()?;
        self.other(seen)
    }

    /// Like [`Self::newer`], for something by which it is remembered that it was not brought: nothing is fetched for the same
    /// again too soon, so that one who asks for what is not there does not use up the demands of all.
    pub async fn newer_for(&self, seen: Option<&Arc<T>>, wanted: &str) -> Option<Arc<T>> {
        if let Some(value) = self.other(seen) {
            return Some(value);
        }
        let wanted = self.shared.hasher.hash_one(wanted);
        if self.shared.has_missed(wanted) {
            return None;
        }
        let ended = self.shared.progress.borrow().ended;
        let newer = self.newer(seen).await;
        let fetched = {
            let progress = self.shared.progress.borrow();
            progress.ended > ended && progress.failure.is_none()
        };
        if newer.is_none() && fetched {
            self.shared.miss(wanted);
        }
        newer
    }

    fn other(&self, seen: Option<&Arc<T>>) -> Option<Arc<T>> {
        let value = self.shared.value.load_full()?;
        let same = seen.is_some_and(|seen| Arc::ptr_eq(seen, &value));
        (!same).then_some(value)
    }

    /// Which fetch to wait for, if any.
    fn demand(&self) -> Option<u64> {
        let mut awaited = None;
        let now = Instant::now();
        self.shared.progress.send_if_modified(|progress| {
            if progress.running {
                awaited = Some(progress.ended + 1);
                return false;
            }
            let soon =
                |last| now.saturating_duration_since(last) < self.shared.schedule.between_demands;
            if progress.last_demand.is_some_and(soon) {
                return false;
            }
            progress.last_demand = Some(now);
            progress.running = true;
            awaited = Some(progress.ended + 1);
            self.shared.demanded.notify_one();
            true
        });
        awaited
    }
}

impl<T> Shared<T> {
    fn has_missed(&self, wanted: u64) -> bool {
        let now = Instant::now();
        let mut missed = self.missed.lock();
        while missed.front().is_some_and(|first| first.until <= now) {
            missed.pop_front();
        }
        missed.iter().any(|one| one.what == wanted)
    }

    fn miss(&self, wanted: u64) {
        let until = Instant::now() + self.schedule.missed;
        let mut missed = self.missed.lock();
        if missed.iter().any(|one| one.what == wanted) {
            return;
        }
        if missed.len() >= MAX_MISSED {
            missed.pop_front();
        }
        missed.push_back(Missed {
            what: wanted,
            until,
        });
    }
}

async fn follow<T, F>(
    shared: Arc<Shared<T>>,
    what: String,
    schedule: Schedule,
    fetch: impl Fn(Option<Arc<T>>) -> F,
) where
    F: Future<Output = Result<Fresh<T>, &'static str>>,
{
    let mut failures: u32 = 0;
    loop {
        let fetched = fetch(shared.value.load_full()).await;
        let (wait, failure) = match fetched {
            Ok(fresh) => {
                if failures > 0 {
                    tracing::info!(%what, "fetched again");
                }
                failures = 0;
                let lifetime = match fresh {
                    Fresh::Value(value, lifetime) => {
                        shared.value.store(Some(Arc::new(value)));
                        lifetime
                    }
                    Fresh::Same(lifetime) => lifetime,
                };
                (schedule.next(lifetime), None)
            }
            Err(reason) => {
                if failures == 0 {
                    tracing::warn!(%what, reason, "cannot be fetched; what was known stays, trying again");
                }
                failures = failures.saturating_add(1);
                (schedule.pause(failures), Some(reason))
            }
        };
        shared.progress.send_modify(|progress| {
            progress.running = false;
            progress.ended += 1;
            progress.failure = failure;
        });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.demanded.notified() => {}
        }
        shared
            .progress
            .send_modify(|progress| progress.running = true);
    }
}

impl Schedule {
    /// How long until a value is fetched again: between 75 and 90 of a hundred parts of its life, so that many proxies do
    /// not ask at once.
    fn next(&self, lifetime: Option<Duration>) -> Duration {
        let lifetime = lifetime
            .unwrap_or(self.lifetime)
            .clamp(self.shortest.min(self.longest), self.longest);
        lifetime.mul_f64(0.15f64.mul_add(random(), 0.75))
    }

    /// How long until the next try after so many failures, with half of it left to chance.
    fn pause(&self, failures: u32) -> Duration {
        let doubled = failures.saturating_sub(1).min(16);
        let longest = self
            .retry
            .saturating_mul(1 << doubled)
            .min(self.longest_retry);
        longest.mul_f64(0.5f64.mul_add(random(), 0.5))
    }
}

/// From 0 to 1. Without randomness everybody asks at once, which is no worse than that.
fn random() -> f64 {
    let mut bytes = [0; 4];
    let _ = rand::fill(&mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}
