//! From objects to the snapshot, one change at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use snapshot::proto::resource::Body as Resource;
use snapshot::{Diff, Entry, Set};

use crate::consumers::{self, Claims};
use crate::dirty::Dirty;
use crate::endpoint_slices;
use crate::findings::Findings;
use crate::inputs::Inputs;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::pass::{self, Kept, Outcome, encode};
use crate::services::{Origin, Target, upstream_name};
use crate::{
    Diagnostic, Kind, Object, ObjectRef, ObjectStatus, Settings, Update, WantedSecret, credentials,
};

/// Holds the objects and what followed from them.
#[derive(Debug)]
pub struct Compiler {
    settings: Settings,
    inputs: Inputs,
    snapshot: Set,
    dirty: Dirty,
    kept: Kept,
    claims: Claims,
    keys: Keys,
    /// Of the last pass; its diagnostics and statuses are in the ledger.
    outcome: Outcome,
    ledger: Ledger,
    wanted: BTreeMap<ObjectRef, WantedSecret>,
    diagnostics: Arc<[Diagnostic]>,
}

/// What an update collects before it is compared with what is in force.
#[derive(Debug, Default)]
struct Changes {
    resources: BTreeMap<Arc<str>, Option<Entry>>,
    statuses: BTreeMap<ObjectRef, ObjectStatus>,
    dropped: BTreeSet<ObjectRef>,
}

