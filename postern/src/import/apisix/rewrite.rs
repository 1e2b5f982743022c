//! Plugins that change requests and answers: what the filters of an HTTPRoute can do.

use serde_json::{Map, Value, json};

use super::pattern::Pattern;
use super::plugins::Said;
use super::tables::{self, flag, number, plain, text, texts};

pub(super) const KNOWN: [&str; 4] = ["proxy-rewrite", "redirect", "cors", "response-rewrite"];

/// What is changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) host: Option<String>,
    /// The path that all requests get.
    path: Option<String>,
    /// What one beginning of paths becomes.
    prefix: Option<(String, String)>,
    request: Headers,
    response: Headers,
    cors: Option<Value>,
    redirect: Option<Value>,
    /// Requests without TLS are sent to the same address with it.
    pub(super) https_only: bool,
}

#[derive(Debug, Default)]
struct Headers {
    set: Vec<(String, String)>,
    add: Vec<(String, String)>,
    remove: Vec<String>,
}

impl Changes {
    pub(super) fn read(&mut self, name: &str, config: &Value, said: &mut Said) {
        match name {
            "proxy-rewrite" => self.rewrite(config, said),
            "redirect" => self.redirect(config, said),
            "cors" => self.cors(config, said),
            _ => self.answer(config, said),
        }
    }

