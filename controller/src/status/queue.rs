//! What is to be written when: once per object however often it changed, not too fast, and again where it failed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use compile::ObjectRef;
use tokio::time::Instant;

use crate::backoff::Backoff;

/// Writes under way at once.
const IN_FLIGHT: usize = 16;
/// Writes that may be made at once after a quiet time.
const BURST: u32 = 50;
/// A failed write is tried again after at most this.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// See the module. Time comes from the caller.
#[derive(Debug)]
pub(super) struct Queue {
    order: BTreeSet<(Instant, ObjectRef)>,
    due: HashMap<ObjectRef, Instant>,
    in_flight: HashSet<ObjectRef>,
    failures: HashMap<ObjectRef, Backoff>,
    /// Earliest time of the next write; lies back by as much as may come at once.
    next_token: Instant,
    interval: Duration,
}

impl Queue {
    /// Lets `per_second` writes through.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            order: BTreeSet::new(),
            due: HashMap::new(),
            in_flight: HashSet::new(),
            failures: HashMap::new(),
            next_token: now.checked_sub(interval * BURST).unwrap_or(now),
            interval,
        }
    }

    /// Wants an object written at `at`, or earlier if that was wanted already.
    pub(super) fn push(&mut self, object: ObjectRef, at: Instant) {
        if let Some(before) = self.due.get(&object).copied() {
            if before <= at {
                return;
            }
            self.order.remove(&(before, object.clone()));
        }
        self.order.insert((at, object.clone()));
        self.due.insert(object, at);
    }

    /// No longer wants it written.
    pub(super) fn forget(&mut self, object: &ObjectRef) {
        if let Some(at) = self.due.remove(object) {
            self.order.remove(&(at, object.clone()));
        }
        self.failures.remove(object);
    }

    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.due.clear();
        self.failures.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// The next to write; an object that is being written waits for its end.
    pub(super) fn pop(&mut self, now: Instant) -> Option<ObjectRef> {
        if self.in_flight.len() >= IN_FLIGHT || self.next_token > now {
            return None;
        }
        let next = self
            .order
            .iter()
            .take_while(|(at, _)| *at <= now)
            .find(|(_, object)| !self.in_flight.contains(object));
        let (at, object) = next?.clone();
        self.order.remove(&(at, object.clone()));
        self.due.remove(&object);
        self.in_flight.insert(object.clone());
        let earliest = now.checked_sub(self.interval * BURST).unwrap_or(now);
        self.next_token = self.next_token.max(earliest) + self.interval;
        Some(object)
    }

    /// Ends a write.
    pub(super) fn done(&mut self, object: &ObjectRef, succeeded: bool, now: Instant) {
        self.in_flight.remove(object);
        if succeeded {
            self.failures.remove(object);
        } else {
            let backoff = self
                .failures
                .entry(object.clone())
                .or_insert(Backoff::up_to(LONGEST_RETRY));
            let at = now + backoff.next();
            self.push(object.clone(), at);
        }
    }

    /// When [`Queue::pop`] is worth another try, if only time is missing.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        if self.in_flight.len() >= IN_FLIGHT {
            return None;
        }
        let mut waiting = self
            .order
            .iter()
            .filter(|(_, object)| !self.in_flight.contains(object));
        waiting.next().map(|(at, _)| (*at).max(self.next_token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compile::Kind;

    fn object(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Consumer, "shop", name)
    }

    #[test]
    fn an_object_is_written_once_at_the_earliest_time_that_was_wanted() {
        let now = Instant::now();
        let mut queue = Queue::new(100, now);
        queue.push(object("a"), now + Duration::from_secs(2));
        queue.push(object("a"), now + Duration::from_secs(1));
        queue.push(object("a"), now + Duration::from_secs(3));
        assert_eq!(
            (queue.len(), queue.wake_at()),
            (1, Some(now + Duration::from_secs(1)))
        );
        assert_eq!(queue.pop(now), None);
        assert_eq!(queue.pop(now + Duration::from_secs(1)), Some(object("a")));
        assert_eq!(queue.pop(now + Duration::from_secs(9)), None);
    }

    #[test]
    fn a_change_during_a_write_is_written_after_it() {
        let now = Instant::now();
        let mut queue = Queue::new(100, now);
        queue.push(object("a"), now);
        assert_eq!(queue.pop(now), Some(object("a")));
        queue.push(object("a"), now);
        assert_eq!((queue.pop(now), queue.wake_at()), (None, None));
        queue.done(&object("a"), true, now);
        assert_eq!(queue.pop(now), Some(object("a")));
    }

    #[test]
    fn failures_come_again_later_and_later() {
        let mut now = Instant::now();
        let mut queue = Queue::new(100, now);
        queue.push(object("a"), now);
        let mut waits = Vec::new();
        for _ in 0..4 {
            now = queue.wake_at().unwrap();
            assert_eq!(queue.pop(now), Some(object("a")));
            queue.done(&object("a"), false, now);
            waits.push(queue.wake_at().unwrap() - now);
        }
        assert!(waits[0] < waits[2] && waits[1] < waits[3], "{waits:?}");
        queue.forget(&object("a"));
        assert_eq!((queue.len(), queue.wake_at()), (0, None));
    }

    #[test]
    fn writes_are_bounded_by_number_and_rate() {
        let start = Instant::now();
        let mut queue = Queue::new(10, start);
        for n in 0..200 {
            queue.push(object(&n.to_string()), start);
        }
        let mut first = Vec::new();
        while let Some(next) = queue.pop(start) {
            first.push(next);
        }
        assert_eq!(first.len(), IN_FLIGHT);
        let mut now = start;
        let mut written = 0;
        while now < start + Duration::from_secs(5) {
            for object in first.drain(..) {
                queue.done(&object, true, now);
            }
            while let Some(next) = queue.pop(now) {
                first.push(next);
                written += 1;
            }
            now += Duration::from_millis(10);
        }
        assert!(
            (80..=100).contains(&written),
            "{written} more in 5 s, at 10 a second with a burst of 50"
        );
    }
}
