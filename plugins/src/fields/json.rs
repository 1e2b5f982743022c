//! `application/json`: the members of an object, found by their places in the text, so that one can be cut out of it.
//!
//! Values are skipped, not read: nesting costs no stack, and numbers keep their spelling.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Field, MAX_FIELDS, Unreadable, cut};

/// One member, as it is written.
pub(super) struct Member<'a> {
    key: &'a str,
    value: &'a str,
}

impl<'a> Member<'a> {
    pub(super) fn key(&self) -> Result<Cow<'a, str>, Unreadable> {
        unquote(self.key)
    }

    pub(super) fn value(&self) -> Result<Field<'a>, Unreadable> {
        Ok(match self.value.as_bytes().first() {
            Some(b'"') => match unquote(self.value)? {
                Cow::Borrowed(text) => Field::text(text.as_bytes()),
                Cow::Owned(text) => Field::text(text.into_bytes()),
            },
            Some(b'[') => Field::Repeated,
            _ => Field::NotText,
        })
    }

    /// From the first byte of the key to the last of the value.
    fn span(&self, body: &[u8]) -> Range<usize> {
        let at = |part: &str| (part.as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
        at(self.key)..at(self.value).saturating_add(self.value.len())
    }
}

fn unquote(quoted: &str) -> Result<Cow<'_, str>, Unreadable> {
    if memchr::memchr(b'\\', quoted.as_bytes()).is_none() {
        let inner = quoted
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        return inner.map(Cow::Borrowed).ok_or(Unreadable::Malformed);
    }
    serde_json::from_str::<String>(quoted)
        .map(Cow::Owned)
        .map_err(|_| Unreadable::Malformed)
}

pub(super) fn members(body: &[u8]) -> Result<Vec<Member<'_>>, Unreadable> {
    let text = std::str::from_utf8(body).map_err(|_| Unreadable::Malformed)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let members = reader
        .deserialize_map(Members)
        .map_err(|_| Unreadable::Malformed)?;
    reader.end().map_err(|_| Unreadable::Malformed)?;
    if members.len() > MAX_FIELDS {
        return Err(Unreadable::TooMany);
    }
    Ok(members)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            // One more than allowed is enough to know; the rest is only checked.
            if members.len() <= MAX_FIELDS {
                members.push(Member {
                    key: key.get(),
                    value: value.get(),
                });
            }
        }
        Ok(members)
    }
}

pub(super) fn without(body: &[u8], name: &str) -> Result<Option<Vec<u8>>, Unreadable> {
    // Where each member is, and whether it goes.
    let mut places = Vec::new();
    for member in members(body)? {
        places.push((member.key()? == name, member.span(body)));
    }
    if !places.iter().any(|(goes, _)| *goes) {
        return Ok(None);
    }
    let mut cuts = Vec::new();
    let mut before: Option<usize> = None;
    let mut runs = places.chunk_by(|(a, _), (b, _)| a == b).peekable();
    while let Some(run) = runs.next() {
        let (Some((goes, first)), Some((_, last))) = (run.first(), run.last()) else {
            continue;
        };
        if *goes {
            // With the comma behind it, or where nothing follows, with the one before it.
            cuts.push(match (runs.peek().and_then(|next| next.first()), before) {
                (Some((_, next)), _) => first.start..next.start,
                (None, Some(before)) => before..last.end,
                (None, None) => first.start..last.end,
            });
        }
        before = Some(last.end);
    }
    Ok(Some(cut(body, cuts)))
}
