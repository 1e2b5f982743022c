//! A set of keyed resources, and the difference between two.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use prost::Message;

use crate::proto::{Bucket, Resource};

/// How many buckets a proxy sums its resources up in.
pub const BUCKETS: u32 = 4096;

/// The first 16 bytes of the SHA-256 of an encoded [`Resource`].
pub type Hash = [u8; 16];

/// Hashes encoded bytes.
#[must_use]
pub fn hash_of(encoded: &[u8]) -> Hash {
    let mut hash = Hash::default();
    let full = digest::digest(&digest::SHA256, encoded);
    for (to, from) in hash.iter_mut().zip(full.as_ref()) {
        *to = *from;
    }
    hash
}

/// The bucket that a key belongs to.
#[must_use]
pub fn bucket_of(key: &str) -> u32 {
    let hash = hash_of(key.as_bytes());
    let [a, b, ..] = hash;
    u32::from(u16::from_be_bytes([a, b])) % BUCKETS
}

/// One resource, encoded once for all proxies.
#[derive(Clone)]
pub struct Entry {
    /// Of `encoded`.
    pub hash: Hash,
    /// A [`Resource`] message.
    pub encoded: Bytes,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({} bytes)", self.encoded.len())
    }
}

impl Entry {
    /// Encodes a resource.
    #[must_use]
    pub fn new(resource: &Resource) -> Self {
        let encoded = Bytes::from(resource.encode_to_vec());
        Self {
            hash: hash_of(&encoded),
            encoded,
        }
    }
}

/// What to do to one set to get another.
#[derive(Debug, Clone, Default)]
pub struct Diff {
    /// New or changed, by key.
    pub upserts: BTreeMap<Arc<str>, Entry>,
    /// Gone.
    pub removals: Vec<Arc<str>>,
}

impl Diff {
    /// Whether the two sets are the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removals.is_empty()
    }
}

/// A change that a control plane hands to a proxy in the same process.
#[derive(Debug, Clone)]
pub struct Change {
    /// Of the snapshot after it.
    pub version: Arc<str>,
    /// What changed; may be empty.
    pub diff: Diff,
    /// Digest of the manifest files from which the snapshot follows ("sha256:…"), for `/readyz`.
    pub manifests: Option<Arc<str>>,
}

/// Resources by key. The order is the keys', so that equal sets are equal bytes.
#[derive(Debug, Clone, Default)]
pub struct Set {
    entries: BTreeMap<Arc<str>, Entry>,
}

impl Set {
    /// Puts a resource under a key; true where that changed something.
    pub fn insert(&mut self, key: impl Into<Arc<str>>, entry: Entry) -> bool {
        let hash = entry.hash;
        self.entries
            .insert(key.into(), entry)
            .is_none_or(|old| old.hash != hash)
    }

    /// Removes a key; true where it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        self.entries.remove(key).is_some()
    }

    /// The resource under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.entries.iter()
    }

    /// All whose key begins with `prefix` ("Route/").
    pub fn with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Entry)> {
        self.entries
            .range::<str, _>((
                std::ops::Bound::Included(prefix),
                std::ops::Bound::Unbounded,
            ))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// What turns `self` into `new`.
    #[must_use]
    pub fn diff(&self, new: &Self) -> Diff {
        let upserts = new
            .entries
            .iter()
            .filter(|(key, entry)| self.get(key).is_none_or(|old| old.hash != entry.hash))
            .map(|(key, entry)| (Arc::clone(key), entry.clone()))
            .collect();
        let removals = self
            .entries
            .keys()
            .filter(|key| new.get(key).is_none())
            .cloned()
            .collect();
        Diff { upserts, removals }
    }

    /// Takes a difference in.
    pub fn apply(&mut self, diff: &Diff) {
        for key in &diff.removals {
            self.entries.remove(key);
        }
        for (key, entry) in &diff.upserts {
            self.entries.insert(Arc::clone(key), entry.clone());
        }
    }

    /// The buckets that hold something, with the XOR of their hashes.
    #[must_use]
    pub fn buckets(&self) -> Vec<Bucket> {
        let mut sums: BTreeMap<u32, Hash> = BTreeMap::new();
        for (key, entry) in &self.entries {
            let sum = sums.entry(bucket_of(key)).or_default();
            for (to, from) in sum.iter_mut().zip(entry.hash) {
                *to ^= from;
            }
        }
        sums.into_iter()
            .map(|(index, digest)| Bucket {
                index,
                digest: Bytes::copy_from_slice(&digest),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Consumer, resource::Body};
    use proptest::prelude::*;

    fn entry(id: &str) -> Entry {
        Entry::new(&Resource {
            key: String::new(),
            body: Some(Body::Consumer(Consumer {
                id: id.into(),
                ..Consumer::default()
            })),
        })
    }

    fn set(of: &BTreeMap<u8, u8>) -> Set {
        let mut set = Set::default();
        for (key, value) in of {
            set.insert(format!("Consumer/{key}"), entry(&value.to_string()));
        }
        set
    }

    proptest! {
        #[test]
        fn applying_the_difference_gives_the_other_set(a: BTreeMap<u8, u8>, b: BTreeMap<u8, u8>) {
            let (mut from, to) = (set(&a), set(&b));
            let diff = from.diff(&to);
            prop_assert_eq!(diff.is_empty(), a == b);
            from.apply(&diff);
            prop_assert!(from.diff(&to).is_empty());
            prop_assert_eq!(from.buckets(), to.buckets());
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = crate::proto::Secret {
            value: Bytes::from_static(b"hunter2"),
        };
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
