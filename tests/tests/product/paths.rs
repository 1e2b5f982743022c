//! No spelling of a protected path is answered without a key, and what is matched is what is forwarded.

use harness::objects::{backend, consumer_with_key, key_auth, prefix, route_with, service};
use harness::raw::{get, request};
use harness::{Connection, Rig, Upstream};
use serde_json::json;

/// "/" is open, "/private" and "/api/admin" are protected.
async fn rig() -> (Rig, Upstream) {
    let guarded = Upstream::named("guarded").await;
    let mut objects = consumer_with_key("alice", "secret-1");
    objects.extend(service("guarded", guarded.port()));
    let exact = json!({"matches": [{"path": {"type": "Exact", "value": "/api/admin"}}], "backendRefs": [backend("guarded")]});
    objects.extend([
        route_with("open", &["p.test"], &json!([prefix("/", "echo")])),
        route_with(
            "private",
            &["p.test"],
            &json!([prefix("/private", "guarded"), exact]),
        ),
        key_auth("k", "private", &json!({})),
    ]);
    (Rig::with(objects).await, guarded)
}

/// What the most forgiving upstream would make of a target: decoded once, backslashes as slashes, parameters dropped,
/// slashes merged, dot segments resolved.
fn lenient(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut decoded = Vec::new();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let pair: Option<u8> = (byte == b'%')
            .then(|| bytes.clone().take(2).map(char::from).collect::<String>())
            .and_then(|pair| u8::from_str_radix(&pair, 16).ok());
        decoded.push(pair.unwrap_or(byte));
        if pair.is_some() {
            bytes.nth(1);
        }
    }
    let text = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in text
        .split('/')
        .map(|s| s.split(';').next().unwrap_or_default())
    {
        match segment.trim_end_matches('\0') {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    let last = if text.ends_with('/') && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{last}", segments.join("/"))
}

fn is_protected(path: &str) -> bool {
    path == "/private" || path.starts_with("/private/") || path == "/api/admin"
}

/// What may stand before a protected path.
const BEFORE: &[&str] = &[
    "",
    "/",
    "//",
    "/.",
    "/./.",
    "/x/..",
    "/x/%2e%2e",
    "/x/.%2e",
    "/x/%2E%2E",
    "/x/y/../..",
    "/..",
    "/%2e%2e",
    "/../..",
    "/x/..;",
    "/x/..;a=b",
    "/;",
    "/;a=b",
    "/.;",
    "/x/%2e%2e;",
    "/x%2f..",
    "/x%5c..",
    "/x\\..",
    "/x/..%00",
    "/%2f",
    "/%5c",
    "\\",
    "/%20/..",
    "/x//../..",
    "/x/...",
    "/%252e%252e",
    "/x/..%252f",
];

/// Spellings of their own.
const SPELLINGS: &[&str] = &[
    "/%70rivate",
    "/p%72ivate",
    "/%70%72%69%76%61%74%65",
    "/private%2fx",
    "/private%2Fx",
    "/private%5cx",
    "/private\\x",
    "/private;",
    "/private;x",
    "/private;a=b/x",
    "/private;/x",
    "/private%3b/x",
    "/private%3B",
    "/private%00",
    "/private%00/x",
    "/private/.",
    "/private/./x",
    "/private//x",
    "/private///",
    "/private/x/..",
    "/private/../private",
    "/private/x/../../private",
    "/private/%2e",
    "/private/x/%2e%2e",
    "/private?",
    "/private?x=/public",
    "/private?/../public",
    "/private%3fx",
    "/private%23x",
    "/private#x",
    "/private#/../public",
    "/private%",
    "/private%2",
    "/private%zz",
    "/private%c0%af",
    "/private%c0%ae%c0%ae",
    "/private%e0%80%af",
    "/private%uff0f",
    "/private%09",
    "/private%0a",
    "/private%0d%0aX:%201",
    "/private%20",
    "/private+",
    "/private.",
    "/private..",
    "/Private",
    "/PRIVATE",
    "/private/",
    "/private/%2e%2e/private",
    "/private/..;/private",
    "/api/%61dmin",
    "/api/./admin",
    "/api//admin",
    "/api/x/../admin",
    "/api;x/admin",
    "/api/admin;x",
    "/api/admin/",
    "/api/admin//",
    "/api/admin/.",
    "/api/admin?x",
    "/api/admin#x",
    "/api%2fadmin",
    "/api%5cadmin",
    "/api\\admin",
    "/api/admin%00",
    "/API/admin",
    "http://p.test/private",
    "http://p.test//private",
    "http://p.test/x/../private",
    "http://p.test/%70rivate",
    "http://p.test/private;x",
    "http://P.TEST/private",
    "http://p.test:80/private",
    "//p.test/private",
    "///private",
    "/x/../../private",
    "/x/./../private",
    "/./x/.././private",
    "/x/%2e/%2e%2e/private",
    "/%2e/%2e/private",
    "/private/.%2e/private",
    "/private%2e",
    "/private%2f..%2fprivate",
    "/%2e%2e%2fprivate",
    "/x/..%2f..%2fprivate",
    "/..%5cprivate",
    "/x%2f%2e%2e%2fprivate",
    "/.private",
    "/...private",
    "/private,x",
    "/private=x",
    "/private:x",
    "/private@x",
    "/private*",
    "/private'",
    "/private\"",
    "/private<x>",
    "/private|x",
    "/private[x]",
    "/private{x}",
    "/private^x",
    "/private`x",
    "/private~",
];

/// Over two hundred ways to write protected paths.
fn spellings() -> Vec<String> {
    let mut all = Vec::new();
    let core = ["/private", "/api/admin"];
    let after = ["", "/x"];
    for before in BEFORE {
        for core in core {
            for after in after {
                all.push(format!("{before}{core}{after}"));
            }
        }
    }
    all.extend(SPELLINGS.iter().map(|&path| path.to_owned()));
    all
}

#[tokio::test]
async fn two_hundred_spellings_and_none_opens_a_protected_route() {
    let (rig, guarded) = rig().await;
    let spellings = spellings();
    assert!(spellings.len() > 200, "{}", spellings.len());
    for spelling in &spellings {
        let mut connection = rig.connect().await;
        let before = rig.upstream.count();
        connection.send(get("p.test", spelling, &[])).await;
        let answer = connection.answer().await;
        match answer.status {
            200 => {
                // The open route: nobody may read a protected path out of what was forwarded.
                assert_eq!(rig.upstream.count(), before + 1, "{spelling}");
                let forwarded = rig.upstream.last().target;
                assert!(
                    !is_protected(&lenient(&forwarded)),
                    "{spelling} went out as {forwarded}"
                );
            }
            400 | 401 | 404 => assert_eq!(rig.upstream.count(), before, "{spelling}"),
            other => panic!("{spelling}: {other}"),
        }
    }
    assert_eq!(guarded.count(), 0, "{:?}", guarded.seen());
}

#[tokio::test]
async fn with_a_key_every_spelling_arrives_in_the_form_that_was_matched() {
    let (rig, guarded) = rig().await;
    for spelling in spellings() {
        let mut connection = rig.connect().await;
        let before = guarded.count();
        let answer = connection
            .ask(get("p.test", &spelling, &[("apikey", "secret-1")]))
            .await;
        if guarded.count() > before {
            assert_eq!(answer.status, 200);
            let forwarded = guarded.last().target;
            let path = forwarded.split('?').next().unwrap();
            assert!(is_protected(path), "{spelling} went out as {forwarded}");
            // What was forwarded is canonical: it goes out again as it is.
            let again = connection_of(&rig)
                .await
                .ask(get("p.test", &forwarded, &[("apikey", "secret-1")]))
                .await;
            assert_eq!(
                (again.status, guarded.last().target),
                (200, forwarded),
                "{spelling}"
            );
        }
    }
}

async fn connection_of(rig: &Rig) -> Connection {
    rig.connect().await
}

#[tokio::test]
async fn plain_paths_pass_as_they_are() {
    let (rig, _guarded) = rig().await;
    for target in [
        "/",
        "/a",
        "/a/",
        "/a.b/c..d",
        "/.well-known/x",
        "/a%20b",
        "/%C3%A9",
        "/a+b",
        "/a,b;c=d",
        "/~x",
        "/a:b@c",
        "/a%25b",
        "/a?b#c",
        "/a?x=%2f..%2f&y=//&z=%00",
        "/a?",
        "/a??",
        "/!$&'()*+,;=:@-._~",
    ] {
        if target.contains('#') {
            assert_eq!(rig.get("p.test", target).await.status, 400, "{target}");
            continue;
        }
        assert_eq!(rig.get("p.test", target).await.status, 200, "{target}");
        assert_eq!(rig.upstream.last().target, target);
    }
}

#[tokio::test]
async fn a_stripped_prefix_leaves_nothing_to_climb_from() {
    let mut objects = consumer_with_key("alice", "secret-1");
    let strip = json!([{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}]);
    let mut stripped = prefix("/app", "echo");
    stripped["filters"] = strip;
    objects.extend([
        route_with("open", &["p.test"], &json!([stripped])),
        route_with("private", &["p.test"], &json!([prefix("/admin", "echo")])),
        key_auth("k", "private", &json!({})),
    ]);
    let rig = Rig::with(objects).await;
    for target in [
        "/app/../admin",
        "/app/%2e%2e/admin",
        "/app/..%2fadmin",
        "/app//../admin",
        "/app/x/../../admin",
        "/app/./../admin",
        "/app%2f../admin",
        "/app/..;/admin",
        "/%61pp/../admin",
        "/app/.%2e/admin",
        "/app/%2e%2e%2fadmin",
        "/app\\..\\admin",
    ] {
        let before = rig.upstream.count();
        let answer = rig.get("p.test", target).await;
        assert!(
            matches!(answer.status, 400 | 401 | 404),
            "{target}: {}",
            answer.status
        );
        assert_eq!(rig.upstream.count(), before, "{target}");
    }
    for (target, seen) in [
        ("/app", "/"),
        ("/app/", "/"),
        ("/app/x", "/x"),
        ("/%61pp/x", "/x"),
        ("/app//x", "/x"),
        ("/app/%41b/%2e/c", "/Ab/c"),
    ] {
        assert_eq!(rig.get("p.test", target).await.status, 200, "{target}");
        assert_eq!(rig.upstream.last().target, seen, "{target}");
    }
}

#[tokio::test]
async fn neither_query_nor_fragment_decides_a_path() {
    let (rig, guarded) = rig().await;
    for target in [
        "/private?x=/public",
        "/private?/../x",
        "/private?%2f..%2fx",
        "/private/?path=/",
        "/private?#/x",
        "/private#/../x",
        "/private#",
    ] {
        let answer = rig.get("p.test", target).await;
        assert!(
            matches!(answer.status, 400 | 401),
            "{target}: {}",
            answer.status
        );
        if target.contains('#') {
            assert_eq!(answer.status, 400, "{target}");
        }
    }
    // And the other way round: a protected path in the query of an open one means nothing.
    let answer = rig
        .send(request("GET", "p.test", "/x?next=/private", &[], b""))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(guarded.count(), 0);
}
