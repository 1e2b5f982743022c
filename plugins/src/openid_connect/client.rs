//! The client's own proof at the provider's endpoints.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use form_urlencoded::byte_serialize;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreTokenIntrospectionResponse,
};
use openidconnect::{
    AuthType, ClientId, ClientSecret, EmptyAdditionalClaims, EndpointNotSet, IssuerUrl,
    JsonWebKeySet, StandardErrorResponse,
};

use super::provider::Idp;
use super::tokens::Tokens;
use super::{AuthMethod, Config};
use crate::client_assertion::{self, Signer};
use crate::handler::Values;

/// What speaks the protocol: it writes the requests for signing in and for tokens, and reads the answers. Keys it is not
/// given any: the signatures of tokens are verified elsewhere.
pub(super) type Protocol = openidconnect::Client<
    EmptyAdditionalClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
>;

/// Who we are to the provider.
pub(super) struct OAuthClient {
    pub(super) id: ClientId,
    secret: Option<ClientSecret>,
    /// Signs assertions with the secret.
    by_secret: Option<Signer>,
    /// Signs assertions with the private key.
    by_key: Option<Signer>,
}

impl fmt::Debug for OAuthClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OAuthClient({})", self.id.as_str())
    }
}

/// An endpoint that wants to know who calls.
pub(super) struct Endpoint<'a> {
    pub(super) url: &'a str,
    /// What an assertion is for.
    pub(super) audience: &'a str,
    pub(super) wanted: AuthMethod,
    /// What the provider says it understands there; none: it does not say.
    pub(super) supported: Option<&'a [String]>,
    /// Headers that go along.
    pub(super) headers: HeaderMap,
}

/// How one request shows who calls.
pub(super) enum Proof {
    /// A public client only says its name.
    Nothing,
    Basic,
    Post,
    Assertion(String),
}

impl Proof {
    /// The parameters of an assertion.
    pub(super) fn assertion(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let assertion = match self {
            Self::Assertion(assertion) => Some(assertion.as_str()),
            _ => None,
        };
        assertion.into_iter().flat_map(|assertion| {
            [
                ("client_assertion_type", client_assertion::TYPE),
                ("client_assertion", assertion),
            ]
        })
    }
}

impl OAuthClient {
    pub(super) fn new(config: &Config, values: &Values<'_>) -> Result<Self, String> {
        let secret = values.find("clientSecretRef");
        let secret = secret.map(|value| String::from_utf8(value.to_vec()));
        let secret = secret
            .transpose()
            .map_err(|_| "clientSecretRef: is no text".to_owned())?;
        let seconds = config.client_jwt_assertion_expires_in;
        let key = values.find("clientRsaPrivateKeyRef").map(|pem| {
            let signer = Signer::private(pem).ok().filter(Signer::is_rsa);
            signer.ok_or_else(|| {
                "clientRsaPrivateKeyRef: is not an RSA private key in PEM".to_owned()
            })
        });
        let by_key = key
            .transpose()?
            .map(|key| key.named(config.client_rsa_private_key_id.clone()));
        let by_secret = secret
            .as_ref()
            .map(|secret| Signer::hs256(secret.as_bytes()));
        Ok(Self {
            id: ClientId::new(config.client_id.clone()),
            secret: secret.map(ClientSecret::new),
            by_secret: by_secret.map(|signer| signer.lasting(seconds)),
            by_key: by_key.map(|signer| signer.lasting(seconds)),
        })
    }

    /// The secret, for tokens that are signed with it.
    pub(super) fn secret(&self) -> Option<&str> {
        self.secret.as_ref().map(|secret| secret.secret().as_str())
    }

    fn can(&self, method: AuthMethod) -> bool {
        match method {
            AuthMethod::PrivateKeyJwt => self.by_key.is_some(),
            _ => self.secret.is_some(),
        }
    }

