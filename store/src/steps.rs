//! Where a test decides in what order operations happen that are made at the same time.
//!
//! An operation at a store is atomic: what runs beside others differs by the order of their operations, and by nothing else. A
//! test that wants to see all orders polls its tasks itself, by [`stopping`]: each stops before each operation and says
//! which it is going to be. There is nothing of it without the feature `steps`, which only tests turn on.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

use crate::Key;

/// An operation that is going to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// None: it looks at all entries.
    key: Option<Key>,
    effect: Effect,
}

/// What an operation may do to its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Reads,
    Writes,
}

impl Step {
    /// Whether it makes a difference which of two comes first.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let same = match (&self.key, &other.key) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        same && (self.effect == Effect::Writes || other.effect == Effect::Writes)
    }
}

thread_local! {
    static STOPS: Cell<bool> = const { Cell::new(false) };
    static NEXT: Cell<Option<Step>> = const { Cell::new(None) };
}

/// Lets a task run on, on this thread, until it is about to make its next operation. That one it makes first when it is
/// polled again.
pub fn stopping<T>(run: impl FnOnce() -> T) -> (T, Option<Step>) {
    let before = STOPS.replace(true);
    let done = run();
    STOPS.set(before);
    (done, NEXT.take())
}

pub(crate) async fn stop(key: Option<&Key>, effect: Effect) {
    let mut stops = STOPS.get();
    poll_fn(|_| {
        if !std::mem::replace(&mut stops, false) {
            return Poll::Ready(());
        }
        let key = key.copied();
        NEXT.set(Some(Step { key, effect }));
        Poll::Pending
    })
    .await;
}
