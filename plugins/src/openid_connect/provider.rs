//! The provider: its metadata, its keys, and calls to it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use openidconnect::{
    AuthUrl, EndSessionUrl, IntrospectionUrl, IssuerUrl, JsonWebKeySetUrl, RevocationUrl, TokenUrl,
    UserInfoUrl,
};
use outbound::{
    Client, ForwardProxies, ForwardProxy, Fresh, Profile, ProfileOptions, Refreshed, Schedule,
    Verify,
};
use serde::Deserialize;

use super::Config;
use crate::handler::Values;
use crate::jwks::{KeySet, RemoteKeys};

/// What discovery documents end in.
const WELL_KNOWN: [&str; 2] = [
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
];

/// One provider, asked when it is first needed.
pub(super) struct Idp {
    pub(super) client: Client,
    pub(super) profile: Profile,
    from: Arc<Source>,
    metadata: OnceLock<Refreshed<Provider>>,
}

struct Source {
    discovery: Uri,
    text: String,
    issuers: Vec<String>,
    keys_live: Duration,
}

impl fmt::Debug for Idp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Idp({})", self.from.text)
    }
}

/// What is known of a provider.
pub(super) struct Provider {
    pub(super) metadata: Metadata,
    keys: OnceLock<Result<Arc<RemoteKeys>, String>>,
    client: Client,
    profile: Profile,
    keys_live: Duration,
}

/// The metadata that matter (OpenID Connect Discovery 1.0, RFC 8414). Most of it may be missing: the library's own type
/// refuses providers that only issue access tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Metadata {
    pub(super) issuer: IssuerUrl,
    pub(super) authorization_endpoint: Option<AuthUrl>,
    pub(super) token_endpoint: Option<TokenUrl>,
    pub(super) userinfo_endpoint: Option<UserInfoUrl>,
    pub(super) jwks_uri: Option<JsonWebKeySetUrl>,
    pub(super) end_session_endpoint: Option<EndSessionUrl>,
    pub(super) revocation_endpoint: Option<RevocationUrl>,
    pub(super) introspection_endpoint: Option<IntrospectionUrl>,
    pub(super) token_endpoint_auth_methods_supported: Option<Vec<String>>,
    pub(super) introspection_endpoint_auth_methods_supported: Option<Vec<String>>,
    pub(super) id_token_signing_alg_values_supported: Option<Vec<String>>,
    pub(super) authorization_response_iss_parameter_supported: Option<bool>,
}

impl Idp {
    pub(super) fn new(
        config: &Config,
        values: &Values<'_>,
        client: &Client,
    ) -> Result<Self, String> {
        let discovery: Uri = config
            .discovery
            .parse()
            .map_err(|_| "discovery: is no URL".to_owned())?;
        let options = ProfileOptions {
            timeout: Duration::from_secs(config.timeout.into()),
            verify: if config.ssl_verify {
                match values.find("caRef") {
                    Some(pem) => Verify::Only(pem.to_vec()),
                    None => Verify::System,
                }
            } else {
                Verify::Nothing
            },
            proxies: proxies(config, values)?,
            ..ProfileOptions::default()
        };
        let profile = client
            .profile(&options)
            .map_err(|error| error.to_string())?;
        let is_loopback = matches!(discovery.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if discovery.scheme_str() == Some("http") && !is_loopback {
            tracing::warn!(
                discovery = config.discovery,
                "the provider is called without TLS: whoever is on the way can read and change everything"
            );
        }
        let mut issuers = config.claim_validator.issuer.valid_issuers.clone();
        let own = WELL_KNOWN
            .iter()
            .find_map(|end| config.discovery.strip_suffix(end));
        // A slash at the end of an issuer is left out of the document's URL.
        issuers.extend(
            own.into_iter()
                .flat_map(|own| [own.to_owned(), format!("{own}/")]),
        );
        if issuers.is_empty() {
            let message = "discovery: must end in /.well-known/openid-configuration, or claimValidator.issuer.validIssuers must say whose document it is";
            return Err(message.to_owned());
        }
        Ok(Self {
            client: client.clone(),
            profile,
            from: Arc::new(Source {
                discovery,
                text: config.discovery.clone(),
                issuers,
                keys_live: Duration::from_secs(config.jwk_expires_in.into()),
            }),
            metadata: OnceLock::new(),
        })
    }

    /// What is known of the provider; where that is nothing yet, waits for it.
    pub(super) async fn provider(&self) -> Result<Arc<Provider>, &'static str> {
        let metadata = self.metadata.get_or_init(|| self.refreshed());
        metadata.value().await
    }

    /// What is known of the provider already.
    pub(super) fn known(&self) -> Option<Arc<Provider>> {
        Option::clone(&self.metadata.get()?.current())
    }

    fn refreshed(&self) -> Refreshed<Provider> {
        let (client, profile, from) = (
            self.client.clone(),
            self.profile.clone(),
            Arc::clone(&self.from),
        );
        let fetch = move |previous: Option<Arc<Provider>>| {
            let (client, profile, from) = (client.clone(), profile.clone(), Arc::clone(&from));
            async move { fetch(client, profile, &from, previous).await }
        };
        let uri = &self.from.discovery;
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        let what = format!("metadata of the provider {authority}{}", uri.path());
        let schedule = Schedule {
            lifetime: Duration::from_secs(3600),
            ..Schedule::default()
        };
        self.client.refreshed(what, schedule, fetch)
    }

