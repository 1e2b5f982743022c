//! What it does to a request.

use std::sync::Arc;

use http::StatusCode;

use super::bearer::Bearer;
use super::cookies::Channel;
use super::core::{Core, forbidden};
use super::login::{Start, wants_page};
use super::session::{Held, Session, Sessions, WriteError};
use super::tokens::Denied;
use super::upstream::{Known, clear, tell};
use super::{Config, UnauthAction, answers};
use crate::gate::challenge;
use crate::handler::{BuildContext, Exchange, Refusal, RequestBody, Verdict};

/// Ready to run.
#[derive(Debug)]
pub struct Handler {
    core: Arc<Core>,
    bearer: Option<Bearer>,
    challenge: http::HeaderValue,
}

/// What becomes of a session that a request brought.
enum Use {
    /// The request goes on with it.
    Good(Box<Held>),
    /// The user has to sign in.
    Login(Start),
    /// There is an answer already.
    Answer(Verdict),
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
        if let Some(bearer) = &self.bearer
            && let Some(verdict) = bearer.request(exchange).await
        {
            return verdict;
        }
        let core = &self.core;
        let Some(sessions) = &core.sessions else {
            return self.refuse("no_token");
        };
        let path = exchange.head.uri.path();
        if core.is_callback(path) {
            return core.come_back(sessions, exchange).await;
        }
        if path == core.config.logout_path {
            return core.log_out(sessions, exchange).await;
        }
        if core.config.backchannel_logout_path.as_deref() == Some(path) {
            return core.log_out_by_provider(sessions, exchange).await;
        }
        let channel = Channel::of(exchange.https);
        let found = sessions
            .find(&exchange.head.headers, channel, exchange.now)
            .await;
        let Ok(held) = found else {
            return store_away(exchange);
        };
        let used = match held {
            None => Use::Login(Start::anew("login")),
            Some(held) => self.examine(sessions, held, exchange).await,
        };
        match used {
            Use::Answer(verdict) => verdict,
            Use::Good(held) => self.pass(exchange, &held.session),
            Use::Login(start) => self.unauthenticated(sessions, exchange, start).await,
        }
    }

    /// Whether a session is good for this request, and what has to be done for that.
    async fn examine<B>(
        &self,
        sessions: &Sessions,
        mut held: Held,
        exchange: &mut Exchange<'_, B>,
    ) -> Use {
        let (core, now) = (&self.core, exchange.now);
        let config = &core.config;
        let channel = Channel::of(exchange.https);
        if config.backchannel_logout_path.is_some() {
            match sessions.is_ended(&held.session).await {
                Ok(false) => {}
                Ok(true) => {
                    let headers = &exchange.head.headers;
                    let ended = sessions.end(Some(&held), exchange.response, headers, channel);
                    if ended.await.is_err() {
                        return Use::Answer(store_away(exchange));
                    }
                    return Use::Login(Start::anew("login"));
                }
                Err(_) => return Use::Answer(store_away(exchange)),
            }
        }
        let mut changed = sessions.is_stale(&held.session, now);
        let page = wants_page(exchange.head);
        if config.force_reauthorize && page {
            if !held.session.fresh {
                return Use::Login(Start::anew("force_reauthorize"));
            }
            held.session.fresh = false;
            changed = true;
        }
        let leeway = i64::from(config.access_token_expires_leeway);
        let session = &mut held.session;
        let expired = |session: &Session| session.access_token_ends <= now;
        let due = session.access_token.is_some()
            && session.access_token_ends.saturating_sub(leeway) <= now;
        if due && config.renew_access_token_on_expiry {
            if session.refresh_token.is_none() {
                if expired(session) {
                    return Use::Login(Start::anew("login_expired"));
                }
            } else {
                match core.renew(sessions, session, now).await {
                    Ok(()) => changed = true,
                    // It is still good for a moment.
                    Err(_) if !expired(session) => {}
                    Err(Denied::Away(why)) => return Use::Answer(core.away(exchange, why)),
                    Err(Denied::Refused | Denied::Client) => {
                        return Use::Login(Start::anew("login_expired"));
                    }
                }
            }
        }
        if let Some(interval) = config.refresh_session_interval
            && page
            && now.saturating_sub(held.session.confirmed) > i64::from(interval)
        {
            return Use::Login(Start {
                silent: true,
                ..Start::anew("refresh_session")
            });
        }
        if changed {
            let headers = &exchange.head.headers;
            let written = sessions.write(&mut held, exchange.response, headers, channel, now);
            match written.await {
                Ok(_) => {}
                Err(WriteError::Unavailable) => return Use::Answer(store_away(exchange)),
                Err(WriteError::Internal) => return Use::Login(Start::anew("login")),
            }
        }
        Use::Good(Box::new(held))
    }

    /// Lets a signed-in user through.
    fn pass<B>(&self, exchange: &mut Exchange<'_, B>, session: &Session) -> Verdict {
        let config = &self.core.config;
        let has = |wanted: &String| session.scope.split(' ').any(|scope| scope == wanted);
        if !config.required_scopes.iter().all(has) {
            let error = format!(
                "required scopes {} not present",
                config.required_scopes.join(", ")
            );
            let body = serde_json::json!({ "error": error });
            return answers::json(StatusCode::FORBIDDEN, &body, "missing_scope");
        }
        if config.consumer_claim.is_some() && session.consumer.is_none() {
            return forbidden("You are not known here", "no_consumer_claim");
        }
        if let Err(verdict) = self.core.count_as(exchange, session.consumer.as_deref()) {
            return verdict;
        }
        let current = session.access_token_ends > exchange.now;
        let known = Known {
            access_token: session.access_token.as_deref().filter(|_| current),
            refresh_token: session.refresh_token.as_deref(),
            id_token: session.claims.as_ref(),
            user: session.user.as_ref(),
        };
        tell(config, &mut exchange.head.headers, &known);
        Verdict::Continue("session")
    }

    async fn unauthenticated<B>(
        &self,
        sessions: &Sessions,
        exchange: &mut Exchange<'_, B>,
        start: Start,
    ) -> Verdict {
        match self.core.config.unauth_action {
            UnauthAction::Pass => Verdict::Continue("unauthenticated"),
            UnauthAction::Deny => self.refuse("no_session"),
            UnauthAction::Auth if !wants_page(exchange.head) => self.refuse("no_session"),
            UnauthAction::Auth => self.core.start_login(sessions, exchange, start).await,
        }
    }

    fn refuse(&self, reason: &'static str) -> Verdict {
        Verdict::Refuse(Refusal {
            status: StatusCode::UNAUTHORIZED,
            message: std::borrow::Cow::Borrowed("Unauthorized"),
            members: Vec::new(),
            challenges: vec![self.challenge.clone()],
            reason,
        })
    }
}

fn store_away<B>(exchange: &Exchange<'_, B>) -> Verdict {
    let page = wants_page(exchange.head);
    answers::unavailable(page, exchange.request_id, "store_unavailable")
}
