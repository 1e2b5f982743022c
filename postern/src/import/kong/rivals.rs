//! Requests that would fall to another route than with Kong.
//!
//! HTTPRoutes are asked in another order than Kong's routes, and a route that cannot be carried over leaves its requests to
//! others. Where such a one asks for less, it is closed.

use super::paths::{Form, Part, Path};
use super::routes::Route;
use super::services::Service;
use crate::import::manifests::Manifests;

/// Closes routes until none gets requests of one that is better protected.
pub(super) fn settle(routes: &mut [Route], services: &[Service], manifests: &mut Manifests) {
    let forms = Forms::new(routes, services);
    let matched: Vec<Vec<Matched>> = routes
        .iter()
        .map(|route| matched(route, services, &forms))
        .collect();
    loop {
        let mut found = Vec::new();
        for (taken, of) in routes.iter().zip(&matched) {
            if taken.protection.is_empty() {
                continue;
            }
            for (index, (rival, own)) in routes.iter().zip(&matched).enumerate() {
                if !rival.protection.is_superset(&taken.protection)
                    && !rival.is_closed()
                    && takes(rival, own, taken, of)
                {
                    found.push((index, taken.entity.label.clone()));
                }
            }
        }
        if found.is_empty() {
            return;
        }
        for (index, of) in found {
            if let Some(route) = routes.get_mut(index).filter(|route| !route.is_closed()) {
                let reason = format!(
                    "requests of {of}, which protects more, would fall to it, because HTTPRoutes are asked in another order; protect both alike, or let their paths not overlap"
                );
                route.close("paths", &reason, manifests);
            }
        }
    }
}

/// All paths of all routes: which matches one needs depends on the others.
pub(super) struct Forms {
    all: Vec<(Vec<String>, Path, bool)>,
}

impl Forms {
    pub(super) fn new(routes: &[Route], services: &[Service]) -> Self {
        let of = |route: &Route, path: Path| {
            let changed = route.replacement(&path, services).is_some();
            (route.hosts.clone(), path, changed)
        };
        let all = routes.iter().flat_map(|route| {
            let paths = route.all_paths().into_iter();
            paths.map(move |path| of(route, path))
        });
        Self { all: all.collect() }
    }

    /// The matches for a path of a route.
    pub(super) fn parts(&self, route: &Route, path: &Path, services: &[Service]) -> Vec<Part> {
        match path {
            // A GRPCRoute names services and methods, and no prefix of theirs.
            Path::Prefix(prefix) if route.grpc => {
                let bare = match prefix.trim_end_matches('/') {
                    "" => "/",
                    bare => bare,
                };
                let mut parts = Path::Prefix(bare.to_owned()).parts(false, false);
                parts.truncate(if bare == prefix { 2 } else { 1 });
                parts
            }
            path => {
                let changed = route.replacement(path, services).is_some();
                path.parts(changed, self.whole(&route.hosts, path))
            }
        }
    }

    /// Whether all requests of a prefix are better taken by one expression: longer ones are asked first, as with Kong. Not
    /// below a prefix whose path is changed, which would be asked before any expression.
    fn whole(&self, hosts: &[String], path: &Path) -> bool {
        let beside = |other: &[String]| {
            let meet = |one: &String| other.iter().any(|other| hosts_overlap(one, other));
            hosts.is_empty() || other.is_empty() || hosts.iter().any(meet)
        };
        let mut meets = false;
        for (_, other, changed) in self.all.iter().filter(|(other, ..)| beside(other)) {
            if *changed && path.is_below(other) {
                return false;
            }
            meets |= other != path && path.meets(other);
        }
        meets
    }
}

/// One match of a route, and its place in Kong's order.
struct Matched {
    part: Part,
    kong: (usize, usize, bool, bool, i64, usize),
}

fn matched(route: &Route, services: &[Service], forms: &Forms) -> Vec<Matched> {
    let conditions = [
        route.hosts.is_empty(),
        route.methods.is_empty(),
        route.headers.is_empty(),
        route.paths.is_empty(),
    ];
    let count = conditions.into_iter().filter(|none| !none).count();
    let plain = !route.hosts.iter().any(|host| host.starts_with('*'));
    let mut all = Vec::new();
    for path in route.all_paths() {
        let regex = matches!(path, Path::Regex(_));
        let priority = if regex { route.regex_priority } else { 0 };
        let length = if route.paths.is_empty() {
            0
        } else {
            path.length()
        };
        for part in forms.parts(route, &path, services) {
            all.push(Matched {
                part,
                kong: (count, route.headers.len(), plain, regex, priority, length),
            });
        }
    }
    all
}

/// Whether `rival` may get a request that Kong would give to `taken`.
fn takes(rival: &Route, own: &[Matched], taken: &Route, of: &[Matched]) -> bool {
    let methods = rival.methods.is_empty()
        || taken.methods.is_empty()
        || rival
            .methods
            .iter()
            .any(|method| taken.methods.contains(method));
    if !methods {
        return false;
    }
    let hosts = hosts(rival)
        .into_iter()
        .flat_map(|one| hosts(taken).into_iter().map(move |other| (one, other)))
        .filter(|(one, other)| hosts_overlap(one, other));
    for (one, other) in hosts {
        for rivals in own {
            for theirs in of {
                if !rivals.part.served || !rivals.part.overlaps(&theirs.part) {
                    continue;
                }
                let kongs_choice = rivals.kong > theirs.kong && !taken.loose && !rival.loose;
                let said = !taken.loose && (!taken.grpc || theirs.part.form == Form::Prefix);
                let still_theirs =
                    said && rank(taken, other, &theirs.part) > rank(rival, one, &rivals.part);
                if !kongs_choice && !still_theirs {
                    return true;
                }
            }
        }
    }
    false
}

fn hosts(route: &Route) -> Vec<&str> {
    if route.hosts.is_empty() {
        vec![""]
    } else {
        route.hosts.iter().map(String::as_str).collect()
    }
}

fn hosts_overlap(one: &str, other: &str) -> bool {
    let fits = |wild: &str, host: &str| {
        wild.strip_prefix('*')
            .is_some_and(|tail| host.trim_start_matches('*').ends_with(tail))
    };
    one.is_empty() || other.is_empty() || one == other || fits(one, other) || fits(other, one)
}

/// The place of a match among HTTPRoutes; higher ones are asked first.
fn rank(route: &Route, host: &str, part: &Part) -> (u8, usize, (u8, usize), bool, usize) {
    let (kind, length) = match host {
        "" => (0, 0),
        wild if wild.starts_with('*') => (1, wild.len()),
        // Two names that overlap are the same one.
        _ => (2, 0),
    };
    (
        kind,
        length,
        part.rank(),
        !route.methods.is_empty(),
        route.headers.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_overlap_where_a_name_is_of_both() {
        for (one, other, overlap) in [
            ("", "a.test", true),
            ("a.test", "a.test", true),
            ("a.test", "b.test", false),
            ("*.test", "a.test", true),
            ("*.test", "*.a.test", true),
            ("*.a.test", "a.test", false),
        ] {
            assert_eq!(hosts_overlap(one, other), overlap, "{one} {other}");
            assert_eq!(hosts_overlap(other, one), overlap, "{other} {one}");
        }
    }
}
