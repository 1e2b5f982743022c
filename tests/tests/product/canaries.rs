//! Secrets of every kind, put through everything that takes them while all of the log is on: none is ever written down, told to
//! somebody who is refused, or left readable in a file.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::objects::{
    consumer_with_key, https_listener, key_auth, object, plugin, route, secret, tls_secret,
    to_route,
};
use harness::raw::request;
use harness::tls::Certificate;
use harness::{Answer, Reply, Rig, Upstream, h2};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::jwt::hs256;
use crate::logs::files;
use crate::openid_connect::{Browser, HOST, Idp};

/// Secrets by what they are.
#[derive(Default)]
struct Canaries(BTreeMap<&'static str, String>);

impl Canaries {
    /// A secret that the test chooses.
    fn hatch(&mut self, kind: &'static str) -> String {
        let text = format!("canary-{}-0123456789", kind.replace(' ', "-"));
        self.add(kind, &text);
        text
    }

    /// One that somebody else has chosen.
    fn add(&mut self, kind: &'static str, text: &str) {
        assert!(
            text.len() > 12,
            "{kind} is too short to be looked for: {text}"
        );
        self.0.insert(kind, text.to_owned());
    }

    /// Nobody who is refused is told one.
    fn refused(&self, answer: &Answer, status: u16) {
        assert_eq!(answer.status, status, "{}", answer.text());
        self.none_in("an answer", answer.text().as_bytes());
        for (name, value) in &answer.headers {
            self.none_in(name, value.as_bytes());
        }
    }

    fn none_in(&self, place: &str, bytes: &[u8]) {
        for (kind, text) in &self.0 {
            let found = bytes
                .windows(text.len())
                .position(|part| part == text.as_bytes());
            if let Some(at) = found {
                let around = &bytes[at.saturating_sub(200)..bytes.len().min(at + 200)];
                panic!("{kind} in {place}: {}", String::from_utf8_lossy(around));
            }
        }
    }
}

/// What stands on every route.
struct Stage {
    rig: Rig,
    idp: Idp,
    _provider: Upstream,
    folder: TempDir,
}

/// All that objects refer to.
fn secrets(canaries: &mut Canaries) -> Value {
    let entries = [
        ("app", "secret of an application"),
        ("provision", "provision key"),
        ("jwt", "shared secret of a JWT issuer"),
        ("upstream", "client secret for the upstream"),
        ("password", "password for the upstream"),
        ("client", "client secret at the provider"),
    ];
    let entries = entries.map(|(entry, kind)| (entry, canaries.hatch(kind)));
    let entries = entries
        .each_ref()
        .map(|(entry, text)| (*entry, text.as_str()));
    secret("all", &entries)
}

async fn stage(canaries: &mut Canaries) -> Stage {
    let folder = TempDir::new().expect("a folder");
    let key_file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a key");
        path.to_str().expect("a path").to_owned()
    };
    let store_key = key_file(
        "store.key",
        canaries.hatch("key that seals the store of tokens"),
    );
    let state_key = key_file(
        "state.key",
        canaries.hatch("key that seals the last good snapshot"),
    );
    let idp = Idp::start().await;
    let upstream_token = canaries.hatch("token for the upstream");
    let answer = json!({"access_token": upstream_token, "token_type": "Bearer", "expires_in": 300});
    let provider = Upstream::answering(move |_| Reply::ok(&answer.to_string())).await;
    let certificate = Certificate::of(&["k.test"]);
    let line = certificate.key.lines().nth(1).expect("a line of the key");
    canaries.add("private key", line);
    let upstream_oauth = json!({"oauth": {
        "tokenEndpoint": format!("http://127.0.0.1:{}/token", provider.port()), "clientId": "shop",
        "grantType": "password", "username": "u", "passwordSecretRef": {"name": "all", "key": "password"},
        "clientSecretRef": {"name": "all", "key": "upstream"}}});
    let oauth2 = json!({"enableAuthorizationCode": true, "enableClientCredentials": true,
        "acceptHttpIfAlreadyTerminated": true, "provisionKeySecretRef": {"name": "all", "key": "provision"}});
    let app = json!({"consumerRef": {"name": "alice"}, "oauth2": {"name": "app", "clientId": "app",
        "clientSecretRef": {"name": "all", "key": "app"}, "redirectUris": ["https://app.test/cb"]}});
    let issuer = json!({"consumerRef": {"name": "alice"}, "jwt": {"key": "issuer",
        "secretRef": {"name": "all", "key": "jwt"}}});
    let mut objects = consumer_with_key("alice", &canaries.hatch("API key"));
    objects.extend([
        secrets(canaries),
        object("postern.dev/v1alpha1", "Credential", "app", &app),
        object("postern.dev/v1alpha1", "Credential", "issuer", &issuer),
        tls_secret("cert", &certificate),
        route("k", "k.test", "echo"),
        key_auth("k", "k", &json!({"keyInBody": true})),
        route("j", "j.test", "echo"),
        plugin("j", &[to_route("j")], "jwt", &json!({})),
        route("a", "a.test", "echo"),
        plugin("a", &[to_route("a")], "oauth2", &oauth2),
        route("s", HOST, "echo"),
        plugin(
            "s",
            &[to_route("s")],
            "openidConnect",
            &idp.block(&json!({"clientSecretRef": {"name": "all", "key": "client"}})),
        ),
        route("u", "u.test", "echo"),
        plugin("u", &[to_route("u")], "upstreamOauth", &upstream_oauth),
    ]);
    let mut build = Rig::build()
        .objects(objects)
        .flag("--log-level", "trace")
        .flag(
            "--store",
            &format!("file:{}", folder.path().join("store.redb").display()),
        )
        .flag("--store-key-file", &store_key)
        .flag("--state-key-file", &state_key);
    let port = build.port();
    let rig = build
        .listener(https_listener("https", port, Some("k.test"), "cert"))
        .start()
        .await;
    Stage {
        rig,
        idp,
        _provider: provider,
        folder,
    }
}

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const HTTPS: (&str, &str) = ("X-Forwarded-Proto", "https");

