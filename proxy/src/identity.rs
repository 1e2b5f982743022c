//! What the upstream is told about who calls.

use http::{HeaderMap, HeaderName, HeaderValue};
use plugins::handler::Caller;

const X_CONSUMER_ID: HeaderName = HeaderName::from_static("x-consumer-id");
const X_CONSUMER_CUSTOM_ID: HeaderName = HeaderName::from_static("x-consumer-custom-id");
const X_CONSUMER_USERNAME: HeaderName = HeaderName::from_static("x-consumer-username");
const X_CONSUMER_GROUPS: HeaderName = HeaderName::from_static("x-consumer-groups");
const X_CREDENTIAL_IDENTIFIER: HeaderName = HeaderName::from_static("x-credential-identifier");
const X_ANONYMOUS_CONSUMER: HeaderName = HeaderName::from_static("x-anonymous-consumer");
const X_AUTHENTICATED_SCOPE: HeaderName = HeaderName::from_static("x-authenticated-scope");
const X_AUTHENTICATED_USERID: HeaderName = HeaderName::from_static("x-authenticated-userid");

/// Writes the identity headers. Whatever the client sent under these names is gone already.
pub(crate) fn tell(caller: &Caller, headers: &mut HeaderMap) {
    let Some(consumer) = &caller.consumer else {
        return;
    };
    let mut put = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    put(X_CONSUMER_ID, consumer.id_header());
    put(X_CONSUMER_CUSTOM_ID, consumer.custom_id_header());
    put(X_CONSUMER_USERNAME, consumer.username_header());
    if !caller.hide_groups {
        put(X_CONSUMER_GROUPS, consumer.groups_header());
    }
    put(X_AUTHENTICATED_SCOPE, caller.scope.clone());
    put(X_AUTHENTICATED_USERID, caller.user.clone());
    if caller.anonymous {
        put(X_ANONYMOUS_CONSUMER, Some(HeaderValue::from_static("true")));
    } else {
        put(
            X_CREDENTIAL_IDENTIFIER,
            caller
                .credential
                .as_ref()
                .and_then(plugins::directory::CredentialId::header),
        );
    }
}
