//! The hub without sockets.

use super::*;
use snapshot::proto::{Consumer, Refusal, Resource, resource::Body};
use snapshot::{Entry, Set};

fn set(of: &[(&str, &str)]) -> Set {
    let mut set = Set::default();
    for (key, id) in of {
        let consumer = Consumer {
            id: (*id).into(),
            ..Consumer::default()
        };
        set.insert(
            *key,
            Entry::new(&Resource {
                key: (*key).into(),
                body: Some(Body::Consumer(consumer)),
            }),
        );
    }
    set
}

fn publish(hub: &Hub, from: &mut Set, to: &[(&str, &str)]) {
    let to = set(to);
    hub.publish(&from.diff(&to));
    *from = to;
}

fn hello() -> proto::Hello {
    proto::Hello {
        name: "p".into(),
        protocol: snapshot::PROTOCOL,
        ..proto::Hello::default()
    }
}

fn ack(version: &str, refusals: &[(&str, &str)]) -> proto::Ack {
    let refusals = refusals
        .iter()
        .map(|(key, reason)| Refusal {
            key: (*key).into(),
            reason: (*reason).into(),
        })
        .collect();
    proto::Ack {
        version: version.into(),
        refusals,
    }
}

fn keys(of: &[&str]) -> Vec<Arc<str>> {
    of.iter().map(|key| Arc::from(*key)).collect()
}

#[tokio::test]
async fn changes_of_a_slow_proxy_are_merged_into_one_delta() {
    let (hub, mut now) = (Hub::default(), Set::default());
    publish(
        &hub,
        &mut now,
        &[("Consumer/a/1", "1"), ("Consumer/a/2", "1")],
    );
    let (member, version, parts) = hub.join("p", &hello());
    assert_eq!((parts.upserts.len(), Some(version)), (2, hub.version()));

    publish(
        &hub,
        &mut now,
        &[("Consumer/a/1", "2"), ("Consumer/a/2", "1")],
    );
    publish(
        &hub,
        &mut now,
        &[
            ("Consumer/a/1", "3"),
            ("Consumer/a/2", "1"),
            ("Consumer/a/3", "1"),
        ],
    );
    publish(&hub, &mut now, &[("Consumer/a/1", "3")]);
    let (version, parts) = member.next().await;
    assert_eq!(Some(version), hub.version());
    assert_eq!(
        parts.upserts,
        [now.get("Consumer/a/1").unwrap().encoded.clone()]
    );
    assert_eq!(parts.removals, ["Consumer/a/2", "Consumer/a/3"]);

    let more = tokio::time::timeout(std::time::Duration::from_millis(20), member.next()).await;
    assert!(more.is_err(), "everything was told at once");
}

#[tokio::test]
async fn an_acknowledgement_counts_for_the_change_that_it_is_about() {
    let (hub, mut now) = (Hub::default(), Set::default());
    publish(&hub, &mut now, &[("Consumer/a/1", "1")]);
    let (member, first, _) = hub.join("p", &hello());
    let one = keys(&["Consumer/a/1"]);
    assert_eq!(hub.progress(&one, &hub.proxies()).programmed, 0);
    member.acknowledge(ack(&first, &[]));
    assert_eq!(hub.progress(&one, &hub.proxies()).programmed, 1);

    // There and back again: the old acknowledgement does not count for the same content that came later.
    publish(&hub, &mut now, &[("Consumer/a/1", "2")]);
    let (second, _) = member.next().await;
    publish(&hub, &mut now, &[("Consumer/a/1", "1")]);
    let (third, _) = member.next().await;
    assert_eq!(first, third, "equal content has an equal version");
    member.acknowledge(ack(&second, &[]));
    assert_eq!(hub.progress(&one, &hub.proxies()).programmed, 0);
    member.acknowledge(ack(&third, &[]));
    assert_eq!(hub.progress(&one, &hub.proxies()).programmed, 1);

    // What does not concern a resource does not take its being programmed away.
    publish(
        &hub,
        &mut now,
        &[("Consumer/a/1", "1"), ("Consumer/a/2", "1")],
    );
    assert_eq!(hub.progress(&one, &hub.proxies()).programmed, 1);
    assert_eq!(
        hub.progress(&keys(&["Consumer/a/1", "Consumer/a/2"]), &hub.proxies())
            .programmed,
        0
    );
    assert_eq!(
        hub.progress(&keys(&["Consumer/a/9"]), &hub.proxies())
            .absent,
        1
    );
}

#[tokio::test]
async fn refusals_are_seen_and_bounded() {
    let (hub, mut now) = (Hub::default(), Set::default());
    publish(&hub, &mut now, &[("Consumer/a/1", "1")]);
    let (member, version, _) = hub.join("p", &hello());
    let changes = hub.changes();
    let long = "x".repeat(10_000);
    member.acknowledge(ack(&version, &[("Consumer/a/1", &long)]));
    let progress = hub.progress(&keys(&["Consumer/a/1"]), &hub.proxies());
    assert_eq!((progress.programmed, progress.refusals.len()), (0, 1));
    assert_eq!(progress.refusals[0].2.len(), MAX_REASON_CHARS);
    assert_eq!(changes.borrow().refusals, 1);

    member.acknowledge(ack("never sent", &[]));
    assert_eq!(
        hub.progress(&keys(&["Consumer/a/1"]), &hub.proxies())
            .refusals
            .len(),
        1
    );
}

#[tokio::test]
async fn a_proxy_that_comes_again_replaces_itself() {
    let hub = Hub::default();
    hub.publish(&Diff::default());
    let (old, _, _) = hub.join("p", &hello());
    let (new, _, _) = hub.join("p", &hello());
    old.peer.replaced.cancelled().await;
    assert!(!new.peer.replaced.is_cancelled());
    drop(old);
    assert_eq!(hub.proxies().len(), 1);
    drop(new);
    assert!(hub.proxies().is_empty());
}

#[test]
fn only_changes_are_told() {
    let (hub, mut now) = (Hub::default(), Set::default());
    assert_eq!(hub.version(), None);
    publish(&hub, &mut now, &[]);
    assert!(hub.version().is_some(), "an empty snapshot is one, too");
    let (member, _, _) = hub.join("p", &hello());
    hub.publish(&Diff::default());
    assert!(!member.peer.state.lock().stale);
}

#[test]
fn versions_of_other_replicas_are_known_by_their_content() {
    let (hub, mut now) = (Hub::default(), Set::default());
    publish(&hub, &mut now, &[("Consumer/a/1", "1")]);
    let first = hub.version().unwrap();
    assert_eq!(hub.sequence_of(&first), Some(1));
    publish(&hub, &mut now, &[("Consumer/a/1", "2")]);
    let second = hub.version().unwrap();
    publish(&hub, &mut now, &[("Consumer/a/1", "1")]);
    assert_eq!(
        (hub.sequence_of(&first), hub.sequence_of(&second)),
        (Some(3), Some(2))
    );
    assert_eq!(hub.sequence_of("of another snapshot"), None);
}

#[tokio::test]
async fn stores_are_counted_by_what_they_are_called() {
    let hub = Hub::default();
    hub.publish(&snapshot::Diff::default());
    let mut all = Vec::new();
    for (at, (store, stores)) in [("", 1), ("a", 2), ("a", 2), ("", 3), ("b", 4)]
        .into_iter()
        .enumerate()
    {
        let name = format!("p{at}");
        let hello = proto::Hello {
            store: store.into(),
            ..hello()
        };
        all.push(hub.join(&name, &hello));
        assert_eq!(super::stores(&hub.proxies()), stores, "{name}");
    }
}
