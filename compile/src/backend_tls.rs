//! BackendTLSPolicies: how certificates of upstreams are checked.
//!
//! A policy that cannot be resolved closes the ports that it is for: they are never reached without the check.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gateway_api::apis::standard::backendtlspolicies::{
    BackendTlsPolicySpec, BackendTlsPolicyTargetRefs, BackendTlsPolicyValidation,
    BackendTlsPolicyValidationSubjectAltNamesType as NameType,
};
use serde_json::json;
use snapshot::proto::UpstreamTls;

use crate::findings::Reasons;
use crate::kind::GATEWAY_GROUP;
use crate::object::{Body, decode};
use crate::pass::Pass;
use crate::{Kind, Object, ObjectRef, ParentStatus, StatusBody, hostnames, trust};

/// Those whom the system trusts that a proxy runs on.
const SYSTEM: &str = "System";

/// What a status may name at most.
const MAX_ANCESTORS: usize = 16;

/// Namespace, Service and maybe the name of a port.
type Target = (Arc<str>, Arc<str>, Option<String>);

/// All policies.
#[derive(Debug, Default)]
pub(crate) struct BackendTls<'a> {
    by_target: BTreeMap<Target, Arc<UpstreamTls>>,
    policies: Vec<Policy<'a>>,
}

/// One policy on its way through a pass.
#[derive(Debug)]
struct Policy<'a> {
    object: &'a Object,
    services: BTreeSet<ObjectRef>,
    accepted: Reasons,
    resolved: Reasons,
}

impl BackendTls<'_> {
    /// How to check who answers on a port of a Service: the policy of the port, else that of the Service.
    pub(crate) fn of(&self, namespace: &str, service: &str, port: &str) -> Option<&UpstreamTls> {
        let of = |section: Option<String>| {
            let target = (Arc::from(namespace), Arc::from(service), section);
            self.by_target.get(&target)
        };
        let named = (!port.is_empty())
            .then(|| of(Some(port.to_owned())))
            .flatten();
        named.or_else(|| of(None)).map(|tls| &**tls)
    }
}

impl<'a> Pass<'a> {
    /// Reads the policies, the older first: where two are for the same, the older counts.
    pub(crate) fn backend_tls(&mut self) -> BackendTls<'a> {
        let inputs = self.inputs;
        let mut objects: Vec<&Object> = inputs.all(Kind::BackendTlsPolicy).collect();
        objects.sort_by_key(|object| (object.meta.created, &object.reference));
        let mut all = BackendTls::default();
        for object in objects {
            let mut policy = Policy {
                object,
                services: BTreeSet::new(),
                accepted: Reasons::default(),
                resolved: Reasons::default(),
            };
            let (tls, targets) = match &object.body {
                Body::BackendTlsPolicy(spec) => {
                    (self.validation(spec, &mut policy), spec.target_refs.clone())
                }
                Body::Unreadable(bad) => {
                    let message = format!("{}: {}", bad.field, bad.message);
                    policy.accepted.add("Invalid", message.clone());
                    let targets = bad.spec.get("targetRefs").cloned().unwrap_or_default();
                    (closed(message), decode("", targets).unwrap_or_default())
                }
                _ => continue,
            };
            let tls = Arc::new(tls);
            for target in &targets {
                take(&mut all.by_target, &mut policy, target, &tls);
            }
            self.report_policy(&policy);
            all.policies.push(policy);
        }
        all
    }

    fn validation(&self, spec: &BackendTlsPolicySpec, policy: &mut Policy<'_>) -> UpstreamTls {
        let namespace = &policy.object.reference.namespace;
        let validation = &spec.validation;
        if spec
            .options
            .as_ref()
            .is_some_and(|options| !options.is_empty())
        {
            let message = "Postern knows no options; remove spec.options";
            policy.accepted.add("Invalid", message);
        }
        let server_name = validation.hostname.to_ascii_lowercase();
        if !hostnames::is_valid(&server_name) || server_name.starts_with('*') {
            let message = format!("hostname {server_name:?} is no DNS name");
            policy.accepted.add("Invalid", message);
        }
        let (mut names, mut uris) = (Vec::new(), Vec::new());
        for name in validation.subject_alt_names.iter().flatten() {
            match (&name.r#type, &name.hostname, &name.uri) {
                (NameType::Hostname, Some(hostname), None) if hostnames::is_valid(hostname) => {
                    names.push(hostname.to_ascii_lowercase());
                }
                (NameType::Uri, None, Some(uri)) if !uri.is_empty() => uris.push(uri.clone()),
                _ => policy.accepted.add(
                    "Invalid",
                    "subjectAltNames: each has a type and the field of that type, a DNS name or a URI",
                ),
            }
        }
        let mut roots = Vec::new();
        for reference in validation.ca_certificate_refs.iter().flatten() {
            let Some(kind) = trust::kind_of(&reference.group, &reference.kind) else {
                let message = format!(
                    "certificates of authorities are in a ConfigMap or Secret, not in {} of group {:?}",
                    reference.kind, reference.group
                );
                policy.resolved.add("InvalidKind", message);
                continue;
            };
            let from = ObjectRef::new(kind, namespace, &reference.name);
            match trust::authorities(self.inputs, &from) {
                Ok(pem) => {
                    roots.extend_from_slice(&pem);
                    roots.push(b'\n');
                }
                Err(problem) => policy.resolved.add("InvalidCACertificateRef", problem),
            }
        }
        let system_roots = trusts_system(validation, roots.is_empty(), &mut policy.accepted);
        if !policy.accepted.is_empty() {
            return closed(policy.accepted.condition("Accepted", "").message);
        }
        UpstreamTls {
            server_name,
            roots_pem: roots.into(),
            names,
            uris,
            system_roots,
            ..UpstreamTls::default()
        }
    }

    fn report_policy(&mut self, policy: &Policy<'_>) {
        for (kind, reasons) in [
            ("Accepted", &policy.accepted),
            ("ResolvedRefs", &policy.resolved),
        ] {
            if !reasons.is_empty() {
                let condition = reasons.condition(kind, "");
                let reference = &policy.object.reference;
                self.findings
                    .error(reference, condition.reason, "spec", condition.message);
            }
        }
    }

    /// Writes the statuses, now that it is known which Gateways lead to which Services.
    pub(crate) fn finish_backend_tls(&mut self, all: BackendTls<'_>) {
        for policy in all.policies {
            let reached = policy
                .services
                .iter()
                .filter_map(|service| self.reached.get(service));
            let gateways: BTreeSet<&ObjectRef> = reached.flatten().collect();
            let ancestors: Vec<_> = gateways
                .into_iter()
                .take(MAX_ANCESTORS)
                .map(|gateway| ParentStatus {
                    parent_ref: json!({
                        "group": GATEWAY_GROUP,
                        "kind": "Gateway",
                        "namespace": &*gateway.namespace,
                        "name": &*gateway.name,
                    }),
                    conditions: vec![
                        policy.accepted.condition("Accepted", "Accepted"),
                        policy.resolved.condition("ResolvedRefs", "ResolvedRefs"),
                    ],
                })
                .collect();
            self.findings
                .status(policy.object, StatusBody::Policy { ancestors });
        }
    }
}

