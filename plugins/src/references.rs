//! What a configuration refers to: values that are not in it, because they are secret or long.
//!
//! Whoever resolves references knows where the values are; plugins know only what they need. A value comes back under the
//! path of the field that asked for it, see `handler::Values`.

use crate::{CaRef, CaRefKind, ConfigMapKeyRef, SecretKeyRef};

/// A value that a configuration needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Path of the field within the plugin's block, "provisionKeySecretRef" or "session.secretRef". Also where the field
    /// itself is absent and its value therefore generated.
    pub field: String,
    /// Where the value is.
    pub source: Source,
}

/// Where a value is; always in the namespace of the `AuthPlugin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In a Secret.
    Secret(SecretKeyRef),
    /// In a ConfigMap, as PEM.
    ConfigMap(ConfigMapKeyRef),
    /// In this entry of the Secret that is named after the `AuthPlugin` and owned by it: 32 random letters and digits, made
    /// once.
    Generated(&'static str),
}

impl Reference {
    /// A value of a Secret.
    #[must_use]
    pub fn secret(field: impl Into<String>, at: &SecretKeyRef) -> Self {
        Self {
            field: field.into(),
            source: Source::Secret(at.clone()),
        }
    }

    /// A value of a Secret; where none is named, one that is generated into this entry.
    #[must_use]
    pub fn secret_or_generated(
        field: impl Into<String>,
        at: Option<&SecretKeyRef>,
        entry: &'static str,
    ) -> Self {
        Self {
            field: field.into(),
            source: at.map_or(Source::Generated(entry), |at| Source::Secret(at.clone())),
        }
    }

    /// The certificates of a private CA.
    #[must_use]
    pub fn ca(field: impl Into<String>, at: &CaRef) -> Self {
        let (name, key) = (at.name.clone(), at.key.clone());
        Self {
            field: field.into(),
            source: match at.kind {
                CaRefKind::Secret => Source::Secret(SecretKeyRef { name, key }),
                CaRefKind::ConfigMap => Source::ConfigMap(ConfigMapKeyRef { name, key }),
            },
        }
    }

    /// The same reference, seen from the block around it: `parent` becomes the head of the path.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}
