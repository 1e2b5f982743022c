//! HTTPRoutes: where they attach, what their rules say, and what is refused.

use super::*;
use proto::{filter::Filter, path_match::Type, path_modifier::Modifier};

const ROUTE: &str = "Route/HTTPRoute/shop/orders";

fn route(spec: &str) -> String {
    format!(
        "\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: orders, namespace: shop}}\nspec:\n{spec}\n"
    )
}

/// [`SHOP`] with another spec of the route.
fn with_route(spec: &str) -> World {
    World::of(&format!("{SHOP}---{}", route(spec)))
}

fn with_rule(rule: &str) -> World {
    with_route(&format!(
        "  parentRefs: [{{name: gateway}}]\n  rules:\n  - {rule}"
    ))
}

const BACKEND: &str = "backendRefs: [{name: orders, port: 80}]";

#[test]
fn every_kind_of_match() {
    let world = with_rule(&format!(
        "{{{BACKEND}, matches: [
          {{path: {{type: Exact, value: /a}}, method: POST}},
          {{path: {{type: RegularExpression, value: '/[0-9]+'}}}},
          {{path: {{value: /b}}, headers: [{{name: X-One, value: a}}, {{name: x-one, value: b}},
            {{name: x-two, type: RegularExpression, value: 'a|b'}}]}},
          {{queryParams: [{{name: q, value: '1'}}, {{name: q, value: '2'}}, {{name: r, type: RegularExpression, value: '.*'}}]}}
        ]}}"
    ));
    let matches = &world.route(ROUTE).rules[0].matches;
    let paths: Vec<_> = matches
        .iter()
        .map(|one| {
            one.path
                .as_ref()
                .map(|path| (path.r#type(), path.value.as_str()))
        })
        .collect();
    let expected = [
        Some((Type::Exact, "/a")),
        Some((Type::Regex, "/[0-9]+")),
        Some((Type::Prefix, "/b")),
        None,
    ];
    assert_eq!(paths, expected);
    assert_eq!(matches[0].method, "POST");
    let values = |of: &[proto::ValueMatch]| -> Vec<_> {
        of.iter()
            .map(|one| (one.name.clone(), one.value.clone(), one.regex))
            .collect()
    };
    assert_eq!(
        values(&matches[2].headers),
        [
            ("x-one".into(), "a".into(), false),
            ("x-two".into(), "a|b".into(), true)
        ]
    );
    assert_eq!(
        values(&matches[3].query),
        [
            ("q".into(), "1".into(), false),
            ("r".into(), ".*".into(), true)
        ]
    );
    assert_eq!(world.diagnostics(), [""; 0]);
}

#[test]
fn matches_that_cannot_be_had_match_nothing() {
    for (one, field, message) in [
        (
            "{path: {type: RegularExpression, value: '('}}",
            "path",
            "regular expression",
        ),
        ("{path: {type: Exact, value: a}}", "path", "must begin with"),
        ("{path: {value: /a/../b}}", "path", "canonical"),
        (
            "{headers: [{name: 'a b', value: a}]}",
            "headers[0]",
            "no header name",
        ),
        (
            "{headers: [{name: a, type: RegularExpression, value: '(?=a)'}]}",
            "headers[0]",
            "regular expression",
        ),
        (
            "{queryParams: [{name: a, type: RegularExpression, value: '['}]}",
            "queryParams[0]",
            "regular expression",
        ),
    ] {
        let world = with_rule(&format!("{{{BACKEND}, matches: [{one}]}}"));
        assert!(world.route(ROUTE).rules.is_empty(), "{one}");
        let [accepted] = world.parents("orders", "Accepted").try_into().unwrap();
        assert!(
            accepted.starts_with(&format!(
                "False/UnsupportedValue: spec.rules[0].matches[0].{field}: "
            )),
            "{accepted}"
        );
        world.assert_diagnostic(&["Error HTTPRoute shop/orders UnsupportedValue", message]);
        let world = with_rule(&format!("{{{BACKEND}, matches: [{one}, {{method: GET}}]}}"));
        assert_eq!(world.route(ROUTE).rules[0].matches.len(), 1, "{one}");
    }
}

#[test]
fn filters() {
    let world = with_rule(&format!(
        "{{{BACKEND}, filters: [
          {{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: A, value: b}}], add: [{{name: C, value: d}}], remove: [E]}}}},
          {{type: ResponseHeaderModifier, responseHeaderModifier: {{remove: [Server]}}}},
          {{type: URLRewrite, urlRewrite: {{hostname: B.test, path: {{type: ReplacePrefixMatch, replacePrefixMatch: /x}}}}}}
        ]}}"
    ));
    let filters: Vec<_> = world.route(ROUTE).rules[0]
        .filters
        .iter()
        .map(|one| one.filter.clone().unwrap())
        .collect();
    let [
        Filter::RequestHeaders(request),
        Filter::ResponseHeaders(response),
        Filter::Rewrite(rewrite),
    ] = &filters[..]
    else {
        panic!("{filters:?}")
    };
    assert_eq!(
        (
            request.set[0].name.as_str(),
            request.add[0].value.as_str(),
            &request.remove[..]
        ),
        ("a", "d", &["e".to_owned()][..])
    );
    assert_eq!(response.remove, ["server"]);
    assert_eq!(rewrite.hostname, "b.test");
    assert_eq!(
        rewrite.path.clone().unwrap().modifier,
        Some(Modifier::Prefix("/x".into()))
    );

    let world = with_rule(
        "{filters: [{type: RequestRedirect, requestRedirect: {scheme: https, port: 8443, statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /}}}]}",
    );
    let rule = world.route(ROUTE).rules[0].clone();
    assert_eq!(rule.invalid, "");
    let Some(Filter::Redirect(redirect)) = &rule.filters[0].filter else {
        panic!()
    };
    assert_eq!(
        (redirect.scheme.as_str(), redirect.port, redirect.status),
        ("https", 8443, 301)
    );
    assert_eq!(
        redirect.path.clone().unwrap().modifier,
        Some(Modifier::Full("/".into()))
    );
    assert_eq!(world.diagnostics(), [""; 0]);
}

