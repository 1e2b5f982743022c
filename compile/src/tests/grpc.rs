//! GRPCRoutes, and what routes of both kinds have beside matches and headers.

use super::*;
use proto::filter::Filter;
use proto::path_match::Type;
use proto::upstream::Scheme;

const GRPC: &str = "Route/GRPCRoute/shop/calls";

fn with_calls(rules: &str) -> World {
    World::of(&format!(
        "{SHOP}---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: calls, namespace: shop}}
spec:
  parentRefs: [{{name: gateway}}]
  hostnames: [grpc.test]
  rules: {rules}
---
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {{name: grpc-key, namespace: shop}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: GRPCRoute, name: calls, sectionName: unary}}]
  keyAuth: {{}}
"
    ))
}

#[test]
fn a_grpc_route_is_a_route_over_http_2() {
    let world = with_calls(
        "[{name: unary, matches: [{method: {service: a.B, method: C}}], backendRefs: [{name: orders, port: 80}]},
          {name: rest, backendRefs: [{name: orders, port: 80}]}]",
    );
    let route = world.route(GRPC);
    let path = route.rules[0].matches[0].path.clone().unwrap();
    assert_eq!(
        (path.r#type(), path.value.as_str()),
        (Type::Exact, "/a.B/C")
    );
    assert_eq!(route.rules[0].plugins, ["Plugin/shop/grpc-key"]);
    assert_eq!(route.rules[1].plugins, [""; 0]);
    assert_eq!(route.attachments[0].hostnames, ["grpc.test"]);
    // The same port of the same Service speaks HTTP/1.1 with the HTTPRoute.
    let backend = &route.rules[0].backends[0];
    assert_eq!(backend.upstream, "Upstream/shop/orders/80/grpc");
    let upstream = world.upstream("Upstream/shop/orders/80/grpc");
    assert_eq!(upstream.scheme(), Scheme::H2c);
    assert_eq!(upstream.endpoints, "shop/orders/80");
    assert_eq!(
        world.upstream("Upstream/shop/orders/80").scheme(),
        Scheme::Http1
    );
    assert_eq!(world.attached("gateway"), [2]);
    let StatusBody::Route { parents } = world.status(Kind::GrpcRoute, "shop", "calls") else {
        panic!()
    };
    assert_eq!(shown(&parents[0].conditions, "Accepted"), "True/Accepted");
    assert_eq!(world.diagnostics(), [""; 0]);
}

#[test]
fn a_grpc_route_that_is_gone_takes_its_upstream_along() {
    let mut world = with_calls("[{backendRefs: [{name: orders, port: 80}]}]");
    world.delete(Kind::GrpcRoute, "shop", "calls");
    assert_eq!(world.keys("Upstream/"), ["Upstream/shop/orders/80"]);
    assert_eq!(world.keys("Endpoints/"), ["Endpoints/shop/orders/80"]);
}

fn with_rule(rule: &str) -> World {
    World::of(&format!(
        "{SHOP}---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: orders, namespace: shop}}
spec:
  parentRefs: [{{name: gateway}}]
  rules: [{{backendRefs: [{{name: orders, port: 80}}], {rule}}}]
"
    ))
}

const HTTP: &str = "Route/HTTPRoute/shop/orders";

#[test]
fn mirrors_cors_and_retries() {
    let world = with_rule(
        "filters: [
          {type: RequestMirror, requestMirror: {backendRef: {name: orders, port: 80}}},
          {type: RequestMirror, requestMirror: {backendRef: {name: orders, port: 80}, fraction: {numerator: 1, denominator: 3}}},
          {type: CORS, cors: {allowOrigins: ['https://*.a.test'], allowMethods: [GET], maxAge: 90000}}],
         retry: {attempts: 2, codes: [502], backoff: 1s}",
    );
    let rule = &world.route(HTTP).rules[0];
    let [mirror, third, cors] = rule.filters.as_slice() else {
        panic!("{:?}", rule.filters)
    };
    let shares = [mirror, third].map(|filter| match &filter.filter {
        Some(Filter::Mirror(mirror)) => (
            mirror.upstream.clone(),
            mirror.numerator,
            mirror.denominator,
        ),
        other => panic!("{other:?}"),
    });
    let orders = "Upstream/shop/orders/80".to_owned();
    assert_eq!(shares, [(orders.clone(), 1, 1), (orders, 1, 3)]);
    let Some(Filter::Cors(cors)) = &cors.filter else {
        panic!()
    };
    assert_eq!((cors.max_age, cors.allow_credentials), (86_400, false));
    let retry = rule.retry.clone().unwrap();
    assert_eq!(
        (retry.attempts, retry.codes, retry.backoff_ms),
        (2, vec![502], 1000)
    );
    assert_eq!(world.diagnostics(), [""; 0]);
}

#[test]
fn a_mirror_that_leads_nowhere_is_left_out() {
    let world = with_rule(
        "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: none, port: 80}}}]",
    );
    let rule = &world.route(HTTP).rules[0];
    assert!(rule.filters.is_empty() && rule.invalid.is_empty());
    let [resolved] = world.parents("orders", "ResolvedRefs").try_into().unwrap();
    assert!(
        resolved.starts_with(
            "False/BackendNotFound: spec.rules[0].filters[0].requestMirror.backendRef: Service shop/none"
        ),
        "{resolved}"
    );
}

#[test]
fn what_a_rule_cannot_have_closes_it() {
    for (rule, message) in [
        ("retry: {attempts: 11}", "retry.attempts: must be between"),
        ("retry: {codes: [200]}", "retry.codes: 200 is not between"),
        (
            "sessionPersistence: {sessionName: a}",
            "sessionPersistence: is not supported",
        ),
        (
            "filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: orders, port: 80}}}]",
            "ExternalAuth are not supported",
        ),
    ] {
        let world = with_rule(rule);
        let invalid = &world.route(HTTP).rules[0].invalid;
        assert!(invalid.contains(message), "{rule}: {invalid}");
        let [accepted] = world.parents("orders", "Accepted").try_into().unwrap();
        assert!(accepted.starts_with("False/UnsupportedValue"), "{accepted}");
    }
}
