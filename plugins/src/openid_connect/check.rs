//! What is wrong with a configuration, and what it refers to.

use super::config::{MAX_SECONDS, MAX_SLACK};
use super::{AuthMethod, Config, SameSite};
use crate::{Problem, Problems, Reference, schema};

/// Parameters of the authorization request that are the gateway's business.
const OWN_PARAMETERS: [&str; 9] = [
    "response_type",
    "response_mode",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
];
/// Shortest secret that cookies may be sealed with.
const SHORTEST_SECRET: usize = 16;

impl Config {
    /// See [`crate::Config::check`].
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        self.check_urls(&mut problems);
        self.check_numbers(&mut problems);
        self.check_client(&mut problems);
        self.check_session(&mut problems);
        self.check_proxies(&mut problems);
        problems.items("requiredScopes", &self.required_scopes, 0, 64, 256);
        let headers = &self.introspection_addon_headers;
        problems.items("introspectionAddonHeaders", headers, 0, 16, 128);
        let fit = headers.iter().all(|name| schema::is_header_name(name));
        problems.rule("introspectionAddonHeaders", fit, schema::HEADER_NAMES);
        problems.length("scope", &self.scope, 1, 2048);
        if !self.bearer_only && !self.scope.split(' ').any(|scope| scope == "openid") {
            problems.add("scope", "must hold openid: without it there is no ID token");
        }
        problems.realm(Some(&self.realm));
        for (name, value) in &self.authorization_params {
            let field = format!("authorizationParams.{name}");
            problems.length(&field, name, 1, 256);
            if value.chars().count() > 2048 {
                problems.add(&*field, "must have at most 2048 characters");
            }
            if OWN_PARAMETERS.contains(&&**name) {
                problems.add(&*field, "is set by the gateway itself: remove it");
            }
        }
        if self.authorization_params.len() > 32 {
            problems.add("authorizationParams", "must have at most 32 entries");
        }
        let issuers = &self.claim_validator.issuer.valid_issuers;
        problems.items("claimValidator.issuer.validIssuers", issuers, 0, 16, 2048);
        let audience = &self.claim_validator.audience.claim;
        problems.length("claimValidator.audience.claim", audience, 1, 256);
        problems.length(
            "introspectionExpiryClaim",
            &self.introspection_expiry_claim,
            1,
            256,
        );
        for (field, text) in [
            ("cacheSegment", &self.cache_segment),
            ("consumerClaim", &self.consumer_claim),
            ("clientRsaPrivateKeyId", &self.client_rsa_private_key_id),
        ] {
            if let Some(text) = text {
                problems.length(field, text, 1, 256);
            }
        }
        problems.0
    }

    fn check_urls(&self, problems: &mut Problems) {
        let own = [
            ("discovery", Some(&self.discovery)),
            ("redirectUri", self.redirect_uri.as_ref()),
            (
                "introspectionEndpoint",
                self.introspection_endpoint.as_ref(),
            ),
        ];
        for (field, url) in own {
            let Some(url) = url else { continue };
            problems.length(field, url, 1, 2048);
            problems.rule(field, schema::is_http_url(url), schema::HTTP_URL);
        }
        if let Some(uri) = &self.redirect_uri
            && path_of(uri).is_none_or(|path| matches!(path, "" | "/"))
        {
            problems.add(
                "redirectUri",
                "needs a path of its own, such as https://app.example.com/callback: the gateway answers there itself",
            );
        }
        if let Some(uri) = &self.post_logout_redirect_uri {
            problems.length("postLogoutRedirectUri", uri, 1, 2048);
            if !schema::is_http_url(uri) && !is_local_path(uri) {
                problems.add(
                    "postLogoutRedirectUri",
                    "must be an absolute URL (https://…) or a path that begins with one slash",
                );
            }
        }
        let paths = [
            ("logoutPath", Some(&self.logout_path)),
            (
                "backchannelLogoutPath",
                self.backchannel_logout_path.as_ref(),
            ),
        ];
        let callback = self.redirect_uri.as_deref().and_then(path_of);
        for (field, path) in paths {
            let Some(path) = path else { continue };
            problems.length(field, path, 1, 1024);
            if !is_local_path(path) || path.contains(['?', '#']) {
                problems.add(field, "must be a path that begins with one slash");
            }
            if callback == Some(path) {
                problems.add(
                    field,
                    "is the path of redirectUri too: they must be different",
                );
            }
        }
        if self.backchannel_logout_path.as_ref() == Some(&self.logout_path) {
            problems.add("backchannelLogoutPath", "must not be logoutPath");
        }
    }

    fn check_numbers(&self, problems: &mut Problems) {
        let session = &self.session;
        for (field, number, min, max) in [
            ("timeout", Some(self.timeout), 1, 60),
            (
                "clientJwtAssertionExpiresIn",
                Some(self.client_jwt_assertion_expires_in),
                1,
                3600,
            ),
            (
                "accessTokenExpiresIn",
                self.access_token_expires_in,
                1,
                MAX_SECONDS,
            ),
            (
                "refreshSessionInterval",
                self.refresh_session_interval,
                1,
                MAX_SECONDS,
            ),
            ("iatSlack", Some(self.iat_slack), 0, MAX_SLACK),
            (
                "accessTokenExpiresLeeway",
                Some(self.access_token_expires_leeway),
                0,
                MAX_SLACK,
            ),
            ("jwkExpiresIn", Some(self.jwk_expires_in), 30, 86_400),
            (
                "introspectionInterval",
                Some(self.introspection_interval),
                0,
                MAX_SECONDS,
            ),
            (
                "session.cookie.lifetime",
                Some(session.cookie.lifetime),
                1,
                MAX_SECONDS,
            ),
            ("session.idleTimeout", session.idle_timeout, 1, MAX_SECONDS),
            (
                "session.absoluteTimeout",
                Some(session.absolute_timeout),
                1,
                MAX_SECONDS,
            ),
        ] {
            if number.is_some_and(|number| !(min..=max).contains(&number)) {
                problems.add(field, format!("must be between {min} and {max} seconds"));
            }
        }
    }

    fn check_client(&self, problems: &mut Problems) {
        problems.length("clientId", &self.client_id, 1, 1024);
        let local = self.public_key.is_some() || self.use_jwks;
        if let Some(key) = &self.public_key {
            problems.length("publicKey", key, 1, 16_384);
            if !key.contains("-----BEGIN PUBLIC KEY-----") {
                problems.add(
                    "publicKey",
                    "must be a public key in PEM: -----BEGIN PUBLIC KEY-----",
                );
            }
        }
        let methods = [
            ("tokenEndpointAuthMethod", self.token_endpoint_auth_method),
            (
                "introspectionEndpointAuthMethod",
                self.introspection_endpoint_auth_method,
            ),
        ];
        for (field, method) in methods {
            let keyed = method == AuthMethod::PrivateKeyJwt;
            if keyed && self.client_rsa_private_key_ref.is_none() {
                problems.add(
                    field,
                    "private_key_jwt needs the key that signs: name it in clientRsaPrivateKeyRef",
                );
            }
            if method == AuthMethod::ClientSecretJwt && self.client_secret_ref.is_none() {
                problems.add(
                    field,
                    "client_secret_jwt needs the client's secret: name it in clientSecretRef",
                );
            }
        }
        let keyed = self.client_rsa_private_key_ref.is_some();
        let needs_secret = if self.bearer_only {
            !local && !keyed
        } else {
            !self.use_pkce && !keyed
        };
        if self.client_secret_ref.is_none() && needs_secret {
            problems.add(
                "clientSecretRef",
                "is needed unless tokens are verified with publicKey or useJwks only, the client has a private key, or usePkce is true",
            );
        }
        let shared = self
            .token_signing_alg_values_expected
            .is_some_and(crate::jwt::Algorithm::is_symmetric);
        if shared && self.client_secret_ref.is_none() {
            problems.add(
                "tokenSigningAlgValuesExpected",
                "algorithms with a shared secret need clientSecretRef",
            );
        }
        if shared && local {
            problems.add(
                "tokenSigningAlgValuesExpected",
                "public keys verify no algorithm with a shared secret: choose another one, or remove publicKey and useJwks",
            );
        }
    }

    fn check_session(&self, problems: &mut Problems) {
        let session = &self.session;
        problems.length("session.cookieName", &session.cookie_name, 1, 64);
        let fit = is_cookie_name(&session.cookie_name);
        problems.rule("session.cookieName", fit, schema::COOKIE_NAME);
        problems.length("session.path", &session.path, 1, 1024);
        let printable = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_graphic() && !b";,\"\\".contains(&byte))
        };
        if !session.path.starts_with('/') || !printable(&session.path) {
            problems.add(
                "session.path",
                "must begin with a slash and hold no blank, comma or semicolon",
            );
        }
        if let Some(domain) = &session.domain {
            problems.length("session.domain", domain, 1, 253);
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
            if !domain.bytes().all(fits) || !domain.contains('.') {
                problems.add("session.domain", "must be a domain, such as example.com");
            }
        }
        if session.same_site == SameSite::None && session.secure == Some(false) {
            problems.add(
                "session.sameSite",
                "browsers take None with secure cookies only: remove secure, or choose Lax",
            );
        }
        if session.storage == super::Storage::Cookie
            && let Some(contents) = &self.session_contents
            && !contents.access_token
            && self.set_refresh_token_header
        {
            problems.add(
                "setRefreshTokenHeader",
                "needs sessionContents.accessToken: the refresh token is kept with it",
            );
        }
    }

    fn check_proxies(&self, problems: &mut Problems) {
        let Some(proxies) = &self.proxy_opts else {
            return;
        };
        for (name, url, plain, secret) in [
            (
                "http",
                &proxies.http_proxy,
                &proxies.http_proxy_authorization,
                &proxies.http_proxy_authorization_secret_ref,
            ),
            (
                "https",
                &proxies.https_proxy,
                &proxies.https_proxy_authorization,
                &proxies.https_proxy_authorization_secret_ref,
            ),
        ] {
            let field = format!("proxyOpts.{name}Proxy");
            if let Some(url) = url {
                problems.length(&field, url, 1, 2048);
                problems.rule(&field, schema::is_http_url(url), schema::HTTP_URL);
            } else if plain.is_some() || secret.is_some() {
                problems.add(&*field, "is needed for its Authorization");
            }
            if plain.is_some() && secret.is_some() {
                problems.add(
                    format!("{field}Authorization"),
                    "is given in the Secret too: remove one of them",
                );
            }
            if plain
                .as_ref()
                .is_some_and(|text| text.bytes().any(|byte| !(b' '..=b'~').contains(&byte)))
            {
                problems.add(
                    format!("{field}Authorization"),
                    "may hold only printable ASCII characters",
                );
            }
        }
    }

    /// The values that it needs and does not hold itself.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        if let Some(at) = &self.client_secret_ref {
            found.push(Reference::secret("clientSecretRef", at));
        }
        if let Some(at) = &self.client_rsa_private_key_ref {
            found.push(Reference::secret("clientRsaPrivateKeyRef", at));
        }
        if let Some(at) = &self.ca_ref {
            found.push(Reference::ca("caRef", at));
        }
        if !self.bearer_only {
            let at = self.session.secret_ref.as_ref();
            let field = "session.secretRef";
            found.push(Reference::secret_or_generated(field, at, "sessionSecret"));
        }
        if let Some(proxies) = &self.proxy_opts {
            for (name, at) in [
                ("http", &proxies.http_proxy_authorization_secret_ref),
                ("https", &proxies.https_proxy_authorization_secret_ref),
            ] {
                if let Some(at) = at {
                    let field = format!("proxyOpts.{name}ProxyAuthorizationSecretRef");
                    found.push(Reference::secret(field, at));
                }
            }
        }
        found
    }

    /// What is wrong with a value that the field refers to.
    #[must_use]
    pub fn check_value(field: &str, value: &[u8]) -> Option<String> {
        match field {
            "session.secretRef" => {
                let text = String::from_utf8_lossy(value);
                let shortest = text.lines().map(|line| line.chars().count()).min();
                let short = shortest.unwrap_or_default() < SHORTEST_SECRET;
                short.then(|| {
                    format!("the session's secret needs at least {SHORTEST_SECRET} characters")
                })
            }
            "clientRsaPrivateKeyRef" => {
                let pem = value.windows(11).any(|part| part == b"PRIVATE KEY");
                (!pem).then(|| "must be an RSA private key in PEM".to_owned())
            }
            _ => None,
        }
    }
}

fn is_local_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

fn is_cookie_name(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The path of an absolute URL, without its query.
pub(super) fn path_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let start = rest.find('/')?;
    rest.get(start..)?.split(['?', '#']).next()
}
