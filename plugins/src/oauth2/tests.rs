//! The endpoints and the tokens that they issue, over stores of every kind that needs no server.

mod attacks;
mod interleavings;
mod lines;
mod redirects;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use store::{SealingKeys, Settings, Store, Url};

use crate::Config;
use crate::directory::{Changes, Directory, KeyId, KeySlot, NewApplication, digest_of};
use crate::handler::{Answer, BuildContext, Exchange, Handler, Refusal, Services, Values, Verdict};
use crate::stage::{self, NOW, Scene};

const CALLBACK: &str = "https://app.test/cb";
const ALL: &str = r#"{"scopes":["email","profile"],"enableAuthorizationCode":true,"enableClientCredentials":true,
    "enableImplicitGrant":true,"enablePasswordGrant":true}"#;
const VERIFIER: &str = "dBjftJeZ4CVP-mBpfdgsk9393mdyVxvHnZZqTs0zZxQ01234567890abcdefghij";
const CHALLENGE: &str = "rgw5fjpgb6mkzhPv3as5S0VHI8TS_4-hLnYo_AspNbM";

/// A plugin, its store and who may use it.
struct Rig {
    handler: Handler,
    store: Store,
    directory: Directory,
    now: i64,
    /// Keeps the store's file.
    _folder: Option<tempfile::TempDir>,
}

/// What was answered.
#[derive(Debug)]
struct Said {
    status: u16,
    headers: http::HeaderMap,
    json: Value,
}

impl Said {
    fn text(&self, member: &str) -> &str {
        self.json[member]
            .as_str()
            .unwrap_or_else(|| panic!("{member}: {self:?}"))
    }

    /// A parameter behind the redirect URI.
    fn sent(&self, name: &str) -> Option<String> {
        let (_, query) = self.text("redirect_uri").split_once(['?', '#'])?;
        let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    }
}

/// Each kind of store that needs no server.
async fn stores() -> Vec<(&'static str, Store, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let url = Url::file(folder.path().join("store.redb"));
    let keys = SealingKeys::new(&[[7_u8; 32]]).unwrap();
    let background = stage::services().background;
    let file = Store::open(&url, keys, background).await.unwrap();
    vec![
        ("memory", stage::services().store, None),
        ("file", file, Some(folder)),
    ]
}

fn application(directory: &Directory, client_id: &str, secret: Option<&str>) -> KeySlot {
    let mut changes = Changes::default();
    let slot = directory.put_application(
        &mut changes,
        NewApplication {
            key: KeyId::of(&format!("Credential/shop/{client_id}")),
            namespace: "shop",
            id: &format!("id-of-{client_id}"),
            client_id,
            secret: secret.map(|secret| digest_of(secret.as_bytes())),
            redirect_uris: vec![CALLBACK.into(), "https://app.test/other?a=1".into()],
            consumer: KeyId::of("Consumer/shop/alice"),
            not_before: 0,
            expires_at: 0,
        },
    );
    directory.apply(changes);
    slot
}

impl Rig {
    fn new(config: &str) -> Self {
        Self::over(config, stage::services().store, None, "it")
    }

    fn over(config: &str, store: Store, folder: Option<tempfile::TempDir>, id: &str) -> Self {
        let directory = stage::directory();
        application(&directory, "app", Some("sec"));
        application(&directory, "second", Some("sec2"));
        application(&directory, "spa", None);
        let config = Config::from_json("oauth2", config.as_bytes()).unwrap();
        let services = Services {
            store: store.clone(),
            ..stage::services()
        };
        let handler = Handler::build(
            config,
            BuildContext {
                key: "Plugin/shop/it",
                id,
                namespaces: directory.namespaces(["shop"]),
                anonymous: None,
                values: Values::new(&[("provisionKeySecretRef".to_owned(), "prov".into())]),
                services: &services,
            },
        );
        Self {
            handler: handler.unwrap(),
            store,
            directory,
            now: NOW,
            _folder: folder,
        }
    }

