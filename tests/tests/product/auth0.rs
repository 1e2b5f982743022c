//! The way to Auth0 that docs/jwt.md shows, executed: its manifests as they are written there.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::objects::{consumer, object, plugin, route, to_route, within_namespace};
use harness::{Reply, Rig, Upstream};
use rcgen::CertificateParams;
use serde_json::{Value, json};

use crate::documents::{blocks, chapter, document};

const ISSUER: &str = "https://TENANT.auth0.com/";

/// The manifests of the chapter, in their order.
fn manifests() -> Vec<String> {
    blocks(chapter(&document("jwt.md"), "### Auth0"), "yaml")
}

fn token(key: &KeyPair, issuer: &str) -> String {
    let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let header = part(&json!({"alg": "RS256", "typ": "JWT", "kid": "auth0"}));
    let message = format!(
        "{header}.{}",
        part(&json!({"iss": issuer, "sub": "auth0|1"}))
    );
    let mut signature = vec![0; key.public_modulus_len()];
    let random = SystemRandom::new();
    key.sign(
        &RSA_PKCS1_SHA256,
        &random,
        message.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What `https://TENANT.auth0.com/pem` answers.
fn certificate(key: &KeyPair) -> String {
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(key).unwrap();
    let key = rcgen::KeyPair::try_from(der.as_ref()).unwrap();
    let params = CertificateParams::new(vec!["TENANT.auth0.com".to_owned()]).unwrap();
    params.self_signed(&key).unwrap().pem()
}

/// What `https://TENANT.auth0.com/.well-known/jwks.json` answers.
fn key_set(key: &KeyPair) -> Value {
    // A sequence of two numbers (RFC 8017, appendix A.1.1), the first of 256 bytes behind a zero, the second of three.
    let public = key.public_key().as_ref();
    assert_eq!(public.len(), 270);
    let number = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
    json!({"keys": [{
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "auth0",
        "n": number(&public[9..265]),
        "e": number(&public[267..]),
    }]})
}

async fn check(key: &KeyPair, manifest: &str, more: Option<Value>) {
    let mut objects = vec![
        within_namespace(consumer("auth0-users", &json!({})), "shop"),
        route("r", "example.com", "echo"),
    ];
    let mut token_plugin = plugin("token", &[to_route("r")], "jwt", &json!({}));
    token_plugin["spec"]["consumers"] = json!({"from": "All"});
    objects.push(token_plugin);
    objects.extend(more);
    let rig = Rig::build()
        .objects(objects)
        .file("auth0.yaml", manifest)
        .start()
        .await;
    let ask = async |token: &str| {
        let bearer = format!("Bearer {token}");
        rig.get_with("example.com", "/", &[("authorization", &bearer)])
            .await
    };
    assert_eq!(ask(&token(key, ISSUER)).await.status, 200);
    let seen = rig.upstream.last();
    assert_eq!(seen.header("X-Consumer-Username"), Some("auth0-users"));
    assert_eq!(seen.header("X-Credential-Identifier"), Some(ISSUER));
    // Without the slash it is another issuer; another's signature is nobody's.
    let without = ask(&token(key, ISSUER.trim_end_matches('/'))).await;
    assert_eq!(without.message(), "No credentials found for given 'iss'");
    let stranger = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let forged = ask(&token(&stranger, ISSUER)).await;
    assert_eq!(
        (forged.status, &*forged.message()),
        (403, "Invalid signature")
    );
}

#[tokio::test]
async fn tokens_of_auth0_are_accepted_by_key_set_and_by_certificate() {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let [by_set, by_certificate] = &manifests()[..] else {
        panic!("two ways are shown")
    };
    let set = key_set(&key).to_string();
    let auth0 = Upstream::answering(move |_| Reply::ok(&set)).await;
    let local = format!("http://127.0.0.1:{}/", auth0.port());
    let url = "https://TENANT.auth0.com/.well-known/jwks.json";
    assert!(by_set.contains(url));
    check(&key, &by_set.replace(url, &local), None).await;
    let mut holder = object("v1", "ConfigMap", "auth0", &json!({}));
    holder["data"] = json!({"auth0.pem": certificate(&key)});
    let holder = within_namespace(holder, "shop");
    check(&key, by_certificate, Some(holder)).await;
}
