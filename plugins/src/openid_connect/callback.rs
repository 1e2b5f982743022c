//! The browser comes back from the provider.

use std::borrow::Cow;
use std::sync::Arc;

use http::StatusCode;
use percent_encoding::percent_decode_str;

use super::answers;
use super::config::{REDIRECT_SUFFIX, SameSite};
use super::cookies::Channel;
use super::core::{Core, forbidden};
use super::login::{self, Attempt};
use super::provider::Provider;
use super::seal;
use super::session::{Held, Session, Sessions, WriteError};
use super::token::{Expected, Token};
use super::tokens::{Denied, Grant, Tokens};
use crate::handler::{Exchange, Verdict};

/// What the provider hands back through the browser. Nothing in it is believed.
#[derive(Default)]
pub(super) struct Returned {
    pub(super) code: Option<String>,
    pub(super) state: Option<String>,
    pub(super) error: Option<String>,
    pub(super) iss: Option<String>,
}

impl Returned {
    /// Reads a query. A parameter that is given twice is somebody's trick.
    pub(super) fn read(query: &str) -> Option<Self> {
        let mut read = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match &*decoded(name)? {
                "code" => &mut read.code,
                "state" => &mut read.state,
                "error" => &mut read.error,
                "iss" => &mut read.iss,
                _ => continue,
            };
            if place.replace(decoded(value)?.into_owned()).is_some() {
                return None;
            }
        }
        Some(read)
    }
}

fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        let plain = percent_decode_str(&spaced).decode_utf8().ok()?.into_owned();
        return Some(Cow::Owned(plain));
    }
    percent_decode_str(text).decode_utf8().ok()
}