    async fn verdict(&self, scene: &mut Scene) -> Verdict {
        let mut exchange = Exchange {
            head: &mut scene.head,
            body: &mut scene.body,
            caller: &mut scene.caller,
            directory: &self.directory,
            now: self.now,
            https: true,
            tls: true,
            response: &mut scene.response,
            watch: None,
            request_id: "it",
            rehearsal: false,
        };
        self.handler.request(&mut exchange).await
    }

    async fn answer(&self, request: &str) -> Said {
        let mut scene = Scene::read(request);
        match self.verdict(&mut scene).await {
            Verdict::Answer(answer) => {
                let Answer {
                    status,
                    headers,
                    body,
                    ..
                } = *answer;
                Said {
                    status: status.as_u16(),
                    headers,
                    json: serde_json::from_slice(&body).unwrap(),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// Posts a form.
    async fn post(&self, endpoint: &str, parameters: &[(&str, &str)]) -> Said {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        let form = "content-type: application/x-www-form-urlencoded";
        self.answer(&format!(
            "POST /oauth2/{endpoint}\nhost: shop.test\n{form}\n\n{body}"
        ))
        .await
    }

    async fn authorize(&self, more: &[(&str, &str)]) -> Said {
        let mut parameters = BTreeMap::from([
            ("provision_key", "prov"),
            ("authenticated_userid", "u1"),
            ("client_id", "app"),
            ("response_type", "code"),
            ("scope", "email"),
        ]);
        parameters.extend(more.iter().copied());
        let parameters: Vec<_> = parameters.into_iter().collect();
        self.post("authorize", &parameters).await
    }

    async fn code(&self, more: &[(&str, &str)]) -> String {
        self.authorize(more).await.sent("code").unwrap()
    }

    async fn token(&self, more: &[(&str, &str)]) -> Said {
        let mut parameters = BTreeMap::from([("client_id", "app"), ("client_secret", "sec")]);
        parameters.extend(more.iter().copied());
        let parameters: Vec<_> = parameters.into_iter().collect();
        self.post("token", &parameters).await
    }

    async fn redeem(&self, code: &str) -> Said {
        self.token(&[("grant_type", "authorization_code"), ("code", code)])
            .await
    }

    async fn refresh(&self, token: &str) -> Said {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)])
            .await
    }

    /// "ok", or the reason of the refusal.
    async fn present(&self, token: &str) -> &'static str {
        let mut scene = Scene::read(&format!("GET /\nauthorization: Bearer {token}"));
        match self.verdict(&mut scene).await {
            Verdict::Continue(reason) => {
                assert_eq!(scene.caller.consumer.unwrap().username(), "alice");
                reason
            }
            Verdict::Refuse(Refusal { reason, .. }) | Verdict::Undecided(reason) => reason,
            Verdict::Answer(answer) => panic!("{answer:?}"),
        }
    }
}

#[tokio::test]
async fn a_code_becomes_tokens_over_every_store() {
    for (kind, store, folder) in stores().await {
        let rig = Rig::over(ALL, store, folder, "it");
        let given = rig.authorize(&[("state", "a b&c")]).await;
        assert_eq!(given.status, 200, "{kind}");
        assert_eq!(given.sent("state").unwrap(), "a b&c");
        assert_eq!(given.sent("iss").unwrap(), "https://shop.test");
        let tokens = rig.redeem(&given.sent("code").unwrap()).await;
        assert_eq!(tokens.status, 200, "{kind}: {tokens:?}");
        let (first, refresh) = (tokens.text("access_token"), tokens.text("refresh_token"));
        assert_eq!(rig.present(first).await, "ok");
        let next = rig.refresh(refresh).await;
        assert_eq!(rig.present(next.text("access_token")).await, "ok");
        assert_eq!(rig.present(first).await, "unknown_token", "{kind}");
    }
}

#[tokio::test]
async fn the_upstream_is_told_scope_and_user() {
    let rig = Rig::new(ALL);
    let tokens = rig
        .redeem(&rig.code(&[("scope", "email  profile")]).await)
        .await;
    let token = tokens.text("access_token");
    let mut scene = Scene::read(&format!("GET /\nauthorization: token {token}"));
    assert!(matches!(
        rig.verdict(&mut scene).await,
        Verdict::Continue("ok")
    ));
    assert_eq!(scene.caller.scope.unwrap(), "email profile");
    assert_eq!(scene.caller.user.unwrap(), "u1");
    assert_eq!(scene.caller.credential.unwrap().header().unwrap(), "app");
}

