//! Statuses and diagnostics in force, to tell what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use crate::findings::Findings;
use crate::{Diagnostic, ObjectRef, ObjectStatus};

/// What was said last.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Of what a pass compiles as a whole.
    statuses: BTreeMap<ObjectRef, ObjectStatus>,
    diagnostics: Vec<Diagnostic>,
    /// Of what is compiled alone. There may be many of them, so only a hash of each is kept.
    single_statuses: BTreeMap<ObjectRef, u64>,
    single_diagnostics: BTreeMap<ObjectRef, Vec<Diagnostic>>,
    changed: bool,
}

impl Ledger {
    /// Takes what a pass found.
    pub(crate) fn whole(
        &mut self,
        findings: Findings,
        changed: &mut BTreeMap<ObjectRef, ObjectStatus>,
        dropped: &mut BTreeSet<ObjectRef>,
    ) {
        dropped.extend(
            self.statuses
                .keys()
                .filter(|object| !findings.statuses.contains_key(*object))
                .cloned(),
        );
        for (object, status) in &findings.statuses {
            if self.statuses.get(object) != Some(status) {
                changed.insert(object.clone(), status.clone());
            }
        }
        self.statuses = findings.statuses;
        let mut diagnostics = findings.diagnostics;
        diagnostics.sort_unstable();
        if self.diagnostics != diagnostics {
            self.diagnostics = diagnostics;
            self.changed = true;
        }
    }

    /// Takes what was found about one object.
    pub(crate) fn single(
        &mut self,
        object: &ObjectRef,
        findings: Findings,
        changed: &mut BTreeMap<ObjectRef, ObjectStatus>,
        dropped: &mut BTreeSet<ObjectRef>,
    ) {
        let Findings {
            mut statuses,
            diagnostics,
        } = findings;
        match statuses.remove(object) {
            Some(status) => {
                let hash = hash(&status);
                if self.single_statuses.insert(object.clone(), hash) != Some(hash) {
                    changed.insert(object.clone(), status);
                }
            }
            None => {
                if self.single_statuses.remove(object).is_some() {
                    dropped.insert(object.clone());
                }
            }
        }
        let old = self
            .single_diagnostics
            .get(object)
            .map(Vec::as_slice)
            .unwrap_or_default();
        if old != diagnostics {
            self.changed = true;
            if diagnostics.is_empty() {
                self.single_diagnostics.remove(object);
            } else {
                self.single_diagnostics.insert(object.clone(), diagnostics);
            }
        }
    }

    /// Whether diagnostics changed since the last call.
    pub(crate) const fn take_changed(&mut self) -> bool {
        std::mem::replace(&mut self.changed, false)
    }

    /// All diagnostics, by object.
    pub(crate) fn diagnostics(&self) -> Arc<[Diagnostic]> {
        let singles = self.single_diagnostics.values().flatten();
        let mut all: Vec<_> = self.diagnostics.iter().chain(singles).cloned().collect();
        all.sort_unstable();
        all.dedup();
        all.into()
    }
}

/// Statuses hold JSON, which is not hashable, but they print all that they hold.
fn hash(status: &ObjectStatus) -> u64 {
    struct Hashed(DefaultHasher);
    impl Write for Hashed {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut hashed = Hashed(DefaultHasher::new());
    // Writing to a hasher does not fail.
    let _ = write!(hashed, "{status:?}");
    hashed.0.finish()
}
