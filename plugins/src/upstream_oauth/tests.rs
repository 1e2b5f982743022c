//! Against a provider on loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::Config;
use crate::directory::Directory;
use crate::handler::{BuildContext, Handler, Services, Values};
use crate::stage::{self, Scene};

/// What a provider got, and what it answers.
#[derive(Clone)]
struct Idp {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
    /// How many answers it has given.
    served: Arc<AtomicUsize>,
}

impl Idp {
    /// Answers each request with what `answer` makes of its number: a status and a body. A status of 0 breaks off.
    async fn start(answer: impl Fn(usize) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let idp = Self {
            url: format!("http://{}/token", listener.local_addr().unwrap()),
            requests: Arc::default(),
            served: Arc::default(),
        };
        let (own, answer) = (idp.clone(), Arc::new(answer));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (own, answer) = (own.clone(), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut read = Vec::new();
                    let text = loop {
                        let mut part = [0; 4096];
                        let length = stream.read(&mut part).await.unwrap();
                        read.extend_from_slice(&part[..length]);
                        let text = String::from_utf8_lossy(&read).into_owned();
                        if length == 0 || is_whole(&text) {
                            break text;
                        }
                    };
                    let number = {
                        let mut requests = own.requests.lock();
                        requests.push(text);
                        requests.len()
                    };
                    let (status, body) = answer(number);
                    if status == 0 {
                        return;
                    }
                    let length = body.len();
                    let head = format!(
                        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                    );
                    let _ = stream.write_all((head + &body).as_bytes()).await;
                    own.served.fetch_add(1, Relaxed);
                });
            }
        });
        idp
    }

    /// Gives tokens t1, t2 … that live so long.
    async fn granting(expires_in: u64) -> Self {
        let body = move |number| {
            let body = format!(
                r#"{{"access_token":"t{number}","token_type":"bearer","expires_in":{expires_in}}}"#
            );
            (200, body)
        };
        Self::start(body).await
    }

    fn count(&self) -> usize {
        self.requests.lock().len()
    }

    fn last(&self) -> String {
        self.requests.lock().last().unwrap().clone()
    }
}

fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

fn build(
    config: &str,
    values: &[(&str, &str)],
    services: &Services,
    directory: &Directory,
) -> Result<Handler, String> {
    let config =
        Config::from_json("upstreamOauth", config.as_bytes()).map_err(|e| e.to_string())?;
    let values: Vec<(String, Bytes)> = values
        .iter()
        .map(|(field, value)| {
            (
                (*field).to_owned(),
                Bytes::copy_from_slice(value.as_bytes()),
            )
        })
        .collect();
    Handler::build(
        config,
        BuildContext {
            key: "Plugin/shop/it",
            id: "1",
            namespaces: directory.namespaces(["shop"]),
            anonymous: None,
            values: Values::new(&values),
            services,
        },
    )
}

/// A configuration: members of `oauth` beside the endpoint and the client, and blocks beside `oauth`.
fn config(idp: &Idp, oauth: &str, rest: &str) -> String {
    format!(
        r#"{{"oauth":{{"tokenEndpoint":"{}","clientId":"me","clientSecretRef":{{"name":"s","key":"k"}}{oauth}}}{rest}}}"#,
        idp.url
    )
}

const SECRET: (&str, &str) = ("oauth.clientSecretRef", "hush&=");

fn plain(idp: &Idp, services: &Services) -> Handler {
    build(
        &config(idp, "", ""),
        &[SECRET],
        services,
        &stage::directory(),
    )
    .unwrap()
}

/// What the upstream gets in the header, or what the client gets.
async fn send(handler: &Handler) -> String {
    send_text(handler, "GET /").await
}

async fn send_text(handler: &Handler, text: &str) -> String {
    send_into(handler, &stage::directory(), text).await
}