/// Whether those count whom the proxy's system trusts; a policy trusts either them or whom it names.
fn trusts_system(
    validation: &BackendTlsPolicyValidation,
    no_roots: bool,
    accepted: &mut Reasons,
) -> bool {
    let refs = validation.ca_certificate_refs.as_ref();
    let named = refs.is_some_and(|refs| !refs.is_empty());
    let well_known = validation.well_known_ca_certificates.as_deref();
    let (reason, message) = match well_known.unwrap_or_default() {
        "" if no_roots => (
            "NoValidCACertificate",
            "no certificate of an authority can be read".to_owned(),
        ),
        "" => return false,
        SYSTEM if named => (
            "Invalid",
            "caCertificateRefs and wellKnownCACertificates exclude each other; remove one of them"
                .to_owned(),
        ),
        SYSTEM => return true,
        other => (
            "Invalid",
            format!("wellKnownCACertificates must be {SYSTEM:?}, not {other:?}"),
        ),
    };
    accepted.add(reason, message);
    false
}

/// Gives a policy one of its targets, unless an older one has it.
fn take(
    by_target: &mut BTreeMap<Target, Arc<UpstreamTls>>,
    policy: &mut Policy<'_>,
    target: &BackendTlsPolicyTargetRefs,
    tls: &Arc<UpstreamTls>,
) {
    if (target.group.as_str(), target.kind.as_str()) != ("", "Service") {
        let message = format!(
            "a BackendTLSPolicy is for Services, not for {} of group {:?}",
            target.kind, target.group
        );
        policy.accepted.add("TargetNotFound", message);
        return;
    }
    let namespace = &policy.object.reference.namespace;
    policy
        .services
        .insert(ObjectRef::new(Kind::Service, namespace, &target.name));
    let key = (
        Arc::clone(namespace),
        Arc::from(target.name.as_str()),
        target.section_name.clone(),
    );
    if by_target.contains_key(&key) {
        let message = format!(
            "Service {} has an older BackendTLSPolicy; remove one of them",
            target.name
        );
        policy.accepted.add("Conflicted", message);
        return;
    }
    by_target.insert(key, Arc::clone(tls));
}

fn closed(why: String) -> UpstreamTls {
    UpstreamTls {
        closed: why,
        ..UpstreamTls::default()
    }
}
