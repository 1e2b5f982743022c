//! Who is the master, or who serves which slots.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value, cmd};

use super::answer::{number, text};
use super::connect::Address;
use super::{LOOK, PAUSE, Shared, Topology};
use crate::url::Form;

/// How long a server may take to tell what it knows.
const ANSWER: Duration = Duration::from_millis(500);

/// Keeps the topology true, for as long as the store is open.
pub(super) async fn follow(shared: Weak<Shared>) {
    let mut lookers = Lookers::default();
    loop {
        let Some(held) = shared.upgrade() else { return };
        if let Some(found) = look(&held, &mut lookers).await {
            take(&held, found);
        }
        let steady = held.servers.fail_over() || held.topology.load().is_none();
        let doubted = async {
            if steady {
                let _later = tokio::time::timeout(LOOK, held.doubt.notified()).await;
            } else {
                held.doubt.notified().await;
            }
        };
        // A store that was closed is noticed after this.
        let _checked = tokio::time::timeout(LOOK, doubted).await;
        drop(held);
        tokio::time::sleep(PAUSE).await;
    }
}

fn take(shared: &Shared, found: Topology) {
    if shared.topology.load().as_deref() == Some(&found) {
        return;
    }
    tracing::info!(masters = %list(&found.masters), "the store in Redis is served by others now");
    shared
        .nodes
        .lock()
        .retain(|address, _| found.masters.contains(address));
    shared.topology.store(Some(Arc::new(found)));
    shared.changed.send_replace(());
}

fn list(addresses: &[Address]) -> String {
    let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    shown.join(", ")
}

/// Connections over which is asked, kept from one time to the next.
#[derive(Default)]
struct Lookers(BTreeMap<Address, MultiplexedConnection>);

impl Lookers {
    async fn ask(&mut self, shared: &Shared, address: &Address, command: &Cmd) -> Option<Value> {
        let asked = async {
            if !self.0.contains_key(address) {
                let connection = connect(shared, address).await?;
                self.0.insert(address.clone(), connection);
            }
            let connection = self.0.get_mut(address)?;
            match connection.send_packed_command(command).await {
                Ok(Value::ServerError(_)) | Err(_) => None,
                Ok(value) => Some(value),
            }
        };
        let answer = tokio::time::timeout(ANSWER, asked).await.ok().flatten();
        if answer.is_none() {
            self.0.remove(address);
        }
        answer
    }
}

async fn connect(shared: &Shared, address: &Address) -> Option<MultiplexedConnection> {
    let connector = &shared.connector;
    let clients = match shared.servers.form {
        Form::Sentinel(_) => connector.to_sentinel(address).ok()?,
        Form::Single | Form::Cluster => vec![connector.to(address).ok()?],
    };
    for client in &clients {
        match connector.connect_any(client).await {
            Ok(connection) => return Some(connection),
            Err(error) => tracing::debug!(%address, %error, "no connection to Redis"),
        }
    }
    None
}

async fn look(shared: &Shared, lookers: &mut Lookers) -> Option<Topology> {
    match &shared.servers.form {
        Form::Single => shared.servers.hosts.first().cloned().map(Topology::single),
        Form::Sentinel(master) => {
            let votes = votes(shared, lookers, master).await;
            let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
            most.map(|(address, _)| Topology::single(address))
        }
        Form::Cluster => {
            let known = shared.topology.load_full();
            let masters = known.iter().flat_map(|known| &known.masters);
            for address in masters.chain(&shared.servers.hosts) {
                if let Some(found) = slots(shared, lookers, address).await {
                    return Some(found);
                }
            }
            None
        }
    }
}

/// Whom the Sentinels take for the master, and how many of them.
async fn votes(shared: &Shared, lookers: &mut Lookers, master: &str) -> BTreeMap<Address, usize> {
    let mut command = cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let mut votes = BTreeMap::new();
    for sentinel in &shared.servers.hosts {
        if let Some(Value::Array(parts)) = lookers.ask(shared, sentinel, &command).await
            && let [host, port] = parts.as_slice()
            && let (Some(host), Some(port)) = (text(host), number(port))
            && let Ok(port) = u16::try_from(port)
        {
            *votes.entry(Address { host, port }).or_default() += 1;
        }
    }
    votes
}

/// What a server of a Cluster says of all of it.
async fn slots(shared: &Shared, lookers: &mut Lookers, from: &Address) -> Option<Topology> {
    let mut command = cmd("CLUSTER");
    command.arg("SLOTS");
    let Value::Array(ranges) = lookers.ask(shared, from, &command).await? else {
        return None;
    };
    let mut topology = Topology {
        masters: Vec::new(),
        ranges: Vec::new(),
    };
    for range in &ranges {
        let Value::Array(range) = range else {
            return None;
        };
        let [first, last, Value::Array(master), ..] = range.as_slice() else {
            return None;
        };
        let [host, port, ..] = master.as_slice() else {
            return None;
        };
        let host = text(host).filter(|host| !host.is_empty() && host != "?");
        let address = Address {
            host: host.unwrap_or_else(|| from.host.clone()),
            port: u16::try_from(number(port)?).ok()?,
        };
        let known = topology.masters.iter().position(|known| *known == address);
        let place = known.unwrap_or_else(|| {
            topology.masters.push(address);
            topology.masters.len() - 1
        });
        let slot = |value| u16::try_from(number(value)?).ok();
        topology.ranges.push((slot(first)?, slot(last)?, place));
    }
    topology.ranges.sort_unstable();
    // One that has just come up, or has been cut off, knows of nothing.
    (!topology.ranges.is_empty()).then_some(topology)
}

/// Whether others agree that this is a master. Of Sentinels most must say so, and none may say otherwise: the one that leads a
/// fail-over knows of it before the others do, and a master that has crashed may be back by then, with nothing.
pub(super) async fn confirms(shared: &Shared, address: &Address) -> bool {
    let mut lookers = Lookers::default();
    match &shared.servers.form {
        Form::Single => true,
        Form::Sentinel(master) => {
            let votes = votes(shared, &mut lookers, master).await;
            let own = votes.get(address).copied().unwrap_or(0);
            votes.len() == 1 && own * 2 > shared.servers.hosts.len()
        }
        Form::Cluster => {
            let known = shared.topology.load_full();
            let masters = known.iter().flat_map(|known| &known.masters);
            for other in masters.chain(&shared.servers.hosts) {
                if other == address {
                    continue;
                }
                if let Some(found) = slots(shared, &mut lookers, other).await {
                    return found.masters.contains(address);
                }
            }
            // A Cluster of one has nobody else.
            known.is_some_and(|known| known.masters.len() == 1)
        }
    }
}
