//! JWT with key sets: an issuer that is called, rotates its keys, and is away for a while.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::objects::{consumer, object, plugin, route, to_route};
use harness::{Answer, Reply, Rig, Upstream};
use parking_lot::Mutex;
use serde_json::{Value, json};

struct Signer {
    kid: &'static str,
    pair: EcdsaKeyPair,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { kid, pair }
    }

    fn jwk(&self) -> Value {
        let point = &self.pair.public_key().as_ref()[1..];
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "kid": self.kid, "use": "sig", "x": encode(&point[..32]), "y": encode(&point[32..])})
    }

    fn token(&self) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let header = encode(&json!({"alg": "ES256", "kid": self.kid}));
        let message = format!("{header}.{}", encode(&json!({"iss": "https://idp.test"})));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), message.as_bytes())
            .unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// An issuer that publishes keys; none: it is out of order.
struct Issuer {
    server: Upstream,
    keys: Arc<Mutex<Option<Vec<Value>>>>,
}

impl Issuer {
    async fn start(signers: &[&Signer]) -> Self {
        let keys = Arc::new(Mutex::new(None));
        let published = Arc::clone(&keys);
        let server = Upstream::answering(move |_| match &*published.lock() {
            Some(keys) => Reply::ok(&json!({ "keys": keys }).to_string()),
            None => Reply::status(500, "Internal Server Error", &[], "out of order"),
        })
        .await;
        let issuer = Self { server, keys };
        issuer.publish(signers);
        issuer
    }

    fn publish(&self, signers: &[&Signer]) {
        *self.keys.lock() = Some(signers.iter().map(|signer| signer.jwk()).collect());
    }

    /// The Consumer alice of this issuer, and a route "r" for "j.test" that needs a token.
    fn objects(&self, host: &str) -> Vec<Value> {
        let url = format!("http://{host}:{}/keys?canary=1", self.server.port());
        let jwt = json!({"key": "https://idp.test", "algorithm": "ES256", "jwksUri": url});
        let spec = json!({"consumerRef": {"name": "alice"}, "jwt": jwt});
        vec![
            consumer("alice", &json!({})),
            object("postern.dev/v1alpha1", "Credential", "idp", &spec),
            route("r", "j.test", "echo"),
            plugin("token", &[to_route("r")], "jwt", &json!({})),
        ]
    }
}

async fn present(rig: &Rig, signer: &Signer) -> Answer {
    let token = format!("Bearer {}", signer.token());
    rig.get_with("j.test", "/", &[("authorization", &token)])
        .await
}

#[tokio::test]
async fn keys_rotate_without_a_refused_request_and_an_outage_is_bridged() {
    let (old, new, stranger) = (
        Signer::new("old"),
        Signer::new("new"),
        Signer::new("stranger"),
    );
    let issuer = Issuer::start(&[&old]).await;
    let rig = Rig::with(issuer.objects("127.0.0.1")).await;
    assert_eq!(present(&rig, &old).await.status, 200);
    assert_eq!(
        rig.upstream.last().header("X-Credential-Identifier"),
        Some("https://idp.test")
    );
    assert_eq!(issuer.server.count(), 1);

    issuer.publish(&[&new, &old]);
    let all = futures::future::join_all((0..50).map(|_| present(&rig, &new))).await;
    assert!(all.iter().all(|answer| answer.status == 200));
    assert_eq!(present(&rig, &old).await.status, 200);
    assert_eq!(issuer.server.count(), 2, "fifty at once are one fetch");

    *issuer.keys.lock() = None;
    for signer in [&old, &new] {
        assert_eq!(present(&rig, signer).await.status, 200);
    }
    let refused = present(&rig, &stranger).await;
    assert_eq!(
        (refused.status, &*refused.message()),
        (403, "No key found for given 'kid'")
    );
    let output = rig.postern.output().join("\n") + &rig.postern.metrics().await;
    assert!(output.contains("unknown_kid"));
    assert!(
        !output.contains("canary"),
        "the query of a URL is not logged"
    );
}

#[tokio::test]
async fn what_is_denied_is_not_called() {
    let signer = Signer::new("a");
    let issuer = Issuer::start(&[&signer]).await;
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let rig = Rig::build()
            .objects(issuer.objects(host))
            .flag("--outbound-deny", "127.0.0.0/8,::1")
            .start()
            .await;
        assert_eq!(present(&rig, &signer).await.status, 503, "{host}");
        rig.postern
            .log_line("why", |line| {
                line.contains("denied") && line.contains("key set")
            })
            .await;
    }
    assert_eq!(issuer.server.count(), 0);
}
