//! `HTTPRoute`: what matches, which match wins, where it goes, and what is changed on the way.

use harness::objects::{
    backend, http_listener, object, prefix, route, route_with, service, service_of,
};
use harness::raw::{get, request};
use harness::{Rig, Upstream};
use serde_json::{Value, json};

/// Which Service answered.
fn by(answer: &harness::Answer) -> String {
    format!(
        "{} {}",
        answer.status,
        answer.header("x-upstream").unwrap_or("-")
    )
}

/// Upstreams by name, and their Services.
async fn upstreams(names: &[&'static str]) -> (Vec<Upstream>, Vec<Value>) {
    let (mut upstreams, mut services) = (Vec::new(), Vec::new());
    for name in names {
        let upstream = Upstream::named(name).await;
        services.extend(service(name, upstream.port()));
        upstreams.push(upstream);
    }
    (upstreams, services)
}

#[tokio::test]
async fn the_most_specific_host_wins_and_unknown_hosts_get_404() {
    let (_ups, mut objects) = upstreams(&["exact", "wild", "deep"]).await;
    objects.extend([
        route("exact", "a.shop.test", "exact"),
        route("wild", "*.shop.test", "wild"),
        route("deep", "*.eu.shop.test", "deep"),
    ]);
    let rig = Rig::with(objects).await;
    for (host, want) in [
        ("a.shop.test", "200 exact"),
        ("A.Shop.TEST", "200 exact"),
        ("a.shop.test.", "200 exact"),
        ("b.shop.test", "200 wild"),
        ("a.b.shop.test", "200 wild"),
        ("x.eu.shop.test", "200 deep"),
        ("eu.shop.test", "200 wild"),
        ("shop.test", "404 -"),
        ("other.test", "404 -"),
    ] {
        assert_eq!(by(&rig.get(host, "/").await), want, "{host}");
    }
    let answer = rig.get("other.test", "/").await;
    assert_eq!(
        answer.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    assert!(!answer.message().is_empty());
    assert!(answer.header("x-request-id").is_some());
}

#[tokio::test]
async fn path_types_match_as_the_standard_says() {
    let (_ups, mut objects) = upstreams(&["exact", "short", "long", "regex"]).await;
    objects.push(route_with(
        "r",
        &["p.test"],
        &json!([
            prefix("/a", "short"),
            prefix("/a/b/", "long"),
            {"matches": [{"path": {"type": "Exact", "value": "/a/b"}}], "backendRefs": [backend("exact")]},
            {"matches": [{"path": {"type": "RegularExpression", "value": "/v[0-9]+/x"}}], "backendRefs": [backend("regex")]},
        ]),
    ));
    let rig = Rig::with(objects).await;
    for (path, want) in [
        ("/a", "200 short"),
        ("/a/", "200 short"),
        ("/a?q=/a/b", "200 short"),
        ("/a/c", "200 short"),
        ("/ab", "404 -"),
        ("/a/b", "200 exact"),
        ("/a/b/", "200 long"),
        ("/a/b/c", "200 long"),
        ("/a/bc", "200 short"),
        ("/A/b", "404 -"),
        ("/v12/x", "200 regex"),
        // Regular expressions are anchored at both ends.
        ("/v12/xy", "404 -"),
        ("/w/v1/x", "404 -"),
        ("/", "404 -"),
    ] {
        assert_eq!(by(&rig.get("p.test", path).await), want, "{path}");
    }
}

#[tokio::test]
async fn more_demanding_matches_win_in_the_order_of_the_standard() {
    let names = ["plain", "method", "one", "two", "query", "longer"];
    let (_ups, mut objects) = upstreams(&names).await;
    let rule =
        |name: &str, matched: Value| json!({"matches": [matched], "backendRefs": [backend(name)]});
    objects.push(route_with(
        "r",
        &["m.test"],
        &json!([
            rule("plain", json!({})),
            rule(
                "query",
                json!({"queryParams": [{"name": "q", "value": "1"}]})
            ),
            rule("one", json!({"headers": [{"name": "X-A", "value": "1"}]})),
            rule(
                "two",
                json!({"headers": [{"name": "x-a", "value": "1"}, {"name": "x-b", "value": "2"}]})
            ),
            rule("method", json!({"method": "PUT"})),
            rule(
                "longer",
                json!({"path": {"type": "PathPrefix", "value": "/long"}})
            ),
        ]),
    ));
    let rig = Rig::with(objects).await;
    for (method, target, headers, want) in [
        ("GET", "/", &[] as &[_], "plain"),
        ("GET", "/?q=1", &[], "query"),
        ("GET", "/?q=2", &[], "plain"),
        ("GET", "/?Q=1", &[], "plain"),
        ("GET", "/", &[("X-A", "1")], "one"),
        ("GET", "/?q=1", &[("X-A", "1")], "one"),
        ("GET", "/", &[("x-A", "1"), ("X-b", "2")], "two"),
        ("GET", "/", &[("X-A", "2"), ("X-b", "2")], "plain"),
        ("PUT", "/?q=1", &[("X-A", "1"), ("X-B", "2")], "method"),
        ("PUT", "/long/x?q=1", &[("X-A", "1")], "longer"),
    ] {
        let answer = rig
            .send(request(method, "m.test", target, headers, b""))
            .await;
        assert_eq!(
            by(&answer),
            format!("200 {want}"),
            "{method} {target} {headers:?}"
        );
    }
}

#[tokio::test]
async fn header_and_query_values_may_be_regular_expressions_for_the_whole_value() {
    let (_ups, mut objects) = upstreams(&["hit"]).await;
    objects.push(route_with(
        "r",
        &["m.test"],
        &json!([{"matches": [
            {"headers": [{"type": "RegularExpression", "name": "x-v", "value": "v[12]"}]},
            {"queryParams": [{"type": "RegularExpression", "name": "v", "value": "[0-9]+"}]},
        ], "backendRefs": [backend("hit")]}]),
    ));
    let rig = Rig::with(objects).await;
    for (target, value, want) in [
        ("/", "v1", 200),
        ("/", "v12", 404),
        ("/", "xv1", 404),
        ("/?v=77", "", 200),
        ("/?v=7a", "", 404),
    ] {
        assert_eq!(
            rig.get_with("m.test", target, &[("x-v", value)])
                .await
                .status,
            want,
            "{target} {value}"
        );
    }
}

#[tokio::test]
async fn of_two_equal_matches_the_older_route_wins_then_the_first_by_name() {
    let (_ups, objects) = upstreams(&["older", "newer"]).await;
    let older = route("z-older", "t.test", "older");
    let newer = route("a-newer", "t.test", "newer");
    let with = |routes: &[&Value]| {
        let routes = routes.iter().map(|r| (*r).clone());
        objects.iter().cloned().chain(routes).collect::<Vec<_>>()
    };
    let mut rig = Rig::with(with(&[&older])).await;
    harness::another_second().await;
    rig.replace(with(&[&newer, &older])).await;
    assert_eq!(by(&rig.get("t.test", "/").await), "200 older");
    // Both are seen at once.
    let rig = Rig::with(with(&[&older, &newer])).await;
    assert_eq!(by(&rig.get("t.test", "/").await), "200 newer");
}

#[tokio::test]
async fn weights_share_the_requests_and_zero_gets_none() {
    let (ups, mut objects) = upstreams(&["three", "one", "zero"]).await;
    objects.push(route_with(
        "r",
        &["w.test"],
        &json!([{"backendRefs": [
            {"name": "three", "port": 80, "weight": 3},
            {"name": "one", "port": 80, "weight": 1},
            {"name": "zero", "port": 80, "weight": 0},
        ]}]),
    ));
    let rig = Rig::with(objects).await;
    let mut connection = rig.connect().await;
    for _ in 0..400 {
        assert_eq!(connection.ask(get("w.test", "/", &[])).await.status, 200);
    }
    // A fair coin of 3 to 1 leaves these bounds once in a million times.
    assert!((250..=350).contains(&ups[0].count()), "{}", ups[0].count());
    assert_eq!(ups[0].count() + ups[1].count(), 400);
    assert_eq!(ups[2].count(), 0);
}

#[tokio::test]
async fn backends_that_cannot_work_get_500_and_those_without_endpoints_503() {
    let mut objects = service_of("empty", &[], None);
    objects.extend(service_of("unready", &[(9, false)], None));
    objects.push(route_with(
        "r",
        &["b.test"],
        &json!([
            prefix("/missing", "nowhere"),
            prefix("/empty", "empty"),
            prefix("/unready", "unready"),
            prefix("/fine", "echo"),
            {"matches": [{"path": {"type": "PathPrefix", "value": "/port"}}],
             "backendRefs": [{"name": "echo", "port": 81}]},
            {"matches": [{"path": {"type": "PathPrefix", "value": "/none"}}]},
        ]),
    ));
    let rig = Rig::with(objects).await;
    for (path, want) in [
        ("/missing", 500),
        ("/empty", 503),
        ("/unready", 503),
        ("/fine", 200),
        ("/port", 500),
        ("/none", 500),
    ] {
        let answer = rig.get("b.test", path).await;
        assert_eq!(answer.status, want, "{path}");
        assert!(
            answer.header("x-request-id").is_some() || want == 200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn header_filters_edit_requests_and_responses() {
    let upstream = Upstream::answering(|_| {
        harness::Reply::status(200, "OK", &[("X-Drop", "1"), ("X-Keep", "a")], "")
    })
    .await;
    let objects = [route_with(
        "r",
        &["f.test"],
        &json!([{"backendRefs": [{"name": "echo", "port": 80, "filters": [
                    {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "X-Backend", "value": "b"}]}}]}],
            "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                "set": [{"name": "X-Set", "value": "new"}], "add": [{"name": "X-Add", "value": "more"}],
                "remove": ["X-Gone"]}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {
                "set": [{"name": "X-Res", "value": "r"}], "add": [{"name": "X-Keep", "value": "b"}], "remove": ["x-drop"]}},
        ]}]),
    )];
    let rig = Rig::build()
        .upstream(upstream)
        .objects(objects)
        .start()
        .await;
    let answer = rig
        .get_with(
            "f.test",
            "/",
            &[("x-set", "old"), ("x-add", "first"), ("x-gone", "1")],
        )
        .await;
    let seen = rig.upstream.last();
    assert_eq!(seen.all("x-set"), ["new"]);
    assert_eq!(seen.all("x-add").join(","), "first,more");
    assert!(seen.all("x-gone").is_empty());
    assert_eq!(seen.all("x-backend"), ["b"]);
    assert_eq!(answer.header("x-res"), Some("r"));
    assert_eq!(answer.header("x-drop"), None);
    assert_eq!(
        harness::message::values(&answer.headers, "x-keep").join(","),
        "a,b"
    );
}

