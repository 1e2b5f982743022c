//! The endpoint that explains, on the status port: for whoever can read the proxy's state folder, and nobody else.
//!
//! It answers to peers on the same machine only (a port-forward and `kubectl exec` are such), and to them only with the
//! token in the state folder. Either alone would not do: a sidecar or an upstream on loopback lends its address to
//! strangers, and a token may leak.

use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::past::past;
use super::{Error, Explanation, Question, explain};
use crate::refusals::Ring;
use crate::runtime::Runtime;
use crate::worker::Settings;

/// Where the endpoint is.
pub(crate) const PATH: &str = "/explain";

/// Name of the token's file in the state folder.
pub(super) const TOKEN_FILE: &str = "explain.token";

/// Longest question: a body in base64, and what is round it.
const LONGEST: usize = 4 << 20;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Order {
    Request(Question),
    RequestId(String),
}

/// An answer: status and JSON.
pub(crate) type Answer = (StatusCode, String);

/// Everything that an explanation needs.
#[derive(Debug)]
pub(crate) struct Explainer {
    /// SHA-256 of the token; none: nobody is answered.
    token: Option<digest::Digest>,
    runtime: Arc<ArcSwap<Runtime>>,
    settings: Arc<Settings>,
    refusals: Vec<Arc<Ring>>,
    /// One at a time: an explanation may take a while, and workers need the cores.
    turn: Semaphore,
}

impl Explainer {
    /// Puts a new token into the state folder. Without a folder, or where it cannot be written, nobody is answered.
    pub(crate) fn new(
        state_dir: Option<&Path>,
        runtime: Arc<ArcSwap<Runtime>>,
        settings: Arc<Settings>,
        refusals: Vec<Arc<Ring>>,
    ) -> Self {
        let token = state_dir.and_then(|folder| match new_token(&folder.join(TOKEN_FILE)) {
            Ok(token) => Some(token),
            Err(error) => {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "no token for `postern explain` can be kept: it is not available");
                None
            }
        });
        Self {
            token,
            runtime,
            settings,
            refusals,
            turn: Semaphore::new(1),
        }
    }

    /// Answers whoever may ask; None: here is nothing for this peer.
    pub(crate) async fn answer(
        self: Arc<Self>,
        peer: IpAddr,
        request: Request<Incoming>,
    ) -> Option<Answer> {
        if !is_near(peer) {
            return None;
        }
        if !self.knows(request.headers().get(AUTHORIZATION)?.as_bytes()) {
            let message = if self.token.is_some() {
                "the token is not that of this proxy: it is in explain.token in its state folder"
            } else {
                "explaining needs a state folder: start the proxy with --state-dir"
            };
            return Some(message_of(StatusCode::FORBIDDEN, message));
        }
        if request.method() != Method::POST {
            return Some(message_of(StatusCode::METHOD_NOT_ALLOWED, "only POST"));
        }
        #[expect(clippy::disallowed_methods, reason = "the body is Limited")]
        let body = Limited::new(request.into_body(), LONGEST).collect().await;
        let Ok(body) = body else {
            let message = "the question is too long, or did not arrive";
            return Some(message_of(StatusCode::BAD_REQUEST, message));
        };
        Some(self.obey(body.to_bytes()).await)
    }

    fn knows(&self, authorization: &[u8]) -> bool {
        let Some(token) = &self.token else {
            return false;
        };
        let given = authorization.strip_prefix(b"Bearer ").unwrap_or_default();
        let given = digest::digest(&digest::SHA256, given);
        constant_time::verify_slices_are_equal(given.as_ref(), token.as_ref()).is_ok()
    }

    async fn obey(self: Arc<Self>, body: Bytes) -> Answer {
        let Ok(order) = serde_json::from_slice(&body) else {
            // What serde says could quote a part of the request, and that may be a secret.
            return message_of(StatusCode::BAD_REQUEST, "this is no question");
        };
        let Ok(_turn) = self.turn.acquire().await else {
            return message_of(StatusCode::SERVICE_UNAVAILABLE, "the proxy is ending");
        };
        let work = Arc::clone(&self);
        // Whatever it takes, probes and scrapes are answered meanwhile.
        let answer = tokio::task::spawn_blocking(move || work.explanation(order)).await;
        answer
            .unwrap_or_else(|_| message_of(StatusCode::INTERNAL_SERVER_ERROR, "explaining failed"))
    }

    fn explanation(&self, order: Order) -> Answer {
        let runtime = self.runtime.load_full();
        match order {
            Order::RequestId(id) => {
                let mut rings = self.refusals.iter();
                match rings.find_map(|ring| ring.find(id.as_bytes())) {
                    Some(refused) => json(StatusCode::OK, &past(&refused, &runtime)),
                    None => message_of(
                        StatusCode::NOT_FOUND,
                        "this proxy remembers no refused request of this id: it may have passed, been refused by another \
                         proxy, or be too long ago",
                    ),
                }
            }
            Order::Request(question) => match explain(&runtime, &self.settings, &question) {
                Ok(explanation) => json::<Explanation>(StatusCode::OK, &explanation),
                Err(error @ (Error::Request(_) | Error::Port(_))) => {
                    message_of(StatusCode::BAD_REQUEST, &error.to_string())
                }
                Err(error @ Error::Thread(_)) => {
                    message_of(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
                }
            },
        }
    }
}

/// Whether a peer is on this machine.
fn is_near(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    // Plain structs do not fail.
    (status, serde_json::to_string(value).unwrap_or_default())
}

fn message_of(status: StatusCode, message: &str) -> Answer {
    (
        status,
        serde_json::json!({ "message": message }).to_string(),
    )
}

/// Writes a new token for the owner's eyes only, and returns its digest.
fn new_token(path: &Path) -> std::io::Result<digest::Digest> {
    let mut random = [0; 32];
    rand::fill(&mut random).map_err(|_| std::io::Error::other("the system has no random bytes"))?;
    let token = URL_SAFE_NO_PAD.encode(random);
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    std::io::Write::write_all(&mut options.open(&new)?, token.as_bytes())?;
    std::fs::rename(&new, path)?;
    Ok(digest::digest(&digest::SHA256, token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_the_machine_itself_is_near() {
        for (peer, near) in [
            ("127.0.0.1", true),
            ("127.8.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("0.0.0.0", false),
            ("169.254.1.1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(is_near(peer.parse().unwrap()), near, "{peer}");
        }
    }

    #[test]
    fn a_token_is_new_with_every_start_and_its_owners_alone() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join(TOKEN_FILE);
        std::fs::write(&path, "left behind").unwrap();
        let first = new_token(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), 43);
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        assert_eq!(digest.as_ref(), first.as_ref());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(new_token(&path).unwrap().as_ref(), first.as_ref());
        assert!(new_token(&folder.path().join("absent/token")).is_err());
    }
}
