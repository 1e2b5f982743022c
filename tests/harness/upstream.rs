//! Upstreams: servers behind the gateway that remember every byte they got.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::message::{Seen, parse_head};
use crate::raw::Connection;
use crate::within;

/// What an upstream does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Sends these bytes and keeps the connection.
    Bytes(Vec<u8>),
    /// Sends these bytes and closes.
    Last(Vec<u8>),
    /// Says nothing and keeps the connection open.
    Silence,
    /// Says nothing until the number of requests seen is at least this one, then sends the bytes.
    After(usize, Vec<u8>),
}

impl Reply {
    /// 200 with a body.
    #[must_use]
    pub fn ok(body: &str) -> Self {
        Self::status(200, "OK", &[], body)
    }

    /// A status with headers and a body.
    #[must_use]
    pub fn status(status: u16, reason: &str, headers: &[(&str, &str)], body: &str) -> Self {
        let mut text = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        Self::Bytes((text + "\r\n" + body).into_bytes())
    }
}

type Answering = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A listening upstream. It ends when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    port: u16,
    log: Arc<Log>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    count: watch::Sender<usize>,
    connections: AtomicUsize,
}

impl Upstream {
    /// Answers every request with 200 and its own name.
    pub async fn named(name: &'static str) -> Self {
        Self::answering(move |_| Reply::status(200, "OK", &[("X-Upstream", name)], name)).await
    }

    /// Answers HTTP/1.1 requests as the function says.
    pub async fn answering(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let reply: Arc<Answering> = Arc::new(reply);
        Self::handling(move |connection, log, number| {
            serve(connection, log, number, Arc::clone(&reply))
        })
        .await
    }

    /// Gives every connection to the function, raw.
    pub async fn connections<F: Future<Output = ()> + Send + 'static>(
        handle: impl Fn(Connection) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::handling(move |connection, _, _| handle(connection)).await
    }

    async fn handling<F: Future<Output = ()> + Send + 'static>(
        handle: impl Fn(Connection, Arc<Log>, usize) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let log = Arc::new(Log {
            seen: Mutex::default(),
            count: watch::Sender::new(0),
            connections: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&log);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut handlers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("nodelay");
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                handlers.spawn(handle(
                    Connection::over(stream),
                    Arc::clone(&shared),
                    number,
                ));
            }
        });
        Self {
            port,
            log,
            _tasks: tasks,
        }
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// How many connections it got.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    /// All requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().clone()
    }

    /// How many requests so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.log.seen.lock().len()
    }

    /// The last request.
    ///
    /// # Panics
    /// When there was none.
    #[must_use]
    pub fn last(&self) -> Seen {
        self.log
            .seen
            .lock()
            .last()
            .cloned()
            .expect("the upstream saw no request")
    }

    /// Waits until it got that many requests.
    pub async fn wait_for(&self, count: usize) {
        let mut watch = self.log.count.subscribe();
        within("requests at the upstream", watch.wait_for(|n| *n >= count))
            .await
            .expect("the log lives");
    }
}

async fn serve(mut connection: Connection, log: Arc<Log>, number: usize, reply: Arc<Answering>) {
    loop {
        // Idle connections of the gateway's pool stay open for long.
        let Some(head) = connection.idle().await else {
            return;
        };
        let (line, headers) = parse_head(&head);
        let mut words = line.split(' ').map(str::to_owned);
        let value = |name: &str| {
            headers
                .iter()
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, v)| v.clone())
        };
        if value("expect").is_some() {
            connection.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        let (body, trailers) = if value("transfer-encoding").is_some() {
            connection.chunks().await
        } else {
            let length = value("content-length").map_or(0, |v| v.parse().expect("a length"));
            (connection.bytes(length).await, Vec::new())
        };
        let seen = Seen {
            connection: number,
            head,
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            headers,
            body,
            trailers,
        };
        log.seen.lock().push(seen.clone());
        log.count.send_modify(|n| *n += 1);
        match reply(&seen) {
            Reply::Bytes(bytes) => {
                connection.send(bytes).await;
            }
            Reply::Last(bytes) => {
                connection.send(bytes).await;
                return connection.finish().await;
            }
            Reply::Silence => return connection.hold().await,
            Reply::After(count, bytes) => {
                let mut watch = log.count.subscribe();
                drop(watch.wait_for(|n| *n >= count).await);
                connection.send(bytes).await;
            }
        }
    }
}