#[tokio::test]
async fn redirects_say_where_to_go() {
    let redirect = |path: &str, redirect: Value| {
        json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "filters": [{"type": "RequestRedirect", "requestRedirect": redirect}]})
    };
    let full = json!({"type": "ReplaceFullPath", "replaceFullPath": "/all/new"});
    let objects = [route_with(
        "r",
        &["d.test"],
        &json!([
            redirect("/scheme", json!({"scheme": "https", "statusCode": 301})),
            redirect("/host", json!({"hostname": "other.test", "port": 8080})),
            redirect("/full", json!({"path": full, "statusCode": 302})),
            redirect(
                "/prefix",
                json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}, "statusCode": 302})
            ),
        ]),
    )];
    let rig = Rig::with(objects).await;
    let own = rig.port;
    for (target, status, location) in [
        (
            "/scheme/a?b=c",
            301,
            "https://d.test/scheme/a?b=c".to_owned(),
        ),
        ("/host/a", 302, "http://other.test:8080/host/a".to_owned()),
        ("/full/a?b", 302, format!("http://d.test:{own}/all/new?b")),
        ("/prefix/a/b", 302, format!("http://d.test:{own}/new/a/b")),
        ("/prefix", 302, format!("http://d.test:{own}/new")),
    ] {
        let answer = rig.get("d.test", target).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (status, Some(location.as_str())),
            "{target}"
        );
    }
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn rewrites_change_path_and_host() {
    let rewrite = |path: &str, rewrite: Value| {
        json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": [backend("echo")],
            "filters": [{"type": "URLRewrite", "urlRewrite": rewrite}]})
    };
    let replace =
        |with: &str| json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": with}});
    let objects = [route_with(
        "r",
        &["u.test"],
        &json!([
            rewrite(
                "/full",
                json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/one"}})
            ),
            rewrite("/old", replace("/new")),
            rewrite("/strip/", replace("/")),
            rewrite("/host", json!({"hostname": "inner.test"})),
        ]),
    )];
    let rig = Rig::with(objects).await;
    for (target, seen, host) in [
        ("/full/a?x=%20y", "/one?x=%20y", "u.test"),
        ("/old/a%20b?c=%2F", "/new/a%20b?c=%2F", "u.test"),
        ("/old", "/new", "u.test"),
        ("/strip/a/b", "/a/b", "u.test"),
        ("/strip", "/", "u.test"),
        ("/host/x", "/host/x", "inner.test"),
    ] {
        assert_eq!(rig.get("u.test", target).await.status, 200, "{target}");
        let last = rig.upstream.last();
        assert_eq!(
            (last.target.as_str(), last.header("host")),
            (seen, Some(host)),
            "{target}"
        );
    }
}

