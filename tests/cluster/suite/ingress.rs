//! The scenarios of the public conformance suite for ingress controllers (kubernetes-sigs/ingress-controller-conformance),
//! one test for each of its features; docs/ingress.md says which is where.
//!
//! Whatever a status shows or a proxy serves is waited for, proxy by proxy. The requests of the tables then go to the
//! address in the Ingress' status, once, as a client's would.

use std::collections::BTreeSet;
use std::net::IpAddr;

use harness::tls::Certificate;

use crate::client::{self, Answer, Request};
use crate::kubectl::{apply, kubectl};
use crate::shop::HTTP;
use crate::stage::{HTTPS, Stage, is_of, until};

const AGENT: &str = "conformance/1.0 (a test)";

/// Which pod answers a host and a path; None: nobody, the gateway says 404.
type Row<'a> = (&'a str, &'a str, Option<&'a str>);

/// Waits until every proxy serves what is to be served, then asks everything once at the address.
async fn check(stage: &Stage, address: IpAddr, table: &[Row<'_>]) {
    for (host, path, pod) in table {
        if let Some(pod) = pod {
            stage.until_served(host, path, pod).await;
        }
    }
    for (host, path, pod) in table {
        let answer = client::send(address, 80, Request::get(host, path))
            .await
            .unwrap();
        match pod {
            Some(pod) => {
                assert!(is_of(&answer, pod), "{host}{path}: {}", answer.text);
                assert_eq!(answer.header("hello-host"), Some(*host));
                assert_eq!(
                    answer.header("hello-request"),
                    Some(format!("GET {path} HTTP/1.1").as_str())
                );
            }
            None => assert_eq!(answer.status, 404, "{host}{path}: {}", answer.text),
        }
    }
}

#[tokio::test]
async fn a_default_backend_gets_every_request() {
    let stage = Stage::open("default-backend", &["echo-service"]).await;
    stage
        .ingress(
            "default-backend",
            "
  ingressClassName: postern
  defaultBackend: {service: {name: echo-service, port: {number: 8080}}}
",
        )
        .await;
    let address = stage.address("default-backend").await;
    stage.until_served("my-host", "/", "echo-service").await;
    let own = address.to_string();
    for (method, host, path) in [
        ("GET", "my-host", "/"),
        ("GET", "my-host", "/sub-path"),
        ("POST", "some-host", "/"),
        ("PUT", own.as_str(), "/resource"),
        ("DELETE", "some-host", "/resource"),
        ("PATCH", "my-host", "/resource"),
        ("OPTIONS", "a.b.example.test", "/resource"),
        ("HEAD", "my-host", "/"),
        ("HEAD", "some-host", "/a/resource/"),
    ] {
        let mut headers = vec![("User-Agent", AGENT)];
        if ["POST", "PUT", "PATCH"].contains(&method) {
            headers.push(("Content-Length", "0"));
        }
        let request = Request {
            method,
            host,
            path,
            headers: &headers,
        };
        let answer = client::send(address, 80, request).await.unwrap();
        assert_eq!(
            (answer.version(), answer.status),
            ("HTTP/1.1", 200),
            "{request:?}: {}",
            answer.text
        );
        // What the pod got.
        let got = format!("{method} {path} HTTP/1.1");
        for (name, value) in [
            ("hello-pod", "echo-service"),
            ("hello-request", got.as_str()),
            ("hello-host", host),
            ("hello-user-agent", AGENT),
        ] {
            assert_eq!(answer.header(name), Some(value), "{}", answer.text);
        }
        // What the client got.
        let body = format!("echo-service {path}\n");
        let length = body.len().to_string();
        assert_eq!(
            answer.body(),
            if method == "HEAD" { "" } else { &body },
            "{request:?}"
        );
        for (name, value) in [
            ("content-length", length.as_str()),
            ("content-type", "text/plain; charset=utf-8"),
            ("server", "hello/1"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{}", answer.text);
        }
        assert!(is_date(&answer), "{}", answer.text);
    }
    // The header Server is the upstream's: where that has none, the client gets none.
    let nameless = Request::get("my-host", "/?nameless");
    let answer = client::send(address, 80, nameless).await.unwrap();
    assert!(is_of(&answer, "echo-service"), "{}", answer.text);
    assert_eq!(answer.header("server"), None, "{}", answer.text);
    stage.close().await;
}

/// Whether there is a Date, and one that looks like a date ("Sun, 06 Nov 1994 08:49:37 GMT").
fn is_date(answer: &Answer) -> bool {
    answer
        .header("date")
        .is_some_and(|date| date.len() == 29 && date.ends_with(" GMT"))
}

#[tokio::test]
async fn hosts_are_kept_apart_and_a_wildcard_is_one_label() {
    let stage = Stage::open("host-rules", &["wildcard-foo-com", "foo-bar-com"]).await;
    // The first certificate is what clients get that name no host: the second must be chosen by name.
    let decoy = Certificate::of(&["decoy.test"]);
    let certificate = Certificate::of(&["foo.bar.com"]);
    stage.secret("decoy-tls", &decoy).await;
    stage.secret("conformance-tls", &certificate).await;
    stage
        .ingress(
            "host-rules",
            r#"
  ingressClassName: postern
  tls:
  - {hosts: [decoy.test], secretName: decoy-tls}
  - {hosts: [foo.bar.com], secretName: conformance-tls}
  rules:
  - host: "*.foo.com"
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: wildcard-foo-com, port: {number: 8080}}}}]}
  - host: foo.bar.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: foo-bar-com, port: {name: http}}}}]}
