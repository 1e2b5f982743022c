//! From what happened to a request to its explanation.

use std::sync::Arc;

use http::header::{HOST, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, request};
use plugins::Type;
use plugins::directory::CredentialId;

use super::shape::{
    Answer, Asked, Backend, Caller, Explanation, Forward, Listener, Matched, Method, Plugin, Rival,
    Route, Verdict,
};
use super::{MOST, words};
use crate::body::{Body, RequestBody};
use crate::http::request_id::Dice;
use crate::log;
use crate::pipeline::Ready;
use crate::record::{Record, Spoken};
use crate::respond::Failure;
use crate::router::{Lack, Pattern, Why};
use crate::runtime::{self, Attached, Chain, Port, Rule, Runtime};
use crate::upstream::pick;

/// What is known of a request that was explained.
pub(super) struct Scene<'a> {
    pub(super) runtime: &'a Arc<Runtime>,
    pub(super) port: &'a Port,
    /// As it was understood, before any plugin changed it.
    pub(super) admitted: &'a request::Parts,
    /// Of the host's name; none where the request is not understood.
    pub(super) host_len: Option<usize>,
    pub(super) record: &'a Record,
    pub(super) caller: &'a plugins::handler::Caller,
    pub(super) dice: &'a Dice,
}

/// How it ended.
pub(super) enum Ended {
    /// It would leave for its upstream like this.
    Forwarded(Box<Ready>, Box<request::Parts>, RequestBody),
    Answered(Response<Body>),
    Failed(Failure),
}

