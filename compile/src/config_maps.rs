//! ConfigMaps, as they are kept.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::object::Misfit;

/// What is kept of a ConfigMap: the names of its entries, and the values of those that hold PEM. Nothing else is ever read
/// out of one, and there may be many and long ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigMapBody {
    entries: BTreeMap<String, Option<String>>,
}

impl ConfigMapBody {
    pub(crate) fn decode(fields: &mut Map<String, Value>) -> Result<Self, Misfit> {
        let misfit = |field: String, message: &str| Misfit {
            field,
            message: message.to_owned(),
        };
        let data = match fields.remove("data") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(data)) => data,
            Some(_) => {
                let message = "must be a mapping of names to values";
                return Err(misfit("data".to_owned(), message));
            }
        };
        let mut entries = BTreeMap::new();
        for (name, value) in data {
            let value = match value {
                Value::String(text) => Some(text).filter(|text| text.contains("-----BEGIN ")),
                Value::Null => None,
                _ => {
                    let message = "must be a string; put the value into quotes";
                    return Err(misfit(format!("data.{name}"), message));
                }
            };
            entries.insert(name, value);
        }
        Ok(Self { entries })
    }

    /// The PEM of an entry; why there is none where there is none.
    pub(crate) fn pem(&self, entry: &str) -> Result<&str, String> {
        match self.entries.get(entry) {
            Some(Some(text)) => Ok(text),
            Some(None) => Err(format!("holds no PEM in its entry {entry}")),
            None => Err(format!("has no entry {entry}")),
        }
    }
}
