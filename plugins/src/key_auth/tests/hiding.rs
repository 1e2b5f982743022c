//! What is left of a request, and how much of it is read.

use super::*;

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
