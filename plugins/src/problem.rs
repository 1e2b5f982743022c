//! What is wrong with a value, in words that name the field and the remedy.

use crate::ObjectName;
use crate::schema::{self, Rule};

/// A value that an object must not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}{separator}{message}", separator = if field.is_empty() { "" } else { ": " })]
pub struct Problem {
    /// Path of the field within what was checked, `keyNames[1]`; empty where it is about the whole.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl Problem {
    /// The same problem, seen from the object around it: `parent` becomes the head of the path.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => parent.to_owned(),
            item if item.starts_with('[') => format!("{parent}{item}"),
            field => format!("{parent}.{field}"),
        };
        self
    }
}

/// Gathers problems. The limits are those of the schemas, counted as the API server counts them.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// One more.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem {
            field: field.into(),
            message: message.into(),
        });
    }

    /// One more where a rule does not hold.
    pub fn rule(&mut self, field: &str, holds: bool, rule: Rule) {
        if !holds {
            self.add(field, rule.message);
        }
    }

    /// Checks the number of characters of a text.
    pub fn length(&mut self, field: &str, text: &str, min: usize, max: usize) {
        let length = text.chars().count();
        if length < min {
            self.add(field, "must not be empty");
        } else if length > max {
            self.add(
                field,
                format!("must have at most {max} characters, it has {length}"),
            );
        }
    }

    /// Checks a URL that is called.
    pub fn http_url(&mut self, field: &str, url: &str) {
        self.length(field, url, 1, 2048);
        self.rule(field, schema::is_http_url(url), schema::HTTP_URL);
    }

    /// Checks the field `anonymous`.
    pub fn anonymous(&mut self, anonymous: Option<&ObjectName>) {
        if let Some(anonymous) = anonymous {
            self.length("anonymous.name", &anonymous.name, 1, 253);
        }
    }

    /// Checks the field `realm`.
    pub fn realm(&mut self, realm: Option<&str>) {
        if let Some(realm) = realm {
            self.length("realm", realm, 1, 256);
            let printable = realm.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            self.rule("realm", printable, schema::REALM);
        }
    }

    /// Checks the number of items of a list, and the length of each, which must not be empty.
    pub fn items(
        &mut self,
        field: &str,
        items: &[String],
        min: usize,
        max: usize,
        max_length: usize,
    ) {
        if items.len() < min {
            self.add(
                field,
                format!(
                    "must have at least {min} item{}",
                    if min == 1 { "" } else { "s" }
                ),
            );
        } else if items.len() > max {
            self.add(
                field,
                format!("must have at most {max} items, it has {}", items.len()),
            );
        }
        for (index, item) in items.iter().enumerate() {
            self.length(&format!("{field}[{index}]"), item, 1, max_length);
        }
    }
}
