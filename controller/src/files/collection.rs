//! What all files say together, and what of it is in force.
//!
//! An object whose new text is bad keeps its last good state. An object that two files hold counts as the one that was
//! there first. A file that is gone or empty counts as such only after a short while: editors and scripts replace files
//! in steps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use compile::{Level, Object, ObjectRef};
use jiff::Timestamp;

use super::document;
use super::finding::Finding;
use super::reader::Reader;
use super::scan::{self, Content, Digest, FileKey, Scan, Scanner};
use super::state::{self, State};

/// How long a file must be gone, or empty, before that counts.
pub(super) const GRACE: Duration = Duration::from_millis(200);

/// Where first sights are looked up: the state folder, or for a check nowhere.
pub(super) trait FirstSeen {
    fn first_seen(&mut self, object: &ObjectRef) -> Timestamp;
}

impl FirstSeen for State {
    fn first_seen(&mut self, object: &ObjectRef) -> Timestamp {
        Self::first_seen(self, object, Timestamp::now())
    }
}

/// All files.
#[derive(Debug, Default)]
pub(super) struct Collection {
    files: BTreeMap<FileKey, FileState>,
    in_force: HashMap<ObjectRef, InForce>,
    /// Files that hold an object which counts from another file.
    shadowed: BTreeMap<ObjectRef, BTreeSet<FileKey>>,
    /// About inputs and folders that cannot be listed.
    unlisted: Vec<Finding>,
}

#[derive(Debug, Default)]
pub(super) struct FileState {
    /// Of the text that was fully taken last.
    pub(super) taken: Option<Digest>,
    pub(super) objects: BTreeMap<ObjectRef, Entry>,
    pub(super) findings: Vec<Finding>,
    /// Whether there may be an AuthPlugin in it of which nobody knows what it protects.
    pub(super) hides: bool,
    /// Since when it is gone, or empty.
    pub(super) gone: Option<Gone>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    since: Instant,
    /// Of the text without content, where the file itself is there.
    empty: Option<Digest>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) line: u32,
    /// Of the document, and where the object stands in it.
    pub(super) at: String,
    pub(super) digest: Digest,
    /// Until it comes into force.
    pub(super) waiting: Option<Object>,
    /// Whether its fields fit.
    pub(super) good: bool,
    /// Whether there is anything to say about its text.
    pub(super) noted: bool,
    /// Whether a finding tells already why it cannot work.
    pub(super) told: bool,
}

#[derive(Debug)]
pub(super) struct InForce {
    pub(super) file: FileKey,
    pub(super) digest: Digest,
    pub(super) good: bool,
    /// Whether there was anything to say about its text.
    pub(super) noted: bool,
    pub(super) generation: i64,
}

/// What changed by a scan.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) apply: Vec<Object>,
    pub(super) delete: Vec<ObjectRef>,
    /// When to look again though nothing may happen: a file is gone, but not for long enough.
    pub(super) again: Option<Duration>,
    /// Files that must be read again, because what they say of an object counts now.
    pub(super) reread: Vec<FileKey>,
    /// Whether any file was taken, dropped or found bad.
    pub(super) any: bool,
}

/// Where an object stands.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) file: &'a FileKey,
    pub(super) line: u32,
    pub(super) at: &'a str,
    /// Whether a finding tells already why the object cannot work.
    pub(super) told: bool,
}

impl Collection {
    /// Takes a scan in.
    pub(super) fn take(
        &mut self,
        scan: Scan,
        scanner: &Scanner,
        seen: &mut dyn FirstSeen,
        now: Instant,
    ) -> Changes {
        let mut changes = Changes::default();
        let unlisted: Vec<Finding> = scan
            .unlisted
            .iter()
            .map(|(key, error)| {
                Finding::of_text(scanner.display(key), 0, format!("cannot be read: {error}"))
            })
            .collect();
        changes.any |= unlisted != self.unlisted;
        self.unlisted = unlisted;

        let mut vacated = BTreeSet::new();
        let mut fresh: Vec<FileKey> = Vec::new();
        for key in self.missing_from(&scan) {
            self.take_gone(&key, None, now, &mut changes, &mut vacated);
        }
        for (key, content) in scan.files {
            match content {
                Content::Same => {
                    // Empty since a while: the text itself does not change any more.
                    if let Some(gone) = self.files.get(&key).and_then(|file| file.gone) {
                        self.take_gone(&key, gone.empty, now, &mut changes, &mut vacated);
                    }
                }
                Content::Unreadable(error) => {
                    let finding = Finding::of_text(
                        scanner.display(&key),
                        0,
                        format!("cannot be read: {error}"),
                    );
                    let file = self.files.entry(key).or_default();
                    changes.any |= file.findings.as_slice() != [finding.clone()];
                    file.findings = vec![finding];
                    file.hides |= file.taken.is_none();
                    file.gone = None;
                }
                Content::New { text, digest } => {
                    let held_something = self
                        .files
                        .get(&key)
                        .is_some_and(|file| !file.objects.is_empty());
                    if text.trim().is_empty() && held_something {
                        self.take_gone(&key, Some(digest), now, &mut changes, &mut vacated);
                        continue;
                    }
                    changes.any = true;
                    self.take_text(&key, &text, digest, scanner, seen, &mut vacated);
                    fresh.push(key);
                }
            }
        }
        for key in &fresh {
            self.enforce(key, scanner, &mut vacated, &mut changes);
        }
        self.settle(vacated, &mut changes);
        changes
    }

