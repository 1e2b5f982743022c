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

/// In which shard a credential is, for [`super::Changes::remove_key`]. Holds for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySlot(u16);

impl KeySlot {
    /// As a number below [`super::SHARDS`].
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// From [`KeySlot::number`].
    #[must_use]
    pub const fn from_number(number: u16) -> Self {
        Self(number)
    }

    pub(super) fn shard(self) -> usize {
        usize::from(self.0)
    }
}

/// Where a digest belongs: its shard, and its place among the others there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) slot: KeySlot,
    rank: u32,
}

impl Position {
    pub(super) const fn rank(self) -> u32 {
        self.rank
    }

    pub(super) const fn new(hash: u64) -> Self {
        let [a, b, c, d, e, f, ..] = hash.to_be_bytes();
        Self {
            slot: KeySlot(u16::from_be_bytes([a, b]) % 4096),
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
    tag: u64,
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
    Put(Position, Entry),
    Remove(KeySlot, u64),
}

impl KeyChange {
    pub(super) fn shard(&self) -> usize {
        match self {
            Self::Put(Position { slot, .. }, _) | Self::Remove(slot, _) => slot.shard(),
        }
    }
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
    pub(super) fn matches(
        &self,
        position: Position,
        digest: &[u8; 32],
    ) -> impl Iterator<Item = &Entry> {
        let rank = position.rank;
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

    /// A copy with changes made, all of which belong to this shard, in the order in which they were asked for.
    ///
    /// It takes exactly the memory that it needs: there are thousands of shards.
    pub(super) fn changed<'a>(
        &self,
        changes: impl DoubleEndedIterator<Item = &'a KeyChange>,
    ) -> Self {
        // Of the changes of one credential the last counts.
        let mut last: Vec<(u64, Option<(u32, &Entry)>)> = changes
            .rev()
            .map(|change| match change {
                KeyChange::Put(position, entry) => (entry.tag, Some((position.rank, entry))),
                KeyChange::Remove(_, tag) => (*tag, None),
            })
            .collect();
        last.sort_by_key(|(tag, _)| *tag);
        last.dedup_by_key(|(tag, _)| *tag);
        let mut new: Vec<(u32, &Entry)> = last.iter().filter_map(|(_, put)| *put).collect();
        new.sort_by_key(|(rank, _)| *rank);

        let stays = |entry: &Entry| {
            last.binary_search_by_key(&entry.tag, |(tag, _)| *tag)
                .is_err()
        };
        let staying = self.entries.iter().filter(|entry| stays(entry)).count();
        let mut ranks = Vec::with_capacity(staying + new.len());
        let mut entries = Vec::with_capacity(staying + new.len());
        let mut new = new.into_iter().peekable();
        for (rank, entry) in self.ranks.iter().zip(&self.entries) {
            while let Some((rank, entry)) = new.next_if(|(first, _)| first <= rank) {
                ranks.push(rank);
                entries.push(*entry);
            }
            if stays(entry) {
                ranks.push(*rank);
                entries.push(*entry);
            }
        }
        for (rank, entry) in new {
            ranks.push(rank);
            entries.push(*entry);
        }
        Self {
            ranks: ranks.into(),
            entries: entries.into(),
        }
    }
}
