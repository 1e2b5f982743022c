//! Codes and tokens, from their issue to their end.
//!
//! A line of tokens is one entry of the store, which names its one access token and its one refresh token. Whoever redeems a
//! code creates the entry; whoever refreshes replaces it; whoever revokes marks it: one of any number that race gets
//! through, at whatever proxy, and the others see what it did. A new access token is stored before the line names it, and
//! counts from then on.

use std::rc::Rc;
use std::time::Duration;

use store::{Entry, Key, Unavailable};

use super::ages;
use super::answer::Refused;
use super::cache::{self, Token};
use super::handler::Handler;
use super::ledger::{counting, end_line};
use super::records::{
    Access, CODE_LIFETIME, Code, Line, Spent, Subject, end, is_over, read, ttl, write,
};
use super::secrets::{Digest, Handle, Secret, access_key, code_key, random, refresh_digest};

/// How often a refresh token that may be used again is tried where others use it at the same time.
const ATTEMPTS: usize = 64;
/// Tokens for a client.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) access: Secret,
    /// Seconds that the access token still lives; none: for ever.
    pub(super) expires_in: Option<i64>,
    pub(super) refresh: Option<Secret>,
}

/// Why a code or a refresh token gives nothing.
#[derive(Debug)]
pub(super) enum Denied {
    /// Unknown, used, replaced, expired, revoked, or of another plugin.
    Invalid,
    /// It is another application's.
    OtherClient,
    /// It has a scope that is not on offer, or none of those that are asked for.
    Scope,
    Unavailable,
}

impl From<Unavailable> for Denied {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl From<super::secrets::NoRandomness> for Denied {
    fn from(_: super::secrets::NoRandomness) -> Self {
        Self::Unavailable
    }
}

/// What is presented for tokens.
struct Cause<'a> {
    secret: &'a [u8],
    digest: Digest,
    /// The scope of the access token, where it is not the line's.
    scope: Option<String>,
}

impl Handler {
    /// A new code.
    pub(super) async fn issue_code(&self, code: &Code) -> Result<Secret, Refused> {
        let secret = Secret::random()?;
        let key = code_key(secret.as_bytes());
        let lifetime = Duration::from_secs(CODE_LIFETIME.into());
        self.store().put(&key, &write(code), Some(lifetime)).await?;
        Ok(secret)
    }

    /// What is known of a code that may be redeemed.
    pub(super) async fn code(&self, code: &str, now: i64) -> Result<Option<Code>, Unavailable> {
        let found = self.store().get(&code_key(code.as_bytes())).await?;
        let code = found.and_then(|entry| read::<Code>(&entry.value));
        Ok(code.filter(|code| {
            !is_over(code.expires, now) && self.honours(&code.subject.plugin, code.subject.global)
        }))
    }

    /// An access token without a refresh token.
    pub(super) async fn issue_alone(&self, subject: Subject, now: i64) -> Result<Tokens, Refused> {
        let access = Secret::random()?;
        self.put_access(&access, subject, None, now).await?;
        Ok(Tokens {
            access,
            expires_in: self.expires_in(),
            refresh: None,
        })
    }

    /// The first tokens of a line that begins with the word of a back end.
    pub(super) async fn issue_line(&self, subject: Subject, now: i64) -> Result<Tokens, Refused> {
        let seed: [u8; 32] = random()?;
        let cause = Cause {
            secret: &seed,
            digest: refresh_digest(&seed),
            scope: None,
        };
        let handle = Handle::random()?;
        match self.begin(&handle, None, &cause, subject, now).await {
            Ok(tokens) => Ok(tokens),
            // Nobody else has drawn this handle.
            Err(_) => Err(Refused::Unavailable),
        }
    }

    /// The first tokens of a line that begins with a code. The second time that a code comes, its line ends.
    pub(super) async fn redeem(
        &self,
        code: &str,
        subject: Subject,
        now: i64,
    ) -> Result<Tokens, Denied> {
        let digest = Digest::of(&code_key(code.as_bytes()));
        let cause = Cause {
            secret: code.as_bytes(),
            digest,
            scope: None,
        };
        let handle = Handle::of_code(code);
        if let Some(entry) = self.store().get(&handle.key()).await? {
            return self.replayed_code(&handle, &entry, &cause, now).await;
        }
        match self
            .begin(&handle, Some(digest), &cause, subject, now)
            .await
        {
            Err(Denied::Invalid) => match self.store().get(&handle.key()).await? {
                Some(entry) => self.replayed_code(&handle, &entry, &cause, now).await,
                None => Err(Denied::Invalid),
            },
            other => other,
        }
    }

    async fn replayed_code(
        &self,
        handle: &Handle,
        entry: &Entry,
        cause: &Cause<'_>,
        now: i64,
    ) -> Result<Tokens, Denied> {
        let line: Line = read(&entry.value).ok_or(Denied::Invalid)?;
        // Two codes with one handle are not to be expected before the end of the world.
        if line.code != Some(cause.digest) {
            return Err(Denied::Invalid);
        }
        self.replayed(handle, &line, cause, now).await
    }

