//! Access tokens as an operator sees them: listed, ended, changed, and brought along from another gateway.
//!
//! Tokens themselves are not kept, so they are shown to nobody after they were issued. An access token is known by its id,
//! the digest that the store keeps it under.

use std::fmt;
use std::time::Duration;

use store::{Entry, Key, Position, Store, Unavailable, Version};

use super::ages;
use super::records::{
    Access, CODE_LIFETIME, Line, Subject, end, is_access, is_over, read, ttl, write,
};
use super::secrets::{
    Digest, Handle, NoRandomness, Secret, access_key, is_well_formed, refresh_digest,
};
use crate::schema;

/// How long it is known that a line has been revoked: longer than the code lives that began it.
const REVOKED: Duration = Duration::from_secs(2 * CODE_LIFETIME as u64);

/// How many parts of a store are read for one page: among its entries there may be few access tokens.
const PARTS: usize = 64;

/// How often a change is made again that another overtook.
const ATTEMPTS: usize = 16;

/// The access tokens of all applications.
#[derive(Debug, Clone)]
pub struct Ledger(Store);

/// An access token that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    id: Key,
    pub(super) access: Access,
    line: Option<(Handle, Line)>,
}

/// For whom a token is to count, and what for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// Id of the plugin that it counts for; empty: for all that share tokens.
    pub plugin: String,
    /// Whether it counts for all plugins that share tokens.
    pub global: bool,
    /// The application's client id.
    pub client_id: String,
    /// The application's Credential.
    pub application: String,
    /// The Consumer that this belongs to.
    pub consumer: String,
    /// Separated by blanks; empty: none.
    pub scope: String,
    /// The end user; empty: none.
    pub user: String,
}

/// How long tokens are to live, in seconds; 0: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// The access token.
    pub access: u32,
    /// The refresh token.
    pub refresh: u32,
}

/// Tokens that another gateway issued.
#[derive(Debug, Default)]
pub struct Known {
    /// None: a new one is drawn.
    pub access: Option<Token>,
    /// None: there is none.
    pub refresh: Option<Token>,
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Secret);

/// What is changed of an access token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The new scope; empty: none.
    pub scope: Option<String>,
    /// The new end user; empty: none.
    pub user: Option<String>,
    /// How many seconds it lives from its issue on; 0: for ever.
    pub expires_in: Option<u32>,
}

/// Some of the tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In no order that means anything.
    pub tokens: Vec<Issued>,
    /// Where the next page begins; none behind the last one.
    pub next: Option<Position>,
}

/// Why something is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The access token is there already.
    #[error("the access token is there already")]
    AccessTaken,
    /// The refresh token, or one that begins like it, is there already.
    #[error("the refresh token is there already")]
    RefreshTaken,
    /// There is no such token, or it does not count any more.
    #[error("there is no such token")]
    NotFound,
    /// It would have expired already.
    #[error("it would have expired already")]
    Over,
    /// The position is none of this store's.
    #[error("the position is none of this store's")]
    Position,
    /// The store cannot do it now, or nothing can be drawn at random.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<NoRandomness> for Failure {
    fn from(NoRandomness: NoRandomness) -> Self {
        Self::Unavailable(Unavailable::Away)
    }
}

impl Token {
    /// A token of the form that is issued: 32 letters and digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_well_formed(text.as_bytes()).then(|| Self(Secret::known(text)))
    }

    /// For whoever it is issued to.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

impl Issued {
    /// Names it, and tells nothing of it.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.to_hex()
    }

    /// For whom it counts, and what for.
    #[must_use]
    pub fn grant(&self) -> Grant {
        let subject = self.access.subject.clone();
        Grant {
            plugin: subject.plugin,
            global: subject.global,
            client_id: subject.client_id,
            application: subject.application,
            consumer: subject.consumer,
            scope: subject.scope,
            user: subject.user,
        }
    }

    /// When it was issued, in seconds since 1970.
    #[must_use]
    pub const fn issued(&self) -> i64 {
        self.access.issued
    }

    /// The first second since 1970 in which it does not count; none: it always will.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        Some(self.access.expires).filter(|expires| *expires != 0)
    }

    /// Whether there is a refresh token beside it.
    #[must_use]
    pub fn is_refreshable(&self, now: i64) -> bool {
        self.line
            .as_ref()
            .is_some_and(|(_, line)| line.refresh.is_some() && !is_over(line.refresh_expires, now))
    }
}

