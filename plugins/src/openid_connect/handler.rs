//! What it does to a request.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::bearer::{Bearer, Rejected, malformed, unauthorized};
use super::cookies::Channel;
use super::core::{Core, forbidden};
use super::failure::Failure;
use super::login::{Start, wants_page};
use super::session::{Held, Session, Sessions, WriteError};
use super::tokens::Denied;
use super::upstream::clear;
use super::{Config, UnauthAction, answers};
use crate::gate::challenge;
use crate::handler::{BuildContext, Exchange, RequestBody, Verdict};

/// Ready to run.
#[derive(Debug)]
pub struct Handler {
    core: Arc<Core>,
    bearer: Option<Bearer>,
    challenge: HeaderValue,
}

/// What becomes of a request without a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithoutSession {
    /// The upstream sees that nobody has signed in.
    Passes,
    /// The browser is sent to the provider.
    SignsIn,
    /// 401.
    Refused,
}

impl Handler {
    pub(crate) fn build(config: Config, context: BuildContext<'_>) -> Result<Self, String> {
        if let Some(problem) = config.check().first() {
            return Err(problem.to_string());
        }
        let challenge = challenge("Bearer", Some(&config.realm), None)?;
        let core = Arc::new(Core::new(config, &context)?);
        Ok(Self {
            bearer: Bearer::new(&core, &context)?,
            core,
            challenge,
        })
    }

    pub(crate) async fn request<B: RequestBody>(&self, exchange: &mut Exchange<'_, B>) -> Verdict {
        clear(&mut exchange.head.headers);
        let found = match self.by_token(exchange).await {
            Some(found) => found,
            None => {
                if let Some(verdict) = self.serve(exchange).await {
                    return verdict;
                }
                self.by_session(exchange).await
            }
        };
        match found {
            Ok(reason) => Verdict::Continue(reason),
            Err(Failure::NoSession(start)) => match self.without_session(exchange) {
                WithoutSession::Passes => Verdict::Continue("unauthenticated"),
                WithoutSession::SignsIn => self.sign_in(exchange, start).await,
                WithoutSession::Refused => self.answer(exchange, Failure::NoSession(start)),
            },
            Err(failure) => self.answer(exchange, failure),
        }
    }

    /// Answers on the paths that are the plugin's own: where browsers come back to, and where sessions end.
    pub(crate) async fn serve<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Option<Verdict> {
        let core = &self.core;
        let sessions = core.sessions.as_ref()?;
        let path = exchange.head.uri.path();
        if exchange.rehearsal && core.is_own(path) {
            return Some(Verdict::Undecided("would_serve"));
        }
        if core.is_callback(path) {
            return Some(core.come_back(sessions, exchange).await);
        }
        if path == core.config.logout_path {
            return Some(core.log_out(sessions, exchange).await);
        }
        if core.config.backchannel_logout_path.as_deref() == Some(path) {
            return Some(core.log_out_by_provider(sessions, exchange).await);
        }
        None
    }

