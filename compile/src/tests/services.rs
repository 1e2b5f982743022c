//! Services and EndpointSlices.

use super::*;

#[test]
fn hints_of_slices_are_told() {
    let slice = |hints: &str| {
        format!(
            "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: orders-1, namespace: shop, labels: {{kubernetes.io/service-name: orders}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints:
- {{addresses: [10.0.0.2], zone: a{hints}}}
"
        )
    };
    let mut world = World::of(SHOP);
    world.apply(&slice(", hints: {forZones: [{name: b}, {name: a}]}"));
    let told = |world: &World| {
        let Some(Body::Endpoints(all)) = world.body("Endpoints/shop/orders/80") else {
            panic!()
        };
        all.endpoints[0].for_zones.clone()
    };
    assert_eq!(told(&world), ["a", "b"]);
    world.apply(&slice(""));
    assert!(told(&world).is_empty());
}

#[test]
fn both_addresses_of_a_pod_are_one_endpoint() {
    let slice = |number: u8, family: &str, endpoints: &str| {
        format!(
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: orders-{number}, namespace: shop, labels: {{kubernetes.io/service-name: orders}}}}
addressType: {family}
ports: [{{name: http, port: 8080}}]
endpoints: [{endpoints}]
"
        )
    };
    let pod = |address: &str, uid: &str, ready: bool| {
        format!(
            "{{addresses: ['{address}'], targetRef: {{kind: Pod, uid: {uid}}}, conditions: {{ready: {ready}}}}}"
        )
    };
    let four = |two_is_ready| {
        let two = pod("10.0.0.2", "two", two_is_ready);
        slice(
            1,
            "IPv4",
            &format!("{}, {two}", pod("10.0.0.1", "one", true)),
        )
    };
    let six = [
        pod("fd00::1", "one", true),
        pod("fd00::2", "two", true),
        "{addresses: ['fd00::3']}".to_owned(),
    ];
    let six = slice(2, "IPv6", &six.join(", "));
    let told = |world: &World| {
        let Some(Body::Endpoints(all)) = world.body(ENDPOINTS) else {
            panic!()
        };
        let text = |one: &proto::Endpoint| match one.other_address.as_str() {
            "" => one.address.clone(),
            other => format!("{}|{other}", one.address),
        };
        all.endpoints.iter().map(text).collect::<Vec<_>>().join(" ")
    };
    for (families, expected) in [
        ("", "10.0.0.1|fd00::1 10.0.0.2|fd00::2 fd00::3"),
        (
            "ipFamilies: [IPv6, IPv4], ",
            "fd00::1|10.0.0.1 fd00::2|10.0.0.2 fd00::3",
        ),
    ] {
        let mut world = with_service(&format!("{{{families}ports: [{{name: http, port: 80}}]}}"));
        world.apply(&format!("{}{six}", four(true)));
        assert_eq!(told(&world), expected);
    }
    // One slice is behind the other.
    let mut world = with_service("{ports: [{name: http, port: 80}]}");
    world.apply(&format!("{}{six}", four(false)));
    assert_eq!(told(&world), "10.0.0.1|fd00::1 10.0.0.2 fd00::2 fd00::3");
}

use proto::upstream::Scheme;

const ENDPOINTS: &str = "Endpoints/shop/orders/80";
const UPSTREAM: &str = "Upstream/shop/orders/80";

fn with_service(spec: &str) -> World {
    World::of(&format!(
        "{SHOP}---\napiVersion: v1\nkind: Service\nmetadata: {{name: orders, namespace: shop}}\nspec: {spec}\n"
    ))
}

#[test]
fn protocols() {
    for (protocol, scheme) in [
        ("kubernetes.io/h2c", Scheme::H2c),
        ("https", Scheme::Https),
        ("kubernetes.io/wss", Scheme::Https),
        ("kubernetes.io/ws", Scheme::Http1),
        ("http", Scheme::Http1),
        ("example.com/own", Scheme::Http1),
    ] {
        let world = with_service(&format!(
            "{{ports: [{{name: http, port: 80, appProtocol: {protocol}}}]}}"
        ));
        assert_eq!(world.upstream(UPSTREAM).scheme(), scheme, "{protocol}");
    }
}

