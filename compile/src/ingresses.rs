//! Ingresses. All of them share two listeners, one for HTTP and one for HTTPS.
//!
//! In the snapshot a rule of an Ingress has hostnames of its own, and its "*" stands for one label, as the Ingress API
//! says; everywhere else "*" stands for any number of them.

use k8s_openapi::api::networking::v1::{HTTPIngressPath, IngressBackend, IngressSpec};
use snapshot::proto::resource::Body as Resource;
use snapshot::proto::{self, Attachment, Backend, Match, PathMatch, Protocol, Rule, path_match};

use crate::attachments::{Attached, Merged};
use crate::classes::Classes;
use crate::gateways::Gateways;
use crate::ingress_annotations::Annotations;
use crate::object::Body;
use crate::pass::Pass;
use crate::plugins::Attachments;
use crate::services::{PortRef, Speech};
use crate::{Kind, Object, ObjectRef, StatusBody, hostnames, http_matches};

const HTTP: &str = "Listener/-/ingress/http";
const HTTPS: &str = "Listener/-/ingress/https";

/// What the rules of one Ingress have in common.
struct Scope<'a> {
    object: &'a Object,
    route: &'a [Attached],
    class: &'a [Attached],
    attachments: &'a Attachments,
    annotations: Annotations,
}

