//! Signing in: to the provider, and back.
//!
//! Each attempt has a short-lived cookie of its own, named after its state, so that several tabs do not disturb each
//! other and a callback counts only in the browser that set out for it.

use http::header::HOST;
use http::{HeaderMap, StatusCode, request};
use serde::{Deserialize, Serialize};

use super::config::REDIRECT_SUFFIX;
use super::cookies::{self, Channel};
use super::core::Core;
use super::failure::ASKING;
use super::seal;
use super::session::Sessions;
use super::{answers, authorization};
use crate::handler::{Exchange, ResponseEdits, Verdict};

/// What attempts are sealed for.
const PURPOSE: &str = "login";
/// How long an attempt may take.
const PATIENCE: i64 = 600;
/// How long its cookie stays, so that a late callback can be told from one that never set out.
const REMEMBERED: i64 = 3600;
/// How long a finished one is remembered: for a callback that comes twice, and for a session that did not arrive.
const FINISHED: i64 = 60;
/// How often an attempt that went astray is started again.
const TRIES: u8 = 3;
/// Attempts under way in one browser; the oldest make room.
const MAX_ATTEMPTS: usize = 6;
/// A longer address is not returned to.
const LONGEST_TARGET: usize = 1500;

/// One attempt to sign in.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Attempt {
    #[serde(rename = "s")]
    pub(super) state: String,
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub(super) nonce: Option<String>,
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub(super) verifier: Option<String>,
    /// Scheme, host and port of the request that began it, and its path and query.
    #[serde(rename = "o")]
    pub(super) origin: String,
    #[serde(rename = "t")]
    pub(super) target: String,
    #[serde(rename = "r")]
    pub(super) redirect_uri: String,
    #[serde(rename = "b")]
    pub(super) begun: i64,
    /// How often it was started again.
    #[serde(rename = "k", default)]
    pub(super) tries: u8,
    /// The user is not to notice.
    #[serde(rename = "q", default)]
    pub(super) silent: bool,
    #[serde(rename = "d", default)]
    pub(super) done: bool,
}

impl Attempt {
    /// Where it returns to.
    pub(super) fn page(&self) -> String {
        format!("{}{}", self.origin, self.target)
    }

    pub(super) const fn is_over(&self, now: i64) -> bool {
        now.saturating_sub(self.begun) > PATIENCE
    }
}

/// How a login begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(super) silent: bool,
    pub(super) tries: u8,
    pub(super) reason: &'static str,
}

impl Start {
    pub(super) const fn anew(reason: &'static str) -> Self {
        Self {
            silent: false,
            tries: 0,
            reason,
        }
    }
}

/// Scheme, host and port that the browser used.
pub(super) fn origin(head: &request::Parts, https: bool) -> String {
    let scheme = if https { "https" } else { "http" };
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    format!("{scheme}://{}", host.unwrap_or_default())
}

/// Whether a browser asks for a page: only then it helps to send it elsewhere.
pub(super) fn wants_page(head: &request::Parts) -> bool {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let method = matches!(head.method.as_str(), "GET" | "HEAD" | "POST");
    let navigates = text("sec-fetch-mode").is_none_or(|mode| mode == "navigate");
    let script =
        text("x-requested-with").is_some_and(|by| by.eq_ignore_ascii_case("xmlhttprequest"));
    let takes = text("accept").is_none_or(|accept| {
        let accept = accept.to_ascii_lowercase();
        accept.contains("text/html")
            || accept.contains("application/xhtml")
            || accept.contains("*/*")
    });
    method && navigates && !script && takes && text("upgrade").is_none()
}

