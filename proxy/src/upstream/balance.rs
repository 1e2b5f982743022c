//! Which endpoint gets a request: the one whose turn it is, or one that chance picks if that is less busy.
//!
//! Where all are equally busy this is round robin, where they are not it is least-request by the power of two choices.

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
        _ => pick_of_many(set, dead, dice),
    }
}

fn pick_of_many<'a>(
    set: &'a EndpointSet,
    dead: &[SocketAddr],
    dice: &Dice,
) -> Option<&'a Arc<Endpoint>> {
    let usable = set.usable.as_slice();
    if !dead.is_empty() {
        let fresh = || {
            usable
                .iter()
                .filter(|endpoint| !dead.contains(&endpoint.address))
        };
        let count = fresh().count();
        return fresh().nth(dice.below(count));
    }
    let first = set.turn.fetch_add(1, Relaxed) % usable.len().max(1);
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
        EndpointSet::new(active.iter().enumerate().map(endpoint).collect())
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
    fn equal_endpoints_take_turns() {
        let (set, dice) = (set(&[2, 2, 2, 2]), Dice::new());
        let next = || pick(&set, &[], &dice).map(|endpoint| endpoint.address.port() - 1000);
        let first = next().unwrap();
        for turn in 1..10 {
            assert_eq!(next(), Some((first + turn) % 4));
        }
    }

    #[test]
    fn the_less_busy_get_more() {
        let picks = picks(&set(&[1, 0, 1, 1]), &[]);
        // Its own turns, and a third of those of all others.
        assert!((4500..5500).contains(&picks[&1001]), "{picks:?}");
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
