//! The client.

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use hickory_resolver::TokioResolver;
use http::header::{CONTENT_LENGTH, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy;
use ipnet::IpNet;
use tokio::runtime::Handle;

use crate::deny::{Denied, Host, target};
use crate::profile::{Inner, Profile, ProfileError, ProfileOptions};
use crate::{Error, Fresh, Refreshed, Schedule, SingleFlight};

/// What a [`Client`] is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Networks that are never called, directly or as the literal target of a forward proxy.
    pub deny: Vec<IpNet>,
    /// Where connections and background work live; workers come and go.
    pub runtime: Handle,
}

/// Calls others. Cheap to clone, and usable from any thread and runtime.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) denied: Denied,
    pub(crate) runtime: Handle,
    resolver: OnceLock<TokioResolver>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// A client without connections.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self(Arc::new(Shared {
            denied: Denied::new(options.deny),
            runtime: options.runtime,
            resolver: OnceLock::new(),
        }))
    }

    /// A way of calling, with connections of its own.
    ///
    /// # Errors
    /// Something in the options cannot be used.
    pub fn profile(&self, options: &ProfileOptions) -> Result<Profile, ProfileError> {
        Profile::new(&self.0, options)
    }

    /// Sends a request to its absolute URL and reads the whole answer, whatever its status; redirects are answers. The call
    /// goes on where the caller stops waiting.
    ///
    /// # Errors
    /// There is no whole answer.
    pub async fn send(
        &self,
        profile: &Profile,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Error> {
        let profile = Arc::clone(&profile.0);
        self.on_runtime(async move { call(&profile, request).await })
            .await?
    }

    /// Runs something where connections live, and awaits it from wherever the caller runs. It goes on where the caller
    /// stops waiting.
    ///
    /// # Errors
    /// The runtime is being shut down, or what ran panicked.
    pub async fn on_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        self.0.runtime.spawn(work).await.map_err(|_| Error::Stopped)
    }

    /// Flights that share answers, see [`SingleFlight`].
    #[must_use]
    pub fn single_flight<K, T>(&self) -> SingleFlight<K, T> {
        SingleFlight::new(self.0.runtime.clone())
    }

    /// A value that is fetched now and then, see [`Refreshed`]. `what` is for the log, without secrets: "key set of
    /// https://idp.test". `fetch` gets the value that is there; its error is a constant reason.
    pub fn refreshed<T, F>(
        &self,
        what: String,
        schedule: Schedule,
        fetch: impl Fn(Option<Arc<T>>) -> F + Send + Sync + 'static,
    ) -> Refreshed<T>
    where
        T: Send + Sync + 'static,
        F: Future<Output = Result<Fresh<T>, &'static str>> + Send + 'static,
    {
        Refreshed::start(&self.0.runtime, what, schedule, fetch)
    }
}

impl Shared {
    /// The addresses of a name, by `/etc/hosts` and the servers of `/etc/resolv.conf`. They are resolved in Rust: a static
    /// binary cannot load the system's resolver.
    pub(crate) async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, Error> {
        let resolver = match self.resolver.get() {
            Some(resolver) => resolver,
            None => {
                let made = TokioResolver::builder_tokio()
                    .and_then(|builder| builder.build())
                    .map_err(|_| Error::Unreachable)?;
                self.resolver.get_or_init(|| made)
            }
        };
        let found = resolver
            .lookup_ip(name)
            .await
            .map_err(|_| Error::Unreachable)?;
        Ok(found.iter().collect())
    }
}

/// Spawns hyper's tasks, wherever they come from.
#[derive(Clone)]
pub(crate) struct OnRuntime(pub(crate) Handle);

impl<F> hyper::rt::Executor<F> for OnRuntime
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        drop(self.0.spawn(task));
    }
}

async fn call(profile: &Inner, mut request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
    let (host, _) = target(request.uri())?;
    if let Host::Address(address) = host
        && profile.route.shared.denied.contains(address)
    {
        return Err(Error::Denied);
    }
    let proxy_authorization = profile.route.proxy_authorization(request.uri());
    let headers = request.headers_mut();
    if let Some(value) = proxy_authorization {
        headers.insert(PROXY_AUTHORIZATION, value);
    }
    headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static(concat!(
            "postern/",
            env!("CARGO_PKG_VERSION")
        )));
    let exchange = async {
        let _permit = profile.calls.acquire().await.map_err(|_| Error::Stopped)?;
        let response = profile
            .http
            .request(request.map(Full::new))
            .await
            .map_err(|error| reason(&error))?;
        let (head, body) = response.into_parts();
        let body = read(&head, body, profile.max_body_bytes).await?;
        Ok(Response::from_parts(head, body))
    };
    tokio::time::timeout(profile.timeout, exchange)
        .await
        .unwrap_or(Err(Error::Timeout))
}

async fn read(
    head: &http::response::Parts,
    mut body: Incoming,
    limit: usize,
) -> Result<Bytes, Error> {
    let length = head.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) && !body.is_end_stream() {
        return Err(Error::TooLarge);
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::Protocol)?;
        if let Ok(data) = frame.into_data() {
            if data.len() > limit - whole.len() {
                return Err(Error::TooLarge);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

/// Our own error, where it was one of ours that ended the call.
fn reason(error: &legacy::Error) -> Error {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(known) = inner.downcast_ref::<Error>() {
            return *known;
        }
        source = inner.source();
    }
    Error::Protocol
}