/// Why a login came to nothing.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// Somebody made the callback up, or the provider did not keep to the protocol.
    Bad(&'static str),
    /// The user, or the provider, said no.
    Denied(&'static str),
    /// The configuration is wrong.
    Ours(&'static str),
    /// The provider or the store cannot be asked.
    Away(&'static str),
    /// The user is known and may not pass.
    Forbidden(&'static str),
}

impl Core {
    /// Whether a path is where the provider sends browsers back to.
    pub(super) fn is_callback(&self, path: &str) -> bool {
        match &self.config.redirect_uri {
            Some(uri) => super::check::path_of(uri) == Some(path),
            None => path.ends_with(REDIRECT_SUFFIX),
        }
    }

    /// Whether a path is one at which the plugin answers itself.
    pub(super) fn is_own(&self, path: &str) -> bool {
        self.is_callback(path)
            || path == self.config.logout_path
            || self.config.backchannel_logout_path.as_deref() == Some(path)
    }

    /// Answers the browser that comes back.
    pub(super) async fn come_back<B>(
        &self,
        sessions: &Sessions,
        exchange: &mut Exchange<'_, B>,
    ) -> Verdict {
        let channel = Channel::of(exchange.https);
        let query = exchange.head.uri.query().unwrap_or_default();
        let Some(returned) = Returned::read(query) else {
            return self.failed(exchange, Failure::Bad("bad_callback"));
        };
        let headers = &exchange.head.headers;
        let state = returned.state.as_deref().unwrap_or_default();
        let Some(attempt) = self.attempt_of(sessions, headers, channel, state) else {
            return self.astray(sessions, exchange, channel).await;
        };
        if attempt.done || attempt.is_over(exchange.now) {
            return self.again(sessions, exchange, channel, attempt).await;
        }
        match self.sign_in(sessions, exchange, &returned, &attempt).await {
            Ok(verdict) => verdict,
            Err(Failure::Denied(
                "login_required"
                | "interaction_required"
                | "consent_required"
                | "account_selection_required",
            )) if attempt.silent => {
                login::forget(sessions, exchange.response, channel, &attempt.state);
                let attempt = Attempt {
                    silent: false,
                    begun: exchange.now,
                    ..attempt
                };
                self.send_away(sessions, exchange, attempt, "login").await
            }
            Err(failure) => {
                if !matches!(failure, Failure::Away(_)) {
                    login::forget(sessions, exchange.response, channel, &attempt.state);
                }
                self.failed(exchange, failure)
            }
        }
    }

    async fn sign_in<B>(
        &self,
        sessions: &Sessions,
        exchange: &mut Exchange<'_, B>,
        returned: &Returned,
        attempt: &Attempt,
    ) -> Result<Verdict, Failure> {
        let provider = self.idp.provider().await.map_err(Failure::Away)?;
        let issuer = &provider.metadata.issuer;
        let promised = provider
            .metadata
            .authorization_response_iss_parameter_supported;
        match &returned.iss {
            Some(iss) if iss != issuer.as_str() => return Err(Failure::Bad("other_issuer")),
            None if promised == Some(true) => return Err(Failure::Bad("no_issuer")),
            _ => {}
        }
        if let Some(error) = &returned.error {
            return Err(Failure::Denied(known_error(error)));
        }
        let code = returned.code.as_deref().filter(|code| !code.is_empty());
        let code = code.ok_or(Failure::Bad("no_code"))?;
        let grant = Grant::Code {
            code,
            redirect_uri: &attempt.redirect_uri,
            verifier: attempt.verifier.as_deref(),
        };
        let asked = self.ask_for_tokens(&provider, grant, exchange.now).await;
        let tokens = asked.map_err(|denied| match denied {
            Denied::Refused => Failure::Denied("code_refused"),
            Denied::Client => Failure::Ours("client_refused"),
            Denied::Away(why) => Failure::Away(why),
        })?;
        let session = self
            .session_of(sessions, &provider, &tokens, (code, attempt), exchange.now)
            .await?;
        let channel = Channel::of(exchange.https);
        let headers = &exchange.head.headers;
        // What the browser had before is over, whoever set it.
        if let Ok(Some(old)) = sessions.find(headers, channel, exchange.now).await {
            let mut unused = crate::handler::ResponseEdits::default();
            let _ = sessions
                .end(Some(&old), &mut unused, headers, channel)
                .await;
        }
        let mut held = Held::new(session);
        let written = sessions
            .write(&mut held, exchange.response, headers, channel, exchange.now)
            .await;
        let moved = written.map_err(|error| match error {
            WriteError::Unavailable => Failure::Away("store"),
            WriteError::Internal => Failure::Ours("session_not_written"),
        })?;
        login::finish(sessions, exchange.response, channel, attempt);
        let reason = if moved {
            "signed_in_large"
        } else {
            "signed_in"
        };
        if self.config.session.same_site == SameSite::Strict {
            // The provider began this chain of redirects, and no strict cookie goes along in it: a page of our own begins anew.
            return Ok(answers::onward(&attempt.page(), reason));
        }
        Ok(answers::redirect(&attempt.page(), reason))
    }

    /// Makes a session of tokens, once all of them are in order.
    async fn session_of(
        &self,
        sessions: &Sessions,
        provider: &Arc<Provider>,
        tokens: &Tokens,
        (code, attempt): (&str, &Attempt),
        now: i64,
    ) -> Result<Session, Failure> {
        let text = tokens.id_token.as_deref();
        let text = text.ok_or(Failure::Bad("no_id_token"))?;
        let token = Token::read(text).map_err(Failure::Bad)?;
        self.rules
            .verify(&token, provider)
            .await
            .map_err(|reason| match reason {
                "no_keys" | "no_keys_url" => Failure::Away(reason),
                _ => Failure::Bad(reason),
            })?;
        let access_token = tokens.access_token.secret();
        let expected = Expected {
            nonce: attempt.nonce.as_deref(),
            access_token: Some(access_token),
            code: Some(code),
        };
        let issuer = &provider.metadata.issuer;
        let judged = self.rules.judge(&token, issuer, expected, now);
        judged.map_err(Failure::Bad)?;
        let sub = token.text("sub").unwrap_or_default().to_owned();
        let contents = sessions.contents();
        let wants_user = contents.user || self.config.consumer_claim.is_some();
        let user = if wants_user {
            self.ask_for_user(provider, access_token, &sub).await
        } else {
            None
        };
        let consumer = self.consumer_name(&[Some(&token.claims), user.as_ref()]);
        let scope = tokens.scope.as_deref().unwrap_or(&self.config.scope);
        let default = self.config.access_token_expires_in.map_or(3600, i64::from);
        Ok(Session {
            id: seal::random().ok_or(Failure::Ours("no_randomness"))?,
            iss: issuer.to_string(),
            sid: token.text("sid").map(str::to_owned),
            sub,
            login: now,
            confirmed: now,
            seen: now,
            access_token: contents.access_token.then(|| access_token.clone()),
            access_token_ends: tokens.ends(default, now),
            refresh_token: tokens
                .refresh_token
                .as_ref()
                .filter(|_| contents.access_token)
                .map(|token| token.secret().clone()),
            id_token: contents.enc_id_token.then(|| text.to_owned()),
            claims: contents.id_token.then(|| token.claims.clone()),
            user: user.filter(|_| contents.user),
            scope: scope.to_owned(),
            consumer: consumer.map_err(Failure::Forbidden)?,
            fresh: self.config.force_reauthorize,
        })
    }

    /// A callback that belongs to no attempt of this browser.
    async fn astray<B>(
        &self,
        sessions: &Sessions,
        exchange: &mut Exchange<'_, B>,
        channel: Channel,
    ) -> Verdict {
        let headers = &exchange.head.headers;
        let mut others = self.attempts(sessions, headers, channel);
        others.sort_by_key(|attempt| attempt.begun);
        if let Some(latest) = others.pop() {
            return self.again(sessions, exchange, channel, latest).await;
        }
        let text = "This address finishes a sign-in, and your browser did not bring the cookie that was set when the sign-in began. It may have taken too long, or cookies are blocked. Please open the page that you wanted again.";
        tracing::warn!(
            plugin = self.key,
            request_id = exchange.request_id,
            "a callback came without the cookie of its login"
        );
        answers::page(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Signing in did not work",
            text,
            (exchange.request_id, "no_login_cookie"),
        )
    }

    /// Back to the page that an attempt was for: there is a session by now, or the page begins a new attempt.
    async fn again<B>(
        &self,
        sessions: &Sessions,
        exchange: &mut Exchange<'_, B>,
        channel: Channel,
        attempt: Attempt,
    ) -> Verdict {
        let headers = &exchange.head.headers;
        let found = sessions.find(headers, channel, exchange.now).await;
        if matches!(found, Ok(Some(_))) {
            return answers::redirect(&attempt.page(), "signed_in_already");
        }
        if attempt.tries >= 3 {
            return self.gave_up(sessions, exchange, channel);
        }
        login::forget(sessions, exchange.response, channel, &attempt.state);
        let attempt = Attempt {
            tries: attempt.tries + 1,
            begun: exchange.now,
            done: false,
            silent: false,
            ..attempt
        };
        self.send_away(sessions, exchange, attempt, "login_again")
            .await
    }

    fn failed<B>(&self, exchange: &Exchange<'_, B>, failure: Failure) -> Verdict {
        let (status, text, reason) = match failure {
            Failure::Away(why) => return self.away(exchange, why),
            Failure::Forbidden(why) => {
                return forbidden("You are not known here", why);
            }
            Failure::Denied(why) => (
                StatusCode::FORBIDDEN,
                "The provider did not let you sign in.",
                why,
            ),
            Failure::Bad(why) => (
                StatusCode::BAD_REQUEST,
                "What the provider said could not be verified.",
                why,
            ),
            Failure::Ours(why) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "The gateway is not set up rightly for this provider.",
                why,
            ),
        };
        tracing::warn!(
            plugin = self.key,
            request_id = exchange.request_id,
            why = reason,
            "a login failed"
        );
        answers::page(
            status,
            "Signing in did not work",
            text,
            (exchange.request_id, reason),
        )
    }
}

/// An error of the provider, as a constant: what it says is anybody's text.
fn known_error(error: &str) -> &'static str {
    const KNOWN: [&str; 12] = [
        "access_denied",
        "login_required",
        "interaction_required",
        "consent_required",
        "account_selection_required",
        "invalid_request",
        "unauthorized_client",
        "unsupported_response_type",
        "invalid_scope",
        "server_error",
        "temporarily_unavailable",
        "registration_not_supported",
    ];
    let found = KNOWN.into_iter().find(|known| *known == error);
    found.unwrap_or("provider_error")
}
