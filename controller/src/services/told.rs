//! Says once, in the log and in an Event of the Gateway, that somebody else has the place of a Gateway's object.

use std::collections::BTreeSet;

use compile::GatewayService;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};

/// What stands in the way, as it was told.
pub(super) struct Told {
    recorder: Recorder,
    known: BTreeSet<Foreign>,
}

/// An object that is in the way of a Gateway's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Foreign {
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Foreign {
    fn message(&self) -> String {
        let Self {
            kind,
            namespace,
            name,
        } = self;
        format!(
            "{kind} {namespace}/{name} exists and is not Postern's, so this Gateway is not reached: rename or delete it"
        )
    }
}

impl Told {
    pub(super) const fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            known: BTreeSet::new(),
        }
    }

    /// Tells of what is new among all that stands in the way now, and forgets what no longer does.
    pub(super) async fn tell(&mut self, now: &[(GatewayService, Foreign)]) {
        self.known
            .retain(|known| now.iter().any(|(_, foreign)| foreign == known));
        for (wanted, foreign) in now {
            if !self.known.insert(foreign.clone()) {
                continue;
            }
            let message = foreign.message();
            tracing::warn!(gateway = %wanted.gateway, message);
            if let Err(error) = self.publish(wanted, message).await {
                tracing::warn!(gateway = %wanted.gateway, %error, "cannot write an Event");
            }
        }
    }

    async fn publish(&self, wanted: &GatewayService, message: String) -> Result<(), kube::Error> {
        let gateway = &wanted.gateway;
        let reference = ObjectReference {
            api_version: Some(gateway.kind.api_version().into()),
            kind: Some(gateway.kind.kind().into()),
            name: Some(gateway.name.to_string()),
            namespace: Some(gateway.namespace.to_string()),
            uid: Some(wanted.gateway_uid.to_string()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: EventType::Warning,
            reason: "NameTaken".into(),
            note: Some(message),
            action: "WriteService".into(),
            secondary: None,
        };
        self.recorder.publish(&event, &reference).await
    }
}
