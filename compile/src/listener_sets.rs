//! ListenerSets: listeners that others add to a Gateway.

use gateway_api::apis::standard::gateways::{
    GatewayAllowedListenersNamespacesFrom as From, GatewayListeners, GatewaySpec,
};
use gateway_api::apis::standard::listenersets::ListenerSetParentRef;
use serde::Deserialize;
use serde_json::Value;

use crate::findings::Reasons;
use crate::gateways::{Gateways, Parent};
use crate::kind::GATEWAY_GROUP;
use crate::object::{Body, decode};
use crate::pass::Pass;
use crate::selectors::{Operator, Selector};
use crate::{Condition, Kind, Object, ObjectRef, StatusBody};

/// What is kept of a ListenerSet. Its listeners have the fields of a Gateway's.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct ListenerSetBody {
    #[serde(rename = "parentRef")]
    parent_ref: ListenerSetParentRef,
    pub(crate) listeners: Vec<GatewayListeners>,
}

impl<'a> Pass<'a> {
    /// Adds the sets of Gateways that are ours, the older first: where two want the same, the older has it, and the Gateway's
    /// own listeners come before all.
    pub(crate) fn listener_sets(&mut self, gateways: &mut Gateways<'a>) {
        let inputs = self.inputs;
        let mut objects: Vec<&Object> = inputs.all(Kind::ListenerSet).collect();
        objects.sort_by_key(|object| (object.meta.created, &object.reference));
        for object in objects {
            match &object.body {
                Body::ListenerSet(set) => {
                    let gateway = parent(object, &set.parent_ref);
                    let found = gateway.and_then(|gateway| gateways.find(&gateway));
                    let Some(gateway) = found.map(|parent| parent.gateway) else {
                        continue;
                    };
                    let new = self.listener_set(object, &set.listeners, gateway, gateways);
                    gateways.push(new);
                }
                Body::Unreadable(bad) => {
                    self.findings.error(
                        &object.reference,
                        "InvalidField",
                        bad.field.clone(),
                        bad.message.clone(),
                    );
                    let named = bad.spec.get("parentRef").cloned().unwrap_or(Value::Null);
                    let named: Option<ListenerSetParentRef> = decode("", named).ok();
                    let gateway = named.and_then(|named| parent(object, &named));
                    if gateway.is_some_and(|gateway| gateways.find(&gateway).is_some()) {
                        let message = format!("{}: {}", bad.field, bad.message);
                        let conditions = ["Accepted", "Programmed"]
                            .map(|kind| Condition::no(kind, "Invalid", message.clone()))
                            .into();
                        let status = StatusBody::ListenerSet {
                            conditions,
                            listeners: Vec::new(),
                        };
                        self.findings.status(object, status);
                    }
                }
                _ => {}
            }
        }
    }

    fn listener_set(
        &mut self,
        object: &'a Object,
        wanted: &'a [GatewayListeners],
        gateway: (&'a Object, &'a GatewaySpec),
        gateways: &Gateways<'a>,
    ) -> Parent<'a> {
        let mut refused = Reasons::default();
        let mut listeners = Vec::new();
        if !self.allows(gateway, &object.reference.namespace) {
            let message = format!(
                "{} takes no ListenerSets of namespace {} (allowedListeners)",
                gateway.0.reference, object.reference.namespace
            );
            self.findings.error(
                &object.reference,
                "NotAllowed",
                "spec.parentRef",
                message.clone(),
            );
            refused.add("NotAllowed", message);
        } else {
            let whole = gateways.find(&gateway.0.reference);
            if whole.is_some_and(Parent::is_refused) {
                let message = format!("{} is not accepted", gateway.0.reference);
                refused.add("ParentNotAccepted", message);
            }
            for spec in wanted {
                let mut new = self.listener(object, gateway, spec);
                let before = gateways
                    .of_gateway(&gateway.0.reference)
                    .filter(|other| other.accepted.is_empty() && other.conflicted.is_empty())
                    .map(|other| {
                        (
                            &other.spec.name,
                            other.spec.port,
                            other.protocol,
                            other.hostname.clone(),
                        )
                    })
                    .chain(
                        listeners
                            .iter()
                            .map(|other: &crate::listeners::Listener<'_>| {
                                (
                                    &other.spec.name,
                                    other.spec.port,
                                    other.protocol,
                                    other.hostname.clone(),
                                )
                            }),
                    )
                    .collect::<Vec<_>>();
                for (name, port, protocol, hostname) in before {
                    if new.conflict(name, (port, protocol, &hostname)) {
                        break;
                    }
                }
                listeners.push(new);
            }
        }
        Parent::of_set(object, gateway, listeners, refused)
    }

    /// Whether a Gateway takes ListenerSets of a namespace.
    fn allows(&self, (gateway, spec): (&Object, &GatewaySpec), namespace: &str) -> bool {
        let allowed = spec.allowed_listeners.as_ref();
        let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
        match namespaces.and_then(|namespaces| namespaces.from.as_ref()) {
            None | Some(From::None) => false,
            Some(From::All) => true,
            Some(From::Same) => *gateway.reference.namespace == *namespace,
            Some(From::Selector) => {
                let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
                selector.is_some_and(|selector| {
                    let expressions = selector.match_expressions.iter().flatten();
                    let selector = Selector {
                        labels: selector.match_labels.clone().unwrap_or_default(),
                        expressions: expressions
                            .map(|wanted| {
                                (
                                    wanted.key.clone(),
                                    Operator::from_name(&wanted.operator),
                                    wanted.values.clone().unwrap_or_default(),
                                )
                            })
                            .collect(),
                    };
                    selector.matches_namespace(self.inputs, namespace)
                })
            }
        }
    }
}

/// The Gateway that a set names.
fn parent(object: &Object, named: &ListenerSetParentRef) -> Option<ObjectRef> {
    let group = named.group.as_deref().unwrap_or(GATEWAY_GROUP);
    let kind = named.kind.as_deref().unwrap_or("Gateway");
    let own = &object.reference.namespace;
    let namespace = named.namespace.as_deref().unwrap_or(own);
    ((group, kind) == (GATEWAY_GROUP, "Gateway"))
        .then(|| ObjectRef::new(Kind::Gateway, namespace, &named.name))
}
