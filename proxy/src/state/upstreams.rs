//! Upstreams and their endpoints.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use snapshot::proto;

use super::parts::port;
use crate::attend::Attended;
use crate::dns::DnsUpstream;
use crate::metrics::Metrics;
use crate::runtime::Upstream;
use crate::upstream::{Place, Policy};

/// Where an upstream's addresses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Addresses {
    /// The Endpoints resource of the same name.
    Endpoints,
    /// It is one.
    Fixed(SocketAddr),
    /// The DNS.
    Name(Box<str>, u16),
}

#[derive(Debug)]
pub(super) struct UpstreamState {
    pub(super) upstream: Arc<Upstream>,
    /// Keys.
    pub(super) plugins: Vec<String>,
    addresses: Addresses,
    /// Whose certificate it must have.
    pub(super) tls: Option<proto::UpstreamTls>,
    /// Whose endpoints they are, where that is not its own name.
    endpoints: Option<Box<str>>,
    policy: Option<proto::UpstreamPolicy>,
}

/// An endpoint as it was told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    place: Place,
    ready: bool,
    serving: bool,
    /// Whether it is said which zones it is meant for, and whether that is this proxy's.
    hinted: bool,
    here: bool,
}

/// Upstreams and endpoints by name ("shop/orders/80"): either may come first.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    upstreams: HashMap<Box<str>, UpstreamState>,
    told: HashMap<Box<str>, Vec<Told>>,
    /// Upstreams that share the endpoints of a name which is not their own.
    sharers: HashMap<Box<str>, BTreeSet<Box<str>>>,
    /// Of this proxy; empty: nobody said.
    zone: Box<str>,
}

impl Upstreams {
    /// Says where this proxy is, before anything else.
    pub(super) fn stand_in(&mut self, zone: &str) {
        self.zone = zone.into();
    }

    pub(super) fn get(&self, name: &str) -> Option<&UpstreamState> {
        self.upstreams.get(name)
    }

    /// What is to be done about them beside their requests.
    pub(super) fn attended(&self, provider: &Arc<CryptoProvider>) -> Vec<Attended> {
        let mut all = Vec::new();
        for state in self.upstreams.values() {
            let upstream = || Arc::clone(&state.upstream);
            if let Addresses::Name(name, port) = &state.addresses {
                all.push(Attended::Resolve(DnsUpstream {
                    upstream: upstream(),
                    name: name.clone(),
                    port: *port,
                }));
            }
            let policy = state.upstream.policy.as_ref();
            if policy.is_some_and(|policy| policy.ejects()) {
                all.push(Attended::Recover(upstream()));
            }
            if policy.is_some_and(|policy| policy.checks()) {
                all.push(Attended::Check {
                    upstream: upstream(),
                    tls: state.tls.clone(),
                    provider: Arc::clone(provider),
                });
            }
        }
        all
    }

    pub(super) fn put(
        &mut self,
        name: &str,
        from: proto::Upstream,
        metrics: &Metrics,
    ) -> Result<(), String> {
        let scheme = proto::upstream::Scheme::try_from(from.scheme)
            .map_err(|_| format!("scheme {} is unknown", from.scheme))?;
        let addresses = match from.dns_name.as_str() {
            "" => Addresses::Endpoints,
            dns_name => {
                let port = port(from.dns_port)?;
                match dns_name.parse::<IpAddr>() {
                    Ok(address) => Addresses::Fixed(SocketAddr::new(address, port)),
                    Err(_) => Addresses::Name(dns_name.into(), port),
                }
            }
        };
        let old = self.upstreams.get(name);
        let kept = old.filter(|old| {
            old.upstream.scheme == scheme
                && old.upstream.missing == from.missing
                && old.addresses == addresses
                && old.policy == from.policy
        });
        let upstream = kept.map_or_else(
            || {
                // Another name has other addresses: none are better than those of somebody else.
                let same = old.filter(|old| old.addresses == addresses);
                let endpoints = ArcSwap::new(
                    same.map_or_else(Arc::default, |old| old.upstream.endpoints.load_full()),
                );
                Arc::new(Upstream {
                    name: name.into(),
                    scheme,
                    endpoints,
                    missing: from.missing,
                    policy: from
                        .policy
                        .as_ref()
                        .map(|policy| Box::new(Policy::read(policy, metrics.upstream(name)))),
                })
            },
            |kept| Arc::clone(&kept.upstream),
        );
        let endpoints: Option<Box<str>> =
            (!from.endpoints.is_empty()).then(|| from.endpoints.into());
        let state = UpstreamState {
            upstream,
            plugins: from.plugins,
            addresses,
            tls: from.tls,
            endpoints: endpoints.clone(),
            policy: from.policy,
        };
        let old = self.upstreams.insert(name.into(), state);
        if old.as_ref().and_then(|old| old.endpoints.as_ref()) != endpoints.as_ref() {
            self.forget_sharer(name, old);
            if let Some(endpoints) = endpoints {
                self.sharers
                    .entry(endpoints)
                    .or_default()
                    .insert(name.into());
            }
        }
        self.refresh(name);
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) {
        let old = self.upstreams.remove(name);
        self.forget_sharer(name, old);
    }

