//! Listeners, of Gateways and of ListenerSets alike.

use gateway_api::apis::standard::gateways::{
    GatewayListeners, GatewayListenersTlsMode, GatewaySpec,
};
use serde_json::{Value, json};
use snapshot::proto::{self, ClientValidation, Protocol};

use crate::allowed_routes::AllowedRoutes;
use crate::attachments::Merged;
use crate::findings::Reasons;
use crate::grants::{Side, remedy};
use crate::hostnames;
use crate::kind::GATEWAY_GROUP;
use crate::object::decode;
use crate::pass::Pass;
use crate::{Condition, Kind, ListenerStatus, Object, ObjectRef, trust};

/// A listener.
#[derive(Debug)]
pub(crate) struct Listener<'a> {
    pub(crate) spec: &'a GatewayListeners,
    pub(crate) key: String,
    /// Lower case, empty for any.
    pub(crate) hostname: String,
    pub(crate) allowed: AllowedRoutes,
    pub(crate) attached_routes: i32,
    pub(crate) protocol: Protocol,
    /// That the proxies open.
    pub(crate) port: u16,
    pub(crate) accepted: Reasons,
    pub(crate) resolved: Reasons,
    pub(crate) conflicted: Reasons,
    certificates: Vec<String>,
    /// TLS is not terminated here.
    passthrough: bool,
    /// Whose certificates clients must have.
    client_validation: Option<ClientValidation>,
    /// Key of what the Gateway shows to upstreams; empty for nothing.
    pub(crate) client_certificate: String,
    pub(crate) plugins: Merged,
}

/// How a Gateway names a certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CertificateRef<'a> {
    pub(crate) group: Option<&'a str>,
    pub(crate) kind: Option<&'a str>,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
}

/// What two listeners on one port may not differ in: without TLS nobody can tell which of them is meant.
pub(crate) const fn is_encrypted(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Https | Protocol::Tls)
}

impl Listener<'_> {
    /// Whether proxies are told to open it.
    pub(crate) fn is_usable(&self) -> bool {
        self.accepted.is_empty()
            && self.conflicted.is_empty()
            && (self.passthrough || !is_encrypted(self.protocol) || !self.certificates.is_empty())
    }

    /// Whether nothing at all is wrong with it.
    pub(crate) fn is_fine(&self) -> bool {
        self.is_usable() && self.resolved.is_empty()
    }

    /// Whether another one was there first; says so.
    pub(crate) fn conflict(
        &mut self,
        other: &str,
        (port, protocol, hostname): (i32, Protocol, &str),
    ) -> bool {
        if port != self.spec.port || protocol == Protocol::Unspecified {
            return false;
        }
        // One of a protocol that is not supported has no place beside one that is.
        if self.protocol == Protocol::Unspecified
            || is_encrypted(protocol) != is_encrypted(self.protocol)
        {
            let message =
                format!("listener {other} has another protocol on port {port}; use another port");
            self.conflicted.add("ProtocolConflict", message);
        } else if hostname == self.hostname {
            let message = format!(
                "listener {other} has the same hostname on port {port}; change one of them"
            );
            self.conflicted.add("HostnameConflict", message);
        } else {
            return false;
        }
        true
    }

    pub(crate) fn resource(&self, public_port: u16) -> proto::Listener {
        proto::Listener {
            name: self.key.trim_start_matches("Listener/").to_owned(),
            port: self.port.into(),
            protocol: self.protocol.into(),
            hostname: self.hostname.clone(),
            certificates: self.certificates.clone(),
            plugins: self.plugins.keys.clone(),
            plugin_places: self.plugins.places.clone(),
            public_port: public_port.into(),
            client_certificate: self.client_certificate.clone(),
            passthrough: self.passthrough,
            client_validation: self.client_validation.clone(),
        }
    }

    pub(crate) fn status(&self, usable: bool) -> ListenerStatus {
        let conflicted = match self.conflicted.condition("Conflicted", "") {
            found if self.conflicted.is_empty() => Condition::no(found.kind, "NoConflicts", ""),
            found => Condition {
                status: crate::ConditionStatus::True,
                ..found
            },
        };
        let programmed = if usable {
            Condition::programmed([self.key.as_str().into()])
        } else if self.conflicted.is_empty() {
            Condition::no(
                "Programmed",
                "Invalid",
                "the listener is not served; see its other conditions",
            )
        } else {
            self.conflicted.condition("Programmed", "Programmed")
        };
        let accepted = if self.conflicted.is_empty() {
            self.accepted.condition("Accepted", "Accepted")
        } else {
            self.conflicted.condition("Accepted", "Accepted")
        };
        ListenerStatus {
            name: self.spec.name.clone(),
            attached_routes: self.attached_routes,
            supported_kinds: self.allowed.kinds.clone(),
            conditions: vec![
                accepted,
                conflicted,
                self.resolved.condition("ResolvedRefs", "ResolvedRefs"),
                programmed,
            ],
        }
    }
}