#[test]
fn filters_that_cannot_be_had_close_their_rule() {
    for (filters, reason, message) in [
        (
            "[{type: RequestMirror, requestMirror: {backendRef: {name: orders, port: 80}, percent: 101}}]",
            "UnsupportedValue",
            "the share must be between none and all",
        ),
        (
            "[{type: ExtensionRef, extensionRef: {group: a, kind: b, name: c}}]",
            "UnsupportedValue",
            "ExtensionRef are not",
        ),
        (
            "[{type: CORS, cors: {allowOrigins: [a.test]}}]",
            "UnsupportedValue",
            "is no origin",
        ),
        (
            "[{type: RequestHeaderModifier}]",
            "UnsupportedValue",
            "is missing",
        ),
        (
            "[{type: RequestHeaderModifier, requestHeaderModifier: {remove: [host]}}]",
            "UnsupportedValue",
            "belongs to the connection",
        ),
        (
            "[{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: a, value: \"b\\r\\nc: d\"}]}}]",
            "UnsupportedValue",
            "control",
        ),
        (
            "[{type: RequestRedirect, requestRedirect: {statusCode: 200}}]",
            "UnsupportedValue",
            "must be one of 301",
        ),
        (
            "[{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {hostname: a.test}}]",
            "IncompatibleFilters",
            "exclude each other",
        ),
        (
            "[{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}}}], matches: [{path: {type: Exact, value: /b}}]",
            "UnsupportedValue",
            "PathPrefix only",
        ),
        (
            "[{type: URLRewrite, urlRewrite: {}}, {type: URLRewrite, urlRewrite: {}}]",
            "UnsupportedValue",
            "second filter",
        ),
    ] {
        let world = with_rule(&format!("{{{BACKEND}, filters: {filters}}}"));
        assert!(
            world.route(ROUTE).rules[0].invalid.contains(message),
            "{filters}: {}",
            world.route(ROUTE).rules[0].invalid
        );
        let [accepted] = world.parents("orders", "Accepted").try_into().unwrap();
        assert!(
            accepted.starts_with(&format!("False/{reason}: spec.rules[0].filters")),
            "{accepted}"
        );
        world.assert_diagnostic(&["Error HTTPRoute shop/orders", reason, message]);
    }
}

