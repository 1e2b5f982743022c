//! Which headers mean something to the gateway itself.

use http::HeaderName;

/// What becomes of a client's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Passed on.
    Other,
    /// Tells an upstream who calls: never taken from a client.
    Identity,
    /// Tells an upstream where a request came from: believed from trusted proxies only.
    Forwarding,
    /// Of this connection only.
    Hop,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Te,
    Upgrade,
    Expect,
    Authorization,
    RequestId,
    TraceParent,
}

/// What becomes of a header of this name.
pub(crate) fn classify(name: &HeaderName) -> Class {
    let name = name.as_str();
    let Some(first) = name.as_bytes().first() else {
        return Class::Other;
    };
    if !is_plain(name) {
        return look_alike(name);
    }
    match first {
        b'x' => extension(name),
        b'h' if name == "host" => Class::Host,
        b'h' if name == "http2-settings" => Class::Hop,
        b'c' if name == "connection" => Class::Connection,
        b'c' if name == "content-length" => Class::ContentLength,
        b't' => match name {
            "te" => Class::Te,
            "transfer-encoding" => Class::TransferEncoding,
            "traceparent" => Class::TraceParent,
            _ => Class::Other,
        },
        b'u' if name == "upgrade" => Class::Upgrade,
        b'e' if name == "expect" => Class::Expect,
        b'k' if name == "keep-alive" => Class::Hop,
        b'p' if name == "proxy-connection"
            || name == "proxy-authorization"
            || name == "proxy-authenticate" =>
        {
            Class::Hop
        }
        b'f' if name == "forwarded" => Class::Forwarding,
        b'a' if name == "authorization" => Class::Authorization,
        _ => Class::Other,
    }
}

fn extension(name: &str) -> Class {
    match name {
        "x-consumer-id"
        | "x-consumer-custom-id"
        | "x-consumer-username"
        | "x-consumer-groups"
        | "x-credential-identifier"
        | "x-anonymous-consumer"
        | "x-authenticated-scope"
        | "x-authenticated-userid" => Class::Identity,
        "x-real-ip" | "x-original-url" | "x-rewrite-url" => Class::Forwarding,
        "x-request-id" => Class::RequestId,
        _ if name.starts_with("x-forwarded") => Class::Forwarding,
        _ => Class::Other,
    }
}

fn is_plain(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte == b'-' || byte.is_ascii_alphanumeric())
}

/// CGI, WSGI, PHP and others fold whatever is no letter or digit into one character: a name that would become the name of
/// a header that we vouch for, or that frames the message, is dropped.
fn look_alike(name: &str) -> Class {
    let folded: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    match folded.as_str() {
        "content-length"
        | "transfer-encoding"
        | "http2-settings"
        | "proxy-connection"
        | "proxy-authorization"
        | "keep-alive" => Class::Hop,
        folded => match extension(folded) {
            Class::Other => Class::Other,
            // Only its proper spelling is believed from a trusted proxy.
            _ => Class::Identity,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str) -> Class {
        classify(&HeaderName::from_bytes(name.as_bytes()).unwrap())
    }

    #[test]
    fn identity_headers_are_known_in_every_spelling() {
        let names = [
            "X-Consumer-ID",
            "X-Consumer-Custom-ID",
            "X-Consumer-Username",
            "X-Credential-Identifier",
            "X-Consumer-Groups",
            "X-Anonymous-Consumer",
            "X-Authenticated-Scope",
            "X-Authenticated-Userid",
        ];
        for name in names {
            let dashes: Vec<usize> = name.match_indices('-').map(|(at, _)| at).collect();
            for mask in 0..1_u32 << dashes.len() {
                for other in ['_', '.', '~'] {
                    let mut spelling: Vec<char> = name.chars().collect();
                    for (bit, at) in dashes.iter().enumerate() {
                        if mask >> bit & 1 == 1 {
                            spelling[*at] = other;
                        }
                    }
                    let spelling: String = spelling.into_iter().collect();
                    for spelling in [
                        spelling.to_ascii_lowercase(),
                        spelling.to_ascii_uppercase(),
                        spelling,
                    ] {
                        assert_eq!(class(&spelling), Class::Identity, "{spelling}");
                    }
                }
            }
        }
    }

    #[test]
    fn look_alikes_of_forwarding_headers_are_never_believed() {
        for name in [
            "x_forwarded_for",
            "x-forwarded_proto",
            "x_real_ip",
            "X_Request_Id",
            "x_forwarded-prefix",
        ] {
            assert_eq!(class(name), Class::Identity, "{name}");
        }
        assert_eq!(class("content_length"), Class::Hop);
        assert_eq!(class("transfer_encoding"), Class::Hop);
        for name in [
            "x-forwarded-for",
            "x-forwarded-uri",
            "x-forwarded-method",
            "forwarded",
            "x-real-ip",
        ] {
            assert_eq!(class(name), Class::Forwarding, "{name}");
        }
    }

    #[test]
    fn others_pass() {
        for name in [
            "accept",
            "x-api_key",
            "my_header",
            "cookie",
            "x-consumer",
            "x-consumer-id-2",
            "user-agent",
        ] {
            assert_eq!(class(name), Class::Other, "{name}");
        }
    }
}
