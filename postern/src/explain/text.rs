//! An explanation in lines for people.

use std::fmt::Write as _;

use proxy::explain::{Explanation, Forward, Matched, Plugin, Verdict};

/// How many rivals are shown to people.
const RIVALS: usize = 8;

pub(super) fn of(explanation: &Explanation) -> String {
    let mut out = String::new();
    let asked = &explanation.request;
    let scheme = if asked.tls { "https" } else { "http" };
    line(
        &mut out,
        "request",
        &format!("{} {scheme}://{}{}", asked.method, asked.host, asked.target),
    );
    if let Some(past) = &explanation.past {
        let text = format!(
            "{}, refused at {}, from {}",
            past.request_id, past.at, past.client
        );
        line(&mut out, "id", &text);
    }
    match &explanation.listener {
        Some(listener) => {
            let hostname = any(&listener.hostname, "any host");
            let text = format!(
                "{} on port {} ({hostname})",
                listener.name, listener.public_port
            );
            line(&mut out, "listener", &text);
        }
        None => line(&mut out, "listener", "none takes this host"),
    }
    match &explanation.route {
        Some(route) => {
            let mut text = format!("{}, rule {}", route.route, route.rule);
            if let Some(matched) = &route.matched {
                let _ = write!(text, ": {}", words(matched));
            }
            if route.redirects {
                text.push_str(", redirects");
            }
            line(&mut out, "route", &text);
        }
        None => line(&mut out, "route", "none"),
    }
    rivals(&mut out, explanation);
    for plugin in &explanation.plugins {
        plugin_lines(&mut out, plugin);
    }
    outcome(&mut out, explanation);
    if let Some(forward) = &explanation.forward {
        forward_lines(&mut out, forward);
    }
    out
}

/// Who calls, where to, and what the gateway answers itself.
fn outcome(out: &mut String, explanation: &Explanation) {
    if let Some(caller) = &explanation.caller {
        let mut text = caller.consumer.clone();
        if caller.anonymous {
            text.push_str(", the anonymous Consumer");
        }
        if !caller.credential.is_empty() {
            let _ = write!(text, ", by the credential {}", caller.credential);
        }
        if !caller.groups.is_empty() {
            let _ = write!(text, ", in {}", caller.groups.join(", "));
        }
        line(out, "caller", &text);
    }
    if let Some(backend) = &explanation.backend {
        let mut text = any(&backend.upstream, "not valid").to_owned();
        if !backend.others.is_empty() {
            let _ = write!(
                text,
                ", by chance: weight {} of {}, others: {}",
                backend.weight,
                backend.total_weight,
                backend.others.join(", ")
            );
        }
        line(out, "backend", &text);
    }
    if let Some(answer) = &explanation.answer {
        let mut text = format!("{} {}", answer.status, answer.message);
        if let Some(location) = &answer.location {
            let _ = write!(text, "to {location}");
        } else {
            let _ = write!(text, " ({})", answer.reason);
        }
        line(out, "answer", &text);
        for challenge in &answer.challenges {
            more(out, &format!("WWW-Authenticate: {challenge}"));
        }
        if let Some(cause) = &answer.cause {
            more(out, cause);
        }
    }
}

fn rivals(out: &mut String, explanation: &Explanation) {
    let shown = explanation.rivals.iter().take(RIVALS);
    for (at, rival) in shown.enumerate() {
        let text = format!(
            "{}, rule {} ({}): {}",
            rival.route,
            rival.rule,
            words(&rival.matched),
            rival.why
        );
        line(out, if at == 0 { "not" } else { "" }, &text);
    }
    let left = explanation.rivals.len().saturating_sub(RIVALS) + explanation.rivals_left_out;
    if left > 0 {
        more(out, &format!("and {left} more"));
    }
}

fn plugin_lines(out: &mut String, plugin: &Plugin) {
    let verdict = match plugin.verdict {
        Verdict::NotAsked => "not asked",
        Verdict::Passed => "passes",
        Verdict::Refused => "REFUSES",
        Verdict::Outdone => "does not count",
        Verdict::Answered => "answers",
        Verdict::Undecided => "not known",
    };
    let kind = any(&plugin.r#type, "unknown type");
    let mut text = format!("{} ({kind}", plugin.plugin);
    if !plugin.scope.is_empty() {
        let _ = write!(text, ", of the {}", plugin.scope);
    }
    if !plugin.attached_to.is_empty() {
        let _ = write!(text, ": {}", plugin.attached_to);
    }
    let _ = write!(text, ") {verdict}: {}", plugin.says);
    if !plugin.reason.is_empty() {
        let _ = write!(text, " [{}]", plugin.reason);
    }
    line(out, "plugin", &text);
    for method in &plugin.methods {
        more(
            out,
            &format!("{}: {} [{}]", method.r#type, method.says, method.reason),
        );
    }
}

fn forward_lines(out: &mut String, forward: &Forward) {
    let mut text = format!("{} {}", forward.method, forward.target);
    let _ = match forward.endpoints.as_slice() {
        [] => write!(
            text,
            " to {}, which has no endpoint that is known here",
            forward.upstream
        ),
        [only] => write!(text, " to {only}, the endpoint of {}", forward.upstream),
        [first, ..] => write!(
            text,
            " to {first} or another of the {} endpoints of {}",
            forward.endpoints.len() + forward.endpoints_left_out,
            forward.upstream
        ),
    };
    line(out, "upstream", &text);
    for (name, value) in &forward.headers {
        more(out, &format!("{name}: {value}"));
    }
    if forward.body_bytes > 0 {
        more(out, &format!("and a body of {} bytes", forward.body_bytes));
    }
}

fn words(matched: &Matched) -> String {
    format!("{}, {}", any(&matched.hostname, "any host"), matched.path)
}

fn any<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

fn line(out: &mut String, what: &str, text: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "{what:<9} {text}");
}

fn more(out: &mut String, text: &str) {
    line(out, "", &format!("  {text}"));
}
