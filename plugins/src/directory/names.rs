//! Short forms of names: namespaces as numbers, keys of resources as digests.

use std::collections::HashMap;

use aws_lc_rs::digest;

use super::SHARDS;

/// A resource's key, shortened: the bucket of the snapshot that it falls into, and the next bytes of the SHA-256 of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId {
    bucket: u16,
    rest: [u8; 10],
}

impl KeyId {
    /// Of a key such as "Consumer/shop/alice".
    #[must_use]
    pub fn of(key: &str) -> Self {
        let full = digest::digest(&digest::SHA256, key.as_bytes());
        let mut bytes = full.as_ref().iter().copied();
        let mut next = || bytes.next().unwrap_or_default();
        let bucket = u16::from_be_bytes([next(), next()]) % 4096;
        Self {
            bucket,
            rest: std::array::from_fn(|_| next()),
        }
    }

    /// The bucket of the snapshot that the key falls into (`snapshot::bucket_of`).
    #[must_use]
    pub const fn bucket(&self) -> u16 {
        self.bucket
    }

    /// Tells the keys of one bucket apart.
    #[must_use]
    pub const fn rest(&self) -> &[u8; 10] {
        &self.rest
    }

    /// From what [`KeyId::bucket`] and [`KeyId::rest`] gave.
    #[must_use]
    pub const fn from_parts(bucket: u16, rest: [u8; 10]) -> Self {
        Self { bucket, rest }
    }

    pub(super) fn shard(&self) -> usize {
        usize::from(self.bucket) % SHARDS
    }

    pub(super) const fn rank(&self) -> u32 {
        rank_of(&self.rest)
    }

    /// Enough of it to tell the credentials of a shard apart.
    pub(super) const fn tag(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.rest;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Rises with the order of keys within a shard, and is evenly spread.
pub(super) const fn rank_of(rest: &[u8; 10]) -> u32 {
    let [a, b, c, d, ..] = *rest;
    u32::from_be_bytes([a, b, c, d])
}

/// A set of namespaces whose credentials a plugin honours. Made by [`super::Directory::namespaces`].
#[derive(Debug, Clone)]
pub struct Namespaces(Ids);

#[derive(Debug, Clone)]
enum Ids {
    // By far the most common: the namespace of the plugin itself.
    One(u32),
    Many(Box<[u32]>),
}

impl Default for Namespaces {
    fn default() -> Self {
        Self(Ids::Many(Box::default()))
    }
}

impl Namespaces {
    pub(super) fn new(mut ids: Vec<u32>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        match *ids {
            [one] => Self(Ids::One(one)),
            _ => Self(Ids::Many(ids.into())),
        }
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        match &self.0 {
            Ids::One(own) => *own == id,
            Ids::Many(ids) => ids.binary_search(&id).is_ok(),
        }
    }
}

/// Numbers for names, given once and kept.
#[derive(Debug, Default)]
pub(super) struct Interner(HashMap<Box<str>, u32>);

impl Interner {
    pub(super) fn id(&mut self, name: &str) -> u32 {
        if let Some(id) = self.0.get(name) {
            return *id;
        }
        // There are far fewer than 2^32 namespaces; were there more, the last number would be shared by none that counts.
        let id = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.insert(name.into(), id);
        id
    }
}
