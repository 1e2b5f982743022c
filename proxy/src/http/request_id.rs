//! Names for requests: unique, not secret.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use http::HeaderValue;

/// Makes request ids, and other random numbers that nobody needs to be surprised by. One per worker.
#[derive(Debug)]
pub(crate) struct Dice {
    state: Cell<u64>,
    own: u64,
}

impl Dice {
    pub(crate) fn new() -> Self {
        // Two `RandomState`s of one thread differ, those of two threads as well.
        Self {
            state: Cell::new(RandomState::new().hash_one(0)),
            own: RandomState::new().hash_one(1),
        }
    }

    /// SplitMix64.
    pub(crate) fn roll(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0 (0 then).
    pub(crate) fn below(&self, bound: usize) -> usize {
        let wide = u128::from(self.roll()) * bound as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// 32 hexadecimal digits.
    pub(crate) fn request_id(&self) -> RequestId {
        let (high, low) = (self.own ^ self.state.get(), self.roll());
        let mut text = [0; 32];
        for (at, digit) in text.iter_mut().enumerate() {
            let half = if at < 16 { high } else { low };
            let nibble = ((half >> (60 - (at % 16) * 4)) & 15) as u8;
            *digit = if nibble < 10 {
                b'0' + nibble
            } else {
                b'a' + nibble - 10
            };
        }
        RequestId::Own(text)
    }
}

/// The id of a request. Ours is written out only where somebody wants it.
#[derive(Debug, Clone)]
pub(crate) enum RequestId {
    Own([u8; 32]),
    Theirs(HeaderValue),
}

impl RequestId {
    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Own(text) => std::str::from_utf8(text).unwrap_or("unknown"),
            Self::Theirs(id) => id.to_str().unwrap_or("unknown"),
        }
    }

    pub(crate) fn header(&self) -> HeaderValue {
        match self {
            Self::Own(text) => HeaderValue::from_maybe_shared(Bytes::copy_from_slice(text))
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            Self::Theirs(id) => id.clone(),
        }
    }
}

/// Whether somebody else's request id can be taken over: it will stand in logs and headers.
pub(crate) fn is_sane(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    (1..=128).contains(&bytes.len())
        && bytes.iter().all(|b| {
            b.is_ascii_alphanumeric()
                || matches!(b, b'-' | b'_' | b'.' | b':' | b'=' | b'+' | b'/' | b'@')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_differ() {
        let (a, b) = (Dice::new(), Dice::new());
        let ids: HashSet<_> = (0..1000)
            .flat_map(|_| [a.request_id().header(), b.request_id().header()])
            .collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.len() == 32 && is_sane(id)));
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let dice = Dice::new();
        let seen: HashSet<_> = (0..1000).map(|_| dice.below(3)).collect();
        assert_eq!(seen, HashSet::from([0, 1, 2]));
    }

    #[test]
    fn ids_of_others_are_looked_at() {
        assert!(is_sane(&HeaderValue::from_static("a-1_b.c:d")));
        for bad in ["", "a b", "a\"b", "{}", &"a".repeat(129)] {
            assert!(!is_sane(&HeaderValue::from_str(bad).unwrap()), "{bad}");
        }
    }
}