    /// Looks for somebody: by an access token, else by a session.
    pub(crate) async fn attempt<B>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Result<&'static str, Failure> {
        match self.by_token(exchange).await {
            Some(found) => found,
            None => self.by_session(exchange).await,
        }
    }

    async fn by_token<B>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Option<Result<&'static str, Failure>> {
        let found = self.bearer.as_ref()?.attempt(exchange).await?;
        Some(found.map(|()| "ok"))
    }

    async fn by_session<B>(&self, exchange: &mut Exchange<'_, B>) -> Result<&'static str, Failure> {
        let Some(sessions) = &self.core.sessions else {
            return Err(Failure::NoToken);
        };
        let channel = Channel::of(exchange.https);
        let headers = &exchange.head.headers;
        let found = sessions.find(headers, channel, exchange.now).await;
        let held = found.map_err(|_| Failure::StoreAway)?;
        let held = held.ok_or(Failure::NoSession(Start::anew("login")))?;
        let held = self.examine(sessions, held, exchange).await?;
        self.pass(exchange, &held)?;
        sessions.jar.hide(&mut exchange.head.headers, channel);
        Ok("session")
    }

    /// What becomes of a request without a session.
    pub(crate) fn without_session<B>(&self, exchange: &Exchange<'_, B>) -> WithoutSession {
        match self.core.config.unauth_action {
            UnauthAction::Pass => WithoutSession::Passes,
            UnauthAction::Auth if wants_page(exchange.head) => WithoutSession::SignsIn,
            UnauthAction::Auth | UnauthAction::Deny => WithoutSession::Refused,
        }
    }

    /// Sends the browser to the provider.
    pub(crate) async fn sign_in<B>(&self, exchange: &mut Exchange<'_, B>, start: Start) -> Verdict {
        match &self.core.sessions {
            Some(sessions) => self.core.start_login(sessions, exchange, start).await,
            None => self.answer(exchange, Failure::NoToken),
        }
    }

    /// What is answered where nobody is found.
    pub(crate) fn answer<B>(&self, exchange: &Exchange<'_, B>, failure: Failure) -> Verdict {
        match failure {
            Failure::NoToken | Failure::NoSession(_) => {
                unauthorized(failure.reason(), Some(self.challenge.clone()))
            }
            Failure::Malformed => malformed(),
            Failure::Token(rejected) => match &self.bearer {
                Some(bearer) => bearer.reject(rejected),
                None => unauthorized(failure.reason(), Some(self.challenge.clone())),
            },
            Failure::MissingScope => {
                let scopes = self.core.config.required_scopes.join(", ");
                let body = serde_json::json!({
                    "error": format!("required scopes {scopes} not present"),
                });
                answers::json(StatusCode::FORBIDDEN, &body, failure.reason())
            }
            Failure::NotKnown(reason) => forbidden("You are not known here", reason),
            Failure::WouldRenew => Verdict::Undecided(failure.reason()),
            Failure::StoreAway => {
                let page = wants_page(exchange.head);
                answers::unavailable(page, exchange.request_id, failure.reason())
            }
            Failure::ProviderAway(why) => self.core.away(exchange, why),
        }
    }

    /// What is answered where other methods have found nobody either. A provider that gives no verdict says nothing of the
    /// token: it may be good.
    pub(crate) fn answer_in_list<B>(
        &self,
        exchange: &Exchange<'_, B>,
        failure: Failure,
    ) -> Verdict {
        match failure {
            Failure::Token(Rejected::Unanswered(reason)) => {
                answers::unavailable(false, exchange.request_id, reason)
            }
            failure => self.answer(exchange, failure),
        }
    }

    /// Whether it takes access tokens.
    pub(crate) const fn takes_tokens(&self) -> bool {
        self.bearer.is_some()
    }

    /// How to authenticate.
    pub(crate) const fn challenge(&self) -> &HeaderValue {
        &self.challenge
    }

    /// How to authenticate, and what was wrong.
    pub(crate) fn challenge_to(&self, failure: Failure) -> HeaderValue {
        let own = match (failure, &self.bearer) {
            (Failure::Token(rejected), Some(bearer)) => bearer.challenge(rejected),
            _ => None,
        };
        own.unwrap_or_else(|| self.challenge.clone())
    }

    /// Whether a session is good for this request, and does what has to be done for that.
    async fn examine<B>(
        &self,
        sessions: &Sessions,
        mut held: Held,
        exchange: &mut Exchange<'_, B>,
    ) -> Result<Held, Failure> {
        const AWAY: Failure = Failure::StoreAway;
        let login = |reason| Err(Failure::NoSession(Start::anew(reason)));
        let (core, now) = (&self.core, exchange.now);
        let config = &core.config;
        let channel = Channel::of(exchange.https);
        if config.backchannel_logout_path.is_some()
            && sessions.is_ended(held.session()).await.map_err(|_| AWAY)?
        {
            if exchange.rehearsal {
                return login("login");
            }
            let headers = &exchange.head.headers;
            let ended = sessions.end(Some(&held), exchange.response, headers, channel);
            ended.await.map_err(|_| AWAY)?;
            return login("login");
        }
        let mut changed = sessions.is_stale(held.session(), now);
        let page = wants_page(exchange.head);
        if config.force_reauthorize && page {
            if !held.session().fresh {
                return login("force_reauthorize");
            }
            held.change().fresh = false;
            changed = true;
        }
        let leeway = i64::from(config.access_token_expires_leeway);
        let session = held.session();
        let expired = |session: &Session| session.access_token_ends <= now;
        let due = session.access_token.is_some()
            && session.access_token_ends.saturating_sub(leeway) <= now;
        if due && config.renew_access_token_on_expiry {
            if session.refresh_token.is_none() {
                if expired(session) {
                    return login("login_expired");
                }
            } else if exchange.rehearsal {
                return Err(Failure::WouldRenew);
            } else {
                match core.renew(sessions, held.change(), now).await {
                    Ok(()) => changed = true,
                    // It is still good for a moment.
                    Err(_) if !expired(held.session()) => {}
                    Err(Denied::Away(why)) => return Err(Failure::ProviderAway(why)),
                    Err(Denied::Refused | Denied::Client) => return login("login_expired"),
                }
            }
        }
        if let Some(interval) = config.refresh_session_interval
            && page
            && now.saturating_sub(held.session().confirmed) > i64::from(interval)
        {
            return Err(Failure::NoSession(Start {
                silent: true,
                ..Start::anew("refresh_session")
            }));
        }
        if changed && !exchange.rehearsal {
            let headers = &exchange.head.headers;
            let written = sessions.write(&mut held, exchange.response, headers, channel, now);
            match written.await {
                Ok(_) => {}
                Err(WriteError::Unavailable) => return Err(AWAY),
                Err(WriteError::Internal) => return login("login"),
            }
        }
        Ok(held)
    }

    /// Lets a signed-in user through.
    fn pass<B>(&self, exchange: &mut Exchange<'_, B>, held: &Held) -> Result<(), Failure> {
        let (config, session) = (&self.core.config, held.session());
        let has = |wanted: &String| session.scope.split(' ').any(|scope| scope == wanted);
        if !config.required_scopes.iter().all(has) {
            return Err(Failure::MissingScope);
        }
        if config.consumer_claim.is_some() && session.consumer.is_none() {
            return Err(Failure::NotKnown("no_consumer_claim"));
        }
        self.core.count_as(exchange, session.consumer.as_deref())?;
        let current = session.access_token_ends > exchange.now;
        held.told(config).tell(&mut exchange.head.headers, current);
        Ok(())
    }
}
