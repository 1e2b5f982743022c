//! HTTPRoutes, GRPCRoutes and TLSRoutes: where they attach, and what their rules say.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteParentRefs, HttpRouteRules, HttpRouteSpec,
};
use serde_json::Value;
use snapshot::proto::resource::Body as Resource;
use snapshot::proto::{self, Attachment, Rule, path_match};

use crate::attachments::Merged;
use crate::findings::{Findings, Reasons};
use crate::gateways::{Gateways, Parent};
use crate::http_filters::Refusal;
use crate::kind::GATEWAY_GROUP;
use crate::object::{Body, decode};
use crate::pass::Pass;
use crate::plugins::Attachments;
use crate::route_filters::Place;
use crate::{
    Condition, Kind, Object, ObjectRef, ParentStatus, StatusBody, durations, hostnames,
    http_matches, retries,
};

/// Where a route attaches to a Gateway: the listeners by index, for their counts, and those that are served.
type Attached = (Vec<usize>, Vec<Attachment>);

/// What came of a route's rules, for its status.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) accepted: Reasons,
    pub(crate) resolved: Reasons,
}

impl Verdict {
    /// A value that is not supported.
    pub(crate) fn refuse(
        &mut self,
        findings: &mut Findings,
        object: &Object,
        reason: &'static str,
        field: &str,
        message: &str,
    ) {
        findings.error(&object.reference, reason, field, message);
        self.accepted.add(reason, format!("{field}: {message}"));
    }

    /// A reference that leads nowhere.
    pub(crate) fn unresolved(
        &mut self,
        findings: &mut Findings,
        object: &Object,
        reason: &'static str,
        field: &str,
        message: &str,
    ) {
        findings.error(&object.reference, reason, field, message);
        self.resolved.add(reason, format!("{field}: {message}"));
    }
}