"#,
        )
        .await;
    let address = stage.address("host-rules").await;
    let (foo, wild) = (Some("foo-bar-com"), Some("wildcard-foo-com"));
    check(
        &stage,
        address,
        &[
            ("foo.bar.com", "/", foo),
            ("bar.foo.com", "/", wild),
            ("subdomain.bar.com", "/", None),
            ("baz.bar.foo.com", "/", None),
            ("foo.com", "/", None),
            ("bar.com", "/", None),
            ("x.foo.bar.com", "/", None),
            ("barfoo.com", "/", None),
        ],
    )
    .await;

    let request = Request::get("foo.bar.com", "/secure");
    for proxy in &stage.proxies {
        until("foo.bar.com to be served over TLS", async || {
            let answer = client::send_over_tls(*proxy, HTTPS, &certificate.der, request).await;
            let served = answer.as_ref().is_ok_and(|a| is_of(a, "foo-bar-com"));
            served.then_some(()).ok_or(answer)
        })
        .await;
    }
    let answer = client::send_over_tls(address, 443, &certificate.der, request)
        .await
        .unwrap();
    assert!(is_of(&answer, "foo-bar-com"), "{}", answer.text);
    assert_eq!(answer.header("hello-host"), Some("foo.bar.com"));
    // That client does look at the certificate.
    let refused = client::send_over_tls(address, 443, &decoy.der, request).await;
    assert!(
        refused
            .as_ref()
            .is_err_and(|error| error.starts_with("TLS: ")),
        "{refused:?}"
    );
    stage.close().await;
}

#[tokio::test]
async fn paths_are_matched_exactly_or_by_elements() {
    let stage = Stage::open(
        "path-rules",
        &[
            "foo-exact",
            "foo-prefix",
            "aaa-slash-bbb-prefix",
            "aaa-prefix",
            "aaa-slash-bbb-slash-prefix",
            "foo-slash-exact",
            "root-prefix",
        ],
    )
    .await;
    let path = |kind: &str, path: &str, service: &str| {
        format!(
            "      - {{path: {path}, pathType: {kind}, backend: {{service: {{name: {service}, port: {{number: 8080}}}}}}}}"
        )
    };
    let host = |host: &str, paths: &[String]| {
        format!(
            "  - host: {host}\n    http:\n      paths:\n{}\n",
            paths.join("\n")
        )
    };
    let rules = [
        host("exact-path-rules", &[path("Exact", "/foo", "foo-exact")]),
        host(
            "prefix-path-rules",
            &[
                path("Prefix", "/foo", "foo-prefix"),
                path("Prefix", "/aaa/bbb", "aaa-slash-bbb-prefix"),
                path("Prefix", "/aaa", "aaa-prefix"),
            ],
        ),
        host(
            "mixed-path-rules",
            &[
                path("Prefix", "/foo", "foo-prefix"),
                path("Exact", "/foo", "foo-exact"),
            ],
        ),
        host(
            "trailing-slash-path-rules",
            &[
                path("Prefix", "/aaa/bbb/", "aaa-slash-bbb-slash-prefix"),
                path("Exact", "/foo/", "foo-slash-exact"),
            ],
        ),
        host(
            "root-path-rules",
            &[
                path("Prefix", "/", "root-prefix"),
                path("Prefix", "/aaa", "aaa-prefix"),
            ],
        ),
    ];
    let spec = format!("  ingressClassName: postern\n  rules:\n{}", rules.concat());
    stage.ingress("path-rules", &spec).await;
    let address = stage.address("path-rules").await;
    check(&stage, address, PATHS).await;
    stage.close().await;
}

