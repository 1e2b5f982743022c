//! The connections of a worker: what each one waits for, and since when.
//!
//! No connection has timers of its own. It notes when a wait begins, and the worker looks at all of them a few times a
//! second.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::Waker;
use std::time::Duration;

use hashbrown::HashMap;

use crate::clock;
use crate::limits::Timeouts;

/// What a connection waits for. Atomic only because hyper wants streams to be `Send`; one thread uses it.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Since when the rest of a request's head is awaited; 0: it is not.
    head: AtomicU64,
    /// Since when the client is to take bytes; 0: nothing waits.
    write: AtomicU64,
    /// Since when no request is under way; 0: one is.
    idle: AtomicU64,
    /// Since when the connection is to go, once its requests are done; 0: it may stay.
    leaving: AtomicU64,
    active: AtomicU32,
    /// Close it now.
    pub(super) kill: AtomicBool,
    /// Close it when the running requests are done.
    pub(super) retire: AtomicBool,
    /// What the client sends may belong to another protocol (see `framing`).
    pub(super) upgrading: AtomicBool,
    /// Bytes came while that was so.
    pub(super) unseen: AtomicBool,
}

impl State {
    pub(crate) fn new() -> Arc<Self> {
        let state = Self::default();
        state.head.store(clock::millis(), Relaxed);
        Arc::new(state)
    }

    /// A request begins.
    pub(crate) fn begin(&self) {
        self.active.store(self.active.load(Relaxed) + 1, Relaxed);
        self.idle.store(0, Relaxed);
    }

    /// A request is over.
    pub(crate) fn end(&self) {
        let left = self.active.load(Relaxed).saturating_sub(1);
        self.active.store(left, Relaxed);
        if left == 0 {
            self.idle.store(clock::millis(), Relaxed);
        }
    }

    /// The protocol was not changed. True: nobody has looked at bytes that came meanwhile, nothing may follow.
    pub(crate) fn stays_http(&self) -> bool {
        self.upgrading.load(Relaxed) && {
            self.upgrading.store(false, Relaxed);
            self.unseen.load(Relaxed)
        }
    }

    /// The rest of a head is awaited, or no longer.
    pub(super) fn await_head(&self, waits: bool) {
        if !waits {
            self.head.store(0, Relaxed);
        } else if self.head.load(Relaxed) == 0 {
            self.head.store(clock::millis(), Relaxed);
        }
    }

    /// A request may come, or not: nothing is under way.
    pub(super) fn await_request(&self) {
        self.await_head(false);
        self.idle.store(clock::millis(), Relaxed);
    }

    /// The client does not take more, or does again.
    pub(super) fn await_write(&self, waits: bool) {
        if !waits {
            if self.write.load(Relaxed) != 0 {
                self.write.store(0, Relaxed);
            }
        } else if self.write.load(Relaxed) == 0 {
            self.write.store(clock::millis(), Relaxed);
        }
    }

    /// Whether the connection has to be looked at by its task.
    fn is_late(&self, now: u64, timeouts: &Timeouts) -> bool {
        let over = |since: &AtomicU64, timeout: Duration| {
            let since = since.load(Relaxed);
            since != 0 && u128::from(now.saturating_sub(since)) > timeout.as_millis()
        };
        if over(&self.head, timeouts.header_timeout) || over(&self.write, timeouts.body_timeout) {
            self.kill.store(true, Relaxed);
            return true;
        }
        if self.active.load(Relaxed) == 0 && over(&self.idle, timeouts.idle_timeout) {
            self.retire(now);
        }
        // What is left of responses has been written, or the client does not take it.
        if self.active.load(Relaxed) == 0 && over(&self.leaving, timeouts.body_timeout) {
            self.kill.store(true, Relaxed);
        }
        self.retire.load(Relaxed) || self.kill.load(Relaxed)
    }

    fn retire(&self, now: u64) {
        if !self.retire.swap(true, Relaxed) {
            self.leaving.store(now, Relaxed);
        }
    }
}

/// The responses of an HTTP/2 connection that wait until the client takes more. The flow control of a stream can stop it
/// without stopping the connection.
#[derive(Debug, Default)]
pub(crate) struct Stalls(RefCell<HashMap<u32, u64>>);

