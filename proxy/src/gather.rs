//! Short messages in one piece: one buffer costs the kernel less than several, by more than the copy does.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest message that is gathered.
const SHORT: usize = 2048;

/// Writes to a stream that can take several buffers at once.
pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buffers: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    if let [only] = buffers {
        return stream.poll_write(cx, only);
    }
    if buffers.iter().map(|buffer| buffer.len()).sum::<usize>() > SHORT {
        return stream.poll_write_vectored(cx, buffers);
    }
    let mut whole: SmallVec<[u8; SHORT]> = SmallVec::new();
    for buffer in buffers {
        whole.extend_from_slice(buffer);
    }
    stream.poll_write(cx, &whole)
}

/// A stream that is written to like this.
#[derive(Debug)]
pub(crate) struct Gathered<S>(pub(crate) S);

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write(&mut self.0, cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn every_byte_arrives_in_order() {
        for parts in [
            vec![vec![1; 10]],
            vec![vec![1; 300], vec![2; 128]],
            vec![vec![1; 300], vec![2; 100_000], vec![3; 7]],
            vec![vec![], vec![9; SHORT], vec![]],
        ] {
            let (near, mut far) = tokio::io::duplex(1000);
            let whole = parts.concat();
            let writing = tokio::spawn(async move {
                let mut near = Gathered(near);
                let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
                let mut slices = slices.as_mut_slice();
                while slices.iter().any(|slice| !slice.is_empty()) {
                    let written = near.write_vectored(slices).await.unwrap();
                    IoSlice::advance_slices(&mut slices, written);
                }
            });
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            writing.await.unwrap();
            assert_eq!(got, whole);
        }
    }
}
