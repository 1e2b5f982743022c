//! Which plugins are in force where.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::plugins::Type;
use crds::TargetRef;

use crate::classes::Classes;
use crate::grants::{Side, remedy};
use crate::inputs::PLUGINS_ANNOTATION;
use crate::kind::OWN_GROUP;
use crate::object::Body;
use crate::pass::Pass;
use crate::plugins::{Plugin, put_missing};
use crate::{Kind, Object, ObjectRef};

/// Plugins by what they are attached to.
#[derive(Debug, Default)]
pub(crate) struct Attachments(BTreeMap<ObjectRef, Scopes>);

/// The plugins of one object: those of the whole, and those of its listeners or rules.
#[derive(Debug, Default)]
struct Scopes {
    whole: Vec<Attached>,
    sections: BTreeMap<String, Vec<Attached>>,
}

/// A plugin in force.
#[derive(Debug, Clone)]
pub(crate) struct Attached {
    /// None: closed by something that nobody can read. Such a one is never outdone by another.
    kind: Option<Type>,
    key: Arc<str>,
    /// What it is attached to, for people.
    place: Arc<str>,
}

/// A place that a plugin names.
struct Place {
    object: ObjectRef,
    section: Option<String>,
    /// Where it is named, for messages about the plugin.
    field: String,
}

impl Attachments {
    /// Reads all plugins, attaches them, and writes them with their statuses.
    pub(crate) fn collect(pass: &mut Pass<'_>, classes: &Classes) -> Self {
        let inputs = pass.inputs;
        let mut plugins: Vec<_> = inputs
            .all(Kind::AuthPlugin)
            .filter_map(|object| Plugin::of(object, pass))
            .collect();
        // The older wins a place; then the order of the names decides.
        plugins.sort_by(|one, other| age(one.object).cmp(&age(other.object)));
        let mut attachments = Self::default();
        let mut named = attachments.annotations(pass);
        for plugin in &mut plugins {
            let mut places = targets(plugin, pass, classes);
            places.extend(unclear_places(plugin, pass));
            places.extend(named.remove(&plugin.object.reference).unwrap_or_default());
            if plugin.enabled {
                for place in places {
                    attachments.attach(plugin, place, pass);
                }
            }
        }
        for plugin in plugins {
            plugin.finish(pass);
        }
        attachments
    }

    /// Reads the annotations of routes, Services and Consumers. What they name in vain is closed at once.
    fn annotations(&mut self, pass: &mut Pass<'_>) -> BTreeMap<ObjectRef, Vec<Place>> {
        let inputs = pass.inputs;
        let annotated = [
            Kind::Ingress,
            Kind::HttpRoute,
            Kind::GrpcRoute,
            Kind::Service,
        ]
        .into_iter()
        .flat_map(|kind| inputs.all(kind))
        .chain(inputs.annotated_consumers());
        let mut named: BTreeMap<ObjectRef, Vec<Place>> = BTreeMap::new();
        for object in annotated {
            let Some(names) = object.meta.annotations.get(PLUGINS_ANNOTATION) else {
                continue;
            };
            for name in names
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
            {
                let plugin = ObjectRef::new(Kind::AuthPlugin, &object.reference.namespace, name);
                if inputs.of(&plugin).is_some() {
                    let field = format!("annotation {PLUGINS_ANNOTATION} of {}", object.reference);
                    let place = Place {
                        object: object.reference.clone(),
                        section: None,
                        field,
                    };
                    named.entry(plugin).or_default().push(place);
                } else {
                    let message =
                        format!("{plugin} does not exist; what names it is closed until it does");
                    let field = format!("metadata.annotations[{PLUGINS_ANNOTATION}]");
                    pass.findings
                        .error(&object.reference, "PluginNotFound", field, message);
                    let key = put_missing(pass, &plugin);
                    let place = place_of(&object.reference, None);
                    self.push(
                        &object.reference,
                        None,
                        Attached {
                            kind: None,
                            key,
                            place,
                        },
                    );
                }
            }
        }
        named
    }

