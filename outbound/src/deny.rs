//! Networks that are never called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;
use ipnet::IpNet;

use crate::Error;

/// Networks that are never called, whatever name or notation led there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Denied(Vec<IpNet>);

impl Denied {
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether an address must not be called, also where it is a form of IPv6 that leads to an IPv4 address.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let within = |address: IpAddr| self.0.iter().any(|network| network.contains(&address));
        within(address) || embedded(address).is_some_and(|inner| within(IpAddr::V4(inner)))
    }
}

/// The IPv4 address inside an IPv6 one: mapped, compatible, translated by the well-known prefix of NAT64, 6to4.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(v4(g, h)),
        [0x2002, ..] => Some(v4(b, c)),
        _ => None,
    }
}

/// Where a URL leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Address(IpAddr),
    Name(String),
}

/// The host and port of a URL that may be called.
///
/// # Errors
/// [`Error::Url`]. A host such as `2852039166` or `0xa9.254` is refused: a resolver or a forward proxy might read it as
/// an address that is denied.
pub(crate) fn target(uri: &Uri) -> Result<(Host, u16), Error> {
    let default = match uri.scheme_str() {
        Some("https") => 443,
        Some("http") => 80,
        _ => return Err(Error::Url),
    };
    let authority = uri.authority().ok_or(Error::Url)?;
    if authority.as_str().contains('@') {
        return Err(Error::Url);
    }
    let text = authority.host();
    let host = if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(Error::Url)?;
        Host::Address(IpAddr::V6(
            inner.parse::<Ipv6Addr>().map_err(|_| Error::Url)?,
        ))
    } else if let Ok(address) = text.parse::<Ipv4Addr>() {
        Host::Address(IpAddr::V4(address))
    } else if text.is_empty() || ends_in_a_number(text) {
        return Err(Error::Url);
    } else {
        Host::Name(text.to_ascii_lowercase())
    };
    Ok((host, authority.port_u16().unwrap_or(default)))
}

/// Whether the last label could be read as a number: no top-level domain is one.
fn ends_in_a_number(host: &str) -> bool {
    let last = host
        .strip_suffix('.')
        .unwrap_or(host)
        .rsplit('.')
        .next()
        .unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.chars().all(|digit| digit.is_ascii_hexdigit()),
        None => last.chars().all(|digit| digit.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target_of(url: &str) -> Result<(Host, u16), Error> {
        target(&url.parse().unwrap())
    }

    #[test]
    fn every_notation_of_a_denied_address_is_denied() {
        let denied = Denied::new(vec![
            "169.254.0.0/16".parse().unwrap(),
            "fe80::/10".parse().unwrap(),
        ]);
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "febf::1",
        ] {
            assert!(denied.contains(address.parse().unwrap()), "{address}");
        }
        for address in [
            "169.255.0.1",
            "::ffff:10.0.0.1",
            "fec0::1",
            "::1",
            "127.0.0.1",
        ] {
            assert!(!denied.contains(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn addresses_are_told_from_names() {
        let address = |text: &str| Host::Address(text.parse().unwrap());
        let name = |text: &str| Host::Name(text.to_owned());
        for (url, host, port) in [
            ("http://192.0.2.1/", address("192.0.2.1"), 80),
            ("https://[::1]:8443/x", address("::1"), 8443),
            ("https://IdP.test/x?y", name("idp.test"), 443),
            ("http://a.4you:81", name("a.4you"), 81),
            ("http://0xa.test", name("0xa.test"), 80),
        ] {
            assert_eq!(target_of(url), Ok((host, port)), "{url}");
        }
    }

    #[test]
    fn what_only_some_read_as_an_address_is_refused() {
        for url in [
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0xa9.254.169.254/",
            "http://169.254.43518/",
            "http://0251.0376.0251.0376/",
            "http://1.2.3.4./",
            "http://x.0x/",
            "http://[fe80::1%25eth0]/",
            "http://user:secret@idp.test/",
            "ftp://idp.test/",
            "/relative",
        ] {
            let Ok(uri) = url.parse::<Uri>() else {
                continue;
            };
            assert_eq!(target(&uri), Err(Error::Url), "{url}");
        }
    }
}
