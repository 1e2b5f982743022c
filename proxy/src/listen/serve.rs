//! One connection, from its first byte to its last.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;

use super::connections::{Stalls, State};
use super::frames::Frames;
use super::framing::Framing;
use super::passage::{self, Greeted};
use super::proxied;
use super::stream::{ClientStream, Scanner, Transport};
use crate::http::forwarded::{Peer, is_trusted};
use crate::metrics::Event;
use crate::pipeline;
use crate::sorting::Sorting;
use crate::worker::{LocalExecutor, Worker};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much of bodies may be on the way to upstreams, for one stream and for all streams of a connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// How much of a response may wait for a stream's client.
const SEND_BUFFER: usize = 64 << 10;

/// How long a connection that has said nothing yet may still begin when its listener is closed.
const LAST_CALL: Duration = Duration::from_millis(250);

/// What all requests of a connection share.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) worker: Rc<Worker>,
    pub(crate) peer: Peer,
    pub(crate) state: Arc<State>,
    /// With HTTP/2 only.
    pub(crate) stalls: Option<Rc<Stalls>>,
    /// Numbers of its requests.
    pub(crate) next: Cell<u32>,
    /// The host that the TLS handshake named, canonical.
    pub(crate) sni: Option<Box<str>>,
    /// The last other host that was found to belong to the same listener, and the snapshot that said so.
    pub(crate) also: RefCell<Option<(Box<str>, Arc<str>)>>,
}

/// Serves a connection until it ends.
pub(super) async fn serve(
    worker: Rc<Worker>,
    stream: TcpStream,
    from: SocketAddr,
    port: u16,
    permit: OwnedSemaphorePermit,
) {
    // Without it small answers would wait; a socket that refuses is gone, and the first read will say so.
    let _ = stream.set_nodelay(true);
    let Some((tls, sorting, public_port)) = worker.with_runtime(|runtime| {
        let port = runtime.ports.get(&port)?;
        Some((port.tls.clone(), port.sorting.clone(), port.public_port))
    }) else {
        return;
    };
    let secure = tls.is_some();
    let (accepted, closed) = if secure {
        (Event::TlsAccepted, Event::TlsClosed)
    } else {
        (Event::PlainAccepted, Event::PlainClosed)
    };
    worker.metrics.event(accepted);
    let state = State::new();
    let stalls = Rc::new(Stalls::default());
    let id = worker.connections.enter(&state, &stalls, port);
    let opened = tokio::select! {
        biased;
        opened = begin(&worker, (stream, from.ip()), tls, sorting) => opened,
        () = dismissed(&worker, id, &state) => None,
    };
    let (opened, client) = match opened {
        Some((first, client)) => (Some(first), client),
        None => (None, from.ip()),
    };
    if let Some(First::PassOn(client)) = opened {
        // What is not HTTP is no connection of ours to time or to end.
        worker.connections.leave(id);
        passage::pass_on(&worker, client, permit).await;
        worker.metrics.event(closed);
        return;
    }
    if let Some(First::Http(opened)) = opened {
        let peer = Peer::new(
            client,
            &worker.settings.trusted_proxies,
            secure,
            port,
            public_port,
        );
        let conn = Conn {
            worker: Rc::clone(&worker),
            peer,
            state,
            stalls: opened.http2.then_some(stalls),
            next: Cell::new(0),
            sni: opened.sni.clone(),
            also: RefCell::default(),
        };
        speak(Rc::new(conn), opened, id, permit).await;
    }
    worker.connections.leave(id);
    worker.metrics.event(closed);
}

/// Waits until a connection that has not begun yet is too late, or no longer wanted. A client whose bytes are on their way
/// already gets a moment.
async fn dismissed(worker: &Worker, id: u64, state: &State) {
    poll_fn(|cx| {
        worker.connections.set_waker(id, cx.waker());
        let over = state.kill.load(Relaxed) || state.retire.load(Relaxed);
        if over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    if !state.kill.load(Relaxed) {
        tokio::time::sleep(LAST_CALL).await;
    }
}

/// What a client begins with.
enum First {
    Http(Opened),
    /// Not HTTP.
    PassOn(Greeted),
}

/// A connection whose protocol is known.
struct Opened {
    transport: Transport,
    early: Bytes,
    http2: bool,
    sni: Option<Box<str>>,
}

/// Finds out who the client is, where a balancer says so, and what it begins with.
async fn begin(
    worker: &Worker,
    (mut stream, from): (TcpStream, IpAddr),
    tls: Option<Arc<rustls::ServerConfig>>,
    sorting: Option<Arc<Sorting>>,
) -> Option<(First, IpAddr)> {
    let mut client = from;
    if is_trusted(&worker.settings.proxy_protocol, from.to_canonical()) {
        match proxied::read(&mut stream).await {
            Ok(said) => client = said.unwrap_or(from),
            Err(error) => {
                tracing::debug!(%from, %error, "no header of the PROXY protocol");
                worker.metrics.event(Event::ProxyHeaderFailed);
                return None;
            }
        }
    }
    let first = open(worker, stream, tls, sorting).await?;
    Some((first, client))
}

async fn open(
    worker: &Worker,
    stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    sorting: Option<Arc<Sorting>>,
) -> Option<First> {
    let Some(config) = tls else {
        let mut stream = stream;
        let (early, http2) = peek(&mut stream).await?;
        return Some(First::Http(Opened {
            transport: Transport::Plain(stream),
            early,
            http2,
            sni: None,
        }));
    };
    if let Some(sorting) = sorting {
        return Some(
            match passage::greet(worker, stream, config, &sorting).await? {
                Greeted::Http(stream) => {
                    let (http2, sni) = agreed(stream.get_ref().1);
                    First::Http(Opened {
                        transport: Transport::Sorted(stream),
                        early: Bytes::new(),
                        http2,
                        sni,
                    })
                }
                other => First::PassOn(other),
            },
        );
    }
    let stream = match TlsAcceptor::from(config).accept(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "TLS handshake failed");
            worker.metrics.event(Event::HandshakeFailed);
            return None;
        }
    };
    let (http2, sni) = agreed(stream.get_ref().1);
    Some(First::Http(Opened {
        transport: Transport::Tls(Box::new(stream)),
        early: Bytes::new(),
        http2,
        sni,
    }))
}

