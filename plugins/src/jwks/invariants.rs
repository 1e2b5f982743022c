//! What must hold for any input, however broken: asserted for the fuzzers' inputs, their corpus and random ones.

use super::KeySet;
use crate::jwt::Algorithm;

/// The text of a set.
pub fn set(text: &[u8]) {
    let Ok(set) = KeySet::parse(text, None) else {
        return;
    };
    assert!(!set.is_empty() && set.len() <= 256 && set.is(text));
    let mut any = false;
    for algorithm in Algorithm::ALL {
        let all: Vec<_> = set.candidates(None, algorithm).keys().collect();
        assert!(all.len() <= 8);
        assert!(all.iter().all(|key| key.algorithm() == algorithm));
        assert!(all.is_empty() || !algorithm.is_symmetric());
        any |= !all.is_empty();
        for kid in ["", "a"] {
            assert!(set.candidates(Some(kid), algorithm).keys().count() <= 8);
        }
    }
    assert!(any);
    // The same set again brings nothing new.
    let again = KeySet::parse(text, Some(&set));
    assert!(again.is_ok_and(|again| {
        let versions = |set: &KeySet| {
            let of = |algorithm| {
                let keys = set.candidates(None, algorithm).keys();
                keys.map(|key| key.version()).collect::<Vec<_>>()
            };
            Algorithm::ALL.map(of)
        };
        versions(&again) == versions(&set)
    }));
}
