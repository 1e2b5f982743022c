//! Who is behind a connection, and what the upstream is told of it.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The other end of a client's connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// IPv4 also where the socket says `::ffff:a.b.c.d`.
    pub(crate) ip: IpAddr,
    ip_header: HeaderValue,
    /// Whether what it says of its own clients is believed.
    pub(crate) trusted: bool,
    /// Whether the connection is encrypted.
    pub(crate) tls: bool,
    /// Of the listener.
    pub(crate) port: u16,
    port_header: HeaderValue,
}

impl Peer {
    pub(crate) fn new(
        ip: IpAddr,
        trusted: &[IpNet],
        tls: bool,
        port: u16,
        public_port: u16,
    ) -> Self {
        let ip = ip.to_canonical();
        Self {
            ip,
            ip_header: text(&ip.to_string()),
            trusted: is_trusted(trusted, ip),
            tls,
            port,
            port_header: HeaderValue::from(public_port),
        }
    }

    /// Who asks: the peer itself, or behind trusted proxies the first address that is none of them.
    pub(crate) fn client(&self, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
        if !self.trusted {
            return self.ip;
        }
        let mut client = self.ip;
        for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
            for item in line.as_bytes().rsplit(|byte| *byte == b',') {
                if !is_trusted(trusted, client) {
                    return client;
                }
                match address(item) {
                    Some(ip) => client = ip,
                    // Nobody knows what stands left of it.
                    None => return client,
                }
            }
        }
        client
    }

    /// Writes X-Forwarded-* and X-Real-IP. What an untrusted peer sent of them is gone already.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, trusted: &[IpNet]) {
        let host = headers.get(HOST).cloned();
        if self.trusted {
            self.tell_more(headers, host, trusted);
            return;
        }
        headers.insert(X_FORWARDED_FOR, self.ip_header.clone());
        headers.insert(X_REAL_IP, self.ip_header.clone());
        headers.insert(X_FORWARDED_PROTO, self.proto());
        headers.insert(X_FORWARDED_PORT, self.port_header.clone());
        if let Some(host) = host {
            headers.insert(X_FORWARDED_HOST, host);
        }
    }

    /// As a trusted proxy says, where it makes sense, and its own address behind it.
    fn tell_more(&self, headers: &mut HeaderMap, host: Option<HeaderValue>, trusted: &[IpNet]) {
        let (client, chain) = if headers.contains_key(X_FORWARDED_FOR) {
            (self.client(headers, trusted), self.chain(headers))
        } else {
            (self.ip, self.ip_header.clone())
        };
        let client = if client == self.ip {
            self.ip_header.clone()
        } else {
            text(&client.to_string())
        };
        headers.insert(X_REAL_IP, client);
        headers.insert(X_FORWARDED_FOR, chain);
        keep_or(
            headers,
            X_FORWARDED_PROTO,
            |value| {
                [&b"http"[..], b"https"]
                    .iter()
                    .any(|scheme| value.eq_ignore_ascii_case(scheme))
            },
            self.proto(),
        );
        let is_port =
            |value: &[u8]| std::str::from_utf8(value).is_ok_and(|text| text.parse::<u16>().is_ok());
        keep_or(headers, X_FORWARDED_PORT, is_port, self.port_header.clone());
        if let Some(host) = host {
            keep_or(
                headers,
                X_FORWARDED_HOST,
                |value| super::host::Host::parse(value).is_some(),
                host,
            );
        }
    }

    /// All that is said of whom the request came through, and the peer behind it.
    fn chain(&self, headers: &HeaderMap) -> HeaderValue {
        let mut chain = Vec::new();
        for line in headers.get_all(X_FORWARDED_FOR) {
            chain.extend_from_slice(line.as_bytes());
            chain.extend_from_slice(b", ");
        }
        chain.extend_from_slice(self.ip_header.as_bytes());
        HeaderValue::from_maybe_shared(Bytes::from(chain))
            .unwrap_or_else(|_| self.ip_header.clone())
    }

    /// Whether the client uses https, as far as those that are believed say.
    pub(crate) fn is_https(&self, headers: &HeaderMap) -> bool {
        let told = if self.trusted {
            headers.get(X_FORWARDED_PROTO)
        } else {
            None
        };
        match told.map(HeaderValue::as_bytes) {
            Some(said) if said.eq_ignore_ascii_case(b"https") => true,
            Some(said) if said.eq_ignore_ascii_case(b"http") => false,
            _ => self.tls,
        }
    }

    fn proto(&self) -> HeaderValue {
        HeaderValue::from_static(if self.tls { "https" } else { "http" })
    }
}

