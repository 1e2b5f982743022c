//! In Redis.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use store::{Key, Password, SealingKeys, Settings, Store, Unavailable};
use tokio::runtime::Handle;

use crate::contract;
use crate::servers::{self, Cluster, Watched, until};

const LONG: Option<Duration> = Some(Duration::from_secs(600));

async fn open(url: &str, settings: Settings) -> Store {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let keys = SealingKeys::new(&[[1; 32]]).unwrap();
    Store::open_with(&url.parse().unwrap(), keys, Handle::current(), settings)
        .await
        .unwrap()
}

/// The contract between two proxies.
async fn contract_holds(url: &str, settings: Settings) {
    let store = open(url, settings.clone()).await;
    let other = open(url, settings).await;
    assert!(store.is_shared());
    contract::holds(&store, &[other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_contract_holds_with_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = servers::single(&folder).await;
    let url = format!("redis://127.0.0.1:{}/1", server.port);
    contract_holds(&url, Settings::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_contract_holds_over_tls_and_no_other_authority_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let (server, ca) = servers::with_tls(&folder).await;
    let settings = Settings {
        ca: Some(ca),
        password: Some(Password::new("letmein".to_owned().into())),
        ..Settings::default()
    };
    let url = format!("rediss://localhost:{}", server.port);
    contract_holds(&url, settings.clone()).await;
    let other = tempfile::tempdir().unwrap();
    let (_other, other_ca) = servers::with_tls(&other).await;
    for ca in [Some(other_ca), None] {
        let settings = Settings {
            ca,
            patience: Duration::from_millis(500),
            ..settings.clone()
        };
        let stranger = open(&url, settings).await;
        let got = stranger.get(&Key::of("redis", b"x")).await;
        assert_eq!(got, Err(Unavailable::Away));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_contract_holds_in_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&folder).await;
    contract_holds(&cluster.url(), Settings::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_contract_holds_with_sentinels() {
    let folder = tempfile::tempdir().unwrap();
    let watched = Watched::start(&folder).await;
    contract_holds(&watched.url(), Settings::default()).await;
}

#[tokio::test]
async fn a_store_that_is_away_says_so_in_time_and_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = servers::single(&folder).await;
    let settings = Settings {
        patience: Duration::from_millis(300),
        ..Settings::default()
    };
    let store = open(&format!("redis://127.0.0.1:{}", server.port), settings).await;
    let key = Key::of("redis", b"away");
    store.put(&key, b"", LONG).await.unwrap();
    server.kill();
    let bounded = tokio::time::timeout(Duration::from_secs(20), async {
        // The first ones may meet the end of the connection.
        while store.put(&key, b"", LONG).await != Err(Unavailable::Away) {}
        assert_eq!(store.get(&key).await, Err(Unavailable::Away));
        assert_eq!(store.take(&key).await, Err(Unavailable::Away));
    });
    bounded.await.expect("it waits for ever");
    assert!(store.stats().unavailable >= 3);
    server.restart();
    let back = async { while store.put(&key, b"back", LONG).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), back)
        .await
        .expect("it is not found again");
    assert_eq!(store.get(&key).await.unwrap().unwrap().value, "back");
}

#[tokio::test]
async fn a_full_redis_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = servers::single(&folder).await;
    let store = open(
        &format!("redis://127.0.0.1:{}", server.port),
        Settings::default(),
    )
    .await;
    let key = Key::of("redis", b"full");
    store.put(&key, b"kept", LONG).await.unwrap();
    server.ask(&["config", "set", "maxmemory", "1"]);
    assert_eq!(store.put(&key, b"more", LONG).await, Err(Unavailable::Full));
    assert_eq!(store.get(&key).await.unwrap().unwrap().value, "kept");
}

#[tokio::test]
async fn contents_and_names_are_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let server = servers::single(&folder).await;
    let store = open(
        &format!("redis://127.0.0.1:{}", server.port),
        Settings::default(),
    )
    .await;
    let key = Key::of("redis", b"the secret token");
    store.put(&key, b"the secret value", LONG).await.unwrap();
    let names = server.ask(&["keys", "*"]);
    assert!(names.starts_with("postern:"), "{names}");
    let value = server.ask(&["get", names.trim()]);
    assert!(
        !names.contains("secret") && !value.contains("secret"),
        "{value}"
    );
    let ttl: i64 = server.ask(&["ttl", names.trim()]).trim().parse().unwrap();
    assert!((590..=600).contains(&ttl), "{ttl}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fail_overs_of_a_cluster_lose_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(&folder).await;
    let work = Work::start(&cluster.url()).await;
    for _ in 0..2 {
        work.goes_on().await;
        cluster.fail_over().await;
    }
    work.goes_on().await;
    work.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fail_overs_of_sentinels_lose_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut watched = Watched::start(&folder).await;
    let work = Work::start(&watched.url()).await;
    for _ in 0..2 {
        work.goes_on().await;
        watched.fail_over().await;
    }
    work.goes_on().await;
    work.finish().await;
}

/// Tasks that write entries and take every second one, and remember what they were told.
struct Work {
    store: Store,
    memory: Arc<Memory>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct Memory {
    over: AtomicBool,
    done: AtomicU32,
    /// Entries whose writing was acknowledged, and which nobody has tried to take.
    kept: Mutex<BTreeSet<u64>>,
    /// Entries that were taken.
    taken: Mutex<BTreeSet<u64>>,
}

fn key(number: u64) -> Key {
    Key::of("work", &number.to_be_bytes())
}

impl Work {
    async fn start(url: &str) -> Self {
        let store = open(url, Settings::default()).await;
        let memory = Arc::new(Memory::default());
        let tasks = (0..8_u64).map(|task| {
            let (store, memory) = (store.clone(), Arc::clone(&memory));
            tokio::spawn(async move {
                for number in 0.. {
                    if memory.over.load(Relaxed) {
                        return;
                    }
                    act(&store, &memory, task << 32 | number).await;
                }
            })
        });
        let tasks = tasks.collect();
        Self {
            store,
            memory,
            tasks,
        }
    }

    /// Waits until more has been done.
    async fn goes_on(&self) {
        let so_far = self.memory.done.load(Relaxed);
        until("the work goes on", || {
            self.memory.done.load(Relaxed) > so_far + 300
        })
        .await;
    }

    async fn finish(self) {
        self.memory.over.store(true, Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let (kept, taken) = (
            self.memory.kept.lock().clone(),
            self.memory.taken.lock().clone(),
        );
        assert!(kept.len() > 100 && taken.len() > 100);
        for number in kept {
            let entry = self.store.get(&key(number)).await.unwrap();
            assert!(
                entry.is_some(),
                "entry {number:x} was acknowledged and is lost"
            );
        }
        for number in taken {
            let again = self.store.take(&key(number)).await.unwrap();
            assert!(again.is_none(), "entry {number:x} was taken twice");
        }
    }
}

async fn act(store: &Store, memory: &Memory, number: u64) {
    let key = key(number);
    if store.put_new(&key, b"value", LONG).await != Ok(true) {
        return;
    }
    if number.is_multiple_of(2) {
        memory.kept.lock().insert(number);
    } else {
        match store.take(&key).await {
            Ok(Some(_)) => {
                memory.taken.lock().insert(number);
            }
            Ok(None) => panic!("entry {number:x} was acknowledged and is lost"),
            // Whether it was taken nobody knows.
            Err(_) => return,
        }
    }
    memory.done.fetch_add(1, Relaxed);
}
