//! Statuses, rendered and merged.

use super::*;
use compile::{ListenerStatus, ParentStatus, ProgrammedBy};
use std::collections::BTreeMap;
use std::sync::Arc;

const OURS: &str = "postern.dev/gateway-controller";

fn accepted() -> Condition {
    Condition {
        kind: "Accepted",
        status: ConditionStatus::True,
        reason: "Accepted",
        message: String::new(),
    }
}

fn programmed() -> Condition {
    let by = ProgrammedBy {
        keys: vec![Arc::from("Plugin/shop/a")],
        shares_store: false,
    };
    Condition {
        kind: "Programmed",
        status: ConditionStatus::When(by),
        reason: "Programmed",
        message: String::new(),
    }
}

#[test]
fn stores_that_proxies_do_not_share_are_told_where_it_matters() {
    let mut needs = programmed();
    if let ConditionStatus::When(by) = &mut needs.status {
        by.shares_store = true;
    }
    let message = |condition: &Condition, stores: usize| {
        let progress = Progress {
            proxies: 2,
            programmed: 2,
            ..Progress::default()
        };
        let body = plugin(vec![condition.clone()]);
        let rendered = rendered_beside(body, &progress, &[], stores);
        let shown = rendered.status["conditions"][0].clone();
        assert_eq!(shown["status"], "True");
        shown["message"].as_str().unwrap().to_owned()
    };
    assert!(message(&needs, 2).contains("2 stores of tokens and sessions"));
    assert!(message(&needs, 2).contains("give all of them the same --store"));
    for (condition, stores) in [(&needs, 1), (&programmed(), 2)] {
        assert_eq!(
            message(condition, stores),
            "programmed on 2 of 2 connected proxies"
        );
    }
}

fn object(body: StatusBody) -> ObjectStatus {
    ObjectStatus {
        generation: 7,
        uid: "u".into(),
        body,
    }
}

fn rendered(body: StatusBody, progress: &Progress, addresses: &[Address]) -> Rendered {
    rendered_beside(body, progress, addresses, 1)
}

