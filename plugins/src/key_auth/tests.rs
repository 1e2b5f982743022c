//! Configuration and request in, verdict and request out.

use super::*;
use crate::directory::Directory;
use crate::stage::{self, Scene};

const FORM: &str = "content-type: application/x-www-form-urlencoded";
const JSON: &str = "content-type: application/json";
const MULTIPART: &str = "content-type: multipart/form-data; boundary=XX";
const MISSING: &str = "401 No API key found in request (no_key) <Key>";
const DUPLICATE: &str = "401 Duplicate API key found (duplicate_key) <Key>";
const UNKNOWN: &str = "401 Unauthorized (unknown_key) <Key>";
const BODY: &str = r#"{"keyInBody": true}"#;
const HIDE: &str = r#"{"hideCredentials": true}"#;
const HIDE_BODY: &str = r#"{"hideCredentials": true, "keyInBody": true}"#;
const GUEST: &str = r#"{"anonymous": {"name": "guest"}}"#;

/// Runs rows of (configuration, request, verdict, request afterwards; empty: as before).
async fn run(rows: &[(&str, &str, &str, &str)]) {
    let directory = stage::directory();
    for (config, request, verdict, after) in rows {
        let handler = stage::handler(&directory, "keyAuth", config, &["shop"]).unwrap();
        let mut scene = Scene::read(request);
        let before = scene.write();
        assert_eq!(
            scene.act(&handler, &directory).await,
            *verdict,
            "{config}\n{request}"
        );
        let expected = if after.is_empty() {
            before
        } else {
            (*after).to_owned()
        };
        assert_eq!(scene.write(), expected, "{config}\n{request}");
    }
}

fn with(lines: &[&str], body: &str) -> String {
    format!("POST /a\n{}\n\n{body}", lines.join("\n"))
}

#[tokio::test]
async fn finds_the_key_in_headers() {
    run(&[
        ("{}", "GET /a\napikey: alice-key", "ok: alice", ""),
        ("{}", "GET /a\nApiKey: alice-key", "ok: alice", ""),
        (
            r#"{"keyNames": ["X-Api-Key"]}"#,
            "GET /a\nx-api-key: bob-key",
            "ok: bob",
            "",
        ),
        (
            r#"{"keyNames": ["api_key"]}"#,
            "GET /a\napi_key: bob-key",
            "ok: bob",
            "",
        ),
        (
            r#"{"keyNames": ["api_key"]}"#,
            "GET /a\napi-key: bob-key",
            "ok: bob",
            "",
        ),
        (
            r#"{"keyNames": ["api_key"]}"#,
            "GET /a\napi-key: a\napi_key: bob-key",
            DUPLICATE,
            "",
        ),
        (
            r#"{"keyNames": ["api-key"]}"#,
            "GET /a\napi_key: bob-key",
            MISSING,
            "",
        ),
        ("{}", "GET /a", MISSING, ""),
        ("{}", "GET /a\nx-apikey: alice-key", MISSING, ""),
        ("{}", "GET /a\napikey: nope", UNKNOWN, ""),
        ("{}", "GET /a\napikey: ALICE-KEY", UNKNOWN, ""),
        ("{}", "GET /a\napikey: alice-key,alice-key", UNKNOWN, ""),
        (
            "{}",
            "GET /a\napikey: alice-key\napikey: alice-key",
            DUPLICATE,
            "",
        ),
        (
            "{}",
            "GET /a\napikey: alice-key\nAPIKEY: bob-key",
            DUPLICATE,
            "",
        ),
        ("{}", "GET /a\napikey: b\u{f6}se key=&%", "ok: alice", ""),
        (
            r#"{"keyInHeader": false}"#,
            "GET /a\napikey: alice-key",
            MISSING,
            "",
        ),
        // An empty value ends the search.
        ("{}", "GET /a?apikey=alice-key\napikey:", MISSING, ""),
        (
            r#"{"keyNames": ["k", "apikey"]}"#,
            "GET /a\nk:\napikey: alice-key",
            MISSING,
            "",
        ),
    ])
    .await;
}

