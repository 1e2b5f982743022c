//! Who waits for a response, and until when. A timer for each would be set and cleared with every request; instead the
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
    /// Begins to wait; zero: for ever.
    pub(super) fn begin(&self, patience: Duration, cx: &Context<'_>) -> Waiting<'_> {
        let mut places = self.0.borrow_mut();
        let entry = Some((due(patience), cx.waker().clone()));
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

    /// Wakes those whose time is over.
    pub(crate) fn sweep(&self) {
        let now = clock::millis();
        for (_, waker) in self
            .0
            .borrow()
            .taken
            .iter()
            .flatten()
            .filter(|(due, _)| *due <= now)
        {
            waker.wake_by_ref();
        }
    }
}

fn due(patience: Duration) -> u64 {
    if patience.is_zero() {
        return u64::MAX;
    }
    let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    clock::millis().saturating_add(patience)
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Waiting<'w> {
    waits: &'w Waits,
    place: usize,
}

impl Waiting<'_> {
    /// Whether its time is over; notes whom to wake, where that has changed.
    pub(super) fn is_over(&self, cx: &Context<'_>) -> bool {
        let mut places = self.waits.0.borrow_mut();
        let Some((due, waker)) = places.taken.get_mut(self.place).and_then(Option::as_mut) else {
            return true;
        };
        waker.clone_from(cx.waker());
        *due <= clock::millis()
    }

    /// Begins anew.
    pub(super) fn again(&self, patience: Duration) {
        if let Some((until, _)) = self
            .waits
            .0
            .borrow_mut()
            .taken
            .get_mut(self.place)
            .and_then(Option::as_mut)
        {
            *until = due(patience);
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
        let hour = Duration::from_secs(3600);
        let first = waits.begin(hour, &cx);
        drop(waits.begin(hour, &cx));
        let third = waits.begin(Duration::from_nanos(1), &cx);
        assert_eq!((first.place, third.place), (0, 1));
        assert!(third.is_over(&cx) && !first.is_over(&cx));
        third.again(Duration::ZERO);
        assert!(!third.is_over(&cx), "for ever");
    }
}