    fn attach(&mut self, plugin: &mut Plugin<'_>, place: Place, pass: &mut Pass<'_>) {
        if place.object.kind == Kind::Consumer
            && plugin
                .kind
                .is_some_and(|kind| !kind.attaches_to_consumers())
        {
            let message = format!(
                "{}: only acl and upstreamOauth can be attached to a Consumer",
                place.field
            );
            pass.findings.error(
                &plugin.object.reference,
                "Invalid",
                place.field,
                message.clone(),
            );
            plugin.accepted.add("Invalid", message);
            return;
        }
        let attached = Attached {
            kind: plugin.kind,
            key: Arc::clone(&plugin.key),
            place: place_of(&place.object, place.section.as_deref()),
        };
        let there = self.at(&place.object, place.section.as_deref());
        if there.iter().any(|other| other.key == attached.key) {
            return;
        }
        let older = there
            .iter()
            .find(|other| other.kind == attached.kind && other.kind.is_some());
        if let Some(older) = older {
            let message = format!(
                "{} has a plugin of this type already, the older AuthPlugin {}; remove one of them",
                attached.place,
                older.key.trim_start_matches("Plugin/")
            );
            pass.findings.error(
                &plugin.object.reference,
                "Conflicted",
                place.field,
                message.clone(),
            );
            plugin.accepted.add("Conflicted", message);
            return;
        }
        plugin.attached = true;
        plugin.wide |= !place.object.kind.is_route();
        self.push(&place.object, place.section, attached);
    }

    fn push(&mut self, object: &ObjectRef, section: Option<String>, attached: Attached) {
        let scopes = self.0.entry(object.clone()).or_default();
        match section {
            None => scopes.whole.push(attached),
            Some(section) => scopes.sections.entry(section).or_default().push(attached),
        }
    }

    /// What is attached to an object, or to a listener or rule of it.
    pub(crate) fn at(&self, object: &ObjectRef, section: Option<&str>) -> &[Attached] {
        let Some(scopes) = self.0.get(object) else {
            return &[];
        };
        match section {
            None => &scopes.whole,
            Some(section) => scopes.sections.get(section).map_or(&[], Vec::as_slice),
        }
    }

    /// Keys of what is attached to an object as a whole, in running order.
    pub(crate) fn keys_of(&self, object: &ObjectRef) -> Vec<String> {
        Merged::narrowest(&[self.at(object, None)]).keys
    }

    /// Keys of the plugins of each Consumer that has any.
    pub(crate) fn of_consumers(&self) -> BTreeMap<ObjectRef, Vec<String>> {
        let consumers = self.0.keys().filter(|object| object.kind == Kind::Consumer);
        consumers
            .map(|object| (object.clone(), self.keys_of(object)))
            .collect()
    }
}

/// Plugins of several scopes in one list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Merged {
    /// In running order; those that nobody can read come first.
    pub(crate) keys: Vec<String>,
    /// What each is attached to, for people.
    pub(crate) places: Vec<String>,
    /// Something that nobody can read closes all this.
    pub(crate) deny: bool,
}

impl Merged {
    /// The narrowest of each type, where `scopes` go from narrow to wide.
    pub(crate) fn narrowest(scopes: &[&[Attached]]) -> Self {
        let mut kept: Vec<&Attached> = Vec::new();
        for scope in scopes {
            let before = kept.len();
            for attached in *scope {
                let narrower = kept.iter().take(before);
                if attached.kind.is_none()
                    || !narrower
                        .into_iter()
                        .any(|other| other.kind == attached.kind)
                {
                    kept.push(attached);
                }
            }
        }
        kept.sort_by(|one, other| (one.kind, &one.key).cmp(&(other.kind, &other.key)));
        kept.dedup_by(|one, other| one.key == other.key);
        Self {
            deny: kept.iter().any(|attached| attached.kind.is_none()),
            places: kept
                .iter()
                .map(|attached| attached.place.to_string())
                .collect(),
            keys: kept
                .into_iter()
                .map(|attached| attached.key.to_string())
                .collect(),
        }
    }

    /// Of `wide`, what no narrower scope has a type of.
    pub(crate) fn without<'a>(wide: &'a [Attached], narrow: &[&[Attached]]) -> Vec<Attached> {
        let outdone = |attached: &&'a Attached| {
            attached.kind.is_some()
                && narrow
                    .iter()
                    .any(|scope| scope.iter().any(|own| own.kind == attached.kind))
        };
        wide.iter()
            .filter(|attached| !outdone(attached))
            .cloned()
            .collect()
    }
}

fn place_of(object: &ObjectRef, section: Option<&str>) -> Arc<str> {
    match section {
        None => object.to_string().into(),
        Some(section) => format!("{object} ({section})").into(),
    }
}

fn age(object: &Object) -> (i64, &str, &str) {
    (
        object.meta.created,
        &object.reference.namespace,
        &object.reference.name,
    )
}

