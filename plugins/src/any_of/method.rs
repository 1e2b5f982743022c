//! One way to prove who calls, and why it has found nobody.

use http::HeaderValue;
use http::header::WWW_AUTHENTICATE;

use crate::gate::Standing;
use crate::handler::{BuildContext, Exchange, Refusal, RequestBody, Verdict};
use crate::{Type, jwt, key_auth, oauth2, openid_connect};

/// One way to prove who calls. None of them has an anonymous Consumer.
#[derive(Debug)]
pub(super) enum Method {
    Jwt(Box<jwt::handler::Handler>),
    OAuth2(Box<oauth2::handler::Handler>),
    KeyAuth(key_auth::handler::Handler),
    OpenidConnect(Box<openid_connect::handler::Handler>),
}

/// Why a method found nobody.
#[derive(Debug, Clone, Copy)]
pub(super) enum Failure {
    Jwt(jwt::handler::Failure),
    OAuth2(oauth2::handler::Failure),
    KeyAuth(key_auth::handler::Failure),
    OpenidConnect(openid_connect::failure::Failure),
}

impl Method {
    pub(super) fn build(config: crate::Config, context: BuildContext<'_>) -> Result<Self, String> {
        match config {
            crate::Config::Jwt(config) => {
                let config = jwt::Config {
                    anonymous: None,
                    ..config
                };
                let handler = jwt::handler::Handler::build(config, context)?;
                Ok(Self::Jwt(Box::new(handler)))
            }
            crate::Config::OAuth2(config) => {
                let config = oauth2::Config {
                    anonymous: None,
                    ..*config
                };
                let handler = oauth2::handler::Handler::build(config, context)?;
                Ok(Self::OAuth2(Box::new(handler)))
            }
            crate::Config::KeyAuth(config) => {
                let config = key_auth::Config {
                    anonymous: None,
                    ..config
                };
                key_auth::handler::Handler::build(config, context).map(Self::KeyAuth)
            }
            crate::Config::OpenidConnect(config) => {
                let handler = openid_connect::handler::Handler::build(*config, context)?;
                Ok(Self::OpenidConnect(Box::new(handler)))
            }
            other => Err(format!(
                "{} is no method of authentication",
                other.kind().name()
            )),
        }
    }

    pub(super) const fn kind(&self) -> Type {
        match self {
            Self::Jwt(_) => Type::Jwt,
            Self::OAuth2(_) => Type::OAuth2,
            Self::KeyAuth(_) => Type::KeyAuth,
            Self::OpenidConnect(_) => Type::OpenidConnect,
        }
    }

    /// Whether it takes bearer tokens, which may then be another such method's.
    pub(super) const fn takes_tokens(&self) -> bool {
        match self {
            Self::Jwt(_) | Self::OAuth2(_) => true,
            Self::KeyAuth(_) => false,
            Self::OpenidConnect(handler) => handler.takes_tokens(),
        }
    }

    pub(super) const fn challenge(&self) -> &HeaderValue {
        match self {
            Self::Jwt(handler) => handler.challenge(),
            Self::OAuth2(handler) => handler.challenge(),
            Self::KeyAuth(handler) => handler.challenge(),
            Self::OpenidConnect(handler) => handler.challenge(),
        }
    }

    /// Removes what only the gateway may tell the upstream.
    pub(super) fn clear<B>(&self, exchange: &mut Exchange<'_, B>) {
        if let Self::OpenidConnect(_) = self {
            openid_connect::upstream::clear(&mut exchange.head.headers);
        }
    }

    /// Answers on the paths that are its own.
    pub(super) async fn serve<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Option<Verdict> {
        match self {
            Self::Jwt(_) | Self::KeyAuth(_) => None,
            // Rare and large: in boxes, so that other methods do not carry them about.
            Self::OAuth2(handler) => Box::pin(handler.serve(exchange)).await,
            Self::OpenidConnect(handler) => Box::pin(handler.serve(exchange)).await,
        }
    }

