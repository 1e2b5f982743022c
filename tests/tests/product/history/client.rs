//! A client that is never sure of an answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use harness::message::parse_head;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::History;

pub(super) const HOST: &str = "history.test";
pub(super) const ID: &str = "app";
pub(super) const SECRET: &str = "canary-secret-of-app";
pub(super) const PROVISION: &str = "canary-provision-key";
pub(super) const CALLBACK: &str = "https://app.test/callback";

/// Longer than a gateway waits for its store.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer that came whole.
#[derive(Debug)]
struct Reply {
    status: u16,
    body: Value,
}

impl Reply {
    fn text(&self, name: &str) -> String {
        self.body[name].as_str().unwrap_or_default().to_owned()
    }

    /// Whether the answer says that the token or code is not honoured, rather than that nobody can tell.
    fn is_no(&self) -> bool {
        (400..500).contains(&self.status)
    }
}

/// None where nobody knows what became of it.
async fn ask(port: u16, request: String) -> Option<Reply> {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.ok()?;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let (line, headers) = parse_head(&bytes[..end]);
        let length = headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
        let body = &bytes[end..];
        (length.1.parse() == Ok(body.len())).then_some(())?;
        Some(Reply {
            status: line.split(' ').nth(1)?.parse().ok()?,
            body: serde_json::from_slice(body).unwrap_or_default(),
        })
    };
    tokio::time::timeout(PATIENCE, asked).await.ok()?
}

async fn get(port: u16, token: &str) -> Option<u16> {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    ask(port, request).await.map(|reply| reply.status)
}

/// Whether a token is answered so, as soon as the gateway knows.
pub(super) async fn comes_to(port: u16, token: &str, status: u16) -> bool {
    let wait = async {
        loop {
            match get(port, token).await {
                Some(found) if found == status => return true,
                // A token that counts is never called unknown.
                Some(401) => return false,
                Some(_) | None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or(false)
}

/// An access token and its refresh token.
#[derive(Debug, Clone)]
struct Pair {
    access: String,
    refresh: String,
}

/// What became of a second request that redeemed the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    None,
    Refused,
    Unknown,
}

/// One of many.
pub(super) struct Client {
    random: u64,
    ports: Arc<[u16]>,
    history: Arc<History>,
}

impl Client {
    pub(super) fn new(seed: u64, ports: Arc<[u16]>, history: Arc<History>) -> Self {
        Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ports,
            history,
        }
    }

    /// A number below `count` (xorshift): the same for every run with the same seed.
    fn draw(&mut self, count: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % count as u64).expect("a small number")
    }

    fn port(&mut self) -> u16 {
        let which = self.draw(self.ports.len());
        self.ports[which]
    }

    pub(super) async fn work(mut self) {
        while !self.history.over.load(Ordering::Relaxed) {
            let Some(pair) = self.begin().await else {
                // Perhaps nobody is there.
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            if let Some(pair) = self.go_on(pair).await {
                self.history.live.lock().push(pair.access);
            }
        }
    }

    async fn post(port: u16, path: &str, fields: &str) -> Option<Reply> {
        let body = format!("{fields}&client_id={ID}&client_secret={SECRET}");
        let request = format!(
            "POST /oauth2/{path} HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-Proto: https\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        ask(port, request).await
    }

    /// Redeems a code or refresh token, sometimes twice at the same time. The tokens, and what became of the other request.
    async fn redeem(&mut self, what: &str, fields: &str) -> Option<(Pair, Other)> {
        let raced = self.draw(3) == 0;
        let (one, other) = (self.port(), self.port());
        let replies = if raced {
            self.history.raced.fetch_add(1, Ordering::Relaxed);
            let both = (
                Self::post(one, "token", fields),
                Self::post(other, "token", fields),
            );
            let both = tokio::join!(both.0, both.1);
            vec![both.0, both.1]
        } else {
            vec![Self::post(one, "token", fields).await]
        };
        let known: Vec<_> = replies.iter().flatten().collect();
        let won: Vec<_> = known.iter().filter(|reply| reply.status == 200).collect();
        let refused = known.iter().filter(|reply| reply.is_no()).count();
        if won.len() > 1 {
            self.history.wrong(format!("a {what} was redeemed twice"));
        }
        if refused == replies.len() {
            let body = &known[0].body;
            self.history
                .wrong(format!("an acknowledged {what} is not honoured: {body}"));
        }
        let [winner] = won[..] else { return None };
        self.history.acknowledge();
        let pair = Pair {
            access: winner.text("access_token"),
            refresh: winner.text("refresh_token"),
        };
        let other = match (raced, refused) {
            (false, _) => Other::None,
            (true, 0) => Other::Unknown,
            (true, _) => Other::Refused,
        };
        Some((pair, other))
    }

    /// The first tokens; none where nobody knows, or they do not count.
    async fn begin(&mut self) -> Option<Pair> {
        let fields = format!(
            "response_type=code&provision_key={PROVISION}&authenticated_userid=u&redirect_uri={CALLBACK}"
        );
        let reply = Self::post(self.port(), "authorize", &fields).await?;
        if reply.is_no() {
            self.history.wrong(format!("no code: {}", reply.body));
        }
        let uri = reply.text("redirect_uri");
        let code = uri
            .split(['?', '&'])
            .find_map(|part| part.strip_prefix("code="))?;
        self.history.acknowledge();
        let fields = format!("grant_type=authorization_code&code={code}&redirect_uri={CALLBACK}");
        let (pair, other) = self.redeem("code", &fields).await?;
        // Who comes second with a code ends what the first one got, and may have done so without being heard.
        match other {
            Other::None => Some(pair),
            Other::Unknown => None,
            Other::Refused => {
                self.history.ended.lock().push(pair.access);
                None
            }
        }
    }

    /// Uses tokens for a while; what is then left of them.
    async fn go_on(&mut self, mut pair: Pair) -> Option<Pair> {
        for _ in 0..4 {
            match self.draw(8) {
                0 => {
                    let fields = format!("token={}", pair.access);
                    let reply = Self::post(self.port(), "revoke", &fields).await?;
                    if reply.status == 200 {
                        self.history.acknowledge();
                        self.history.ended.lock().push(pair.access);
                    }
                    return None;
                }
                1..=3 => {
                    let fields = format!("grant_type=refresh_token&refresh_token={}", pair.refresh);
                    let (next, _) = self.redeem("refresh token", &fields).await?;
                    self.history.refreshed.fetch_add(1, Ordering::Relaxed);
                    self.history.ended.lock().push(pair.access);
                    pair = next;
                }
                _ => match get(self.port(), &pair.access).await {
                    Some(200) => self.history.acknowledge(),
                    Some(401) => {
                        let token = &pair.access;
                        self.history
                            .wrong(format!("an acknowledged token is unknown: {token}"));
                        return None;
                    }
                    Some(_) | None => {}
                },
            }
        }
        Some(pair)
    }
}
