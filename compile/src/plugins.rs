//! AuthPlugins: what each is, and whether it is fit to be enforced.
//!
//! What cannot be resolved is closed, never left out: a route that names a plugin answers 500 until the plugin is right.

use std::sync::Arc;

use ::plugins::{Config, Reference, Source, Type};
use crds::{
    AuthPluginSpec, ConsumerNamespaces, IfDifferent, NamespacesFrom, SelectorOperator, TargetRef,
};
use serde_json::Value as Json;
use snapshot::proto;
use snapshot::proto::resource::Body as Resource;

use crate::callbacks::Callback;
use crate::findings::{Reasons, in_spec};
use crate::object::{Body, Unreadable};
use crate::pass::Pass;
use crate::selectors::{Operator, Selector, namespaces};
use crate::values::{self, Generated, Missing};
use crate::{Condition, Kind, Object, ObjectRef, StatusBody, WantedSecret};

pub(crate) use crate::attachments::Attachments;

/// An AuthPlugin on its way through a pass.
#[derive(Debug)]
pub(crate) struct Plugin<'a> {
    pub(crate) object: &'a Object,
    pub(crate) key: Arc<str>,
    /// None where nobody can say what it is.
    pub(crate) kind: Option<Type>,
    pub(crate) enabled: bool,
    pub(crate) targets: Vec<TargetRef>,
    /// What it protects besides, where nobody can read what that is.
    pub(crate) unclear: Vec<Unclear>,
    config: Option<Config>,
    spec: Option<&'a AuthPluginSpec>,
    pub(crate) accepted: Reasons,
    pub(crate) resolved: Reasons,
    /// Whether it is in force anywhere.
    pub(crate) attached: bool,
    /// Whether it is attached to more than routes.
    pub(crate) wide: bool,
    /// Why its routes are closed.
    closed: Vec<String>,
    /// What the configuration refers to, as far as it is there.
    values: Vec<Value<'a>>,
    /// Whether the Secret that has its name holds what is generated for it.
    generates: bool,
}

/// A target that cannot be read: it may be any object of the kind, or of any kind where not even that is said.
#[derive(Debug, Default)]
pub(crate) struct Unclear {
    pub(crate) kind: Option<String>,
}

/// A value that a plugin's configuration refers to.
#[derive(Debug)]
struct Value<'a> {
    field: String,
    /// Of the resource that holds it.
    key: String,
    value: &'a [u8],
}

impl<'a> Plugin<'a> {
    /// Reads an object, as far as that goes.
    pub(crate) fn of(object: &'a Object, pass: &mut Pass<'a>) -> Option<Self> {
        let key = key_of(&object.reference.namespace, &object.reference.name).into();
        let mut plugin = Self {
            object,
            key,
            kind: None,
            enabled: true,
            targets: Vec::new(),
            unclear: Vec::new(),
            config: None,
            spec: None,
            accepted: Reasons::default(),
            resolved: Reasons::default(),
            attached: false,
            wide: false,
            closed: Vec::new(),
            values: Vec::new(),
            generates: false,
        };
        match &object.body {
            Body::AuthPlugin(spec) => plugin.read(spec, pass),
            Body::Unreadable(bad) => plugin.salvage(bad, pass),
            _ => return None,
        }
        Some(plugin)
    }

    fn read(&mut self, spec: &'a AuthPluginSpec, pass: &mut Pass<'a>) {
        self.spec = Some(spec);
        self.enabled = spec.enabled;
        self.targets.clone_from(&spec.target_refs);
        let mut configs = spec.configs();
        if let (Some(config), true) = (configs.pop(), configs.is_empty()) {
            self.kind = Some(config.kind());
            self.config = Some(config);
        }
        for problem in spec.check() {
            let field = in_spec(&problem.field);
            pass.findings.error(
                &self.object.reference,
                "InvalidField",
                field.clone(),
                problem.message.clone(),
            );
            let message = format!("{field}: {}", problem.message);
            self.accepted.add("Invalid", message.clone());
            self.closed.push(message);
        }
        let anonymous = self.config.as_ref().and_then(Config::anonymous);
        if let Some(anonymous) = anonymous {
            let namespace = &self.object.reference.namespace;
            if pass
                .inputs
                .find(Kind::Consumer, namespace, &anonymous.name)
                .is_none()
            {
                let message = format!(
                    "Consumer {namespace}/{}, the anonymous one, does not exist",
                    anonymous.name
                );
                let field = self
                    .config
                    .as_ref()
                    .map_or_else(String::new, Config::anonymous_field);
                let field = in_spec(&field);
                pass.findings.error(
                    &self.object.reference,
                    "ConsumerNotFound",
                    field,
                    message.clone(),
                );
                self.resolved.add("ConsumerNotFound", message);
            }
        }
        if self.closed.is_empty() {
            self.resolve(pass);
        }
    }

