//! Cross-origin resource sharing, as the Fetch standard and the Gateway API say.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, request};
use snapshot::proto;

use crate::body::Body;

const ANY: HeaderValue = HeaderValue::from_static("*");

/// Who may see answers.
#[derive(Debug)]
pub(crate) struct Cors {
    origins: Box<[Origin]>,
    credentials: bool,
    methods: Allowed,
    headers: Allowed,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
}

#[derive(Debug, PartialEq, Eq)]
enum Origin {
    Any,
    /// In lower case.
    Exact(Box<str>),
    /// What stands in front of "*" and behind it.
    Wildcard(Box<str>, Box<str>),
}

#[derive(Debug)]
enum Allowed {
    None,
    All,
    These(HeaderValue),
}

/// What an answer says to a page.
#[derive(Debug)]
pub(crate) struct Shown {
    /// None: to pages of this origin nothing.
    allowed: Option<Permission>,
    /// Present on a preflight, which the gateway answers itself.
    preflight: Option<Preflight>,
}

#[derive(Debug)]
struct Permission {
    origin: HeaderValue,
    credentials: bool,
    expose: Option<HeaderValue>,
}

#[derive(Debug)]
struct Preflight {
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    max_age: HeaderValue,
}

impl Cors {
    /// Reads the filter.
    ///
    /// # Errors
    /// What cannot be sent in a header.
    pub(crate) fn read(from: &proto::Cors) -> Result<Self, String> {
        let list = |names: &[String]| {
            HeaderValue::try_from(names.join(", "))
                .map_err(|_| "cors: a name cannot be sent in a header".to_owned())
        };
        let allowed = |names: &[String]| match names {
            [] => Ok(Allowed::None),
            [all] if all == "*" => Ok(Allowed::All),
            names => list(names).map(Allowed::These),
        };
        let expose = &from.expose_headers;
        Ok(Self {
            origins: from
                .allow_origins
                .iter()
                .map(|one| Origin::of(one))
                .collect(),
            credentials: from.allow_credentials,
            methods: allowed(&from.allow_methods)?,
            headers: allowed(&from.allow_headers)?,
            expose: (!expose.is_empty()).then(|| list(expose)).transpose()?,
            max_age: HeaderValue::from(from.max_age),
        })
    }

    /// What the answer to a request says; none where no page asks.
    pub(super) fn shown(&self, head: &request::Parts) -> Option<Box<Shown>> {
        let origin = head.headers.get(ORIGIN)?;
        let asked = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
        let allowed = self.origins.iter().find(|one| one.fits(origin));
        let allowed = allowed.map(|one| Permission {
            // With credentials browsers take no "*".
            origin: if *one == Origin::Any && !self.credentials {
                ANY
            } else {
                origin.clone()
            },
            credentials: self.credentials,
            expose: self.expose.clone(),
        });
        let preflight = asked
            .filter(|_| head.method == Method::OPTIONS)
            .map(|method| Preflight {
                methods: self.methods.answer(Some(method), self.credentials),
                headers: self.headers.answer(
                    head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS),
                    self.credentials,
                ),
                max_age: self.max_age.clone(),
            });
        Some(Box::new(Shown { allowed, preflight }))
    }
}

impl Origin {
    fn of(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.split_once('*') {
            None => Self::Exact(text.into()),
            Some(("", "")) => Self::Any,
            Some((front, behind)) => Self::Wildcard(front.into(), behind.into()),
        }
    }

    fn fits(&self, origin: &HeaderValue) -> bool {
        let origin = origin.as_bytes();
        match self {
            Self::Any => true,
            Self::Exact(exact) => origin.eq_ignore_ascii_case(exact.as_bytes()),
            Self::Wildcard(front, behind) => {
                let (front, behind) = (front.as_bytes(), behind.as_bytes());
                let rest = origin.len().checked_sub(front.len() + behind.len());
                let part = |range: std::ops::Range<usize>| origin.get(range).unwrap_or_default();
                rest.is_some_and(|rest| {
                    rest > 0
                        && part(0..front.len()).eq_ignore_ascii_case(front)
                        && part(front.len() + rest..origin.len()).eq_ignore_ascii_case(behind)
                        // The star stands for labels of a name, not for a port or a path.
                        && !part(front.len()..front.len() + rest)
                            .iter()
                            .any(|byte| matches!(byte, b'/' | b'@' | b'?' | b'#'))
                })
            }
        }
    }
}

