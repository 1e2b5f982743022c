//! Ingress: hosts, path types, the default backend, classes and TLS.

use harness::objects::{
    gateway, gateway_class, http_listener, object, service, service_of, tls_secret,
};
use harness::raw::{Connection, get};
use harness::tls::{self, Certificate};
use harness::{Rig, Upstream};
use serde_json::{Value, json};

fn class(name: &str, controller: &str) -> Value {
    object(
        "networking.k8s.io/v1",
        "IngressClass",
        name,
        &json!({"controller": controller}),
    )
}

fn path(kind: &str, path: &str, service: &str) -> Value {
    json!({"path": path, "pathType": kind, "backend": {"service": {"name": service, "port": {"number": 80}}}})
}

fn ingress(name: &str, class: &str, host: &str, paths: &[Value]) -> Value {
    let spec =
        json!({"ingressClassName": class, "rules": [{"host": host, "http": {"paths": paths}}]});
    object("networking.k8s.io/v1", "Ingress", name, &spec)
}

/// Ingresses are served on the ports 8000 and 8443, which only one process of a machine can have.
async fn on_fixed_ports(objects: Vec<Value>, test: impl AsyncFnOnce(&Rig)) {
    let lock = std::fs::File::create("/tmp/postern-ports.lock").unwrap();
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .unwrap()
        .unwrap();
    let objects = objects
        .into_iter()
        .chain([class("postern", "postern.dev/ingress-controller")]);
    let rig = Rig::build()
        .without_gateway()
        .objects(objects)
        .start()
        .await;
    test(&rig).await;
    // The ports must be free again before the next test may have them.
    rig.postern.kill().await;
    drop(lock);
}

async fn ask(host: &str, target: &str) -> String {
    let answer = Connection::open(8000)
        .await
        .ask(get(host, target, &[]))
        .await;
    format!(
        "{} {}",
        answer.status,
        answer.header("x-upstream").unwrap_or("-")
    )
}

#[tokio::test]
async fn paths_hosts_and_classes_are_kept_apart() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let mut objects = [service("a", a.port()), service("b", b.port())].concat();
    let mut default = ingress(
        "fallback",
        "postern",
        "fallback.test",
        &[path("Exact", "/a", "a")],
    );
    default["spec"]["defaultBackend"] =
        json!({"service": {"name": "echo", "port": {"name": "http"}}});
    objects.extend([
        ingress(
            "i",
            "postern",
            "i.test",
            &[
                path("Prefix", "/a", "a"),
                path("Exact", "/a/b", "b"),
                path("ImplementationSpecific", "/impl", "b"),
            ],
        ),
        ingress(
            "wild",
            "postern",
            "*.wild.test",
            &[path("Prefix", "/", "a")],
        ),
        ingress(
            "foreign",
            "other",
            "foreign.test",
            &[path("Prefix", "/", "a")],
        ),
        class("other", "example.test/other"),
        default,
    ]);
    let table = [
        ("i.test", "/a", "200 a"),
        ("i.test", "/a/", "200 a"),
        ("i.test", "/a/b", "200 b"),
        ("i.test", "/a/b/", "200 a"),
        ("i.test", "/ab", "200 echo"),
        ("i.test", "/impl/x", "200 b"),
        ("x.wild.test", "/q", "200 a"),
        // An Ingress wildcard stands for one label only.
        ("x.y.wild.test", "/q", "200 echo"),
        ("wild.test", "/q", "200 echo"),
        ("fallback.test", "/a", "200 a"),
        ("fallback.test", "/other", "200 echo"),
        // Nothing of it is served, so the default backend of another Ingress answers.
        ("foreign.test", "/", "200 echo"),
    ];
    on_fixed_ports(objects, async |_| {
        for (host, target, want) in table {
            assert_eq!(ask(host, target).await, want, "{host} {target}");
        }
    })
    .await;
}

#[tokio::test]
async fn tls_secrets_are_served_by_name() {
    let certificate = Certificate::of(&["s.test"]);
    let mut secure = ingress("s", "postern", "s.test", &[path("Prefix", "/", "echo")]);
    secure["spec"]["tls"] = json!([{"hosts": ["s.test"], "secretName": "s-tls"}]);
    on_fixed_ports(
        vec![secure, tls_secret("s-tls", &certificate)],
        async |_| {
            let session = tls::connect(8443, Some("s.test"), &["http/1.1"], tls::VERSIONS)
                .await
                .unwrap();
            assert_eq!(session.certificate, certificate.der);
            let answer = Connection::over(session.stream)
                .ask(get("s.test", "/", &[]))
                .await;
            assert_eq!(
                (answer.status, answer.header("x-upstream")),
                (200, Some("echo"))
            );
        },
    )
    .await;
}

