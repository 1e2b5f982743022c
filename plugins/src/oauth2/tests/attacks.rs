//! What somebody might try.

use super::*;

#[tokio::test]
async fn a_code_is_bound_to_its_application_redirect_and_challenge() {
    let rig = Rig::new(ALL);
    let pkce = [("code_challenge", CHALLENGE), ("redirect_uri", CALLBACK)];
    let code = rig.code(&pkce).await;
    let with = |more: &[(&'static str, &'static str)]| {
        let mut all = vec![
            ("grant_type", "authorization_code"),
            ("code", ""),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        all.extend(more.iter().copied());
        all
    };
    for (more, error, description) in [
        (
            &[("client_id", "second"), ("client_secret", "sec2")][..],
            "invalid_request",
            "Invalid code",
        ),
        (
            &[("redirect_uri", "https://app.test/other?a=1")],
            "invalid_grant",
            "Invalid redirect_uri that is not the one of the authorization request",
        ),
        (
            &[("redirect_uri", "")],
            "invalid_grant",
            "Invalid redirect_uri that is not the one of the authorization request",
        ),
        (
            &[("code_verifier", "")],
            "invalid_request",
            "code_verifier is required for PKCE authorization requests",
        ),
        (
            &[("code_verifier", "short")],
            "invalid_request",
            "code_verifier must be between 43 and 128 characters",
        ),
        (
            &[("code_verifier", CHALLENGE)],
            "invalid_grant",
            "Invalid code",
        ),
    ] {
        let mut parameters = with(more);
        parameters.push(("code", &code));
        let said = rig.token(&parameters).await;
        assert_eq!(
            (
                said.status,
                said.text("error"),
                said.text("error_description")
            ),
            (400, error, description),
            "{more:?}"
        );
    }
    // None of it has used the code up.
    let mut parameters = with(&[]);
    parameters.push(("code", &code));
    assert_eq!(rig.token(&parameters).await.status, 200);
}

#[tokio::test]
async fn a_verifier_without_a_challenge_was_meant_for_another_request() {
    let rig = Rig::new(ALL);
    let code = rig.code(&[]).await;
    let said = rig
        .token(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("code_verifier", VERIFIER),
        ])
        .await;
    assert_eq!((said.status, said.text("error")), (400, "invalid_grant"));
}

#[tokio::test]
async fn a_code_ends_after_its_time() {
    let mut rig = Rig::new(ALL);
    let code = rig.code(&[]).await;
    rig.now += 300;
    assert_eq!(rig.redeem(&code).await.status, 400);
}

#[tokio::test]
async fn pkce_cannot_be_weakened() {
    let rig = Rig::new(ALL);
    for (more, description) in [
        (
            &[("client_id", "spa")][..],
            "code_challenge is required for public clients",
        ),
        (
            &[
                ("code_challenge", CHALLENGE),
                ("code_challenge_method", "plain"),
            ],
            "code_challenge_method is not supported, must be S256",
        ),
        (
            &[("code_challenge_method", "S256")],
            "code_challenge is required when code_method is present",
        ),
    ] {
        let said = rig.authorize(more).await;
        assert_eq!(said.status, 400);
        assert_eq!(said.sent("error_description").unwrap(), description);
    }
}

#[tokio::test]
async fn what_is_given_twice_is_refused() {
    let rig = Rig::new(ALL);
    let all = "provision_key=prov&authenticated_userid=u&client_id=app&response_type=code";
    for twice in [
        "redirect_uri=https://app.test/cb&redirect_uri=https://evil.test/",
        "client_id=second",
        "provision_key=x",
        "state=a&state=b",
        "code_challenge=a&code_challenge=b",
    ] {
        let form = "content-type: application/x-www-form-urlencoded";
        let request = format!("POST /oauth2/authorize\nhost: a\n{form}\n\n{all}&{twice}");
        let said = rig.answer(&request).await;
        assert_eq!(
            (said.status, said.text("error")),
            (400, "invalid_request"),
            "{twice}"
        );
    }
}

#[tokio::test]
async fn a_user_cannot_smuggle_headers() {
    let rig = Rig::new(ALL);
    for user in ["a\r\nx-consumer-id: 1", "a\0", " \t ", &"a".repeat(1025)] {
        let said = rig.authorize(&[("authenticated_userid", user)]).await;
        assert_eq!(
            (said.status, said.text("error")),
            (400, "invalid_authenticated_userid"),
            "{user:?}"
        );
    }
}