#[tokio::test]
async fn finds_the_key_in_the_query() {
    run(&[
        ("{}", "GET /a?apikey=alice-key", "ok: alice", ""),
        ("{}", "GET /a?x=1&apikey=alice-key&y", "ok: alice", ""),
        ("{}", "GET /a?%61pi%6bey=alice%2Dkey", "ok: alice", ""),
        ("{}", "GET /a?apikey=b%C3%B6se+key=%26%", "ok: alice", ""),
        ("{}", "GET /a?ApiKey=alice-key", MISSING, ""),
        ("{}", "GET /a?apikey[]=alice-key", MISSING, ""),
        ("{}", "GET /a?apikey%5B%5D=alice-key", MISSING, ""),
        ("{}", "GET /a?apikey[1]=alice-key", MISSING, ""),
        ("{}", "GET /a?apikey=nope", UNKNOWN, ""),
        (
            "{}",
            "GET /a?apikey=alice-key&apikey=alice-key",
            DUPLICATE,
            "",
        ),
        ("{}", "GET /a?apikey=alice-key&api%6bey=b", DUPLICATE, ""),
        ("{}", "GET /a?apikey=alice-key&apikey", DUPLICATE, ""),
        (
            r#"{"keyInQuery": false}"#,
            "GET /a?apikey=alice-key",
            MISSING,
            "",
        ),
        // A name alone is no text and is passed over; an empty value ends the search.
        ("{}", "GET /a?apikey", MISSING, ""),
        (
            r#"{"keyNames": ["k", "apikey"]}"#,
            "GET /a?k&apikey=alice-key",
            "ok: alice",
            "",
        ),
        (
            r#"{"keyNames": ["k", "apikey"]}"#,
            "GET /a?k=&apikey=alice-key",
            MISSING,
            "",
        ),
        // Nor is there a key in a query that only looks like one.
        ("{}", "GET /apikey=alice-key", MISSING, ""),
        ("{}", "GET /a?x=apikey=alice-key", MISSING, ""),
        ("{}", "GET /a?x=1;apikey=alice-key", MISSING, ""),
    ])
    .await;
}

#[tokio::test]
async fn searches_name_by_name_and_header_before_query_before_body() {
    let two = r#"{"keyNames": ["k1", "k2"]}"#;
    let two_body = r#"{"keyNames": ["k1", "k2"], "keyInBody": true}"#;
    let header_body = format!("POST /a\napikey: nope\n{FORM}\n\napikey=alice-key");
    let query_body = format!("POST /a?apikey=nope\n{FORM}\n\napikey=alice-key");
    let second_in_body = format!("POST /a?k1\n{FORM}\n\nk1=nope&k2=bob-key");
    let first_in_body = format!("POST /a\nk2: nope\n{FORM}\n\nk1=bob-key");
    let second_query = format!("POST /a?k2=bob-key\n{FORM}\n\nx=1&k2=nope");
    run(&[
        ("{}", "GET /a?apikey=alice-key\napikey: nope", UNKNOWN, ""),
        (
            "{}",
            "GET /a?apikey=nope\napikey: alice-key",
            "ok: alice",
            "",
        ),
        (BODY, &header_body, UNKNOWN, ""),
        (BODY, &query_body, UNKNOWN, ""),
        (two, "GET /a\nk2: bob-key", "ok: bob", ""),
        (two, "GET /a?k2=bob-key", "ok: bob", ""),
        (two, "GET /a?k1=alice-key\nk2: bob-key", "ok: alice", ""),
        (two, "GET /a?k1=nope\nk2: bob-key", UNKNOWN, ""),
        (two, "GET /a\napikey: bob-key", MISSING, ""),
        // A bare k1 in the query is something, so that the body is not searched for k1.
        (two_body, &second_in_body, "ok: bob", ""),
        (two_body, &first_in_body, "ok: bob", ""),
        (two_body, &second_query, "ok: bob", ""),
    ])
    .await;
}

