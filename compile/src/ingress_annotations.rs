//! What annotations of an Ingress ask for. They have the names and meanings that ingress-nginx made usual, under
//! `postern.dev/`.

use ipnet::IpNet;
use snapshot::proto::{
    Cors, Filter, HashCookie, HashKey, PathModifier, Patience, Rewrite, Rule, filter,
    hash_key::Key, path_modifier::Modifier,
};

use crate::services::Speech;
use crate::{Object, hostnames, http_cors, http_matches};

const PREFIX: &str = "postern.dev/";

/// Annotations of other parts of Postern that may stand on an Ingress.
const OTHERS: [&str; 1] = ["plugins"];

/// What ingress-nginx allows where CORS is enabled and nothing else is said.
const CORS_METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const CORS_HEADERS: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization";
const CORS_MAX_AGE: u32 = 1_728_000;

/// What was read.
#[derive(Debug)]
pub(crate) struct Annotations {
    /// For every rule.
    rule: Rule,
    pub(crate) speech: Speech,
    /// Paths of the type ImplementationSpecific are expressions.
    pub(crate) regex: bool,
    /// Name of each annotation that cannot be had, and why.
    pub(crate) wrong: Vec<(String, String)>,
}

impl Annotations {
    /// Reads the annotations; `https_port` is where clients find HTTPS.
    pub(crate) fn of(object: &Object, https_port: u16) -> Self {
        let mut read = Self {
            rule: Rule::default(),
            speech: Speech::AsItsPort,
            regex: false,
            wrong: Vec::new(),
        };
        let all = &object.meta.annotations;
        let own = all
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value.trim())));
        let mut cors: Option<Cors> = None;
        let mut rewrite = Rewrite::default();
        let mut sticky = false;
        let mut cookie = HashCookie {
            name: "INGRESSCOOKIE".to_owned(),
            path: "/".to_owned(),
            max_age: 0,
        };
        for (name, value) in own {
            let result = match name {
                "ssl-redirect" => boolean(value).map(|wanted| {
                    read.rule.https_port = if wanted { https_port.into() } else { 0 };
                }),
                "use-regex" => boolean(value).map(|wanted| read.regex = wanted),
                "rewrite-target" => target(value).map(|target| rewrite.path = Some(target)),
                "upstream-vhost" => vhost(value).map(|name| rewrite.hostname = name),
                "proxy-connect-timeout" => {
                    seconds(value).map(|wanted| read.patience().connect_ms = wanted)
                }
                "proxy-send-timeout" => {
                    seconds(value).map(|wanted| read.patience().send_ms = wanted)
                }
                "proxy-read-timeout" => {
                    seconds(value).map(|wanted| read.patience().response_ms = wanted)
                }
                "proxy-body-size" => size(value).map(|wanted| read.rule.max_body_bytes = wanted),
                "whitelist-source-range" => {
                    ranges(value).map(|ranges| read.rule.allow_sources = ranges)
                }
                "backend-protocol" => speech(value).map(|speech| read.speech = speech),
                "enable-cors" => boolean(value).map(|wanted| {
                    if wanted {
                        cors.get_or_insert_with(usual_cors);
                    }
                }),
                "affinity" => affinity(value).map(|()| sticky = true),
                "session-cookie-name" => cookie_name(value).map(|name| cookie.name = name),
                "session-cookie-path" => cookie_path(value).map(|path| cookie.path = path),
                "session-cookie-max-age" => age(value).map(|age| cookie.max_age = age),
                _ if name.starts_with("cors-") || OTHERS.contains(&name) => Ok(()),
                _ => Err("Postern knows no such annotation of an Ingress".to_owned()),
            };
            if let Err(message) = result {
                read.wrong.push((name.to_owned(), message));
            }
        }
        if let Some(cors) = &mut cors {
            for (name, value) in all
                .iter()
                .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value.trim())))
                .filter(|(name, _)| name.starts_with("cors-"))
            {
                if let Err(message) = refine(cors, name, value) {
                    read.wrong.push((name.to_owned(), message));
                }
            }
        }
        read.rule.affinity = sticky.then_some(HashKey {
            key: Some(Key::Cookie(cookie)),
        });
        if rewrite != Rewrite::default() {
            read.add(filter::Filter::Rewrite(rewrite));
        }
        if let Some(cors) = cors {
            read.add(filter::Filter::Cors(cors));
        }
        if let Some((name, message)) = read.wrong.first() {
            read.rule.invalid = format!("annotation {PREFIX}{name}: {message}");
        }
        read
    }

    /// Whether requests of one client go to one endpoint.
    pub(crate) const fn is_sticky(&self) -> bool {
        self.rule.affinity.is_some()
    }

    fn patience(&mut self) -> &mut Patience {
        self.rule.patience.get_or_insert_default()
    }

    fn add(&mut self, filter: filter::Filter) {
        self.rule.filters.push(Filter {
            filter: Some(filter),
        });
    }

    /// A rule with everything that the annotations ask for; what captures of an expression stand for is only there where the
    /// path is one.
    pub(crate) fn rule(&self, is_expression: bool) -> Rule {
        let mut rule = self.rule.clone();
        if !is_expression {
            for filter in &mut rule.filters {
                if let Some(filter::Filter::Rewrite(rewrite)) = &mut filter.filter
                    && let Some(PathModifier {
                        modifier: Some(modifier),
                    }) = &mut rewrite.path
                    && let Modifier::Template(text) = modifier
                {
                    *modifier = Modifier::Full(without_captures(text));
                }
            }
        }
        rule
    }
}

fn affinity(value: &str) -> Result<(), String> {
    match value {
        "cookie" => Ok(()),
        _ => Err("must be \"cookie\"".to_owned()),
    }
}

