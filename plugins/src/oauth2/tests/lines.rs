//! Single use, replay and the end of tokens.

use std::sync::{Arc, Barrier};

use super::*;

const RACERS: usize = 64;

/// Lets many ask at the same time, each on a thread of its own; counts those that get tokens.
fn race(rig: &Arc<Rig>, parameters: Vec<(&'static str, String)>) -> Vec<Said> {
    let barrier = Arc::new(Barrier::new(RACERS));
    let parameters = Arc::new(parameters);
    let racers: Vec<_> = (0..RACERS)
        .map(|_| {
            let (rig, barrier) = (Arc::clone(rig), Arc::clone(&barrier));
            let parameters = Arc::clone(&parameters);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                let parameters: Vec<_> = parameters
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                barrier.wait();
                runtime.block_on(rig.token(&parameters))
            })
        })
        .collect();
    racers
        .into_iter()
        .map(|racer| racer.join().unwrap())
        .collect()
}

#[tokio::test]
async fn of_many_that_redeem_a_code_one_gets_tokens_over_every_store() {
    for (kind, store, folder) in stores().await {
        let rig = Arc::new(Rig::over(ALL, store, folder, "it"));
        for _ in 0..3 {
            let code = rig.code(&[]).await;
            let said = race(
                &rig,
                vec![("grant_type", "authorization_code".into()), ("code", code)],
            );
            let won = said.iter().filter(|said| said.status == 200).count();
            assert_eq!(won, 1, "{kind}");
            assert!(said.iter().all(|said| said.status == 200
                || (said.status == 400 && said.text("error_description") == "Invalid code")));
        }
    }
}

#[tokio::test]
async fn of_many_that_refresh_one_gets_tokens_over_every_store() {
    for (kind, store, folder) in stores().await {
        let rig = Arc::new(Rig::over(ALL, store, folder, "it"));
        for _ in 0..3 {
            let tokens = rig.redeem(&rig.code(&[]).await).await;
            let refresh = tokens.text("refresh_token").to_owned();
            let said = race(
                &rig,
                vec![
                    ("grant_type", "refresh_token".into()),
                    ("refresh_token", refresh),
                ],
            );
            let won = said.iter().filter(|said| said.status == 200).count();
            assert_eq!(won, 1, "{kind}");
        }
    }
}

#[tokio::test]
async fn a_code_that_comes_again_ends_all_that_followed_from_it() {
    for (kind, store, folder) in stores().await {
        let rig = Rig::over(ALL, store, folder, "it");
        let code = rig.code(&[]).await;
        let first = rig.redeem(&code).await;
        let second = rig.refresh(first.text("refresh_token")).await;
        let (access, refresh) = (second.text("access_token"), second.text("refresh_token"));
        assert_eq!(rig.present(access).await, "ok");
        let again = rig.redeem(&code).await;
        assert_eq!(
            (again.status, again.text("error")),
            (400, "invalid_request"),
            "{kind}"
        );
        assert_eq!(rig.present(access).await, "unknown_token", "{kind}");
        assert_eq!(rig.refresh(refresh).await.status, 400, "{kind}");
        // Not even the code begins anew.
        assert_eq!(rig.redeem(&code).await.status, 400, "{kind}");
    }
}

