//! Reads the documents of one file, in view of what is in force.

use std::collections::HashMap;
use std::path::Path;

use compile::{Level, ObjectRef};
use jiff::Timestamp;

use super::collection::{Entry, FileState, FirstSeen, InForce};
use super::document::Document;
use super::finding::Finding;
use super::locate::{Lines, join};
use super::manifest::{self, Manifest, Note, Read, Stamp};
use super::scan::Digest;

/// Reads one file.
pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) in_force: &'a HashMap<ObjectRef, InForce>,
    pub(super) seen: &'a mut dyn FirstSeen,
    pub(super) file: FileState,
    /// Whether there was something that could not even be named.
    pub(super) unnamed: bool,
    /// Whether an object keeps an earlier state.
    pub(super) held: bool,
}

impl Reader<'_> {
    pub(super) fn document(&mut self, document: Document<'_>) {
        let Document { line, text, value } = document;
        let value = match value {
            Ok(value) => value,
            Err(unread) => {
                self.unnamed = true;
                let closed = unread
                    .beginning
                    .and_then(Manifest::closing)
                    .is_some_and(|manifest| self.close(manifest, line));
                // Where a marker is missing, another object begins in the same text.
                let more = manifest::mentions_of_auth_plugin(text) > usize::from(closed);
                self.file.hides |= more;
                let finding = Finding::of_text(self.path.to_owned(), unread.line, unread.message);
                self.file.findings.push(finding);
                return;
            }
        };
        let lines = Lines::new(text);
        let position =
            |at: &str, field: &str| line + lines.line_of(&join(at, field)).saturating_sub(1);
        for manifest in manifest::expand(value) {
            self.manifest(manifest, &position);
        }
    }

    fn manifest(&mut self, manifest: Manifest, position: &dyn Fn(&str, &str) -> u32) {
        let at = manifest.at.clone();
        let reference = manifest.reference();
        let digest = manifest.digest();
        if let Some(reference) = &reference
            && let Some(first) = self.file.objects.get(reference)
        {
            let first = first.line;
            self.twice(reference, first, position(&at, ""));
            return;
        }
        let before = reference
            .as_ref()
            .and_then(|reference| self.in_force.get(reference));
        // What is in force already need not be decoded again.
        if let (Some(reference), Some(before)) = (&reference, before)
            && before.digest == digest
            && before.good
            && !before.noted
        {
            let entry = Entry {
                line: position(&at, ""),
                at,
                digest,
                waiting: None,
                good: true,
                noted: false,
                told: false,
            };
            self.file.objects.insert(reference.clone(), entry);
            return;
        }
        let was_good = before.is_some_and(|before| before.good);
        let may_protect = manifest.may_protect();
        let stamp = Stamp {
            created: reference
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |reference| {
                    self.seen.first_seen(reference)
                }),
            generation: before.map_or(1, |before| before.generation + 1),
        };
        match manifest.decode(reference.as_ref(), stamp) {
            Read::Object { object, notes } => {
                let noted = !notes.is_empty();
                for note in notes {
                    let line = position(&at, &note.field);
                    self.note(reference.as_ref(), line, note);
                }
                let Some(reference) = reference else { return };
                let line = position(&at, "");
                let misfit = object
                    .unreadable()
                    .map(|unreadable| (unreadable.field.clone(), unreadable.message.clone()));
                let good = misfit.is_none();
                let waiting = match misfit {
                    Some((field, message)) if was_good => {
                        self.hold(&reference, position(&at, &field), field, &message);
                        None
                    }
                    _ => Some(*object),
                };
                self.file.objects.insert(
                    reference,
                    Entry {
                        line,
                        at,
                        digest,
                        waiting,
                        good,
                        noted,
                        told: false,
                    },
                );
            }
            Read::Refused { reference, note } => {
                self.file.hides |= may_protect && !was_good;
                self.refused(reference, was_good, at, digest, note, position)
            }
        }
    }

    fn twice(&mut self, reference: &ObjectRef, first: u32, line: u32) {
        let message = format!("is also on line {first}, which counts; remove one of the two");
        let note = Note {
            level: Level::Error,
            field: String::new(),
            message,
        };
        self.note(Some(reference), line, note);
    }

    /// Nobody knows how an AuthPlugin protects when its text cannot be read, so nothing passes: unless its last good
    /// state is still in force.
    fn close(&mut self, manifest: Manifest, line: u32) -> bool {
        let Some(reference) = manifest.reference() else {
            return false;
        };
        if self.in_force.contains_key(&reference) {
            return true;
        }
        if self.file.objects.contains_key(&reference) {
            return false;
        }
        let stamp = Stamp {
            created: self.seen.first_seen(&reference),
            generation: 1,
        };
        let (at, digest) = (manifest.at.clone(), manifest.digest());
        if let Read::Object { object, .. } = manifest.decode(Some(&reference), stamp) {
            let entry = Entry {
                line,
                at,
                digest,
                waiting: Some(*object),
                good: false,
                noted: true,
                told: true,
            };
            self.file.objects.insert(reference, entry);
            return true;
        }
        false
    }

    fn refused(
        &mut self,
        reference: Option<ObjectRef>,
        was_good: bool,
        at: String,
        digest: Digest,
        note: Note,
        position: &dyn Fn(&str, &str) -> u32,
    ) {
        let line = position(&at, &note.field);
        match reference {
            Some(reference) if was_good => {
                self.hold(&reference, line, note.field, &note.message);
                let entry = Entry {
                    line: position(&at, ""),
                    at,
                    digest,
                    waiting: None,
                    good: false,
                    noted: true,
                    told: false,
                };
                self.file.objects.insert(reference, entry);
            }
            reference => {
                // A kind that is passed over is no object of ours; anything else could have been one.
                self.unnamed |= note.level == Level::Error;
                self.note(reference.as_ref(), line, note);
            }
        }
    }

    fn hold(&mut self, reference: &ObjectRef, line: u32, field: String, message: &str) {
        self.held = true;
        let message = format!("{message}; the object keeps its last good state");
        self.note(
            Some(reference),
            line,
            Note {
                level: Level::Error,
                field,
                message,
            },
        );
    }

    fn note(&mut self, reference: Option<&ObjectRef>, line: u32, note: Note) {
        let Note {
            level,
            field,
            message,
        } = note;
        self.file.findings.push(Finding {
            path: self.path.to_owned(),
            line,
            level,
            object: reference.cloned(),
            field,
            message,
        });
    }
}