    /// What was used already comes again.
    async fn replayed(
        &self,
        handle: &Handle,
        line: &Line,
        cause: &Cause<'_>,
        now: i64,
    ) -> Result<Tokens, Denied> {
        if line.revoked {
            return Err(Denied::Invalid);
        }
        if let Some(again) = self.same_again(handle, line, cause, now) {
            return Ok(again);
        }
        self.revoke_line(handle, line).await?;
        Err(Denied::Invalid)
    }

    /// A refresh token that has been replaced comes again. Where the application has no secret, nobody can tell who has it: the
    /// line ends (RFC 9700, section 4.14.2). An application that proves who it is, is told no, and keeps what it has.
    async fn replaced(
        &self,
        handle: &Handle,
        line: &Line,
        cause: &Cause<'_>,
        (client, now): (&super::client::Client, i64),
    ) -> Result<Tokens, Denied> {
        if client.public {
            return self.replayed(handle, line, cause, now).await;
        }
        self.same_again(handle, line, cause, now)
            .ok_or(Denied::Invalid)
    }

    /// The answer that was given already, where the client is so soon back that it must have missed it.
    fn same_again(
        &self,
        handle: &Handle,
        line: &Line,
        cause: &Cause<'_>,
        now: i64,
    ) -> Option<Tokens> {
        let spent = line.spent.as_ref()?;
        let grace = i64::from(self.settings().retry_grace_seconds);
        // Clocks differ, if only by when a second begins: no grace is none, whatever they say.
        if grace == 0 || spent.digest != cause.digest || now >= spent.at + grace {
            return None;
        }
        let access = Secret::access(cause.secret, &spent.salt);
        let refresh = Secret::refresh(handle, cause.secret, &spent.salt);
        if Digest::of(&access_key(access.as_bytes())) != line.access {
            return None;
        }
        let expires_in = (line.access_expires != 0).then(|| (line.access_expires - now).max(0));
        let is_current =
            |refresh: &Secret| line.refresh == Some(refresh_digest(refresh.as_bytes()));
        Some(Tokens {
            access,
            expires_in,
            refresh: Some(refresh).filter(is_current),
        })
    }

    async fn begin(
        &self,
        handle: &Handle,
        code: Option<Digest>,
        cause: &Cause<'_>,
        subject: Subject,
        now: i64,
    ) -> Result<Tokens, Denied> {
        let (tokens, line) = self.next(handle, code, cause, subject, now).await?;
        let stored = self
            .store()
            .put_new(&handle.key(), &write(&line), self.line_ttl())
            .await?;
        if stored {
            Ok(tokens)
        } else {
            Err(Denied::Invalid)
        }
    }

    /// New tokens, and the line that names them. The access token is stored.
    async fn next(
        &self,
        handle: &Handle,
        code: Option<Digest>,
        cause: &Cause<'_>,
        subject: Subject,
        now: i64,
    ) -> Result<(Tokens, Line), Denied> {
        let settings = self.settings();
        let salt: [u8; 16] = random()?;
        let access = Secret::access(cause.secret, &salt);
        let refresh =
            (settings.token_expiration > 0).then(|| Secret::refresh(handle, cause.secret, &salt));
        let line = Line {
            subject: subject.clone(),
            revoked: false,
            code,
            access: Digest::of(&access_key(access.as_bytes())),
            access_expires: end(now, settings.token_expiration),
            refresh: refresh
                .as_ref()
                .map(|token| refresh_digest(token.as_bytes())),
            refresh_issued: now,
            refresh_expires: end(now, settings.refresh_token_ttl),
            spent: Some(Spent {
                digest: cause.digest,
                salt,
                at: now,
            }),
        };
        let mut own = subject;
        if let Some(scope) = &cause.scope {
            own.scope.clone_from(scope);
        }
        self.put_access(&access, own, Some(handle), now).await?;
        let tokens = Tokens {
            access,
            expires_in: self.expires_in(),
            refresh,
        };
        Ok((tokens, line))
    }

    async fn put_access(
        &self,
        token: &Secret,
        subject: Subject,
        line: Option<&Handle>,
        now: i64,
    ) -> Result<(), Unavailable> {
        let lifetime = self.settings().token_expiration;
        let access = Access {
            subject,
            line: line.cloned(),
            issued: now,
            expires: end(now, lifetime),
        };
        let key = access_key(token.as_bytes());
        self.store().put(&key, &write(&access), ttl(lifetime)).await
    }

    fn expires_in(&self) -> Option<i64> {
        let seconds = self.settings().token_expiration;
        (seconds > 0).then_some(seconds.into())
    }

    /// As long as anything that a line names can still count, and its code could come again.
    fn line_ttl(&self) -> Option<Duration> {
        let settings = self.settings();
        if settings.token_expiration == 0 || settings.refresh_token_ttl == 0 {
            return None;
        }
        let longest = settings.token_expiration.max(settings.refresh_token_ttl);
        ttl(longest.max(2 * CODE_LIFETIME))
    }

