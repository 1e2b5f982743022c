//! How a token is got where none is there: by one request, of one worker, of one proxy.

use std::sync::Arc;
use std::time::Duration;

use store::{Key, Store};
use tokio::time::Instant;

use super::pool::{Place, Pool};
use super::provider::Provider;
use super::slot::{Slot, Token, now};

/// How often a proxy looks whether another one has got the token.
const LOOK: Duration = Duration::from_millis(50);

/// How much longer than the provider may take a proxy has the right to ask it.
const GRACE: Duration = Duration::from_secs(5);

/// What gets tokens for one handler.
#[derive(Debug)]
pub(super) struct Fetcher {
    pub(super) provider: Provider,
    pub(super) slot: Arc<Slot>,
    pub(super) place: Place,
    pub(super) pool: Pool,
    /// Where proxies share tokens, if they do.
    pub(super) shared: Option<Store>,
    pub(super) timeout: Duration,
    /// Milliseconds before its end in which a token is no longer used.
    pub(super) eagerly: u64,
}

impl Fetcher {
    /// A token other than `old`, from whoever is asking already, or else from the provider.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        old: Option<u64>,
    ) -> Result<Arc<Token>, &'static str> {
        if let Some(reason) = self.slot.paused() {
            return Err(reason);
        }
        let fetcher = Arc::clone(self);
        let flight = self.pool.flights.run(self.place.clone(), || async move {
            let got = fetcher.get(old).await;
            match &got {
                Ok(token) => fetcher.slot.put(token),
                Err(reason) => {
                    if fetcher.slot.failed(reason) {
                        let host = fetcher.provider.host();
                        tracing::warn!(host, reason, "a provider gives no token for an upstream");
                    }
                }
            }
            got
        });
        flight.await.unwrap_or(Err("stopped"))
    }

    /// A token that another proxy has got.
    pub(super) async fn look(&self) -> Option<Token> {
        let store = self.shared.as_ref()?;
        let found = self.stored(store, &token_key(&self.place.0), None).await;
        found.ok().flatten()
    }

    async fn get(&self, old: Option<u64>) -> Result<Arc<Token>, &'static str> {
        // Somebody may have got one between the look at the slot and here.
        if let Some(token) = &*self.slot.token()
            && self.is_new(token, old)
        {
            return Ok(Arc::clone(token));
        }
        let token = match &self.shared {
            None => self.provider.ask().await?,
            Some(store) => self.share(store, old).await?,
        };
        Ok(Arc::new(token))
    }

    fn is_new(&self, token: &Token, old: Option<u64>) -> bool {
        Some(token.id) != old && token.is_good(now(), self.eagerly) && !self.slot.is_rejected(token)
    }

    /// Takes what another proxy has got, or gets it for all, holding a lease. A store that is away holds nobody up for long:
    /// then each proxy asks for itself.
    async fn share(&self, store: &Store, old: Option<u64>) -> Result<Token, &'static str> {
        let (key, lease) = (token_key(&self.place.0), lease_key(&self.place.0));
        let mut holder = [0; 16];
        aws_lc_rs::rand::fill(&mut holder).map_err(|_| "no_randomness")?;
        let deadline = Instant::now() + self.timeout;
        loop {
            let Ok(found) = self.stored(store, &key, old).await else {
                return self.provider.ask().await;
            };
            if let Some(token) = found {
                return Ok(token);
            }
            match store.lease(&lease, &holder, self.timeout + GRACE).await {
                Ok(true) => break,
                Ok(false) if Instant::now() + LOOK < deadline => tokio::time::sleep(LOOK).await,
                Ok(false) | Err(_) => return self.provider.ask().await,
            }
        }
        let got = self.ask_for_all(store, &key, old).await;
        // It ends by itself where this fails.
        let _ = store.release(&lease, &holder).await;
        got
    }

    async fn ask_for_all(
        &self,
        store: &Store,
        key: &Key,
        old: Option<u64>,
    ) -> Result<Token, &'static str> {
        // Whoever had the lease before may have got it between the look and the lease.
        if let Ok(Some(token)) = self.stored(store, key, old).await {
            return Ok(token);
        }
        let token = self.provider.ask().await?;
        let left = token.expires.saturating_sub(now());
        if left > 0 {
            let ttl = Some(Duration::from_millis(left));
            // A token that cannot be shared is good all the same.
            let _ = store.put(key, &token.to_bytes(), ttl).await;
        }
        Ok(token)
    }

    async fn stored(
        &self,
        store: &Store,
        key: &Key,
        old: Option<u64>,
    ) -> Result<Option<Token>, store::Unavailable> {
        let found = store.get(key).await?;
        let token = found.and_then(|entry| Token::from_bytes(&entry.value));
        Ok(token.filter(|token| self.is_new(token, old)))
    }

    /// Takes a token that was given up away from the others, too.
    pub(super) async fn forget(&self, id: u64) {
        let Some(store) = &self.shared else { return };
        let key = token_key(&self.place.0);
        if let Ok(Some(entry)) = store.get(&key).await
            && Token::from_bytes(&entry.value).is_some_and(|token| token.id == id)
        {
            // Who looks meanwhile knows by the token itself that it is not wanted.
            let _ = store.remove(&key).await;
        }
    }
}

fn token_key(of: &Key) -> Key {
    Key::of("upstream oauth token", of.as_bytes())
}

fn lease_key(of: &Key) -> Key {
    Key::of("upstream oauth lease", of.as_bytes())
}
