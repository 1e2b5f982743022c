//! What Redis says.

use redis::{RedisError, ServerError, Value};

use super::connect::Address;
use crate::Unavailable;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It was not done, and may be tried again.
    NotDone,
    /// Nobody knows whether it was done.
    Unknown,
    /// Another server serves the slot.
    Moved(Address),
    /// Another server serves the key, this once.
    Ask(Address),
    /// There is no memory for it.
    Full,
    /// It will not be done, however often it is tried.
    Refused(String),
}

impl Failure {
    /// What an error that the server has sent means: whatever it was, nothing has been done.
    pub(super) fn of_server(error: &ServerError, host: &str) -> Self {
        let target = || {
            let (_, address) = error.details()?.split_once(' ')?;
            Address::parse_announced(address.trim(), host)
        };
        match error.code() {
            "MOVED" => target().map_or(Self::NotDone, Self::Moved),
            "ASK" => target().map_or(Self::NotDone, Self::Ask),
            "OOM" => Self::Full,
            "READONLY" | "LOADING" | "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN" | "NOREPLICAS"
            | "BUSY" | "UNBLOCKED" | "MISCONF" => Self::NotDone,
            code => Self::Refused(format!("{code} {}", error.details().unwrap_or_default())),
        }
    }

    /// What an error of the connection means, after something was sent.
    pub(super) fn of_connection(_error: &RedisError) -> Self {
        Self::Unknown
    }
}

/// Bytes, or nothing.
pub(super) fn bytes(value: Value) -> Result<Option<Vec<u8>>, Unavailable> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        other => Err(strange(&other)),
    }
}

/// The next cursor, and the names that were found.
pub(super) fn names(value: Value) -> Result<(u64, Vec<String>), Unavailable> {
    let Value::Array(parts) = value else {
        return Err(strange(&value));
    };
    match parts.as_slice() {
        [cursor, Value::Array(names)] => {
            let cursor = text(cursor).and_then(|cursor| cursor.parse().ok());
            let cursor = cursor.ok_or(Unavailable::Uncertain)?;
            Ok((cursor, names.iter().filter_map(text).collect()))
        }
        _ => Err(strange(&Value::Nil)),
    }
}

/// Whether a condition held.
pub(super) fn done(value: &Value) -> Result<bool, Unavailable> {
    match value {
        Value::Okay | Value::Int(1) => Ok(true),
        Value::Nil | Value::Int(0) => Ok(false),
        other => Err(strange(other)),
    }
}

fn strange(value: &Value) -> Unavailable {
    let kind = match value {
        Value::Array(_) => "an array",
        Value::Int(_) => "a number",
        Value::BulkString(_) => "bytes",
        _ => "something",
    };
    tracing::error!("Redis answers with {kind} where that makes no sense");
    Unavailable::Uncertain
}

/// Text in whatever form.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        Value::VerbatimString { text, .. } => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(super) fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        other => text(other)?.parse().ok(),
    }
}
