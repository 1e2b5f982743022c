//! The snapshot that was in force last, in the state folder: what a proxy serves after a restart while the control plane
//! is away.
//!
//! A log of changes, sealed: a header, then frames, each encrypted with AES-256-GCM under a key that belongs to this file
//! alone, its place in the file being part of the seal. A change may take several frames and counts when its last one is
//! there: a torn end is cut off. Appending and compaction happen on a thread of their own.

mod file;
mod seal;
mod writer;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use plugins::directory::KeyId;

use crate::Error;
use crate::key_file::{own_key, read_key};
use crate::state::Delta;
use file::LogFile;
use seal::MasterKey;
use writer::{Append, Writer};

/// The log, and beside it the key where no other is given.
const LOG: &str = "last-good.log";
const KEY: &str = "last-good.key";

/// The last good snapshot.
#[derive(Debug)]
pub(crate) struct LastGood {
    path: PathBuf,
    key: Arc<MasterKey>,
    writer: Option<(Sender<Append>, JoinHandle<()>)>,
}

impl LastGood {
    /// Makes the folder and a key ready, where they are missing. `key_file` holds the key instead of the folder.
    ///
    /// # Errors
    /// The folder or the key cannot be read or made.
    pub(crate) fn open(folder: &Path, key_file: Option<&Path>) -> Result<Self, Error> {
        let wrong = |what: &str, path: &Path, flag: &str, source: io::Error| Error::Start {
            what: format!("{what} {} ({flag})", path.display()),
            source,
        };
        make_folder(folder)?;
        let secret = match key_file {
            Some(path) => read_key(path).map_err(|source| {
                wrong("reading the state key", path, "--state-key-file", source)
            })?,
            None => {
                let path = folder.join(KEY);
                own_key(&path).map_err(|source| {
                    wrong("reading the state key", &path, "--state-dir", source)
                })?
            }
        };
        Ok(Self {
            path: folder.join(LOG),
            key: Arc::new(MasterKey::new(secret)),
            writer: None,
        })
    }

    /// Hands the changes of the log to `apply`, oldest first, and begins to take new ones. Nothing is handed over of a log
    /// that does not hold a whole change; of one that is damaged, what was before the damage.
    ///
    /// A change that took several frames is handed over in as many parts.
    pub(crate) fn load(&mut self, mut apply: impl FnMut(Delta)) {
        let log = match LogFile::open(&self.path, &self.key) {
            Ok(Some(mut log)) => match log.replay(&mut apply) {
                Ok(()) => Some(log),
                Err(error) => {
                    // It was whole a moment ago. What was handed over is a part of a snapshot: nothing is better.
                    tracing::error!(path = %self.path.display(), %error, "the last good snapshot cannot be read again");
                    apply(Delta {
                        reset_buckets: (0..snapshot::BUCKETS).collect(),
                        ..Delta::default()
                    });
                    None
                }
            },
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the last good snapshot cannot be used");
                None
            }
        };
        self.begin(log);
    }

    /// Begins to take changes, of which the first is the whole snapshot: nothing of what the folder holds counts.
    pub(crate) fn begin_anew(&mut self) {
        self.begin(None);
    }

    fn begin(&mut self, log: Option<LogFile>) {
        let (sender, appends) = channel();
        let writer = Writer::new(self.path.clone(), Arc::clone(&self.key), log);
        let thread = std::thread::Builder::new().name("last-good".to_owned());
        match thread.spawn(move || writer.run(&appends)) {
            Ok(thread) => self.writer = Some((sender, thread)),
            Err(error) => {
                tracing::error!(%error, "the last good snapshot will not be kept: no thread");
            }
        }
    }

    /// Returns when all changes are on disk, or cannot be written.
    pub(crate) fn close(self) {
        if let Some((appends, thread)) = self.writer {
            drop(appends);
            if thread.join().is_err() {
                tracing::error!("the thread that keeps the last good snapshot has panicked");
            }
        }
    }

    /// Adds a change. Does not wait for it to be on disk.
    pub(crate) fn append(&self, version: &Arc<str>, upserts: Vec<Bytes>, removals: Vec<KeyId>) {
        if let Some((appends, _)) = &self.writer {
            // The thread ends only after this has.
            let _gone = appends.send(Append {
                version: Arc::clone(version),
                upserts,
                removals,
            });
        }
    }
}

/// Makes the state folder where it is missing.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| Error::Start {
            what: format!(
                "state folder: cannot make {} (--state-dir)",
                folder.display()
            ),
            source,
        })
}

#[cfg(test)]
mod tests;
