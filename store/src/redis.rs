//! Entries in Redis (7 or 6.2, or what speaks its protocol): one server, a Cluster, or a master that Sentinels watch.
//!
//! Every operation is one command or one script on one key, so it is atomic and a Cluster can take it.
//!
//! **What is acknowledged.** With Sentinel and Cluster a write counts when a replica has it too (`WAIT`), for only then does it
//! outlive a fail-over. Where the master has no replica that is online, which is so for a while after each fail-over, the
//! others are asked whether it still is the master, and then its own word counts. [`crate::Settings::replicas`] asks for
//! more, or for nothing. One server alone keeps what its own persistence keeps.
//!
//! **What is tried again.** What Redis has refused (moved, read-only, loading, no quorum) or never got is tried again until
//! patience ends. A write whose answer was lost is not: a copy of it may still be on its way, and would undo what others
//! have done since. It is [`Unavailable::Uncertain`].

mod answer;
mod command;
mod connect;
mod discover;
mod node;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use redis::{Cmd, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::condition::Condition;
use crate::scan::{Position, Raw};
use crate::url::Servers;
use crate::{Key, OpenError, Settings, Unavailable, Version, seal};
use answer::Failure;
use connect::Connector;

use node::{Node, Replicas};

pub(crate) use connect::Address;

/// Before what was refused is tried again.
const PAUSE: Duration = Duration::from_millis(25);

/// How often it is asked who is the master, when nothing seems wrong.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Redis {
    shared: Arc<Shared>,
    patience: Duration,
}

/// What the background task and all who ask share.
#[derive(Debug)]
struct Shared {
    servers: Servers,
    connector: Connector,
    replicas: Replicas,
    topology: ArcSwapOption<Topology>,
    /// Changes when the topology does.
    changed: watch::Sender<()>,
    /// Somebody has met a server that is not what it was taken for.
    doubt: Notify,
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
}

/// Who serves what.
#[derive(Debug, PartialEq, Eq)]
struct Topology {
    masters: Vec<Address>,
    /// First slot, last slot, and which of the masters; sorted.
    ranges: Vec<(u16, u16, usize)>,
}

impl Redis {
    pub(crate) fn open(
        servers: Servers,
        settings: &Settings,
        runtime: &Handle,
    ) -> Result<Self, OpenError> {
        let connector = Connector::new(&servers, settings, runtime.clone())?;
        let replicas = match (settings.replicas, servers.fail_over()) {
            (Some(number), _) => Replicas::Always(number),
            (None, true) => Replicas::WhereThereAreAny,
            (None, false) => Replicas::Always(0),
        };
        let shared = Arc::new(Shared {
            servers,
            connector,
            replicas,
            topology: ArcSwapOption::empty(),
            changed: watch::Sender::new(()),
            doubt: Notify::new(),
            nodes: Mutex::default(),
        });
        runtime.spawn(discover::follow(Arc::downgrade(&shared)));
        Ok(Self {
            shared,
            patience: settings.patience,
        })
    }

    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Unavailable> {
        let value = self.run(key, Kind::Read, command::get).await?;
        answer::bytes(value)
    }

