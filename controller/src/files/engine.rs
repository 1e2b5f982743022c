//! From files to the proxy: scan, compile, hand over.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compile::{Compiler, Level, Object, ObjectRef, Update, WantedSecret};
use jiff::Timestamp;
use parking_lot::RwLock;
use snapshot::proto::Refusal;
use snapshot::{Change, Diff};

use super::collection::Collection;
use super::document;
use super::finding::Finding;
use super::locate::{Lines, join};
use super::places::Places;
use super::scan::{FileKey, Input, Scanner};
use super::started::InForce;
use super::state::{State, StateError};
use crate::held::Held;

/// Everything between the files and the channel to the proxy. Blocking: it reads and writes files.
#[derive(Debug)]
pub(super) struct Engine {
    scanner: Scanner,
    collection: Arc<RwLock<Collection>>,
    state: State,
    held: Held,
    /// Generated Secrets, by the object that owns them.
    generated: HashMap<ObjectRef, ObjectRef>,
    /// What was said already.
    said: BTreeSet<Finding>,
    manifests: Option<Arc<str>>,
    /// What is compiled but not handed over yet, before the first time.
    withheld: Diff,
    /// Why.
    hiding: Vec<PathBuf>,
    started: i64,
    count: u64,
}

/// What follows from a look at the files.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    /// For the proxy; None where nothing changed.
    pub(super) change: Option<Change>,
    /// When to look again although nothing may happen.
    pub(super) again: Option<Duration>,
    /// Folders outside of the inputs to which links lead.
    pub(super) linked: HashSet<PathBuf>,
    /// What could not be written to the state folder. What changed is in force all the same.
    pub(super) trouble: Option<StateError>,
}

impl Engine {
    pub(super) fn new(scanner: Scanner, state: State, settings: compile::Settings) -> Self {
        Self {
            scanner,
            collection: Arc::default(),
            state,
            held: Held::new(settings),
            generated: HashMap::new(),
            said: BTreeSet::new(),
            manifests: None,
            withheld: Diff::default(),
            hiding: Vec::new(),
            started: Timestamp::now().as_second(),
            count: 0,
        }
    }

    /// The objects, for others to read.
    pub(super) fn held(&self) -> Held {
        self.held.clone()
    }

    /// Where the objects stand, for others to ask.
    pub(super) fn places(&self, inputs: &[Input]) -> Places {
        Places {
            collection: Arc::clone(&self.collection),
            inputs: inputs.into(),
        }
    }

    /// Looks at the files; `thorough` reads also those that do not look changed.
    pub(super) fn refresh(&mut self, thorough: bool) -> Refresh {
        let scan = self.scanner.scan(thorough);
        let mut refresh = Refresh {
            linked: scan.linked.clone(),
            ..Refresh::default()
        };
        let changes =
            self.collection
                .write()
                .take(scan, &self.scanner, &mut self.state, Instant::now());
        refresh.again = changes.again;
        for key in &changes.reread {
            self.scanner.forget(key);
            refresh.again = Some(Duration::ZERO);
        }
        if !changes.any && self.count > 0 {
            return refresh;
        }
        let update = self.compile(changes.apply, &changes.delete, &mut refresh.trouble);
        if self.count == 0 {
            let there = self.collection.read().state_keys();
            self.state
                .sweep(|key| there.contains(key), Timestamp::now());
        }
        self.state.gone(&changes.delete, Timestamp::now());
        keep_trouble(&mut refresh.trouble, self.state.save());
        self.report(&update);
        let manifests: Arc<str> = self.collection.read().digest(&self.scanner).into();
        let same = self.manifests.as_ref() == Some(&manifests);
        let diff = merged(std::mem::take(&mut self.withheld), update.diff);
        if self.count == 0 && self.hides() {
            self.withheld = diff;
            return refresh;
        }
        if same && diff.is_empty() && self.count > 0 {
            return refresh;
        }
        self.count += 1;
        self.manifests = Some(Arc::clone(&manifests));
        let version = format!("{}.{}", self.started, self.count);
        refresh.change = Some(Change {
            version: version.into(),
            diff,
            manifests: Some(manifests),
        });
        refresh
    }

    /// Whether an AuthPlugin may be missing of which nobody knows what it protects; says so. Later on, what cannot be read
    /// changes nothing, but before the first time there is no good state to keep.
    fn hides(&mut self) -> bool {
        let hiding = self.collection.read().hiding(&self.scanner);
        if hiding != self.hiding {
            for path in &hiding {
                tracing::error!(
                    path = %path.display(),
                    "nothing is served until this can be read: there may be an AuthPlugin in it"
                );
            }
            self.hiding = hiding;
        }
        !self.hiding.is_empty()
    }

    /// Compiles, and generates the Secrets that are asked for.
    fn compile(
        &mut self,
        apply: Vec<Object>,
        delete: &[ObjectRef],
        trouble: &mut Option<StateError>,
    ) -> Update {
        let held = self.held.clone();
        let mut compiler = held.write();
        for reference in delete {
            compiler.delete(reference);
            if let Some(secret) = self.generated.remove(reference) {
                keep_trouble(trouble, self.state.forget_secret(&secret));
                if !self.collection.read().holds(&secret) {
                    compiler.delete(&secret);
                }
            }
        }
        for object in apply {
            compiler.apply(object);
        }
        let mut update = compiler.update();
        let wanted = std::mem::take(&mut update.wanted_secrets);
        let mut fed = false;
        for wanted in &wanted {
            match self.generate(&mut compiler, wanted) {
                Ok(applied) => fed |= applied,
                Err(error) => keep_trouble(trouble, Err(error)),
            }
        }
        if fed {
            let mut after = compiler.update();
            after.diff = merged(std::mem::take(&mut update.diff), after.diff);
            let mut statuses = std::mem::take(&mut update.statuses);
            statuses.append(&mut after.statuses);
            after.statuses = statuses;
            update = after;
        }
        update
    }

