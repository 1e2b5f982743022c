//! Which requests would fall to another route than they do with APISIX.
//!
//! There the host counts first, then an exact path, then the longest beginning; of routes with one path the one with the
//! highest priority. The Gateway API knows no priority: of routes with one path, the one that names a method, more headers
//! or more parameters comes first.

use std::collections::BTreeSet;

use super::super::manifests::Manifests;
use super::pattern::{Pattern, hosts_meet};
use super::routes::Route;

/// Leaves out what would be open, and closes what would fall to a route that asks for less.
pub(super) fn settle(routes: &mut [Route], manifests: &mut Manifests) {
    for route in routes.iter_mut().filter(|route| !route.left_out) {
        if !route.duties.changes.fits(&route.patterns) {
            leave_out(
                route,
                "plugins.proxy-rewrite",
                "plugins.proxy-rewrite: regex_uri needs uri to be what it replaces, with /* behind it; the route is left out",
                manifests,
            );
        }
    }
    rank(routes, manifests);
    edges(routes);
    expressions(routes);
    for route in routes.iter_mut() {
        if !route.left_out
            && route.duties.changes.replaces_prefix()
            && !route.expressions.is_empty()
        {
            leave_out(
                route,
                "plugins.proxy-rewrite",
                "plugins.proxy-rewrite: regex_uri cannot be carried over beside another route whose path ends in * without a slash; the route is left out",
                manifests,
            );
        }
    }
    close(routes, manifests);
}

/// Routes for one path on one host: priority against what the Gateway API puts first.
fn rank(routes: &mut [Route], manifests: &mut Manifests) {
    let mut order: Vec<usize> = (0..routes.len()).collect();
    order.sort_by_key(|index| {
        std::cmp::Reverse(routes.get(*index).map_or(0, |route| route.priority))
    });
    for (place, second) in order.iter().enumerate() {
        for first in order.iter().take(place) {
            let (Some(a), Some(b)) = (routes.get(*first), routes.get(*second)) else {
                continue;
            };
            let Some(verdict) = compare(a, b) else {
                continue;
            };
            let never = matches!(verdict, Verdict::Never);
            let (message, out) = match verdict {
                Verdict::Never => (
                    format!(
                        "priority: {} takes all its requests; the route is left out",
                        a.label
                    ),
                    true,
                ),
                Verdict::Opens => (
                    format!(
                        "priority: Postern would prefer it to {}, which asks for more; the route is left out",
                        a.label
                    ),
                    true,
                ),
                Verdict::Differs => (
                    format!(
                        "priority: is not known to the Gateway API; of this route and {} the one with a method, more headers or more parameters gets a request that fits both, then the first by name",
                        a.label
                    ),
                    false,
                ),
            };
            let Some(b) = routes.get_mut(*second).filter(|b| !b.left_out) else {
                continue;
            };
            if never {
                // It protects nothing: nobody ever gets to it.
                b.duties.guards.clear();
            }
            if out {
                leave_out(b, "priority", &message, manifests);
            } else {
                manifests.note(&format!("{}.priority", b.at), &b.label, message);
            }
        }
    }
}

enum Verdict {
    Never,
    Opens,
    Differs,
}

/// What becomes of the second, whose priority is not higher.
fn compare(a: &Route, b: &Route) -> Option<Verdict> {
    let same_host = a.hosts.is_empty() && b.hosts.is_empty()
        || a.hosts.iter().any(|host| b.hosts.contains(host));
    let same_path = a
        .patterns
        .iter()
        .any(|pattern| b.patterns.contains(pattern));
    let same_method = a.methods.is_empty()
        || b.methods.is_empty()
        || a.methods.iter().any(|method| b.methods.contains(method));
    if !same_host || !same_path || !same_method || apart(a, b) {
        return None;
    }
    let covers = a.priority > b.priority
        && !a.left_out
        && (a.methods.is_empty()
            || !b.methods.is_empty() && b.methods.iter().all(|method| a.methods.contains(method)))
        && a.alternatives
            .iter()
            .any(|one| one.headers.is_empty() && one.query.is_empty())
        && b.patterns
            .iter()
            .all(|pattern| a.patterns.contains(pattern))
        && (a.hosts.is_empty() && b.hosts.is_empty()
            || !b.hosts.is_empty() && b.hosts.iter().all(|host| a.hosts.contains(host)));
    if covers {
        return Some(Verdict::Never);
    }
    // The lowest of the first comes before the highest of the second: as with APISIX.
    let ranks = |route: &Route| -> BTreeSet<(bool, usize, usize)> {
        let all = route.alternatives.iter();
        all.map(|one| {
            (
                !route.methods.is_empty(),
                one.headers.len(),
                one.query.len(),
            )
        })
        .collect()
    };
    let consistent = !a.left_out && a.priority > b.priority && ranks(a).first() > ranks(b).last();
    if consistent {
        None
    } else if !a.guards().is_subset(b.guards()) {
        Some(Verdict::Opens)
    } else {
        (!a.left_out && !b.left_out).then_some(Verdict::Differs)
    }
}

