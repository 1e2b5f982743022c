//! Ingresses: class, hosts, paths, certificates.

use super::*;
use proto::path_match::Type;

const ROUTE: &str = "Route/Ingress/shop/web";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}, {name: admin, port: 81}]}
";

fn ingress(metadata: &str, spec: &str) -> String {
    format!(
        "\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: web, namespace: shop{metadata}}}\nspec: {spec}\n"
    )
}

const TO_WEB: &str = "{service: {name: web, port: {number: 80}}}";

fn of(spec: &str) -> World {
    World::of(&format!("{SERVICE}---{}", ingress("", spec)))
}

#[test]
fn hosts_and_paths() {
    let world = of("{rules: [
        {host: '*.A.test', http: {paths: [
          {path: /a, pathType: Exact, backend: {service: {name: web, port: {name: admin}}}},
          {path: /b, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}},
          {pathType: ImplementationSpecific, backend: {service: {name: web, port: {number: 80}}}}]}},
        {http: {paths: [{path: /c, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}},
        {host: b.test}],
      defaultBackend: {service: {name: web, port: {number: 81}}}}");
    let route = world.route(ROUTE);
    assert_eq!(route.attachments.len(), 1);
    assert_eq!(route.attachments[0].listener, "Listener/-/ingress/http");
    assert_eq!(route.attachments[0].hostnames, [""]);
    let found: Vec<_> = route
        .rules
        .iter()
        .map(|rule| {
            let path = rule.matches[0].path.clone().unwrap();
            (
                rule.hostnames.join(" "),
                path.r#type(),
                path.value,
                rule.backends[0].upstream.clone(),
            )
        })
        .collect();
    let rule = |host: &str, kind, path: &str, port: u16| {
        (
            host.to_owned(),
            kind,
            path.to_owned(),
            format!("Upstream/shop/web/{port}"),
        )
    };
    assert_eq!(
        found,
        [
            rule("*.a.test", Type::Exact, "/a", 81),
            rule("*.a.test", Type::Prefix, "/b", 80),
            rule("*.a.test", Type::Prefix, "/", 80),
            rule("", Type::Prefix, "/c", 80),
            rule("b.test", Type::Prefix, "/", 81),
            rule("", Type::Prefix, "/", 81),
        ]
    );
    let listener = world.listener("Listener/-/ingress/http");
    assert_eq!((listener.port, listener.public_port), (8000, 8000));
    assert_eq!(
        world.status(Kind::Ingress, "shop", "web"),
        &StatusBody::Ingress
    );
    assert_eq!(world.diagnostics(), [""; 0]);
}

#[test]
fn the_class_decides() {
    let class = |name: &str, controller: &str, annotations: &str| {
        format!(
            "\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\nspec: {{controller: {controller}}}\n"
        )
    };
    let ours = class("edge", "postern.dev/ingress-controller", "");
    let default = class(
        "edge",
        "postern.dev/ingress-controller",
        "ingressclass.kubernetes.io/is-default-class: 'true'",
    );
    let other = class(
        "edge",
        "example.com/other",
        "ingressclass.kubernetes.io/is-default-class: 'true'",
    );
    let backend = format!("defaultBackend: {TO_WEB}");
    let named = ingress("", &format!("{{ingressClassName: edge, {backend}}}"));
    let annotated = ingress(
        ", annotations: {kubernetes.io/ingress.class: edge}",
        &format!("{{{backend}}}"),
    );
    let plain = ingress("", &format!("{{{backend}}}"));
    for (index, (ingress, class, served)) in [
        (&named, ours.as_str(), true),
        (&named, &other, false),
        (&named, "", false),
        (&annotated, &ours, true),
        (&annotated, &other, false),
        (&plain, &ours, false),
        (&plain, &default, true),
        (&plain, &other, false),
    ]
    .into_iter()
    .enumerate()
    {
        let world = World::in_cluster(&format!("{SERVICE}---{ingress}---{class}"));
        assert_eq!(!world.keys("Route/").is_empty(), served, "case {index}");
        assert_eq!(!world.statuses.is_empty(), served, "case {index}");
    }
    // Files need not declare the class.
    assert!(
        !World::of(&format!("{SERVICE}---{plain}"))
            .keys("Route/")
            .is_empty()
    );
    assert!(
        !World::of(&format!("{SERVICE}---{}", named.replace("edge", "postern")))
            .keys("Route/")
            .is_empty()
    );
    assert!(
        World::of(&format!("{SERVICE}---{named}"))
            .keys("Route/")
            .is_empty()
    );
}