impl<'a> Pass<'a> {
    /// Reads a listener of an object; `gateway` is that object's, or that of the Gateway which it belongs to.
    pub(crate) fn listener(
        &mut self,
        object: &Object,
        gateway: (&Object, &GatewaySpec),
        spec: &'a GatewayListeners,
    ) -> Listener<'a> {
        let reference = &object.reference;
        let mut accepted = Reasons::default();
        let mut resolved = Reasons::default();
        let hostname = spec
            .hostname
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        if !hostname.is_empty() && !hostnames::is_valid(&hostname) {
            accepted.add(
                "Invalid",
                format!("hostname {hostname:?} is no DNS name, nor one behind \"*.\""),
            );
        }
        if !(1..=65535).contains(&spec.port) {
            accepted.add(
                "PortUnavailable",
                format!("port {} is not between 1 and 65535", spec.port),
            );
        }
        let protocol = match spec.protocol.as_str() {
            "HTTP" => Protocol::Http,
            "HTTPS" => Protocol::Https,
            "TLS" => Protocol::Tls,
            other => {
                let message = format!("protocol {other} is not supported; use HTTP, HTTPS or TLS");
                accepted.add("UnsupportedProtocol", message);
                Protocol::Unspecified
            }
        };
        let passthrough = spec.tls.as_ref().and_then(|tls| tls.mode.as_ref())
            == Some(&GatewayListenersTlsMode::Passthrough);
        let mut certificates = Vec::new();
        match (protocol, passthrough, &spec.tls) {
            (Protocol::Https, true, _) => accepted.add(
                "UnsupportedProtocol",
                "tls.mode Passthrough is not for protocol HTTPS; use Terminate",
            ),
            (Protocol::Tls, true, _) => {}
            (Protocol::Https | Protocol::Tls, false, _) => {
                certificates = self.certificates(object, spec, &mut resolved);
            }
            (Protocol::Http, _, Some(_)) => accepted.add(
                "Invalid",
                "tls is only for protocols HTTPS and TLS; remove it",
            ),
            _ => {}
        }
        let client_validation = (protocol == Protocol::Https)
            .then(|| self.client_validation(gateway, spec.port, &mut accepted, &mut resolved))
            .flatten();
        let allowed = AllowedRoutes::of(spec, &reference.namespace, protocol, &mut resolved);
        let place = match reference.kind {
            // No Gateway's name holds a colon.
            Kind::ListenerSet => format!("set:{}", reference.name),
            _ => reference.name.to_string(),
        };
        Listener {
            spec,
            key: format!("Listener/{}/{place}/{}", reference.namespace, spec.name),
            hostname,
            allowed,
            attached_routes: 0,
            protocol,
            port: 0,
            accepted,
            resolved,
            conflicted: Reasons::default(),
            certificates,
            passthrough,
            client_validation,
            client_certificate: String::new(),
            plugins: Merged::default(),
        }
    }

    fn certificates(
        &mut self,
        object: &Object,
        spec: &GatewayListeners,
        resolved: &mut Reasons,
    ) -> Vec<String> {
        const INVALID: &str = "InvalidCertificateRef";
        let references = spec
            .tls
            .as_ref()
            .and_then(|tls| tls.certificate_refs.as_deref())
            .unwrap_or_default();
        if references.is_empty() {
            resolved.add(
                INVALID,
                "a listener that terminates TLS needs tls.certificateRefs with the name of a Secret",
            );
        }
        let mut keys = Vec::new();
        for certificate in references {
            let reference = CertificateRef {
                group: certificate.group.as_deref(),
                kind: certificate.kind.as_deref(),
                namespace: certificate.namespace.as_deref(),
                name: &certificate.name,
            };
            match self.certificate_of(object, reference) {
                Ok(key) => keys.push(key),
                Err((reason, message)) => resolved.add(reason.unwrap_or(INVALID), message),
            }
        }
        keys
    }

    /// The key of a certificate that a Gateway or ListenerSet refers to.
    ///
    /// # Errors
    /// What is wrong, and the reason where that does not depend on what the certificate is for.
    pub(crate) fn certificate_of(
        &mut self,
        object: &Object,
        wanted: CertificateRef<'_>,
    ) -> Result<String, (Option<&'static str>, String)> {
        let group = wanted.group.unwrap_or_default();
        let kind = wanted.kind.unwrap_or("Secret");
        if (group, kind) != ("", "Secret") {
            let message = format!("a certificate is a Secret, not {kind} of group {group:?}");
            return Err((None, message));
        }
        let own = &object.reference.namespace;
        let namespace = wanted.namespace.unwrap_or(own);
        let to = Side {
            group: "",
            kind: "Secret",
            namespace,
        };
        self.may_refer(object, to, wanted.name)
            .map_err(|message| (Some("RefNotPermitted"), message))?;
        self.certificate(namespace, wanted.name)
            .map(|(key, _)| key)
            .map_err(|problem| (None, problem))
    }

    fn may_refer(&self, object: &Object, to: Side<'_>, name: &str) -> Result<(), String> {
        let from = Side {
            group: GATEWAY_GROUP,
            kind: object.reference.kind.kind(),
            namespace: &object.reference.namespace,
        };
        if self.grants.permit(from, to, name) {
            return Ok(());
        }
        let (kind, namespace) = (to.kind, to.namespace);
        Err(format!("{kind} {namespace}/{name}: {}", remedy(from, to)))
    }

    /// Whose certificates clients must have on a port of a Gateway. Where nobody can be trusted, the listener is not served.
    fn client_validation(
        &self,
        (gateway, spec): (&Object, &GatewaySpec),
        port: i32,
        accepted: &mut Reasons,
        resolved: &mut Reasons,
    ) -> Option<ClientValidation> {
        let wanted = validation_of(spec, port)?;
        let mut roots = Vec::new();
        for reference in &wanted.ca_certificate_refs {
            let Some(kind) = trust::kind_of(&reference.group, &reference.kind) else {
                let message = format!(
                    "certificates of authorities are in a ConfigMap or Secret, not in {} of group {:?}",
                    reference.kind, reference.group
                );
                resolved.add("InvalidCACertificateKind", message);
                continue;
            };
            let own = &*gateway.reference.namespace;
            let namespace = reference.namespace.as_deref().unwrap_or(own);
            let to = Side {
                group: "",
                kind: kind.kind(),
                namespace,
            };
            if let Err(message) = self.may_refer(gateway, to, &reference.name) {
                resolved.add("RefNotPermitted", message);
                continue;
            }
            let from = ObjectRef::new(kind, namespace, &reference.name);
            match trust::authorities(self.inputs, &from) {
                Ok(pem) => {
                    roots.extend_from_slice(&pem);
                    roots.push(b'\n');
                }
                Err(problem) => resolved.add("InvalidCACertificateRef", problem),
            }
        }
        if roots.is_empty() {
            let message = "no certificate of an authority can be read, and without one no client can be let in";
            accepted.add("NoValidCACertificate", message);
        }
        Some(ClientValidation {
            roots_pem: roots.into(),
            optional: wanted.is_fallback(),
        })
    }
}

