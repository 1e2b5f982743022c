//! What all parts of the plugin share: built once, held by whatever goes on in the background too.

use std::fmt;

use http::StatusCode;
use outbound::SingleFlight;
use serde_json::{Map, Value};
use store::Store;

use super::client::OAuthClient;
use super::failure::Failure;
use super::provider::Idp;
use super::renew::Renewed;
use super::seal::Sealing;
use super::session::Sessions;
use super::token::Rules;
use super::{Config, answers};
use crate::directory::KeyId;
use crate::handler::{BuildContext, Exchange, Verdict};

/// The parts of one plugin.
pub(super) struct Core {
    pub(super) config: Config,
    /// "Plugin/<namespace>/<name>".
    pub(super) key: String,
    pub(super) namespace: String,
    pub(super) idp: Idp,
    pub(super) client: OAuthClient,
    pub(super) rules: Rules,
    /// None with `bearerOnly`.
    pub(super) sessions: Option<Sessions>,
    pub(super) renewals: SingleFlight<[u8; 32], Result<Renewed, super::tokens::Denied>>,
    pub(super) store: Store,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Core({})", self.key)
    }
}

impl Core {
    pub(super) fn new(config: Config, context: &BuildContext<'_>) -> Result<Self, String> {
        let services = context.services;
        let client = OAuthClient::new(&config, &context.values)?;
        let sessions = if config.bearer_only {
            None
        } else {
            let secrets = context.values.value("session.secretRef")?;
            if let Some(problem) = Config::check_value("session.secretRef", secrets) {
                return Err(problem);
            }
            let owner = [&*config.discovery, &config.client_id];
            let sealing = Sealing::new(secrets, &owner);
            let sealing = sealing.ok_or("session.secretRef: holds no secret")?;
            Some(Sessions::new(&config, sealing, services.store.clone()))
        };
        let namespace = context.key.split('/').nth(1).unwrap_or_default().to_owned();
        Ok(Self {
            key: context.key.to_owned(),
            namespace,
            idp: Idp::new(&config, &context.values, &services.outbound)?,
            rules: Rules::new(&config, client.secret()),
            client,
            sessions,
            renewals: services.outbound.single_flight(),
            store: services.store.clone(),
            config,
        })
    }

    /// The name of the Consumer that a caller counts as, where a claim says it.
    ///
    /// # Errors
    /// There is no such claim, or the provider has not verified the address in it.
    pub(super) fn consumer_name(
        &self,
        claims: &[Option<&Map<String, Value>>],
    ) -> Result<Option<String>, &'static str> {
        let Some(claim) = &self.config.consumer_claim else {
            return Ok(None);
        };
        let named = claims
            .iter()
            .flatten()
            .find_map(|claims| Some((*claims, claims.get(claim)?.as_str()?)));
        let (claims, name) = named.ok_or("no_consumer_claim")?;
        // Anybody may write down anybody's address.
        if claim == "email" && claims.get("email_verified") != Some(&Value::Bool(true)) {
            return Err("email_not_verified");
        }
        Ok(Some(name.to_owned()))
    }

    /// Lets the caller count as the Consumer of that name.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn count_as<B>(
        &self,
        exchange: &mut Exchange<'_, B>,
        name: Option<&str>,
    ) -> Result<(), Failure> {
        let Some(name) = name else {
            return Ok(());
        };
        let key = KeyId::of(&format!("Consumer/{}/{name}", self.namespace));
        let fits = !name.is_empty() && !name.contains('/');
        let found = exchange.directory.consumer(&key).filter(|_| fits);
        let Some(consumer) = found else {
            return Err(Failure::NotKnown("no_consumer"));
        };
        exchange.caller.consumer = Some(consumer);
        exchange.caller.credential = None;
        exchange.caller.anonymous = false;
        Ok(())
    }
}

/// The caller is known, and may not pass.
pub(super) fn forbidden(message: &str, reason: &'static str) -> Verdict {
    let body = serde_json::json!({ "message": message });
    answers::json(StatusCode::FORBIDDEN, &body, reason)
}
