//! API keys by digest.

use std::fmt;

use aws_lc_rs::constant_time;
use bytes::Bytes;
use http::HeaderValue;

use super::names::KeyId;
use super::window;

/// A credential of a Consumer: an API key.
pub struct NewKey<'a> {
    /// Of the credential's key, "Credential/<namespace>/<name>".
    pub key: KeyId,
    /// The credential's namespace.
    pub namespace: &'a str,
    /// SHA-256 of the API key.
    pub digest: [u8; 32],
    /// Its public identifier.
    pub id: uuid::Uuid,
    /// Of the Consumer's key, "Consumer/<namespace>/<name>"; whether or not that is there.
    pub consumer: KeyId,
    /// Seconds since 1970; 0: at once.
    pub not_before: i64,
    /// Seconds since 1970, excluded; 0: never.
    pub expires_at: i64,
}

/// Where a credential is, for [`super::Changes::remove_key`]. Holds for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySlot {
    shard: u16,
    rank: u32,
}

impl KeySlot {
    pub(super) const fn new(hash: u64) -> Self {
        let [a, b, c, d, e, f, ..] = hash.to_be_bytes();
        Self {
            shard: u16::from_be_bytes([a, b]) % 4096,
            rank: u32::from_be_bytes([c, d, e, f]),
        }
    }

    pub(super) fn shard(self) -> usize {
        usize::from(self.shard)
    }

    /// In six bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 6] {
        let ([a, b], [c, d, e, f]) = (self.shard.to_be_bytes(), self.rank.to_be_bytes());
        [a, b, c, d, e, f]
    }

    /// From [`KeySlot::to_bytes`].
    #[must_use]
    pub const fn from_bytes([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self {
            shard: u16::from_be_bytes([a, b]),
            rank: u32::from_be_bytes([c, d, e, f]),
        }
    }
}

/// A credential's public identifier (`X-Credential-Identifier`).
#[derive(Clone)]
pub struct CredentialId(pub(super) Bytes);

impl CredentialId {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// As the value of a header; copies nothing.
    #[must_use]
    pub fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(self.0.clone()).ok()
    }
}

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialId({})", self.as_str())
    }
}

/// One API key. Kept small: there may be a million.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    digest: [u8; 32],
    pub(super) id: [u8; 16],
    pub(super) consumer: KeyId,
    /// Of its own key.
    tag: [u8; 8],
    pub(super) namespace: u32,
    not_before: u32,
    expires_at: u32,
}

// The digest is not printed: it is as good as the key to whoever can guess keys.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry")
    }
}

impl Entry {
    pub(super) fn new(key: &NewKey<'_>, namespace: u32) -> Self {
        Self {
            digest: key.digest,
            id: key.id.into_bytes(),
            consumer: key.consumer,
            tag: key.key.tag(),
            namespace,
            not_before: u32::try_from(key.not_before.max(0)).unwrap_or(u32::MAX),
            expires_at: match key.expires_at {
                0 => 0,
                // Before 1970 or in its first second: expired long ago, which 0 would not say.
                at => u32::try_from(at.max(1)).unwrap_or(u32::MAX),
            },
        }
    }

    pub(super) fn in_force(&self, now: i64) -> bool {
        now >= i64::from(self.not_before)
            && (self.expires_at == 0 || now < i64::from(self.expires_at))
    }
}

#[derive(Debug)]
pub(super) enum KeyChange {
    Put(Entry),
    Remove(KeyId),
}

/// Sorted by rank. Ranks stand apart, so that a search touches few lines of memory.
#[derive(Debug, Default)]
pub(super) struct KeyShard {
    ranks: Box<[u32]>,
    entries: Box<[Entry]>,
}

impl KeyShard {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All credentials with this digest.
    pub(super) fn matches(&self, slot: KeySlot, digest: &[u8; 32]) -> impl Iterator<Item = &Entry> {
        let rank = slot.rank;
        let range = window(self.ranks.len(), rank, |at| self.ranks.get(at).copied());
        let ranks = self.ranks.get(range.clone()).unwrap_or_default();
        let start = range.start + ranks.partition_point(|found| *found < rank);
        let equal = self
            .ranks
            .iter()
            .skip(start)
            .take_while(move |found| **found == rank);
        self.entries
            .iter()
            .skip(start)
            .zip(equal)
            .map(|(entry, _)| entry)
            .filter(|entry| constant_time::verify_slices_are_equal(&entry.digest, digest).is_ok())
    }

    /// A copy with changes made, all of which belong to this shard.
    pub(super) fn changed(&self, changes: &[(KeySlot, KeyChange)]) -> Self {
        // Of the changes of one thing the last counts.
        let mut last: Vec<(u32, [u8; 8], Option<Entry>)> = changes
            .iter()
            .map(|(slot, change)| match change {
                KeyChange::Put(entry) => (slot.rank, entry.tag, Some(*entry)),
                KeyChange::Remove(id) => (slot.rank, id.tag(), None),
            })
            .rev()
            .collect();
        last.sort_by_key(|(rank, tag, _)| (*rank, *tag));
        last.dedup_by_key(|(rank, tag, _)| (*rank, *tag));

        let added = last.iter().filter(|(_, _, entry)| entry.is_some()).count();
        let mut merged: Vec<(u32, Entry)> = Vec::with_capacity(self.entries.len() + added);
        let replaced = |rank: u32, entry: &Entry| {
            last.binary_search_by_key(&(rank, entry.tag), |(rank, tag, _)| (*rank, *tag))
                .is_ok()
        };
        let mut new = last
            .iter()
            .filter_map(|(rank, _, entry)| entry.map(|entry| (*rank, entry)))
            .peekable();
        for (rank, entry) in self.ranks.iter().copied().zip(&self.entries) {
            while let Some(first) = new.next_if(|(first, _)| *first <= rank) {
                merged.push(first);
            }
            if !replaced(rank, entry) {
                merged.push((rank, *entry));
            }
        }
        merged.extend(new);
        Self {
            ranks: merged.iter().map(|(rank, _)| *rank).collect(),
            entries: merged.into_iter().map(|(_, entry)| entry).collect(),
        }
    }
}