#[test]
fn backends_that_cannot_be_had_answer_for_their_share() {
    for (backend, reason, message) in [
        (
            "{name: none, port: 80}",
            "BackendNotFound",
            "Service shop/none does not exist",
        ),
        (
            "{name: orders, port: 81}",
            "BackendNotFound",
            "Service shop/orders has no TCP port 81 (it has: 80)",
        ),
        (
            "{name: orders}",
            "BackendNotFound",
            "Service shop/orders: port is missing",
        ),
        (
            "{kind: Pod, name: orders, port: 80}",
            "InvalidKind",
            "a backend is a Service, not Pod of group \"\"",
        ),
        (
            "{name: orders, namespace: other, port: 80}",
            "RefNotPermitted",
            "Service other/orders: a ReferenceGrant in",
        ),
    ] {
        let world = with_rule(&format!(
            "backendRefs: [{{name: orders, port: 80, weight: 9}}, {backend}]"
        ));
        let rule = world.route(ROUTE).rules[0].clone();
        assert_eq!(
            (rule.backends[0].weight, rule.backends[0].invalid.as_str()),
            (9, "")
        );
        assert_eq!(
            (rule.backends[1].weight, rule.backends[1].upstream.as_str()),
            (1, "")
        );
        assert!(
            rule.backends[1].invalid.starts_with(message),
            "{}",
            rule.backends[1].invalid
        );
        assert_eq!(world.parents("orders", "Accepted"), ["True/Accepted"]);
        let [resolved] = world.parents("orders", "ResolvedRefs").try_into().unwrap();
        assert!(
            resolved.starts_with(&format!(
                "False/{reason}: spec.rules[0].backendRefs[1]: {message}"
            )),
            "{resolved}"
        );
    }
    let world = with_rule("{name: none}");
    assert_eq!(
        world.route(ROUTE).rules[0].invalid,
        "spec.rules[0] has no backendRefs"
    );
    let world = with_rule(
        "backendRefs: [{name: orders, port: 80, filters: [{type: CORS, cors: {allowOrigins: ['*']}}]}]",
    );
    assert!(
        world.route(ROUTE).rules[0].backends[0]
            .invalid
            .contains("CORS is not possible on a backend")
    );
}

#[test]
fn a_grant_opens_a_backend_in_another_namespace() {
    let mut world = with_rule("backendRefs: [{name: deep, namespace: other, port: 80}]");
    world.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: deep, namespace: other}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: grant, namespace: other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: '', kind: Service}]
",
    );
    assert_eq!(
        world.route(ROUTE).rules[0].backends[0].upstream,
        "Upstream/other/deep/80"
    );
    assert_eq!(
        world.parents("orders", "ResolvedRefs"),
        ["True/ResolvedRefs"]
    );
}

#[test]
fn timeouts() {
    let world = with_rule(&format!(
        "{{{BACKEND}, timeouts: {{request: 10s, backendRequest: 500ms}}}}"
    ));
    let rule = world.route(ROUTE).rules[0].clone();
    assert_eq!(
        (
            rule.request_timeout_ms,
            rule.backend_timeout_ms,
            rule.invalid.as_str()
        ),
        (10_000, 500, "")
    );
    for bad in [
        "request: 10",
        "backendRequest: 1.5s",
        "request: 1s, backendRequest: 2s",
    ] {
        let world =
            with_rule(&format!("{{{BACKEND}, timeouts: {{{bad}}}}}").replace("10}", "'10'}"));
        assert!(
            world.route(ROUTE).rules[0].invalid.contains("timeouts"),
            "{bad}"
        );
    }
}

