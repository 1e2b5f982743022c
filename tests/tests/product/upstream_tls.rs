//! TLS towards upstreams: BackendTLSPolicy, and what a Gateway shows of itself.

use harness::Rig;
use harness::authority::{Authority, TlsUpstream};
use harness::objects::{
    gateway, gateway_class, http_listener, object, route, service, service_of, tls_secret,
};
use serde_json::{Value, json};

fn authorities(name: &str, authority: &Authority) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": authority.certificate}})
}

fn policy(service: &str, authorities: &str, hostname: &str, names: &Value) -> Value {
    let mut validation = json!({"hostname": hostname,
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": authorities}]});
    if !names.is_null() {
        validation["subjectAltNames"] = names.clone();
    }
    let spec = json!({"targetRefs": [{"group": "", "kind": "Service", "name": service}], "validation": validation});
    object(
        "gateway.networking.k8s.io/v1",
        "BackendTLSPolicy",
        service,
        &spec,
    )
}

#[tokio::test]
async fn certificates_of_upstreams_are_checked_as_the_policy_says() {
    let (ours, theirs) = (Authority::default(), Authority::default());
    let certificate = ours.certificate(&["app.test", "spiffe://app/one"]);
    let upstream = TlsUpstream::start(&certificate, None).await;
    let uri = |uri: &str| json!([{"type": "URI", "uri": uri}]);
    let dns = |name: &str| json!([{"type": "Hostname", "hostname": name}]);
    let cases = [
        ("good", "ours", "app.test", Value::Null, 200),
        ("othername", "ours", "other.test", Value::Null, 502),
        ("otherca", "theirs", "app.test", Value::Null, 502),
        ("noca", "absent", "app.test", Value::Null, 500),
        ("san", "ours", "other.test", dns("app.test"), 200),
        ("wrongsan", "ours", "app.test", dns("other.test"), 502),
        ("uri", "ours", "other.test", uri("spiffe://app/one"), 200),
        ("wronguri", "ours", "app.test", uri("spiffe://app/two"), 502),
    ];
    let mut objects = vec![authorities("ours", &ours), authorities("theirs", &theirs)];
    for (name, authority, hostname, names, _) in &cases {
        objects.extend(service(name, upstream.port()));
        objects.push(route(name, &format!("{name}.test"), name));
        objects.push(policy(name, authority, hostname, names));
    }
    // TLS without anybody to trust is no TLS.
    objects.extend(service_of(
        "bare",
        &[(upstream.port(), true)],
        Some("https"),
    ));
    objects.push(route("bare", "bare.test", "bare"));
    let rig = Rig::with(objects).await;
    for (name, _, hostname, _, status) in &cases {
        let answer = rig.get(&format!("{name}.test"), "/").await;
        assert_eq!(answer.status, *status, "{name}");
        if *status == 200 {
            assert_eq!(answer.header("x-sni"), Some(*hostname), "{name}");
            assert_eq!(answer.header("x-version"), Some("HTTP/1.1"), "{name}");
        }
    }
    assert_eq!(rig.get("bare.test", "/").await.status, 500);
    // The connection is used again, and by nobody whom another policy is for.
    for _ in 0..3 {
        assert_eq!(rig.get("good.test", "/").await.status, 200);
        assert_eq!(rig.get("othername.test", "/").await.status, 502);
    }
}

#[tokio::test]
async fn a_policy_may_trust_whom_the_system_trusts() {
    let (known, unknown) = (Authority::default(), Authority::default());
    let good = TlsUpstream::start(&known.certificate(&["app.test"]), None).await;
    let bad = TlsUpstream::start(&unknown.certificate(&["app.test"]), None).await;
    let mut objects = Vec::new();
    for (name, upstream) in [("good", &good), ("bad", &bad)] {
        let mut policy = policy(name, "", "app.test", &Value::Null);
        policy["spec"]["validation"] =
            json!({"hostname": "app.test", "wellKnownCACertificates": "System"});
        objects.extend(service(name, upstream.port()));
        objects.extend([route(name, &format!("{name}.test"), name), policy]);
    }
    let rig = Rig::build()
        .trusted(&known.certificate)
        .objects(objects)
        .start()
        .await;
    assert_eq!(rig.get("good.test", "/").await.status, 200);
    assert_eq!(rig.get("bad.test", "/").await.status, 502);
}

#[tokio::test]
async fn http_2_is_agreed_on_where_the_port_speaks_it() {
    let ours = Authority::default();
    let upstream = TlsUpstream::start(&ours.certificate(&["app.test"]), None).await;
    let mut objects = service_of("app", &[(upstream.port(), true)], Some("kubernetes.io/h2c"));
    objects.extend([
        authorities("ours", &ours),
        policy("app", "ours", "app.test", &Value::Null),
        route("app", "app.test", "app"),
    ]);
    let rig = Rig::with(objects).await;
    let answer = rig.get("app.test", "/").await;
    assert_eq!(
        (answer.status, answer.header("x-version")),
        (200, Some("HTTP/2.0"))
    );
}

#[tokio::test]
async fn a_gateway_shows_its_certificate_and_without_it_nothing_is_sent() {
    let (servers, clients) = (Authority::default(), Authority::default());
    let upstream = TlsUpstream::start(&servers.certificate(&["app.test"]), Some(&clients)).await;
    let mut build = Rig::build().without_gateway();
    let ports = [build.port(), build.port(), build.port()];
    let with = |name: &str, port: u16, secret: Option<&str>| {
        let mut gateway = gateway(name, &[http_listener("http", port)]);
        if let Some(secret) = secret {
            gateway["spec"]["tls"] = json!({"backend": {"clientCertificateRef": {"name": secret}}});
        }
        gateway
    };
    let mut objects = service("app", upstream.port());
    let mut to = route("app", "app.test", "app");
    to["spec"]["parentRefs"] = json!([{"name": "shows"}, {"name": "silent"}, {"name": "absent"}]);
    objects.extend([
        gateway_class(),
        with("shows", ports[0], Some("client")),
        with("silent", ports[1], None),
        with("absent", ports[2], Some("none")),
        tls_secret("client", &clients.certificate(&["gateway.test"])),
        authorities("ours", &servers),
        policy("app", "ours", "app.test", &Value::Null),
        to,
    ]);
    let _rig = build.objects(objects).start().await;
    for (port, status) in [(ports[0], 200), (ports[1], 502), (ports[2], 500)] {
        let mut connection = harness::Connection::open(port).await;
        let answer = connection
            .ask(harness::raw::get("app.test", "/", &[]))
            .await;
        assert_eq!(answer.status, status, "{port}");
        if status == 200 {
            assert_eq!(answer.header("x-client"), Some("yes"));
        }
    }
}
