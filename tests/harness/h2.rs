//! HTTP/2: a client that keeps trailers, and an upstream that speaks gRPC's form.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::raw::Stream;
use crate::within;

type Body = BoxBody<Bytes, Infallible>;

/// A connection.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Body>,
    /// Ends with the connection.
    pub connection: JoinHandle<Result<(), hyper::Error>>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
}

impl Answer {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().expect("text"))
    }

    /// A value from the trailers, or where there are none, from the headers: gRPC's "trailers only".
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers
            .get(name)
            .or_else(|| self.headers.get(name))
            .map(|v| v.to_str().expect("text"))
    }
}

impl Client {
    /// With prior knowledge, in clear text.
    pub async fn open(port: u16) -> Self {
        let stream = within("a connection", TcpStream::connect(("127.0.0.1", port)))
            .await
            .expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        Self::over(stream).await
    }

    /// Over a stream that is open already.
    pub async fn over(stream: impl Stream + 'static) -> Self {
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = within("an HTTP/2 handshake", handshake)
            .await
            .expect("handshake");
        Self {
            sender,
            connection: tokio::spawn(connection),
        }
    }

    /// Sends a request without a body and reads the answer.
    pub async fn get(&mut self, url: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", url, headers, b"").await
    }

    /// Sends a request and reads the answer.
    pub async fn send(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let body = Full::new(Bytes::copy_from_slice(body)).boxed();
        self.try_send(method, url, headers, body)
            .await
            .expect("an answer")
    }

    /// Sends a request with any body.
    ///
    /// # Errors
    /// When the stream or the connection broke.
    pub async fn try_send(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Answer, hyper::Error> {
        read(self.start(method, url, headers, body).await?).await
    }

    /// Sends a request; the answer's body is still to be read.
    ///
    /// # Errors
    /// When the stream or the connection broke.
    pub async fn start(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        within("room for a stream", self.sender.ready()).await?;
        within(
            "an answer",
            self.sender
                .send_request(request.body(body).expect("a request")),
        )
        .await
    }
}

async fn read(answer: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, mut body) = answer.into_parts();
    let (mut bytes, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = within("a frame of the body", body.frame()).await {
        match frame?.into_data() {
            Ok(data) => bytes.extend(data),
            Err(frame) => trailers = frame.into_trailers().expect("trailers"),
        }
    }
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: bytes,
        trailers,
    })
}

/// A body of frames, trailers among them.
#[must_use]
pub fn frames(frames: Vec<Frame<Bytes>>) -> Body {
    let mut frames = frames.into_iter();
    StreamBody::new(futures_iter(move || frames.next().map(Ok))).boxed()
}

fn futures_iter<T>(mut next: impl FnMut() -> Option<T>) -> impl futures::Stream<Item = T> {
    futures::stream::poll_fn(move |_| std::task::Poll::Ready(next()))
}

/// What the upstream got.
#[derive(Debug, Clone)]
pub struct Seen {
    pub uri: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
}

/// An HTTP/2 upstream in clear text that answers in gRPC's form: a body, then `grpc-status: 0` as a trailer.
#[derive(Debug)]
pub struct GrpcUpstream {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl GrpcUpstream {
    /// Sends every body back.
    pub async fn start() -> Self {
        Self::answering(|seen| seen.body.clone()).await
    }

    /// Answers with the bodies of this function.
    pub async fn answering(answer: fn(&Seen) -> Vec<u8>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                let service = hyper::service::service_fn(move |request| {
                    serve(request, Arc::clone(&log), answer)
                });
                connections.spawn(async move {
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ended = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            port,
            seen,
            _tasks: tasks,
        }
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

async fn serve(
    request: Request<Incoming>,
    log: Arc<Mutex<Vec<Seen>>>,
    answer: fn(&Seen) -> Vec<u8>,
) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    #[expect(clippy::disallowed_methods, reason = "it is limited")]
    let whole = Limited::new(body, 1 << 20).collect().await.expect("a body");
    let trailers = whole.trailers().cloned().unwrap_or_default();
    let body = whole.to_bytes();
    let seen = Seen {
        uri: head.uri.to_string(),
        headers: head.headers,
        body: body.to_vec(),
        trailers,
    };
    let body = Bytes::from(answer(&seen));
    log.lock().push(seen);
    let mut end = HeaderMap::new();
    end.insert("grpc-status", "0".parse().expect("a value"));
    let body = frames(vec![Frame::data(body), Frame::trailers(end)]);
    Ok(Response::builder()
        .header("content-type", "application/grpc")
        .body(body)
        .expect("an answer"))
}