    /// Looks up what the configuration refers to. What is not there closes the plugin.
    fn resolve(&mut self, pass: &mut Pass<'a>) {
        let references = self
            .config
            .as_ref()
            .map_or_else(Vec::new, Config::references);
        let entries: Vec<_> = references
            .iter()
            .filter_map(|reference| match reference.source {
                Source::Generated(entry) => Some(entry),
                Source::Secret(_) | Source::ConfigMap(_) => None,
            })
            .collect();
        if !entries.is_empty() && !self.generate(&entries, pass) {
            return;
        }
        for Reference { field, source } in references {
            let (object, namespace) = (&self.object.reference, &self.object.reference.namespace);
            let own = |entry: &str| ::plugins::SecretKeyRef {
                name: object.name.to_string(),
                key: entry.to_owned(),
            };
            let found = match &source {
                Source::Secret(at) => values::of_secret(pass.inputs, namespace, at),
                Source::Generated(entry) => values::of_secret(pass.inputs, namespace, &own(entry)),
                Source::ConfigMap(at) => {
                    values::of_config_map(pass.inputs, namespace, at).map(str::as_bytes)
                }
            };
            let key = match &source {
                Source::Secret(at) => format!("Secret/{namespace}/{}/{}", at.name, at.key),
                Source::Generated(entry) => format!("Secret/{namespace}/{}/{entry}", object.name),
                Source::ConfigMap(at) => format!("ConfigMap/{namespace}/{}/{}", at.name, at.key),
            };
            let found = found.and_then(|value| {
                let config = self.config.as_ref();
                match config.and_then(|config| config.check_value(&field, value)) {
                    Some(problem) => Err(Missing::Empty(format!("{key}: {problem}"))),
                    None => Ok(value),
                }
            });
            match found {
                Ok(value) => self.values.push(Value { field, key, value }),
                Err(Missing::Pending(message)) => {
                    self.resolved.add("Pending", message.clone());
                    self.closed.push(message);
                }
                Err(Missing::NotFound(reason, message)) => {
                    self.unresolved(&field, reason, message, pass);
                }
                Err(Missing::Empty(message)) => {
                    self.unresolved(&field, "InvalidValue", message, pass);
                }
            }
        }
    }

    fn unresolved(
        &mut self,
        field: &str,
        reason: &'static str,
        message: String,
        pass: &mut Pass<'_>,
    ) {
        let field = self.block_field(field);
        let findings = &mut pass.findings;
        findings.error(&self.object.reference, reason, field, message.clone());
        self.resolved.add(reason, message.clone());
        self.closed.push(message);
    }

