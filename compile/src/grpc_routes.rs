//! GRPCRoutes, read as the HTTPRoutes that they mean: a gRPC method is the path `/service/method`.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteParentRefs, HttpRouteRules, HttpRouteRulesBackendRefs, HttpRouteRulesMatches,
    HttpRouteRulesMatchesHeaders, HttpRouteRulesMatchesHeadersType as HttpHeadersType,
    HttpRouteRulesMatchesPath, HttpRouteRulesMatchesPathType as PathType, HttpRouteSpec,
};
use gateway_api::apis::standard::grpcroutes::{
    GrpcRouteParentRefs, GrpcRouteRules, GrpcRouteRulesBackendRefs, GrpcRouteRulesMatches,
    GrpcRouteRulesMatchesHeadersType as HeadersType, GrpcRouteRulesMatchesMethod,
    GrpcRouteRulesMatchesMethodType as MethodType, GrpcRouteSpec,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What stands for any service or method in an expression.
const ANY: &str = "[^/]+";

/// The HTTPRoute that a GRPCRoute means.
pub(crate) fn as_http(spec: GrpcRouteSpec) -> HttpRouteSpec {
    HttpRouteSpec {
        hostnames: spec.hostnames,
        parent_refs: spec
            .parent_refs
            .map(|parents| parents.into_iter().map(parent).collect()),
        rules: spec
            .rules
            .map(|rules| rules.into_iter().map(rule).collect()),
        use_default_gateways: None,
    }
}

fn parent(from: GrpcRouteParentRefs) -> HttpRouteParentRefs {
    HttpRouteParentRefs {
        group: from.group,
        kind: from.kind,
        name: from.name,
        namespace: from.namespace,
        port: from.port,
        section_name: from.section_name,
    }
}

fn rule(from: GrpcRouteRules) -> HttpRouteRules {
    HttpRouteRules {
        backend_refs: from
            .backend_refs
            .map(|backends| backends.into_iter().map(backend).collect()),
        filters: from.filters.map(|filters| same(&filters)),
        matches: from
            .matches
            .map(|matches| matches.into_iter().map(one_match).collect()),
        name: from.name,
        ..HttpRouteRules::default()
    }
}

fn backend(from: GrpcRouteRulesBackendRefs) -> HttpRouteRulesBackendRefs {
    HttpRouteRulesBackendRefs {
        filters: from.filters.map(|filters| same(&filters)),
        group: from.group,
        kind: from.kind,
        name: from.name,
        namespace: from.namespace,
        port: from.port,
        weight: from.weight,
    }
}

fn one_match(from: GrpcRouteRulesMatches) -> HttpRouteRulesMatches {
    let headers = from.headers.map(|headers| {
        let header =
            |from: gateway_api::apis::standard::grpcroutes::GrpcRouteRulesMatchesHeaders| {
                HttpRouteRulesMatchesHeaders {
                    name: from.name,
                    r#type: from.r#type.map(|kind| match kind {
                        HeadersType::Exact => HttpHeadersType::Exact,
                        HeadersType::RegularExpression => HttpHeadersType::RegularExpression,
                    }),
                    value: from.value,
                }
            };
        headers.into_iter().map(header).collect()
    });
    HttpRouteRulesMatches {
        headers,
        path: from.method.as_ref().and_then(path),
        ..HttpRouteRulesMatches::default()
    }
}

/// The path of a method; none for every path.
fn path(from: &GrpcRouteRulesMatchesMethod) -> Option<HttpRouteRulesMatchesPath> {
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let (service, method) = (named(&from.service), named(&from.method));
    let expression = from.r#type == Some(MethodType::RegularExpression);
    let (kind, value) = match (service, method) {
        (None, None) => return None,
        (service, method) if expression => {
            let part = |part: Option<String>| {
                part.map_or_else(|| ANY.to_owned(), |part| format!("(?:{part})"))
            };
            let value = format!("/{}/{}", part(service), part(method));
            (PathType::RegularExpression, value)
        }
        (Some(service), Some(method)) => (PathType::Exact, format!("/{service}/{method}")),
        (Some(service), None) => (PathType::PathPrefix, format!("/{service}")),
        (None, Some(method)) => {
            let value = format!("/{ANY}/{}", regex::escape(&method));
            (PathType::RegularExpression, value)
        }
    };
    Some(HttpRouteRulesMatchesPath {
        r#type: Some(kind),
        value: Some(value),
    })
}

/// Filters of GRPCRoutes are filters of HTTPRoutes, field by field; generated code cannot say so.
fn same<T: Serialize, U: DeserializeOwned + Default>(from: &T) -> U {
    // Every field of the one is a field of the other, so that this never fails.
    serde_json::to_value(from)
        .and_then(serde_json::from_value)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn methods_are_paths() {
        let of = |method: serde_json::Value| {
            let method = serde_json::from_value(method).unwrap();
            path(&method).map(|path| (path.r#type.unwrap(), path.value.unwrap()))
        };
        for (method, expected) in [
            (json!({}), None),
            (
                json!({"service": "a.B", "method": "C"}),
                Some((PathType::Exact, "/a.B/C")),
            ),
            (
                json!({"service": "a.B", "type": "Exact"}),
                Some((PathType::PathPrefix, "/a.B")),
            ),
            (
                json!({"method": "C.d"}),
                Some((PathType::RegularExpression, r"/[^/]+/C\.d")),
            ),
            (
                json!({"service": "a|b", "type": "RegularExpression"}),
                Some((PathType::RegularExpression, "/(?:a|b)/[^/]+")),
            ),
        ] {
            let expected = expected.map(|(kind, value)| (kind, value.to_owned()));
            assert_eq!(of(method.clone()), expected, "{method}");
        }
    }

    #[test]
    fn every_filter_is_one_of_an_http_route() {
        let route: GrpcRouteSpec = serde_json::from_value(json!({"rules": [{
            "filters": [
                {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "b"}]}},
                {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "m", "port": 1}, "percent": 5}},
            ],
            "backendRefs": [{"name": "b", "port": 1, "filters": [
                {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["x"]}},
            ]}],
        }]}))
        .unwrap();
        let http = as_http(route);
        let rule = http.rules.unwrap().remove(0);
        let filters = rule.filters.unwrap();
        assert_eq!(filters.len(), 2);
        assert_eq!(filters[1].request_mirror.as_ref().unwrap().percent, Some(5));
        let backend = rule.backend_refs.unwrap().remove(0);
        assert!(
            backend.filters.unwrap()[0]
                .response_header_modifier
                .is_some()
        );
    }
}
