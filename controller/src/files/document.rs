//! From the text of a file to documents, each read for itself so that a bad one harms no other.

use serde_json::Value;

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document<'a> {
    /// The line on which its text begins, from 1.
    pub(super) line: u32,
    pub(super) text: &'a str,
    /// What it says. Documents that say nothing are not there at all.
    pub(super) value: Result<Value, Unread>,
}

/// Why a document cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unread {
    /// Within the file, from 1.
    pub(super) line: u32,
    pub(super) message: String,
    /// The lines above, where they can be read without the rest.
    pub(super) beginning: Option<Beginning>,
}

/// What the lines above a mistake say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) value: Value,
    text: String,
}

impl Beginning {
    /// Whether all that `field` says stands above the mistake: something beside it or around it follows.
    pub(super) fn has_all_of(&self, field: &str) -> bool {
        let starts = |line: &&str| {
            line.trim_start()
                .trim_start_matches("- ")
                .strip_prefix(field)
                .is_some_and(|rest| rest.starts_with(':'))
        };
        let mut lines = self.text.lines();
        let Some(first) = lines.by_ref().find(starts) else {
            return false;
        };
        let depth = indentation(first);
        let mut ended = false;
        for line in lines {
            if starts(&line) {
                // Which of the two is meant cannot be told from the lines.
                return false;
            }
            let text = line.trim_start();
            let says_something = !text.is_empty() && !text.starts_with('#');
            // Items of a list may stand as deep as their field.
            ended |= says_something && !text.starts_with('-') && indentation(line) <= depth;
        }
        ended
    }
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Reads all documents of a YAML text.
pub(super) fn yaml(text: &str) -> Vec<Document<'_>> {
    split(text)
        .into_iter()
        .filter_map(|(line, text)| {
            let value = yaml_value(text).map_err(|error| {
                let within = error.location().map_or(1, |location| location.line());
                let within = u32::try_from(within).unwrap_or(u32::MAX).max(1);
                Unread {
                    line: line.saturating_add(within - 1),
                    message: message_of(&error),
                    beginning: beginning(text, within),
                }
            });
            let says_nothing = matches!(value, Ok(Value::Null));
            (!says_nothing).then_some(Document { line, text, value })
        })
        .collect()
}

fn yaml_value(text: &str) -> Result<Value, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, options())
}

/// The longest part above a mistake that can be read for itself. The mistake may have begun some lines before it shows.
fn beginning(text: &str, line: u32) -> Option<Beginning> {
    const TRIES: usize = 100;
    let ends: Vec<usize> = text
        .match_indices('\n')
        .take(usize::try_from(line).unwrap_or(usize::MAX))
        .map(|(at, newline)| at + newline.len())
        .collect();
    ends.iter().rev().take(TRIES).find_map(|end| {
        let text = text.get(..*end)?;
        let value = yaml_value(text).ok().filter(Value::is_object)?;
        Some(Beginning {
            value,
            text: text.to_owned(),
        })
    })
}

/// Reads all documents of a JSON text; after a bad one there is no telling where the next begins.
pub(super) fn json(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut from = 0;
    let (mut counted, mut line) = (0, 1_u32);
    while let Some(value) = stream.next() {
        let to = stream.byte_offset();
        let failed = value.is_err();
        let rest = text.get(from..).unwrap_or_default();
        let start = from + rest.len() - rest.trim_start().len();
        // Counted on from the last document: a file may hold a hundred thousand.
        line = lines_in(text.get(counted..start).unwrap_or_default()).saturating_add(line);
        counted = start;
        let value = value.map_err(|error| Unread {
            line: u32::try_from(error.line()).unwrap_or(line),
            message: format!("not JSON: {}", without_position(&error)),
            beginning: None,
        });
        if !matches!(value, Ok(Value::Null)) {
            let text = if failed {
                rest
            } else {
                text.get(from..to).unwrap_or_default()
            };
            documents.push(Document {
                line,
                text: text.trim_start(),
                value,
            });
        }
        if failed {
            break;
        }
        from = to;
    }
    documents
}