async fn send_into(handler: &Handler, directory: &Directory, text: &str) -> String {
    let mut scene = Scene::read(text);
    let verdict = scene.act(handler, directory).await;
    match scene.head.headers.get("authorization") {
        Some(value) if verdict.ends_with("nobody") => value.to_str().unwrap().to_owned(),
        _ => verdict,
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used_until_it_is_near_its_end() {
    let idp = Idp::granting(300).await;
    let services = stage::services();
    let handler = plain(&idp, &services);
    for _ in 0..3 {
        assert_eq!(
            send_text(&handler, "GET /\nauthorization: mine").await,
            "Bearer t1"
        );
    }
    assert_eq!(idp.count(), 1);
    // Five seconds before its end it is no longer used, so this one serves once.
    let idp = Idp::granting(4).await;
    let handler = plain(&idp, &services);
    assert_eq!(send(&handler).await, "Bearer t1");
    assert_eq!(send(&handler).await, "Bearer t2");
}

#[tokio::test]
async fn what_has_expired_when_it_arrives_is_not_sent() {
    let idp = Idp::granting(0).await;
    let services = stage::services();
    let said = send(&plain(&idp, &services)).await;
    assert!(
        said.starts_with("502 ") && said.ends_with("(expired)"),
        "{said}"
    );
}

#[tokio::test]
async fn many_requests_are_one_for_the_provider() {
    let idp = Idp::granting(300).await;
    let services = stage::services();
    let handler = plain(&idp, &services);
    let sent = futures::future::join_all((0..50).map(|_| send(&handler))).await;
    assert!(sent.iter().all(|sent| sent == "Bearer t1"), "{sent:?}");
    assert_eq!(idp.count(), 1);
}

#[tokio::test]
async fn equal_values_share_a_token_and_others_do_not() {
    let idp = Idp::granting(300).await;
    let services = stage::services();
    let directory = stage::directory();
    let get = async |oauth: &str, rest: &str, secret: &str| {
        let values = [("oauth.clientSecretRef", secret)];
        let handler = build(&config(&idp, oauth, rest), &values, &services, &directory).unwrap();
        (send(&handler).await, handler)
    };
    let (first, _kept) = get("", "", "a").await;
    // What is not under oauth does not matter.
    let (same, _kept) = get("", r#","client":{"timeoutMs":500}"#, "a").await;
    assert_eq!((&*first, &*same), ("Bearer t1", "Bearer t1"));
    let (other_secret, _kept) = get("", "", "b").await;
    let (other_scope, _kept) = get(r#","scopes":["x"]"#, "", "a").await;
    assert_eq!((&*other_secret, &*other_scope), ("Bearer t2", "Bearer t3"));
    // Who need not prove anything gets nothing of those who did.
    let (nobody, _kept) = get("", r#","client":{"authMethod":"none"}"#, "a").await;
    assert_eq!(nobody, "Bearer t4");
}

#[tokio::test]
async fn the_gateway_proves_itself_in_each_way() {
    let idp = Idp::granting(300).await;
    let services = stage::services();
    let directory = stage::directory();
    for (method, there, absent) in [
        (
            "client_secret_post",
            &["client_id=me", "client_secret=hush%26%3D"][..],
            &["authorization:"][..],
        ),
        (
            "client_secret_basic",
            // base64 of me:hush%26%3D
            &["authorization: Basic bWU6aHVzaCUyNiUzRA=="],
            &["client_secret", "client_id"],
        ),
        (
            "client_secret_jwt",
            &[
                "client_id=me",
                "client_assertion=ey",
                "client-assertion-type%3Ajwt-bearer",
            ],
            &["authorization:", "hush", "client_secret="],
        ),
        (
            "none",
            &["client_id=me"],
            &["authorization:", "hush", "client_assertion"],
        ),
    ] {
        let client = format!(r#","client":{{"authMethod":"{method}"}}"#);
        let oauth = format!(r#","tokenPostArgs":{{"case":"{}"}}"#, method.len());
        let text = config(&idp, &oauth, &client);
        let handler = build(&text, &[SECRET], &services, &directory).unwrap();
        assert!(send(&handler).await.starts_with("Bearer "));
        let request = idp.last();
        for part in there {
            assert!(
                request.contains(part),
                "{method}: {part} is not in {request}"
            );
        }
        for part in absent {
            assert!(!request.contains(part), "{method}: {part} is in {request}");
        }
    }
}

#[tokio::test]
async fn all_parameters_arrive() {
    let idp = Idp::granting(300).await;
    let services = stage::services();
    let oauth = r#","grantType":"password","username":"u x","passwordSecretRef":{"name":"s","key":"p"},
        "scopes":["a","b:c"],"audience":["x","y"],"tokenHeaders":{"X-Extra":"one"},"tokenPostArgs":{"resource":"r&"}"#;
    let values = [SECRET, ("oauth.passwordSecretRef", "p&w\n")];
    let handler = build(
        &config(&idp, oauth, ""),
        &values,
        &services,
        &stage::directory(),
    )
    .unwrap();
    assert_eq!(send(&handler).await, "Bearer t1");
    let request = idp.last();
    for part in [
        "POST /token ",
        "x-extra: one",
        "grant_type=password&username=u+x&password=p%26w&scope=a+b%3Ac&audience=x&audience=y&resource=r%26",
    ] {
        assert!(request.contains(part), "{part} is not in {request}");
    }
}

#[tokio::test]
async fn a_provider_that_fails_gives_the_configured_answer() {
    let services = stage::services();
    let failures: [(u16, &str, &str); 7] = [
        (400, r#"{"error":"invalid_client"}"#, "provider_refused"),
        (302, "", "provider_refused"),
        (200, "nonsense", "bad_answer"),
        (200, r#"{"token_type":"Bearer"}"#, "bad_answer"),
        (200, r#"{"access_token":"a\r\nx-evil: 1"}"#, "bad_answer"),
        (
            200,
            r#"{"access_token":"a","token_type":"DPoP"}"#,
            "not_bearer",
        ),
        (0, "", "protocol"),
    ];
    for (status, body, reason) in failures {
        let idp = Idp::start(move |_| (status, body.to_owned())).await;
        let said = send(&plain(&idp, &services)).await;
        let expected = format!(
            r#"502 {{ "code": "502", "message": "Failed to authenticate request to upstream" }} ({reason})"#
        );
        assert_eq!(said, expected);
    }
    let idp = Idp::start(|_| (400, String::new())).await;
    let behavior = r#","behavior":{"idpErrorResponseStatusCode":503,"idpErrorResponseMessage":"say \"{{status}}\"",
        "idpErrorResponseBodyTemplate":"{\"m\":\"{{message}}\",\"s\":{{ status }},\"{{other}}\":1}"}"#;
    let handler = build(
        &config(&idp, "", behavior),
        &[SECRET],
        &services,
        &stage::directory(),
    );
    let said = send(&handler.unwrap()).await;
    assert_eq!(
        said,
        r#"503 {"m":"say \"{{status}}\"","s":503,"{{other}}":1} (provider_refused)"#
    );
}

#[tokio::test]
async fn a_failing_provider_is_asked_less_and_less_and_found_again() {
    let idp = Idp::start(|number| match number {
        1..6 => (500, String::new()),
        _ => (200, r#"{"access_token":"t","expires_in":300}"#.to_owned()),
    })
    .await;
    let services = stage::services();
    let handler = plain(&idp, &services);
    // Made once: it takes longer than a refusal.
    let directory = stage::directory();
    let mut refused = 0;
    let found = async {
        while send_into(&handler, &directory, "GET /").await != "Bearer t" {
            refused += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found)
        .await
        .unwrap();
    assert_eq!(idp.count(), 6);
    // Without pauses it would be five.
    assert!(refused > 20, "{refused}");
}

#[tokio::test]
async fn a_token_that_the_upstream_refuses_is_given_up() {
    let idp = Idp::granting(300).await;
    let services = stage::services();
    let handler = plain(&idp, &services);
    let Handler::UpstreamOauth(inner) = &handler else {
        panic!("another handler");
    };
    assert_eq!(send(&handler).await, "Bearer t1");
    let token = super::slot::Token::new("t1".to_owned(), 0, Duration::ZERO)
        .unwrap()
        .id;
    inner.response(StatusCode::FORBIDDEN, token);
    assert_eq!(send(&handler).await, "Bearer t1");
    inner.response(StatusCode::UNAUTHORIZED, token);
    assert_eq!(send(&handler).await, "Bearer t2");
    // A late answer to a request with the old token does not hurt the new one.
    inner.response(StatusCode::UNAUTHORIZED, token);
    assert_eq!(send(&handler).await, "Bearer t2");
    assert_eq!(idp.count(), 2);
}

#[tokio::test]
async fn proxies_share_tokens_in_the_store_and_one_of_them_fetches() {
    let idp = Idp::granting(300).await;
    // Two proxies: what they share is the store.
    let one = stage::services();
    let two = Services {
        upstream_tokens: super::Pool::new(&one.outbound),
        ..one.clone()
    };
    let cache = r#","cache":{"strategy":"redis"}"#;
    let directory = stage::directory();
    let of = |services| build(&config(&idp, "", cache), &[SECRET], services, &directory).unwrap();
    let (first, second) = (of(&one), of(&two));
    let either = (0..40).map(|number| send(if number % 2 == 0 { &first } else { &second }));
    let sent = futures::future::join_all(either).await;
    assert!(sent.iter().all(|sent| sent == "Bearer t1"), "{sent:?}");
    assert_eq!(idp.count(), 1);
    // What one gives up the other does not get from the store again.
    let Handler::UpstreamOauth(inner) = &first else {
        panic!("another handler");
    };
    let token = super::slot::Token::new("t1".to_owned(), 0, Duration::ZERO)
        .unwrap()
        .id;
    inner.response(StatusCode::UNAUTHORIZED, token);
    assert_eq!(send(&first).await, "Bearer t2");
}

#[tokio::test]
async fn other_spellings_of_the_header_do_not_reach_the_upstream() {
    let idp = Idp::granting(300).await;
    let services = stage::services();
    let behavior = r#","behavior":{"upstreamAccessTokenHeaderName":"X-Up-Token"}"#;
    let text = config(&idp, "", behavior);
    let handler = build(&text, &[SECRET], &services, &stage::directory()).unwrap();
    let mut scene = Scene::read("GET /\nx-up-token: a\nx_up-token: b\nX_Up_Token: c\nx-other: d");
    scene.act(&handler, &stage::directory()).await;
    let written = scene.write();
    assert_eq!(written.matches("token").count(), 1, "{written}");
    assert!(written.contains("\nx-up-token: Bearer t1"), "{written}");
    assert!(written.contains("\nx-other: d"), "{written}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_makes_no_sense_is_refused() {
    let services = stage::services();
    let base = r#""tokenEndpoint":"https://idp.test/token","clientId":"me""#;
    let secret = r#","clientSecretRef":{"name":"s","key":"k"}"#;
    for (oauth, rest, field) in [
        (String::new(), "", "tokenEndpoint"),
        (base.to_owned(), "", "oauth.clientSecretRef"),
        (
            format!(r#""tokenEndpoint":"ftp://h/"{secret}"#),
            "",
            "oauth.tokenEndpoint",
        ),
        (
            format!(r#""tokenEndpoint":"https://a@h/"{secret}"#),
            "",
            "oauth.tokenEndpoint",
        ),
        (
            format!(r#"{base}{secret},"grantType":"password""#),
            "",
            "oauth.grantType",
        ),
        (
            format!(r#"{base}{secret},"username":"u""#),
            "",
            "oauth.grantType",
        ),
        (
            format!(r#"{base}{secret},"tokenHeaders":{{"Host":"h"}}"#),
            "",
            "oauth.tokenHeaders.Host",
        ),
        (
            format!(r#"{base}{secret},"tokenPostArgs":{{"scope":"h"}}"#),
            "",
            "oauth.tokenPostArgs.scope",
        ),
        (
            format!("{base}{secret}"),
            r#","client":{"authMethod":"magic"}"#,
            "magic",
        ),
        (
            format!("{base}{secret}"),
            r#","client":{"authMethod":"private_key_jwt"}"#,
            "client.privateKeySecretRef",
        ),
        (
            format!("{base}{secret}"),
            r#","client":{"timeoutMs":0}"#,
            "client.timeoutMs",
        ),
        (
            format!("{base}{secret}"),
            r#","client":{"httpProxy":"socks5://h"}"#,
            "client.httpProxy",
        ),
        (
            format!("{base}{secret}"),
            r#","cache":{"redis":{"url":"redis://h"}}"#,
            "cache.redis",
        ),
        (
            format!("{base}{secret}"),
            r#","cache":{"strategy":"redis","redis":{}}"#,
            "cache.redis",
        ),
        (
            format!("{base}{secret}"),
            r#","cache":{"strategy":"redis","redis":{"url":"file:x"}}"#,
            "cache.redis.url",
        ),
        (
            format!("{base}{secret}"),
            r#","behavior":{"idpErrorResponseStatusCode":404}"#,
            "idpErrorResponseStatusCode",
        ),
        (
            format!("{base}{secret}"),
            r#","behavior":{"upstreamAccessTokenHeaderName":"a b"}"#,
            "upstreamAccessTokenHeaderName",
        ),
        (
            format!("{base}{secret}"),
            r#","behavior":{"upstreamAccessTokenHeaderName":"Host"}"#,
            "upstreamAccessTokenHeaderName",
        ),
        (
            format!("{base}{secret}"),
            r#","behavior":{"purgeTokenOnUpstreamStatusCodes":[99]}"#,
            "purgeToken",
        ),
        (
            format!("{base}{secret}"),
            r#","behavior":{"unknown":1}"#,
            "unknown",
        ),
    ] {
        let text = format!(r#"{{"oauth":{{{oauth}}}{rest}}}"#);
        let refused = build(&text, &[SECRET], &services, &stage::directory());
        let refused = refused
            .err()
            .unwrap_or_else(|| panic!("{text} is accepted"));
        assert!(refused.contains(field), "{text}: {refused}");
    }
    let text = format!(r#"{{"oauth":{{{base}{secret}}}}}"#);
    let missing = build(&text, &[], &services, &stage::directory());
    assert!(missing.unwrap_err().contains("oauth.clientSecretRef"));
}
