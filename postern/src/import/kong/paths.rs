//! Paths of routes, and the matches of an HTTPRoute that take the same requests.
//!
//! Kong's prefixes end anywhere (`/a` takes `/ab`), those of an HTTPRoute between segments; Kong asks expressions before
//! prefixes, and HTTPRoutes after them.

use regex::Regex;
use serde_json::{Value, json};

/// A path that a route names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Path {
    Prefix(String),
    /// Open at its end.
    Regex(String),
}

/// A part of the requests that a path takes, as one match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) form: Form,
    /// What every request of it begins with; for prefixes without a slash at the end.
    literal: String,
    /// The match's own value.
    value: String,
    /// Whether requests of it are served; otherwise they are refused.
    pub(super) served: bool,
}

/// In the order in which HTTPRoutes are asked, last to first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    Regex,
    /// An expression for what begins like a prefix, and goes on within its last segment.
    Remainder,
    Prefix,
    Exact,
}

impl Path {
    /// # Errors
    /// What cannot be matched, and why; the path stands for at least all that the text does.
    pub(super) fn read(text: &str, old: bool) -> Result<Self, (Self, String)> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || ".-_~/%".contains(letter);
        let expression = match text.strip_prefix('~') {
            Some(expression) if !old => Some(expression),
            _ if old && !text.chars().all(plain) => Some(text),
            _ => None,
        };
        let Some(expression) = expression else {
            let prefix = Self::Prefix(text.to_owned());
            let bad = !text.starts_with('/')
                || text.contains("//")
                || text.contains(['?', '#', '%', '\\', ';'])
                || text.chars().any(|letter| !letter.is_ascii_graphic())
                || text
                    .split('/')
                    .any(|segment| segment == "." || segment == "..");
            return if bad {
                let any = Self::Prefix("/".to_owned());
                Err((
                    any,
                    format!(
                        "{text:?} is not in the form in which paths are compared; write it plainly"
                    ),
                ))
            } else {
                Ok(prefix)
            };
        };
        let expression = Self::Regex(expression.trim_start_matches('^').to_owned());
        match Regex::new(&expression.pattern()) {
            Ok(_) => Ok(expression),
            Err(_) => Err((
                expression,
                format!(
                    "{text:?} is no expression of RE2, which has no look-around and no back references; write it otherwise"
                ),
            )),
        }
    }

    /// An expression for the whole path of a request.
    fn pattern(&self) -> String {
        match self {
            Self::Prefix(prefix) => format!("{}.*", regex::escape(prefix)),
            Self::Regex(expression) => match expression.strip_suffix('$') {
                Some(closed) if !closed.contains('|') && !closed.ends_with('\\') => {
                    closed.to_owned()
                }
                _ if expression.contains('|') => format!("(?:{expression}).*"),
                _ => format!("{expression}.*"),
            },
        }
    }

    /// What every path that it takes begins with, as far as that is plain to see.
    fn literal(&self) -> String {
        match self {
            Self::Prefix(prefix) => prefix.clone(),
            Self::Regex(expression) if expression.contains('|') => String::new(),
            Self::Regex(expression) => {
                let mut text = String::new();
                for letter in expression.chars() {
                    match letter {
                        // What stands before these may be absent.
                        '?' | '*' | '{' => {
                            text.pop();
                            break;
                        }
                        '\\' | '+' | '.' | '(' | ')' | '[' | ']' | '}' | '^' | '$' => break,
                        letter => text.push(letter),
                    }
                }
                text
            }
        }
    }

    /// Its length in Kong's order.
    pub(super) const fn length(&self) -> usize {
        match self {
            Self::Prefix(text) | Self::Regex(text) => text.len(),
        }
    }

    /// Whether it is a prefix at or below another.
    pub(super) fn is_below(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Prefix(own), Self::Prefix(of)) => {
                is_below(own.trim_end_matches('/'), of.trim_end_matches('/'))
            }
            _ => false,
        }
    }

    /// Whether one request may be of both, as Kong sees it.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let (own, of) = (self.literal(), other.literal());
        own.starts_with(&of) || of.starts_with(&own)
    }

    /// The matches that take its requests. `changed`: the upstream gets another path, which only prefixes can have.
    /// `whole`: one expression is to take all of them.
    pub(super) fn parts(&self, changed: bool, whole: bool) -> Vec<Part> {
        let part = |form, literal: &str, value: String, served| Part {
            form,
            literal: literal.to_owned(),
            value,
            served,
        };
        let Self::Prefix(prefix) = self else {
            return vec![part(Form::Regex, &self.literal(), self.pattern(), true)];
        };
        let bare = prefix.trim_end_matches('/');
        let as_prefix = || {
            let value = if bare.is_empty() { "/" } else { bare };
            part(Form::Prefix, bare, value.to_owned(), true)
        };
        let remainder = |served| {
            let value = format!("{}[^/].*", regex::escape(bare));
            part(Form::Remainder, bare, value, served)
        };
        match (changed, bare.is_empty(), prefix.ends_with('/')) {
            (false, ..) if whole => vec![part(Form::Regex, prefix, self.pattern(), true)],
            (_, true, _) => vec![as_prefix()],
            (false, _, true) => vec![part(Form::Regex, prefix, self.pattern(), true)],
            (true, _, true) => vec![as_prefix(), part(Form::Exact, bare, bare.to_owned(), false)],
            (changed, _, false) => vec![as_prefix(), remainder(!changed)],
        }
    }
}

