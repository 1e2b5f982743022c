//! Secrets, as they are kept.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::object::Misfit;

/// Its value says of what kind a Secret is a Credential.
pub(crate) const CREDENTIAL_LABEL: &str = "postern.dev/credential";
/// Names the Consumer of a Secret that is a Credential.
pub(crate) const CONSUMER_ANNOTATION: &str = "postern.dev/consumer";

/// What is kept of a Secret. Its values are never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretBody {
    /// `type`.
    pub(crate) kind: String,
    /// None where nothing needed them when they came by.
    pub(crate) data: Option<BTreeMap<String, Vec<u8>>>,
}

impl fmt::Debug for SecretBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBody({})", self.kind)
    }
}

impl SecretBody {
    /// Decodes by hand, because serde's messages quote the value that does not fit.
    pub(crate) fn decode(fields: &mut Map<String, Value>) -> Result<Self, Misfit> {
        let mut data = BTreeMap::new();
        for (name, value) in entries(fields, "data")? {
            let text = string(&name, "data", value)?;
            // YAML folds long values over several lines; base64 of that has blanks in it, which kubectl takes too.
            let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            let Ok(bytes) = STANDARD.decode(compact) else {
                let message =
                    "is not base64; write the plain value under stringData instead".to_owned();
                return Err(Misfit {
                    field: format!("data.{name}"),
                    message,
                });
            };
            data.insert(name, bytes);
        }
        for (name, value) in entries(fields, "stringData")? {
            let text = string(&name, "stringData", value)?;
            data.insert(name, text.into_bytes());
        }
        let kind = fields
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or("Opaque")
            .to_owned();
        Ok(Self {
            kind,
            data: Some(data),
        })
    }
}

fn entries(fields: &mut Map<String, Value>, at: &str) -> Result<Map<String, Value>, Misfit> {
    match fields.remove(at) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(entries)) => Ok(entries),
        Some(_) => Err(Misfit {
            field: at.to_owned(),
            message: "must be a mapping of names to values".to_owned(),
        }),
    }
}

fn string(name: &str, at: &str, value: Value) -> Result<String, Misfit> {
    match value {
        Value::String(text) => Ok(text),
        // kubectl takes an empty value ("key:") as the empty string.
        Value::Null => Ok(String::new()),
        _ => Err(Misfit {
            field: format!("{at}.{name}"),
            message: "must be a string; put the value into quotes".to_owned(),
        }),
    }
}