const PATHS: &[Row<'_>] = &[
    ("exact-path-rules", "/foo", Some("foo-exact")),
    ("exact-path-rules", "/foo/", None),
    ("exact-path-rules", "/FOO", None),
    ("exact-path-rules", "/bar", None),
    ("exact-path-rules", "/foo/bar", None),
    ("exact-path-rules", "/", None),
    ("prefix-path-rules", "/foo", Some("foo-prefix")),
    ("prefix-path-rules", "/foo/", Some("foo-prefix")),
    ("prefix-path-rules", "/FOO", None),
    (
        "prefix-path-rules",
        "/aaa/bbb",
        Some("aaa-slash-bbb-prefix"),
    ),
    (
        "prefix-path-rules",
        "/aaa/bbb/",
        Some("aaa-slash-bbb-prefix"),
    ),
    (
        "prefix-path-rules",
        "/aaa/bbb/ccc",
        Some("aaa-slash-bbb-prefix"),
    ),
    ("prefix-path-rules", "/aaa/ccc", Some("aaa-prefix")),
    // By elements: the longer rule does not match, the shorter does.
    ("prefix-path-rules", "/aaa/bbbxyz", Some("aaa-prefix")),
    ("prefix-path-rules", "/aaaccc", None),
    ("prefix-path-rules", "/", None),
    ("mixed-path-rules", "/foo", Some("foo-exact")),
    ("mixed-path-rules", "/foo/", Some("foo-prefix")),
    ("mixed-path-rules", "/foo/bar", Some("foo-prefix")),
    (
        "trailing-slash-path-rules",
        "/aaa/bbb",
        Some("aaa-slash-bbb-slash-prefix"),
    ),
    (
        "trailing-slash-path-rules",
        "/aaa/bbb/",
        Some("aaa-slash-bbb-slash-prefix"),
    ),
    (
        "trailing-slash-path-rules",
        "/aaa/bbb/ccc",
        Some("aaa-slash-bbb-slash-prefix"),
    ),
    ("trailing-slash-path-rules", "/aaa/bbbxyz", None),
    (
        "trailing-slash-path-rules",
        "/foo/",
        Some("foo-slash-exact"),
    ),
    ("trailing-slash-path-rules", "/foo", None),
    ("root-path-rules", "/", Some("root-prefix")),
    ("root-path-rules", "/any/thing", Some("root-prefix")),
    ("root-path-rules", "/aaaccc", Some("root-prefix")),
    ("root-path-rules", "/aaa/ccc", Some("aaa-prefix")),
];

/// What is not Postern's is left alone; it is served as soon as it becomes so, which shows that only the class was wrong.
#[tokio::test]
async fn an_ingress_of_another_class_is_left_alone() {
    let stage = Stage::open("ingress-class", &["echo-service"]).await;
    apply(
        "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: foreign}, spec: {controller: foreign.test/ingress}}",
    )
    .await;
    let others = [
        ("unknown", "ingressClassName: some-invalid-class-name"),
        ("foreign", "ingressClassName: foreign"),
        ("without", ""),
    ];
    let rules = |name: &str| {
        format!(
            "  rules:\n  - host: {name}.class.test\n    http: {{paths: [{{path: /, pathType: Prefix, backend: \
             {{service: {{name: echo-service, port: {{number: 8080}}}}}}}}]}}\n"
        )
    };
    for (name, class) in others {
        let spec = format!("  {class}\n{}", rules(name));
        stage.ingress(name, &spec).await;
    }
    // Younger than these: when it is served and says so, they would be and would, too.
    let spec = format!("  ingressClassName: postern\n{}", rules("ours"));
    stage.ingress("ours", &spec).await;
    let address = stage.address("ours").await;
    check(
        &stage,
        address,
        &[("ours.class.test", "/", Some("echo-service"))],
    )
    .await;
    for (name, _) in others {
        let host = format!("{name}.class.test");
        check(&stage, address, &[(&host, "/", None)]).await;
        assert_eq!(stage.addresses(name).await, Vec::<IpAddr>::new(), "{name}");
    }

    for (name, _) in others {
        kubectl(&format!(
            "patch ingress {name} --namespace=ingress-class --patch={{\"spec\":{{\"ingressClassName\":\"postern\"}}}}"
        ))
        .await;
        let host = format!("{name}.class.test");
        let address = stage.address(name).await;
        check(&stage, address, &[(&host, "/", Some("echo-service"))]).await;
    }
    kubectl("delete ingressclass foreign").await;
    stage.close().await;
}

#[tokio::test]
async fn requests_reach_all_ten_pods() {
    let stage = Stage::with_deployment("load-balancing", "echo-service").await;
    stage
        .ingress(
            "load-balancing",
            "
  ingressClassName: postern
  defaultBackend: {service: {name: echo-service, port: {number: 8080}}}
",
        )
        .await;
    let address = stage.address("load-balancing").await;
    stage.scale("echo-service", 10).await;
    let request = Request::get("load-balancing", "/");
    // Each proxy hears of the pods by itself.
    for proxy in &stage.proxies {
        let mut pods = BTreeSet::new();
        until("ten pods to answer", async || {
            let answer = client::send(*proxy, HTTP, request).await?;
            pods.extend(answer.header("hello-pod").map(str::to_owned));
            (pods.len() == 10).then_some(()).ok_or(answer.text)
        })
        .await;
    }
    let mut pods = BTreeSet::new();
    for _ in 0..100 {
        let answer = client::send(address, 80, request).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        pods.extend(answer.header("hello-pod").map(str::to_owned));
    }
    assert_eq!(pods.len(), 10, "{pods:?}");
    stage.close().await;
}
