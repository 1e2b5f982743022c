//! Plugins made ready to run, and the values that they refer to.
//!
//! A value has its own resource, so that the rotation of a Secret is one small change; the plugins that refer to it are made
//! anew then. Within a delta they wait until everything is there, whatever the order in which it came.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use plugins::handler::{BuildContext, Handler, Values};
use snapshot::proto;

use super::{Progress, State};
use crate::runtime::ChainPlugin;

/// What plugins refer to, and the plugins that do.
#[derive(Default)]
pub(super) struct Referring {
    plugins: BTreeMap<Box<str>, Arc<proto::Plugin>>,
    values: HashMap<Box<str>, Bytes>,
}

/// Values are secret.
impl std::fmt::Debug for Referring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Referring")
            .field("plugins", &self.plugins.keys())
            .field("values", &self.values.len())
            .finish()
    }
}

impl Referring {
    pub(super) fn put_plugin(&mut self, key: &str, plugin: proto::Plugin) {
        self.plugins.insert(key.into(), Arc::new(plugin));
    }

    pub(super) fn remove_plugin(&mut self, key: &str) {
        self.plugins.remove(key);
    }

    /// Returns who refers to the value.
    pub(super) fn put_value(&mut self, key: &str, value: Bytes) -> BTreeSet<Box<str>> {
        self.values.insert(key.into(), value);
        self.users(key)
    }

    /// Returns who refers to the value.
    pub(super) fn remove_value(&mut self, key: &str) -> BTreeSet<Box<str>> {
        self.values.remove(key);
        self.users(key)
    }

    fn users(&self, value: &str) -> BTreeSet<Box<str>> {
        let refers = |plugin: &proto::Plugin| plugin.references.iter().any(|one| one.key == value);
        let users = self.plugins.iter().filter(|(_, plugin)| refers(plugin));
        users.map(|(key, _)| key.clone()).collect()
    }

    /// The values of a plugin that are there, by field.
    fn values_of(&self, plugin: &proto::Plugin) -> Vec<(String, Bytes)> {
        let found = plugin.references.iter().filter_map(|one| {
            let value = self.values.get(one.key.as_str())?;
            Some((one.field.clone(), value.clone()))
        });
        found.collect()
    }
}

impl State {
    /// Makes a plugin that refers to values, if it is still there.
    pub(super) fn build_referring(&mut self, key: &str, progress: &mut Progress) {
        let Some(plugin) = self.referring.plugins.get(key).map(Arc::clone) else {
            return;
        };
        let values = self.referring.values_of(&plugin);
        let made = self.plugin(key, &plugin, &values);
        self.tables.plugins.insert(key.into(), Arc::new(made));
        progress.structural = true;
    }

    /// Makes a plugin ready to run. One that is closed, or cannot be understood, refuses every request.
    pub(super) fn plugin(
        &mut self,
        key: &str,
        from: &proto::Plugin,
        values: &[(String, Bytes)],
    ) -> ChainPlugin {
        let name: Arc<str> = key.strip_prefix("Plugin/").unwrap_or(key).into();
        let kind = plugins::Type::from_name(&from.r#type);
        let handler = if from.closed.is_empty() {
            let namespaces = self
                .directory
                .namespaces(from.namespaces.iter().map(String::as_str));
            let anonymous = (!from.anonymous.is_empty()).then_some(from.anonymous.as_str());
            plugins::Config::from_json(&from.r#type, &from.config)
                .map_err(|error| error.to_string())
                .and_then(|config| {
                    Handler::build(
                        config,
                        BuildContext {
                            key,
                            // A control plane that tells no ids tells plugins apart by their names.
                            id: if from.id.is_empty() { key } else { &from.id },
                            namespaces,
                            anonymous,
                            values: Values::new(values),
                            services: &self.services,
                        },
                    )
                })
                .inspect_err(|reason| {
                    tracing::warn!(key, reason, "refused; its routes are closed");
                    self.refused.insert(key.into(), reason.clone());
                })
        } else {
            Err(from.closed.clone())
        };
        if handler.is_ok() {
            self.refused.remove(key);
        }
        let metrics = self
            .metrics
            .plugin(&name, kind.map_or("", plugins::Type::name));
        ChainPlugin {
            name,
            kind,
            handler: handler.map(Arc::new).map_err(Arc::from),
            same_consumer: from.same_consumer,
            metrics,
        }
    }

    /// A plugin that could not even be read.
    pub(super) fn closed_plugin(&self, key: &str, reason: Arc<str>) -> ChainPlugin {
        let name: Arc<str> = key.strip_prefix("Plugin/").unwrap_or(key).into();
        let metrics = self.metrics.plugin(&name, "");
        ChainPlugin {
            name,
            kind: None,
            handler: Err(reason),
            same_consumer: false,
            metrics,
        }
    }
}