#[test]
fn external_names() {
    for (spec, name, addresses) in [
        (
            "{type: ExternalName, externalName: api.test., ports: [{port: 80}]}",
            "api.test",
            None,
        ),
        (
            "{type: ExternalName, externalName: api.test}",
            "api.test",
            None,
        ),
        (
            "{type: ExternalName, externalName: 127.0.0.1, ports: [{port: 80}]}",
            "",
            Some(["127.0.0.1:80"]),
        ),
        (
            "{type: ExternalName, externalName: '[::1]'}",
            "",
            Some(["::1:80"]),
        ),
        // Not of that type: the name has no meaning.
        (
            "{externalName: api.test, ports: [{name: none, port: 80}]}",
            "",
            None,
        ),
    ] {
        let world = with_service(spec);
        let upstream = world.upstream(UPSTREAM);
        assert_eq!(upstream.dns_name, name, "{spec}");
        assert_eq!(
            upstream.dns_port,
            if name.is_empty() { 0 } else { 80 },
            "{spec}"
        );
        match addresses {
            Some(addresses) => assert_eq!(world.endpoints(ENDPOINTS), addresses, "{spec}"),
            None => assert_eq!(world.body(ENDPOINTS).is_some(), name.is_empty(), "{spec}"),
        }
    }
}

fn slice(name: &str, address: &str, ready: bool, port: &str) -> String {
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: orders}}}}
addressType: IPv4
ports: [{port}]
endpoints: [{{addresses: ['{address}'], conditions: {{ready: {ready}}}, zone: a}}]
"
    )
}

#[test]
fn endpoints_come_from_all_slices_and_the_port_of_the_same_name() {
    let mut world = World::of(SHOP);
    let delta = |world: &World| -> Vec<String> {
        world
            .last
            .diff
            .upserts
            .keys()
            .map(ToString::to_string)
            .collect()
    };
    world.apply(&slice(
        "orders-2",
        "10.0.0.3",
        true,
        "{name: admin, port: 1}, {name: http, port: 9090}",
    ));
    assert_eq!(delta(&world), [ENDPOINTS]);
    assert_eq!(
        world.endpoints(ENDPOINTS),
        ["10.0.0.1:8080 not ready", "10.0.0.2:8080", "10.0.0.3:9090"]
    );
    world.apply(&slice(
        "orders-3",
        "fd00::1",
        true,
        "{name: http, port: 8080}",
    ));
    assert_eq!(world.endpoints(ENDPOINTS).last().unwrap(), "fd00::1:8080");
    // In two slices for a moment: ready is ready.
    world.apply(&slice(
        "orders-3",
        "10.0.0.1",
        true,
        "{name: http, port: 8080}",
    ));
    assert_eq!(
        world.endpoints(ENDPOINTS),
        ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:9090"]
    );
    world.apply(&slice(
        "orders-3",
        "10.0.0.9",
        false,
        "{name: http, protocol: UDP, port: 8080}",
    ));
    world.delete(Kind::EndpointSlice, "shop", "orders-2");
    assert_eq!(
        world.endpoints(ENDPOINTS),
        ["10.0.0.1:8080 not ready", "10.0.0.2:8080"]
    );
    world.delete(Kind::EndpointSlice, "shop", "orders-1");
    assert!(world.endpoints(ENDPOINTS).is_empty());
}

#[test]
fn conditions_that_are_absent() {
    let slice = |conditions: &str| {
        format!(
            "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: orders-1, namespace: shop, labels: {{kubernetes.io/service-name: orders}}}}
addressType: IPv4
ports: [{{name: http, port: 1}}]
endpoints: [{{addresses: [10.0.0.1]{conditions}}}]
"
        )
    };
    for (conditions, expected) in [
        ("", "10.0.0.1:1"),
        (", conditions: {}", "10.0.0.1:1"),
        (
            ", conditions: {ready: false}",
            "10.0.0.1:1 not ready not serving",
        ),
        (
            ", conditions: {ready: false, serving: true}",
            "10.0.0.1:1 not ready",
        ),
    ] {
        let mut world = World::of(SHOP);
        world.apply(&slice(conditions));
        assert_eq!(world.endpoints(ENDPOINTS), [expected], "{conditions}");
    }
}

#[test]
fn a_service_that_goes_takes_its_endpoints_along() {
    let mut world = World::of(SHOP);
    world.delete(Kind::Service, "shop", "orders");
    assert!(world.keys("Upstream/").is_empty() && world.keys("Endpoints/").is_empty());
    assert_eq!(
        world.route("Route/HTTPRoute/shop/orders").rules[0].backends[0].invalid,
        "Service shop/orders does not exist"
    );
    world.apply(SHOP);
    assert_eq!(world.endpoints(ENDPOINTS).len(), 2);
}
