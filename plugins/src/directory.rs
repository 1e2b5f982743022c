//! Consumers and credentials, as the proxy holds them: written by the one task that takes snapshots in, read by every
//! worker without a lock.
//!
//! Both tables are spread over [`SHARDS`] shards. A shard never changes; a change builds a new one and swaps it in, so a
//! reader sees a shard before or after a change and never waits. What a look-up returns is a copy of its own: nothing
//! that workers share is counted up or down on behalf of a request.

mod applications;
mod consumers;
mod jwts;
mod keys;
mod named;
mod names;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use parking_lot::Mutex;

pub use applications::{Application, ApplicationLookup, NewApplication};
pub use consumers::{ConsumerRef, NewConsumer};
pub use jwts::{JwtCredential, JwtLookup, NewJwt};
pub use keys::{CredentialId, KeySlot, NewKey};
pub use named::Lookup;
pub use names::{KeyId, Namespaces};

use consumers::{ConsumerChange, ConsumerShard, Identifier};
use keys::{KeyChange, KeyShard, Position, Times};
use named::{Change, Named, Shard};
use names::Interner;

/// How many shards each table has; as many as a snapshot has buckets.
pub const SHARDS: usize = 4096;

/// What became of the look-up of an API key.
#[derive(Debug)]
pub enum KeyLookup {
    /// One credential in force.
    Found {
        /// Whose it is.
        consumer: ConsumerRef,
        /// Which it is.
        credential: CredentialId,
    },
    /// Nobody has it.
    Unknown,
    /// It is there, but no longer or not yet in force.
    OutOfTime,
    /// Two credentials of these namespaces are in force for it: refused, so that no tenant can pose as another.
    Ambiguous,
    /// Its Consumer does not exist.
    NoConsumer,
}

/// Who a credential proves, and the credential's public identifier.
pub type Proven = (ConsumerRef, CredentialId);

/// All shards of one table of names.
type Shards<T> = Box<[ArcSwap<Shard<T>>]>;

/// Consumers and credentials.
pub struct Directory {
    keys: Box<[ArcSwap<KeyShard>]>,
    jwts: Shards<JwtCredential>,
    applications: Shards<Application>,
    consumers: Box<[ArcSwap<ConsumerShard>]>,
    namespaces: Mutex<Interner>,
    credentials: AtomicUsize,
    people: AtomicUsize,
    /// Places digests in shards. Random, because a digest in a manifest may be chosen by whoever writes it.
    placement: RandomState,
}

impl Default for Directory {
    fn default() -> Self {
        let (keys, consumers) = (std::sync::Arc::default(), std::sync::Arc::default());
        Self {
            keys: (0..SHARDS)
                .map(|_| ArcSwap::new(std::sync::Arc::clone(&keys)))
                .collect(),
            jwts: shards(),
            applications: shards(),
            consumers: (0..SHARDS)
                .map(|_| ArcSwap::new(std::sync::Arc::clone(&consumers)))
                .collect(),
            namespaces: Mutex::default(),
            credentials: AtomicUsize::new(0),
            people: AtomicUsize::new(0),
            placement: RandomState::new(),
        }
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Directory")
    }
}

/// What to change in a [`Directory`].
#[derive(Debug, Default)]
pub struct Changes {
    keys: Vec<KeyChange>,
    jwts: Vec<(KeySlot, Change<JwtCredential>)>,
    applications: Vec<(KeySlot, Change<Application>)>,
    consumers: Vec<(KeyId, ConsumerChange)>,
}

impl Changes {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len() + self.jwts.len() + self.applications.len() + self.consumers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes away the credential `id`, which was put at `slot`.
    pub fn remove_key(&mut self, id: KeyId, slot: KeySlot) {
        self.keys.push(KeyChange::Remove(slot, id.tag()));
    }

    /// Takes away the JWT credential `id`, which was put at `slot`.
    pub fn remove_jwt(&mut self, id: KeyId, slot: KeySlot) {
        self.jwts.push((slot, Change::Remove(id)));
    }

    /// Takes away the application `id`, which was put at `slot`.
    pub fn remove_application(&mut self, id: KeyId, slot: KeySlot) {
        self.applications.push((slot, Change::Remove(id)));
    }

    /// Puts a Consumer, in place of what was under its key.
    pub fn put_consumer(&mut self, id: KeyId, consumer: NewConsumer) {
        self.consumers.push((id, ConsumerChange::Put(consumer)));
    }

    /// Takes away the Consumer `id`.
    pub fn remove_consumer(&mut self, id: KeyId) {
        self.consumers.push((id, ConsumerChange::Remove));
    }
}

impl Directory {
    /// A set of namespaces whose credentials a plugin honours, as [`Directory::api_key`] takes it. It fits this directory
    /// only.
    #[must_use]
    pub fn namespaces<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Namespaces {
        let mut interner = self.namespaces.lock();
        Namespaces::new(names.into_iter().map(|name| interner.id(name)).collect())
    }