    /// Files that the scan should have found.
    fn missing_from(&self, scan: &Scan) -> Vec<FileKey> {
        let hidden = |key: &FileKey| {
            scan.unlisted
                .iter()
                .any(|(folder, _)| folder.input == key.input && key.name.starts_with(&folder.name))
        };
        self.files
            .keys()
            .filter(|key| !scan.files.contains_key(key) && !hidden(key))
            .cloned()
            .collect()
    }

    fn take_gone(
        &mut self,
        key: &FileKey,
        empty: Option<Digest>,
        now: Instant,
        changes: &mut Changes,
        vacated: &mut BTreeSet<ObjectRef>,
    ) {
        let Some(file) = self.files.get_mut(key) else {
            return;
        };
        let gone = file.gone.get_or_insert(Gone { since: now, empty });
        gone.empty = empty;
        let left = GRACE.saturating_sub(now.saturating_duration_since(gone.since));
        if !file.objects.is_empty() && !left.is_zero() {
            changes.again = Some(changes.again.map_or(left, |other| other.min(left)));
            return;
        }
        changes.any = true;
        if let Some(file) = self.files.remove(key) {
            for reference in file.objects.into_keys() {
                self.give_up(key, reference, vacated);
            }
        }
        if empty.is_some() {
            self.files.insert(
                key.clone(),
                FileState {
                    taken: empty,
                    ..FileState::default()
                },
            );
        }
    }

    /// The file does not hold the object any more.
    fn give_up(&mut self, key: &FileKey, reference: ObjectRef, vacated: &mut BTreeSet<ObjectRef>) {
        if self
            .in_force
            .get(&reference)
            .is_some_and(|in_force| in_force.file == *key)
        {
            vacated.insert(reference);
        } else if let Some(files) = self.shadowed.get_mut(&reference) {
            files.remove(key);
            if files.is_empty() {
                self.shadowed.remove(&reference);
            }
        }
    }

    fn take_text(
        &mut self,
        key: &FileKey,
        text: &str,
        digest: Digest,
        scanner: &Scanner,
        seen: &mut dyn FirstSeen,
        vacated: &mut BTreeSet<ObjectRef>,
    ) {
        let path = scanner.display(key);
        let mut reader = Reader {
            path: &path,
            in_force: &self.in_force,
            seen,
            file: FileState::default(),
            unnamed: false,
            held: false,
        };
        let documents = if scan::is_json(&path) {
            document::json(text)
        } else {
            document::yaml(text)
        };
        for document in documents {
            reader.document(document);
        }
        let Reader {
            mut file,
            unnamed,
            held,
            ..
        } = reader;
        let old = self.files.remove(key).unwrap_or_default();
        let mut kept = 0;
        for (reference, entry) in old.objects {
            if file.objects.contains_key(&reference) {
                continue;
            }
            // Something in the file cannot be read: it may well be this object.
            if unnamed {
                kept += 1;
                file.objects.insert(reference, entry);
            } else {
                self.give_up(key, reference, vacated);
            }
        }
        if kept > 0 {
            let message =
                format!("{kept} object(s) that this file held before keep their last good state");
            file.findings.push(Finding {
                level: Level::Warning,
                ..Finding::of_text(path, 0, message)
            });
        }
        file.taken = if unnamed || held {
            old.taken
        } else {
            Some(digest)
        };
        self.files.insert(key.clone(), file);
    }

    /// Brings what a file says into force, where no other file said it first.
    fn enforce(
        &mut self,
        key: &FileKey,
        scanner: &Scanner,
        vacated: &mut BTreeSet<ObjectRef>,
        changes: &mut Changes,
    ) {
        let Some(file) = self.files.get_mut(key) else {
            return;
        };
        let mut waiting = 0;
        for (reference, entry) in &mut file.objects {
            let holder = self.in_force.get(reference);
            // Perhaps it is what protects this one that cannot be read.
            if file.hides && holder.is_none() && reference.kind.is_route() {
                waiting += 1;
                continue;
            }
            let ours =
                holder.is_none_or(|holder| holder.file == *key) || vacated.contains(reference);
            if !ours {
                self.shadowed
                    .entry(reference.clone())
                    .or_default()
                    .insert(key.clone());
                continue;
            }
            vacated.remove(reference);
            bring_into_force(&mut self.in_force, key, reference, entry, changes);
        }
        if waiting > 0 {
            let message = format!(
                "{waiting} new route(s) of this file wait until all of it can be read: there may be an AuthPlugin for them"
            );
            file.findings
                .push(Finding::of_text(scanner.display(key), 0, message));
        }
    }

