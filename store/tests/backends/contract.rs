//! What every store promises, whatever is behind it.

use std::collections::BTreeSet;
use std::time::Duration;

use store::{Key, Position, Store};

const LONG: Option<Duration> = Some(Duration::from_secs(600));

/// How many race for one entry.
const RACERS: usize = 64;

/// All of it. `others` are further connections to the same entries, as other proxies have them; the store itself if there
/// are none.
pub(crate) async fn holds(store: &Store, others: &[Store]) {
    reads_what_was_written(store).await;
    writes_only_where_nothing_is(store).await;
    replaces_only_what_it_expects(store).await;
    takes_once(store).await;
    forgets_what_has_expired(store).await;
    leases(store).await;
    let all: Vec<Store> = others.iter().chain([store]).cloned().collect();
    one_of_many_takes(&all).await;
    one_of_many_writes_first(&all).await;
    one_of_many_replaces(&all).await;
    one_of_many_leases(&all).await;
    counts_without_losing_any(&all).await;
    sees_what_others_wrote(&all).await;
    scans_everything_once(&all).await;
}

async fn reads_what_was_written(store: &Store) {
    let key = Key::of("contract", b"read");
    assert_eq!(store.get(&key).await, Ok(None));
    for value in [&b"first"[..], b"second", b"", &[0xff; 100_000]] {
        store.put(&key, value, LONG).await.unwrap();
        let read = store.get(&key).await.unwrap().unwrap();
        assert!(read.value == value, "{} bytes", value.len());
        let again = store.get(&key).await.unwrap().unwrap();
        assert_eq!(read.version, again.version);
    }
    store.put(&key, b"for ever", None).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap().unwrap().value, "for ever");
    let other = Key::of("contract of others", b"read");
    assert_eq!(store.get(&other).await, Ok(None));
    store.remove(&key).await.unwrap();
    assert_eq!(store.get(&key).await, Ok(None));
    store.remove(&key).await.unwrap();
}

async fn writes_only_where_nothing_is(store: &Store) {
    let key = Key::of("contract", b"new");
    assert_eq!(store.put_new(&key, b"first", LONG).await, Ok(true));
    assert_eq!(store.put_new(&key, b"second", LONG).await, Ok(false));
    assert_eq!(store.get(&key).await.unwrap().unwrap().value, "first");
    store.remove(&key).await.unwrap();
    assert_eq!(store.put_new(&key, b"third", None).await, Ok(true));
    store.remove(&key).await.unwrap();
}

async fn replaces_only_what_it_expects(store: &Store) {
    let key = Key::of("contract", b"replace");
    store.put(&key, b"same", LONG).await.unwrap();
    let old = store.get(&key).await.unwrap().unwrap();
    // Equal contents are another write all the same.
    store.put(&key, b"same", LONG).await.unwrap();
    let new = store.get(&key).await.unwrap().unwrap();
    assert_ne!(old.version, new.version);
    let replaced = store.replace(&key, &old.version, b"lost", LONG).await;
    assert_eq!(replaced, Ok(false));
    assert_eq!(store.get(&key).await.unwrap().unwrap().value, "same");
    let replaced = store.replace(&key, &new.version, b"won", LONG).await;
    assert_eq!(replaced, Ok(true));
    let won = store.get(&key).await.unwrap().unwrap();
    assert_eq!(won.value, "won");
    store.remove(&key).await.unwrap();
    let replaced = store.replace(&key, &won.version, b"risen", LONG).await;
    assert_eq!(replaced, Ok(false));
    assert_eq!(store.get(&key).await, Ok(None));
}

async fn takes_once(store: &Store) {
    let key = Key::of("contract", b"take");
    assert_eq!(store.take(&key).await, Ok(None));
    store.put(&key, b"single use", LONG).await.unwrap();
    assert_eq!(store.take(&key).await.unwrap().unwrap().value, "single use");
    assert_eq!(store.take(&key).await, Ok(None));
    assert_eq!(store.get(&key).await, Ok(None));
}