#[tokio::test]
async fn a_replaced_refresh_token_of_a_public_application_ends_its_line() {
    for (kind, store, folder) in stores().await {
        let rig = Rig::over(ALL, store, folder, "it");
        let public = [("client_id", "spa"), ("code_challenge", CHALLENGE)];
        let code = rig.code(&public).await;
        let ask = |more: &[(&'static str, &str)]| {
            let mut all = vec![("client_id".to_owned(), "spa".to_owned())];
            all.extend(
                more.iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            );
            let rig = &rig;
            async move {
                let all: Vec<_> = all.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
                rig.post("token", &all).await
            }
        };
        let first = ask(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("code_verifier", VERIFIER),
        ])
        .await;
        let ask = &ask;
        let refresh = move |token: String| async move {
            ask(&[("grant_type", "refresh_token"), ("refresh_token", &token)]).await
        };
        let second = refresh(first.text("refresh_token").to_owned()).await;
        assert_eq!(rig.present(second.text("access_token")).await, "ok");
        let again = refresh(first.text("refresh_token").to_owned()).await;
        assert_eq!(again.text("error_description"), "Invalid refresh_token");
        let access = second.text("access_token");
        assert_eq!(rig.present(access).await, "unknown_token", "{kind}");
        let after = refresh(second.text("refresh_token").to_owned()).await;
        assert_eq!(after.status, 400, "{kind}");
    }
}

#[tokio::test]
async fn a_replaced_refresh_token_of_a_proven_application_is_refused_alone() {
    let rig = Rig::new(ALL);
    let first = rig.redeem(&rig.code(&[]).await).await;
    let second = rig.refresh(first.text("refresh_token")).await;
    // Another application's attempt changes nothing.
    let foreign = [
        ("grant_type", "refresh_token"),
        ("refresh_token", first.text("refresh_token")),
        ("client_id", "second"),
        ("client_secret", "sec2"),
    ];
    assert_eq!(rig.token(&foreign).await.text("error"), "invalid_client");
    let again = rig.refresh(first.text("refresh_token")).await;
    assert_eq!(again.text("error_description"), "Invalid refresh_token");
    assert_eq!(rig.present(second.text("access_token")).await, "ok");
    assert_eq!(rig.refresh(second.text("refresh_token")).await.status, 200);
}

#[tokio::test]
async fn without_a_grace_no_clock_gives_one() {
    for (kind, store, folder) in stores().await {
        let mut rig = Rig::over(ALL, store, folder, "it");
        let code = rig.code(&[]).await;
        let first = rig.redeem(&code).await;
        assert_eq!(first.status, 200, "{kind}");
        rig.now += 1;
        let second = rig.refresh(first.text("refresh_token")).await;
        assert_eq!(second.status, 200, "{kind}");
        // The clock of another proxy is behind.
        rig.now -= 1;
        let again = rig.refresh(first.text("refresh_token")).await;
        assert_eq!(again.status, 400, "{kind}");
        assert_eq!(rig.present(second.text("access_token")).await, "ok");
    }
}

