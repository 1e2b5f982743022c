//! What a store tells of itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Figures for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries that are held, those included that have expired and are not removed yet. None where somebody else counts.
    pub entries: Option<u64>,
    /// Bytes that entries take, and how many they may take.
    pub bytes: Option<(u64, u64)>,
    /// Entries that were removed because they had expired. Redis removes them itself.
    pub expired: u64,
    /// Operations that were refused because there was no room.
    pub full: u64,
    /// Operations that failed because the store did not answer.
    pub unavailable: u64,
    /// Entries that no sealing key opened: sealed with another key, or damaged.
    pub unreadable: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    expired: AtomicU64,
    full: AtomicU64,
    unavailable: AtomicU64,
    unreadable: AtomicU64,
}

impl Counters {
    pub(crate) fn expired(&self, entries: usize) {
        self.expired.fetch_add(entries as u64, Relaxed);
    }

    pub(crate) fn full(&self) {
        self.full.fetch_add(1, Relaxed);
    }

    pub(crate) fn unavailable(&self) {
        self.unavailable.fetch_add(1, Relaxed);
    }

    pub(crate) fn unreadable(&self) {
        self.unreadable.fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> Stats {
        Stats {
            entries: None,
            bytes: None,
            expired: self.expired.load(Relaxed),
            full: self.full.load(Relaxed),
            unavailable: self.unavailable.load(Relaxed),
            unreadable: self.unreadable.load(Relaxed),
        }
    }
}
