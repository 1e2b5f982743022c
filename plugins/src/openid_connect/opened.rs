//! Sessions whose cookies have been opened lately: a browser brings the same ones with every request. Each worker thread
//! remembers its own for a minute at most, so that none waits for another.
//!
//! What is remembered is what these very cookies hold under these very secrets; whether that is still good is judged on every
//! request.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{self, SHA256};

use super::session::Session;
use super::upstream::Told;

/// What the sessions that a worker remembers may take, in bytes.
const ROOM: usize = 8 << 20;
/// For how many seconds they are remembered.
const SECONDS: i64 = 60;
/// What an opened session takes, as a multiple of its cookies: it is neither compressed nor without its headers.
const GROWTH: usize = 4;

/// A session, and what the upstream is told of it.
#[derive(Clone, Default)]
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) told: OnceCell<Told>,
}

/// Whose cookies these are: one number for each plugin, configuration and set of secrets that this process has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version(u64);

impl Version {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What cookies are remembered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark([u8; 32]);

impl Mark {
    pub(super) fn of(version: Version, cookies: &str) -> Self {
        let mut context = digest::Context::new(&SHA256);
        context.update(&version.0.to_be_bytes());
        context.update(cookies.as_bytes());
        let digest = context.finish();
        Self(digest.as_ref().try_into().unwrap_or_default())
    }
}

#[derive(Default)]
struct Memory {
    /// Seconds since 1970 at which the first was remembered.
    since: i64,
    bytes: usize,
    sessions: HashMap<Mark, Rc<Opened>>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// A session that was opened lately.
pub(super) fn find(mark: Mark, now: i64) -> Option<Rc<Opened>> {
    MEMORY.with_borrow_mut(|memory| {
        memory.forget_if_old(now);
        memory.sessions.get(&mark).map(Rc::clone)
    })
}

/// Remembers a session that was opened now; its cookies have `length` bytes.
pub(super) fn note(mark: Mark, length: usize, opened: &Rc<Opened>, now: i64) {
    MEMORY.with_borrow_mut(|memory| {
        let bytes = length * GROWTH;
        if memory.bytes + bytes > ROOM {
            memory.forget();
        }
        if memory.sessions.is_empty() {
            memory.since = now;
        }
        memory.bytes += bytes;
        memory.sessions.insert(mark, Rc::clone(opened));
    });
}

impl Memory {
    fn forget_if_old(&mut self, now: i64) {
        if !self.sessions.is_empty() && !(self.since..self.since + SECONDS).contains(&now) {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.sessions.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(id: &str) -> Rc<Opened> {
        let session = Session {
            id: id.to_owned(),
            ..Session::default()
        };
        Rc::new(Opened {
            session,
            ..Opened::default()
        })
    }

    fn known(mark: Mark, now: i64) -> Option<String> {
        find(mark, now).map(|opened| opened.session.id.clone())
    }

    #[test]
    fn a_session_is_remembered_for_its_cookies_and_secrets_and_a_minute() {
        let (ours, theirs) = (Version::new(), Version::new());
        let mark = Mark::of(ours, "cookie");
        note(mark, 6, &opened("a"), 100);
        assert_eq!(known(mark, 100 + SECONDS - 1).as_deref(), Some("a"));
        assert_eq!(known(Mark::of(theirs, "cookie"), 100), None);
        assert_eq!(known(Mark::of(ours, "other"), 100), None);
        assert_eq!(known(mark, 100 + SECONDS), None);
        // A clock that was set back is no reason to remember for longer.
        note(mark, 6, &opened("a"), 100);
        assert_eq!(known(mark, 99), None);
    }

    #[test]
    fn memory_is_bounded() {
        let version = Version::new();
        let length = 4000;
        let most = ROOM / (length * GROWTH);
        for number in 0..=most {
            let mark = Mark::of(version, &number.to_string());
            note(mark, length, &opened("x"), 1);
            assert_eq!(known(mark, 1).as_deref(), Some("x"));
            MEMORY.with_borrow(|memory| assert!(memory.sessions.len() <= most));
        }
        assert_eq!(known(Mark::of(version, "0"), 1), None);
    }
}
