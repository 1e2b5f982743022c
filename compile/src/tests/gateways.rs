//! Gateways: listeners, certificates, ports.

use super::*;

fn gateway(name: &str, listeners: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: shop}}
spec:
  gatewayClassName: postern
  listeners: {listeners}
"
    )
}

const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: postern}
spec: {controllerName: postern.dev/gateway-controller}
";

/// A self-signed certificate for these names as the data of a Secret.
pub(super) fn tls_secret(name: &str, namespace: &str, hosts: &[&str]) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    let certificate = rcgen::CertificateParams::new(hosts)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let data = json!({"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()});
    format!(
        "\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: kubernetes.io/tls\nstringData: {data}\n"
    )
}

/// Listener, condition, what it says.
const REFUSED: [(&str, &str, &str); 11] = [
    (
        "{name: x, port: 1, protocol: TCP}",
        "Accepted",
        "False/UnsupportedProtocol: protocol TCP is not supported; use HTTP, HTTPS or TLS",
    ),
    (
        "{name: x, port: 0, protocol: HTTP}",
        "Accepted",
        "False/PortUnavailable: port 0 is not between 1 and 65535",
    ),
    (
        "{name: x, port: 1, protocol: HTTP, hostname: 'a:1'}",
        "Accepted",
        "False/Invalid: hostname \"a:1\" is no DNS name",
    ),
    (
        "{name: x, port: 1, protocol: HTTP, tls: {}}",
        "Accepted",
        "False/Invalid: tls is only for protocols HTTPS and TLS",
    ),
    (
        "{name: x, port: 1, protocol: HTTPS, tls: {mode: Passthrough}}",
        "Accepted",
        "False/UnsupportedProtocol: tls.mode Passthrough",
    ),
    (
        "{name: x, port: 1, protocol: HTTPS}",
        "ResolvedRefs",
        "False/InvalidCertificateRef: a listener that terminates TLS needs tls.certificateRefs",
    ),
    (
        "{name: x, port: 1, protocol: HTTPS, tls: {certificateRefs: [{name: none}]}}",
        "ResolvedRefs",
        "False/InvalidCertificateRef: Secret shop/none does not exist",
    ),
    (
        "{name: x, port: 1, protocol: HTTPS, tls: {certificateRefs: [{name: broken}]}}",
        "ResolvedRefs",
        "False/InvalidCertificateRef: Secret shop/broken holds no PEM certificate in tls.crt",
    ),
    (
        "{name: x, port: 1, protocol: HTTPS, tls: {certificateRefs: [{name: mixed}]}}",
        "ResolvedRefs",
        "False/InvalidCertificateRef: Secret shop/mixed holds a private key that does not fit its tls.crt",
    ),
    (
        "{name: x, port: 1, protocol: HTTPS, tls: {certificateRefs: [{kind: ConfigMap, name: none}]}}",
        "ResolvedRefs",
        "False/InvalidCertificateRef: a certificate is a Secret, not ConfigMap of group \"\"",
    ),
    (
        "{name: x, port: 1, protocol: HTTPS, tls: {certificateRefs: [{name: far, namespace: other}]}}",
        "ResolvedRefs",
        "False/RefNotPermitted: Secret other/far: a ReferenceGrant in namespace other",
    ),
];

#[test]
fn listeners_that_cannot_be_served() {
    for (listener, condition, expected) in REFUSED {
        let one = tls_secret("one", "shop", &["a.test"]);
        let other = tls_secret("other", "shop", &["a.test"]);
        let line = |text: &str| {
            text.lines()
                .find(|line| line.starts_with("stringData"))
                .unwrap()
                .to_owned()
        };
        let data = |text: &str| -> Value {
            serde_json::from_str(line(text).trim_start_matches("stringData: ")).unwrap()
        };
        let mixed = json!({"tls.crt": data(&one)["tls.crt"], "tls.key": data(&other)["tls.key"]});
        let secrets = format!(
            "\napiVersion: v1\nkind: Secret\nmetadata: {{name: broken, namespace: shop}}\nstringData: {{tls.crt: a, tls.key: b}}\n---\n\
             \napiVersion: v1\nkind: Secret\nmetadata: {{name: mixed, namespace: shop}}\nstringData: {mixed}\n---{}",
            tls_secret("far", "other", &["a.test"])
        );
        let world = World::of(&format!(
            "{}---{secrets}",
            gateway(
                "gateway",
                &format!("[{listener}, {{name: ok, port: 2, protocol: HTTP}}]")
            )
        ));
        let found = world.listener_condition("gateway", "x", condition);
        assert!(found.starts_with(expected), "{listener}: {found}");
        assert!(
            world
                .listener_condition("gateway", "x", "Programmed")
                .starts_with("False/Invalid"),
            "{listener}"
        );
        assert_eq!(
            world.keys("Listener/"),
            ["Listener/shop/gateway/ok"],
            "{listener}"
        );
        assert!(
            world
                .condition(Kind::Gateway, "gateway", "Accepted")
                .starts_with("True/ListenersNotValid"),
            "{listener}"
        );
        world.assert_diagnostic(&[
            "Error Gateway shop/gateway",
            "spec.listeners[0]",
            "listener x: ",
        ]);
    }
}

#[test]
fn https() {
    let grant = "
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: grant, namespace: other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}]
  to: [{group: '', kind: Secret, name: far}]
