//! What must outlive a request: tokens, codes, sessions, and leases by which proxies agree who does something.
//!
//! One [`Store`] with the same promises wherever it keeps its entries:
//!
//! - An entry is found under a [`Key`], which is a digest. Outside this process its contents are sealed.
//! - [`Store::put_new`], [`Store::replace`], [`Store::take`] and [`Store::lease`] are atomic: of any number that race, one wins.
//! - What was acknowledged is there for every later read, of every proxy that shares the store.
//! - Entries that have expired are not seen any more, and go away by themselves.
//! - An operation that fails says so within a bounded time and may be tried again; see [`Unavailable`] for what it has done.
//!
//! All of it may be called on any thread and any runtime with timers. What needs a runtime of its own (connections,
//! sweeping) lives on the one that [`Store::open`] is given.

mod condition;
mod file;
mod key;
mod memory;
mod redis;
mod scan;
mod seal;
mod stats;
#[cfg(feature = "steps")]
pub mod steps;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;

pub use key::Key;
pub use scan::{Part, Position};
pub use seal::{SealingKeyError, SealingKeys};
pub use stats::Stats;
pub use url::{Password, Url, UrlError};

use condition::Condition;
use file::File;
use memory::Memory;
use redis::Redis;
use scan::Raw;
use stats::Counters;
use url::Place;

/// Where entries are kept. Clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    backend: Backend,
    sealing: SealingKeys,
    counters: Arc<Counters>,
    settings: Settings,
}

enum Backend {
    Memory(Memory),
    File(File),
    Redis(Redis),
}

/// What may be set for a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long an operation may wait for a store that does not answer.
    pub patience: Duration,
    /// How many bytes entries may take in memory.
    pub memory_limit: usize,
    /// PEM certificates of the CAs that Redis may be known by; none: those of the system.
    pub ca: Option<Vec<u8>>,
    /// Password of Redis, in place of the one in the URL.
    pub password: Option<Password>,
    /// How many replicas of Redis must have a write before it counts. None: with Sentinel and Cluster one, or none while
    /// none is online; with one server none.
    pub replicas: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(2),
            memory_limit: 256 << 20,
            ca: None,
            password: None,
            replicas: None,
        }
    }
}

/// What is kept under a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The contents.
    pub value: Bytes,
    /// Which write this is, for [`Store::replace`].
    pub version: Version,
}

/// Tells one write of an entry from every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version([u8; 12]);

/// Why a store cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Servers that cannot be called so.
    #[error("calling Redis: {0}")]
    Redis(String),
    /// A path that cannot be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What came of it.
        source: std::io::Error,
    },
}

impl OpenError {
    fn stopped(error: tokio::task::JoinError) -> Self {
        Self::Io {
            what: "opening the store".to_owned(),
            source: std::io::Error::other(error),
        }
    }
}

/// An operation that could not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The store does not answer. Nothing has been done.
    #[error("the store does not answer")]
    Away,
    /// The store has not answered in time. What was asked may or may not have been done, also later.
    #[error("the store has not answered")]
    Uncertain,
    /// There is no room. Nothing has been done.
    #[error("the store is full")]
    Full,
}

impl Unavailable {
    /// Seconds after which it makes sense to try again, for `Retry-After`.
    pub const RETRY_AFTER: u64 = 2;
}

impl Store {
    /// Opens a store. `runtime` is where its own work goes on; it must live as long as the store is used.
    ///
    /// # Errors
    /// What `url` says cannot be used. A server that does not answer now is no error: it may later.
    pub async fn open(url: &Url, sealing: SealingKeys, runtime: Handle) -> Result<Self, OpenError> {
        Self::open_with(url, sealing, runtime, Settings::default()).await
    }

