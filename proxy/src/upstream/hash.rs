//! What tells clients apart, where requests of one client go to one endpoint.

use std::net::IpAddr;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use plugins::handler::ResponseEdits;
use snapshot::proto::{self, hash_key::Key};

use super::ring;
use crate::listen::Conn;

/// What a key is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HashOn {
    /// The first header of this name.
    Header(HeaderName),
    /// A cookie, which a client without it is given.
    Cookie(HashCookie),
    /// The client's address, behind trusted proxies.
    Address,
}

/// A cookie that holds nothing but chance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HashCookie {
    name: Box<str>,
    /// What stands behind the value where it is set.
    attributes: Box<str>,
}

impl HashOn {
    /// Reads what the control plane says. None: this proxy does not know it, or it cannot be sent.
    pub(crate) fn read(from: &proto::HashKey) -> Option<Self> {
        match from.key.as_ref()? {
            Key::Header(name) => Some(Self::Header(name.parse().ok()?)),
            Key::Cookie(cookie) => {
                let mut attributes = format!("; Path={}; HttpOnly; SameSite=Lax", cookie.path);
                if cookie.max_age > 0 {
                    attributes.push_str(&format!("; Max-Age={}", cookie.max_age));
                }
                let name = cookie.name.as_str().into();
                HeaderValue::try_from(format!("{name}={attributes}")).ok()?;
                Some(Self::Cookie(HashCookie {
                    name,
                    attributes: attributes.into(),
                }))
            }
            Key::ClientAddress(_) => Some(Self::Address),
        }
    }

    /// The key of a request; a client without the cookie is given it. None: there is nothing to tell it by.
    pub(crate) fn key(
        &self,
        conn: &Conn,
        headers: &HeaderMap,
        edits: &mut ResponseEdits,
    ) -> Option<u64> {
        let (worker, peer) = (&conn.worker, &conn.peer);
        match self {
            Self::Header(name) => Some(ring::key(headers.get(name)?.as_bytes())),
            Self::Address => {
                let client = peer.client(headers, &worker.settings.trusted_proxies);
                Some(match client {
                    IpAddr::V4(ip) => ring::key(&ip.octets()),
                    IpAddr::V6(ip) => ring::key(&ip.octets()),
                })
            }
            Self::Cookie(cookie) => {
                if let Some(value) = cookie.find(headers) {
                    return Some(ring::key(value));
                }
                let value = format!("{:016x}{:016x}", worker.dice.roll(), worker.dice.roll());
                let secure = if peer.is_https(headers) {
                    "; Secure"
                } else {
                    ""
                };
                let HashCookie { name, attributes } = cookie;
                let header = format!("{name}={value}{attributes}{secure}");
                let header = HeaderValue::try_from(header).ok()?;
                edits.append.push((SET_COOKIE, header));
                Some(ring::key(value.as_bytes()))
            }
        }
    }
}

impl HashCookie {
    fn find<'h>(&self, headers: &'h HeaderMap) -> Option<&'h [u8]> {
        headers
            .get_all(COOKIE)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
            .find_map(|pair| {
                let rest = pair.trim_ascii().strip_prefix(self.name.as_bytes())?;
                rest.strip_prefix(b"=").filter(|value| !value.is_empty())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let cookie = HashCookie {
            name: "sticky".into(),
            attributes: "".into(),
        };
        let mut headers = HeaderMap::new();
        assert_eq!(cookie.find(&headers), None);
        headers.append(
            COOKIE,
            HeaderValue::from_static("a=b; unsticky=1; sticky2=2"),
        );
        assert_eq!(cookie.find(&headers), None);
        headers.append(COOKIE, HeaderValue::from_static("sticky=; c=d;sticky=abc"));
        assert_eq!(cookie.find(&headers), Some(&b"abc"[..]));
    }

    #[test]
    fn what_cannot_be_sent_is_not_read() {
        let cookie = |name: &str, path: &str| {
            let cookie = proto::HashCookie {
                name: name.to_owned(),
                path: path.to_owned(),
                max_age: 0,
            };
            HashOn::read(&proto::HashKey {
                key: Some(Key::Cookie(cookie)),
            })
        };
        assert!(cookie("a", "/").is_some());
        assert!(cookie("a\n", "/").is_none() && cookie("a", "/\r\nX: 1").is_none());
        assert!(HashOn::read(&proto::HashKey::default()).is_none());
    }
}
