//! Reading all entries, part by part, for those who look after them.

use std::fmt;

use crate::{Entry, Key};

/// A part of what a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Entries that this process can read; leases are none.
    pub entries: Vec<(Key, Entry)>,
    /// Where the next part begins; none behind the last one.
    pub next: Option<Position>,
}

/// A place in the order of a store. It tells nothing of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position(String);

/// The same before contents are opened.
pub(crate) struct Raw {
    pub(crate) blobs: Vec<(Key, Vec<u8>)>,
    pub(crate) next: Option<Position>,
}

impl Raw {
    /// Nothing, and nothing behind it.
    pub(crate) const fn end() -> Self {
        Self {
            blobs: Vec::new(),
            next: None,
        }
    }
}

impl Position {
    /// A position as it was told before. Whether it is one of a store, says [`crate::Store::scan`].
    #[must_use]
    pub fn told(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn behind(key: &Key) -> Self {
        Self(key.to_hex())
    }

    pub(crate) fn of(place: impl fmt::Display) -> Self {
        Self(place.to_string())
    }

    pub(crate) fn key(&self) -> Option<Key> {
        Key::from_hex(&self.0)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
