//! A token, and the place that all plugins of equal `oauth` share for it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// A token that lives no longer is not renewed ahead of time: its next request fetches one.
const RENEWED: Duration = Duration::from_secs(60);

/// After so many failures in a row the provider gets pauses, which double, from the first to the longest.
const PATIENT: u32 = 2;
const FIRST_PAUSE: u64 = 250;
const LONGEST_PAUSE: u64 = 15_000;

/// So many tokens may be given up at once, and one more each second: an upstream that refuses everything must not turn
/// every request into one for the provider.
const PURGES: u64 = 3;
const PURGE_EVERY: u64 = 1000;

/// Milliseconds since 1970: what proxies share must mean the same to all of them.
pub(super) fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An access token.
pub(super) struct Token {
    /// What the upstream gets.
    pub(super) header: HeaderValue,
    /// Tells it from others, and says nothing of it.
    pub(super) id: u64,
    pub(super) expires: u64,
    /// When to fetch the next one, if this one is in use then.
    renew: u64,
    text: String,
    fetched: u64,
}

/// How a token is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    token: String,
    fetched: u64,
    expires: u64,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

impl Token {
    /// A token that was asked for at a time, and how long it lives from then. None: it fits no header.
    pub(super) fn new(text: String, fetched: u64, life: Duration) -> Option<Self> {
        let life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        let mut header = HeaderValue::from_str(&format!("Bearer {text}")).ok()?;
        header.set_sensitive(true);
        let id = digest(&SHA256, text.as_bytes());
        let id = id.as_ref().first_chunk::<8>()?;
        let renew = if life > RENEWED {
            // Between 70 and 85 hundredths of its life, so that many proxies do not ask at once.
            let part = 70 + random_below(16);
            fetched.saturating_add((life_ms / 100).saturating_mul(part))
        } else {
            u64::MAX
        };
        Some(Self {
            header,
            id: u64::from_be_bytes(*id),
            expires: fetched.saturating_add(life_ms),
            renew,
            text,
            fetched,
        })
    }

    /// Whether it may still be sent, so long before its end.
    pub(super) const fn is_good(&self, now: u64, eagerly: u64) -> bool {
        now.saturating_add(eagerly) < self.expires
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let stored = Stored {
            token: self.text.clone(),
            fetched: self.fetched,
            expires: self.expires,
        };
        // Writing to memory does not fail; what is empty is nobody's token.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        let life = stored.expires.checked_sub(stored.fetched)?;
        Self::new(stored.token, stored.fetched, Duration::from_millis(life))
    }
}

/// Where the token of one `oauth` is in this process.
#[derive(Debug)]
pub(super) struct Slot {
    token: ArcSwapOption<Token>,
    /// A token that the upstream did not want.
    rejected: AtomicU64,
    renewing: AtomicBool,
    /// Looked at only where there is no good token.
    health: Mutex<Health>,
    purges: Mutex<Purges>,
}

#[derive(Debug, Default)]
struct Health {
    failures: u32,
    /// Until then nobody is asked, and this is why.
    paused: u64,
    reason: &'static str,
}

#[derive(Debug)]
struct Purges {
    left: u64,
    counted: u64,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            token: ArcSwapOption::empty(),
            rejected: AtomicU64::new(0),
            renewing: AtomicBool::new(false),
            health: Mutex::default(),
            purges: Mutex::new(Purges {
                left: PURGES,
                counted: 0,
            }),
        }
    }
}

impl Slot {
    /// The token that is there, good or not.
    pub(super) fn token(&self) -> arc_swap::Guard<Option<std::sync::Arc<Token>>> {
        self.token.load()
    }

    /// A new one is there.
    pub(super) fn put(&self, token: &std::sync::Arc<Token>) {
        *self.health.lock() = Health::default();
        self.token.store(Some(std::sync::Arc::clone(token)));
    }

    /// There is none; says whether this is the first time in a row.
    pub(super) fn failed(&self, reason: &'static str) -> bool {
        let mut health = self.health.lock();
        health.failures = health.failures.saturating_add(1);
        health.reason = reason;
        let over = health.failures.saturating_sub(PATIENT).min(10);
        if health.failures >= PATIENT {
            let pause = (FIRST_PAUSE << over).min(LONGEST_PAUSE);
            // Half of it is left to chance.
            health.paused = now().saturating_add(pause / 2 + random_below(pause / 2 + 1));
        }
        health.failures == 1
    }