#[tokio::test]
async fn listeners_have_hosts_and_routes_of_their_own() {
    let mut build = Rig::build();
    let second = build.port();
    let mut narrow = http_listener("narrow", second);
    narrow["hostname"] = "*.narrow.test".into();
    let mut only = route("only", "x.narrow.test", "echo");
    only["spec"]["parentRefs"] = json!([{"name": "gateway", "sectionName": "narrow"}]);
    let rig = build
        .listener(narrow)
        .objects([only, route("both", "both.test", "echo")])
        .start()
        .await;
    let at_second = async |host: &str| {
        harness::Connection::open(second)
            .await
            .ask(get(host, "/", &[]))
            .await
            .status
    };
    assert_eq!(at_second("x.narrow.test").await, 200);
    assert_eq!(rig.get("x.narrow.test", "/").await.status, 404);
    assert_eq!(rig.get("both.test", "/").await.status, 200);
    assert_eq!(at_second("both.test").await, 404);
}

#[tokio::test]
async fn an_external_name_may_be_an_address_or_a_name() {
    let upstream = Upstream::named("outside").await;
    let external = |name: &str, target: &str| {
        let spec = json!({"type": "ExternalName", "externalName": target, "ports": [{"port": upstream.port()}]});
        object("v1", "Service", name, &spec)
    };
    let to = |path: &str, service: &str| {
        json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "backendRefs": [{"name": service, "port": upstream.port()}]})
    };
    let rig = Rig::with([
        external("address", "127.0.0.1"),
        external("name", "localhost"),
        external("unknown", "no-such-host.invalid"),
        route_with(
            "r",
            &["e.test"],
            &json!([
                to("/address", "address"),
                to("/name", "name"),
                to("/unknown", "unknown")
            ]),
        ),
    ])
    .await;
    assert_eq!(by(&rig.get("e.test", "/address").await), "200 outside");
    assert_eq!(by(&rig.get("e.test", "/name").await), "200 outside");
    let answer = rig.get("e.test", "/unknown").await;
    assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
}