impl Pass<'_> {
    pub(crate) fn ingresses(
        &mut self,
        classes: &Classes,
        gateways: &Gateways<'_>,
        attachments: &Attachments,
    ) {
        let inputs = self.inputs;
        let mut routes: Vec<(&Object, Vec<Rule>)> = Vec::new();
        let mut certificates: Vec<String> = Vec::new();
        let mut objects: Vec<&Object> = inputs.all(Kind::Ingress).collect();
        // The oldest Ingress' certificate is the one for clients that name no host.
        objects.sort_by_key(|object| (object.meta.created, &object.reference));
        for object in objects {
            match &object.body {
                Body::Ingress(spec) => {
                    let Some(class) =
                        classes.of_ingress(object, spec.ingress_class_name.as_deref())
                    else {
                        continue;
                    };
                    let class = ObjectRef::new(Kind::IngressClass, "", class);
                    let scope = Scope {
                        object,
                        route: attachments.at(&object.reference, None),
                        class: attachments.at(&class, None),
                        attachments,
                        annotations: self.ingress_annotations(object),
                    };
                    self.ingress_certificates(object, spec, &mut certificates);
                    routes.push((object, self.ingress_rules(&scope, spec)));
                    self.findings.status(object, StatusBody::Ingress);
                }
                Body::Unreadable(bad) => {
                    self.findings.error(
                        &object.reference,
                        "InvalidField",
                        bad.field.clone(),
                        bad.message.clone(),
                    );
                }
                _ => {}
            }
        }
        if routes.is_empty() {
            return;
        }
        let listeners = self.ingress_listeners(gateways, certificates);
        for (object, rules) in routes {
            if listeners.is_empty() {
                let (http, _) = self.settings.ingress_ports;
                let holder = gateways
                    .ports
                    .holder(http)
                    .map_or_else(String::new, ToString::to_string);
                let message = format!(
                    "port {http}, where Ingresses are served, belongs to {holder}; use another port there"
                );
                self.findings
                    .error(&object.reference, "PortUnavailable", "", message);
                continue;
            }
            let any = vec![String::new()];
            let attached = listeners.iter().map(|listener| Attachment {
                listener: (*listener).to_owned(),
                hostnames: any.clone(),
            });
            self.put_route(object, attached.collect(), rules);
        }
    }

    fn ingress_annotations(&mut self, object: &Object) -> Annotations {
        let (_, https) = self.settings.ingress_ports;
        let https = if self.settings.standalone { https } else { 443 };
        let annotations = Annotations::of(object, https);
        for (name, message) in &annotations.wrong {
            let field = format!("metadata.annotations[postern.dev/{name}]");
            let message = format!("{message}; requests get 500 until it is right");
            self.findings
                .error(&object.reference, "InvalidField", field, message);
        }
        annotations
    }

    fn ingress_listeners(
        &mut self,
        gateways: &Gateways<'_>,
        certificates: Vec<String>,
    ) -> Vec<&'static str> {
        let (http, https) = self.settings.ingress_ports;
        let mut listeners = Vec::new();
        let wanted = [
            (HTTP, http, 80, Protocol::Http),
            (HTTPS, https, 443, Protocol::Https),
        ];
        for (key, port, outside, protocol) in wanted {
            if gateways.ports.holder(port).is_some()
                || (protocol == Protocol::Https && certificates.is_empty())
            {
                continue;
            }
            let listener = proto::Listener {
                name: key.trim_start_matches("Listener/").to_owned(),
                port: port.into(),
                protocol: protocol.into(),
                hostname: String::new(),
                certificates: if protocol == Protocol::Https {
                    certificates.clone()
                } else {
                    Vec::new()
                },
                plugins: Vec::new(),
                client_certificate: String::new(),
                passthrough: false,
                client_validation: None,
                plugin_places: Vec::new(),
                // In a cluster a Service leads from the usual ports to these.
                public_port: if self.settings.standalone {
                    port.into()
                } else {
                    outside
                },
            };
            self.resources.put(key, Resource::Listener(listener));
            listeners.push(key);
        }
        listeners
    }

    fn ingress_certificates(
        &mut self,
        object: &Object,
        spec: &IngressSpec,
        certificates: &mut Vec<String>,
    ) {
        for (index, tls) in spec.tls.iter().flatten().enumerate() {
            let field = format!("spec.tls[{index}].secretName");
            let Some(secret) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) else {
                let message = "without a Secret these hosts are served with another Ingress' certificate; name one";
                self.findings
                    .warning(&object.reference, "InvalidCertificateRef", field, message);
                continue;
            };
            match self.certificate(&object.reference.namespace, secret) {
                Ok((key, pair)) => {
                    for host in tls.hosts.iter().flatten().filter(|host| !pair.covers(host)) {
                        let message = format!(
                            "the certificate in Secret {secret} is not for {host}; clients will refuse it"
                        );
                        self.findings.warning(
                            &object.reference,
                            "InvalidCertificateRef",
                            field.clone(),
                            message,
                        );
                    }
                    if !certificates.contains(&key) {
                        certificates.push(key);
                    }
                }
                Err(problem) => {
                    self.findings
                        .error(&object.reference, "InvalidCertificateRef", field, problem)
                }
            }
        }
    }

    fn ingress_rules(&mut self, scope: &Scope<'_>, spec: &IngressSpec) -> Vec<Rule> {
        let mut rules = Vec::new();
        let default = spec.default_backend.as_ref();
        for (index, rule) in spec.rules.iter().flatten().enumerate() {
            let field = format!("spec.rules[{index}]");
            let host = rule
                .host
                .as_deref()
                .unwrap_or_default()
                .to_ascii_lowercase();
            if !host.is_empty() && !hostnames::is_valid(&host) {
                let message = format!(
                    "{host:?} is no DNS name, nor one behind \"*.\" (no ports, no addresses)"
                );
                self.findings.error(
                    &scope.object.reference,
                    "InvalidField",
                    format!("{field}.host"),
                    message,
                );
                continue;
            }
            let hosts = if host.is_empty() {
                Vec::new()
            } else {
                vec![host]
            };
            let paths = rule
                .http
                .as_ref()
                .map(|http| http.paths.as_slice())
                .unwrap_or_default();
            if paths.is_empty()
                && let Some(backend) = default
            {
                rules.push(self.ingress_rule(
                    scope,
                    root(),
                    hosts.clone(),
                    backend,
                    "spec.defaultBackend",
                ));
            }
            for (index, path) in paths.iter().enumerate() {
                let field = format!("{field}.http.paths[{index}]");
                match path_of(path, scope.annotations.regex) {
                    Ok(read) => rules.push(self.ingress_rule(
                        scope,
                        read,
                        hosts.clone(),
                        &path.backend,
                        &field,
                    )),
                    Err(message) => {
                        self.findings.error(
                            &scope.object.reference,
                            "InvalidField",
                            format!("{field}.path"),
                            message,
                        );
                    }
                }
            }
        }
        if let Some(backend) = default {
            rules.push(self.ingress_rule(
                scope,
                root(),
                Vec::new(),
                backend,
                "spec.defaultBackend",
            ));
        }
        rules
    }

    fn ingress_rule(
        &mut self,
        scope: &Scope<'_>,
        path: PathMatch,
        hostnames: Vec<String>,
        backend: &IngressBackend,
        field: &str,
    ) -> Rule {
        let reference = &scope.object.reference;
        let speech = scope.annotations.speech;
        let read = match self.ingress_backend(&reference.namespace, backend, speech) {
            Ok(upstream) => {
                if scope.annotations.is_sticky() {
                    self.sticky.insert(upstream.clone());
                }
                Backend {
                    upstream,
                    weight: 1,
                    ..Backend::default()
                }
            }
            Err((reason, message)) => {
                self.findings
                    .error(reference, reason, field, message.clone());
                Backend {
                    weight: 1,
                    invalid: message,
                    ..Backend::default()
                }
            }
        };
        // A class is wider than the Service. The proxy merges the Service's plugins in after the rule's, so of the
        // class' only those may stand here that the Service has nothing of.
        let service = backend.service.as_ref().map(|service| {
            scope.attachments.at(
                &ObjectRef::new(Kind::Service, &reference.namespace, &service.name),
                None,
            )
        });
        let class = Merged::without(scope.class, &[scope.route, service.unwrap_or_default()]);
        let merged = Merged::narrowest(&[scope.route, &class]);
        let is_expression = path.r#type() == path_match::Type::Regex;
        Rule {
            matches: vec![Match {
                path: Some(path),
                ..Match::default()
            }],
            backends: vec![read],
            plugins: merged.keys,
            plugin_places: merged.places,
            deny: merged.deny,
            hostnames,
            ..scope.annotations.rule(is_expression)
        }
    }

    fn ingress_backend(
        &mut self,
        namespace: &str,
        backend: &IngressBackend,
        speech: Speech,
    ) -> Result<String, (&'static str, String)> {
        let Some(service) = &backend.service else {
            let kind = backend
                .resource
                .as_ref()
                .map_or("nothing", |resource| resource.kind.as_str());
            let message = format!("a backend must be a Service, not {kind}; requests get 500");
            return Err(("InvalidKind", message));
        };
        let port = service.port.as_ref();
        let port = match (
            port.and_then(|port| port.name.as_deref()),
            port.and_then(|port| port.number),
        ) {
            (Some(name), _) if !name.is_empty() => PortRef::Name(name),
            (_, Some(number)) => PortRef::Number(u16::try_from(number).unwrap_or_default()),
            _ => {
                let message = format!(
                    "Service {namespace}/{}: port.name or port.number is missing",
                    service.name
                );
                return Err(("BackendNotFound", message));
            }
        };
        self.upstream(namespace, &service.name, port, speech)
            .map_err(|message| ("BackendNotFound", message))
    }
}

fn root() -> PathMatch {
    PathMatch {
        r#type: path_match::Type::Prefix.into(),
        value: "/".to_owned(),
    }
}

fn path_of(path: &HTTPIngressPath, regex: bool) -> Result<PathMatch, String> {
    if regex && path.path_type == "ImplementationSpecific" {
        // As ingress-nginx does it: whatever the case, and open at the end.
        let pattern = path.path.as_deref().unwrap_or("/");
        http_matches::check_expression(pattern)?;
        return Ok(PathMatch {
            r#type: path_match::Type::Regex.into(),
            value: format!("(?i:{pattern}).*"),
        });
    }
    let kind = match path.path_type.as_str() {
        "Exact" => path_match::Type::Exact,
        "Prefix" | "ImplementationSpecific" => path_match::Type::Prefix,
        other => {
            return Err(format!(
                "pathType {other:?} is not one of Exact, Prefix and ImplementationSpecific"
            ));
        }
    };
    let value = path
        .path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or("/");
    http_matches::check_path(value)?;
    Ok(PathMatch {
        r#type: kind.into(),
        value: value.to_owned(),
    })
}