#[test]
fn in_a_cluster_the_usual_ports_are_outside() {
    let class = "\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: postern}\nspec: {controller: postern.dev/ingress-controller}\n";
    let ingress = ingress(
        "",
        &format!("{{ingressClassName: postern, defaultBackend: {TO_WEB}}}"),
    );
    let listener = World::in_cluster(&format!("{SERVICE}---{ingress}---{class}"))
        .listener("Listener/-/ingress/http");
    assert_eq!((listener.port, listener.public_port), (8000, 80));
}

#[test]
fn certificates() {
    let secret = super::gateways::tls_secret("cert", "shop", &["a.test", "*.b.test"]);
    let world = World::of(&format!(
        "{SERVICE}---{secret}---{}",
        ingress(
            "",
            &format!(
                "{{tls: [{{hosts: [a.test, x.b.test, '*.b.test', c.test], secretName: cert}}, {{secretName: none}}], defaultBackend: {TO_WEB}}}"
            )
        )
    ));
    let https = world.listener("Listener/-/ingress/https");
    assert_eq!(
        (https.port, &https.certificates[..]),
        (8443, &["Certificate/shop/cert".to_owned()][..])
    );
    assert_eq!(world.route(ROUTE).attachments.len(), 2);
    world.assert_diagnostic(&["Error Ingress shop/web InvalidCertificateRef spec.tls[1].secretName: Secret shop/none does not exist"]);
    world.assert_diagnostic(&[
        "Warning Ingress shop/web",
        "the certificate in Secret cert is not for c.test",
    ]);
    assert_eq!(world.diagnostics().len(), 2);
}

#[test]
fn what_cannot_be_had() {
    let path = |path: &str| format!("{{rules: [{{http: {{paths: [{path}]}}}}]}}");
    for (spec, message, rules) in [
        (
            path("{path: a, pathType: Exact, backend: {service: {name: web, port: {number: 80}}}}"),
            "must begin with",
            0,
        ),
        (
            path("{path: /, pathType: Regex, backend: {service: {name: web, port: {number: 80}}}}"),
            "pathType \"Regex\" is not one of",
            0,
        ),
        (
            "{rules: [{host: 'a:1', http: {paths: []}}]}".to_owned(),
            "is no DNS name",
            0,
        ),
        (
            path("{path: /, pathType: Prefix, backend: {resource: {kind: Bucket, name: a}}}"),
            "not Bucket",
            1,
        ),
        (
            path(
                "{path: /, pathType: Prefix, backend: {service: {name: none, port: {number: 80}}}}",
            ),
            "Service shop/none does not exist",
            1,
        ),
        (
            path("{path: /, pathType: Prefix, backend: {service: {name: web, port: {name: x}}}}"),
            "has no TCP port \"x\"",
            1,
        ),
        (
            path("{path: /, pathType: Prefix, backend: {service: {name: web}}}"),
            "port.name or port.number is missing",
            1,
        ),
    ] {
        let world = of(&spec);
        world.assert_diagnostic(&["Error Ingress shop/web", message]);
        let found = world.route(ROUTE).rules;
        assert_eq!(found.len(), rules, "{spec}");
        assert!(
            found
                .iter()
                .all(|rule| rule.backends[0].invalid.contains(message)),
            "{spec}"
        );
    }
}

