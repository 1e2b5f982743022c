//! The thread that owns the state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use snapshot::proto::{Ack, Bucket, Refusal};
use tokio::sync::{mpsc, oneshot, watch};

use super::Reconcile;
use crate::Error;
use crate::admin::Status;
use crate::attend::{self, Attended};
use crate::last_good::LastGood;
use crate::metrics::Metrics;
use crate::state::{Applied, Delta, State};

/// After this, ports that could not be opened are tried again.
const RETRY_PORTS: Duration = Duration::from_secs(2);

/// Between such attempts, see [`Keeper::unsettled`].
const SETTLING: Duration = Duration::from_millis(300);

/// Of so many resources a change is large.
const LARGE: usize = 10_000;

/// What sources ask of the keeper.
#[derive(Debug)]
enum Ask {
    Held(oneshot::Sender<Held>),
    Apply {
        delta: Delta,
        manifests: Option<Arc<str>>,
        done: oneshot::Sender<Ack>,
    },
}

/// What is held already.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) version: Arc<str>,
    pub(super) buckets: Vec<Bucket>,
}

#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) state: State,
    pub(super) last_good: Option<LastGood>,
    /// Whether what the last-good file holds counts.
    pub(super) restores: bool,
    pub(super) metrics: Arc<Metrics>,
    pub(super) status: Arc<Status>,
    pub(super) reconciles: mpsc::Sender<Reconcile>,
    pub(super) attended: watch::Sender<Vec<Attended>>,
    /// Acknowledgements that nobody waits for: what was refused has changed.
    pub(super) later: mpsc::UnboundedSender<Ack>,
    pub(super) failed_ports: BTreeMap<u16, String>,
    /// How many more times to ask the allocator to give memory back: a large change leaves much of it behind.
    pub(super) unsettled: u8,
}

/// How sources reach the keeper. When the last one is gone, the thread ends.
#[derive(Debug, Clone)]
pub(super) struct KeeperHandle(Sender<Ask>);

impl KeeperHandle {
    /// None: the keeper is gone.
    pub(super) async fn held(&self) -> Option<Held> {
        let (done, answer) = oneshot::channel();
        self.0.send(Ask::Held(done)).ok()?;
        answer.await.ok()
    }

    /// Takes a delta in, and says what became of it. None: the keeper is gone.
    pub(super) async fn apply(&self, delta: Delta, manifests: Option<Arc<str>>) -> Option<Ack> {
        let (done, answer) = oneshot::channel();
        self.0
            .send(Ask::Apply {
                delta,
                manifests,
                done,
            })
            .ok()?;
        answer.await.ok()
    }
}

impl Keeper {
    pub(super) fn start(self) -> Result<(KeeperHandle, JoinHandle<()>), Error> {
        let (sender, asks) = channel();
        let thread = std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || self.run(&asks))
            .map_err(|source| Error::Start {
                what: "starting the thread that takes snapshots in".to_owned(),
                source,
            })?;
        Ok((KeeperHandle(sender), thread))
    }

    fn run(mut self, asks: &Receiver<Ask>) {
        self.restore();
        loop {
            let next = if self.unsettled > 0 {
                asks.recv_timeout(SETTLING)
            } else if self.failed_ports.is_empty() {
                asks.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                asks.recv_timeout(RETRY_PORTS)
            };
            match next {
                Ok(Ask::Held(answer)) => {
                    let held = Held {
                        version: Arc::clone(self.state.version()),
                        buckets: self.state.buckets(),
                    };
                    // Whoever asked may have gone; that is their affair, here and below.
                    let _gone = answer.send(held);
                }
                Ok(Ask::Apply {
                    delta,
                    manifests,
                    done,
                }) => {
                    let _gone = done.send(self.apply(delta, manifests));
                }
                Err(RecvTimeoutError::Timeout) if self.unsettled > 0 => {
                    self.unsettled -= 1;
                    // The allocator gives back what was freed a while ago when something else is freed.
                    drop(std::hint::black_box(Vec::<u8>::with_capacity(8 << 20)));
                }
                Err(RecvTimeoutError::Timeout) => self.retry_ports(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Some(last_good) = self.last_good {
            last_good.close();
        }
    }

    /// Takes in what the last-good file holds.
    fn restore(&mut self) {
        let Some(last_good) = &mut self.last_good else {
            return;
        };
        if !self.restores {
            return last_good.begin_anew();
        }
        let started = std::time::Instant::now();
        let state = &mut self.state;
        let (mut deltas, mut rebuilt) = (0_usize, false);
        last_good.load(|delta| {
            deltas += 1;
            rebuilt |= state.restore(delta);
        });
        if deltas == 0 {
            return;
        }
        self.state.restored();
        let (resources, took) = (self.state.len(), started.elapsed());
        self.unsettled = if resources > LARGE { 3 } else { 0 };
        tracing::info!(resources, ?took, version = %self.state.version(), "restored the last good snapshot");
        self.settle(
            &Applied {
                rebuilt,
                ..Applied::default()
            },
            None,
        );
    }

    fn apply(&mut self, delta: Delta, manifests: Option<Arc<str>>) -> Ack {
        let upserts = if self.last_good.is_some() {
            delta.upserts.clone()
        } else {
            Vec::new()
        };
        if delta.upserts.len() + delta.removals.len() > LARGE {
            self.unsettled = 3;
        }
        let applied = self.state.apply(delta);
        self.settle(&applied, manifests);
        if let Some(last_good) = &self.last_good {
            let kept = upserts
                .into_iter()
                .enumerate()
                .filter(|(at, _)| !applied.not_kept.contains(at));
            let kept = kept.map(|(_, upsert)| upsert);
            last_good.append(self.state.version(), kept.collect(), applied.removed);
        }
        self.ack()
    }

    /// Has listeners opened and upstreams attended to, and says that the snapshot is in force.
    fn settle(&mut self, applied: &Applied, manifests: Option<Arc<str>>) {
        if applied.rebuilt {
            let attended = self.state.attended();
            self.attended.send_if_modified(|now| {
                let same = attend::same(now, &attended);
                *now = attended;
                !same
            });
            self.reconcile();
        }
        self.state.count();
        let version = self.state.version();
        let now = jiff::Timestamp::now().as_second();
        self.metrics.process().snapshot(
            version,
            now,
            self.state.refused() + self.failed_ports.len(),
        );
        self.status.in_force(version, manifests);
    }

    fn reconcile(&mut self) {
        let (done, answer) = oneshot::channel();
        let runtime = self.state.runtime().load_full();
        if self
            .reconciles
            .blocking_send(Reconcile { runtime, done })
            .is_ok()
        {
            self.failed_ports = answer.blocking_recv().unwrap_or_default();
        }
    }

    fn retry_ports(&mut self) {
        let before = self.failed_ports.clone();
        self.reconcile();
        if before != self.failed_ports {
            let _gone = self.later.send(self.ack());
        }
    }

    /// What was refused, ports that could not be opened among them.
    fn ack(&self) -> Ack {
        let mut refusals = self.state.refusals();
        for (port, reason) in &self.failed_ports {
            let keys = self.state.listeners_on(*port);
            refusals.extend(keys.map(|key| Refusal {
                key: key.to_owned(),
                reason: format!("port {port}: {reason}"),
            }));
        }
        Ack {
            version: self.state.version().to_string(),
            refusals,
        }
    }
}
