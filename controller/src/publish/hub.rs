//! What is published, and the proxies that it is published to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use snapshot::{Diff, proto};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::delta::Parts;
use super::store::Store;

/// Refusals that are kept of one proxy, and how much of each reason.
const MAX_REFUSALS: usize = 1000;
const MAX_REASON_CHARS: usize = 500;
/// Versions that are remembered, for what other replicas say of theirs.
const MAX_VERSIONS: usize = 4096;
/// Deltas that one proxy may leave unacknowledged before the oldest are forgotten.
const MAX_OUTSTANDING: usize = 1024;

/// Holds the snapshot in force and brings every connected proxy to it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hub {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    // Locks are taken in this order: store, peers, a peer's state. The others are taken alone, or last.
    store: RwLock<Store>,
    published: RwLock<Option<Instant>>,
    versions: Mutex<VecDeque<(Arc<str>, u64)>>,
    peers: Mutex<BTreeMap<u64, Arc<Peer>>>,
    ids: AtomicU64,
    changes: watch::Sender<Changes>,
    closing: CancellationToken,
}

/// Counts what happened, so that watchers see what kind of thing did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// Snapshots published.
    pub published: u64,
    /// Proxies that came or went.
    pub proxies: u64,
    /// Acknowledgements.
    pub acks: u64,
    /// Acknowledgements that changed what is refused.
    pub refusals: u64,
}

/// A connected proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Name of its pod, or the one that it gave itself.
    pub name: Arc<str>,
    /// Of its program.
    pub program: Arc<str>,
    /// Stands for the store that it may share with others; empty: it has its own.
    pub store: Arc<str>,
    /// Version of the snapshot that it acknowledged last.
    pub version: Option<Arc<str>>,
    /// The change that this version stands for; 0 before the first acknowledgement.
    pub acknowledged: u64,
    /// What it could not take, and why.
    pub refusals: Arc<BTreeMap<Arc<str>, Arc<str>>>,
    /// Since when it is connected.
    pub connected: Instant,
}

/// How far some resources are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Connected proxies.
    pub proxies: usize,
    /// Those that have acknowledged all of the resources and refused none.
    pub programmed: usize,
    /// Keys that are not in the snapshot.
    pub absent: usize,
    /// (proxy, key, reason), by proxy.
    pub refusals: Vec<(Arc<str>, Arc<str>, Arc<str>)>,
}

/// One stream's side in the hub.
pub(super) struct Peer {
    id: u64,
    name: Arc<str>,
    program: Arc<str>,
    store: Arc<str>,
    connected: Instant,
    wake: Notify,
    /// Ends the stream: another one of the same name replaced it, or the hub closes.
    pub(super) replaced: CancellationToken,
    state: Mutex<PeerState>,
}

#[derive(Default)]
struct PeerState {
    /// Keys that changed since the last delta was made: the one merged pending delta.
    dirty: BTreeSet<Arc<str>>,
    /// Set by every change, also by one that a proxy need not be told the content of.
    stale: bool,
    outstanding: VecDeque<(Arc<str>, u64)>,
    acknowledged: Option<(Arc<str>, u64)>,
    refusals: Arc<BTreeMap<Arc<str>, Arc<str>>>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hub({} proxies)", self.inner.peers.lock().len())
    }
}

impl Hub {
    /// Takes a change of the snapshot in and tells all proxies. The first call, also with nothing in it, opens the hub:
    /// proxies that came earlier wait for it with what they have.
    pub fn publish(&self, diff: &Diff) {
        let mut store = self.inner.store.write();
        let first = store.sequence() == 0;
        let changed = store.apply(diff);
        if changed.is_empty() && !first {
            return;
        }
        *self.inner.published.write() = Some(Instant::now());
        {
            let mut versions = self.inner.versions.lock();
            versions.truncate(MAX_VERSIONS - 1);
            versions.push_front((store.version(), store.sequence()));
        }
        for peer in self.inner.peers.lock().values() {
            let mut state = peer.state.lock();
            state.dirty.extend(changed.iter().cloned());
            state.stale = true;
            peer.wake.notify_one();
        }
        drop(store);
        self.changed(|changes| changes.published += 1);
    }

    /// Version of the snapshot in force; None before the first.
    #[must_use]
    pub fn version(&self) -> Option<Arc<str>> {
        let store = self.inner.store.read();
        (store.sequence() > 0).then(|| store.version())
    }

    /// How many resources are in force.
    #[must_use]
    pub fn resources(&self) -> usize {
        self.inner.store.read().len()
    }

    /// When the snapshot changed last.
    #[must_use]
    pub fn published(&self) -> Option<Instant> {
        *self.inner.published.read()
    }

    /// The connected proxies, in the order in which they came.
    #[must_use]
    pub fn proxies(&self) -> Vec<Proxy> {
        let peers: Vec<Arc<Peer>> = self.inner.peers.lock().values().cloned().collect();
        peers.iter().map(|peer| peer.view()).collect()
    }