    /// Whether the Secret of generated values is there with all of `entries`; if not, it is asked for.
    fn generate(&mut self, entries: &[&'static str], pass: &mut Pass<'_>) -> bool {
        let ObjectRef {
            namespace, name, ..
        } = &self.object.reference;
        let message = match values::generated(pass.inputs, self.object, entries) {
            Generated::Complete => {
                self.generates = true;
                return true;
            }
            Generated::Lacks(missing) => {
                let what = missing.join(" and ");
                pass.wanted.push(WantedSecret {
                    owner: self.object.reference.clone(),
                    owner_uid: Arc::clone(&self.object.meta.uid),
                    name: Arc::clone(name),
                    entries: missing,
                });
                let message = format!("a {what} is being generated into Secret {namespace}/{name}");
                self.resolved.add("Pending", message.clone());
                self.closed.push(message);
                return false;
            }
            Generated::Foreign => format!(
                "Secret {namespace}/{name} is there already and not owned by this AuthPlugin, so nothing is generated into \
                 it; name a Secret in the configuration, or rename one of them"
            ),
        };
        self.unresolved("", "Conflicted", message, pass);
        false
    }

    fn block_field(&self, field: &str) -> String {
        self.kind.map_or_else(
            || in_spec(field),
            |kind| match field {
                "" => format!("spec.{}", kind.name()),
                item if item.starts_with('[') => format!("spec.{}{item}", kind.name()),
                field => format!("spec.{}.{field}", kind.name()),
            },
        )
    }

    /// Makes out at least what is to be closed.
    fn salvage(&mut self, bad: &Unreadable, pass: &mut Pass<'_>) {
        let reference = &self.object.reference;
        self.enabled = bad
            .spec
            .get("enabled")
            .and_then(Json::as_bool)
            .unwrap_or(true);
        match bad.spec.get("targetRefs") {
            None | Some(Json::Null) => {}
            Some(Json::Array(targets)) => {
                for target in targets {
                    match salvage_target(target) {
                        Some(target) => self.targets.push(target),
                        None => self.unclear.push(Unclear {
                            kind: target.get("kind").and_then(Json::as_str).map(str::to_owned),
                        }),
                    }
                }
            }
            Some(_) => self.unclear.push(Unclear::default()),
        }
        let mut message = format!("{}: {}", bad.field, bad.message);
        message.push_str(if self.unclear.is_empty() {
            "; what it protects is closed until this is right"
        } else {
            "; some of its targetRefs cannot be read either, so all that they may mean in its namespace is closed until \
             this is right"
        });
        pass.findings.error(
            reference,
            "InvalidField",
            bad.field.clone(),
            message.clone(),
        );
        self.accepted.add("Invalid", message.clone());
        self.closed.push(message);
    }

    /// Writes the plugin and its status.
    pub(crate) fn finish(self, pass: &mut Pass<'_>) {
        let programmed = if !self.enabled {
            Condition::no("Programmed", "Disabled", "spec.enabled is false")
        } else if !self.attached && !self.accepted.is_empty() {
            Condition::no(
                "Programmed",
                "Invalid",
                "it is not in force anywhere; see the other conditions",
            )
        } else if self.closed.is_empty() {
            let shares_store = self.config.as_ref().is_some_and(Config::shares_store);
            Condition::programmed([Arc::clone(&self.key)]).sharing_store(shares_store)
        } else {
            Condition::no(
                "Programmed",
                "Invalid",
                "what it protects answers 500 until the object is right",
            )
        };
        if self.attached
            && let Some(config) = &self.config
        {
            let callback = Callback::of(&self.object.reference, &self.key, config, self.wide);
            pass.callbacks.extend(callback);
        }
        if self.enabled {
            let plugin = self.resource(pass);
            pass.resources.put(&self.key, Resource::Plugin(plugin));
        }
        let secret_name = self.generates.then(|| {
            let name: &str = &self.object.reference.name;
            ("secretName", name.into())
        });
        let conditions = vec![
            self.accepted.condition("Accepted", "Accepted"),
            self.resolved.condition("ResolvedRefs", "ResolvedRefs"),
            programmed,
        ];
        pass.findings.status(
            self.object,
            StatusBody::Conditions {
                conditions,
                fields: secret_name.into_iter().collect(),
            },
        );
    }

    fn resource(&self, pass: &mut Pass<'_>) -> proto::Plugin {
        let kind = self.kind.map_or("", Type::name).to_owned();
        let (Some(config), Some(spec), true) = (&self.config, self.spec, self.closed.is_empty())
        else {
            return proto::Plugin {
                r#type: kind,
                closed: self.closed.join("; "),
                ..proto::Plugin::default()
            };
        };
        let own = &self.object.reference.namespace;
        let namespaces = self.namespaces(&spec.consumers, pass);
        self.report_shared_keys(&namespaces, pass);
        for Value { key, value, .. } in &self.values {
            let value = value.to_vec().into();
            let secret = proto::Secret { value };
            pass.resources.put(key, Resource::Secret(secret));
        }
        let references = self.values.iter().map(|value| proto::Reference {
            field: value.field.clone(),
            key: value.key.clone(),
        });
        proto::Plugin {
            r#type: kind,
            config: config.to_json().into(),
            namespaces,
            anonymous: config
                .anonymous()
                .map_or_else(String::new, |name| format!("Consumer/{own}/{}", name.name)),
            closed: String::new(),
            references: references.collect(),
            same_consumer: spec.consumers.if_different == IfDifferent::Refuse,
            id: self.object.id(),
        }
    }

    fn namespaces(&self, consumers: &ConsumerNamespaces, pass: &Pass<'_>) -> Vec<String> {
        let own = self.object.reference.namespace.to_string();
        let all = || namespaces(pass.inputs, pass.settings).into_iter();
        match consumers.from {
            NamespacesFrom::Same => vec![own],
            NamespacesFrom::All => {
                let mut names: Vec<_> = all().map(|name| name.to_string()).chain([own]).collect();
                names.sort_unstable();
                names.dedup();
                names
            }
            NamespacesFrom::Selector => {
                let selector = consumers.selector.as_ref().map(|selector| Selector {
                    labels: selector.match_labels.clone(),
                    expressions: selector
                        .match_expressions
                        .iter()
                        .map(|wanted| {
                            (
                                wanted.key.clone(),
                                operator(wanted.operator),
                                wanted.values.clone(),
                            )
                        })
                        .collect(),
                });
                let fits = |name: &Arc<str>| {
                    selector
                        .as_ref()
                        .is_some_and(|selector| selector.matches_namespace(pass.inputs, name))
                };
                all().filter(fits).map(|name| name.to_string()).collect()
            }
        }
    }

    /// A value that two of the namespaces know is refused by the proxies; its owners should learn why.
    fn report_shared_keys(&self, namespaces: &[String], pass: &mut Pass<'_>) {
        if namespaces.len() < 2 {
            return;
        }
        let kinds = self.config.as_ref().map(Config::credentials);
        for holders in kinds
            .into_iter()
            .flatten()
            .flat_map(|kind| pass.shared_keys.within(kind, namespaces))
        {
            let names: Vec<_> = holders.iter().map(ToString::to_string).collect();
            let message = format!(
                "the same key is known in several namespaces and therefore refused: {}; give each caller a key of its own",
                names.join(", ")
            );
            pass.findings.warning(
                &self.object.reference,
                "SharedKey",
                "spec.consumers",
                message,
            );
        }
    }
}

/// Key of a plugin in the snapshot.
pub(crate) fn key_of(namespace: &str, name: &str) -> String {
    format!("Plugin/{namespace}/{name}")
}

/// A plugin that something names, but that does not exist: it closes what names it.
pub(crate) fn put_missing(pass: &mut Pass<'_>, plugin: &ObjectRef) -> Arc<str> {
    let key: Arc<str> = key_of(&plugin.namespace, &plugin.name).into();
    let closed = format!("{plugin} does not exist");
    pass.resources.put(
        &key,
        Resource::Plugin(proto::Plugin {
            closed,
            ..proto::Plugin::default()
        }),
    );
    key
}

const fn operator(operator: SelectorOperator) -> Operator {
    match operator {
        SelectorOperator::In => Operator::In,
        SelectorOperator::NotIn => Operator::NotIn,
        SelectorOperator::Exists => Operator::Exists,
        SelectorOperator::DoesNotExist => Operator::DoesNotExist,
    }
}

/// A target out of what does not decode; a section that cannot be read means the whole object.
fn salvage_target(target: &Json) -> Option<TargetRef> {
    let text = |name: &str| target.get(name).and_then(Json::as_str).map(str::to_owned);
    Some(TargetRef {
        group: text("group").unwrap_or_default(),
        kind: text("kind")?,
        name: text("name")?,
        namespace: text("namespace"),
        section_name: text("sectionName"),
    })
}