#[tokio::test]
async fn a_token_is_found_in_header_body_and_query_and_hidden_there() {
    let rig = Rig::new(
        r#"{"enableClientCredentials":true,"hideCredentials":true,"authHeaderName":"x-auth"}"#,
    );
    let tokens = rig.token(&[("grant_type", "client_credentials")]).await;
    let token = tokens.text("access_token");
    for (given, left) in [
        (
            format!("GET /a\nx-auth: BEARER {token}\nx: y"),
            "GET /a\nx: y".to_owned(),
        ),
        (format!("GET /a\nx-auth: {token}"), "GET /a".to_owned()),
        (
            format!("GET /a?x=1&access_token={token}&y"),
            "GET /a?x=1&y".to_owned(),
        ),
        (
            format!(
                "PUT /\ncontent-type: application/json\n\n{{\"a\":1,\"access_token\":\"{token}\"}}"
            ),
            "PUT /\ncontent-type: application/json\n\n{\"a\":1}".to_owned(),
        ),
    ] {
        let mut scene = Scene::read(&given);
        let verdict = rig.verdict(&mut scene).await;
        assert!(
            matches!(verdict, Verdict::Continue("ok")),
            "{given}: {verdict:?}"
        );
        assert_eq!(scene.write(), left);
    }
    // A bad header hides a good parameter; two of them are none.
    for bad in [
        format!("GET /?access_token={token}\nx-auth: Bearer nope"),
        format!("GET /\nx-auth: Bearer {token}\nx-auth: Bearer {token}"),
        format!("GET /?access_token={token}&access_token={token}"),
    ] {
        let mut scene = Scene::read(&bad);
        let verdict = rig.verdict(&mut scene).await;
        let Verdict::Refuse(Refusal { reason, .. }) = verdict else {
            panic!("{bad}: {verdict:?}")
        };
        assert_eq!(reason, "unknown_token");
    }
}

#[tokio::test]
async fn metadata_say_what_is_on_offer() {
    let rig = Rig::new(r#"{"enableAuthorizationCode":true,"loginUrl":"https://login.test/"}"#);
    for (path, issuer) in [
        (
            "/.well-known/oauth-authorization-server",
            "https://shop.test",
        ),
        (
            "/.well-known/oauth-authorization-server/api",
            "https://shop.test/api",
        ),
        (
            "/api/.well-known/oauth-authorization-server",
            "https://shop.test/api",
        ),
    ] {
        let said = rig.answer(&format!("GET {path}\nhost: shop.test")).await;
        assert_eq!(said.text("issuer"), issuer);
        assert_eq!(
            said.text("token_endpoint"),
            format!("{issuer}/oauth2/token")
        );
        assert_eq!(said.text("authorization_endpoint"), "https://login.test/");
        assert_eq!(
            said.json["response_types_supported"],
            serde_json::json!(["code"])
        );
    }
}

#[tokio::test]
async fn a_store_that_fails_is_said_to_and_opens_nothing() {
    let keys = SealingKeys::random().unwrap();
    let settings = Settings {
        memory_limit: 16,
        ..Settings::default()
    };
    let background = stage::services().background;
    let full = Store::open_with(&Url::memory(), keys, background, settings).await;
    let rig = Rig::over(ALL, full.unwrap(), None, "it");
    for said in [
        rig.authorize(&[]).await,
        rig.token(&[("grant_type", "client_credentials")]).await,
    ] {
        assert_eq!(said.status, 503, "{said:?}");
        assert_eq!(said.text("error"), "temporarily_unavailable");
        assert_eq!(said.headers["retry-after"], "2");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let rig = Rig::new(ALL);
    let debug = format!("{:?}", rig.handler);
    let digest = format!("{:?}", digest_of(b"prov"));
    assert!(
        !debug.contains("\"prov\"") && !debug.contains(&digest),
        "{debug}"
    );
    assert_eq!(Bytes::from_static(b"prov"), "prov");
}