    /// Objects that their file gave up go to the next file that holds them, or away.
    fn settle(&mut self, vacated: BTreeSet<ObjectRef>, changes: &mut Changes) {
        for reference in vacated {
            let next = self
                .shadowed
                .get_mut(&reference)
                .and_then(BTreeSet::pop_first);
            if self
                .shadowed
                .get(&reference)
                .is_some_and(BTreeSet::is_empty)
            {
                self.shadowed.remove(&reference);
            }
            let entry = next
                .as_ref()
                .and_then(|key| self.files.get_mut(key))
                .and_then(|file| file.objects.get_mut(&reference));
            if let (Some(key), Some(entry)) = (&next, entry) {
                let said = self
                    .in_force
                    .get(&reference)
                    .map(|in_force| in_force.digest);
                if entry.waiting.is_none() && said != Some(entry.digest) {
                    changes.reread.push(key.clone());
                }
                bring_into_force(&mut self.in_force, key, &reference, entry, changes);
            } else {
                self.in_force.remove(&reference);
                changes.delete.push(reference);
            }
        }
    }

    /// Whether the object is in force.
    pub(super) fn holds(&self, reference: &ObjectRef) -> bool {
        self.in_force.contains_key(reference)
    }

    /// All objects in force, as the state folder names them.
    pub(super) fn state_keys(&self) -> std::collections::HashSet<String> {
        self.in_force.keys().map(state::key).collect()
    }

    /// How many objects are in force.
    pub(super) fn len(&self) -> usize {
        self.in_force.len()
    }

    /// Files and folders in which there may be an AuthPlugin of which nobody knows what it protects.
    pub(super) fn hiding(&self, scanner: &Scanner) -> Vec<PathBuf> {
        let unlisted = self.unlisted.iter().map(|finding| finding.path.clone());
        let files = self.files.iter().filter(|(_, file)| file.hides);
        unlisted
            .chain(files.map(|(key, _)| scanner.display(key)))
            .collect()
    }

    /// Where the object in force stands.
    pub(super) fn place(&self, reference: &ObjectRef) -> Option<Place<'_>> {
        let file = &self.in_force.get(reference)?.file;
        let entry = self.files.get(file)?.objects.get(reference)?;
        Some(Place {
            file,
            line: entry.line,
            at: &entry.at,
            told: entry.told,
        })
    }

    /// All findings about the files themselves.
    pub(super) fn findings(&self, scanner: &Scanner) -> Vec<Finding> {
        let mut all = self.unlisted.clone();
        all.extend(
            self.files
                .values()
                .flat_map(|file| file.findings.iter().cloned()),
        );
        for (reference, files) in &self.shadowed {
            let first = self.place(reference).map_or_else(String::new, |place| {
                format!("{}:{}", scanner.display(place.file).display(), place.line)
            });
            for key in files {
                let line = self
                    .files
                    .get(key)
                    .and_then(|file| file.objects.get(reference))
                    .map_or(0, |e| e.line);
                all.push(Finding {
                    path: scanner.display(key),
                    line,
                    level: Level::Error,
                    object: Some(reference.clone()),
                    field: String::new(),
                    message: format!("is also in {first}, which counts; remove one of the two"),
                });
            }
        }
        all
    }

    /// The digest of all files in force.
    pub(super) fn digest(&self, scanner: &Scanner) -> String {
        let shown: Vec<_> = self
            .files
            .iter()
            .filter_map(|(key, file)| Some((digest_name(key, scanner), file.taken.as_ref()?)))
            .collect();
        scan::digest_of_files(shown.iter().map(|(name, digest)| (name.as_path(), *digest)))
    }
}

/// A file that is an input itself goes by its own name.
fn digest_name(key: &FileKey, scanner: &Scanner) -> std::path::PathBuf {
    if !key.name.as_os_str().is_empty() {
        return key.name.to_path_buf();
    }
    let path = scanner.display(key);
    path.file_name().map_or_else(|| path.clone(), Into::into)
}

fn bring_into_force(
    in_force: &mut HashMap<ObjectRef, InForce>,
    key: &FileKey,
    reference: &ObjectRef,
    entry: &mut Entry,
    changes: &mut Changes,
) {
    let before = in_force.get(reference);
    let generation = before.map_or(0, |before| before.generation) + 1;
    match entry.waiting.take() {
        Some(object) => {
            in_force.insert(
                reference.clone(),
                InForce {
                    file: key.clone(),
                    digest: entry.digest,
                    good: entry.good,
                    noted: entry.noted,
                    generation,
                },
            );
            changes.apply.push(object);
        }
        // It said the same before, perhaps in another file.
        None => {
            if let Some(before) = in_force.get_mut(reference) {
                before.file = key.clone();
            }
        }
    }
}