    pub(crate) async fn write(
        &self,
        key: &Key,
        condition: &Condition,
        blob: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, Unavailable> {
        let ttl = command::milliseconds(ttl);
        let write = |name: &str| match condition {
            Condition::Any => command::put(name, blob, ttl),
            Condition::Absent => command::put_new(name, blob, ttl),
            Condition::Version(Version(expected)) => {
                command::replace(name, expected, blob, ttl, seal::NONCE_AT)
            }
            Condition::Same => command::lease(name, blob, ttl),
        };
        let value = self.run(key, Kind::Write, write).await?;
        answer::done(&value)
    }

    pub(crate) async fn take(&self, key: &Key) -> Result<Option<Vec<u8>>, Unavailable> {
        let value = self.run(key, Kind::Write, command::take).await?;
        answer::bytes(value)
    }

    pub(crate) async fn remove(&self, key: &Key) -> Result<(), Unavailable> {
        self.run(key, Kind::Write, command::remove).await.map(drop)
    }

    pub(crate) async fn release(&self, key: &Key, blob: &[u8]) -> Result<(), Unavailable> {
        let release = |name: &str| command::release(name, blob);
        self.run(key, Kind::Write, release).await.map(drop)
    }

    /// Entries of one server behind a place. Servers follow each other in the order of their names; while they change their
    /// roles, entries may be missed.
    pub(crate) async fn scan(&self, from: Option<Place>, most: usize) -> Result<Raw, Unavailable> {
        let deadline = Instant::now() + self.patience;
        self.shared.master(0, deadline).await?;
        let topology = self.shared.topology.load_full();
        let mut masters = topology.map_or_else(Vec::new, |all| all.masters.clone());
        masters.sort_unstable_by_key(Address::to_string);
        let (server, cursor) = from.map_or((String::new(), 0), |Place { server, cursor }| {
            (server, cursor)
        });
        let mut masters = masters
            .into_iter()
            .skip_while(|address| address.to_string() < server);
        let Some(master) = masters.next() else {
            return Ok(Raw::end());
        };
        let cursor = if master.to_string() == server {
            cursor
        } else {
            0
        };
        let command = command::scan(cursor, most);
        let node = self.shared.node(&master)?;
        let asked = tokio::time::timeout_at(deadline, node.read(&command)).await;
        let (cursor, names) = match asked {
            Ok(Ok(value)) => answer::names(value)?,
            Ok(Err(_)) | Err(_) => {
                self.shared.doubt.notify_one();
                return Err(Unavailable::Away);
            }
        };
        let next = if cursor == 0 {
            masters.next().map(|master| (master, 0))
        } else {
            Some((master, cursor))
        };
        let keys = names.iter().filter_map(|name| command::key(name));
        let read = keys.map(async |key| Ok((key, self.get(&key).await?)));
        let read = futures::future::try_join_all(read).await?;
        Ok(Raw {
            blobs: read
                .into_iter()
                .filter_map(|(key, blob)| Some((key, blob?)))
                .collect(),
            next: next.map(|(server, cursor)| Position::of(format_args!("{cursor} {server}"))),
        })
    }

    async fn run(
        &self,
        key: &Key,
        kind: Kind,
        command: impl FnOnce(&str) -> Cmd,
    ) -> Result<Value, Unavailable> {
        let name = command::name(key);
        let command = command(&name);
        let slot = command::slot(&name);
        let deadline = Instant::now() + self.patience;
        let mut redirected: Option<(Arc<Node>, bool)> = None;
        loop {
            let (node, asking) = match redirected.take() {
                Some(redirected) => redirected,
                None => (self.shared.master(slot, deadline).await?, false),
            };
            let asked = match kind {
                Kind::Read if !asking => {
                    tokio::time::timeout_at(deadline, node.read(&command)).await
                }
                Kind::Read | Kind::Write => {
                    tokio::time::timeout_at(deadline, node.write(command.clone(), asking)).await
                }
            };
            let failure = match asked {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Unknown,
            };
            let over = Instant::now() + PAUSE >= deadline;
            match (failure, kind) {
                (Failure::Full, _) => return Err(Unavailable::Full),
                (Failure::Refused(reason), _) => {
                    tracing::error!(reason, "Redis refuses what the store asks of it");
                    return Err(Unavailable::Away);
                }
                (Failure::Unknown, Kind::Write) => {
                    self.shared.doubt.notify_one();
                    return Err(Unavailable::Uncertain);
                }
                (Failure::NotDone | Failure::Unknown, _) if over => {
                    self.shared.doubt.notify_one();
                    return Err(Unavailable::Away);
                }
                (Failure::NotDone | Failure::Unknown, _) => {
                    self.shared.doubt.notify_one();
                    tokio::time::sleep(PAUSE).await;
                }
                (Failure::Moved(_) | Failure::Ask(_), _) if over => return Err(Unavailable::Away),
                (Failure::Moved(to), _) => {
                    self.shared.doubt.notify_one();
                    redirected = Some((self.shared.node(&to)?, false));
                }
                (Failure::Ask(to), _) => redirected = Some((self.shared.node(&to)?, true)),
            }
        }
    }
}

/// Where a scan goes on.
#[derive(Debug)]
pub(crate) struct Place {
    server: String,
    cursor: u64,
}

impl Place {
    pub(crate) fn read(position: &Position) -> Option<Self> {
        let (cursor, server) = position.as_str().split_once(' ')?;
        Some(Self {
            server: server.to_owned(),
            cursor: cursor.parse().ok()?,
        })
    }
}

/// Whether an operation changes anything.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Read,
    Write,
}

impl Shared {
    /// Who serves a slot, as soon as it is known.
    async fn master(
        self: &Arc<Self>,
        slot: u16,
        deadline: Instant,
    ) -> Result<Arc<Node>, Unavailable> {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(topology) = &*self.topology.load()
                && let Some(address) = topology.master(slot)
            {
                return self.node(address);
            }
            self.doubt.notify_one();
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(Unavailable::Away),
            }
        }
    }

    fn node(self: &Arc<Self>, address: &Address) -> Result<Arc<Node>, Unavailable> {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(address) {
            return Ok(Arc::clone(node));
        }
        let node = Node::start(address, self).map_err(|error| {
            tracing::error!(%address, %error, "Redis cannot be reached so");
            Unavailable::Away
        })?;
        nodes.insert(address.clone(), Arc::clone(&node));
        Ok(node)
    }
}

impl Topology {
    /// One server for everything.
    fn single(master: Address) -> Self {
        Self {
            masters: vec![master],
            ranges: vec![(0, u16::MAX, 0)],
        }
    }

    fn master(&self, slot: u16) -> Option<&Address> {
        let after = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, master) = self.ranges.get(after.checked_sub(1)?)?;
        (slot <= *last).then(|| self.masters.get(*master)).flatten()
    }
}
