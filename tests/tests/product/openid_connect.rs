//! OpenID Connect: signing in at a provider, in browsers that behave and with clients that do not.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use harness::objects::{consumer, plugin, route, secret, to_route};
use harness::{Answer, Reply, Rig, Upstream};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub(crate) const HOST: &str = "o.test";
const SECRET: &str = "canary-client-secret";

/// A provider that does as it is told.
pub(crate) struct Idp {
    pub(crate) server: Upstream,
    pub(crate) script: Arc<Mutex<Script>>,
}

pub(crate) struct Script {
    pair: EcdsaKeyPair,
    pub(crate) base: String,
    /// Members of every ID token.
    pub(crate) claims: Value,
    user: Value,
    /// Members of the metadata.
    metadata: Value,
    pub(crate) expires_in: u64,
    redeemed: usize,
    pub(crate) renewed: Vec<String>,
    pub(crate) away: bool,
}

impl Script {
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let header = encode(&json!({"alg": "ES256", "kid": "k"}));
        let message = format!("{header}.{}", encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap()))
    }

    fn answer(&mut self, path: &str, body: &str) -> Reply {
        if self.away {
            return Reply::status(500, "Internal Server Error", &[], "");
        }
        let found = match path {
            "/.well-known/openid-configuration" => {
                let base = &self.base;
                let mut metadata = json!({
                    "issuer": base,
                    "authorization_endpoint": format!("{base}/authorize"),
                    "token_endpoint": format!("{base}/token"),
                    "userinfo_endpoint": format!("{base}/userinfo"),
                    "jwks_uri": format!("{base}/keys"),
                    "end_session_endpoint": format!("{base}/end"),
                });
                merge(&mut metadata, &self.metadata);
                metadata
            }
            "/keys" => {
                let point = &self.pair.public_key().as_ref()[1..];
                let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
                json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": encode(&point[..32]), "y": encode(&point[32..])}]})
            }
            "/userinfo" => self.user.clone(),
            "/token" => self.tokens(body),
            _ => return Reply::status(404, "Not Found", &[], ""),
        };
        Reply::ok(&found.to_string())
    }

    fn tokens(&mut self, body: &str) -> Value {
        let fields: BTreeMap<_, _> = body.split('&').filter_map(|f| f.split_once('=')).collect();
        let number = self.redeemed + self.renewed.len();
        if fields.get("grant_type") == Some(&"refresh_token") {
            self.renewed.push(fields["refresh_token"].to_owned());
            return json!({"access_token": format!("canary-access-{number}"), "token_type": "Bearer",
                "expires_in": 300, "refresh_token": format!("canary-refresh-{number}")});
        }
        self.redeemed += 1;
        let claims = self.id_claims(fields["code"]);
        json!({"access_token": format!("canary-access-{number}"), "token_type": "Bearer", "expires_in": self.expires_in,
            "refresh_token": format!("canary-refresh-{number}"), "id_token": self.sign(&claims)})
    }

    /// The code is the nonce: whoever signs in takes it from the address of the provider.
    fn id_claims(&self, nonce: &str) -> Value {
        let now = now();
        let mut claims = json!({"iss": self.base, "sub": "user-1", "aud": "shop", "exp": now + 300, "iat": now,
            "nonce": nonce, "sid": "sid-1"});
        merge(&mut claims, &self.claims);
        claims
    }
}

pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

fn merge(into: &mut Value, from: &Value) {
    for (name, value) in from.as_object().into_iter().flatten() {
        into[name] = value.clone();
    }
}

