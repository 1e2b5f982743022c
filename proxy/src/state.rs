//! The snapshot, as this proxy holds it: takes deltas in, builds what changed, says what it could not take.
//!
//! Resources are decoded once and forgotten: of each stay the hash and what was made of it. A resource that cannot be taken
//! harms itself only. Its last good version stays in force; a plugin has none, its routes are closed.

mod applications;
mod build;
mod held;
mod parts;
mod referring;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use plugins::directory::{Changes, Directory, KeyId, NewConsumer, NewJwt, NewKey};
use plugins::handler::Services;
use plugins::jwt::{Algorithm, Material, VerificationKey, Verifier};
use prost::Message;
use snapshot::Hash;
use snapshot::proto::credential::Proof;
use snapshot::proto::jwt::Verification;
use snapshot::proto::resource::Body;
use snapshot::proto::{self, Bucket, Refusal, Resource};

use crate::attend::Attended;
use crate::metrics::Metrics;
use crate::router::Regexes;
use crate::runtime::{ChainPlugin, Runtime};
use crate::tls::Certificate;
use crate::upstream;
use applications::Fields;
use build::{Conflicts, Context, Tables, TlsPorts};
use held::{Inventory, Place};
use parts::{ListenerParts, RouteParts};
use referring::Referring;

/// A whole change: what the control plane sends until `more` is false.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    pub(crate) version: Arc<str>,
    /// What these buckets hold and this delta does not bring is gone.
    pub(crate) reset_buckets: Vec<u32>,
    /// Encoded resources.
    pub(crate) upserts: Vec<Bytes>,
    /// Key and hash of each of them; empty where they are not known yet.
    pub(crate) known: Vec<(KeyId, Hash)>,
    pub(crate) removals: Vec<KeyId>,
}

/// What a delta did.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// A new runtime is in force; without, only endpoints, Consumers or credentials changed.
    pub(crate) rebuilt: bool,
    /// All that was removed, also by resets, for the last-good file.
    pub(crate) removed: Vec<KeyId>,
    /// Which upserts are not for the last-good file: it has them already, or they were refused and leave what it has in
    /// force.
    pub(crate) not_kept: HashSet<usize>,
}

/// Longest list of refusals that is reported.
const MAX_REFUSALS: usize = 10_000;

/// How many changes of the directory are made at once: more take more memory, fewer take longer.
const DIRECTORY_BATCH: usize = 1 << 16;

/// The snapshot.
#[derive(Debug)]
pub(crate) struct State {
    runtime: Arc<ArcSwap<Runtime>>,
    directory: Arc<Directory>,
    metrics: Arc<Metrics>,
    inventory: Inventory,
    tables: Tables,
    tls: TlsPorts,
    regexes: Regexes,
    version: Arc<str>,
    /// Of resources, by key.
    refused: BTreeMap<Box<str>, String>,
    conflicts: Conflicts,
    /// Keys of what is in the tables.
    names: HashMap<KeyId, Box<str>>,
    /// What is not in the directory yet.
    restoring: Changes,
    /// The Consumer that was named last, for credentials come in the order of their keys.
    last_consumer: (String, Option<KeyId>),
    services: Services,
    /// Plugins that refer to values, and the values.
    referring: Referring,
}

/// What a delta has changed so far.
#[derive(Debug, Default)]
struct Progress {
    changes: Changes,
    structural: bool,
    leaving: Vec<(Box<str>, Arc<ChainPlugin>)>,
    /// Plugins that wait until all that they refer to is there.
    waiting: BTreeSet<Box<str>>,
    applied: Applied,
}

