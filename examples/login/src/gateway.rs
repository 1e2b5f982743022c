//! The call by which a login page vouches for a user.

use std::error::Error;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Asked;

/// The most that is read of an answer, in bytes.
const LONGEST: usize = 64 * 1024;

/// Where the plugin answers, and what it believes this page by.
pub(super) struct Gateway {
    /// Of a listener, "host:port".
    pub(super) address: String,
    /// By which the route is known.
    pub(super) host: String,
    pub(super) path: String,
    pub(super) key: String,
}

/// What the gateway says.
pub(super) enum Decision {
    /// The browser goes there, with a code or with an error for the application.
    Send(String),
    /// It cannot say where to: the application is not known.
    Refused(String),
}

impl Gateway {
    pub(super) async fn authorize(
        &self,
        user: &str,
        asked: &Asked,
    ) -> Result<Decision, Box<dyn Error + Send + Sync>> {
        let request = Request::post(&self.path)
            .header("host", &self.host)
            .header("content-type", "application/x-www-form-urlencoded")
            // The call stays on this machine; over a network it is made to an HTTPS listener instead.
            .header("x-forwarded-proto", "https")
            .body(Full::<Bytes>::from(self.form(user, asked)))?;
        let stream = TcpStream::connect(&self.address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await?;
        #[expect(clippy::disallowed_methods, reason = "the body is Limited")]
        let body = Limited::new(answer.into_body(), LONGEST).collect().await?;
        connection.abort();
        let said: serde_json::Value = serde_json::from_slice(&body.to_bytes())?;
        let text = |name: &str| said.get(name).and_then(serde_json::Value::as_str);
        Ok(match text("redirect_uri") {
            Some(to) => Decision::Send(to.to_owned()),
            None => {
                let why = text("error_description").or_else(|| text("error"));
                Decision::Refused(why.unwrap_or("The gateway refused.").to_owned())
            }
        })
    }

    fn form(&self, user: &str, asked: &Asked) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("provision_key", &self.key)
            .append_pair("authenticated_userid", user)
            .append_pair("client_id", &asked.client_id)
            .append_pair("response_type", &asked.response_type);
        for (name, value) in [
            ("redirect_uri", &asked.redirect_uri),
            ("scope", &asked.scope),
            ("state", &asked.state),
            ("code_challenge", &asked.code_challenge),
            ("code_challenge_method", &asked.code_challenge_method),
        ] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        form.finish()
    }
}
