//! What outlives the process: when objects were first seen, and generated secrets.
//!
//! The folder and what is in it can be read by its owner only. Files are replaced in one step, so that a crash leaves the
//! old or the new one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use compile::{Kind, ObjectRef, WantedSecret};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::manifest;

/// An object that was away for longer than this is a new one when it comes back: its ttl begins again.
const FORGET_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system says no.
    #[error("state folder: cannot {what} {path}: {source}; give another folder with --state-dir", path = path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// Another process writes to it.
    #[error("state folder {path} is in use by another postern; give this one a folder of its own with --state-dir", path = .0.display())]
    InUse(PathBuf),
    /// The record of first sights cannot be read. Going on without it would revive expired credentials.
    #[error(
        "state folder: {path} is damaged ({reason}); restore it, or delete it to let the ttl of every credential begin anew",
        path = path.display()
    )]
    Damaged { path: PathBuf, reason: String },
    /// No randomness to be had.
    #[error("the system gives no random numbers to make a secret from")]
    Random,
}

/// The state folder.
#[derive(Debug)]
pub(super) struct State {
    folder: PathBuf,
    seen: BTreeMap<String, Seen>,
    changed: bool,
    /// Held for as long as this process uses the folder.
    _lock: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Seen {
    first: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<Timestamp>,
}

impl State {
    /// Opens the folder, making it where it is missing.
    ///
    /// # Errors
    /// It cannot be made or written, is in use, or damaged.
    pub(super) fn open(folder: &Path) -> Result<Self, StateError> {
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { what, path, source }
        };
        make_folder(folder).map_err(io("make", folder))?;
        let lock_path = folder.join("lock");
        let lock = private()
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(io("write", &lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StateError::InUse(folder.to_owned()),
            TryLockError::Error(source) => io("lock", &lock_path)(source),
        })?;
        let path = folder.join("first-seen.json");
        let seen = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| StateError::Damaged {
                path,
                reason: error.to_string(),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(io("read", &path)(error)),
        };
        Ok(Self {
            folder: folder.to_owned(),
            seen,
            changed: false,
            _lock: lock,
        })
    }

    /// When an object was seen for the first time, which may be now.
    pub(super) fn first_seen(&mut self, object: &ObjectRef, now: Timestamp) -> Timestamp {
        let seen = self.seen.entry(key(object)).or_insert_with(|| {
            self.changed = true;
            Seen {
                first: now,
                gone: None,
            }
        });
        if let Some(gone) = seen.gone.take() {
            self.changed = true;
            if now.duration_since(gone) > FORGET_AFTER {
                seen.first = now;
            }
        }
        seen.first
    }

    /// At the start: notes which objects are not there any more, and forgets those that have been away for long.
    pub(super) fn sweep(&mut self, there: impl Fn(&str) -> bool, now: Timestamp) {
        let Self { seen, changed, .. } = self;
        seen.retain(|key, seen| {
            if there(key) {
                return true;
            }
            let gone = *seen.gone.get_or_insert_with(|| {
                *changed = true;
                now
            });
            let keep = now.duration_since(gone) <= FORGET_AFTER;
            *changed |= !keep;
            keep
        });
    }

    /// Notes that objects are not there any more.
    pub(super) fn gone(&mut self, objects: &[ObjectRef], now: Timestamp) {
        for object in objects {
            if let Some(seen) = self.seen.get_mut(&key(object)) {
                seen.gone.get_or_insert(now);
                self.changed = true;
            }
        }
    }

