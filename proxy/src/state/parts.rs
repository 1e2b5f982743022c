//! Routes and listeners, read and checked once, when they arrive.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;
use regex::Regex;
use snapshot::proto::{self, filter::Filter, path_modifier::Modifier};

use crate::extras::{Cors, Retry};
use crate::router::{Match, Regexes};
use crate::runtime::{Attached, HeaderEdit, Listener, PathEdit, Redirect, RequestFilter, Rewrite};
use crate::upstream::{HashOn, Patience};

/// A listener.
#[derive(Debug, Clone)]
pub(super) struct ListenerParts {
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) says: Arc<Listener>,
    /// For TLSRoutes; true: not ended here.
    pub(super) passthrough: Option<bool>,
    pub(super) client_validation: Option<proto::ClientValidation>,
    /// Keys.
    pub(super) certificates: Vec<String>,
    pub(super) public_port: u16,
    /// Key; empty for none.
    pub(super) client_certificate: String,
}

/// A route.
#[derive(Debug)]
pub(super) struct RouteParts {
    /// "HTTPRoute/shop/orders".
    pub(super) name: Arc<str>,
    pub(super) kind: Arc<str>,
    /// "shop/orders".
    pub(super) object: Arc<str>,
    pub(super) created: i64,
    /// Keys of listeners, and the hostnames there.
    pub(super) attachments: Vec<(String, Vec<String>)>,
    pub(super) rules: Vec<RuleParts>,
}

/// One rule of a route.
#[derive(Debug)]
pub(super) struct RuleParts {
    pub(super) name: Arc<str>,
    pub(super) matches: Vec<Match>,
    /// Not empty: only these.
    pub(super) hostnames: Vec<String>,
    pub(super) filters: Filters,
    pub(super) backends: Vec<BackendParts>,
    pub(super) plugins: Arc<Attached>,
    pub(super) request_timeout: Option<Duration>,
    pub(super) backend_timeout: Option<Duration>,
    pub(super) closed: Option<Arc<str>>,
    pub(super) retry: Option<Retry>,
    pub(super) https_port: Option<u16>,
    pub(super) sources: Box<[IpNet]>,
    pub(super) max_body: Option<u64>,
    pub(super) affinity: Option<HashOn>,
    pub(super) patience: Option<Patience>,
}

#[derive(Debug)]
pub(super) struct BackendParts {
    /// Key; none: requests that fall to it get 500.
    pub(super) upstream: Option<String>,
    pub(super) weight: u32,
    pub(super) filters: Filters,
}

#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) request: Vec<RequestFilter>,
    pub(super) response: Vec<HeaderEdit>,
    pub(super) redirect: Option<Redirect>,
    pub(super) mirrors: Vec<proto::Mirror>,
    pub(super) cors: Option<proto::Cors>,
}

impl ListenerParts {
    pub(super) fn read(from: proto::Listener) -> Result<Self, String> {
        let tls = match from.protocol() {
            proto::Protocol::Http => false,
            proto::Protocol::Https | proto::Protocol::Tls => true,
            proto::Protocol::Unspecified => {
                return Err(format!("protocol {} is unknown", from.protocol));
            }
        };
        Ok(Self {
            port: port(from.port)?,
            tls,
            passthrough: (from.protocol() == proto::Protocol::Tls).then_some(from.passthrough),
            client_validation: from.client_validation,
            says: Arc::new(Listener {
                name: from.name.into(),
                hostname: from.hostname.to_ascii_lowercase().into(),
                plugins: Attached {
                    keys: from.plugins,
                    places: from.plugin_places,
                },
            }),
            certificates: from.certificates,
            client_certificate: from.client_certificate,
            public_port: if from.public_port == 0 {
                port(from.port)?
            } else {
                port(from.public_port)?
            },
        })
    }
}

/// A port that can be opened or connected to.
pub(super) fn port(number: u32) -> Result<u16, String> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("port {number} is not one of 1 to 65535"))
}

