//! Happy eyeballs (RFC 8305): a connection to whichever address takes one first.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;

/// How long one address may take before the next is tried beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Tries each address a little later than the one before it, or when that has failed; the first connection wins.
///
/// # Errors
///
/// The last one, where all have failed; `AddrNotAvailable` where there is none.
pub async fn race(addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter().peekable();
    let mut running = FuturesUnordered::new();
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    loop {
        if let Some(address) = waiting.next() {
            running.push(TcpStream::connect(address));
        }
        let more = waiting.peek().is_some();
        tokio::select! {
            tried = running.next() => match tried {
                Some(Ok(stream)) => {
                    // Without it small writes would wait; a socket that refuses is gone, and the first write will say so.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some(Err(error)) => last = error,
                None => return Err(last),
            },
            () = tokio::time::sleep(STAGGER), if more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;

    /// An address where nobody answers: its queue is full, and what else comes is dropped.
    fn black_hole() -> (SocketAddr, Socket, std::net::TcpStream) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let full = std::net::TcpStream::connect(address).unwrap();
        (address, socket, full)
    }

    #[tokio::test]
    async fn who_does_not_answer_or_refuses_is_not_waited_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let good = listener.local_addr().unwrap();
        let refusing = {
            let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            gone.local_addr().unwrap()
        };
        let (silent, _socket, _full) = black_hole();
        for addresses in [
            vec![good],
            vec![refusing, good],
            vec![silent, good],
            vec![silent, refusing, good],
        ] {
            let stream = race(addresses).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good);
        }
        let refused = race([refusing, refusing]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let none = race([]).await.unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
