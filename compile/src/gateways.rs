//! Gateways, and the ListenerSets that add listeners to them.

use std::collections::BTreeMap;

use gateway_api::apis::standard::gateways::GatewaySpec;
use snapshot::proto::Protocol;
use snapshot::proto::resource::Body as Resource;

use crate::attachments::Merged;
use crate::classes::Classes;
use crate::findings::Reasons;
use crate::listeners::{self, CertificateRef, Listener, is_encrypted};
use crate::object::Body;
use crate::pass::Pass;
use crate::plugins::Attachments;
use crate::ports::Ports;
use crate::{Condition, GatewayService, Kind, Object, ObjectRef, StatusBody};

/// All Gateways that are ours, and their ListenerSets.
#[derive(Debug)]
pub(crate) struct Gateways<'a> {
    list: Vec<Parent<'a>>,
    by_name: BTreeMap<ObjectRef, usize>,
    pub(crate) ports: Ports,
}

/// What routes attach to: a Gateway or a ListenerSet.
#[derive(Debug)]
pub(crate) struct Parent<'a> {
    pub(crate) object: &'a Object,
    /// The Gateway itself, or the one that a ListenerSet belongs to.
    pub(crate) gateway: (&'a Object, &'a GatewaySpec),
    pub(crate) listeners: Vec<Listener<'a>>,
    /// Why the whole of it is refused.
    pub(crate) refused: Reasons,
    /// What it refers to itself.
    resolved: Reasons,
}

impl<'a> Gateways<'a> {
    pub(crate) fn find(&self, reference: &ObjectRef) -> Option<&Parent<'a>> {
        self.list.get(*self.by_name.get(reference)?)
    }

    /// A route counts at these listeners of a Gateway or ListenerSet.
    pub(crate) fn count(&mut self, parent: &ObjectRef, listeners: &[usize]) {
        let Some(parent) = self
            .by_name
            .get(parent)
            .and_then(|index| self.list.get_mut(*index))
        else {
            return;
        };
        for index in listeners {
            if let Some(listener) = parent.listeners.get_mut(*index) {
                listener.attached_routes += 1;
            }
        }
    }

    /// All listeners of a Gateway so far, its own first.
    pub(crate) fn of_gateway<'s>(
        &'s self,
        gateway: &'s ObjectRef,
    ) -> impl Iterator<Item = &'s Listener<'a>> {
        self.list
            .iter()
            .filter(move |parent| parent.gateway.0.reference == *gateway)
            .flat_map(|parent| &parent.listeners)
    }

    pub(crate) fn push(&mut self, parent: Parent<'a>) {
        self.by_name
            .insert(parent.object.reference.clone(), self.list.len());
        self.list.push(parent);
    }
}

