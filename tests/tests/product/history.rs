//! What many clients do with tokens while gateways and their store are killed, paused and failed over, written down and judged:
//! nothing that was acknowledged is lost, and nothing is redeemed twice.
//!
//! `POSTERN_KILLS` says how many faults there are; `make test-history` makes a thousand.

mod client;
#[allow(dead_code, reason = "the tests of the store need the rest")]
#[path = "../../../store/tests/backends/servers.rs"]
pub(crate) mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::Rig;
use harness::objects::{consumer, object, plugin, route, secret, to_route};
use harness::rig::Builder;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use client::Client;
use servers::{Server, Watched};

/// How many clients there are.
const CLIENTS: u64 = 6;
/// How much must have been acknowledged between two faults.
const BETWEEN: usize = 15;
/// Same for all gateways that share a store.
const SEAL: &str = "a secret of more than thirty-two bytes";

/// What was acknowledged, and what was wrong.
#[derive(Debug)]
struct History {
    over: AtomicBool,
    acknowledged: watch::Sender<usize>,
    /// Refreshed, and raced for.
    refreshed: AtomicUsize,
    raced: AtomicUsize,
    /// Access tokens that must count, and that must not.
    live: Mutex<Vec<String>>,
    ended: Mutex<Vec<String>>,
    wrong: Mutex<Vec<String>>,
}

impl History {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            over: AtomicBool::new(false),
            acknowledged: watch::Sender::new(0),
            refreshed: AtomicUsize::new(0),
            raced: AtomicUsize::new(0),
            live: Mutex::default(),
            ended: Mutex::default(),
            wrong: Mutex::default(),
        })
    }

    fn acknowledge(&self) {
        self.acknowledged.send_modify(|count| *count += 1);
    }

    fn wrong(&self, what: String) {
        eprintln!("WRONG: {what}");
        self.wrong.lock().push(what);
    }
}

fn kills() -> usize {
    let kills = std::env::var("POSTERN_KILLS").ok();
    kills.map_or(20, |kills| {
        kills.parse().expect("a number in POSTERN_KILLS")
    })
}

fn objects() -> Vec<Value> {
    let app = json!({"consumerRef": {"name": "alice"}, "oauth2": {"name": "app", "clientId": client::ID,
        "clientSecretRef": {"name": "app", "key": "secret"}, "redirectUris": [client::CALLBACK]}});
    let config = json!({"enableAuthorizationCode": true, "acceptHttpIfAlreadyTerminated": true,
        "provisionKeySecretRef": {"name": "app", "key": "provision"}});
    vec![
        consumer("alice", &json!({})),
        secret(
            "app",
            &[("secret", client::SECRET), ("provision", client::PROVISION)],
        ),
        object("postern.dev/v1alpha1", "Credential", "app", &app),
        route("r", client::HOST, "echo"),
        plugin("oauth2", &[to_route("r")], "oauth2", &config),
    ]
}

/// The flags for a store that is sealed with a key in this folder.
pub(crate) fn sealed(build: Builder, store: &str, folder: &TempDir) -> Builder {
    let key = folder.path().join("store.key");
    std::fs::write(&key, SEAL).expect("a key");
    build
        .flag("--store", store)
        .flag("--store-key-file", key.to_str().expect("a path"))
}

/// Gateways on one store. `seal` is where its key lies.
async fn gateways(count: usize, store: &str, seal: &TempDir) -> Vec<Rig> {
    let mut all = Vec::new();
    for _ in 0..count {
        let rig = sealed(Rig::build().objects(objects()), store, seal);
        all.push(rig.flag("--access-log", "off").start().await);
    }
    all
}

/// Lets clients work while `fault` does harm, then judges. `fault` gets the gateways, and what number it is.
async fn survives(
    mut rigs: Vec<Rig>,
    faults: usize,
    mut fault: impl AsyncFnMut(&mut [Rig], usize),
) {
    let history = History::new();
    let ports: Arc<[u16]> = rigs.iter().map(|rig| rig.port).collect();
    let clients = (1..=CLIENTS).map(|seed| {
        let client = Client::new(seed, Arc::clone(&ports), Arc::clone(&history));
        tokio::spawn(client.work())
    });
    let clients: Vec<_> = clients.collect();
    let mut acknowledged = history.acknowledged.subscribe();
    for number in 0..faults {
        fault(&mut rigs, number).await;
        let wanted = *acknowledged.borrow_and_update() + BETWEEN;
        let more = acknowledged.wait_for(|count| *count >= wanted);
        harness::within("clients to be answered again", more)
            .await
            .expect("the history");
        if faults > 50 && number % 50 == 49 {
            let count = *history.acknowledged.borrow();
            eprintln!("{} faults, {count} acknowledged", number + 1);
        }
    }
    history.over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client that does not panic");
    }
    judge(&history, &ports).await;
}

async fn judge(history: &History, ports: &[u16]) {
    let (live, ended) = (history.live.lock().clone(), history.ended.lock().clone());
    for (tokens, status) in [(&live, 200), (&ended, 401)] {
        for token in tokens {
            for port in ports {
                if !client::comes_to(*port, token, status).await {
                    history.wrong(format!("a token is not answered with {status}: {token}"));
                }
            }
        }
    }
    let (refreshed, raced) = (
        history.refreshed.load(Ordering::Relaxed),
        history.raced.load(Ordering::Relaxed),
    );
    eprintln!(
        "{} acknowledged, {refreshed} refreshed, {raced} raced for; {} tokens count, {} ended",
        *history.acknowledged.borrow(),
        live.len(),
        ended.len()
    );
    assert!(
        refreshed > 0 && raced > 0 && !live.is_empty() && !ended.is_empty(),
        "nothing happened"
    );
    let wrong = history.wrong.lock();
    assert!(
        wrong.is_empty(),
        "{} wrong: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(10)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_and_redis_are_killed_and_paused() {
    let folder = TempDir::new().expect("a folder");
    let [port] = servers::ports();
    let number = port.to_string();
    // What Redis has acknowledged, it has written.
    let durable = [
        "--port",
        &number,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
    ];
    let mut redis = Server::start(folder.path(), port, &durable);
    let answers = || servers::ask(port, &["ping"]).trim() == "PONG";
    servers::until("Redis answers", answers).await;
    let url = format!("redis://127.0.0.1:{port}/0");
    let rigs = gateways(2, &url, &folder).await;
    survives(rigs, kills(), async |rigs, number| match number % 5 {
        which @ (0 | 2) => rigs[which / 2].crash().await,
        1 => {
            redis.kill();
            redis.restart();
            servers::until("Redis answers again", answers).await;
        }
        3 => {
            servers::ask(port, &["client", "pause", "700", "all"]);
        }
        _ => {
            rigs[0].postern.signal("STOP");
            rigs[1].crash().await;
            rigs[0].postern.signal("CONT");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_a_file_is_killed() {
    let folder = TempDir::new().expect("a folder");
    let url = format!("file:{}", folder.path().join("store.redb").display());
    let rigs = gateways(1, &url, &folder).await;
    survives(rigs, kills().div_ceil(4), async |rigs, _| {
        rigs[0].crash().await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_fails_over() {
    let folder = TempDir::new().expect("a folder");
    let mut redis = Watched::start(&folder).await;
    let rigs = gateways(2, &redis.url(), &folder).await;
    survives(rigs, kills().div_ceil(20), async |rigs, number| {
        redis.fail_over().await;
        rigs[number % 2].crash().await;
    })
    .await;
}