async fn forgets_what_has_expired(store: &Store) {
    let key = Key::of("contract", b"expire");
    let soon = Some(Duration::from_millis(60));
    store.put(&key, b"short", soon).await.unwrap();
    gone(store, &key).await;
    assert_eq!(store.take(&key).await, Ok(None));
    // What has expired stands in nobody's way.
    store.put(&key, b"short", soon).await.unwrap();
    let short = store.get(&key).await.unwrap();
    gone(store, &key).await;
    if let Some(short) = short {
        let replaced = store.replace(&key, &short.version, b"late", LONG).await;
        assert_eq!(replaced, Ok(false));
    }
    assert_eq!(store.put_new(&key, b"next", LONG).await, Ok(true));
    // A later write sets another end.
    store.put(&key, b"short", soon).await.unwrap();
    store.put(&key, b"long", LONG).await.unwrap();
    let witness = Key::of("contract", b"witness of time");
    store.put(&witness, b"", soon).await.unwrap();
    gone(store, &witness).await;
    assert_eq!(store.get(&key).await.unwrap().unwrap().value, "long");
    store.remove(&key).await.unwrap();
    // An end in the past, and one that no clock tells.
    store.put(&key, b"", Some(Duration::ZERO)).await.unwrap();
    gone(store, &key).await;
    store.put(&key, b"v", Some(Duration::MAX)).await.unwrap();
    assert_eq!(store.take(&key).await.unwrap().unwrap().value, "v");
}

/// Returns when there is nothing (more) under the key.
pub(crate) async fn gone(store: &Store, key: &Key) {
    let gone = async {
        while store.get(key).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, gone)
        .await
        .expect("the entry does not expire");
}

async fn leases(store: &Store) {
    let key = Key::of("contract", b"lease");
    let long = Duration::from_secs(600);
    assert_eq!(store.lease(&key, b"one", long).await, Ok(true));
    assert_eq!(store.lease(&key, b"two", long).await, Ok(false));
    // Who has it keeps it; who has it not gives nothing back.
    assert_eq!(store.lease(&key, b"one", long).await, Ok(true));
    store.release(&key, b"two").await.unwrap();
    assert_eq!(store.lease(&key, b"two", long).await, Ok(false));
    store.release(&key, b"one").await.unwrap();
    let soon = Duration::from_millis(60);
    assert_eq!(store.lease(&key, b"two", soon).await, Ok(true));
    let ends = async {
        while !store.lease(&key, b"one", long).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, ends)
        .await
        .expect("the lease does not end");
    // Whoever knows the key may also end it.
    store.remove(&key).await.unwrap();
    assert_eq!(store.lease(&key, b"two", long).await, Ok(true));
    store.release(&key, b"two").await.unwrap();
    store.release(&key, b"two").await.unwrap();
}

