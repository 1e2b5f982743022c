//! Sets that are fetched from a server on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outbound::{Client, Options, ProfileOptions, Schedule};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::*;

/// An issuer's server: what it answers, and how often it was asked.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) address: SocketAddr,
    held: Arc<Mutex<(String, usize)>>,
}

impl Issuer {
    pub(crate) async fn start(body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self {
            address: listener.local_addr().unwrap(),
            held: Arc::default(),
        };
        issuer.publishes(body);
        let held = Arc::clone(&issuer.held);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let held = Arc::clone(&held);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                            return;
                        }
                        head.extend_from_slice(&byte);
                    }
                    let answer = {
                        let mut held = held.lock();
                        held.1 += 1;
                        held.0.clone()
                    };
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        issuer
    }

    pub(crate) fn publishes(&self, body: &str) {
        let length = body.len();
        self.answers(&format!("200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
    }

    pub(crate) fn answers(&self, answer: &str) {
        let answer = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        self.held.lock().0 = format!("HTTP/1.1 {answer}");
    }

    pub(crate) fn asked(&self) -> usize {
        self.held.lock().1
    }

    fn url(&self) -> String {
        format!("http://{}/keys?secret=1", self.address)
    }

    pub(crate) fn keys(&self, schedule: Schedule) -> RemoteKeys {
        let client = client(&[]);
        let profile = client.profile(&ProfileOptions::default()).unwrap();
        RemoteKeys::fetched(&client, &profile, schedule, &self.url()).unwrap()
    }
}

/// Demands are never too soon.
pub(crate) fn eager() -> Schedule {
    Schedule {
        between_demands: Duration::ZERO,
        missed: Duration::ZERO,
        ..Schedule::default()
    }
}

fn client(deny: &[&str]) -> Client {
    Client::new(Options {
        deny: deny
            .iter()
            .map(|network| network.parse().unwrap())
            .collect(),
        runtime: Handle::current(),
    })
}

#[tokio::test]
async fn a_set_is_fetched_kept_and_replaced() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let issuer = Issuer::start(&set_of(&[&old])).await;
    let keys = issuer.keys(eager());
    let first = keys.newer(None, Some("old")).await.unwrap();
    assert_eq!(count(&first, Some("old"), Algorithm::ES256), 1);
    // The same text is the same set.
    assert!(keys.newer(Some(&first), Some("new")).await.is_none());
    // None of these replaces it.
    for answer in [
        "500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        "302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        "204 No Content\r\n\r\n",
        "200 OK\r\nContent-Length: 4\r\n\r\nnope",
        "200 OK\r\nContent-Length: 11\r\n\r\n{\"keys\":[]}",
        "200 OK\r\nContent-Length: 90\r\n\r\n{\"keys\":[",
        "200 OK\r\nContent-Length: 10485760\r\n\r\n",
    ] {
        issuer.answers(answer);
        let asked = issuer.asked();
        assert!(
            keys.newer(Some(&first), Some("new")).await.is_none(),
            "{answer}"
        );
        assert_eq!(issuer.asked(), asked + 1, "{answer}");
        assert!(
            keys.current()
                .as_ref()
                .is_some_and(|now| Arc::ptr_eq(now, &first))
        );
    }
    issuer.publishes(&set_of(&[&new]));
    let second = keys.newer(Some(&first), Some("new")).await.unwrap();
    assert_eq!(count(&second, Some("old"), Algorithm::ES256), 0);
    assert_eq!(count(&second, Some("new"), Algorithm::ES256), 1);
}

#[tokio::test]
async fn a_flood_of_unknown_kids_is_one_fetch() {
    let issuer = Issuer::start(&set_of(&[&Signer::p256("a")])).await;
    let keys = issuer.keys(Schedule::default());
    let set = keys.newer(None, None).await.unwrap();
    let kids: Vec<String> = (0..1000).map(|number| format!("kid-{number}")).collect();
    let demands = kids.iter().map(|kid| keys.newer(Some(&set), Some(kid)));
    let newer = futures::future::join_all(demands).await;
    assert!(newer.iter().all(Option::is_none));
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn credentials_share_the_set_of_one_url() {
    let issuer = Issuer::start(&set_of(&[&Signer::p256("a")])).await;
    let sets = KeySets::new(client(&[])).unwrap();
    let (first, second) = (
        sets.of(&issuer.url()).unwrap(),
        sets.of(&issuer.url()).unwrap(),
    );
    assert!(Arc::ptr_eq(&first, &second));
    first.newer(None, None).await.unwrap();
    assert_eq!(issuer.asked(), 1);
    drop((first, second));
    // Nobody needs it any more; whoever needs it again has it fetched again.
    let third = sets.of(&issuer.url()).unwrap();
    third.newer(None, None).await.unwrap();
    assert_eq!(issuer.asked(), 2);
    for wrong in [
        "",
        "keys",
        "ftp://h/",
        "http://user:secret@h/",
        "http:///x",
        "\u{0}",
    ] {
        let said = sets.of(wrong).unwrap_err();
        assert!(!said.contains("secret"), "{said}");
    }
}

#[tokio::test]
async fn a_denied_network_is_not_called() {
    let issuer = Issuer::start(&set_of(&[&Signer::p256("a")])).await;
    let client = client(&["127.0.0.0/8"]);
    let profile = client.profile(&ProfileOptions::default()).unwrap();
    let keys = RemoteKeys::fetched(&client, &profile, eager(), &issuer.url()).unwrap();
    assert!(keys.newer(None, None).await.is_none());
    assert_eq!(issuer.asked(), 0);
}
