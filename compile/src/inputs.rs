//! The objects there are.

use std::collections::BTreeMap;

use crate::object::Body;
use crate::{Object, ObjectRef};

/// All objects, by kind, namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    objects: BTreeMap<ObjectRef, Object>,
}

impl Inputs {
    /// Takes an object in; none where it is the same as before, else what was there.
    pub(crate) fn apply(&mut self, object: Object) -> bool {
        if self.objects.get(&object.reference) == Some(&object) {
            return false;
        }
        self.objects.insert(object.reference.clone(), object);
        true
    }

    pub(crate) fn delete(&mut self, reference: &ObjectRef) -> bool {
        self.objects.remove(reference).is_some()
    }

    pub(crate) fn secrets_without_data(&self) -> impl Iterator<Item = &ObjectRef> {
        self.objects
            .values()
            .filter_map(|object| match &object.body {
                Body::Secret(secret) if secret.data.is_none() => Some(&object.reference),
                _ => None,
            })
    }
}
