//! Entries in the memory of this process: quick, bounded, gone with it.
//!
//! Reads take no lock. Contents are not sealed: the key would lie beside them.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use papaya::{Compute, HashMap, Operation};
use tokio::sync::Notify;

use crate::condition::Condition;
use crate::scan::{Part, Position};
use crate::stats::Counters;
use crate::{Entry, Key, Unavailable, Version, seal};

/// What an entry takes beside its value, about.
const OVERHEAD: usize = 192;

/// How often expired entries are looked for, and how often at most when there is no room.
const SWEEP: Duration = Duration::from_secs(5);
const HASTE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Memory(Arc<Table>);

#[derive(Debug)]
struct Table {
    slots: HashMap<Key, Slot>,
    used: AtomicUsize,
    limit: usize,
    writes: AtomicU64,
    full: Notify,
    counters: Arc<Counters>,
}

#[derive(Debug, Clone)]
struct Slot {
    value: Bytes,
    version: Version,
    /// None: never.
    expires: Option<Instant>,
}

impl Slot {
    fn lives(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    fn size(&self) -> usize {
        OVERHEAD.saturating_add(self.value.len())
    }

    fn entry(&self) -> Entry {
        Entry {
            value: self.value.clone(),
            version: self.version.clone(),
        }
    }
}

fn holds(condition: &Condition, found: Option<&Slot>, value: &[u8]) -> bool {
    match (condition, found) {
        (Condition::Any, _) | (Condition::Absent | Condition::Same, None) => true,
        (Condition::Absent, Some(_)) | (Condition::Version(_), None) => false,
        (Condition::Version(expected), Some(slot)) => slot.version == *expected,
        (Condition::Same, Some(slot)) => slot.value == value,
    }
}

impl Memory {
    /// An empty table, and the work that must go on for it; it ends with the table.
    pub(crate) fn new(
        limit: usize,
        counters: Arc<Counters>,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let table = Arc::new(Table {
            slots: HashMap::new(),
            used: AtomicUsize::new(0),
            limit,
            writes: AtomicU64::new(0),
            full: Notify::new(),
            counters,
        });
        let sweeper = sweep(Arc::downgrade(&table));
        (Self(table), sweeper)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Entry> {
        let now = Instant::now();
        let slots = self.0.slots.pin();
        let slot = slots.get(key).filter(|slot| slot.lives(now))?;
        Some(slot.entry())
    }

    pub(crate) fn take(&self, key: &Key) -> Option<Entry> {
        let now = Instant::now();
        let slots = self.0.slots.pin();
        let slot = slots.remove(key)?;
        self.0.release(slot.size());
        slot.lives(now).then(|| slot.entry())
    }

    pub(crate) fn release(&self, key: &Key, value: &[u8]) {
        self.0.remove_if(key, |slot| slot.value == value);
    }

    /// The first entries behind a key, in the order of keys. All are looked at for that.
    pub(crate) fn scan(&self, behind: Option<Key>, most: usize) -> Part {
        let now = Instant::now();
        let slots = self.0.slots.pin();
        let mut first: BTreeMap<Key, &Slot> = BTreeMap::new();
        for (key, slot) in &slots {
            let behind = behind.is_none_or(|behind| *key > behind);
            if behind && slot.lives(now) && !seal::is_mark(&slot.value) {
                first.insert(*key, slot);
                if first.len() > most {
                    first.pop_last();
                }
            }
        }
        let last = first.last_key_value().filter(|_| first.len() == most);
        let next = last.map(|(key, _)| Position::behind(key));
        let entries = first.into_iter();
        Part {
            entries: entries.map(|(key, slot)| (key, slot.entry())).collect(),
            next,
        }
    }

    pub(crate) fn entries(&self) -> (usize, usize) {
        (self.0.slots.len(), self.0.used.load(Relaxed))
    }

    pub(crate) fn write(
        &self,
        key: &Key,
        condition: &Condition,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, Unavailable> {
        let table = &*self.0;
        let now = Instant::now();
        let slot = Slot {
            value: Bytes::copy_from_slice(value),
            version: table.next_version(),
            // What is too far away to be told never comes.
            expires: ttl.and_then(|ttl| now.checked_add(ttl)),
        };
        let size = slot.size();
        table.reserve(size)?;
        let slots = table.slots.pin();
        let done = slots.compute(*key, |found| {
            let found = found.map(|(_, slot)| slot).filter(|slot| slot.lives(now));
            if holds(condition, found, value) {
                Operation::Insert(slot.clone())
            } else {
                Operation::Abort(())
            }
        });
        match done {
            Compute::Inserted(..) => Ok(true),
            Compute::Updated { old: (_, old), .. } => {
                table.release(old.size());
                Ok(true)
            }
            Compute::Removed(..) | Compute::Aborted(()) => {
                table.release(size);
                Ok(false)
            }
        }
    }
}

impl Table {
    fn next_version(&self) -> Version {
        let [a, b, c, d, e, f, g, h] = self.writes.fetch_add(1, Relaxed).to_be_bytes();
        Version([0, 0, 0, 0, a, b, c, d, e, f, g, h])
    }

    fn reserve(&self, size: usize) -> Result<(), Unavailable> {
        let used = self.used.fetch_add(size, Relaxed);
        if used.saturating_add(size) <= self.limit {
            return Ok(());
        }
        self.release(size);
        self.full.notify_one();
        Err(Unavailable::Full)
    }

    fn release(&self, size: usize) {
        self.used.fetch_sub(size, Relaxed);
    }

    fn remove_if(&self, key: &Key, unwanted: impl Fn(&Slot) -> bool) -> bool {
        let slots = self.slots.pin();
        match slots.remove_if(key, |_, slot| unwanted(slot)) {
            Ok(Some((_, slot))) => {
                self.release(slot.size());
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// Removes what has expired.
    fn sweep(&self) {
        let now = Instant::now();
        let slots = self.slots.pin();
        let expired = slots.iter().filter(|(_, slot)| !slot.lives(now));
        let removed = expired
            .filter(|(key, _)| self.remove_if(key, |slot| !slot.lives(now)))
            .count();
        self.counters.expired(removed);
    }
}

async fn sweep(table: Weak<Table>) {
    loop {
        tokio::time::sleep(HASTE).await;
        let Some(table) = table.upgrade() else { return };
        // A full table is swept soon, any other now and then.
        let _full = tokio::time::timeout(SWEEP, table.full.notified()).await;
        table.sweep();
    }
}
