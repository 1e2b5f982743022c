//! New tokens for a session whose access token has expired: once, however many requests and proxies want them.

use std::sync::Arc;
use std::time::Duration;

use openidconnect::RefreshToken;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::Key;

use super::core::Core;
use super::seal;
use super::session::{Session, Sessions};
use super::token::{Expected, Token};
use super::tokens::{Denied, Grant};
use crate::directory::digest_of;

/// How long a renewal is remembered: requests that left before it still bring the old refresh token.
const REMEMBERED: Duration = Duration::from_secs(300);
/// How often one asks whether another proxy has got the tokens.
const PAUSE: Duration = Duration::from_millis(50);

/// What a renewal came to.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Renewed {
    access_token: String,
    ends: i64,
    refresh_token: String,
    id_token: Option<(String, Map<String, Value>)>,
    scope: Option<String>,
    confirmed: i64,
}

#[derive(Serialize, Deserialize)]
enum Outcome {
    Tokens(Renewed),
    Refused,
}

impl Core {
    /// Renews a session's tokens.
    ///
    /// # Errors
    /// The provider refuses, or cannot be asked.
    pub(super) async fn renew(
        self: &Arc<Self>,
        sessions: &Sessions,
        session: &mut Session,
        now: i64,
    ) -> Result<(), Denied> {
        // A cookie may be some renewals behind.
        for _ in 0..4 {
            let refresh_token = session.refresh_token.clone().ok_or(Denied::Refused)?;
            let name = sessions.sealing.named("renewal", &[&refresh_token]);
            let (iss, sub) = (session.iss.clone(), session.sub.clone());
            let held = session.access_token.clone();
            let core = Arc::clone(self);
            let work = {
                let name = name.clone();
                move || async move {
                    let tokens = (refresh_token.as_str(), held.as_deref());
                    core.renew_once(&name, tokens, (&iss, &sub), now).await
                }
            };
            let flown = self.renewals.run(digest_of(&name), work).await;
            let renewed = flown.map_err(|_| Denied::Away("stopped"))??;
            session.access_token = Some(renewed.access_token);
            session.access_token_ends = renewed.ends;
            session.refresh_token = Some(renewed.refresh_token);
            session.confirmed = renewed.confirmed;
            if let Some(scope) = renewed.scope {
                session.scope = scope;
            }
            if let Some((text, claims)) = renewed.id_token {
                let contents = sessions.contents();
                if contents.enc_id_token {
                    session.id_token = Some(text);
                }
                if contents.id_token {
                    session.claims = Some(claims);
                }
            }
            if session.access_token_ends > now {
                return Ok(());
            }
        }
        Err(Denied::Refused)
    }

    /// Redeems a refresh token, unless somebody has since the access token was issued that the session holds.
    async fn renew_once(
        &self,
        name: &[u8],
        (refresh_token, held): (&str, Option<&str>),
        user: (&str, &str),
        now: i64,
    ) -> Result<Renewed, Denied> {
        const STORE: Denied = Denied::Away("store");
        let (result, lease) = (
            Key::of("openid connect renewal", name),
            Key::of("openid connect renewing", name),
        );
        let holder = seal::random().ok_or(Denied::Away("no_randomness"))?;
        let patience = Duration::from_secs(u64::from(self.config.timeout) + 5);
        let give_up = tokio::time::Instant::now() + patience;
        loop {
            let known = self.store.get(&result).await.map_err(|_| STORE)?;
            let known = known.and_then(|entry| serde_json::from_slice(&entry.value).ok());
            match known {
                Some(Outcome::Refused) => return Err(Denied::Refused),
                // A provider that keeps the refresh token: it is good for another time, when what it brought is due itself.
                Some(Outcome::Tokens(renewed))
                    if renewed.refresh_token != refresh_token
                        || held != Some(renewed.access_token.as_str()) =>
                {
                    return Ok(renewed);
                }
                _ => {}
            }
            let leased = self.store.lease(&lease, holder.as_bytes(), patience).await;
            if leased.map_err(|_| STORE)? {
                break;
            }
            if tokio::time::Instant::now() >= give_up {
                return Err(Denied::Away("renewal_under_way"));
            }
            tokio::time::sleep(PAUSE).await;
        }
        let asked = self.redeem(refresh_token, user, now).await;
        let outcome = match &asked {
            Ok(renewed) => Some(Outcome::Tokens(renewed.clone())),
            Err(Denied::Refused) => Some(Outcome::Refused),
            Err(Denied::Client | Denied::Away(_)) => None,
        };
        if let Some(text) = outcome.and_then(|outcome| serde_json::to_vec(&outcome).ok()) {
            // Without it another proxy may ask once more, and is refused: the tokens here are good all the same.
            let _ = self.store.put(&result, &text, Some(REMEMBERED)).await;
        }
        let _ = self.store.release(&lease, holder.as_bytes()).await;
        asked
    }

    async fn redeem(
        &self,
        refresh_token: &str,
        (iss, sub): (&str, &str),
        now: i64,
    ) -> Result<Renewed, Denied> {
        let provider = self.idp.provider().await.map_err(Denied::Away)?;
        let grant = Grant::Refresh(refresh_token);
        let tokens = self.ask_for_tokens(&provider, grant, now).await?;
        let id_token = match &tokens.id_token {
            None => None,
            Some(text) => {
                let token = Token::read(text).map_err(|_| Denied::Refused)?;
                let verified = self.rules.verify(&token, &provider).await;
                verified.map_err(|_| Denied::Refused)?;
                let expected = Expected {
                    access_token: Some(tokens.access_token.secret()),
                    ..Expected::default()
                };
                let judged = self.rules.judge(&token, iss, expected, now);
                if judged.is_err() || token.text("sub") != Some(sub) {
                    return Err(Denied::Refused);
                }
                Some((text.clone(), token.claims.clone()))
            }
        };
        let default = self.config.access_token_expires_in.map_or(3600, i64::from);
        Ok(Renewed {
            ends: tokens.ends(default, now),
            refresh_token: tokens
                .refresh_token
                .map_or_else(|| refresh_token.to_owned(), RefreshToken::into_secret),
            access_token: tokens.access_token.into_secret(),
            id_token,
            scope: tokens.scope,
            confirmed: now,
        })
    }
}
