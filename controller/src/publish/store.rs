//! The resources in force, spread over buckets, so that a proxy that comes back gets only what it lacks.

use std::collections::BTreeMap;
use std::sync::Arc;

use snapshot::{BUCKETS, Diff, Entry, Hash, bucket_of, proto};

use super::delta::Parts;

/// What is published. Counts changes, so that it is known which of them a proxy has acknowledged.
pub(super) struct Store {
    buckets: Vec<Bucket>,
    digest: Hash,
    sequence: u64,
    len: usize,
}

#[derive(Default)]
struct Bucket {
    digest: Hash,
    items: BTreeMap<Arc<str>, Item>,
}

struct Item {
    entry: Entry,
    /// The change that brought this content.
    changed: u64,
}

impl Default for Store {
    fn default() -> Self {
        let buckets = (0..BUCKETS).map(|_| Bucket::default()).collect();
        Self {
            buckets,
            digest: Hash::default(),
            sequence: 0,
            len: 0,
        }
    }
}

impl Store {
    /// Takes a change in; returns the keys that really changed.
    pub(super) fn apply(&mut self, diff: &Diff) -> Vec<Arc<str>> {
        self.sequence += 1;
        let mut changed = Vec::with_capacity(diff.upserts.len() + diff.removals.len());
        for key in &diff.removals {
            if let Some(bucket) = self.buckets.get_mut(bucket_of(key) as usize)
                && let Some(old) = bucket.items.remove(key)
            {
                toggle(&mut bucket.digest, old.entry.hash);
                toggle(&mut self.digest, old.entry.hash);
                self.len -= 1;
                changed.push(Arc::clone(key));
            }
        }
        for (key, entry) in &diff.upserts {
            let Some(bucket) = self.buckets.get_mut(bucket_of(key) as usize) else {
                continue;
            };
            if bucket
                .items
                .get(key)
                .is_some_and(|old| old.entry.hash == entry.hash)
            {
                continue;
            }
            let item = Item {
                entry: entry.clone(),
                changed: self.sequence,
            };
            match bucket.items.insert(Arc::clone(key), item) {
                Some(old) => {
                    toggle(&mut bucket.digest, old.entry.hash);
                    toggle(&mut self.digest, old.entry.hash);
                }
                None => self.len += 1,
            }
            toggle(&mut bucket.digest, entry.hash);
            toggle(&mut self.digest, entry.hash);
            changed.push(Arc::clone(key));
        }
        changed
    }

    /// Counts the changes; 0 before the first.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Names the content: equal on every replica that holds the same resources.
    pub(super) fn version(&self) -> Arc<str> {
        hex(&self.digest).into()
    }

    /// How many resources there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The change that brought the present content of a key.
    pub(super) fn changed_at(&self, key: &str) -> Option<u64> {
        let bucket = self.buckets.get(bucket_of(key) as usize)?;
        bucket.items.get(key).map(|item| item.changed)
    }

    /// What turns the content that `held` sums up into the present one.
    pub(super) fn resume(&self, held: &[proto::Bucket]) -> Parts {
        let mut theirs: Vec<Option<&[u8]>> = vec![None; self.buckets.len()];
        for bucket in held {
            if let Some(slot) = theirs.get_mut(bucket.index as usize) {
                *slot = Some(&bucket.digest);
            }
        }
        let mut parts = Parts::default();
        for (index, (ours, theirs)) in (0_u32..).zip(self.buckets.iter().zip(theirs)) {
            let same = match theirs {
                Some(digest) => !ours.items.is_empty() && digest == ours.digest,
                None => ours.items.is_empty(),
            };
            if same {
                continue;
            }
            parts.reset_buckets.push(index);
            parts
                .upserts
                .extend(ours.items.values().map(|item| item.entry.encoded.clone()));
        }
        parts
    }

    /// The present content of some keys.
    pub(super) fn gather(&self, keys: impl IntoIterator<Item = Arc<str>>) -> Parts {
        let mut parts = Parts::default();
        for key in keys {
            let bucket = self.buckets.get(bucket_of(&key) as usize);
            match bucket.and_then(|bucket| bucket.items.get(&key)) {
                Some(item) => parts.upserts.push(item.entry.encoded.clone()),
                None => parts.removals.push(key.as_ref().into()),
            }
        }
        parts
    }
}