impl Ledger {
    /// The access tokens in a store.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self(store)
    }

    /// Tokens that fit, about `most`. A page may hold fewer, or none, though another follows.
    ///
    /// # Errors
    /// The position is none; the store is away.
    pub async fn page(
        &self,
        from: Option<&Position>,
        most: usize,
        now: i64,
        fits: impl Fn(&Issued) -> bool + Send,
    ) -> Result<Page, Failure> {
        let mut from = from.cloned();
        let mut tokens = Vec::new();
        for _ in 0..PARTS {
            // As many as there is room for: there is no position within a part.
            let room = most.saturating_sub(tokens.len());
            if room == 0 {
                break;
            }
            let part = self.0.scan(from.as_ref(), room).await?;
            let part = part.ok_or(Failure::Position)?;
            let tokens_among = part
                .entries
                .into_iter()
                .filter(|(_, entry)| is_access(&entry.value));
            for (key, entry) in tokens_among {
                let issued = counting(&self.0, &key, &entry, now).await?;
                tokens.extend(issued.filter(|issued| fits(issued)));
            }
            from = part.next;
            if from.is_none() {
                break;
            }
        }
        Ok(Page { tokens, next: from })
    }

    /// A token by its id, or by itself.
    ///
    /// # Errors
    /// There is none that counts; the store is away.
    pub async fn find(&self, name: &str, now: i64) -> Result<Issued, Failure> {
        let key = match Key::from_hex(name) {
            Some(key) => key,
            None if is_well_formed(name.as_bytes()) => access_key(name.as_bytes()),
            None => return Err(Failure::NotFound),
        };
        self.at(&key, now).await.map(|(_, issued)| issued)
    }

    async fn at(&self, key: &Key, now: i64) -> Result<(Version, Issued), Failure> {
        let entry = self.0.get(key).await?;
        let entry = entry.filter(|entry| is_access(&entry.value));
        let entry = entry.ok_or(Failure::NotFound)?;
        let issued = counting(&self.0, key, &entry, now).await?;
        issued
            .map(|issued| (entry.version, issued))
            .ok_or(Failure::NotFound)
    }

    /// Ends a token, and the refresh token beside it.
    ///
    /// # Errors
    /// The store is away.
    pub async fn remove(&self, issued: &Issued) -> Result<(), Failure> {
        if let Some((handle, line)) = &issued.line {
            end_line(&self.0, handle, line).await?;
        }
        self.0.remove(&issued.id).await?;
        ages::forget(&Digest::of(&issued.id));
        Ok(())
    }

    /// Changes a token. What is issued for its refresh token afterwards has the new scope and user, too.
    ///
    /// # Errors
    /// It has ended, or would have with this; the store is away.
    pub async fn change(&self, id: &str, change: &Change, now: i64) -> Result<Issued, Failure> {
        let key = Key::from_hex(id).ok_or(Failure::NotFound)?;
        for _ in 0..ATTEMPTS {
            let (version, Issued { access, line, .. }) = self.at(&key, now).await?;
            let access = change.of(access);
            if is_over(access.expires, now) {
                return Err(Failure::Over);
            }
            if let Some((handle, line)) = &line
                && !self.carry(handle, line, &access, now).await?
            {
                continue;
            }
            let left = left(access.expires, now);
            let replaced = self
                .0
                .replace(&key, &version, &write(&access), left)
                .await?;
            ages::forget(&Digest::of(&key));
            if replaced {
                return self.find(id, now).await;
            }
        }
        Err(Failure::Unavailable(Unavailable::Away))
    }

    /// Has a line say what its access token is going to say; whether it was still the same.
    async fn carry(
        &self,
        handle: &Handle,
        line: &Line,
        access: &Access,
        now: i64,
    ) -> Result<bool, Failure> {
        let key = handle.key();
        let found = self.0.get(&key).await?.ok_or(Failure::NotFound)?;
        if read::<Line>(&found.value).as_ref() != Some(line) {
            return Ok(false);
        }
        let next = Line {
            subject: access.subject.clone(),
            access_expires: access.expires,
            ..line.clone()
        };
        let (text, left) = (write(&next), line_left(&next, now));
        Ok(self.0.replace(&key, &found.version, &text, left).await?)
    }

    /// Adds a token.
    ///
    /// # Errors
    /// It is there already; the store is away or full.
    pub async fn add(
        &self,
        grant: Grant,
        lifetimes: Lifetimes,
        known: Known,
        now: i64,
    ) -> Result<(Token, Issued), Failure> {
        let token = match known.access {
            Some(token) => token,
            None => Token(Secret::random()?),
        };
        let key = access_key(token.0.as_bytes());
        let refresh = match &known.refresh {
            Some(refresh) => {
                let handle = Handle::of_refresh_token(refresh.expose());
                Some((
                    handle.ok_or(Failure::NotFound)?,
                    refresh_digest(refresh.0.as_bytes()),
                ))
            }
            None => None,
        };
        let access = Access {
            subject: subject(grant),
            line: refresh.as_ref().map(|(handle, _)| handle.clone()),
            issued: now,
            expires: end(now, lifetimes.access),
        };
        let lifetime = ttl(lifetimes.access);
        if !self.0.put_new(&key, &write(&access), lifetime).await? {
            return Err(Failure::AccessTaken);
        }
        let line = refresh.map(|(handle, digest)| {
            let line = Line {
                subject: access.subject.clone(),
                revoked: false,
                code: None,
                access: Digest::of(&key),
                access_expires: access.expires,
                refresh: Some(digest),
                refresh_issued: now,
                refresh_expires: end(now, lifetimes.refresh),
                spent: None,
            };
            (handle, line)
        });
        if let Some((handle, line)) = &line {
            let left = line_left(line, now);
            let added = self.0.put_new(&handle.key(), &write(line), left).await;
            if added != Ok(true) {
                self.0.remove(&key).await?;
                added?;
                return Err(Failure::RefreshTaken);
            }
        }
        let issued = Issued {
            id: key,
            access,
            line,
        };
        Ok((token, issued))
    }
}

