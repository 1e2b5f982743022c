//! Statuses and diagnostics as they are collected.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{
    Condition, ConditionStatus, Diagnostic, Level, Object, ObjectRef, ObjectStatus, ProgrammedBy,
    StatusBody,
};

/// What one pass found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) statuses: BTreeMap<ObjectRef, ObjectStatus>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Findings {
    pub(crate) fn error(
        &mut self,
        object: &ObjectRef,
        reason: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.add(object, Level::Error, reason, field.into(), message.into());
    }

    pub(crate) fn warning(
        &mut self,
        object: &ObjectRef,
        reason: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.add(object, Level::Warning, reason, field.into(), message.into());
    }

    fn add(
        &mut self,
        object: &ObjectRef,
        level: Level,
        reason: &'static str,
        field: String,
        message: String,
    ) {
        self.diagnostics.push(Diagnostic {
            object: object.clone(),
            level,
            reason,
            field,
            message,
        });
    }

    pub(crate) fn status(&mut self, object: &Object, body: StatusBody) {
        let status = ObjectStatus {
            generation: object.meta.generation,
            uid: Arc::clone(&object.meta.uid),
            body,
        };
        self.statuses.insert(object.reference.clone(), status);
    }
}

impl Condition {
    pub(crate) fn yes(kind: &'static str, reason: &'static str) -> Self {
        Self {
            kind,
            status: ConditionStatus::True,
            reason,
            message: String::new(),
        }
    }

    pub(crate) fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            status: ConditionStatus::False,
            reason,
            message: message.into(),
        }
    }

    /// `Programmed`, as soon as the proxies have these resources.
    pub(crate) fn programmed(keys: impl IntoIterator<Item = Arc<str>>) -> Self {
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let status = ConditionStatus::When(ProgrammedBy {
            keys,
            shares_store: false,
        });
        Self {
            kind: "Programmed",
            status,
            reason: "Programmed",
            message: String::new(),
        }
    }

    /// Of something that keeps tokens or sessions, if `shares_store`.
    pub(crate) fn sharing_store(mut self, shares_store: bool) -> Self {
        if let ConditionStatus::When(by) = &mut self.status {
            by.shares_store = shares_store;
        }
        self
    }
}

/// Why a condition does not hold; the first reason counts, all messages are shown.
#[derive(Debug, Default)]
pub(crate) struct Reasons {
    reason: Option<&'static str>,
    messages: Vec<String>,
}

impl Reasons {
    pub(crate) fn add(&mut self, reason: &'static str, message: impl Into<String>) {
        self.reason.get_or_insert(reason);
        self.messages.push(message.into());
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.reason.is_none()
    }

    /// The condition: true with `good` where nothing was added.
    pub(crate) fn condition(&self, kind: &'static str, good: &'static str) -> Condition {
        match self.reason {
            None => Condition::yes(kind, good),
            Some(reason) => Condition::no(kind, reason, self.messages.join("; ")),
        }
    }
}

/// `spec` and a path within it.
pub(crate) fn in_spec(field: &str) -> String {
    if field.is_empty() {
        "spec".to_owned()
    } else {
        format!("spec.{field}")
    }
}
