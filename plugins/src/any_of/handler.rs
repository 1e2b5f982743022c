//! What it does to a request.
//!
//! Paths that are a method's own (tokens are issued, browsers come back, sessions end) are answered by that method before any
//! is tried. A method that cannot say, because its store or provider does not answer, does not stop those behind it: whoever
//! proves himself by one of them may pass, as he could without the first credential. Where none does, the answer is 503,
//! never the anonymous Consumer and never a sign-in: the caller may well be somebody.

use smallvec::SmallVec;

use super::method::{Failure, Method, no_method, with_challenges};
use super::{Config, METHODS};
use crate::gate::{Anonymous, Standing};
use crate::handler::{BuildContext, Exchange, RequestBody, Verdict};
use crate::openid_connect::failure::Failure as Unsigned;
use crate::openid_connect::handler::WithoutSession;

/// Ready to run.
#[derive(Debug)]
pub struct Handler {
    methods: Box<[Method]>,
    anonymous: Option<Anonymous>,
    /// Several methods take bearer tokens: what is none of the one's may be another one's.
    shares_tokens: bool,
}

type Failures = SmallVec<[Failure; METHODS]>;

/// Who was found: the method, and what it said.
struct Found<'h> {
    method: &'h Method,
    reason: &'static str,
}

impl Found<'_> {
    /// Whether a bearer token has proved it.
    fn has_token(&self) -> bool {
        self.reason == "ok" && self.method.takes_tokens()
    }
}

impl Handler {
    pub(crate) fn build(config: Config, context: BuildContext<'_>) -> Result<Self, String> {
        if let Some(problem) = config.check().first() {
            return Err(problem.to_string());
        }
        let anonymous = config.anonymous().cloned();
        let methods: Box<[Method]> = config
            .blocks()
            .into_iter()
            .map(|(block, config)| {
                let values = context.values.within(&block);
                let context = BuildContext {
                    values,
                    ..context.clone()
                };
                Method::build(config, context).map_err(|error| format!("{block}: {error}"))
            })
            .collect::<Result<_, _>>()?;
        let takers = methods.iter().filter(|method| method.takes_tokens());
        Ok(Self {
            shares_tokens: takers.count() > 1,
            methods,
            anonymous: anonymous
                .map(|reference| Anonymous::new(&context, reference))
                .transpose()?,
        })
    }

    pub(crate) async fn request<B: RequestBody>(&self, exchange: &mut Exchange<'_, B>) -> Verdict {
        for method in &self.methods {
            method.clear(exchange);
        }
        for method in &self.methods {
            if let Some(verdict) = method.serve(exchange).await {
                return verdict;
            }
        }
        if self.anonymous.is_some() && exchange.caller.is_authenticated() {
            return Verdict::Continue("already_authenticated");
        }
        let mut failures = Failures::new();
        let verdict = match self.attempt(exchange, &mut failures).await {
            // What others took for theirs may be the very token that is good: it is not theirs to hide.
            Some(found) if found.has_token() => {
                return Verdict::Continue(self.ok(&found, &failures));
            }
            Some(found) => Verdict::Continue(self.ok(&found, &failures)),
            None => self.nobody(exchange, &failures).await,
        };
        match verdict {
            Verdict::Continue(reason) => self.hide(exchange, &failures, reason).await,
            other => other,
        }
    }

