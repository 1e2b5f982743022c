//! One server: a connection for reads, which all share, and one for writes, which are sent together.
//!
//! Reads go out at once. Writes that gather while others are under way go out together, with one `WAIT` behind them, so that
//! all of them wait for the replica once; on a connection of their own, because `WAIT` holds up what follows it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{Client, Cmd, Pipeline, Value, cmd};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::answer::{self, Failure};
use super::connect::Address;
use super::{Shared, discover};
use crate::OpenError;

/// How many writes may wait, and how many go out together.
const QUEUE: usize = 4096;
const BATCH: usize = 256;

/// How many replicas must have a write before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replicas {
    /// So many.
    Always(u32),
    /// One, but where none is online, none.
    WhereThereAreAny,
}

impl Replicas {
    const fn wanted(self) -> u32 {
        match self {
            Self::Always(number) => number,
            Self::WhereThereAreAny => 1,
        }
    }
}

#[derive(Debug)]
pub(super) struct Node {
    address: Address,
    client: Client,
    shared: Weak<Shared>,
    reader: ArcSwapOption<MultiplexedConnection>,
    /// Held by whoever connects for reading.
    connecting: Mutex<()>,
    writes: mpsc::Sender<Write>,
}

/// A command for the connection of writes.
struct Write {
    command: Cmd,
    asking: bool,
    reply: oneshot::Sender<Result<Value, Failure>>,
}

impl Node {
    pub(super) fn start(address: &Address, shared: &Arc<Shared>) -> Result<Arc<Self>, OpenError> {
        let (writes, queue) = mpsc::channel(QUEUE);
        let node = Arc::new(Self {
            address: address.clone(),
            client: shared.connector.to(address)?,
            shared: Arc::downgrade(shared),
            reader: ArcSwapOption::empty(),
            connecting: Mutex::new(()),
            writes,
        });
        let writer = Writer {
            address: address.clone(),
            client: node.client.clone(),
            shared: Arc::downgrade(shared),
            connection: None,
        };
        shared.connector.runtime().spawn(writer.run(queue));
        Ok(node)
    }

    pub(super) async fn read(&self, command: &Cmd) -> Result<Value, Failure> {
        let connection = match self.reader.load_full() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let guard = Broken {
            node: self,
            connection: &connection,
            whole: false,
        };
        let mut own = (*connection).clone();
        match own.send_packed_command(command).await {
            Ok(Value::ServerError(error)) => {
                guard.whole();
                Err(Failure::of_server(&error, &self.address.host))
            }
            Ok(value) => {
                guard.whole();
                Ok(value)
            }
            Err(error) => Err(Failure::of_connection(&error)),
        }
    }

    async fn connect(&self) -> Result<Arc<MultiplexedConnection>, Failure> {
        let _one = self.connecting.lock().await;
        if let Some(connection) = self.reader.load_full() {
            return Ok(connection);
        }
        let shared = self.shared.upgrade().ok_or(Failure::NotDone)?;
        let connected = shared.connector.connect(&self.client).await;
        let connection = connected.map_err(|error| {
            tracing::debug!(address = %self.address, %error, "no connection to Redis");
            Failure::NotDone
        })?;
        // A master that has crashed calls itself one until somebody tells it otherwise, and may have nothing left.
        if shared.servers.fail_over() && !discover::confirms(&shared, &self.address).await {
            return Err(Failure::NotDone);
        }
        let connection = Arc::new(connection);
        self.reader.store(Some(Arc::clone(&connection)));
        Ok(connection)
    }

    pub(super) async fn write(&self, command: Cmd, asking: bool) -> Result<Value, Failure> {
        let (reply, answer) = oneshot::channel();
        let write = Write {
            command,
            asking,
            reply,
        };
        self.writes
            .send(write)
            .await
            .map_err(|_| Failure::NotDone)?;
        answer.await.unwrap_or(Err(Failure::Unknown))
    }
}

/// Puts a connection away that does not answer, also when whoever waits for it has lost patience.
struct Broken<'a> {
    node: &'a Node,
    connection: &'a Arc<MultiplexedConnection>,
    whole: bool,
}

impl Broken<'_> {
    fn whole(mut self) {
        self.whole = true;
    }
}

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        if !self.whole {
            self.node.reader.compare_and_swap(self.connection, None);
        }
    }
}

/// The task that sends writes.
struct Writer {
    address: Address,
    client: Client,
    shared: Weak<Shared>,
    connection: Option<MultiplexedConnection>,
}

