//! Which endpoint a key belongs to, whatever the others are.
//!
//! Each endpoint stands at many points of a ring, by the hash of its address; a key belongs to the endpoint of the first point
//! behind the key's own. So an endpoint that comes or goes moves the keys that are or were its own, and no others. All proxies
//! have the same ring: the hash is the same everywhere and at all times.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::metrics::UpstreamSeries;
use crate::runtime::Endpoint;

/// More make shares more equal, and the ring larger.
const POINTS: u64 = 128;

/// Made when the endpoints change.
#[derive(Debug)]
pub(super) struct Ring {
    /// Where, and which endpoint; sorted.
    points: Box<[(u64, u32)]>,
    bound: Option<Bound>,
}

/// An endpoint with so much more than its share is passed over.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    /// Of the mean.
    pub(super) percent: u64,
    /// Who counts the requests under way at all of them.
    pub(super) series: Arc<UpstreamSeries>,
}

/// The hash of what tells clients apart.
pub(crate) fn key(text: &[u8]) -> u64 {
    xxh3_64(text)
}

impl Ring {
    pub(super) fn new(endpoints: &[Arc<Endpoint>], bound: Option<Bound>) -> Self {
        let points = endpoints.iter().zip(0_u32..).flat_map(|(endpoint, index)| {
            let address = endpoint.address.to_string();
            (0..POINTS).map(move |point| (xxh3_64_with_seed(address.as_bytes(), point), index))
        });
        let mut points: Box<[_]> = points.collect();
        points.sort_unstable();
        Self { points, bound }
    }

    /// The endpoint of a key, none of the dead ones, and none that has too much already where another has not.
    pub(super) fn pick<'e>(
        &self,
        endpoints: &'e [Arc<Endpoint>],
        key: u64,
        dead: &[SocketAddr],
    ) -> Option<&'e Arc<Endpoint>> {
        let most = self
            .bound
            .as_ref()
            .map_or(u64::MAX, |bound| bound.most(endpoints.len()));
        let from = self.points.partition_point(|(at, _)| *at < key);
        let (before, behind) = self.points.split_at_checked(from)?;
        let mut full = None;
        for (_, index) in behind.iter().chain(before) {
            let Some(endpoint) = endpoints.get(*index as usize) else {
                continue;
            };
            if dead.contains(&endpoint.address) {
                continue;
            }
            if u64::from(endpoint.active.load(Relaxed)) < most {
                return Some(endpoint);
            }
            full.get_or_insert(endpoint);
        }
        full
    }
}

impl Bound {
    /// How many requests an endpoint may have before another is taken.
    fn most(&self, endpoints: usize) -> u64 {
        let requests = u64::from(self.series.requests.load(Relaxed)).max(1);
        let shares = (endpoints as u64).max(1) * 100;
        (requests * self.percent).div_ceil(shares)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::metrics::Metrics;

    const KEYS: u32 = 4_000;

    fn endpoints(ips: &[u32]) -> Vec<Arc<Endpoint>> {
        let endpoint = |ip: &u32| Arc::new(Endpoint::new((ip.to_be_bytes(), 80).into()));
        ips.iter().map(endpoint).collect()
    }

    fn owners(endpoints: &[Arc<Endpoint>]) -> Vec<SocketAddr> {
        let ring = Ring::new(endpoints, None);
        (0..KEYS)
            .map(|number| {
                let key = key(&number.to_be_bytes());
                ring.pick(endpoints, key, &[]).unwrap().address
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn an_endpoint_that_goes_moves_its_own_keys_and_no_others(
            ips in proptest::collection::hash_set(any::<u32>(), 2..30),
            gone in any::<prop::sample::Index>(),
        ) {
            let ips: Vec<_> = ips.into_iter().collect();
            let all = endpoints(&ips);
            let gone = gone.index(all.len());
            let left: Vec<_> = [&all[..gone], &all[gone + 1..]].concat();
            let (before, after) = (owners(&all), owners(&left));
            let mut moved = 0;
            for (before, after) in before.iter().zip(&after) {
                if before == after {
                    continue;
                }
                moved += 1;
                prop_assert_eq!(*before, all[gone].address);
            }
            // About an n-th of all: the shares of 128 points differ by a tenth or so.
            let share = KEYS as usize / all.len();
            prop_assert!(moved > share / 2 && moved < share * 3 / 2 + 40, "{} of {}", moved, share);
        }

        #[test]
        fn nobody_gets_more_than_the_bound_while_another_has_less(
            loads in proptest::collection::vec(0_u32..20, 2..12),
            number in any::<u64>(),
        ) {
            let ips: Vec<u32> = (1..=u32::try_from(loads.len()).unwrap()).collect();
            let all = endpoints(&ips);
            for (endpoint, load) in all.iter().zip(&loads) {
                endpoint.active.store(*load, Relaxed);
            }
            let series = Metrics::new(1).upstream("shop/orders/80");
            // The request itself is counted before it is known where it goes.
            let total = loads.iter().sum::<u32>() + 1;
            series.requests.store(total, Relaxed);
            let ring = Ring::new(&all, Some(Bound { percent: 125, series }));
            let picked = ring.pick(&all, number, &[]).unwrap();
            let mean = f64::from(total) / f64::from(u32::try_from(loads.len()).unwrap());
            prop_assert!(f64::from(picked.active.load(Relaxed)) < (mean * 1.25).ceil());
        }
    }

    #[test]
    fn keys_stay_with_their_endpoint_and_go_to_the_next_one_where_it_is_dead() {
        let all = endpoints(&[1, 2, 3]);
        let ring = Ring::new(&all, None);
        let mut seen = HashMap::new();
        for number in 0..300_u32 {
            let key = key(&number.to_be_bytes());
            let first = ring.pick(&all, key, &[]).unwrap().address;
            assert_eq!(ring.pick(&all, key, &[]).unwrap().address, first);
            let second = ring.pick(&all, key, &[first]).unwrap().address;
            assert_ne!(first, second);
            *seen.entry(first).or_insert(0) += 1;
        }
        assert!(
            seen.len() == 3 && seen.values().all(|count| *count > 50),
            "{seen:?}"
        );
        let addresses: Vec<_> = all.iter().map(|endpoint| endpoint.address).collect();
        assert!(ring.pick(&all, 1, &addresses).is_none());
        assert!(Ring::new(&[], None).pick(&[], 1, &[]).is_none());
    }
}
