//! Credentials that verify tokens.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::jwt::Verification;

use super::*;

const RSA: &str = include_str!("keys/big.pem");
const RSA_1024: &str = include_str!("keys/small.pem");
const CERTIFICATE: &str = include_str!("keys/cert.pem");
const P256: &str = include_str!("keys/p256.pem");
const P384: &str = include_str!("keys/p384.pem");
const P521: &str = include_str!("keys/p521.pem");
const ED25519: &str = include_str!("keys/ed.pem");
/// The example key of RFC 8037.
const PRIVATE: &str = include_str!("keys/private.pem");

fn shop_with(more: &str) -> World {
    World::of(&format!("{SHOP}---{more}"))
}

/// A Credential of Alice with this block.
fn credential(name: &str, jwt: &Value) -> String {
    let spec = json!({"consumerRef": {"name": "alice"}, "jwt": jwt});
    format!(
        "
apiVersion: postern.dev/v1alpha1
kind: Credential
metadata: {{name: {name}, namespace: shop}}
spec: {spec}
"
    )
}

fn holder(kind: &str, data: &str, entries: &Value) -> String {
    format!(
        "\napiVersion: v1\nkind: {kind}\nmetadata: {{name: held, namespace: shop}}\n{data}: {entries}\n"
    )
}

fn jwt_of(world: &World, name: &str) -> Option<proto::Jwt> {
    match world
        .credential(&format!("Credential/shop/{name}"))?
        .proof?
    {
        proto::credential::Proof::Jwt(jwt) => Some(jwt),
        _ => panic!("{name} is of another kind"),
    }
}

fn der(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(text).unwrap()
}

