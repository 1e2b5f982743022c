//! The last requests that were refused, for `postern explain --request-id`.
//!
//! Each worker has a ring of its own and is the only one to write it. A request that passes costs nothing here; one that is
//! refused costs a small allocation. What is kept holds no value of a header and none of a query: any of them may be a
//! secret.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwapOption;
use http::header::HOST;
use http::{HeaderName, HeaderValue, Method, StatusCode, request};

use crate::http::forwarded::Peer;
use crate::http::request_id::RequestId;
use crate::log;
use crate::record::{Record, Verdicts};
use crate::respond::Failure;
use crate::runtime::{Attached, Listener};

/// How many refusals each worker remembers.
pub(crate) const KEPT: usize = 512;
/// How many names of headers are remembered of each.
const HEADERS: usize = 64;
/// Longer paths are cut.
const LONGEST: usize = 1024;

/// A request that was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Seconds since 1970.
    pub(crate) at: i64,
    pub(crate) id: HeaderValue,
    pub(crate) method: Method,
    pub(crate) host: Option<HeaderValue>,
    pub(crate) path: Box<str>,
    /// Names of the query's parameters: "apikey=*&page=*".
    pub(crate) query: Option<Box<str>>,
    pub(crate) headers: Box<[HeaderName]>,
    pub(crate) client: IpAddr,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    pub(crate) served: Option<Served>,
    pub(crate) verdicts: Verdicts,
    pub(crate) consumer: Option<Box<str>>,
    pub(crate) anonymous: bool,
    pub(crate) status: StatusCode,
    pub(crate) failure: &'static str,
    pub(crate) message: Box<str>,
    pub(crate) challenges: Box<[HeaderValue]>,
    pub(crate) cause: Option<Arc<str>>,
}

/// The rule that was to serve it.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) route: Arc<str>,
    pub(crate) rule: Arc<str>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) plugins: Arc<Attached>,
    /// Name of the backend that was chosen.
    pub(crate) upstream: Option<Arc<str>>,
}

impl Refused {
    pub(crate) fn new(
        failure: &Failure,
        head: &request::Parts,
        id: &RequestId,
        (peer, client): (&Peer, IpAddr),
        record: &Record,
    ) -> Self {
        let served = record.rule.as_ref().map(|rule| {
            let backend = record.backend.and_then(|index| rule.backends.get(index));
            let upstream = backend.and_then(|backend| backend.upstream.as_ref());
            Served {
                route: Arc::clone(&rule.route),
                rule: Arc::clone(&rule.name),
                listener: Arc::clone(&rule.listener),
                plugins: Arc::clone(&rule.plugins),
                upstream: upstream.map(|upstream| Arc::clone(&upstream.name)),
            }
        });
        let consumer = record.consumer.as_ref();
        // As it came, where the access log wants to know that too: a plugin may have hidden something since.
        let came = record
            .details
            .as_ref()
            .and_then(|details| details.target.as_ref());
        let (path, query) = match came {
            Some(target) => (target.path(), target.query()),
            None => (head.uri.path(), head.uri.query()),
        };
        let challenges = match failure {
            Failure::Refused(refusal) => refusal.challenges.as_slice().into(),
            _ => Box::default(),
        };
        Self {
            at: crate::clock::unix(),
            id: id.header(),
            method: head.method.clone(),
            host: head.headers.get(HOST).cloned(),
            path: path.chars().take(LONGEST).collect(),
            query: query.map(|query| log::redacted(query).into()),
            headers: head.headers.keys().take(HEADERS).cloned().collect(),
            client,
            port: peer.port,
            tls: peer.tls,
            served,
            verdicts: record.verdicts.clone(),
            consumer: consumer.map(|consumer| consumer.username().into()),
            anonymous: record.anonymous,
            status: failure.status(),
            failure: failure.label(),
            message: failure.message().into(),
            challenges,
            cause: match failure {
                Failure::Incomplete(why) => Some(Arc::clone(why)),
                _ => None,
            },
        }
    }
}

/// What one worker remembers.
#[derive(Debug)]
pub(crate) struct Ring {
    places: Box<[ArcSwapOption<Refused>]>,
    next: AtomicUsize,
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            places: (0..KEPT).map(|_| ArcSwapOption::empty()).collect(),
            next: AtomicUsize::new(0),
        }
    }
}

impl Ring {
    /// Remembers a refusal, and forgets the oldest one for it. Only its worker's thread may call this.
    pub(crate) fn push(&self, refused: Refused) {
        let next = self.next.load(Relaxed);
        self.next.store(next.wrapping_add(1) % KEPT, Relaxed);
        if let Some(place) = self.places.get(next) {
            place.store(Some(Arc::new(refused)));
        }
    }

    /// The newest refusal of the request with this id.
    pub(crate) fn find(&self, id: &[u8]) -> Option<Arc<Refused>> {
        let next = self.next.load(Relaxed);
        let (newer, older) = self.places.split_at_checked(next)?;
        newer
            .iter()
            .rev()
            .chain(older.iter().rev())
            .filter_map(ArcSwapOption::load_full)
            .find(|refused| refused.id.as_bytes() == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(id: usize, path: &str) -> Refused {
        Refused {
            at: 0,
            id: HeaderValue::from(id),
            method: Method::GET,
            host: None,
            path: path.into(),
            query: None,
            headers: Box::default(),
            client: IpAddr::from([127, 0, 0, 1]),
            port: 80,
            tls: false,
            served: None,
            verdicts: Verdicts::new(),
            consumer: None,
            anonymous: false,
            status: StatusCode::NOT_FOUND,
            failure: "no_route",
            message: Box::default(),
            challenges: Box::default(),
            cause: None,
        }
    }

    #[test]
    fn the_newest_refusals_are_remembered() {
        let ring = Ring::default();
        assert!(ring.find(b"0").is_none());
        for id in 0..KEPT + 10 {
            ring.push(refused(id, "/"));
        }
        for (id, there) in [
            (0, false),
            (9, false),
            (10, true),
            (KEPT, true),
            (KEPT + 9, true),
        ] {
            let found = ring.find(id.to_string().as_bytes());
            assert_eq!(found.is_some(), there, "{id}");
        }
        // Clients that a trusted proxy vouches for choose their ids: the newest one of an id counts.
        ring.push(refused(KEPT, "/again"));
        assert_eq!(
            &*ring.find(KEPT.to_string().as_bytes()).unwrap().path,
            "/again"
        );
    }
}