impl RouteParts {
    pub(super) fn read(from: proto::Route, regexes: &mut Regexes) -> Result<Self, String> {
        let rules = from
            .rules
            .into_iter()
            .enumerate()
            .map(|(at, rule)| {
                RuleParts::read(at, rule, regexes).map_err(|why| format!("rules[{at}]: {why}"))
            })
            .collect::<Result<_, _>>()?;
        let lower = |hostnames: Vec<String>| {
            hostnames
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect()
        };
        Ok(Self {
            name: format!("{}/{}/{}", from.kind, from.namespace, from.name).into(),
            kind: from.kind.into(),
            object: format!("{}/{}", from.namespace, from.name).into(),
            created: from.created,
            attachments: from
                .attachments
                .into_iter()
                .map(|one| (one.listener, lower(one.hostnames)))
                .collect(),
            rules,
        })
    }
}

impl RuleParts {
    fn read(at: usize, from: proto::Rule, regexes: &mut Regexes) -> Result<Self, String> {
        let mut matches = from
            .matches
            .iter()
            .enumerate()
            .map(|(at, one)| {
                Match::new(one, regexes).map_err(|why| format!("matches[{at}]: {why}"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if matches.is_empty() {
            matches.push(Match::everything());
        }
        let matches_regex = matches.first().and_then(Match::path_regex).cloned();
        let timeout = |ms: u32| (ms > 0).then(|| Duration::from_millis(ms.into()));
        let closed = match (from.deny, from.invalid.as_str()) {
            (_, why) if !why.is_empty() => Some(why.into()),
            (true, _) => Some("a plugin that cannot be read is attached".into()),
            (false, _) => None,
        };
        Ok(Self {
            name: if from.name.is_empty() {
                at.to_string().into()
            } else {
                from.name.into()
            },
            matches,
            hostnames: from
                .hostnames
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
            filters: Filters::read(from.filters, matches_regex.as_ref())?,
            backends: from
                .backends
                .into_iter()
                .map(BackendParts::read)
                .collect::<Result<_, _>>()?,
            plugins: Arc::new(Attached {
                keys: from.plugins,
                places: from.plugin_places,
            }),
            request_timeout: timeout(from.request_timeout_ms),
            backend_timeout: timeout(from.backend_timeout_ms),
            closed,
            retry: from.retry.map(read_retry).transpose()?,
            affinity: from
                .affinity
                .as_ref()
                .map(|key| {
                    HashOn::read(key).ok_or("this version of the proxy does not know this affinity")
                })
                .transpose()?,
            https_port: (from.https_port > 0)
                .then(|| port(from.https_port))
                .transpose()?,
            sources: from
                .allow_sources
                .iter()
                .map(|range| {
                    range
                        .parse()
                        .map_err(|_| format!("{range:?} is no range of addresses"))
                })
                .collect::<Result<_, _>>()?,
            patience: from.patience.as_ref().map(Patience::read),
            max_body: (from.max_body_bytes > 0).then_some(from.max_body_bytes),
        })
    }
}

impl BackendParts {
    fn read(from: proto::Backend) -> Result<Self, String> {
        let upstream =
            (from.invalid.is_empty() && !from.upstream.is_empty()).then_some(from.upstream);
        let filters =
            Filters::read(from.filters, None).map_err(|why| format!("backends: {why}"))?;
        if filters.cors.is_some() {
            return Err("backends: CORS belongs to the rule".to_owned());
        }
        Ok(Self {
            upstream,
            weight: from.weight,
            filters,
        })
    }
}

impl Filters {
    fn read(from: Vec<proto::Filter>, regex: Option<&Arc<Regex>>) -> Result<Self, String> {
        let mut filters = Self::default();
        for (at, filter) in from.into_iter().enumerate() {
            filters
                .add(filter, regex)
                .map_err(|why| format!("filters[{at}]: {why}"))?;
        }
        Ok(filters)
    }

    fn add(&mut self, filter: proto::Filter, regex: Option<&Arc<Regex>>) -> Result<(), String> {
        // A filter that this program does not know arrives as none: it may be what keeps a secret in.
        match filter
            .filter
            .ok_or("this version of the proxy does not know this filter")?
        {
            Filter::RequestHeaders(edit) => self
                .request
                .push(RequestFilter::Headers(header_edit(edit)?)),
            Filter::ResponseHeaders(edit) => self.response.push(header_edit(edit)?),
            Filter::Redirect(redirect) => self.redirect = Some(read_redirect(redirect)?),
            Filter::Mirror(mirror) => self.mirrors.push(mirror),
            Filter::Cors(cors) => {
                // Read again where it is used; what cannot be read is refused here.
                Cors::read(&cors)?;
                self.cors = Some(cors);
            }
            Filter::Rewrite(rewrite) => {
                let hostname = match rewrite.hostname.as_str() {
                    "" => None,
                    name => Some(
                        HeaderValue::from_str(name)
                            .map_err(|_| format!("hostname {name:?} cannot be sent"))?,
                    ),
                };
                self.request.push(RequestFilter::Rewrite(Rewrite {
                    hostname,
                    path: path_edit(rewrite.path, regex)?,
                }));
            }
        }
        Ok(())
    }
}

fn read_retry(from: proto::Retry) -> Result<Retry, String> {
    let code = |code: &u32| {
        u16::try_from(*code)
            .ok()
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or_else(|| format!("status {code} is none"))
    };
    Ok(Retry {
        attempts: from.attempts,
        codes: from.codes.iter().map(code).collect::<Result<_, _>>()?,
        backoff: Duration::from_millis(from.backoff_ms.into()),
    })
}

fn header_edit(from: proto::HeaderModifier) -> Result<HeaderEdit, String> {
    let name = |name: &str| {
        HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{name:?} is not the name of a header"))
    };
    let headers = |from: &[proto::Header]| {
        from.iter()
            .map(|header| {
                let value = HeaderValue::from_str(&header.value).map_err(|_| {
                    format!("the value of {:?} cannot be sent in a header", header.name)
                })?;
                Ok((name(&header.name)?, value))
            })
            .collect::<Result<Vec<_>, String>>()
    };
    Ok(HeaderEdit {
        set: headers(&from.set)?,
        add: headers(&from.add)?,
        remove: from
            .remove
            .iter()
            .map(|header| name(header))
            .collect::<Result<_, _>>()?,
    })
}

fn path_edit(
    from: Option<proto::PathModifier>,
    regex: Option<&Arc<Regex>>,
) -> Result<Option<PathEdit>, String> {
    let Some(from) = from else { return Ok(None) };
    let edit = match from
        .modifier
        .ok_or("this version of the proxy does not know this change of the path")?
    {
        Modifier::Full(path) => PathEdit::Full(path.into()),
        Modifier::Prefix(path) => PathEdit::Prefix(path.into()),
        Modifier::Template(text) => {
            let regex = regex.ok_or("a template needs an expression as the first match's path")?;
            // "$1x" is "$1" and an x, not a capture named "1x".
            PathEdit::Template(Arc::clone(regex), braced(&text).into())
        }
    };
    Ok(Some(edit))
}

/// "/a/$12b" as "/a/${12}b".
fn braced(text: &str) -> String {
    let mut parts = text.split('$');
    let mut braced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|first: char| first.is_ascii_digit());
        let number = part.strip_suffix(rest).unwrap_or_default();
        if number.is_empty() {
            braced.push_str("$$");
        } else {
            braced.push_str(&format!("${{{number}}}"));
        }
        braced.push_str(rest);
    }
    braced
}

fn read_redirect(from: proto::Redirect) -> Result<Redirect, String> {
    let text = |text: String| (!text.is_empty()).then(|| text.into());
    let status = u16::try_from(from.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .filter(StatusCode::is_redirection)
        .ok_or_else(|| format!("status {} does not redirect", from.status))?;
    Ok(Redirect {
        scheme: text(from.scheme),
        hostname: text(from.hostname),
        path: path_edit(from.path, None)?,
        port: if from.port == 0 {
            None
        } else {
            Some(port(from.port)?)
        },
        status,
    })
}
