//! Where a request holds its token.

use std::borrow::Cow;

use http::header::COOKIE;
use http::{HeaderName, request};

use super::Config;
use crate::fields::{self, Unreadable};

/// Where to search.
#[derive(Debug)]
pub(super) struct Places {
    parameters: Box<[Box<str>]>,
    cookies: Box<[Box<str>]>,
    headers: Box<[HeaderName]>,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Presented<'a> {
    Nothing,
    Token(Cow<'a, [u8]>),
    /// Several, and not all the same: which of them the upstream would believe cannot be known.
    Several,
}

impl<'a> Presented<'a> {
    fn add(&mut self, token: Cow<'a, [u8]>) {
        if token.is_empty() {
            return;
        }
        *self = match std::mem::replace(self, Self::Several) {
            Self::Nothing => Self::Token(token),
            Self::Token(known) if known == token => Self::Token(known),
            Self::Token(_) | Self::Several => Self::Several,
        };
    }
}

impl Places {
    pub(super) fn of(config: &Config) -> Result<Self, String> {
        let names = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
        let header = |name: &String| {
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("headerNames: {name:?} is no name of a header"))
        };
        Ok(Self {
            parameters: names(&config.uri_param_names),
            cookies: names(&config.cookie_names),
            headers: config
                .header_names
                .iter()
                .map(header)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Searches all places: the distinct values that are there.
    pub(super) fn search<'h>(&self, head: &'h request::Parts) -> Result<Presented<'h>, Unreadable> {
        let mut found = Presented::Nothing;
        for name in &self.headers {
            // Of a repeated header the first line counts.
            if let Some(token) = head
                .headers
                .get(name)
                .and_then(|value| bearer(value.as_bytes()))
            {
                found.add(Cow::Borrowed(token));
            }
        }
        if !self.parameters.is_empty()
            && let Some(query) = head.uri.query()
        {
            fields::each_in_query(query, &self.parameters, |token| found.add(token))?;
        }
        if !self.cookies.is_empty() {
            for line in head.headers.get_all(COOKIE) {
                for (name, value) in cookies(line.as_bytes()) {
                    if self.cookies.iter().any(|own| own.as_bytes() == name) {
                        found.add(Cow::Borrowed(value));
                    }
                }
            }
        }
        Ok(found)
    }
}

/// What follows `Bearer` or `bearer` and at least one blank.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let rest = value
        .strip_prefix(b"Bearer")
        .or_else(|| value.strip_prefix(b"bearer"))?;
    let token = rest.trim_ascii_start();
    (token.len() < rest.len()).then_some(token)
}

/// Names and values of a Cookie header (RFC 6265, section 4.2.1); quotes round a value are not part of it.
pub(super) fn cookies(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b';').filter_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (name, value) = pair.split_at_checked(at)?;
        let value = value.get(1..)?.trim_ascii();
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""));
        Some((name.trim_ascii(), quoted.unwrap_or(value)))
    })
}