#[tokio::test]
async fn with_a_grace_the_same_answer_comes_again() {
    let mut rig = Rig::new(r#"{"enableAuthorizationCode":true,"retryGraceSeconds":10}"#);
    let code = rig.code(&[]).await;
    let first = rig.redeem(&code).await;
    rig.now += 9;
    let again = rig.redeem(&code).await;
    for member in ["access_token", "refresh_token"] {
        assert_eq!(first.text(member), again.text(member));
    }
    assert_eq!(again.json["expires_in"], 7191);
    let refresh = first.text("refresh_token");
    let second = rig.refresh(refresh).await;
    assert_eq!(rig.refresh(refresh).await.json, second.json);
    // Later it is a replay.
    rig.now += 10;
    assert_eq!(rig.refresh(refresh).await.status, 400);
    assert_eq!(rig.redeem(&code).await.status, 400);
    assert_eq!(
        rig.present(second.text("access_token")).await,
        "unknown_token"
    );
}

#[tokio::test]
async fn a_refresh_token_may_be_used_again_where_that_is_wanted() {
    let rig = Rig::new(r#"{"enablePasswordGrant":true,"reuseRefreshToken":true}"#);
    let user = [
        ("grant_type", "password"),
        ("provision_key", "prov"),
        ("authenticated_userid", "u"),
    ];
    let first = rig.token(&user).await;
    let refresh = first.text("refresh_token").to_owned();
    let second = rig.refresh(&refresh).await;
    assert_eq!(second.text("refresh_token"), refresh);
    assert_eq!(
        rig.present(first.text("access_token")).await,
        "unknown_token"
    );
    let said = race(
        &Arc::new(rig),
        vec![
            ("grant_type", "refresh_token".into()),
            ("refresh_token", refresh),
        ],
    );
    assert!(said.iter().filter(|said| said.status == 200).count() > 0);
    assert!(said.iter().all(|said| matches!(said.status, 200 | 503)));
}

#[tokio::test]
async fn tokens_end_with_their_time_application_consumer_and_plugin() {
    let store = stage::services().store;
    let mut rig = Rig::over(
        r#"{"enableClientCredentials":true,"tokenExpiration":100}"#,
        store.clone(),
        None,
        "it",
    );
    let token = rig.token(&[("grant_type", "client_credentials")]).await;
    let token = token.text("access_token").to_owned();
    assert_eq!(rig.present(&token).await, "ok");

    let other = Rig::over(
        r#"{"enableClientCredentials":true}"#,
        store.clone(),
        None,
        "other",
    );
    assert_eq!(other.present(&token).await, "other_plugin");

    let consumer = KeyId::of("Consumer/shop/alice");
    let mut changes = Changes::default();
    changes.remove_consumer(consumer);
    rig.directory.apply(changes);
    assert_eq!(rig.present(&token).await, "no_application");
    // Another Consumer of that name is not the one whom the token was issued to.
    let mut changes = Changes::default();
    let new = crate::directory::NewConsumer::new("another id", "alice", "", &[], &[]).unwrap();
    changes.put_consumer(consumer, new);
    rig.directory.apply(changes);
    assert_eq!(rig.present(&token).await, "no_application");

    rig.directory = stage::directory();
    assert_eq!(rig.present(&token).await, "no_application");
    application(&rig.directory, "app", Some("new secret"));
    assert_eq!(rig.present(&token).await, "ok");
    rig.now += 99;
    assert_eq!(rig.present(&token).await, "ok");
    rig.now += 1;
    assert_eq!(rig.present(&token).await, "unknown_token");
}

#[tokio::test]
async fn global_tokens_count_where_both_plugins_say_so() {
    let global = r#"{"enableClientCredentials":true,"globalCredentials":true}"#;
    let local = r#"{"enableClientCredentials":true}"#;
    let store = stage::services().store;
    let rig = |config, key| Rig::over(config, store.clone(), None, key);
    let first = rig(global, "Plugin/shop/first");
    let token = first.token(&[("grant_type", "client_credentials")]).await;
    let token = token.text("access_token");
    assert_eq!(rig(global, "Plugin/shop/b").present(token).await, "ok");
    assert_eq!(
        rig(local, "Plugin/shop/c").present(token).await,
        "global_token"
    );
    let own = rig(local, "Plugin/shop/c");
    let token = own.token(&[("grant_type", "client_credentials")]).await;
    let token = token.text("access_token");
    assert_eq!(first.present(token).await, "other_plugin");
}

#[tokio::test]
async fn an_access_token_of_a_line_may_have_less_scope() {
    let rig = Rig::new(ALL);
    let tokens = rig
        .redeem(&rig.code(&[("scope", "email profile")]).await)
        .await;
    let narrowed = rig
        .token(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", tokens.text("refresh_token")),
            ("scope", "profile"),
        ])
        .await;
    let token = narrowed.text("access_token");
    let mut scene = Scene::read(&format!("GET /\nauthorization: Bearer {token}"));
    rig.verdict(&mut scene).await;
    assert_eq!(scene.caller.scope.unwrap(), "profile");
    let more = [
        ("grant_type", "refresh_token"),
        ("refresh_token", narrowed.text("refresh_token")),
        ("scope", "profile admin"),
    ];
    assert_eq!(
        rig.token(&more).await.text("error_description"),
        "Scope mismatch"
    );
}
