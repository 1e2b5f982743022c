//! Whom upstreams and clients are checked by.

use super::*;

fn pem() -> String {
    rcgen::generate_simple_self_signed(["authority.test".to_owned()])
        .unwrap()
        .cert
        .pem()
}

/// A ConfigMap, as YAML.
fn authorities(name: &str, pem: &str) -> String {
    let indented = pem.replace('\n', "\n    ");
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata:\n  ca.crt: |\n    {indented}\n"
    )
}

fn policy(name: &str, target: &str, validation: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  targetRefs: [{{group: '', kind: Service, name: orders{target}}}]
  validation: {{hostname: orders.test, {validation}}}
"
    )
}

const BY_CA: &str = "caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]";

fn ancestor(world: &World, policy: &str, condition: &str) -> String {
    let StatusBody::Policy { ancestors } = world.status(Kind::BackendTlsPolicy, "shop", policy)
    else {
        panic!()
    };
    let [ancestor] = ancestors.as_slice() else {
        panic!("{ancestors:?}")
    };
    assert_eq!(ancestor.parent_ref["name"], "gateway");
    shown(&ancestor.conditions, condition)
}

#[test]
fn a_policy_says_whose_certificate_an_upstream_must_have() {
    let pem = pem();
    let names = format!(
        "{BY_CA}, subjectAltNames: [{{type: Hostname, hostname: A.test}}, {{type: URI, uri: 'spiffe://a'}}]"
    );
    let world = World::of(&format!(
        "{SHOP}{}{}",
        authorities("ca", &pem),
        policy("one", "", &names)
    ));
    let upstream = world.upstream("Upstream/shop/orders/80");
    assert_eq!(upstream.scheme(), proto::upstream::Scheme::Https);
    let tls = upstream.tls.unwrap();
    assert_eq!(tls.server_name, "orders.test");
    assert_eq!(
        (tls.names, tls.uris),
        (vec!["a.test".to_owned()], vec!["spiffe://a".to_owned()])
    );
    assert_eq!(tls.roots_pem.trim_ascii(), pem.trim().as_bytes());
    assert!(!tls.http2 && tls.closed.is_empty());
    assert_eq!(ancestor(&world, "one", "Accepted"), "True/Accepted");
    assert_eq!(ancestor(&world, "one", "ResolvedRefs"), "True/ResolvedRefs");
    assert_eq!(world.diagnostics(), [""; 0]);
}

#[test]
fn what_cannot_be_resolved_closes_the_service_until_it_can() {
    for (validation, accepted, resolved) in [
        (
            BY_CA,
            "False/NoValidCACertificate",
            "False/InvalidCACertificateRef",
        ),
        (
            "caCertificateRefs: [{group: '', kind: Service, name: ca}]",
            "False/NoValidCACertificate",
            "False/InvalidKind",
        ),
        (
            "wellKnownCACertificates: acme.test/all",
            "False/Invalid",
            "True/ResolvedRefs",
        ),
        (
            "wellKnownCACertificates: System, caCertificateRefs: [{group: '', kind: Service, name: ca}]",
            "False/Invalid",
            "False/InvalidKind",
        ),
    ] {
        let world = World::of(&format!("{SHOP}{}", policy("one", "", validation)));
        let tls = world.upstream("Upstream/shop/orders/80").tls.unwrap();
        assert!(!tls.closed.is_empty(), "{validation}");
        assert!(
            ancestor(&world, "one", "Accepted").starts_with(accepted),
            "{validation}"
        );
        assert!(
            ancestor(&world, "one", "ResolvedRefs").starts_with(resolved),
            "{validation}"
        );
    }
    let system = policy("one", "", "wellKnownCACertificates: System");
    let world = World::of(&format!("{SHOP}{system}"));
    let tls = world.upstream("Upstream/shop/orders/80").tls.unwrap();
    assert!(tls.closed.is_empty() && tls.system_roots && tls.roots_pem.is_empty());
    assert_eq!(ancestor(&world, "one", "Accepted"), "True/Accepted");
    let mut world = World::of(&format!("{SHOP}{}", policy("one", "", BY_CA)));
    world.apply(&authorities("ca", &pem()));
    assert_eq!(ancestor(&world, "one", "Accepted"), "True/Accepted");
    world.apply(&authorities("ca", "nothing"));
    assert!(ancestor(&world, "one", "Accepted").starts_with("False/NoValidCACertificate"));
}