impl Core {
    /// Where the provider sends the browser back to.
    fn redirect_uri(&self, origin: &str, path: &str) -> String {
        if let Some(uri) = &self.config.redirect_uri {
            return uri.clone();
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        format!("{origin}{path}{REDIRECT_SUFFIX}")
    }

    /// Sends the browser to the provider.
    pub(super) async fn start_login<B>(
        &self,
        sessions: &Sessions,
        exchange: &mut Exchange<'_, B>,
        start: Start,
    ) -> Verdict {
        let origin = origin(exchange.head, exchange.https);
        let uri = &exchange.head.uri;
        let path = uri.path().to_owned();
        let whole = uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        let target = if whole.len() <= LONGEST_TARGET {
            whole.to_owned()
        } else if path.len() <= LONGEST_TARGET {
            path.clone()
        } else {
            "/".to_owned()
        };
        let channel = Channel::of(exchange.https);
        let earlier = self.attempts(sessions, &exchange.head.headers, channel);
        // A login that has just succeeded for this very page, and yet there is no session: the browser did not keep it.
        let astray = earlier.iter().filter(|attempt| {
            let age = exchange.now.saturating_sub(attempt.begun);
            attempt.done && attempt.target == target && age <= PATIENCE
        });
        let tries = astray
            .map(|attempt| attempt.tries + 1)
            .max()
            .unwrap_or_default()
            .max(start.tries);
        if tries > TRIES && start.reason != "force_reauthorize" {
            return self.gave_up(sessions, exchange, channel);
        }
        let redirect_uri = self.redirect_uri(&origin, &path);
        let attempt = Attempt {
            state: String::new(),
            nonce: None,
            verifier: None,
            origin,
            target,
            redirect_uri,
            begun: exchange.now,
            tries,
            silent: start.silent,
            done: false,
        };
        self.send_away(sessions, exchange, attempt, start.reason)
            .await
    }

    /// Sends the browser to the provider with a new state, nonce and verifier.
    pub(super) async fn send_away<B>(
        &self,
        sessions: &Sessions,
        exchange: &mut Exchange<'_, B>,
        mut attempt: Attempt,
        reason: &'static str,
    ) -> Verdict {
        let known = if exchange.rehearsal {
            match self.idp.known() {
                Some(provider) => Ok(provider),
                None => return Verdict::Undecided(ASKING),
            }
        } else {
            self.idp.provider().await
        };
        let provider = match known {
            Ok(provider) => provider,
            Err(why) => return self.away(exchange, why),
        };
        let Some(endpoint) = &provider.metadata.authorization_endpoint else {
            return self.away(exchange, "no_authorization_endpoint");
        };
        let broken = |exchange: &Exchange<'_, B>| {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            let text = "The gateway could not prepare the sign-in.";
            let tail = (exchange.request_id, "no_randomness");
            answers::page(status, "Signing in failed", text, tail)
        };
        let Some(state) = seal::random() else {
            return broken(exchange);
        };
        attempt.state = state;
        attempt.nonce = self.config.use_nonce.then(seal::random).flatten();
        attempt.verifier = self.config.use_pkce.then(seal::random).flatten();
        let to = (&provider.metadata.issuer, endpoint);
        let Some(url) = authorization::url(&self.client, &self.config, to, &attempt) else {
            return broken(exchange);
        };
        let channel = Channel::of(exchange.https);
        self.make_room(sessions, exchange.response, &exchange.head.headers, channel);
        if !remember(sessions, exchange.response, channel, &attempt, REMEMBERED) {
            return broken(exchange);
        }
        answers::redirect(url.as_str(), reason)
    }

    /// The attempts of this browser that can be read.
    pub(super) fn attempts(
        &self,
        sessions: &Sessions,
        headers: &HeaderMap,
        channel: Channel,
    ) -> Vec<Attempt> {
        let prefix = sessions.jar.logins(channel);
        let ours = cookies::all(headers).filter(|(name, _)| name.starts_with(prefix));
        ours.take(2 * MAX_ATTEMPTS)
            .filter_map(|(_, value)| open(sessions, value))
            .collect()
    }

    /// The attempt that a callback belongs to.
    pub(super) fn attempt_of(
        &self,
        sessions: &Sessions,
        headers: &HeaderMap,
        channel: Channel,
        state: &str,
    ) -> Option<Attempt> {
        let name = name_of(sessions, channel, state)?;
        let attempt = open(sessions, cookies::find(headers, &name)?)?;
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(
            attempt.state.as_bytes(),
            state.as_bytes(),
        );
        same.is_ok().then_some(attempt)
    }

