//! From objects to the snapshot, one change at a time.

use crate::{Object, ObjectRef, Settings, Update};

/// Holds the objects and what followed from them.
#[derive(Debug)]
pub struct Compiler {
    settings: Settings,
}

impl Compiler {
    /// A compiler that has seen no object yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Takes an object in; false where nothing that matters changed (resourceVersion, managedFields, status …).
    pub fn apply(&mut self, object: Object) -> bool;

    /// Forgets an object; false where it was not there.
    pub fn delete(&mut self, object: &ObjectRef) -> bool;

    /// Whether the data of this Secret are needed: something refers to it, or its label says that it is a Credential.
    /// A watcher drops the data of others before it hands them in, and fetches them when a reference appears.
    pub fn needs_secret(&self, namespace: &str, name: &str) -> bool;

    /// Secrets that are needed, exist, and whose data were dropped: to be fetched now.
    pub fn missing_secret_data(&self) -> Vec<ObjectRef>;

    /// What changed since the last call. Costs what changed for Credentials and Endpoints; routes, listeners and
    /// plugins are recompiled as a whole.
    pub fn update(&mut self) -> Update;

    /// The whole snapshot in force.
    pub fn snapshot(&self) -> &snapshot::Set;
}
