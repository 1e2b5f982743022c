//! Why a call is refused, and the one place that turns it into an answer.
//!
//! Codes and names are those that clients of Kong's Admin API know.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::tree::set;

/// What is wrong with which field; paths have dots, "config.key_names". An empty path is about the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Violations(pub(crate) BTreeMap<String, String>);

impl Violations {
    /// One violation.
    pub(crate) fn of(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self([(field.into(), message.into())].into())
    }

    /// One more; the first of a field counts.
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.entry(field.into()).or_insert_with(|| message.into());
    }

    /// Refuses what has any.
    pub(crate) fn none(self) -> Result<(), Refused> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Refused::Violations(self))
        }
    }

    fn message(&self) -> String {
        let each = self.0.iter().map(|(field, message)| match field.as_str() {
            "" => message.clone(),
            field => format!("{field}: {message}"),
        });
        let all = each.collect::<Vec<_>>().join("; ");
        match self.0.len() {
            1 => format!("schema violation ({all})"),
            count => format!("{count} schema violations ({all})"),
        }
    }

    fn fields(&self) -> Value {
        let mut fields = Map::new();
        for (path, message) in &self.0 {
            let path = if path.is_empty() { "@entity" } else { path };
            insert(&mut fields, path, message);
        }
        Value::Object(fields)
    }
}

fn insert(fields: &mut Map<String, Value>, path: &str, message: &str) {
    match path.split_once('.') {
        Some((head, rest)) => {
            let inner = fields.entry(head.to_owned()).or_insert_with(|| json!({}));
            // Otherwise the whole is wrong already.
            if let Value::Object(inner) = inner {
                insert(inner, rest, message);
            }
        }
        None => {
            let message = if path == "@entity" {
                json!([message])
            } else {
                json!(message)
            };
            fields.insert(path.to_owned(), message);
        }
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("Not found")]
    NotFound,
    #[error("Method not allowed")]
    Method,
    #[error("{}", .0.message())]
    Violations(Violations),
    /// A value that another entity has; what is secret is not repeated.
    #[error("UNIQUE violation detected on '{{{field}={value:?}}}'")]
    Taken { field: &'static str, value: String },
    /// The API cannot write this object.
    #[error("{0}")]
    ReadOnly(String),
    /// Somebody else wrote at the same time, or a name means several objects.
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Size(String),
    #[error("{0:?} is not a valid offset: take it from the answer before")]
    Offset(String),
    #[error("invalid option ({field}: {message})")]
    Option { field: String, message: String },
    #[error("{0}")]
    Body(String),
    #[error("{0}")]
    Media(String),
    #[error("the body is longer than {0} bytes")]
    Long(usize),
    #[error("{0}")]
    Unauthenticated(String),
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    Misdirected(String),
    /// Somebody who is needed does not answer.
    #[error("{0}")]
    Unavailable(String),
    #[error("An unexpected error occurred")]
    Unexpected,
}

impl Refused {
    /// One violation.
    pub(crate) fn violation(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Violations(Violations::of(field, message))
    }

    fn parts(&self) -> (StatusCode, Option<(u16, &'static str)>) {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, None),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, None),
            Self::Violations(_) => (StatusCode::BAD_REQUEST, Some((2, "schema violation"))),
            Self::Taken { .. } => (
                StatusCode::CONFLICT,
                Some((5, "unique constraint violation")),
            ),
            Self::ReadOnly(_) => (
                StatusCode::METHOD_NOT_ALLOWED,
                Some((12, "operation unsupported")),
            ),
            Self::Conflict(_) => (StatusCode::CONFLICT, None),
            Self::Size(_) => (StatusCode::BAD_REQUEST, Some((9, "invalid size"))),
            Self::Offset(_) => (StatusCode::BAD_REQUEST, Some((7, "invalid offset"))),
            Self::Option { .. } => (StatusCode::BAD_REQUEST, Some((11, "invalid options"))),
            Self::Body(_) => (StatusCode::BAD_REQUEST, None),
            Self::Media(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
            Self::Long(_) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            Self::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, None),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, None),
            Self::Misdirected(_) => (StatusCode::MISDIRECTED_REQUEST, None),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, None),
            Self::Unexpected => (StatusCode::INTERNAL_SERVER_ERROR, None),
        }
    }

    fn fields(&self) -> Option<Value> {
        match self {
            Self::Violations(violations) => Some(violations.fields()),
            Self::Taken { field, value } => Some(json!({ *field: value })),
            Self::Option { field, message } => Some(json!({ field: message })),
            _ => None,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code) = self.parts();
        let mut body = json!({ "message": self.to_string() });
        if let Some((code, name)) = code {
            set(&mut body, &["code"], code);
            set(&mut body, &["name"], name);
        }
        if let Some(fields) = self.fields() {
            set(&mut body, &["fields"], fields);
        }
        let mut response = super::answer::json(status, &body);
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"postern admin\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if matches!(self, Self::ReadOnly(_)) {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_name_their_fields() {
        let mut violations = Violations::of("config.key_names", "expected an array");
        violations.add("", "give one of two");
        assert_eq!(
            violations.fields(),
            json!({"config": {"key_names": "expected an array"}, "@entity": ["give one of two"]})
        );
        assert_eq!(
            violations.message(),
            "2 schema violations (give one of two; config.key_names: expected an array)"
        );
    }
}