impl Change {
    fn of(&self, mut access: Access) -> Access {
        if let Some(scope) = &self.scope {
            access.subject.scope.clone_from(scope);
        }
        if let Some(user) = &self.user {
            access.subject.user.clone_from(user);
        }
        if let Some(seconds) = self.expires_in {
            access.expires = end(access.issued, seconds);
        }
        access
    }
}

/// A scope with one blank between its parts.
///
/// # Errors
/// What no scope may hold (RFC 6749, section 3.3).
pub fn scope(text: &str) -> Result<String, &'static str> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    if parts.iter().all(|part| schema::is_scope(part)) {
        Ok(parts.join(" "))
    } else {
        Err(schema::SCOPES.message)
    }
}

fn subject(grant: Grant) -> Subject {
    Subject {
        plugin: grant.plugin,
        global: grant.global,
        client_id: grant.client_id,
        application: grant.application,
        consumer: grant.consumer,
        scope: grant.scope,
        user: grant.user,
    }
}

/// How long something still lives that ends then.
fn left(expires: i64, now: i64) -> Option<Duration> {
    let seconds = u64::try_from(expires.saturating_sub(now)).unwrap_or(0);
    (expires != 0).then(|| Duration::from_secs(seconds))
}

/// As long as one of its tokens lives.
fn line_left(line: &Line, now: i64) -> Option<Duration> {
    let (access, refresh) = (line.access_expires, line.refresh_expires);
    if access == 0 || refresh == 0 {
        return None;
    }
    left(access.max(refresh), now)
}

/// An access token that counts: it has not expired, and its line, where it has one, goes on with it.
pub(super) async fn counting(
    store: &Store,
    key: &Key,
    entry: &Entry,
    now: i64,
) -> Result<Option<Issued>, Unavailable> {
    let access = read::<Access>(&entry.value).filter(|access| !is_over(access.expires, now));
    let Some(access) = access else {
        return Ok(None);
    };
    let Some(handle) = access.line.clone() else {
        return Ok(Some(Issued {
            id: *key,
            access,
            line: None,
        }));
    };
    let found = store.get(&handle.key()).await?;
    let line = found.and_then(|entry| read::<Line>(&entry.value));
    let own = Digest::of(key);
    let line = line.filter(|line| !line.revoked && line.access == own);
    Ok(line.map(|line| Issued {
        id: *key,
        access,
        line: Some((handle, line)),
    }))
}

/// Ends a line: nothing of it counts any more, and its code gives nothing.
pub(super) async fn end_line(
    store: &Store,
    handle: &Handle,
    line: &Line,
) -> Result<(), Unavailable> {
    let ended = Line {
        revoked: true,
        ..line.clone()
    };
    store
        .put(&handle.key(), &write(&ended), Some(REVOKED))
        .await?;
    ages::forget(&line.access);
    Ok(())
}
