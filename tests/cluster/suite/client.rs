//! A client that asks one question on a connection of its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
}

impl<'a> Request<'a> {
    /// A GET without further headers.
    pub(crate) const fn get(host: &'a str, path: &'a str) -> Self {
        Self {
            method: "GET",
            host,
            path,
            headers: &[],
        }
    }
}

/// An answer: its status, and all of it as text.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    /// The version that it is of.
    pub(crate) fn version(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    /// All values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let head = self.text.split("\r\n\r\n").next().unwrap_or_default();
        head.split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    /// The only value of a header.
    ///
    /// # Panics
    /// When there are several.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there twice: {}", self.text);
        all.first().copied()
    }

    pub(crate) fn body(&self) -> &str {
        self.text
            .split_once("\r\n\r\n")
            .map_or("", |(_, body)| body)
    }
}

/// One GET. Errors say at which step it failed.
pub(crate) async fn ask(
    address: IpAddr,
    port: u16,
    host: &str,
    path: &str,
    key: Option<&str>,
) -> Result<Answer, String> {
    let key = key.map(|key| ("apikey", key));
    let headers = key.as_slice();
    let request = Request {
        headers,
        ..Request::get(host, path)
    };
    send(address, port, request).await
}

/// One request. Errors say at which step it failed.
pub(crate) async fn send(
    address: IpAddr,
    port: u16,
    request: Request<'_>,
) -> Result<Answer, String> {
    in_time(async { exchange(connect(address, port).await?, request).await }).await
}

/// One request over TLS to the host that the request is for, which has to show just this certificate.
pub(crate) async fn send_over_tls(
    address: IpAddr,
    port: u16,
    certificate: &[u8],
    request: Request<'_>,
) -> Result<Answer, String> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(certificate.to_vec()))
        .map_err(|error| format!("certificate: {error}"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("versions: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(request.host.to_owned())
        .map_err(|error| format!("{}: {error}", request.host))?;
    in_time(async {
        let stream = connect(address, port).await?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| format!("TLS: {error}"))?;
        exchange(stream, request).await
    })
    .await
}

async fn in_time(asking: impl Future<Output = Result<Answer, String>>) -> Result<Answer, String> {
    tokio::time::timeout(Duration::from_secs(5), asking)
        .await
        .unwrap_or_else(|_| Err("no answer within 5 s".to_owned()))
}

async fn connect(address: IpAddr, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((address, port))
        .await
        .map_err(|error| format!("connect: {error}"))
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<'_>,
) -> Result<Answer, String> {
    let Request {
        method,
        host,
        path,
        headers,
    } = request;
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| format!("send: {error}"))?;
    stream
        .flush()
        .await
        .map_err(|error| format!("send: {error}"))?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .await
        .map_err(|error| format!("receive: {error}"))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status
        .map(|status| Answer {
            status,
            text: text.clone(),
        })
        .ok_or_else(|| format!("no answer: {text:?}"))
}

/// Asks until the status is the wanted one, and returns how long that took.
///
/// # Panics
/// When it does not become so within `limit`.
pub(crate) async fn until_status(
    address: IpAddr,
    port: u16,
    host: &str,
    key: Option<&str>,
    wanted: u16,
    limit: Duration,
) -> Duration {
    let started = Instant::now();
    loop {
        let answer = ask(address, port, host, "/", key).await;
        if answer.as_ref().is_ok_and(|answer| answer.status == wanted) {
            return started.elapsed();
        }
        assert!(
            started.elapsed() < limit,
            "{host} at {address}:{port} was to answer {wanted} within {limit:?}; the last answer: {answer:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
