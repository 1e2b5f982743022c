//! Where providers send browsers back to.

use super::*;

const ROUTE: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}";
const GATEWAY: &str = "{group: gateway.networking.k8s.io, kind: Gateway, name: gateway}";

fn login(target: &str, more: &str) -> World {
    World::of(&format!(
        "{SHOP}---
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {{name: login, namespace: shop}}
spec:
  targetRefs: [{target}]
  openidConnect: {{clientId: shop, clientSecretRef: {{name: keys, key: alice}}, discovery: 'https://idp.test/.well-known/openid-configuration', {more}}}
"
    ))
}

fn back_at(uri: &str) -> World {
    login(ROUTE, &format!("redirectUri: '{uri}'"))
}

#[test]
fn a_callback_that_a_route_leads_to_the_plugin_is_fine() {
    for uri in [
        "https://shop.test/orders/callback",
        "https://SHOP.test:8443/orders/callback?from=idp",
    ] {
        assert_eq!(back_at(uri).diagnostics(), [""; 0], "{uri}");
    }
}

#[test]
fn a_callback_that_no_route_leads_to_the_plugin_is_told() {
    for uri in [
        "https://shop.test/callback",
        "https://shop.test/ordersandmore",
        "https://other.test/orders/callback",
    ] {
        let mut world = back_at(uri);
        world.assert_diagnostic(&[
            "Warning AuthPlugin shop/login CallbackNotRouted",
            "spec.openidConnect.redirectUri",
            uri,
        ]);
        world.delete(Kind::AuthPlugin, "shop", "login");
        assert_eq!(world.diagnostics(), [""; 0]);
    }
}

#[test]
fn a_callback_that_is_the_route_itself_is_told() {
    let parts = ["CallbackNotRouted", "such as /orders/callback"];
    back_at("https://shop.test/orders").assert_diagnostic(&parts);
}

#[test]
fn any_route_of_a_gateway_leads_to_its_plugin() {
    let at = |uri: &str| login(GATEWAY, &format!("redirectUri: '{uri}'"));
    assert_eq!(at("https://shop.test/orders/back").diagnostics(), [""; 0]);
    at("https://shop.test/back").assert_diagnostic(&["CallbackNotRouted"]);
}

#[test]
fn who_signs_nobody_in_needs_no_callback() {
    let more = "bearerOnly: true, redirectUri: 'https://nowhere.test/cb'";
    assert_eq!(login(ROUTE, more).diagnostics(), [""; 0]);
}

#[test]
fn a_method_of_a_list_has_a_callback_too() {
    let world = World::of(&format!(
        "{SHOP}---
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {{name: login, namespace: shop}}
spec:
  targetRefs: [{ROUTE}]
  anyOf:
  - keyAuth: {{}}
  - openidConnect: {{clientId: shop, clientSecretRef: {{name: keys, key: alice}}, discovery: 'https://idp.test/.well-known/openid-configuration', redirectUri: 'https://shop.test/callback'}}
"
    ));
    world.assert_diagnostic(&[
        "Warning AuthPlugin shop/login CallbackNotRouted",
        "spec.anyOf[1].openidConnect.redirectUri",
    ]);
}