fn rendered_beside(
    body: StatusBody,
    progress: &Progress,
    addresses: &[Address],
    stores: usize,
) -> Rendered {
    let progress = |_: &[Arc<str>]| progress.clone();
    render(
        &object(body),
        &Surroundings {
            controller: OURS,
            progress: &progress,
            stores,
            addresses,
        },
    )
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn plugin(conditions: Vec<Condition>) -> StatusBody {
    StatusBody::Conditions {
        conditions,
        fields: BTreeMap::new(),
    }
}

#[test]
fn programmed_says_how_many_proxies_and_who_refused() {
    let of = |proxies, programmed: usize, refusals: usize| {
        let refusal = |n| {
            (
                Arc::from(format!("proxy-{n}")),
                Arc::from("Plugin/shop/a"),
                Arc::from("unknown field"),
            )
        };
        let refusals = (0..refusals).map(refusal).collect();
        let progress = Progress {
            proxies,
            programmed,
            absent: 0,
            refusals,
        };
        let rendered = rendered(plugin(vec![self::programmed()]), &progress, &[]);
        let condition = &rendered.status["conditions"][0];
        let text = |name: &str| condition[name].as_str().unwrap().to_owned();
        (
            text("status"),
            text("reason"),
            text("message"),
            rendered.settled,
        )
    };
    let expect = |status: &str, reason: &str, message: &str, settled| {
        (
            status.to_owned(),
            reason.to_owned(),
            message.to_owned(),
            settled,
        )
    };
    assert_eq!(
        of(2, 2, 0),
        expect(
            "True",
            "Programmed",
            "programmed on 2 of 2 connected proxies",
            true
        )
    );
    assert_eq!(
        of(2, 1, 0),
        expect(
            "False",
            "Pending",
            "programmed on 1 of 2 connected proxies",
            false
        )
    );
    assert_eq!(
        of(0, 0, 0),
        expect("False", "Pending", "no proxy is connected", false)
    );
    let refused =
        "programmed on 1 of 2 connected proxies; proxy-0 refused Plugin/shop/a: unknown field";
    assert_eq!(of(2, 1, 1), expect("False", "Refused", refused, false));
    assert!(of(9, 4, 5).2.ends_with("; and 2 more refusals"));
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let progress = Progress {
        proxies: 1,
        programmed: 1,
        ..Progress::default()
    };
    let first = rendered(plugin(vec![accepted(), programmed()]), &progress, &[]).status;
    let written = merged(Kind::AuthPlugin, &first, &Value::Null, OURS, at(0));
    assert_eq!(
        written["conditions"][0]["lastTransitionTime"],
        "2023-11-14T22:13:20Z"
    );
    assert_eq!(written["conditions"][0]["observedGeneration"], 7);

    let two = Progress {
        proxies: 2,
        programmed: 2,
        ..Progress::default()
    };
    let second = rendered(plugin(vec![accepted(), programmed()]), &two, &[]).status;
    let again = merged(Kind::AuthPlugin, &second, &written, OURS, at(60));
    assert_eq!(
        again["conditions"][1]["message"],
        "programmed on 2 of 2 connected proxies"
    );
    assert_eq!(
        again["conditions"][1]["lastTransitionTime"],
        "2023-11-14T22:13:20Z"
    );

    let none = rendered(
        plugin(vec![accepted(), programmed()]),
        &Progress::default(),
        &[],
    )
    .status;
    let third = merged(Kind::AuthPlugin, &none, &again, OURS, at(120));
    assert_eq!(
        third["conditions"][0]["lastTransitionTime"],
        "2023-11-14T22:13:20Z"
    );
    assert_eq!(
        third["conditions"][1]["lastTransitionTime"],
        "2023-11-14T22:15:20Z"
    );
}

#[test]
fn parents_of_other_controllers_stay() {
    let parent_ref =
        json!({"name": "edge", "group": "gateway.networking.k8s.io", "kind": "Gateway"});
    let parent = ParentStatus {
        parent_ref: parent_ref.clone(),
        conditions: vec![accepted()],
    };
    let ours = rendered(
        StatusBody::Route {
            parents: vec![parent],
        },
        &Progress::default(),
        &[],
    )
    .status;
    let other =
        json!({"parentRef": parent_ref, "controllerName": "example.com/other", "conditions": []});
    let present = json!({"parents": [other]});
    let written = merged(Kind::HttpRoute, &ours, &present, OURS, at(0));
    assert_eq!(written["parents"][0], other);
    assert_eq!(written["parents"][1]["controllerName"], OURS);
    assert_eq!(
        fingerprint(Kind::HttpRoute, Some(&written), OURS),
        fingerprint(Kind::HttpRoute, Some(&ours), OURS),
        "what others write is none of our business"
    );

    let gone = rendered(
        StatusBody::Route {
            parents: Vec::new(),
        },
        &Progress::default(),
        &[],
    )
    .status;
    let written = merged(Kind::HttpRoute, &gone, &written, OURS, at(0));
    assert_eq!(written["parents"], json!([other]));
}

#[test]
fn what_is_no_longer_said_is_taken_back() {
    let addresses = [
        Address::Ip("192.0.2.1".into()),
        Address::Hostname("lb.test".into()),
    ];
    let gateway = || StatusBody::Gateway {
        conditions: vec![accepted()],
        listeners: vec![ListenerStatus {
            name: "http".into(),
            attached_routes: 2,
            supported_kinds: vec!["HTTPRoute"],
            conditions: vec![accepted()],
        }],
        attached_sets: 1,
        addresses: Vec::new(),
    };
    let with = rendered(gateway(), &Progress::default(), &addresses).status;
    assert_eq!(
        with["addresses"][0],
        json!({"type": "IPAddress", "value": "192.0.2.1"})
    );
    assert_eq!(
        with["addresses"][1],
        json!({"type": "Hostname", "value": "lb.test"})
    );
    assert_eq!(with["listeners"][0]["attachedRoutes"], 2);
    let present = merged(Kind::Gateway, &with, &Value::Null, OURS, at(0));
    assert_eq!(
        present["listeners"][0]["conditions"][0]["lastTransitionTime"],
        "2023-11-14T22:13:20Z"
    );
    let without = rendered(gateway(), &Progress::default(), &[]).status;
    assert_ne!(
        fingerprint(Kind::Gateway, Some(&without), OURS),
        fingerprint(Kind::Gateway, Some(&present), OURS)
    );
    assert_eq!(
        merged(Kind::Gateway, &without, &present, OURS, at(9))["addresses"],
        json!([])
    );
    let older = json!({"conditions": [], "unsaid": 1});
    assert_eq!(
        merged(Kind::Gateway, &without, &older, OURS, at(9))["unsaid"],
        Value::Null
    );
}

#[test]
fn a_gateway_is_programmed_when_it_has_the_addresses_that_it_asks_for() {
    let gateway = StatusBody::Gateway {
        conditions: vec![
            accepted(),
            Condition {
                kind: "Programmed",
                ..accepted()
            },
        ],
        listeners: Vec::new(),
        attached_sets: 0,
        addresses: vec!["192.0.2.1".into()],
    };
    let with = |address: &str| {
        let addresses = [Address::Ip(address.into())];
        rendered(gateway.clone(), &Progress::default(), &addresses).status
    };
    assert_eq!(with("192.0.2.1")["conditions"][1]["status"], "True");
    let without = with("192.0.2.2");
    assert_eq!(without["conditions"][0]["status"], "True");
    assert_eq!(without["conditions"][1]["status"], "False");
    assert_eq!(without["conditions"][1]["reason"], "AddressNotUsable");
}

#[test]
fn an_ingress_shows_the_fleets_addresses() {
    let addresses = [
        Address::Ip("192.0.2.1".into()),
        Address::Hostname("lb.test".into()),
    ];
    let status = rendered(StatusBody::Ingress, &Progress::default(), &addresses).status;
    assert_eq!(
        status,
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.test"}]}})
    );
    let empty = rendered(StatusBody::Ingress, &Progress::default(), &[]).status;
    assert_eq!(
        fingerprint(Kind::Ingress, Some(&json!({"loadBalancer": {}})), OURS),
        fingerprint(Kind::Ingress, Some(&empty), OURS)
    );
}

#[test]
fn fingerprints_see_contents_and_neither_times_nor_order_of_fields() {
    let of = |value: Value| fingerprint(Kind::Consumer, Some(&value), OURS);
    let a = json!({"id": "1", "conditions": [{"type": "Accepted", "status": "True", "lastTransitionTime": "x"}]});
    let b =
        json!({"conditions": [{"status": "True", "type": "Accepted"}], "id": "1", "fields": {}});
    assert_eq!(of(a.clone()), of(b));
    assert_ne!(
        of(a),
        of(json!({"id": "1", "conditions": [{"type": "Accepted", "status": "False"}]}))
    );
}