    fn forget_sharer(&mut self, name: &str, old: Option<UpstreamState>) {
        let Some(endpoints) = old.and_then(|old| old.endpoints) else {
            return;
        };
        if let Some(sharers) = self.sharers.get_mut(&endpoints) {
            sharers.remove(name);
            if sharers.is_empty() {
                self.sharers.remove(&endpoints);
            }
        }
    }

    pub(super) fn put_endpoints(
        &mut self,
        name: &str,
        from: &proto::Endpoints,
    ) -> Result<(), String> {
        let told = from
            .endpoints
            .iter()
            .map(|endpoint| {
                let port = port(endpoint.port)?;
                let read = |address: &str| {
                    let read = address.parse::<IpAddr>();
                    read.map(|address| SocketAddr::new(address, port))
                        .map_err(|_| format!("{address:?} is not an IP address"))
                };
                let other = Some(&endpoint.other_address).filter(|other| !other.is_empty());
                Ok(Told {
                    place: Place {
                        address: read(&endpoint.address)?,
                        other: other.map(|other| read(other)).transpose()?,
                    },
                    ready: endpoint.ready,
                    serving: endpoint.serving,
                    hinted: !endpoint.for_zones.is_empty(),
                    here: endpoint.for_zones.iter().any(|zone| **zone == *self.zone),
                })
            })
            .collect::<Result<Vec<_>, String>>()?;
        self.told.insert(name.into(), told);
        self.refresh_all(name);
        Ok(())
    }

    pub(super) fn remove_endpoints(&mut self, name: &str) {
        self.told.remove(name);
        self.refresh_all(name);
    }

    /// Gives all upstreams with these endpoints what they should have now.
    fn refresh_all(&self, endpoints: &str) {
        self.refresh(endpoints);
        for sharer in self.sharers.get(endpoints).into_iter().flatten() {
            self.refresh(sharer);
        }
    }

    /// Gives an upstream the endpoints that it should have now.
    fn refresh(&self, name: &str) {
        let Some(state) = self.upstreams.get(name) else {
            return;
        };
        let usable: Vec<Place> = match &state.addresses {
            Addresses::Name(..) => return,
            Addresses::Fixed(address) => vec![(*address).into()],
            Addresses::Endpoints => {
                let name = state.endpoints.as_deref().unwrap_or(name);
                let told = self.told.get(name).map(Vec::as_slice).unwrap_or_default();
                let of = |usable: fn(&Told) -> bool| {
                    told.iter()
                        .filter(move |one| usable(one))
                        .map(|one| one.place)
                };
                // Hints count where all have them and somebody is meant, as for kube-proxy.
                let mut all_ready = told.iter().filter(|one| one.ready);
                let hinted = all_ready.all(|one| one.hinted);
                let near: Vec<_> = of(|one| one.ready && one.here).collect();
                if hinted && !near.is_empty() {
                    state.upstream.set_places(&near);
                    return;
                }
                let ready: Vec<_> = of(|one| one.ready).collect();
                if ready.is_empty() {
                    of(|one| one.serving).collect()
                } else {
                    ready
                }
            }
        };
        state.upstream.set_places(&usable);
    }
}
