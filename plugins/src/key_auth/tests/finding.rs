//! Where the key is found.

use super::*;

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
