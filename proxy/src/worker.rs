//! One thread, one event loop, nothing shared with the others but snapshots.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use plugins::directory::Directory;
use tokio::sync::mpsc;

use crate::clock;
use crate::http::request_id::Dice;
use crate::limits::{Limits, Timeouts};
use crate::listen::{Connections, Listeners};
use crate::metrics::WorkerMetrics;
use crate::record::Record;
use crate::refusals::Ring;
use crate::runtime::Runtime;
use crate::upstream::{Pools, Waits};

/// What all workers are told at the start.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Whose connections begin with a header of the PROXY protocol.
    pub(crate) proxy_protocol: Vec<IpNet>,
}

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) settings: Arc<Settings>,
    pub(crate) runtime: Arc<ArcSwap<Runtime>>,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) log: crate::log::Logger,
    pub(crate) refusals: Arc<Ring>,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
}

/// What a worker may be told while it runs.
#[derive(Debug)]
pub(crate) enum Order {
    /// Accept connections for this port.
    Open {
        port: u16,
        socket: std::net::TcpListener,
    },
    /// No longer accept connections for this port; those that are open are told to go when they can.
    Close { port: u16 },
    /// Close all listeners and tell all connections to go; then end, at the latest after this time.
    Drain(Duration),
}

type Snapshots = arc_swap::Cache<Arc<ArcSwap<Runtime>>, Arc<Runtime>>;

/// What everything on one thread uses.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    runtime: RefCell<Snapshots>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) dice: Dice,
    pub(crate) pools: Pools,
    pub(crate) connections: Connections,
    pub(crate) tunnels: Count,
    /// Mirrored requests under way.
    pub(crate) copies: Count,
    pub(crate) waits: Waits,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) log: crate::log::Logger,
    pub(crate) refusals: Arc<Ring>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Worker")
    }
}

impl Worker {
    fn new(parts: &Parts) -> Self {
        let (runtime, settings) = (Arc::clone(&parts.runtime), Arc::clone(&parts.settings));
        Self {
            log: parts.log.clone(),
            refusals: Arc::clone(&parts.refusals),
            ..Self::aside(runtime, settings, parts.metrics.clone())
        }
    }

    /// One that logs nothing, and whose refusals nobody reads.
    pub(crate) fn aside(
        runtime: Arc<ArcSwap<Runtime>>,
        settings: Arc<Settings>,
        metrics: WorkerMetrics,
    ) -> Self {
        Self {
            directory: Arc::clone(&runtime.load().directory),
            runtime: RefCell::new(arc_swap::Cache::new(runtime)),
            dice: Dice::new(),
            pools: Pools::new(&settings.limits, &settings.timeouts, metrics.clone()),
            connections: Connections::default(),
            tunnels: Count::default(),
            copies: Count::default(),
            waits: Waits::default(),
            metrics,
            log: crate::log::Logger::off(),
            refusals: Arc::default(),
            settings,
        }
    }

    /// Looks at the snapshot in force.
    pub(crate) fn with_runtime<T>(&self, look: impl FnOnce(&Arc<Runtime>) -> T) -> T {
        look(self.runtime.borrow_mut().load())
    }

    /// A request is over.
    pub(crate) fn finish(&self, record: &Record) {
        let rule = record.rule.as_ref().map(|rule| &rule.metrics);
        self.metrics.request(rule, record.status, record.elapsed());
        if let Some(failure) = record.failure {
            self.metrics.failure(failure);
        }
        self.log.write(record);
    }

    /// Runs until it has been drained.
    async fn run(self: Rc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut listeners = Listeners::new(Rc::clone(&self));
        let mut ticks = tokio::time::interval(clock::TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let patience = loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Open { port, socket }) => listeners.open(port, socket),
                    Some(Order::Close { port }) => listeners.close(port),
                    Some(Order::Drain(patience)) => break patience,
                    // Nobody is left to say when to stop.
                    None => break Duration::ZERO,
                },
                _ = ticks.tick() => self.tick(),
            }
        };
        listeners.close_all();
        self.connections.drain();
        let over = tokio::time::sleep(patience);
        tokio::pin!(over);
        while !(self.connections.is_empty() && self.tunnels.is_zero() && listeners.are_closed()) {
            tokio::select! {
                () = &mut over => break,
                _ = ticks.tick() => self.tick(),
                () = self.connections.changed() => {}
            }
        }
    }

    fn tick(&self) {
        clock::tick();
        self.connections.sweep(&self.settings.timeouts);
        self.pools.sweep();
        self.waits.sweep();
    }
}

/// Runs a worker on the calling thread until it has been drained.
pub(crate) fn run(parts: Parts) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let worker = Rc::new(Worker::new(&parts));
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, worker.run(parts.orders));
    Ok(())
}

/// Counts what lives.
#[derive(Debug, Default, Clone)]
pub(crate) struct Count(Rc<Cell<usize>>);

impl Count {
    pub(crate) fn enter(&self) -> Counted {
        self.0.set(self.0.get() + 1);
        Counted(Rc::clone(&self.0))
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.get() == 0
    }

    pub(crate) fn number(&self) -> usize {
        self.0.get()
    }
}

/// One of those that are counted.
#[derive(Debug)]
pub(crate) struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Lets hyper spawn on this thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