#[test]
fn of_two_policies_the_older_counts_and_one_for_a_port_is_narrower() {
    let world = World::of(&format!(
        "{SHOP}{}{}{}{}",
        authorities("ca", &pem()),
        policy("older", "", BY_CA),
        policy("newer", "", BY_CA),
        policy(
            "port",
            ", sectionName: http",
            &BY_CA.replace("ca}", "none}")
        ),
    ));
    assert_eq!(ancestor(&world, "older", "Accepted"), "True/Accepted");
    assert!(ancestor(&world, "newer", "Accepted").starts_with("False/Conflicted"));
    let tls = world.upstream("Upstream/shop/orders/80").tls.unwrap();
    assert!(
        tls.closed.contains("no certificate of an authority"),
        "{}",
        tls.closed
    );
}

fn gateway_with(tls: &str, rest: &str) -> World {
    World::of(&format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gateway, namespace: shop}}
spec:
  gatewayClassName: postern
  tls: {tls}
  listeners:
  - {{name: http, port: 8000, protocol: HTTP}}
  - {{name: https, port: 8443, protocol: HTTPS, tls: {{certificateRefs: [{{name: server}}]}}}}
{rest}"
    ))
}

fn secret(name: &str) -> String {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let indent = |text: String| text.replace('\n', "\n    ");
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: shop}}\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
        indent(made.cert.pem()),
        indent(made.signing_key.serialize_pem())
    )
}

#[test]
fn a_gateway_shows_its_certificate_to_upstreams() {
    let tls = "{backend: {clientCertificateRef: {name: client}}}";
    let mut world = gateway_with(tls, &secret("server"));
    assert!(
        world
            .condition(Kind::Gateway, "gateway", "ResolvedRefs")
            .starts_with("False/InvalidClientCertificateRef")
    );
    assert_eq!(
        world.condition(Kind::Gateway, "gateway", "Accepted"),
        "True/Accepted"
    );
    // What is not there is named all the same, so that nothing is sent without it.
    let listener = world.listener("Listener/shop/gateway/http");
    assert_eq!(listener.client_certificate, "Certificate/shop/-");
    world.apply(&secret("client"));
    assert_eq!(
        world.condition(Kind::Gateway, "gateway", "ResolvedRefs"),
        "True/ResolvedRefs"
    );
    let listener = world.listener("Listener/shop/gateway/http");
    assert_eq!(listener.client_certificate, "Certificate/shop/client");
}

#[test]
fn clients_are_checked_where_the_gateway_says_so() {
    let tls = "{frontend: {default: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}}}";
    let mut world = gateway_with(tls, &secret("server"));
    let refused = world.listener_condition("gateway", "https", "Accepted");
    assert!(
        refused.starts_with("False/NoValidCACertificate"),
        "{refused}"
    );
    let resolved = world.listener_condition("gateway", "https", "ResolvedRefs");
    assert!(
        resolved.starts_with("False/InvalidCACertificateRef"),
        "{resolved}"
    );
    assert_eq!(
        world.listener_condition("gateway", "http", "Accepted"),
        "True/Accepted"
    );
    assert_eq!(world.keys("Listener/"), ["Listener/shop/gateway/http"]);
    world.apply(&authorities("ca", &pem()));
    let listener = world.listener("Listener/shop/gateway/https");
    assert!(!listener.client_validation.unwrap().optional);
    assert_eq!(
        world
            .listener("Listener/shop/gateway/http")
            .client_validation,
        None
    );
}

#[test]
fn a_fallback_is_shown_in_the_status() {
    let tls = "{frontend: {default: {}, perPort: [{port: 8443, tls: {validation: {mode: AllowInsecureFallback, \
        caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}}]}}";
    let world = gateway_with(
        tls,
        &format!("{}{}", secret("server"), authorities("ca", &pem())),
    );
    let listener = world.listener("Listener/shop/gateway/https");
    assert!(listener.client_validation.unwrap().optional);
    assert!(
        world
            .condition(Kind::Gateway, "gateway", "InsecureFrontendValidationMode")
            .starts_with("True/ConfigurationChanged")
    );
}
