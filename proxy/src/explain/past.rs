//! A request of the past, out of the ring of refusals.

use jiff::Timestamp;

use super::compose::{plugin, texts};
use super::shape::{Answer, Asked, Backend, Caller, Explanation, Listener, Past, Route, Verdict};
use crate::refusals::Refused;
use crate::runtime::Runtime;

/// Explains a request that was refused, as it was then.
pub(crate) fn past(refused: &Refused, runtime: &Runtime) -> Explanation {
    let mut explanation = Explanation {
        request: asked(refused),
        past: Some(Past {
            request_id: text(refused.id.as_bytes()),
            at: Timestamp::from_second(refused.at)
                .unwrap_or_default()
                .to_string(),
            client: refused.client.to_string(),
        }),
        snapshot: runtime.version.to_string(),
        caller: refused.consumer.as_ref().map(|consumer| Caller {
            consumer: consumer.to_string(),
            anonymous: refused.anonymous,
            ..Caller::default()
        }),
        answer: Some(Answer {
            status: refused.status.as_u16(),
            reason: refused.failure.to_owned(),
            message: refused.message.to_string(),
            challenges: texts(&refused.challenges),
            location: None,
            cause: refused.cause.as_ref().map(ToString::to_string),
        }),
        ..Explanation::default()
    };
    let Some(served) = &refused.served else {
        return explanation;
    };
    explanation.listener = Some(Listener {
        name: served.listener.name.to_string(),
        hostname: served.listener.hostname.to_string(),
        port: refused.port,
        public_port: runtime
            .ports
            .get(&refused.port)
            .map_or(refused.port, |port| port.public_port),
    });
    explanation.route = Some(Route {
        route: served.route.to_string(),
        rule: served.rule.to_string(),
        ..Route::default()
    });
    explanation.backend = served.upstream.as_ref().map(|name| Backend {
        upstream: name.to_string(),
        ..Backend::default()
    });
    let mut names: Vec<&str> = Vec::new();
    for one in &refused.verdicts {
        if !names.contains(&&*one.plugin) {
            names.push(&one.plugin);
        }
    }
    for name in names {
        let key = format!("Plugin/{name}");
        let kind = runtime.plugins.get(&*key).and_then(|plugin| plugin.kind);
        let mut told = plugin(name, kind, &refused.verdicts);
        let (route, listener) = (&served.plugins, &served.listener.plugins);
        if let Some(place) = route.place(name) {
            (told.scope, told.attached_to) = ("route".to_owned(), place.to_owned());
        } else if let Some(place) = listener.place(name) {
            (told.scope, told.attached_to) = ("listener".to_owned(), place.to_owned());
        }
        if told.verdict == Verdict::NotAsked {
            told.verdict = Verdict::Refused;
        }
        explanation.plugins.push(told);
    }
    explanation
}

fn asked(refused: &Refused) -> Asked {
    let host = refused.host.as_ref();
    Asked {
        method: refused.method.to_string(),
        host: host.map_or_else(String::new, |host| text(host.as_bytes())),
        target: match &refused.query {
            Some(query) => format!("{}?{query}", refused.path),
            None => refused.path.to_string(),
        },
        tls: refused.tls,
        headers: refused.headers.iter().map(ToString::to_string).collect(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