impl Stalls {
    /// A piece of a response is on its way.
    pub(crate) fn begin(&self, stream: u32) {
        self.0.borrow_mut().insert(stream, clock::millis());
    }

    /// It was taken, or the response is over.
    pub(crate) fn end(&self, stream: u32) {
        self.0.borrow_mut().remove(&stream);
    }

    fn is_late(&self, now: u64, timeout: Duration) -> bool {
        self.0
            .borrow()
            .values()
            .any(|since| u128::from(now.saturating_sub(*since)) > timeout.as_millis())
    }
}

#[derive(Debug)]
struct Entry {
    state: Arc<State>,
    stalls: Rc<Stalls>,
    port: u16,
    waker: Option<Waker>,
}

/// All connections of a worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    entries: RefCell<HashMap<u64, Entry>>,
    next: Cell<u64>,
    draining: Cell<bool>,
    changed: tokio::sync::Notify,
}

impl Connections {
    pub(super) fn enter(&self, state: &Arc<State>, stalls: &Rc<Stalls>, port: u16) -> u64 {
        let id = self.next.get();
        self.next.set(id + 1);
        if self.draining.get() {
            state.retire(clock::millis());
        }
        let entry = Entry {
            state: Arc::clone(state),
            stalls: Rc::clone(stalls),
            port,
            waker: None,
        };
        self.entries.borrow_mut().insert(id, entry);
        id
    }

    /// Whom to wake when the connection has to be looked at.
    pub(super) fn set_waker(&self, id: u64, waker: &Waker) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(&id) {
            entry.waker = Some(waker.clone());
        }
    }

    pub(super) fn leave(&self, id: u64) {
        self.entries.borrow_mut().remove(&id);
        if self.draining.get() {
            self.changed.notify_one();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// A connection has gone; while draining only.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Looks for connections that wait for too long.
    pub(crate) fn sweep(&self, timeouts: &Timeouts) {
        let now = clock::millis();
        self.wake(|entry| {
            if entry.stalls.is_late(now, timeouts.body_timeout) {
                entry.state.kill.store(true, Relaxed);
            }
            entry.state.is_late(now, timeouts)
        });
    }

    /// Tells all connections to go.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        self.wake(|entry| {
            entry.state.retire(clock::millis());
            true
        });
    }

    /// Tells the connections of a port to go.
    pub(super) fn retire_port(&self, port: u16) {
        self.wake(|entry| {
            let ours = entry.port == port;
            if ours {
                entry.state.retire(clock::millis());
            }
            ours
        });
    }

    fn wake(&self, which: impl Fn(&Entry) -> bool) {
        for entry in self.entries.borrow().values() {
            if which(entry)
                && let Some(waker) = &entry.waker
            {
                waker.wake_by_ref();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_have_limits() {
        let timeouts = Timeouts::default();
        let late = |state: &State, seconds: u64| {
            state.is_late(clock::millis() + seconds * 1000, &timeouts)
        };
        let state = State::new();
        assert!(!late(&state, 9));
        assert!(late(&state, 11));
        assert!(state.kill.load(Relaxed));

        let state = State::new();
        state.await_request();
        assert!(!late(&state, 74));
        assert!(late(&state, 76));
        assert!(state.retire.load(Relaxed) && !state.kill.load(Relaxed));

        let state = State::new();
        state.await_request();
        state.begin();
        assert!(!late(&state, 1000));
        state.await_write(true);
        assert!(late(&state, 31));

        let state = State::new();
        state.await_request();
        state.await_write(true);
        state.await_write(false);
        state.begin();
        state.begin();
        state.end();
        assert!(!late(&state, 1000), "one request is still under way");
        state.end();
        assert!(late(&state, 1000));
    }

    #[test]
    fn a_connection_that_is_to_go_is_cut_off_in_the_end() {
        let timeouts = Timeouts::default();
        let state = State::new();
        state.await_request();
        state.begin();
        state.retire(clock::millis());
        let late = |seconds: u64| {
            state.is_late(clock::millis() + seconds * 1000, &timeouts);
            state.kill.load(Relaxed)
        };
        assert!(!late(1000), "a request is still under way");
        state.end();
        assert!(!late(29));
        assert!(late(31));
    }
}
