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

type Digest = [u8; 20];

fn shorten(digest: &[u8; 32]) -> Digest {
    digest.first_chunk().copied().unwrap_or_default()
}

/// One API key. Kept small: there may be a million.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// The first 160 bits of it: to find another key with the same ones is no nearer than to guess a key.
    digest: Digest,
    pub(super) id: [u8; 16],
    pub(super) consumer: KeyId,
    /// Of its own key.
    tag: [u8; 8],
    pub(super) namespace: u32,
    /// One more than the place of its bounds in the shard's list; 0: it has none.
    times: u32,
}

/// From when, and until when; 0: no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
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
            digest: shorten(&key.digest),
            id: key.id.into_bytes(),
            consumer: key.consumer,
            tag: key.key.tag().to_be_bytes(),
            namespace,
            times: 0,
        }
    }

    const fn tag(&self) -> u64 {
        u64::from_be_bytes(self.tag)
    }
}

impl Times {
    pub(super) fn new(key: &NewKey<'_>) -> Self {
        Self {
            not_before: u32::try_from(key.not_before.max(0)).unwrap_or(u32::MAX),
            expires_at: match key.expires_at {
                0 => 0,
                // Before 1970 or in its first second: expired long ago, which 0 would not say.
                at => u32::try_from(at.max(1)).unwrap_or(u32::MAX),
            },
        }
    }

    fn hold(self, now: i64) -> bool {
        now >= i64::from(self.not_before)
            && (self.expires_at == 0 || now < i64::from(self.expires_at))
    }
}

#[derive(Debug)]
pub(super) enum KeyChange {
    Put(Position, Entry, Times),
    Remove(KeySlot, u64),
}

impl KeyChange {
    pub(super) fn shard(&self) -> usize {
        match self {
            Self::Put(Position { slot, .. }, ..) | Self::Remove(slot, _) => slot.shard(),
        }
    }
}

/// Sorted by rank. Ranks stand apart, so that a search touches few lines of memory.
#[derive(Debug, Default)]
pub(super) struct KeyShard {
    ranks: Box<[u32]>,
    entries: Box<[Entry]>,
    /// Of the few credentials that have bounds.
    times: Box<[Times]>,
}

impl KeyShard {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether a credential of this shard is in force.
    pub(super) fn in_force(&self, entry: &Entry, now: i64) -> bool {
        self.times(entry).hold(now)
    }

    fn times(&self, entry: &Entry) -> Times {
        let place = usize::try_from(entry.times).unwrap_or(usize::MAX);
        let times = place.checked_sub(1).and_then(|at| self.times.get(at));
        times.copied().unwrap_or_default()
    }

    /// All credentials with this digest.
    pub(super) fn matches(
        &self,
        position: Position,
        digest: &[u8; 32],
    ) -> impl Iterator<Item = &Entry> {
        let rank = position.rank;
        let digest = shorten(digest);
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
            .filter(move |entry| {
                constant_time::verify_slices_are_equal(&entry.digest, &digest).is_ok()
            })
    }

    /// A copy with changes made, all of which belong to this shard, in the order in which they were asked for.
    ///
    /// It takes exactly the memory that it needs: there are thousands of shards.
    pub(super) fn changed<'a>(
        &self,
        changes: impl DoubleEndedIterator<Item = &'a KeyChange>,
    ) -> Self {
        // Of the changes of one credential the last counts.
        let mut last: Vec<(u64, Option<Put<'_>>)> = changes
            .rev()
            .map(|change| match change {
                KeyChange::Put(at, entry, times) => (entry.tag(), Some((at.rank, entry, *times))),
                KeyChange::Remove(_, tag) => (*tag, None),
            })
            .collect();
        last.sort_by_key(|(tag, _)| *tag);
        last.dedup_by_key(|(tag, _)| *tag);
        let mut new: Vec<Put<'_>> = last.iter().filter_map(|(_, put)| *put).collect();
        new.sort_by_key(|(rank, ..)| *rank);

        let stays = |entry: &Entry| {
            last.binary_search_by_key(&entry.tag(), |(tag, _)| *tag)
                .is_err()
        };
        let staying = self.entries.iter().filter(|entry| stays(entry)).count();
        let mut merged = Merged::with_capacity(staying + new.len());
        let mut new = new.into_iter().peekable();
        for (rank, entry) in self.ranks.iter().zip(&self.entries) {
            while let Some(put) = new.next_if(|(first, ..)| first <= rank) {
                merged.push(put);
            }
            if stays(entry) {
                merged.push((*rank, entry, self.times(entry)));
            }
        }
        new.for_each(|put| merged.push(put));
        Self {
            ranks: merged.ranks.into(),
            entries: merged.entries.into(),
            times: merged.times.into(),
        }
    }
}

/// Rank, credential, bounds.
type Put<'a> = (u32, &'a Entry, Times);

/// A shard that is being put together.
struct Merged {
    ranks: Vec<u32>,
    entries: Vec<Entry>,
    times: Vec<Times>,
}

impl Merged {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            ranks: Vec::with_capacity(capacity),
            entries: Vec::with_capacity(capacity),
            times: Vec::new(),
        }
    }

    fn push(&mut self, (rank, entry, times): Put<'_>) {
        let mut place = 0;
        if times != Times::default() {
            self.times.push(times);
            // A shard has far fewer than 2^32; were there more, the last bounds would hold for the rest.
            place = u32::try_from(self.times.len()).unwrap_or(u32::MAX);
        }
        self.ranks.push(rank);
        self.entries.push(Entry {
            times: place,
            ..*entry
        });
    }
}
