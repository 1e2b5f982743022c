//! The client's own proof at the provider's endpoints, and the calls that need it.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

use super::provider::Idp;
use super::{AuthMethod, Config, seal};
use crate::handler::Values;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Who we are to the provider.
pub(super) struct OAuthClient {
    pub(super) id: String,
    secret: Option<String>,
    key: Option<RsaKeyPair>,
    key_id: Option<String>,
    assertion_seconds: i64,
}

impl fmt::Debug for OAuthClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OAuthClient({})", self.id)
    }
}

/// An endpoint that wants to know who calls.
pub(super) struct Endpoint<'a> {
    pub(super) url: &'a str,
    pub(super) wanted: AuthMethod,
    /// What the provider says it understands there; none: it does not say.
    pub(super) supported: Option<&'a [String]>,
    /// Headers that go along.
    pub(super) headers: HeaderMap,
}

impl OAuthClient {
    pub(super) fn new(config: &Config, values: &Values<'_>) -> Result<Self, String> {
        let secret = values.find("clientSecretRef");
        let secret = secret.map(|value| String::from_utf8(value.to_vec()));
        let secret = secret
            .transpose()
            .map_err(|_| "clientSecretRef: is no text".to_owned())?;
        let key = values.find("clientRsaPrivateKeyRef").map(|pem| read(pem));
        Ok(Self {
            id: config.client_id.clone(),
            secret,
            key: key.transpose()?,
            key_id: config.client_rsa_private_key_id.clone(),
            assertion_seconds: config.client_jwt_assertion_expires_in.into(),
        })
    }

    /// The secret, for tokens that are signed with it.
    pub(super) fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    fn can(&self, method: AuthMethod) -> bool {
        match method {
            AuthMethod::PrivateKeyJwt => self.key.is_some(),
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
            .or_else(|| self.key.is_some().then_some(AuthMethod::PrivateKeyJwt))
    }

    /// Posts a form.
    pub(super) async fn post(
        &self,
        idp: &Idp,
        endpoint: Endpoint<'_>,
        form: &[(&str, &str)],
        now: i64,
    ) -> Result<Response<Bytes>, &'static str> {
        let mut body = Form::default();
        for (name, value) in form {
            body.add(name, value);
        }
        let mut authorization = None;
        match self.method(endpoint.wanted, endpoint.supported) {
            None => body.add("client_id", &self.id),
            Some(AuthMethod::ClientSecretBasic) => {
                let secret = self.secret.as_deref().unwrap_or_default();
                let pair = format!("{}:{}", encoded(&self.id), encoded(secret));
                authorization = Some(format!("Basic {}", STANDARD.encode(pair)));
            }
            Some(AuthMethod::ClientSecretPost) => {
                body.add("client_id", &self.id);
                body.add("client_secret", self.secret.as_deref().unwrap_or_default());
            }
            Some(method @ (AuthMethod::ClientSecretJwt | AuthMethod::PrivateKeyJwt)) => {
                let assertion = self
                    .assertion(method, endpoint.url, now)
                    .ok_or("assertion")?;
                body.add("client_id", &self.id);
                body.add("client_assertion_type", ASSERTION_TYPE);
                body.add("client_assertion", &assertion);
            }
        }
        let mut request = Request::post(endpoint.url)
            .body(Bytes::from(body.0))
            .map_err(|_| "bad_url")?;
        let headers = request.headers_mut();
        *headers = endpoint.headers;
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(value) = authorization {
            let mut value = HeaderValue::try_from(value).map_err(|_| "authorization")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        idp.call(request).await
    }

    /// A signed statement of who we are (RFC 7523).
    fn assertion(&self, method: AuthMethod, audience: &str, now: i64) -> Option<String> {
        let keyed = method == AuthMethod::PrivateKeyJwt;
        let mut header = json!({"alg": if keyed { "RS256" } else { "HS256" }, "typ": "JWT"});
        if keyed && let (Some(id), Some(members)) = (&self.key_id, header.as_object_mut()) {
            members.insert("kid".to_owned(), id.as_str().into());
        }
        let claims = json!({
            "iss": self.id, "sub": self.id, "aud": audience, "jti": seal::random()?,
            "iat": now, "exp": now + self.assertion_seconds,
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = if keyed {
            let key = self.key.as_ref()?;
            let mut signature = vec![0; key.public_modulus_len()];
            let random = SystemRandom::new();
            key.sign(
                &RSA_PKCS1_SHA256,
                &random,
                signed.as_bytes(),
                &mut signature,
            )
            .ok()?;
            signature
        } else {
            let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_deref()?.as_bytes());
            hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
        };
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn read(pem: &[u8]) -> Result<RsaKeyPair, String> {
    let wrong = || "clientRsaPrivateKeyRef: is not an RSA private key in PEM".to_owned();
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| wrong())?;
    let pair = match &key {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(wrong()),
    };
    pair.map_err(|_| wrong())
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

/// A form, or a query.
#[derive(Default)]
pub(super) struct Form(pub(super) String);

impl Form {
    pub(super) fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(&encoded(name));
        self.0.push('=');
        self.0.push_str(&encoded(value));
    }
}

/// For forms and queries: a blank as %20, which every reader of forms understands too.
fn encoded(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    utf8_percent_encode(text, KEPT).to_string()
}
