//! What a plugin does to a request, and what it may touch while doing so.
//!
//! Handlers are built once, when the snapshot arrives, and dispatched statically. A handler reads and changes the
//! request through [`Exchange`], says who calls in [`Caller`] and returns a [`Verdict`]; it writes no refusal and no
//! identity header itself, so that there is one place for each. One that has more to say answers whole ([`Answer`]), adds
//! to whatever the client gets ([`ResponseEdits`]), or asks to see the upstream's answer ([`Exchange::watch`]).

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request};
use smallvec::SmallVec;

use crate::directory::{ConsumerRef, CredentialId, Directory, Namespaces};
use crate::jwks::KeySets;
use crate::{Config, Type, acl, any_of, jwt, key_auth, oauth2, openid_connect, upstream_oauth};

/// The body of a request, as far as plugins need it.
pub trait RequestBody {
    /// Reads the whole body, keeps it for whoever reads next, and returns it.
    ///
    /// # Errors
    /// It is longer than `limit` bytes, or does not arrive.
    fn buffer(&mut self, limit: usize) -> impl Future<Output = Result<Bytes, BodyError>>;

    /// Puts another body in its place; the framing headers are the caller's business, see [`Exchange::replace_body`].
    fn replace(&mut self, body: Bytes);
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Longer than was allowed.
    #[error("the body is too long")]
    TooLong,
    /// The client broke off or was too slow.
    #[error("the body did not arrive")]
    Incomplete,
}

/// One request on its way through the plugins.
#[derive(Debug)]
pub struct Exchange<'a, B> {
    /// Method, target, headers.
    pub head: &'a mut request::Parts,
    /// The body.
    pub body: &'a mut B,
    /// Who calls, as far as it is known.
    pub caller: &'a mut Caller,
    /// Consumers and credentials.
    pub directory: &'a Directory,
    /// Seconds since 1970.
    pub now: i64,
    /// Whether the client uses https, as far as those that are believed say.
    pub https: bool,
    /// What the request is called in the log, for pages that people may ask about.
    pub request_id: &'a str,
    /// Whether this very connection is encrypted.
    pub tls: bool,
    /// What the client's answer gets besides, whoever makes it.
    pub response: &'a mut ResponseEdits,
    /// Set by a handler that wants to see the head of the upstream's answer: [`Handler::response`] is then called with this
    /// number.
    pub watch: Option<u64>,
    /// The request is only explained, and never served: call nobody and change nothing that outlives it. What then cannot be
    /// known is [`Verdict::Undecided`].
    pub rehearsal: bool,
}

/// What the client's answer gets besides, whoever makes it: the upstream, the gateway, another plugin.
#[derive(Debug, Default)]
pub struct ResponseEdits {
    /// Headers that are added.
    pub append: Vec<(HeaderName, HeaderValue)>,
}

impl<B: RequestBody> Exchange<'_, B> {
    /// Puts another body in place and makes the framing headers fit it.
    pub fn replace_body(&mut self, body: Bytes) {
        self.head.headers.remove(http::header::TRANSFER_ENCODING);
        self.head
            .headers
            .insert(http::header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        self.body.replace(body);
    }
}

