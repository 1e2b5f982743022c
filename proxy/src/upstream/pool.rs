//! A worker's connections to endpoints.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use hyper::client::conn::{http1, http2};

use super::balance::Active;
use super::limits::Permit;
use crate::body::RequestBody;
use crate::clock;
use crate::limits::{Limits, Timeouts};
use crate::metrics::{Event, WorkerMetrics};

/// All connections of one worker.
#[derive(Debug)]
pub(crate) struct Pools {
    homes: RefCell<HashMap<SocketAddr, Rc<Home>>>,
    /// Those with TLS, by address and connector.
    secure: RefCell<HashMap<(SocketAddr, u64), Rc<Home>>>,
    max_idle: usize,
    idle_timeout: u64,
    metrics: WorkerMetrics,
}

/// The connections to one endpoint.
#[derive(Debug)]
pub(super) struct Home {
    /// HTTP/1.1 connections with nothing to do; the last one was used last.
    idle: RefCell<Vec<Idle>>,
    /// The HTTP/2 connection. The lock is held while it is opened, so that it is opened once.
    pub(super) shared: tokio::sync::Mutex<Option<Shared>>,
    /// Requests that wait for a connection to become free, where connections are limited.
    waiting: Cell<usize>,
    freed: tokio::sync::Notify,
    /// When a request last came here.
    used: Cell<u64>,
    max_idle: usize,
    metrics: WorkerMetrics,
}

/// An HTTP/2 connection.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) sender: http2::SendRequest<RequestBody>,
    /// When a response last came over it.
    pub(super) heard: Rc<Cell<u64>>,
}

#[derive(Debug)]
struct Idle {
    line: Line,
    since: u64,
}

/// Sends requests over an HTTP/1.1 connection, which ends soon after this has been dropped.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) http: http1::SendRequest<RequestBody>,
    /// Tells whoever drives the connection. hyper by itself would wait until the upstream has taken what was being sent.
    pub(super) _in_use: tokio::sync::oneshot::Sender<()>,
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Line {
    /// In a box: it is moved with every request.
    pub(super) sender: Box<Sender>,
    /// Where connections are limited.
    pub(super) permit: Option<Arc<Permit>>,
}

impl Line {
    /// Whether it had better be closed: others wait for a connection, and nobody does here.
    fn is_wanted_elsewhere(&self, home: &Home) -> bool {
        let permit = self.permit.as_ref();
        home.waiting.get() == 0 && permit.is_some_and(|permit| permit.is_wanted())
    }
}

impl Pools {
    pub(crate) fn new(limits: &Limits, timeouts: &Timeouts, metrics: WorkerMetrics) -> Self {
        Self {
            homes: RefCell::default(),
            secure: RefCell::default(),
            max_idle: limits.upstream_max_idle as usize,
            idle_timeout: u64::try_from(timeouts.upstream_idle_timeout.as_millis())
                .unwrap_or(u64::MAX),
            metrics,
        }
    }

    pub(super) fn home(&self, address: SocketAddr) -> Rc<Home> {
        if let Some(home) = self.homes.borrow().get(&address) {
            home.used.set(clock::millis());
            return Rc::clone(home);
        }
        let home = self.new_home();
        self.homes.borrow_mut().insert(address, Rc::clone(&home));
        home
    }

    /// The connections to an endpoint that were made by one connector.
    pub(super) fn secure_home(&self, address: SocketAddr, connector: u64) -> Rc<Home> {
        let mut homes = self.secure.borrow_mut();
        let home = homes
            .entry((address, connector))
            .or_insert_with(|| self.new_home());
        home.used.set(clock::millis());
        Rc::clone(home)
    }

    fn new_home(&self) -> Rc<Home> {
        Rc::new(Home {
            idle: RefCell::default(),
            shared: tokio::sync::Mutex::default(),
            waiting: Cell::new(0),
            freed: tokio::sync::Notify::new(),
            used: Cell::new(clock::millis()),
            max_idle: self.max_idle,
            metrics: self.metrics.clone(),
        })
    }

