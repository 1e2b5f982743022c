//! Headers that say who calls, or that come from the gateway, are never the client's.

use harness::frames::{self, Frame, Outcome};
use harness::objects::{consumer_with_key, key_auth, route};
use harness::raw::get;
use harness::{Rig, Seen};
use serde_json::json;

const IDENTITY: [&str; 8] = [
    "X-Consumer-ID",
    "X-Consumer-Custom-ID",
    "X-Consumer-Username",
    "X-Credential-Identifier",
    "X-Consumer-Groups",
    "X-Anonymous-Consumer",
    "X-Authenticated-Scope",
    "X-Authenticated-Userid",
];

/// "open.test" without and "k.test" with Key Auth.
async fn rig() -> Rig {
    let mut objects = consumer_with_key("alice", "secret-1");
    objects[0]["spec"] = json!({"customId": "4711", "groups": ["gold"]});
    objects.extend([
        route("o", "open.test", "echo"),
        route("r", "k.test", "echo"),
        key_auth("k", "r", &json!({})),
    ]);
    Rig::with(objects).await
}

/// What an upstream sees that folds names as CGI and WSGI do: values of a header in any spelling.
fn folded<'a>(seen: &'a Seen, name: &str) -> Vec<&'a str> {
    let fold = |name: &str| {
        name.chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect::<String>()
    };
    seen.headers
        .iter()
        .filter(|(n, _)| fold(n) == fold(name))
        .map(|(_, v)| v.as_str())
        .collect()
}

/// Every spelling with `_` for some of the dashes, in three cases.
fn spellings(name: &str) -> Vec<String> {
    let dashes: Vec<usize> = name.match_indices('-').map(|(at, _)| at).collect();
    let mut all = Vec::new();
    for mask in 0..1_u32 << dashes.len() {
        let mut spelling = name.to_owned();
        for (bit, at) in dashes.iter().enumerate() {
            if mask >> bit & 1 == 1 {
                spelling.replace_range(at..&(at + 1), "_");
            }
        }
        all.extend([spelling.to_lowercase(), spelling.to_uppercase(), spelling]);
    }
    all
}

#[tokio::test]
async fn no_spelling_of_an_identity_header_gets_through() {
    let rig = rig().await;
    let (mut open, mut keyed) = (rig.connect().await, rig.connect().await);
    for name in IDENTITY {
        for spelling in spellings(name) {
            let answer = open
                .ask(get("open.test", "/", &[(&spelling, "forged")]))
                .await;
            assert_eq!(answer.status, 200);
            assert!(
                folded(&rig.upstream.last(), name).is_empty(),
                "{spelling} on an open route"
            );
            let answer = keyed
                .ask(get(
                    "k.test",
                    "/",
                    &[("apikey", "secret-1"), (&spelling, "forged")],
                ))
                .await;
            assert_eq!(answer.status, 200);
            let seen = rig.upstream.last();
            assert!(
                !folded(&seen, name).contains(&"forged"),
                "{spelling}: {:?}",
                seen.headers
            );
        }
    }
}

#[tokio::test]
async fn http2_and_mixed_case_are_no_way_around() {
    let rig = rig().await;
    let mut connection = rig.connect().await;
    frames::preface(&mut connection).await;
    let mut fields = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "k.test"),
        ("apikey", "secret-1"),
    ];
    let lower: Vec<String> = IDENTITY.iter().map(|n| n.to_lowercase()).collect();
    let under: Vec<String> = lower.iter().map(|n| n.replace('-', "_")).collect();
    fields.extend(lower.iter().chain(&under).map(|n| (n.as_str(), "forged")));
    connection.send(Frame::request(1, &fields).encode()).await;
    assert_eq!(
        frames::outcome(&mut connection, 1).await,
        Outcome::Status(200)
    );
    let seen = rig.upstream.last();
    assert!(
        seen.headers.iter().all(|(_, v)| v != "forged"),
        "{:?}",
        seen.headers
    );
    assert_eq!(folded(&seen, "x-consumer-username"), ["alice"]);
    assert_eq!(folded(&seen, "x-consumer-groups"), ["gold"]);
}