impl State {
    pub(crate) fn new(metrics: Arc<Metrics>, services: Services) -> Self {
        let directory = Arc::new(Directory::default());
        let runtime = Runtime {
            version: Arc::default(),
            ports: BTreeMap::new(),
            directory: Arc::clone(&directory),
            plugins: HashMap::new(),
        };
        Self {
            runtime: Arc::new(ArcSwap::from_pointee(runtime)),
            directory,
            metrics,
            inventory: Inventory::default(),
            tables: Tables::default(),
            tls: TlsPorts::default(),
            regexes: Regexes::default(),
            version: Arc::default(),
            refused: BTreeMap::new(),
            conflicts: Conflicts::new(),
            names: HashMap::new(),
            restoring: Changes::default(),
            last_consumer: (String::new(), None),
            services,
            referring: Referring::default(),
        }
    }

    /// The zone of this proxy, said before anything is applied.
    pub(crate) fn in_zone(mut self, zone: Option<&str>) -> Self {
        self.tables.upstreams.stand_in(zone.unwrap_or_default());
        self
    }

    /// What workers load.
    pub(crate) fn runtime(&self) -> &Arc<ArcSwap<Runtime>> {
        &self.runtime
    }

    /// Of the last delta, empty before the first.
    pub(crate) fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// Sums of what is held, for [`proto::Hello`].
    pub(crate) fn buckets(&self) -> Vec<Bucket> {
        self.inventory.buckets()
    }

    /// How many resources are held.
    pub(crate) fn len(&self) -> usize {
        self.inventory.len()
    }

    /// What is to be done about upstreams beside their requests.
    pub(crate) fn attended(&self) -> Vec<Attended> {
        self.tables.upstreams.attended(self.tls.tls.provider())
    }

    /// Keys of the listeners on a port.
    pub(crate) fn listeners_on(&self, port: u16) -> impl Iterator<Item = &str> {
        self.tables
            .listeners
            .iter()
            .filter(move |(_, parts)| parts.port == port)
            .map(|(key, _)| &**key)
    }

