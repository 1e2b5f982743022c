//! Accepts connections on the ports of a worker.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use hashbrown::HashMap;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::serve::serve;
use crate::worker::{Count, Worker};

/// After an error that more accepting would only repeat, such as a lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The open ports of a worker.
#[derive(Debug)]
pub(crate) struct Listeners {
    worker: Rc<Worker>,
    open: HashMap<u16, CancellationToken>,
    /// How many connections there may be.
    room: Arc<Semaphore>,
    accepting: Count,
}

impl Listeners {
    pub(crate) fn new(worker: Rc<Worker>) -> Self {
        let room = Arc::new(Semaphore::new(
            worker.settings.limits.max_connections as usize,
        ));
        Self {
            worker,
            open: HashMap::new(),
            room,
            accepting: Count::default(),
        }
    }

    /// Begins to accept.
    pub(crate) fn open(&mut self, port: u16, socket: std::net::TcpListener) {
        let listener = match TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(port, %error, "cannot listen");
                return;
            }
        };
        let close = CancellationToken::new();
        let accepting = Accepting {
            worker: Rc::clone(&self.worker),
            listener,
            port,
            room: Arc::clone(&self.room),
            close: close.clone(),
            failing: Cell::new(false),
        };
        let counted = self.accepting.enter();
        tokio::task::spawn_local(async move {
            accepting.run().await;
            drop(counted);
        });
        if let Some(old) = self.open.insert(port, close) {
            old.cancel();
        }
    }

    /// Accepts no more, and tells the connections of this port to go.
    pub(crate) fn close(&mut self, port: u16) {
        if let Some(close) = self.open.remove(&port) {
            close.cancel();
            self.worker.connections.retire_port(port);
        }
    }

    pub(crate) fn close_all(&mut self) {
        for (_, close) in self.open.drain() {
            close.cancel();
        }
    }

    /// Whether nothing is accepted any more.
    pub(crate) fn are_closed(&self) -> bool {
        self.accepting.is_zero()
    }
}

struct Accepting {
    worker: Rc<Worker>,
    listener: TcpListener,
    port: u16,
    room: Arc<Semaphore>,
    close: CancellationToken,
    /// Whether the last attempt failed, so that it is reported once and not ten times a second.
    failing: Cell<bool>,
}

impl Accepting {
    async fn run(self) {
        loop {
            tokio::select! {
                biased;
                () = self.close.cancelled() => break,
                () = self.accept() => {}
            }
        }
        // The kernel has accepted some already: to close the socket on them would be a reset for clients.
        while self.accept().now_or_never().is_some() {}
    }

    /// Accepts one connection, or waits a moment where that is not possible.
    async fn accept(&self) {
        let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else {
            return;
        };
        match self.listener.accept().await {
            Ok((stream, from)) => {
                if self.failing.replace(false) {
                    tracing::info!(port = self.port, "connections are accepted again");
                }
                tokio::task::spawn_local(serve(
                    Rc::clone(&self.worker),
                    stream,
                    from,
                    self.port,
                    permit,
                ));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if !self.failing.replace(true) {
                    tracing::warn!(port = self.port, %error, "cannot accept connections; trying on");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether an error is of the connection that was to be accepted, not of the process.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
