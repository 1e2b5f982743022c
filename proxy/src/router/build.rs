//! Puts rules into the indexes, in the order of their precedence.

use std::cmp::Reverse;
use std::sync::Arc;

use hashbrown::HashMap;
use regex::Regex;

use super::conditions::{Match, PathMatch};
use super::hosts::Hosts;
use super::paths::{Paths, Prefixes};
use super::{Entry, Router};
use crate::runtime::Rule;

/// What decides between two rules that match equally well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    /// When the route was made, in seconds since 1970: the older wins.
    pub(crate) created: i64,
    /// "namespace/name".
    pub(crate) name: Arc<str>,
    pub(crate) kind: Arc<str>,
    /// Place of the rule in its route.
    pub(crate) rule: usize,
}

/// Method, headers and query parameters asked for (more come first), then [`Order`].
type Precedence = (Reverse<(bool, usize, usize)>, Order, usize);

#[derive(Debug, Default)]
struct Unsorted {
    exact: HashMap<Box<str>, Vec<(Precedence, Entry)>>,
    prefixes: HashMap<Box<str>, Vec<(Precedence, Entry)>>,
    regexes: Vec<(Reverse<usize>, Precedence, Arc<Regex>, Entry)>,
}

/// Collects the rules of a port.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    listeners: Hosts<usize>,
    routes: Vec<Hosts<Unsorted>>,
}

impl Builder {
    /// A number for the listener with this hostname; two with the same one are one.
    pub(crate) fn listener(&mut self, hostname: &str) -> usize {
        let routes = &mut self.routes;
        *self.listeners.entry(hostname, || {
            routes.push(Hosts::default());
            routes.len() - 1
        })
    }

    /// Serves what matches under a hostname of a listener by a rule. `one_label`: a wildcard stands for one label only.
    pub(crate) fn add(
        &mut self,
        listener: usize,
        (hostname, one_label): (&str, bool),
        matches: &[Match],
        order: &Order,
        rule: &Arc<Rule>,
    ) {
        let Some(hosts) = self.routes.get_mut(listener) else {
            return;
        };
        let paths = hosts.entry(hostname, Unsorted::default);
        for (index, one) in matches.iter().enumerate() {
            let asks = one.conditions.as_ref().map_or((false, 0, 0), |conditions| {
                (
                    conditions.method.is_some(),
                    conditions.headers.len(),
                    conditions.query.len(),
                )
            });
            let precedence = (Reverse(asks), order.clone(), index);
            let entry = Entry {
                conditions: one.conditions.clone(),
                one_label,
                rule: Arc::clone(rule),
            };
            match &one.path {
                PathMatch::Exact(path) => paths
                    .exact
                    .entry(path.clone())
                    .or_default()
                    .push((precedence, entry)),
                PathMatch::Prefix(path) => paths
                    .prefixes
                    .entry(path.clone())
                    .or_default()
                    .push((precedence, entry)),
                PathMatch::Regex(regex, length) => {
                    paths
                        .regexes
                        .push((Reverse(*length), precedence, Arc::clone(regex), entry));
                }
            }
        }
    }

    /// The finished router.
    pub(crate) fn build(self) -> Router {
        Router {
            listeners: self.listeners,
            routes: self
                .routes
                .into_iter()
                .map(|hosts| hosts.map(sorted))
                .collect(),
        }
    }
}

fn sorted(unsorted: Unsorted) -> Paths {
    let by_path = |map: HashMap<Box<str>, Vec<(Precedence, Entry)>>| {
        map.into_iter().map(|(path, mut entries)| {
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            (
                path,
                entries
                    .into_iter()
                    .map(|(_, entry)| entry)
                    .collect::<Box<[_]>>(),
            )
        })
    };
    let mut regexes = unsorted.regexes;
    regexes.sort_by(|(a_length, a, ..), (b_length, b, ..)| (a_length, a).cmp(&(b_length, b)));
    Paths {
        exact: by_path(unsorted.exact).collect(),
        prefixes: Prefixes::new(by_path(unsorted.prefixes)),
        regexes: regexes
            .into_iter()
            .map(|(_, _, regex, entry)| (regex, entry))
            .collect(),
    }
}
