//! Keeps a Service for every Gateway, and knows where clients reach the fleet.
//!
//! Services are found by label and need no finalizer: what a Gateway that is gone left behind is deleted whenever somebody
//! looks. In the controller's own namespace a Service selects the fleet's pods. A selector does not cross namespaces: where
//! Services are with their Gateways, `slices` names the addresses of the pods.

mod keeper;
mod owner;
mod service;
mod sight;
mod slices;
mod told;
mod writer;

use std::collections::BTreeMap;

use compile::ServicePlace;
use kube::api::ObjectMeta;

pub(crate) use keeper::Keeper;

/// Marks the Services that are kept here; the value is always the same.
const LABEL: &str = "postern.dev/component";
const COMPONENT: &str = "gateway";
/// Outside the controller's namespace: whose it is, by that namespace. A cluster may have several installations.
const INSTALLATION: &str = "postern.dev/installation";

/// How Services are made.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The controller's namespace.
    pub(crate) namespace: String,
    /// Whether Services are there, or with their Gateways.
    pub(crate) place: ServicePlace,
    /// The namespaces that Gateways may be in; empty: all.
    pub(crate) watched: Vec<String>,
    /// The Service of the fleet itself, which Ingresses share.
    pub(crate) fleet: String,
    /// Labels of the fleet's pods.
    pub(crate) selector: BTreeMap<String, String>,
    /// ClusterIP, NodePort or LoadBalancer.
    pub(crate) service_type: String,
    /// Set on every Service.
    pub(crate) annotations: BTreeMap<String, String>,
    /// A ClusterRole that owns the Services outside the controller's namespace, so that they go with it.
    pub(crate) owner: Option<String>,
}

impl Plan {
    /// Whether an object was made by this installation.
    fn is_ours(&self, meta: &ObjectMeta) -> bool {
        let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name));
        let is_kept = label(LABEL).is_some_and(|component| component == COMPONENT);
        let installation = label(INSTALLATION);
        is_kept
            && match installation {
                Some(installation) => *installation == self.namespace,
                None => meta.namespace.as_ref() == Some(&self.namespace),
            }
    }

    /// What every object that is kept outside has.
    fn marks(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([(LABEL.into(), COMPONENT.into())]);
        if self.place == ServicePlace::Gateway {
            labels.insert(INSTALLATION.into(), self.namespace.clone());
        }
        labels
    }
}

/// Whether what is held has the labels, annotations and owners that are desired; what others add does not matter.
fn is_marked(held: &ObjectMeta, desired: &ObjectMeta) -> bool {
    let contains = |held: &Option<BTreeMap<String, String>>,
                    desired: &Option<BTreeMap<String, String>>| {
        desired
            .iter()
            .flatten()
            .all(|(name, value)| held.as_ref().and_then(|held| held.get(name)) == Some(value))
    };
    let owners = held.owner_references.as_deref().unwrap_or_default();
    contains(&held.labels, &desired.labels)
        && contains(&held.annotations, &desired.annotations)
        && desired
            .owner_references
            .iter()
            .flatten()
            .all(|owner| owners.contains(owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn plan(place: ServicePlace) -> Plan {
        Plan {
            namespace: "postern".into(),
            place,
            watched: Vec::new(),
            fleet: "postern-proxy".into(),
            selector: BTreeMap::from([("app.kubernetes.io/component".into(), "proxy".into())]),
            service_type: "LoadBalancer".into(),
            annotations: BTreeMap::from([("example.com/lb".into(), "internal".into())]),
            owner: None,
        }
    }

    #[test]
    fn what_others_made_is_not_ours() {
        let plan = plan(ServicePlace::Gateway);
        for (namespace, labels, ours) in [
            ("postern", &[(LABEL, COMPONENT)][..], true),
            (
                "shop",
                &[(LABEL, COMPONENT), (INSTALLATION, "postern")],
                true,
            ),
            ("postern", &[], false),
            ("postern", &[(LABEL, "proxy")], false),
            ("shop", &[(LABEL, COMPONENT)], false),
            ("shop", &[(INSTALLATION, "postern")], false),
            // Of another installation, whose Gateway is in this one's namespace or elsewhere.
            (
                "postern",
                &[(LABEL, COMPONENT), (INSTALLATION, "other")],
                false,
            ),
            (
                "shop",
                &[(LABEL, COMPONENT), (INSTALLATION, "other")],
                false,
            ),
        ] {
            let all = labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            let meta = ObjectMeta {
                namespace: Some(namespace.into()),
                labels: Some(all),
                ..ObjectMeta::default()
            };
            assert_eq!(plan.is_ours(&meta), ours, "{meta:?}");
        }
    }
}
