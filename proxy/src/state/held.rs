//! Which resources this proxy holds: for each the short form of its key and the hash of its content, and no more.

use plugins::directory::{KeyId, KeySlot};
use snapshot::proto::Bucket;
use snapshot::{BUCKETS, Hash};

/// What a resource is, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// By its key, in the tables of the state.
    Table,
    /// A Consumer in the directory.
    Consumer,
    /// An API key in the directory.
    Key(KeySlot),
    /// A JWT credential in the directory.
    Jwt(KeySlot),
    /// An application in the directory.
    Application(KeySlot),
}

/// One resource, in few bytes: there may be millions.
#[derive(Debug, Clone, Copy)]
struct Entry {
    rest: [u8; 10],
    hash: Hash,
    place: [u8; 2],
}

const TABLE: u16 = u16::MAX;
const CONSUMER: u16 = u16::MAX - 1;
/// Beyond the number of any slot.
const JWT: u16 = 1 << 15;
const APPLICATION: u16 = 1 << 14;

impl Entry {
    fn new(key: &KeyId, hash: Hash, place: Place) -> Self {
        let place = match place {
            Place::Table => TABLE,
            Place::Consumer => CONSUMER,
            Place::Key(slot) => slot.number(),
            Place::Jwt(slot) => slot.number() | JWT,
            Place::Application(slot) => slot.number() | APPLICATION,
        };
        Self {
            rest: *key.rest(),
            hash,
            place: place.to_be_bytes(),
        }
    }

    fn place(&self) -> Place {
        match u16::from_be_bytes(self.place) {
            TABLE => Place::Table,
            CONSUMER => Place::Consumer,
            number if number & JWT != 0 => Place::Jwt(KeySlot::from_number(number ^ JWT)),
            number if number & APPLICATION != 0 => {
                Place::Application(KeySlot::from_number(number ^ APPLICATION))
            }
            number => Place::Key(KeySlot::from_number(number)),
        }
    }
}

#[derive(Debug, Default)]
struct Held {
    /// Sorted.
    entries: Vec<Entry>,
    /// XOR of the hashes.
    sum: Hash,
}

impl Held {
    fn toggle(&mut self, hash: &Hash) {
        for (to, from) in self.sum.iter_mut().zip(hash) {
            *to ^= from;
        }
    }
}

/// All resources, in the buckets of the protocol.
#[derive(Debug)]
pub(super) struct Inventory(Box<[Held]>);

impl Default for Inventory {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| Held::default()).collect())
    }
}

impl Inventory {
    pub(super) fn hash(&self, key: &KeyId) -> Option<(Hash, Place)> {
        let held = self.0.get(usize::from(key.bucket()))?;
        let at = held
            .entries
            .binary_search_by_key(key.rest(), |entry| entry.rest)
            .ok()?;
        held.entries
            .get(at)
            .map(|entry| (entry.hash, entry.place()))
    }

    /// Holds a resource; returns where what it replaces was.
    pub(super) fn put(&mut self, key: &KeyId, hash: Hash, place: Place) -> Option<Place> {
        let held = self.0.get_mut(usize::from(key.bucket()))?;
        held.toggle(&hash);
        let new = Entry::new(key, hash, place);
        match held
            .entries
            .binary_search_by_key(key.rest(), |entry| entry.rest)
        {
            Ok(at) => {
                let old = std::mem::replace(held.entries.get_mut(at)?, new);
                held.toggle(&old.hash);
                Some(old.place())
            }
            Err(at) => {
                if held.entries.len() == held.entries.capacity() {
                    // There are thousands of these tables: doubling would waste half of their memory.
                    held.entries.reserve_exact((held.entries.len() / 8).max(4));
                }
                held.entries.insert(at, new);
                None
            }
        }
    }

    /// Holds a resource no longer; returns where it was.
    pub(super) fn remove(&mut self, key: &KeyId) -> Option<Place> {
        let held = self.0.get_mut(usize::from(key.bucket()))?;
        let at = held
            .entries
            .binary_search_by_key(key.rest(), |entry| entry.rest)
            .ok()?;
        let old = held.entries.remove(at);
        held.toggle(&old.hash);
        Some(old.place())
    }

    /// The keys in a bucket.
    pub(super) fn keys(&self, bucket: u32) -> Vec<KeyId> {
        let Ok(bucket) = u16::try_from(bucket) else {
            return Vec::new();
        };
        let Some(held) = self.0.get(usize::from(bucket)) else {
            return Vec::new();
        };
        held.entries
            .iter()
            .map(|entry| KeyId::from_parts(bucket, entry.rest))
            .collect()
    }

    /// Gives back what was reserved for more.
    pub(super) fn shrink(&mut self) {
        for held in &mut self.0 {
            held.entries.shrink_to_fit();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|held| held.entries.len()).sum()
    }

    /// The sums of the buckets that hold something.
    pub(super) fn buckets(&self) -> Vec<Bucket> {
        (0..)
            .zip(&self.0)
            .filter(|(_, held)| !held.entries.is_empty())
            .map(|(index, held)| Bucket {
                index,
                digest: held.sum.to_vec().into(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use snapshot::proto::{Consumer, Resource, resource::Body};
    use snapshot::{Entry, Set};

    proptest! {
        #[test]
        fn sums_are_those_of_the_set(steps in proptest::collection::vec((0u8..20, 0u8..4, any::<bool>()), 0..60)) {
            let (mut inventory, mut set) = (Inventory::default(), Set::default());
            for (name, value, put) in steps {
                let key = format!("Consumer/n/{name}");
                let id = KeyId::of(&key);
                if put {
                    let body = Body::Consumer(Consumer { id: value.to_string(), ..Consumer::default() });
                    let entry = Entry::new(&Resource { key: key.clone(), body: Some(body) });
                    inventory.put(&id, entry.hash, Place::Consumer);
                    set.insert(key, entry);
                } else {
                    prop_assert_eq!(inventory.remove(&id).is_some(), set.remove(&key));
                }
            }
            prop_assert_eq!(inventory.len(), set.len());
            prop_assert_eq!(inventory.buckets(), set.buckets());
            for (key, entry) in set.iter() {
                let id = KeyId::of(key);
                prop_assert_eq!(inventory.hash(&id), Some((entry.hash, Place::Consumer)));
                prop_assert!(inventory.keys(snapshot::bucket_of(key)).contains(&id));
            }
        }
    }

    #[test]
    fn a_place_is_small() {
        assert!(size_of::<super::Entry>() == 28);
    }
}
