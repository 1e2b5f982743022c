//! What goes on about upstreams while they are there, beside their requests.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use snapshot::proto;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::dns::{self, DnsUpstream};
use crate::runtime::Upstream;
use crate::upstream;

/// What is to be done about an upstream for as long as it is there.
#[derive(Debug, Clone)]
pub(crate) enum Attended {
    /// Ask the DNS for its addresses.
    Resolve(DnsUpstream),
    /// Take endpoints back in that were left out for a time.
    Recover(Arc<Upstream>),
    /// Ask endpoints how they are, over TLS where the upstream speaks it.
    Check {
        upstream: Arc<Upstream>,
        tls: Option<proto::UpstreamTls>,
        provider: Arc<CryptoProvider>,
    },
}

/// What tells two of them apart: the task, and the upstream by its place in memory, for as long as that is held.
type Identity = (std::mem::Discriminant<Attended>, usize);

impl Attended {
    fn upstream(&self) -> &Arc<Upstream> {
        match self {
            Self::Resolve(dns) => &dns.upstream,
            Self::Recover(upstream) | Self::Check { upstream, .. } => upstream,
        }
    }

    fn identity(&self) -> Identity {
        let place = Arc::as_ptr(self.upstream()).addr();
        (std::mem::discriminant(self), place)
    }

    /// Whether it is the same to be done.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.identity() == other.identity()
            && match (self, other) {
                (Self::Resolve(one), Self::Resolve(other)) => one.asks_for_what(other),
                (Self::Check { tls: one, .. }, Self::Check { tls: other, .. }) => one == other,
                _ => true,
            }
    }

    async fn attend(self) {
        match self {
            Self::Resolve(dns) => dns::refresh(dns).await,
            Self::Recover(upstream) => upstream::recover(upstream).await,
            Self::Check {
                upstream,
                tls,
                provider,
            } => upstream::check(upstream, tls, provider).await,
        }
    }
}

/// What is to be done, to be looked up.
fn by_identity(all: &[Attended]) -> HashMap<Identity, &Attended> {
    all.iter().map(|one| (one.identity(), one)).collect()
}

/// Whether the same is to be done.
pub(crate) fn same(before: &[Attended], now: &[Attended]) -> bool {
    let known = by_identity(before);
    let is_known = |one: &Attended| known.get(&one.identity()).is_some_and(|old| old.is(one));
    before.len() == now.len() && now.iter().all(is_known)
}

/// Does what is wanted, whatever that is at the time.
pub(crate) async fn follow(
    mut wanted: watch::Receiver<Vec<Attended>>,
    shutdown: CancellationToken,
) {
    let mut running: HashMap<Identity, (Attended, CancellationToken)> = HashMap::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        let known = by_identity(&now);
        running.retain(|identity, (attended, stop)| {
            let keep = known.get(identity).is_some_and(|one| one.is(attended));
            if !keep {
                stop.cancel();
            }
            keep
        });
        for attended in now {
            let stop = shutdown.child_token();
            if let Entry::Vacant(place) = running.entry(attended.identity()) {
                place.insert((attended.clone(), stop.clone()));
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = attended.attend() => {}
                    }
                });
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}