    /// The wanted way, or where the provider does not know it the first one that both know. None: as a public client.
    fn method(&self, wanted: AuthMethod, supported: Option<&[String]>) -> Option<AuthMethod> {
        let knows = |method: AuthMethod| {
            supported.is_none_or(|names| names.iter().any(|name| name == method.name()))
        };
        if self.can(wanted) && knows(wanted) {
            return Some(wanted);
        }
        let offered = supported.unwrap_or_default().iter();
        let both = offered
            .filter_map(|name| AuthMethod::from_name(name))
            .find(|method| self.can(*method));
        both.or_else(|| self.can(wanted).then_some(wanted))
            .or_else(|| self.by_key.is_some().then_some(AuthMethod::PrivateKeyJwt))
    }

    /// How one request to an endpoint is to show who calls.
    pub(super) fn proof(&self, endpoint: &Endpoint<'_>, now: i64) -> Result<Proof, &'static str> {
        let signer = match self.method(endpoint.wanted, endpoint.supported) {
            None => return Ok(Proof::Nothing),
            Some(AuthMethod::ClientSecretBasic) => return Ok(Proof::Basic),
            Some(AuthMethod::ClientSecretPost) => return Ok(Proof::Post),
            Some(AuthMethod::ClientSecretJwt) => &self.by_secret,
            Some(AuthMethod::PrivateKeyJwt) => &self.by_key,
        };
        let signer = signer.as_ref().ok_or("assertion")?;
        let assertion = signer.assertion(&self.id, endpoint.audience, now);
        Ok(Proof::Assertion(assertion.ok_or("assertion")?))
    }

    /// The protocol as this client speaks it, with its proof but for an assertion.
    pub(super) fn protocol(&self, issuer: &IssuerUrl, proof: &Proof) -> Protocol {
        let protocol = Protocol::new(self.id.clone(), issuer.clone(), JsonWebKeySet::default())
            .disable_openid_scope();
        let how = match proof {
            Proof::Basic => AuthType::BasicAuth,
            _ => AuthType::RequestBody,
        };
        let protocol = protocol.set_auth_type(how);
        match (&self.secret, proof) {
            (Some(secret), Proof::Basic | Proof::Post) => {
                protocol.set_client_secret(secret.clone())
            }
            _ => protocol,
        }
    }

    /// Posts a form to an endpoint of OAuth 2.0 beside the protocol's own: for introspection (RFC 7662), whose answers the
    /// library reads more strictly than providers write them, and revocation (RFC 7009), which it refuses without TLS even
    /// on loopback.
    pub(super) async fn post(
        &self,
        idp: &Idp,
        endpoint: Endpoint<'_>,
        form: &[(&str, &str)],
        now: i64,
    ) -> Result<Response<Bytes>, &'static str> {
        let proof = self.proof(&endpoint, now)?;
        let secret = self.secret().unwrap_or_default();
        let body = self.form(form, &proof);
        let mut request = Request::post(endpoint.url)
            .body(Bytes::from(body))
            .map_err(|_| "bad_url")?;
        let headers = request.headers_mut();
        *headers = endpoint.headers;
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if matches!(proof, Proof::Basic) {
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encoded(&self.id), encoded(secret));
            let value = format!("Basic {}", STANDARD.encode(pair));
            let value = HeaderValue::try_from(value).map_err(|_| "authorization")?;
            headers.insert(AUTHORIZATION, value);
        }
        idp.call(request).await
    }

    /// A form with what proves who sends it.
    fn form(&self, pairs: &[(&str, &str)], proof: &Proof) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(pairs).extend_pairs(proof.assertion());
        if !matches!(proof, Proof::Basic) {
            form.append_pair("client_id", &self.id);
        }
        if matches!(proof, Proof::Post) {
            form.append_pair("client_secret", self.secret().unwrap_or_default());
        }
        form.finish()
    }
}

impl AuthMethod {
    const fn name(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::ClientSecretJwt => "client_secret_jwt",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [
            Self::ClientSecretBasic,
            Self::ClientSecretPost,
            Self::ClientSecretJwt,
            Self::PrivateKeyJwt,
        ]
        .into_iter()
        .find(|method| method.name() == name)
    }
}
