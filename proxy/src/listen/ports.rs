//! Opens and closes ports as snapshots come, for all workers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc::UnboundedSender;

use crate::runtime::Runtime;
use crate::worker::Order;

/// How many connections may wait to be accepted, for each worker.
const BACKLOG: i32 = 1024;

/// The ports that are open.
#[derive(Debug)]
pub(crate) struct Ports {
    bind: IpAddr,
    workers: Vec<UnboundedSender<Order>>,
    open: BTreeSet<u16>,
    /// Ports that could not be opened, and why.
    failed: BTreeMap<u16, String>,
}

impl Ports {
    pub(crate) fn new(bind: IpAddr, workers: Vec<UnboundedSender<Order>>) -> Self {
        Self {
            bind,
            workers,
            open: BTreeSet::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Opens what is new and closes what is gone. To be called again for what failed.
    pub(crate) fn follow(&mut self, runtime: &Runtime) {
        let gone: Vec<u16> = self
            .open
            .iter()
            .filter(|port| !runtime.ports.contains_key(port))
            .copied()
            .collect();
        for port in gone {
            self.open.remove(&port);
            self.tell(|| Order::Close { port });
            tracing::info!(port, "listener closed");
        }
        self.failed
            .retain(|port, _| runtime.ports.contains_key(port));
        for port in runtime.ports.keys().copied() {
            if self.open.contains(&port) {
                continue;
            }
            match self.sockets(port) {
                Ok(sockets) => {
                    for (worker, socket) in self.workers.iter().zip(sockets) {
                        // A worker that is gone has been reported.
                        let _ = worker.send(Order::Open { port, socket });
                    }
                    self.open.insert(port);
                    self.failed.remove(&port);
                    tracing::info!(port, "listener open");
                }
                Err(error) => {
                    let why = error.to_string();
                    if self.failed.get(&port) != Some(&why) {
                        tracing::error!(port, error = %why, "cannot open a listener; it is tried again every second");
                        self.failed.insert(port, why);
                    }
                }
            }
        }
    }

    /// Ports that the snapshot wants and that could not be opened, with the reason.
    pub(crate) const fn failed(&self) -> &BTreeMap<u16, String> {
        &self.failed
    }

    pub(crate) fn tell(&self, order: impl Fn() -> Order) {
        for worker in &self.workers {
            let _ = worker.send(order());
        }
    }

    /// One socket for each worker; the kernel spreads connections over them.
    fn sockets(&self, port: u16) -> io::Result<Vec<TcpListener>> {
        let address = SocketAddr::new(self.bind, port);
        // With SO_REUSEPORT another process of the same user could share the port unnoticed: ask without it first.
        socket(address)?.bind(&address.into())?;
        let listen = || {
            let socket = socket(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(TcpListener::from(socket))
        };
        self.workers.iter().map(|_| listen()).collect()
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // "::" takes IPv4 too.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}