impl Compiler {
    /// A compiler that has seen no object yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            inputs: Inputs::default(),
            snapshot: Set::default(),
            dirty: Dirty {
                everything: true,
                ..Dirty::default()
            },
            kept: Kept::default(),
            claims: Claims::default(),
            keys: Keys::default(),
            outcome: Outcome::default(),
            ledger: Ledger::default(),
            wanted: BTreeMap::new(),
            diagnostics: Arc::new([]),
        }
    }

    pub(crate) const fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    pub(crate) const fn claims(&self) -> &Claims {
        &self.claims
    }

    pub(crate) const fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) const fn dirty(&self) -> &Dirty {
        &self.dirty
    }

    pub(crate) fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// What it was told about where it runs.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes an object in; false where nothing that matters changed (resourceVersion, managedFields, status …).
    ///
    /// In a cluster the data of a Secret that nothing needs are dropped.
    pub fn apply(&mut self, mut object: Object) -> bool {
        let reference = object.reference.clone();
        if reference.kind == Kind::Secret
            && !self.settings.standalone
            && !object.is_credential_secret()
            && !self.inputs.is_referred_to(&reference)
        {
            object.drop_secret_data();
        }
        let Some(old) = self.inputs.apply(object) else {
            return false;
        };
        self.changed(&reference, old.as_ref());
        true
    }

    /// Forgets an object; false where it was not there.
    pub fn delete(&mut self, object: &ObjectRef) -> bool {
        let Some(old) = self.inputs.delete(object) else {
            return false;
        };
        self.changed(object, Some(&old));
        true
    }

    fn changed(&mut self, reference: &ObjectRef, old: Option<&Object>) {
        if reference.kind == Kind::Secret {
            self.kept.certificates.forget(reference);
        }
        self.dirty
            .changed(&self.inputs, &self.settings, reference, old);
        if let Some(old) = old.filter(|_| !self.settings.standalone) {
            self.inputs.drop_needless_data(old);
        }
    }

    /// Whether the data of this Secret are needed: something refers to it, or its label says that it is a Credential.
    /// A watcher drops the data of others before it hands them in, and fetches them when a reference appears.
    #[must_use]
    pub fn needs_secret(&self, namespace: &str, name: &str) -> bool {
        self.settings.standalone
            || self
                .inputs
                .needs_secret(&ObjectRef::new(Kind::Secret, namespace, name))
    }

    /// Secrets that are needed, exist, and whose data were dropped: to be fetched now.
    #[must_use]
    pub fn missing_secret_data(&self) -> Vec<ObjectRef> {
        self.inputs.missing_secret_data().cloned().collect()
    }

    /// What changed since the last call. Costs what changed for Credentials and Endpoints; routes, listeners and
    /// plugins are recompiled as a whole.
    pub fn update(&mut self) -> Update {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut changes = Changes::default();
        self.settle_claims(&mut dirty);
        if dirty.everything {
            self.run_pass(&mut dirty, &mut changes);
        }
        for service in &dirty.services {
            self.compile_endpoints(service, &mut changes);
        }
        for credential in &dirty.credentials {
            self.compile_credential(credential, &mut changes);
        }
        for consumer in &dirty.consumers {
            self.compile_consumer(consumer, &mut changes);
        }
        for reference in &dirty.unreadable {
            self.report_unreadable(reference, &mut changes);
        }
        if self.ledger.take_changed() {
            self.diagnostics = self.ledger.diagnostics();
        }
        Update {
            diff: self.commit(changes.resources),
            statuses: changes.statuses,
            dropped_statuses: changes.dropped.into_iter().collect(),
            diagnostics: Arc::clone(&self.diagnostics),
            wanted_secrets: self
                .wanted
                .values()
                .chain(&self.outcome.wanted)
                .cloned()
                .collect(),
            gateway_services: self.outcome.gateway_services.clone(),
        }
    }

    /// The whole snapshot in force.
    #[must_use]
    pub const fn snapshot(&self) -> &Set {
        &self.snapshot
    }

    /// What the next update would compile.
    #[cfg(test)]
    pub(crate) const fn would_compile(&self) -> &Dirty {
        &self.dirty
    }

    /// Who has which name and key now, and whose standing that changes.
    fn settle_claims(&mut self, dirty: &mut Dirty) {
        for credential in dirty.credentials.clone() {
            let held = credentials::held(&self.inputs, &credential);
            let touched = self.keys.set(&credential, held);
            dirty.credentials.extend(touched.credentials);
            dirty.consumers.extend(touched.consumers);
            dirty.everything |= touched.shared;
        }
        for consumer in dirty.consumers.clone() {
            let touched = self.claims.set(&consumer, self.inputs.of(&consumer));
            for rival in touched {
                dirty.credentials_of(&self.inputs, &rival);
                dirty.consumers.insert(rival);
            }
        }
    }

    fn run_pass(&mut self, dirty: &mut Dirty, changes: &mut Changes) {
        let new = pass::run(
            &self.inputs,
            &self.settings,
            self.keys.shared(),
            &mut self.kept,
        );
        let old = std::mem::take(&mut self.outcome);
        for key in old
            .resources
            .0
            .keys()
            .filter(|key| !new.resources.0.contains_key(*key))
        {
            changes.resources.insert(Arc::clone(key), None);
        }
        for (key, entry) in &new.resources.0 {
            changes
                .resources
                .insert(Arc::clone(key), Some(entry.clone()));
        }
        for (service, ports) in &old.upstreams {
            let kept = new.upstreams.get(service);
            for port in ports
                .keys()
                .filter(|port| kept.is_none_or(|kept| !kept.contains_key(port)))
            {
                changes
                    .resources
                    .insert(endpoints_key(service, *port), None);
            }
        }
        let moved = new
            .upstreams
            .iter()
            .filter(|(service, ports)| old.upstreams.get(*service) != Some(*ports));
        dirty
            .services
            .extend(moved.map(|(service, _)| service.clone()));
        let both = old
            .consumer_plugins
            .keys()
            .chain(new.consumer_plugins.keys());
        let differ =
            both.filter(|key| old.consumer_plugins.get(*key) != new.consumer_plugins.get(*key));
        dirty.consumers.extend(differ.cloned());
        self.outcome = new;
        let findings = std::mem::take(&mut self.outcome.findings);
        self.ledger
            .whole(findings, &mut changes.statuses, &mut changes.dropped);
    }

    fn compile_endpoints(&self, service: &(Arc<str>, Arc<str>), changes: &mut Changes) {
        let (namespace, name) = service;
        let ports = self.outcome.upstreams.get(service).into_iter().flatten();
        for (port, Target { origin, .. }) in ports {
            let key = endpoints_key(service, *port);
            let endpoints = match origin {
                Origin::Slices {
                    port_name,
                    six_first,
                } => Some(endpoint_slices::endpoints(
                    self.inputs.slices(namespace, name),
                    port_name,
                    *six_first,
                )),
                Origin::Address(address) => Some(endpoint_slices::fixed(*address, *port)),
                Origin::Name(_) => None,
            };
            let entry = endpoints.map(|endpoints| encode(&key, Resource::Endpoints(endpoints)));
            changes.resources.insert(key, entry);
        }
    }

    fn compile_credential(&mut self, reference: &ObjectRef, changes: &mut Changes) {
        let mut findings = Findings::default();
        let object = self.inputs.of(reference);
        let compiled = object
            .filter(|object| {
                object.reference.kind == Kind::Credential || object.is_credential_secret()
            })
            .map(|object| {
                credentials::compile(
                    object,
                    &self.inputs,
                    &self.keys,
                    &self.claims,
                    &mut findings,
                )
            })
            .unwrap_or_default();
        let key: Arc<str> = credentials::key_of(reference).into();
        let entry = compiled
            .credential
            .map(|credential| encode(&key, Resource::Credential(credential)));
        changes.resources.insert(key, entry);
        match compiled.wanted {
            Some(wanted) => self.wanted.insert(reference.clone(), wanted),
            None => self.wanted.remove(reference),
        };
        self.ledger.single(
            reference,
            findings,
            &mut changes.statuses,
            &mut changes.dropped,
        );
    }

    fn compile_consumer(&mut self, reference: &ObjectRef, changes: &mut Changes) {
        let mut findings = Findings::default();
        let plugins = self
            .outcome
            .consumer_plugins
            .get(reference)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let consumer = self.inputs.of(reference).and_then(|object| {
            consumers::compile(
                object,
                &self.claims,
                plugins,
                self.keys.count(reference),
                &mut findings,
            )
        });
        let key: Arc<str> = consumers::key_of(&reference.namespace, &reference.name).into();
        let entry = consumer.map(|consumer| encode(&key, Resource::Consumer(consumer)));
        changes.resources.insert(key, entry);
        self.ledger.single(
            reference,
            findings,
            &mut changes.statuses,
            &mut changes.dropped,
        );
    }

    /// Says why an object of Kubernetes' own kinds has no effect.
    fn report_unreadable(&mut self, reference: &ObjectRef, changes: &mut Changes) {
        let mut findings = Findings::default();
        if let Some(bad) = self.inputs.of(reference).and_then(Object::unreadable) {
            findings.error(
                reference,
                "InvalidField",
                bad.field.clone(),
                bad.message.clone(),
            );
        }
        self.ledger.single(
            reference,
            findings,
            &mut changes.statuses,
            &mut changes.dropped,
        );
    }

    /// Puts the changes in force, and returns those that are any.
    fn commit(&mut self, resources: BTreeMap<Arc<str>, Option<Entry>>) -> Diff {
        let mut diff = Diff::default();
        for (key, entry) in resources {
            match entry {
                Some(entry) => {
                    let changed = self.snapshot.insert(Arc::clone(&key), entry.clone());
                    changed.then(|| diff.upserts.insert(key, entry));
                }
                None if self.snapshot.remove(&key) => diff.removals.push(key),
                None => {}
            }
        }
        diff
    }
}

fn endpoints_key((namespace, name): &(Arc<str>, Arc<str>), port: u16) -> Arc<str> {
    format!("Endpoints/{}", upstream_name(namespace, name, port)).into()
}
