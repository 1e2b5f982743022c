//! What routes change in requests and responses, as the Gateway API says.

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri, request};

use crate::respond::Failure;
use crate::runtime::{HeaderEdit, PathEdit, Redirect, RequestFilter};

/// Applies the filters of a request.
pub(crate) fn apply(
    filters: &[RequestFilter],
    head: &mut request::Parts,
    prefix_len: usize,
) -> Result<(), Failure> {
    for filter in filters {
        match filter {
            RequestFilter::Headers(edit) => apply_headers(edit, &mut head.headers),
            RequestFilter::Rewrite(rewrite) => {
                if let Some(hostname) = &rewrite.hostname {
                    head.headers.insert(HOST, hostname.clone());
                }
                if let Some(edit) = &rewrite.path {
                    head.uri = rewritten(&head.uri, edit, prefix_len)?;
                }
            }
        }
    }
    Ok(())
}

/// Sets, adds and removes headers.
pub(crate) fn apply_headers(edit: &HeaderEdit, headers: &mut HeaderMap) {
    for (name, value) in &edit.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &edit.add {
        headers.append(name, value.clone());
    }
    for name in &edit.remove {
        headers.remove(name);
    }
}

fn rewritten(uri: &Uri, edit: &PathEdit, prefix_len: usize) -> Result<Uri, Failure> {
    let mut path = edited(uri.path(), edit, prefix_len);
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    PathAndQuery::try_from(path)
        .map(Uri::from)
        .map_err(|_| Failure::Incomplete("the rewritten path is not valid".into()))
}

/// The path after an edit; `prefix_len` is what the match took of it, without a slash at its end.
fn edited(path: &str, edit: &PathEdit, prefix_len: usize) -> String {
    match edit {
        PathEdit::Full(path) if path.starts_with('/') => path.as_ref().to_owned(),
        PathEdit::Full(path) => format!("/{path}"),
        PathEdit::Template(regex, template) => {
            let mut edited = String::new();
            if let Some(captures) = regex.captures(path) {
                captures.expand(template, &mut edited);
            }
            if !edited.starts_with('/') {
                edited.insert(0, '/');
            }
            edited
        }
        PathEdit::Prefix(prefix) => {
            let rest = path.get(prefix_len..).unwrap_or_default();
            let mut edited = prefix.trim_end_matches('/').to_owned();
            if !edited.is_empty() && !edited.starts_with('/') {
                edited.insert(0, '/');
            }
            edited.push_str(rest);
            if edited.is_empty() {
                edited.push('/');
            }
            edited
        }
    }
}

/// What a redirect is computed from.
#[derive(Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) https: bool,
    /// Without port.
    pub(crate) host: &'a str,
    /// Of the listener, as clients see it.
    pub(crate) port: u16,
    pub(crate) uri: &'a Uri,
    pub(crate) prefix_len: usize,
}

/// Where a redirect leads.
pub(crate) fn location(redirect: &Redirect, origin: &Origin<'_>) -> Result<HeaderValue, Failure> {
    let own = if origin.https { "https" } else { "http" };
    let scheme = redirect.scheme.as_deref().unwrap_or(own);
    let default = match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    // With a scheme of its own the port is that scheme's, unless it is said too.
    let port = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => Some(port),
        (None, Some(_)) => default,
        (None, None) => Some(origin.port),
    };
    let host = redirect.hostname.as_deref().unwrap_or(origin.host);
    let mut text = format!("{scheme}://{host}");
    if let Some(port) = port.filter(|port| Some(*port) != default) {
        text.push(':');
        text.push_str(itoa::Buffer::new().format(port));
    }
    match &redirect.path {
        Some(edit) => text.push_str(&edited(origin.uri.path(), edit, origin.prefix_len)),
        None => text.push_str(origin.uri.path()),
    }
    if let Some(query) = origin.uri.query() {
        text.push('?');
        text.push_str(query);
    }
    HeaderValue::try_from(text)
        .map_err(|_| Failure::Incomplete("the redirect's location is not valid".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, StatusCode};

    #[test]
    fn prefixes_are_replaced_as_the_standard_says() {
        for (path, prefix_len, replacement, expected) in [
            ("/foo/bar", 4, "/xyz", "/xyz/bar"),
            ("/foo/bar", 4, "/xyz/", "/xyz/bar"),
            ("/foo", 4, "/xyz", "/xyz"),
            ("/foo/", 4, "/xyz", "/xyz/"),
            ("/foo/bar", 4, "", "/bar"),
            ("/foo/", 4, "", "/"),
            ("/foo", 4, "", "/"),
            ("/foo", 4, "/", "/"),
            ("/foo/bar", 4, "/", "/bar"),
            ("/x", 0, "/bar", "/bar/x"),
            ("/", 0, "/bar", "/bar/"),
        ] {
            let edit = PathEdit::Prefix(replacement.into());
            assert_eq!(
                edited(path, &edit, prefix_len),
                expected,
                "{path} {replacement}"
            );
        }
        assert_eq!(edited("/a/b", &PathEdit::Full("/c".into()), 0), "/c");
    }

    #[test]
    fn a_rewrite_keeps_the_query() {
        let uri = Uri::from_static("/foo/bar?a=%2F&b");
        assert_eq!(
            rewritten(&uri, &PathEdit::Prefix("/x".into()), 4).unwrap(),
            "/x/bar?a=%2F&b"
        );
    }

    #[test]
    fn redirects_lead_where_the_standard_says() {
        let none = || Redirect {
            scheme: None,
            hostname: None,
            path: None,
            port: None,
            status: StatusCode::FOUND,
        };
        let uri = Uri::from_static("/a/b?q");
        let location = |redirect: Redirect, https: bool, port: u16| {
            let origin = Origin {
                https,
                host: "a.test",
                port,
                uri: &uri,
                prefix_len: 2,
            };
            location(&redirect, &origin)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        let https = || Redirect {
            scheme: Some("https".into()),
            ..none()
        };
        assert_eq!(location(https(), false, 80), "https://a.test/a/b?q");
        assert_eq!(location(https(), false, 8080), "https://a.test/a/b?q");
        assert_eq!(
            location(
                Redirect {
                    port: Some(8443),
                    ..https()
                },
                false,
                80
            ),
            "https://a.test:8443/a/b?q"
        );
        assert_eq!(location(none(), false, 8080), "http://a.test:8080/a/b?q");
        assert_eq!(location(none(), true, 443), "https://a.test/a/b?q");
        let moved = Redirect {
            hostname: Some("b.test".into()),
            path: Some(PathEdit::Prefix("/new".into())),
            ..none()
        };
        assert_eq!(location(moved, true, 443), "https://b.test/new/b?q");
    }

    #[test]
    fn headers_are_set_added_and_removed() {
        let name = HeaderName::from_static;
        let value = HeaderValue::from_static;
        let mut headers = HeaderMap::new();
        headers.append(name("a"), value("1"));
        headers.append(name("a"), value("2"));
        headers.append(name("b"), value("1"));
        headers.append(name("c"), value("1"));
        let edit = HeaderEdit {
            set: vec![(name("a"), value("x"))],
            add: vec![(name("b"), value("2"))],
            remove: vec![name("c")],
        };
        apply_headers(&edit, &mut headers);
        assert_eq!(headers.get_all("a").iter().count(), 1);
        assert_eq!(headers.get_all("b").iter().count(), 2);
        assert!(!headers.contains_key("c"));
    }
}
