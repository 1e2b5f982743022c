//! Bodies that are sent more than once: copied while they pass, or held to be sent again.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::mpsc;

use super::{Fault, Held, RequestBody, Source};

/// How many pieces may wait for whoever gets a copy. One that takes them more slowly than that gets no more.
const PIECES: usize = 32;

/// A body of which others get copies.
#[derive(Debug)]
pub(super) struct Tapped {
    pub(super) body: RequestBody,
    taps: Vec<mpsc::Sender<Piece>>,
}

/// A copy of another body.
#[derive(Debug)]
pub(super) struct Copy {
    pieces: mpsc::Receiver<Piece>,
    /// What is still to come, where that is known.
    left: Option<u64>,
    ended: bool,
}

/// A body of which a part has been read already.
#[derive(Debug)]
pub(super) struct Begun {
    data: Bytes,
    pub(super) rest: RequestBody,
}

/// A body that may be so long and no longer.
#[derive(Debug)]
pub(super) struct Limited {
    pub(super) body: RequestBody,
    left: u64,
}

#[derive(Debug)]
enum Piece {
    Data(Bytes),
    End,
}

impl RequestBody {
    /// So many copies of this body, which fill while it is read.
    pub(crate) fn copies(&mut self, count: usize) -> Vec<Self> {
        if self.is_end_stream() {
            return std::iter::repeat_with(Self::empty).take(count).collect();
        }
        let left = self.size_hint().exact();
        let (taps, copies) = std::iter::repeat_with(|| mpsc::channel(PIECES))
            .take(count)
            .map(|(tap, pieces)| {
                let copy = Copy {
                    pieces,
                    left,
                    ended: false,
                };
                (tap, Self::of(Source::Copy(Box::new(copy))))
            })
            .unzip();
        let body = std::mem::replace(self, Self::empty());
        self.progress = body.progress();
        self.source = Source::Tapped(Box::new(Tapped { body, taps }));
        copies
    }

    /// Reads the body, to be sent more than once; none where it is longer than `limit`: then it can be sent once, as before.
    pub(crate) async fn hold(&mut self, limit: usize) -> Result<Option<Repeated>, Fault> {
        let mut data = BytesMut::new();
        let mut trailers = None;
        if self.size_hint().lower() > limit as u64 {
            return Ok(None);
        }
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await {
            match frame?.into_data() {
                Ok(piece) => data.extend_from_slice(&piece),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
            if data.len() > limit {
                let rest = std::mem::replace(self, Self::empty());
                self.progress = rest.progress();
                let data = data.freeze();
                self.source = Source::Begun(Box::new(Begun { data, rest }));
                return Ok(None);
            }
        }
        Ok(Some(Repeated {
            data: data.freeze(),
            trailers,
        }))
    }

    /// Takes no more than so many bytes; false where it says itself that it is longer.
    pub(crate) fn limit(&mut self, most: u64) -> bool {
        if self.is_end_stream() {
            return true;
        }
        let hint = self.size_hint();
        if hint.lower() > most {
            return false;
        }
        if hint.exact().is_none() {
            let body = std::mem::replace(self, Self::empty());
            self.progress = body.progress();
            self.source = Source::Limited(Box::new(Limited { body, left: most }));
        }
        true
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            ..Self::empty()
        }
    }
}

/// A body that was read to its end.
#[derive(Debug)]
pub(crate) struct Repeated {
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl Repeated {
    /// The body, once more.
    pub(crate) fn body(&self) -> RequestBody {
        if self.data.is_empty() && self.trailers.is_none() {
            return RequestBody::empty();
        }
        let held = Held {
            data: self.data.clone(),
            trailers: self.trailers.clone(),
        };
        RequestBody::of(Source::Held(Box::new(held)))
    }
}

impl Tapped {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.taps
                        .retain(|tap| tap.try_send(Piece::Data(data.clone())).is_ok());
                }
                // Whoever reads a body whose end is known asks no further.
                if self.body.is_end_stream() {
                    self.end();
                }
            }
            Poll::Ready(None) => self.end(),
            // Without an end the copies break off, as this does.
            Poll::Ready(Some(Err(_))) => self.taps.clear(),
            Poll::Pending => {}
        }
        frame
    }

    fn end(&mut self) {
        for tap in self.taps.drain(..) {
            // One that cannot take the end breaks off.
            let _ = tap.try_send(Piece::End);
        }
    }
}

impl Copy {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(cx).map(|piece| match piece {
            Some(Piece::Data(data)) => {
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                Some(Ok(Frame::data(data)))
            }
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            None => Some(Err(Fault::Client)),
        })
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.ended || self.left == Some(0)
    }
}

impl Limited {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(self.body.fail(Fault::TooLong)))),
            }
        }
        frame
    }
}

impl Begun {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.data.is_empty() {
            return Pin::new(&mut self.rest).poll_frame(cx);
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.data)))))
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint();
        rest.exact().map_or_else(SizeHint::default, |rest| {
            SizeHint::with_exact(rest + self.data.len() as u64)
        })
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.rest.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(data: &'static [u8]) -> RequestBody {
        let repeated = Repeated {
            data: Bytes::from_static(data),
            trailers: None,
        };
        repeated.body()
    }

    async fn read(mut body: RequestBody) -> Result<Vec<u8>, Fault> {
        let mut all = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            all.extend(frame?.into_data().unwrap_or_default());
        }
        Ok(all)
    }

    #[tokio::test]
    async fn copies_are_equal() {
        let mut body = held(b"abc");
        let copies = body.copies(2);
        assert_eq!(copies[0].size_hint().exact(), Some(3));
        assert_eq!(read(body).await.unwrap(), b"abc");
        for copy in copies {
            assert_eq!(read(copy).await.unwrap(), b"abc");
        }
    }

    #[tokio::test]
    async fn a_copy_of_what_breaks_off_breaks_off() {
        let mut body = held(b"abc");
        let copy = body.copies(1).remove(0);
        drop(body);
        assert_eq!(read(copy).await, Err(Fault::Client));
    }

    #[tokio::test]
    async fn a_short_body_is_held_and_a_long_one_is_not() {
        let mut short = held(b"abc");
        let repeated = short.hold(3).await.unwrap().unwrap();
        assert_eq!(read(repeated.body()).await.unwrap(), b"abc");
        assert_eq!(read(repeated.body()).await.unwrap(), b"abc");
        let mut long = held(b"abcd");
        assert!(long.hold(3).await.unwrap().is_none());
        assert_eq!(read(long).await.unwrap(), b"abcd");
    }
}
