//! Named fields of a query string or of a body: found, and cut out without disturbing the rest.
//!
//! Everything here reads what strangers send: it takes linear time, never recurses and never panics. What cannot be read
//! as its type says is [`Unreadable`], and is passed on as it is.

mod form;
#[cfg(any(test, feature = "invariants"))]
pub mod invariants;
mod json;
mod multipart;
mod parameter;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri, request};

/// More fields than this are refused: no reader after the gateway should have to cope with more either.
pub const MAX_FIELDS: usize = 10_000;

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Field<'a> {
    /// Nothing.
    #[default]
    Absent,
    /// Something that is no text: a name without a value, a number, null …
    NotText,
    /// One text.
    Text(Cow<'a, [u8]>),
    /// Several values, or a list.
    Repeated,
}

impl<'a> Field<'a> {
    /// Takes in one more value of the same name.
    fn add(&mut self, value: Self) {
        *self = match self {
            Self::Absent => value,
            _ => Self::Repeated,
        };
    }

    /// The value borrowing nothing that is not in `'a` already.
    fn text(text: impl Into<Cow<'a, [u8]>>) -> Self {
        Self::Text(text.into())
    }
}

/// Why fields cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not what its type says.
    #[error("it is malformed")]
    Malformed,
    /// It has more than [`MAX_FIELDS`].
    #[error("it has more than {MAX_FIELDS} fields")]
    TooMany,
}

/// What stands under `name` in a query string.
///
/// # Errors
/// There are too many parameters.
pub fn in_query<'a>(query: &'a str, name: &str) -> Result<Field<'a>, Unreadable> {
    let mut field = Field::Absent;
    form::each(query.as_bytes(), |parameter| {
        if parameter.is_named(name) {
            field.add(parameter.value());
        }
    })?;
    Ok(field)
}

/// The texts that stand under any of `names` in a query string, in its order.
///
/// # Errors
/// There are too many parameters.
pub fn each_in_query<'a>(
    query: &'a str,
    names: &[Box<str>],
    mut visit: impl FnMut(Cow<'a, [u8]>),
) -> Result<(), Unreadable> {
    form::each(query.as_bytes(), |parameter| {
        if names.iter().any(|name| parameter.is_named(name))
            && let Field::Text(text) = parameter.value()
        {
            visit(text);
        }
    })
}

/// The query string without the parameters called `name`; None where there is none of them.
#[must_use]
pub fn query_without(query: &str, name: &str) -> Option<String> {
    // Whole parameters are cut out between ASCII characters: it stays text.
    form::without(query.as_bytes(), name).and_then(|kept| String::from_utf8(kept).ok())
}

/// A target that does not hold together without a parameter; it never happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request's target could not be rewritten")]
pub struct NotRewritten;

/// Takes the parameters called `name` out of a request's query string, and leaves the rest as it is.
///
/// # Errors
/// Never, as far as anybody knows.
pub fn remove_from_query(head: &mut request::Parts, name: &str) -> Result<(), NotRewritten> {
    let Some(rest) = head
        .uri
        .query()
        .and_then(|query| query_without(query, name))
    else {
        return Ok(());
    };
    let path = head.uri.path();
    let target = if rest.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{rest}")
    };
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    // What was there is taken out of a target that was valid, so that the rest is too.
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| NotRewritten)?);
    head.uri = Uri::from_parts(parts).map_err(|_| NotRewritten)?;
    Ok(())
}

/// The types of bodies that hold named fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// `application/x-www-form-urlencoded`
    Form,
    /// `application/json`; only an object has fields.
    Json,
    /// `multipart/form-data`, with its boundary.
    Multipart(Vec<u8>),
}

impl Format {
    /// What the headers say; None where it is another type, none or an ambiguous one, or where the body is compressed.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let plain =
            |coding: &http::HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(CONTENT_ENCODING).iter().all(plain) {
            return None;
        }
        let mut types = headers.get_all(CONTENT_TYPE).iter();
        let (Some(text), None) = (types.next(), types.next()) else {
            return None;
        };
        let text = text.as_bytes();
        let essence = text.split(|byte| *byte == b';').next()?.trim_ascii();
        if essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            Some(Self::Form)
        } else if essence.eq_ignore_ascii_case(b"application/json") {
            Some(Self::Json)
        } else if essence.eq_ignore_ascii_case(b"multipart/form-data") {
            let boundary = parameter::find(text, "boundary").ok()??;
            // RFC 2046, section 5.1.1
            (1..=70)
                .contains(&boundary.len())
                .then_some(Self::Multipart(boundary))
        } else {
            None
        }
    }

    /// What stands under each of `names`, in their order.
    ///
    /// # Errors
    /// The body is not of this format, or has too many fields.
    pub fn find<'a>(&self, body: &'a [u8], names: &[&str]) -> Result<Vec<Field<'a>>, Unreadable> {
        let mut fields = vec![Field::Absent; names.len()];
        match self {
            Self::Form => form::each(body, |parameter| {
                for field in matching(&mut fields, names, |name| parameter.is_named(name)) {
                    field.add(parameter.value());
                }
            })?,
            Self::Json => {
                for member in json::members(body)? {
                    let key = member.key()?;
                    for field in matching(&mut fields, names, |name| *key == *name) {
                        field.add(member.value()?);
                    }
                }
            }
            Self::Multipart(boundary) => {
                for part in multipart::parts(body, boundary)? {
                    for field in matching(&mut fields, names, |name| part.is_named(name)) {
                        field.add(Field::text(part.value));
                    }
                }
            }
        }
        Ok(fields)
    }

    /// The body without the fields called `name`; None where there is none of them.
    ///
    /// # Errors
    /// The body is not of this format, or has too many fields.
    pub fn without(&self, body: &[u8], name: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        match self {
            Self::Form => Ok(form::without(body, name)),
            Self::Json => json::without(body, name),
            Self::Multipart(boundary) => multipart::without(body, boundary, name),
        }
    }
}

fn matching<'f, 'a>(
    fields: &'f mut [Field<'a>],
    names: &[&str],
    is: impl Fn(&str) -> bool,
) -> impl Iterator<Item = &'f mut Field<'a>> {
    let pairs = fields.iter_mut().zip(names);
    pairs
        .filter(move |(_, name)| is(name))
        .map(|(field, _)| field)
}

/// The pieces of `whole` that are outside `cuts`, which are sorted and do not overlap.
fn cut(whole: &[u8], cuts: impl IntoIterator<Item = std::ops::Range<usize>>) -> Vec<u8> {
    let mut kept = Vec::with_capacity(whole.len());
    let mut from = 0;
    for range in cuts {
        kept.extend_from_slice(whole.get(from..range.start).unwrap_or_default());
        from = range.end;
    }
    kept.extend_from_slice(whole.get(from..).unwrap_or_default());
    kept
}
