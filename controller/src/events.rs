//! Tells of refused objects in Kubernetes Events: once for each finding, not at every compilation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use compile::{Diagnostic, Level, ObjectRef};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::lease::Leadership;
use crate::metrics::Metrics;

/// Events in one second, at most.
const PER_SECOND: u32 = 10;
/// Findings that wait to be told; further ones are only in status and log.
const WAITING: usize = 1000;
/// Longest note that the API server takes.
const MAX_NOTE: usize = 1024;

/// Publishes Events while this replica holds the lease.
pub(crate) async fn run(
    client: kube::Client,
    pod: String,
    mut findings: watch::Receiver<Arc<[Diagnostic]>>,
    mut leadership: Leadership,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let recorder = recorder(&client, pod);
    let mut ledger = Ledger::default();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    findings.mark_changed();
    loop {
        let next = async {
            leadership.gained().await;
            tick.tick().await;
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = findings.changed() => {
                if changed.is_err() {
                    return;
                }
                ledger.take(&findings.borrow_and_update());
                continue;
            }
            () = next, if !ledger.waiting.is_empty() => {}
        }
        let Some(finding) = ledger.waiting.pop_first() else {
            continue;
        };
        match publish(&client, &recorder, &finding).await {
            Ok(()) => metrics.event("written"),
            Err(error) => {
                metrics.event("failed");
                tracing::warn!(object = %finding.object, %error, "cannot write an Event");
            }
        }
    }
}

/// Writes Events in this controller's name.
pub(crate) fn recorder(client: &kube::Client, pod: String) -> Recorder {
    let reporter = Reporter {
        controller: "postern.dev/controller".into(),
        instance: Some(pod),
    };
    Recorder::new(client.clone(), reporter)
}

/// Which findings were told.
#[derive(Debug, Default)]
struct Ledger {
    /// In force, as of the last look.
    known: BTreeMap<ObjectRef, BTreeSet<Diagnostic>>,
    waiting: BTreeSet<Diagnostic>,
}

impl Ledger {
    /// Takes all findings in force; those that are new wait to be told, those that are gone no longer do.
    fn take(&mut self, findings: &[Diagnostic]) {
        let mut now: BTreeMap<ObjectRef, BTreeSet<Diagnostic>> = BTreeMap::new();
        for finding in findings
            .iter()
            .filter(|finding| finding.level == Level::Error)
        {
            let fresh = !self
                .known
                .get(&finding.object)
                .is_some_and(|known| known.contains(finding));
            if fresh && self.waiting.len() < WAITING {
                self.waiting.insert(finding.clone());
            }
            now.entry(finding.object.clone())
                .or_default()
                .insert(finding.clone());
        }
        self.waiting.retain(|finding| {
            now.get(&finding.object)
                .is_some_and(|now| now.contains(finding))
        });
        self.known = now;
    }
}

async fn publish(
    client: &kube::Client,
    recorder: &Recorder,
    finding: &Diagnostic,
) -> Result<(), kube::Error> {
    let object = &finding.object;
    let resource = crate::watch::resource(object.kind);
    let api: Api<kube::api::DynamicObject> = if object.kind.namespaced() {
        Api::namespaced_with(client.clone(), &object.namespace, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    };
    // `kubectl describe` finds Events by UID.
    let found: Option<PartialObjectMeta<kube::api::DynamicObject>> =
        api.get_metadata_opt(&object.name).await?;
    let Some(found) = found else { return Ok(()) };
    let reference = ObjectReference {
        api_version: Some(object.kind.api_version().into()),
        kind: Some(object.kind.kind().into()),
        name: Some(object.name.to_string()),
        namespace: (!object.namespace.is_empty()).then(|| object.namespace.to_string()),
        uid: found.metadata.uid,
        resource_version: found.metadata.resource_version,
        field_path: (!finding.field.is_empty()).then(|| finding.field.clone()),
    };
    let event = Event {
        type_: EventType::Warning,
        reason: finding.reason.into(),
        note: Some(note(finding)),
        action: "Compile".into(),
        secondary: None,
    };
    recorder.publish(&event, &reference).await
}

fn note(finding: &Diagnostic) -> String {
    let mut note = if finding.field.is_empty() {
        finding.message.clone()
    } else {
        format!("{}: {}", finding.field, finding.message)
    };
    if note.len() > MAX_NOTE {
        let end = note.floor_char_boundary(MAX_NOTE - "…".len());
        note.truncate(end);
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;
    use compile::Kind;

    fn finding(name: &str, message: &str, level: Level) -> Diagnostic {
        Diagnostic {
            object: ObjectRef::new(Kind::AuthPlugin, "shop", name),
            level,
            reason: "InvalidField",
            field: "spec.keyAuth.keyNames[0]".into(),
            message: message.into(),
        }
    }

    #[test]
    fn a_finding_is_told_once_and_again_only_when_it_comes_back() {
        let mut ledger = Ledger::default();
        let (a, b) = (
            finding("a", "wrong", Level::Error),
            finding("b", "wrong", Level::Error),
        );
        ledger.take(&[a.clone(), finding("c", "odd", Level::Warning)]);
        assert_eq!(
            std::mem::take(&mut ledger.waiting),
            BTreeSet::from([a.clone()])
        );
        ledger.take(&[a.clone(), b.clone()]);
        assert_eq!(ledger.waiting, BTreeSet::from([b]));
        ledger.take(std::slice::from_ref(&a));
        assert!(ledger.waiting.is_empty(), "repaired before it was told");
        ledger.take(&[]);
        ledger.take(std::slice::from_ref(&a));
        assert_eq!(ledger.waiting, BTreeSet::from([a]));
    }

    #[test]
    fn notes_fit_the_api() {
        let long = note(&finding("a", &"ü".repeat(2000), Level::Error));
        assert!(
            long.len() <= MAX_NOTE && long.ends_with('…'),
            "{} bytes",
            long.len()
        );
        assert_eq!(
            note(&finding("a", "wrong", Level::Error)),
            "spec.keyAuth.keyNames[0]: wrong"
        );
    }
}
