use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;

fn key<'a>(name: &str, namespace: &'a str, api_key: &str, consumer: &str) -> NewKey<'a> {
    NewKey {
        key: KeyId::of(&format!("Credential/{namespace}/{name}")),
        namespace,
        digest: digest_of(api_key.as_bytes()),
        id: uuid::Uuid::from_u128(7),
        consumer: KeyId::of(&format!("Consumer/{namespace}/{consumer}")),
        not_before: 0,
        expires_at: 0,
    }
}

fn consumer(username: &str, custom_id: &str, groups: &[&str], plugins: &[&str]) -> NewConsumer {
    let owned = |of: &[&str]| of.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    NewConsumer::new(
        "7bce93e1-0000-4000-8000-000000000001",
        username,
        custom_id,
        &owned(groups),
        &owned(plugins),
    )
    .unwrap()
}

fn look_up(directory: &Directory, api_key: &str, namespaces: &[&str], now: i64) -> KeyLookup {
    directory.api_key(
        &digest_of(api_key.as_bytes()),
        &directory.namespaces(namespaces.iter().copied()),
        now,
    )
}

#[test]
fn a_key_leads_to_its_consumer() {
    let directory = Directory::default();
    let mut changes = Changes::default();
    directory.put_key(&mut changes, &key("k", "shop", "s3cret", "alice"));
    changes.put_consumer(
        KeyId::of("Consumer/shop/alice"),
        consumer("alice", "4711", &["gold", "silver"], &["Plugin/a/b"]),
    );
    directory.apply(changes);
    let KeyLookup::Found {
        consumer,
        credential,
    } = look_up(&directory, "s3cret", &["shop"], 1)
    else {
        panic!("not found")
    };
    assert_eq!(consumer.id(), "7bce93e1-0000-4000-8000-000000000001");
    assert_eq!(
        consumer.id_header().unwrap(),
        "7bce93e1-0000-4000-8000-000000000001"
    );
    assert_eq!(consumer.username_header().unwrap(), "alice");
    assert_eq!(consumer.custom_id_header().unwrap(), "4711");
    assert_eq!(consumer.groups_header().unwrap(), "gold, silver");
    assert_eq!(consumer.groups().collect::<Vec<_>>(), ["gold", "silver"]);
    assert_eq!(consumer.plugins().collect::<Vec<_>>(), ["Plugin/a/b"]);
    assert_eq!(
        credential.header().unwrap(),
        "00000000-0000-0000-0000-000000000007"
    );
    assert!(matches!(
        look_up(&directory, "s3cret", &["other"], 1),
        KeyLookup::Unknown
    ));
    assert!(matches!(
        look_up(&directory, "s3cret ", &["shop"], 1),
        KeyLookup::Unknown
    ));
    assert!(matches!(
        look_up(&directory, "s3cret", &[], 1),
        KeyLookup::Unknown
    ));
}

#[test]
fn absent_parts_are_absent() {
    let directory = Directory::default();
    let mut changes = Changes::default();
    let id = KeyId::of("Consumer/shop/bob");
    changes.put_consumer(
        id,
        NewConsumer::new("not-a-uuid", "bob", "", &[], &[]).unwrap(),
    );
    directory.apply(changes);
    let found = directory.consumer(&id).unwrap();
    assert_eq!(
        (found.id(), found.username(), found.custom_id()),
        ("not-a-uuid", "bob", None)
    );
    assert!(found.custom_id_header().is_none() && found.groups_header().is_none());
    assert_eq!((found.groups().count(), found.plugins().count()), (0, 0));
}

#[test]
fn an_id_keeps_its_spelling() {
    let directory = Directory::default();
    for text in [
        "7BCE93E1-0000-4000-8000-000000000001",
        "7bce93e1000040008000000000000001",
    ] {
        let mut changes = Changes::default();
        changes.put_consumer(
            KeyId::of("c"),
            NewConsumer::new(text, "bob", "", &[], &[]).unwrap(),
        );
        directory.apply(changes);
        assert_eq!(directory.consumer(&KeyId::of("c")).unwrap().id(), text);
    }
}

#[test]
fn long_parts_are_kept_whole() {
    let directory = Directory::default();
    for length in [0, 1, 254, 255, 256, 65_535] {
        let mut changes = Changes::default();
        let (name, custom) = ("n".repeat(length), "c".repeat(length));
        let packed = NewConsumer::new("id", &name, &custom, &[], &[]).unwrap();
        changes.put_consumer(KeyId::of("c"), packed);
        directory.apply(changes);
        let found = directory.consumer(&KeyId::of("c")).unwrap();
        assert_eq!(
            (found.username(), found.custom_id().unwrap_or_default()),
            (&*name, &*custom)
        );
    }
}

#[test]
fn a_credential_takes_little_memory() {
    assert_eq!(size_of::<keys::Entry>(), 64);
}

