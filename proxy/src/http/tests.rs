use super::*;
use http::Request;

fn parts(target: &str, lines: &[(&str, &str)]) -> request::Parts {
    let mut builder = Request::get(target);
    for (name, value) in lines {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn peer() -> Peer {
    Peer::new("203.0.113.9".parse().unwrap(), &[], false, 8000, 80)
}

fn admitted(parts: &mut request::Parts) -> Result<Admitted, Failure> {
    admit(parts, &peer(), &Limits::default())
}

fn refusal(target: &str, lines: &[(&str, &str)]) -> http::StatusCode {
    admitted(&mut parts(target, lines)).unwrap_err().status()
}

#[test]
fn one_host_or_none_at_all() {
    assert_eq!(refusal("/", &[]), 400);
    assert_eq!(refusal("/", &[("host", "a.test"), ("host", "a.test")]), 400);
    assert_eq!(refusal("/", &[("host", "u@a.test")]), 400);
    assert_eq!(refusal("http://u@a.test/", &[("host", "a.test")]), 400);
}

#[test]
fn an_absolute_target_wins_over_the_host() {
    let mut request = parts("http://A.test:80/x?y", &[("host", "b.test")]);
    let admitted = admitted(&mut request).unwrap();
    assert_eq!(request.headers[HOST], "a.test:80");
    assert_eq!(admitted.host_len, 6);
    assert_eq!(request.uri, "/x?y");
    assert_eq!(request.uri.authority(), None);
}

#[test]
fn the_query_is_left_alone() {
    let mut request = parts("/a/../b?x=/../%2f%2e//&y=\\", &[("host", "a.test")]);
    admitted(&mut request).unwrap();
    assert_eq!(request.uri, "/b?x=/../%2f%2e//&y=\\");
}

#[test]
fn a_host_that_contradicts_the_authority_is_refused_in_http2() {
    let mut request = parts("http://a.test/", &[("host", "b.test")]);
    request.version = Version::HTTP_2;
    assert_eq!(admitted(&mut request).unwrap_err().status(), 400);
    let mut request = parts("http://a.test/", &[]);
    request.version = Version::HTTP_2;
    admitted(&mut request).unwrap();
    assert_eq!(request.headers[HOST], "a.test");
}

#[test]
fn identity_is_never_taken_from_a_client() {
    let mut request = parts(
        "/",
        &[
            ("host", "a.test"),
            ("X-Consumer-ID", "1"),
            ("x_consumer_id", "1"),
            ("X-Consumer_Username", "root"),
            ("X-ANONYMOUS-CONSUMER", "true"),
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-Uri", "/public"),
            ("Forwarded", "for=1.1.1.1"),
            ("X-Real-IP", "1.1.1.1"),
            ("X-Original-URL", "/admin"),
            ("accept", "*/*"),
        ],
    );
    admitted(&mut request).unwrap();
    let left: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(left, ["host", "accept"]);
}

#[test]
fn headers_of_the_connection_stay_behind() {
    let mut request = parts(
        "/",
        &[
            ("host", "a.test"),
            ("connection", "close, X-Own, Host"),
            ("connection", "x-consumer-id"),
            ("x-own", "1"),
            ("keep-alive", "5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers, deflate"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
        ],
    );
    let admitted = admitted(&mut request).unwrap();
    let left: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(left, ["host"]);
    assert!(admitted.trailers);
    assert!(admitted.upgrade.is_none());
}

#[test]
fn nobody_upgrades_to_http() {
    for (protocol, allowed) in [
        ("websocket", true),
        ("h2c", false),
        ("H2C", false),
        ("HTTP/2.0", false),
        ("TLS/1.0", false),
        ("a, h2c", false),
    ] {
        let lines = [
            ("host", "a.test"),
            ("connection", "Upgrade"),
            ("upgrade", protocol),
        ];
        let mut request = parts("/", &lines);
        assert_eq!(
            admitted(&mut request).unwrap().upgrade.is_some(),
            allowed,
            "{protocol}"
        );
        assert!(!request.headers.contains_key(UPGRADE));
    }
    let mut request = parts("/", &[("host", "a.test"), ("upgrade", "websocket")]);
    assert!(admitted(&mut request).unwrap().upgrade.is_none());
}

#[test]
fn only_a_well_formed_trace_context_is_passed_on() {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut request = parts(
        "/",
        &[
            ("host", "a.test"),
            ("traceparent", good),
            ("tracestate", "a=b"),
        ],
    );
    admitted(&mut request).unwrap();
    assert_eq!(request.headers[TRACEPARENT], good);
    for bad in [
        "00-0-0-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "x",
    ] {
        let mut request = parts(
            "/",
            &[
                ("host", "a.test"),
                ("traceparent", bad),
                ("tracestate", "a=b"),
            ],
        );
        admitted(&mut request).unwrap();
        assert_eq!(request.headers.len(), 1, "{bad}");
    }
}

#[test]
fn limits_and_methods() {
    assert_eq!(
        refusal(&format!("/{}", "a".repeat(9000)), &[("host", "a.test")]),
        414
    );
    let many: Vec<_> = (0..120).map(|n| (format!("x-{n}"), "1")).collect();
    let mut many: Vec<_> = many.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    many.push(("host", "a.test"));
    assert_eq!(refusal("/", &many), 431);
    for method in [Method::TRACE, Method::CONNECT] {
        let mut request = parts("/", &[("host", "a.test")]);
        request.method = method;
        assert_eq!(admitted(&mut request).unwrap_err().status(), 405);
    }
    assert_eq!(
        refusal("/", &[("host", "a.test"), ("expect", "200-ok")]),
        417
    );
    assert_eq!(
        refusal(
            "/",
            &[
                ("host", "a.test"),
                ("content-length", "1"),
                ("transfer-encoding", "chunked")
            ]
        ),
        400
    );
}

#[test]
fn a_trusted_proxy_may_name_the_request() {
    let trusted = Peer::new(
        "10.0.0.1".parse().unwrap(),
        &["10.0.0.0/8".parse().unwrap()],
        false,
        8000,
        80,
    );
    let dice = Dice::new();
    let headers = parts("/", &[("x-request-id", "theirs")]).headers;
    assert_eq!(request_id(&headers, &trusted, &dice).header(), "theirs");
    assert_ne!(request_id(&headers, &peer(), &dice).header(), "theirs");
    let headers = parts("/", &[("x-request-id", "a b")]).headers;
    assert_ne!(request_id(&headers, &trusted, &dice).header(), "a b");
}
