//! What a plugin does to a request, and what it may touch while doing so.
//!
//! Handlers are built once, when the snapshot arrives, and dispatched statically. A handler reads and changes the
//! request through [`Exchange`], says who calls in [`Caller`] and returns a [`Verdict`]; it writes no response and no
//! identity header itself, so that there is one place for each.

use std::borrow::Cow;
use std::future::Future;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, request};

use crate::directory::{ConsumerRef, CredentialId, Directory, Namespaces};
use crate::{Config, acl, jwt, key_auth};

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
    /// The challenge of a plugin that let the request pass unauthenticated, for one that then asks who calls.
    pub challenge: Option<HeaderValue>,
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
    /// The `WWW-Authenticate` challenge.
    pub challenge: Option<HeaderValue>,
    /// Short and constant, for the log and the metric: "no_key", "unknown_key", "expired" …
    pub reason: &'static str,
}

/// What a handler is built from.
#[derive(Debug)]
pub struct BuildContext<'a> {
    /// Key of the plugin in the snapshot, "Plugin/<namespace>/<name>".
    pub key: &'a str,
    /// Whose credentials count.
    pub namespaces: Namespaces,
    /// The Consumer of `anonymous`, as "Consumer/<namespace>/<name>", whether or not it exists.
    pub anonymous: Option<&'a str>,
}

/// A plugin that is ready to run.
#[derive(Debug)]
pub enum Handler {
    /// [`jwt`]
    Jwt(Box<jwt::handler::Handler>),
    /// [`key_auth`]
    KeyAuth(key_auth::handler::Handler),
    /// [`acl`]
    Acl(acl::handler::Handler),
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
            Config::KeyAuth(config) => {
                key_auth::handler::Handler::build(config, context).map(Self::KeyAuth)
            }
            Config::Acl(config) => acl::handler::Handler::build(config, context).map(Self::Acl),
        }
    }

    /// Judges a request.
    pub async fn request<B: RequestBody>(&self, exchange: &mut Exchange<'_, B>) -> Verdict {
        match self {
            Self::Jwt(handler) => handler.request(exchange),
            Self::KeyAuth(handler) => handler.request(exchange).await,
            Self::Acl(handler) => handler.request(exchange),
        }
    }
}
