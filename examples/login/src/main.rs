//! A login and consent page for the oauth2 plugin: who a user is, the application says; tokens are the gateway's.
//!
//! An application sends the browser here with what it would ask an authorization server for (RFC 6749, section 4.1.1). Once
//! the user has signed in and agreed, this back end vouches for the user at the gateway's `/oauth2/authorize` with the
//! provision key, and sends the browser where the gateway says.
//!
//! `PROVISION_KEY=… postern-login`; see `run.sh`. The users here are made up: a real page asks a real directory, limits
//! attempts, and keeps a session so that nobody types a password for every application.

mod gateway;
mod page;

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use gateway::{Decision, Gateway};

/// Name and password.
const USERS: [(&str, &str); 2] = [("alice", "alice-pw"), ("bob", "bob-pw")];

/// What an application asks for; goes to the gateway as it came.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Asked {
    client_id: String,
    response_type: String,
    redirect_uri: Option<String>,
    scope: Option<String>,
    state: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
}

/// What the user fills in.
#[derive(Deserialize)]
struct Filled {
    username: String,
    password: String,
    answer: String,
    /// What was asked for, in one field.
    asked: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let of = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let key = std::env::var("PROVISION_KEY")
        .map_err(|_| "set PROVISION_KEY to the provision key of the AuthPlugin")?;
    let gateway = Gateway {
        address: of("GATEWAY", "127.0.0.1:8000"),
        host: of("GATEWAY_HOST", "localhost:8000"),
        path: of("GATEWAY_PATH", "/oauth2/authorize"),
        key,
    };
    let address = of("LOGIN_ADDRESS", "127.0.0.1:9100");
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    eprintln!("postern-login: http://{}", listener.local_addr()?);
    let pages = Router::new()
        .route("/login", get(show).post(decide))
        .with_state(Arc::new(gateway));
    axum::serve(listener, pages).await?;
    Ok(())
}

async fn show(Query(asked): Query<Asked>) -> Response {
    page::form(StatusCode::OK, &asked, None)
}

async fn decide(State(gateway): State<Arc<Gateway>>, Form(filled): Form<Filled>) -> Response {
    let asked: Asked = serde_json::from_str(&filled.asked).unwrap_or_default();
    if filled.answer != "allow" {
        // Where the application is, only the gateway knows: an address in the query may be anybody's.
        return page::message(
            StatusCode::OK,
            "Nothing was allowed. You can close this page.",
        );
    }
    let known = USERS.into_iter().any(|(name, password)| {
        let right = password.as_bytes().ct_eq(filled.password.as_bytes());
        name == filled.username && bool::from(right)
    });
    if !known {
        let wrong = "There is no such user, or the password is another.";
        return page::form(StatusCode::FORBIDDEN, &asked, Some(wrong));
    }
    match gateway.authorize(&filled.username, &asked).await {
        Ok(Decision::Send(to)) => sent(&to),
        Ok(Decision::Refused(why)) => page::message(StatusCode::BAD_REQUEST, &why),
        Err(error) => {
            eprintln!("postern-login: the gateway: {error}");
            let away = "The gateway does not answer. Please try again later.";
            page::message(StatusCode::BAD_GATEWAY, away)
        }
    }
}

/// Sends the browser on with GET, whatever it came with (RFC 9110, section 15.4.4).
fn sent(to: &str) -> Response {
    let mut headers = HeaderMap::new();
    let Ok(to) = to.parse() else {
        return page::message(
            StatusCode::BAD_GATEWAY,
            "The gateway's answer is no address.",
        );
    };
    headers.insert(header::LOCATION, to);
    page::guard(&mut headers);
    (StatusCode::SEE_OTHER, headers).into_response()
}
