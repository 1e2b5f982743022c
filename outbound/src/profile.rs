//! How one plugin's calls are made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Uri};
use http_body_util::Full;
use hyper_util::client::legacy;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioTimer;
use tokio::sync::Semaphore;

use crate::client::{OnRuntime, Shared};
use crate::dial::{Dial, Route};
use crate::tls::Tls;

/// Idle connections are closed before servers do: five seconds is a common limit.
const IDLE: Duration = Duration::from_secs(4);
/// The longest head of an answer.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Whose certificates are believed.
#[derive(Clone, Default)]
pub enum Verify {
    /// Those that the system trusts.
    #[default]
    System,
    /// Only those issued under these CA certificates, in PEM.
    Only(Vec<u8>),
    /// Anybody's: whoever is on the way can read and change everything.
    Nothing,
}

impl fmt::Debug for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Only(_) => "Only",
            Self::Nothing => "Nothing",
        })
    }
}

/// A forward proxy.
#[derive(Clone)]
pub struct ForwardProxy {
    /// Its URL, http or https; a user and password in it are sent as `Proxy-Authorization`.
    pub url: String,
    /// The `Proxy-Authorization`, in place of what the URL says.
    pub authorization: Option<HeaderValue>,
}

impl fmt::Debug for ForwardProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForwardProxy")
    }
}

/// Which calls go through which forward proxy.
#[derive(Debug, Clone, Default)]
pub struct ForwardProxies {
    /// For http URLs.
    pub http: Option<ForwardProxy>,
    /// For https URLs.
    pub https: Option<ForwardProxy>,
    /// Hosts, domains with what is below them, addresses and networks that are called directly, comma-separated; `*` is all.
    pub no_proxy: String,
}

/// How calls are made.
#[derive(Debug, Clone)]
pub struct ProfileOptions {
    /// From the start of a call to the last byte of its answer.
    pub timeout: Duration,
    /// Whose certificates are believed.
    pub verify: Verify,
    /// Forward proxies.
    pub proxies: ForwardProxies,
    /// The longest body of an answer.
    pub max_body_bytes: usize,
    /// How many calls may be under way at once; more wait, within their time.
    pub max_calls: usize,
}

impl Default for ProfileOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            verify: Verify::default(),
            proxies: ForwardProxies::default(),
            max_body_bytes: 1 << 20,
            max_calls: 256,
        }
    }
}

/// Why calls cannot be made in that way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not certificates in PEM.
    #[error("the CA certificates are not readable PEM, or there are none in it")]
    Ca,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls,
    /// Not the URL of a forward proxy.
    #[error("the URL of a forward proxy must be http://host:port or https://host:port")]
    ProxyUrl,
    /// Nothing can be called like that.
    #[error("timeout, size and number of calls must be more than zero")]
    Zero,
}

/// How one plugin's calls are made, with the connections it keeps. Built once, when the snapshot arrives; cheap to clone.
#[derive(Clone)]
pub struct Profile(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) http: legacy::Client<Dial, Full<Bytes>>,
    pub(crate) route: Arc<Route>,
    pub(crate) timeout: Duration,
    pub(crate) max_body_bytes: usize,
    pub(crate) calls: Arc<Semaphore>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("timeout", &self.0.timeout)
            .field("max_body_bytes", &self.0.max_body_bytes)
            .finish_non_exhaustive()
    }
}

impl Profile {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        options: &ProfileOptions,
    ) -> Result<Self, ProfileError> {
        if options.timeout.is_zero() || options.max_body_bytes == 0 || options.max_calls == 0 {
            return Err(ProfileError::Zero);
        }
        let proxies = &options.proxies;
        let (http, http_authorization) = checked(proxies.http.as_ref())?;
        let (https, https_authorization) = checked(proxies.https.as_ref())?;
        let matcher = Matcher::builder()
            .http(http.to_owned())
            .https(https.to_owned())
            .no(proxies.no_proxy.clone())
            .build();
        let route = Arc::new(Route {
            shared: Arc::clone(shared),
            tls: Tls::new(&options.verify)?,
            matcher,
            http_authorization,
            https_authorization,
        });
        let http = legacy::Client::builder(OnRuntime(shared.runtime.clone()))
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(8)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .http2_max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
            .build(Dial(Arc::clone(&route)));
        Ok(Self(Arc::new(Inner {
            http,
            route,
            timeout: options.timeout,
            max_body_bytes: options.max_body_bytes,
            calls: Arc::new(Semaphore::new(
                options.max_calls.min(Semaphore::MAX_PERMITS),
            )),
        })))
    }
}

/// A forward proxy's URL, which the matcher would drop in silence were it wrong.
fn checked(proxy: Option<&ForwardProxy>) -> Result<(&str, Option<HeaderValue>), ProfileError> {
    let Some(proxy) = proxy else {
        return Ok(("", None));
    };
    let uri: Uri = proxy.url.parse().map_err(|_| ProfileError::ProxyUrl)?;
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    if !matches!(uri.scheme_str(), Some("http" | "https")) || !has_host {
        return Err(ProfileError::ProxyUrl);
    }
    let authorization = proxy.authorization.clone().map(|mut value| {
        value.set_sensitive(true);
        value
    });
    Ok((&proxy.url, authorization))
}
