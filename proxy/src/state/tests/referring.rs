//! Plugins that refer to values: made when everything is there, and made anew when a value changes.

use super::*;

const PLUGIN: &str = "Plugin/shop/k";
const VALUE: &str = "Secret/shop/s/key";

fn secret(value: &str) -> Body {
    let value = value.as_bytes().to_vec().into();
    Body::Secret(proto::Secret { value })
}

fn plugin(config: &str) -> Body {
    Body::Plugin(Plugin {
        r#type: "keyAuth".into(),
        config: config.as_bytes().to_vec().into(),
        references: vec![proto::Reference {
            field: "secretRef".into(),
            key: VALUE.into(),
        }],
        ..Plugin::default()
    })
}

fn handler(rig: &Rig) -> Arc<ChainPlugin> {
    let runtime = rig.state.runtime().load();
    Arc::clone(&runtime.plugins[PLUGIN])
}

#[test]
fn a_plugin_is_made_anew_with_every_value_that_it_refers_to() {
    let mut rig = basic();
    // In the order of keys the plugin comes first.
    rig.put([(PLUGIN, plugin("{}")), (VALUE, secret("old"))]);
    assert!(rig.refusals().is_empty());
    let old = handler(&rig);
    assert!(rig.put([(VALUE, secret("new"))]).rebuilt);
    let new = handler(&rig);
    assert!(!Arc::ptr_eq(&old, &new));
    assert!(!rig.put([("Secret/shop/other/key", secret("x"))]).rebuilt);
    assert!(
        Arc::ptr_eq(&new, &handler(&rig)),
        "other values are nothing to it"
    );
    let gone = rig.change(|set| {
        set.remove(VALUE);
    });
    assert!(gone.rebuilt, "it has to say that it lacks its value");
}

#[test]
fn a_plugin_that_no_longer_refers_to_anything_is_left_alone() {
    let mut rig = basic();
    rig.put([(PLUGIN, plugin("{}")), (VALUE, secret("old"))]);
    rig.put([(PLUGIN, key_auth("{}"))]);
    let kept = handler(&rig);
    assert!(!rig.put([(VALUE, secret("new"))]).rebuilt);
    assert!(Arc::ptr_eq(&kept, &handler(&rig)));
}

#[test]
fn a_plugin_that_cannot_be_understood_is_closed_and_mended() {
    let mut rig = basic();
    rig.put([
        (PLUGIN, plugin(r#"{"keyNames":[]}"#)),
        (VALUE, secret("old")),
    ]);
    assert!(handler(&rig).handler.is_err());
    assert_eq!(rig.refusals().len(), 1);
    rig.put([(PLUGIN, plugin("{}"))]);
    assert!(handler(&rig).handler.is_ok());
    assert!(rig.refusals().is_empty());
}

#[test]
fn a_plugin_that_is_made_again_under_its_name_is_another() {
    let mut rig = basic();
    let mut put = |id: &str| {
        let plugin = Body::Plugin(Plugin {
            r#type: "oauth2".into(),
            config: br#"{"enableClientCredentials":true}"#.to_vec().into(),
            references: vec![proto::Reference {
                field: "provisionKeySecretRef".into(),
                key: VALUE.into(),
            }],
            id: id.into(),
            ..Plugin::default()
        });
        rig.put([(PLUGIN, plugin), (VALUE, secret("key"))]);
        format!("{:?}", handler(&rig).handler.as_ref().unwrap())
    };
    // What it issues is bound to this.
    assert!(put("first-id").contains("id: \"first-id\""));
    assert!(put("second-id").contains("id: \"second-id\""));
    // From a control plane that tells none.
    assert!(put("").contains("id: \"Plugin/shop/k\""));
}
