//! What is wrong in a file, and where.

use std::fmt;
use std::path::PathBuf;

use compile::{Level, ObjectRef};

/// Something to tell the author of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, as the user would name it; "-" is standard input.
    pub path: PathBuf,
    /// The line, from 1; 0 where it is about the whole file.
    pub line: u32,
    pub level: Level,
    /// The object, where one could be told.
    pub object: Option<ObjectRef>,
    /// Path of the field within the object; empty where it is about the whole.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Finding {
    /// About a whole file, or about text in it that could not be read as an object.
    pub(super) fn of_text(path: PathBuf, line: u32, message: String) -> Self {
        Self {
            path,
            line,
            level: Level::Error,
            object: None,
            field: String::new(),
            message,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        f.write_str(match self.level {
            Level::Error => ": error: ",
            Level::Warning => ": warning: ",
        })?;
        if let Some(object) = &self.object {
            write!(f, "{}: ", Slashed(object))?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// An object as `Kind/namespace/name`.
struct Slashed<'a>(&'a ObjectRef);

impl fmt::Display for Slashed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectRef {
            kind,
            namespace,
            name,
        } = self.0;
        if namespace.is_empty() {
            write!(f, "{kind}/{name}")
        } else {
            write!(f, "{kind}/{namespace}/{name}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compile::Kind;

    #[test]
    fn findings_read_like_a_compilers() {
        let mut finding = Finding {
            path: "shop/keys.yaml".into(),
            line: 7,
            level: Level::Error,
            object: Some(ObjectRef::new(Kind::Credential, "shop", "alice-key")),
            field: "spec.ttl".to_owned(),
            message: "must be 0..100000000".to_owned(),
        };
        assert_eq!(
            finding.to_string(),
            "shop/keys.yaml:7: error: Credential/shop/alice-key: spec.ttl: must be 0..100000000"
        );
        finding.object = Some(ObjectRef::new(Kind::GatewayClass, "", "postern"));
        finding.level = Level::Warning;
        finding.field.clear();
        finding.line = 0;
        assert_eq!(
            finding.to_string(),
            "shop/keys.yaml: warning: GatewayClass/postern: must be 0..100000000"
        );
    }
}
