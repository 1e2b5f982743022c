//! A client that sends bytes as they are, and reads HTTP/1.1 answers strictly.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::message::{Answer, Headers, parse_head, parse_line};
use crate::within;

/// Anything that bytes go through.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to the gateway, or of the gateway to an upstream.
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// Connects to a port of 127.0.0.1.
    pub async fn open(port: u16) -> Self {
        let stream = within("a connection", TcpStream::connect(("127.0.0.1", port)))
            .await
            .expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        Self::over(stream)
    }

    /// Over a stream that is open already.
    pub fn over(stream: impl Stream + 'static) -> Self {
        Self {
            stream: BufReader::new(Box::new(stream)),
        }
    }

    /// Sends bytes. An error is not reported: the other side may have closed, and what it said counts.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _closed = self.stream.write_all(bytes.as_ref()).await;
        let _closed = self.stream.flush().await;
        self
    }

    /// Sends bytes; false when the other side takes no more.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Says that nothing more comes.
    pub async fn finish(&mut self) {
        let _closed = self.stream.shutdown().await;
    }

    /// Exactly so many bytes.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        within("bytes", self.stream.read_exact(&mut bytes))
            .await
            .expect("bytes");
        bytes
    }

    /// What comes next; empty at the end.
    pub async fn some(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let count = within("some bytes", self.stream.read(&mut bytes))
            .await
            .unwrap_or(0);
        bytes.truncate(count);
        bytes
    }

    /// Everything up to the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _reset = within(
            "the end of the connection",
            self.stream.read_to_end(&mut bytes),
        )
        .await;
        bytes
    }

    /// Whether the other side sends nothing for a while, and keeps the connection.
    pub async fn silent(&mut self, a_while: Duration) -> bool {
        tokio::time::timeout(a_while, self.stream.fill_buf())
            .await
            .is_err()
    }

    /// Whether the other side has closed; waits for that or for bytes.
    pub async fn at_end(&mut self) -> bool {
        within("the end of the connection", self.stream.fill_buf())
            .await
            .map_or(true, <[u8]>::is_empty)
    }

    /// The next head, up to and with its empty line; None at the end of the connection.
    pub async fn head(&mut self) -> Option<Vec<u8>> {
        let mut head = Vec::new();
        loop {
            let read = within("a head", self.stream.read_until(b'\n', &mut head))
                .await
                .unwrap_or(0);
            if read == 0 {
                assert!(
                    head.is_empty(),
                    "the connection ended inside a head: {:?}",
                    String::from_utf8_lossy(&head)
                );
                return None;
            }
            if head.ends_with(b"\r\n\r\n") {
                return Some(head);
            }
        }
    }

    /// As [`Self::head`], but waits as long as it takes; None also when the connection breaks.
    pub async fn idle(&mut self) -> Option<Vec<u8>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read_until(b'\n', &mut head).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        Some(head)
    }

    /// Reads and forgets until the other side closes.
    pub async fn hold(&mut self) {
        let mut bytes = vec![0; 65_536];
        while self.stream.read(&mut bytes).await.unwrap_or(0) > 0 {}
    }

    /// The answer to a request of that method.
    ///
    /// # Panics
    /// When none comes, or one that HTTP/1.1 does not allow.
    pub async fn answer_to(&mut self, method: &str) -> Answer {
        let mut informational = Vec::new();
        loop {
            let head = self
                .head()
                .await
                .expect("an answer, not the end of the connection");
            let (line, headers) = parse_head(&head);
            let status: u16 = line
                .split(' ')
                .nth(1)
                .and_then(|s| s.parse().ok())
                .unwrap_or_else(|| panic!("no status: {line:?}"));
            if status < 200 && status != 101 {
                informational.push((status, headers));
                continue;
            }
            let (body, trailers, closed) = self.body(method, status, &headers).await;
            return Answer {
                status,
                headers,
                body,
                trailers,
                informational,
                closed,
            };
        }
    }

    /// The answer to a GET or POST.
    pub async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    async fn body(
        &mut self,
        method: &str,
        status: u16,
        headers: &Headers,
    ) -> (Vec<u8>, Headers, bool) {
        let value = |name: &str| {
            headers
                .iter()
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, v)| v.as_str())
        };
        let close = value("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        if method == "HEAD"
            || method == "CONNECT"
            || status == 101
            || status == 204
            || status == 304
        {
            return (Vec::new(), Vec::new(), close);
        }
        if value("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            assert!(
                value("content-length").is_none(),
                "both lengths: {headers:?}"
            );
            let (body, trailers) = self.chunks().await;
            return (body, trailers, close);
        }
        if let Some(length) = value("content-length") {
            return (
                self.bytes(length.parse().expect("a length")).await,
                Vec::new(),
                close,
            );
        }
        (self.rest().await, Vec::new(), true)
    }

    /// A chunked body and its trailers.
    ///
    /// # Panics
    /// When a size is none.
    pub async fn chunks(&mut self) -> (Vec<u8>, Headers) {
        let mut body = Vec::new();
        loop {
            let line = self.line().await;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
                .unwrap_or_else(|_| panic!("no chunk size: {line:?}"));
            if size == 0 {
                break;
            }
            body.extend(self.bytes(size).await);
            assert_eq!(self.line().await, "", "after a chunk");
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                return (body, trailers);
            }
            trailers.push(parse_line(&line));
        }
    }

    /// A line, without its end.
    pub async fn line(&mut self) -> String {
        let mut line = Vec::new();
        within("a line", self.stream.read_until(b'\n', &mut line))
            .await
            .expect("a line");
        assert!(
            line.ends_with(b"\r\n"),
            "no line: {:?}",
            String::from_utf8_lossy(&line)
        );
        line.truncate(line.len() - 2);
        line.iter().map(|&b| char::from(b)).collect()
    }

    /// Sends a request of one go and reads the answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        let bytes = request.as_ref();
        let method =
            String::from_utf8_lossy(bytes.split(|&b| b == b' ').next().unwrap_or_default())
                .into_owned();
        self.send(bytes).await;
        self.answer_to(&method).await
    }
}

/// A GET without a body.
#[must_use]
pub fn get(host: &str, target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    request("GET", host, target, headers, b"")
}

/// A request; its Content-Length is added when there is a body, unless the headers frame it themselves.
#[must_use]
pub fn request(
    method: &str,
    host: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
    for (name, value) in headers {
        text.extend(format!("{name}: {value}\r\n").bytes());
    }
    let framed = headers.iter().any(|(n, _)| {
        n.eq_ignore_ascii_case("content-length") || n.eq_ignore_ascii_case("transfer-encoding")
    });
    if !framed && !body.is_empty() {
        text.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
    }
    text.extend(b"\r\n");
    text.extend(body);
    text
}