/// Whether a handshake agreed on HTTP/2, and the host that it named.
fn agreed(session: &rustls::ServerConnection) -> (bool, Option<Box<str>>) {
    let http2 = session.alpn_protocol() == Some(b"h2");
    let sni = session.server_name().map(|name| {
        name.trim_end_matches('.')
            .to_ascii_lowercase()
            .into_boxed_str()
    });
    (http2, sni)
}

/// Reads until it is clear whether the client begins with HTTP/2's preface.
async fn peek(stream: &mut TcpStream) -> Option<(Bytes, bool)> {
    let mut early = BytesMut::with_capacity(4096);
    loop {
        if stream.read_buf(&mut early).await.ok()? == 0 {
            return None;
        }
        let compared = early.len().min(PREFACE.len());
        if early.get(..compared) != PREFACE.get(..compared) {
            return Some((early.freeze(), false));
        }
        if compared == PREFACE.len() {
            return Some((early.freeze(), true));
        }
    }
}

async fn speak(conn: Rc<Conn>, opened: Opened, id: u64, permit: OwnedSemaphorePermit) {
    let Opened {
        transport,
        early,
        http2,
        ..
    } = opened;
    conn.state.await_request();
    let scanner = if http2 {
        Scanner::Http2(Frames::new())
    } else {
        Scanner::Http1(Framing::new())
    };
    let io = TokioIo::new(ClientStream::new(
        transport,
        early,
        scanner,
        Arc::clone(&conn.state),
        permit,
    ));
    let limits = &conn.worker.settings.limits;
    let serve = {
        let conn = Rc::clone(&conn);
        move |request: Request<Incoming>| {
            let conn = Rc::clone(&conn);
            async move { Ok::<_, Infallible>(pipeline::serve(conn, request).await) }
        }
    };
    if http2 {
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_streams)
            .max_header_list_size(limits.max_header_bytes)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        // Every request becomes a task, and what a task is made of is moved several times.
        let service = service_fn(move |request| Box::pin(serve(request)));
        let serving = pin!(builder.serve_connection(io, service));
        drive(&conn, id, serving, http2::Connection::graceful_shutdown).await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .half_close(false)
            .header_read_timeout(None)
            .max_header_size(limits.max_header_bytes as usize)
            .max_buf_size((limits.max_header_bytes as usize).max(64 << 10));
        let serving = pin!(
            builder
                .serve_connection(io, service_fn(serve))
                .with_upgrades()
        );
        drive(
            &conn,
            id,
            serving,
            http1::UpgradeableConnection::graceful_shutdown,
        )
        .await;
    }
}

/// Polls a connection until it ends, is told to go, or is late.
async fn drive<C>(conn: &Conn, id: u64, mut serving: Pin<&mut C>, retire: impl Fn(Pin<&mut C>))
where
    C: Future<Output = hyper::Result<()>>,
{
    let (mut known, mut retired) = (false, false);
    poll_fn(|cx| {
        if !known {
            known = true;
            // A task keeps its waker for life.
            conn.worker.connections.set_waker(id, cx.waker());
        }
        if conn.state.kill.load(Relaxed) {
            return Poll::Ready(());
        }
        let mut ended = serving.as_mut().poll(cx);
        // After hyper has seen what the client sent already: that is still served.
        if ended.is_pending() && !retired && conn.state.retire.load(Relaxed) {
            retired = true;
            retire(serving.as_mut());
            ended = serving.as_mut().poll(cx);
        }
        ended.map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(client = %conn.peer.ip, %error, "connection failed");
            }
        })
    })
    .await;
}