impl Pass<'_> {
    pub(crate) fn http_routes(&mut self, gateways: &mut Gateways<'_>, attachments: &Attachments) {
        let inputs = self.inputs;
        let kinds = [Kind::HttpRoute, Kind::GrpcRoute, Kind::TlsRoute];
        for object in kinds.into_iter().flat_map(|kind| inputs.all(kind)) {
            match &object.body {
                Body::HttpRoute(spec) => self.http_route(object, spec, gateways, attachments),
                Body::Unreadable(bad) => {
                    self.findings.error(
                        &object.reference,
                        "UnsupportedValue",
                        bad.field.clone(),
                        bad.message.clone(),
                    );
                    let parents = bad.spec.get("parentRefs").cloned().unwrap_or_default();
                    let parents: Vec<HttpRouteParentRefs> =
                        decode("spec.parentRefs", parents).unwrap_or_default();
                    let message = format!("{}: {}", bad.field, bad.message);
                    let ours = parents.iter().filter(|parent| {
                        parent_of(object, parent)
                            .is_some_and(|parent| gateways.find(&parent).is_some())
                    });
                    let parents: Vec<_> = ours
                        .map(|parent| ParentStatus {
                            parent_ref: serde_json::to_value(parent).unwrap_or_default(),
                            conditions: vec![Condition::no(
                                "Accepted",
                                "UnsupportedValue",
                                message.clone(),
                            )],
                        })
                        .collect();
                    if !parents.is_empty() {
                        self.findings.status(object, StatusBody::Route { parents });
                    }
                }
                _ => {}
            }
        }
    }

    fn http_route(
        &mut self,
        object: &Object,
        spec: &HttpRouteSpec,
        gateways: &mut Gateways<'_>,
        attachments: &Attachments,
    ) {
        let mut verdict = Verdict::default();
        let own_hostnames = self.hostnames(object, spec, &mut verdict);
        let mut attached: Vec<Attachment> = Vec::new();
        let mut parents: Vec<(Value, Reasons)> = Vec::new();
        let mut named: Vec<ObjectRef> = Vec::new();
        for parent in spec.parent_refs.iter().flatten() {
            let Some(reference) = parent_of(object, parent) else {
                continue;
            };
            let Some(found) = gateways.find(&reference) else {
                // Nobody's, or another controller's: its status is not ours to write.
                continue;
            };
            named.push(found.gateway.0.reference.clone());
            let mut reasons = Reasons::default();
            let found = self.attach(object, parent, found, own_hostnames.as_deref());
            match found {
                Ok((listeners, mut new)) => {
                    gateways.count(&reference, &listeners);
                    new.retain(|new| !attached.iter().any(|old| old.listener == new.listener));
                    attached.extend(new);
                }
                Err((reason, message)) => reasons.add(reason, message),
            }
            parents.push((serde_json::to_value(parent).unwrap_or_default(), reasons));
        }
        if parents.is_empty() {
            return;
        }
        self.parents = named;
        let rules = self.rules(object, spec, attachments, &mut verdict);
        self.parents.clear();
        if !attached.is_empty() {
            attached.sort_by(|one, other| one.listener.cmp(&other.listener));
            self.put_route(object, attached, rules);
        }
        let statuses = parents.into_iter().map(|(parent_ref, reasons)| {
            if !reasons.is_empty() {
                let condition = reasons.condition("Accepted", "Accepted");
                let message = format!("parent {}: {}", parent_name(&parent_ref), condition.message);
                self.findings.error(
                    &object.reference,
                    condition.reason,
                    "spec.parentRefs",
                    message,
                );
            }
            let why = if reasons.is_empty() {
                &verdict.accepted
            } else {
                &reasons
            };
            let accepted = why.condition("Accepted", "Accepted");
            let resolved = verdict.resolved.condition("ResolvedRefs", "ResolvedRefs");
            ParentStatus {
                parent_ref,
                conditions: vec![accepted, resolved],
            }
        });
        let parents = statuses.collect();
        self.findings.status(object, StatusBody::Route { parents });
    }

    /// Writes a route.
    pub(crate) fn put_route(
        &mut self,
        object: &Object,
        attachments: Vec<Attachment>,
        rules: Vec<Rule>,
    ) {
        let reference = &object.reference;
        let kind = reference.kind.kind();
        let route = proto::Route {
            kind: kind.to_owned(),
            namespace: reference.namespace.to_string(),
            name: reference.name.to_string(),
            created: object.meta.created,
            attachments,
            rules,
        };
        for callback in &mut self.callbacks {
            callback.see(&route);
        }
        let key = format!("Route/{kind}/{}/{}", reference.namespace, reference.name);
        self.resources.put(&key, Resource::Route(route));
    }

    /// The valid hostnames in lower case; none where the route names none at all.
    fn hostnames(
        &mut self,
        object: &Object,
        spec: &HttpRouteSpec,
        verdict: &mut Verdict,
    ) -> Option<Vec<String>> {
        let names = spec
            .hostnames
            .as_deref()
            .filter(|names| !names.is_empty())?;
        let mut valid = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let name = name.to_ascii_lowercase();
            if hostnames::is_valid(&name) {
                valid.push(name);
            } else {
                let field = format!("spec.hostnames[{index}]");
                let message = format!(
                    "{name:?} is no DNS name, nor one behind \"*.\" (no ports, no addresses)"
                );
                verdict.refuse(
                    &mut self.findings,
                    object,
                    "UnsupportedValue",
                    &field,
                    &message,
                );
            }
        }
        Some(valid)
    }

    /// The listeners of a Gateway that a route attaches to.
    fn attach(
        &self,
        object: &Object,
        parent: &HttpRouteParentRefs,
        gateway: &Parent<'_>,
        own_hostnames: Option<&[String]>,
    ) -> Result<Attached, (&'static str, String)> {
        let name = &gateway.object.reference;
        let mut named = gateway
            .listeners
            .iter()
            .enumerate()
            .filter(|(_, listener)| {
                parent
                    .section_name
                    .as_ref()
                    .is_none_or(|section| *section == listener.spec.name)
            })
            .filter(|(_, listener)| parent.port.is_none_or(|port| port == listener.spec.port))
            .peekable();
        if named.peek().is_none() {
            return Err(("NoMatchingParent", format!("{name} has no such listener")));
        }
        let route_namespace = &object.reference.namespace;
        let mut allowed = named
            .filter(|(_, listener)| {
                let allowed = &listener.allowed;
                allowed.route(self.inputs, object.reference.kind, route_namespace)
            })
            .peekable();
        if allowed.peek().is_none() {
            let message = format!(
                "the listeners of {name} do not allow {}s of namespace {route_namespace} (allowedRoutes)",
                object.reference.kind
            );
            return Err(("NotAllowedByListeners", message));
        }
        let mut indices = Vec::new();
        let mut attachments = Vec::new();
        for (index, listener) in allowed {
            let mut common: Vec<String> = match own_hostnames {
                None => vec![listener.hostname.clone()],
                Some(names) => names
                    .iter()
                    .filter_map(|name| hostnames::intersection(&listener.hostname, name))
                    .collect(),
            };
            common.sort_unstable();
            common.dedup();
            if common.is_empty() {
                continue;
            }
            indices.push(index);
            if listener.is_usable() && !gateway.is_refused() {
                attachments.push(Attachment {
                    listener: listener.key.clone(),
                    hostnames: common,
                });
            }
        }
        if indices.is_empty() {
            let message = format!("no hostname of the route is one of the listeners' of {name}");
            return Err(("NoMatchingListenerHostname", message));
        }
        Ok((indices, attachments))
    }

    fn rules(
        &mut self,
        object: &Object,
        spec: &HttpRouteSpec,
        attachments: &Attachments,
        verdict: &mut Verdict,
    ) -> Vec<Rule> {
        // What the API server fills in where there is no rule.
        let default = [HttpRouteRules::default()];
        let rules = spec.rules.as_deref().unwrap_or(&default);
        let read = rules.iter().enumerate().filter_map(|(index, rule)| {
            let field = format!("spec.rules[{index}]");
            self.rule(object, rule, &field, attachments, verdict)
        });
        read.collect()
    }

    /// Reads a rule; none where nothing could match it.
    fn rule(
        &mut self,
        object: &Object,
        spec: &HttpRouteRules,
        field: &str,
        attachments: &Attachments,
        verdict: &mut Verdict,
    ) -> Option<Rule> {
        let mut matches = Vec::new();
        let wanted = spec.matches.as_deref().unwrap_or_default();
        for (index, one) in wanted.iter().enumerate() {
            match http_matches::read(one, self.expressions) {
                Ok(read) => matches.push(read),
                Err((inner, message)) => {
                    let field = format!("{field}.matches[{index}].{inner}");
                    verdict.refuse(
                        &mut self.findings,
                        object,
                        "UnsupportedValue",
                        &field,
                        &message,
                    );
                }
            }
        }
        if matches.is_empty() && !wanted.is_empty() {
            return None;
        }
        let is_prefix = |one: &proto::Match| {
            one.path
                .as_ref()
                .is_none_or(|path| path.r#type == i32::from(path_match::Type::Prefix))
        };
        let prefixes = matches.iter().all(is_prefix);
        let mut rule = Rule {
            name: spec.name.clone().unwrap_or_default(),
            matches,
            ..Rule::default()
        };
        let place = Place {
            object,
            field,
            prefixes,
        };
        let filters = spec.filters.as_deref().unwrap_or_default();
        match self.filters(place, filters, verdict) {
            Ok(filters) => rule.filters = filters,
            Err(refusal) => self.refuse_rule(place, &refusal, verdict, &mut rule),
        }
        self.timeouts(object, spec, field, verdict, &mut rule);
        self.retry(place, spec, verdict, &mut rule);
        self.backends(place, spec, verdict, &mut rule);
        let section = spec.name.as_deref().map_or(&[][..], |name| {
            attachments.at(&object.reference, Some(name))
        });
        let merged = Merged::narrowest(&[section, attachments.at(&object.reference, None)]);
        rule.plugins = merged.keys;
        rule.plugin_places = merged.places;
        rule.deny = merged.deny;
        Some(rule)
    }

    /// A rule with something that cannot be had: it answers 500.
    fn refuse_rule(
        &mut self,
        place: Place<'_>,
        refusal: &Refusal,
        verdict: &mut Verdict,
        rule: &mut Rule,
    ) {
        let field = format!("{}.{}", place.field, refusal.field);
        verdict.refuse(
            &mut self.findings,
            place.object,
            refusal.reason,
            &field,
            &refusal.message,
        );
        rule.invalid = format!("{field}: {}", refusal.message);
    }

    fn retry(
        &mut self,
        place: Place<'_>,
        spec: &HttpRouteRules,
        verdict: &mut Verdict,
        rule: &mut Rule,
    ) {
        if let Some(retry) = &spec.retry {
            match retries::read(retry) {
                Ok(retry) => rule.retry = Some(retry),
                Err((field, message)) => {
                    let refusal = Refusal::value(field, message);
                    self.refuse_rule(place, &refusal, verdict, rule);
                }
            }
        }
        if spec.session_persistence.is_some() {
            let refusal = Refusal::value(
                "sessionPersistence".to_owned(),
                "is not supported; the rule answers 500 until it is removed",
            );
            self.refuse_rule(place, &refusal, verdict, rule);
        }
    }

    fn timeouts(
        &mut self,
        object: &Object,
        spec: &HttpRouteRules,
        field: &str,
        verdict: &mut Verdict,
        rule: &mut Rule,
    ) {
        let Some(timeouts) = &spec.timeouts else {
            return;
        };
        let mut read =
            |name: &str, text: Option<&String>| match text.map(|text| durations::parse(text)) {
                None => 0,
                Some(Some(milliseconds)) => milliseconds,
                Some(None) => {
                    let field = format!("{field}.timeouts.{name}");
                    let message = "is no duration such as 1m30s or 500ms";
                    verdict.refuse(
                        &mut self.findings,
                        object,
                        "UnsupportedValue",
                        &field,
                        message,
                    );
                    rule.invalid = format!("{field}: {message}");
                    0
                }
            };
        let request = read("request", timeouts.request.as_ref());
        let backend = read("backendRequest", timeouts.backend_request.as_ref());
        if request > 0 && backend > request {
            let field = format!("{field}.timeouts.backendRequest");
            let message = "must not be longer than timeouts.request";
            verdict.refuse(
                &mut self.findings,
                object,
                "UnsupportedValue",
                &field,
                message,
            );
            rule.invalid = format!("{field}: {message}");
        }
        rule.request_timeout_ms = request;
        rule.backend_timeout_ms = backend;
    }
}

/// The Gateway or ListenerSet that a route names.
fn parent_of(object: &Object, parent: &HttpRouteParentRefs) -> Option<ObjectRef> {
    let group = parent.group.as_deref().unwrap_or(GATEWAY_GROUP);
    let kind = match (group, parent.kind.as_deref().unwrap_or("Gateway")) {
        (GATEWAY_GROUP, "Gateway") => Kind::Gateway,
        (GATEWAY_GROUP, "ListenerSet") => Kind::ListenerSet,
        _ => return None,
    };
    let own = &object.reference.namespace;
    let namespace = parent.namespace.as_deref().unwrap_or(own);
    Some(ObjectRef::new(kind, namespace, &parent.name))
}

fn parent_name(parent: &Value) -> String {
    let text = |field: &str| parent.get(field).and_then(Value::as_str);
    let name = text("name").unwrap_or_default();
    let section = text("sectionName").map_or_else(String::new, |section| format!(" ({section})"));
    text("namespace").map_or_else(
        || format!("{name}{section}"),
        |namespace| format!("{namespace}/{name}{section}"),
    )
}
