//! The other end of the endpoint: asks a proxy that runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::endpoint::{Order, PATH, TOKEN_FILE};
use super::{Explanation, Question};

const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST: usize = 16 << 20;

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No token, no answer.
    #[error("the proxy's token cannot be read: {path}: {source}; name its state folder with --state-dir", path = path.display())]
    Token {
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// The token is no text.
    #[error("the proxy's token cannot stand in a header")]
    BadToken,
    /// Nobody answers there.
    #[error("no proxy answers at {address} (--proxy): {reason}")]
    Unreachable {
        /// Where it was looked for.
        address: SocketAddr,
        /// Why not.
        reason: String,
    },
    /// It says no.
    #[error("{0}")]
    Refused(String),
}

/// How a proxy's token is known.
#[derive(Debug, Clone)]
pub enum Token {
    /// From the file in this state folder.
    In(PathBuf),
    /// As given.
    Given(String),
}

/// Explains a request, or one of the past by its id.
///
/// # Errors
/// There is no proxy there, or it does not answer.
pub async fn ask(
    address: SocketAddr,
    token: &Token,
    what: Result<Question, String>,
) -> Result<Explanation, ClientError> {
    let order = what.map_or_else(Order::RequestId, Order::Request);
    let body = serde_json::to_vec(&order).unwrap_or_default();
    let token = token.read()?;
    let unreachable = |reason: String| ClientError::Unreachable { address, reason };
    let exchange = exchange(address, token, body);
    let (status, body) = tokio::time::timeout(PATIENCE, exchange)
        .await
        .map_err(|_| unreachable("it takes too long".to_owned()))?
        .map_err(|error| unreachable(error.to_string()))?;
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|_| {
            unreachable("its answer is not that of a proxy of this version".to_owned())
        });
    }
    let said: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let message = said.as_ref().and_then(|said| said.get("message")?.as_str());
    Err(match message {
        Some(message) => ClientError::Refused(message.to_owned()),
        None => unreachable(format!(
            "it answers {status}: it is another program or version, or not on this machine"
        )),
    })
}

impl Token {
    fn read(&self) -> Result<HeaderValue, ClientError> {
        let text = match self {
            Self::Given(text) => text.clone(),
            Self::In(folder) => {
                let path = folder.join(Path::new(TOKEN_FILE));
                std::fs::read_to_string(&path)
                    .map_err(|source| ClientError::Token { path, source })?
            }
        };
        let mut value = HeaderValue::try_from(format!("Bearer {}", text.trim()))
            .map_err(|_| ClientError::BadToken)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    address: SocketAddr,
    token: HeaderValue,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), Failure> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post(PATH)
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json")
        .header(AUTHORIZATION, token)
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    #[expect(clippy::disallowed_methods, reason = "the body is Limited")]
    let body = Limited::new(response.into_body(), LONGEST)
        .collect()
        .await?;
    connection.abort();
    Ok((status, body.to_bytes()))
}