impl Stage {
    async fn post(&self, host: &str, path: &str, body: &str) -> Answer {
        let bytes = request("POST", host, path, &[FORM, HTTPS], body.as_bytes());
        self.rig.send(bytes).await
    }

    /// The same header over HTTP/1.1 and HTTP/2.
    async fn with(&self, canaries: &Canaries, host: &str, header: (&str, &str), status: u16) {
        let answer = self.rig.get_with(host, "/", &[header]).await;
        let mut client = h2::Client::open(self.rig.port).await;
        let name = header.0.to_ascii_lowercase();
        let other = client
            .get(&format!("http://{host}/"), &[(&name, header.1)])
            .await;
        assert_eq!(
            (answer.status, other.status),
            (status, status),
            "{}",
            answer.text()
        );
        if status >= 400 {
            canaries.refused(&answer, status);
        }
    }
}

async fn keys_and_jwts(stage: &Stage, canaries: &mut Canaries) {
    let key = canaries.0["API key"].clone();
    stage.with(canaries, "k.test", ("apikey", &key), 200).await;
    let wrong = canaries.hatch("API key of nobody");
    stage
        .with(canaries, "k.test", ("apikey", &wrong), 401)
        .await;
    let cookie = canaries.hatch("cookie of the client");
    stage
        .with(canaries, "k.test", ("Cookie", &format!("s={cookie}")), 401)
        .await;
    let query = canaries.hatch("API key of nobody in a query");
    let answer = stage.rig.get("k.test", &format!("/?apikey={query}")).await;
    canaries.refused(&answer, 401);
    let body = canaries.hatch("API key of nobody in a body");
    let answer = stage.post("k.test", "/", &format!("apikey={body}")).await;
    canaries.refused(&answer, 401);

    let shared = canaries.0["shared secret of a JWT issuer"].clone();
    for (kind, by, status) in [
        ("JWT", shared.as_str(), 200),
        (
            "JWT with a wrong signature",
            "another secret of thirty-two bytes",
            403,
        ),
    ] {
        let token = hs256(&json!({"iss": "issuer", "sub": kind}), by);
        canaries.add(kind, &token);
        stage
            .with(
                canaries,
                "j.test",
                ("Authorization", &format!("Bearer {token}")),
                status,
            )
            .await;
    }
    let basic = STANDARD.encode(format!("user:{}", canaries.hatch("password of a user")));
    canaries.add("Basic credentials", &basic);
    stage
        .with(
            canaries,
            "j.test",
            ("Authorization", &format!("Basic {basic}")),
            401,
        )
        .await;
}