    /// Asks the provider.
    pub(super) async fn call(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, &'static str> {
        let sent = self.client.send(&self.profile, request).await;
        sent.map_err(outbound::Error::reason)
    }
}

fn proxies(config: &Config, values: &Values<'_>) -> Result<ForwardProxies, String> {
    let Some(options) = &config.proxy_opts else {
        return Ok(ForwardProxies::default());
    };
    let one = |url: &Option<String>, plain: &Option<String>, name: &str| {
        let Some(url) = url else { return Ok(None) };
        let secret = values.find(&format!("proxyOpts.{name}ProxyAuthorizationSecretRef"));
        let text = secret
            .map(|value| &value[..])
            .or_else(|| plain.as_ref().map(String::as_bytes));
        let authorization = text
            .map(HeaderValue::from_bytes)
            .transpose()
            .map_err(|_| format!("proxyOpts.{name}ProxyAuthorization: cannot be sent"))?;
        Ok::<_, String>(Some(ForwardProxy {
            url: url.clone(),
            authorization,
        }))
    };
    Ok(ForwardProxies {
        http: one(
            &options.http_proxy,
            &options.http_proxy_authorization,
            "http",
        )?,
        https: one(
            &options.https_proxy,
            &options.https_proxy_authorization,
            "https",
        )?,
        no_proxy: options.no_proxy.clone().unwrap_or_default(),
    })
}

async fn fetch(
    client: Client,
    profile: Profile,
    from: &Source,
    previous: Option<Arc<Provider>>,
) -> Result<Fresh<Provider>, &'static str> {
    let request = Request::get(from.discovery.clone())
        .header(ACCEPT, "application/json")
        .body(Bytes::new())
        .map_err(|_| "bad_url")?;
    let sent = client.send(&profile, request).await;
    let response = sent.map_err(outbound::Error::reason)?;
    if response.status() != StatusCode::OK {
        return Err("bad_status");
    }
    let metadata = Metadata::read(response.body(), from)?;
    if previous.is_some_and(|previous| previous.metadata == metadata) {
        return Ok(Fresh::Same(None));
    }
    let provider = Provider {
        metadata,
        keys: OnceLock::new(),
        client,
        profile,
        keys_live: from.keys_live,
    };
    Ok(Fresh::Value(provider, None))
}

impl Metadata {
    fn read(text: &[u8], from: &Source) -> Result<Self, &'static str> {
        let read: Self = serde_json::from_slice(text).map_err(|_| "not_provider_metadata")?;
        if !from.issuers.contains(&*read.issuer) {
            return Err("other_issuer");
        }
        let tls = from.discovery.scheme_str() == Some("https");
        let endpoints = [
            read.authorization_endpoint.as_ref().map(AuthUrl::url),
            read.token_endpoint.as_ref().map(TokenUrl::url),
            read.userinfo_endpoint.as_ref().map(UserInfoUrl::url),
            read.jwks_uri.as_ref().map(JsonWebKeySetUrl::url),
            read.end_session_endpoint.as_ref().map(EndSessionUrl::url),
            read.revocation_endpoint.as_ref().map(RevocationUrl::url),
            read.introspection_endpoint
                .as_ref()
                .map(IntrospectionUrl::url),
        ];
        // Secrets and tokens must not go out in the clear because a document says so.
        let fit = endpoints
            .into_iter()
            .flatten()
            .all(|url| url.scheme() == "https" || (!tls && url.scheme() == "http"));
        if fit { Ok(read) } else { Err("bad_endpoint") }
    }
}

impl Provider {
    /// Its keys, fetched from the first time on that they are needed.
    pub(super) fn keys(&self) -> Result<&Arc<RemoteKeys>, &'static str> {
        let made = self.keys.get_or_init(|| {
            let url = self.metadata.jwks_uri.as_ref();
            let url = url.map_or("", |url| url.as_str());
            let schedule = Schedule {
                lifetime: self.keys_live,
                longest: self.keys_live,
                ..Schedule::default()
            };
            RemoteKeys::fetched(&self.client, &self.profile, schedule, url).map(Arc::new)
        });
        made.as_ref().map_err(|_| "no_keys_url")
    }

    /// Its keys that are there already.
    pub(super) fn known_keys(&self) -> Option<Arc<KeySet>> {
        let keys = self.keys.get()?.as_ref().ok()?;
        Option::clone(&keys.current())
    }

    /// Its keys as they are now, fetched if they never were.
    pub(super) async fn key_set(&self) -> Result<Arc<KeySet>, &'static str> {
        let keys = self.keys()?;
        let current = Option::clone(&keys.current());
        match current {
            Some(set) => Ok(set),
            None => keys.newer(None, None).await.ok_or("no_keys"),
        }
    }
}

/// What fuzzers read.
#[cfg(any(test, feature = "invariants"))]
pub(super) fn read_metadata(text: &[u8]) {
    let from = Source {
        discovery: Uri::from_static("https://idp.test/.well-known/openid-configuration"),
        text: String::new(),
        issuers: vec!["https://idp.test".to_owned()],
        keys_live: Duration::ZERO,
    };
    let read = Metadata::read(text, &from);
    assert!(read.is_err() || read.is_ok_and(|read| read.issuer.as_str() == "https://idp.test"));
}
