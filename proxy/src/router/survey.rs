//! Why a rule serves a request, and why its rivals do not: for explanations only, never on the way of a request.
//!
//! Every comparison is the one that [`Router::find`] makes; only the walk is another one, for an index shows what fits and
//! nothing else.

use std::sync::Arc;

use super::conditions::Lack;
use super::paths::{Paths, Pattern};
use super::{Router, suffix_of};
use crate::runtime::{Request, Rule};

/// One way to a rule.
#[derive(Debug)]
pub(crate) struct Rival<'a> {
    pub(crate) rule: &'a Arc<Rule>,
    /// "" any, "a.b", "*.b".
    pub(crate) hostname: String,
    pub(crate) path: Pattern,
    pub(crate) why: Why<'a>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why<'a> {
    /// It serves the request.
    Serves,
    /// It would, were there not one that goes before it.
    Precedence,
    /// Method, header or query parameter.
    Lacks(Lack<'a>),
    Path,
    /// The hostname fits, but an Ingress's wildcard stands for one label only.
    OneLabel,
    Host,
    /// The host is that of another listener.
    Listener,
}

impl Why<'_> {
    /// How close it came; the closest is the least.
    pub(crate) const fn distance(self) -> u8 {
        match self {
            Self::Serves => 0,
            Self::Precedence => 1,
            Self::Lacks(_) => 2,
            Self::Path => 3,
            Self::OneLabel => 4,
            Self::Host => 5,
            Self::Listener => 6,
        }
    }
}

impl Router {
    /// All ways to rules, the closest first; equally close ones in the order in which they are asked.
    pub(crate) fn survey<'a>(&'a self, request: &Request<'_>) -> Vec<Rival<'a>> {
        let own = self.listener(request.host);
        let mut rivals = Vec::new();
        let mut served = false;
        for (number, hosts) in self.routes.iter().enumerate() {
            let own = own == Some(number);
            let fitting: Vec<&Paths> = if own {
                hosts
                    .candidates(request.host)
                    .map(|(paths, _)| paths)
                    .collect()
            } else {
                Vec::new()
            };
            let place = |paths: &Paths| fitting.iter().position(|one| std::ptr::eq(*one, paths));
            let mut all: Vec<_> = hosts.all().collect();
            // Those that do not fit come last.
            all.sort_by_key(|(hostname, paths)| {
                (place(paths).unwrap_or(usize::MAX), hostname.clone())
            });
            for (hostname, paths) in all {
                let fits = place(paths).is_some();
                for (path, path_fits, entry) in paths.all(request.path) {
                    let why = if !own {
                        Why::Listener
                    } else if !fits {
                        Why::Host
                    } else if !entry.fits_host(request, suffix_of(&hostname)) {
                        Why::OneLabel
                    } else if !path_fits {
                        Why::Path
                    } else if let Some(lack) = entry.lack(request) {
                        Why::Lacks(lack)
                    } else if served {
                        Why::Precedence
                    } else {
                        served = true;
                        Why::Serves
                    };
                    rivals.push(Rival {
                        rule: &entry.rule,
                        hostname: hostname.clone(),
                        path,
                        why,
                    });
                }
            }
        }
        rivals.sort_by_key(|rival| rival.why.distance());
        rivals
    }
}