    /// What could not be taken, all that is in force.
    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        let all = self.refused.iter().chain(&self.conflicts);
        all.take(MAX_REFUSALS)
            .map(|(key, reason)| Refusal {
                key: key.to_string(),
                reason: reason.clone(),
            })
            .collect()
    }

    /// How many could not be taken.
    pub(crate) fn refused(&self) -> usize {
        self.refused.len() + self.conflicts.len()
    }

    /// Takes a delta in, and swaps a new runtime in where it needs one.
    pub(crate) fn apply(&mut self, delta: Delta) -> Applied {
        let mut progress = Progress::default();
        self.take_in(delta, &mut progress);
        if progress.structural {
            self.build(std::mem::take(&mut progress.leaving));
        }
        self.finish(progress)
    }

    /// Takes a delta in that is not in force before [`State::restored`]; true where it needs a new runtime.
    pub(crate) fn restore(&mut self, delta: Delta) -> bool {
        let mut progress = Progress {
            changes: std::mem::take(&mut self.restoring),
            ..Progress::default()
        };
        self.take_in(delta, &mut progress);
        self.restoring = progress.changes;
        progress.structural
    }

    /// Puts what was restored in force.
    pub(crate) fn restored(&mut self) {
        self.directory.apply(std::mem::take(&mut self.restoring));
        self.inventory.shrink();
        self.build(Vec::new());
    }

    fn take_in(&mut self, delta: Delta, progress: &mut Progress) {
        let mut brought = HashSet::new();
        let resetting = !delta.reset_buckets.is_empty();
        for id in delta.removals {
            self.remove(&id, progress);
        }
        for (at, encoded) in delta.upserts.iter().enumerate() {
            let known = delta.known.get(at).copied();
            let id = self.upsert(at, encoded, known, progress);
            if resetting && let Some(id) = id {
                brought.insert(id);
            }
            if progress.changes.len() >= DIRECTORY_BATCH {
                self.directory.apply(std::mem::take(&mut progress.changes));
            }
        }
        for bucket in delta.reset_buckets {
            for id in self.inventory.keys(bucket) {
                if !brought.contains(&id) {
                    self.remove(&id, progress);
                }
            }
        }
        for key in std::mem::take(&mut progress.waiting) {
            self.build_referring(&key, progress);
        }
        self.version = delta.version;
    }

    /// Plugins are there before Consumers refer to them, and stay until none does: this goes before [`State::finish`].
    fn build(&mut self, leaving: Vec<(Box<str>, Arc<ChainPlugin>)>) {
        let (runtime, conflicts) = self.tables.build(Context {
            metrics: &self.metrics,
            directory: &self.directory,
            tls: &mut self.tls,
            version: &self.version,
            leaving,
        });
        self.conflicts = conflicts;
        self.runtime.store(Arc::new(runtime));
        self.regexes.forget_unused();
        self.metrics.forget_unused();
    }

    fn finish(&self, progress: Progress) -> Applied {
        let Progress {
            changes,
            structural,
            mut applied,
            ..
        } = progress;
        if !changes.is_empty() {
            self.directory.apply(changes);
        }
        applied.rebuilt = structural;
        applied
    }

    /// Tells metrics how many credentials and Consumers there are.
    pub(crate) fn count(&self) {
        let (credentials, consumers) = self.directory.len();
        self.metrics.process().directory(credentials, consumers);
    }

    /// Takes a resource in; returns its key.
    fn upsert(
        &mut self,
        at: usize,
        encoded: &Bytes,
        known: Option<(KeyId, Hash)>,
        progress: &mut Progress,
    ) -> Option<KeyId> {
        let resource = match Resource::decode(encoded.clone()) {
            Ok(resource) => resource,
            Err(error) => {
                tracing::error!(%error, "the control plane sent a resource that cannot be decoded");
                return None;
            }
        };
        let key = resource.key;
        let (id, hash) = known.unwrap_or_else(|| (KeyId::of(&key), snapshot::hash_of(encoded)));
        if self
            .inventory
            .hash(&id)
            .is_some_and(|(held, _)| held == hash)
        {
            progress.applied.not_kept.insert(at);
            return Some(id);
        }
        let body = resource
            .body
            .ok_or_else(|| "this version of the proxy does not know this type".to_owned());
        let is_plugin = matches!(body, Ok(Body::Plugin(_)));
        match body.and_then(|body| self.take(&key, id, body, progress)) {
            Ok(place) => {
                let old = self.inventory.put(&id, hash, place);
                forget_key(old, place, id, &mut progress.changes);
                match (old, place) {
                    (None, Place::Table) => drop(self.names.insert(id, key.as_str().into())),
                    // It was refused before.
                    (
                        Some(Place::Table),
                        Place::Key(_) | Place::Jwt(_) | Place::Application(_) | Place::Consumer,
                    ) => drop(self.names.remove(&id)),
                    _ => {}
                }
                if !self.refused.is_empty() && !is_plugin {
                    self.refused.remove(key.as_str());
                }
            }
            Err(reason) => {
                tracing::warn!(key, reason, "refused");
                let old = self.inventory.hash(&id).map(|(_, place)| place);
                let place = old.unwrap_or(Place::Table);
                self.inventory.put(&id, hash, place);
                if place == Place::Table {
                    self.names.insert(id, key.as_str().into());
                }
                if key.starts_with("Plugin/") {
                    self.referring.remove_plugin(&key);
                    let plugin = self.closed_plugin(&key, reason.as_str().into());
                    self.tables
                        .plugins
                        .insert(key.as_str().into(), Arc::new(plugin));
                    progress.structural = true;
                } else if old.is_some() {
                    progress.applied.not_kept.insert(at);
                }
                self.refused.insert(key.into(), reason);
            }
        }
        Some(id)
    }

    fn take(
        &mut self,
        key: &str,
        id: KeyId,
        body: Body,
        progress: &mut Progress,
    ) -> Result<Place, String> {
        match body {
            Body::Consumer(consumer) => {
                let proto::Consumer {
                    id: own,
                    username,
                    custom_id,
                    groups,
                    plugins,
                } = &consumer;
                progress.changes.put_consumer(
                    id,
                    NewConsumer::new(own, username, custom_id, groups, plugins)?,
                );
                return Ok(Place::Consumer);
            }
            Body::Credential(credential) => return self.credential(key, id, credential, progress),
            Body::Endpoints(endpoints) => {
                let name = key
                    .strip_prefix("Endpoints/")
                    .ok_or("the key does not begin with Endpoints/")?;
                self.tables.upstreams.put_endpoints(name, &endpoints)?;
                return Ok(Place::Table);
            }
            Body::Secret(secret) => {
                let users = self.referring.put_value(key, secret.value);
                progress.waiting.extend(users);
                return Ok(Place::Table);
            }
            Body::Listener(listener) => {
                self.tables
                    .listeners
                    .insert(key.into(), ListenerParts::read(listener)?);
            }
            Body::Route(route) => {
                let route = RouteParts::read(route, &mut self.regexes)?;
                self.tables.routes.insert(key.into(), route);
            }
            Body::Upstream(upstream) => {
                let name = key
                    .strip_prefix("Upstream/")
                    .ok_or("the key does not begin with Upstream/")?;
                if let Some(tls) = &upstream.tls {
                    upstream::check_tls(tls, self.tls.tls.provider())?;
                }
                self.tables.upstreams.put(name, upstream, &self.metrics)?;
            }
            Body::Certificate(certificate) => {
                let provider = self.tls.tls.provider();
                let certificate =
                    Certificate::read(&certificate.chain_pem, &certificate.key_pem, provider)?;
                self.tables
                    .certificates
                    .insert(key.into(), Arc::new(certificate));
            }
            Body::Plugin(plugin) if !plugin.references.is_empty() => {
                self.referring.put_plugin(key, plugin);
                progress.waiting.insert(key.into());
                return Ok(Place::Table);
            }
            Body::Plugin(plugin) => {
                self.referring.remove_plugin(key);
                let plugin = self.plugin(key, &plugin, &[]);
                self.tables.plugins.insert(key.into(), Arc::new(plugin));
            }
        }
        progress.structural = true;
        Ok(Place::Table)
    }

    fn credential(
        &mut self,
        key: &str,
        id: KeyId,
        credential: proto::Credential,
        progress: &mut Progress,
    ) -> Result<Place, String> {
        let namespace = key
            .strip_prefix("Credential/")
            .and_then(|rest| rest.split_once('/'))
            .map(|(namespace, _)| namespace)
            .ok_or("the key is not of the form Credential/<namespace>/<name>")?;
        let proof = credential
            .proof
            .ok_or("this version of the proxy does not know this kind of credential")?;
        let consumer = self.consumer_id(credential.consumer);
        let (not_before, expires_at) = (credential.not_before, credential.expires_at);
        match proof {
            Proof::KeyAuth(proof) => {
                let new = NewKey {
                    key: id,
                    namespace,
                    digest: (&*proof.digest)
                        .try_into()
                        .map_err(|_| "the digest is not 32 bytes long")?,
                    id: credential
                        .id
                        .parse()
                        .map_err(|_| format!("id: {:?} is not a UUID", credential.id))?,
                    consumer,
                    not_before,
                    expires_at,
                };
                let slot = self.directory.put_key(&mut progress.changes, &new);
                Ok(Place::Key(slot))
            }
            Proof::Jwt(proof) => {
                let (name, verifier) = (&*proof.key, self.verifier(&proof)?);
                if name.is_empty() || name.chars().any(char::is_control) {
                    return Err("the key is empty or holds control characters".to_owned());
                }
                let new = NewJwt {
                    id,
                    namespace,
                    name,
                    verifier,
                    consumer,
                    not_before,
                    expires_at,
                };
                let slot = self.directory.put_jwt(&mut progress.changes, new);
                Ok(Place::Jwt(slot))
            }
            Proof::Application(proof) => {
                let fields = Fields {
                    id: &credential.id,
                    namespace,
                    consumer,
                    times: (not_before, expires_at),
                };
                let new = applications::read(&proof, id, &fields)?;
                let slot = self.directory.put_application(&mut progress.changes, new);
                Ok(Place::Application(slot))
            }
        }
    }

    /// What verifies the signatures of a credential's tokens.
    fn verifier(&self, proof: &proto::Jwt) -> Result<Verifier, String> {
        let algorithm = Algorithm::from_name(&proof.algorithm).ok_or_else(|| {
            let name = &proof.algorithm;
            format!("this version of the proxy does not know the algorithm {name:?}")
        })?;
        let material = match &proof.verification {
            Some(Verification::Secret(secret)) => Material::Secret(secret),
            Some(Verification::PublicKey(der)) => Material::PublicKey(der),
            Some(Verification::JwksUri(url)) => {
                if algorithm.is_symmetric() {
                    return Err(format!("{algorithm} needs a shared secret, not a key set"));
                }
                return Ok(Verifier::Set(algorithm, self.services.key_sets.of(url)?));
            }
            None => {
                return Err("this version of the proxy cannot verify with this".to_owned());
            }
        };
        VerificationKey::new(algorithm, material).map(Verifier::Key)
    }

    fn consumer_id(&mut self, key: String) -> KeyId {
        match &self.last_consumer {
            (last, Some(id)) if *last == key => *id,
            _ => {
                let id = KeyId::of(&key);
                self.last_consumer = (key, Some(id));
                id
            }
        }
    }

    fn remove(&mut self, id: &KeyId, progress: &mut Progress) {
        let Some(place) = self.inventory.remove(id) else {
            return;
        };
        progress.applied.removed.push(*id);
        match place {
            Place::Consumer => progress.changes.remove_consumer(*id),
            Place::Key(slot) => progress.changes.remove_key(*id, slot),
            Place::Jwt(slot) => progress.changes.remove_jwt(*id, slot),
            Place::Application(slot) => progress.changes.remove_application(*id, slot),
            Place::Table => {
                let Some(key) = self.names.remove(id) else {
                    return;
                };
                progress.structural |= self.remove_from_tables(&key, progress);
                self.refused.remove(&key);
                return;
            }
        }
        if !self.refused.is_empty() {
            self.refused.retain(|key, _| KeyId::of(key) != *id);
        }
    }

    /// True where the runtime has to be built anew.
    fn remove_from_tables(&mut self, key: &str, progress: &mut Progress) -> bool {
        match key.split_once('/') {
            Some(("Endpoints", name)) => {
                self.tables.upstreams.remove_endpoints(name);
                false
            }
            Some(("Upstream", name)) => {
                self.tables.upstreams.remove(name);
                true
            }
            Some(("Listener", _)) => self.tables.listeners.remove(key).is_some(),
            Some(("Route", _)) => self.tables.routes.remove(key).is_some(),
            Some(("Certificate", _)) => self.tables.certificates.remove(key).is_some(),
            Some(("Secret" | "ConfigMap", _)) => {
                progress.waiting.extend(self.referring.remove_value(key));
                false
            }
            Some(("Plugin", _)) => {
                self.referring.remove_plugin(key);
                let plugin = self.tables.plugins.remove_entry(key);
                let structural = plugin.is_some();
                progress.leaving.extend(plugin);
                structural
            }
            _ => false,
        }
    }
}

/// A credential that is elsewhere now, or is none any more, leaves its old place.
fn forget_key(old: Option<Place>, new: Place, id: KeyId, changes: &mut Changes) {
    match old {
        Some(Place::Key(slot)) if new != Place::Key(slot) => changes.remove_key(id, slot),
        Some(Place::Jwt(slot)) if new != Place::Jwt(slot) => changes.remove_jwt(id, slot),
        Some(Place::Application(slot)) if new != Place::Application(slot) => {
            changes.remove_application(id, slot);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
