//! Configuration and request in, verdict out.

mod claims;
mod finding;
mod keys;
mod sets;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::directory::{Changes, Directory, KeyId, NewJwt};
use crate::stage::{self, NOW, Scene};

const MISSING: &str = "401 Unauthorized (no_token) <Bearer>";
const INVALID: &str = "<Bearer error=\"invalid_token\">";
const GUEST: &str = r#"{"anonymous": {"name": "guest"}, "claimsToVerify": ["exp"]}"#;
const HS256: &str = r#"{"alg":"HS256"}"#;
const ALICE: &str = r#"{"iss":"alice-iss"}"#;

/// A credential: its key, namespace and Consumer, and its time.
struct Issuer<'a> {
    name: &'a str,
    namespace: &'a str,
    consumer: &'a str,
    not_before: i64,
    expires_at: i64,
}

fn issuer<'a>(name: &'a str, namespace: &'a str, consumer: &'a str) -> Issuer<'a> {
    Issuer {
        name,
        namespace,
        consumer,
        not_before: 0,
        expires_at: 0,
    }
}

/// Puts a credential into a directory.
fn put(directory: &Directory, issuer: &Issuer<'_>, algorithm: Algorithm, material: Material<'_>) {
    let Issuer {
        name,
        namespace,
        consumer,
        not_before,
        expires_at,
    } = *issuer;
    let mut changes = Changes::default();
    let new = NewJwt {
        id: KeyId::of(&format!("Credential/{namespace}/{name}-{not_before}")),
        namespace,
        name,
        verifier: VerificationKey::new(algorithm, material).unwrap().into(),
        consumer: KeyId::of(&format!("Consumer/{namespace}/{consumer}")),
        not_before,
        expires_at,
    };
    directory.put_jwt(&mut changes, new);
    directory.apply(changes);
}

/// The cast of the stage, each with "NAME-secret" for HS256 under the key "NAME-iss"; and some for whom something is amiss.
fn directory() -> Directory {
    let directory = stage::directory();
    let secret = |issuer: Issuer<'_>, secret: &str| {
        put(
            &directory,
            &issuer,
            Algorithm::HS256,
            Material::Secret(secret.as_bytes()),
        );
    };
    secret(issuer("alice-iss", "shop", "alice"), "alice-secret");
    secret(
        Issuer {
            not_before: NOW,
            expires_at: NOW + 1,
            ..issuer("bob-iss", "shop", "bob")
        },
        "bob-secret",
    );
    secret(issuer("eve-iss", "other", "eve"), "eve-secret");
    secret(issuer("twin-iss", "shop", "bob"), "twin-secret");
    secret(issuer("twin-iss", "other", "eve"), "twin-secret");
    secret(
        Issuer {
            expires_at: NOW,
            ..issuer("old-iss", "shop", "alice")
        },
        "old-secret",
    );
    secret(
        Issuer {
            not_before: NOW + 1,
            ..issuer("future-iss", "shop", "alice")
        },
        "future-secret",
    );
    secret(issuer("orphan-iss", "shop", "nobody"), "orphan-secret");
    secret(issuer("https://auth.test/", "shop", "alice"), "url-secret");
    secret(
        issuer("base64-iss", "shop", "alice"),
        "YmxvYiBkYXRhIMO+w78=",
    );
    secret(issuer("url64-iss", "shop", "alice"), "YmxvYiBkYXRhIMO-w78");
    secret(issuer("no64-iss", "shop", "alice"), "%%%");
    secret(
        issuer("long-iss", "shop", "alice"),
        "a secret of thirty-two characters",
    );
    directory
}

fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