#[tokio::test]
async fn plain_http_is_refused_everywhere() {
    let rig = Rig::new(ALL);
    for endpoint in ["authorize", "token", "revoke", "introspect"] {
        let mut scene = Scene::read(&format!(
            "POST /oauth2/{endpoint}\nhost: a\nx-forwarded-proto: https"
        ));
        let mut exchange = Exchange {
            head: &mut scene.head,
            body: &mut scene.body,
            caller: &mut scene.caller,
            directory: &rig.directory,
            now: NOW,
            https: true,
            tls: false,
            response: &mut scene.response,
            watch: None,
            request_id: "it",
            rehearsal: false,
        };
        let Verdict::Answer(answer) = rig.handler.request(&mut exchange).await else {
            panic!("{endpoint}")
        };
        assert_eq!(answer.status, 400);
        assert_eq!(answer.reason, "access_denied");
    }
}

#[tokio::test]
async fn only_an_application_that_proves_itself_learns_about_its_tokens() {
    let rig = Rig::new(ALL);
    let tokens = rig.redeem(&rig.code(&[]).await).await;
    let (access, refresh) = (tokens.text("access_token"), tokens.text("refresh_token"));
    for client in [
        &[][..],
        &[("client_id", "app")],
        &[("client_id", "app"), ("client_secret", "wrong")],
        &[("client_id", "spa")],
        &[("client_id", "nobody"), ("client_secret", "sec")],
    ] {
        for token in [access, refresh] {
            let said = rig
                .post("introspect", &[client, &[("token", token)]].concat())
                .await;
            assert_eq!(
                (said.status, said.text("error")),
                (401, "invalid_client"),
                "{client:?}"
            );
            assert!(
                said.headers["www-authenticate"]
                    .to_str()
                    .unwrap()
                    .starts_with("Basic")
            );
        }
    }
    let app = [("client_id", "app"), ("client_secret", "sec")];
    let second = [("client_id", "second"), ("client_secret", "sec2")];
    for token in [access, refresh] {
        let said = rig
            .post("introspect", &[&second[..], &[("token", token)]].concat())
            .await;
        assert_eq!(said.json, serde_json::json!({"active": false}));
        let said = rig
            .post("introspect", &[&app[..], &[("token", token)]].concat())
            .await;
        assert_eq!(said.json["active"], true);
        assert_eq!(
            (said.text("client_id"), said.text("scope"), said.text("sub")),
            ("app", "email", "u1")
        );
    }
    let said = rig
        .post("introspect", &[&app[..], &[("token", "nonsense")]].concat())
        .await;
    assert_eq!(said.json, serde_json::json!({"active": false}));
}

#[tokio::test]
async fn only_its_own_application_revokes_a_token() {
    let rig = Rig::new(ALL);
    let tokens = rig.redeem(&rig.code(&[]).await).await;
    let (access, refresh) = (tokens.text("access_token"), tokens.text("refresh_token"));
    let app = [("client_id", "app"), ("client_secret", "sec")];
    let second = [("client_id", "second"), ("client_secret", "sec2")];
    for (client, status) in [
        (&[][..], 401),
        (&[("client_id", "app")], 401),
        (&second[..], 400),
    ] {
        for token in [access, refresh] {
            let said = rig
                .post("revoke", &[client, &[("token", token)]].concat())
                .await;
            assert_eq!(said.status, status, "{client:?}");
        }
    }
    assert_eq!(rig.present(access).await, "ok");
    let rig = &rig;
    let revoke = |token| {
        let parameters = [&app[..], &[("token", token)]].concat();
        async move { rig.post("revoke", &parameters).await.status }
    };
    assert_eq!(revoke("unknown").await, 200);
    assert_eq!(revoke(access).await, 200);
    assert_eq!(rig.present(access).await, "unknown_token");
    let next = rig.refresh(refresh).await;
    assert_eq!(rig.present(next.text("access_token")).await, "ok");
    assert_eq!(revoke(next.text("refresh_token")).await, 200);
    assert_eq!(
        rig.present(next.text("access_token")).await,
        "unknown_token"
    );
    assert_eq!(rig.refresh(next.text("refresh_token")).await.status, 400);
}

#[tokio::test]
async fn no_bearer_that_is_not_ours_passes() {
    let rig = Rig::new(ALL);
    let given = rig.token(&[("grant_type", "client_credentials")]).await;
    let good = given.text("access_token").to_owned();
    let mut changed = good.clone().into_bytes();
    changed[31] = if changed[31] == b'a' { b'b' } else { b'a' };
    let changed = String::from_utf8(changed).unwrap();
    let code = rig.code(&[]).await;
    let tokens = rig.redeem(&rig.code(&[]).await).await;
    for token in [
        "",
        "x",
        &changed,
        good.get(..31).unwrap(),
        &format!("{good}a"),
        &good.to_lowercase(),
        &code,
        tokens.text("refresh_token"),
        "eyJhbGciOiJub25lIn0.e30.",
    ] {
        assert_eq!(rig.present(token).await, "unknown_token", "{token}");
    }
    assert_eq!(rig.present(&good).await, "ok");
}