#[tokio::test]
async fn finds_the_key_in_form_bodies() {
    let charset = "content-type: Application/X-WWW-Form-Urlencoded ; charset=utf-8";
    run(&[
        (
            BODY,
            &with(&[FORM], "apikey=alice-key&a=1"),
            "ok: alice",
            "",
        ),
        (
            BODY,
            &with(&[charset], "a=1&api%6bey=alice-key"),
            "ok: alice",
            "",
        ),
        (
            BODY,
            &format!("GET /a\n{FORM}\n\napikey=alice-key"),
            "ok: alice",
            "",
        ),
        ("{}", &with(&[FORM], "apikey=alice-key"), MISSING, ""),
        (
            BODY,
            &with(&[FORM], "apikey=a&apikey=alice-key"),
            DUPLICATE,
            "",
        ),
        (BODY, &with(&[FORM], "apikey"), MISSING, ""),
        (BODY, &with(&[FORM], "apikey="), MISSING, ""),
        (BODY, &with(&[FORM], "APIKEY=alice-key"), MISSING, ""),
        (
            BODY,
            &with(&["content-type: text/plain"], "apikey=alice-key"),
            MISSING,
            "",
        ),
        (BODY, &with(&["x: y"], "apikey=alice-key"), MISSING, ""),
        (
            BODY,
            &with(&[FORM, "content-encoding: gzip"], "apikey=alice-key"),
            MISSING,
            "",
        ),
        (
            BODY,
            &with(&[FORM, "content-encoding: identity"], "apikey=alice-key"),
            "ok: alice",
            "",
        ),
        (BODY, &with(&[FORM, JSON], "apikey=alice-key"), MISSING, ""),
    ])
    .await;
}