impl Idp {
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script {
            pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            base: String::new(),
            claims: json!({}),
            user: json!({"sub": "user-1", "name": "User One"}),
            metadata: json!({}),
            expires_in: 300,
            redeemed: 0,
            renewed: Vec::new(),
            away: false,
        }));
        let answering = Arc::clone(&script);
        let server = Upstream::answering(move |seen| {
            let path = seen.target.split('?').next().unwrap_or_default();
            answering.lock().answer(path, &seen.text())
        })
        .await;
        script.lock().base = format!("http://127.0.0.1:{}", server.port());
        Self { server, script }
    }

    /// A plugin's block, with the client's secret in the Secret [`Idp::secret`].
    pub(crate) fn block(&self, more: &Value) -> Value {
        let mut config = json!({
            "clientId": "shop",
            "clientSecretRef": {"name": "client", "key": "secret"},
            "discovery": format!("{}/.well-known/openid-configuration", self.script.lock().base),
        });
        merge(&mut config, more);
        config
    }

    pub(crate) fn secret() -> Value {
        secret("client", &[("secret", SECRET)])
    }

    /// An access token of the provider.
    pub(crate) fn access_token(&self, more: &Value) -> String {
        let script = self.script.lock();
        let mut claims =
            json!({"iss": script.base, "sub": "user-1", "exp": now() + 300, "iat": now()});
        merge(&mut claims, more);
        script.sign(&claims)
    }

    /// A route "r" for the host whose callers have to sign in.
    fn objects(&self, more: &Value) -> Vec<Value> {
        let config = self.block(more);
        vec![
            Self::secret(),
            route("r", HOST, "echo"),
            plugin("sign-in", &[to_route("r")], "openidConnect", &config),
        ]
    }
}

/// What a browser keeps.
#[derive(Clone, Default)]
pub(crate) struct Browser(pub(crate) BTreeMap<String, String>);

impl Browser {
    pub(crate) async fn open(&mut self, rig: &Rig, target: &str) -> Answer {
        self.open_with(rig, target, &[]).await
    }

