//! Hostnames of listeners and routes: "" any, "a.b" exact, "*.b" any labels in front of b.

/// Whether a text is a DNS name, or one behind "*.".
pub(crate) fn is_valid(hostname: &str) -> bool {
    let name = hostname.strip_prefix("*.").unwrap_or(hostname);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253
        && name.split('.').all(label)
        // An address is no name: clients that use one send it as Host, but listeners are chosen by names.
        && name.parse::<std::net::IpAddr>().is_err()
}

/// What two hostnames have in common.
pub(crate) fn intersection(one: &str, other: &str) -> Option<String> {
    if one.is_empty() || one == other {
        return Some(other.to_owned());
    }
    if other.is_empty() || is_within(one, other) {
        return Some(one.to_owned());
    }
    is_within(other, one).then(|| other.to_owned())
}

/// Whether every name that `inner` stands for is one that the wildcard `outer` stands for.
fn is_within(inner: &str, outer: &str) -> bool {
    let Some(suffix) = outer.strip_prefix('*') else {
        return false;
    };
    // The suffix begins with its dot; "*.b" does not stand for "b" itself.
    inner.strip_prefix('*').unwrap_or(inner).ends_with(suffix) && inner.len() > suffix.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intersections() {
        for (one, other, both) in [
            ("", "", Some("")),
            ("", "a.test", Some("a.test")),
            ("a.test", "a.test", Some("a.test")),
            ("a.test", "b.test", None),
            ("*.test", "a.test", Some("a.test")),
            ("*.test", "b.a.test", Some("b.a.test")),
            ("*.test", "test", None),
            ("*.test", "*.a.test", Some("*.a.test")),
            ("*.a.test", "*.b.test", None),
            ("*.a.test", "xa.test", None),
            ("*.test", "*.test", Some("*.test")),
            ("*.test", "*.xtest", None),
        ] {
            assert_eq!(
                intersection(one, other).as_deref(),
                both,
                "{one} and {other}"
            );
            assert_eq!(
                intersection(other, one).as_deref(),
                both,
                "{other} and {one}"
            );
        }
    }

    #[test]
    fn names() {
        for good in ["a", "a.test", "*.a.test", "x-1.test"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in [
            "",
            "*",
            "a..b",
            "a.test:80",
            "*a.test",
            "a.*.test",
            "-a.test",
            "127.0.0.1",
            "a b",
            "ü.test",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
