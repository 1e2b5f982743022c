//! Which endpoint gets a request: the less busy one of two that chance picks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::http::request_id::Dice;
use crate::runtime::{Endpoint, EndpointSet};

/// The endpoint for a request, none of the dead ones. None: there is no other.
pub(crate) fn pick<'a>(
    set: &'a EndpointSet,
    dead: &[SocketAddr],
    dice: &Dice,
) -> Option<&'a Arc<Endpoint>> {
    let usable = &set.usable;
    match usable.as_slice() {
        [only] if dead.is_empty() => Some(only),
        _ => pick_of_many(usable, dead, dice),
    }
}

fn pick_of_many<'a>(
    usable: &'a [Arc<Endpoint>],
    dead: &[SocketAddr],
    dice: &Dice,
) -> Option<&'a Arc<Endpoint>> {
    if !dead.is_empty() {
        let fresh = || {
            usable
                .iter()
                .filter(|endpoint| !dead.contains(&endpoint.address))
        };
        let count = fresh().count();
        return fresh().nth(dice.below(count));
    }
    let first = dice.below(usable.len());
    let step = 1 + dice.below(usable.len().saturating_sub(1));
    let (first, second) = (
        usable.get(first)?,
        usable.get((first + step) % usable.len())?,
    );
    Some(
        if second.active.load(Relaxed) < first.active.load(Relaxed) {
            second
        } else {
            first
        },
    )
}

/// Counts a request on an endpoint for as long as it lives.
#[derive(Debug)]
pub(crate) struct Active(Arc<Endpoint>);

impl Active {
    pub(super) fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.active.fetch_add(1, Relaxed);
        Self(Arc::clone(endpoint))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::atomic::AtomicU32;

    fn set(active: &[u32]) -> EndpointSet {
        let endpoint = |(at, active): (usize, &u32)| {
            let port = 1000 + u16::try_from(at).unwrap();
            Arc::new(Endpoint {
                address: ([127, 0, 0, 1], port).into(),
                active: AtomicU32::new(*active),
            })
        };
        EndpointSet {
            usable: active.iter().enumerate().map(endpoint).collect(),
        }
    }

    fn picks(set: &EndpointSet, dead: &[SocketAddr]) -> HashMap<u16, u32> {
        let dice = Dice::new();
        let mut picks = HashMap::new();
        for _ in 0..10_000 {
            *picks
                .entry(pick(set, dead, &dice).unwrap().address.port())
                .or_default() += 1;
        }
        picks
    }

    #[test]
    fn equal_endpoints_get_equal_shares() {
        for (port, count) in picks(&set(&[0, 0, 0, 0]), &[]) {
            assert!((2000..3000).contains(&count), "{port}: {count}");
        }
    }

    #[test]
    fn the_busiest_gets_nothing_where_all_others_are_less_busy() {
        assert!(!picks(&set(&[0, 0, 9]), &[]).contains_key(&1002));
        assert_eq!(picks(&set(&[5, 0]), &[]).len(), 1);
    }

    #[test]
    fn the_dead_are_passed_over() {
        let three = set(&[0, 0, 0]);
        let dead = [three.usable[0].address, three.usable[1].address];
        assert_eq!(picks(&three, &dead).keys().collect::<Vec<_>>(), [&1002]);
        let all: Vec<_> = three
            .usable
            .iter()
            .map(|endpoint| endpoint.address)
            .collect();
        assert!(pick(&three, &all, &Dice::new()).is_none());
        let one = set(&[0]);
        assert!(pick(&one, &[one.usable[0].address], &Dice::new()).is_none());
        assert!(pick(&EndpointSet::default(), &[], &Dice::new()).is_none());
    }

    #[test]
    fn requests_under_way_are_counted() {
        let set = set(&[0]);
        let active = Active::new(&set.usable[0]);
        assert_eq!(set.usable[0].active.load(Relaxed), 1);
        drop(active);
        assert_eq!(set.usable[0].active.load(Relaxed), 0);
    }
}