    fn generate(
        &mut self,
        compiler: &mut Compiler,
        wanted: &WantedSecret,
    ) -> Result<bool, StateError> {
        let seen = self.state.first_seen(&wanted.owner, Timestamp::now());
        let secret = self.state.generated(wanted, seen)?;
        let Ok(object) = Object::from_json(secret) else {
            return Ok(false);
        };
        let reference = object.reference().clone();
        tracing::info!(
            owner = %wanted.owner,
            file = %self.state.secret_path(&reference).display(),
            "the generated secret is in this file"
        );
        self.generated.insert(wanted.owner.clone(), reference);
        Ok(compiler.apply(object))
    }

    /// Says what is new about the files and the objects in them.
    fn report(&mut self, update: &Update) {
        let findings: BTreeSet<Finding> = self.findings(update).into_iter().collect();
        for finding in findings.difference(&self.said) {
            match finding.level {
                Level::Error => tracing::error!("{finding}"),
                Level::Warning => tracing::warn!("{finding}"),
            }
        }
        let solved = self
            .said
            .difference(&findings)
            .filter(|finding| finding.level == Level::Error)
            .count();
        if solved > 0 {
            tracing::info!(solved, "errors in the manifests are gone");
        }
        self.said = findings;
    }

    /// All findings in force.
    pub(super) fn findings(&self, update: &Update) -> Vec<Finding> {
        let collection = self.collection.read();
        let mut all = collection.findings(&self.scanner);
        all.extend(located(&self.scanner, &collection, update));
        all
    }

    /// What the proxy has been given.
    pub(super) fn in_force(&self, refusals: &[Refusal]) -> InForce {
        InForce::of(self.held.read().snapshot(), refusals, self.counts())
    }

    /// How many objects are in force, and how many errors there are in the files.
    fn counts(&self) -> (usize, usize) {
        let errors = self
            .said
            .iter()
            .filter(|finding| finding.level == Level::Error)
            .count();
        (self.collection.read().len(), errors)
    }
}

/// The compiler's diagnostics as findings. The files are read again to tell the lines: diagnostics are few.
pub(super) fn located(scanner: &Scanner, collection: &Collection, update: &Update) -> Vec<Finding> {
    let mut by_file: BTreeMap<&FileKey, Vec<_>> = BTreeMap::new();
    let mut all = Vec::new();
    for diagnostic in update.diagnostics.iter() {
        let finding = Finding {
            path: PathBuf::from("-"),
            line: 0,
            level: diagnostic.level,
            object: Some(diagnostic.object.clone()),
            field: diagnostic.field.clone(),
            message: diagnostic.message.clone(),
        };
        match collection.place(&diagnostic.object) {
            Some(place) if place.told => {}
            Some(place) => by_file
                .entry(place.file)
                .or_default()
                .push((place, finding)),
            None => all.push(finding),
        }
    }
    for (key, findings) in by_file {
        let path = scanner.display(key);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let parts = document::split(&text);
        for (place, mut finding) in findings {
            finding.path.clone_from(&path);
            finding.line = parts
                .iter()
                .rev()
                .find(|(line, _)| *line <= place.line)
                .map_or(place.line, |(line, text)| {
                    line + Lines::new(text)
                        .line_of(&join(place.at, &finding.field))
                        .saturating_sub(1)
                });
            all.push(finding);
        }
    }
    all
}

/// The first trouble is told; mostly it is the cause of all.
fn keep_trouble(trouble: &mut Option<StateError>, result: Result<(), StateError>) {
    if let Err(error) = result {
        trouble.get_or_insert(error);
    }
}

/// One difference that does what the two do one after the other.
fn merged(mut first: Diff, second: Diff) -> Diff {
    if first.removals.is_empty() && first.upserts.is_empty() {
        return second;
    }
    for key in second.removals {
        first.upserts.remove(&key);
        if !first.removals.contains(&key) {
            first.removals.push(key);
        }
    }
    if !first.removals.is_empty() {
        first
            .removals
            .retain(|key| !second.upserts.contains_key(key));
    }
    first.upserts.extend(second.upserts);
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use snapshot::{Entry, Set, proto};

    fn set(of: &BTreeMap<u8, u8>) -> Set {
        let mut set = Set::default();
        for (key, value) in of {
            let resource = proto::Resource {
                key: value.to_string(),
                body: None,
            };
            set.insert(key.to_string(), Entry::new(&resource));
        }
        set
    }

    proptest! {
        #[test]
        fn two_differences_become_one(a: BTreeMap<u8, u8>, b: BTreeMap<u8, u8>, c: BTreeMap<u8, u8>) {
            let (a, b, c) = (set(&a), set(&b), set(&c));
            let mut result = a.clone();
            result.apply(&merged(a.diff(&b), b.diff(&c)));
            prop_assert!(result.diff(&c).is_empty());
        }
    }
}