async fn own_tokens(stage: &Stage, canaries: &mut Canaries) {
    let (app, provision) = (
        canaries.0["secret of an application"].clone(),
        canaries.0["provision key"].clone(),
    );
    let wrong = canaries.hatch("wrong provision key");
    let ask = |provision: &str| {
        format!(
            "client_id=app&client_secret={app}&response_type=code&provision_key={provision}&authenticated_userid=u"
        )
    };
    let answer = stage
        .post("a.test", "/oauth2/authorize", &ask(&wrong))
        .await;
    canaries.refused(&answer, 400);
    let answer = stage
        .post("a.test", "/oauth2/authorize", &ask(&provision))
        .await;
    let uri = answer.json()["redirect_uri"]
        .as_str()
        .expect("a redirect")
        .to_owned();
    let code = uri
        .split(['?', '&'])
        .find_map(|part| part.strip_prefix("code="));
    let code = code.expect("a code").to_owned();
    canaries.add("code", &code);
    let redeem = |code: &str, secret: &str| {
        format!("grant_type=authorization_code&code={code}&client_id=app&client_secret={secret}")
    };
    let wrong = canaries.hatch("wrong secret of an application");
    let answer = stage
        .post("a.test", "/oauth2/token", &redeem(&code, &wrong))
        .await;
    canaries.refused(&answer, 400);
    let verifier = canaries.hatch("code verifier that nobody has asked for at all");
    let body = redeem(&code, &app) + &format!("&code_verifier={verifier}");
    let answer = stage.post("a.test", "/oauth2/token", &body).await;
    canaries.refused(&answer, 400);
    let answer = stage
        .post("a.test", "/oauth2/token", &redeem(&code, &app))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for (kind, name) in [
        ("access token", "access_token"),
        ("refresh token", "refresh_token"),
    ] {
        canaries.add(kind, answer.json()[name].as_str().expect("a token"));
    }
}

/// The tokens that the application got, and others.
async fn use_of_tokens(stage: &Stage, canaries: &mut Canaries) {
    let app = canaries.0["secret of an application"].clone();
    let bearer = format!("Bearer {}", canaries.0["access token"]);
    stage
        .with(canaries, "a.test", ("Authorization", &bearer), 200)
        .await;
    let unknown = canaries.hatch("access token of nobody");
    stage
        .with(
            canaries,
            "a.test",
            ("Authorization", &format!("Bearer {unknown}")),
            401,
        )
        .await;
    let answer = stage
        .rig
        .get("a.test", &format!("/?access_token={unknown}"))
        .await;
    canaries.refused(&answer, 401);
    let refresh = format!(
        "grant_type=refresh_token&refresh_token={}&client_id=app&client_secret={app}",
        canaries.0["refresh token"]
    );
    assert_eq!(
        stage.post("a.test", "/oauth2/token", &refresh).await.status,
        200
    );
    let answer = stage.post("a.test", "/oauth2/token", &refresh).await;
    canaries.refused(&answer, 400);
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        let body = format!(
            "token={}&client_id=app&client_secret={app}",
            canaries.0["access token"]
        );
        assert_eq!(stage.post("a.test", path, &body).await.status, 200);
    }
}

