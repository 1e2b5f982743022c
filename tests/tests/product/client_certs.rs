//! Certificates of clients (`tls.frontend` of a Gateway).

use harness::Rig;
use harness::authority::{Authority, connect};
use harness::objects::{gateway, gateway_class, https_listener, route, tls_secret};
use harness::raw::{Connection, get};
use serde_json::{Value, json};

fn authorities(name: &str, authority: &Authority) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": authority.certificate}})
}

fn validation(name: &str, mode: &str) -> Value {
    json!({"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": name}], "mode": mode})
}

/// Whether the gateway answers.
async fn asks(
    port: u16,
    trusted: &Authority,
    shown: Option<&harness::tls::Certificate>,
) -> Option<u16> {
    let stream = connect(port, "a.test", trusted, shown).await.ok()?;
    let mut connection = Connection::over(stream);
    // With TLS 1.3 a client learns of a refusal when it reads.
    if !connection.try_send(get("a.test", "/", &[])).await {
        return None;
    }
    let head = connection.head().await?;
    let text = String::from_utf8_lossy(&head).into_owned();
    text.split(' ').nth(1)?.parse().ok()
}

#[tokio::test]
async fn each_port_asks_for_the_certificates_that_it_trusts() {
    let (servers, ours, others) = (
        Authority::default(),
        Authority::default(),
        Authority::default(),
    );
    let mut build = Rig::build().without_gateway();
    let ports: Vec<u16> = (0..4).map(|_| build.port()).collect();
    let listeners: Vec<Value> = ports
        .iter()
        .enumerate()
        .map(|(at, port)| https_listener(&format!("l{at}"), *port, None, "server"))
        .collect();
    let mut gate = gateway("gateway", &listeners);
    gate["spec"]["tls"] = json!({"frontend": {
    "default": {"validation": validation("ours", "AllowValidOnly")},
    "perPort": [
        {"port": ports[1], "tls": {"validation": validation("others", "AllowValidOnly")}},
        {"port": ports[2], "tls": {"validation": validation("ours", "AllowInsecureFallback")}},
        {"port": ports[3], "tls": {}},
    ]}});
    let objects = vec![
        gateway_class(),
        gate,
        tls_secret("server", &servers.certificate(&["a.test"])),
        authorities("ours", &ours),
        authorities("others", &others),
        route("r", "a.test", "echo"),
    ];
    let _rig = build.objects(objects).start().await;
    let (own, other) = (
        ours.certificate(&["c.test"]),
        others.certificate(&["c.test"]),
    );
    for (at, shown, expected) in [
        (0, Some(&own), Some(200)),
        (0, Some(&other), None),
        (0, None, None),
        (1, Some(&other), Some(200)),
        (1, Some(&own), None),
        (2, Some(&own), Some(200)),
        (2, Some(&other), Some(200)),
        (2, None, Some(200)),
        (3, None, Some(200)),
    ] {
        assert_eq!(asks(ports[at], &servers, shown).await, expected, "{at}");
    }
}

#[tokio::test]
async fn a_port_that_can_trust_nobody_is_not_served() {
    let servers = Authority::default();
    let mut build = Rig::build().without_gateway();
    let (closed, open) = (build.port(), build.port());
    let mut gate = gateway(
        "gateway",
        &[
            https_listener("closed", closed, None, "server"),
            https_listener("open", open, None, "server"),
        ],
    );
    gate["spec"]["tls"] = json!({"frontend": {
        "default": {},
        "perPort": [{"port": closed, "tls": {"validation": validation("absent", "AllowValidOnly")}}]}});
    let objects = vec![
        gateway_class(),
        gate,
        tls_secret("server", &servers.certificate(&["a.test"])),
        route("r", "a.test", "echo"),
    ];
    let _rig = build.objects(objects).start().await;
    assert!(
        tokio::net::TcpStream::connect(("127.0.0.1", closed))
            .await
            .is_err()
    );
    assert_eq!(asks(open, &servers, None).await, Some(200));
}
