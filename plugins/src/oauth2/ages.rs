//! Says to all threads of this process that an access token has been taken back.

use std::sync::atomic::{AtomicU32, Ordering};

use store::Key;

use super::secrets::Digest;

/// How many tokens share the number that says when they have to be looked up again.
const SHARED: usize = 1 << 10;

/// Says when what was read before may not count any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Age(u32);

static AGES: [AtomicU32; SHARED] = [const { AtomicU32::new(0) }; SHARED];

fn age_of(digest: &[u8; 32]) -> Option<&'static AtomicU32> {
    let [a, b, ..] = *digest;
    AGES.get(usize::from(u16::from_be_bytes([a, b])) % SHARED)
}

/// To be asked before the store is.
pub(super) fn age(key: &Key) -> Age {
    Age(age_of(key.as_bytes()).map_or(0, |age| age.load(Ordering::Acquire)))
}

/// Forgets an access token on all threads, after the store has taken it back.
pub(super) fn forget(digest: &Digest) {
    if let Some(age) = age_of(digest.as_bytes()) {
        age.fetch_add(1, Ordering::Release);
    }
}
