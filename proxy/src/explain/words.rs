//! Reasons in sentences.

use plugins::Type;

/// What a plugin's reason means, and what could be done.
pub(super) fn says(kind: Option<Type>, reason: &str) -> String {
    if let Some(bad) = reason
        .strip_prefix("anonymous_")
        .filter(|bad| *bad != "missing")
    {
        let of = kind.map_or("", Type::name);
        let bad = plain(of, bad);
        return format!("{bad}, so the anonymous Consumer stands in");
    }
    plain(kind.map_or("", Type::name), reason).to_owned()
}

fn plain(kind: &str, reason: &str) -> &'static str {
    match reason {
        "ok" if kind == "acl" => "the Consumer's groups may pass",
        "ok" => "the credential is good",
        "ok_after_bad_credential" => "a credential is good, an earlier one was not",
        "ok_after_unavailable" => {
            "a credential is good; an earlier one could not be judged, because its store or provider does not answer"
        }
        "session" => "there is a session of somebody who has signed in",
        "unauthenticated" => "nobody has signed in, and nobody has to (unauthAction: pass)",
        "no_session" => "there is no session of somebody who has signed in, or it is over",
        "anonymous" => "there is no credential, so the anonymous Consumer stands in",
        "anonymous_missing" => "the anonymous Consumer does not exist",
        "already_authenticated" => {
            "somebody is authenticated already, and this plugin has an anonymous Consumer"
        }
        "preflight" => "OPTIONS passes unasked (runOnPreflight: false)",
        "different_consumer" => {
            "its credential is of another Consumer than that of a plugin before it (ifDifferent: Refuse)"
        }
        "no_key" => "there is no API key in the places that it searches",
        "duplicate_key" => "there is more than one API key",
        "unknown_key" if kind == "jwt" => {
            "no Credential in the namespaces that it looks into has the key that the token names"
        }
        "unknown_key" => "nobody in the namespaces that it looks into has this API key",
        "out_of_time" => "the Credential is not in force yet, or has expired",
        "ambiguous_key" => "two of the namespaces that it looks into know this credential",
        "no_consumer" if kind == "acl" => "nobody is authenticated, so that there are no groups",
        "no_consumer" => "the Credential is there, its Consumer is not",
        "too_many_fields" => "the query or the body has too many fields",
        "body_too_long" => "the body is longer than maxBodyBytes",
        "body_incomplete" => "the body did not arrive",
        "no_token" => "there is no token in the places that it searches",
        "several_tokens" => "there is more than one token",
        "bad_token" => "the token cannot be read",
        "bad_key_claim" => "the claim that names the Credential is missing, empty or no text",
        "no_key_set" => {
            "the keys of the token's issuer are not there; an explanation does not fetch them"
        }
        "unknown_kid" => {
            "the issuer's keys that are there have none of the token's kid; an explanation fetches none"
        }
        "wrong_algorithm" if kind == "openidConnect" => {
            "the token's algorithm is not one that is accepted of the provider"
        }
        "bad_signature" if kind == "openidConnect" => {
            "none of the keys that count for the provider made the signature"
        }
        "wrong_algorithm" => "the token's algorithm is not the Credential's",
        "unusable_secret" => "the Credential's secret cannot be used as the plugin says",
        "bad_signature" => "the signature is not the Credential's",
        "expired" => "the token has expired",
        "not_yet_valid" => "the token is not valid yet",
        "too_long_lived" => "the token is valid for longer than maximumExpiration",
        "bad_claims" => "a claim that has to be there is missing or no number",
        "not_allowed" => "none of the Consumer's groups is among those allowed",
        "denied" => "one of the Consumer's groups is among those denied",
        "closed" => "it cannot be enforced, so that what it protects is closed",
        "" => "not asked: the request had ended",
        _ => of_tokens(reason),
    }
}

/// Reasons of plugins that issue tokens, sign users in, or get tokens for upstreams.
fn of_tokens(reason: &str) -> &'static str {
    match reason {
        "unknown_token" => "the token is none that is known here",
        "other_plugin" => "the token was issued by another plugin",
        "global_token" => "the token counts for plugins with globalCredentials only",
        "no_application" => {
            "the application that the token was issued to, or its Consumer, is not there any more"
        }
        "store_unavailable" => "the store does not answer",
        "provider_unavailable" => "the provider does not answer",
        "metadata" => "it answers with what clients have to know of it",
        "malformed_token" => "the token cannot be read",
        "no_access_token" => "the token is no access token",
        "other_issuer" => "the token's issuer is not accepted",
        "no_expiry" => "the token does not say when it expires",
        "issued_in_the_future" => "the token is from the future",
        "inactive" => "the provider says that the token is not active",
        "bad_authorization" => "the Authorization header holds no scheme and token",
        "no_scope" | "missing_scope" => "a required scope is not there",
        "no_audience" | "other_audience" => "the token is not for this audience",
        "no_consumer_claim" => "no claim names the Consumer",
        "email_not_verified" => "the provider has not verified the address that names the Consumer",
        "login" | "force_reauthorize" => "the browser is sent to the provider to sign in",
        "login_expired" => {
            "the session's tokens have expired, so that the browser is sent to the provider to sign in"
        }
        "refresh_session" => {
            "the browser is sent to the provider, to find out whether the user is still signed in there"
        }
        "login_astray" => "signing in was tried several times, and the browser kept no cookie",
        "cached" => "there is a token for the upstream",
        "shared" => "another proxy has got a token for the upstream",
        "would_serve" => {
            "the path is its own: codes, tokens and sessions are made and used up there, which an explanation does not do"
        }
        "would_ask_provider" => "it would ask the provider, which an explanation does not",
        "would_renew" => {
            "the session's access token has expired and would be renewed, which an explanation does not do"
        }
        "would_fetch" => {
            "there is no token for the upstream; one would be fetched, which an explanation does not do"
        }
        _ => "see the reason",
    }
}

/// What the gateway's own failure means.
pub(super) fn failure(label: &str) -> &'static str {
    match label {
        "no_route" => "no rule matches the request",
        "incomplete" => {
            "the rule, or a plugin of it, cannot be resolved: it is closed until it is right"
        }
        "no_backend" => "the rule has no backend that could be asked",
        _ => "",
    }
}