impl<'a> Pass<'a> {
    /// Reads the Gateways that are ours, the older first: where two want the same, the older has it.
    pub(crate) fn gateways(
        &mut self,
        classes: &Classes,
        attachments: &Attachments,
    ) -> Gateways<'a> {
        let inputs = self.inputs;
        let mut objects: Vec<&Object> = inputs.all(Kind::Gateway).collect();
        objects.sort_by_key(|object| (object.meta.created, &object.reference));
        let mut gateways = Gateways {
            list: Vec::new(),
            by_name: BTreeMap::new(),
            ports: Ports::new(self.settings),
        };
        for object in objects {
            match &object.body {
                Body::Gateway(spec) if classes.has_gateway_class(&spec.gateway_class_name) => {
                    let gateway = self.gateway(object, spec);
                    gateways.push(gateway);
                }
                Body::Unreadable(bad) => {
                    self.findings.error(
                        &object.reference,
                        "InvalidField",
                        bad.field.clone(),
                        bad.message.clone(),
                    );
                    let class = bad
                        .spec
                        .get("gatewayClassName")
                        .and_then(serde_json::Value::as_str);
                    if class.is_some_and(|class| classes.has_gateway_class(class)) {
                        let conditions = vec![Condition::no(
                            "Accepted",
                            "Invalid",
                            format!("{}: {}", bad.field, bad.message),
                        )];
                        self.findings.status(
                            object,
                            StatusBody::Gateway {
                                conditions,
                                listeners: Vec::new(),
                                attached_sets: 0,
                                addresses: Vec::new(),
                            },
                        );
                    }
                }
                _ => {}
            }
        }
        self.listener_sets(&mut gateways);
        for parent in &mut gateways.list {
            self.equip(parent, attachments);
            open(parent, &mut gateways.ports);
            self.report(parent);
        }
        gateways
    }

    fn gateway(&mut self, object: &'a Object, spec: &'a GatewaySpec) -> Parent<'a> {
        let refused = self.refusal(object, spec);
        let mut read: Vec<Listener<'a>> = Vec::new();
        for listener in &spec.listeners {
            read.push(self.listener(object, (object, spec), listener));
        }
        mark_conflicts(&mut read);
        Parent {
            object,
            gateway: (object, spec),
            listeners: read,
            refused,
            resolved: Reasons::default(),
        }
    }

    /// Gives listeners their plugins, and what their Gateway shows to upstreams.
    fn equip(&mut self, parent: &mut Parent<'a>, attachments: &Attachments) {
        let (gateway, spec) = parent.gateway;
        let class = ObjectRef::new(Kind::GatewayClass, "", &spec.gateway_class_name);
        let is_gateway = parent.object.reference.kind == Kind::Gateway;
        let mut resolved = Reasons::default();
        let client_certificate = self.client_certificate(gateway, spec, &mut resolved);
        if is_gateway {
            if !resolved.is_empty() {
                let condition = resolved.condition("ResolvedRefs", "");
                self.findings.error(
                    &gateway.reference,
                    condition.reason,
                    "spec.tls.backend.clientCertificateRef",
                    condition.message,
                );
            }
            parent.resolved = resolved;
        }
        let whole = attachments.at(&gateway.reference, None);
        for listener in &mut parent.listeners {
            let section = if is_gateway {
                attachments.at(&gateway.reference, Some(&listener.spec.name))
            } else {
                &[]
            };
            let scopes = [section, whole, attachments.at(&class, None)];
            listener.plugins = Merged::narrowest(&scopes);
            listener.client_certificate.clone_from(&client_certificate);
        }
    }

    /// What makes a Gateway unfit as a whole: settings that would be unsafe to ignore.
    fn refusal(&mut self, object: &Object, spec: &GatewaySpec) -> Reasons {
        let mut found: Vec<(&'static str, String, String)> = Vec::new();
        for (index, address) in spec.addresses.iter().flatten().enumerate() {
            let field = format!("spec.addresses[{index}]");
            if self.settings.standalone {
                let message = "addresses cannot be asked for where proxies listen themselves: remove spec.addresses";
                found.push(("UnsupportedAddress", field, message.to_owned()));
                continue;
            }
            let kind = address.r#type.as_deref().unwrap_or("IPAddress");
            let value = address.value.as_deref().unwrap_or_default();
            let is_address = value.is_empty() || value.parse::<std::net::IpAddr>().is_ok();
            if kind != "IPAddress" || !is_address {
                let message =
                    format!("{kind} {value:?} is no IPAddress; others cannot be asked for");
                found.push(("UnsupportedAddress", field, message));
            }
        }
        if spec
            .infrastructure
            .as_ref()
            .is_some_and(|infrastructure| infrastructure.parameters_ref.is_some())
        {
            found.push((
                "InvalidParameters",
                "spec.infrastructure.parametersRef".to_owned(),
                "Postern takes no parameters: remove spec.infrastructure.parametersRef".to_owned(),
            ));
        }
        let mut refused = Reasons::default();
        for (reason, field, message) in found {
            self.findings
                .error(&object.reference, reason, field, message.clone());
            refused.add(reason, message);
        }
        refused
    }

    /// The key of the certificate that a Gateway shows to upstreams. One that cannot be had leads nowhere, so that nothing
    /// is sent without it.
    fn client_certificate(
        &mut self,
        object: &Object,
        spec: &GatewaySpec,
        resolved: &mut Reasons,
    ) -> String {
        let backend = spec.tls.as_ref().and_then(|tls| tls.backend.as_ref());
        let Some(wanted) = backend.and_then(|backend| backend.client_certificate_ref.as_ref())
        else {
            return String::new();
        };
        let reference = CertificateRef {
            group: wanted.group.as_deref(),
            kind: wanted.kind.as_deref(),
            namespace: wanted.namespace.as_deref(),
            name: &wanted.name,
        };
        match self.certificate_of(object, reference) {
            Ok(key) => key,
            Err((reason, message)) => {
                resolved.add(reason.unwrap_or("InvalidClientCertificateRef"), message);
                format!("Certificate/{}/-", object.reference.namespace)
            }
        }
    }

    fn report(&mut self, parent: &Parent<'_>) {
        let reference = &parent.object.reference;
        for (index, listener) in parent.listeners.iter().enumerate() {
            for (kind, reasons) in [
                ("Accepted", &listener.accepted),
                ("ResolvedRefs", &listener.resolved),
                ("Conflicted", &listener.conflicted),
            ] {
                let condition = reasons.condition(kind, "");
                if !reasons.is_empty() {
                    let message = format!("listener {}: {}", listener.spec.name, condition.message);
                    let field = format!("spec.listeners[{index}]");
                    self.findings
                        .error(reference, condition.reason, field, message);
                }
            }
            let tls = listener.spec.tls.as_ref();
            let options = tls.and_then(|tls| tls.options.as_ref());
            if options.is_some_and(|options| !options.is_empty()) {
                let field = format!("spec.listeners[{index}].tls.options");
                self.findings.warning(
                    reference,
                    "UnsupportedValue",
                    field,
                    "Postern knows no tls.options; they have no effect",
                );
            }
            if listener.protocol == Protocol::Tls && !listener.plugins.keys.is_empty() {
                let field = format!("spec.listeners[{index}]");
                let message = "plugins cannot look into TLS: what is attached here closes the listener's TLSRoutes";
                self.findings
                    .warning(reference, "NotEnforceable", field, message);
            }
        }
    }

    /// Writes listeners and statuses, now that the routes are counted, and returns the Services that lead to them.
    pub(crate) fn finish_gateways(&mut self, gateways: Gateways<'_>) -> Vec<GatewayService> {
        let mut open: BTreeMap<ObjectRef, BTreeMap<u16, u16>> = BTreeMap::new();
        let mut sets: BTreeMap<ObjectRef, i32> = BTreeMap::new();
        let mut services = Vec::new();
        for parent in gateways.list.iter().rev() {
            let (gateway, spec) = parent.gateway;
            let mut keys = Vec::new();
            let mut statuses = Vec::new();
            for listener in &parent.listeners {
                let usable = parent.refused.is_empty() && listener.is_usable();
                if usable {
                    keys.push(listener.key.as_str().into());
                    let public_port = u16::try_from(listener.spec.port).unwrap_or_default();
                    open.entry(gateway.reference.clone())
                        .or_default()
                        .insert(public_port, listener.port);
                    self.resources.put(
                        &listener.key,
                        Resource::Listener(listener.resource(public_port)),
                    );
                }
                statuses.push(listener.status(usable));
            }
            // ListenerSets stand behind all Gateways, so that in this order they are counted before.
            let status = if parent.object.reference.kind == Kind::Gateway {
                let ports = open.remove(&gateway.reference).unwrap_or_default();
                if !self.settings.standalone && !ports.is_empty() {
                    services.push(Ports::service(self.settings, gateway, spec, ports));
                }
                StatusBody::Gateway {
                    conditions: parent.gateway_conditions(keys),
                    listeners: statuses,
                    attached_sets: sets.remove(&gateway.reference).unwrap_or_default(),
                    addresses: listeners::addresses(spec),
                }
            } else {
                if !keys.is_empty() {
                    *sets.entry(gateway.reference.clone()).or_default() += 1;
                }
                StatusBody::ListenerSet {
                    conditions: parent.set_conditions(keys),
                    listeners: statuses,
                }
            };
            self.findings.status(parent.object, status);
        }
        services.sort_by(|one, other| one.gateway.cmp(&other.gateway));
        services
    }
}