    /// The filters of a rule for paths of this pattern.
    pub(super) fn filters(&self, pattern: Option<&Pattern>) -> Vec<Value> {
        let mut all = Vec::new();
        if let Some(redirect) = &self.redirect {
            all.push(json!({"type": "RequestRedirect", "requestRedirect": redirect}));
            return all;
        }
        if let Some(modifier) = self.request.modifier() {
            all.push(json!({"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}));
        }
        if let Some(modifier) = self.response.modifier() {
            all.push(json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": modifier}));
        }
        if let Some(cors) = &self.cors {
            all.push(json!({"type": "CORS", "cors": cors}));
        }
        let mut rewrite = Map::new();
        if let Some(host) = &self.host {
            rewrite.insert("hostname".to_owned(), json!(host));
        }
        if let Some(path) = &self.path {
            rewrite.insert(
                "path".to_owned(),
                json!({"type": "ReplaceFullPath", "replaceFullPath": path}),
            );
        } else if let Some((from, to)) = &self.prefix {
            let path = match pattern {
                // A path of its own, which another route's prefix would take.
                Some(Pattern::Exact(path)) => {
                    let rest = path.strip_prefix(from.as_str()).unwrap_or(path);
                    json!({"type": "ReplaceFullPath", "replaceFullPath": format!("{to}{rest}")})
                }
                _ => {
                    json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": if to.is_empty() { "/" } else { to }})
                }
            };
            rewrite.insert("path".to_owned(), path);
        }
        if !rewrite.is_empty() {
            all.push(json!({"type": "URLRewrite", "urlRewrite": rewrite}));
        }
        all
    }

    pub(super) const fn is_redirect(&self) -> bool {
        self.redirect.is_some()
    }

    /// Whether the beginning of paths is replaced, which only prefixes have.
    pub(super) const fn replaces_prefix(&self) -> bool {
        self.prefix.is_some()
    }

    /// Whether the paths of the route are those whose beginning is replaced.
    pub(super) fn fits(&self, patterns: &[Pattern]) -> bool {
        self.prefix.as_ref().is_none_or(|(from, _)| {
            patterns
                .iter()
                .all(|pattern| *pattern == Pattern::Below(from.clone()))
        })
    }

    fn rewrite(&mut self, config: &Value, said: &mut Said) {
        said.only(
            config,
            &[
                "uri",
                "regex_uri",
                "host",
                "headers",
                "use_real_request_uri_unsafe",
            ],
        );
        if flag(config, "use_real_request_uri_unsafe") {
            said.problem("use_real_request_uri_unsafe is not carried over");
        }
        if let Some(host) = text(config, "host") {
            self.rewrite_host(&host, said);
        }
        match text(config, "uri") {
            Some(uri) if is_path(&uri) => self.path = Some(uri),
            Some(_) => said.problem("uri: only a path without variables and query can be set"),
            None => self.regex_uri(config, said),
        }
        self.request.read(config.get("headers"), said);
    }

    fn rewrite_host(&mut self, host: &str, said: &mut Said) {
        let name = host.split(':').next().unwrap_or(host);
        if name.parse::<std::net::IpAddr>().is_ok() || !super::super::manifests::is_host(name) {
            said.problem("host: only a name can be set");
        } else {
            self.host = Some(name.to_ascii_lowercase());
        }
    }

    /// `^/a/(.*)` to `/b/$1` is what can be said.
    fn regex_uri(&mut self, config: &Value, said: &mut Said) {
        let parts = texts(config, "regex_uri", "regex_uri");
        let (from, to, more) = (parts.first(), parts.get(1), parts.len() > 2);
        let (Some(from), Some(to)) = (from, to) else {
            return;
        };
        let from = from
            .strip_prefix('^')
            .map(|from| from.strip_suffix('$').unwrap_or(from));
        let from = from.and_then(|from| from.strip_suffix("/(.*)"));
        let to = to.strip_suffix("/$1");
        let plain = |text: &str| {
            text.is_empty() || is_path(text) && !text.contains(['(', ')', '*', '+', '.', '\\', '['])
        };
        match (from, to) {
            (Some(from), Some(to)) if !more && plain(from) && (to.is_empty() || is_path(to)) => {
                self.prefix = Some((from.to_owned(), to.to_owned()));
            }
            _ => said.problem(
                "regex_uri: only [\"^/a/(.*)\", \"/b/$1\"] can be said, for a route with uri /a/*",
            ),
        }
    }

    fn redirect(&mut self, config: &Value, said: &mut Said) {
        said.only(
            config,
            &[
                "http_to_https",
                "uri",
                "ret_code",
                "append_query_string",
                "encode_uri",
            ],
        );
        if flag(config, "http_to_https") {
            self.https_only = true;
            return;
        }
        let Some(uri) = text(config, "uri") else {
            said.problem("only http_to_https and uri can be carried over");
            return;
        };
        let code = number(config, "ret_code").unwrap_or(302);
        if ![301, 302, 303, 307, 308].contains(&code) {
            said.problem(format!(
                "ret_code: {code} is none of 301, 302, 303, 307 and 308"
            ));
            return;
        }
        let mut own = Map::new();
        own.insert("statusCode".to_owned(), json!(code));
        let path = match uri.split_once("://") {
            None => uri,
            Some((scheme, rest)) => {
                let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let (name, port) = host
                    .split_once(':')
                    .map_or((host, None), |(name, port)| (name, Some(port)));
                let port = port.map(str::parse::<u16>);
                if !matches!(scheme, "http" | "https")
                    || !super::super::manifests::is_host(name)
                    || matches!(port, Some(Err(_)))
                {
                    said.problem("uri: is no address of http or https without variables");
                    return;
                }
                own.insert("scheme".to_owned(), json!(scheme));
                own.insert("hostname".to_owned(), json!(name));
                if let Some(Ok(port)) = port {
                    own.insert("port".to_owned(), json!(port));
                }
                if path.is_empty() {
                    "/".to_owned()
                } else {
                    path.to_owned()
                }
            }
        };
        if !is_path(&path) {
            said.problem("uri: only a path or address without variables and query can be set");
            return;
        }
        if !flag(config, "append_query_string") {
            said.note("append_query_string: the query goes along with the redirect");
        }
        own.insert(
            "path".to_owned(),
            json!({"type": "ReplaceFullPath", "replaceFullPath": path}),
        );
        self.redirect = Some(Value::Object(own));
    }

    fn cors(&mut self, config: &Value, said: &mut Said) {
        let list = |field: &str, default: &str| -> Vec<String> {
            let text = text(config, field).unwrap_or_else(|| default.to_owned());
            let all = text.split(',').map(|part| part.trim().to_owned());
            let all: Vec<String> = all.filter(|part| !part.is_empty()).collect();
            if all.iter().any(|part| part == "**" || part == "*") {
                vec!["*".to_owned()]
            } else {
                all
            }
        };
        let origins = list("allow_origins", "*");
        if !tables::is_empty(config.get("allow_origins_by_regex").unwrap_or(&Value::Null))
            || !tables::is_empty(
                config
                    .get("allow_origins_by_metadata")
                    .unwrap_or(&Value::Null),
            )
        {
            said.note("allow_origins_by_regex, allow_origins_by_metadata: are not carried over; name the origins in allow_origins");
        }
        let fine = |origin: &String| {
            origin == "*"
                || origin.split_once("://").is_some_and(|(_, host)| {
                    !host.is_empty()
                        && host
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || b"-.:*".contains(&byte))
                })
        };
        if origins.is_empty() || !origins.iter().all(fine) {
            said.note("allow_origins: is not a list of origins; no CORS is carried over");
            return;
        }
        let tokens = |list: Vec<String>| -> Vec<String> {
            list.into_iter()
                .filter(|name| name == "*" || is_token(name))
                .collect()
        };
        let seconds = number(config, "max_age").unwrap_or(5);
        self.cors = Some(json!({
            "allowOrigins": origins,
            "allowMethods": tokens(list("allow_methods", "*")),
            "allowHeaders": tokens(list("allow_headers", "*")),
            "exposeHeaders": tokens(list("expose_headers", "")),
            "allowCredentials": flag(config, "allow_credential"),
            "maxAge": seconds.clamp(1, 86_400),
        }));
    }

    fn answer(&mut self, config: &Value, said: &mut Said) {
        said.only(config, &["headers"]);
        self.response.read(config.get("headers"), said);
    }
}

impl Headers {
    fn read(&mut self, from: Option<&Value>, said: &mut Said) {
        let Some(from) = from else { return };
        let grouped = ["set", "add", "remove"].iter().any(|field| {
            from.get(field)
                .is_some_and(|value| value.is_object() || value.is_array())
        });
        if !grouped {
            for (name, value) in tables::fields(from) {
                self.set_one(name, value, said);
            }
            return;
        }
        for (name, value) in from.get("set").into_iter().flat_map(tables::fields) {
            self.set_one(name, value, said);
        }
        for (name, value) in from.get("add").into_iter().flat_map(tables::fields) {
            self.add_one(name, &plain(value).unwrap_or_default(), said);
        }
        for line in from
            .get("add")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if let Some((name, value)) = line.as_str().and_then(|line| line.split_once(':')) {
                self.add_one(name.trim(), value.trim(), said);
            }
        }
        for name in from
            .get("remove")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(plain)
        {
            if usable(&name, "", said) {
                self.remove.push(name);
            }
        }
    }

    /// An upstream may trust what is set: where the value cannot be had, what a client sends must not stand in for it.
    fn set_one(&mut self, name: &str, value: &Value, said: &mut Said) {
        let value = plain(value).unwrap_or_default();
        if !usable(name, &value, said) {
            return;
        }
        if value.is_empty() {
            self.remove.push(name.to_owned());
        } else if value.contains('$') {
            said.note(format!("headers: the value of {name} has variables and is not carried over; the header is removed"));
            self.remove.push(name.to_owned());
        } else {
            self.set.push((name.to_owned(), value));
        }
    }

    fn add_one(&mut self, name: &str, value: &str, said: &mut Said) {
        if value.contains('$') {
            said.note(format!(
                "headers: the value of {name} has variables and is not carried over"
            ));
        } else if usable(name, value, said) {
            self.add.push((name.to_owned(), value.to_owned()));
        }
    }

    fn modifier(&self) -> Option<Value> {
        let pairs = |list: &[(String, String)]| -> Vec<Value> {
            list.iter()
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect()
        };
        let mut all = Map::new();
        if !self.set.is_empty() {
            all.insert("set".to_owned(), json!(pairs(&self.set)));
        }
        if !self.add.is_empty() {
            all.insert("add".to_owned(), json!(pairs(&self.add)));
        }
        if !self.remove.is_empty() {
            all.insert("remove".to_owned(), json!(self.remove));
        }
        (!all.is_empty()).then_some(Value::Object(all))
    }
}

fn usable(name: &str, value: &str, said: &mut Said) -> bool {
    let fine = is_token(name) && !compile::is_framing(name) && !value.chars().any(char::is_control);
    if !fine {
        said.problem(format!(
            "headers: {name:?} is a header that cannot be changed"
        ));
    }
    fine
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.contains("//")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~!&'()+,;=@:*".contains(&byte))
}