    /// Why nobody is to be asked now, if so.
    pub(super) fn paused(&self) -> Option<&'static str> {
        let health = self.health.lock();
        (now() < health.paused).then_some(health.reason)
    }

    pub(super) fn is_rejected(&self, token: &Token) -> bool {
        self.rejected.load(Relaxed) == token.id
    }

    /// Gives up a token, if it is the one that is there, and not too many have been given up of late.
    pub(super) fn purge(&self, id: u64) -> bool {
        let token = self.token.load();
        let Some(current) = token.as_ref().filter(|token| token.id == id) else {
            return false;
        };
        {
            let mut purges = self.purges.lock();
            let now = now();
            let more = now.saturating_sub(purges.counted) / PURGE_EVERY;
            if more > 0 {
                purges.left = purges.left.saturating_add(more).min(PURGES);
                purges.counted = now;
            }
            if purges.left == 0 {
                return false;
            }
            purges.left -= 1;
        }
        self.rejected.store(id, Relaxed);
        self.token.compare_and_swap(current, None);
        true
    }

    /// Whether the caller is to see to a new token now: it is time, nobody else does, and the provider may be asked.
    pub(super) fn begins_renewal(&self, token: &Token, now: u64) -> bool {
        now >= token.renew
            && !self.renewing.load(Relaxed)
            && self.paused().is_none()
            && !self.renewing.swap(true, Relaxed)
    }

    pub(super) fn renewed(&self) {
        self.renewing.store(false, Relaxed);
    }
}

/// Without randomness everybody does it at once, which is no worse than that.
fn random_below(limit: u64) -> u64 {
    let mut bytes = [0; 8];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_be_bytes(bytes).checked_rem(limit).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn token(text: &str, life: u64) -> Arc<Token> {
        Arc::new(Token::new(text.to_owned(), now(), Duration::from_secs(life)).unwrap())
    }

    #[test]
    fn a_token_is_not_used_to_its_last_moment() {
        let token = Token::new("t".to_owned(), 1000, Duration::from_secs(10)).unwrap();
        assert!(token.is_good(1000, 5000));
        assert!(token.is_good(5999, 5000));
        assert!(!token.is_good(6000, 5000));
        assert!(!token.is_good(11_000, 0));
        let again = Token::from_bytes(&token.to_bytes()).unwrap();
        assert_eq!(
            (again.id, again.expires, &again.header),
            (token.id, 11_000, &token.header)
        );
        assert!(!format!("{token:?} {:?}", token.header).contains("Bearer"));
    }

    #[test]
    fn only_what_lives_over_a_minute_is_renewed_ahead_of_time() {
        let slot = Slot::default();
        let (short, long) = (token("short", 60), token("long", 100));
        assert!(!slot.begins_renewal(&short, now() + 59_999));
        assert!(!slot.begins_renewal(&long, now() + 60_000));
        assert!(slot.begins_renewal(&long, now() + 90_000));
        assert!(!slot.begins_renewal(&long, now() + 90_000), "twice");
        slot.renewed();
        assert!(slot.begins_renewal(&long, now() + 90_000));
    }

    #[test]
    fn a_failing_provider_gets_pauses() {
        let slot = Slot::default();
        assert!(slot.failed("timeout"));
        assert_eq!(slot.paused(), None);
        assert!(!slot.failed("timeout"));
        assert_eq!(slot.paused(), Some("timeout"));
        slot.put(&token("t", 10));
        assert_eq!(slot.paused(), None);
        for _ in 0..100 {
            slot.failed("timeout");
        }
        assert!(slot.health.lock().paused <= now() + LONGEST_PAUSE);
    }

    #[test]
    fn tokens_are_given_up_but_not_without_end() {
        let slot = Slot::default();
        slot.put(&token("0", 10));
        assert!(!slot.purge(token("other", 10).id));
        assert!(slot.token().is_some());
        let mut purged = 0;
        for number in 0..100 {
            let token = token(&number.to_string(), 10);
            slot.put(&token);
            if slot.purge(token.id) {
                assert!(slot.token().is_none() && slot.is_rejected(&token));
                purged += 1;
            }
        }
        assert!((3..10).contains(&purged), "{purged}");
    }
}
