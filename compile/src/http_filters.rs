//! What a route's rules and backends change about requests and answers.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesFilters, HttpRouteRulesFiltersRequestRedirectScheme as Scheme,
    HttpRouteRulesFiltersType as Type,
};
use snapshot::proto::{
    Header, HeaderModifier, PathModifier, Redirect, Rewrite, filter, path_modifier,
};

use crate::hostnames;
use crate::http_cors;
use crate::http_matches::{check_path, is_token};

/// Why a filter cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: &'static str,
    /// Path within the rule or backend.
    pub(crate) field: String,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn value(field: String, message: impl Into<String>) -> Self {
        Self {
            reason: "UnsupportedValue",
            field,
            message: message.into(),
        }
    }
}

type Refused = (String, String);

/// Reads a filter that stands for itself. `prefixes` tells whether all matches of the rule are path prefixes.
///
/// # Errors
/// The field within the filter and what is wrong with it.
pub(crate) fn one(spec: &HttpRouteRulesFilters, prefixes: bool) -> Result<filter::Filter, Refused> {
    let missing = |field: &str| {
        (
            field.to_owned(),
            "is missing, although the filter's type says that it is there".to_owned(),
        )
    };
    match spec.r#type {
        Type::RequestHeaderModifier => {
            let field = "requestHeaderModifier";
            let modifier = spec
                .request_header_modifier
                .as_ref()
                .ok_or_else(|| missing(field))?;
            let add = modifier
                .add
                .iter()
                .flatten()
                .map(|header| (header.name.as_str(), header.value.as_str()));
            let set = modifier
                .set
                .iter()
                .flatten()
                .map(|header| (header.name.as_str(), header.value.as_str()));
            headers(field, add, set, modifier.remove.as_deref()).map(filter::Filter::RequestHeaders)
        }
        Type::ResponseHeaderModifier => {
            let field = "responseHeaderModifier";
            let modifier = spec
                .response_header_modifier
                .as_ref()
                .ok_or_else(|| missing(field))?;
            let add = modifier
                .add
                .iter()
                .flatten()
                .map(|header| (header.name.as_str(), header.value.as_str()));
            let set = modifier
                .set
                .iter()
                .flatten()
                .map(|header| (header.name.as_str(), header.value.as_str()));
            headers(field, add, set, modifier.remove.as_deref())
                .map(filter::Filter::ResponseHeaders)
        }
        Type::RequestRedirect => redirect(spec, prefixes).map(filter::Filter::Redirect),
        Type::UrlRewrite => {
            let rewrite = spec
                .url_rewrite
                .as_ref()
                .ok_or_else(|| missing("urlRewrite"))?;
            let path = rewrite.path.as_ref().map(|path| {
                path_modifier(
                    path.replace_full_path.as_deref(),
                    path.replace_prefix_match.as_deref(),
                    prefixes,
                )
            });
            let path = path
                .transpose()
                .map_err(|message| ("urlRewrite.path".to_owned(), message))?;
            let hostname = hostname(rewrite.hostname.as_deref())
                .map_err(|message| ("urlRewrite.hostname".to_owned(), message))?;
            Ok(filter::Filter::Rewrite(Rewrite { hostname, path }))
        }
        Type::Cors => {
            let cors = spec.cors.as_ref().ok_or_else(|| missing("cors"))?;
            http_cors::read(cors).map(filter::Filter::Cors)
        }
        // These lead to Services: read where references are resolved.
        Type::RequestMirror => Err((String::new(), unsupported("RequestMirror"))),
        Type::ExtensionRef => Err((String::new(), unsupported("ExtensionRef"))),
        Type::ExternalAuth => Err((String::new(), unsupported("ExternalAuth"))),
    }
}

fn unsupported(kind: &str) -> String {
    format!("filters of type {kind} are not supported; the rule answers 500 until it is removed")
}