/// The parser's message without its own position and without a quotation of the text, which may hold a secret.
fn message_of(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or_default();
    let first = first
        .split_once(": ")
        .filter(|(head, _)| head.starts_with("error: line"))
        .map_or(first, |(_, m)| m);
    let bare = first
        .rfind(" at line ")
        .and_then(|at| first.get(..at))
        .unwrap_or(first);
    format!("not YAML: {}", bare.trim())
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ")
        .and_then(|at| text.get(..at))
        .map_or_else(|| text.clone(), str::to_owned)
}

/// Limits that no configuration meets but a bomb does; a `List` of many objects is one document.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 50_000_000,
            max_nodes: 20_000_000,
            max_total_scalar_bytes: 1 << 30,
            max_total_comment_bytes: 1 << 30,
        },
        emit_comments: false,
        with_snippet: false,
    }
}

/// Cuts a YAML text at its document markers: lines that begin with `---`, alone or before a blank. Inside a document no
/// line can look like that. A marker belongs to the document that it opens, as do directives above it.
pub(super) fn split(text: &str) -> Vec<(u32, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line) = (0, 1_u32);
    let (mut offset, mut line) = (0, 1_u32);
    // Whether everything since `start` could stand above a marker: directives, comments, blank lines.
    let mut only_preamble = true;
    for text_line in text.split_inclusive('\n') {
        let marker = text_line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']));
        if marker && !only_preamble {
            parts.push((start_line, text.get(start..offset).unwrap_or_default()));
            (start, start_line) = (offset, line);
        }
        if marker {
            only_preamble = false;
        } else if only_preamble {
            let bare = text_line.trim_start_matches('\u{feff}').trim();
            only_preamble = bare.is_empty() || bare.starts_with(['%', '#']);
        } else if text_line.trim_end() == "..." {
            // The end of a document; what follows is a preamble again.
            let end = offset + text_line.len();
            parts.push((start_line, text.get(start..end).unwrap_or_default()));
            (start, start_line) = (end, line + 1);
            only_preamble = true;
        }
        offset += text_line.len();
        line = line.saturating_add(1);
    }
    let last = text.get(start..).unwrap_or_default();
    // A preamble that nothing follows holds nothing, unless a directive hangs in the air.
    if !only_preamble || last.lines().any(|line| line.starts_with('%')) {
        parts.push((start_line, last));
    }
    parts
}

