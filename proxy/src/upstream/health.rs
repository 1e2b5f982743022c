//! What is known of an endpoint's health, where a policy asks for it.
//!
//! Requests only count. Which endpoints are used is worked out when one of them is left out or comes back, so that a request
//! finds in the set those that it may have.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::http::request_id::Dice;

/// Of one endpoint. Times are milliseconds of [`crate::clock::shared_millis`].
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Requests that failed since the last one that did not.
    failures: AtomicU32,
    /// Whether it does not pass checks.
    unwell: AtomicBool,
    /// Until when it is left out; 0: it is not.
    ejected_until: AtomicU64,
    /// How long it was left out the last time; 0: it never was.
    ejection: AtomicU64,
    /// Since when it is used; 0: from the beginning.
    used_since: AtomicU64,
}

impl Health {
    /// Of an endpoint that has come to others.
    pub(super) fn new(used_since: u64) -> Self {
        Self {
            used_since: used_since.into(),
            ..Self::default()
        }
    }

    /// A request was served.
    pub(super) fn succeeded(&self) {
        // Mostly nothing changes, and a line of memory that nobody writes is shared by all workers.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// A request failed; how many have in a row.
    pub(super) fn failed(&self) -> u32 {
        self.failures.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// Whether it may get requests.
    pub(super) fn is_good(&self) -> bool {
        self.ejected_until.load(Relaxed) == 0 && self.is_well()
    }

    /// Whether it passes checks, as far as anybody asks.
    pub(super) fn is_well(&self) -> bool {
        !self.unwell.load(Relaxed)
    }

    /// Checks say otherwise than before.
    pub(super) fn turn(&self, well: bool, now: u64) {
        self.unwell.store(!well, Relaxed);
        if well {
            self.used_since.store(now, Relaxed);
        }
    }

    /// Leaves it out; for how long.
    pub(super) fn eject(&self, now: u64, (first, most): (u64, u64)) -> u64 {
        let last = self.ejection.load(Relaxed);
        let used = now.saturating_sub(self.used_since.load(Relaxed));
        let length = if last == 0 || used >= last {
            first
        } else {
            last.saturating_mul(2)
        };
        let length = length.min(most);
        self.ejection.store(length, Relaxed);
        self.ejected_until
            .store(now.saturating_add(length), Relaxed);
        length
    }

    /// When it may come back, where it is left out for a time.
    pub(super) fn ejected_until(&self) -> Option<u64> {
        Some(self.ejected_until.load(Relaxed)).filter(|until| *until != 0)
    }

    /// Takes it back in, if its time is over.
    pub(super) fn recover(&self, now: u64) -> bool {
        let over = self.ejected_until().is_some_and(|until| until <= now);
        if over {
            self.failures.store(0, Relaxed);
            self.ejected_until.store(0, Relaxed);
            self.used_since.store(now, Relaxed);
        }
        over
    }

    /// When it will have its full share.
    pub(super) fn warm_at(&self, slow_start: u64) -> u64 {
        match self.used_since.load(Relaxed) {
            0 => 0,
            since => since.saturating_add(slow_start),
        }
    }

    /// Whether it is to have the request that is its turn: always when it is warm, before that by chance.
    pub(super) fn admits(&self, now: u64, slow_start: u64, dice: &Dice) -> bool {
        let warm_at = self.warm_at(slow_start);
        if warm_at <= now {
            return true;
        }
        let age = slow_start.saturating_sub(warm_at - now);
        let bound = usize::try_from(slow_start).unwrap_or(usize::MAX);
        (dice.below(bound) as u64) < age.max(slow_start / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: (u64, u64) = (30, 100);

    #[test]
    fn ejections_in_a_row_grow_and_good_conduct_ends_the_row() {
        let health = Health::default();
        assert_eq!(health.eject(1_000, LENGTHS), 30);
        assert!(!health.is_good());
        assert!(!health.recover(1_029) && health.recover(1_030) && health.is_good());
        assert_eq!(health.eject(1_040, LENGTHS), 60);
        assert!(health.recover(1_100));
        assert_eq!(health.eject(1_150, LENGTHS), 100);
        assert!(health.recover(1_250));
        // It has been in use for as long as it was left out.
        assert_eq!(health.eject(1_350, LENGTHS), 30);
    }

    #[test]
    fn a_success_begins_the_count_anew() {
        let health = Health::default();
        assert_eq!((health.failed(), health.failed()), (1, 2));
        health.succeeded();
        assert_eq!(health.failed(), 1);
    }

    #[test]
    fn a_share_grows_evenly_from_a_tenth() {
        let dice = Dice::new();
        let health = Health::new(1_000);
        for (now, expected) in [
            (1_001, 1_000),
            (1_100, 1_000),
            (1_500, 5_000),
            (1_900, 9_000),
        ] {
            let admitted = (0..10_000)
                .filter(|_| health.admits(now, 1_000, &dice))
                .count();
            assert!(admitted.abs_diff(expected) < 400, "{now}: {admitted}");
        }
        assert!((0..100).all(|_| health.admits(2_000, 1_000, &dice)));
        assert!((0..100).all(|_| Health::default().admits(1, 1_000, &dice)));
    }
}
