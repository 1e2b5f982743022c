//! What the store keeps of codes, tokens and lines. Nobody can make a token of it.

use std::time::Duration;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::secrets::{Digest, Handle};

/// How long a code lives, in seconds.
pub(super) const CODE_LIFETIME: u32 = 300;

/// To whom something was issued, by whom, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    /// Id of the plugin that issued it: a later one of its name is another.
    #[serde(rename = "p")]
    pub(super) plugin: String,
    /// Whether it counts for other plugins too.
    #[serde(rename = "g", default, skip_serializing_if = "is_false")]
    pub(super) global: bool,
    #[serde(rename = "c")]
    pub(super) client_id: String,
    /// Which application that was: the client id may be another's later.
    #[serde(rename = "a")]
    pub(super) application: String,
    /// Id of the Consumer that the application belonged to.
    #[serde(rename = "o")]
    pub(super) consumer: String,
    /// Separated by blanks; empty: none.
    #[serde(rename = "s", default, skip_serializing_if = "String::is_empty")]
    pub(super) scope: String,
    /// `authenticated_userid`; empty: none.
    #[serde(rename = "u", default, skip_serializing_if = "String::is_empty")]
    pub(super) user: String,
}

/// A code.
#[cfg(feature = "handlers")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Code {
    #[serde(rename = "w")]
    pub(super) subject: Subject,
    /// Where the user was sent to with it.
    #[serde(rename = "r")]
    pub(super) redirect_uri: String,
    /// Whether that was asked for in so many words.
    #[serde(rename = "x")]
    pub(super) explicit: bool,
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub(super) challenge: Option<String>,
    /// Seconds since 1970, excluded.
    #[serde(rename = "e")]
    pub(super) expires: i64,
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Access {
    #[serde(rename = "w")]
    pub(super) subject: Subject,
    /// The line that it belongs to; it counts only as long as that says so.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<Handle>,
    /// Seconds since 1970.
    #[serde(rename = "i")]
    pub(super) issued: i64,
    /// Seconds since 1970, excluded; 0: never.
    #[serde(rename = "e", default, skip_serializing_if = "is_zero")]
    pub(super) expires: i64,
}

/// The tokens that follow from one permission: one access token and one refresh token at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    #[serde(rename = "w")]
    pub(super) subject: Subject,
    /// Nothing of it counts any more.
    #[serde(rename = "v", default, skip_serializing_if = "is_false")]
    pub(super) revoked: bool,
    /// The code that began it.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<Digest>,
    /// Its access token.
    #[serde(rename = "t")]
    pub(super) access: Digest,
    /// Seconds since 1970, excluded; 0: never.
    #[serde(rename = "e", default, skip_serializing_if = "is_zero")]
    pub(super) access_expires: i64,
    /// Its refresh token.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub(super) refresh: Option<Digest>,
    /// Seconds since 1970.
    #[serde(rename = "i")]
    pub(super) refresh_issued: i64,
    /// Seconds since 1970, excluded; 0: never.
    #[serde(rename = "d", default, skip_serializing_if = "is_zero")]
    pub(super) refresh_expires: i64,
    /// What its tokens were issued for.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub(super) spent: Option<Spent>,
}

/// A code or refresh token that has been used, and what its answer followed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spent {
    #[serde(rename = "d")]
    pub(super) digest: Digest,
    #[serde(rename = "n")]
    pub(super) salt: [u8; 16],
    /// Seconds since 1970.
    #[serde(rename = "t")]
    pub(super) at: i64,
}

/// For the store. Writing plain structs to memory does not fail; an empty text would be read as nothing.
pub(super) fn write(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}

/// From the store; what cannot be read is not there.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// Whether something in the store is an access token: a line and a code have all of its members, too, and others.
pub(super) fn is_access(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Others {
        #[serde(rename = "t")]
        of_line: Option<IgnoredAny>,
        #[serde(rename = "r")]
        of_code: Option<IgnoredAny>,
    }
    read::<Others>(bytes).is_some_and(|others| others.of_line.is_none() && others.of_code.is_none())
        && read::<Access>(bytes).is_some()
}

/// A lifetime for the store.
pub(super) fn ttl(seconds: u32) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// When something expires that lives so long; 0: never.
pub(super) fn end(now: i64, seconds: u32) -> i64 {
    if seconds == 0 {
        0
    } else {
        now.saturating_add(seconds.into())
    }
}

/// Whether something that expires then has expired.
pub(super) const fn is_over(expires: i64, now: i64) -> bool {
    expires != 0 && now >= expires
}

const fn is_false(value: &bool) -> bool {
    !*value
}

const fn is_zero(value: &i64) -> bool {
    *value == 0
}