impl Scene<'_> {
    pub(super) fn explanation(&self, ended: Ended) -> Explanation {
        let record = self.record;
        let mut explanation = Explanation {
            request: self.asked(),
            snapshot: self.runtime.version.to_string(),
            listener: self.listener(),
            caller: caller(self.caller),
            ..Explanation::default()
        };
        self.routing(&mut explanation);
        if let Some(rule) = &record.rule {
            explanation.plugins = self.plugins(rule);
            explanation.backend = record.backend.map(|index| backend(rule, index));
        }
        match ended {
            Ended::Failed(failure) => {
                if let Failure::Answered(answer) = &failure
                    && answer.status.as_u16() < 400
                {
                    let plugins = &mut explanation.plugins;
                    let asked = plugins
                        .iter_mut()
                        .rfind(|plugin| plugin.verdict == Verdict::Passed);
                    if let Some(plugin) = asked {
                        plugin.verdict = Verdict::Answered;
                    }
                }
                explanation.answer = Some(refusal(&failure));
            }
            Ended::Answered(response) => explanation.answer = Some(answer(&response)),
            Ended::Forwarded(ready, head, body) => {
                explanation.forward = Some(self.forward(&ready, &head, &body));
            }
        }
        explanation
    }

    fn host(&self) -> Option<&str> {
        let host = self.admitted.headers.get(HOST)?.to_str().ok()?;
        host.get(..self.host_len?)
    }

    fn asked(&self) -> Asked {
        let head = self.admitted;
        Asked {
            method: head.method.to_string(),
            host: self.host().unwrap_or_default().to_owned(),
            target: target(head),
            tls: self.port.tls.is_some(),
            headers: names(&head.headers),
        }
    }

    fn listener(&self) -> Option<Listener> {
        let of_rule = self.record.rule.as_ref().map(|rule| &rule.listener);
        let number = self.host().and_then(|host| self.port.listener(host));
        let of_host = || {
            let mut all = self.port.listeners.iter();
            all.find(|one| number.is_some() && self.port.number_of(&one.hostname) == number)
        };
        let found = of_rule.or_else(of_host)?;
        Some(Listener {
            name: found.name.to_string(),
            hostname: found.hostname.to_string(),
            port: self.port.number,
            public_port: self.port.public_port,
        })
    }

    /// The rule, and the others.
    fn routing(&self, explanation: &mut Explanation) {
        let Some(host) = self.host() else {
            return;
        };
        let request = runtime::Request {
            host,
            path: self.admitted.uri.path(),
            query: self.admitted.uri.query(),
            method: &self.admitted.method,
            headers: &self.admitted.headers,
        };
        let mut rivals = self.port.router.survey(&request);
        // What serves is what the request itself has found; the survey only adds where it stands.
        let serving = self.record.rule.as_ref();
        let at = rivals.iter().position(|rival| {
            rival.why == Why::Serves && serving.is_some_and(|rule| Arc::ptr_eq(rule, rival.rule))
        });
        let matched = at.map(|at| rivals.remove(at)).map(|won| Matched {
            hostname: won.hostname,
            path: pattern(&won.path),
        });
        explanation.route = serving.map(|rule| Route {
            route: rule.route.to_string(),
            rule: rule.name.to_string(),
            matched,
            redirects: rule.redirect.is_some(),
        });
        explanation.rivals_left_out = rivals.len().saturating_sub(MOST);
        let told = rivals.into_iter().take(MOST);
        explanation.rivals = told
            .map(|rival| {
                let (lost_by, why) = lost(rival.why);
                Rival {
                    route: rival.rule.route.to_string(),
                    rule: rival.rule.name.to_string(),
                    matched: Matched {
                        hostname: rival.hostname,
                        path: pattern(&rival.path),
                    },
                    lost_by: lost_by.to_owned(),
                    why,
                }
            })
            .collect();
    }

    fn plugins(&self, rule: &Rule) -> Vec<Plugin> {
        let backend = self
            .record
            .backend
            .and_then(|index| rule.backends.get(index));
        let chain = backend.map_or(&rule.redirect_chain, |backend| &backend.chain);
        let service = backend
            .and_then(|backend| backend.upstream.as_ref())
            .map(|upstream| &*upstream.name);
        let mut plugins = Vec::new();
        let mut spoken: Vec<&Spoken> = self.record.verdicts.iter().collect();
        let of_consumer = |kind: Option<Type>| {
            let own = self.record.consumer.as_ref();
            let own = own.map(|consumer| self.runtime.plugins_of(consumer));
            let own = own.unwrap_or_default();
            let mut own = own.into_iter().flatten();
            own.any(|plugin| plugin.kind == kind && kind.is_some())
        };
        for plugin in &chain.plugins {
            let mut told = self.plugin(&plugin.name, plugin.kind);
            place(&mut told, &plugin.name, chain, rule, service);
            let mine = |one: &Spoken| *one.plugin == *plugin.name;
            if spoken.iter().any(|one| mine(one)) {
                spoken.retain(|one| !mine(one));
            } else if of_consumer(plugin.kind) {
                told.verdict = Verdict::Outdone;
                "the Consumer has a plugin of this type of its own".clone_into(&mut told.says);
            }
            plugins.push(told);
        }
        // Whoever else has spoken is the Consumer's own.
        let mut own: Vec<&Arc<str>> = Vec::new();
        for one in spoken {
            if !own.contains(&&one.plugin) {
                own.push(&one.plugin);
            }
        }
        for name in own {
            let mut told = self.plugin(name, self.kind_of(name));
            "consumer".clone_into(&mut told.scope);
            if let Some(consumer) = &self.record.consumer {
                told.attached_to = format!("Consumer {}", consumer.username());
            }
            plugins.push(told);
        }
        self.outdone(chain, rule, service, &mut plugins);
        plugins
    }

    /// Those that a narrower one of their type leaves no place for.
    fn outdone(
        &self,
        chain: &Chain,
        rule: &Rule,
        service: Option<&str>,
        plugins: &mut Vec<Plugin>,
    ) {
        for (index, scope) in chain.scopes.iter().enumerate() {
            for name in scope {
                if plugins.iter().any(|plugin| *plugin.plugin == **name) {
                    continue;
                }
                let kind = self.kind_of(name);
                let (scope, attached_to) = scope_of(index, name, rule, service);
                plugins.push(Plugin {
                    plugin: name.to_string(),
                    r#type: kind.map_or("", Type::name).to_owned(),
                    scope: scope.to_owned(),
                    attached_to,
                    verdict: Verdict::Outdone,
                    says: "a narrower plugin of its type takes its place".to_owned(),
                    ..Plugin::default()
                });
            }
        }
    }

    fn kind_of(&self, name: &str) -> Option<Type> {
        let key = format!("Plugin/{name}");
        self.runtime.plugins.get(&*key)?.kind
    }

    fn plugin(&self, name: &str, kind: Option<Type>) -> Plugin {
        plugin(name, kind, &self.record.verdicts)
    }

    fn forward(&self, ready: &Ready, head: &request::Parts, body: &RequestBody) -> Forward {
        let body_bytes = body.held_bytes();
        let upstream = &ready.upstream;
        let set = upstream.endpoints.load();
        let first = pick(&set, &[], ready.key, self.dice).map(|endpoint| endpoint.address);
        let rest = set.usable.iter().map(|endpoint| endpoint.address);
        let rest = rest.filter(|address| Some(*address) != first);
        let all: Vec<String> = first
            .into_iter()
            .chain(rest)
            .map(|address| address.to_string())
            .collect();
        Forward {
            method: head.method.to_string(),
            target: target(head),
            headers: shown(&head.headers),
            body_bytes,
            upstream: upstream.name.to_string(),
            endpoints_left_out: all.len().saturating_sub(MOST),
            endpoints: all.into_iter().take(MOST).collect(),
        }
    }
}