    /// Looks an API key up by the SHA-256 of it. `now` is in seconds since 1970.
    #[must_use]
    pub fn api_key(&self, digest: &[u8; 32], namespaces: &Namespaces, now: i64) -> KeyLookup {
        let position = self.position(digest);
        let Some(shard) = self.keys.get(position.slot.shard()) else {
            return KeyLookup::Unknown;
        };
        let shard = shard.load();
        let mut found = None;
        let mut out_of_time = false;
        for entry in shard
            .matches(position, digest)
            .filter(|entry| namespaces.contains(entry.namespace))
        {
            if !shard.in_force(entry, now) {
                out_of_time = true;
            } else if found.replace(entry).is_some() {
                return KeyLookup::Ambiguous;
            }
        }
        let Some(entry) = found else {
            return if out_of_time {
                KeyLookup::OutOfTime
            } else {
                KeyLookup::Unknown
            };
        };
        let consumers = self
            .consumers
            .get(entry.consumer.shard())
            .map(ArcSwap::load);
        match consumers
            .as_ref()
            .and_then(|shard| shard.find(&entry.consumer, Identifier::Uuid(&entry.id)))
        {
            Some(consumer) => KeyLookup::Found {
                credential: consumer.credential(),
                consumer,
            },
            None => KeyLookup::NoConsumer,
        }
    }

    /// The Consumer of a key "Consumer/<namespace>/<name>" ([`KeyId::of`], computed when the handler is built).
    #[must_use]
    pub fn consumer(&self, key: &KeyId) -> Option<ConsumerRef> {
        let shard = self.consumers.get(key.shard())?.load();
        shard.find(key, Identifier::None)
    }