    /// Closes what has been idle for too long, and what the other side has closed.
    pub(crate) fn sweep(&self) {
        let oldest = clock::millis().saturating_sub(self.idle_timeout);
        let in_use = |home: &Rc<Home>| home.sweep(oldest);
        self.homes.borrow_mut().retain(|_, home| in_use(home));
        self.secure.borrow_mut().retain(|_, home| in_use(home));
    }
}

impl Home {
    /// Closes what is too old; whether anything is left.
    fn sweep(self: &Rc<Self>, oldest: u64) -> bool {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain(|idle| {
            let line = &idle.line;
            idle.since >= oldest && !line.sender.http.is_closed() && !line.is_wanted_elsewhere(self)
        });
        for _ in idle.len()..before {
            self.metrics.event(Event::PoolTaken);
        }
        // Every request that is under way holds its home.
        let unused = Rc::strong_count(self) == 1 && self.used.get() < oldest;
        let shared = self.shared.try_lock().map_or(true, |mut shared| {
            shared.take_if(|shared| unused || shared.sender.is_closed());
            shared.is_some()
        });
        shared || !idle.is_empty() || Rc::strong_count(self) > 1
    }

    /// The connection that was used last.
    pub(super) async fn checkout(&self) -> Option<Line> {
        loop {
            let mut line = self.idle.borrow_mut().pop()?.line;
            let sender = &mut line.sender.http;
            self.metrics.event(Event::PoolTaken);
            if sender.is_ready() || (!sender.is_closed() && sender.ready().await.is_ok()) {
                self.metrics.event(Event::PoolHit);
                return Some(line);
            }
        }
    }

    /// A request over the shared connection was not answered in time. Where nothing else has been since it began, the
    /// other side may be gone: who comes next gets a new connection.
    pub(super) fn doubt(&self, shared: &Shared, began: u64) {
        if shared.heard.get() <= began
            && let Ok(mut current) = self.shared.try_lock()
        {
            current.take_if(|current| Rc::ptr_eq(&current.heard, &shared.heard));
        }
    }

    fn put(&self, line: Line) {
        if line.is_wanted_elsewhere(self) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if !line.sender.http.is_closed() && idle.len() < self.max_idle {
            self.metrics.event(Event::PoolPut);
            idle.push(Idle {
                line,
                since: clock::millis(),
            });
            if self.waiting.get() > 0 {
                self.freed.notify_one();
            }
        }
    }

    /// Waits until a connection is free.
    pub(super) async fn freed(&self) {
        let _waiting = Waiting::begin(&self.waiting);
        self.freed.notified().await;
    }
}

/// One that waits, for as long as it lives.
struct Waiting<'w>(&'w Cell<usize>);

impl<'w> Waiting<'w> {
    fn begin(waiting: &'w Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// The use of a connection for one request. Released when the response has been read to its end; dropped before, the
/// connection is closed, because nobody knows what would come next on it.
#[derive(Debug)]
pub(crate) struct Lease {
    /// None where the connection is shared.
    pub(super) sender: Option<Box<Sender>>,
    pub(super) home: Rc<Home>,
    pub(super) active: Active,
}

impl Lease {
    /// The connection may serve somebody else.
    pub(crate) fn release(self) {
        let Self {
            sender,
            home,
            active,
        } = self;
        let sender = sender.filter(|sender| !sender.http.is_closed());
        let Some((sender, permit)) = sender.zip(active.end()) else {
            return;
        };
        let mut line = Line { sender, permit };
        if line.sender.http.is_ready() {
            home.put(line);
        } else {
            // The response is complete, but the connection has not noticed yet, or still sends the request's body.
            tokio::task::spawn_local(async move {
                let ready = line.sender.http.ready();
                let ready = tokio::time::timeout(std::time::Duration::from_secs(1), ready).await;
                if matches!(ready, Ok(Ok(()))) {
                    home.put(line);
                }
            });
        }
    }
}
