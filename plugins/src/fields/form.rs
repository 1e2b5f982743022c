//! Query strings and `application/x-www-form-urlencoded`: `name=value` between `&`, with `%41` and `+` for blanks.

use std::borrow::Cow;

use super::{Field, MAX_FIELDS, Unreadable};

/// One parameter, as it is written.
pub(super) struct Parameter<'a> {
    name: &'a [u8],
    value: Option<&'a [u8]>,
}

impl<'a> Parameter<'a> {
    fn read(text: &'a [u8]) -> Self {
        match memchr::memchr(b'=', text).and_then(|at| text.split_at_checked(at)) {
            Some((name, value)) => Self {
                name,
                value: value.get(1..),
            },
            None => Self {
                name: text,
                value: None,
            },
        }
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        // Escapes only lengthen a name.
        self.name.len() >= name.len() && *decode(self.name) == *name.as_bytes()
    }

    pub(super) fn value(&self) -> Field<'a> {
        self.value
            .map_or(Field::NotText, |value| Field::Text(decode(value)))
    }
}

fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', text).is_none() {
        return Cow::Borrowed(text);
    }
    let blanks: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    Cow::Owned(percent_encoding::percent_decode(&blanks).collect())
}

pub(super) fn each<'a>(
    text: &'a [u8],
    mut visit: impl FnMut(&Parameter<'a>),
) -> Result<(), Unreadable> {
    let parameters = text
        .split(|byte| *byte == b'&')
        .filter(|parameter| !parameter.is_empty());
    for (count, parameter) in parameters.enumerate() {
        if count == MAX_FIELDS {
            return Err(Unreadable::TooMany);
        }
        visit(&Parameter::read(parameter));
    }
    Ok(())
}

pub(super) fn without(text: &[u8], name: &str) -> Option<Vec<u8>> {
    let is_kept = |parameter: &&[u8]| !Parameter::read(parameter).is_named(name);
    let parameters = || text.split(|byte| *byte == b'&');
    if name.is_empty() || parameters().all(|parameter| is_kept(&parameter)) {
        return None;
    }
    let kept: Vec<&[u8]> = parameters().filter(is_kept).collect();
    Some(kept.join(&b'&'))
}
