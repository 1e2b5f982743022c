//! Tokens that were accepted: each worker remembers some of its own, so that none waits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use aws_lc_rs::digest;

use super::Accepted;

/// How many tokens a worker remembers.
const PLACES: usize = 4096;

/// What a token is remembered by.
pub(super) type Mark = [u8; 32];

/// A token that was accepted.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) accepted: Rc<Accepted>,
    /// Seconds since 1970, excluded.
    pub(super) until: i64,
}

thread_local! {
    static MEMORY: RefCell<HashMap<Mark, Remembered>> = RefCell::new(HashMap::new());
}

pub(super) fn finish(context: digest::Context) -> Mark {
    let mut mark = Mark::default();
    for (to, from) in mark.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    mark
}

pub(super) fn find(mark: &Mark, now: i64) -> Option<Rc<Accepted>> {
    MEMORY.with_borrow(|memory| {
        let found = memory.get(mark).filter(|found| now < found.until)?;
        Some(Rc::clone(&found.accepted))
    })
}

pub(super) fn keep(mark: Mark, remembered: Remembered, now: i64) {
    if remembered.until <= now {
        return;
    }
    MEMORY.with_borrow_mut(|memory| {
        if memory.len() >= PLACES {
            memory.retain(|_, old| now < old.until);
        }
        // Whoever holds so many tokens at once only pays for verifying them again.
        if memory.len() >= PLACES {
            memory.clear();
        }
        memory.insert(mark, remembered);
    });
}
