//! The authorization endpoint: the login page says which user permits what, and learns where to send the user.

use http::StatusCode;
use serde_json::Value as Json;

use super::answer::{self, Failure, Refused, in_fragment, in_query};
use super::client::Client;
use super::handler::Handler;
use super::parameters::{Name, Parameters, Value};
use super::records::{CODE_LIFETIME, Code, end};
use super::{Config, Pkce};
use crate::handler::{Answer, Exchange, RequestBody};

/// The longest challenge that is kept; one that fits a verifier has 43 characters.
const MAX_CHALLENGE: usize = 128;
/// The longest name of a user that is kept.
const MAX_USER: usize = 1024;

/// What the client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponseType {
    Code,
    Token,
}

const FOREIGN_REDIRECT: &str =
    "Invalid redirect_uri that does not match with any redirect_uri created with the application";

impl Handler {
    pub(super) async fn authorize<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
        issuer: &str,
    ) -> Answer {
        let parameters = match Parameters::read(exchange).await {
            Ok(parameters) => parameters,
            Err(refused) => return refused.answer(None),
        };
        let state = parameters.text(Name::State);
        if let Err(failure) = self
            .check_https(exchange)
            .and_then(|()| parameters.check())
            .and_then(|()| self.check_provision_key(&parameters))
            .and_then(|()| user(&parameters).map(drop))
        {
            return failure.answer(state);
        }
        let client = parameters
            .text(Name::ClientId)
            .and_then(|client_id| self.client(exchange.directory, client_id, None, exchange.now));
        let asked = self.ask(&parameters, client.as_ref());
        let Some(client) = client else {
            return Failure::client().answer(state);
        };
        let Some(first) = client.redirect_uris.first() else {
            return Failure::bad("invalid_request", FOREIGN_REDIRECT).answer(state);
        };
        match asked {
            Ok(asked) => {
                let given = self.permit(&client, &parameters, asked, (issuer, exchange.now));
                match given.await {
                    Ok(answer) => answer,
                    Err(refused) => refused.answer(state),
                }
            }
            Err(failure) => {
                let named = parameters.text(Name::RedirectUri);
                let own =
                    named.and_then(|uri| client.redirect_uris.iter().find(|own| ***own == *uri));
                let mut about = vec![
                    ("error", failure.error),
                    ("error_description", &*failure.description),
                ];
                about.extend(state.map(|state| ("state", state)));
                about.push(("iss", issuer));
                let uri = in_query(own.unwrap_or(first), &about);
                answer::redirect(StatusCode::BAD_REQUEST, uri, failure.error)
            }
        }
    }

    /// Everything that is judged together: of several failures the last one counts.
    fn ask(
        &self,
        parameters: &Parameters,
        client: Option<&Client>,
    ) -> Result<(ResponseType, String), Failure> {
        let config = self.settings();
        let response_type = match parameters.text(Name::ResponseType) {
            Some("code") if config.enable_authorization_code => Some(ResponseType::Code),
            Some("token") if config.enable_implicit_grant => Some(ResponseType::Token),
            _ => None,
        };
        let mut last = None;
        if response_type.is_none() {
            let failure = Failure::bad("unsupported_response_type", "Invalid response_type");
            last = Some(failure);
        }
        let scope = scope(config, parameters).map_err(|failure| last = Some(failure));
        match client {
            None => last = Some(Failure::client()),
            Some(client) if !is_own(client, parameters) => {
                last = Some(Failure::bad("invalid_request", FOREIGN_REDIRECT));
            }
            Some(_) => {}
        }
        if let Some(client) = client
            && parameters.text(Name::ResponseType) == Some("code")
            && let Err(failure) = challenge(config.pkce, client.public, parameters)
        {
            last = Some(failure);
        }
        match (last, response_type, scope) {
            (None, Some(response_type), Ok(scope)) => Ok((response_type, scope)),
            (Some(failure), ..) => Err(failure),
            (None, ..) => Err(Failure::bad("invalid_request", "Invalid request")),
        }
    }

    async fn permit(
        &self,
        client: &Client,
        parameters: &Parameters,
        (response_type, scope): (ResponseType, String),
        (issuer, now): (&str, i64),
    ) -> Result<Answer, Refused> {
        let named = parameters.text(Name::RedirectUri);
        let uri = named.or_else(|| client.redirect_uris.first().map(|uri| &**uri));
        let uri = uri.unwrap_or_default();
        let state = parameters.text(Name::State);
        let subject = self.subject(client, scope, user(parameters)?);
        let uri = match response_type {
            ResponseType::Code => {
                let code = Code {
                    subject,
                    redirect_uri: uri.to_owned(),
                    explicit: named.is_some(),
                    challenge: challenge(self.settings().pkce, client.public, parameters)?,
                    expires: end(now, CODE_LIFETIME),
                };
                let secret = self.issue_code(&code).await?;
                let mut about = vec![("code", secret.as_str())];
                about.extend(state.map(|state| ("state", state)));
                about.push(("iss", issuer));
                in_query(uri, &about)
            }
            ResponseType::Token => {
                let tokens = self.issue_alone(subject, now).await?;
                let expires_in = tokens.expires_in.map(|seconds| seconds.to_string());
                let mut about = vec![("access_token", tokens.access.as_str())];
                about.extend(expires_in.as_deref().map(|seconds| ("expires_in", seconds)));
                about.push(("token_type", "bearer"));
                about.extend(state.map(|state| ("state", state)));
                about.push(("iss", issuer));
                in_fragment(uri, &about)
            }
        };
        Ok(answer::redirect(StatusCode::OK, uri, "authorized"))
    }

    /// Whether the one who asks is trusted to say who the user is.
    pub(super) fn check_provision_key(&self, parameters: &Parameters) -> Result<(), Failure> {
        let given = parameters.text(Name::ProvisionKey);
        if given.is_some_and(|key| self.is_provision_key(key.as_bytes())) {
            return Ok(());
        }
        Err(Failure::bad(
            "invalid_provision_key",
            "Invalid provision_key",
        ))
    }
}

