//! How long to wait before the next try.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Doubles from a tenth of a second to ten seconds, each between one half and the whole of it, so that many proxies do not
/// come back at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.tries.min(10)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        // Each state has random keys.
        let random = RandomState::new().hash_one(self.tries) % 1024;
        let half = whole / 2;
        half + half.saturating_mul(u32::try_from(random).unwrap_or_default()) / 1024
    }

    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_in_bounds() {
        let mut backoff = Backoff::default();
        assert!((50..=100).contains(&backoff.next().as_millis()));
        let waits: Vec<_> = (0..40).map(|_| backoff.next()).collect();
        assert!(waits.iter().all(|wait| *wait <= LONGEST));
        assert!(waits.iter().skip(8).all(|wait| *wait >= LONGEST / 2));
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