#[test]
fn public_keys_come_from_everywhere() {
    let expected = Some(Verification::PublicKey(der(RSA).into()));
    let (field, secret, config_map) = ("publicKey", "publicKeySecretRef", "publicKeyConfigMapRef");
    for (field, value, holder) in [
        (field, json!(RSA), String::new()),
        (field, json!(CERTIFICATE), String::new()),
        (
            field,
            json!(format!("a comment\n{CERTIFICATE}{CERTIFICATE}")),
            String::new(),
        ),
        (
            secret,
            json!({"name": "held", "key": "k"}),
            holder("Secret", "stringData", &json!({"k": RSA})),
        ),
        (
            config_map,
            json!({"name": "held", "key": "k"}),
            holder("ConfigMap", "data", &json!({"k": CERTIFICATE, "x": "y"})),
        ),
    ] {
        let block = json!({"key": "https://auth.test/", "algorithm": "RS256", field: value});
        let world = shop_with(&format!("{}---{holder}", credential("auth", &block)));
        let jwt =
            jwt_of(&world, "auth").unwrap_or_else(|| panic!("{field}: {:?}", world.diagnostics()));
        assert_eq!(
            (jwt.key.as_str(), jwt.algorithm.as_str()),
            ("https://auth.test/", "RS256")
        );
        assert!(jwt.verification == expected, "{field}");
        assert_eq!(world.diagnostics(), [""; 0]);
        let programmed = world.condition(Kind::Credential, "auth", "Programmed");
        assert_eq!(programmed, r#"When["Credential/shop/auth"]/Programmed"#);
        assert_eq!(
            world.field(Kind::Consumer, "alice", "credentials"),
            json!(2)
        );
    }
}

#[test]
fn keys_are_judged_by_their_algorithm() {
    for (algorithm, key) in [
        ("RS512", RSA),
        ("PS256", RSA),
        ("ES256", P256),
        ("ES384", P384),
        ("EdDSA", ED25519),
    ] {
        let block = json!({"key": "k", "algorithm": algorithm, "publicKey": key});
        let world = shop_with(&credential("auth", &block));
        assert!(
            jwt_of(&world, "auth").is_some(),
            "{algorithm}: {:?}",
            world.diagnostics()
        );
    }
}

#[test]
fn keys_that_do_not_fit_are_refused() {
    let broken = RSA.replace("MII", "MIJ");
    for (algorithm, key, problem) in [
        (
            "RS256",
            RSA_1024,
            "the RSA key has 1024 bits; it must have 2048 to 8192",
        ),
        (
            "PS512",
            P256,
            "PS512 needs an RSA key, this is a key on the curve P-256",
        ),
        (
            "ES256",
            P384,
            "ES256 needs a key on the curve P-256, this is a key on the curve P-384",
        ),
        (
            "ES384",
            P521,
            "ES384 needs a key on the curve P-384, this is a key on another elliptic curve",
        ),
        (
            "ES256",
            RSA,
            "ES256 needs a key on the curve P-256, this is an RSA key",
        ),
        (
            "EdDSA",
            P256,
            "EdDSA needs an Ed25519 key, this is a key on the curve P-256",
        ),
        (
            "RS256",
            ED25519,
            "RS256 needs an RSA key, this is an Ed25519 key",
        ),
        (
            "EdDSA",
            PRIVATE,
            "holds a private key, which belongs to the issuer alone",
        ),
        (
            "RS256",
            "nonsense",
            "holds no public key; give one PEM block",
        ),
        (
            "RS256",
            "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----\n",
            "is not PEM that can be read",
        ),
        ("RS256", &broken, "the public key cannot be read"),
        ("RS256", &format!("{RSA}{RSA}"), "holds several keys"),
        (
            "RS256",
            &format!("{RSA}{CERTIFICATE}"),
            "holds several keys",
        ),
    ] {
        let block = json!({"key": "k", "algorithm": algorithm, "publicKey": key});
        let world = shop_with(&credential("auth", &block));
        assert!(jwt_of(&world, "auth").is_none(), "{problem}");
        world.assert_diagnostic(&[
            "Error Credential shop/auth InvalidField spec.jwt.publicKey: ",
            problem,
        ]);
        let accepted = world.condition(Kind::Credential, "auth", "Accepted");
        assert!(
            accepted.starts_with("False/Invalid: spec.jwt.publicKey: "),
            "{accepted}"
        );
        assert!(accepted.contains(problem), "{accepted}");
    }
}

#[test]
fn what_is_referred_to_may_come_later_and_change() {
    let reference = json!({"name": "held", "key": "k"});
    let block = json!({"key": "k", "algorithm": "ES256", "publicKeyConfigMapRef": reference});
    let mut world = shop_with(&credential("auth", &block));
    let resolved = |world: &World| world.condition(Kind::Credential, "auth", "ResolvedRefs");
    assert_eq!(
        resolved(&world),
        "False/ConfigMapNotFound: ConfigMap shop/held does not exist"
    );
    for (data, problem) in [
        (json!({}), "ConfigMap shop/held has no entry k"),
        (
            json!({"k": "text"}),
            "ConfigMap shop/held holds no PEM in its entry k",
        ),
        (
            json!({"k": 7}),
            "ConfigMap shop/held cannot be read: data.k must be a string; put the value into quotes",
        ),
    ] {
        world.apply(&holder("ConfigMap", "data", &data));
        assert_eq!(
            resolved(&world),
            format!("False/ConfigMapNotFound: {problem}")
        );
    }
    world.apply(&holder("ConfigMap", "data", &json!({"k": P256})));
    assert_eq!(resolved(&world), "True/ResolvedRefs");
    assert!(
        jwt_of(&world, "auth").unwrap().verification
            == Some(Verification::PublicKey(der(P256).into()))
    );
    world.delete(Kind::ConfigMap, "shop", "held");
    assert!(jwt_of(&world, "auth").is_none());
}

#[test]
fn key_sets_are_named_by_their_url() {
    let with = |algorithm: &str, url: &str| {
        let block = json!({"key": "k", "algorithm": algorithm, "jwksUri": url});
        shop_with(&credential("auth", &block))
    };
    for (url, warning) in [
        ("https://idp.test/keys?a=b", None),
        ("http://127.0.0.1:8080/keys", None),
        (
            "http://idp.test/keys",
            Some("the key set is fetched without TLS"),
        ),
    ] {
        let world = with("ES384", url);
        let jwt = jwt_of(&world, "auth").unwrap();
        assert!(jwt.verification == Some(Verification::JwksUri(url.to_owned())));
        assert_eq!(jwt.algorithm, "ES384");
        match warning {
            None => assert_eq!(world.diagnostics(), [""; 0]),
            Some(warning) => world.assert_diagnostic(&["Warning Credential shop/auth", warning]),
        }
    }
    for url in [
        "idp.test",
        "ftp://idp.test/",
        "https://user:secret@idp.test/",
        "https://idp.test/#a",
    ] {
        let world = with("RS256", url);
        assert!(jwt_of(&world, "auth").is_none(), "{url}");
        world.assert_diagnostic(&["shop/auth", "jwksUri", "must be an absolute URL"]);
    }
    let world = with("HS256", "https://idp.test/keys");
    assert!(jwt_of(&world, "auth").is_none());
    world.assert_diagnostic(&["shop/auth", "exactly one of publicKey"]);
}

#[test]
fn short_secrets_work_with_a_warning() {
    let block = |algorithm: &str| json!({"key": "k", "algorithm": algorithm, "secretRef": {"name": "held", "key": "s"}});
    let with = |algorithm: &str, secret: &str| {
        let secret = holder("Secret", "stringData", &json!({"s": secret}));
        shop_with(&format!(
            "{}---{secret}",
            credential("auth", &block(algorithm))
        ))
    };
    let world = with("HS256", "blob data\n");
    let jwt = jwt_of(&world, "auth").unwrap();
    assert!(jwt.verification == Some(Verification::Secret("blob data".into())));
    let warning = "the shared secret has 9 bytes; HS256 should have at least 32";
    world.assert_diagnostic(&["Warning Credential shop/auth", warning]);
    let accepted = world.condition(Kind::Credential, "auth", "Accepted");
    assert!(
        accepted.starts_with(&format!("True/Accepted: {warning}")),
        "{accepted}"
    );
    assert!(!format!("{:?} {:?} {:?}", world.last, world.statuses, jwt).contains("blob data"));
    let long = "x".repeat(64);
    assert_eq!(with("HS512", &long).diagnostics(), [""; 0]);
    with("HS512", &"x".repeat(63))
        .assert_diagnostic(&["has 63 bytes; HS512 should have at least 64"]);
}

/// A line break at the end of a text is of the editor, at the end of bytes it may be one of them.
#[test]
fn secrets_of_bytes_stay_as_they_are() {
    let block = json!({"key": "k", "secretRef": {"name": "held", "key": "s"}});
    let secret = STANDARD.encode(b"\xff\n");
    let secret = holder("Secret", "data", &json!({"s": secret}));
    let world = shop_with(&format!("{}---{secret}", credential("auth", &block)));
    assert!(
        jwt_of(&world, "auth").unwrap().verification
            == Some(Verification::Secret(b"\xff\n"[..].into()))
    );
}

#[test]
fn key_and_secret_are_generated_where_there_are_none() {
    let reference = json!({"name": "held", "key": "s"});
    for (block, entries) in [
        (json!({}), &["key", "secret"][..]),
        (json!({"key": "k"}), &["secret"]),
        (json!({"secretRef": reference}), &["key"]),
        (json!({"algorithm": "ES256", "publicKey": P256}), &["key"]),
        (
            json!({"algorithm": "ES256", "publicKey": P256, "key": "k"}),
            &[],
        ),
    ] {
        let world = shop_with(&credential("fresh", &block));
        let wanted: Vec<_> = world
            .last
            .wanted_secrets
            .iter()
            .flat_map(|wanted| wanted.entries.clone())
            .collect();
        assert_eq!(wanted, entries, "{block}");
    }
    let mut world = shop_with(&credential("fresh", &json!({})));
    let resolved = world.condition(Kind::Credential, "fresh", "ResolvedRefs");
    assert_eq!(
        resolved,
        "False/Pending: a key and secret is being generated into Secret shop/fresh"
    );
    let uid = world.statuses[&ObjectRef::new(Kind::Credential, "shop", "fresh")]
        .uid
        .to_string();
    let secret = |data: &Value, uid: &str| {
        format!(
            "
apiVersion: v1
kind: Secret
metadata: {{name: fresh, namespace: shop, ownerReferences: [{{apiVersion: a, kind: b, name: fresh, uid: '{uid}'}}]}}
stringData: {data}
"
        )
    };
    // An entry that is missing in the Credential's own Secret is asked for.
    world.apply(&secret(&json!({"secret": "x".repeat(32)}), &uid));
    assert_eq!(world.last.wanted_secrets[0].entries, ["key"]);
    world.apply(&secret(
        &json!({"key": "generated", "secret": "x".repeat(32)}),
        &uid,
    ));
    assert!(world.last.wanted_secrets.is_empty());
    let jwt = jwt_of(&world, "fresh").unwrap();
    assert_eq!(
        (jwt.key.as_str(), jwt.algorithm.as_str()),
        ("generated", "HS256")
    );
    assert_eq!(
        world.field(Kind::Credential, "fresh", "secretName"),
        json!("fresh")
    );
    assert_eq!(world.diagnostics(), [""; 0]);
    world.apply(&secret(
        &json!({"key": "generated", "secret": "x".repeat(32)}),
        "another",
    ));
    assert!(jwt_of(&world, "fresh").is_none());
    let resolved = world.condition(Kind::Credential, "fresh", "ResolvedRefs");
    assert!(
        resolved.starts_with("False/Conflicted: Secret shop/fresh is there already"),
        "{resolved}"
    );
}

#[test]
fn of_two_equal_keys_the_newer_is_refused() {
    let block = |key: &str| json!({"key": key, "algorithm": "ES256", "publicKey": P256});
    let mut world = shop_with(&format!(
        "{}---{}",
        credential("old", &block("k")),
        credential("new", &block("k"))
    ));
    assert!(jwt_of(&world, "old").is_some() && jwt_of(&world, "new").is_none());
    let accepted = world.condition(Kind::Credential, "new", "Accepted");
    assert!(
        accepted.starts_with("False/Conflicted: Credential shop/old"),
        "{accepted}"
    );
    world.delete(Kind::Credential, "shop", "old");
    assert!(jwt_of(&world, "new").is_some());
    // An API key of the same text is another matter.
    let world = shop_with(&credential("same", &block("open sesame")));
    assert!(
        jwt_of(&world, "same").is_some() && world.credential("Credential/shop/alice-key").is_some()
    );
}

#[test]
fn keys_that_two_namespaces_know_are_reported_to_the_plugins_that_look_into_both() {
    let block = json!({"key": "k", "algorithm": "ES256", "publicKey": P256});
    let other = credential("there", &block).replace("namespace: shop", "namespace: other");
    let plugin = |name: &str, block: &str| {
        format!(
            "
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {{name: {name}, namespace: shop}}
spec: {{consumers: {{from: All}}, {block}: {{}}}}
"
        )
    };
    let objects = [
        credential("here", &block),
        other,
        plugin("tokens", "jwt"),
        plugin("keys", "keyAuth"),
    ];
    let world = shop_with(&objects.join("---"));
    let shared: Vec<_> = world
        .diagnostics()
        .into_iter()
        .filter(|line| line.contains("SharedKey"))
        .collect();
    assert_eq!(shared.len(), 1, "{shared:?}");
    assert!(shared[0].contains("AuthPlugin shop/tokens"), "{shared:?}");
}

#[test]
fn a_labelled_secret_is_a_credential() {
    let secret = |data: &Value| {
        format!(
            "
apiVersion: v1
kind: Secret
metadata: {{name: bare, namespace: shop, labels: {{postern.dev/credential: jwt}}, annotations: {{postern.dev/consumer: alice}}}}
stringData: {data}
"
        )
    };
    let long = "x".repeat(32);
    for (data, algorithm) in [
        (json!({"key": "k", "secret": long}), "HS256"),
        (
            json!({"key": "k\n", "algorithm": "ES256", "publicKey": P256}),
            "ES256",
        ),
        (
            json!({"key": "k", "algorithm": "RS256\n", "rsa_public_key": RSA, "secret": "unused"}),
            "RS256",
        ),
    ] {
        let world = shop_with(&secret(&data));
        let jwt =
            jwt_of(&world, "secret:bare").unwrap_or_else(|| panic!("{:?}", world.diagnostics()));
        assert_eq!((jwt.key.as_str(), jwt.algorithm.as_str()), ("k", algorithm));
    }
    for (data, problem) in [
        (json!({"secret": long}), "Secret shop/bare has no entry key"),
        (json!({"key": "k"}), "Secret shop/bare has no entry secret"),
        (
            json!({"key": "a\nb", "secret": long}),
            "data.key: the key must be text of at most 1024 characters",
        ),
        (
            json!({"key": "k", "algorithm": "none", "secret": long}),
            "data.algorithm: is not supported; use one of HS256, ",
        ),
        (
            json!({"key": "k", "algorithm": "ES256"}),
            "Secret shop/bare has no entry publicKey",
        ),
        (
            json!({"key": "k", "algorithm": "RS256", "publicKey": RSA_1024}),
            "data.publicKey: the RSA key has 1024 bits",
        ),
    ] {
        let world = shop_with(&secret(&data));
        assert!(jwt_of(&world, "secret:bare").is_none(), "{problem}");
        world.assert_diagnostic(&["Error Secret shop/bare", problem]);
    }
}

#[test]
fn a_plugin_is_passed_on() {
    let world = shop_with(
        "
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {name: token, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]
  jwt: {claimsToVerify: [exp]}
",
    );
    let plugin = world.plugin("Plugin/shop/token");
    assert_eq!(
        (plugin.r#type.as_str(), plugin.closed.as_str()),
        ("jwt", "")
    );
    let route = world.route("Route/HTTPRoute/shop/orders");
    assert_eq!(
        route.rules[0].plugins,
        ["Plugin/shop/token", "Plugin/shop/api-key"]
    );
}
