//! `postern check`: what `postern run` would say of the same files, without running.

use std::time::Instant;

use compile::{Compiler, Level, ObjectRef, Settings};
use jiff::Timestamp;
use snapshot::Change;

use super::collection::{Collection, FirstSeen};
use super::engine::located;
use super::finding::Finding;
use super::scan::{Input, Scanner};

/// The verdict on a set of files.
#[derive(Debug)]
pub struct Verdict {
    /// Sorted by file and line.
    pub findings: Vec<Finding>,
    /// How many files were read.
    pub files: usize,
    /// How many objects are in them.
    pub objects: usize,
}

impl Verdict {
    /// Findings of a level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    }
}

/// Objects of a check are all as old as each other.
struct Now(Timestamp);

impl FirstSeen for Now {
    fn first_seen(&mut self, _: &ObjectRef) -> Timestamp {
        self.0
    }
}

/// Validates files and folders as one set.
#[must_use]
pub fn check(inputs: Vec<Input>, settings: Settings) -> Verdict {
    compiled(inputs, settings).0
}

/// Validates files and folders as one set, and returns what a proxy would be told of them. Values that are generated are
/// not there: what needs them is as it is before they are.
#[must_use]
pub fn compiled(inputs: Vec<Input>, settings: Settings) -> (Verdict, Change) {
    let mut scanner = Scanner::new(inputs);
    let scan = scanner.scan(true);
    let files = scan.files.len();
    let mut collection = Collection::default();
    let changes = collection.take(scan, &scanner, &mut Now(Timestamp::now()), Instant::now());
    let mut compiler = Compiler::new(settings);
    for object in changes.apply {
        compiler.apply(object);
    }
    let update = compiler.update();
    let mut findings = collection.findings(&scanner);
    findings.extend(located(&scanner, &collection, &update));
    findings.sort();
    findings.dedup();
    let verdict = Verdict {
        findings,
        files,
        objects: collection.len(),
    };
    let change = Change {
        version: "offline".into(),
        diff: update.diff,
        manifests: None,
    };
    (verdict, change)
}