async fn sessions(stage: &Stage, canaries: &mut Canaries) {
    let mut browser = Browser::default();
    let away = browser.open(&stage.rig, "/page").await;
    assert_eq!(away.status, 302, "{}", away.text());
    let attempt = browser
        .0
        .values()
        .next()
        .expect("a cookie of the attempt")
        .clone();
    canaries.add("cookie of an attempt to sign in", &attempt);
    browser.sign_in(&stage.rig, "/page").await;
    let session = browser.0["session"].clone();
    canaries.add("session", &session);
    canaries.add("access token of the provider", "canary-access-0");
    canaries.add("refresh token of the provider", "canary-refresh-0");
    assert_eq!(browser.open(&stage.rig, "/page").await.status, 200);
    stage.idp.script.lock().away = true;
    let mut changed = session.clone();
    changed.replace_range(20..24, "AAAA");
    canaries.add("session that was changed", &changed);
    let cookie = format!("session={changed}");
    let headers = [("Cookie", cookie.as_str()), ("Accept", "application/json")];
    let answer = stage.rig.get_with(HOST, "/page", &headers).await;
    canaries.refused(&answer, 401);
    let code = canaries.hatch("code of the provider");
    let answer = stage
        .rig
        .get(HOST, &format!("/callback?code={code}&state=nothing"))
        .await;
    assert!(answer.status >= 300, "{}", answer.text());
    canaries.none_in("an answer", answer.text().as_bytes());
}

#[tokio::test]
async fn none_of_thirty_secrets_is_written_down_anywhere() {
    let mut canaries = Canaries::default();
    let mut stage = stage(&mut canaries).await;
    keys_and_jwts(&stage, &mut canaries).await;
    own_tokens(&stage, &mut canaries).await;
    use_of_tokens(&stage, &mut canaries).await;
    sessions(&stage, &mut canaries).await;
    assert_eq!(stage.rig.get("u.test", "/").await.status, 200);
    let told = stage.rig.upstream.last();
    let upstream = &canaries.0["token for the upstream"];
    assert_eq!(
        told.header("authorization"),
        Some(&*format!("Bearer {upstream}"))
    );
    // Configuration with secrets where none belong.
    stage.rig.folder.put("wrong.yaml", &[
        plugin("wrong", &[to_route("k")], "keyAuth", &json!({"realm": [canaries.hatch("secret in a field of another type")]})),
        object("postern.dev/v1alpha1", "Credential", "wrong",
            &json!({"consumerRef": {"name": "alice"}, "keyAuth": {"hash": canaries.hatch("secret in place of a digest")}})),
    ]);
    stage.rig.reloaded().await;

    let mut places = vec![
        (
            "metrics".to_owned(),
            stage.rig.postern.metrics().await.into_bytes(),
        ),
        (
            "readyz".to_owned(),
            stage.rig.postern.readyz().await.text().into_bytes(),
        ),
    ];
    stage.rig.postern.signal("TERM");
    stage.rig.postern.end().await;
    let output = stage.rig.postern.output().join("\n");
    for word in ["\"TRACE\"", "a.test", "unknown_token", "/page"] {
        assert!(output.contains(word), "{word} is not in the output");
    }
    places.push(("the output".to_owned(), output.into_bytes()));
    let state = files(stage.rig.postern.state().path());
    let kept = state
        .into_iter()
        .chain([stage.folder.path().join("store.redb")]);
    for file in kept {
        places.push((
            file.display().to_string(),
            std::fs::read(&file).expect("a file"),
        ));
    }
    assert!(places.len() > 5, "snapshot and store are among the files");
    for (place, bytes) in &places {
        canaries.none_in(place, bytes);
    }
    assert!(canaries.0.len() >= 30, "{} secrets", canaries.0.len());
}
