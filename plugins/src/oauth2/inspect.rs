//! Revocation (RFC 7009) and introspection (RFC 7662): an application asks about its own tokens.

use http::StatusCode;
use serde_json::Map;

use super::answer::{self, Failure, Refused};
use super::client::{Claim, Client};
use super::handler::Handler;
use super::parameters::{Name, Parameters};
use super::records::Subject;
use super::secrets::{access_key, is_well_formed};
use crate::handler::{Answer, Exchange, RequestBody};

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Askers {
    All,
    /// Those that can prove who they are.
    Confidential,
}

impl Handler {
    /// The answer to a token that is there or not is the same, so that it tells nothing.
    pub(super) async fn revoke<B: RequestBody>(&self, exchange: &mut Exchange<'_, B>) -> Answer {
        match self.try_revoke(exchange).await {
            Ok(()) => answer::json(StatusCode::OK, Map::new(), "revoked"),
            Err(refused) => refused.answer(None),
        }
    }

    pub(super) async fn introspect<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
        issuer: &str,
    ) -> Answer {
        match self.try_introspect(exchange, issuer).await {
            Ok(answer) => answer,
            Err(refused) => refused.answer(None),
        }
    }

    async fn try_revoke<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
    ) -> Result<(), Refused> {
        let (client, token) = self.asker(exchange, Askers::All).await?;
        let now = exchange.now;
        if !is_well_formed(token.as_bytes()) {
            return Ok(());
        }
        let other = || {
            let description = "The token was issued to another client";
            Err(Failure::bad("invalid_grant", description).into())
        };
        let key = access_key(token.as_bytes());
        if let Some(access) = self.access(&key, now).await? {
            if !client.owns(&access.subject) {
                return other();
            }
            self.revoke_access(&key).await?;
        } else if let Some((handle, line)) = self.line(&token, now).await? {
            if !client.owns(&line.subject) {
                return other();
            }
            self.revoke_line(&handle, &line).await?;
        }
        Ok(())
    }

    async fn try_introspect<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
        issuer: &str,
    ) -> Result<Answer, Refused> {
        let (client, token) = self.asker(exchange, Askers::Confidential).await?;
        let now = exchange.now;
        let mut members = Map::new();
        let own = |subject: &Subject| {
            client.owns(subject) && self.honours(&subject.plugin, subject.global)
        };
        if is_well_formed(token.as_bytes()) {
            let access = self.access(&access_key(token.as_bytes()), now).await?;
            if let Some(access) = access.filter(|access| own(&access.subject)) {
                members = describe(&access.subject, (access.issued, access.expires), issuer);
                members.insert("token_type".to_owned(), "bearer".into());
            } else if let Some((_, line)) = self.line(&token, now).await?
                && own(&line.subject)
            {
                let times = (line.refresh_issued, line.refresh_expires);
                members = describe(&line.subject, times, issuer);
            }
        }
        members.insert("active".to_owned(), (!members.is_empty()).into());
        Ok(answer::json(StatusCode::OK, members, "introspected"))
    }

    /// Who asks about which token.
    async fn asker<B: RequestBody>(
        &self,
        exchange: &mut Exchange<'_, B>,
        askers: Askers,
    ) -> Result<(Client, String), Refused> {
        let parameters = Parameters::read(exchange).await?;
        self.check_https(exchange)?;
        parameters.check()?;
        let claim = Claim::of(self, &exchange.head.headers, &parameters);
        let client = claim.find(self, exchange.directory, exchange.now);
        let proven = |client: &Client| {
            if client.public {
                askers == Askers::All && !claim.has_secret()
            } else {
                client.proven
            }
        };
        let client = client
            .filter(proven)
            .ok_or_else(Failure::client_challenged)?;
        let token = parameters
            .text(Name::Token)
            .ok_or_else(|| Failure::bad("invalid_request", "Missing token parameter"))?;
        Ok((client, token.to_owned()))
    }
}

fn describe(
    subject: &Subject,
    (issued, expires): (i64, i64),
    issuer: &str,
) -> Map<String, serde_json::Value> {
    let mut members = Map::new();
    members.insert("client_id".to_owned(), subject.client_id.as_str().into());
    members.insert("iss".to_owned(), issuer.into());
    members.insert("iat".to_owned(), issued.into());
    if expires != 0 {
        members.insert("exp".to_owned(), expires.into());
    }
    for (name, text) in [("scope", &subject.scope), ("sub", &subject.user)] {
        if !text.is_empty() {
            members.insert(name.to_owned(), text.as_str().into());
        }
    }
    members
}