impl Allowed {
    fn answer(&self, asked: Option<&HeaderValue>, credentials: bool) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::These(these) => Some(these.clone()),
            // With credentials "*" would be the name of a method or header.
            Self::All if credentials => asked.cloned(),
            Self::All => Some(ANY),
        }
    }
}

impl Shown {
    /// The answer to a preflight.
    pub(crate) fn preflight(&self) -> Option<Response<Body>> {
        self.preflight.as_ref()?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Some(response)
    }

    /// Says it, in place of whatever the upstream said.
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        const OURS: [HeaderName; 6] = [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_MAX_AGE,
        ];
        for name in OURS {
            headers.remove(name);
        }
        let any = matches!(&self.allowed, Some(allowed) if allowed.origin == ANY);
        if !any {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(allowed) = self.allowed else {
            return;
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed.origin);
        if allowed.credentials {
            headers.insert(
                ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        if let Some(expose) = allowed.expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose);
        }
        let Some(preflight) = self.preflight else {
            return;
        };
        if let Some(methods) = preflight.methods {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        if let Some(names) = preflight.headers {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, preflight.max_age);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_fit_whole() {
        for (pattern, origin, fits) in [
            ("*", "null", true),
            ("https://a.test", "https://A.test", true),
            ("https://a.test", "https://a.test:8443", false),
            ("https://a.test", "http://a.test", false),
            ("https://*.a.test", "https://b.c.a.test", true),
            ("https://*.a.test", "https://a.test", false),
            ("https://*.a.test", "https://.a.test", false),
            ("https://*.a.test", "https://evil.test/.a.test", false),
            ("https://*.a.test", "https://b.a.test.evil", false),
            ("https://*.a.test:8443", "https://b.a.test:8443", true),
        ] {
            let value = HeaderValue::from_static(origin);
            assert_eq!(Origin::of(pattern).fits(&value), fits, "{pattern} {origin}");
        }
    }

    fn cors(credentials: bool) -> Cors {
        let text = |text: &str| vec![text.to_owned()];
        Cors::read(&proto::Cors {
            allow_origins: text("*"),
            allow_methods: text("*"),
            allow_headers: vec!["x-a".to_owned(), "x-b".to_owned()],
            expose_headers: text("x-c"),
            allow_credentials: credentials,
            max_age: 5,
        })
        .unwrap()
    }

    fn asked(cors: &Cors, preflight: bool) -> HeaderMap {
        let mut request = http::Request::builder().header(ORIGIN, "https://a.test");
        if preflight {
            request = request
                .method(Method::OPTIONS)
                .header(ACCESS_CONTROL_REQUEST_METHOD, "PUT");
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("x"));
        let shown = cors.shown(&head).unwrap();
        assert_eq!(shown.preflight().is_some(), preflight);
        shown.tell(&mut headers);
        headers
    }

    #[test]
    fn with_credentials_nothing_is_said_with_a_star() {
        let headers = asked(&cors(true), true);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.test");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "x-a, x-b");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(headers[VARY], "Origin");
    }

    #[test]
    fn without_credentials_a_star_does() {
        let headers = asked(&cors(false), true);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "*");
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        assert!(!headers.contains_key(VARY));
        let simple = asked(&cors(false), false);
        assert_eq!(simple[ACCESS_CONTROL_EXPOSE_HEADERS], "x-c");
        assert!(!simple.contains_key(ACCESS_CONTROL_ALLOW_METHODS));
    }

    #[test]
    fn other_origins_are_told_nothing() {
        let mut cors = cors(false);
        cors.origins = [Origin::of("https://b.test")].into();
        let headers = asked(&cors, true);
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_METHODS));
    }
}