    /// Ends cookies of attempts that cannot be read, and the oldest of those that can.
    fn make_room(
        &self,
        sessions: &Sessions,
        edits: &mut ResponseEdits,
        headers: &HeaderMap,
        channel: Channel,
    ) {
        let prefix = sessions.jar.logins(channel);
        let ours = cookies::all(headers).filter(|(name, _)| name.starts_with(prefix));
        let mut known: Vec<(i64, &str)> = ours
            .map(|(name, value)| {
                let begun = open(sessions, value).map_or(i64::MIN, |attempt| attempt.begun);
                (begun, name)
            })
            .collect();
        known.sort_unstable();
        let surplus = known.len().saturating_sub(MAX_ATTEMPTS - 1);
        for (number, (begun, name)) in known.into_iter().enumerate() {
            if number < surplus || begun == i64::MIN {
                sessions.jar.set(edits, channel, (name, ""), 0, true);
            }
        }
    }

    /// Says that signing in leads nowhere.
    pub(super) fn gave_up<B>(
        &self,
        sessions: &Sessions,
        exchange: &mut Exchange<'_, B>,
        channel: Channel,
    ) -> Verdict {
        end_attempts(sessions, exchange.response, &exchange.head.headers, channel);
        let text = "Your browser was sent to sign in several times, and each time came back without the cookie that was set for it. Please allow cookies for this site, close other tabs of it, and open the page again.";
        if !exchange.rehearsal {
            tracing::warn!(
                plugin = self.key,
                request_id = exchange.request_id,
                "a login came back without its cookie too often"
            );
        }
        answers::page(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Signing in did not work",
            text,
            (exchange.request_id, "login_astray"),
        )
    }

    /// The provider cannot be asked.
    pub(super) fn away<B>(&self, exchange: &Exchange<'_, B>, why: &'static str) -> Verdict {
        tracing::warn!(
            plugin = self.key,
            request_id = exchange.request_id,
            why,
            "the provider cannot be asked"
        );
        let page = wants_page(exchange.head);
        answers::unavailable(page, exchange.request_id, "provider_unavailable")
    }
}

/// Ends all attempts of a browser.
pub(super) fn end_attempts(
    sessions: &Sessions,
    edits: &mut ResponseEdits,
    headers: &HeaderMap,
    channel: Channel,
) {
    let prefix = sessions.jar.logins(channel);
    for (name, _) in cookies::all(headers).filter(|(name, _)| name.starts_with(prefix)) {
        sessions.jar.set(edits, channel, (name, ""), 0, true);
    }
}

/// Keeps what is needed to tell that an attempt is over.
pub(super) fn finish(
    sessions: &Sessions,
    edits: &mut ResponseEdits,
    channel: Channel,
    attempt: &Attempt,
) {
    let mut finished = attempt.clone();
    finished.done = true;
    finished.nonce = None;
    finished.verifier = None;
    let _ = remember(sessions, edits, channel, &finished, FINISHED);
}

/// Forgets one attempt.
pub(super) fn forget(
    sessions: &Sessions,
    edits: &mut ResponseEdits,
    channel: Channel,
    state: &str,
) {
    if let Some(name) = name_of(sessions, channel, state) {
        sessions.jar.set(edits, channel, (&name, ""), 0, true);
    }
}

fn remember(
    sessions: &Sessions,
    edits: &mut ResponseEdits,
    channel: Channel,
    attempt: &Attempt,
    seconds: i64,
) -> bool {
    let sealed = serde_json::to_vec(attempt)
        .ok()
        .and_then(|text| sessions.sealing.seal(PURPOSE, &text));
    let name = name_of(sessions, channel, &attempt.state);
    let (Some(sealed), Some(name)) = (sealed, name) else {
        return false;
    };
    sessions
        .jar
        .set(edits, channel, (&name, &sealed), seconds, true);
    true
}

fn open(sessions: &Sessions, value: &str) -> Option<Attempt> {
    let text = sessions.sealing.open(PURPOSE, value)?;
    serde_json::from_slice(&text).ok()
}

fn name_of(sessions: &Sessions, channel: Channel, state: &str) -> Option<String> {
    let (short, _) = state.split_at_checked(12)?;
    let fits = short
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    fits.then(|| format!("{}{short}", sessions.jar.logins(channel)))
}
