//! Resources that cannot be taken.

use snapshot::proto::{Certificate as CertificateMessage, ValueMatch};

use super::*;

/// One bad resource of each kind, and a good one between them.
fn mixed() -> [(&'static str, Body); 8] {
    let mut bad_route = route("r", vec![rule("/", &[], "")]);
    bad_route.rules[0].matches[0].headers = vec![ValueMatch {
        name: "x".into(),
        value: "(".into(),
        regex: true,
    }];
    let bad_credential = || {
        let Body::Credential(good) = credential("s3cret") else {
            panic!()
        };
        let digest = b"short"[..].into();
        Body::Credential(Credential {
            proof: Some(Proof::KeyAuth(KeyAuth { digest })),
            ..good
        })
    };
    let bad_listener = Listener {
        port: 70_000,
        protocol: 1,
        ..Listener::default()
    };
    let bad_consumer = Consumer {
        id: "c-1".into(),
        username: "a\nb".into(),
        ..Consumer::default()
    };
    let good_route = route("good", vec![rule("/good", &[], "")]);
    let no_address = endpoints(&[("not-an-address", true, true)]);
    let no_certificate = Body::Certificate(CertificateMessage::default());
    [
        ("Route/HTTPRoute/shop/r", Body::Route(bad_route)),
        ("Route/HTTPRoute/shop/good", Body::Route(good_route)),
        ("Listener/a", Body::Listener(bad_listener)),
        ("Endpoints/shop/echo/80", no_address),
        ("Credential/shop/alice-key", bad_credential()),
        ("Credential/shop/new", bad_credential()),
        ("Consumer/shop/alice", Body::Consumer(bad_consumer)),
        ("Certificate/shop/c", no_certificate),
    ]
}

#[test]
fn a_bad_resource_harms_itself_only_and_keeps_its_last_good_version() {
    let mut rig = basic();
    let before = rig.found(8000, "h", "/").unwrap();
    let applied = rig.put(mixed());
    assert_eq!(
        applied.not_kept.len(),
        5,
        "{applied:?}: what was there before is what is restored"
    );
    let refused: Vec<_> = rig.refusals().into_iter().map(|(key, _)| key).collect();
    assert_eq!(
        refused,
        [
            "Certificate/shop/c",
            "Consumer/shop/alice",
            "Credential/shop/alice-key",
            "Credential/shop/new",
            "Endpoints/shop/echo/80",
            "Listener/a",
            "Route/HTTPRoute/shop/r"
        ]
    );
    let after = rig.found(8000, "h", "/").unwrap();
    assert_eq!(
        after.backends[0].chain.plugins.len(),
        before.backends[0].chain.plugins.len()
    );
    assert!(rig.found(8000, "h", "/good").is_some());
    assert_eq!(addresses(&rig), ["10.0.0.1"]);
    assert!(matches!(rig.look_up("s3cret"), KeyLookup::Found { .. }));
    // Made good, or removed: nothing is refused any more.
    rig.put([
        ("Credential/shop/alice-key", credential("rotated")),
        ("Listener/a", listener(8000, "", &[])),
    ]);
    assert!(matches!(rig.look_up("s3cret"), KeyLookup::Unknown));
    assert!(matches!(rig.look_up("rotated"), KeyLookup::Found { .. }));
    rig.change(|set| {
        for key in [
            "Certificate/shop/c",
            "Consumer/shop/alice",
            "Credential/shop/new",
            "Endpoints/shop/echo/80",
            "Route/HTTPRoute/shop/r",
        ] {
            set.remove(key);
        }
    });
    assert_eq!(rig.refusals(), []);
    assert!(matches!(rig.look_up("rotated"), KeyLookup::NoConsumer));
}

#[test]
fn a_port_speaks_one_protocol() {
    let mut rig = basic();
    let tls = Body::Listener(Listener {
        port: 8000,
        protocol: Protocol::Https.into(),
        ..Listener::default()
    });
    rig.put([("Listener/b", tls)]);
    assert_eq!(rig.refusals().len(), 1);
    assert_eq!(rig.refusals()[0].0, "Listener/b");
    assert!(rig.refusals()[0].1.contains("Listener/a"));
    rig.change(|set| {
        set.remove("Listener/a");
    });
    assert_eq!(rig.refusals(), []);
    assert!(rig.state.runtime().load().ports[&8000].tls.is_some());
}

#[test]
fn what_cannot_be_decoded_does_not_stop_the_rest() {
    let mut rig = Rig::new();
    let good = Entry::new(&Resource {
        key: "Listener/a".into(),
        body: Some(listener(8000, "", &[])),
    })
    .encoded;
    let nothing = Entry::new(&Resource {
        key: "Plugin/shop/future".into(),
        body: None,
    })
    .encoded;
    rig.state.apply(Delta {
        version: "1".into(),
        reset_buckets: vec![9_999_999],
        upserts: vec![Bytes::from_static(b"\xff\xff"), good, nothing],
        known: vec![],
        removals: vec![KeyId::of("never there")],
    });
    assert!(rig.state.runtime().load().ports.contains_key(&8000));
    assert_eq!(rig.refusals()[0].0, "Plugin/shop/future");
    let runtime = rig.state.runtime().load();
    assert!(runtime.plugins["Plugin/shop/future"].handler.is_err());
}
