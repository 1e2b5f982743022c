//! Rules of one hostname by path.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};
use regex::Regex;

use super::Entry;
use crate::runtime::{Found, Request};

/// Rules of one hostname by path. All entries of one path are in the order of their precedence.
#[derive(Debug, Default)]
pub(super) struct Paths {
    pub(super) exact: HashMap<Box<str>, Box<[Entry]>>,
    pub(super) prefixes: Prefixes,
    pub(super) regexes: Box<[(Arc<Regex>, Entry)]>,
}

impl Paths {
    pub(super) fn find(
        &self,
        request: &Request<'_>,
        wildcard_suffix: Option<&str>,
    ) -> Option<Found<'_>> {
        let fits = |entry: &&Entry| entry.matches(request, wildcard_suffix);
        if !self.exact.is_empty()
            && let Some(entry) = self
                .exact
                .get(request.path)
                .and_then(|entries| entries.iter().find(fits))
        {
            return Some(Found {
                rule: &entry.rule,
                prefix_len: request.path.len(),
            });
        }
        for node in self.prefixes.of(request.path) {
            if let Some(entry) = node.entries.iter().find(fits) {
                return Some(Found {
                    rule: &entry.rule,
                    prefix_len: node.length,
                });
            }
        }
        self.regexes
            .iter()
            .find(|(regex, entry)| fits(&entry) && regex.is_match(request.path))
            .map(|(_, entry)| Found {
                rule: &entry.rule,
                prefix_len: request.path.len(),
            })
    }
}

/// A path that rules ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    Exact(String),
    /// Without a slash at its end.
    Prefix(String),
    /// Anchored at both ends.
    Regex(String),
}

impl Paths {
    /// All entries with their paths, and whether a path fits; those that fit in the order in which [`Paths::find`] asks them.
    pub(super) fn all(&self, path: &str) -> Vec<(Pattern, bool, &Entry)> {
        let mut all = Vec::new();
        for (exact, entries) in &self.exact {
            let fits = **exact == *path;
            let entries = entries.iter();
            all.extend(entries.map(|entry| (Pattern::Exact(exact.to_string()), fits, entry)));
        }
        let fitting: Vec<&Node> = self.prefixes.of(path).collect();
        let mut prefixes: Vec<_> = self.prefixes.named();
        prefixes.sort_by_key(|(_, node)| std::cmp::Reverse(node.length));
        for (prefix, node) in prefixes {
            let fits = fitting.iter().any(|fitting| std::ptr::eq(*fitting, node));
            let entries = node.entries.iter();
            all.extend(entries.map(|entry| (Pattern::Prefix(prefix.clone()), fits, entry)));
        }
        for (regex, entry) in &self.regexes {
            let pattern = Pattern::Regex(regex.as_str().to_owned());
            all.push((pattern, regex.is_match(path), entry));
        }
        all
    }
}

/// A tree of path segments, in one table.
#[derive(Debug)]
pub(super) struct Prefixes {
    nodes: Vec<Node>,
    edges: HashMap<Edge, usize>,
}

#[derive(Debug, Default)]
pub(super) struct Node {
    /// The nearest node above that has entries.
    up: Option<usize>,
    /// Of the prefix, in bytes; without a slash at its end.
    length: usize,
    entries: Box<[Entry]>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Edge(usize, Box<str>);

struct EdgeRef<'a>(usize, &'a str);

impl Hash for EdgeRef<'_> {
    // As Edge derives it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        self.1.hash(state);
    }
}

impl Equivalent<Edge> for EdgeRef<'_> {
    fn equivalent(&self, key: &Edge) -> bool {
        self.0 == key.0 && self.1 == &*key.1
    }
}

impl Default for Prefixes {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            edges: HashMap::new(),
        }
    }
}

impl Prefixes {
    /// From prefixes, each once, with the entries of each.
    pub(super) fn new(of: impl IntoIterator<Item = (Box<str>, Box<[Entry]>)>) -> Self {
        let mut sorted: Vec<_> = of.into_iter().collect();
        // Shorter ones first: what is above a node is complete when the node is made.
        sorted.sort_by_key(|(prefix, _)| prefix.len());
        let mut new = Self::default();
        for (prefix, entries) in sorted {
            let mut at = 0;
            let mut up = None;
            for segment in segments(&prefix) {
                if new
                    .nodes
                    .get(at)
                    .is_some_and(|node| !node.entries.is_empty())
                {
                    up = Some(at);
                }
                let next = new.nodes.len();
                at = *new.edges.entry(Edge(at, segment.into())).or_insert(next);
                if at == next {
                    new.nodes.push(Node::default());
                }
                if let Some(node) = new.nodes.get_mut(at) {
                    node.up = up;
                }
            }
            if let Some(node) = new.nodes.get_mut(at) {
                node.entries = entries;
                node.length = prefix.len();
            }
        }
        new
    }

    /// All nodes with their prefixes, in no order.
    fn named(&self) -> Vec<(String, &Node)> {
        let mut above: HashMap<usize, (usize, &str)> = HashMap::new();
        for (Edge(from, segment), to) in &self.edges {
            above.insert(*to, (*from, segment));
        }
        let name = |(mut at, node)| {
            let mut segments = Vec::new();
            while let Some((up, segment)) = above.get(&at) {
                segments.push(*segment);
                at = *up;
            }
            let name: String = segments
                .iter()
                .rev()
                .flat_map(|segment| ["/", segment])
                .collect();
            (name, node)
        };
        self.nodes.iter().enumerate().map(name).collect()
    }

    /// The prefixes of a path that have entries, the longest first.
    fn of(&self, path: &str) -> impl Iterator<Item = &Node> {
        let mut at = 0;
        if !self.edges.is_empty() {
            for segment in segments(path) {
                match self.edges.get(&EdgeRef(at, segment)) {
                    Some(next) => at = *next,
                    None => break,
                }
            }
        }
        std::iter::successors(self.nodes.get(at), |node| self.nodes.get(node.up?))
    }
}

/// "/a/b": "a", "b"; "" none.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/')
        .into_iter()
        .flat_map(|rest| rest.split('/'))
}