#[tokio::test]
async fn plugins_protect_ingresses_and_their_class() {
    let mut objects = harness::objects::consumer_with_key("alice", "key-of-alice");
    let target =
        |kind: &str, name: &str| json!({"group": "networking.k8s.io", "kind": kind, "name": name});
    objects.extend([
        ingress("one", "postern", "one.test", &[path("Prefix", "/", "echo")]),
        ingress("two", "postern", "two.test", &[path("Prefix", "/", "echo")]),
        harness::objects::plugin(
            "wide",
            &[target("IngressClass", "postern")],
            "keyAuth",
            &json!({"realm": "class"}),
        ),
        harness::objects::plugin(
            "narrow",
            &[target("Ingress", "one")],
            "keyAuth",
            &json!({"realm": "ingress"}),
        ),
    ]);
    on_fixed_ports(objects, async |_| {
        for (host, realm) in [("one.test", "ingress"), ("two.test", "class")] {
            let answer = Connection::open(8000).await.ask(get(host, "/", &[])).await;
            let want = format!("Key realm=\"{realm}\"");
            assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, Some(want.as_str()))
            );
            let answer = Connection::open(8000)
                .await
                .ask(get(host, "/", &[("apikey", "key-of-alice")]))
                .await;
            assert_eq!(answer.status, 200);
        }
    })
    .await;
}

#[tokio::test]
async fn a_gateway_beside_ingresses_is_served_on_its_own_port() {
    let port = harness::ports::Port::reserve();
    let objects = vec![
        gateway_class(),
        gateway("gateway", &[http_listener("http", port.number())]),
        harness::objects::route("r", "r.test", "echo"),
    ];
    let rig = Rig::build()
        .without_gateway()
        .objects(objects)
        .start()
        .await;
    let answer = Connection::open(port.number())
        .await
        .ask(get("r.test", "/", &[]))
        .await;
    assert_eq!((answer.status, rig.upstream.count()), (200, 1));
}

fn annotated(mut ingress: Value, annotations: &[(&str, &str)]) -> Value {
    for (name, value) in annotations {
        ingress["metadata"]["annotations"][format!("postern.dev/{name}")] = (*value).into();
    }
    ingress
}

