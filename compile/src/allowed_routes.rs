//! Which routes a listener takes.

use gateway_api::apis::standard::gateways::{
    GatewayListeners, GatewayListenersAllowedRoutesNamespaces,
    GatewayListenersAllowedRoutesNamespacesFrom as From,
};
use snapshot::proto::Protocol;

use crate::Kind;
use crate::findings::Reasons;
use crate::inputs::Inputs;
use crate::kind::GATEWAY_GROUP;
use crate::selectors::{Operator, Selector};

/// `allowedRoutes` of a listener.
#[derive(Debug)]
pub(crate) struct AllowedRoutes {
    /// The kinds that it takes and that Postern serves.
    pub(crate) kinds: Vec<&'static str>,
    namespaces: Namespaces,
}

#[derive(Debug)]
enum Namespaces {
    One(String),
    All,
    Selected(Selector),
}

impl AllowedRoutes {
    pub(crate) fn of(
        spec: &GatewayListeners,
        own: &str,
        protocol: Protocol,
        resolved: &mut Reasons,
    ) -> Self {
        let served: &[&'static str] = match protocol {
            Protocol::Http | Protocol::Https => &["HTTPRoute", "GRPCRoute"],
            Protocol::Tls => &["TLSRoute"],
            Protocol::Unspecified => &[],
        };
        let allowed = spec.allowed_routes.as_ref();
        let mut kinds = Vec::new();
        match allowed
            .and_then(|allowed| allowed.kinds.as_deref())
            .filter(|kinds| !kinds.is_empty())
        {
            None => kinds.extend(served),
            Some(wanted) => {
                for kind in wanted {
                    let group = kind.group.as_deref().unwrap_or(GATEWAY_GROUP);
                    let served = served
                        .iter()
                        .find(|served| group == GATEWAY_GROUP && **served == kind.kind);
                    if let Some(served) = served {
                        if !kinds.contains(served) {
                            kinds.push(served);
                        }
                    } else {
                        let message = format!(
                            "kind {} of group {group} cannot be attached here",
                            kind.kind
                        );
                        resolved.add("InvalidRouteKinds", message);
                    }
                }
            }
        }
        let namespaces =
            Namespaces::of(allowed.and_then(|allowed| allowed.namespaces.as_ref()), own);
        Self { kinds, namespaces }
    }

    /// Whether a route of this kind and namespace may attach.
    pub(crate) fn route(&self, inputs: &Inputs, kind: Kind, namespace: &str) -> bool {
        self.kinds.contains(&kind.kind())
            && match &self.namespaces {
                Namespaces::One(own) => own == namespace,
                Namespaces::All => true,
                Namespaces::Selected(selector) => selector.matches_namespace(inputs, namespace),
            }
    }
}

impl Namespaces {
    fn of(spec: Option<&GatewayListenersAllowedRoutesNamespaces>, own: &str) -> Self {
        match spec.and_then(|spec| spec.from.as_ref()) {
            None | Some(From::Same) => Self::One(own.to_owned()),
            Some(From::All) => Self::All,
            Some(From::Selector) => {
                let Some(selector) = spec.and_then(|spec| spec.selector.as_ref()) else {
                    // Without a selector nothing is selected.
                    let nothing = (String::new(), Operator::Unknown, Vec::new());
                    return Self::Selected(Selector {
                        expressions: vec![nothing],
                        ..Selector::default()
                    });
                };
                let expressions = selector.match_expressions.iter().flatten();
                Self::Selected(Selector {
                    labels: selector.match_labels.clone().unwrap_or_default(),
                    expressions: expressions
                        .map(|wanted| {
                            let values = wanted.values.clone().unwrap_or_default();
                            (
                                wanted.key.clone(),
                                Operator::from_name(&wanted.operator),
                                values,
                            )
                        })
                        .collect(),
                })
            }
        }
    }
}