impl Writer {
    /// Works until the node is forgotten.
    async fn run(mut self, mut queue: mpsc::Receiver<Write>) {
        let mut batch = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut batch, BATCH).await > 0 {
            // Whoever has lost patience has been told that nobody knows; so nothing is done.
            batch.retain(|write: &Write| !write.reply.is_closed());
            if batch.is_empty() {
                continue;
            }
            let Some(shared) = self.shared.upgrade() else {
                return;
            };
            self.send(&shared, std::mem::take(&mut batch)).await;
        }
    }

    async fn send(&mut self, shared: &Arc<Shared>, batch: Vec<Write>) {
        let Some(mut connection) = self.connect(shared).await else {
            for write in batch {
                let _gone = write.reply.send(Err(Failure::NotDone));
            }
            return;
        };
        let patience = shared.connector.patience;
        let wanted = shared.replicas.wanted();
        let mut pipeline = Pipeline::new();
        for write in &batch {
            if write.asking {
                pipeline.add_command(cmd("ASKING"));
            }
            pipeline.add_command(write.command.clone());
        }
        if wanted > 0 {
            let mut wait = cmd("WAIT");
            wait.arg(wanted).arg(wait_milliseconds(patience));
            pipeline.add_command(wait);
        }
        let sent = connection.send_packed_commands(&pipeline, 0, pipeline.len());
        let Ok(Ok(values)) = tokio::time::timeout(patience, sent).await else {
            // What is under way on this connection may still be done; nothing is sent behind it.
            self.connection = None;
            for write in batch {
                let _gone = write.reply.send(Err(Failure::Unknown));
            }
            return;
        };
        self.answer(shared, &mut connection, batch, values).await;
    }

    async fn answer(
        &mut self,
        shared: &Arc<Shared>,
        connection: &mut MultiplexedConnection,
        batch: Vec<Write>,
        values: Vec<Value>,
    ) {
        let wanted = shared.replicas.wanted();
        let mut values = values;
        let reached = (wanted > 0).then(|| values.pop());
        let safe = match reached {
            None => true,
            Some(reached) => {
                let reached = reached.as_ref().and_then(answer::number).unwrap_or(0);
                reached >= i64::from(wanted) || self.stands_alone(shared, connection).await
            }
        };
        let mut values = values.into_iter();
        for write in batch {
            if write.asking {
                values.next();
            }
            let outcome = match values.next() {
                Some(Value::ServerError(error)) => {
                    Err(Failure::of_server(&error, &self.address.host))
                }
                Some(value) if safe => Ok(value),
                Some(_) | None => Err(Failure::Unknown),
            };
            if matches!(outcome, Err(Failure::NotDone)) {
                // It is not what it was: the next one asks anew who it is.
                self.connection = None;
            }
            let _gone = write.reply.send(outcome);
        }
    }

    /// Whether this is the master, and has no replica that could have the writes.
    async fn stands_alone(
        &mut self,
        shared: &Arc<Shared>,
        connection: &mut MultiplexedConnection,
    ) -> bool {
        if shared.replicas != Replicas::WhereThereAreAny {
            return false;
        }
        let asked = async {
            let mut info = cmd("INFO");
            info.arg("replication");
            match connection.send_packed_command(&info).await {
                Ok(value) => answer::text(&value).is_some_and(|info| is_alone(&info)),
                Err(_) => false,
            }
        };
        let patience = shared.connector.patience / 2;
        let alone = tokio::time::timeout(patience, asked).await.unwrap_or(false);
        if alone && discover::confirms(shared, &self.address).await {
            return true;
        }
        self.connection = None;
        false
    }

    async fn connect(&mut self, shared: &Arc<Shared>) -> Option<MultiplexedConnection> {
        if self.connection.is_none() {
            match shared.connector.connect(&self.client).await {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => {
                    tracing::debug!(address = %self.address, %error, "no connection to Redis");
                }
            }
        }
        self.connection.clone()
    }
}

/// How long the replicas may take: the answer must arrive before patience ends.
fn wait_milliseconds(patience: Duration) -> u64 {
    u64::try_from(patience.as_millis() / 2)
        .unwrap_or(1000)
        .max(1)
}

/// Whether a master says that no replica is online.
fn is_alone(info: &str) -> bool {
    let mut lines = info.lines();
    info.contains("role:master")
        && !lines.any(|line| line.starts_with("slave") && line.contains("state=online"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_alone() {
        assert!(is_alone(
            "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
        ));
        let syncing = "role:master\r\nslave0:ip=1,port=2,state=wait_bgsave,offset=0\r\n";
        assert!(is_alone(syncing));
        let online = "role:master\r\nslave0:ip=1,port=2,state=online,offset=0\r\n";
        assert!(!is_alone(online));
        assert!(!is_alone("role:slave\r\n"));
    }
}