/// parentRef, hostnames, what becomes of it, listeners with hostnames.
const PARENTS: [(&str, &str, &str, &[&str]); 9] = [
    (
        "{name: gateway}",
        "[x.a.test, b.test]",
        "True/Accepted",
        &["a: x.a.test", "b: b.test"],
    ),
    (
        "{name: gateway}",
        "['*.test']",
        "True/Accepted",
        &["a: *.a.test", "b: b.test"],
    ),
    (
        "{name: gateway}",
        "[]",
        "True/Accepted",
        &["a: *.a.test", "b: b.test"],
    ),
    (
        "{name: gateway, sectionName: b}",
        "[]",
        "True/Accepted",
        &["b: b.test"],
    ),
    (
        "{name: gateway, port: 8000}",
        "[y.a.test]",
        "True/Accepted",
        &["a: y.a.test"],
    ),
    (
        "{name: gateway, sectionName: d}",
        "[]",
        "False/NoMatchingParent: Gateway shop/gateway has no such listener",
        &[],
    ),
    (
        "{name: gateway, port: 1}",
        "[]",
        "False/NoMatchingParent: Gateway shop/gateway has no such listener",
        &[],
    ),
    (
        "{name: gateway, sectionName: c}",
        "[]",
        "False/NotAllowedByListeners: the listeners of Gateway shop/gateway do not allow HTTPRoutes of namespace shop (allowedRoutes)",
        &[],
    ),
    (
        "{name: gateway}",
        "[c.test]",
        "False/NoMatchingListenerHostname: no hostname of the route is one of the listeners' of Gateway shop/gateway",
        &[],
    ),
];

const LISTENERS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gateway, namespace: shop}
spec:
  gatewayClassName: postern
  listeners:
  - {name: a, port: 8000, protocol: HTTP, hostname: '*.a.test'}
  - {name: b, port: 8000, protocol: HTTP, hostname: b.test}
  - {name: c, port: 8001, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {tier: gold}}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: foreign, namespace: shop}
spec: {gatewayClassName: other, listeners: [{name: a, port: 9000, protocol: HTTP}]}
";

#[test]
fn parents() {
    for (parent, hostnames, accepted, attached) in PARENTS {
        let mut world = with_route(&format!(
            "  parentRefs: [{parent}, {{name: foreign}}, {{name: none}}, {{group: '', kind: Service, name: orders}}]\n  hostnames: {hostnames}\n  rules: [{{{BACKEND}}}]"
        ));
        world.apply(LISTENERS);
        assert_eq!(
            world.parents("orders", "Accepted"),
            [accepted],
            "{parent} {hostnames}"
        );
        let found: Vec<_> = if attached.is_empty() {
            assert!(world.keys("Route/").is_empty());
            Vec::new()
        } else {
            let attachments = world.route(ROUTE).attachments;
            let line = |one: &proto::Attachment| {
                format!(
                    "{}: {}",
                    one.listener.rsplit('/').next().unwrap(),
                    one.hostnames.join(" ")
                )
            };
            attachments.iter().map(line).collect()
        };
        assert_eq!(found, attached, "{parent} {hostnames}");
        let counts: Vec<_> = ["a", "b", "c"]
            .map(|name| i32::from(found.iter().any(|line| line.starts_with(name))))
            .into();
        assert_eq!(world.attached("gateway"), counts, "{parent} {hostnames}");
    }
}

#[test]
fn parents_of_other_controllers_get_no_status() {
    let world = with_route("  parentRefs: [{name: none}]");
    assert!(
        !world
            .statuses
            .contains_key(&ObjectRef::new(Kind::HttpRoute, "shop", "orders"))
    );
    assert!(world.keys("Route/").is_empty());
    assert_eq!(world.diagnostics(), [""; 0]);
}

#[test]
fn a_route_that_cannot_be_read_says_so_to_its_parents() {
    let world =
        with_route("  parentRefs: [{name: gateway}]\n  rules: [{filters: [{type: Teleport}]}]");
    let [accepted] = world.parents("orders", "Accepted").try_into().unwrap();
    assert!(
        accepted.starts_with(
            "False/UnsupportedValue: spec.rules[0].filters[0].type: unknown variant `Teleport`"
        ),
        "{accepted}"
    );
    assert!(world.keys("Route/").is_empty());
}

#[test]
fn hostnames_that_are_none() {
    let world = with_route(&format!(
        "  parentRefs: [{{name: gateway}}]\n  hostnames: ['a.test:80', b.test]\n  rules: [{{{BACKEND}}}]"
    ));
    assert_eq!(world.route(ROUTE).attachments[0].hostnames, ["b.test"]);
    world.assert_diagnostic(&["Error HTTPRoute shop/orders UnsupportedValue spec.hostnames[0]"]);
    let world = with_route(&format!(
        "  parentRefs: [{{name: gateway}}]\n  hostnames: ['a.test:80']\n  rules: [{{{BACKEND}}}]"
    ));
    assert!(
        world.keys("Route/").is_empty(),
        "it must not be served for every host instead"
    );
}