";
    let listeners = "[{name: x, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: near}, {name: far, namespace: other}]}}]";
    let mut world = World::of(&format!(
        "{}---{}---{}---{grant}",
        gateway("gateway", listeners),
        tls_secret("near", "shop", &["a.test"]),
        tls_secret("far", "other", &["b.test"])
    ));
    let listener = world.listener("Listener/shop/gateway/x");
    assert_eq!(
        listener.certificates,
        ["Certificate/shop/near", "Certificate/other/far"]
    );
    assert_eq!(listener.protocol(), proto::Protocol::Https);
    assert_eq!(
        world.listener_condition("gateway", "x", "ResolvedRefs"),
        "True/ResolvedRefs"
    );
    assert_eq!(
        world.listener_condition("gateway", "x", "Conflicted"),
        "False/NoConflicts"
    );
    world.apply(&tls_secret("near", "shop", &["a.test"]));
    let changed: Vec<_> = world
        .last
        .diff
        .upserts
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        changed,
        ["Certificate/shop/near"],
        "a rotation is a delta of one message"
    );
    world.delete(Kind::ReferenceGrant, "other", "grant");
    assert_eq!(
        world.listener("Listener/shop/gateway/x").certificates,
        ["Certificate/shop/near"]
    );
    assert!(
        world
            .listener_condition("gateway", "x", "ResolvedRefs")
            .starts_with("False/RefNotPermitted")
    );
}

#[test]
fn listeners_in_conflict() {
    let world = World::of(&gateway(
        "gateway",
        "[{name: a, port: 1, protocol: HTTP}, {name: b, port: 1, protocol: HTTP}, \
          {name: c, port: 2, protocol: HTTP}, {name: d, port: 2, protocol: HTTPS}, \
          {name: e, port: 3, protocol: HTTP, hostname: x.test}, {name: f, port: 3, protocol: HTTP}]",
    ));
    for (listener, expected) in [
        ("a", "True/HostnameConflict"),
        ("c", "True/ProtocolConflict"),
        ("e", "False/NoConflicts"),
    ] {
        let found = world.listener_condition("gateway", listener, "Conflicted");
        assert!(found.starts_with(expected), "{listener}: {found}");
    }
    assert!(
        world
            .listener_condition("gateway", "a", "Accepted")
            .starts_with("False/HostnameConflict")
    );
    assert_eq!(
        world.keys("Listener/"),
        ["Listener/shop/gateway/e", "Listener/shop/gateway/f"]
    );
}

