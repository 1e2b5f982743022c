//! The bodies of both directions. Neither is boxed, neither is held in memory unless a plugin asks for it.

mod taps;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use plugins::handler::BodyError;
use tokio::time::{Instant, Sleep};

use crate::http::names::{Class, classify};
use crate::upstream::Lease;
use crate::visit::Visit;
pub(crate) use taps::Repeated;
use taps::{Begun, Copy, Limited, Tapped};

/// What went wrong with a body that is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The client broke off, or broke a rule.
    #[error("the request's body is broken")]
    Client,
    /// The client sends more than the route allows.
    #[error("the request's body is too long")]
    TooLong,
    /// The client was too slow.
    #[error("the request's body did not arrive in time")]
    TooSlow,
    /// The upstream broke off, or broke a rule.
    #[error("the response's body is broken")]
    Upstream,
    /// The time that the route allows is over.
    #[error("the response did not end in time")]
    Deadline,
}

/// How far a request's body has come; read by whoever waits for the response.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// What went wrong on the client's side.
    pub(crate) fault: Cell<Option<Fault>>,
    /// Nothing more is to be sent.
    pub(crate) done: Cell<bool>,
    /// Pieces that the upstream's connection has taken.
    pub(crate) taken: Cell<u32>,
    /// The next one is the client's to send.
    pub(crate) owed: Cell<bool>,
}

/// A request's body.
#[derive(Debug)]
pub(crate) struct RequestBody {
    source: Source,
    progress: Option<Rc<Progress>>,
    timeout: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

#[derive(Debug)]
enum Source {
    Empty,
    Client(Incoming),
    Held(Box<Held>),
    Tapped(Box<Tapped>),
    Copy(Box<Copy>),
    Begun(Box<Begun>),
    Limited(Box<Limited>),
}

/// Rare and large: behind a pointer, because bodies are moved often.
#[derive(Debug)]
struct Held {
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl RequestBody {
    /// Passes a client's body on.
    pub(crate) fn new(incoming: Incoming, timeout: Duration) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let progress = Some(Rc::default());
        Self {
            source: Source::Client(incoming),
            progress,
            timeout,
            sleep: None,
            waiting: false,
        }
    }

    pub(crate) fn empty() -> Self {
        Self {
            source: Source::Empty,
            progress: None,
            timeout: Duration::ZERO,
            sleep: None,
            waiting: false,
        }
    }

    /// What is there already.
    pub(crate) fn held(data: Bytes) -> Self {
        let mut body = Self::empty();
        if !data.is_empty() {
            plugins::handler::RequestBody::replace(&mut body, data);
        }
        body
    }

    /// How long it is, where it is there already.
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.source {
            Source::Held(held) => held.data.len(),
            _ => 0,
        }
    }

    /// None: there is nothing to send.
    pub(crate) fn progress(&self) -> Option<Rc<Progress>> {
        self.progress.clone()
    }

    fn fail(&self, fault: Fault) -> Fault {
        if let Some(progress) = &self.progress {
            progress.fault.set(Some(fault));
        }
        fault
    }

    /// Notes that the upstream's connection asked for more, and whether the client has to send it first.
    fn pass(&self, owed: bool) {
        if let Some(progress) = &self.progress {
            progress.owed.set(owed);
            let more = u32::from(!owed);
            progress.taken.set(progress.taken.get().wrapping_add(more));
        }
    }

    fn finish(&self) {
        if let Some(progress) = &self.progress {
            progress.done.set(true);
        }
    }

    /// Whether the client let too much time pass since it last sent something.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        let until = || Instant::now() + self.timeout;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until())));
        if !self.waiting {
            self.waiting = true;
            sleep.as_mut().reset(Instant::now() + self.timeout);
        }
        sleep.as_mut().poll(cx).is_ready()
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Source::Client(incoming) = &mut self.source else {
            return Poll::Ready(None);
        };
        match Pin::new(incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.waiting = false;
                self.pass(false);
                if self.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(clean(frame))))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(self.fail(Fault::Client)))),
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending if self.poll_too_slow(cx) => {
                Poll::Ready(Some(Err(self.fail(Fault::TooSlow))))
            }
            Poll::Pending => {
                self.pass(true);
                Poll::Pending
            }
        }
    }
}

/// Trailers become headers in some upstreams: what would not pass as a header does not pass here.
fn clean(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(trailers) => Frame::trailers(clean_trailers(trailers)),
        Err(frame) => frame,
    }
}