    pub(crate) async fn open_with(
        &mut self,
        rig: &Rig,
        target: &str,
        more: &[(&str, &str)],
    ) -> Answer {
        let cookies: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookies = cookies.join("; ");
        let mut headers = vec![("accept", "text/html")];
        headers.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        headers.extend_from_slice(more);
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        let answer = rig.get_with(HOST, target, &headers).await;
        for line in answer.all("set-cookie") {
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if line.contains("Max-Age=0;") {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Signs in for a page, and returns what the callback answered.
    pub(crate) async fn sign_in(&mut self, rig: &Rig, target: &str) -> Answer {
        let away = self.open(rig, target).await;
        self.open(rig, &back(&away)).await
    }

    fn session(&self) -> Option<&String> {
        self.0.get("session")
    }
}

fn query_of(location: &str) -> BTreeMap<String, String> {
    let query = location.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let plain = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    pairs
        .map(|(name, value)| (plain(name), plain(value)))
        .collect()
}

/// The callback that follows a redirect to the provider.
fn back(away: &Answer) -> String {
    assert_eq!(away.status, 302, "{}", away.text());
    let query = query_of(away.header("location").unwrap());
    let callback = query["redirect_uri"].split_once(HOST).unwrap().1;
    let path = callback
        .find('/')
        .map_or("/", |at| callback.get(at..).unwrap());
    format!("{path}?code={}&state={}", query["nonce"], query["state"])
}

fn decoded(header: Option<&str>) -> Value {
    serde_json::from_slice(&STANDARD.decode(header.unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn three_tabs_sign_in_at_once_and_return_where_they_wanted() {
    let idp = Idp::start().await;
    let rig = Rig::with(idp.objects(&json!({}))).await;
    let mut browser = Browser::default();
    let pages = ["/a?x=1&y=%2F", "/b", "/c/"];
    let mut aways = Vec::new();
    for page in pages {
        aways.push(browser.open(&rig, page).await);
    }
    for (page, away) in pages.iter().zip(&aways) {
        let query = query_of(away.header("location").unwrap());
        assert_eq!(query["code_challenge_method"], "S256");
        assert!(away.header("cache-control").unwrap().contains("no-store"));
        let returned = browser.open(&rig, &back(away)).await;
        assert_eq!(returned.status, 302, "{}", returned.text());
        assert_eq!(
            returned.header("location").unwrap(),
            format!("http://{HOST}{page}")
        );
    }
    // The back button: the code is not redeemed again.
    let again = browser.open(&rig, &back(&aways[0])).await;
    assert_eq!(
        again.header("location").unwrap(),
        format!("http://{HOST}{}", pages[0])
    );
    assert_eq!(idp.script.lock().redeemed, 3);

    let spoofed = [
        ("x_userinfo", "evil"),
        ("X-Access-Token", "evil"),
        ("x-refresh-token", "evil"),
    ];
    assert_eq!(browser.open_with(&rig, "/a", &spoofed).await.status, 200);
    let seen = rig.upstream.last();
    assert_eq!(seen.header("x-access-token"), Some("canary-access-2"));
    assert_eq!(decoded(seen.header("x-id-token"))["sub"], "user-1");
    assert_eq!(decoded(seen.header("x-userinfo"))["name"], "User One");
    assert!(seen.all("x-refresh-token").is_empty() && seen.all("x_userinfo").is_empty());
    let output = rig.postern.output().join("\n") + &rig.postern.metrics().await;
    assert!(output.contains("signed_in"));
    assert!(!output.contains("canary"), "secrets are in no log");
}

#[tokio::test]
async fn only_browsers_that_open_pages_are_sent_away() {
    let idp = Idp::start().await;
    let rig = Rig::with(idp.objects(&json!({}))).await;
    for header in [
        ("x-requested-with", "XMLHttpRequest"),
        ("sec-fetch-mode", "cors"),
        ("accept", "application/json"),
    ] {
        let answer = Browser::default().open_with(&rig, "/", &[header]).await;
        assert_eq!(answer.status, 401, "{header:?}");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"postern\"")
        );
    }
    // A token that nobody asked to be looked at is no way in.
    let bearer = Browser::default()
        .open_with(&rig, "/", &[("authorization", "Bearer junk")])
        .await;
    assert_eq!(bearer.status, 302);
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn no_page_of_another_host_is_returned_to() {
    let idp = Idp::start().await;
    let rig = Rig::with(idp.objects(&json!({"redirectUri": "http://o.test/cb"}))).await;
    for target in [
        "//evil.test/",
        "/%2Fevil.test",
        "/\\evil.test",
        "/%09/evil.test",
        "/@evil.test",
    ] {
        let mut browser = Browser::default();
        let away = browser.open(&rig, target).await;
        if away.status != 302 {
            continue;
        }
        let returned = browser.open(&rig, &back(&away)).await;
        let location = returned.header("location").unwrap();
        assert!(
            location.starts_with("http://o.test/"),
            "{target}: {location}"
        );
    }
}

#[tokio::test]
async fn a_callback_counts_only_in_the_browser_that_set_out_and_from_that_provider() {
    let idp = Idp::start().await;
    let rig = Rig::with(idp.objects(&json!({}))).await;
    let (mut victim, mut attacker) = (Browser::default(), Browser::default());
    let away = attacker.open(&rig, "/").await;
    // The attacker's callback in the victim's browser.
    let refused = victim.open(&rig, &back(&away)).await;
    assert_eq!(refused.status, 500);
    assert!(
        refused
            .text()
            .contains(refused.header("x-request-id").unwrap())
    );
    let mixed = format!("{}&iss=http://evil.test", back(&away));
    assert_eq!(attacker.open(&rig, &mixed).await.status, 400);
    assert_eq!(idp.script.lock().redeemed, 0, "no code was redeemed");
    let away = attacker.open(&rig, "/").await;
    let twice = format!("{}&code=other", back(&away));
    assert_eq!(attacker.open(&rig, &twice).await.status, 400);
    for wrong in [
        json!({"nonce": "other"}),
        json!({"iss": "http://evil.test"}),
        json!({"aud": "other"}),
        json!({"aud": ["shop", "other"]}),
        json!({"azp": "other"}),
        json!({"exp": now() - 500}),
        json!({"iat": now() + 500}),
        json!({"sub": ""}),
        json!({"at_hash": "AAAA"}),
        json!({"c_hash": "AAAA"}),
    ] {
        idp.script.lock().claims = wrong.clone();
        let mut browser = Browser::default();
        assert_eq!(browser.sign_in(&rig, "/").await.status, 400, "{wrong}");
        assert_eq!(browser.session(), None);
    }
    idp.script.lock().claims = json!({});
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn a_login_that_goes_astray_is_tried_three_times() {
    let idp = Idp::start().await;
    let rig = Rig::with(idp.objects(&json!({"redirectUri": "http://o.test/cb"}))).await;
    let mut browser = Browser::default();
    let mut answer = browser.open(&rig, "/page").await;
    for _ in 0..3 {
        answer = browser
            .open(&rig, "/cb?code=c&state=an-old-state-of-somebody")
            .await;
        assert_eq!(answer.status, 302, "{}", answer.text());
    }
    assert!(answer.header("location").unwrap().contains("/authorize?"));
    let given_up = browser
        .open(&rig, "/cb?code=c&state=an-old-state-of-somebody")
        .await;
    assert_eq!(given_up.status, 500);
    assert!(
        given_up
            .text()
            .contains(given_up.header("x-request-id").unwrap())
    );
}

#[tokio::test]
async fn a_cookie_that_was_changed_or_brought_along_is_no_session() {
    let idp = Idp::start().await;
    let rig = Rig::with(idp.objects(&json!({}))).await;
    let mut browser = Browser::default();
    browser
        .0
        .insert("session".to_owned(), "1.brought-along".to_owned());
    assert_eq!(browser.sign_in(&rig, "/").await.status, 302);
    let first = browser.session().unwrap().clone();
    assert!(!first.contains("brought-along"));
    assert_eq!(browser.open(&rig, "/").await.status, 200);
    let forwarded = rig.upstream.count();
    for at in 0..first.len() {
        let mut changed = first.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let mut other = Browser::default();
        let changed = String::from_utf8(changed).unwrap();
        other.0.insert("session".to_owned(), changed);
        if at % 7 == 0 || at < 40 {
            assert_eq!(other.open(&rig, "/").await.status, 302, "{at}");
        }
    }
    assert_eq!(rig.upstream.count(), forwarded);
    browser.0.retain(|name, _| name != "session");
    browser.sign_in(&rig, "/").await;
    assert_ne!(browser.session(), Some(&first));
}

#[tokio::test]
async fn an_address_that_nobody_verified_names_no_consumer() {
    let idp = Idp::start().await;
    let mut objects = idp.objects(&json!({"consumerClaim": "email"}));
    objects.push(consumer("alice.example", &json!({})));
    let rig = Rig::with(objects).await;
    for (claims, status) in [
        (json!({"email": "alice.example"}), 403),
        (
            json!({"email": "alice.example", "email_verified": "true"}),
            403,
        ),
        (
            json!({"email": "alice.example", "email_verified": true}),
            302,
        ),
        (json!({}), 403),
    ] {
        idp.script.lock().claims = claims.clone();
        let answer = Browser::default().sign_in(&rig, "/").await;
        assert_eq!(answer.status, status, "{claims}");
    }
    idp.script.lock().claims = json!({"email": "alice.example@x", "email_verified": true});
    let mut browser = Browser::default();
    assert_eq!(browser.sign_in(&rig, "/").await.status, 302);
    assert_eq!(browser.open(&rig, "/").await.status, 403);
    idp.script.lock().claims = json!({"email": "alice.example", "email_verified": true});
    let mut browser = Browser::default();
    browser.sign_in(&rig, "/").await;
    assert_eq!(browser.open(&rig, "/").await.status, 200);
    assert_eq!(
        rig.upstream.last().header("x-consumer-username"),
        Some("alice.example")
    );
}

#[tokio::test]
async fn a_hundred_requests_renew_a_token_once() {
    let idp = Idp::start().await;
    idp.script.lock().expires_in = 0;
    let rig = Rig::with(idp.objects(&json!({}))).await;
    let mut browser = Browser::default();
    assert_eq!(browser.sign_in(&rig, "/").await.status, 302);
    let requests = (0..100).map(|_| {
        let mut browser = browser.clone();
        let rig = &rig;
        async move { browser.open(rig, "/").await.status }
    });
    let all = futures::future::join_all(requests).await;
    assert!(all.iter().all(|status| *status == 200));
    assert_eq!(idp.script.lock().renewed, ["canary-refresh-0"]);
    // A tab that has the old cookie still gets what the renewal brought.
    assert_eq!(browser.open(&rig, "/").await.status, 200);
    assert_eq!(
        rig.upstream.last().header("x-access-token"),
        Some("canary-access-1")
    );
    assert_eq!(idp.script.lock().renewed.len(), 1);
}

#[tokio::test]
async fn the_wrong_document_is_not_believed_and_an_outage_hurts_nobody_who_is_in() {
    let idp = Idp::start().await;
    idp.script.lock().metadata = json!({"issuer": "http://evil.test"});
    let rig = Rig::with(idp.objects(&json!({}))).await;
    let answer = Browser::default().open(&rig, "/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("5"));

    let idp = Idp::start().await;
    let rig = Rig::with(idp.objects(&json!({}))).await;
    let mut browser = Browser::default();
    browser.sign_in(&rig, "/").await;
    idp.script.lock().away = true;
    assert_eq!(browser.open(&rig, "/").await.status, 200);
    let (mut other, away) = (Browser::default(), ());
    let () = away;
    let sent = other.open(&rig, "/").await;
    let failed = other.open(&rig, &back(&sent)).await;
    assert_eq!(
        (failed.status, failed.header("retry-after")),
        (503, Some("5"))
    );
    idp.script.lock().away = false;
    assert_eq!(other.open(&rig, &back(&sent)).await.status, 302);
}

#[tokio::test]
async fn sessions_end_with_the_user_and_with_the_provider() {
    let idp = Idp::start().await;
    let more = json!({"backchannelLogoutPath": "/ended", "postLogoutRedirectUri": "/bye", "session": {"storage": "store"}});
    let rig = Rig::with(idp.objects(&more)).await;
    let mut browser = Browser::default();
    browser.sign_in(&rig, "/").await;
    let before = browser.clone();
    let left = browser.open(&rig, "/logout").await;
    let query = query_of(left.header("location").unwrap());
    assert_eq!(query["post_logout_redirect_uri"], "http://o.test/bye");
    assert!(query["id_token_hint"].contains('.'));
    assert_eq!(browser.session(), None);
    assert_eq!(
        before.clone().open(&rig, "/").await.status,
        302,
        "a copy is worth nothing"
    );

    let mut browser = Browser::default();
    browser.sign_in(&rig, "/").await;
    assert_eq!(browser.open(&rig, "/").await.status, 200);
    let logout = |more: &Value| {
        let script = idp.script.lock();
        let mut claims = json!({"iss": script.base, "aud": "shop", "iat": now(), "jti": "j", "sid": "sid-1",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}}});
        merge(&mut claims, more);
        let body = format!("logout_token={}", script.sign(&claims));
        format!(
            "POST /ended HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for wrong in [
        json!({"nonce": "n"}),
        json!({"events": {}}),
        json!({"aud": "other"}),
        json!({"iat": now() - 1000}),
    ] {
        assert_eq!(rig.send(logout(&wrong)).await.status, 400, "{wrong}");
    }
    assert_eq!(browser.open(&rig, "/").await.status, 200);
    assert_eq!(rig.send(logout(&json!({}))).await.status, 200);
    assert_eq!(
        rig.send(logout(&json!({}))).await.status,
        400,
        "the same token twice"
    );
    assert_eq!(browser.open(&rig, "/").await.status, 302);
}

#[tokio::test]
async fn a_large_session_is_split_and_a_very_large_one_moves_to_the_store() {
    let idp = Idp::start().await;
    let rig = Rig::with(idp.objects(&json!({}))).await;
    let mut random = vec![0; 7_000];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    for (bytes, at_most) in [(4_500, 4), (7_000, 4), (12_000, 1)] {
        random.resize(bytes, 0);
        aws_lc_rs::rand::fill(&mut random).unwrap();
        idp.script.lock().user = json!({"sub": "user-1", "photo": STANDARD.encode(&random)});
        let mut browser = Browser::default();
        assert_eq!(browser.sign_in(&rig, "/").await.status, 302);
        let parts = browser
            .0
            .keys()
            .filter(|name| !name.contains("_l_"))
            .count();
        assert!(parts <= at_most, "{bytes}: {parts}");
        assert_eq!(browser.open(&rig, "/").await.status, 200);
        let user = decoded(rig.upstream.last().header("x-userinfo"));
        assert_eq!(user["photo"], STANDARD.encode(&random));
    }
    assert!(rig.postern.metrics().await.contains("signed_in_large"));
    assert!(idp.server.count() > 0);
}