/// What a plugin said.
pub(super) fn plugin(name: &str, kind: Option<Type>, verdicts: &[Spoken]) -> Plugin {
    let mut told = Plugin {
        plugin: name.to_owned(),
        r#type: kind.map_or("", Type::name).to_owned(),
        ..Plugin::default()
    };
    for one in verdicts.iter().filter(|one| *one.plugin == *name) {
        match one.method {
            Some(method) => told.methods.push(Method {
                r#type: method.name().to_owned(),
                reason: one.reason.to_owned(),
                says: words::says(Some(method), one.reason),
            }),
            None => {
                told.verdict = match one.reason {
                    reason if reason.starts_with("would_") => Verdict::Undecided,
                    _ if one.passed => Verdict::Passed,
                    _ => Verdict::Refused,
                };
                one.reason.clone_into(&mut told.reason);
            }
        }
    }
    told.says = words::says(kind, &told.reason);
    if told.verdict == Verdict::Refused && told.methods.len() > 1 {
        told.says = format!("no method finds anybody: {}", told.says);
    }
    told
}

fn place(told: &mut Plugin, name: &str, chain: &Chain, rule: &Rule, service: Option<&str>) {
    let named = |scope: &Vec<Box<str>>| scope.iter().any(|one| **one == *name);
    if let Some(index) = chain.scopes.iter().position(named) {
        let (scope, attached_to) = scope_of(index, name, rule, service);
        scope.clone_into(&mut told.scope);
        told.attached_to = attached_to;
    }
}

fn scope_of(
    index: usize,
    name: &str,
    rule: &Rule,
    service: Option<&str>,
) -> (&'static str, String) {
    let of = |attached: &Attached| attached.place(name).unwrap_or_default().to_owned();
    match index {
        0 => ("route", of(&rule.plugins)),
        1 => {
            let service = service.and_then(|name| name.rsplit_once('/'));
            let name = service.map_or("", |(service, _port)| service);
            ("service", format!("Service {name}"))
        }
        _ => ("listener", of(&rule.listener.plugins)),
    }
}

fn caller(caller: &plugins::handler::Caller) -> Option<Caller> {
    let consumer = caller.consumer.as_ref()?;
    let text = |value: Option<HeaderValue>| {
        value
            .as_ref()
            .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
            .unwrap_or_default()
            .to_owned()
    };
    Some(Caller {
        consumer: consumer.username().to_owned(),
        id: consumer.id().to_owned(),
        groups: consumer.groups().map(str::to_owned).collect(),
        credential: text(caller.credential.as_ref().and_then(CredentialId::header)),
        anonymous: caller.anonymous,
    })
}

fn backend(rule: &Rule, index: usize) -> Backend {
    let name = |backend: &runtime::Backend| {
        backend
            .upstream
            .as_ref()
            .map_or_else(String::new, |upstream| upstream.name.to_string())
    };
    let chosen = rule.backends.get(index);
    let others = rule.backends.iter().enumerate();
    Backend {
        upstream: chosen.map_or_else(String::new, name),
        weight: chosen.map_or(0, |backend| backend.weight),
        total_weight: rule.total_weight,
        others: others
            .filter(|(at, _)| *at != index)
            .map(|(_, backend)| name(backend))
            .collect(),
    }
}

