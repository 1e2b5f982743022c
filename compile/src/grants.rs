//! ReferenceGrants: which namespaces let others refer into them.

use std::collections::BTreeMap;

use gateway_api::apis::standard::referencegrants::ReferenceGrantSpec;

use crate::Kind;
use crate::inputs::Inputs;
use crate::object::Body;

/// All grants, by the namespace that they open.
#[derive(Debug, Default)]
pub(crate) struct Grants<'a>(BTreeMap<&'a str, Vec<&'a ReferenceGrantSpec>>);

/// One side of a reference: group, kind, namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
}

impl<'a> Grants<'a> {
    pub(crate) fn of(inputs: &'a Inputs) -> Self {
        let mut grants: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for object in inputs.all(Kind::ReferenceGrant) {
            if let Body::ReferenceGrant(spec) = &object.body {
                grants
                    .entry(&object.reference.namespace)
                    .or_default()
                    .push(&**spec);
            }
        }
        Self(grants)
    }

    /// Whether an object may refer to another one. Within a namespace everything may.
    pub(crate) fn permit(&self, from: Side<'_>, to: Side<'_>, name: &str) -> bool {
        if from.namespace == to.namespace {
            return true;
        }
        self.0.get(to.namespace).into_iter().flatten().any(|grant| {
            let from_fits = grant.from.iter().any(|allowed| {
                allowed.group == from.group
                    && allowed.kind == from.kind
                    && allowed.namespace == from.namespace
            });
            let to_fits = grant.to.iter().any(|allowed| {
                allowed.group == to.group
                    && allowed.kind == to.kind
                    && allowed
                        .name
                        .as_deref()
                        .is_none_or(|allowed| allowed == name)
            });
            from_fits && to_fits
        })
    }
}

/// How to permit what is not permitted, for messages.
pub(crate) fn remedy(from: Side<'_>, to: Side<'_>) -> String {
    format!(
        "a ReferenceGrant in namespace {} from {} {} of namespace {} to {} is needed",
        to.namespace, from.group, from.kind, from.namespace, to.kind
    )
}