fn headers<'a>(
    field: &str,
    add: impl Iterator<Item = (&'a str, &'a str)>,
    set: impl Iterator<Item = (&'a str, &'a str)>,
    remove: Option<&[String]>,
) -> Result<HeaderModifier, Refused> {
    let read = |(name, value): (&str, &str)| {
        check_header_name(name).map_err(|message| (field.to_owned(), message))?;
        if value
            .bytes()
            .any(|byte| byte.is_ascii_control() && byte != b'\t')
        {
            return Err((
                field.to_owned(),
                format!("the value of header {name} holds a control character"),
            ));
        }
        Ok(Header {
            name: name.to_ascii_lowercase(),
            value: value.to_owned(),
        })
    };
    let remove = remove.unwrap_or_default().iter().map(|name| {
        check_header_name(name).map_err(|message| (field.to_owned(), message))?;
        Ok::<_, Refused>(name.to_ascii_lowercase())
    });
    Ok(HeaderModifier {
        set: set.map(read).collect::<Result<_, _>>()?,
        add: add.map(read).collect::<Result<_, _>>()?,
        remove: remove.collect::<Result<_, _>>()?,
    })
}

/// Headers that frame the message or belong to one connection; changing them would break or smuggle requests.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether filters may not change a header.
#[must_use]
pub fn is_framing(name: &str) -> bool {
    FRAMING.contains(&name.to_ascii_lowercase().as_str())
}

fn check_header_name(name: &str) -> Result<(), String> {
    if !is_token(name) {
        return Err(format!("{name:?} is no header name"));
    }
    if is_framing(name) {
        return Err(format!(
            "header {name} belongs to the connection and cannot be changed (for Host use URLRewrite)"
        ));
    }
    Ok(())
}

fn redirect(spec: &HttpRouteRulesFilters, prefixes: bool) -> Result<Redirect, Refused> {
    let at = |field: &str, message: String| (format!("requestRedirect{field}"), message);
    let Some(redirect) = &spec.request_redirect else {
        return Err(at(
            "",
            "is missing, although the filter's type says that it is there".to_owned(),
        ));
    };
    let status = redirect.status_code.unwrap_or(302);
    let status = u32::try_from(status)
        .ok()
        .filter(|status| [301, 302, 303, 307, 308].contains(status));
    let status = status.ok_or_else(|| {
        at(
            ".statusCode",
            "must be one of 301, 302, 303, 307 and 308".to_owned(),
        )
    })?;
    let port = redirect.port.unwrap_or_default();
    let port = u16::try_from(port)
        .ok()
        .filter(|port| *port > 0 || redirect.port.is_none());
    let port = port.ok_or_else(|| at(".port", "must be between 1 and 65535".to_owned()))?;
    let path = redirect.path.as_ref().map(|path| {
        path_modifier(
            path.replace_full_path.as_deref(),
            path.replace_prefix_match.as_deref(),
            prefixes,
        )
    });
    Ok(Redirect {
        scheme: match redirect.scheme {
            None => String::new(),
            Some(Scheme::Http) => "http".to_owned(),
            Some(Scheme::Https) => "https".to_owned(),
        },
        hostname: hostname(redirect.hostname.as_deref())
            .map_err(|message| at(".hostname", message))?,
        path: path.transpose().map_err(|message| at(".path", message))?,
        port: port.into(),
        status,
    })
}

fn hostname(hostname: Option<&str>) -> Result<String, String> {
    let name = hostname.unwrap_or_default().to_ascii_lowercase();
    if name.is_empty() || (hostnames::is_valid(&name) && !name.starts_with('*')) {
        Ok(name)
    } else {
        Err(format!("{name:?} is no DNS name"))
    }
}

fn path_modifier(
    full: Option<&str>,
    prefix: Option<&str>,
    prefixes: bool,
) -> Result<PathModifier, String> {
    let modifier = match (full, prefix) {
        (Some(full), None) => {
            check_path(full)?;
            path_modifier::Modifier::Full(full.to_owned())
        }
        (None, Some(_)) if !prefixes => {
            return Err("replacePrefixMatch needs matches by PathPrefix only".to_owned());
        }
        (None, Some(prefix)) => {
            if !prefix.is_empty() {
                check_path(prefix)?;
            }
            path_modifier::Modifier::Prefix(prefix.to_owned())
        }
        _ => return Err("give exactly one of replaceFullPath and replacePrefixMatch".to_owned()),
    };
    Ok(PathModifier {
        modifier: Some(modifier),
    })
}
