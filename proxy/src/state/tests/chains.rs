//! Which plugins run, and that none is left out.

use super::*;

#[test]
fn the_narrowest_plugin_of_each_type_runs_in_the_order_of_types() {
    let mut rig = basic();
    let acl = || {
        Body::Plugin(Plugin {
            r#type: "acl".into(),
            config: br#"{"allow":["gold"]}"#.to_vec().into(),
            ..Plugin::default()
        })
    };
    rig.put([
        ("Plugin/shop/acl-of-rule", acl()),
        ("Plugin/shop/acl-of-listener", acl()),
        ("Plugin/shop/k-of-service", key_auth("{}")),
        ("Plugin/shop/k-of-listener", key_auth("{}")),
        (
            "Listener/a",
            listener(
                8000,
                "",
                &["Plugin/shop/acl-of-listener", "Plugin/shop/k-of-listener"],
            ),
        ),
        (
            "Upstream/shop/echo/80",
            upstream(&["Plugin/shop/k-of-service"]),
        ),
        (
            "Route/HTTPRoute/shop/r",
            Body::Route(route(
                "r",
                vec![
                    rule("/", &["Plugin/shop/acl-of-rule"], "Upstream/shop/echo/80"),
                    rule("/own", &["Plugin/shop/k"], "Upstream/shop/echo/80"),
                ],
            )),
        ),
    ]);
    let names = |path: &str| -> Vec<String> {
        let rule = rig.found(8000, "h", path).unwrap();
        let chain = Arc::clone(&rule.backends[0].chain);
        chain
            .plugins
            .iter()
            .map(|plugin| plugin.name.to_string())
            .collect()
    };
    assert_eq!(names("/"), ["shop/k-of-service", "shop/acl-of-rule"]);
    assert_eq!(names("/own"), ["shop/k", "shop/acl-of-listener"]);
    let redirect = Arc::clone(&rig.found(8000, "h", "/").unwrap().redirect_chain);
    let names: Vec<_> = redirect
        .plugins
        .iter()
        .map(|plugin| &*plugin.name)
        .collect();
    assert_eq!(
        names,
        ["shop/k-of-listener", "shop/acl-of-rule"],
        "no Service answers a redirect"
    );
}

#[test]
fn plugins_that_cannot_run_close_their_routes() {
    let bad: [(Body, &str); 5] = [
        (key_auth(r#"{"newSecurityField":true}"#), "newSecurityField"),
        (key_auth("not JSON"), "keyAuth"),
        (
            Body::Plugin(Plugin {
                r#type: "saml".into(),
                ..Plugin::default()
            }),
            "saml",
        ),
        (
            Body::Plugin(Plugin {
                closed: "its Secret is missing".into(),
                ..Plugin::default()
            }),
            "Secret",
        ),
        (
            Body::Plugin(Plugin {
                r#type: "keyAuth".into(),
                closed: "why".into(),
                ..Plugin::default()
            }),
            "why",
        ),
    ];
    for (body, why) in bad {
        let mut rig = basic();
        let closed = matches!(&body, Body::Plugin(plugin) if !plugin.closed.is_empty());
        let applied = rig.put([("Plugin/shop/k", body)]);
        assert!(
            applied.not_kept.is_empty(),
            "a refused plugin is refused after a restart, too"
        );
        let rule = rig.found(8000, "h", "/").unwrap();
        let chain = &rule.backends[0].chain.plugins;
        assert!(
            chain.len() == 1
                && chain[0]
                    .handler
                    .as_ref()
                    .is_err_and(|reason| reason.contains(why))
        );
        // The control plane knows which ones it closed itself.
        assert_eq!(
            rig.refusals()
                .iter()
                .filter(|(key, _)| key == "Plugin/shop/k")
                .count(),
            usize::from(!closed)
        );
        rig.put([("Plugin/shop/k", key_auth("{}"))]);
        assert_eq!(rig.refusals(), []);
        assert!(
            rig.found(8000, "h", "/").unwrap().backends[0].chain.plugins[0]
                .handler
                .is_ok()
        );
    }
}

#[test]
fn a_plugin_of_unknown_type_is_not_covered_by_a_narrower_one() {
    let mut rig = basic();
    rig.put([
        (
            "Plugin/shop/new",
            Body::Plugin(Plugin {
                closed: "nobody can read it".into(),
                ..Plugin::default()
            }),
        ),
        (
            "Listener/a",
            listener(8000, "", &["Plugin/shop/new", "Plugin/shop/never-there"]),
        ),
    ]);
    let rule = rig.found(8000, "h", "/").unwrap();
    let chain = &rule.backends[0].chain.plugins;
    let closed: Vec<_> = chain
        .iter()
        .filter(|plugin| plugin.handler.is_err())
        .map(|plugin| &*plugin.name)
        .collect();
    assert_eq!(
        (closed, chain.len()),
        (vec!["shop/new", "shop/never-there"], 3)
    );
    assert!(
        chain[0].handler.is_err(),
        "first, so that nothing else is answered"
    );
}

#[test]
fn a_plugin_that_disappears_closes_what_still_names_it() {
    let mut rig = basic();
    let applied = rig.change(|set| {
        set.remove("Plugin/shop/k");
    });
    assert!(applied.rebuilt);
    assert!(
        rig.found(8000, "h", "/").unwrap().backends[0].chain.plugins[0]
            .handler
            .is_err()
    );
    // Consumers may still name it for a moment.
    assert!(
        rig.state
            .runtime()
            .load()
            .plugins
            .contains_key("Plugin/shop/k")
    );
    rig.put([("Listener/a", listener(8000, "x", &[]))]);
    assert!(
        !rig.state
            .runtime()
            .load()
            .plugins
            .contains_key("Plugin/shop/k")
    );
}