/// A token of this header and payload.
fn signed(header: &str, payload: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let signature = encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn hs256(header: &str, payload: &str, secret: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    signed(header, payload, |message| {
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

/// A token that is good with the secret of its issuer.
fn token(issuer: &str) -> String {
    let secret = format!("{}-secret", issuer.trim_end_matches("-iss"));
    hs256(
        HS256,
        &format!(r#"{{"iss":"{issuer}"}}"#),
        secret.as_bytes(),
    )
}

async fn judge(directory: &Directory, config: &str, request: &str) -> String {
    let handler = stage::handler(directory, "jwt", config, &["shop"]).unwrap();
    let mut scene = Scene::read(request);
    let before = scene.write();
    let verdict = scene.act(&handler, directory).await;
    assert_eq!(scene.write(), before, "the request is passed on as it came");
    verdict
}

/// The verdict on a token in the usual header.
async fn verdict(directory: &Directory, config: &str, token: &str) -> String {
    judge(
        directory,
        config,
        &format!("GET /a\nauthorization: Bearer {token}"),
    )
    .await
}

#[tokio::test]
async fn says_why_a_token_cannot_be_judged() {
    let directory = directory();
    let good = token("alice-iss");
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = head.split_once('.').unwrap();
    let bad = |what: &str| format!("401 Bad token; invalid {what} (bad_token) {INVALID}");
    let iss = |what: &str| format!("401 {what} 'iss' in claims (bad_key_claim) {INVALID}");
    let alice = |header: &str| hs256(header, ALICE, b"alice-secret");
    let payload_of = |payload: &str| hs256(HS256, payload, b"alice-secret");
    for (token, verdict) in [
        (good.clone(), "ok: alice".to_owned()),
        ("xxx".to_owned(), bad("JSON")),
        (format!("{header}.{payload}"), bad("JSON")),
        (format!("{good}.x"), bad("JSON")),
        (format!("{header}!.{payload}.{signature}"), bad("JSON")),
        (format!("{header}==.{payload}.{signature}"), bad("JSON")),
        (hs256("[]", ALICE, b"alice-secret"), bad("JSON")),
        (hs256("nope", ALICE, b"alice-secret"), bad("JSON")),
        (payload_of("5"), bad("JSON")),
        (payload_of(r#"{"iss":"alice-iss"} x"#), bad("JSON")),
        (
            payload_of(r#"{"iss":"alice-iss","iss":"bob-iss"}"#),
            bad("JSON"),
        ),
        (payload_of(r#"{"exp":1e999}"#), bad("JSON")),
        (alice(r#"{"alg":"HS256","alg":"none"}"#), bad("JSON")),
        (alice("{}"), bad("alg")),
        (alice(r#"{"alg":null}"#), bad("alg")),
        (alice(r#"{"alg":["HS256"]}"#), bad("alg")),
        (alice(r#"{"alg":"hs256"}"#), bad("alg")),
        (alice(r#"{"alg":"none"}"#), bad("alg")),
        (alice(r#"{"alg":"nOnE"}"#), bad("alg")),
        (
            format!("{}.{payload}.", encode(r#"{"alg":"none"}"#)),
            bad("alg"),
        ),
        (
            alice(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#),
            bad("crit"),
        ),
        (alice(r#"{"alg":"HS256","crit":[]}"#), bad("crit")),
        (format!("{head}.{signature}="), bad("signature")),
        (format!("{head}.{signature}!"), bad("signature")),
        (payload_of("{}"), iss("No mandatory")),
        (payload_of(r#"{"iss":""}"#), iss("Invalid")),
        (payload_of(r#"{"iss":7}"#), iss("Invalid")),
        (payload_of(r#"{"iss":null}"#), iss("Invalid")),
        (payload_of(r#"{"iss":["alice-iss"]}"#), iss("Invalid")),
        (payload_of(r#"{"iss":{"a":[[]]}}"#), iss("Invalid")),
    ] {
        assert_eq!(
            self::verdict(&directory, "{}", &token).await,
            verdict,
            "{token}"
        );
    }
}

#[tokio::test]
async fn says_why_a_token_does_not_hold() {
    let directory = directory();
    let good = token("alice-iss");
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let unknown = |reason: &str| format!("403 No credentials found for given 'iss' ({reason})");
    let alice = |header: &str| hs256(header, ALICE, b"alice-secret");
    let payload_of = |payload: &str| hs256(HS256, payload, b"alice-secret");
    for (token, verdict) in [
        (payload_of(r#"{"iss":"nobody"}"#), unknown("unknown_key")),
        (payload_of(r#"{"iss":"Alice-iss"}"#), unknown("unknown_key")),
        (payload_of(r#"{"iss":"eve-iss"}"#), unknown("unknown_key")),
        (token("old-iss"), unknown("out_of_time")),
        (token("future-iss"), unknown("out_of_time")),
        (token("orphan-iss"), unknown("no_consumer")),
        (
            alice(r#"{"alg":"HS384"}"#),
            "403 Invalid algorithm (wrong_algorithm)".to_owned(),
        ),
        (
            alice(r#"{"alg":"RS256"}"#),
            "403 Invalid algorithm (wrong_algorithm)".to_owned(),
        ),
        (
            format!("{head}."),
            "403 Invalid signature (bad_signature)".to_owned(),
        ),
        (
            hs256(HS256, ALICE, b"bob-secret"),
            "403 Invalid signature (bad_signature)".to_owned(),
        ),
        (
            format!(
                "{header}.{}.{signature}",
                encode(r#"{"iss":"alice-iss","admin":true}"#)
            ),
            "403 Invalid signature (bad_signature)".to_owned(),
        ),
        // Nothing that the token says about keys counts.
        (
            alice(
                r#"{"alg":"HS256","jku":"http://127.0.0.1/","x5u":"http://127.0.0.1/","jwk":{"kty":"oct","k":""},"kid":"../../a"}"#,
            ),
            "ok: alice".to_owned(),
        ),
    ] {
        assert_eq!(
            self::verdict(&directory, "{}", &token).await,
            verdict,
            "{token}"
        );
    }
}

/// A last character of base64 with bits that mean nothing is another text for the same signature.
#[tokio::test]
async fn every_token_has_one_spelling() {
    let directory = directory();
    let good = token("alice-iss");
    let last = good.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut refused = 0;
    for other in alphabet.chars().filter(|other| *other != last) {
        let token = format!("{}{other}", good.strip_suffix(last).unwrap());
        let verdict = verdict(&directory, "{}", &token).await;
        assert!(!verdict.starts_with("ok"), "{token}");
        refused += usize::from(verdict.starts_with("401 Bad token; invalid signature"));
    }
    assert!(refused >= 48);
}

#[tokio::test]
async fn the_configured_status_is_for_tokens_that_do_not_hold() {
    let directory = directory();
    let config = r#"{"invalidTokenStatus": 401, "realm": "a \"shop\"", "claimsToVerify": ["exp"], "maximumExpiration": 60}"#;
    let realm = r#"<Bearer realm="a \"shop\"", error="invalid_token">"#;
    let payload = |payload: &str| hs256(HS256, payload, b"alice-secret");
    for (token, verdict) in [
        ("xxx".to_owned(), "401 Bad token; invalid JSON (bad_token)"),
        (
            hs256(HS256, ALICE, b"x"),
            "401 Invalid signature (bad_signature)",
        ),
        (
            payload(r#"{"iss":"x"}"#),
            "401 No credentials found for given 'iss' (unknown_key)",
        ),
        (
            payload(r#"{"iss":"alice-iss","exp":3000}"#),
            "401 exp=exceeds maximum allowed expiration (too_long_lived)",
        ),
        (
            payload(r#"{"iss":"alice-iss","exp":1}"#),
            "401 exp=token expired (expired)",
        ),
    ] {
        assert_eq!(
            self::verdict(&directory, config, &token).await,
            format!("{verdict} {realm}")
        );
    }
    let none = judge(&directory, config, "GET /a").await;
    assert_eq!(
        none,
        r#"401 Unauthorized (no_token) <Bearer realm="a \"shop\"">"#
    );
}

#[tokio::test]
async fn looks_into_its_namespaces_only() {
    let directory = directory();
    let both = stage::handler(&directory, "jwt", "{}", &["other", "shop"]).unwrap();
    let own = stage::handler(&directory, "jwt", "{}", &["shop"]).unwrap();
    for (handler, issuer, verdict) in [
        (&own, "bob-iss", "ok: bob"),
        (&own, "twin-iss", "ok: bob"),
        (
            &own,
            "eve-iss",
            "403 No credentials found for given 'iss' (unknown_key)",
        ),
        (&both, "eve-iss", "ok: eve"),
        (
            &both,
            "twin-iss",
            "403 No credentials found for given 'iss' (ambiguous_key)",
        ),
    ] {
        let mut scene = Scene::read(&format!("GET /a\nauthorization: Bearer {}", token(issuer)));
        assert_eq!(scene.act(handler, &directory).await, verdict, "{issuer}");
    }
}

#[tokio::test]
async fn tells_the_upstream_the_key() {
    let directory = directory();
    let handler = stage::handler(&directory, "jwt", "{}", &["shop"]).unwrap();
    let token = hs256(HS256, r#"{"iss":"https:\/\/auth.test\/"}"#, b"url-secret");
    let mut scene = Scene::read(&format!("GET /a\nauthorization: Bearer {token}"));
    assert_eq!(scene.act(&handler, &directory).await, "ok: alice");
    let credential = scene.caller.credential.unwrap();
    assert_eq!(credential.header().unwrap(), "https://auth.test/");
    assert_eq!(scene.caller.consumer.unwrap().id(), "id-of-alice");
}

#[tokio::test]
async fn falls_back_to_the_anonymous_consumer() {
    let directory = directory();
    let ghost = r#"{"anonymous": {"name": "ghost"}}"#;
    let missing =
        "500 anonymous consumer ghost is configured but doesn't exist (anonymous_missing)";
    let good = hs256(HS256, r#"{"iss":"alice-iss","exp":2001}"#, b"alice-secret");
    let expired = hs256(HS256, r#"{"iss":"alice-iss","exp":2000}"#, b"alice-secret");
    let with = |token: &str| format!("GET /a\nauthorization: Bearer {token}");
    for (config, request, verdict) in [
        (GUEST, "GET /a".to_owned(), "anonymous: guest (anonymous)"),
        (GUEST, with(&good), "ok: alice"),
        (GUEST, with("xx"), "anonymous_bad_token: guest (anonymous)"),
        (
            GUEST,
            with(&expired),
            "anonymous_expired: guest (anonymous)",
        ),
        (
            GUEST,
            with(&token("alice-iss")),
            "anonymous_bad_claims: guest (anonymous)",
        ),
        (
            GUEST,
            with(&token("old-iss")),
            "anonymous_out_of_time: guest (anonymous)",
        ),
        (
            GUEST,
            with(&token("orphan-iss")),
            "anonymous_bad_claims: guest (anonymous)",
        ),
        (
            GUEST,
            with(&hs256(HS256, ALICE, b"x")),
            "anonymous_bad_signature: guest (anonymous)",
        ),
        (
            GUEST,
            format!("GET /a?jwt=zz\nauthorization: Bearer {good}"),
            "anonymous_several_tokens: guest (anonymous)",
        ),
        (ghost, "GET /a".to_owned(), missing),
        (ghost, with("xx"), missing),
        (ghost, with(&good), "ok: alice"),
    ] {
        assert_eq!(
            judge(&directory, config, &request).await,
            verdict,
            "{config}\n{request}"
        );
    }
}

/// Beside Key Auth: without `anonymous` both must pass and the last decides, with it the first that passes.
#[tokio::test]
async fn joins_with_other_plugins() {
    let directory = directory();
    let handler =
        |kind: &str, config: &str| stage::handler(&directory, kind, config, &["shop"]).unwrap();
    let guest = r#"{"anonymous": {"name": "guest"}}"#;
    let bearer = format!("authorization: Bearer {}", token("alice-iss"));
    let no_key = "401 No API key found in request (no_key) <Key>";
    let key = "apikey: bob-key";
    for (jwt, key_auth, request, verdict) in [
        ("{}", "{}", format!("GET /a\n{bearer}\n{key}"), "ok: bob"),
        ("{}", "{}", format!("GET /a\n{bearer}"), no_key),
        ("{}", "{}", format!("GET /a\n{key}"), MISSING),
        (
            guest,
            guest,
            format!("GET /a\n{bearer}\n{key}"),
            "already_authenticated: alice",
        ),
        (guest, guest, format!("GET /a\n{key}"), "ok: bob"),
        (
            guest,
            guest,
            format!("GET /a\n{bearer}"),
            "already_authenticated: alice",
        ),
        (
            guest,
            guest,
            "GET /a".to_owned(),
            "anonymous: guest (anonymous)",
        ),
        (guest, "{}", format!("GET /a\n{bearer}"), no_key),
        (guest, "{}", format!("GET /a\n{key}"), "ok: bob"),
        (
            "{}",
            guest,
            format!("GET /a\n{bearer}"),
            "already_authenticated: alice",
        ),
        ("{}", guest, format!("GET /a\n{key}"), MISSING),
    ] {
        let mut scene = Scene::read(&request);
        let mut last = scene.act(&handler("jwt", jwt), &directory).await;
        if !last.starts_with(|first: char| first.is_ascii_digit()) {
            last = scene.act(&handler("keyAuth", key_auth), &directory).await;
        }
        assert_eq!(last, verdict, "{jwt} {key_auth}\n{request}");
    }
}

#[tokio::test]
async fn lets_preflight_pass_where_it_may() {
    let directory = directory();
    let off = r#"{"runOnPreflight": false}"#;
    for (config, request, verdict) in [
        ("{}", "OPTIONS /a", MISSING),
        (off, "OPTIONS /a", "preflight: nobody"),
        (
            off,
            "OPTIONS /a\nauthorization: Bearer xx",
            "preflight: nobody",
        ),
        (off, "GET /a", MISSING),
    ] {
        assert_eq!(
            judge(&directory, config, request).await,
            verdict,
            "{config} {request}"
        );
    }
}

#[test]
fn refuses_configurations_that_cannot_be_right() {
    let directory = Directory::default();
    for (config, message) in [
        (
            r#"{"uriParamNames": [], "headerNames": []}"#,
            "jwt searches nowhere",
        ),
        (
            r#"{"uriParamNames": [""]}"#,
            "uriParamNames[0]: must not be empty",
        ),
        (
            r#"{"headerNames": ["a b"]}"#,
            "headerNames: may hold only characters of header names",
        ),
        (
            r#"{"cookieNames": ["a=b"]}"#,
            "cookieNames: may hold only characters of header names",
        ),
        (r#"{"keyClaimName": ""}"#, "keyClaimName: must not be empty"),
        (
            r#"{"claimsToVerify": ["exp", "iat"]}"#,
            "jwt: unknown variant `iat`, expected `exp` or `nbf`",
        ),
        (
            r#"{"claimsToVerify": ["exp", "nbf", "exp"]}"#,
            "claimsToVerify: must have at most 2 items",
        ),
        (
            r#"{"maximumExpiration": 300}"#,
            "maximumExpiration needs exp in claimsToVerify",
        ),
        (
            r#"{"maximumExpiration": 300, "claimsToVerify": ["nbf"]}"#,
            "maximumExpiration needs exp in claimsToVerify",
        ),
        (
            r#"{"maximumExpiration": 31536001, "claimsToVerify": ["exp"]}"#,
            "maximumExpiration: must be between 0 and",
        ),
        (
            r#"{"clockSkewSeconds": 3601}"#,
            "clockSkewSeconds: must be between 0 and 3600",
        ),
        (
            r#"{"invalidTokenStatus": 400}"#,
            "invalidTokenStatus: must be 401 or 403",
        ),
        (
            r#"{"realm": "a\nb"}"#,
            "realm: may hold only printable ASCII",
        ),
        (
            r#"{"anonymous": {"name": ""}}"#,
            "anonymous.name: must not be empty",
        ),
        (
            r#"{"jwksUri": "https://a"}"#,
            "jwt: unknown field `jwksUri`",
        ),
    ] {
        let refused = stage::handler(&directory, "jwt", config, &["shop"]).unwrap_err();
        assert!(refused.starts_with(message), "{config}: {refused}");
    }
    assert_eq!(Config::default().check(), []);
}

#[test]
fn invariants_hold_for_the_corpus_of_the_fuzzers() {
    for (name, holds) in [
        ("jwt", invariants::token as fn(&[u8])),
        ("cookies", invariants::cookies as fn(&[u8])),
    ] {
        let folder = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut seeds = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            holds(&std::fs::read(file.unwrap().path()).unwrap());
            seeds += 1;
        }
        assert!(seeds > 5, "{name}");
    }
}

proptest::proptest! {
    #[test]
    fn invariants_hold_for_anything(
        header in r#"\{"alg":"(HS256|ES256|none)"(,"(kid|iss|exp|crit|x)":("[a-z\\\\u0]{0,6}"|[0-9e.-]{1,4}|null|\[\]))?\}"#,
        payload in r#"\{("(iss|exp|nbf|x)":("[a-z ]{0,4}"|-?[0-9]{1,20}|\{\}|true))?\}"#,
        tail in r"\.[A-Za-z0-9_=-]{0,6}",
        cookies in r#"[a-c=;" \t]{0,40}"#,
    ) {
        invariants::token(format!("{}.{}{tail}", encode(header), encode(payload)).as_bytes());
        invariants::cookies(cookies.as_bytes());
    }
}