impl Parent<'_> {
    pub(crate) fn is_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Whether it is accepted, as far as its listeners go.
    fn accepted(&self) -> Condition {
        let good = self.listeners.iter().filter(|one| one.is_fine()).count();
        if !self.refused.is_empty() {
            self.refused.condition("Accepted", "Accepted")
        } else if good == self.listeners.len() {
            Condition::yes("Accepted", "Accepted")
        } else if self.listeners.iter().any(Listener::is_usable) {
            let mut condition = Condition::yes("Accepted", "ListenersNotValid");
            "some listeners have problems; see their conditions".clone_into(&mut condition.message);
            condition
        } else {
            Condition::no(
                "Accepted",
                "ListenersNotValid",
                "no listener can be served; see their conditions",
            )
        }
    }

    fn gateway_conditions(&self, keys: Vec<std::sync::Arc<str>>) -> Vec<Condition> {
        let programmed = if keys.is_empty() {
            Condition::no("Programmed", "Invalid", "there is no listener to serve")
        } else {
            Condition::programmed(keys)
        };
        let resolved = self.resolved.condition("ResolvedRefs", "ResolvedRefs");
        let mut conditions = vec![self.accepted(), programmed, resolved];
        let validations = listeners::validations(self.gateway.1);
        if validations.iter().any(listeners::Validation::is_fallback) {
            let mut condition =
                Condition::yes("InsecureFrontendValidationMode", "ConfigurationChanged");
            "clients without a valid certificate are let in".clone_into(&mut condition.message);
            conditions.push(condition);
        }
        conditions
    }

    fn set_conditions(&self, keys: Vec<std::sync::Arc<str>>) -> Vec<Condition> {
        let accepted = self.accepted();
        let programmed = if keys.is_empty() {
            Condition::no("Programmed", accepted.reason, accepted.message.clone())
        } else {
            Condition::programmed(keys)
        };
        vec![accepted, programmed]
    }
}

