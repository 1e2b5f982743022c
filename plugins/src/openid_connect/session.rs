//! Sessions of those who have signed in: what they hold, where they are, when they end.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::{Key, Store, Unavailable};

use super::config::Storage;
use super::cookies::{Channel, Jar};
use super::opened::{self, Mark, Opened, Version};
use super::seal::{self, Sealing};
use super::upstream::{Known, Told};
use super::{Config, SessionContents};
use crate::handler::ResponseEdits;

/// What sessions are sealed for.
const PURPOSE: &str = "session";

/// What is known of somebody who has signed in. Nobody but us ever reads it.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Session {
    /// Drawn anew at every login.
    pub(super) id: String,
    pub(super) iss: String,
    pub(super) sub: String,
    /// The provider's own session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sid: Option<String>,
    /// When the user signed in, when the provider last confirmed it, and when the session was last written.
    pub(super) login: i64,
    pub(super) confirmed: i64,
    pub(super) seen: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) access_token: Option<String>,
    #[serde(default)]
    pub(super) access_token_ends: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refresh_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) claims: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<Map<String, Value>>,
    pub(super) scope: String,
    /// Name of the Consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) consumer: Option<String>,
    /// The page that this login was for has not been opened yet.
    #[serde(default)]
    pub(super) fresh: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session(redacted)")
    }
}

/// A session that a request brought.
pub(super) struct Held {
    opened: Rc<Opened>,
    /// Where it is in the store.
    place: Option<String>,
}

/// How long sessions live and where they are.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) jar: Jar,
    pub(super) sealing: Sealing,
    version: Version,
    store: Store,
    in_store: bool,
    contents: SessionContents,
    lifetime: i64,
    idle: Option<i64>,
    pub(super) absolute: i64,
}

/// What a sealed cookie holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(
    clippy::large_enum_variant,
    reason = "one lives at a time, and a session is the usual case"
)]
enum Kept {
    Whole(Session),
    At(String),
}

impl Sessions {
    pub(super) fn new(config: &Config, sealing: Sealing, store: Store) -> Self {
        let everything = SessionContents {
            access_token: true,
            id_token: true,
            enc_id_token: true,
            user: true,
        };
        Self {
            jar: Jar::new(&config.session),
            sealing,
            version: Version::new(),
            store,
            in_store: config.session.storage == Storage::Store,
            contents: config.session_contents.clone().unwrap_or(everything),
            lifetime: config.session.cookie.lifetime.into(),
            idle: config.session.idle_timeout.map(i64::from),
            absolute: config.session.absolute_timeout.into(),
        }
    }

    /// What sessions hold.
    pub(super) const fn contents(&self) -> &SessionContents {
        &self.contents
    }

    /// The session that a request brings, if it is still good.
    pub(super) async fn find(
        &self,
        headers: &HeaderMap,
        channel: Channel,
        now: i64,
    ) -> Result<Option<Held>, Unavailable> {
        let Some(sealed) = self.jar.session_of(headers, channel) else {
            return Ok(None);
        };
        let mark = Mark::of(self.version, &sealed);
        let held = match opened::find(mark, now) {
            Some(opened) => Some(Held {
                opened,
                place: None,
            }),
            None => self.open(&sealed, mark, now).await?,
        };
        Ok(held.filter(|held| self.ends(held.session()) > now))
    }

    async fn open(&self, sealed: &str, mark: Mark, now: i64) -> Result<Option<Held>, Unavailable> {
        let text = self.sealing.open(PURPOSE, sealed);
        let kept = text.and_then(|text| serde_json::from_slice(&text).ok());
        Ok(match kept {
            None => None,
            Some(Kept::Whole(session)) => {
                let held = Held::new(session);
                opened::note(mark, sealed.len(), &held.opened, now);
                Some(held)
            }
            // Somebody else may change or end what is there.
            Some(Kept::At(place)) => {
                let entry = self.store.get(&self.key(&place)).await?;
                let found = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
                found.map(|session| Held {
                    place: Some(place),
                    ..Held::new(session)
                })
            }
        })
    }

    fn key(&self, place: &str) -> Key {
        Key::of("openid connect session", &self.sealing.named("", &[place]))
    }

    /// When a session is over if nothing more is heard of it.
    fn ends(&self, session: &Session) -> i64 {
        let idle = self
            .idle
            .map_or(i64::MAX, |idle| session.seen.saturating_add(idle));
        let lifetime = session.confirmed.saturating_add(self.lifetime);
        let absolute = session.login.saturating_add(self.absolute);
        idle.min(lifetime).min(absolute)
    }

    /// Whether it is to be written again so that it does not count as idle.
    pub(super) fn is_stale(&self, session: &Session, now: i64) -> bool {
        self.idle
            .is_some_and(|idle| now.saturating_sub(session.seen) > (idle / 8).max(0))
    }

