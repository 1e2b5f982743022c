//! Files of other gateways, read by the rules of manifests: the same limits, the same messages, the same lines.

use serde_json::Value;

use super::document::{self, Document};
use super::locate::Lines;

/// A file of one document, and where in it things stand.
#[derive(Debug)]
pub struct Foreign<'a> {
    /// What it says.
    pub value: Value,
    before: u32,
    lines: Lines<'a>,
}

/// Why a file cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct Unreadable {
    /// From 1.
    pub line: u32,
    /// What is wrong; nothing of the text is quoted.
    pub message: String,
}

impl Foreign<'_> {
    /// The line of a field, "services[0].routes[1].name". Where the field is not there, the line of what it should be in.
    #[must_use]
    pub fn line_of(&self, field: &str) -> u32 {
        self.before.saturating_add(self.lines.line_of(field))
    }
}

/// Reads YAML or JSON.
///
/// # Errors
/// The text is neither, or it is not one document.
pub fn foreign(text: &str) -> Result<Foreign<'_>, Unreadable> {
    let json = text.trim_start().starts_with('{');
    let documents = if json {
        document::json(text)
    } else {
        document::yaml(text)
    };
    let mut documents = documents.into_iter();
    let unreadable = |line, message: &str| Unreadable {
        line,
        message: message.to_owned(),
    };
    let Some(Document {
        line,
        text: own,
        value,
    }) = documents.next()
    else {
        return Err(unreadable(1, "there is nothing in it"));
    };
    let value = value.map_err(|unread| unreadable(unread.line, &unread.message))?;
    if let Some(second) = documents.next() {
        return Err(unreadable(
            second.line,
            "a second document begins here; give one at a time",
        ));
    }
    Ok(Foreign {
        value,
        before: line.saturating_sub(1),
        lines: Lines::new(own),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_lines_in_both_forms() {
        let yaml = "# ours\n---\n_format_version: '3.0'\nservices:\n- name: a\n- name: b\n";
        let json = "\n{\n  \"a\": [\n    1,\n    2\n  ]\n}\n";
        assert_eq!(foreign(yaml).unwrap().line_of("services[1].name"), 6);
        assert_eq!(foreign(json).unwrap().line_of("a[1]"), 5);
    }

    #[test]
    fn what_is_not_one_document_is_refused_with_its_line() {
        for (text, line) in [
            ("", 1),
            ("a: [\n", 1),
            ("{\n\"a\": 1,\n}", 3),
            ("a: 1\n---\nb: 2\n", 2),
        ] {
            assert_eq!(foreign(text).unwrap_err().line, line, "{text}");
        }
    }
}