#[tokio::test]
async fn finds_the_key_in_json_bodies() {
    let nested = format!(
        r#"{{"a": {}{}, "apikey": "alice-key"}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let unclosed = format!(
        r#"{{"apikey": "alice-key", "a": {}"#,
        "{\"a\":".repeat(100_000)
    );
    let rows: &[(&str, &str)] = &[
        (
            r#"{"apikey": "alice-key", "n": {"x": [1, 2]}}"#,
            "ok: alice",
        ),
        (r#"{"\u0061pikey": "alice\u002dkey"}"#, "ok: alice"),
        (r#"{"n": {"apikey": "alice-key"}}"#, MISSING),
        (r#"{"apikey": ["alice-key"]}"#, DUPLICATE),
        (r#"{"apikey": []}"#, DUPLICATE),
        (
            r#"{"apikey": "alice-key", "apikey": "alice-key"}"#,
            DUPLICATE,
        ),
        (r#"{"apikey": null, "apikey": "alice-key"}"#, DUPLICATE),
        (r#"{"apikey": 1}"#, MISSING),
        (r#"{"apikey": null}"#, MISSING),
        (r#"{"apikey": {"apikey": "alice-key"}}"#, MISSING),
        (r#"{"apikey": ""}"#, MISSING),
        (r#"{"apikey": "alice-key"} x"#, MISSING),
        (r#"{"apikey": "alice-key""#, MISSING),
        (r#"{"apikey": "\ud800"}"#, MISSING),
        (r#"["apikey", "alice-key"]"#, MISSING),
        (r#""apikey""#, MISSING),
        ("{}", MISSING),
        ("{oops", MISSING),
        (&nested, "ok: alice"),
        (&unclosed, MISSING),
    ];
    for (body, verdict) in rows {
        run(&[(BODY, &with(&[JSON], body), verdict, "")]).await;
    }
}

#[tokio::test]
async fn finds_the_key_in_multipart_bodies() {
    let part = |head: &str, value: &str| format!("--XX\r\n{head}\r\n\r\n{value}\r\n");
    let named = |name: &str, value: &str| {
        part(
            &format!("Content-Disposition: form-data; name={name}"),
            value,
        )
    };
    let key = named("\"apikey\"", "alice-key");
    let rows: &[(String, &str)] = &[
        (format!("{key}--XX--\r\n"), "ok: alice"),
        (
            format!(
                "preamble\r\n{}{key}--XX--epilogue",
                named("\"a\"", "1\r\n--X")
            ),
            "ok: alice",
        ),
        (
            format!("{}--XX--", named("apikey", "alice-key")),
            "ok: alice",
        ),
        (format!("{key}{key}--XX--"), DUPLICATE),
        (format!("{}--XX--", named("\"apikey\"", "")), MISSING),
        (
            format!("{}--XX--", named("\"APIKEY\"", "alice-key")),
            MISSING,
        ),
        (
            format!("{}--XX--", part("X: y; name=\"apikey\"", "alice-key")),
            MISSING,
        ),
        // Without its end, with bare line feeds or with two names nobody can say what another reader would see.
        (key.clone(), MISSING),
        (key.replace("\r\n", "\n") + "--XX--", MISSING),
        (
            format!("{}--XX--", named("a; name=apikey", "alice-key")),
            MISSING,
        ),
        ("--XX--".to_owned(), MISSING),
        (String::from("x"), MISSING),
    ];
    for (body, verdict) in rows {
        run(&[(BODY, &with(&[MULTIPART], body), verdict, "")]).await;
    }
    let other = "content-type: multipart/form-data";
    let quoted = "content-type: multipart/form-data; charset=x; boundary=\"XX\"";
    let body = format!("{key}--XX--");
    run(&[
        (BODY, &with(&[other], &body), MISSING, ""),
        (BODY, &with(&[quoted], &body), "ok: alice", ""),
    ])
    .await;
}

#[tokio::test]
async fn hides_the_key_and_nothing_else() {
    let two = r#"{"keyNames": ["k1", "k2"], "hideCredentials": true}"#;
    run(&[
        (
            HIDE,
            "GET /a\napikey: alice-key\nx: 1",
            "ok: alice",
            "GET /a\nx: 1",
        ),
        (
            HIDE,
            "GET /a?c=1&apikey=alice-key&b=%7e&a=+",
            "ok: alice",
            "GET /a?c=1&b=%7e&a=+",
        ),
        (HIDE, "GET /a?apikey=alice-key", "ok: alice", "GET /a"),
        (HIDE, "GET /a?apikey=alice-key&", "ok: alice", "GET /a"),
        (
            HIDE,
            "GET /a?&&x&apikey=alice-key&&",
            "ok: alice",
            "GET /a?&&x&&",
        ),
        (HIDE, "GET /a?api%6bey=alice-key&y", "ok: alice", "GET /a?y"),
        (
            HIDE,
            "GET http://h:1/a?apikey=alice-key&y",
            "ok: alice",
            "GET http://h:1/a?y",
        ),
        // The name that supplied the key goes everywhere, the others stay.
        (
            HIDE,
            "GET /a?apikey=x&apikey&y\napikey: alice-key",
            "ok: alice",
            "GET /a?y",
        ),
        (
            two,
            "GET /a?k2=bob-key&k1=alice-key",
            "ok: alice",
            "GET /a?k2=bob-key",
        ),
        (two, "GET /a?k1\nk2: bob-key", "ok: bob", "GET /a?k1"),
        // Also where it proves nobody.
        (HIDE, "GET /a?apikey=nope&y", UNKNOWN, "GET /a?y"),
        (HIDE, "GET /a?apikey=nope&apikey=x&y", DUPLICATE, "GET /a?y"),
        ("{}", "GET /a?apikey=alice-key&b=%7e", "ok: alice", ""),
        // Bodies that are not searched stay as they are.
        (
            HIDE,
            &format!("POST /a\napikey: alice-key\n{FORM}\n\napikey=x"),
            "ok: alice",
            &format!("POST /a\n{FORM}\n\napikey=x"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn hides_the_key_in_bodies() {
    let rows = [
        (FORM, "apikey=alice-key&foo=b+r%26&x", "foo=b+r%26&x"),
        (FORM, "a&apikey=alice-key", "a"),
        (JSON, r#"{"apikey": "alice-key"}"#, "{}"),
        (
            JSON,
            r#"{ "apikey" : "alice-key" , "n": 1.0e+2,"b" : "\u0041"}"#,
            r#"{ "n": 1.0e+2,"b" : "\u0041"}"#,
        ),
        (
            JSON,
            r#"{"z": [1, {"a": null}] , "apikey":"alice-key" }"#,
            r#"{"z": [1, {"a": null}] }"#,
        ),
        (
            JSON,
            r#"{"a":1, "\u0061pikey":"alice-key", "b":2}"#,
            r#"{"a":1, "b":2}"#,
        ),
        (
            JSON,
            r#"{"a":{"apikey":1},"apikey":"alice-key"}"#,
            r#"{"a":{"apikey":1}}"#,
        ),
    ];
    for (kind, before, after) in rows {
        let (before, after) = (with(&[kind], before), with(&[kind], after));
        run(&[(HIDE_BODY, &before, "ok: alice", &after)]).await;
    }
    let part = |name: &str, value: &str| {
        format!(
            "--XX \r\nContent-Disposition: form-data; name=\"{name}\"\r\nX: y\r\n\r\n{value}\r\n"
        )
    };
    let (a, key, z) = (
        part("a", "\r\n"),
        part("apikey", "alice-key"),
        part("z", "9"),
    );
    for (before, after) in [
        (
            format!("pre\r\n{a}{key}{z}--XX--post"),
            format!("pre\r\n{a}{z}--XX--post"),
        ),
        (format!("{key}--XX--\r\n"), "--XX--\r\n".to_owned()),
    ] {
        let (before, after) = (with(&[MULTIPART], &before), with(&[MULTIPART], &after));
        run(&[(HIDE_BODY, &before, "ok: alice", &after)]).await;
    }
    // A header supplied the key: the same name goes from the body too, all of it.
    let before =
        format!("POST /a\napikey: alice-key\n{JSON}\n\n{{\"apikey\":1,\"b\":2,\"apikey\":[]}}");
    let after = format!("POST /a\n{JSON}\n\n{{\"b\":2}}");
    let unreadable = format!("POST /a\napikey: alice-key\n{JSON}\n\n{{oops");
    run(&[
        (HIDE_BODY, &before, "ok: alice", &after),
        (
            HIDE_BODY,
            &unreadable,
            "ok: alice",
            &format!("POST /a\n{JSON}\n\n{{oops"),
        ),
    ])
    .await;
}

/// A body that came in chunks has a length once it was changed.
#[tokio::test]
async fn frames_the_changed_body_anew() {
    let directory = stage::directory();
    let handler = stage::handler(&directory, "keyAuth", HIDE_BODY, &["shop"]).unwrap();
    let mut scene = Scene::read(&with(
        &[FORM, "transfer-encoding: chunked"],
        "apikey=alice-key&a",
    ));
    scene.head.headers.remove(http::header::CONTENT_LENGTH);
    assert_eq!(scene.act(&handler, &directory).await, "ok: alice");
    assert_eq!(scene.write(), with(&[FORM], "a"));
    assert_eq!(scene.head.headers[http::header::CONTENT_LENGTH], "1");
}

#[tokio::test]
async fn reads_the_body_only_where_it_must() {
    let directory = stage::directory();
    let form = with(&[FORM], "apikey=alice-key");
    let text = with(&["content-type: text/plain"], "apikey=alice-key");
    let keyed = format!("POST /a\napikey: alice-key\n{FORM}\n\nx=1");
    let names = r#"{"keyNames": ["a", "b", "apikey"], "keyInBody": true}"#;
    for (config, request, reads) in [
        ("{}", &form, 0),
        (HIDE, &form, 0),
        (BODY, &keyed, 0),
        (BODY, &text, 0),
        (names, &form, 1),
        (HIDE_BODY, &keyed, 1),
    ] {
        let handler = stage::handler(&directory, "keyAuth", config, &["shop"]).unwrap();
        let mut scene = Scene::read(request);
        scene.act(&handler, &directory).await;
        assert_eq!(scene.body.reads, reads, "{config}\n{request}");
    }
}

#[tokio::test]
async fn refuses_what_is_too_much() {
    let limit = r#"{"keyInBody": true, "maxBodyBytes": 10, "anonymous": {"name": "guest"}}"#;
    let hidden = r#"{"keyInBody": true, "maxBodyBytes": 10, "hideCredentials": true}"#;
    let fields = "a&".repeat(10_001);
    let members: String = (0..10_001)
        .map(|number| format!("\"{number}\":0,"))
        .collect();
    let members = format!("{{{}}}", members.trim_end_matches(','));
    let too_long = "413 Request body too large (body_too_long)";
    let too_many = "400 Too many parameters or body fields (too_many_fields)";
    run(&[
        (limit, &with(&[FORM], "12345678901"), too_long, ""),
        (
            limit,
            &with(&[FORM], "1234567890"),
            "anonymous: guest (anonymous)",
            "",
        ),
        (
            limit,
            &with(&["content-type: text/plain"], "12345678901"),
            "anonymous: guest (anonymous)",
            "",
        ),
        (
            limit,
            &format!("POST /a\napikey: alice-key\n{FORM}\n\n12345678901"),
            "ok: alice",
            "",
        ),
        (
            hidden,
            &format!("POST /a\napikey: alice-key\n{FORM}\n\n12345678901"),
            too_long,
            &format!("POST /a\n{FORM}\n\n12345678901"),
        ),
        (GUEST, &format!("GET /a?{fields}"), too_many, ""),
        (BODY, &with(&[FORM], &fields), too_many, ""),
        (BODY, &with(&[JSON], &members), too_many, ""),
    ])
    .await;
    let directory = stage::directory();
    let handler = stage::handler(&directory, "keyAuth", limit, &["shop"]).unwrap();
    let mut scene = Scene::read(&with(&[FORM], "1"));
    scene.body.broken = true;
    assert_eq!(
        scene.act(&handler, &directory).await,
        "400 Request body incomplete (body_incomplete)"
    );
}

#[tokio::test]
async fn honours_keys_in_their_time_and_namespace() {
    run(&[
        ("{}", "GET /a\napikey: bob-key", "ok: bob", ""),
        (
            "{}",
            "GET /a\napikey: old-key",
            "401 Unauthorized (out_of_time) <Key>",
            "",
        ),
        (
            "{}",
            "GET /a\napikey: future-key",
            "401 Unauthorized (out_of_time) <Key>",
            "",
        ),
        (
            "{}",
            "GET /a\napikey: orphan-key",
            "401 Unauthorized (no_consumer) <Key>",
            "",
        ),
        ("{}", "GET /a\napikey: eve-key", UNKNOWN, ""),
        ("{}", "GET /a\napikey: twin-key", "ok: bob", ""),
    ])
    .await;
    let directory = stage::directory();
    let handler = stage::handler(&directory, "keyAuth", "{}", &["other", "shop"]).unwrap();
    for (key, verdict) in [
        ("eve-key", "ok: eve"),
        ("alice-key", "ok: alice"),
        ("twin-key", "401 Unauthorized (ambiguous_key) <Key>"),
    ] {
        let mut scene = Scene::read(&format!("GET /a\napikey: {key}"));
        assert_eq!(scene.act(&handler, &directory).await, verdict);
    }
}

#[tokio::test]
async fn falls_back_to_the_anonymous_consumer() {
    let ghost = r#"{"anonymous": {"name": "ghost"}}"#;
    let hide = r#"{"anonymous": {"name": "guest"}, "hideCredentials": true}"#;
    let missing =
        "500 anonymous consumer ghost is configured but doesn't exist (anonymous_missing)";
    run(&[
        (GUEST, "GET /a", "anonymous: guest (anonymous)", ""),
        (GUEST, "GET /a\napikey:", "anonymous: guest (anonymous)", ""),
        (
            GUEST,
            "GET /a\napikey: nope",
            "anonymous_unknown_key: guest (anonymous)",
            "",
        ),
        (
            GUEST,
            "GET /a\napikey: old-key",
            "anonymous_out_of_time: guest (anonymous)",
            "",
        ),
        (
            GUEST,
            "GET /a\napikey: orphan-key",
            "anonymous_no_consumer: guest (anonymous)",
            "",
        ),
        (
            GUEST,
            "GET /a?apikey=a&apikey=b",
            "anonymous_duplicate_key: guest (anonymous)",
            "",
        ),
        (GUEST, "GET /a\napikey: alice-key", "ok: alice", ""),
        (
            hide,
            "GET /a?apikey=nope&b",
            "anonymous_unknown_key: guest (anonymous)",
            "GET /a?b",
        ),
        (ghost, "GET /a", missing, ""),
        (ghost, "GET /a\napikey: nope", missing, ""),
        (ghost, "GET /a\napikey: alice-key", "ok: alice", ""),
    ])
    .await;
}

/// Several plugins in a row: without `anonymous` all must pass, with it one is enough.
#[tokio::test]
async fn joins_with_other_plugins() {
    let directory = stage::directory();
    let build = |config: &str| stage::handler(&directory, "keyAuth", config, &["shop"]).unwrap();
    let (first, second) = (r#"{"keyNames": ["k1"]}"#, r#"{"keyNames": ["k2"]}"#);
    let (first_or, second_or) = (
        r#"{"keyNames": ["k1"], "anonymous": {"name": "guest"}}"#,
        r#"{"keyNames": ["k2"], "anonymous": {"name": "ghost"}}"#,
    );
    let none = "GET /a";
    let one = "GET /a\nk1: alice-key";
    let other = "GET /a\nk2: bob-key";
    let both = "GET /a\nk1: alice-key\nk2: bob-key";
    for (configs, request, verdict) in [
        ([first, second], both, "ok: bob"),
        ([first, second], one, MISSING),
        ([first, second], other, MISSING),
        ([first_or, second_or], both, "already_authenticated: alice"),
        ([first_or, second_or], one, "already_authenticated: alice"),
        ([first_or, second_or], other, "ok: bob"),
        (
            [second_or, first_or],
            one,
            "500 anonymous consumer ghost is configured but doesn't exist (anonymous_missing)",
        ),
        ([first_or, first_or], none, "anonymous: guest (anonymous)"),
        ([first_or, second], one, MISSING),
        ([first_or, second], other, "ok: bob"),
        ([first, second_or], one, "already_authenticated: alice"),
        ([first, second_or], other, MISSING),
    ] {
        let mut scene = Scene::read(request);
        let mut last = String::new();
        for config in configs {
            last = scene.act(&build(config), &directory).await;
            if last.starts_with(|first: char| first.is_ascii_digit()) {
                break;
            }
        }
        assert_eq!(last, verdict, "{configs:?}\n{request}");
    }
}

#[tokio::test]
async fn lets_preflight_pass_where_it_may() {
    let off = r#"{"runOnPreflight": false}"#;
    run(&[
        ("{}", "OPTIONS /a", MISSING, ""),
        ("{}", "OPTIONS /a\napikey: alice-key", "ok: alice", ""),
        (off, "OPTIONS /a", "preflight: nobody", ""),
        (
            off,
            "OPTIONS /a\napikey: alice-key",
            "preflight: nobody",
            "",
        ),
        (off, "GET /a", MISSING, ""),
        (off, "HEAD /a", MISSING, ""),
        (off, "GET /a\nx-http-method-override: OPTIONS", MISSING, ""),
    ])
    .await;
}

#[tokio::test]
async fn names_the_realm() {
    let row = |challenge: &str| format!("401 No API key found in request (no_key) <{challenge}>");
    run(&[
        (
            r#"{"realm": "shop"}"#,
            "GET /a",
            &row("Key realm=\"shop\""),
            "",
        ),
        (
            r#"{"realm": "a\"b\\c, Basic"}"#,
            "GET /a",
            &row(r#"Key realm="a\"b\\c, Basic""#),
            "",
        ),
    ])
    .await;
    run(&[
        (
            r#"{"realm": "r"}"#,
            "GET /a?apikey=a&apikey=b",
            "401 Duplicate API key found (duplicate_key) <Key realm=\"r\">",
            "",
        ),
        (
            r#"{"realm": "r"}"#,
            "GET /a?apikey=a",
            "401 Unauthorized (unknown_key) <Key realm=\"r\">",
            "",
        ),
    ])
    .await;
}

#[test]
fn refuses_configurations_that_cannot_be_right() {
    let directory = Directory::default();
    for (config, message) in [
        (r#"{"keyNames": []}"#, "keyNames: must have at least 1 item"),
        (r#"{"keyNames": [""]}"#, "keyNames[0]: must not be empty"),
        (
            r#"{"keyNames": ["a", "bad name"]}"#,
            "keyNames: may hold only characters of header names",
        ),
        (
            r#"{"keyNames": ["a:"]}"#,
            "keyNames: may hold only characters of header names",
        ),
        (
            r#"{"keyNames": ["\u00e4"]}"#,
            "keyNames: may hold only characters of header names",
        ),
        (
            r#"{"keyInHeader": false, "keyInQuery": false}"#,
            "keyAuth searches nowhere",
        ),
        (r#"{"realm": ""}"#, "realm: must not be empty"),
        (
            r#"{"realm": "a\nb"}"#,
            "realm: may hold only printable ASCII",
        ),
        (
            r#"{"anonymous": {"name": ""}}"#,
            "anonymous.name: must not be empty",
        ),
        (
            r#"{"maxBodyBytes": 0}"#,
            "maxBodyBytes: must be between 1 and 104857600 bytes",
        ),
        (
            r#"{"maxBodyBytes": 104857601}"#,
            "maxBodyBytes: must be between",
        ),
        (r#"{"keyName": ["a"]}"#, "keyAuth: unknown field `keyName`"),
        (r#"{"keyInHeader": "yes"}"#, "keyAuth: invalid type"),
    ] {
        let refused = stage::handler(&directory, "keyAuth", config, &["shop"]).unwrap_err();
        assert!(refused.starts_with(message), "{config}: {refused}");
    }
    let names: Vec<String> = (0..17).map(|number| number.to_string()).collect();
    let many = Config {
        key_names: names,
        ..Config::default()
    };
    assert_eq!(
        many.check()[0].to_string(),
        "keyNames: must have at most 16 items, it has 17"
    );
    let long = Config {
        key_names: vec!["a".repeat(129)],
        ..Config::default()
    };
    assert_eq!(
        long.check()[0].to_string(),
        "keyNames[0]: must have at most 128 characters, it has 129"
    );
    assert_eq!(Config::default().check(), []);
    let every = Config {
        key_names: vec!["!#$%&'*+-.^_`|~09azAZ".to_owned()],
        ..Config::default()
    };
    assert_eq!(every.check(), []);
}