    /// Writes what changed.
    pub(super) fn save(&mut self) -> Result<(), StateError> {
        if !self.changed {
            return Ok(());
        }
        let path = self.folder.join("first-seen.json");
        let text = serde_json::to_vec_pretty(&self.seen).map_err(|error| StateError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        write_private(&path, &text)?;
        self.changed = false;
        Ok(())
    }

    /// The Secret that the compiler asks for: the one that was generated before, or a new one.
    ///
    /// What was generated for an earlier object of the same name is not used again.
    pub(super) fn generated(
        &self,
        wanted: &WantedSecret,
        owner_seen: Timestamp,
    ) -> Result<Value, StateError> {
        let reference = ObjectRef::new(Kind::Secret, &wanted.owner.namespace, &wanted.name);
        let path = self.secret_path(&reference);
        let created = owner_seen.to_string();
        let mut entries = stored(&path, &created);
        let missing: Vec<_> = wanted
            .entries
            .iter()
            .filter(|name| !entries.contains_key(**name))
            .collect();
        let write = !missing.is_empty();
        for name in missing {
            entries.insert((*name).to_owned(), json!(random_key()?));
        }
        let secret = manifest::secret(
            &reference,
            &wanted.owner,
            &wanted.owner_uid,
            &created,
            &entries,
        );
        if write {
            for folder in [
                Some(self.folder.join("secrets")),
                path.parent().map(Path::to_owned),
            ]
            .into_iter()
            .flatten()
            {
                make_folder(&folder).map_err(|source| StateError::Io {
                    what: "make",
                    path: folder,
                    source,
                })?;
            }
            let text =
                serde_json::to_string_pretty(&secret).map_err(|error| StateError::Damaged {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
            write_private(&path, format!("{text}\n").as_bytes())?;
        }
        Ok(secret)
    }

    /// Where a generated Secret is kept.
    pub(super) fn secret_path(&self, secret: &ObjectRef) -> PathBuf {
        self.folder
            .join("secrets")
            .join(&*secret.namespace)
            .join(format!("{}.json", secret.name))
    }

    /// Deletes a generated Secret whose owner is gone.
    pub(super) fn forget_secret(&self, secret: &ObjectRef) -> Result<(), StateError> {
        let path = self.secret_path(secret);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StateError::Io {
                what: "delete",
                path,
                source,
            }),
            _ => Ok(()),
        }
    }
}

/// The name of an object in the record.
pub(super) fn key(object: &ObjectRef) -> String {
    format!(
        "{}/{}/{}",
        object.kind.plural(),
        object.namespace,
        object.name
    )
}

/// Entries of a Secret that was generated for the object that was first seen then; none where there is no such file.
fn stored(path: &Path, created: &str) -> Map<String, Value> {
    let read = fs::read(path)
        .ok()
        .and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let Some(mut secret) = read else {
        return Map::new();
    };
    let same = secret
        .pointer("/metadata/creationTimestamp")
        .and_then(Value::as_str)
        == Some(created);
    match secret.get_mut("stringData").map(Value::take) {
        Some(Value::Object(entries)) if same => entries,
        _ => Map::new(),
    }
}

/// 32 characters of 62: 190 bits.
fn random_key() -> Result<String, StateError> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut key = String::with_capacity(32);
    while key.len() < 32 {
        let mut bytes = [0; 64];
        rand::fill(&mut bytes).map_err(|_| StateError::Random)?;
        // Bytes beyond the last whole multiple of 62 would favour some characters.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        let characters = fair.filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        key.extend(characters.map(|c| char::from(*c)).take(32 - key.len()));
    }
    Ok(key)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn write_private(path: &Path, text: &[u8]) -> Result<(), StateError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let written = || -> io::Result<()> {
        let mut file = private().create(true).truncate(true).open(&temporary)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    written().map_err(|source| StateError::Io {
        what: "write",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn credential(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Credential, "shop", name)
    }

    fn wanted() -> WantedSecret {
        WantedSecret {
            owner: credential("key"),
            owner_uid: "u".into(),
            name: "key".into(),
            entries: vec!["key"],
        }
    }

    #[test]
    fn first_sight_outlives_restarts_and_short_absence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let mut state = State::open(&path).unwrap();
        assert_eq!(state.first_seen(&credential("key"), at(100)), at(100));
        state.save().unwrap();
        drop(state);
        let mut state = State::open(&path).unwrap();
        assert_eq!(state.first_seen(&credential("key"), at(200)), at(100));
        state.gone(&[credential("key"), credential("unknown")], at(300));
        state.save().unwrap();
        drop(state);
        let mut state = State::open(&path).unwrap();
        assert_eq!(
            state.first_seen(&credential("key"), at(300 + 3600)),
            at(100)
        );
        state.sweep(|_| false, at(5000));
        assert_eq!(
            state.first_seen(&credential("key"), at(5000 + 3601)),
            at(8601)
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("first-seen.json")), 0o600);
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let held = State::open(folder.path()).unwrap();
        assert!(matches!(
            State::open(folder.path()),
            Err(StateError::InUse(_))
        ));
        drop(held);
        fs::write(folder.path().join("first-seen.json"), "{").unwrap();
        let error = State::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("first-seen.json is damaged"), "{error}");
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = State::open(&file.join("x")).unwrap_err().to_string();
        assert!(
            error.contains("cannot make") && error.contains("--state-dir"),
            "{error}"
        );
    }

    #[test]
    fn generated_secrets_are_kept_for_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let first = state.generated(&wanted(), at(1)).unwrap();
        let key = first["stringData"]["key"].as_str().unwrap();
        assert_eq!(key.len(), 32);
        assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(state.generated(&wanted(), at(1)).unwrap(), first);
        let other = state.generated(&wanted(), at(2)).unwrap();
        assert_ne!(other["stringData"]["key"], first["stringData"]["key"]);
        let secret = ObjectRef::new(Kind::Secret, "shop", "key");
        let path = state.secret_path(&secret);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        state.forget_secret(&secret).unwrap();
        state.forget_secret(&secret).unwrap();
        assert!(!path.exists());
    }
}
