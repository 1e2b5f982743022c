//! The thread that writes.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bytes::Bytes;
use plugins::directory::KeyId;
use prost::Message;
use snapshot::Hash;

use super::file::{FRAME, Frame, LogFile, pack_id, unpack_ids};
use super::seal::MasterKey;

/// A change to be added.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) version: Arc<str>,
    pub(super) upserts: Vec<Bytes>,
    pub(super) removals: Vec<KeyId>,
}

/// The log is rewritten when it has grown by this, and to more than twice its size.
const SLACK: u64 = 4 << 20;

/// After this, what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// More than this does not wait to be written: the file stays as it is until the next start.
const MAX_WAITING: usize = 64 << 20;

#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    key: Arc<MasterKey>,
    log: Option<LogFile>,
    /// Length when it was written anew.
    compact_length: u64,
    /// A change was perhaps written in part: the log is to be written anew before the next one.
    damaged: bool,
    waiting: VecDeque<Append>,
    given_up: bool,
}

impl Writer {
    pub(super) fn new(path: PathBuf, key: Arc<MasterKey>, log: Option<LogFile>) -> Self {
        let compact_length = log.as_ref().map_or(0, |log| log.length);
        Self {
            path,
            key,
            log,
            compact_length,
            damaged: false,
            waiting: VecDeque::new(),
            given_up: false,
        }
    }

    /// Writes what comes until nobody can send any more.
    pub(super) fn run(mut self, appends: &Receiver<Append>) {
        let mut told = false;
        loop {
            let next = if self.waiting.is_empty() {
                appends.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                appends.recv_timeout(RETRY)
            };
            match next {
                Ok(append) => self.waiting.push_back(append),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // What has come meanwhile goes to the disk with it.
            self.waiting.extend(appends.try_iter());
            if self.given_up {
                self.waiting.clear();
                continue;
            }
            match self.write() {
                Ok(()) => told = false,
                Err(error) => {
                    self.damaged = true;
                    let waiting: usize = self.waiting.iter().map(Append::size).sum();
                    if waiting > MAX_WAITING {
                        tracing::error!(path = %self.path.display(), %error, "the last good snapshot stays as it is: too much waits to be written");
                        self.given_up = true;
                    } else if !told {
                        tracing::error!(path = %self.path.display(), %error, "the last good snapshot cannot be written; trying again");
                        told = true;
                    }
                }
            }
        }
    }

    /// Writes all that waits.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if self.damaged {
            self.compact()?;
        }
        while let Some(append) = self.waiting.front() {
            let frames = append.frames();
            if self.log.is_none() {
                self.compact()?;
            }
            if let Some(log) = &mut self.log {
                log.append(frames)?;
            }
            self.waiting.pop_front();
        }
        if let Some(log) = &self.log {
            log.sync()?;
            if log.length > self.compact_length.saturating_mul(2).saturating_add(SLACK) {
                self.compact()?;
            }
        }
        Ok(())
    }

    /// Writes the log anew, with what is in force only, and puts it in the place of the old one.
    pub(super) fn compact(&mut self) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let mut new = LogFile::create(&temporary, &self.key)?;
        if let Some(old) = &mut self.log {
            rewrite(old, &mut new)?;
        }
        new.sync()?;
        fs::rename(&temporary, &self.path)?;
        sync_folder(&self.path)?;
        self.compact_length = new.length;
        self.log = Some(new);
        self.damaged = false;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn push(&mut self, append: Append) {
        self.waiting.push_back(append);
    }

    #[cfg(test)]
    pub(super) const fn mark_damaged(&mut self) {
        self.damaged = true;
    }
}

/// The new name is not lost either.
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

impl Append {
    fn size(&self) -> usize {
        self.removals.len() * 12 + self.upserts.iter().map(Bytes::len).sum::<usize>()
    }

