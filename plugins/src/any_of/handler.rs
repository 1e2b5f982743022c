//! What it does to a request.

use std::borrow::Cow;

use http::{HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::{Config, METHODS};
use crate::gate::{Anonymous, Miss, NOTHING_PRESENTED, Outcome, settle};
use crate::handler::{BuildContext, Exchange, Refusal, RequestBody, Verdict};
use crate::{Type, jwt, key_auth};

/// Ready to run.
#[derive(Debug)]
pub struct Handler {
    methods: Box<[Method]>,
    anonymous: Option<Anonymous>,
}

/// One way to prove who calls. None of them has an anonymous Consumer.
#[derive(Debug)]
enum Method {
    Jwt(Box<jwt::handler::Handler>),
    KeyAuth(key_auth::handler::Handler),
}

impl Method {
    fn build(config: crate::Config, context: BuildContext<'_>) -> Result<Self, String> {
        match config {
            crate::Config::Jwt(config) => {
                let config = jwt::Config {
                    anonymous: None,
                    ..config
                };
                let handler = jwt::handler::Handler::build(config, context)?;
                Ok(Self::Jwt(Box::new(handler)))
            }
            crate::Config::KeyAuth(config) => {
                let config = key_auth::Config {
                    anonymous: None,
                    ..config
                };
                key_auth::handler::Handler::build(config, context).map(Self::KeyAuth)
            }
            other => Err(format!(
                "{} is no method of authentication",
                other.kind().name()
            )),
        }
    }

    const fn kind(&self) -> Type {
        match self {
            Self::Jwt(_) => Type::Jwt,
            Self::KeyAuth(_) => Type::KeyAuth,
        }
    }

    const fn challenge(&self) -> &HeaderValue {
        match self {
            Self::Jwt(handler) => handler.challenge(),
            Self::KeyAuth(handler) => handler.challenge(),
        }
    }

    async fn attempt<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Result<&'static str, Failure> {
        match self {
            Self::Jwt(handler) => handler.attempt(exchange).await.map_err(Failure::Jwt),
            Self::KeyAuth(handler) => handler.attempt(exchange).await.map_err(Failure::KeyAuth),
        }
    }

    /// What a failure of this very method means for the request.
    fn miss(&self, failure: Failure) -> Option<Miss> {
        match (self, failure) {
            (Self::Jwt(handler), Failure::Jwt(failure)) => Some(handler.miss(failure)),
            (Self::KeyAuth(handler), Failure::KeyAuth(failure)) => Some(handler.miss(failure)),
            _ => None,
        }
    }
}

/// Why a method found nobody.
#[derive(Debug, Clone, Copy)]
enum Failure {
    Jwt(jwt::handler::Failure),
    KeyAuth(key_auth::handler::Failure),
}

impl Failure {
    /// The reason of a refusal, and the one where the anonymous Consumer takes over.
    const fn reasons(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Jwt(failure) => failure.reasons(),
            Self::KeyAuth(failure) => (failure.reason(), failure.anonymous_reason()),
        }
    }

    /// Whether there was a credential, and it was no good.
    fn is_of_a_credential(self) -> bool {
        let (_, anonymous) = self.reasons();
        anonymous.is_some_and(|reason| reason != NOTHING_PRESENTED)
    }
}

impl Handler {
    pub(crate) fn build(config: Config, context: BuildContext<'_>) -> Result<Self, String> {
        if let Some(problem) = config.check().first() {
            return Err(problem.to_string());
        }
        let anonymous = config.anonymous().cloned();
        let methods = config.0.iter().enumerate().flat_map(|(index, method)| {
            let configs = method.configs().into_iter();
            configs.map(move |config| (format!("[{index}].{}", config.kind().name()), config))
        });
        Ok(Self {
            methods: methods
                .map(|(block, config)| {
                    let values = context.values.within(&block);
                    let context = BuildContext {
                        values,
                        ..context.clone()
                    };
                    Method::build(config, context)
                })
                .collect::<Result<_, _>>()?,
            anonymous: anonymous
                .map(|reference| Anonymous::new(&context, reference))
                .transpose()?,
        })
    }

    pub(crate) async fn request<B: RequestBody>(&self, exchange: &mut Exchange<'_, B>) -> Verdict {
        if self.anonymous.is_some() && exchange.caller.is_authenticated() {
            return Verdict::Continue("already_authenticated");
        }
        let outcome = self.attempt(exchange).await;
        settle(self.anonymous.as_ref(), exchange, outcome)
    }

    async fn attempt<B: RequestBody>(&self, exchange: &mut Exchange<'_, B>) -> Outcome {
        // In the order of the methods; what answers are made of them is only worked out where nobody is found.
        let mut failures: SmallVec<[Failure; METHODS]> = SmallVec::new();
        for method in &self.methods {
            let skipped = exchange.caller.challenges.len();
            let outcome = method.attempt(exchange).await;
            let reason = outcome.unwrap_or_else(|failure| failure.reasons().0);
            exchange.caller.tried.push((method.kind(), reason));
            match outcome {
                Ok("ok") if failures.iter().any(|failure| failure.is_of_a_credential()) => {
                    return Ok("ok_after_bad_credential");
                }
                Ok(reason) => {
                    if exchange.caller.challenges.len() > skipped {
                        // Whoever then asks who calls has to name all the ways.
                        exchange.caller.challenges.truncate(skipped);
                        let all = self.methods.iter().map(Method::challenge).cloned();
                        exchange.caller.challenges.extend(all);
                    }
                    return Ok(reason);
                }
                Err(failure) => {
                    failures.push(failure);
                    // What is wrong with the request itself is wrong for all methods.
                    if failure.reasons().1.is_none() {
                        break;
                    }
                }
            }
        }
        Err(self.miss(&failures))
    }

    /// Nobody was found. The answer is that to a request at fault, else that to the first credential that was no good, else
    /// the first method's. It challenges for every method, unless the request is at fault.
    fn miss(&self, failures: &[Failure]) -> Miss {
        let at_fault = failures
            .iter()
            .position(|failure| failure.reasons().1.is_none());
        let telling = at_fault
            .or_else(|| {
                failures
                    .iter()
                    .position(|failure| failure.is_of_a_credential())
            })
            .unwrap_or(0);
        let misses = self.methods.iter().zip(failures);
        let mut answer = None;
        let mut challenges = Vec::with_capacity(self.methods.len());
        for (index, (method, failure)) in misses.enumerate() {
            let Some(miss) = method.miss(*failure) else {
                continue;
            };
            let own = miss.refusal.challenges.first();
            challenges.push(own.unwrap_or_else(|| method.challenge()).clone());
            if index == telling {
                answer = Some(miss);
            }
        }
        match answer {
            Some(mut miss) => {
                if at_fault.is_none() {
                    miss.refusal.challenges = challenges;
                }
                miss
            }
            // There is a method, so that one of them has failed. Were it otherwise, nobody would pass.
            None => Miss {
                refusal: Refusal {
                    status: StatusCode::UNAUTHORIZED,
                    message: Cow::Borrowed("Unauthorized"),
                    members: Vec::new(),
                    challenges,
                    reason: "no_method",
                },
                anonymous: None,
            },
        }
    }
}
