//! In memory.

use std::time::Duration;

use store::{Key, SealingKeys, Settings, Store, Unavailable, Url};
use tokio::runtime::Handle;

use crate::contract;

async fn open(settings: Settings) -> Store {
    let keys = SealingKeys::random().unwrap();
    Store::open_with(&Url::memory(), keys, Handle::current(), settings)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_contract_holds() {
    let store = open(Settings::default()).await;
    contract::holds(&store, &[]).await;
    assert!(!store.is_shared());
    // What has expired goes away by itself; then nothing is left, and nothing is counted.
    let empty = async {
        while store.stats().entries != Some(0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, empty)
        .await
        .expect("expired entries stay");
    assert_eq!(store.stats().bytes.unwrap().0, 0);
}

#[tokio::test]
async fn a_full_memory_takes_nothing_until_something_has_expired() {
    let settings = Settings {
        memory_limit: 10_000,
        ..Settings::default()
    };
    let store = open(settings).await;
    let key = |number: u32| Key::of("full", &number.to_be_bytes());
    let keep = Key::of("full", b"kept");
    store.put(&keep, b"kept", None).await.unwrap();
    let mut written = 0;
    let ttl = Some(Duration::from_millis(50));
    let full = loop {
        match store.put(&key(written), &[0; 500], ttl).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "there is no limit");
    };
    assert_eq!(full, Unavailable::Full);
    assert!(written > 5);
    assert_eq!(store.stats().full, 1);
    let room = async {
        while store.put(&key(0), &[0; 500], None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, room)
        .await
        .expect("expired entries stay");
    assert!(store.stats().expired > 0);
    assert_eq!(store.get(&keep).await.unwrap().unwrap().value, "kept");
}
