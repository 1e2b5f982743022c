//! `multipart/form-data` (RFC 7578): parts between lines that hold the boundary.
//!
//! Strict, because readers of multipart differ: only CRLF ends a line, and the closing boundary must be there.

use std::ops::Range;

use memchr::memmem;

use super::{MAX_FIELDS, Unreadable, cut, parameter};

/// Bytes of a part's headers.
const MAX_HEADERS: usize = 16 * 1024;

/// One part.
pub(super) struct Part<'a> {
    name: Option<Vec<u8>>,
    pub(super) value: &'a [u8],
    /// From the line with its boundary up to the next one.
    span: Range<usize>,
}

impl Part<'_> {
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name.as_bytes())
    }
}

pub(super) fn parts<'a>(body: &'a [u8], boundary: &[u8]) -> Result<Vec<Part<'a>>, Unreadable> {
    let delimiter = [b"\r\n--", boundary].concat();
    let finder = memmem::Finder::new(&delimiter);
    let line = delimiter.get(2..).unwrap_or_default();
    let mut parts = Vec::new();
    let mut start = if body.starts_with(line) {
        0
    } else {
        next(&finder, body, 0)?
    };
    loop {
        let after = body.get(start + line.len()..).unwrap_or_default();
        if after.starts_with(b"--") {
            return Ok(parts);
        }
        if parts.len() == MAX_FIELDS {
            return Err(Unreadable::TooMany);
        }
        // A sender may pad the line with blanks.
        let head = after_blanks(after)
            .strip_prefix(b"\r\n")
            .ok_or(Unreadable::Malformed)?;
        let (headers, value) = split_head(head)?;
        let value_at = body.len() - value.len();
        let end = next(&finder, body, value_at)?;
        // `next` points at the dashes; the line break before them belongs to the boundary.
        let value = body.get(value_at..end - 2).ok_or(Unreadable::Malformed)?;
        parts.push(Part {
            name: name(headers)?,
            value,
            span: start..end,
        });
        start = end;
    }
}

/// Where the dashes of the next boundary line are, from `from` on.
fn next(finder: &memmem::Finder<'_>, body: &[u8], from: usize) -> Result<usize, Unreadable> {
    let rest = body.get(from..).unwrap_or_default();
    finder
        .find(rest)
        .map(|at| from + at + 2)
        .ok_or(Unreadable::Malformed)
}

/// The lines of headers, and what follows the empty line behind them.
fn split_head(head: &[u8]) -> Result<(&[u8], &[u8]), Unreadable> {
    if let Some(value) = head.strip_prefix(b"\r\n") {
        return Ok((b"", value));
    }
    let window = head.get(..MAX_HEADERS).unwrap_or(head);
    let end = memmem::find(window, b"\r\n\r\n").ok_or(Unreadable::Malformed)?;
    let (headers, rest) = head.split_at_checked(end).ok_or(Unreadable::Malformed)?;
    Ok((headers, rest.get(4..).unwrap_or_default()))
}

/// The part's name, of its `Content-Disposition`.
fn name(headers: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
    let mut found = None;
    let mut rest = headers;
    while !rest.is_empty() {
        let end = memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        let (line, after) = rest.split_at_checked(end).unwrap_or((rest, b""));
        rest = after.get(2..).unwrap_or_default();
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(header), Some(value)) = (halves.next(), halves.next()) else {
            return Err(Unreadable::Malformed);
        };
        if header.eq_ignore_ascii_case(b"content-disposition") {
            let name = parameter::find(value, "name").map_err(|_| Unreadable::Malformed)?;
            if found.replace(name).is_some() {
                return Err(Unreadable::Malformed);
            }
        }
    }
    Ok(found.flatten())
}

pub(super) fn without(
    body: &[u8],
    boundary: &[u8],
    name: &str,
) -> Result<Option<Vec<u8>>, Unreadable> {
    let parts = parts(body, boundary)?;
    let cuts: Vec<_> = parts
        .into_iter()
        .filter(|part| part.is_named(name))
        .map(|part| part.span)
        .collect();
    Ok((!cuts.is_empty()).then(|| cut(body, cuts)))
}

fn after_blanks(line: &[u8]) -> &[u8] {
    let blanks = line
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    line.get(blanks..).unwrap_or_default()
}