    /// Tells of everything that happens here.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Changes> {
        self.inner.changes.subscribe()
    }

    /// How far `keys` are on `proxies`.
    #[must_use]
    pub fn progress(&self, keys: &[Arc<str>], proxies: &[Proxy]) -> Progress {
        let mut progress = Progress {
            proxies: proxies.len(),
            ..Progress::default()
        };
        let mut needed = 0;
        {
            let store = self.inner.store.read();
            for key in keys {
                match store.changed_at(key) {
                    Some(changed) => needed = needed.max(changed),
                    None => progress.absent += 1,
                }
            }
        }
        for proxy in proxies {
            let refusals = progress.refusals.len();
            if !proxy.refusals.is_empty() {
                progress.refusals.extend(keys.iter().filter_map(|key| {
                    let reason = proxy.refusals.get(key)?;
                    Some((Arc::clone(&proxy.name), Arc::clone(key), Arc::clone(reason)))
                }));
            }
            let refused = progress.refusals.len() > refusals;
            if !refused && progress.absent == 0 && proxy.acknowledged >= needed.max(1) {
                progress.programmed += 1;
            }
        }
        progress
    }

    /// The change that a version stands for: the last one where the same content was in force several times. None where
    /// it was never in force here, or long ago.
    #[must_use]
    pub fn sequence_of(&self, version: &str) -> Option<u64> {
        let versions = self.inner.versions.lock();
        versions
            .iter()
            .find(|(known, _)| **known == *version)
            .map(|(_, sequence)| *sequence)
    }

    /// Ends every stream cleanly, so that proxies go to another replica, and lets no new one in.
    pub fn close(&self) {
        self.inner.closing.cancel();
    }

    pub(super) fn closing(&self) -> &CancellationToken {
        &self.inner.closing
    }

    /// Waits for the first snapshot.
    pub(super) async fn opened(&self) {
        let mut changes = self.changes();
        // The sender lives as long as the hub.
        let _ = changes.wait_for(|changes| changes.published > 0).await;
    }

    /// Registers a proxy and returns what it has to be told first.
    pub(super) fn join(&self, name: &str, hello: &proto::Hello) -> (Membership, Arc<str>, Parts) {
        let store = self.inner.store.read();
        let version = store.version();
        let parts = store.resume(&hello.buckets);
        let peer = Arc::new(Peer {
            id: self.inner.ids.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            program: hello.version.as_str().into(),
            store: hello.store.as_str().into(),
            connected: Instant::now(),
            wake: Notify::new(),
            replaced: self.inner.closing.child_token(),
            state: Mutex::new(PeerState {
                outstanding: VecDeque::from([(Arc::clone(&version), store.sequence())]),
                ..PeerState::default()
            }),
        });
        {
            let mut peers = self.inner.peers.lock();
            for other in peers.values().filter(|other| *other.name == *name) {
                tracing::info!(
                    proxy = name,
                    "a new stream of this proxy replaces an older one"
                );
                other.replaced.cancel();
            }
            peers.insert(peer.id, Arc::clone(&peer));
        }
        drop(store);
        self.changed(|changes| changes.proxies += 1);
        (
            Membership {
                hub: self.clone(),
                peer,
            },
            version,
            parts,
        )
    }

    fn changed(&self, edit: impl FnOnce(&mut Changes)) {
        self.inner.changes.send_modify(edit);
    }
}

/// A proxy's place in the hub; given up when dropped.
pub(super) struct Membership {
    hub: Hub,
    pub(super) peer: Arc<Peer>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.hub.inner.peers.lock().remove(&self.peer.id);
        self.hub.changed(|changes| changes.proxies += 1);
    }
}

impl Membership {
    /// Waits until there is something to tell, and takes all of it.
    pub(super) async fn next(&self) -> (Arc<str>, Parts) {
        loop {
            self.peer.wake.notified().await;
            let store = self.hub.inner.store.read();
            let mut state = self.peer.state.lock();
            if !std::mem::take(&mut state.stale) {
                continue;
            }
            let version = store.version();
            let parts = store.gather(std::mem::take(&mut state.dirty));
            if state.outstanding.len() >= MAX_OUTSTANDING {
                state.outstanding.pop_front();
            }
            state
                .outstanding
                .push_back((Arc::clone(&version), store.sequence()));
            return (version, parts);
        }
    }

    /// Takes an acknowledgement in.
    pub(super) fn acknowledge(&self, ack: proto::Ack) {
        let refusals = kept(ack.refusals);
        let refusals_changed = {
            let mut state = self.peer.state.lock();
            // The same content may be in force twice, so the oldest delta of that version is meant.
            let Some(place) = state
                .outstanding
                .iter()
                .position(|(version, _)| **version == *ack.version)
            else {
                tracing::debug!(proxy = %self.peer.name, version = ack.version, "acknowledged what was not sent");
                return;
            };
            let newest = state.outstanding.drain(..=place).next_back();
            state.acknowledged = newest;
            let changed = *state.refusals != refusals;
            if changed {
                state.refusals = Arc::new(refusals);
            }
            changed
        };
        self.hub.changed(|changes| {
            changes.acks += 1;
            changes.refusals += u64::from(refusals_changed);
        });
    }
}

/// Refusals within bounds: a proxy that runs wild must not fill the controller's memory.
fn kept(refusals: Vec<proto::Refusal>) -> BTreeMap<Arc<str>, Arc<str>> {
    refusals
        .into_iter()
        .take(MAX_REFUSALS)
        .map(|refusal| {
            let reason: String = refusal.reason.chars().take(MAX_REASON_CHARS).collect();
            (refusal.key.into(), reason.into())
        })
        .collect()
}

/// How many stores proxies have between them.
#[must_use]
pub fn stores(proxies: &[Proxy]) -> usize {
    let (own, shared): (Vec<_>, Vec<_>) = proxies
        .iter()
        .map(|proxy| &*proxy.store)
        .partition(|store| store.is_empty());
    own.len() + BTreeSet::from_iter(shared).len()
}

impl Peer {
    fn view(&self) -> Proxy {
        let state = self.state.lock();
        let (version, acknowledged) = state.acknowledged.clone().unzip();
        Proxy {
            name: Arc::clone(&self.name),
            program: Arc::clone(&self.program),
            store: Arc::clone(&self.store),
            version,
            acknowledged: acknowledged.unwrap_or_default(),
            refusals: Arc::clone(&state.refusals),
            connected: self.connected,
        }
    }
}

#[cfg(test)]
mod tests;