/// `validation` of a Gateway's `tls.frontend`; that of one port and the default have the same fields.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Validation {
    #[serde(rename = "caCertificateRefs")]
    pub(crate) ca_certificate_refs: Vec<AuthorityRef>,
    mode: Option<String>,
}

/// Names an object with certificates of authorities.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct AuthorityRef {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
}

impl Validation {
    /// Whether clients without a valid certificate are let in, too.
    pub(crate) fn is_fallback(&self) -> bool {
        self.mode.as_deref() == Some("AllowInsecureFallback")
    }
}

/// What a Gateway asks of the clients of a port.
pub(crate) fn validation_of(spec: &GatewaySpec, port: i32) -> Option<Validation> {
    let frontend = spec.tls.as_ref()?.frontend.as_ref()?;
    let of_port = frontend
        .per_port
        .iter()
        .flatten()
        .find(|own| own.port == port);
    let found = match of_port {
        Some(own) => json!(own.tls.validation),
        None => json!(frontend.default.validation),
    };
    // What was decoded before fits.
    decode("", found).ok()
}

/// All of a Gateway's `validation`s.
pub(crate) fn validations(spec: &GatewaySpec) -> Vec<Validation> {
    let Some(frontend) = spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) else {
        return Vec::new();
    };
    let of_ports = frontend.per_port.iter().flatten();
    let all: Vec<Value> = of_ports
        .map(|own| json!(own.tls.validation))
        .chain([json!(frontend.default.validation)])
        .collect();
    all.into_iter()
        .filter_map(|one| decode("", one).ok())
        .collect()
}

/// The addresses that a Gateway asks for.
pub(crate) fn addresses(spec: &GatewaySpec) -> Vec<String> {
    let all = spec.addresses.iter().flatten();
    all.filter_map(|address| address.value.clone())
        .filter(|value| !value.is_empty())
        .collect()
}
