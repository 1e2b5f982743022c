//! What browsers can be made to send is not answered.
//!
//! A page of somebody else's can let a browser call a loopback address: under a name of its own that resolves there
//! (DNS rebinding), or with a form that needs no permission. So the Host must be one of ours, and a call that says that
//! it comes from another origin is refused. There is no CORS header that would allow any.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

use super::refused::Refused;

/// The names under which the Admin API is called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts(Vec<String>);

impl Hosts {
    /// These names, and loopback.
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(
            names
                .into_iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
        )
    }

    fn know(&self, authority: &Authority) -> bool {
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = address.parse::<IpAddr>()
            && address.is_loopback()
        {
            return true;
        }
        host == "localhost" || self.0.contains(&host)
    }

    /// Refuses what a browser was made to send.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (uri.authority(), hosts.next()) {
            (Some(authority), _) => Some(authority.clone()),
            (None, Some(host)) => Authority::try_from(host.as_bytes()).ok(),
            (None, None) => None,
        };
        let known = host.as_ref().is_some_and(|host| self.know(host));
        if !known || hosts.next().is_some() {
            return Err(Refused::Misdirected(
                "the Host header is none of this Admin API's names: call it by a loopback address, or allow the name with --admin-hosts"
                    .to_owned(),
            ));
        }
        let foreign =
            || Refused::Forbidden("the Admin API is not for pages of other origins".to_owned());
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = origin
                .to_str()
                .ok()
                .and_then(|origin| origin.parse::<Uri>().ok());
            let same = origin.as_ref().and_then(Uri::authority) == host.as_ref();
            if !same {
                return Err(foreign());
            }
        }
        match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
            None | Some(b"same-origin" | b"none") => Ok(()),
            Some(_) => Err(foreign()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &str)]) -> Result<(), Refused> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Hosts::new(["Admin.example".to_owned()]).check(&Uri::from_static("/consumers"), &map)
    }

    #[test]
    fn only_own_names_are_answered() {
        for host in [
            "localhost",
            "localhost:8001",
            "127.0.0.1:8001",
            "127.8.9.1",
            "[::1]:8001",
            "ADMIN.example:1",
        ] {
            assert_eq!(check(&[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1:8001",
            "",
            "a b",
        ] {
            let refused = check(&[("host", host)]);
            assert!(matches!(refused, Err(Refused::Misdirected(_))), "{host}");
        }
        assert!(check(&[]).is_err());
        assert!(check(&[("host", "localhost"), ("host", "localhost")]).is_err());
    }

    #[test]
    fn pages_of_others_are_not_answered() {
        let host = ("host", "localhost:8001");
        assert_eq!(check(&[host, ("origin", "http://localhost:8001")]), Ok(()));
        assert_eq!(check(&[host, ("sec-fetch-site", "same-origin")]), Ok(()));
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "http://localhost:3000"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let refused = check(&[host, (name, value)]);
            assert!(
                matches!(refused, Err(Refused::Forbidden(_))),
                "{name}: {value}"
            );
        }
    }
}
