//! The token endpoint: tokens for a code, a refresh token, a user's or the application's own name.

use aws_lc_rs::{constant_time, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::Map;

use super::answer::{self, Failure, Refused, with_state};
use super::authorize::{foreign_redirect, is_own, scope, user};
use super::client::{Claim, Client};
use super::handler::Handler;
use super::issue::{Denied, Tokens};
use super::parameters::{Name, Parameters, Value};
use super::records::Code;
use crate::handler::{Answer, Exchange, RequestBody};

/// What is redeemed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grant {
    Code,
    RefreshToken,
    ClientCredentials,
    Password,
}

impl Handler {
    pub(super) async fn token_endpoint<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Answer {
        let parameters = match Parameters::read(exchange).await {
            Ok(parameters) => parameters,
            Err(refused) => return refused.answer(None),
        };
        let state = parameters.text(Name::State);
        let checked = self.check_https(exchange).and_then(|()| parameters.check());
        let asked = checked.and_then(|()| self.who_asks(exchange, &parameters));
        let (grant, client) = match asked {
            Ok(asked) => asked,
            Err(failure) => return failure.answer(state),
        };
        match self.give(grant, &client, &parameters, exchange.now).await {
            Ok(tokens) => given(tokens, state),
            Err(refused) => refused.answer(state),
        }
    }

    /// Everything that is judged together: of several failures the last one counts.
    fn who_asks<B>(
        &self,
        exchange: &Exchange<'_, B>,
        parameters: &Parameters,
    ) -> Result<(Grant, Client), Failure> {
        let config = self.settings();
        let grant = match parameters.text(Name::GrantType) {
            Some("authorization_code") => Some(Grant::Code),
            Some("refresh_token") => Some(Grant::RefreshToken),
            Some("client_credentials") if config.enable_client_credentials => {
                Some(Grant::ClientCredentials)
            }
            Some("password") if config.enable_password_grant => Some(Grant::Password),
            _ => None,
        };
        let mut last = None;
        if grant.is_none() {
            last = Some(Failure::bad("unsupported_grant_type", "Invalid grant_type"));
        }
        let claim = Claim::of(self, &exchange.head.headers, parameters);
        let client = claim.find(self, exchange.directory, exchange.now);
        let challenged = || {
            if claim.basic {
                Failure::client_challenged()
            } else {
                Failure::client()
            }
        };
        match &client {
            // What the peers do: without a redirect there is nothing to challenge for.
            None if grant == Some(Grant::ClientCredentials) => last = Some(Failure::client()),
            None => last = Some(challenged()),
            Some(client) => {
                if grant != Some(Grant::ClientCredentials) && !is_own(client, parameters) {
                    last = Some(foreign_redirect());
                }
                if client.public {
                    if claim.has_secret() {
                        let description = "client_secret is disallowed for public clients";
                        last = Some(Failure::bad("invalid_request", description));
                    } else if grant == Some(Grant::ClientCredentials) {
                        // RFC 6749, section 4.4: for those only that can prove who they are.
                        last = Some(Failure::client());
                    }
                } else if !client.proven {
                    last = Some(challenged());
                }
            }
        }
        match (last, grant, client) {
            (None, Some(grant), Some(client)) => Ok((grant, client)),
            (Some(failure), ..) => Err(failure),
            (None, ..) => Err(Failure::client()),
        }
    }

    async fn give(
        &self,
        grant: Grant,
        client: &Client,
        parameters: &Parameters,
        now: i64,
    ) -> Result<Tokens, Refused> {
        match grant {
            Grant::Code => self.give_for_code(client, parameters, now).await,
            Grant::RefreshToken => self.give_for_refresh(client, parameters, now).await,
            Grant::ClientCredentials => {
                let mut name = "";
                if parameters.value(Name::AuthenticatedUserid) != &Value::Absent {
                    self.check_provision_key(parameters)?;
                    name = user(parameters)?;
                }
                let scope = scope(self.settings(), parameters)?;
                let subject = self.subject(client, scope, name);
                self.issue_alone(subject, now).await
            }
            Grant::Password => {
                self.check_provision_key(parameters)?;
                let name = user(parameters)?;
                let scope = scope(self.settings(), parameters)?;
                let subject = self.subject(client, scope, name);
                self.issue_line(subject, now).await
            }
        }
    }