#[test]
fn the_older_gateway_has_the_port_where_ports_are_shared() {
    let listeners = "[{name: a, port: 8000, protocol: HTTP}]";
    let mut world =
        World::of(&[gateway("zebra", listeners), gateway("ant", listeners)].join("---"));
    assert_eq!(world.keys("Listener/"), ["Listener/shop/zebra/a"]);
    let refused = world.listener_condition("ant", "a", "Accepted");
    assert!(
        refused.starts_with(
            "False/PortUnavailable: Gateway shop/zebra has the same hostname on port 8000"
        ),
        "{refused}"
    );
    world.delete(Kind::Gateway, "shop", "zebra");
    assert_eq!(world.keys("Listener/"), ["Listener/shop/ant/a"]);
}

#[test]
fn route_kinds() {
    for (kinds, resolved, supported) in [
        (
            "[{kind: HTTPRoute}]",
            "True/ResolvedRefs",
            &["HTTPRoute"][..],
        ),
        (
            "[{kind: GRPCRoute}, {kind: HTTPRoute}]",
            "True/ResolvedRefs",
            &["GRPCRoute", "HTTPRoute"],
        ),
        (
            "[{kind: TCPRoute}, {kind: HTTPRoute}]",
            "False/InvalidRouteKinds",
            &["HTTPRoute"],
        ),
        ("[{kind: TLSRoute}]", "False/InvalidRouteKinds", &[]),
    ] {
        let world = World::of(&gateway(
            "gateway",
            &format!("[{{name: a, port: 1, protocol: HTTP, allowedRoutes: {{kinds: {kinds}}}}}]"),
        ));
        assert!(
            world
                .listener_condition("gateway", "a", "ResolvedRefs")
                .starts_with(resolved),
            "{kinds}"
        );
        let StatusBody::Gateway { listeners, .. } = world.status(Kind::Gateway, "shop", "gateway")
        else {
            panic!()
        };
        assert_eq!(listeners[0].supported_kinds, supported, "{kinds}");
    }
}

#[test]
fn what_would_be_unsafe_to_ignore_refuses_the_gateway() {
    for (field, reason) in [
        ("addresses: [{value: 10.0.0.1}]", "UnsupportedAddress"),
        (
            "infrastructure: {parametersRef: {group: a, kind: b, name: c}}",
            "InvalidParameters",
        ),
    ] {
        let gateway = gateway("gateway", "[{name: a, port: 1, protocol: HTTP}]")
            .replace("spec:\n", &format!("spec:\n  {field}\n"));
        let world = World::of(&gateway);
        assert!(
            world
                .condition(Kind::Gateway, "gateway", "Accepted")
                .starts_with(&format!("False/{reason}")),
            "{field}"
        );
        assert!(world.keys("Listener/").is_empty(), "{field}");
    }
}

#[test]
fn only_classes_of_ours_count() {
    let one = gateway("gateway", "[{name: a, port: 1, protocol: HTTP}]");
    let foreign = CLASS.replace("postern.dev/gateway-controller", "example.com/other");
    for (class, ours) in [
        ("", true),
        (CLASS, true),
        (foreign.as_str(), false),
        (&CLASS.replace("name: postern", "name: x"), false),
    ] {
        let world = World::of(&format!("{one}---{class}"));
        assert_eq!(!world.keys("Listener/").is_empty(), ours, "{class}");
        assert_eq!(
            world
                .statuses
                .contains_key(&ObjectRef::new(Kind::Gateway, "shop", "gateway")),
            ours,
            "{class}"
        );
    }
    assert!(
        World::in_cluster(&one).keys("Listener/").is_empty(),
        "a cluster has its classes"
    );
    let world = World::in_cluster(CLASS);
    let StatusBody::Conditions { conditions, fields } =
        world.status(Kind::GatewayClass, "", "postern")
    else {
        panic!()
    };
    assert_eq!(shown(conditions, "Accepted"), "True/Accepted");
    let features = fields["supportedFeatures"].as_array().unwrap();
    assert!(
        features.is_sorted_by_key(|one| one["name"].as_str())
            && features.contains(&json!({"name": "HTTPRoute"}))
    );
}