impl Part {
    /// The `path` of a match.
    pub(super) fn matched(&self) -> Value {
        let kind = match self.form {
            Form::Exact => "Exact",
            Form::Prefix => "PathPrefix",
            Form::Regex | Form::Remainder => "RegularExpression",
        };
        json!({"type": kind, "value": self.value})
    }

    /// Exact ones are asked first, then longer prefixes, then longer expressions.
    pub(super) fn rank(&self) -> (u8, usize) {
        match self.form {
            Form::Exact => (2, 0),
            Form::Prefix => (1, self.literal.len()),
            Form::Regex | Form::Remainder => (0, self.value.len()),
        }
    }

    /// Whether one request may be of both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (own, of) = (self.literal.as_str(), other.literal.as_str());
        match (self.form, other.form) {
            (Form::Prefix, Form::Prefix) => is_below(own, of) || is_below(of, own),
            (Form::Exact, Form::Prefix) => is_below(own, of),
            (Form::Prefix, Form::Exact) => is_below(of, own),
            (Form::Remainder, Form::Prefix) => remainder_meets(own, of),
            (Form::Prefix, Form::Remainder) => remainder_meets(of, own),
            _ => own.starts_with(of) || of.starts_with(own),
        }
    }
}

/// Whether a path is another one or below it; both without a slash at their ends.
fn is_below(path: &str, of: &str) -> bool {
    path.strip_prefix(of)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether what goes on within the last segment of `own` can be below `prefix`.
fn remainder_meets(own: &str, prefix: &str) -> bool {
    (own != prefix && is_below(own, prefix)) || (prefix.starts_with(own) && !is_below(prefix, own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(path: &Path, changed: bool, expressions: bool) -> Vec<(String, bool)> {
        let parts = path.parts(changed, expressions);
        parts
            .into_iter()
            .map(|part| (part.value, part.served))
            .collect()
    }

    #[test]
    fn prefixes_end_anywhere() {
        let prefix = Path::Prefix("/a.b".to_owned());
        let of = |text: &str, served| (text.to_owned(), served);
        assert_eq!(
            values(&prefix, false, false),
            [of("/a.b", true), of(r"/a\.b[^/].*", true)]
        );
        assert_eq!(
            values(&prefix, true, false),
            [of("/a.b", true), of(r"/a\.b[^/].*", false)]
        );
        assert_eq!(values(&prefix, false, true), [of(r"/a\.b.*", true)]);
        let slash = Path::Prefix("/a/".to_owned());
        assert_eq!(values(&slash, false, false), [of("/a/.*", true)]);
        assert_eq!(
            values(&slash, true, false),
            [of("/a", true), of("/a", false)]
        );
    }

    #[test]
    fn expressions_are_open_at_their_end() {
        for (text, pattern, literal) in [
            ("~/a/[0-9]+", "/a/[0-9]+.*", "/a/"),
            ("~/a/[0-9]+$", "/a/[0-9]+", "/a/"),
            ("~^/ab?", "/ab?.*", "/a"),
            ("~/a|/b$", "(?:/a|/b$).*", ""),
        ] {
            let path = Path::read(text, false).unwrap();
            assert_eq!(
                (path.pattern().as_str(), path.literal().as_str()),
                (pattern, literal),
                "{text}"
            );
        }
        // Before 3.0 what is not plain is an expression.
        assert!(matches!(Path::read("/a/[0-9]+", true), Ok(Path::Regex(_))));
        for bad in ["~/a(?!b)", "/a/../b", "/a%2fb", "a", "~/("] {
            assert!(Path::read(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_meet_where_a_request_can_be_of_both() {
        let part = |path: &str, index: usize| {
            Path::Prefix(path.to_owned())
                .parts(true, false)
                .remove(index)
        };
        for (one, other, meet) in [
            (part("/a", 0), part("/", 0), true),
            (part("/a", 1), part("/", 0), true),
            (part("/a", 1), part("/a", 0), false),
            (part("/a", 1), part("/ab", 0), true),
            (part("/a", 1), part("/a/b", 0), false),
            (part("/a", 0), part("/ab", 0), false),
            (part("/a/b", 1), part("/a", 0), true),
        ] {
            assert_eq!(one.overlaps(&other), meet, "{one:?} {other:?}");
            assert_eq!(other.overlaps(&one), meet, "{other:?} {one:?}");
        }
    }
}