/// Who calls.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The Consumer, the anonymous one included.
    pub consumer: Option<ConsumerRef>,
    /// What proved it; none for an anonymous Consumer.
    pub credential: Option<CredentialId>,
    /// Whether the Consumer only stands in for nobody.
    pub anonymous: bool,
    /// Do not tell the upstream the groups.
    pub hide_groups: bool,
    /// What an access token may be used for (`X-Authenticated-Scope`).
    pub scope: Option<HeaderValue>,
    /// The user in whose name an access token was issued (`X-Authenticated-Userid`).
    pub user: Option<HeaderValue>,
    /// The challenges of plugins that let the request pass unauthenticated, for one that then asks who calls.
    pub challenges: Vec<HeaderValue>,
    /// Which methods the plugin that is asked has tried, and what came of each; empty for one that has only one.
    pub tried: SmallVec<[(Type, &'static str); 4]>,
}

impl Caller {
    /// Whether a credential has proved who this is.
    #[must_use]
    pub const fn is_authenticated(&self) -> bool {
        self.consumer.is_some() && !self.anonymous
    }
}

/// What becomes of the request.
#[derive(Debug)]
pub enum Verdict {
    /// It goes on; the reason is for the log and the metric ("ok", "anonymous", "preflight" …).
    Continue(&'static str),
    /// It ends here.
    Refuse(Refusal),
    /// It ends here, with an answer that is the plugin's own: a redirect, a page, a token.
    Answer(Box<Answer>),
    /// The request is only explained, and what becomes of it hangs on what an explanation does not do; the reason says what
    /// that is ("would_ask_provider" …).
    Undecided(&'static str),
}

/// An answer that is a plugin's own. The request's id is added to it.
#[derive(Debug)]
pub struct Answer {
    /// Status of the answer.
    pub status: StatusCode,
    /// Its headers, with the body's type. The length is not among them.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Short and constant, for the log and the metric.
    pub reason: &'static str,
}

/// An answer in the gateway's own name.
#[derive(Debug)]
pub struct Refusal {
    /// Status of the answer.
    pub status: StatusCode,
    /// Text of `{"message": …}`.
    pub message: Cow<'static, str>,
    /// Members of the answer's JSON, in place of the message; empty: `{"message": …}`.
    pub members: Vec<(&'static str, &'static str)>,
    /// The `WWW-Authenticate` challenges.
    pub challenges: Vec<HeaderValue>,
    /// Short and constant, for the log and the metric: "no_key", "unknown_key", "expired" …
    pub reason: &'static str,
}

/// What a handler is built from.
#[derive(Debug, Clone)]
pub struct BuildContext<'a> {
    /// Key of the plugin in the snapshot, "Plugin/<namespace>/<name>".
    pub key: &'a str,
    /// Tells it from every other plugin, also from one that had its name before: what it issues is bound to this.
    pub id: &'a str,
    /// Whose credentials count.
    pub namespaces: Namespaces,
    /// The Consumer of `anonymous`, as "Consumer/<namespace>/<name>", whether or not it exists.
    pub anonymous: Option<&'a str>,
    /// What the configuration refers to.
    pub values: Values<'a>,
    /// What all handlers share.
    pub services: &'a Services,
}

/// The values that a configuration refers to, by the paths of its fields (see [`crate::Reference`]).
#[derive(Clone)]
pub struct Values<'a> {
    all: &'a [(String, Bytes)],
    within: String,
}

impl std::fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = self.all.iter().map(|(field, _)| field);
        f.debug_set().entries(fields).finish()
    }
}

impl<'a> Values<'a> {
    /// All values of a plugin.
    #[must_use]
    pub const fn new(all: &'a [(String, Bytes)]) -> Self {
        Self {
            all,
            within: String::new(),
        }
    }

    /// The values of a block within the plugin's, with their paths seen from there.
    #[must_use]
    pub fn within(&self, parent: &str) -> Self {
        Self {
            all: self.all,
            within: format!("{}{parent}.", self.within),
        }
    }

    /// The value of a field, if the configuration refers to one.
    #[must_use]
    pub fn find(&self, field: &str) -> Option<&'a Bytes> {
        let own = |path: &str| path.strip_prefix(&*self.within) == Some(field);
        let found = self.all.iter().find(|(path, _)| own(path));
        found.map(|(_, value)| value)
    }

    /// The value of a field that refers to one.
    ///
    /// # Errors
    /// The snapshot does not hold it.
    pub fn value(&self, field: &str) -> Result<&'a Bytes, String> {
        self.find(field).ok_or_else(|| {
            format!(
                "{}{field}: the snapshot does not hold its value",
                self.within
            )
        })
    }
}

