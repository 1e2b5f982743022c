//! Methods that take bearer tokens beside each other, and those that have paths of their own.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use store::{Store, Url};

use crate::Config;
use crate::directory::{Changes, Directory, KeyId, NewApplication, digest_of};
use crate::handler::{BuildContext, Handler, Services};
use crate::handler::{Values, Verdict};
use crate::stage::{self, NOW, Scene};

const FORM: &str = "content-type: application/x-www-form-urlencoded";

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";

/// A provider's key.
struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        let body = STANDARD.encode(der.as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }

    fn token(&self, more: &Value) -> String {
        let mut claims = json!({"iss": NOBODY, "exp": NOW + 100, "iat": NOW});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", part(&json!({"alg": "ES256"})), part(&claims));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap()))
    }

    /// The block that takes these tokens without asking anybody.
    fn block(&self, more: &Value) -> Value {
        let mut block = json!({"clientId": "shop", "publicKey": self.pem(), "unauthAction": "deny",
            "discovery": format!("{NOBODY}/.well-known/openid-configuration"),
            "claimValidator": {"issuer": {"validIssuers": [NOBODY]}}});
        for (name, value) in more.as_object().unwrap() {
            block[name] = value.clone();
        }
        json!({"openidConnect": block})
    }
}

fn oauth2(more: &Value) -> Value {
    let mut block = json!({"enableClientCredentials": true});
    for (name, value) in more.as_object().unwrap() {
        block[name] = value.clone();
    }
    json!({"oauth2": block})
}

/// The stage, with an application of Alice's.
fn directory() -> Directory {
    let directory = stage::directory();
    let mut changes = Changes::default();
    directory.put_application(
        &mut changes,
        NewApplication {
            key: KeyId::of("Credential/shop/app"),
            namespace: "shop",
            id: "id-of-app",
            client_id: "app",
            secret: Some(digest_of(b"sec")),
            redirect_uris: Vec::new(),
            consumer: KeyId::of("Consumer/shop/alice"),
            not_before: 0,
            expires_at: 0,
        },
    );
    directory.apply(changes);
    directory
}

fn handler(directory: &Directory, methods: &Value) -> Handler {
    let methods = methods.to_string();
    stage::handler(directory, "anyOf", &methods, &["shop"]).unwrap()
}

/// A store that does not answer.
fn away() -> Store {
    let services = stage::services();
    let url: Url = "redis://127.0.0.1:1".parse().unwrap();
    let elsewhere = services.store.elsewhere(&url, &services.background);
    elsewhere.unwrap()
}

fn over(store: Store, directory: &Directory, methods: &Value) -> Handler {
    let config = Config::from_json("anyOf", methods.to_string().as_bytes()).unwrap();
    let services = Services {
        store,
        ..stage::services()
    };
    let values: Vec<_> = config
        .references()
        .into_iter()
        .map(|reference| (reference.field, "sixteen characters".into()))
        .collect();
    let context = BuildContext {
        key: "Plugin/shop/it",
        id: "1",
        namespaces: directory.namespaces(["shop"]),
        anonymous: config.anonymous().map(|_| "Consumer/shop/guest"),
        values: Values::new(&values),
        services: &services,
    };
    Handler::build(config, context).unwrap()
}