/// Gives listeners that can be served their ports.
fn open(parent: &mut Parent<'_>, ports: &mut Ports) {
    if !parent.refused.is_empty() {
        return;
    }
    let gateway = &parent.gateway.0.reference;
    for listener in &mut parent.listeners {
        if !listener.accepted.is_empty() || !listener.conflicted.is_empty() {
            continue;
        }
        let wanted = u16::try_from(listener.spec.port).unwrap_or_default();
        let encrypted = is_encrypted(listener.protocol);
        match ports.claim(gateway, wanted, encrypted, &listener.hostname) {
            Ok(port) => listener.port = port,
            Err(taken) => listener.accepted.add("PortUnavailable", taken),
        }
    }
}

/// Listeners of one Gateway may share a port where their protocols go together and their hostnames differ.
fn mark_conflicts(listeners: &mut [Listener<'_>]) {
    let places: Vec<_> = listeners
        .iter()
        .map(|listener| {
            (
                listener.spec.port,
                listener.protocol,
                listener.hostname.clone(),
                listener.spec.name.clone(),
            )
        })
        .collect();
    for (index, listener) in listeners.iter_mut().enumerate() {
        for (other, (port, protocol, hostname, name)) in places.iter().enumerate() {
            if other != index {
                listener.conflict(name, (*port, *protocol, hostname));
            }
        }
    }
}

impl<'a> Parent<'a> {
    /// A ListenerSet.
    pub(crate) fn of_set(
        object: &'a Object,
        gateway: (&'a Object, &'a GatewaySpec),
        listeners: Vec<Listener<'a>>,
        refused: Reasons,
    ) -> Self {
        Self {
            object,
            gateway,
            listeners,
            refused,
            resolved: Reasons::default(),
        }
    }
}