fn refusal(failure: &Failure) -> Answer {
    let challenges = match failure {
        Failure::Refused(refusal) => texts(&refusal.challenges),
        Failure::Answered(answer) => texts(answer.headers.get_all(WWW_AUTHENTICATE)),
        _ => Vec::new(),
    };
    let location = match failure {
        Failure::Answered(answer) => location(&answer.headers),
        _ => None,
    };
    let why = words::failure(failure.label());
    Answer {
        status: failure.status().as_u16(),
        reason: failure.label().to_owned(),
        message: failure.message().to_owned(),
        challenges,
        location,
        cause: match failure {
            Failure::Incomplete(cause) => Some(cause.to_string()),
            _ if why.is_empty() => None,
            _ => Some(why.to_owned()),
        },
    }
}

fn answer(response: &Response<Body>) -> Answer {
    let location = location(response.headers());
    Answer {
        status: response.status().as_u16(),
        reason: if location.is_some() {
            "redirect"
        } else {
            "answered"
        }
        .to_owned(),
        location,
        ..Answer::default()
    }
}

/// Where an answer redirects to, without the values of the query.
fn location(headers: &HeaderMap) -> Option<String> {
    let location = headers.get(LOCATION)?.to_str().ok()?;
    Some(match location.split_once('?') {
        Some((path, query)) => format!("{path}?{}", log::redacted(query)),
        None => location.to_owned(),
    })
}

pub(super) fn texts<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> Vec<String> {
    let texts = values.into_iter().filter_map(|value| value.to_str().ok());
    texts.map(str::to_owned).collect()
}

fn names(headers: &HeaderMap) -> Vec<String> {
    headers.keys().map(ToString::to_string).collect()
}

/// Path and the names of the query's parameters.
fn target(head: &request::Parts) -> String {
    match head.uri.query() {
        Some(query) => format!("{}?{}", head.uri.path(), log::redacted(query)),
        None => head.uri.path().to_owned(),
    }
}

/// All headers, with the values of those only that the gateway makes itself.
fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    let own = |name: &str| {
        matches!(
            name,
            "host" | "content-length" | "x-real-ip" | "x-request-id"
        ) || name.starts_with("x-forwarded-")
            || name.starts_with("x-consumer-")
            || matches!(
                name,
                "x-credential-identifier"
                    | "x-anonymous-consumer"
                    | "x-authenticated-scope"
                    | "x-authenticated-userid"
            )
    };
    headers
        .iter()
        .map(|(name, value)| {
            let value = std::str::from_utf8(value.as_bytes()).ok();
            let value = value.filter(|_| own(name.as_str())).unwrap_or("*");
            (name.to_string(), value.to_owned())
        })
        .collect()
}

fn pattern(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Exact(path) => format!("exact {path}"),
        Pattern::Prefix(path) if path.is_empty() => "prefix /".to_owned(),
        Pattern::Prefix(path) => format!("prefix {path}"),
        Pattern::Regex(regex) => {
            let inner = regex.strip_prefix("^(?:");
            let inner = inner.and_then(|inner| inner.strip_suffix(")$"));
            format!("regex {}", inner.unwrap_or(regex))
        }
    }
}

fn lost(why: Why<'_>) -> (&'static str, String) {
    match why {
        // The request ended before it was looked for, or its path is ambiguous.
        Why::Serves => ("precedence", "it would serve the request".to_owned()),
        Why::Precedence => (
            "precedence",
            "it matches too, but the rule that serves goes before it".to_owned(),
        ),
        Why::Lacks(Lack::Method(method)) => ("method", format!("it asks for {method}")),
        Why::Lacks(Lack::Header(name)) => (
            "header",
            format!("it asks for another value of the header {name}"),
        ),
        Why::Lacks(Lack::Query(name)) => (
            "query",
            format!("it asks for another value of the query parameter {name}"),
        ),
        Why::Path => ("path", "the path is another one".to_owned()),
        Why::OneLabel => (
            "host",
            "the wildcard of an Ingress stands for one label only".to_owned(),
        ),
        Why::Host => ("host", "the host is another one".to_owned()),
        Why::Listener => (
            "listener",
            "it is a rule of another listener, whose hostname does not fit as well".to_owned(),
        ),
    }
}
