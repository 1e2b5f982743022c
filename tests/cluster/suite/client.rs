//! A client that asks one question on a connection of its own.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer: its status, and all of it as text.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

/// One GET. Errors say at which step it failed.
pub(crate) async fn ask(
    address: IpAddr,
    port: u16,
    host: &str,
    path: &str,
    key: Option<&str>,
) -> Result<Answer, String> {
    let asking = async {
        let mut stream = TcpStream::connect((address, port))
            .await
            .map_err(|error| format!("connect: {error}"))?;
        let key = key
            .map(|key| format!("apikey: {key}\r\n"))
            .unwrap_or_default();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{key}Connection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
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
    };
    tokio::time::timeout(Duration::from_secs(5), asking)
        .await
        .unwrap_or_else(|_| Err("no answer within 5 s".to_owned()))
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
