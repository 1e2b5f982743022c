//! Requests that are sent again because an upstream could not serve them, as a route says.

use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::pool::Lease;
use super::send::{Forward, forward};
use crate::body::{Fault, Repeated};
use crate::extras::Retry;
use crate::record::Record;
use crate::respond::{Failure, is_grpc};
use crate::runtime::Upstream;
use crate::worker::Worker;

/// Longer bodies are not held in memory: such a request is sent once.
const MAX_BODY: usize = 64 << 10;
/// The wait grows with every try, up to so many times the first.
const MAX_GROWTH: u32 = 10;
/// What is read of an answer that is not used, to keep its connection.
const MAX_DISCARDED: usize = 64 << 10;

/// The time that a route allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// For everything.
    pub(crate) deadline: Option<Instant>,
    /// For each try.
    pub(crate) each: Option<Duration>,
}

impl Times {
    /// When the response to a try that begins now must have begun.
    pub(crate) fn due(self) -> Option<Instant> {
        match self.each.map(|each| Instant::now() + each) {
            Some(due) => Some(self.deadline.map_or(due, |deadline| deadline.min(due))),
            None => self.deadline,
        }
    }
}

/// Forwards a request, and again while the upstream fails and the route allows it.
pub(crate) async fn persist(
    worker: &Worker,
    upstream: &Upstream,
    mut first: Forward,
    (retry, times): (&Retry, Times),
    record: &mut Record,
) -> Result<(Response<Incoming>, Lease), Failure> {
    // Streams wait for answers before they go on, and a change of protocol happens once.
    let once = first.upgrade.is_some() || is_grpc(&first.head.headers);
    let held = if once {
        None
    } else {
        first
            .body
            .hold(MAX_BODY)
            .await
            .map_err(|fault| match fault {
                Fault::TooSlow => Failure::BodyTimeout,
                Fault::TooLong => crate::extras::too_long(),
                _ => Failure::BadBody,
            })?
    };
    let Some(held) = held else {
        first.deadline = times.due();
        return forward(worker, upstream, first, record).await;
    };
    let mut asked = 0;
    let mut _again = None;
    for attempt in 0..=retry.attempts {
        record.attempts = 0;
        let again = copy(&first, &held, times.due());
        let answer = forward(worker, upstream, again, record).await;
        asked += u32::from(record.attempts);
        record.attempts = u8::try_from(asked).unwrap_or(u8::MAX);
        let over = attempt == retry.attempts || times.is_over();
        let wanted = !over
            && match &answer {
                Ok((response, _)) => retry.codes.contains(&response.status()),
                Err(failure) => failure.is_upstreams(),
            };
        if !wanted {
            return answer;
        }
        match upstream.again() {
            Ok(again) => _again = again,
            Err(_) => return answer,
        }
        if let Ok((response, lease)) = answer {
            discard(response.into_body(), lease).await;
        }
        let growth = (1 << attempt.min(8)).min(MAX_GROWTH);
        let wait = retry.backoff.saturating_mul(growth);
        if times.ends_within(wait) {
            tokio::time::sleep_until(times.deadline.unwrap_or_else(Instant::now)).await;
            return Err(Failure::ResponseTimeout);
        }
        worker.metrics.event(crate::metrics::Event::Retried);
        tokio::time::sleep(wait).await;
    }
    Err(Failure::Closed)
}

impl Times {
    fn is_over(self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    fn ends_within(self, wait: Duration) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() + wait >= deadline)
    }
}

fn copy(of: &Forward, body: &Repeated, deadline: Option<Instant>) -> Forward {
    let mut request = Request::new(());
    *request.method_mut() = of.head.method.clone();
    *request.uri_mut() = of.head.uri.clone();
    request.headers_mut().clone_from(&of.head.headers);
    let (head, ()) = request.into_parts();
    Forward {
        head,
        body: body.body(),
        upgrade: None,
        trailers: of.trailers,
        deadline,
        connector: of.connector.clone(),
        key: of.key,
        patience: of.patience,
    }
}

/// Reads a short answer that nobody wants to its end, so that its connection can be used again.
pub(crate) async fn discard(mut body: Incoming, lease: Lease) {
    use http_body::Body as _;
    let mut left = MAX_DISCARDED;
    loop {
        if body.is_end_stream() {
            break lease.release();
        }
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
        match frame {
            None => break lease.release(),
            Some(Err(_)) => break,
            Some(Ok(frame)) => {
                let read = frame.data_ref().map_or(0, bytes::Bytes::len);
                match left.checked_sub(read) {
                    Some(rest) => left = rest,
                    None => break,
                }
            }
        }
    }
}