fn toggle(sum: &mut Hash, hash: Hash) {
    for (to, from) in sum.iter_mut().zip(hash) {
        *to ^= from;
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;
    use snapshot::Set;
    use snapshot::proto::{Consumer, Resource, resource::Body};
    use std::collections::BTreeSet;

    fn entry(key: &str, id: u8) -> Entry {
        let consumer = Consumer {
            id: id.to_string(),
            ..Consumer::default()
        };
        Entry::new(&Resource {
            key: key.into(),
            body: Some(Body::Consumer(consumer)),
        })
    }

    fn set(of: &BTreeMap<u8, u8>) -> Set {
        let mut set = Set::default();
        for (key, value) in of {
            let key = format!("Consumer/a/{key}");
            let entry = entry(&key, *value);
            set.insert(key, entry);
        }
        set
    }

    fn store(of: &BTreeMap<u8, u8>) -> Store {
        let mut store = Store::default();
        store.apply(&Set::default().diff(&set(of)));
        store
    }

    /// What a proxy does with a delta.
    fn take(held: &mut Set, parts: &Parts) {
        let reset: BTreeSet<u32> = parts.reset_buckets.iter().copied().collect();
        let gone: Vec<Arc<str>> = held
            .iter()
            .map(|(key, _)| Arc::clone(key))
            .filter(|key| reset.contains(&bucket_of(key)))
            .collect();
        for key in gone {
            held.remove(&key);
        }
        for key in &parts.removals {
            held.remove(key);
        }
        for bytes in &parts.upserts {
            let resource = Resource::decode(bytes.clone()).unwrap();
            held.insert(resource.key.clone(), Entry::new(&resource));
        }
    }

    proptest! {
        #[test]
        fn resuming_gives_a_proxy_the_present_content(a: BTreeMap<u8, u8>, b: BTreeMap<u8, u8>) {
            let (mut held, to) = (set(&a), set(&b));
            let parts = store(&b).resume(&held.buckets());
            prop_assert_eq!(parts.is_empty(), a == b);
            take(&mut held, &parts);
            prop_assert!(held.diff(&to).is_empty());
        }

        #[test]
        fn gathered_keys_give_a_proxy_the_present_content(a: BTreeMap<u8, u8>, b: BTreeMap<u8, u8>, c: BTreeMap<u8, u8>) {
            let mut store = store(&a);
            let mut held = set(&a);
            let mut dirty = BTreeSet::new();
            dirty.extend(store.apply(&set(&a).diff(&set(&b))));
            dirty.extend(store.apply(&set(&b).diff(&set(&c))));
            take(&mut held, &store.gather(dirty));
            prop_assert!(held.diff(&set(&c)).is_empty());
            prop_assert_eq!(store.len(), c.len());
        }

        #[test]
        fn the_version_tells_contents_and_not_histories(a: BTreeMap<u8, u8>, b: BTreeMap<u8, u8>) {
            let mut travelled = store(&a);
            travelled.apply(&set(&a).diff(&set(&b)));
            prop_assert_eq!(travelled.version(), store(&b).version());
            prop_assert_eq!(store(&a).version() == store(&b).version(), a == b);
        }
    }

    #[test]
    fn a_bucket_out_of_range_or_of_odd_length_is_harmless() {
        let store = store(&BTreeMap::from([(1, 1)]));
        let odd = [
            proto::Bucket {
                index: u32::MAX,
                digest: bytes::Bytes::new(),
            },
            proto::Bucket {
                index: 0,
                digest: bytes::Bytes::from_static(b"short"),
            },
        ];
        assert_eq!(store.resume(&odd).upserts.len(), 1);
    }

    #[test]
    fn only_what_changed_counts_as_changed() {
        let mut store = store(&BTreeMap::from([(1, 1), (2, 2)]));
        let keys =
            store.apply(&set(&BTreeMap::new()).diff(&set(&BTreeMap::from([(1, 1), (2, 3)]))));
        assert_eq!(keys, [Arc::from("Consumer/a/2")]);
        assert_eq!(store.changed_at("Consumer/a/1"), Some(1));
        assert_eq!(store.changed_at("Consumer/a/2"), Some(2));
        assert_eq!(store.changed_at("Consumer/a/3"), None);
    }
}
