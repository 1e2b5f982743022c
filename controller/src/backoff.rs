//! How long to wait before something is tried again.

use std::time::Duration;

/// Doubles from 200 ms up to a limit, with jitter so that replicas do not come all at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
    limit: Duration,
}

const FIRST: Duration = Duration::from_millis(200);

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(Duration::from_secs(10))
    }
}

impl Backoff {
    pub(crate) const fn up_to(limit: Duration) -> Self {
        Self { next: FIRST, limit }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.limit);
        // Half is fixed, half is chance. Without randomness (which does not happen) the whole time is waited.
        let mut byte = [u8::MAX];
        let _ = aws_lc_rs::rand::fill(&mut byte);
        full / 2 + full / 2 * u32::from(byte[0]) / 255
    }

    pub(crate) const fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_limit_and_starts_again() {
        let mut backoff = Backoff::up_to(Duration::from_secs(1));
        for full in [200, 400, 800, 1000, 1000] {
            let wait = backoff.next();
            let full = Duration::from_millis(full);
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