/// Whether no request can fit both, because they ask for different values.
fn apart(a: &Route, b: &Route) -> bool {
    let differ = |one: &[(String, String)], other: &[(String, String)]| {
        one.iter().any(|(name, value)| {
            other
                .iter()
                .any(|(its, other)| name == its && value != other)
        })
    };
    !a.left_out
        && !b.left_out
        && a.alternatives.iter().all(|one| {
            b.alternatives.iter().all(|other| {
                differ(&one.headers, &other.headers) || differ(&one.query, &other.query)
            })
        })
}

/// A prefix `/a` of the Gateway API takes `/a` itself, which `/a/*` does not: it belongs to whoever had it.
fn edges(routes: &mut [Route]) {
    let mut given: Vec<(usize, String)> = Vec::new();
    let mut expressed: Vec<(usize, usize)> = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        for (number, pattern) in route.patterns.iter().enumerate() {
            let Pattern::Below(path) = pattern else {
                continue;
            };
            if path.is_empty() {
                continue;
            }
            let others: BTreeSet<usize> = routes
                .iter()
                .enumerate()
                .filter(|(other, its)| *other != index && hosts_meet(&route.hosts, &its.hosts))
                .filter(|(_, its)| {
                    its.patterns
                        .iter()
                        .any(|pattern| !matches!(pattern, Pattern::Exact(_)) && pattern.takes(path))
                })
                .map(|(other, _)| other)
                .collect();
            match (others.len(), others.first()) {
                (0, _) => {}
                (1, Some(other)) => given.push((*other, path.clone())),
                _ => expressed.push((index, number)),
            }
        }
    }
    for (index, path) in given {
        if let Some(route) = routes.get_mut(index) {
            route.own_paths.insert(path);
        }
    }
    for (index, number) in expressed {
        if let Some(route) = routes.get_mut(index) {
            route.expressions.insert(number);
        }
    }
}

/// Expressions come after all prefixes, so what is wider than one must be one, too.
fn expressions(routes: &mut [Route]) {
    let mut written: BTreeSet<String> = BTreeSet::new();
    for route in routes.iter() {
        for (number, pattern) in route.patterns.iter().enumerate() {
            if matches!(pattern, Pattern::Begins(_)) || route.expressions.contains(&number) {
                written.insert(pattern.beginning());
            }
        }
    }
    for route in routes.iter_mut() {
        for (number, pattern) in route.patterns.iter().enumerate() {
            let beginning = pattern.beginning();
            let wider = written.iter().any(|one| one.starts_with(&beginning));
            if wider && !matches!(pattern, Pattern::Exact(_)) {
                route.expressions.insert(number);
            }
        }
    }
}

/// Where a route is left out and another would take its requests and ask for less, they are refused.
fn close(routes: &mut [Route], manifests: &mut Manifests) {
    let closed: Vec<usize> = routes
        .iter()
        .enumerate()
        .filter(|(_, route)| route.left_out)
        .filter(|(_, route)| {
            routes.iter().filter(|other| !other.left_out).any(|other| {
                hosts_meet(&route.hosts, &other.hosts)
                    && route
                        .patterns
                        .iter()
                        .any(|one| other.patterns.iter().any(|its| one.meets(its)))
                    && !route.guards().is_subset(other.guards())
            })
        })
        .map(|(index, _)| index)
        .collect();
    for index in closed {
        if let Some(route) = routes.get_mut(index) {
            route.closed = true;
            manifests.note(&route.at, &route.label, "its requests would fall to a route that asks for less, so they are answered with 500");
        }
    }
}

fn leave_out(route: &mut Route, field: &str, message: &str, manifests: &mut Manifests) {
    manifests.note(&format!("{}.{field}", route.at), &route.label, message);
    route.left_out = true;
}