    /// [`Store::open`] with other settings than the usual ones.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(
        url: &Url,
        sealing: SealingKeys,
        runtime: Handle,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        let counters = Arc::new(Counters::default());
        let backend = match &url.0 {
            Place::Memory => {
                let (memory, sweeper) = Memory::new(settings.memory_limit, Arc::clone(&counters));
                runtime.spawn(sweeper);
                Backend::Memory(memory)
            }
            Place::File(path) => {
                let (path, patience) = (path.clone(), settings.patience);
                let counters = Arc::clone(&counters);
                // A repair reads the whole file.
                let open = runtime.spawn_blocking(move || File::open(&path, patience, counters));
                let file = open.await.map_err(OpenError::stopped)??;
                runtime.spawn(file.sweeper());
                Backend::File(file)
            }
            Place::Redis(servers) => {
                Backend::Redis(Redis::open(servers.clone(), &settings, &runtime)?)
            }
        };
        let inner = Inner {
            backend,
            sealing,
            counters,
            settings,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// An empty store in memory, at once and with the usual settings.
    #[must_use]
    pub fn in_memory(sealing: SealingKeys, runtime: &Handle) -> Self {
        let (settings, counters) = (Settings::default(), Arc::default());
        let (memory, sweeper) = Memory::new(settings.memory_limit, Arc::clone(&counters));
        runtime.spawn(sweeper);
        Self(Arc::new(Inner {
            backend: Backend::Memory(memory),
            sealing,
            counters,
            settings,
        }))
    }

    /// Another store, in Redis, with the same seal and as much patience.
    ///
    /// # Errors
    /// The URL is not one of Redis, or cannot be used.
    pub fn elsewhere(&self, url: &Url, runtime: &Handle) -> Result<Self, OpenError> {
        let Place::Redis(servers) = &url.0 else {
            return Err(OpenError::Redis("that is no URL of Redis".to_owned()));
        };
        let Inner {
            sealing, settings, ..
        } = &*self.0;
        let settings = Settings {
            password: None,
            ..settings.clone()
        };
        let redis = Redis::open(servers.clone(), &settings, runtime)?;
        Ok(Self(Arc::new(Inner {
            backend: Backend::Redis(redis),
            sealing: sealing.clone(),
            counters: Arc::default(),
            settings,
        })))
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// The store is away.
    pub async fn get(&self, key: &Key) -> Result<Option<Entry>, Unavailable> {
        #[cfg(feature = "steps")]
        steps::stop(Some(key), steps::Effect::Reads).await;
        let found = match &self.0.backend {
            Backend::Memory(memory) => return Ok(memory.get(key)),
            Backend::File(file) => file.get(key),
            Backend::Redis(redis) => redis.get(key).await,
        };
        self.opened(key, found)
    }

    /// Writes an entry, whatever was there. Without `ttl` it never expires.
    ///
    /// # Errors
    /// The store is away or full.
    pub async fn put(
        &self,
        key: &Key,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), Unavailable> {
        self.write(key, Condition::Any, value, ttl).await.map(drop)
    }

    /// Writes an entry where there is none; says whether it did.
    ///
    /// # Errors
    /// The store is away or full.
    pub async fn put_new(
        &self,
        key: &Key,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, Unavailable> {
        self.write(key, Condition::Absent, value, ttl).await
    }

    /// Writes an entry in place of the write that `expected` tells; says whether it did.
    ///
    /// # Errors
    /// The store is away or full.
    pub async fn replace(
        &self,
        key: &Key,
        expected: &Version,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, Unavailable> {
        let condition = Condition::Version(expected.clone());
        self.write(key, condition, value, ttl).await
    }

    /// Reads an entry and deletes it: of all that take it, one gets it.
    ///
    /// # Errors
    /// The store is away. After [`Unavailable::Uncertain`] the entry may be gone.
    pub async fn take(&self, key: &Key) -> Result<Option<Entry>, Unavailable> {
        #[cfg(feature = "steps")]
        steps::stop(Some(key), steps::Effect::Writes).await;
        let taken = match &self.0.backend {
            Backend::Memory(memory) => return Ok(memory.take(key)),
            Backend::File(file) => file.take(key).await,
            Backend::Redis(redis) => redis.take(key).await,
        };
        self.opened(key, taken)
    }

    /// Deletes an entry, if there is one.
    ///
    /// # Errors
    /// The store is away.
    pub async fn remove(&self, key: &Key) -> Result<(), Unavailable> {
        #[cfg(feature = "steps")]
        steps::stop(Some(key), steps::Effect::Writes).await;
        let removed = match &self.0.backend {
            Backend::Memory(memory) => {
                memory.take(key);
                Ok(())
            }
            Backend::File(file) => file.take(key).await.map(drop),
            Backend::Redis(redis) => redis.remove(key).await,
        };
        self.count(removed)
    }

    /// Says whether `holder` has the lease now: it got it, or had it and has it for another `ttl`.
    ///
    /// A lease that is not renewed ends after `ttl`. Holders draw their names at random, long enough never to be equal.
    /// A lease has no contents: [`Store::get`] is for entries.
    ///
    /// # Errors
    /// The store is away or full.
    pub async fn lease(
        &self,
        key: &Key,
        holder: &[u8],
        ttl: Duration,
    ) -> Result<bool, Unavailable> {
        #[cfg(feature = "steps")]
        steps::stop(Some(key), steps::Effect::Writes).await;
        let (mark, ttl) = (seal::mark(holder), Some(ttl));
        let done = match &self.0.backend {
            Backend::Memory(memory) => memory.write(key, &Condition::Same, &mark, ttl),
            Backend::File(file) => file.write(key, Condition::Same, mark, ttl).await,
            Backend::Redis(redis) => redis.write(key, &Condition::Same, &mark, ttl).await,
        };
        self.count(done)
    }

    /// Gives a lease back, where `holder` still has it.
    ///
    /// # Errors
    /// The store is away; the lease ends by itself.
    pub async fn release(&self, key: &Key, holder: &[u8]) -> Result<(), Unavailable> {
        #[cfg(feature = "steps")]
        steps::stop(Some(key), steps::Effect::Writes).await;
        let mark = seal::mark(holder);
        let done = match &self.0.backend {
            Backend::Memory(memory) => {
                memory.release(key, &mark);
                Ok(())
            }
            Backend::File(file) => file.release(key, mark).await,
            Backend::Redis(redis) => redis.release(key, &mark).await,
        };
        self.count(done)
    }

    /// Reads about `most` entries at most, from a position on. Whoever goes from each part to the next sees everything that is
    /// there all the while; what comes or goes meanwhile may be seen or not. It is no quick way to find anything.
    ///
    /// None: `from` is no position in this store.
    ///
    /// # Errors
    /// The store is away.
    pub async fn scan(
        &self,
        from: Option<&Position>,
        most: usize,
    ) -> Result<Option<Part>, Unavailable> {
        #[cfg(feature = "steps")]
        steps::stop(None, steps::Effect::Reads).await;
        let raw = match &self.0.backend {
            Backend::Memory(memory) => {
                let behind = from.map(Position::key);
                let part = (behind != Some(None)).then(|| memory.scan(behind.flatten(), most));
                return Ok(part);
            }
            Backend::File(file) => match from.map(Position::key) {
                Some(None) => return Ok(None),
                behind => file.scan(behind.flatten(), most),
            },
            Backend::Redis(redis) => match from.map(redis::Place::read) {
                Some(None) => return Ok(None),
                from => redis.scan(from.flatten(), most).await,
            },
        };
        let Raw { blobs, next } = self.count(raw)?;
        let mut entries = Vec::with_capacity(blobs.len());
        for (key, blob) in blobs {
            if seal::is_mark(&blob) {
                continue;
            }
            let entry = self.opened(&key, Ok(Some(blob)))?;
            entries.extend(entry.map(|entry| (key, entry)));
        }
        Ok(Some(Part { entries, next }))
    }

    /// Whether several proxies see the same entries.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        match &self.0.backend {
            Backend::Memory(_) | Backend::File(_) => false,
            Backend::Redis(_) => true,
        }
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.0.counters.read();
        match &self.0.backend {
            Backend::Memory(memory) => {
                let (entries, bytes) = memory.entries();
                stats.entries = Some(entries as u64);
                stats.bytes = Some((bytes as u64, self.0.settings.memory_limit as u64));
            }
            Backend::File(_) | Backend::Redis(_) => {}
        }
        stats
    }

    async fn write(
        &self,
        key: &Key,
        condition: Condition,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, Unavailable> {
        #[cfg(feature = "steps")]
        steps::stop(Some(key), steps::Effect::Writes).await;
        // Without randomness nothing can be sealed.
        let sealed = || {
            self.0
                .sealing
                .seal(key, value)
                .map_err(|_| Unavailable::Away)
        };
        let done = match &self.0.backend {
            Backend::Memory(memory) => memory.write(key, &condition, value, ttl),
            Backend::File(file) => file.write(key, condition, sealed()?, ttl).await,
            Backend::Redis(redis) => redis.write(key, &condition, &sealed()?, ttl).await,
        };
        self.count(done)
    }

    /// What cannot be read is nothing: whoever took the key away wants that.
    fn opened(
        &self,
        key: &Key,
        blob: Result<Option<Vec<u8>>, Unavailable>,
    ) -> Result<Option<Entry>, Unavailable> {
        let Some(blob) = self.count(blob)? else {
            return Ok(None);
        };
        match self.0.sealing.open(key, blob) {
            Ok((value, version)) => Ok(Some(Entry { value, version })),
            Err(seal::Unreadable) => {
                self.0.counters.unreadable();
                Ok(None)
            }
        }
    }

    fn count<T>(&self, done: Result<T, Unavailable>) -> Result<T, Unavailable> {
        match done {
            Err(Unavailable::Full) => self.0.counters.full(),
            Err(Unavailable::Away | Unavailable::Uncertain) => self.0.counters.unavailable(),
            Ok(_) => {}
        }
        done
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.backend {
            Backend::Memory(_) => f.write_str("Store(memory)"),
            Backend::File(_) => f.write_str("Store(file)"),
            Backend::Redis(_) => f.write_str("Store(redis)"),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} bytes, redacted)", self.value.len())
    }
}