/// The user in whose name something is asked for.
pub(super) fn user(parameters: &Parameters) -> Result<&str, Failure> {
    const ERROR: &str = "invalid_authenticated_userid";
    let user = parameters.text(Name::AuthenticatedUserid).map(str::trim);
    let user = user
        .filter(|user| !user.is_empty())
        .ok_or_else(|| Failure::bad(ERROR, "Missing authenticated_userid parameter"))?;
    // The upstream is told it in a header.
    if user.chars().any(char::is_control) || user.len() > MAX_USER {
        let description =
            "authenticated_userid must be at most 1024 bytes without control characters";
        return Err(Failure::bad(ERROR, description));
    }
    Ok(user)
}

/// The scopes that are asked for, separated by blanks. Where none is on offer, none is given.
pub(super) fn scope(config: &Config, parameters: &Parameters) -> Result<String, Failure> {
    const ERROR: &str = "invalid_scope";
    let asked = match parameters.value(Name::Scope) {
        Value::Text(asked) => asked.as_str(),
        Value::Absent => "",
        Value::NotText | Value::Repeated => {
            return Err(Failure::bad(ERROR, "scope must be a string"));
        }
    };
    if config.scopes.is_empty() {
        return Ok(String::new());
    }
    let mut scopes: Vec<&str> = Vec::new();
    for scope in asked.split_whitespace() {
        if !config.scopes.iter().any(|own| own == scope) {
            let quoted = Json::from(scope).to_string();
            return Err(Failure::bad(ERROR, format!("{quoted} is an invalid scope")));
        }
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    if scopes.is_empty() && config.mandatory_scope {
        return Err(Failure::bad(ERROR, "You must specify a scope"));
    }
    Ok(scopes.join(" "))
}

/// Whether the application has registered where the user shall be sent to: the same, byte for byte.
pub(super) fn is_own(client: &Client, parameters: &Parameters) -> bool {
    match parameters.value(Name::RedirectUri) {
        Value::Absent => true,
        Value::Text(uri) => client.redirect_uris.iter().any(|own| **own == **uri),
        Value::NotText | Value::Repeated => false,
    }
}

pub(super) fn foreign_redirect() -> Failure {
    Failure::bad("invalid_request", FOREIGN_REDIRECT)
}

/// The challenge that the verifier of the code will have to fit.
fn challenge(pkce: Pkce, public: bool, parameters: &Parameters) -> Result<Option<String>, Failure> {
    let bad = |description: &'static str| Failure::bad("invalid_request", description);
    let method = parameters.value(Name::CodeChallengeMethod);
    let challenge = match parameters.value(Name::CodeChallenge) {
        Value::Text(challenge) if challenge.len() <= MAX_CHALLENGE => Some(challenge),
        Value::Absent => None,
        _ => return Err(bad("code_challenge is not a challenge")),
    };
    match (challenge, method) {
        (Some(challenge), Value::Absent) => Ok(Some(challenge.clone())),
        (Some(challenge), Value::Text(method)) if method.eq_ignore_ascii_case("S256") => {
            Ok(Some(challenge.clone()))
        }
        (Some(_), _) => Err(bad("code_challenge_method is not supported, must be S256")),
        (None, Value::Absent) => match (pkce, public) {
            (Pkce::Lax | Pkce::Strict, true) => {
                Err(bad("code_challenge is required for public clients"))
            }
            (Pkce::Strict, false) => {
                Err(bad("code_challenge is required for confidential clients"))
            }
            _ => Ok(None),
        },
        (None, _) => Err(bad(
            "code_challenge is required when code_method is present",
        )),
    }
}