#[test]
fn plugins_of_ingress_service_and_class() {
    let plugin = |name: &str, group: &str, kind: &str, target: &str, block: &str| {
        format!(
            "---\napiVersion: postern.dev/v1alpha1\nkind: AuthPlugin\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{targetRefs: [{{group: '{group}', kind: {kind}, name: {target}}}], {block}}}\n"
        )
    };
    let base = format!(
        "{SERVICE}---{}",
        ingress("", &format!("{{defaultBackend: {TO_WEB}}}"))
    );
    let class = plugin(
        "class",
        "networking.k8s.io",
        "IngressClass",
        "postern",
        "keyAuth: {}",
    );
    let service = plugin("service", "", "Service", "web", "keyAuth: {}");
    let route = plugin(
        "route",
        "networking.k8s.io",
        "Ingress",
        "web",
        "keyAuth: {}",
    );
    let rule = |world: &World| world.route(ROUTE).rules[0].plugins.clone();
    assert_eq!(
        rule(&World::of(&format!("{base}{class}"))),
        ["Plugin/shop/class"]
    );
    let world = World::of(&format!("{base}{class}{service}"));
    assert!(
        rule(&world).is_empty(),
        "the Service is narrower than the class"
    );
    assert_eq!(
        world.upstream("Upstream/shop/web/80").plugins,
        ["Plugin/shop/service"]
    );
    assert_eq!(
        rule(&World::of(&format!("{base}{class}{service}{route}"))),
        ["Plugin/shop/route"]
    );
    let bad = plugin(
        "bad",
        "networking.k8s.io",
        "IngressClass",
        "postern",
        "saml: {}",
    );
    let world = World::of(&format!("{base}{route}{bad}"));
    assert!(world.route(ROUTE).rules[0].deny);
}

#[test]
fn a_gateway_on_the_port_keeps_ingresses_out() {
    let world = World::of(&format!(
        "{SHOP}---{SERVICE}---{}",
        ingress("", &format!("{{defaultBackend: {TO_WEB}}}"))
    ));
    assert_eq!(world.keys("Listener/"), ["Listener/shop/gateway/http"]);
    world.assert_diagnostic(&[
        "Error Ingress shop/web PortUnavailable",
        "belongs to Gateway shop/gateway",
    ]);
}

#[test]
fn annotations_are_read_and_what_cannot_be_had_closes_the_ingress() {
    let ingress = |annotations: &str| {
        World::of(&format!(
            "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web, namespace: shop, annotations: {{{annotations}}}}}
spec:
  rules:
  - http:
      paths:
      - {{path: '/a(/|$)(.*)', pathType: ImplementationSpecific, backend: {{service: {{name: orders, port: {{number: 80}}}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: orders, namespace: shop}}
spec: {{ports: [{{port: 80}}]}}
"
        ))
    };
    let world = ingress(
        "postern.dev/use-regex: 'true', postern.dev/rewrite-target: /b/$2, postern.dev/ssl-redirect: 'true', \
         postern.dev/whitelist-source-range: 10.0.0.0/8, postern.dev/proxy-body-size: 1k, \
         postern.dev/proxy-connect-timeout: '2', postern.dev/proxy-send-timeout: 4s, \
         postern.dev/proxy-read-timeout: '5', postern.dev/backend-protocol: GRPCS",
    );
    let rule = &world.route("Route/Ingress/shop/web").rules[0];
    assert_eq!(
        (
            rule.https_port,
            rule.max_body_bytes,
            rule.backend_timeout_ms
        ),
        (8443, 1024, 0)
    );
    let patience = rule.patience.unwrap();
    assert_eq!(
        (patience.connect_ms, patience.send_ms, patience.response_ms),
        (2000, 4000, 5000)
    );
    assert_eq!(rule.allow_sources, ["10.0.0.0/8"]);
    assert_eq!(rule.backends[0].upstream, "Upstream/shop/orders/80/grpcs");
    let tls = world.upstream("Upstream/shop/orders/80/grpcs").tls.unwrap();
    assert!(tls.unverified && tls.http2);
    let Some(proto::filter::Filter::Rewrite(rewrite)) = &rule.filters[0].filter else {
        panic!()
    };
    assert_eq!(
        rewrite.path.clone().unwrap().modifier,
        Some(proto::path_modifier::Modifier::Template("/b/$2".into()))
    );
    assert_eq!(world.diagnostics(), [""; 0]);
    for (annotation, message) in [
        (
            "postern.dev/ssl-redirect: maybe",
            "must be \"true\" or \"false\"",
        ),
        (
            "postern.dev/sll-redirect: 'true'",
            "knows no such annotation",
        ),
        ("postern.dev/whitelist-source-range: 10.0.0.0", ""),
        (
            "postern.dev/whitelist-source-range: home",
            "is no address range",
        ),
    ] {
        let world = ingress(annotation);
        let invalid = &world.route("Route/Ingress/shop/web").rules[0].invalid;
        assert!(invalid.contains(message), "{annotation}: {invalid}");
        assert_eq!(
            invalid.is_empty(),
            message.is_empty(),
            "{annotation}: {invalid}"
        );
    }
}