    /// Tries the methods in their order. What answers are made of failures is only worked out where nobody is found.
    async fn attempt<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
        failures: &mut Failures,
    ) -> Option<Found<'_>> {
        for method in &self.methods {
            let skipped = exchange.caller.challenges.len();
            let outcome = method.attempt(exchange).await;
            let reason = outcome.unwrap_or_else(|failure| failure.reasons().0);
            exchange.caller.tried.push((method.kind(), reason));
            match outcome {
                Ok(reason) => {
                    if exchange.caller.challenges.len() > skipped {
                        // Whoever then asks who calls has to name all the ways.
                        exchange.caller.challenges.truncate(skipped);
                        self.challenge_later(exchange);
                    }
                    return Some(Found { method, reason });
                }
                Err(failure) => {
                    failures.push(failure);
                    if failure.standing() == Standing::AtFault {
                        break;
                    }
                }
            }
        }
        None
    }

    /// What is said of a success, after what was wrong before it.
    fn ok(&self, found: &Found<'_>, failures: &Failures) -> &'static str {
        if !matches!(found.reason, "ok" | "session") {
            return found.reason;
        }
        let counts = |one: &Standing| !(found.has_token() && *one == Standing::Foreign);
        let all = failures.iter().map(|failure| self.standing(*failure));
        match all.filter(counts).max() {
            Some(Standing::Unsettled | Standing::AtFault) => "ok_after_unavailable",
            Some(Standing::Refused | Standing::Foreign) => "ok_after_bad_credential",
            Some(Standing::Nothing) | None => found.reason,
        }
    }

    fn standing(&self, failure: Failure) -> Standing {
        match failure.standing() {
            Standing::Foreign if !self.shares_tokens => Standing::Refused,
            standing => standing,
        }
    }

    /// Nobody was found. What has the gravest failure decides, of several such the first.
    async fn nobody<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
        failures: &Failures,
    ) -> Verdict {
        let standings = failures.iter().map(|failure| self.standing(*failure));
        let gravest = standings.clone().max().unwrap_or(Standing::Nothing);
        let telling = standings.clone().position(|standing| standing == gravest);
        let Some((method, failure)) = telling.and_then(|telling| {
            let method = self.methods.get(telling)?;
            Some((method, *failures.get(telling)?))
        }) else {
            return no_method();
        };
        if let (Some(anonymous), Some(reason)) = (&self.anonymous, failure.reasons().1) {
            return anonymous.take_over(exchange, reason);
        }
        if gravest == Standing::Nothing
            && let Some(verdict) = self.unsigned(exchange, failures).await
        {
            return verdict;
        }
        let answer = method.answer(exchange, failure).unwrap_or_else(no_method);
        match gravest {
            // Another credential would be as little use.
            Standing::AtFault | Standing::Unsettled => answer,
            Standing::Nothing | Standing::Foreign | Standing::Refused => {
                let methods = self.methods.iter().enumerate();
                let challenges = methods.map(|(index, method)| {
                    let failure = failures.get(index).copied();
                    method.challenge_to(failure)
                });
                with_challenges(answer, challenges.collect())
            }
        }
    }

    /// What becomes of a request without any credential where people may sign in; None: it is refused.
    async fn unsigned<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
        failures: &Failures,
    ) -> Option<Verdict> {
        let pairs = self.methods.iter().zip(failures);
        let (handler, start) = pairs.into_iter().find_map(|pair| match pair {
            (
                Method::OpenidConnect(handler),
                Failure::OpenidConnect(Unsigned::NoSession(start)),
            ) => Some((handler, *start)),
            _ => None,
        })?;
        match handler.without_session(exchange) {
            WithoutSession::Passes => {
                self.challenge_later(exchange);
                Some(Verdict::Continue("unauthenticated"))
            }
            WithoutSession::SignsIn => Some(Box::pin(handler.sign_in(exchange, start)).await),
            WithoutSession::Refused => None,
        }
    }

    /// Names all the ways to whoever then asks who calls.
    fn challenge_later<B>(&self, exchange: &mut Exchange<'_, B>) {
        let all = self.methods.iter().map(Method::challenge).cloned();
        exchange.caller.challenges.extend(all);
    }

    /// Removes an access token that was no good and is not to be passed on, from a request that goes on.
    async fn hide<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
        failures: &Failures,
        reason: &'static str,
    ) -> Verdict {
        for (method, failure) in self.methods.iter().zip(failures) {
            if let Method::OAuth2(handler) = method
                && failure.standing() != Standing::Nothing
                && let Err(failure) = Box::pin(handler.hide_refused(exchange)).await
            {
                return Verdict::Refuse(handler.miss(failure).refusal);
            }
        }
        Verdict::Continue(reason)
    }
}
