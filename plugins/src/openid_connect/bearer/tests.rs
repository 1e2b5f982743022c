//! Access tokens against a provider on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use self::signer::{Signer, sign};
use super::*;
use crate::handler::{Handler, Values};
use crate::stage::{self, NOW, Scene};

mod signer;

/// A provider: what it publishes, what it says of tokens, and what it was asked.
#[derive(Clone)]
struct Provider {
    address: SocketAddr,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    keys: Vec<Value>,
    introspection: String,
    down: bool,
    /// Heads and bodies of the introspection requests.
    asked: Vec<String>,
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Self {
            address: listener.local_addr().unwrap(),
            held: Arc::default(),
        };
        provider.says(&json!({"active": true, "sub": "user-1", "exp": NOW + 100}));
        let serving = provider.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        provider
    }

    async fn serve(self, mut stream: tokio::net::TcpStream) {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&request);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.parse().unwrap())
                });
                if body.len() >= length.unwrap_or(0) {
                    break;
                }
            }
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            if read == 0 {
                return;
            }
            request.extend_from_slice(&buffer[..read]);
        }
        let answer = self.answer(&String::from_utf8(request).unwrap());
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    fn answer(&self, request: &str) -> String {
        let mut held = self.held.lock();
        let base = self.base();
        let path = request.split(' ').nth(1).unwrap();
        let body = match path {
            _ if held.down => return answer("503 Service Unavailable", ""),
            "/.well-known/openid-configuration" => json!({
                "issuer": base, "jwks_uri": format!("{base}/keys"),
                "introspection_endpoint": format!("{base}/introspect"),
            })
            .to_string(),
            "/keys" => json!({ "keys": held.keys }).to_string(),
            "/introspect" => {
                held.asked.push(request.to_owned());
                held.introspection.clone()
            }
            _ => return answer("404 Not Found", ""),
        };
        answer("200 OK", &body)
    }

    fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    fn says(&self, claims: &Value) {
        self.held.lock().introspection = claims.to_string();
    }

    fn asked(&self) -> usize {
        self.held.lock().asked.len()
    }

    fn handler(&self, more: &Value) -> Handler {
        let discovery = format!("{}/.well-known/openid-configuration", self.base());
        let mut config = json!({
            "clientId": "gateway", "discovery": discovery, "bearerOnly": true,
            "clientSecretRef": {"name": "s", "key": "k"},
        });
        for (name, value) in more.as_object().unwrap() {
            config[name] = value.clone();
        }
        let directory = stage::directory();
        let config = crate::Config::from_json("openidConnect", config.to_string().as_bytes());
        let values = [("clientSecretRef".to_owned(), Bytes::from_static(b"s/cret"))];
        let context = BuildContext {
            key: "Plugin/shop/it",
            id: "1",
            namespaces: directory.namespaces(["shop"]),
            anonymous: None,
            values: Values::new(&values),
            services: &stage::services(),
        };
        Handler::build(config.unwrap(), context).unwrap()
    }
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// What becomes of a request with these headers, and what the upstream gets.
async fn act(handler: &Handler, headers: &str) -> (String, String) {
    let mut scene = Scene::read(&format!("GET /a{headers}"));
    let directory = stage::directory();
    let mut exchange = Exchange {
        head: &mut scene.head,
        body: &mut scene.body,
        caller: &mut scene.caller,
        directory: &directory,
        now: NOW,
        https: false,
        request_id: "request-1",
        tls: scene.tls,
        response: &mut scene.response,
        watch: None,
        rehearsal: false,
    };
    let said = match handler.request(&mut exchange).await {
        Verdict::Continue(reason) => reason.to_owned(),
        Verdict::Refuse(refusal) => {
            let challenges: Vec<_> = refusal
                .challenges
                .iter()
                .filter_map(|one| one.to_str().ok())
                .collect();
            format!(
                "{} {} {}",
                refusal.status.as_u16(),
                refusal.reason,
                challenges.join(", ")
            )
        }
        Verdict::Answer(answer) => {
            let body = String::from_utf8(answer.body.to_vec()).unwrap();
            format!("{} {} {body}", answer.status.as_u16(), answer.reason)
        }
        Verdict::Undecided(reason) => reason.to_owned(),
    };
    (said, scene.write())
}

