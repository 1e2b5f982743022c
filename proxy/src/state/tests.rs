mod chains;
mod jwts;
mod referring;
mod refusals;

use http::{HeaderMap, Method};
use plugins::directory::{KeyLookup, digest_of};
use snapshot::proto::{
    Attachment, Backend, Consumer, Credential, Endpoint, Endpoints, KeyAuth, Listener, Match,
    PathMatch, Plugin, Protocol, Route, Rule, Upstream, credential::Proof, path_match,
};
use snapshot::{Entry, Set};

use super::*;
use crate::runtime::{Found, Request};

/// Changes a set, and hands the state the difference.
struct Rig {
    state: State,
    set: Set,
    step: usize,
}

impl Rig {
    fn new() -> Self {
        Self {
            state: State::new(Metrics::new(1), crate::background::for_tests()),
            set: Set::default(),
            step: 0,
        }
    }

    fn put(&mut self, of: impl IntoIterator<Item = (&'static str, Body)>) -> Applied {
        self.change(|set| {
            for (key, body) in of {
                set.insert(
                    key,
                    Entry::new(&Resource {
                        key: key.to_owned(),
                        body: Some(body),
                    }),
                );
            }
        })
    }

    fn change(&mut self, change: impl FnOnce(&mut Set)) -> Applied {
        let mut new = self.set.clone();
        change(&mut new);
        let diff = self.set.diff(&new);
        self.set = new;
        self.step += 1;
        let applied = self.state.apply(Delta {
            version: self.step.to_string().into(),
            reset_buckets: vec![],
            upserts: diff
                .upserts
                .into_values()
                .map(|entry| entry.encoded)
                .collect(),
            known: vec![],
            removals: diff.removals.iter().map(|key| KeyId::of(key)).collect(),
        });
        assert_eq!(
            self.state.buckets(),
            self.set.buckets(),
            "what is held is what was sent"
        );
        applied
    }

    fn found(&self, port: u16, host: &str, path: &str) -> Option<Arc<crate::runtime::Rule>> {
        let runtime = self.state.runtime().load();
        let headers = HeaderMap::new();
        let request = Request {
            host,
            path,
            query: None,
            method: &Method::GET,
            headers: &headers,
        };
        let Found { rule, .. } = runtime.ports.get(&port)?.find(&request)?;
        Some(Arc::clone(rule))
    }

    fn refusals(&self) -> Vec<(String, String)> {
        self.state
            .refusals()
            .into_iter()
            .map(|refusal| (refusal.key, refusal.reason))
            .collect()
    }

    fn look_up(&self, api_key: &str) -> KeyLookup {
        let directory = &self.state.directory;
        directory.api_key(
            &digest_of(api_key.as_bytes()),
            &directory.namespaces(["shop"]),
            1,
        )
    }
}

fn listener(port: u32, hostname: &str, plugins: &[&str]) -> Body {
    Body::Listener(Listener {
        name: "l".into(),
        port,
        protocol: Protocol::Http.into(),
        hostname: hostname.into(),
        plugins: owned(plugins),
        ..Listener::default()
    })
}

fn owned(of: &[&str]) -> Vec<String> {
    of.iter().map(|one| (*one).to_owned()).collect()
}

fn prefix(value: &str) -> Match {
    Match {
        path: Some(PathMatch {
            r#type: path_match::Type::Prefix.into(),
            value: value.into(),
        }),
        ..Match::default()
    }
}

fn rule(path: &str, plugins: &[&str], upstream: &str) -> Rule {
    Rule {
        matches: vec![prefix(path)],
        backends: vec![Backend {
            upstream: upstream.into(),
            weight: 1,
            ..Backend::default()
        }],
        plugins: owned(plugins),
        ..Rule::default()
    }
}

fn route(name: &str, rules: Vec<Rule>) -> Route {
    Route {
        kind: "HTTPRoute".into(),
        namespace: "shop".into(),
        name: name.into(),
        created: 1,
        attachments: vec![Attachment {
            listener: "Listener/a".into(),
            hostnames: vec![String::new()],
        }],
        rules,
    }
}

fn key_auth(config: &str) -> Body {
    Body::Plugin(Plugin {
        r#type: "keyAuth".into(),
        config: config.as_bytes().to_vec().into(),
        namespaces: vec!["shop".into()],
        ..Plugin::default()
    })
}

fn endpoints(of: &[(&str, bool, bool)]) -> Body {
    let endpoint = |(address, ready, serving): &(&str, bool, bool)| Endpoint {
        address: (*address).into(),
        port: 80,
        ready: *ready,
        serving: *serving,
        zone: String::new(),
        for_zones: Vec::new(),
        other_address: String::new(),
    };
    Body::Endpoints(Endpoints {
        endpoints: of.iter().map(endpoint).collect(),
    })
}

fn upstream(plugins: &[&str]) -> Body {
    Body::Upstream(Upstream {
        plugins: owned(plugins),
        ..Upstream::default()
    })
}

fn consumer(plugins: &[&str]) -> Body {
    Body::Consumer(Consumer {
        id: "c-1".into(),
        username: "alice".into(),
        plugins: owned(plugins),
        ..Consumer::default()
    })
}

fn credential(api_key: &str) -> Body {
    Body::Credential(Credential {
        id: "7bce93e1-0000-4000-8000-000000000001".into(),
        consumer: "Consumer/shop/alice".into(),
        not_before: 0,
        expires_at: 0,
        proof: Some(Proof::KeyAuth(KeyAuth {
            digest: digest_of(api_key.as_bytes()).to_vec().into(),
        })),
    })
}

fn basic() -> Rig {
    let mut rig = Rig::new();
    rig.put([
        ("Listener/a", listener(8000, "", &[])),
        (
            "Route/HTTPRoute/shop/r",
            Body::Route(route(
                "r",
                vec![rule("/", &["Plugin/shop/k"], "Upstream/shop/echo/80")],
            )),
        ),
        ("Upstream/shop/echo/80", upstream(&[])),
        (
            "Endpoints/shop/echo/80",
            endpoints(&[("10.0.0.1", true, true), ("10.0.0.2", false, true)]),
        ),
        ("Plugin/shop/k", key_auth("{}")),
        ("Consumer/shop/alice", consumer(&[])),
        ("Credential/shop/alice-key", credential("s3cret")),
    ]);
    assert_eq!(rig.refusals(), []);
    rig
}

fn addresses(rig: &Rig) -> Vec<String> {
    let rule = rig.found(8000, "h", "/").unwrap();
    let endpoints = rule.backends[0]
        .upstream
        .as_ref()
        .unwrap()
        .endpoints
        .load_full();
    endpoints
        .usable
        .iter()
        .map(|endpoint| endpoint.address.ip().to_string())
        .collect()
}

#[test]
fn a_diff_becomes_a_runtime() {
    let rig = basic();
    let rule = rig.found(8000, "h", "/orders").unwrap();
    assert_eq!((&*rule.route, &*rule.name), ("HTTPRoute/shop/r", "0"));
    let chain = &rule.backends[0].chain.plugins;
    assert_eq!(
        (chain.len(), &*chain[0].name, chain[0].handler.is_ok()),
        (1, "shop/k", true)
    );
    assert_eq!(addresses(&rig), ["10.0.0.1"]);
    assert!(matches!(rig.look_up("s3cret"), KeyLookup::Found { .. }));
    assert!(rig.found(8001, "h", "/").is_none());
    assert_eq!(&*rig.state.runtime().load().version, "1");
}

#[test]
fn endpoints_consumers_and_credentials_do_not_rebuild() {
    let mut rig = basic();
    let runtime = rig.state.runtime().load_full();
    let upstream = Arc::clone(
        rig.found(8000, "h", "/").unwrap().backends[0]
            .upstream
            .as_ref()
            .unwrap(),
    );
    let kept = Arc::clone(&upstream.endpoints.load().usable[0]);
    let applied = rig.put([
        (
            "Endpoints/shop/echo/80",
            endpoints(&[("10.0.0.1", true, true), ("10.0.0.3", true, true)]),
        ),
        ("Consumer/shop/alice", consumer(&["Plugin/shop/k"])),
        ("Credential/shop/alice-key", credential("other")),
    ]);
    assert!(!applied.rebuilt && Arc::ptr_eq(&runtime, &rig.state.runtime().load_full()));
    assert_eq!(addresses(&rig), ["10.0.0.1", "10.0.0.3"]);
    assert!(
        Arc::ptr_eq(&kept, &upstream.endpoints.load().usable[0]),
        "counters survive"
    );
    assert!(matches!(rig.look_up("s3cret"), KeyLookup::Unknown));
    let KeyLookup::Found { consumer, .. } = rig.look_up("other") else {
        panic!()
    };
    assert_eq!(runtime.plugins_of(&consumer).len(), 1);
    assert!(runtime.plugins_of(&consumer)[0].is_some());

    rig.put([(
        "Endpoints/shop/echo/80",
        endpoints(&[("10.0.0.4", false, true), ("10.0.0.5", false, false)]),
    )]);
    assert_eq!(
        addresses(&rig),
        ["10.0.0.4"],
        "where none is ready, those that still serve"
    );
    rig.change(|set| {
        set.remove("Endpoints/shop/echo/80");
        set.remove("Credential/shop/alice-key");
    });
    assert_eq!(addresses(&rig), [] as [&str; 0]);
    assert!(matches!(rig.look_up("other"), KeyLookup::Unknown));
}

#[test]
fn unchanged_handlers_and_upstreams_are_the_same_ones() {
    let mut rig = basic();
    let before = rig.found(8000, "h", "/").unwrap();
    assert!(
        rig.put([(
            "Route/HTTPRoute/shop/s",
            Body::Route(route("s", vec![rule("/s", &[], "")]))
        )])
        .rebuilt
    );
    let after = rig.found(8000, "h", "/").unwrap();
    assert!(Arc::ptr_eq(
        &before.backends[0].chain.plugins[0],
        &after.backends[0].chain.plugins[0]
    ));
    let upstream =
        |rule: &crate::runtime::Rule| Arc::clone(rule.backends[0].upstream.as_ref().unwrap());
    assert!(Arc::ptr_eq(&upstream(&before), &upstream(&after)));
    assert!(
        rig.found(8000, "h", "/s").unwrap().backends[0]
            .upstream
            .is_none()
    );
}

#[test]
fn reset_buckets_leave_what_the_delta_brings_and_nothing_else() {
    let mut rig = basic();
    let listener_bucket = snapshot::bucket_of("Listener/a");
    let all = rig.set.get("Listener/a").unwrap().encoded.clone();
    let applied = rig.state.apply(Delta {
        version: "r".into(),
        reset_buckets: (0..snapshot::BUCKETS).collect(),
        upserts: vec![all],
        known: vec![],
        removals: vec![],
    });
    assert_eq!(
        (
            applied.removed.len(),
            applied.not_kept.len(),
            rig.state.len()
        ),
        (6, 1, 1)
    );
    assert_eq!(rig.state.buckets()[0].index, listener_bucket);
    assert!(rig.found(8000, "h", "/").is_none());
    assert!(rig.state.runtime().load().ports.contains_key(&8000));
    assert!(matches!(rig.look_up("s3cret"), KeyLookup::Unknown));
}

#[test]
fn hostnames_of_rules_and_listeners_meet() {
    let mut rig = basic();
    let mut ingress = route("i", vec![rule("/", &[], ""), rule("/", &[], "")]);
    ingress.kind = "Ingress".into();
    ingress.rules[0].hostnames = vec!["*.B.test".into()];
    ingress.rules[1].hostnames = vec!["a.test".into()];
    ingress.attachments[0].hostnames = vec!["*.test".into()];
    rig.put([("Route/HTTPRoute/shop/r", Body::Route(ingress))]);
    let name = |host: &str| rig.found(8000, host, "/").map(|rule| rule.name.to_string());
    assert_eq!(name("a.b.test").as_deref(), Some("0"));
    assert_eq!(
        name("c.a.b.test"),
        None,
        "an Ingress's wildcard is one label"
    );
    assert_eq!(name("a.test").as_deref(), Some("1"));
    assert_eq!(name("b.test"), None);
}

#[test]
fn names_that_are_addresses_need_no_dns() {
    let mut rig = basic();
    let by = |name: &str| {
        Body::Upstream(Upstream {
            dns_name: name.into(),
            dns_port: 81,
            ..Upstream::default()
        })
    };
    rig.put([("Upstream/shop/echo/80", by("192.0.2.7"))]);
    assert_eq!(
        (addresses(&rig), rig.state.attended().len()),
        (vec!["192.0.2.7".to_owned()], 0)
    );
    rig.put([("Upstream/shop/echo/80", by("db.test"))]);
    assert_eq!(
        addresses(&rig),
        [] as [&str; 0],
        "nobody else's addresses while the name is not resolved"
    );
    let attended = rig.state.attended();
    let [Attended::Resolve(dns)] = attended.as_slice() else {
        panic!("{attended:?}")
    };
    assert_eq!((&*dns.name, dns.port), ("db.test", 81));
    dns.upstream.set_places(&["192.0.2.8:81"
        .parse::<std::net::SocketAddr>()
        .unwrap()
        .into()]);
    assert_eq!(addresses(&rig), ["192.0.2.8"]);
    rig.put([("Listener/a", listener(8000, "", &[]))]);
    rig.put([("Route/HTTPRoute/shop/s", Body::Route(route("s", vec![])))]);
    assert!(rig.state.attended()[0].is(&attended[0]) && addresses(&rig) == ["192.0.2.8"]);
}

#[test]
fn hints_keep_requests_in_the_zone_where_all_have_them_and_somebody_is_meant() {
    let hinted = |zones: [&str; 3]| {
        let Body::Endpoints(mut all) = endpoints(&[
            ("10.0.0.1", true, true),
            ("10.0.0.2", true, true),
            ("10.0.0.3", false, true),
        ]) else {
            panic!()
        };
        for (endpoint, zones) in all.endpoints.iter_mut().zip(zones) {
            endpoint.for_zones = zones.split_whitespace().map(str::to_owned).collect();
        }
        Body::Endpoints(all)
    };
    for (zone, hints, used) in [
        ("a", ["a", "b", ""], vec!["10.0.0.1"]),
        ("b", ["a", "a b", ""], vec!["10.0.0.2"]),
        ("a", ["a", "", ""], vec!["10.0.0.1", "10.0.0.2"]),
        ("c", ["a", "b", "c"], vec!["10.0.0.1", "10.0.0.2"]),
        ("", ["a", "b", ""], vec!["10.0.0.1", "10.0.0.2"]),
    ] {
        let mut rig = basic();
        rig.state.tables.upstreams.stand_in(zone);
        rig.put([("Endpoints/shop/echo/80", hinted(hints))]);
        assert_eq!(addresses(&rig), used, "{zone} {hints:?}");
    }
}