async fn send(request: Vec<u8>) -> harness::Answer {
    Connection::open(8000).await.ask(request).await
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one gateway serves all annotations")]
async fn annotations_mean_what_users_of_other_controllers_are_used_to() {
    let app = Upstream::named("app").await;
    let certificate = Certificate::of(&["upstream.test"]);
    let secure = harness::authority::TlsUpstream::start(&certificate, None).await;
    let all = |host: &str, annotations: &[(&str, &str)]| {
        let name = host.replace('.', "-");
        annotated(
            ingress(&name, "postern", host, &[path("Prefix", "/", "app")]),
            annotations,
        )
    };
    let mut objects = service("app", app.port());
    objects.extend(service("secure", secure.port()));
    let rewritten = ingress(
        "rewritten",
        "postern",
        "rewrite.test",
        &[path("ImplementationSpecific", "/api(/|$)(.*)", "app")],
    );
    let tls = ingress(
        "secure",
        "postern",
        "secure.test",
        &[path("Prefix", "/", "secure")],
    );
    objects.extend([
        all("ssl.test", &[("ssl-redirect", "true")]),
        all(
            "few.test",
            &[("whitelist-source-range", "10.0.0.0/8, 192.0.2.1")],
        ),
        all("own.test", &[("whitelist-source-range", "127.0.0.0/8")]),
        all("small.test", &[("proxy-body-size", "1k")]),
        all(
            "cors.test",
            &[
                ("enable-cors", "true"),
                ("cors-allow-origin", "https://a.test"),
            ],
        ),
        all(
            "vhost.test",
            &[
                ("upstream-vhost", "inner.test"),
                ("rewrite-target", "/fixed"),
            ],
        ),
        all("wrong.test", &[("proxy-body-size", "much")]),
        annotated(
            rewritten,
            &[("use-regex", "true"), ("rewrite-target", "/v1/$2")],
        ),
        annotated(tls, &[("backend-protocol", "HTTPS")]),
    ]);
    on_fixed_ports(objects, async |_| {
        let answer = send(get("ssl.test", "/a?b", &[])).await;
        assert_eq!(answer.status, 308);
        assert_eq!(answer.header("location"), Some("https://ssl.test:8443/a?b"));
        assert_eq!(ask("few.test", "/").await, "403 -");
        assert_eq!(ask("own.test", "/").await, "200 app");

        let long = vec![b'x'; 1025];
        let head = [("Content-Length", "1025")];
        let answer = send(harness::raw::request(
            "POST",
            "small.test",
            "/",
            &head,
            &long,
        ))
        .await;
        assert_eq!(answer.status, 413);
        let mut chunked = b"401\r\n".to_vec();
        chunked.extend_from_slice(&long);
        chunked.extend_from_slice(b"\r\n0\r\n\r\n");
        let head = [("Transfer-Encoding", "chunked")];
        let answer = send(harness::raw::request(
            "POST",
            "small.test",
            "/",
            &head,
            &chunked,
        ))
        .await;
        assert_eq!(answer.status, 413);
        let short = [("Content-Length", "3")];
        let answer = send(harness::raw::request(
            "POST",
            "small.test",
            "/",
            &short,
            b"abc",
        ))
        .await;
        assert_eq!(answer.status, 200);

        let headers = [("Origin", "https://a.test")];
        let answer = send(get("cors.test", "/", &headers)).await;
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://a.test")
        );
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            Some("true")
        );

        assert_eq!(ask("vhost.test", "/anything").await, "200 app");
        let seen = app.last();
        assert_eq!(
            (seen.header("host"), seen.target.as_str()),
            (Some("inner.test"), "/fixed")
        );
        for (target, expected) in [
            ("/api/a/b?q", "/v1/a/b?q"),
            ("/API", "/v1/"),
            ("/apix", "404"),
        ] {
            let answer = send(get("rewrite.test", target, &[])).await;
            if expected == "404" {
                assert_eq!(answer.status, 404, "{target}");
            } else {
                assert_eq!(answer.status, 200, "{target}");
                assert_eq!(app.last().target, expected, "{target}");
            }
        }
        assert_eq!(ask("wrong.test", "/").await, "500 -");
        let answer = send(get("secure.test", "/", &[])).await;
        assert_eq!(
            (answer.status, answer.header("x-version")),
            (200, Some("HTTP/1.1"))
        );
    })
    .await;
}

#[tokio::test]
async fn a_cookie_keeps_a_client_at_its_endpoint_where_the_annotation_asks_for_it() {
    let both = [Upstream::named("one").await, Upstream::named("other").await];
    let endpoints = both.each_ref().map(|one| (one.port(), true));
    let mut objects = service_of("app", &endpoints, None);
    objects.push(annotated(
        ingress("app", "postern", "app.test", &[path("Prefix", "/", "app")]),
        &[("affinity", "cookie"), ("session-cookie-name", "route")],
    ));
    on_fixed_ports(objects, async |_| {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let first = send(get("app.test", "/", &[])).await;
            let set = first.header("set-cookie").unwrap();
            let (cookie, attributes) = set.split_once("; ").unwrap();
            assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
            assert!(cookie.starts_with("route="), "{cookie}");
            let who = first.header("x-upstream");
            for _ in 0..3 {
                let next = send(get("app.test", "/", &[("Cookie", cookie)])).await;
                assert_eq!(
                    (next.header("x-upstream"), next.header("set-cookie")),
                    (who, None)
                );
            }
            seen.insert(who.map(str::to_owned));
        }
        assert_eq!(seen.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn an_annotation_says_how_long_upstreams_are_waited_for() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut objects = service("a", silent.local_addr().unwrap().port());
    let mut hasty = ingress(
        "hasty",
        "postern",
        "hasty.test",
        &[path("Prefix", "/", "a")],
    );
    hasty["metadata"]["annotations"] = json!({"postern.dev/proxy-read-timeout": "1"});
    objects.push(hasty);
    on_fixed_ports(objects, async |_| {
        assert_eq!(ask("hasty.test", "/").await, "504 -");
    })
    .await;
}