    async fn give_for_code(
        &self,
        client: &Client,
        parameters: &Parameters,
        now: i64,
    ) -> Result<Tokens, Refused> {
        let invalid = || Failure::bad("invalid_request", "Invalid code");
        let text = parameters.text(Name::Code).ok_or_else(invalid)?;
        if !super::secrets::is_well_formed(text.as_bytes()) {
            return Err(invalid().into());
        }
        let code = self.code(text, now).await?.ok_or_else(invalid)?;
        if !client.owns(&code.subject) {
            return Err(invalid().into());
        }
        check_redirect(&code, parameters)?;
        check_verifier(&code, parameters)?;
        match self.redeem(text, code.subject, now).await {
            Ok(tokens) => Ok(tokens),
            Err(Denied::Unavailable) => Err(Refused::Unavailable),
            Err(Denied::Invalid | Denied::OtherClient | Denied::Scope) => Err(invalid().into()),
        }
    }

    async fn give_for_refresh(
        &self,
        client: &Client,
        parameters: &Parameters,
        now: i64,
    ) -> Result<Tokens, Refused> {
        let bad = |description: &'static str| Failure::bad("invalid_request", description);
        let token = parameters.text(Name::RefreshToken);
        let token = token.ok_or_else(|| bad("Invalid refresh_token"))?;
        let asked = match parameters.value(Name::Scope) {
            Value::Absent => None,
            Value::Text(asked) => Some(asked.as_str()),
            Value::NotText | Value::Repeated => {
                return Err(Failure::bad("invalid_scope", "scope must be a string").into());
            }
        };
        match self.refresh(token, client, asked, now).await {
            Ok(tokens) => Ok(tokens),
            Err(Denied::Unavailable) => Err(Refused::Unavailable),
            Err(Denied::Invalid) => Err(bad("Invalid refresh_token").into()),
            Err(Denied::OtherClient) => Err(Failure::client().into()),
            Err(Denied::Scope) => Err(Failure::bad("invalid_scope", "Scope mismatch").into()),
        }
    }
}

/// Where the code was sent to must be named again, if it was named (RFC 6749, section 4.1.3).
fn check_redirect(code: &Code, parameters: &Parameters) -> Result<(), Failure> {
    let same = match parameters.text(Name::RedirectUri) {
        Some(uri) => uri == code.redirect_uri,
        None => !code.explicit,
    };
    if same {
        return Ok(());
    }
    let description = "Invalid redirect_uri that is not the one of the authorization request";
    Err(Failure::bad("invalid_grant", description))
}

/// Who redeems must be who asked (RFC 7636).
fn check_verifier(code: &Code, parameters: &Parameters) -> Result<(), Failure> {
    let bad = |description: &'static str| Failure::bad("invalid_request", description);
    let mismatch = || Failure::bad("invalid_grant", "Invalid code");
    let Some(challenge) = &code.challenge else {
        // Somebody has taken the challenge out on its way (RFC 9700, section 2.1.1).
        return match parameters.value(Name::CodeVerifier) {
            Value::Absent => Ok(()),
            _ => Err(mismatch()),
        };
    };
    let verifier = match parameters.value(Name::CodeVerifier) {
        Value::Absent => {
            return Err(bad(
                "code_verifier is required for PKCE authorization requests",
            ));
        }
        Value::Text(verifier) => verifier,
        Value::NotText | Value::Repeated => return Err(bad("code_verifier is not a string")),
    };
    if !(43..=128).contains(&verifier.len()) {
        return Err(bad("code_verifier must be between 43 and 128 characters"));
    }
    let digest = digest::digest(&digest::SHA256, verifier.as_bytes());
    let made = URL_SAFE_NO_PAD.encode(digest);
    constant_time::verify_slices_are_equal(made.as_bytes(), challenge.as_bytes())
        .map_err(|_| mismatch())
}

fn given(tokens: Tokens, state: Option<&str>) -> Answer {
    let mut members = Map::new();
    members.insert("access_token".to_owned(), tokens.access.as_str().into());
    members.insert("token_type".to_owned(), "bearer".into());
    if let Some(seconds) = tokens.expires_in {
        members.insert("expires_in".to_owned(), seconds.into());
    }
    if let Some(refresh) = &tokens.refresh {
        members.insert("refresh_token".to_owned(), refresh.as_str().into());
    }
    answer::json(StatusCode::OK, with_state(members, state), "issued")
}
