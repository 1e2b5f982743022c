//! The workers together: started, told about ports, drained.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::listen::Ports;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::refusals::Ring;
use crate::runtime::Runtime;
use crate::worker::{self, Order, Settings};

/// After this a worker that was told to stop is left behind; it is stuck.
const GRACE: Duration = Duration::from_secs(2);

/// All workers.
#[derive(Debug)]
pub(crate) struct Fleet {
    ports: Ports,
    /// Brings nothing; it is over when the last worker has ended.
    ended: mpsc::Receiver<()>,
}

impl Settings {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            limits: options.limits.clone(),
            timeouts: options.timeouts.clone(),
            trusted_proxies: options.trusted_proxies.clone().unwrap_or_default().0,
            proxy_protocol: options.proxy_protocol_from.0.clone(),
        }
    }
}

impl Fleet {
    /// Starts a worker for each ring of refusals; they serve nothing until [`Fleet::follow`] has opened ports.
    pub(crate) fn start(
        settings: &Arc<Settings>,
        options: &Options,
        runtime: &Arc<ArcSwap<Runtime>>,
        metrics: &Arc<Metrics>,
        log: &crate::log::Logger,
        refusals: &[Arc<Ring>],
    ) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel(1);
        let mut workers = Vec::with_capacity(refusals.len());
        for (number, ring) in refusals.iter().enumerate() {
            let (orders, receiver) = mpsc::unbounded_channel();
            let parts = worker::Parts {
                settings: Arc::clone(settings),
                runtime: Arc::clone(runtime),
                metrics: metrics.worker(number),
                log: log.clone(),
                refusals: Arc::clone(ring),
                orders: receiver,
            };
            let alive = alive.clone();
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    if let Err(error) = worker::run(parts) {
                        tracing::error!(worker = number, %error, "a worker could not start");
                    }
                    drop(alive);
                })?;
            workers.push(orders);
        }
        Ok(Self {
            ports: Ports::new(options.bind, workers),
            ended,
        })
    }

    /// Opens and closes ports as the snapshot says; those that cannot be opened are returned, with the reason.
    pub(crate) fn follow(&mut self, runtime: &Runtime) -> BTreeMap<u16, String> {
        self.ports.follow(runtime);
        self.ports.failed().clone()
    }

    /// Closes all ports, tells clients to go elsewhere, and waits until running requests are done, or for `patience`.
    pub(crate) async fn drain(mut self, patience: Duration) {
        self.ports.tell(|| Order::Drain(patience));
        if tokio::time::timeout(patience + GRACE, self.ended.recv())
            .await
            .is_err()
        {
            tracing::warn!("a worker did not end in time");
        }
    }

    /// Over when all workers have ended, which they do not before they are told.
    pub(crate) async fn ended(&mut self) {
        self.ended.recv().await;
    }
}
