//! Who holds which key: unique in a namespace, and known where namespaces share one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::plugins::Type;

use crate::ObjectRef;

/// SHA-256 of a key.
pub(crate) type Digest = [u8; 32];

/// What only one Credential of a namespace may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unique {
    /// An API key.
    ApiKey(Digest),
    /// What tokens say to mean a Credential.
    JwtKey(Arc<str>),
    /// What an application calls itself by.
    ClientId(Arc<str>),
}

impl Unique {
    /// The type of plugin that looks it up.
    pub(crate) const fn of(&self) -> Type {
        match self {
            Self::ApiKey(_) => Type::KeyAuth,
            Self::JwtKey(_) => Type::Jwt,
            Self::ClientId(_) => Type::OAuth2,
        }
    }
}

/// What a Credential holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) key: Unique,
    pub(crate) created: i64,
    pub(crate) consumer: ObjectRef,
}

/// By age; the first has the key.
type Holders = BTreeSet<(i64, ObjectRef)>;

/// All keys that are held.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    holders: BTreeMap<Unique, BTreeMap<Arc<str>, Holders>>,
    by_credential: BTreeMap<ObjectRef, Held>,
    by_consumer: BTreeMap<ObjectRef, BTreeSet<ObjectRef>>,
    shared: SharedKeys,
}

/// Keys that several namespaces know, with the oldest holder in each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SharedKeys(BTreeMap<Unique, BTreeMap<Arc<str>, ObjectRef>>);

/// What a change touches.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) credentials: BTreeSet<ObjectRef>,
    pub(crate) consumers: BTreeSet<ObjectRef>,
    /// Whether [`SharedKeys`] changed.
    pub(crate) shared: bool,
}

impl Keys {
    /// Notes what a Credential holds now.
    pub(crate) fn set(&mut self, credential: &ObjectRef, held: Option<Held>) -> Touched {
        let mut touched = Touched::default();
        if self.by_credential.get(credential) == held.as_ref() {
            return touched;
        }
        if let Some(old) = self.by_credential.remove(credential) {
            self.release(credential, &old, &mut touched);
        }
        if let Some(held) = held {
            self.take(credential, held, &mut touched);
        }
        let consumers = touched
            .credentials
            .iter()
            .filter_map(|credential| self.by_credential.get(credential));
        touched
            .consumers
            .extend(consumers.map(|held| held.consumer.clone()));
        touched
    }

    fn release(&mut self, credential: &ObjectRef, old: &Held, touched: &mut Touched) {
        touched.consumers.insert(old.consumer.clone());
        if let Some(credentials) = self.by_consumer.get_mut(&old.consumer) {
            credentials.remove(credential);
            if credentials.is_empty() {
                self.by_consumer.remove(&old.consumer);
            }
        }
        if let Some(namespaces) = self.holders.get_mut(&old.key) {
            if let Some(holders) = namespaces.get_mut(&credential.namespace) {
                holders.remove(&(old.created, credential.clone()));
                touched
                    .credentials
                    .extend(holders.iter().map(|(_, holder)| holder.clone()));
                if holders.is_empty() {
                    namespaces.remove(&credential.namespace);
                }
            }
            if namespaces.is_empty() {
                self.holders.remove(&old.key);
            }
        }
        touched.shared |= self.share(&old.key);
    }

    fn take(&mut self, credential: &ObjectRef, held: Held, touched: &mut Touched) {
        touched.consumers.insert(held.consumer.clone());
        self.by_consumer
            .entry(held.consumer.clone())
            .or_default()
            .insert(credential.clone());
        let namespaces = self.holders.entry(held.key.clone()).or_default();
        let holders = namespaces
            .entry(Arc::clone(&credential.namespace))
            .or_default();
        touched
            .credentials
            .extend(holders.iter().map(|(_, holder)| holder.clone()));
        holders.insert((held.created, credential.clone()));
        touched.shared |= self.share(&held.key);
        self.by_credential.insert(credential.clone(), held);
    }

    /// Brings the list of shared keys up to date; true where that changed it.
    fn share(&mut self, key: &Unique) -> bool {
        let now = self
            .holders
            .get(key)
            .filter(|namespaces| namespaces.len() > 1)
            .map(|namespaces| {
                let oldest = namespaces.iter().filter_map(|(namespace, holders)| {
                    Some((Arc::clone(namespace), holders.first()?.1.clone()))
                });
                oldest.collect::<BTreeMap<_, _>>()
            });
        if self.shared.0.get(key) == now.as_ref() {
            return false;
        }
        match now {
            Some(now) => self.shared.0.insert(key.clone(), now),
            None => self.shared.0.remove(key),
        };
        true
    }

    /// The older Credential of the namespace that has the key of this one.
    pub(crate) fn older(&self, credential: &ObjectRef) -> Option<&ObjectRef> {
        let held = self.by_credential.get(credential)?;
        let (_, first) = self
            .holders
            .get(&held.key)?
            .get(&credential.namespace)?
            .first()?;
        (first != credential).then_some(first)
    }

    /// The Credential of a namespace that has a key.
    pub(crate) fn holder(&self, namespace: &str, key: &Unique) -> Option<&ObjectRef> {
        let (_, first) = self.holders.get(key)?.get(namespace)?.first()?;
        Some(first)
    }

    /// How many Credentials of a Consumer have their key.
    pub(crate) fn count(&self, consumer: &ObjectRef) -> usize {
        let credentials = self.by_consumer.get(consumer).into_iter().flatten();
        credentials
            .filter(|credential| self.older(credential).is_none())
            .count()
    }

    pub(crate) const fn shared(&self) -> &SharedKeys {
        &self.shared
    }
}

impl SharedKeys {
    /// The holders of each key that plugins of this type look up and at least two of these namespaces know.
    pub(crate) fn within<'a>(
        &'a self,
        kind: Type,
        namespaces: &'a [String],
    ) -> impl Iterator<Item = Vec<&'a ObjectRef>> {
        let within = |namespace: &str| namespaces.iter().any(|own| own == namespace);
        self.0
            .iter()
            .filter(move |(key, _)| key.of() == kind)
            .map(move |(_, holders)| {
                holders
                    .iter()
                    .filter(|(name, _)| within(name))
                    .map(|(_, holder)| holder)
                    .collect()
            })
            .filter(|holders: &Vec<_>| holders.len() > 1)
    }
}