    pub(super) async fn attempt<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Result<&'static str, Failure> {
        match self {
            Self::Jwt(handler) => handler.attempt(exchange).await.map_err(Failure::Jwt),
            Self::OAuth2(handler) => Box::pin(handler.attempt(exchange))
                .await
                .map_err(Failure::OAuth2),
            Self::KeyAuth(handler) => handler.attempt(exchange).await.map_err(Failure::KeyAuth),
            Self::OpenidConnect(handler) => Box::pin(handler.attempt(exchange))
                .await
                .map_err(Failure::OpenidConnect),
        }
    }

    /// How to authenticate, and what was wrong where something was.
    pub(super) fn challenge_to(&self, failure: Option<Failure>) -> HeaderValue {
        let own = match (self, failure) {
            (Self::Jwt(handler), Some(Failure::Jwt(failure))) => {
                handler.miss(failure).refusal.challenges.pop()
            }
            (Self::OAuth2(handler), Some(Failure::OAuth2(failure))) => {
                handler.miss(failure).refusal.challenges.pop()
            }
            (Self::KeyAuth(handler), Some(Failure::KeyAuth(failure))) => {
                handler.miss(failure).refusal.challenges.pop()
            }
            (Self::OpenidConnect(handler), Some(Failure::OpenidConnect(failure))) => {
                Some(handler.challenge_to(failure))
            }
            _ => None,
        };
        own.unwrap_or_else(|| self.challenge().clone())
    }

    /// What is answered to a failure of this very method.
    pub(super) fn answer<B>(
        &self,
        exchange: &mut Exchange<'_, B>,
        failure: Failure,
    ) -> Option<Verdict> {
        let miss = match (self, failure) {
            (Self::Jwt(handler), Failure::Jwt(failure)) => handler.miss(failure),
            (Self::OAuth2(handler), Failure::OAuth2(failure)) => {
                failure.say_when(exchange.response);
                handler.miss(failure)
            }
            (Self::KeyAuth(handler), Failure::KeyAuth(failure)) => handler.miss(failure),
            (Self::OpenidConnect(handler), Failure::OpenidConnect(failure)) => {
                return Some(handler.answer_in_list(exchange, failure));
            }
            _ => return None,
        };
        Some(Verdict::Refuse(miss.refusal))
    }
}

impl Failure {
    /// The reason of a refusal, and the one where the anonymous Consumer takes over.
    pub(super) fn reasons(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Jwt(failure) => failure.reasons(),
            Self::OAuth2(failure) => failure.reasons(),
            Self::KeyAuth(failure) => (failure.reason(), failure.anonymous_reason()),
            Self::OpenidConnect(failure) => (failure.reason(), failure.anonymous_reason()),
        }
    }

    pub(super) fn standing(self) -> Standing {
        match self {
            Self::Jwt(failure) => failure.standing(),
            Self::OAuth2(failure) => failure.standing(),
            Self::KeyAuth(failure) => failure.standing(),
            Self::OpenidConnect(failure) => failure.standing(),
        }
    }
}

/// Puts challenges into an answer, in place of its own.
pub(super) fn with_challenges(mut verdict: Verdict, challenges: Vec<HeaderValue>) -> Verdict {
    match &mut verdict {
        Verdict::Refuse(refusal) => refusal.challenges = challenges,
        Verdict::Answer(answer) => {
            answer.headers.remove(WWW_AUTHENTICATE);
            for challenge in challenges {
                answer.headers.append(WWW_AUTHENTICATE, challenge);
            }
        }
        Verdict::Continue(_) | Verdict::Undecided(_) => {}
    }
    verdict
}

/// There is a method, so that one of them has failed. Were it otherwise, nobody would pass.
pub(super) fn no_method() -> Verdict {
    Verdict::Refuse(Refusal {
        status: http::StatusCode::UNAUTHORIZED,
        message: std::borrow::Cow::Borrowed("Unauthorized"),
        members: Vec::new(),
        challenges: Vec::new(),
        reason: "no_method",
    })
}
