//! Where objects stand, for others to ask.

use std::path::PathBuf;
use std::sync::Arc;

use compile::ObjectRef;
use parking_lot::RwLock;

use super::collection::Collection;
use super::scan::{FileKey, Input};

/// Tells the file of each object in force.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(super) collection: Arc<RwLock<Collection>>,
    pub(super) inputs: Arc<[Input]>,
}

impl Places {
    /// File, as the user would name it, and line.
    pub(crate) fn of(&self, object: &ObjectRef) -> Option<(PathBuf, u32)> {
        let collection = self.collection.read();
        let place = collection.place(object)?;
        Some((self.display(place.file), place.line))
    }

    fn display(&self, key: &FileKey) -> PathBuf {
        match self.inputs.get(key.input) {
            Some(Input::Path(path)) if key.name.as_os_str().is_empty() => path.clone(),
            Some(Input::Path(path)) => path.join(&key.name),
            _ => PathBuf::from("-"),
        }
    }
}