fn clean_trailers(mut trailers: HeaderMap) -> HeaderMap {
    let unfit: Vec<_> = trailers
        .keys()
        .filter(|name| classify(name) != Class::Other)
        .cloned()
        .collect();
    for name in unfit {
        trailers.remove(name);
    }
    trailers
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Client(_) => self.poll_client(cx),
            Source::Held(held) => {
                let frame = if held.data.is_empty() {
                    held.trailers.take().map(Frame::trailers)
                } else {
                    Some(Frame::data(std::mem::take(&mut held.data)))
                };
                if frame.is_none() {
                    self.finish();
                }
                Poll::Ready(frame.map(Ok))
            }
            Source::Tapped(tapped) => tapped.poll_frame(cx),
            Source::Copy(copy) => copy.poll_frame(cx),
            Source::Begun(begun) => begun.poll_frame(cx),
            Source::Limited(limited) => limited.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Client(incoming) => incoming.is_end_stream(),
            Source::Held(held) => held.data.is_empty() && held.trailers.is_none(),
            Source::Tapped(tapped) => tapped.body.is_end_stream(),
            Source::Copy(copy) => copy.is_end_stream(),
            Source::Begun(begun) => begun.is_end_stream(),
            Source::Limited(limited) => limited.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Client(incoming) => incoming.size_hint(),
            Source::Held(held) if held.trailers.is_none() => {
                SizeHint::with_exact(held.data.len() as u64)
            }
            Source::Held(_) => SizeHint::default(),
            Source::Tapped(tapped) => tapped.body.size_hint(),
            Source::Copy(copy) => copy.size_hint(),
            Source::Begun(begun) => begun.size_hint(),
            Source::Limited(limited) => limited.body.size_hint(),
        }
    }
}

impl plugins::handler::RequestBody for RequestBody {
    async fn buffer(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        if let Source::Held(held) = &self.source {
            let data = &held.data;
            return if data.len() > limit {
                Err(BodyError::TooLong)
            } else {
                Ok(data.clone())
            };
        }
        if self.size_hint().lower() > limit as u64 {
            return Err(BodyError::TooLong);
        }
        let mut held = BytesMut::new();
        let mut last = None;
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await {
            match frame.map_err(|_| BodyError::Incomplete)?.into_data() {
                Ok(data) if held.len() + data.len() > limit => return Err(BodyError::TooLong),
                Ok(data) => held.extend_from_slice(&data),
                Err(frame) => last = frame.into_trailers().ok(),
            }
        }
        let data = held.freeze();
        let held = Held {
            data: data.clone(),
            trailers: last,
        };
        self.source = Source::Held(Box::new(held));
        Ok(data)
    }

    fn replace(&mut self, body: Bytes) {
        let held = Held {
            data: body,
            trailers: None,
        };
        self.source = Source::Held(Box::new(held));
    }
}

/// A response's body. When it is dropped the request is over: it is logged, and its upstream connection goes back.
#[derive(Debug)]
pub(crate) struct Body {
    content: Content,
    visit: Option<Visit>,
}

#[derive(Debug)]
enum Content {
    Done,
    Own(Bytes),
    Upstream {
        incoming: Incoming,
        lease: Lease,
        deadline: Option<Pin<Box<Sleep>>>,
    },
}

impl Body {
    pub(crate) const fn empty() -> Self {
        Self {
            content: Content::Done,
            visit: None,
        }
    }

    pub(crate) const fn full(data: Bytes) -> Self {
        Self {
            content: Content::Own(data),
            visit: None,
        }
    }

    /// Passes an upstream's body on.
    pub(crate) fn upstream(incoming: Incoming, lease: Lease, deadline: Option<Instant>) -> Self {
        if incoming.is_end_stream() {
            lease.release();
            return Self::empty();
        }
        let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        Self {
            content: Content::Upstream {
                incoming,
                lease,
                deadline,
            },
            visit: None,
        }
    }

    /// The request ends when this body does.
    pub(crate) fn accompany(&mut self, visit: Visit) {
        self.visit = Some(visit);
    }

    fn end(&mut self) {
        if let Content::Upstream { lease, .. } = std::mem::replace(&mut self.content, Content::Done)
        {
            lease.release();
        }
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.content = Content::Done;
        if let Some(visit) = &mut self.visit {
            visit.record.aborted = true;
            visit.record.failure = Some(match fault {
                Fault::Deadline => "deadline",
                _ => "broken_response",
            });
        }
        // Dropped here, so that nothing later can take it for complete.
        self.visit = None;
        fault
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        if let Some(visit) = &this.visit {
            visit.sent();
        }
        let frame = match &mut this.content {
            Content::Done => None,
            Content::Own(data) => {
                let data = std::mem::take(data);
                this.content = Content::Done;
                Some(Ok(Frame::data(data)))
            }
            Content::Upstream {
                incoming, deadline, ..
            } => match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    if let Some(deadline) = deadline {
                        ready!(deadline.as_mut().poll(cx));
                        return Poll::Ready(Some(Err(this.fail(Fault::Deadline))));
                    }
                    return Poll::Pending;
                }
            },
        };
        match frame {
            None => this.end(),
            Some(Err(_)) => return Poll::Ready(Some(Err(this.fail(Fault::Upstream)))),
            Some(Ok(frame)) => {
                if let (Some(visit), Some(data)) = (&mut this.visit, frame.data_ref()) {
                    visit.sends(data.len());
                }
                return Poll::Ready(Some(Ok(frame)));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Done => true,
            Content::Own(data) => data.is_empty(),
            Content::Upstream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Done => SizeHint::with_exact(0),
            Content::Own(data) => SizeHint::with_exact(data.len() as u64),
            Content::Upstream { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let complete = self.is_end_stream();
        if complete {
            self.end();
        }
        if let Some(visit) = &mut self.visit {
            visit.record.aborted |= !complete;
        }
    }
}
