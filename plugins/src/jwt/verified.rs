//! Tokens whose signatures have been verified: each worker thread remembers some of its own, so that none waits.
//!
//! Only signatures of public-key algorithms are worth it: an HMAC costs no more than the digest that a token is
//! remembered by. What is remembered is that this very token fits this very key; claims are judged on every request.

use std::cell::RefCell;

use aws_lc_rs::digest::{self, SHA256};

/// How many tokens are compared with a new one, and may be displaced by it.
const WAYS: usize = 4;
/// How many tokens a worker remembers: 4 MB at most, taken as they come.
const SETS: usize = 1 << 14;

/// What a token, judged by a key, is remembered by.
type Mark = [u8; 32];

/// A fixed number of places; a new token takes that of the one which expires first among the few at its place.
struct Memory {
    sets: Vec<[Option<Entry>; WAYS]>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    mark: Mark,
    /// Seconds since 1970, excluded; none: as long as there is room.
    expires_at: Option<i64>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = const { RefCell::new(Memory { sets: Vec::new() }) };
}

/// Whether the signature of a token is good: remembered, or found out now by `verify`. `key_version` changes whenever the
/// key does. `expires_at` is the token's `exp`: it is never remembered beyond that.
pub(super) fn remember(
    (key_version, token): (u64, &[u8]),
    (now, expires_at): (i64, Option<f64>),
    verify: impl FnOnce() -> bool,
) -> bool {
    let mark = mark(key_version, token);
    if MEMORY.with_borrow(|memory| memory.knows(&mark, now)) {
        return true;
    }
    let good = verify();
    if good {
        MEMORY.with_borrow_mut(|memory| memory.note(mark, whole(expires_at), now));
    }
    good
}

fn mark(key_version: u64, token: &[u8]) -> Mark {
    let mut context = digest::Context::new(&SHA256);
    context.update(&key_version.to_be_bytes());
    context.update(token);
    let mut mark = Mark::default();
    for (to, from) in mark.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    mark
}

/// The second in which it expires.
#[expect(
    clippy::cast_possible_truncation,
    reason = "casts to whole numbers stop at the ends of their range"
)]
fn whole(expires_at: Option<f64>) -> Option<i64> {
    expires_at.map(|at| at.floor() as i64)
}

impl Memory {
    fn knows(&self, mark: &Mark, now: i64) -> bool {
        let Some(set) = self.sets.get(place(mark)) else {
            return false;
        };
        set.iter()
            .flatten()
            .any(|entry| entry.mark == *mark && !entry.is_over(now))
    }

    fn note(&mut self, mark: Mark, expires_at: Option<i64>, now: i64) {
        let entry = Entry { mark, expires_at };
        if entry.is_over(now) {
            return;
        }
        if self.sets.is_empty() {
            self.sets.resize(SETS, [None; WAYS]);
        }
        let Some(set) = self.sets.get_mut(place(&mark)) else {
            return;
        };
        let free = set
            .iter_mut()
            .find(|place| place.is_none_or(|old| old.mark == mark || old.is_over(now)));
        match free {
            Some(place) => *place = Some(entry),
            None => {
                let first = set
                    .iter_mut()
                    .min_by_key(|place| place.and_then(|old| old.expires_at).unwrap_or(i64::MAX));
                if let Some(place) = first {
                    *place = Some(entry);
                }
            }
        }
    }
}

impl Entry {
    fn is_over(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|at| now >= at)
    }
}

fn place(mark: &Mark) -> usize {
    let [a, b, ..] = *mark;
    usize::from(u16::from_be_bytes([a, b])) % SETS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(version: u64, token: &str, now: i64, expires_at: Option<f64>) -> &'static str {
        let mut asked = false;
        let good = remember((version, token.as_bytes()), (now, expires_at), || {
            asked = true;
            true
        });
        assert!(good);
        if asked { "verified" } else { "remembered" }
    }

    #[test]
    fn remembers_a_token_and_its_key() {
        assert_eq!(ask(1, "a", 10, None), "verified");
        assert_eq!(ask(1, "a", 10, None), "remembered");
        assert_eq!(ask(1, "b", 10, None), "verified");
        // The key changed.
        assert_eq!(ask(2, "a", 10, None), "verified");
    }

    #[test]
    fn forgets_what_has_expired() {
        assert_eq!(ask(1, "a", 10, Some(12.5)), "verified");
        assert_eq!(ask(1, "a", 11, Some(12.5)), "remembered");
        assert_eq!(ask(1, "a", 12, Some(12.5)), "verified");
        assert_eq!(ask(1, "a", 12, Some(12.5)), "verified");
        for never in [-1.0, f64::MIN, 9.0] {
            assert_eq!(ask(1, "b", 10, Some(never)), "verified");
            assert_eq!(ask(1, "b", 10, Some(never)), "verified");
        }
        assert_eq!(ask(1, "c", i64::MAX - 1, Some(f64::MAX)), "verified");
        assert_eq!(ask(1, "c", i64::MAX - 1, Some(f64::MAX)), "remembered");
    }

    #[test]
    fn bad_signatures_are_not_remembered() {
        for _ in 0..2 {
            assert!(!remember((1, b"bad"), (10, None), || false));
        }
        assert_eq!(ask(1, "bad", 10, None), "verified");
    }

    #[test]
    fn holds_so_many_and_no_more() {
        let mut memory = Memory { sets: Vec::new() };
        let mark = |number: u8| {
            [[7; 2].as_slice(), &[number; 30]]
                .concat()
                .try_into()
                .unwrap()
        };
        for number in 0..5 {
            memory.note(mark(number), Some(100 - i64::from(number)), 10);
        }
        let known = |memory: &Memory, now| {
            (0..5)
                .filter(|number| memory.knows(&mark(*number), now))
                .collect::<Vec<_>>()
        };
        // The one that would have expired first made room.
        assert_eq!(known(&memory, 10), [0, 1, 2, 4]);
        assert_eq!(known(&memory, 98), [0, 1]);
        assert_eq!(memory.sets.len() * WAYS, 65_536);
    }

    #[test]
    fn a_place_is_small() {
        assert!(size_of::<Option<Entry>>() * SETS * WAYS <= 4 << 20);
    }
}