    /// New tokens for a refresh token. `asked` are the scopes that are asked for.
    pub(super) async fn refresh(
        &self,
        token: &str,
        client: &super::client::Client,
        asked: Option<&str>,
        now: i64,
    ) -> Result<Tokens, Denied> {
        let handle = Handle::of_refresh_token(token).ok_or(Denied::Invalid)?;
        let digest = refresh_digest(token.as_bytes());
        for _ in 0..ATTEMPTS {
            let entry = self
                .store()
                .get(&handle.key())
                .await?
                .ok_or(Denied::Invalid)?;
            let line: Line = read(&entry.value).ok_or(Denied::Invalid)?;
            let subject = &line.subject;
            if line.revoked || !self.honours(&subject.plugin, subject.global) {
                return Err(Denied::Invalid);
            }
            if subject.application != client.id {
                return Err(Denied::OtherClient);
            }
            let mut cause = Cause {
                secret: token.as_bytes(),
                digest,
                scope: None,
            };
            if line.refresh != Some(digest) {
                return self.replaced(&handle, &line, &cause, (client, now)).await;
            }
            if is_over(line.refresh_expires, now) || !client.owns(subject) {
                return Err(Denied::Invalid);
            }
            cause.scope = self.scope_of_refresh(&subject.scope, asked)?;
            let (tokens, next) = self.rotated(&handle, &line, &cause, token, now).await?;
            let stored = self
                .store()
                .replace(
                    &handle.key(),
                    &entry.version,
                    &write(&next),
                    self.line_ttl(),
                )
                .await?;
            if stored {
                ages::forget(&line.access);
                return Ok(tokens);
            }
        }
        Err(Denied::Unavailable)
    }

    async fn rotated(
        &self,
        handle: &Handle,
        line: &Line,
        cause: &Cause<'_>,
        token: &str,
        now: i64,
    ) -> Result<(Tokens, Line), Denied> {
        let subject = line.subject.clone();
        let (mut tokens, mut next) = self.next(handle, line.code, cause, subject, now).await?;
        if self.settings().reuse_refresh_token {
            next.refresh = line.refresh;
            next.spent = None;
            tokens.refresh = Some(Secret::known(token));
        }
        Ok((tokens, next))
    }

    /// The scope of the new access token, where it is not the old one.
    fn scope_of_refresh(&self, had: &str, asked: Option<&str>) -> Result<Option<String>, Denied> {
        let offered = |scope: &str| self.settings().scopes.iter().any(|own| own == scope);
        if !had
            .split(' ')
            .filter(|scope| !scope.is_empty())
            .all(offered)
        {
            return Err(Denied::Scope);
        }
        let Some(asked) = asked else { return Ok(None) };
        let asked: Vec<&str> = asked.split_whitespace().collect();
        if asked
            .iter()
            .all(|scope| had.split(' ').any(|own| own == *scope))
        {
            Ok(Some(asked.join(" ")))
        } else {
            Err(Denied::Scope)
        }
    }

    /// Ends a line: nothing of it counts any more, and its code gives nothing.
    pub(super) async fn revoke_line(
        &self,
        handle: &Handle,
        line: &Line,
    ) -> Result<(), Unavailable> {
        end_line(self.store(), handle, line).await
    }

    /// Ends an access token; its line goes on.
    pub(super) async fn revoke_access(&self, key: &Key) -> Result<(), Unavailable> {
        self.store().remove(key).await?;
        ages::forget(&Digest::of(key));
        Ok(())
    }

    /// The line of a refresh token that counts.
    pub(super) async fn line(
        &self,
        token: &str,
        now: i64,
    ) -> Result<Option<(Handle, Line)>, Unavailable> {
        let Some(handle) = Handle::of_refresh_token(token) else {
            return Ok(None);
        };
        let Some(entry) = self.store().get(&handle.key()).await? else {
            return Ok(None);
        };
        let digest = refresh_digest(token.as_bytes());
        let line = read::<Line>(&entry.value).filter(|line| {
            !line.revoked
                && line.refresh == Some(digest)
                && !is_over(line.refresh_expires, now)
                && self.honours(&line.subject.plugin, line.subject.global)
        });
        Ok(line.map(|line| (handle, line)))
    }

    /// An access token that counts, as far as the store knows.
    pub(super) async fn access(&self, key: &Key, now: i64) -> Result<Option<Access>, Unavailable> {
        let Some(entry) = self.store().get(key).await? else {
            return Ok(None);
        };
        let issued = counting(self.store(), key, &entry, now).await?;
        Ok(issued.map(|issued| issued.access))
    }

    /// The same, ready to be judged, and remembered.
    pub(super) async fn look_up(
        &self,
        key: Key,
        now: i64,
    ) -> Result<Option<Rc<Token>>, Unavailable> {
        let age = ages::age(&key);
        let Some(access) = self.access(&key, now).await? else {
            return Ok(None);
        };
        let token = Rc::new(Token::of(access));
        cache::note(key, age, &token, now);
        Ok(Some(token))
    }
}
