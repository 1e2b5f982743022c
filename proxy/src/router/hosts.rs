//! Something per hostname: exact ones, wildcards, and one for any.

use hashbrown::HashMap;

/// Something per hostname.
#[derive(Debug)]
pub(crate) struct Hosts<T> {
    exact: HashMap<Box<str>, T>,
    /// By what stands behind "*.".
    wildcard: HashMap<Box<str>, T>,
    any: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            any: None,
        }
    }
}

impl<T> Hosts<T> {
    /// All that fit a host, the most specific first; with the suffix where it is a wildcard's.
    pub(crate) fn candidates<'a, 'h>(
        &'a self,
        host: &'h str,
    ) -> impl Iterator<Item = (&'a T, Option<&'h str>)> + use<'a, 'h, T> {
        let exact = if self.exact.is_empty() {
            None
        } else {
            self.exact.get(host)
        };
        let wildcards = suffixes(if self.wildcard.is_empty() { "" } else { host })
            .filter_map(|suffix| self.wildcard.get(suffix).map(|found| (found, Some(suffix))));
        exact
            .map(|found| (found, None))
            .into_iter()
            .chain(wildcards)
            .chain(self.any.as_ref().map(|any| (any, None)))
    }

    /// All hostnames, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (String, &T)> {
        let exact = self.exact.iter().map(|(host, one)| (host.to_string(), one));
        let wildcard = self.wildcard.iter();
        let wildcard = wildcard.map(|(suffix, one)| (format!("*.{suffix}"), one));
        let any = self.any.iter().map(|one| (String::new(), one));
        exact.chain(wildcard).chain(any)
    }

    /// What is under a hostname ("" any, "a.b", "*.b"), made where there is none.
    pub(crate) fn entry(&mut self, hostname: &str, make: impl FnOnce() -> T) -> &mut T {
        if hostname.is_empty() {
            return self.any.get_or_insert_with(make);
        }
        match hostname.strip_prefix("*.") {
            Some(suffix) => self.wildcard.entry(suffix.into()).or_insert_with(make),
            None => self.exact.entry(hostname.into()).or_insert_with(make),
        }
    }

    /// The same hostnames with something else each.
    pub(super) fn map<U>(self, mut change: impl FnMut(T) -> U) -> Hosts<U> {
        Hosts {
            exact: self
                .exact
                .into_iter()
                .map(|(host, one)| (host, change(one)))
                .collect(),
            wildcard: self
                .wildcard
                .into_iter()
                .map(|(host, one)| (host, change(one)))
                .collect(),
            any: self.any.map(change),
        }
    }
}

/// What wildcards would have to say behind "*." to fit a host, the longest first.
fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(host.split_once('.'), |(_, rest)| rest.split_once('.'))
        .map(|(_, suffix)| suffix)
}

/// Whether a host is a suffix with one label in front of it.
pub(crate) fn has_one_label_more(host: &str, suffix: &str) -> bool {
    host.split_once('.').is_some_and(|(_, rest)| rest == suffix)
}

/// What two hostnames have in common.
pub(crate) fn intersection<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    if one.is_empty() || one == other {
        return Some(other);
    }
    if other.is_empty() || is_within(one, other) {
        return Some(one);
    }
    is_within(other, one).then_some(other)
}

fn is_within(inner: &str, outer: &str) -> bool {
    let Some(suffix) = outer.strip_prefix('*') else {
        return false;
    };
    // The suffix begins with its dot; "*.b" does not stand for "b" itself.
    inner.strip_prefix('*').unwrap_or(inner).ends_with(suffix) && inner.len() > suffix.len()
}
