//! What a match asks for, ready to be compared.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};
use regex::{Regex, RegexBuilder};
use snapshot::proto;

use crate::http::path::canonical;
use crate::runtime::Request;

/// One match of a rule.
#[derive(Debug, Clone)]
pub(crate) struct Match {
    pub(super) path: PathMatch,
    pub(super) conditions: Option<Arc<Conditions>>,
}

#[derive(Debug, Clone)]
pub(super) enum PathMatch {
    /// Without a slash at the end; every path: "".
    Prefix(Box<str>),
    Exact(Box<str>),
    /// With the length of what the user wrote.
    Regex(Arc<Regex>, usize),
}

#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) method: Option<Method>,
    pub(super) headers: Box<[(HeaderName, Text)]>,
    pub(super) query: Box<[(Box<str>, Text)]>,
}

#[derive(Debug)]
pub(super) enum Text {
    Is(Box<str>),
    Matches(Arc<Regex>),
}

/// Regular expressions that are in use: to compile one takes longer than everything else about a route.
#[derive(Debug, Default)]
pub(crate) struct Regexes(HashMap<String, Arc<Regex>>);

/// What a compiled expression may take, in bytes.
const REGEX_SIZE: usize = 1 << 20;

impl Regexes {
    fn get(&mut self, pattern: &str) -> Result<Arc<Regex>, String> {
        if let Some(regex) = self.0.get(pattern) {
            return Ok(Arc::clone(regex));
        }
        let build = |pattern: &str| {
            RegexBuilder::new(pattern)
                .size_limit(REGEX_SIZE)
                .dfa_size_limit(REGEX_SIZE)
                .build()
                .map_err(|error| {
                    format!("{pattern:?} is not a regular expression that can be used: {error}")
                })
        };
        // Alone first: what is none by itself must not become one between the brackets.
        build(pattern)?;
        let regex = Arc::new(build(&format!("^(?:{pattern})$"))?);
        self.0.insert(pattern.to_owned(), Arc::clone(&regex));
        Ok(regex)
    }

    /// Forgets those that nobody uses.
    pub(crate) fn forget_unused(&mut self) {
        self.0.retain(|_, regex| Arc::strong_count(regex) > 1);
    }
}

impl Match {
    /// Every path.
    pub(crate) fn everything() -> Self {
        Self {
            path: PathMatch::Prefix(Box::default()),
            conditions: None,
        }
    }

    /// The expression that paths must match, where it is one.
    pub(crate) const fn path_regex(&self) -> Option<&Arc<Regex>> {
        match &self.path {
            PathMatch::Regex(regex, _) => Some(regex),
            _ => None,
        }
    }

    /// Reads a match.
    ///
    /// # Errors
    /// It can never match, or not be understood: why.
    pub(crate) fn new(from: &proto::Match, regexes: &mut Regexes) -> Result<Self, String> {
        let path = match &from.path {
            Some(path) => {
                path_match(path, regexes).map_err(|why| format!("path {:?}: {why}", path.value))?
            }
            None => PathMatch::Prefix(Box::default()),
        };
        let method = match from.method.as_str() {
            "" => None,
            name => Some(
                Method::from_bytes(name.as_bytes())
                    .map_err(|_| format!("method {name:?} is none"))?,
            ),
        };
        let mut text = |from: &proto::ValueMatch| {
            Ok::<_, String>(if from.regex {
                Text::Matches(regexes.get(&from.value)?)
            } else {
                Text::Is(from.value.as_str().into())
            })
        };
        let headers = from
            .headers
            .iter()
            .map(|header| {
                let name = HeaderName::from_bytes(header.name.as_bytes())
                    .map_err(|_| format!("{:?} is not the name of a header", header.name))?;
                Ok((name, text(header)?))
            })
            .collect::<Result<Box<[_]>, String>>()?;
        let query = from
            .query
            .iter()
            .map(|parameter| Ok((parameter.name.as_str().into(), text(parameter)?)))
            .collect::<Result<Box<[_]>, String>>()?;
        let conditions =
            (method.is_some() || !headers.is_empty() || !query.is_empty()).then(|| {
                Arc::new(Conditions {
                    method,
                    headers,
                    query,
                })
            });
        Ok(Self { path, conditions })
    }
}

fn path_match(path: &proto::PathMatch, regexes: &mut Regexes) -> Result<PathMatch, String> {
    use proto::path_match::Type;
    let kind =
        Type::try_from(path.r#type).map_err(|_| format!("type {} is unknown", path.r#type))?;
    if kind == Type::Regex {
        return Ok(PathMatch::Regex(
            regexes.get(&path.value)?,
            path.value.len(),
        ));
    }
    // Requests are compared in this form, so that no other could ever match.
    let canonical = canonical(&path.value).map_err(|bad| bad.message().to_owned())?;
    let value = canonical.unwrap_or_else(|| path.value.clone());
    Ok(match kind {
        Type::Exact => PathMatch::Exact(value.into()),
        Type::Prefix | Type::Regex => {
            PathMatch::Prefix(value.strip_suffix('/').unwrap_or(&value).into())
        }
    })
}

/// What a request lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack<'a> {
    Method(&'a Method),
    Header(&'a HeaderName),
    Query(&'a str),
}

impl Conditions {
    /// The first condition that does not hold.
    pub(super) fn lack(&self, request: &Request<'_>) -> Option<Lack<'_>> {
        if let Some(method) = &self.method
            && method != request.method
        {
            return Some(Lack::Method(method));
        }
        let mut headers = self.headers.iter();
        if let Some((name, _)) =
            headers.find(|(name, text)| !match_header(request.headers, name, text))
        {
            return Some(Lack::Header(name));
        }
        let query = request.query.unwrap_or_default();
        let mut parameters = self.query.iter();
        parameters
            .find(|(name, text)| !match_query(query, name, text))
            .map(|(name, _)| Lack::Query(name))
    }
}

/// A header on several lines counts as one, joined by commas (RFC 9110, 5.2).
fn match_header(headers: &HeaderMap, name: &HeaderName, text: &Text) -> bool {
    let mut lines = headers.get_all(name).iter();
    let Some(first) = lines.next() else {
        return false;
    };
    let Some(second) = lines.next() else {
        return text.matches(first.as_bytes());
    };
    let mut joined = first.as_bytes().to_vec();
    for line in std::iter::once(second).chain(lines) {
        joined.push(b',');
        joined.extend_from_slice(line.as_bytes());
    }
    text.matches(&joined)
}

/// The first parameter of that name counts.
fn match_query(query: &str, name: &str, text: &Text) -> bool {
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decoded(key).eq(name.bytes()) {
            return match text {
                Text::Is(wanted) => decoded(value).eq(wanted.bytes()),
                Text::Matches(_) => text.matches(&decoded(value).collect::<Vec<_>>()),
            };
        }
    }
    false
}

impl Text {
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Is(wanted) => wanted.as_bytes() == value,
            Self::Matches(regex) => {
                std::str::from_utf8(value).is_ok_and(|value| regex.is_match(value))
            }
        }
    }
}

/// The bytes that a form-encoded text stands for.
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut bytes = text.bytes();
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    std::iter::from_fn(move || match bytes.next()? {
        b'+' => Some(b' '),
        b'%' => {
            let mut ahead = bytes.clone();
            match (ahead.next().and_then(digit), ahead.next().and_then(digit)) {
                (Some(high), Some(low)) => {
                    bytes = ahead;
                    Some(high << 4 | low)
                }
                _ => Some(b'%'),
            }
        }
        byte => Some(byte),
    })
}
