//! JWT: tokens signed by their issuers, keys that change, and what never happens.

use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use harness::objects::{consumer, object, plugin, route, secret, to_route};
use harness::{Answer, Rig};
use serde_json::{Value, json};

const SECRET: &str = "a shared secret that nobody must ever see";

fn credential(name: &str, jwt: &Value) -> Value {
    let spec = json!({"consumerRef": {"name": "alice"}, "jwt": jwt});
    object("postern.dev/v1alpha1", "Credential", name, &spec)
}

/// The Consumer alice, and a route "r" for "j.test" with the plugin.
fn protected(config: &Value) -> Vec<Value> {
    vec![
        consumer("alice", &json!({})),
        route("r", "j.test", "echo"),
        plugin("token", &[to_route("r")], "jwt", config),
    ]
}

fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

pub(crate) fn hs256(claims: &Value, secret: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    signed(&json!({"alg": "HS256", "typ": "JWT"}), claims, |message| {
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

/// An issuer that signs with ES256, and its public key as PEM.
fn issuer() -> (EcdsaKeyPair, String) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    (pair, pem)
}

fn es256(pair: &EcdsaKeyPair, claims: &Value) -> String {
    let sign = |message: &[u8]| {
        pair.sign(&SystemRandom::new(), message)
            .unwrap()
            .as_ref()
            .to_vec()
    };
    signed(&json!({"alg": "ES256"}), claims, sign)
}

async fn present(rig: &Rig, token: &str) -> Answer {
    rig.get_with(
        "j.test",
        "/",
        &[("authorization", &format!("Bearer {token}"))],
    )
    .await
}

#[tokio::test]
async fn a_good_token_is_forwarded_with_who_called() {
    let mut objects = protected(&json!({}));
    objects.extend([
        credential(
            "c",
            &json!({"key": "https://issuer.test/", "secretRef": {"name": "s", "key": "k"}}),
        ),
        secret("s", &[("k", SECRET)]),
    ]);
    let rig = Rig::with(objects).await;
    let token = hs256(&json!({"iss": "https://issuer.test/"}), SECRET);
    assert_eq!(present(&rig, &token).await.status, 200);
    let seen = rig.upstream.last();
    assert_eq!(seen.header("X-Consumer-Username"), Some("alice"));
    assert_eq!(
        seen.header("X-Credential-Identifier"),
        Some("https://issuer.test/")
    );
    assert_eq!(
        seen.header("Authorization"),
        Some(&*format!("Bearer {token}"))
    );

    let forged = present(&rig, &hs256(&json!({"iss": "https://issuer.test/"}), "x")).await;
    assert_eq!(
        (forged.status, &*forged.message()),
        (403, "Invalid signature")
    );
    let output = rig.postern.output().join("\n") + &rig.postern.metrics().await;
    assert!(
        !output.contains(SECRET) && !output.contains(&token),
        "secrets and tokens are not logged"
    );
    assert!(output.contains("bad_signature"));
}

#[tokio::test]
async fn a_key_that_changes_counts_at_once() {
    let (old, old_pem) = issuer();
    let (new, new_pem) = issuer();
    let with = |pem: &str| {
        let mut objects = protected(&json!({}));
        objects.extend([
            credential(
                "c",
                &json!({"key": "i", "algorithm": "ES256", "publicKeyConfigMapRef": {"name": "keys", "key": "i.pem"}}),
            ),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keys"}, "data": {"i.pem": pem}}),
        ]);
        objects
    };
    let claims = json!({"iss": "i"});
    let (by_old, by_new) = (es256(&old, &claims), es256(&new, &claims));
    let mut rig = Rig::with(with(&old_pem)).await;
    for _ in 0..2 {
        assert_eq!(present(&rig, &by_old).await.status, 200);
        assert_eq!(present(&rig, &by_new).await.status, 403);
    }
    rig.replace(with(&new_pem)).await;
    for _ in 0..2 {
        // Every worker has to forget what it has verified.
        for _ in 0..8 {
            assert_eq!(present(&rig, &by_old).await.status, 403);
        }
        assert_eq!(present(&rig, &by_new).await.status, 200);
    }
    rig.replace(protected(&json!({}))).await;
    let gone = present(&rig, &by_new).await;
    assert_eq!(
        (gone.status, &*gone.message()),
        (403, "No credentials found for given 'iss'")
    );
}

#[tokio::test]
async fn generated_values_are_in_the_state_folder() {
    let mut objects = protected(&json!({}));
    objects.push(credential("fresh", &json!({})));
    let rig = Rig::with(objects).await;
    let file = rig
        .postern
        .state()
        .path()
        .join("secrets/default/fresh.json");
    let made: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let value = |name: &str| made["stringData"][name].as_str().unwrap().to_owned();
    assert_eq!((value("key").len(), value("secret").len()), (32, 32));
    let token = hs256(&json!({"iss": value("key")}), &value("secret"));
    assert_eq!(present(&rig, &token).await.status, 200);
    assert_eq!(
        rig.upstream.last().header("X-Credential-Identifier"),
        Some(&*value("key"))
    );
}

/// A token may say where its key is; nobody goes there.
#[tokio::test]
async fn nothing_that_a_token_names_is_fetched() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let (pair, pem) = issuer();
    let (mallory, _) = issuer();
    let mut objects = protected(&json!({}));
    objects.push(credential(
        "c",
        &json!({"key": "i", "algorithm": "ES256", "publicKey": pem}),
    ));
    let rig = Rig::with(objects).await;
    let header =
        json!({"alg": "ES256", "jku": url, "x5u": url, "kid": format!("{url}\u{0}' OR 1=1 --")});
    for (signer, status) in [(&pair, 200), (&mallory, 403)] {
        let sign = |message: &[u8]| {
            signer
                .sign(&SystemRandom::new(), message)
                .unwrap()
                .as_ref()
                .to_vec()
        };
        let token = signed(&header, &json!({"iss": "i"}), sign);
        assert_eq!(present(&rig, &token).await.status, status);
    }
    let called = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await;
    assert!(called.is_err(), "somebody called");
}

#[tokio::test]
async fn grpc_clients_are_told_in_their_way() {
    let rig = Rig::with(protected(&json!({"claimsToVerify": ["exp"]}))).await;
    let headers = [
        ("content-type", "application/grpc"),
        ("authorization", "Bearer xx"),
    ];
    let answer = rig.get_with("j.test", "/", &headers).await;
    assert_eq!(
        (answer.status, answer.header("grpc-status")),
        (200, Some("16"))
    );
    assert_eq!(
        answer.header("grpc-message"),
        Some("Bad token; invalid JSON")
    );
}