#[test]
fn what_cannot_stand_in_a_header_is_refused() {
    assert!(
        NewConsumer::new("1", "a\r\nb", "", &[], &[])
            .unwrap_err()
            .contains("username")
    );
    assert!(
        NewConsumer::new("1", "a", "\0", &[], &[])
            .unwrap_err()
            .contains("customId")
    );
    assert!(
        NewConsumer::new("1", "a", "", &["x, admin".into()], &[])
            .unwrap_err()
            .contains("comma")
    );
    assert!(
        NewConsumer::new("1", &"a".repeat(70_000), "", &[], &[])
            .unwrap_err()
            .contains("username")
    );
}

#[test]
fn time_bounds_count_at_the_look_up() {
    let directory = Directory::default();
    let mut changes = Changes::default();
    directory.put_key(
        &mut changes,
        &NewKey {
            not_before: 100,
            expires_at: 200,
            ..key("k", "shop", "x", "alice")
        },
    );
    changes.put_consumer(
        KeyId::of("Consumer/shop/alice"),
        consumer("alice", "", &[], &[]),
    );
    directory.apply(changes);
    for (now, in_force) in [(99, false), (100, true), (199, true), (200, false)] {
        let found = look_up(&directory, "x", &["shop"], now);
        assert_eq!(
            matches!(found, KeyLookup::Found { .. }),
            in_force,
            "{now}: {found:?}"
        );
        assert!(in_force || matches!(found, KeyLookup::OutOfTime));
    }
}

#[test]
fn bounds_stay_with_their_credentials_when_others_come_and_go() {
    let directory = Directory::default();
    let (mut changes, mut slots) = (Changes::default(), Vec::new());
    let name = |at: i64| format!("k{at}");
    for at in 0..20_000 {
        let (name, expires_at) = (name(at), if at % 3 == 0 { 0 } else { at + 1 });
        let slot = directory.put_key(
            &mut changes,
            &NewKey {
                expires_at,
                ..key(&name, "n", &name, "c")
            },
        );
        slots.push(slot);
        if at % 5_000 == 0 {
            directory.apply(std::mem::take(&mut changes));
        }
    }
    for at in (0..20_000).step_by(2) {
        let id = KeyId::of(&format!("Credential/n/{}", name(at)));
        changes.remove_key(id, slots[usize::try_from(at).unwrap()]);
    }
    changes.put_consumer(KeyId::of("Consumer/n/c"), consumer("c", "", &[], &[]));
    directory.apply(changes);
    for at in (1..20_000).step_by(97).filter(|at| at % 2 == 1) {
        for (now, in_force) in [(at, true), (at + 1, at % 3 == 0)] {
            let found = look_up(&directory, &name(at), &["n"], now);
            assert_eq!(
                matches!(found, KeyLookup::Found { .. }),
                in_force,
                "{at} at {now}: {found:?}"
            );
        }
    }
    assert_eq!(directory.len(), (10_000, 1));
}

#[test]
fn an_expiry_before_the_epoch_is_not_for_ever() {
    let directory = Directory::default();
    let mut changes = Changes::default();
    directory.put_key(
        &mut changes,
        &NewKey {
            expires_at: -5,
            ..key("k", "shop", "x", "alice")
        },
    );
    directory.apply(changes);
    assert!(matches!(
        look_up(&directory, "x", &["shop"], 1000),
        KeyLookup::OutOfTime
    ));
}

#[test]
fn equal_keys_of_two_tenants_are_told_apart_or_refused() {
    let directory = Directory::default();
    let mut changes = Changes::default();
    let slot = directory.put_key(&mut changes, &key("k", "a", "same", "alice"));
    directory.put_key(&mut changes, &key("k", "b", "same", "bob"));
    changes.put_consumer(
        KeyId::of("Consumer/a/alice"),
        consumer("alice", "", &[], &[]),
    );
    changes.put_consumer(KeyId::of("Consumer/b/bob"), consumer("bob", "", &[], &[]));
    directory.apply(changes);
    for (namespace, name) in [("a", "alice"), ("b", "bob")] {
        let KeyLookup::Found { consumer, .. } = look_up(&directory, "same", &[namespace], 1) else {
            panic!()
        };
        assert_eq!(consumer.username(), name);
    }
    assert!(matches!(
        look_up(&directory, "same", &["a", "b"], 1),
        KeyLookup::Ambiguous
    ));
    let mut changes = Changes::default();
    changes.remove_key(KeyId::of("Credential/a/k"), slot);
    directory.apply(changes);
    assert!(matches!(
        look_up(&directory, "same", &["a"], 1),
        KeyLookup::Unknown
    ));
    assert!(matches!(
        look_up(&directory, "same", &["a", "b"], 1),
        KeyLookup::Found { .. }
    ));
}