/// Lets the application have an access token.
async fn issue(handler: &Handler, directory: &Directory) -> String {
    let text = format!(
        "POST /a/oauth2/token\n{FORM}\n\ngrant_type=client_credentials&client_id=app&client_secret=sec"
    );
    let mut scene = Scene::read(&text);
    (scene.tls, scene.https) = (true, true);
    let said = scene.act(handler, directory).await;
    let json = said
        .strip_prefix("200 ")
        .and_then(|rest| rest.rsplit_once(" ("));
    let json: Value = serde_json::from_str(json.unwrap_or_else(|| panic!("{said}")).0).unwrap();
    json["access_token"].as_str().unwrap().to_owned()
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

async fn act(handler: &Handler, directory: &Directory, headers: &[&str]) -> (String, Scene) {
    let mut scene = Scene::read(&format!("GET /a\n{}", headers.join("\n")));
    let said = scene.act(handler, directory).await;
    let tried = scene.caller.tried.iter();
    let tried: Vec<String> = tried
        .map(|(kind, reason)| format!("{} {reason}", kind.name()))
        .collect();
    (format!("{said} [{}]", tried.join(", ")), scene)
}

#[tokio::test]
async fn each_takes_its_own_tokens_and_leaves_the_others_theirs() {
    let (directory, issuer) = (directory(), Issuer::new());
    let methods = json!([oauth2(&json!({"realm": "o"})), {"jwt": {}}, issuer.block(&json!({})), {"keyAuth": {}}]);
    let handler = handler(&directory, &methods);
    let ours = bearer(&issue(&handler, &directory).await);
    let jims = bearer(&stage::token("jim", "secret-of-jim"));
    let providers = bearer(&issuer.token(&json!({})));
    let forged = bearer(&Issuer::new().token(&json!({})));
    let late = bearer(&issuer.token(&json!({"exp": NOW - 500})));
    let nothing_of_ours = "authorization: Bearer 0123456789abcdefghijklmnopqrstuv";
    for (headers, expected) in [
        (&[&*ours][..], "ok: alice [oauth2 ok]"),
        // What is no token of the first is no bad credential where a later one takes it.
        (&[&jims], "ok: jim [oauth2 unknown_token, jwt ok]"),
        (
            &[&providers],
            "ok: nobody [oauth2 unknown_token, jwt unknown_key, openidConnect ok]",
        ),
        (
            &["apikey: bob-key"],
            "ok: bob [oauth2 no_token, jwt no_token, openidConnect no_session, keyAuth ok]",
        ),
        // A key makes no token good: what was wrong is said.
        (
            &[nothing_of_ours, "apikey: bob-key"],
            "ok_after_bad_credential: bob \
             [oauth2 unknown_token, jwt bad_token, openidConnect malformed_token, keyAuth ok]",
        ),
        (
            &[],
            "401 error=invalid_request, error_description=The access token is missing (no_token) \
             <Bearer realm=\"o\"> <Bearer> <Bearer realm=\"postern\"> <Key> \
             [oauth2 no_token, jwt no_token, openidConnect no_session, keyAuth no_key]",
        ),
        (
            &[nothing_of_ours],
            "401 error=invalid_token, error_description=The access token is invalid or has expired (unknown_token) \
             <Bearer realm=\"o\", error=\"invalid_token\", error_description=\"The access token is invalid or has expired\"> \
             <Bearer error=\"invalid_token\"> \
             <Bearer realm=\"postern\", error=\"invalid_token\", error_description=\"the token cannot be read\"> <Key> \
             [oauth2 unknown_token, jwt bad_token, openidConnect malformed_token, keyAuth no_key]",
        ),
    ] {
        let (found, _) = act(&handler, &directory, headers).await;
        assert_eq!(found, expected, "{headers:?}");
    }
    // Of several that say no, the one whose token it is answers.
    for (token, reason) in [(&forged, "unknown_token"), (&late, "expired")] {
        let (found, _) = act(&handler, &directory, &[token]).await;
        assert!(found.starts_with("401 "), "{found}");
        assert!(found.contains(&format!("({reason})")), "{found}");
        assert_eq!(found.matches('<').count(), 4, "{found}");
    }
}

#[tokio::test]
async fn tokens_are_hidden_where_they_were_the_methods_own() {
    let (directory, issuer) = (directory(), Issuer::new());
    let hides = oauth2(&json!({"hideCredentials": true}));
    let methods = json!([hides, {"jwt": {}}, {"keyAuth": {"anonymous": {"name": "guest"}}}]);
    let handler = handler(&directory, &methods);
    let ours = bearer(&issue(&handler, &directory).await);
    let jims = bearer(&stage::token("jim", "secret-of-jim"));
    let foreign = bearer(&issuer.token(&json!({})));
    for (headers, who, stays) in [
        (&[&*ours][..], "ok: alice", false),
        (&[&jims], "ok: jim", true),
        // Behind a key, and behind nobody, what the first took for its own does not go on.
        (
            &[&*foreign, "apikey: bob-key"],
            "ok_after_bad_credential: bob",
            false,
        ),
        (&[&foreign], "anonymous_unknown_token: guest", false),
    ] {
        let (said, scene) = act(&handler, &directory, headers).await;
        assert!(said.starts_with(who), "{said}");
        let left = scene.head.headers.contains_key("authorization");
        assert_eq!(left, stays, "{headers:?}");
    }
}

#[tokio::test]
async fn who_is_known_and_lacks_something_may_not_pass_without_a_better_credential() {
    let (directory, issuer) = (directory(), Issuer::new());
    let block = issuer.block(&json!({"requiredScopes": ["write"]}));
    let handler = handler(&directory, &json!([block, {"keyAuth": {}}]));
    let token = bearer(&issuer.token(&json!({"scope": "read"})));
    let mut scene = Scene::read(&format!("GET /a\n{token}"));
    let said = scene.act(&handler, &directory).await;
    assert_eq!(
        said,
        r#"403 {"error":"required scopes write not present"} (no_scope)"#
    );
    let (said, _) = act(&handler, &directory, &[&token, "apikey: bob-key"]).await;
    assert!(said.starts_with("ok_after_bad_credential: bob"), "{said}");
    let token = bearer(&issuer.token(&json!({"scope": "read write"})));
    let (said, _) = act(&handler, &directory, &[&token]).await;
    assert_eq!(said, "ok: nobody [openidConnect ok]");
}

#[tokio::test]
async fn paths_of_a_method_are_its_own_whatever_the_request_presents() {
    let (directory, issuer) = (directory(), Issuer::new());
    let sessions = issuer.block(&json!({"backchannelLogoutPath": "/ended"}));
    let methods = json!([{"keyAuth": {}}, oauth2(&json!({})), sessions]);
    let handler = handler(&directory, &methods);
    for (request, expected) in [
        (
            "POST /a/oauth2/token",
            "(access_denied)", // The client must use https, and is told so.
        ),
        (
            "GET /a/.well-known/oauth-authorization-server",
            "(metadata)",
        ),
        ("POST /ended", "(not_a_form)"),
        (
            "GET /a/.postern/redirect?code=a&state=b",
            "(no_login_cookie)",
        ),
        ("GET /logout", "(provider_unavailable)"),
    ] {
        for key in ["", "\napikey: bob-key"] {
            let mut scene = Scene::read(&format!("{request}{key}"));
            let said = scene.act(&handler, &directory).await;
            assert!(said.ends_with(expected), "{request}{key}: {said}");
            assert!(scene.caller.tried.is_empty() && scene.caller.consumer.is_none());
        }
    }
}

/// Who cannot say stops nobody who proves himself otherwise, and nobody else passes.
#[tokio::test]
async fn an_outage_is_said_where_nothing_else_is_good() {
    let (directory, issuer) = (directory(), Issuer::new());
    let ours = "authorization: Bearer 0123456789abcdefghijklmnopqrstuv";
    let providers = bearer(&issuer.token(&json!({})));
    let json_only = "accept: application/json";
    let mut keys = issuer.block(&json!({"useJwks": true}));
    let _ = keys["openidConnect"]
        .as_object_mut()
        .unwrap()
        .remove("publicKey");
    let mut asking =
        issuer.block(&json!({"introspectionEndpoint": format!("{NOBODY}/introspect")}));
    let _ = asking["openidConnect"]
        .as_object_mut()
        .unwrap()
        .remove("publicKey");
    for (block, token, reason) in [
        (oauth2(&json!({})), ours, "store_unavailable"),
        (keys, &providers, "unreachable"),
        (asking, &providers, "unreachable"),
    ] {
        let with_key = |key: Value| json!([block, {"keyAuth": key}]);
        let plain = over(away(), &directory, &with_key(json!({})));
        let guest = json!({"anonymous": {"name": "guest"}});
        let guest = over(away(), &directory, &with_key(guest));
        for handler in [&plain, &guest] {
            // Who is away keeps each of them waiting.
            let (alone, bad, good) = (
                [token, json_only],
                [token, "apikey: nope"],
                [token, "apikey: bob-key"],
            );
            let ((alone, _), (bad, _), (good, _)) = tokio::join!(
                act(handler, &directory, &alone),
                act(handler, &directory, &bad),
                act(handler, &directory, &good),
            );
            for said in [alone, bad] {
                assert!(said.starts_with("503 "), "{said}");
                assert!(said.contains(&format!("({reason})")), "{said}");
                assert!(!said.contains('<'), "{said}");
            }
            assert!(good.starts_with("ok_after_unavailable: bob "), "{good}");
        }
        // Without a credential nobody has to be asked.
        let (said, _) = act(&plain, &directory, &[]).await;
        assert!(said.starts_with("401 "), "{said}");
        let (said, _) = act(&guest, &directory, &[]).await;
        assert!(said.starts_with("anonymous: guest"), "{said}");
    }
}

#[tokio::test]
async fn who_has_not_signed_in_passes_last_and_never_with_a_bad_credential() {
    let (directory, issuer) = (directory(), Issuer::new());
    let pass = issuer.block(&json!({"unauthAction": "pass"}));
    let handler = handler(&directory, &json!([{"keyAuth": {}}, pass]));
    let spoofed = "x-userinfo: evil";
    for (headers, expected) in [
        (&[spoofed][..], "unauthenticated: nobody"),
        (&[spoofed, "apikey: bob-key"], "ok: bob"),
        (
            &["apikey: nope"],
            "401 Unauthorized (unknown_key) <Key> <Bearer realm=\"postern\">",
        ),
        (
            &["authorization: Bearer a.b.c"],
            "401 Unauthorized (malformed_token) <Key> <Bearer realm=\"postern\", error=",
        ),
    ] {
        let (said, scene) = act(&handler, &directory, headers).await;
        assert!(said.starts_with(expected), "{headers:?}: {said}");
        // Whoever authenticates, what only the gateway says is not the client's to say.
        assert!(!scene.head.headers.contains_key("x-userinfo"));
    }
    let acl = stage::handler(&directory, "acl", r#"{"allow": ["gold"]}"#, &[]).unwrap();
    let (_, mut scene) = act(&handler, &directory, &[]).await;
    assert_eq!(
        scene.act(&acl, &directory).await,
        "401 Unauthorized (no_consumer) <Key> <Bearer realm=\"postern\">"
    );
}

/// Only a request that presents nothing at all is sent to sign in. (There is no provider here: that is how it shows.)
#[tokio::test]
async fn only_who_presents_nothing_is_sent_to_sign_in() {
    let (directory, issuer) = (directory(), Issuer::new());
    let sign_in = issuer.block(&json!({"unauthAction": "auth"}));
    let handler = handler(
        &directory,
        &json!([sign_in, oauth2(&json!({})), {"keyAuth": {}}]),
    );
    let page = "accept: text/html";
    for (headers, expected) in [
        (&[page][..], "(provider_unavailable)"),
        (
            &["accept: application/json"],
            "401 Unauthorized (no_session)",
        ),
        (&[page, "apikey: bob-key"], "ok: bob"),
        (&[page, "apikey: nope"], "401 Unauthorized (unknown_key)"),
        (
            &[page, "authorization: Bearer a.b.c"],
            "401 Unauthorized (malformed_token)",
        ),
    ] {
        let (said, _) = act(&handler, &directory, headers).await;
        assert!(said.contains(expected), "{headers:?}: {said}");
    }
}

#[test]
fn refuses_lists_that_cannot_work() {
    let directory = Directory::default();
    let issuer = Issuer::new();
    let (auth, pass) = (
        issuer.block(&json!({"unauthAction": "auth"})),
        issuer.block(&json!({"unauthAction": "pass"})),
    );
    let guest = json!({"keyAuth": {"anonymous": {"name": "guest"}}});
    let oauth2_guest = oauth2(&json!({"anonymous": {"name": "guest"}}));
    for (methods, message) in [
        (
            json!([pass, {"keyAuth": {}}]),
            "unauthAction: pass counts when",
        ),
        (json!([pass, guest]), "unauthAction: pass counts when"),
        (
            json!([auth, guest]),
            "with anonymous nobody is ever sent to sign in",
        ),
        (
            json!([oauth2_guest, {"keyAuth": {}}]),
            "anonymous counts when",
        ),
        (
            json!([oauth2(&json!({})), oauth2(&json!({}))]),
            "anyOf takes oauth2 once",
        ),
        (json!([auth, auth]), "anyOf takes openidConnect once"),
        (
            json!([{"keyAuth": {}}, {"oauth2": {}}]),
            "[1].oauth2: oauth2 issues no tokens",
        ),
        (
            json!([{"openidConnect": {"clientId": "a", "discovery": "b"}}]),
            "[0].openidConnect.discovery: must be an absolute URL",
        ),
    ] {
        let refused = stage::handler(&directory, "anyOf", &methods.to_string(), &[]).unwrap_err();
        assert!(refused.starts_with(message), "{methods}: {refused}");
    }
    // Where nobody signs in, nobody can pass for not having done so.
    let bearer_only = issuer.block(&json!({"bearerOnly": true, "unauthAction": "auth"}));
    let both = json!([bearer_only, guest]).to_string();
    assert!(stage::handler(&directory, "anyOf", &both, &[]).is_ok());
    let refused = Config::from_json("anyOf", json!([auth]).to_string().as_bytes()).unwrap();
    let short = refused.check_value("[0].openidConnect.session.secretRef", b"short");
    assert!(short.unwrap().contains("at least 16 characters"));
}

#[tokio::test]
async fn answers_carry_the_challenges_of_all() {
    let (directory, issuer) = (directory(), Issuer::new());
    let block = issuer.block(&json!({"requiredScopes": ["write"]}));
    let handler = handler(&directory, &json!([block, {"keyAuth": {}}]));
    let token = bearer(&issuer.token(&json!({})));
    let mut scene = Scene::read(&format!("GET /a\n{token}"));
    let verdict = scene.verdict(&handler, &directory).await;
    let Verdict::Answer(answer) = verdict else {
        panic!("{verdict:?}");
    };
    let all = answer.headers.get_all("www-authenticate").iter();
    let all: Vec<_> = all.map(|one| one.to_str().unwrap()).collect();
    assert_eq!(all, ["Bearer realm=\"postern\"", "Key"]);
}
