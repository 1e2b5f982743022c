//! What every authenticating plugin does before and after its own check: preflights, several plugins in a row, the
//! anonymous Consumer, the challenge.

use std::borrow::Cow;

use http::{HeaderValue, Method, StatusCode};

use crate::ObjectName;
use crate::directory::KeyId;
use crate::handler::{BuildContext, Exchange, Refusal, Verdict};

/// The frame of an authenticating plugin.
#[derive(Debug)]
pub(crate) struct Gate {
    run_on_preflight: bool,
    /// Says how to authenticate.
    challenge: HeaderValue,
    anonymous: Option<Anonymous>,
}

/// The Consumer that stands in where nobody is authenticated.
#[derive(Debug)]
pub(crate) struct Anonymous {
    key: KeyId,
    name: Box<str>,
}

/// Somebody was found, or nobody had to be, for a reason ("ok", "preflight" …); or nobody was.
pub(crate) type Outcome = Result<&'static str, Miss>;

/// Nobody was found.
#[derive(Debug)]
pub(crate) struct Miss {
    /// The answer, unless the anonymous Consumer takes over.
    pub(crate) refusal: Refusal,
    /// The reason where it does; none where it does not, because the request itself is at fault.
    pub(crate) anonymous: Option<&'static str>,
}

/// The reason where the anonymous Consumer takes over because nothing was presented. Every other one says what was wrong
/// with what was.
pub(crate) const NOTHING_PRESENTED: &str = "anonymous";

impl Gate {
    pub(crate) fn new(
        context: &BuildContext<'_>,
        anonymous: Option<ObjectName>,
        run_on_preflight: bool,
        challenge: HeaderValue,
    ) -> Result<Self, String> {
        let anonymous = anonymous.map(|reference| Anonymous::new(context, reference));
        Ok(Self {
            run_on_preflight,
            challenge,
            anonymous: anonymous.transpose()?,
        })
    }

    /// How to authenticate.
    pub(crate) const fn challenge(&self) -> &HeaderValue {
        &self.challenge
    }

    /// The reason where the plugin does not look at the request at all.
    pub(crate) fn passes<B>(&self, exchange: &mut Exchange<'_, B>) -> Option<&'static str> {
        if !self.run_on_preflight && exchange.head.method == Method::OPTIONS {
            exchange.caller.challenges.push(self.challenge.clone());
            return Some("preflight");
        }
        if self.anonymous.is_some() && exchange.caller.is_authenticated() {
            return Some("already_authenticated");
        }
        None
    }

    /// What becomes of the request: where nobody was found the anonymous Consumer takes over, if there is one.
    pub(crate) fn settle<B>(&self, exchange: &mut Exchange<'_, B>, outcome: Outcome) -> Verdict {
        settle(self.anonymous.as_ref(), exchange, outcome)
    }
}

/// See [`Gate::settle`].
pub(crate) fn settle<B>(
    anonymous: Option<&Anonymous>,
    exchange: &mut Exchange<'_, B>,
    outcome: Outcome,
) -> Verdict {
    match outcome {
        Ok(reason) => Verdict::Continue(reason),
        Err(miss) => match (anonymous, miss.anonymous) {
            (Some(anonymous), Some(reason)) => anonymous.take_over(exchange, reason),
            _ => Verdict::Refuse(miss.refusal),
        },
    }
}

impl Anonymous {
    pub(crate) fn new(
        context: &BuildContext<'_>,
        reference: ObjectName,
    ) -> Result<Self, &'static str> {
        let key = context
            .anonymous
            .ok_or("anonymous: the snapshot does not say which Consumer it is")?;
        Ok(Self {
            key: KeyId::of(key),
            name: reference.name.into(),
        })
    }

    pub(crate) fn take_over<B>(
        &self,
        exchange: &mut Exchange<'_, B>,
        reason: &'static str,
    ) -> Verdict {
        let Some(consumer) = exchange.directory.consumer(&self.key) else {
            let name = &self.name;
            return Verdict::Refuse(Refusal {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                message: Cow::Owned(format!(
                    "anonymous consumer {name} is configured but doesn't exist"
                )),
                members: Vec::new(),
                challenges: Vec::new(),
                reason: "anonymous_missing",
            });
        };
        exchange.caller.consumer = Some(consumer);
        exchange.caller.credential = None;
        exchange.caller.anonymous = true;
        exchange.caller.scope = None;
        exchange.caller.user = None;
        Verdict::Continue(reason)
    }
}

/// A challenge, with the realm as a quoted string.
pub(crate) fn challenge(
    scheme: &str,
    realm: Option<&str>,
    error: Option<&str>,
) -> Result<HeaderValue, String> {
    let realm_parameter = realm.map(|realm| {
        let escaped = realm.replace('\\', "\\\\").replace('"', "\\\"");
        format!("realm=\"{escaped}\"")
    });
    let error = error.map(|error| format!("error=\"{error}\""));
    let parameters: Vec<String> = realm_parameter.into_iter().chain(error).collect();
    let separator = if parameters.is_empty() { "" } else { " " };
    HeaderValue::try_from(format!("{scheme}{separator}{}", parameters.join(", "))).map_err(|_| {
        format!(
            "realm: {:?} cannot stand in a header",
            realm.unwrap_or_default()
        )
    })
}

/// What a failure of one method says of the credential, for those that try several: the gravest comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// There is none.
    Nothing,
    /// It is none of this method's, and may be another one's: a token of somebody else's.
    Foreign,
    /// It is no good.
    Refused,
    /// It may be good, and who would know does not answer.
    Unsettled,
    /// The request itself is at fault, for all methods.
    AtFault,
}
