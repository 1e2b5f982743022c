//! Which endpoint gets a request: the one whose turn it is, or one that chance picks if that is less busy.
//!
//! Where all are equally busy this is round robin, where they are not it is least-request by the power of two choices. An
//! endpoint that starts slowly lets some of its turns pass.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::limits::{Permit, UnderWay};
use super::ring::Ring;
use crate::clock;
use crate::http::request_id::Dice;
use crate::runtime::{Endpoint, EndpointSet};

/// How often two others are drawn where neither of the first takes its turn.
const DRAWS: u32 = 4;

/// How an endpoint is picked, where that is not as usual.
#[derive(Debug)]
pub(crate) struct Manner {
    /// In milliseconds.
    slow_start: u64,
    /// When all have their full share.
    warm_at: u64,
    /// Which endpoint a key belongs to.
    ring: Option<Ring>,
}

impl Manner {
    /// None: as usual.
    pub(super) fn of(
        usable: &[Arc<Endpoint>],
        slow_start: u64,
        ring: Option<Ring>,
    ) -> Option<Box<Self>> {
        let warm_at = usable
            .iter()
            .map(|endpoint| endpoint.health.warm_at(slow_start))
            .max()
            .filter(|_| slow_start > 0)
            .unwrap_or_default();
        (warm_at > 0 || ring.is_some()).then(|| {
            Box::new(Self {
                slow_start,
                warm_at,
                ring,
            })
        })
    }
}

/// The endpoint for a request, that of its key if it has one, none of the dead ones. None: there is no other.
pub(crate) fn pick<'a>(
    set: &'a EndpointSet,
    dead: &[SocketAddr],
    key: Option<u64>,
    dice: &Dice,
) -> Option<&'a Arc<Endpoint>> {
    let usable = &set.usable;
    match usable.as_slice() {
        [only] if dead.is_empty() => Some(only),
        _ => pick_of_many(set, dead, key, dice),
    }
}

fn pick_of_many<'a>(
    set: &'a EndpointSet,
    dead: &[SocketAddr],
    key: Option<u64>,
    dice: &Dice,
) -> Option<&'a Arc<Endpoint>> {
    let usable = set.usable.as_slice();
    if let Some(key) = key
        && let Some(manner) = &set.manner
        && let Some(ring) = &manner.ring
    {
        return ring.pick(usable, key, dead);
    }
    if !dead.is_empty() {
        let fresh = || {
            usable
                .iter()
                .filter(|endpoint| !dead.contains(&endpoint.address))
        };
        let count = fresh().count();
        return fresh().nth(dice.below(count));
    }
    if let Some(manner) = &set.manner {
        let now = clock::shared_millis();
        if manner.warm_at > now {
            for _ in 0..DRAWS {
                let (first, second) = draw(set, dice)?;
                let admits = |endpoint: &Endpoint| {
                    let health = &endpoint.health;
                    health.admits(now, manner.slow_start, dice)
                };
                match (admits(first), admits(second)) {
                    (true, true) => return Some(less_busy(first, second)),
                    (true, false) => return Some(first),
                    (false, true) => return Some(second),
                    (false, false) => {}
                }
            }
        }
    }
    let (first, second) = draw(set, dice)?;
    Some(less_busy(first, second))
}

/// The one whose turn it is, and another.
fn draw<'a>(set: &'a EndpointSet, dice: &Dice) -> Option<(&'a Arc<Endpoint>, &'a Arc<Endpoint>)> {
    let usable = set.usable.as_slice();
    let first = set.turn.fetch_add(1, Relaxed) % usable.len().max(1);
    let step = 1 + dice.below(usable.len().saturating_sub(1));
    Some((
        usable.get(first)?,
        usable.get((first + step) % usable.len())?,
    ))
}

fn less_busy<'a>(first: &'a Arc<Endpoint>, second: &'a Arc<Endpoint>) -> &'a Arc<Endpoint> {
    if second.active.load(Relaxed) < first.active.load(Relaxed) {
        second
    } else {
        first
    }
}

/// Counts a request on an endpoint for as long as it lives.
#[derive(Debug)]
pub(crate) struct Active {
    endpoint: Arc<Endpoint>,
    /// What only some requests hold as well; in a box, because this is moved with every one of them.
    held: Option<Box<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    /// A place among the upstream's requests, where those are counted.
    under_way: Option<UnderWay>,
    /// The right to the connection, where those are limited.
    permit: Option<Arc<Permit>>,
    /// Whether nothing else may be sent over the connection.
    spent: bool,
}

impl Active {
    pub(super) fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.active.fetch_add(1, Relaxed);
        Self {
            endpoint: Arc::clone(endpoint),
            held: None,
        }
    }

    pub(super) fn enter(&mut self, under_way: Option<UnderWay>) {
        if under_way.is_some() {
            self.held.get_or_insert_default().under_way = under_way;
        }
    }

    pub(super) fn permit(&mut self, permit: Option<Arc<Permit>>) {
        if permit.is_some() {
            self.held.get_or_insert_default().permit = permit;
        }
    }

    pub(super) fn spend(&mut self) {
        self.held.get_or_insert_default().spent = true;
    }

    /// The connection may serve somebody else: the right to it, if it needs one. None: it may not.
    pub(super) fn end(mut self) -> Option<Option<Arc<Permit>>> {
        match self.held.take() {
            None => Some(None),
            Some(held) if held.spent => None,
            Some(held) => Some(held.permit),
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.endpoint.active.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn set(active: &[u32]) -> EndpointSet {
        let endpoint = |(at, active): (usize, &u32)| {
            let port = 1000 + u16::try_from(at).unwrap();
            let endpoint = Endpoint::new(([127, 0, 0, 1], port).into());
            endpoint.active.store(*active, Relaxed);
            Arc::new(endpoint)
        };
        EndpointSet::new(active.iter().enumerate().map(endpoint).collect())
    }

    fn picks(set: &EndpointSet, dead: &[SocketAddr]) -> HashMap<u16, u32> {
        let dice = Dice::new();
        let mut picks = HashMap::new();
        for _ in 0..10_000 {
            *picks
                .entry(pick(set, dead, None, &dice).unwrap().address.port())
                .or_default() += 1;
        }
        picks
    }

    #[test]
    fn equal_endpoints_take_turns() {
        let (set, dice) = (set(&[2, 2, 2, 2]), Dice::new());
        let next = || pick(&set, &[], None, &dice).map(|endpoint| endpoint.address.port() - 1000);
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
        assert!(pick(&three, &all, None, &Dice::new()).is_none());
        let one = set(&[0]);
        assert!(pick(&one, &[one.usable[0].address], None, &Dice::new()).is_none());
        assert!(pick(&EndpointSet::default(), &[], None, &Dice::new()).is_none());
    }

    #[test]
    fn who_starts_slowly_lets_turns_pass_however_idle() {
        let old = Arc::clone(&set(&[5]).usable[0]);
        let new = Arc::new(Endpoint {
            health: crate::upstream::Health::new(clock::shared_millis()),
            ..Endpoint::new(([127, 0, 0, 1], 1001).into())
        });
        let usable = vec![old, new];
        let manner = Manner::of(&usable, 3_600_000, None);
        let picks = picks(&EndpointSet::new(usable).with(manner), &[]);
        assert!((500..1_600).contains(&picks[&1001]), "{picks:?}");
        assert!(
            Manner::of(&set(&[0, 0]).usable, 1_000, None).is_none(),
            "all are warm"
        );
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
