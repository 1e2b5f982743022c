//! Who waits for a response, and since when. A timer for each would be set and cleared with every request; instead the
//! worker looks at all of them a few times a second.

use std::cell::RefCell;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::clock;

/// All that wait on one worker.
#[derive(Debug, Default)]
pub(crate) struct Waits(RefCell<Places>);

#[derive(Debug, Default)]
struct Places {
    taken: Vec<Option<(u64, Waker)>>,
    free: Vec<usize>,
}

impl Waits {
    /// Begins to wait.
    pub(super) fn begin(&self, cx: &Context<'_>) -> Waiting<'_> {
        let mut places = self.0.borrow_mut();
        let entry = Some((clock::millis(), cx.waker().clone()));
        let place = match places.free.pop() {
            Some(place) => {
                if let Some(free) = places.taken.get_mut(place) {
                    *free = entry;
                }
                place
            }
            None => {
                places.taken.push(entry);
                places.taken.len() - 1
            }
        };
        Waiting { waits: self, place }
    }

    /// Wakes those that have waited for longer than this.
    pub(crate) fn sweep(&self, patience: Duration) {
        let now = clock::millis();
        for (_, waker) in self
            .0
            .borrow()
            .taken
            .iter()
            .flatten()
            .filter(|(since, _)| is_over(*since, now, patience))
        {
            waker.wake_by_ref();
        }
    }
}

fn is_over(since: u64, now: u64, patience: Duration) -> bool {
    u128::from(now.saturating_sub(since)) >= patience.as_millis()
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Waiting<'w> {
    waits: &'w Waits,
    place: usize,
}

impl Waiting<'_> {
    /// Whether it has been so long; notes whom to wake, where that has changed.
    pub(super) fn is_over(&self, patience: Duration, cx: &Context<'_>) -> bool {
        let mut places = self.waits.0.borrow_mut();
        let Some((since, waker)) = places.taken.get_mut(self.place).and_then(Option::as_mut) else {
            return true;
        };
        waker.clone_from(cx.waker());
        is_over(*since, clock::millis(), patience)
    }

    /// Begins anew.
    pub(super) fn again(&self) {
        if let Some((since, _)) = self
            .waits
            .0
            .borrow_mut()
            .taken
            .get_mut(self.place)
            .and_then(Option::as_mut)
        {
            *since = clock::millis();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut places = self.waits.0.borrow_mut();
        if let Some(place) = places.taken.get_mut(self.place) {
            *place = None;
        }
        places.free.push(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again() {
        let waits = Waits::default();
        let cx = Context::from_waker(Waker::noop());
        let first = waits.begin(&cx);
        drop(waits.begin(&cx));
        let third = waits.begin(&cx);
        assert_eq!((first.place, third.place), (0, 1));
        assert!(!third.is_over(Duration::from_secs(1), &cx));
        assert!(third.is_over(Duration::ZERO, &cx));
    }
}
