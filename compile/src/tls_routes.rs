//! TLSRoutes, read as HTTPRoutes without conditions: a hostname, and where it leads.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteParentRefs, HttpRouteRules, HttpRouteRulesBackendRefs, HttpRouteSpec,
};
use gateway_api::apis::standard::tlsroutes::TlsRouteSpec;

/// The HTTPRoute that a TLSRoute means. Its kind still says that it is one.
pub(crate) fn as_http(spec: TlsRouteSpec) -> HttpRouteSpec {
    let parents = spec.parent_refs.map(|parents| {
        parents
            .into_iter()
            .map(|from| HttpRouteParentRefs {
                group: from.group,
                kind: from.kind,
                name: from.name,
                namespace: from.namespace,
                port: from.port,
                section_name: from.section_name,
            })
            .collect()
    });
    let rules = spec.rules.into_iter().map(|rule| {
        let backends = rule.backend_refs.into_iter();
        HttpRouteRules {
            backend_refs: Some(
                backends
                    .map(|from| HttpRouteRulesBackendRefs {
                        group: from.group,
                        kind: from.kind,
                        name: from.name,
                        namespace: from.namespace,
                        port: from.port,
                        weight: from.weight,
                        filters: None,
                    })
                    .collect(),
            ),
            name: rule.name,
            ..HttpRouteRules::default()
        }
    });
    HttpRouteSpec {
        hostnames: Some(spec.hostnames),
        parent_refs: parents,
        rules: Some(rules.collect()),
        use_default_gateways: None,
    }
}
