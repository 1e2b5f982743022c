//! What the control plane may do in a cluster: exactly what its code does, as data that the chart's roles are made from.

/// One rule of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// "" is the core group.
    pub api_groups: &'static [&'static str],
    /// Resources, or subresources as "ingresses/status".
    pub resources: &'static [&'static str],
    /// Names that the rule is limited to; empty: all. `create` cannot be limited by name.
    pub resource_names: &'static [&'static str],
    /// What may be done.
    pub verbs: &'static [&'static str],
}

const fn rule(
    api_groups: &'static [&'static str],
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
) -> Rule {
    Rule {
        api_groups,
        resources,
        resource_names: &[],
        verbs,
    }
}

const READ: &[&str] = &["get", "list", "watch"];
const LISTEN: &[&str] = &["list", "watch"];

/// In the whole cluster (a ClusterRole). Where `--watch-namespaces` restricts the controller, [`NAMESPACED`] may be bound
/// in those namespaces only instead.
pub const CLUSTER: &[Rule] = &[
    rule(&[""], &["namespaces"], LISTEN),
    rule(&["gateway.networking.k8s.io"], &["gatewayclasses"], READ),
    rule(
        &["gateway.networking.k8s.io"],
        &["gatewayclasses/status"],
        &["patch"],
    ),
    rule(&["networking.k8s.io"], &["ingressclasses"], READ),
    // Events about kinds that have no namespace are in `default`.
    rule(&["events.k8s.io"], &["events"], &["create", "patch"]),
    rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
];

/// In every namespace that is watched. `get` is for writing status and Events.
pub const NAMESPACED: &[Rule] = &[
    rule(&[""], &["configmaps"], READ),
    rule(&[""], &["services"], READ),
    // Reads those that something refers to; makes, and completes, those that Credentials want generated.
    rule(
        &[""],
        &["secrets"],
        &["get", "list", "watch", "create", "patch"],
    ),
    rule(&["discovery.k8s.io"], &["endpointslices"], READ),
    rule(&["networking.k8s.io"], &["ingresses"], READ),
    rule(&["networking.k8s.io"], &["ingresses/status"], &["patch"]),
    rule(
        &["gateway.networking.k8s.io"],
        &[
            "gateways",
            "listenersets",
            "httproutes",
            "grpcroutes",
            "tlsroutes",
            "referencegrants",
            "backendtlspolicies",
        ],
        READ,
    ),
    rule(
        &["gateway.networking.k8s.io"],
        &[
            "gateways/status",
            "listenersets/status",
            "httproutes/status",
            "grpcroutes/status",
            "tlsroutes/status",
            "backendtlspolicies/status",
        ],
        &["patch"],
    ),
    rule(
        &["postern.dev"],
        &[
            "consumers",
            "credentials",
            "authplugins",
            "upstreampolicies",
        ],
        READ,
    ),
    rule(
        &["postern.dev"],
        &[
            "consumers/status",
            "credentials/status",
            "authplugins/status",
            "upstreampolicies/status",
        ],
        &["patch"],
    ),
    rule(&["events.k8s.io"], &["events"], &["create", "patch"]),
];

/// In the controller's own namespace (a Role).
pub const OWN: &[Rule] = &[
    rule(&["coordination.k8s.io"], &["leases"], &["create"]),
    Rule {
        api_groups: &["coordination.k8s.io"],
        resources: &["leases"],
        resource_names: &["postern-controller"],
        verbs: &["get", "update"],
    },
    rule(&[""], &["secrets"], &["create"]),
    Rule {
        api_groups: &[""],
        resources: &["secrets"],
        resource_names: &["postern-ca"],
        verbs: &["get", "update"],
    },
    // The authority's certificates for proxies, and what replicas tell each other about theirs.
    rule(
        &[""],
        &["configmaps"],
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    // A Service for each Gateway.
    rule(
        &[""],
        &["services"],
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
];

/// With the Admin API, in the whole cluster: whether callers may do to objects what they call for.
pub const ADMIN_CLUSTER: &[Rule] = &[rule(
    &["authorization.k8s.io"],
    &["subjectaccessreviews"],
    &["create"],
)];

/// With the Admin API, in every namespace that is watched: what callers may have written. Secrets are under [`NAMESPACED`].
pub const ADMIN_NAMESPACED: &[Rule] = &[rule(
    &["postern.dev"],
    &["consumers", "credentials", "authplugins"],
    &["create", "update", "delete"],
)];

/// With the Admin API and a Secret for its TLS, in the controller's own namespace.
pub const ADMIN_OWN: &[Rule] = &[Rule {
    api_groups: &[""],
    resources: &["secrets"],
    resource_names: &["postern-admin-tls"],
    verbs: &["get"],
}];

/// With the Services of Gateways in the namespaces of those, in the whole cluster: who owns the Services.
pub const GATEWAY_CLUSTER: &[Rule] = &[Rule {
    api_groups: &["rbac.authorization.k8s.io"],
    resources: &["clusterroles"],
    resource_names: &["postern-controller-services"],
    verbs: &["get"],
}];

/// With the Services of Gateways in the namespaces of those, in every namespace that is watched: a ClusterRole of its own,
/// which owns the Services.
pub const GATEWAY_NAMESPACED: &[Rule] = &[
    rule(&[""], &["services"], &["create", "patch", "delete"]),
    rule(
        &["discovery.k8s.io"],
        &["endpointslices"],
        &["create", "patch", "delete"],
    ),
];

/// With the Services of Gateways in the namespaces of those, in the controller's own namespace: where the fleet is.
pub const GATEWAY_OWN: &[Rule] = &[rule(&["discovery.k8s.io"], &["endpointslices"], LISTEN)];

#[cfg(test)]
mod tests {
    use super::*;
    use compile::Kind;

    #[test]
    fn every_kind_that_is_watched_may_be_read() {
        for kind in Kind::ALL {
            let rules = if kind.namespaced() {
                NAMESPACED
            } else {
                CLUSTER
            };
            let allowed = rules.iter().any(|rule| {
                rule.api_groups.contains(&kind.group())
                    && rule.resources.contains(&kind.plural())
                    && LISTEN.iter().all(|verb| rule.verbs.contains(verb))
            });
            assert!(allowed, "{kind}");
        }
    }

    #[test]
    fn nothing_is_granted_with_a_wildcard() {
        let all = [
            CLUSTER,
            NAMESPACED,
            OWN,
            ADMIN_CLUSTER,
            ADMIN_NAMESPACED,
            ADMIN_OWN,
            GATEWAY_CLUSTER,
            GATEWAY_NAMESPACED,
            GATEWAY_OWN,
        ];
        for rule in all.into_iter().flatten() {
            for word in rule
                .api_groups
                .iter()
                .chain(rule.resources)
                .chain(rule.verbs)
            {
                assert!(!word.contains('*'), "{rule:?}");
            }
        }
    }
}