    /// Looks up the JWT credential that a token means by `name`, and lets `judge` look at it. `now` is in seconds since
    /// 1970.
    pub fn jwt<R>(
        &self,
        name: &str,
        namespaces: &Namespaces,
        now: i64,
        judge: impl FnOnce(JwtLookup<'_>) -> R,
    ) -> R {
        let position = self.name_position(name);
        let Some(shard) = self.jwts.get(position.slot.shard()) else {
            return judge(JwtLookup::Unknown);
        };
        judge(shard.load().find(position, name, namespaces, now))
    }

    /// Looks up an application, and lets `judge` look at it. `now` is in seconds since 1970.
    pub fn application<R>(
        &self,
        client_id: &str,
        namespaces: &Namespaces,
        now: i64,
        judge: impl FnOnce(ApplicationLookup<'_>) -> R,
    ) -> R {
        let position = self.name_position(client_id);
        let Some(shard) = self.applications.get(position.slot.shard()) else {
            return judge(Lookup::Unknown);
        };
        judge(shard.load().find(position, client_id, namespaces, now))
    }

    /// Whom an application proves; None where its Consumer does not exist.
    #[must_use]
    pub fn owner_of(&self, application: &Application) -> Option<Proven> {
        let shard = self.consumers.get(application.consumer.shard())?.load();
        let identifier = Identifier::Text(&application.client_id);
        let consumer = shard.find(&application.consumer, identifier)?;
        Some((consumer.clone(), consumer.credential()))
    }

    /// Whom a JWT credential proves; None where its Consumer does not exist.
    #[must_use]
    pub fn proven_by(&self, credential: &JwtCredential) -> Option<Proven> {
        let shard = self.consumers.get(credential.consumer.shard())?.load();
        let consumer = shard.find(&credential.consumer, Identifier::Text(&credential.name))?;
        Some((consumer.clone(), consumer.credential()))
    }

    /// Puts a JWT credential, in place of the one with the same id in the same shard, which is returned. Where its name
    /// changes, that may be another one: it is then to be removed from the old one with [`Changes::remove_jwt`].
    pub fn put_jwt(&self, changes: &mut Changes, new: NewJwt<'_>) -> KeySlot {
        let position = self.name_position(new.name);
        let namespace = self.namespaces.lock().id(new.namespace);
        let credential = std::sync::Arc::new(JwtCredential::new(new, namespace));
        let change = Change::Put(position.rank(), credential);
        changes.jwts.push((position.slot, change));
        position.slot
    }

    /// Puts an application, in place of the one with the same key in the same shard, which is returned. Where its client id
    /// changes, that may be another one: it is then to be removed from the old one with [`Changes::remove_application`].
    pub fn put_application(&self, changes: &mut Changes, new: NewApplication<'_>) -> KeySlot {
        let position = self.name_position(new.client_id);
        let namespace = self.namespaces.lock().id(new.namespace);
        let application = std::sync::Arc::new(Application::new(new, namespace));
        let change = Change::Put(position.rank(), application);
        changes.applications.push((position.slot, change));
        position.slot
    }

    /// Puts a credential, in place of the one with the same key in the same shard, which is returned. Where its digest
    /// changes, that may be another one: it is then to be removed from the old one with [`Changes::remove_key`].
    pub fn put_key(&self, changes: &mut Changes, key: &NewKey<'_>) -> KeySlot {
        let position = self.position(&key.digest);
        let namespace = self.namespaces.lock().id(key.namespace);
        let entry = keys::Entry::new(key, namespace);
        changes
            .keys
            .push(KeyChange::Put(position, entry, Times::new(key)));
        position.slot
    }

    /// Makes changes, a shard at a time. Later changes of one thing win over earlier ones. Only one writer at a time.
    pub fn apply(&self, changes: Changes) {
        let Changes {
            keys,
            jwts,
            applications,
            consumers,
        } = changes;
        for group in by_shard(&keys, KeyChange::shard).chunk_by(|(a, _), (b, _)| a == b) {
            if let Some(shard) = group.first().and_then(|(shard, _)| self.keys.get(*shard)) {
                let old = shard.load();
                let changed = old.changed(group.iter().map(|(_, change)| *change));
                count(&self.credentials, old.len(), changed.len());
                shard.store(std::sync::Arc::new(changed));
            }
        }
        apply_named(&self.jwts, &jwts, &self.credentials);
        apply_named(&self.applications, &applications, &self.credentials);
        for group in by_shard(&consumers, |(id, _)| id.shard()).chunk_by(|(a, _), (b, _)| a == b) {
            if let Some(shard) = group
                .first()
                .and_then(|(shard, _)| self.consumers.get(*shard))
            {
                let old = shard.load();
                let changed = old.changed(group.iter().map(|(_, change)| *change));
                count(&self.people, old.len(), changed.len());
                shard.store(std::sync::Arc::new(changed));
            }
        }
    }

    /// How many credentials and Consumers there are.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.credentials.load(Relaxed), self.people.load(Relaxed))
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    fn position(&self, digest: &[u8; 32]) -> Position {
        Position::new(self.placement.hash_one(digest))
    }

    fn name_position(&self, name: &str) -> Position {
        Position::new(self.placement.hash_one(name))
    }
}

/// Changes with the number of the shard that each belongs to, those of one shard together and in their order.
fn by_shard<T>(changes: &[T], shard: impl Fn(&T) -> usize) -> Vec<(usize, &T)> {
    let mut sorted: Vec<(usize, &T)> = changes.iter().map(|one| (shard(one), one)).collect();
    sorted.sort_by_key(|(shard, _)| *shard);
    sorted
}

fn shards<T>() -> Shards<T> {
    let empty = std::sync::Arc::default();
    (0..SHARDS)
        .map(|_| ArcSwap::new(std::sync::Arc::clone(&empty)))
        .collect()
}

fn apply_named<T: Named + std::fmt::Debug>(
    shards: &[ArcSwap<Shard<T>>],
    changes: &[(KeySlot, Change<T>)],
    total: &AtomicUsize,
) {
    for group in by_shard(changes, |(slot, _)| slot.shard()).chunk_by(|(a, _), (b, _)| a == b) {
        if let Some(shard) = group.first().and_then(|(shard, _)| shards.get(*shard)) {
            let old = shard.load();
            let changed = old.changed(group.iter().map(|(_, (_, change))| change));
            count(total, old.len(), changed.len());
            shard.store(std::sync::Arc::new(changed));
        }
    }
}

/// Counts what a shard has gained or lost. There is one writer.
fn count(total: &AtomicUsize, old: usize, new: usize) {
    total.store(
        total.load(Relaxed).saturating_add(new).saturating_sub(old),
        Relaxed,
    );
}

/// The SHA-256 of an API key, by which [`Directory::api_key`] knows it.
#[must_use]
pub fn digest_of(api_key: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let full = digest::digest(&digest::SHA256, api_key);
    for (to, from) in out.iter_mut().zip(full.as_ref()) {
        *to = *from;
    }
    out
}

/// The place of `rank` among `len` sorted, evenly spread ranks: a window that holds it if it is there.
fn window(len: usize, rank: u32, at: impl Fn(usize) -> Option<u32>) -> std::ops::Range<usize> {
    const REACH: usize = 16;
    let guess = usize::try_from((u64::from(rank) * len as u64) >> 32).unwrap_or(0);
    let (low, high) = (
        guess.saturating_sub(REACH),
        guess.saturating_add(REACH).min(len),
    );
    // Strictly beyond on both sides, or the end: equal ranks may go on outside.
    let low = if low == 0 || at(low).is_some_and(|found| found < rank) {
        low
    } else {
        0
    };
    let high = if high == len || at(high).is_some_and(|found| found > rank) {
        high
    } else {
        len
    };
    low..high
}

#[cfg(test)]
mod tests;
