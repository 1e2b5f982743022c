//! In a file.

use std::path::Path;
use std::time::Duration;

use store::{Key, SealingKeys, Settings, Store, Url};
use tokio::runtime::Handle;

use crate::contract;

async fn open(path: &Path, keys: &[[u8; 32]]) -> Result<Store, store::OpenError> {
    let keys = SealingKeys::new(keys).unwrap();
    Store::open_with(
        &Url::file(path),
        keys,
        Handle::current(),
        Settings::default(),
    )
    .await
}

/// Opens it when whoever had it has let go of it.
async fn open_again(path: &Path, keys: &[[u8; 32]]) -> Store {
    let opened = async {
        loop {
            match open(path, keys).await {
                Ok(store) => return store,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, opened)
        .await
        .expect("the file stays locked")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_contract_holds() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("s"), &[[1; 32]]).await.unwrap();
    contract::holds(&store, &[]).await;
    assert!(!store.is_shared());
}

#[tokio::test]
async fn what_was_written_is_there_again_and_readable_by_its_keys_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (key, gone) = (Key::of("file", b"a"), Key::of("file", b"gone"));
    let store = open(&path, &[[1; 32]]).await.unwrap();
    store.put(&key, b"a secret of ours", None).await.unwrap();
    store
        .put(&gone, b"", Some(Duration::from_millis(1)))
        .await
        .unwrap();
    drop(store);
    let store = open_again(&path, &[[2; 32], [1; 32]]).await;
    assert_eq!(
        store.get(&key).await.unwrap().unwrap().value,
        "a secret of ours"
    );
    contract::gone(&store, &gone).await;
    drop(store);
    let store = open_again(&path, &[[2; 32]]).await;
    assert_eq!(store.get(&key).await, Ok(None));
    assert_eq!(store.stats().unreadable, 1);
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    let secret = &b"a secret of ours"[..];
    assert!(!bytes.windows(secret.len()).any(|window| window == secret));
}

#[tokio::test]
async fn expired_entries_leave_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("s"), &[[1; 32]]).await.unwrap();
    for number in 0..50_u8 {
        let soon = Some(Duration::from_millis(10));
        store
            .put(&Key::of("file", &[number]), b"", soon)
            .await
            .unwrap();
    }
    let swept = async {
        while store.stats().expired < 50 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, swept)
        .await
        .expect("expired entries stay");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let held = open(&path, &[[1; 32]]).await.unwrap();
    let error = open(&path, &[[1; 32]]).await.unwrap_err().to_string();
    assert!(error.contains("another process has it open"), "{error}");
    drop(held);
    let path = folder.path().join("none/s");
    let error = open(&path, &[[1; 32]]).await.unwrap_err().to_string();
    assert!(error.contains("none/s"), "{error}");
}
