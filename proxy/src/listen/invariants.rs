//! See `crate::invariants`.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::connections::State;
use super::frames::Frames;
use super::framing::Framing;
use super::proxied;

/// Bytes that come one by one.
struct Dripping<'b>(&'b [u8]);

impl AsyncRead for Dripping<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let [first, rest @ ..] = self.0 {
            buf.put_slice(&[*first]);
            self.0 = rest;
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads a header from bytes that are all there.
fn header(stream: &mut (impl AsyncRead + Unpin)) -> Option<Option<IpAddr>> {
    let reading = std::pin::pin!(proxied::read(stream));
    match reading.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(said) => said.ok(),
        Poll::Pending => unreachable!("all bytes are there"),
    }
}

/// How the bytes come does not matter, what is read is one header, and what follows it is left.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let (mut whole, mut dripping) = (bytes, Dripping(bytes));
    let said = header(&mut whole);
    assert_eq!(said, header(&mut dripping));
    if said.is_none() {
        return;
    }
    assert_eq!(whole.len(), dripping.0.len());
    let read = bytes.get(..bytes.len() - whole.len()).unwrap_or_default();
    assert!(
        read.starts_with(b"PROXY ") && read.ends_with(b"\r\n") || read.starts_with(b"\r\n\r\n")
    );
    assert_eq!(said, header(&mut &*read), "by itself");
}

/// How the bytes come does not matter, for whether they are refused and where.
pub(crate) fn framing(bytes: &[u8]) {
    let refused = |step: usize| {
        let (mut framing, state) = (Framing::new(), State::new());
        for (count, part) in bytes.chunks(step).enumerate() {
            if let Err(refused) = framing.scan(part, &state) {
                assert!(framing.is_dead() && refused.fine <= part.len());
                return true;
            }
            assert!(!framing.is_dead(), "after {count} parts");
        }
        false
    };
    let whole = refused(bytes.len().max(1));
    assert_eq!((whole, whole), (refused(1), refused(7)));
}

/// How the bytes come does not matter.
pub(crate) fn frames(bytes: &[u8]) {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let bytes = [PREFACE, bytes].concat();
    let refused = |step: usize| {
        let (mut frames, state) = (Frames::new(), State::new());
        bytes
            .chunks(step)
            .try_for_each(|part| frames.scan(part, &state))
            .is_err()
    };
    assert_eq!(refused(bytes.len()), refused(1));
}
