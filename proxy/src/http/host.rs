//! One form for every host: lower case, without port and trailing dot.

use std::borrow::Cow;

/// A host as a client named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host<'a> {
    /// Canonical.
    pub(crate) name: Cow<'a, str>,
    /// As it was given, digits only.
    pub(crate) port: Option<&'a str>,
}

impl<'a> Host<'a> {
    /// Reads `host[:port]`; `None` where it is no host: user information, blanks, empty labels, letters beyond ASCII …
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (name, port) = split_port(text)?;
        if name.starts_with('[') {
            return Some(Self {
                name: lower(name),
                port,
            });
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() || name.len() > 253 {
            return None;
        }
        let mut previous = b'.';
        for byte in name.bytes() {
            let fine = byte.is_ascii_alphanumeric()
                || byte == b'-'
                || byte == b'_'
                || (byte == b'.' && previous != b'.');
            if !fine {
                return None;
            }
            previous = byte;
        }
        (previous != b'.').then(|| Self {
            name: lower(name),
            port,
        })
    }

    /// Whether `given` is this host's canonical spelling, with or without a port.
    pub(crate) fn is_spelled(&self, given: &[u8]) -> bool {
        let name = self.name.as_bytes();
        match self.port {
            None => given == name,
            Some(port) => given.len() == name.len() + 1 + port.len() && given.starts_with(name),
        }
    }

    /// The canonical spelling with the port, if one was given.
    pub(crate) fn spell(&self) -> String {
        match self.port {
            None => self.name.clone().into_owned(),
            Some(port) => format!("{}:{port}", self.name),
        }
    }
}

fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    let (name, port) = if text.starts_with('[') {
        let (inner, rest) = text.get(1..)?.split_once(']')?;
        inner.parse::<std::net::Ipv6Addr>().ok()?;
        let name = text.get(..inner.len() + 2)?;
        match rest.strip_prefix(':') {
            Some(port) => (name, Some(port)),
            None if rest.is_empty() => (name, None),
            None => return None,
        }
    } else {
        match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        }
    };
    // RFC 3986 allows an empty port; it means none.
    match port {
        Some("") | None => Some((name, None)),
        Some(port)
            if port.len() <= 5
                && port.bytes().all(|b| b.is_ascii_digit())
                && port.parse::<u16>().is_ok() =>
        {
            Some((name, Some(port)))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<String> {
        Host::parse(text.as_bytes()).map(|host| host.name.into_owned())
    }

    #[test]
    fn every_spelling_has_one_form() {
        for text in [
            "api.shop.test",
            "API.Shop.TEST",
            "api.shop.test.",
            "api.shop.test:8000",
            "Api.shop.test.:80",
        ] {
            assert_eq!(name(text).as_deref(), Some("api.shop.test"), "{text}");
        }
        assert_eq!(name("[::1]:80").as_deref(), Some("[::1]"));
        assert_eq!(name("a_b.test").as_deref(), Some("a_b.test"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ".",
            "a@b",
            "a b",
            "a/b",
            "a\\b",
            "a..b",
            ".a",
            "a:b",
            "a:80:80",
            "a:99999",
            "a:+80",
            "é.test",
            "a%00",
            "[::1",
            "[::1]x",
            "[zz]",
            "a#b",
            "a?b",
            "a,b",
            "[::1]@b",
            "a..",
            "user:pw@host",
        ] {
            assert_eq!(name(text), None, "{text}");
        }
    }

    #[test]
    fn a_canonical_spelling_is_recognised() {
        for (text, same) in [
            ("a.b", true),
            ("a.b:80", true),
            ("A.b", false),
            ("a.b.", false),
            ("a.b:", false),
        ] {
            let host = Host::parse(text.as_bytes()).unwrap();
            assert_eq!(host.is_spelled(text.as_bytes()), same, "{text}");
        }
        assert_eq!(Host::parse(b"A.b.:81").unwrap().spell(), "a.b:81");
    }
}
