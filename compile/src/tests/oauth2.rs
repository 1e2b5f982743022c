//! Applications: what the proxies get of them, and who may call himself what.

use proto::credential::Proof;

use super::*;

const TO_ROUTE: &str =
    "targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]";

fn shop_with(more: &str) -> World {
    World::of(&format!("{SHOP}{more}"))
}

fn plugin(name: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {{name: {name}, namespace: shop}}
spec: {spec}
"
    )
}

const KEY: &str = "Credential/shop/app";

fn credential(name: &str, oauth2: &str) -> String {
    format!(
        "---
apiVersion: postern.dev/v1alpha1
kind: Credential
metadata: {{name: {name}, namespace: shop}}
spec: {{consumerRef: {{name: alice}}, oauth2: {oauth2}}}
"
    )
}

const SECRET: &str = "---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: shop}
stringData: {clientSecret: hunter2}
";

fn application(world: &World, key: &str) -> Option<proto::Application> {
    match world.credential(key)?.proof? {
        Proof::Application(application) => Some(application),
        _ => None,
    }
}

#[test]
fn a_secret_reaches_the_proxies_as_its_digest() {
    let spec = "{name: App, clientId: app-1, clientSecretRef: {name: s, key: clientSecret}, \
                redirectUris: ['https://app.test/cb']}";
    let world = shop_with(&format!("{SECRET}{}", credential("app", spec)));
    let application = application(&world, KEY).unwrap();
    assert_eq!(application.client_id, "app-1");
    assert_eq!(application.redirect_uris, ["https://app.test/cb"]);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"hunter2");
    assert_eq!(application.secret_digest, digest.as_ref());
    assert!(!format!("{application:?}").contains("app-1"));
}

#[test]
fn what_is_missing_is_generated() {
    let world = shop_with(&credential("app", "{name: App}"));
    assert!(application(&world, KEY).is_none());
    assert_eq!(
        world.condition(Kind::Credential, "app", "ResolvedRefs"),
        "False/Pending: a clientId and clientSecret is being generated into Secret shop/app"
    );
    assert_eq!(
        world.field(Kind::Credential, "app", "secretName"),
        json!("app")
    );
}

#[test]
fn a_public_application_has_no_secret() {
    let spec = "{name: App, clientId: spa, clientType: public}";
    let world = shop_with(&credential("app", spec));
    assert!(application(&world, KEY).unwrap().secret_digest.is_empty());
}

#[test]
fn client_ids_are_unique_in_their_namespace() {
    let spec = "{name: App, clientId: spa, clientType: public}";
    let world = shop_with(&format!(
        "{}{}",
        credential("app", spec),
        credential("bee", spec)
    ));
    assert!(application(&world, KEY).is_some());
    assert!(application(&world, "Credential/shop/bee").is_none());
    assert!(
        world
            .condition(Kind::Credential, "bee", "Accepted")
            .starts_with("False/Conflicted")
    );
}

#[test]
fn a_labelled_secret_is_an_application_in_kongs_words_too() {
    for (data, secret, uris) in [
        (
            "{clientId: a, clientSecret: b, redirectUris: 'https://a.test/ https://b.test/'}",
            true,
            2,
        ),
        (
            "{client_id: a, client_secret: b, redirect_uris: 'https://a.test/'}",
            true,
            1,
        ),
        ("{client_id: a, client_type: public}", false, 0),
    ] {
        let world = shop_with(&format!(
            "---
apiVersion: v1
kind: Secret
metadata:
  name: own
  namespace: shop
  labels: {{postern.dev/credential: oauth2}}
  annotations: {{postern.dev/consumer: alice}}
stringData: {data}
"
        ));
        let application = application(&world, "Credential/shop/secret:own").unwrap();
        assert_eq!(application.client_id, "a", "{data}");
        assert_eq!(!application.secret_digest.is_empty(), secret, "{data}");
        assert_eq!(application.redirect_uris.len(), uris, "{data}");
    }
    let world = shop_with(
        "---
apiVersion: v1
kind: Secret
metadata:
  name: own
  namespace: shop
  labels: {postern.dev/credential: oauth2}
  annotations: {postern.dev/consumer: alice}
stringData: {client_id: a, client_secret: b, redirect_uris: 'javascript:alert(1)'}
",
    );
    world.assert_diagnostic(&["Secret shop/own", "data.redirect_uris", "absolute URIs"]);
}

#[test]
fn the_provision_key_is_generated_and_sent_apart() {
    let spec = format!("{{{TO_ROUTE}, oauth2: {{enableClientCredentials: true}}}}");
    let world = shop_with(&plugin("tokens", &spec));
    assert!(
        world
            .plugin("Plugin/shop/tokens")
            .closed
            .contains("provisionKey")
    );
}

#[test]
fn what_issues_tokens_wants_a_store_that_proxies_share() {
    let provider =
        "oauth2: {enableClientCredentials: true, provisionKeySecretRef: {name: keys, key: alice}}";
    for (block, shares) in [
        (provider.to_owned(), true),
        (format!("anyOf: [{{jwt: {{}}}}, {{{provider}}}]"), true),
        ("jwt: {}".to_owned(), false),
    ] {
        let world = shop_with(&plugin("tokens", &format!("{{{TO_ROUTE}, {block}}}")));
        let programmed = world.condition(Kind::AuthPlugin, "tokens", "Programmed");
        let start = if shares { "SharedWhen[" } else { "When[" };
        assert!(programmed.starts_with(start), "{block}: {programmed}");
    }
}
