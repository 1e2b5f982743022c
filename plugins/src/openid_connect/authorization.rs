//! The authorization request (OpenID Connect Core, section 3.1.2.1).

use std::borrow::Cow;

use openidconnect::core::{CoreAuthPrompt, CoreAuthenticationFlow};
use openidconnect::url::Url;
use openidconnect::{
    AuthUrl, CsrfToken, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
};

use super::Config;
use super::client::{OAuthClient, Proof};
use super::login::Attempt;

/// Where a browser is sent for an attempt to sign in. None: the place that it is to come back to is no URL.
pub(super) fn url(
    client: &OAuthClient,
    config: &Config,
    (issuer, endpoint): (&IssuerUrl, &AuthUrl),
    attempt: &Attempt,
) -> Option<Url> {
    let protocol = client.protocol(issuer, &Proof::Nothing);
    let protocol = protocol.set_auth_uri(endpoint.clone());
    let state = CsrfToken::new(attempt.state.clone());
    let nonce = Nonce::new(attempt.nonce.clone().unwrap_or_default());
    let redirect_uri = RedirectUrl::new(attempt.redirect_uri.clone()).ok()?;
    let mut request = protocol
        .authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            || state,
            || nonce,
        )
        .set_redirect_uri(Cow::Owned(redirect_uri))
        .add_scope(Scope::new(config.scope.clone()));
    if let Some(verifier) = &attempt.verifier {
        let verifier = PkceCodeVerifier::new(verifier.clone());
        request =
            request.set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
    }
    for (name, value) in &config.authorization_params {
        if !(attempt.silent && name == "prompt") {
            request = request.add_extra_param(name, value);
        }
    }
    if attempt.silent {
        request = request.add_prompt(CoreAuthPrompt::None);
    }
    let (mut url, _, _) = request.url();
    if attempt.nonce.is_none() {
        // The library always sends one.
        let pairs = url.query_pairs().into_owned();
        let others: Vec<_> = pairs.filter(|(name, _)| name != "nonce").collect();
        url.query_pairs_mut().clear().extend_pairs(others);
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::handler::Values;

    fn sent(attempt: &Attempt) -> BTreeMap<String, String> {
        let config = json!({
            "clientId": "shop", "discovery": "https://idp.test/.well-known/openid-configuration",
            "scope": "openid email",
            "authorizationParams": {"prompt": "login", "hd": "a & b"},
        });
        let config = crate::Config::from_json("openidConnect", config.to_string().as_bytes());
        let crate::Config::OpenidConnect(config) = config.unwrap() else {
            panic!("another plugin");
        };
        let client = OAuthClient::new(&config, &Values::new(&[])).unwrap();
        let issuer = IssuerUrl::new("https://idp.test".to_owned()).unwrap();
        let endpoint = AuthUrl::new("https://idp.test/authorize?tenant=t".to_owned()).unwrap();
        let url = url(&client, &config, (&issuer, &endpoint), attempt).unwrap();
        assert_eq!(
            (url.host_str(), url.path()),
            (Some("idp.test"), "/authorize")
        );
        let pairs: Vec<_> = url.query_pairs().into_owned().collect();
        let all: BTreeMap<_, _> = pairs.iter().cloned().collect();
        assert_eq!(all.len(), pairs.len(), "{pairs:?}");
        all
    }

    fn attempt() -> Attempt {
        let attempt = json!({"s": "state", "o": "https://shop.test", "t": "/", "b": 1000,
            "r": "https://shop.test/redirect_uri"});
        serde_json::from_value(attempt).unwrap()
    }

    #[test]
    fn the_request_says_what_is_configured_and_no_more() {
        let expected = [
            ("client_id", "shop"),
            ("hd", "a & b"),
            ("prompt", "login"),
            ("redirect_uri", "https://shop.test/redirect_uri"),
            ("response_type", "code"),
            ("scope", "openid email"),
            ("state", "state"),
            ("tenant", "t"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(sent(&attempt()), BTreeMap::from(expected));
    }

    #[test]
    fn nonce_and_challenge_go_along_and_who_must_not_notice_is_not_asked() {
        let sent = sent(&Attempt {
            nonce: Some("nonce".to_owned()),
            // RFC 7636, appendix B.
            verifier: Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned()),
            silent: true,
            ..attempt()
        });
        assert_eq!(sent["nonce"], "nonce");
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert_eq!(sent["code_challenge"], challenge);
        assert_eq!(sent["code_challenge_method"], "S256");
        assert_eq!(sent["prompt"], "none");
    }
}