/// What a targetRef may name.
const TARGETS: [Kind; 8] = [
    Kind::GatewayClass,
    Kind::Gateway,
    Kind::HttpRoute,
    Kind::GrpcRoute,
    Kind::IngressClass,
    Kind::Ingress,
    Kind::Service,
    Kind::Consumer,
];

/// The places that targetRefs may mean which nobody can read: never more than the plugin's namespace, unless they say that
/// they mean a class.
fn unclear_places(plugin: &Plugin<'_>, pass: &Pass<'_>) -> Vec<Place> {
    let namespace = &plugin.object.reference.namespace;
    let means = |kind: &Kind| {
        plugin
            .unclear
            .iter()
            .any(|unclear| match unclear.kind.as_deref() {
                Some(name) if TARGETS.iter().any(|known| known.kind() == name) => {
                    kind.kind() == name
                }
                _ => kind.namespaced(),
            })
    };
    TARGETS
        .into_iter()
        .filter(means)
        .flat_map(|kind| pass.inputs.all(kind))
        .map(|object| &object.reference)
        .filter(|object| !object.kind.namespaced() || object.namespace == *namespace)
        .map(|object| Place {
            object: object.clone(),
            section: None,
            field: "spec.targetRefs".to_owned(),
        })
        .collect()
}

/// The places that a plugin's own targetRefs name.
fn targets(plugin: &mut Plugin<'_>, pass: &mut Pass<'_>, classes: &Classes) -> Vec<Place> {
    let mut places = Vec::new();
    for (index, target) in std::mem::take(&mut plugin.targets).into_iter().enumerate() {
        let field = format!("spec.targetRefs[{index}]");
        match resolve(plugin.object, &target, pass, classes) {
            Ok(object) => places.push(Place {
                object,
                section: target.section_name,
                field,
            }),
            Err((reason, message)) => {
                pass.findings
                    .error(&plugin.object.reference, reason, field, message.clone());
                plugin.accepted.add(reason, message);
            }
        }
    }
    places
}

fn resolve(
    plugin: &Object,
    target: &TargetRef,
    pass: &Pass<'_>,
    classes: &Classes,
) -> Result<ObjectRef, (&'static str, String)> {
    const NOT_FOUND: &str = "TargetNotFound";
    let (group, kind) = (target.group.as_str(), target.kind.as_str());
    let kind = TARGETS
        .into_iter()
        .find(|known| known.group() == group && known.kind() == kind)
        .ok_or_else(|| {
            let message = format!("a plugin cannot protect kind {kind} of group {group:?}");
            (NOT_FOUND, message)
        })?;
    let own = &*plugin.reference.namespace;
    let namespace = target
        .namespace
        .as_deref()
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or(own);
    let reference = ObjectRef::new(kind, namespace, &target.name);
    if kind.namespaced() {
        let from = Side {
            group: OWN_GROUP,
            kind: "AuthPlugin",
            namespace: own,
        };
        let to = Side {
            group: kind.group(),
            kind: kind.kind(),
            namespace,
        };
        if !pass.grants.permit(from, to, &target.name) {
            return Err((
                "RefNotPermitted",
                format!("{reference}: {}", remedy(from, to)),
            ));
        }
    }
    let usual = match kind {
        Kind::GatewayClass => classes.has_gateway_class(&target.name),
        Kind::IngressClass => classes.has_ingress_class(&target.name),
        _ => false,
    };
    match pass.inputs.of(&reference) {
        Some(object) => match target.section_name.as_deref() {
            Some(section) if !has_section(object, section) => {
                let part = if kind == Kind::Gateway {
                    "listener"
                } else {
                    "rule"
                };
                Err((
                    NOT_FOUND,
                    format!("{reference} has no {part} named {section:?}"),
                ))
            }
            _ => Ok(reference),
        },
        None if usual => Ok(reference),
        None => Err((NOT_FOUND, format!("{reference} does not exist"))),
    }
}

fn has_section(object: &Object, section: &str) -> bool {
    match &object.body {
        Body::Gateway(gateway) => gateway
            .listeners
            .iter()
            .any(|listener| listener.name == section),
        Body::HttpRoute(route) => route
            .rules
            .iter()
            .flatten()
            .any(|rule| rule.name.as_deref() == Some(section)),
        // What cannot be read may have it.
        Body::Unreadable(_) => true,
        _ => false,
    }
}
