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

#[derive(Debug)]
struct Anonymous {
    key: KeyId,
    name: Box<str>,
}

impl Gate {
    pub(crate) fn new(
        context: &BuildContext<'_>,
        anonymous: Option<ObjectName>,
        run_on_preflight: bool,
        challenge: HeaderValue,
    ) -> Result<Self, String> {
        let anonymous = anonymous.map(|reference| {
            let key = context
                .anonymous
                .ok_or("anonymous: the snapshot does not say which Consumer it is")?;
            Ok::<_, &str>(Anonymous {
                key: KeyId::of(key),
                name: reference.name.into(),
            })
        });
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

    /// The verdict where the plugin does not look at the request at all.
    pub(crate) fn passes<B>(&self, exchange: &mut Exchange<'_, B>) -> Option<Verdict> {
        if !self.run_on_preflight && exchange.head.method == Method::OPTIONS {
            exchange
                .caller
                .challenge
                .get_or_insert_with(|| self.challenge.clone());
            return Some(Verdict::Continue("preflight"));
        }
        if self.anonymous.is_some() && exchange.caller.is_authenticated() {
            return Some(Verdict::Continue("already_authenticated"));
        }
        None
    }

    /// The verdict where the anonymous Consumer takes over, for this reason; None where there is none.
    pub(crate) fn take_over<B>(
        &self,
        exchange: &mut Exchange<'_, B>,
        reason: &'static str,
    ) -> Option<Verdict> {
        let anonymous = self.anonymous.as_ref()?;
        let Some(consumer) = exchange.directory.consumer(&anonymous.key) else {
            let name = &anonymous.name;
            return Some(Verdict::Refuse(Refusal {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                message: Cow::Owned(format!(
                    "anonymous consumer {name} is configured but doesn't exist"
                )),
                members: Vec::new(),
                challenge: None,
                reason: "anonymous_missing",
            }));
        };
        exchange.caller.consumer = Some(consumer);
        exchange.caller.credential = None;
        exchange.caller.anonymous = true;
        exchange.caller.scope = None;
        exchange.caller.user = None;
        Some(Verdict::Continue(reason))
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
