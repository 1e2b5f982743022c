//! The file: header and frames.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;
use plugins::directory::KeyId;
use prost::Message;
use snapshot::Hash;

use super::seal::{FileKey, MasterKey, SEAL};
use crate::state::Delta;

const MAGIC: [u8; 8] = *b"POSTERN1";
const HEADER: u64 = 24;

/// Set in a frame's head while the change goes on in the next frame.
const MORE: u32 = 1 << 31;

/// How long a frame is meant to be, and how long one may be: a resource is not cut in two.
pub(super) const FRAME: usize = 1 << 20;
const MAX_FRAME: u32 = 128 << 20;

/// A part of a change.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Frame {
    #[prost(string, tag = "1")]
    pub(super) version: String,
    /// Encoded resources.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) upserts: Vec<Bytes>,
    /// [`KeyId`]s, twelve bytes each.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) removals: Bytes,
    /// Key and hash of each of `upserts`, 28 bytes each: to compute them takes longer than to read them.
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) known: Bytes,
}

impl Frame {
    /// Keys and hashes of the resources; fewer than there are resources where the frame is not what this program writes.
    pub(super) fn known(&self) -> impl Iterator<Item = (KeyId, Hash)> {
        let (chunks, _) = self.known.as_chunks::<KNOWN>();
        chunks.iter().filter_map(|chunk| {
            let (id, hash) = chunk.split_first_chunk::<12>()?;
            Some((unpack_id(id), hash.try_into().ok()?))
        })
    }
}

/// Bytes of a key and a hash.
const KNOWN: usize = 28;

/// A log, open at its end.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    key: FileKey,
    /// Frames that count.
    frames: u64,
    /// Bytes that count.
    pub(super) length: u64,
}

pub(super) fn pack_id(id: &KeyId, to: &mut Vec<u8>) {
    to.extend_from_slice(&id.bucket().to_be_bytes());
    to.extend_from_slice(id.rest());
}

fn unpack_id([a, b, rest @ ..]: &[u8; 12]) -> KeyId {
    KeyId::from_parts(u16::from_be_bytes([*a, *b]), *rest)
}

pub(super) fn unpack_ids(packed: &[u8]) -> impl Iterator<Item = KeyId> {
    let (chunks, _) = packed.as_chunks::<12>();
    chunks.iter().map(unpack_id)
}