#[test]
fn a_key_without_its_consumer_says_so() {
    let directory = Directory::default();
    let mut changes = Changes::default();
    directory.put_key(&mut changes, &key("k", "a", "x", "alice"));
    directory.apply(changes);
    assert!(matches!(
        look_up(&directory, "x", &["a"], 1),
        KeyLookup::NoConsumer
    ));
}

#[test]
fn key_ids_fall_into_the_buckets_of_the_snapshot() {
    // SHA-256("abc") begins ba7816bf.
    assert_eq!(KeyId::of("abc").bucket(), 0xa78);
    assert_eq!(KeyId::of("abc").rest().first(), Some(&0x16));
}

proptest! {
    #[test]
    fn windows_hold_what_is_there(mut ranks in proptest::collection::vec(0u32..2000, 0..200), rank in 0u32..2000, spread: bool) {
        // Crowded at one end, or spread as digests are: both must be found.
        let factor = if spread { u32::MAX / 2000 } else { 1 };
        ranks.iter_mut().for_each(|rank| *rank *= factor);
        ranks.sort_unstable();
        let rank = rank * factor;
        let range = window(ranks.len(), rank, |at| ranks.get(at).copied());
        for (at, found) in ranks.iter().enumerate() {
            prop_assert!(*found != rank || range.contains(&at));
        }
    }

    #[test]
    fn any_history_gives_what_a_map_would(steps in proptest::collection::vec((0u8..12, 0u8..6, any::<bool>(), any::<bool>()), 0..80)) {
        let directory = Directory::default();
        let mut model: BTreeMap<u8, (u8, KeySlot)> = BTreeMap::new();
        let mut consumers: BTreeMap<u8, String> = BTreeMap::new();
        let mut changes = Changes::default();
        for (step, (name, value, put, flush)) in steps.into_iter().enumerate() {
            let id = KeyId::of(&format!("Credential/n/{name}"));
            if let Some((_, slot)) = model.remove(&name) {
                changes.remove_key(id, slot);
            }
            if put {
                let slot = directory.put_key(&mut changes, &key(&name.to_string(), "n", &value.to_string(), &value.to_string()));
                model.insert(name, (value, slot));
                changes.put_consumer(KeyId::of(&format!("Consumer/n/{value}")), consumer(&step.to_string(), "", &[], &[]));
                consumers.insert(value, step.to_string());
            } else {
                changes.remove_consumer(KeyId::of(&format!("Consumer/n/{value}")));
                consumers.remove(&value);
            }
            if flush {
                directory.apply(std::mem::take(&mut changes));
            }
        }
        directory.apply(changes);
        for value in 0..6u8 {
            let holders = model.values().filter(|(of, _)| *of == value).count();
            let found = look_up(&directory, &value.to_string(), &["n"], 1);
            match (holders, consumers.get(&value)) {
                (0, _) => prop_assert!(matches!(found, KeyLookup::Unknown)),
                (1, Some(name)) => {
                    let KeyLookup::Found { consumer, .. } = found else { panic!("{found:?}") };
                    prop_assert_eq!(consumer.username(), name);
                }
                (1, None) => prop_assert!(matches!(found, KeyLookup::NoConsumer)),
                _ => prop_assert!(matches!(found, KeyLookup::Ambiguous)),
            }
        }
        prop_assert_eq!(directory.len(), (model.len(), consumers.len()));
    }
}

/// While keys come and go, one that stays is always found, with a whole Consumer.
#[test]
fn readers_never_miss_what_stays() {
    let directory = Arc::new(Directory::default());
    let mut changes = Changes::default();
    directory.put_key(&mut changes, &key("stays", "n", "stays", "stays"));
    changes.put_consumer(
        KeyId::of("Consumer/n/stays"),
        consumer("stays", "", &["g"], &[]),
    );
    directory.apply(changes);
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (directory, done) = (Arc::clone(&directory), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut seen = 0_u64;
                while !done.load(Ordering::Relaxed) || seen == 0 {
                    let KeyLookup::Found { consumer, .. } = look_up(&directory, "stays", &["n"], 1)
                    else {
                        panic!("missed")
                    };
                    assert_eq!(
                        (consumer.username(), consumer.groups().next()),
                        ("stays", Some("g"))
                    );
                    seen += 1;
                }
            })
        })
        .collect();
    for round in 0..200 {
        let mut changes = Changes::default();
        let mut slots = Vec::new();
        for number in 0..200 {
            let name = format!("{round}-{number}");
            let slot = directory.put_key(&mut changes, &key(&name, "n", &name, "stays"));
            slots.push((KeyId::of(&format!("Credential/n/{name}")), slot));
        }
        directory.apply(changes);
        let mut changes = Changes::default();
        changes.put_consumer(
            KeyId::of("Consumer/n/stays"),
            consumer("stays", "", &["g"], &[]),
        );
        slots
            .into_iter()
            .for_each(|(id, slot)| changes.remove_key(id, slot));
        directory.apply(changes);
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    assert_eq!(directory.len(), (1, 1));
}