#[test]
fn a_service_is_where_it_is_to_be_and_only_with_its_gateway_shows_its_infrastructure() {
    let yaml = [
        CLASS.to_owned(),
        gateway("one", "[{name: a, port: 80, protocol: HTTP}]"),
    ]
    .join("---");
    for (place, namespace, prefix, claims) in [
        (ServicePlace::Release, "postern", "gateway-shop-one-", false),
        (ServicePlace::Gateway, "shop", "postern-one-", true),
    ] {
        let mut world = World::new(Settings {
            gateway_services: place,
            ..cluster()
        });
        world.apply(&yaml);
        let [service] = world.last.gateway_services.as_slice() else {
            panic!()
        };
        assert_eq!(service.namespace, namespace);
        assert!(service.name.starts_with(prefix), "{}", service.name);
        let StatusBody::Conditions { fields, .. } = world.status(Kind::GatewayClass, "", "postern")
        else {
            panic!()
        };
        let features = fields["supportedFeatures"].as_array().unwrap();
        assert_eq!(
            features.contains(&json!({"name": "GatewayInfrastructure"})),
            claims,
            "{place:?}"
        );
        assert!(features.is_sorted_by_key(|one| one["name"].as_str()));
    }
}

#[test]
fn services_of_gateways_with_long_names_have_names_that_fit_and_differ() {
    for place in [ServicePlace::Release, ServicePlace::Gateway] {
        let mut world = World::new(Settings {
            gateway_services: place,
            ..cluster()
        });
        let long = "gateway.".repeat(12);
        let listeners = "[{name: a, port: 80, protocol: HTTP}]";
        world.apply(
            &[
                CLASS.to_owned(),
                gateway(&format!("{long}a"), listeners),
                gateway(&format!("{long}b"), listeners),
            ]
            .join("---"),
        );
        let [one, two] = world.last.gateway_services.as_slice() else {
            panic!()
        };
        assert_ne!(one.name, two.name);
        for name in [&one.name, &two.name] {
            assert!(name.len() <= 63 && !name.contains('.'), "{name}");
        }
    }
}

#[test]
fn in_a_cluster_each_port_of_each_gateway_has_one_of_the_fleet() {
    let listeners = "[{name: a, port: 80, protocol: HTTP, hostname: a.test}, {name: b, port: 80, protocol: HTTP}, {name: c, port: 81, protocol: HTTP}]";
    let mut world = World::in_cluster(
        &[
            CLASS.to_owned(),
            gateway("one", listeners),
            gateway("two", listeners),
        ]
        .join("---"),
    );
    let port = |world: &World, key: &str| {
        let listener = world.listener(key);
        assert!((20_000..30_000).contains(&listener.port));
        (listener.port, listener.public_port)
    };
    let (a, public) = port(&world, "Listener/shop/one/a");
    assert_eq!(
        (a, public),
        port(&world, "Listener/shop/one/b"),
        "listeners of a port share it"
    );
    assert_eq!(public, 80);
    let (c, _) = port(&world, "Listener/shop/one/c");
    let (other, _) = port(&world, "Listener/shop/two/a");
    assert!(a != c && a != other && c != other);
    let [one, two] = world.last.gateway_services.as_slice() else {
        panic!()
    };
    let target = |port: u32| u16::try_from(port).unwrap();
    assert_eq!(
        one.ports,
        [
            ("port-80".into(), 80, target(a)),
            ("port-81".into(), 81, target(c))
        ]
    );
    assert_ne!(one.name, two.name);
    assert!(one.name.starts_with("gateway-shop-one-") && one.name.len() <= 63);
    world.delete(Kind::Gateway, "shop", "one");
    assert_eq!(
        port(&world, "Listener/shop/two/a"),
        (other, 80),
        "it stays what it is"
    );
}
