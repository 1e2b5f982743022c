//! Says once, in the log and in an Event of the Gateway, that somebody else has the place of a Gateway's object.

use std::collections::BTreeSet;
use std::sync::Arc;

use compile::ObjectRef;
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
    pub(super) gateway: ObjectRef,
    pub(super) gateway_uid: Arc<str>,
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
            ..
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
    pub(super) async fn tell(&mut self, now: Vec<Foreign>) {
        let now: BTreeSet<_> = now.into_iter().collect();
        for foreign in now.difference(&self.known) {
            let message = foreign.message();
            tracing::warn!(gateway = %foreign.gateway, message);
            if let Err(error) = self.publish(foreign, message).await {
                tracing::warn!(gateway = %foreign.gateway, %error, "cannot write an Event");
            }
        }
        self.known = now;
    }

    async fn publish(&self, foreign: &Foreign, message: String) -> Result<(), kube::Error> {
        let gateway = &foreign.gateway;
        let reference = ObjectReference {
            api_version: Some(gateway.kind.api_version().into()),
            kind: Some(gateway.kind.kind().into()),
            name: Some(gateway.name.to_string()),
            namespace: Some(gateway.namespace.to_string()),
            uid: Some(foreign.gateway_uid.to_string()),
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