fn cookie_name(value: &str) -> Result<String, String> {
    if crds::is_token(value) {
        Ok(value.to_owned())
    } else {
        Err(format!("{value:?} is no name of a cookie"))
    }
}

fn cookie_path(value: &str) -> Result<String, String> {
    if crds::is_cookie_path(value) {
        Ok(value.to_owned())
    } else {
        Err(format!("{value:?} is no path of a cookie"))
    }
}

fn age(value: &str) -> Result<u32, String> {
    value
        .parse()
        .ok()
        .filter(|seconds| (1..=31_536_000).contains(seconds))
        .ok_or_else(|| "must be a number of seconds between 1 and 31536000".to_owned())
}

fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be \"true\" or \"false\"".to_owned()),
    }
}

fn seconds(value: &str) -> Result<u32, String> {
    value
        .strip_suffix('s')
        .unwrap_or(value)
        .parse::<u32>()
        .ok()
        .filter(|seconds| (1..=86_400).contains(seconds))
        .map(|seconds| seconds * 1000)
        .ok_or_else(|| "must be a number of seconds between 1 and 86400".to_owned())
}

/// Bytes, as "8m"; 0 for any number.
fn size(value: &str) -> Result<u64, String> {
    let lower = value.to_ascii_lowercase();
    let (digits, factor) = match lower.as_bytes().last() {
        Some(b'k') => (lower.trim_end_matches('k'), 1 << 10),
        Some(b'm') => (lower.trim_end_matches('m'), 1 << 20),
        Some(b'g') => (lower.trim_end_matches('g'), 1 << 30),
        _ => (lower.as_str(), 1),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "must be a size such as 512k, 8m or 1g".to_owned())
}

fn ranges(value: &str) -> Result<Vec<String>, String> {
    let ranges: Vec<String> = value
        .split(',')
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .map(|range| {
            let net = range.parse::<IpNet>().ok().or_else(|| {
                let address = range.parse::<std::net::IpAddr>().ok()?;
                Some(IpNet::from(address))
            });
            net.map(|net| net.to_string())
                .ok_or_else(|| format!("{range:?} is no address range such as 10.0.0.0/8"))
        })
        .collect::<Result<_, _>>()?;
    if ranges.is_empty() {
        return Err("must name at least one range".to_owned());
    }
    Ok(ranges)
}

fn speech(value: &str) -> Result<Speech, String> {
    match value.to_ascii_uppercase().as_str() {
        "HTTP" => Ok(Speech::Http),
        "HTTPS" => Ok(Speech::Https),
        "GRPC" => Ok(Speech::Grpc),
        "GRPCS" => Ok(Speech::Grpcs),
        _ => Err("must be HTTP, HTTPS, GRPC or GRPCS".to_owned()),
    }
}

fn vhost(value: &str) -> Result<String, String> {
    let name = value.to_ascii_lowercase();
    if hostnames::is_valid(&name) && !name.starts_with('*') {
        Ok(name)
    } else {
        Err(format!("{value:?} is no DNS name"))
    }
}

fn target(value: &str) -> Result<PathModifier, String> {
    http_matches::check_path(&without_captures(value))?;
    let modifier = if value.contains('$') {
        Modifier::Template(value.to_owned())
    } else {
        Modifier::Full(value.to_owned())
    };
    Ok(PathModifier {
        modifier: Some(modifier),
    })
}

/// The text without "$1", "$2" …
fn without_captures(text: &str) -> String {
    let mut parts = text.split('$');
    let mut left = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        left.push_str(part.trim_start_matches(|first: char| first.is_ascii_digit()));
    }
    if left.is_empty() {
        "/".to_owned()
    } else {
        left
    }
}

fn list(value: &str) -> Vec<String> {
    value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn usual_cors() -> Cors {
    Cors {
        allow_origins: vec!["*".to_owned()],
        allow_methods: list(CORS_METHODS),
        allow_headers: list(CORS_HEADERS),
        expose_headers: Vec::new(),
        allow_credentials: true,
        max_age: CORS_MAX_AGE,
    }
}

fn refine(cors: &mut Cors, name: &str, value: &str) -> Result<(), String> {
    let names = || {
        let names = list(value);
        match names
            .iter()
            .find(|name| *name != "*" && !http_matches::is_token(name))
        {
            Some(bad) => Err(format!("{bad:?} is no name")),
            None => Ok(names),
        }
    };
    match name {
        "cors-allow-origin" => {
            cors.allow_origins = list(value);
            for origin in &cors.allow_origins {
                http_cors::check_origin(origin)?;
            }
        }
        "cors-allow-methods" => cors.allow_methods = names()?,
        "cors-allow-headers" => cors.allow_headers = names()?,
        "cors-expose-headers" => cors.expose_headers = names()?,
        "cors-allow-credentials" => cors.allow_credentials = boolean(value)?,
        "cors-max-age" => {
            cors.max_age = value
                .parse()
                .map_err(|_| "must be a number of seconds".to_owned())?;
        }
        _ => return Err("Postern knows no such annotation of an Ingress".to_owned()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(size("8m"), Ok(8 << 20));
        assert_eq!(size("0"), Ok(0));
        assert!(size("8x").is_err() && size("").is_err() && size("m").is_err());
        assert_eq!(seconds("60"), Ok(60_000));
        assert!(seconds("0").is_err() && seconds("x").is_err());
        assert_eq!(
            ranges("10.0.0.0/8, 192.0.2.1"),
            Ok(vec!["10.0.0.0/8".to_owned(), "192.0.2.1/32".to_owned()])
        );
        assert!(ranges("10.0.0.0/33").is_err() && ranges(" ").is_err());
        assert_eq!(without_captures("/a/$2"), "/a/");
        assert_eq!(without_captures("$1"), "/");
    }
}
