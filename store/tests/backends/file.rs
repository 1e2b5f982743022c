//! In a file.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
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

/// Where the process that is to be killed has its file.
const CHILD: &str = "POSTERN_STORE_TEST_FILE";

/// How many tasks it has.
const TASKS: u64 = 4;

fn written(task: u64, number: u64) -> Key {
    Key::of("killed", &(task << 32 | number).to_be_bytes())
}

/// Not a test: the process that the next one kills. It writes entries, takes every second one, and says what was
/// acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run as a process by another test"]
async fn child() {
    let path = std::env::var(CHILD).unwrap();
    let store = open_again(Path::new(&path), &[[1; 32]]).await;
    let from: u64 = std::env::var("POSTERN_STORE_TEST_FROM")
        .unwrap()
        .parse()
        .unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in from.. {
                    let key = written(task, number);
                    assert!(store.put_new(&key, b"value", None).await.unwrap());
                    println!("\nput {task} {number}");
                    if !number.is_multiple_of(2) {
                        assert!(store.take(&key).await.unwrap().is_some());
                        println!("\ntook {task} {number}");
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (mut put, mut took) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..20_u64 {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "file::child", "--nocapture"])
            .env(CHILD, &path)
            .env("POSTERN_STORE_TEST_FROM", (round << 20).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Another moment each time, counted in what has been done.
        let mut left = 20 + round * 7;
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, task, number] = words[..] else {
                continue;
            };
            let (Ok(task), Ok(number)) = (task.parse(), number.parse()) else {
                continue;
            };
            let entry: (u64, u64) = (task, number);
            match what {
                "put" => put.insert(entry),
                "took" => took.insert(entry),
                _ => continue,
            };
            // What it has said before it died counts, too.
            if left > 0 {
                left -= 1;
                if left == 0 {
                    process.kill().unwrap();
                }
            }
        }
        process.wait().unwrap();
        assert_eq!(left, 0, "the process ended by itself");
    }
    let store = open_again(&path, &[[1; 32]]).await;
    for (task, number) in put {
        let found = store.get(&written(task, number)).await.unwrap();
        if took.contains(&(task, number)) {
            assert!(found.is_none(), "{task} {number} was taken and is there");
        } else if number.is_multiple_of(2) {
            assert!(found.is_some(), "{task} {number} is lost");
        }
    }
    assert!(took.len() > 100);
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