    /// Writes a session: into cookies, or into the store. Says whether it is in the store because it is too large.
    pub(super) async fn write(
        &self,
        held: &mut Held,
        edits: &mut ResponseEdits,
        headers: &HeaderMap,
        channel: Channel,
        now: i64,
    ) -> Result<bool, WriteError> {
        held.change().seen = now;
        let seconds = self.ends(held.session()).saturating_sub(now).max(1);
        let mut moved = false;
        if !self.in_store && held.place.is_none() {
            let kept = Kept::Whole(held.session().clone());
            let text = serde_json::to_vec(&kept).map_err(|_| WriteError::Internal)?;
            let sealed = self.sealing.seal(PURPOSE, &text);
            let sealed = sealed.ok_or(WriteError::Internal)?;
            if self
                .jar
                .set_session(edits, channel, headers, &sealed, seconds)
            {
                return Ok(false);
            }
            moved = true;
        }
        let place = match held.place.take() {
            Some(place) => place,
            None => seal::random().ok_or(WriteError::Internal)?,
        };
        let text = serde_json::to_vec(held.session()).map_err(|_| WriteError::Internal)?;
        let ttl = Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
        let put = self.store.put(&self.key(&place), &text, Some(ttl)).await;
        put.map_err(|_| WriteError::Unavailable)?;
        let kept = Kept::At(place.clone());
        let text = serde_json::to_vec(&kept).map_err(|_| WriteError::Internal)?;
        let sealed = self.sealing.seal(PURPOSE, &text);
        let sealed = sealed.ok_or(WriteError::Internal)?;
        held.place = Some(place);
        if !self
            .jar
            .set_session(edits, channel, headers, &sealed, seconds)
        {
            return Err(WriteError::Internal);
        }
        Ok(moved)
    }

    /// Ends a session.
    pub(super) async fn end(
        &self,
        held: Option<&Held>,
        edits: &mut ResponseEdits,
        headers: &HeaderMap,
        channel: Channel,
    ) -> Result<(), Unavailable> {
        self.jar.end_session(edits, channel, headers);
        match held.and_then(|held| held.place.as_ref()) {
            Some(place) => self.store.remove(&self.key(place)).await,
            None => Ok(()),
        }
    }

    /// Remembers that the provider has ended a session of its own, or all sessions of a user.
    pub(super) async fn end_at_provider(
        &self,
        issuer: &str,
        (what, name): (&str, &str),
        now: i64,
    ) -> Result<(), Unavailable> {
        let ttl = Duration::from_secs(u64::try_from(self.absolute).unwrap_or(1));
        let key = self.ended_key(issuer, what, name);
        self.store.put(&key, &now.to_be_bytes(), Some(ttl)).await
    }

    /// Whether a token of the provider is seen for the first time.
    pub(super) async fn is_first(&self, id: &str, seconds: u64) -> Result<bool, Unavailable> {
        let key = Key::of("openid connect jti", &self.sealing.named("", &[id]));
        let ttl = Duration::from_secs(seconds);
        self.store.put_new(&key, &[], Some(ttl)).await
    }

    /// Whether the provider has ended it.
    pub(super) async fn is_ended(&self, session: &Session) -> Result<bool, Unavailable> {
        let marks = [
            ("sid", session.sid.as_deref()),
            ("sub", Some(&*session.sub)),
        ];
        for (what, name) in marks {
            let Some(name) = name else { continue };
            let key = self.ended_key(&session.iss, what, name);
            if let Some(entry) = self.store.get(&key).await? {
                let at = entry.value.first_chunk().map(|at| i64::from_be_bytes(*at));
                if at.is_none_or(|at| session.login <= at) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn ended_key(&self, issuer: &str, what: &str, name: &str) -> Key {
        let name = self.sealing.named(what, &[issuer, name]);
        Key::of("openid connect ended", &name)
    }
}

impl Held {
    /// A new session, which is nowhere yet.
    pub(super) fn new(session: Session) -> Self {
        let told = OnceCell::new();
        Self {
            opened: Rc::new(Opened { session, told }),
            place: None,
        }
    }

    pub(super) fn session(&self) -> &Session {
        &self.opened.session
    }

    /// The session, to be changed for this request and those that follow it.
    pub(super) fn change(&mut self) -> &mut Session {
        let opened = Rc::make_mut(&mut self.opened);
        opened.told.take();
        &mut opened.session
    }

    /// What the upstream is told of it.
    pub(super) fn told(&self, config: &Config) -> &Told {
        self.opened.told.get_or_init(|| {
            let session = self.session();
            Told::new(
                config,
                &Known {
                    access_token: session.access_token.as_deref(),
                    refresh_token: session.refresh_token.as_deref(),
                    id_token: session.claims.as_ref(),
                    user: session.user.as_ref(),
                },
            )
        })
    }
}

/// Why a session could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteError {
    Unavailable,
    Internal,
}
