//! Label selectors, and the labels of namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::inputs::Inputs;
use crate::{Kind, Settings};

/// Kubernetes gives every namespace this label; files need not.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A label selector, whichever API it was written in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    pub(crate) labels: BTreeMap<String, String>,
    /// Key, operator, values.
    pub(crate) expressions: Vec<(String, Operator, Vec<String>)>,
}

/// Of a condition on a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    /// One that nobody knows matches nothing.
    Unknown,
}

impl Operator {
    pub(crate) fn from_name(name: &str) -> Self {
        match name {
            "In" => Self::In,
            "NotIn" => Self::NotIn,
            "Exists" => Self::Exists,
            "DoesNotExist" => Self::DoesNotExist,
            _ => Self::Unknown,
        }
    }
}

impl Selector {
    fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.labels
            .iter()
            .all(|(key, value)| label(key) == Some(value.as_str()))
            && self.expressions.iter().all(|(key, operator, values)| {
                let found = label(key);
                let listed = found.is_some_and(|found| values.iter().any(|value| value == found));
                match operator {
                    Operator::In => listed,
                    Operator::NotIn => !listed,
                    Operator::Exists => found.is_some(),
                    Operator::DoesNotExist => found.is_none(),
                    Operator::Unknown => false,
                }
            })
    }

    /// Whether the labels of a namespace fit.
    pub(crate) fn matches_namespace(&self, inputs: &Inputs, namespace: &str) -> bool {
        let object = inputs.find(Kind::Namespace, "", namespace);
        self.matches(|label| {
            let own = object
                .and_then(|object| object.meta.labels.get(label))
                .map(String::as_str);
            own.or_else(|| (label == NAME_LABEL).then_some(namespace))
        })
    }
}

/// All namespaces, sorted. Files need not declare theirs: there, those that hold Consumers or Credentials count too.
pub(crate) fn namespaces(inputs: &Inputs, settings: &Settings) -> Vec<Arc<str>> {
    let mut names: Vec<_> = inputs
        .all(Kind::Namespace)
        .map(|object| Arc::clone(&object.reference.name))
        .collect();
    if settings.standalone {
        for kind in [Kind::Consumer, Kind::Credential, Kind::Secret] {
            names.extend(inputs.namespaces_with(kind).cloned());
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators() {
        let matches = |operator, values: &[&str], label: Option<&'static str>| {
            let values = values.iter().map(ToString::to_string).collect();
            let selector = Selector {
                labels: BTreeMap::new(),
                expressions: vec![("k".into(), operator, values)],
            };
            selector.matches(|_| label)
        };
        assert!(matches(Operator::In, &["a", "b"], Some("a")));
        assert!(!matches(Operator::In, &["a"], Some("c")));
        assert!(!matches(Operator::In, &["a"], None));
        assert!(matches(Operator::NotIn, &["a"], None));
        assert!(!matches(Operator::NotIn, &["a"], Some("a")));
        assert!(matches(Operator::Exists, &[], Some("x")));
        assert!(!matches(Operator::Exists, &[], None));
        assert!(matches(Operator::DoesNotExist, &[], None));
        assert!(!matches(Operator::DoesNotExist, &[], Some("x")));
        assert!(!matches(Operator::Unknown, &[], Some("x")));
    }
}
