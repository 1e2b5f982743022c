//! Why nobody is found.

use super::bearer::Rejected;
use super::login::Start;
use crate::gate::{NOTHING_PRESENTED, Standing};

/// The reason where an explanation would have to ask the provider.
pub(super) const ASKING: &str = "would_ask_provider";

/// Why nobody is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no access token, and nothing else would do.
    NoToken,
    /// The Authorization header holds no scheme and token.
    Malformed,
    /// The access token is not accepted.
    Token(Rejected),
    /// There is no session that is good: the user has to sign in.
    NoSession(Start),
    /// The session lacks a scope.
    MissingScope,
    /// The caller is no Consumer, and has to be one.
    NotKnown(&'static str),
    /// The session would be renewed, and an explanation renews none.
    WouldRenew,
    /// The store does not answer.
    StoreAway,
    /// The provider, which would have to renew the session, does not answer.
    ProviderAway(&'static str),
}

impl Failure {
    /// Short and constant, for the log and the metric.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Malformed => "bad_authorization",
            Self::Token(
                Rejected::Invalid(reason, _)
                | Rejected::Unanswered(reason)
                | Rejected::Unavailable(reason),
            )
            | Self::NotKnown(reason) => reason,
            Self::Token(Rejected::Undecided) => ASKING,
            Self::WouldRenew => "would_renew",
            Self::Token(Rejected::Lacking(missing)) => missing.reason(),
            Self::NoSession(_) => "no_session",
            Self::MissingScope => "missing_scope",
            Self::StoreAway => "store_unavailable",
            Self::ProviderAway(_) => "provider_unavailable",
        }
    }

    /// The reason where an anonymous Consumer takes over; none where it does not, because the caller may well be somebody.
    pub(crate) fn anonymous_reason(self) -> Option<&'static str> {
        Some(match self {
            Self::NoToken | Self::NoSession(_) => NOTHING_PRESENTED,
            Self::Malformed => "anonymous_bad_authorization",
            Self::Token(Rejected::Invalid(reason, _)) => match reason {
                "expired" => "anonymous_expired",
                "not_yet_valid" => "anonymous_not_yet_valid",
                "bad_signature" => "anonymous_bad_signature",
                "bad_claims" => "anonymous_bad_claims",
                "wrong_algorithm" => "anonymous_wrong_algorithm",
                "other_issuer" => "anonymous_other_issuer",
                "inactive" => "anonymous_inactive",
                _ => "anonymous_bad_token",
            },
            Self::Token(Rejected::Lacking(_)) | Self::MissingScope | Self::NotKnown(_) => {
                "anonymous_not_entitled"
            }
            Self::Token(
                Rejected::Unanswered(_) | Rejected::Unavailable(_) | Rejected::Undecided,
            )
            | Self::WouldRenew
            | Self::StoreAway
            | Self::ProviderAway(_) => return None,
        })
    }

    /// What it says of the credential.
    pub(crate) fn standing(self) -> Standing {
        match self {
            Self::NoToken | Self::NoSession(_) => Standing::Nothing,
            Self::Malformed => Standing::Foreign,
            // Only of tokens that the provider has issued it is said that they are not in time.
            Self::Token(Rejected::Invalid(reason, _))
                if !matches!(reason, "expired" | "not_yet_valid" | "issued_in_the_future") =>
            {
                Standing::Foreign
            }
            Self::Token(Rejected::Invalid(..) | Rejected::Lacking(_))
            | Self::MissingScope
            | Self::NotKnown(_) => Standing::Refused,
            Self::Token(Rejected::Unanswered(_) | Rejected::Unavailable(_))
            | Self::StoreAway
            | Self::ProviderAway(_) => Standing::Unsettled,
            // Whether others would be asked nobody can know.
            Self::Token(Rejected::Undecided) | Self::WouldRenew => Standing::AtFault,
        }
    }
}