async fn present(handler: &Handler, token: &str) -> String {
    act(handler, &format!("\nauthorization: Bearer {token}"))
        .await
        .0
}

fn refused(reason: &str, words: &str) -> String {
    format!(
        "401 {reason} Bearer realm=\"postern\", error=\"invalid_token\", error_description=\"{words}\""
    )
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

const HEADER: &str = r#"{"alg":"ES256","kid":"a"}"#;

fn header() -> Value {
    serde_json::from_str(HEADER).unwrap()
}

#[tokio::test]
async fn without_a_token_the_caller_is_told_how() {
    let provider = Provider::start().await;
    let handler = provider.handler(&json!({}));
    let missing = "401 no_token Bearer realm=\"postern\"";
    for headers in ["", "\nauthorization: Basic dTpw", "\ncookie: session=x"] {
        assert_eq!(act(&handler, headers).await.0, missing, "{headers}");
    }
    for value in [
        "foo",
        "Bearer",
        "Bearer ",
        "Bearer a b",
        "Bearer a\u{e9}",
        "Bearer \"a\"",
    ] {
        let said = act(&handler, &format!("\nauthorization: {value}")).await.0;
        assert_eq!(said, "400 bad_authorization ", "{value}");
    }
    assert_eq!(act(&handler, "\nauthorization: bEARER  tok").await.0, "ok");
}

#[tokio::test]
async fn the_upstream_gets_what_is_known_and_nothing_of_the_clients_own() {
    let provider = Provider::start().await;
    let spoofed =
        "\nauthorization: Bearer tok\nx-userinfo: evil\nx_id_token: evil\nX-Access-Token: evil";
    let (said, seen) = act(&provider.handler(&json!({})), spoofed).await;
    assert_eq!(said, "ok");
    assert!(!seen.contains("evil"), "{seen}");
    assert!(seen.contains("x-access-token: tok"), "{seen}");
    let claims = json!({"active": true, "sub": "user-1", "exp": NOW + 100});
    let userinfo = seen
        .split("x-userinfo: ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let told: Value = serde_json::from_slice(&STANDARD.decode(userinfo).unwrap()).unwrap();
    assert_eq!(told, claims);
    let quiet = json!({"setUserinfoHeader": false, "accessTokenInAuthorizationHeader": true});
    let (_, seen) = act(&provider.handler(&quiet), spoofed).await;
    assert!(
        seen.contains("authorization: Bearer tok") && !seen.contains("x-"),
        "{seen}"
    );
}

#[tokio::test]
async fn one_given_key_verifies() {
    let (provider, signer) = (Provider::start().await, Signer::new());
    let handler = provider.handler(&json!({"publicKey": signer.pem()}));
    let good = json!({"iss": provider.base(), "sub": "u", "exp": NOW + 10});
    assert_eq!(
        present(&handler, &signer.token(&header(), &good)).await,
        "ok"
    );
    let bad = refused("bad_signature", "the signature is wrong");
    assert_eq!(
        present(&handler, &Signer::new().token(&header(), &good)).await,
        bad
    );
    let algorithm = refused("wrong_algorithm", "the token's algorithm is not accepted");
    for (alg, signature) in [
        ("none", vec![]),
        ("None", vec![]),
        ("ES384", vec![0; 96]),
        ("XX", vec![1]),
    ] {
        let token = sign(&json!({"alg": alg}), &good, |_| signature);
        assert_eq!(present(&handler, &token).await, algorithm, "{alg}");
    }
    // The public key as a shared secret.
    let secret = hmac::Key::new(hmac::HMAC_SHA256, signer.pem().as_bytes());
    let confused = sign(&json!({"alg": "HS256"}), &good, |message| {
        hmac::sign(&secret, message).as_ref().to_vec()
    });
    assert_eq!(present(&handler, &confused).await, algorithm);
    for junk in [
        "junk",
        "a.b.c",
        "..",
        "e30.e30",
        "e30.e30.",
        "e30.e30.e30.e30",
    ] {
        assert!(present(&handler, junk).await.starts_with("401 "), "{junk}");
    }
    let expected = json!({"publicKey": signer.pem(), "tokenSigningAlgValuesExpected": "ES256"});
    let token = signer.token(&header(), &good);
    assert_eq!(present(&provider.handler(&expected), &token).await, "ok");
}

#[tokio::test]
async fn claims_are_judged() {
    let (provider, signer) = (Provider::start().await, Signer::new());
    let key = json!({"publicKey": signer.pem(), "iatSlack": 10});
    let handler = provider.handler(&key);
    let good = json!({"iss": provider.base(), "sub": "u", "exp": NOW + 10, "iat": NOW, "nbf": NOW});
    for (name, value, expected) in [
        ("exp", json!(NOW - 9), "ok"),
        ("exp", json!(NOW - 10), "401 expired"),
        ("exp", json!(NOW as f64 + 0.5), "ok"),
        ("exp", json!("2999"), "401 no_expiry"),
        ("exp", json!(null), "401 no_expiry"),
        ("exp", json!(-1e300), "401 expired"),
        ("exp", json!(1e300), "ok"),
        ("nbf", json!(NOW + 10), "ok"),
        ("nbf", json!(NOW + 11), "401 not_yet_valid"),
        ("nbf", json!("x"), "401 bad_claims"),
        ("iat", json!(NOW + 11), "401 issued_in_the_future"),
        ("iat", json!([]), "401 bad_claims"),
        ("iss", json!("https://evil.test"), "401 other_issuer"),
        ("iss", json!([provider.base()]), "401 other_issuer"),
        ("iss", json!(null), "401 other_issuer"),
        ("typ", json!("Bearer"), "ok"),
        ("typ", json!("ID"), "401 no_access_token"),
        ("typ", json!("Refresh"), "401 no_access_token"),
        ("at_hash", json!("x"), "401 no_access_token"),
    ] {
        let token = signer.token(&header(), &with(good.clone(), name, value.clone()));
        let said = present(&handler, &token).await;
        assert!(said.starts_with(expected), "{name} {value}: {said}");
    }
    for (kind, expected) in [
        ("at+jwt", "ok"),
        ("application/AT+JWT", "ok"),
        ("JWT", "ok"),
        ("logout+jwt", "401 no_access_token"),
        ("secevent+jwt", "401 no_access_token"),
    ] {
        let token = signer.token(&with(header(), "typ", json!(kind)), &good);
        assert!(
            present(&handler, &token).await.starts_with(expected),
            "{kind}"
        );
    }
    let crit = signer.token(&with(header(), "crit", json!(["x"])), &good);
    assert!(present(&handler, &crit).await.starts_with("401 "));
    // Named issuers stand in place of the discovered one, and need no metadata.
    let named = with(
        key,
        "claimValidator",
        json!({"issuer": {"validIssuers": ["https://a.test"]}}),
    );
    let handler = provider.handler(&named);
    provider.held.lock().down = true;
    let other = with(good.clone(), "iss", json!("https://a.test"));
    assert_eq!(
        present(&handler, &signer.token(&header(), &other)).await,
        "ok"
    );
    assert!(
        present(&handler, &signer.token(&header(), &good))
            .await
            .starts_with("401 other_issuer")
    );
}

#[tokio::test]
async fn scopes_and_audience_are_asked_for_by_name() {
    let provider = Provider::start().await;
    let active = json!({"active": true, "sub": "u"});
    for (config, claims, expected) in [
        (
            json!({"requiredScopes": ["a", "b"]}),
            json!({"scope": "b c a"}),
            "ok",
        ),
        (
            json!({"requiredScopes": ["a", "b"]}),
            json!({"scp": ["a", "b"]}),
            "ok",
        ),
        (
            json!({"requiredScopes": ["a", "b"]}),
            json!({"scope": "ab b"}),
            r#"403 no_scope {"error":"required scopes a, b not present"}"#,
        ),
        (
            json!({"requiredScopes": ["a"]}),
            json!({}),
            r#"403 no_scope {"error":"required scopes a not present"}"#,
        ),
        (
            json!({"claimValidator": {"audience": {"required": true}}}),
            json!({}),
            r#"403 no_audience {"error":"required audience claim not present"}"#,
        ),
        (
            json!({"claimValidator": {"audience": {"matchWithClientId": true}}}),
            json!({"aud": ["x", "gateways"]}),
            r#"403 other_audience {"error":"mismatched audience"}"#,
        ),
        (
            json!({"claimValidator": {"audience": {"matchWithClientId": true, "claim": "for"}}}),
            json!({"for": ["x", "gateway"]}),
            "ok",
        ),
    ] {
        let mut answer = active.clone();
        answer
            .as_object_mut()
            .unwrap()
            .extend(claims.as_object().unwrap().clone());
        provider.says(&answer);
        assert_eq!(
            present(&provider.handler(&config), "tok").await,
            expected,
            "{config}"
        );
    }
}

#[tokio::test]
async fn keys_of_the_provider_rotate_without_a_refused_request() {
    let (provider, old, new) = (Provider::start().await, Signer::new(), Signer::new());
    provider.held.lock().keys = vec![old.jwk("a")];
    let handler = provider.handler(&json!({"useJwks": true}));
    let claims = json!({"iss": provider.base(), "exp": NOW + 10});
    let old_token = old.token(&header(), &claims);
    assert_eq!(present(&handler, &old_token).await, "ok");
    let renamed = with(header(), "kid", json!("b"));
    provider.held.lock().keys = vec![new.jwk("b"), old.jwk("a")];
    assert_eq!(present(&handler, &new.token(&renamed, &claims)).await, "ok");
    provider.held.lock().down = true;
    assert_eq!(
        present(
            &handler,
            &old.token(&header(), &with(claims.clone(), "x", json!(1)))
        )
        .await,
        "ok"
    );
    assert!(
        present(&handler, &new.token(&header(), &claims))
            .await
            .starts_with("401 bad_signature")
    );
    // Nobody knows anything: that is not the caller's fault.
    let fresh = provider.handler(&json!({"useJwks": true}));
    assert!(present(&fresh, &old_token).await.starts_with("503 "));
}

#[tokio::test]
async fn introspection_is_asked_once_and_remembered_as_long_as_it_says() {
    let provider = Provider::start().await;
    let handler = provider.handler(&json!({}));
    let many = futures::future::join_all((0..50).map(|_| present(&handler, "tok"))).await;
    assert!(many.iter().all(|said| said == "ok"));
    assert_eq!(present(&handler, "tok").await, "ok");
    assert_eq!(provider.asked(), 1);
    let request = provider.held.lock().asked[0].clone();
    assert!(
        request.starts_with("POST /introspect HTTP/1.1\r\n"),
        "{request}"
    );
    let body = request.split("\r\n\r\n").nth(1).unwrap().to_owned();
    assert_eq!(body, "token=tok&token_type_hint=access_token");
    let basic = format!(
        "authorization: Basic {}",
        STANDARD.encode("gateway:s%2Fcret")
    );
    assert!(request.contains(&basic), "{request}");
    assert_eq!(present(&handler, "other").await, "ok");
    assert_eq!(provider.asked(), 2);
    // Without an end there is nothing to remember.
    provider.says(&json!({"active": true}));
    for asked in 3..5 {
        assert_eq!(present(&handler, "endless").await, "ok");
        assert_eq!(provider.asked(), asked);
    }
    let other_claim = provider.handler(&json!({"introspectionExpiryClaim": "expires_in"}));
    provider.says(&json!({"active": true, "expires_in": 60}));
    assert_eq!(present(&other_claim, "tok").await, "ok");
    assert_eq!(present(&other_claim, "tok").await, "ok");
    assert_eq!(provider.asked(), 5);
}

#[tokio::test]
async fn what_is_not_active_never_passes_and_is_not_remembered() {
    let provider = Provider::start().await;
    let handler = provider.handler(&json!({}));
    let mut asked = 0;
    for (said, reason) in [
        (r#"{"active":false,"exp":9999}"#, "inactive"),
        (r#"{"active":"true","exp":9999}"#, "inactive"),
        (r#"{"active":1,"exp":9999}"#, "inactive"),
        (r#"{"exp":9999}"#, "inactive"),
        (r#"{"active":true,"exp":1}"#, "expired"),
        (r#"{"active":true,"exp":"x"}"#, "bad_claims"),
        (r#"{"active":true,"nbf":99999}"#, "not_yet_valid"),
        ("[true]", "introspection_answer"),
        ("", "introspection_answer"),
    ] {
        provider.held.lock().introspection = said.to_owned();
        for _ in 0..2 {
            let verdict = present(&handler, "tok").await;
            asked += 1;
            assert_eq!(provider.asked(), asked, "{said}");
            assert!(verdict.contains(reason), "{said}: {verdict}");
        }
    }
    provider.says(&json!({"active": true, "exp": NOW + 100}));
    assert_eq!(present(&handler, "tok").await, "ok");
    provider.held.lock().down = true;
    // What is known counts while the provider is away; what is not does not pass.
    assert_eq!(present(&handler, "tok").await, "ok");
    let away = refused("introspection_status", "the token cannot be verified now");
    assert_eq!(present(&handler, "other").await, away);
}

#[tokio::test]
async fn headers_that_go_along_have_a_say() {
    let provider = Provider::start().await;
    let handler = provider.handler(&json!({"introspectionAddonHeaders": ["X-Tenant", "X-None"]}));
    for (tenant, asked) in [("one", 1), ("two", 2), ("one", 2)] {
        let headers = format!("\nauthorization: Bearer tok\nx-tenant: {tenant}\nx-other: o");
        assert_eq!(act(&handler, &headers).await.0, "ok");
        assert_eq!(provider.asked(), asked);
    }
    let request = provider.held.lock().asked[1].to_ascii_lowercase();
    assert!(
        request.contains("x-tenant: two") && !request.contains("x-other"),
        "{request}"
    );
}

#[tokio::test]
async fn a_segment_shares_what_is_known_and_others_do_not() {
    let provider = Provider::start().await;
    let segment = |name: &str| provider.handler(&json!({"cacheSegment": name}));
    let (first, second, other) = (segment("s"), segment("s"), segment("t"));
    for (handler, asked) in [
        (&first, 1),
        (&second, 1),
        (&other, 2),
        (&provider.handler(&json!({})), 3),
    ] {
        assert_eq!(present(handler, "tok").await, "ok");
        assert_eq!(provider.asked(), asked);
    }
}

#[tokio::test]
async fn a_claim_names_the_consumer() {
    let provider = Provider::start().await;
    let handler = provider.handler(&json!({"consumerClaim": "sub"}));
    provider.says(&json!({"active": true, "sub": "alice"}));
    assert_eq!(present(&handler, "tok").await, "ok");
    for sub in ["nobody", "", "../other/eve"] {
        provider.says(&json!({"active": true, "sub": sub}));
        assert!(present(&handler, "tok").await.starts_with("403 "), "{sub}");
    }
    provider.says(&json!({"active": true}));
    assert!(present(&handler, "tok").await.starts_with("403 "));
}

#[test]
fn keys_that_are_none_are_refused() {
    for pem in [
        "",
        "nonsense",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ] {
        assert!(public_key::read(pem, None).is_err(), "{pem}");
    }
    let pem = Signer::new().pem();
    assert_eq!(public_key::read(&pem, None).unwrap().len(), 1);
    assert!(public_key::read(&pem, Some(Algorithm::RS256)).is_err());
}
