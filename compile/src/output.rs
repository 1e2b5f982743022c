//! What follows from the objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ObjectRef;

/// What the compiler must be told about where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Controller name of the GatewayClasses that are ours: "postern.dev/gateway-controller".
    pub gateway_controller: String,
    /// Controller name of the IngressClasses that are ours: "postern.dev/ingress-controller".
    pub ingress_controller: String,
    /// Files (`postern run`): Gateway listeners open the very ports that they name; without any GatewayClass or
    /// IngressClass object the usual names count as ours; Ingresses are served on 8000 and 8443 whenever there is one.
    /// In a cluster each Gateway listener gets a port of the fleet to itself (see `GatewayService`).
    pub standalone: bool,
    /// HTTP and HTTPS ports on which Ingresses are served: 8000 and 8443.
    pub ingress_ports: (u16, u16),
    /// The controller's own namespace; the fleet lives there.
    pub namespace: String,
    /// Where the Services of Gateways are.
    pub gateway_services: ServicePlace,
}

/// Where the Services of Gateways are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServicePlace {
    /// In the controller's own namespace, beside the fleet.
    #[default]
    Release,
    /// Each in its Gateway's namespace.
    Gateway,
}

/// What changed since the last update.
#[derive(Debug, Default)]
pub struct Update {
    /// Of the snapshot.
    pub diff: snapshot::Diff,
    /// New or changed statuses, by object.
    pub statuses: BTreeMap<ObjectRef, ObjectStatus>,
    /// Objects that no longer have a status of ours (gone, or not ours any more).
    pub dropped_statuses: Vec<ObjectRef>,
    /// All diagnostics in force (not only new ones), sorted by object.
    pub diagnostics: Arc<[Diagnostic]>,
    /// Secrets that a controller has to generate, all in force: those that exist already are not among them.
    pub wanted_secrets: Vec<WantedSecret>,
    /// Services that lead to the fleet, one per Gateway (cluster only), all in force.
    pub gateway_services: Vec<GatewayService>,
}

/// A finding about an object, for `check`, the log, Events and metrics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    pub object: ObjectRef,
    pub level: Level,
    /// Reason in CamelCase, the condition's where there is one: "Conflicted", "RefNotPermitted", "InvalidField".
    pub reason: &'static str,
    /// Path of the field within the object ("spec.keyAuth.keyNames[1]"), empty where it is about the whole.
    pub field: String,
    /// Names what is wrong and the remedy. Never holds a secret.
    pub message: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The object, or a part of it, is refused: `check` exits 1.
    Error,
    /// It works, but not as its author may think.
    Warning,
}

/// The status that an object should have. `lastTransitionTime` and what proxies acknowledged are the writer's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectStatus {
    /// `metadata.generation` that this was computed from.
    pub generation: i64,
    pub uid: Arc<str>,
    pub body: StatusBody,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusBody {
    /// GatewayClass, Consumer, Credential, AuthPlugin: `fields` beside `conditions`.
    Conditions {
        conditions: Vec<Condition>,
        fields: BTreeMap<&'static str, serde_json::Value>,
    },
    /// Gateway: conditions, and listeners as in the API (conditions in them without lastTransitionTime).
    Gateway {
        conditions: Vec<Condition>,
        listeners: Vec<ListenerStatus>,
        /// How many ListenerSets add listeners to it.
        attached_sets: i32,
        /// What it asks for: until its Service has all of them, it is not programmed.
        addresses: Vec<String>,
    },
    /// ListenerSet: conditions, and listeners as a Gateway has them.
    ListenerSet {
        conditions: Vec<Condition>,
        listeners: Vec<ListenerStatus>,
    },
    /// HTTPRoute, GRPCRoute, TLSRoute: the parents that are ours, as in the API; others' parents stay untouched.
    Route { parents: Vec<ParentStatus> },
    /// BackendTLSPolicy: the ancestors that are ours, as in the API (`parent_ref` is the `ancestorRef`).
    Policy { ancestors: Vec<ParentStatus> },
    /// Ingress: `status.loadBalancer` is to show the fleet's address.
    Ingress,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerStatus {
    pub name: String,
    pub attached_routes: i32,
    /// Kinds, all of group gateway.networking.k8s.io.
    pub supported_kinds: Vec<&'static str>,
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentStatus {
    /// The parentRef as the route wrote it.
    pub parent_ref: serde_json::Value,
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub kind: &'static str,
    pub status: ConditionStatus,
    pub reason: &'static str,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionStatus {
    True,
    False,
    /// True as soon as the connected proxies have acknowledged these resources; the writer computes it and says in the
    /// message how many did. Used for `Programmed`.
    When(ProgrammedBy),
}

/// What must be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgrammedBy {
    /// Snapshot keys, sorted.
    pub keys: Vec<Arc<str>>,
    /// Whether it only works as it should where all proxies see the same tokens and sessions.
    pub shares_store: bool,
}

/// A Secret that the controller generates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedSecret {
    /// The Credential or AuthPlugin that will own it.
    pub owner: ObjectRef,
    pub owner_uid: Arc<str>,
    /// Name, in the owner's namespace.
    pub name: Arc<str>,
    /// Entries to generate: 32 characters each.
    pub entries: Vec<&'static str>,
}

/// A Service through which a Gateway's ports reach the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayService {
    pub gateway: ObjectRef,
    pub gateway_uid: Arc<str>,
    pub namespace: String,
    /// Differs between the two places, so that a Service that moves never meets itself where they are one namespace.
    pub name: String,
    /// Of the Gateway's `infrastructure`.
    pub labels: BTreeMap<String, String>,
    /// Of the Gateway's `infrastructure`.
    pub annotations: BTreeMap<String, String>,
    /// That the Gateway asks for.
    pub addresses: Vec<String>,
    /// (Service port name, port, target port that the fleet opens), sorted by port.
    pub ports: Vec<(String, u16, u16)>,
}
