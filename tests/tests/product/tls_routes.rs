//! `TLSRoute`: connections that are passed on by the name in their hello, decrypted or as they are.

use harness::authority::{Authority, TlsUpstream, connect};
use harness::objects::{
    backend, gateway, gateway_class, http_listener, https_listener, key_auth, object, plugin,
    route, service, tls_secret,
};
use harness::raw::{Connection, get};
use harness::{Rig, Upstream};
use serde_json::{Value, json};

fn tls_listener(name: &str, port: u16, hostname: &str, secret: Option<&str>) -> Value {
    let tls = match secret {
        Some(secret) => json!({"mode": "Terminate", "certificateRefs": [{"name": secret}]}),
        None => json!({"mode": "Passthrough"}),
    };
    json!({"name": name, "protocol": "TLS", "port": port, "hostname": hostname, "tls": tls})
}

fn tls_route(name: &str, host: &str, service: &str) -> Value {
    let spec = json!({"parentRefs": [{"name": "gateway"}], "hostnames": [host],
        "rules": [{"backendRefs": [backend(service)]}]});
    object("gateway.networking.k8s.io/v1", "TLSRoute", name, &spec)
}

async fn ask(
    port: u16,
    host: &str,
    trusted: &Authority,
) -> Result<harness::Answer, std::io::Error> {
    let stream = connect(port, host, trusted, None).await?;
    Ok(Connection::over(stream).ask(get(host, "/", &[])).await)
}

#[tokio::test]
async fn one_port_ends_tls_for_some_names_and_passes_it_on_for_others() {
    let (ours, theirs) = (Authority::default(), Authority::default());
    let secret = TlsUpstream::start(&theirs.certificate(&["pass.test"]), None).await;
    let plain = Upstream::named("plain").await;
    let web = Upstream::named("web").await;
    let mut build = Rig::build();
    let port = build.port();
    let build = build
        .listener(https_listener("web", port, Some("web.test"), "server"))
        .listener(tls_listener("end", port, "end.test", Some("server")))
        .listener(tls_listener("pass", port, "*.test", None));
    let mut objects = service("secret", secret.port());
    objects.extend(service("plain", plain.port()));
    objects.extend(service("web", web.port()));
    objects.extend([
        tls_secret("server", &ours.certificate(&["web.test", "end.test"])),
        tls_route("pass", "pass.test", "secret"),
        tls_route("end", "end.test", "plain"),
        tls_route("gone", "gone.test", "absent"),
        route("web", "web.test", "web"),
    ]);
    let _rig = build.objects(objects).start().await;

    let answer = ask(port, "pass.test", &theirs).await.unwrap();
    assert_eq!(
        (answer.status, answer.header("x-sni")),
        (200, Some("pass.test"))
    );
    let answer = ask(port, "end.test", &ours).await.unwrap();
    assert_eq!(
        (answer.status, answer.header("x-upstream")),
        (200, Some("plain"))
    );
    // Nothing of it was HTTP to the gateway.
    assert_eq!(plain.last().header("x-forwarded-for"), None);
    let answer = ask(port, "web.test", &ours).await.unwrap();
    assert_eq!(
        (answer.status, answer.header("x-upstream")),
        (200, Some("web"))
    );
    assert!(web.last().header("x-forwarded-for").is_some());
    for host in ["gone.test", "nobody.test", "other.example"] {
        assert!(connect(port, host, &theirs, None).await.is_err(), "{host}");
    }
    // Bytes both ways, more than one hello's worth.
    let stream = connect(port, "pass.test", &theirs, None).await.unwrap();
    let mut connection = Connection::over(stream);
    for _ in 0..50 {
        let large = "x".repeat(4000);
        let answer = connection
            .ask(get("pass.test", "/", &[("x-large", &large)]))
            .await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn what_a_plugin_protects_is_not_passed_on() {
    let theirs = Authority::default();
    let secret = TlsUpstream::start(&theirs.certificate(&["a.test", "b.test"]), None).await;
    let mut build = Rig::build().without_gateway();
    let (port, http) = (build.port(), build.port());
    let mut objects = service("a", secret.port());
    objects.extend(service("b", secret.port()));
    let to_b = json!({"group": "", "kind": "Service", "name": "b"});
    objects.extend([
        gateway_class(),
        gateway(
            "gateway",
            &[
                tls_listener("pass", port, "*.test", None),
                http_listener("http", http),
            ],
        ),
        tls_route("a", "a.test", "a"),
        tls_route("b", "b.test", "b"),
        plugin("key", &[to_b], "keyAuth", &json!({})),
        key_auth("unused", "none", &json!({})),
    ]);
    let _rig = build.objects(objects).start().await;
    assert_eq!(ask(port, "a.test", &theirs).await.unwrap().status, 200);
    assert!(connect(port, "b.test", &theirs, None).await.is_err());
}
