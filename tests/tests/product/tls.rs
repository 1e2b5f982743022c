//! TLS: names, versions, protocols, and new certificates without a new connection for anybody.

use harness::objects::{
    gateway, gateway_class, http_listener, https_listener, route, service, tls_secret,
};
use harness::raw::{Connection, get};
use harness::tls::{self, Certificate, VERSIONS};
use harness::{Rig, h2};

async fn rig(certificates: &[(&str, Option<&str>, &Certificate)]) -> (Rig, u16) {
    let mut build = Rig::build();
    let port = build.port();
    let mut objects = vec![
        route("r", "a.test", "echo"),
        route("b", "b.test", "echo"),
        route("w", "x.w.test", "echo"),
    ];
    for (name, hostname, certificate) in certificates {
        build = build.listener(https_listener(name, port, *hostname, name));
        objects.push(tls_secret(name, certificate));
    }
    (build.objects(objects).start().await, port)
}

#[tokio::test]
async fn the_name_chooses_the_certificate_and_the_first_one_is_the_default() {
    let (a, b, w) = (
        Certificate::of(&["a.test"]),
        Certificate::of(&["b.test"]),
        Certificate::of(&["*.w.test"]),
    );
    let (_rig, port) = rig(&[
        ("a", Some("a.test"), &a),
        ("b", Some("b.test"), &b),
        ("w", Some("*.w.test"), &w),
    ])
    .await;
    for (sni, want) in [
        (Some("a.test"), &a),
        (Some("b.test"), &b),
        (Some("B.TEST"), &b),
        (Some("x.w.test"), &w),
        (Some("other.test"), &a),
        (None, &a),
    ] {
        let session = tls::connect(port, sni, &[], VERSIONS).await.unwrap();
        assert!(session.certificate == want.der, "{sni:?}");
    }
}

#[tokio::test]
async fn alpn_chooses_the_protocol_and_both_versions_of_tls_are_there() {
    let certificate = Certificate::of(&["a.test"]);
    let (rig, port) = rig(&[("a", None, &certificate)]).await;
    for version in VERSIONS {
        let session = tls::connect(port, Some("a.test"), &["h2", "http/1.1"], &[version])
            .await
            .unwrap();
        assert_eq!(
            (session.protocol.as_deref(), session.version),
            (Some("h2"), version.version)
        );
        let mut client = h2::Client::over(session.stream).await;
        assert_eq!(client.get("https://a.test/x", &[]).await.status, 200);
        assert_eq!(
            rig.upstream.last().header("x-forwarded-proto"),
            Some("https")
        );
        for alpn in [&["http/1.1"] as &[_], &[]] {
            let session = tls::connect(port, Some("a.test"), alpn, &[version])
                .await
                .unwrap();
            assert_eq!(session.protocol.as_deref(), alpn.first().copied());
            assert_eq!(
                Connection::over(session.stream)
                    .ask(get("a.test", "/", &[]))
                    .await
                    .status,
                200
            );
        }
    }
    assert!(
        tls::connect(port, Some("a.test"), &["gopher"], VERSIONS)
            .await
            .is_err(),
        "no protocol in common"
    );
}

#[tokio::test]
async fn clear_text_on_a_tls_port_and_the_other_way_round_harm_nobody() {
    let certificate = Certificate::of(&["a.test"]);
    let (rig, port) = rig(&[("a", None, &certificate)]).await;
    let mut plain = Connection::open(port).await;
    plain.send(get("a.test", "/", &[])).await;
    let rest = plain.rest().await;
    assert!(!String::from_utf8_lossy(&rest).contains("200"), "{rest:?}");
    assert!(
        tls::connect(rig.port, Some("a.test"), &[], VERSIONS)
            .await
            .is_err()
    );
    assert!(
        tls::connect(port, Some("a.test"), &[], VERSIONS)
            .await
            .is_ok()
    );
    assert_eq!(rig.get("a.test", "/").await.status, 200);
    assert_eq!(rig.upstream.count(), 1);
}

#[tokio::test]
async fn a_new_certificate_counts_for_new_connections_only() {
    let (old, new) = (Certificate::of(&["a.test"]), Certificate::of(&["a.test"]));
    let (mut rig, port) = rig(&[("a", None, &old)]).await;
    let session = tls::connect(port, Some("a.test"), &["http/1.1"], VERSIONS)
        .await
        .unwrap();
    assert!(session.certificate == old.der);
    let mut kept = Connection::over(session.stream);
    assert_eq!(kept.ask(get("a.test", "/", &[])).await.status, 200);
    rig.replace([route("r", "a.test", "echo"), tls_secret("a", &new)])
        .await;
    let session = tls::connect(port, Some("a.test"), &[], VERSIONS)
        .await
        .unwrap();
    assert!(session.certificate == new.der);
    assert_eq!(
        kept.ask(get("a.test", "/", &[])).await.status,
        200,
        "the old connection goes on"
    );
}

#[tokio::test]
async fn a_secret_that_is_no_certificate_breaks_its_listener_only() {
    let good = Certificate::of(&["a.test"]);
    let mut broken = Certificate::of(&["b.test"]);
    broken.key = Certificate::of(&["other.test"]).key;
    let mut build = Rig::build();
    let (fine, mismatched, missing) = (build.port(), build.port(), build.port());
    let rig = build
        .listener(https_listener("fine", fine, None, "good"))
        .listener(https_listener("mismatched", mismatched, None, "broken"))
        .listener(https_listener("missing", missing, None, "nowhere"))
        .objects([
            route("r", "a.test", "echo"),
            tls_secret("good", &good),
            tls_secret("broken", &broken),
        ])
        .start()
        .await;
    let session = tls::connect(fine, Some("a.test"), &["http/1.1"], VERSIONS)
        .await
        .unwrap();
    assert_eq!(
        Connection::over(session.stream)
            .ask(get("a.test", "/", &[]))
            .await
            .status,
        200
    );
    assert_eq!(rig.get("a.test", "/").await.status, 200);
    for port in [mismatched, missing] {
        assert!(
            tls::connect(port, Some("a.test"), &[], VERSIONS)
                .await
                .is_err(),
            "{port}"
        );
    }
    rig.postern
        .log_line("the missing Secret", |l| l.contains("nowhere"))
        .await;
    rig.postern
        .log_line("the key of another certificate", |l| l.contains("broken"))
        .await;
}

#[tokio::test]
async fn a_gateway_may_change_from_clear_text_to_tls() {
    let certificate = Certificate::of(&["a.test"]);
    let mut build = Rig::build();
    let port = build.port();
    let mut rig = build
        .listener(http_listener("second", port))
        .objects([route("r", "a.test", "echo"), tls_secret("a", &certificate)])
        .start()
        .await;
    assert_eq!(
        Connection::open(port)
            .await
            .ask(get("a.test", "/", &[]))
            .await
            .status,
        200
    );
    let mut base = service("echo", rig.upstream.port());
    let listeners = [
        http_listener("http", rig.port),
        https_listener("second", port, None, "a"),
    ];
    base.extend([gateway_class(), gateway("gateway", &listeners)]);
    rig.folder.put("base.yaml", &base);
    rig.reloaded().await;
    let session = tls::connect(port, Some("a.test"), &["h2"], VERSIONS)
        .await
        .unwrap();
    assert_eq!(
        h2::Client::over(session.stream)
            .await
            .get("https://a.test/", &[])
            .await
            .status,
        200
    );
}
