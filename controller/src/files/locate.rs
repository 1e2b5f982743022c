//! On which line of a document a field stands.

use std::cell::OnceCell;

use serde_saphyr::granit_parser::{Event, Parser};

/// A node of a document, as far as finding fields in it needs.
#[derive(Debug, Default)]
pub(super) struct Node {
    line: u32,
    children: Vec<(Step, Node)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A collection that is being read.
struct Open {
    node: Node,
    /// Where it hangs in the collection around it.
    step: Option<Step>,
    mapping: bool,
    /// In a mapping: the key whose value comes next, and its line.
    key: Option<(String, u32)>,
}

/// Where the fields of a document stand.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    text: &'a str,
    /// Read when the first field is looked up: mostly none is.
    root: OnceCell<Option<Node>>,
}

impl<'a> Lines<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self {
            text,
            root: OnceCell::new(),
        }
    }

    /// The line of a field, from 1 within the document. Where the field is not there (a missing one), the line of what it
    /// should be in. An empty path is the document itself.
    pub(super) fn line_of(&self, field: &str) -> u32 {
        let root = if field.is_empty() {
            None
        } else {
            self.root.get_or_init(|| tree(self.text)).as_ref()
        };
        let mut line = None;
        let mut next = root.and_then(|root| step_into(root, field));
        while let Some((node, rest)) = next {
            line = Some(node.line);
            next = step_into(node, rest).filter(|_| !rest.is_empty());
        }
        line.unwrap_or_else(|| first_line(self.text))
    }
}

/// The path of a field of an object that stands at `at` in its document.
pub(super) fn join(at: &str, field: &str) -> String {
    match (at, field) {
        ("", field) => field.to_owned(),
        (at, "") => at.to_owned(),
        (at, field) => format!("{at}.{field}"),
    }
}

/// The first line that says something.
fn first_line(text: &str) -> u32 {
    let nothing = |line: &str| {
        let bare = line.trim_start_matches('\u{feff}').trim();
        bare.is_empty() || bare == "---" || bare.starts_with(['#', '%'])
    };
    text.lines()
        .position(|line| !nothing(line))
        .and_then(|line| u32::try_from(line + 1).ok())
        .unwrap_or(1)
}

/// Keys may hold dots ("postern.dev/plugins"), so the longest key that fits counts.
fn step_into<'n, 'p>(node: &'n Node, path: &'p str) -> Option<(&'n Node, &'p str)> {
    let path = path.strip_prefix('.').unwrap_or(path);
    if let Some((inner, after)) = path.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let bare = inner.trim_matches(['"', '\'']);
        let index = bare.parse::<usize>().ok();
        return node
            .children
            .iter()
            .find(|(step, _)| match step {
                Step::Key(key) => key == bare,
                Step::Index(at) => Some(*at) == index,
            })
            .map(|(_, child)| (child, after));
    }
    node.children
        .iter()
        .filter_map(|(step, child)| {
            let Step::Key(key) = step else { return None };
            let after = path.strip_prefix(key.as_str())?;
            (after.is_empty() || after.starts_with(['.', '['])).then_some((key.len(), child, after))
        })
        .max_by_key(|(length, ..)| *length)
        .map(|(_, child, after)| (child, after))
}

fn tree(text: &str) -> Option<Node> {
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        // What was read before an error can still be pointed at.
        let Ok((event, span)) = event else { break };
        let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
        let root = match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                let mapping = matches!(event, Event::MappingStart(..));
                let (step, line) = open
                    .last_mut()
                    .map_or((None, line), |around| around.place(line));
                open.push(Open {
                    node: Node {
                        line,
                        children: Vec::new(),
                    },
                    step,
                    mapping,
                    key: None,
                });
                None
            }
            Event::MappingEnd | Event::SequenceEnd => close(&mut open),
            Event::Scalar(value, ..) => leaf(&mut open, Some(value.into_owned()), line),
            Event::Alias(_) | Event::UnresolvedAlias(_) => leaf(&mut open, None, line),
            Event::DocumentEnd => break,
            _ => None,
        };
        if root.is_some() {
            return root;
        }
    }
    while let Some(last) = open.len().checked_sub(1) {
        let root = close(&mut open);
        if last == 0 {
            return root;
        }
    }
    None
}

impl Open {
    /// The step and line of a value that begins here; a mapping's value stands where its key does.
    fn place(&mut self, line: u32) -> (Option<Step>, u32) {
        if !self.mapping {
            return (Some(Step::Index(self.node.children.len())), line);
        }
        match self.key.take() {
            Some((key, line)) => (Some(Step::Key(key)), line),
            // A collection as a key: nothing that a path could name.
            None => {
                self.key = Some((String::new(), line));
                (None, line)
            }
        }
    }
}

fn close(open: &mut Vec<Open>) -> Option<Node> {
    let closed = open.pop()?;
    let Some(around) = open.last_mut() else {
        return Some(closed.node);
    };
    if let Some(step) = closed.step {
        around.node.children.push((step, closed.node));
    }
    None
}

fn leaf(open: &mut [Open], value: Option<String>, line: u32) -> Option<Node> {
    let Some(around) = open.last_mut() else {
        return Some(Node {
            line,
            children: Vec::new(),
        });
    };
    if around.mapping && around.key.is_none() {
        around.key = Some((value.unwrap_or_default(), line));
        return None;
    }
    if let (Some(step), line) = around.place(line) {
        around.node.children.push((
            step,
            Node {
                line,
                children: Vec::new(),
            },
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line_of(text: &str, field: &str) -> u32 {
        Lines::new(text).line_of(field)
    }

    const TEXT: &str = "\
apiVersion: v1
metadata:
  name: x
  annotations:
    postern.dev/plugins: a
    postern: b
spec:
  rules:
  - matches: [{path: /}]
    name: first
  - name: second
    ? [odd, key]
    : 1
    backends: {a: 1,
      b: 2}
";

    #[test]
    fn fields_are_found() {
        for (field, line) in [
            ("apiVersion", 1),
            ("metadata.annotations.postern.dev/plugins", 5),
            ("metadata.annotations[postern.dev/plugins]", 5),
            ("metadata.annotations.postern", 6),
            ("spec.rules", 8),
            ("spec.rules[0].matches[0].path", 9),
            ("spec.rules[0].name", 10),
            ("spec.rules[1].name", 11),
            ("spec.rules[1].backends.b", 15),
        ] {
            assert_eq!(line_of(TEXT, field), line, "{field}");
        }
    }

    #[test]
    fn what_is_missing_is_looked_for_where_it_should_be() {
        assert_eq!(line_of(TEXT, "spec.rules[0].filters[2].type"), 9);
        assert_eq!(line_of(TEXT, "spec.rules[7]"), 8);
        assert_eq!(line_of(TEXT, "status"), 1);
        assert_eq!(line_of("---\n# c\na: 1\n", ""), 3);
        assert_eq!(line_of("", "a"), 1);
    }

    #[test]
    fn the_part_before_an_error_can_be_pointed_at() {
        assert_eq!(line_of("a:\n  b: 1\nc: [\n", "a.b"), 2);
    }

    #[test]
    fn json_is_found_too() {
        assert_eq!(line_of("{\"a\": {\n\t\"b\": [1,\n\t2]}}", "a.b[1]"), 3);
    }

    proptest! {
        #[test]
        fn any_text_and_path_are_looked_up_without_a_panic(
            text in "([a-z]: |- |\\n|  |[\\[\\]{}&*!|>'\"?:,a-z])*", field in "([a-z]|\\.|\\[|\\]|[0-9])*"
        ) {
            line_of(&text, &field);
        }
    }
}