/// What all do at once, each through another of the stores.
async fn race<T, F>(stores: &[Store], act: impl Fn(Store, usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = std::sync::Arc::new(tokio::sync::Barrier::new(RACERS));
    let tasks: Vec<_> = (0..RACERS)
        .map(|number| {
            let act = act(stores[number % stores.len()].clone(), number);
            let start = std::sync::Arc::clone(&start);
            tokio::spawn(async move {
                start.wait().await;
                act.await
            })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

async fn one_of_many_takes(stores: &[Store]) {
    let key = Key::of("contract", b"race to take");
    for _ in 0..5 {
        stores[0].put(&key, b"code", LONG).await.unwrap();
        let taken = race(
            stores,
            |store, _| async move { store.take(&key).await.unwrap() },
        )
        .await;
        assert_eq!(taken.iter().flatten().count(), 1);
    }
}

async fn one_of_many_writes_first(stores: &[Store]) {
    let key = Key::of("contract", b"race to write");
    let written = race(stores, |store, number| async move {
        store
            .put_new(&key, &number.to_be_bytes(), LONG)
            .await
            .unwrap()
    })
    .await;
    let winners: Vec<usize> = (0..RACERS).filter(|number| written[*number]).collect();
    assert_eq!(winners.len(), 1);
    let kept = stores[0].take(&key).await.unwrap().unwrap();
    assert_eq!(kept.value, winners[0].to_be_bytes()[..]);
}

async fn one_of_many_replaces(stores: &[Store]) {
    let key = Key::of("contract", b"race to replace");
    stores[0].put(&key, b"", LONG).await.unwrap();
    let version = stores[0].get(&key).await.unwrap().unwrap().version;
    let replaced = race(stores, |store, _| {
        let version = version.clone();
        async move { store.replace(&key, &version, b"x", LONG).await.unwrap() }
    })
    .await;
    assert_eq!(replaced.into_iter().filter(|replaced| *replaced).count(), 1);
    stores[0].remove(&key).await.unwrap();
}

async fn one_of_many_leases(stores: &[Store]) {
    let key = Key::of("contract", b"race to lease");
    let leased = race(stores, |store, number| async move {
        let long = Duration::from_secs(600);
        store
            .lease(&key, &number.to_be_bytes(), long)
            .await
            .unwrap()
    })
    .await;
    assert_eq!(leased.into_iter().filter(|leased| *leased).count(), 1);
    stores[0].remove(&key).await.unwrap();
}

/// Everybody adds one by read and replace, and again where somebody else was quicker.
async fn counts_without_losing_any(stores: &[Store]) {
    let key = Key::of("contract", b"count");
    stores[0]
        .put(&key, &0_u64.to_be_bytes(), LONG)
        .await
        .unwrap();
    race(stores, |store, _| async move {
        loop {
            let entry = store.get(&key).await.unwrap().unwrap();
            let count = u64::from_be_bytes(entry.value.as_ref().try_into().unwrap()) + 1;
            let value = count.to_be_bytes();
            if store
                .replace(&key, &entry.version, &value, LONG)
                .await
                .unwrap()
            {
                return;
            }
        }
    })
    .await;
    let sum = stores[0].take(&key).await.unwrap().unwrap().value;
    assert_eq!(sum, (RACERS as u64).to_be_bytes()[..]);
}

async fn sees_what_others_wrote(stores: &[Store]) {
    let written = race(stores, |store, number| async move {
        let key = Key::of("contract", format!("many {number}").as_bytes());
        store.put(&key, &number.to_be_bytes(), LONG).await.unwrap();
        key
    })
    .await;
    for store in stores {
        let mut seen = BTreeSet::new();
        for key in &written {
            seen.insert(store.get(key).await.unwrap().unwrap().value);
        }
        assert_eq!(seen.len(), RACERS);
    }
    for key in &written {
        stores[0].remove(key).await.unwrap();
    }
}

/// In parts of any size, by any proxy; leases are no entries.
async fn scans_everything_once(stores: &[Store]) {
    let [first, ..] = stores else { return };
    let key = |number: u32| Key::of("contract scan", &number.to_be_bytes());
    let wanted: BTreeSet<Key> = (0..300).map(key).collect();
    for (number, key) in wanted.iter().enumerate() {
        first.put(key, &number.to_be_bytes(), LONG).await.unwrap();
    }
    let lease = Key::of("contract scan", b"lease");
    let ttl = Duration::from_secs(600);
    assert_eq!(first.lease(&lease, b"holder", ttl).await, Ok(true));
    for (most, store) in [1000, 7].into_iter().zip(stores.iter().cycle()) {
        let mut seen = Vec::new();
        let mut from = None;
        loop {
            let part = store.scan(from.as_ref(), most).await.unwrap().unwrap();
            for (key, entry) in part.entries {
                assert_eq!(store.get(&key).await.unwrap(), Some(entry));
                seen.push(key);
            }
            let Some(next) = part.next else { break };
            from = Some(Position::told(&next.to_string()));
        }
        seen.retain(|key| wanted.contains(key) || *key == lease);
        let once: BTreeSet<Key> = seen.iter().copied().collect();
        assert_eq!((once.len(), seen.len()), (300, 300), "{most} at a time");
        assert_eq!(once, wanted);
    }
    let nowhere = Position::told("nowhere");
    assert_eq!(first.scan(Some(&nowhere), 7).await, Ok(None));
    for key in wanted.iter().chain([&lease]) {
        first.remove(key).await.unwrap();
    }
}