#[tokio::test]
async fn connection_cannot_take_trusted_headers_away() {
    let rig = rig().await;
    let ours = [
        "X-Consumer-ID",
        "X-Consumer-Username",
        "X-Consumer-Custom-ID",
        "X-Credential-Identifier",
        "X-Consumer-Groups",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Real-IP",
        "X-Request-Id",
        "Host",
    ];
    let mut connection = rig.connect().await;
    for name in ours {
        let named = format!("keep-alive, {name}");
        let answer = connection
            .ask(get(
                "k.test",
                "/",
                &[("apikey", "secret-1"), ("Connection", &named)],
            ))
            .await;
        assert_eq!(answer.status, 200, "{name}");
        let seen = rig.upstream.last();
        assert_eq!(seen.all(name).len(), 1, "{name}: {:?}", seen.headers);
    }
    // The key itself cannot be taken away from under the plugin either, nor a protected route opened.
    let answer = connection
        .ask(get("k.test", "/", &[("Connection", "apikey")]))
        .await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn headers_of_one_connection_stay_there() {
    let rig = rig().await;
    let headers = [
        ("Connection", "X-Private, keep-alive"),
        ("X-Private", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("TE", "gzip"),
        ("Upgrade-Insecure-Requests", "1"),
    ];
    assert_eq!(rig.get_with("open.test", "/", &headers).await.status, 200);
    let seen = rig.upstream.last();
    for name in [
        "X-Private",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "TE",
    ] {
        assert!(folded(&seen, name).is_empty(), "{name}: {:?}", seen.headers);
    }
    assert!(!seen.all("connection").iter().any(|v| v.contains("Private")));
    assert_eq!(seen.header("upgrade-insecure-requests"), Some("1"));
}

#[tokio::test]
async fn responses_lose_the_headers_of_the_upstreams_connection_too() {
    let upstream = harness::Upstream::answering(|_| {
        harness::Reply::status(
            200,
            "OK",
            &[
                ("Connection", "keep-alive, X-Hop"),
                ("X-Hop", "1"),
                ("Keep-Alive", "timeout=9"),
                ("X-Fine", "1"),
            ],
            "",
        )
    })
    .await;
    let rig = Rig::build()
        .upstream(upstream)
        .objects([route("o", "open.test", "echo")])
        .start()
        .await;
    let answer = rig.get("open.test", "/").await;
    assert_eq!(
        (
            answer.header("x-hop"),
            answer.header("keep-alive"),
            answer.header("x-fine")
        ),
        (None, None, Some("1"))
    );
}

#[tokio::test]
async fn repeated_credentials_are_never_merged() {
    let rig = rig().await;
    for values in [
        ["secret-1", "wrong"],
        ["wrong", "secret-1"],
        ["secret-1", "secret-1"],
        ["", "secret-1"],
        ["secret-1", ""],
    ] {
        let answer = rig
            .get_with(
                "k.test",
                "/",
                &[("apikey", values[0]), ("ApiKey", values[1])],
            )
            .await;
        assert_eq!(answer.status, 401, "{values:?}");
    }
    let answer = rig
        .get_with("k.test", "/", &[("apikey", "secret-1, secret-1")])
        .await;
    assert_eq!(answer.status, 401);
    assert_eq!(rig.upstream.count(), 0);
    // Authorization is nobody's business on an open route, but two of them are no request.
    let answer = rig
        .get_with(
            "k.test",
            "/",
            &[
                ("apikey", "secret-1"),
                ("Authorization", "a"),
                ("Authorization", "b"),
            ],
        )
        .await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn underscores_and_dashes_do_not_make_a_second_key() {
    let mut objects = consumer_with_key("alice", "secret-1");
    objects.extend([
        route("r", "k.test", "echo"),
        key_auth(
            "k",
            "r",
            &json!({"keyNames": ["x-api-key"], "hideCredentials": true}),
        ),
    ]);
    let rig = Rig::with(objects).await;
    for name in ["X-Api-Key", "x_api_key"] {
        let answer = rig.get_with("k.test", "/", &[(name, "secret-1")]).await;
        assert!(matches!(answer.status, 200 | 401), "{name}");
        if answer.status == 200 {
            assert!(
                folded(&rig.upstream.last(), "x-api-key").is_empty(),
                "{name} is hidden"
            );
        }
    }
}

#[tokio::test]
async fn names_of_consumers_cannot_break_out_of_their_header() {
    let mut objects = Vec::new();
    let names = [
        "a\r\nX-Consumer-Groups: admin",
        "a\nb",
        "a\0b",
        "J\u{fc}rgen",
        " blank ",
        "a, b",
    ];
    for (i, name) in names.iter().enumerate() {
        let consumer = format!("c{i}");
        objects.extend(consumer_with_key(&consumer, &format!("secret-{i}")));
        let last = objects.len() - 3;
        objects[last]["spec"] =
            json!({"username": name, "customId": format!("id {name}"), "groups": [name]});
    }
    objects.extend([route("r", "k.test", "echo"), key_auth("k", "r", &json!({}))]);
    let rig = Rig::with(objects).await;
    for (i, name) in names.iter().enumerate() {
        let before = rig.upstream.count();
        let answer = rig
            .get_with("k.test", "/", &[("apikey", &format!("secret-{i}"))])
            .await;
        if answer.status != 200 {
            // Refused with the Consumer, or closed; never half of it.
            assert!(
                matches!(answer.status, 401 | 500),
                "{name:?}: {}",
                answer.status
            );
            assert_eq!(rig.upstream.count(), before);
            continue;
        }
        let seen = rig.upstream.last();
        assert!(
            seen.all("x-consumer-groups").len() <= 1,
            "{name:?}: {:?}",
            seen.headers
        );
        for (header, value) in &seen.headers {
            // Latin-1 here, byte by byte. Letters beyond ASCII go out in UTF-8, as whoever wrote the manifest meant them.
            let control = value.bytes().any(|b| b < 0x20 || b == 0x7f);
            assert!(!control, "{name:?} {header}: {value:?}");
        }
    }
}

#[tokio::test]
async fn no_user_agent_and_no_probe_path_opens_a_protected_route() {
    let rig = rig().await;
    for agent in [
        "kube-probe/1.33",
        "GoogleHC/1.0",
        "ELB-HealthChecker/2.0",
        "Envoy/HC",
        "Prometheus/3.0",
    ] {
        for target in ["/", "/livez", "/readyz", "/healthz", "/metrics", "/ping"] {
            assert_eq!(
                rig.get_with("k.test", target, &[("User-Agent", agent)])
                    .await
                    .status,
                401,
                "{agent} {target}"
            );
        }
    }
    // Probes have their own port, which serves no routes.
    let mut status = harness::Connection::open(rig.postern.status_port()).await;
    assert_eq!(status.ask(get("open.test", "/", &[])).await.status, 404);
    assert_eq!(rig.upstream.count(), 0);
}