    /// In parts of a good size; what is removed comes first. In the order of the buckets, so that whoever reads many of
    /// them goes through its own tables in order.
    fn frames(&self) -> Vec<Frame> {
        let mut sorted: Vec<(KeyId, &Bytes)> =
            self.upserts.iter().map(|one| (key_of(one), one)).collect();
        sorted.sort_by_key(|(id, _)| *id);
        let mut parts = Parts::new(&self.version);
        parts.removals = Vec::with_capacity(self.removals.len() * 12);
        for id in &self.removals {
            pack_id(id, &mut parts.removals);
        }
        let mut frames: Vec<Frame> = sorted
            .into_iter()
            .filter_map(|(id, one)| parts.add(one.clone(), &id, &snapshot::hash_of(one)))
            .collect();
        frames.push(parts.finish());
        frames
    }
}

/// Fills frames.
struct Parts {
    version: String,
    upserts: Vec<Bytes>,
    known: Vec<u8>,
    removals: Vec<u8>,
    size: usize,
}

impl Parts {
    fn new(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            upserts: Vec::new(),
            known: Vec::new(),
            removals: Vec::new(),
            size: 0,
        }
    }

    /// A full frame, where one was.
    fn add(&mut self, upsert: Bytes, id: &KeyId, hash: &Hash) -> Option<Frame> {
        let full = self.size > 0 && self.size + upsert.len() > FRAME;
        let frame = full.then(|| self.finish());
        self.size += upsert.len();
        self.upserts.push(upsert);
        pack_id(id, &mut self.known);
        self.known.extend_from_slice(hash);
        frame
    }

    /// What there is, as a frame.
    fn finish(&mut self) -> Frame {
        self.size = 0;
        Frame {
            version: self.version.clone(),
            upserts: std::mem::take(&mut self.upserts),
            known: std::mem::take(&mut self.known).into(),
            removals: std::mem::take(&mut self.removals).into(),
        }
    }
}

/// Copies what is in force, as one change: of each key what came last, where that is not its removal.
fn rewrite(old: &mut LogFile, new: &mut LogFile) -> io::Result<()> {
    let limit = old.count();
    // The last place of each key in the log. Places are few enough for 32 bits, or the log is not rewritten.
    let mut places: Vec<(KeyId, u32, bool)> = Vec::new();
    let mut place: u32 = 0;
    let mut version = String::new();
    let too_many = || io::Error::other("too many resources");
    old.frames(limit, |_, frame, _| {
        let frame = Frame::decode(frame).map_err(io::Error::other)?;
        for id in unpack_ids(&frame.removals) {
            places.push((id, place, false));
        }
        for (id, _) in frame.known() {
            place = place.checked_add(1).ok_or_else(too_many)?;
            places.push((id, place, true));
        }
        place = place.checked_add(1).ok_or_else(too_many)?;
        version = frame.version;
        Ok(())
    })?;
    places.sort_unstable_by_key(|(id, place, _)| (*id, *place));
    let last = |at: usize, id: &KeyId| places.get(at + 1).is_none_or(|(next, ..)| next != id);
    let mut live: Vec<u32> = places
        .iter()
        .enumerate()
        .filter(|(at, (id, _, upsert))| *upsert && last(*at, id))
        .map(|(_, (_, place, _))| *place)
        .collect();
    drop(places);
    live.sort_unstable();
    if limit == 0 {
        return Ok(());
    }

    let mut parts = Parts::new(&version);
    let (mut place, mut live) = (0, live.into_iter().peekable());
    let mut writing = new.begin();
    old.frames(limit, |_, frame, _| {
        let frame = Frame::decode(frame).map_err(io::Error::other)?;
        let known: Vec<_> = frame.known().collect();
        for (encoded, (id, hash)) in frame.upserts.into_iter().zip(&known) {
            place += 1;
            if live.next_if_eq(&place).is_some()
                && let Some(full) = parts.add(encoded, id, hash)
            {
                writing.add(&full, true)?;
            }
        }
        place += 1;
        Ok(())
    })?;
    writing.add(&parts.finish(), false)?;
    writing.commit();
    Ok(())
}

/// The key of an encoded resource. One that cannot be read has one of its own, so that it stays.
fn key_of(encoded: &Bytes) -> KeyId {
    #[derive(prost::Message)]
    struct OnlyKey {
        #[prost(string, tag = "15")]
        key: String,
    }
    match OnlyKey::decode(encoded.clone()) {
        Ok(OnlyKey { key }) => KeyId::of(&key),
        Err(_) => KeyId::of(&format!("{encoded:?}")),
    }
}