impl LogFile {
    /// A new, empty log.
    pub(super) fn create(path: &Path, master: &MasterKey) -> io::Result<Self> {
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| io::Error::other("there is no randomness"))?;
        let key = master.for_file(&id).map_err(io::Error::other)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(&MAGIC)?;
        file.write_all(&id)?;
        Ok(Self {
            file,
            key,
            frames: 0,
            length: HEADER,
        })
    }

    /// Opens a log, finds out how much of it counts, and cuts the rest off. None: there is none.
    pub(super) fn open(path: &Path, master: &MasterKey) -> io::Result<Option<Self>> {
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (mut magic, mut id) = ([0; 8], [0; 16]);
        file.read_exact(&mut magic)?;
        file.read_exact(&mut id)?;
        if magic != MAGIC {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is not a log of this version",
            ));
        }
        let key = master.for_file(&id).map_err(io::Error::other)?;
        let whole = file.metadata()?.len();
        let mut log = Self {
            file,
            key,
            frames: 0,
            length: HEADER,
        };
        let (mut frames, mut length) = (0, HEADER);
        let mut good = (frames, length);
        let end = log.frames(u64::MAX, |more, _, bytes| {
            (frames, length) = (frames + 1, length + bytes);
            if !more {
                good = (frames, length);
            }
            Ok(())
        });
        (log.frames, log.length) = good;
        let error = end.as_ref().err().map(ToString::to_string);
        if log.frames == 0 {
            end?;
        }
        if log.length < whole {
            let lost = whole - log.length;
            tracing::warn!(path = %path.display(), lost, error, "the end of the last good snapshot is damaged: cut off");
            log.file.set_len(log.length)?;
        }
        log.file.seek(SeekFrom::Start(log.length))?;
        Ok(Some(log))
    }

    /// Hands the changes over that count, a frame at a time.
    pub(super) fn replay(&mut self, apply: &mut impl FnMut(Delta)) -> io::Result<()> {
        let limit = self.frames;
        self.frames(limit, |_, frame, _| {
            let frame = Frame::decode(frame).map_err(io::Error::other)?;
            let removals = unpack_ids(&frame.removals).collect();
            let mut known: Vec<_> = frame.known().collect();
            if known.len() != frame.upserts.len() {
                known.clear();
            }
            apply(Delta {
                version: frame.version.into(),
                reset_buckets: Vec::new(),
                upserts: frame.upserts,
                known,
                removals,
            });
            Ok(())
        })?;
        self.file.seek(SeekFrom::Start(self.length))?;
        Ok(())
    }

    /// Opens so many frames, or all there are, from the first on: whether more belong to the change, the frame, and how many
    /// bytes it takes in the file.
    pub(super) fn frames(
        &mut self,
        limit: u64,
        mut each: impl FnMut(bool, Bytes, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(HEADER))?;
        let mut reader = BufReader::with_capacity(1 << 18, &self.file);
        for number in 0..limit {
            let mut head = [0; 4];
            if reader.read(&mut head[..1])? == 0 {
                return Ok(());
            }
            reader.read_exact(&mut head[1..])?;
            let word = u32::from_le_bytes(head);
            let length = word & !MORE;
            if length > MAX_FRAME {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a frame is too long",
                ));
            }
            let mut sealed = Vec::new();
            (&mut reader).take(length.into()).read_to_end(&mut sealed)?;
            if sealed.len() as u64 != u64::from(length) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let frame = self
                .key
                .open(number, head, sealed)
                .map_err(io::Error::other)?;
            each(word & MORE != 0, frame, u64::from(length) + 4)?;
        }
        Ok(())
    }

    /// Begins to add a change at the end. Where that fails, the file must not be added to any more: what was written of the
    /// change may still be there.
    pub(super) fn begin(&mut self) -> Appending<'_> {
        let (frames, length) = (self.frames, self.length);
        Appending {
            log: self,
            frames,
            length,
        }
    }

    /// Adds a change, of one frame or several.
    pub(super) fn append(&mut self, frames: impl IntoIterator<Item = Frame>) -> io::Result<()> {
        let mut appending = self.begin();
        let mut frames = frames.into_iter().peekable();
        while let Some(frame) = frames.next() {
            appending.add(&frame, frames.peek().is_some())?;
        }
        appending.commit();
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    #[cfg(test)]
    pub(super) fn make_read_only(&mut self, path: &Path) {
        self.file = File::open(path).unwrap();
    }

    pub(super) const fn count(&self) -> u64 {
        self.frames
    }
}

/// A change that is being added.
#[derive(Debug)]
pub(super) struct Appending<'a> {
    log: &'a mut LogFile,
    frames: u64,
    length: u64,
}

impl Appending<'_> {
    /// Adds a frame; `more`: another one belongs to the change.
    pub(super) fn add(&mut self, frame: &Frame, more: bool) -> io::Result<()> {
        let length = u32::try_from(frame.encoded_len() + SEAL)
            .ok()
            .filter(|length| *length <= MAX_FRAME)
            .ok_or_else(|| io::Error::other("a resource is too long"))?;
        let head = (length | if more { MORE } else { 0 }).to_le_bytes();
        let sealed = self
            .log
            .key
            .seal(self.frames, head, frame)
            .map_err(io::Error::other)?;
        self.log.file.write_all(&head)?;
        self.log.file.write_all(&sealed)?;
        self.frames += 1;
        self.length += u64::from(length) + 4;
        Ok(())
    }

    /// The change is whole, and counts.
    pub(super) fn commit(self) {
        (self.log.frames, self.log.length) = (self.frames, self.length);
    }
}