/// Leaves one sane value in place, or puts ours.
fn keep_or(
    headers: &mut HeaderMap,
    name: HeaderName,
    sane: impl Fn(&[u8]) -> bool,
    ours: HeaderValue,
) {
    let mut lines = headers.get_all(&name).iter();
    let keep = matches!((lines.next(), lines.next()), (Some(only), None) if sane(only.as_bytes()));
    if !keep {
        headers.insert(name, ours);
    }
}

/// Whether an address belongs to one of these networks.
pub(crate) fn is_trusted(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

/// "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]:80".
fn address(item: &[u8]) -> Option<IpAddr> {
    let item = std::str::from_utf8(item.trim_ascii()).ok()?;
    item.parse::<IpAddr>()
        .ok()
        .or_else(|| {
            item.parse::<std::net::SocketAddr>()
                .ok()
                .map(|socket| socket.ip())
        })
        .or_else(|| item.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|ip| ip.to_canonical())
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    fn peer(ip: &str) -> Peer {
        Peer::new(ip.parse().unwrap(), &networks(), true, 8443, 443)
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn the_client_is_counted_from_the_trusted_hops() {
        for (from, chain, client) in [
            ("203.0.113.9", "1.1.1.1", "203.0.113.9"),
            ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
            ("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.2.2.2", "1.1.1.1"),
            ("::ffff:10.0.0.1", "6.6.6.6, 1.1.1.1:4711", "1.1.1.1"),
            ("10.0.0.1", "[2001:db8::1]:80", "2001:db8::1"),
            ("10.0.0.1", "1.1.1.1, , 10.2.2.2", "10.2.2.2"),
            ("10.0.0.1", "1.1.1.1, nonsense", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "::ffff:1.1.1.1, 10.3.3.3", "1.1.1.1"),
        ] {
            let headers = headers(&[("x-forwarded-for", chain)]);
            assert_eq!(
                peer(from).client(&headers, &networks()).to_string(),
                client,
                "{from} {chain}"
            );
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = headers(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "1.1.1.1"),
        ]);
        assert_eq!(
            peer("10.0.0.1").client(&lines, &networks()).to_string(),
            "1.1.1.1"
        );
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_added() {
        let mut headers = headers(&[
            ("host", "shop.test"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "public.test"),
            ("x-forwarded-port", "none"),
        ]);
        peer("10.0.0.1").tell(&mut headers, &networks());
        assert_eq!(headers[X_FORWARDED_FOR], "1.1.1.1, 10.0.0.1");
        assert_eq!(headers[X_FORWARDED_PROTO], "http");
        assert_eq!(headers[X_FORWARDED_HOST], "public.test");
        assert_eq!(headers[X_FORWARDED_PORT], "443");
        assert_eq!(headers[X_REAL_IP], "1.1.1.1");
    }

    #[test]
    fn nobody_else_is() {
        let mut headers = headers(&[("host", "shop.test:8443")]);
        peer("203.0.113.9").tell(&mut headers, &networks());
        assert_eq!(headers[X_FORWARDED_FOR], "203.0.113.9");
        assert_eq!(headers[X_REAL_IP], "203.0.113.9");
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert_eq!(headers[X_FORWARDED_PORT], "443");
        assert_eq!(headers[X_FORWARDED_HOST], "shop.test:8443");
    }
}