fn lines_in(text: &str) -> u32 {
    let lines = text.bytes().filter(|byte| *byte == b'\n').count();
    u32::try_from(lines).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Vec<(u32, Result<Value, u32>)> {
        yaml(text)
            .into_iter()
            .map(|document| (document.line, document.value.map_err(|unread| unread.line)))
            .collect()
    }

    #[test]
    fn a_bad_document_harms_only_itself() {
        let text = "a: 1\n---\nb: [1\nc: {\n---\n# nothing\n---\nd: 4\n";
        assert_eq!(
            read(text),
            [
                (1, Ok(json!({"a": 1}))),
                (2, Err(4)),
                (7, Ok(json!({"d": 4})))
            ]
        );
    }

    #[test]
    fn markers_with_content_directives_and_ends_are_understood() {
        assert_eq!(
            read("# c\n%YAML 1.2\n---\na: 1\n...\n# between\n--- # x\nb: 2\n--- {c: 3}\n"),
            [
                (1, Ok(json!({"a": 1}))),
                (6, Ok(json!({"b": 2}))),
                (9, Ok(json!({"c": 3})))
            ]
        );
        assert_eq!(read("\u{feff}a: 1\n"), [(1, Ok(json!({"a": 1})))]);
        assert_eq!(read("a: 1\r\n---\r\nb: 2\r\n").len(), 2);
    }

    #[test]
    fn keys_in_blocks_are_no_markers() {
        let text = "data: |\n  ---\n  x\npem: |\n  -----BEGIN KEY-----\n";
        assert_eq!(
            read(text),
            [(
                1,
                Ok(json!({"data": "---\nx\n", "pem": "-----BEGIN KEY-----\n"}))
            )]
        );
        assert_eq!(read("a: |\n\n  -----BEGIN\n-----BEGIN: x\n").len(), 1);
    }

    #[test]
    fn nothing_is_no_document() {
        for text in [
            "",
            "\n",
            "# only a comment\n",
            "---\n---\n",
            "null\n",
            "---\n# x\n",
        ] {
            assert_eq!(read(text), [], "{text:?}");
        }
    }

    #[test]
    fn what_stands_above_a_mistake_is_read() {
        for (text, expected) in [
            (
                "a: 1\nb:\n  c: 2\n  d: [x\n",
                json!({"a": 1, "b": {"c": 2}}),
            ),
            ("a: 1\n\tb: 2\n", json!({"a": 1})),
            ("a: 1\nb: {c: 2,\n  d: 3\ne: 4\n", json!({"a": 1})),
        ] {
            let documents = yaml(text);
            let unread = documents[0].value.as_ref().expect_err(text);
            let beginning = unread.beginning.as_ref().expect(text);
            assert_eq!(beginning.value, expected, "{text}");
        }
    }

    #[test]
    fn what_may_go_on_below_a_mistake_is_not_all_there() {
        for (text, all) in [
            ("a:\n  b: 1\nc: [x\n", false),
            ("a:\n  b: 1\nc: 2\nd: [x\n", true),
            ("a:\n  b: 1\n# c: 2\n\n  d: [x\n", false),
            ("a:\n- b: 1\n- c: [x\n", false),
            ("a: [b]\n- c: [x\n", false),
            ("x:\n  a: 1\n  c: 2\n  d: [x\n", true),
            ("x:\n  a: 1\ny:\n  a: 2\nz: 1\nd: [x\n", false),
            ("ab: 1\nc: 2\nd: [x\n", false),
        ] {
            let documents = yaml(text);
            let unread = documents[0].value.as_ref().expect_err(text);
            let beginning = unread.beginning.as_ref().expect(text);
            assert_eq!(beginning.has_all_of("a"), all, "{text}");
        }
    }

    #[test]
    fn duplicate_keys_and_bombs_are_refused() {
        assert_eq!(read("a: 1\nb: 2\na: 3\n"), [(1, Err(3))]);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(matches!(read(&bomb).as_slice(), [(1, Err(_))]));
    }

    #[test]
    fn messages_quote_nothing_of_the_text() {
        for text in [
            "key: [hunter2\n",
            "key: \"hunter2\nx: 1\n",
            "key: hunter2: x\n",
            "hunter2: 1\nhunter2: 2\n",
        ] {
            for document in yaml(text) {
                let unread = document.value.expect_err(text);
                assert!(unread.message.starts_with("not YAML: "), "{unread:?}");
                assert!(!unread.message.contains('\n'), "{unread:?}");
            }
        }
    }

    #[test]
    fn json_has_documents_and_lines_too() {
        let documents = json("{\"a\": 1}\n\n{\"b\":\n 2}\n{\"c\": }\n{\"d\": 4}");
        let lines: Vec<_> = documents
            .iter()
            .map(|d| (d.line, d.value.as_ref().map_err(|u| u.line).cloned()))
            .collect();
        assert_eq!(
            lines,
            [
                (1, Ok(json!({"a": 1}))),
                (3, Ok(json!({"b": 2}))),
                (5, Err(5))
            ]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(---|\\.\\.\\.|[a-z]: |- |\\n|[\\[\\]{}&*!|>'\"%@`#, \\t0-9]|\\PC){0,40}") {
            for document in yaml(&text) {
                prop_assert!(document.line >= 1);
            }
            json(&text);
        }

        #[test]
        fn cutting_loses_no_text(text in "(---\\n|\\.\\.\\.\\n|a: 1\\n|# c\\n|\\n){0,12}") {
            let together: String = split(&text).into_iter().map(|(_, part)| part).collect();
            prop_assert!(text.starts_with(&together) || together.is_empty() || text.contains(&together));
        }
    }
}