/// What all handlers share, on every worker and for the life of the process.
#[derive(Debug, Clone)]
pub struct Services {
    /// A runtime apart from the workers': here runs what outlives a request or serves several workers, such as calls to
    /// other servers. A worker's own runtime ends with the worker, and its connections with it.
    pub background: tokio::runtime::Handle,
    /// Calls other servers.
    pub outbound: outbound::Client,
    /// The key sets of Credentials.
    pub key_sets: Arc<KeySets>,
    /// Tokens, codes, sessions: what outlives a request, and what other proxies may have to see.
    pub store: store::Store,
    /// Access tokens for upstreams.
    pub upstream_tokens: upstream_oauth::Pool,
}

/// A plugin that is ready to run.
#[derive(Debug)]
pub enum Handler {
    /// [`jwt`]
    Jwt(Box<jwt::handler::Handler>),
    /// [`oauth2`]
    OAuth2(Box<oauth2::handler::Handler>),
    /// [`key_auth`]
    KeyAuth(key_auth::handler::Handler),
    /// [`openid_connect`]
    OpenidConnect(Box<openid_connect::handler::Handler>),
    /// [`any_of`]
    AnyOf(any_of::handler::Handler),
    /// [`acl`]
    Acl(acl::handler::Handler),
    /// [`upstream_oauth`]
    UpstreamOauth(Box<upstream_oauth::handler::Handler>),
}

impl Handler {
    /// Makes a handler of a configuration.
    ///
    /// # Errors
    /// The configuration does not hold together; the proxy refuses the plugin and closes its routes.
    pub fn build(config: Config, context: BuildContext<'_>) -> Result<Self, String> {
        match config {
            Config::Jwt(config) => {
                let handler = jwt::handler::Handler::build(config, context)?;
                Ok(Self::Jwt(Box::new(handler)))
            }
            Config::OAuth2(config) => {
                let handler = oauth2::handler::Handler::build(*config, context)?;
                Ok(Self::OAuth2(Box::new(handler)))
            }
            Config::KeyAuth(config) => {
                key_auth::handler::Handler::build(config, context).map(Self::KeyAuth)
            }
            Config::OpenidConnect(config) => {
                let handler = openid_connect::handler::Handler::build(*config, context)?;
                Ok(Self::OpenidConnect(Box::new(handler)))
            }
            Config::AnyOf(config) => {
                any_of::handler::Handler::build(config, context).map(Self::AnyOf)
            }
            Config::Acl(config) => acl::handler::Handler::build(config, context).map(Self::Acl),
            Config::UpstreamOauth(config) => {
                let handler = upstream_oauth::handler::Handler::build(*config, context)?;
                Ok(Self::UpstreamOauth(Box::new(handler)))
            }
        }
    }

    /// Sees the head of the upstream's answer to a request for which it set [`Exchange::watch`], and may change its headers.
    pub fn response(&self, status: StatusCode, _headers: &mut HeaderMap, watch: u64) {
        match self {
            Self::Jwt(_)
            | Self::OAuth2(_)
            | Self::KeyAuth(_)
            | Self::OpenidConnect(_)
            | Self::AnyOf(_)
            | Self::Acl(_) => {}
            Self::UpstreamOauth(handler) => handler.response(status, watch),
        }
    }

    /// Judges a request.
    pub async fn request<B: RequestBody>(&self, exchange: &mut Exchange<'_, B>) -> Verdict {
        match self {
            Self::Jwt(handler) => handler.request(exchange).await,
            // Rare and large: in boxes, so that other requests do not carry them about.
            Self::OAuth2(handler) => Box::pin(handler.request(exchange)).await,
            Self::KeyAuth(handler) => handler.request(exchange).await,
            Self::OpenidConnect(handler) => Box::pin(handler.request(exchange)).await,
            Self::AnyOf(handler) => Box::pin(handler.request(exchange)).await,
            Self::Acl(handler) => handler.request(exchange),
            Self::UpstreamOauth(handler) => Box::pin(handler.request(exchange)).await,
        }
    }
}
