//! Entries in a file: one process, nothing lost that was acknowledged, whenever the process is killed.
//!
//! redb never writes over what counts and knows by checksums what was written whole. Reads run where they are called: they
//! look into a cache and, at worst, wait for a disk. Writes go through one thread, which commits together what has
//! gathered while it was busy, so that many writes share an fsync.
//!
//! After a failed write (no space, say) redb accepts no more; the thread then opens the file anew, again and again until
//! it works.

mod table;
mod writer;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use redb::{Database, ReadableDatabase};
use tokio::sync::{mpsc, oneshot};

use crate::condition::Condition;
use crate::scan::{Position, Raw};
use crate::stats::Counters;
use crate::{Key, OpenError, Unavailable};
use table::ENTRIES;
use writer::{Change, Order, Writer};

/// How many writes may wait.
const QUEUE: usize = 4096;

/// How often expired entries are looked for.
const SWEEP: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct File {
    database: Arc<ArcSwapOption<Database>>,
    orders: mpsc::Sender<Order>,
    patience: Duration,
}

impl File {
    /// Opens the file, makes it where there is none, and repairs what a crash left.
    pub(crate) fn open(
        path: &Path,
        patience: Duration,
        counters: Arc<Counters>,
    ) -> Result<Self, OpenError> {
        let wrong = |source| OpenError::Io {
            what: format!("opening the store {}", path.display()),
            source,
        };
        let database = table::open(path).map_err(wrong)?;
        let database = Arc::new(ArcSwapOption::from_pointee(database));
        let (orders, receiver) = mpsc::channel(QUEUE);
        let writer = Writer::new(path.to_owned(), Arc::clone(&database), counters);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(wrong)?;
        Ok(Self {
            database,
            orders,
            patience,
        })
    }

    /// Has expired entries removed, for as long as the store is open.
    pub(crate) fn sweeper(&self) -> impl Future<Output = ()> + use<> {
        let orders = self.orders.downgrade();
        async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(orders) = orders.upgrade() else {
                    return;
                };
                // Where there is no room there is work enough; next time, then.
                let _full = orders.try_send(Order::Sweep);
            }
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Unavailable> {
        let database = self.database.load();
        let database = database.as_ref().ok_or(Unavailable::Away)?;
        let read = || -> Result<_, redb::Error> {
            let entries = database.begin_read()?.open_table(ENTRIES)?;
            let found = entries.get(key.as_bytes())?;
            Ok(found.and_then(|found| table::living(found.value(), now()).map(<[u8]>::to_vec)))
        };
        read().map_err(unreadable)
    }

    /// The first entries behind a key, in the order of keys.
    pub(crate) fn scan(&self, behind: Option<Key>, most: usize) -> Result<Raw, Unavailable> {
        let database = self.database.load();
        let database = database.as_ref().ok_or(Unavailable::Away)?;
        let read = || -> Result<_, redb::Error> {
            let entries = database.begin_read()?.open_table(ENTRIES)?;
            let begin = match &behind {
                Some(key) => Bound::Excluded(key.as_bytes()),
                None => Bound::Unbounded,
            };
            let (mut blobs, mut last, mut seen) = (Vec::new(), None, 0);
            for row in entries
                .range::<&[u8; 32]>((begin, Bound::Unbounded))?
                .take(most)
            {
                let (key, row) = row?;
                let key = Key::from_digest(*key.value());
                (last, seen) = (Some(key), seen + 1);
                let blob = table::living(row.value(), now());
                blobs.extend(blob.map(|blob| (key, blob.to_vec())));
            }
            let next = last.filter(|_| seen == most);
            let next = next.as_ref().map(Position::behind);
            Ok(Raw { blobs, next })
        };
        read().map_err(unreadable)
    }

    pub(crate) async fn write(
        &self,
        key: &Key,
        condition: Condition,
        blob: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<bool, Unavailable> {
        let expires = ttl.map_or(0, |ttl| table::end(now(), ttl));
        let change = Change::Write {
            condition,
            blob,
            expires,
        };
        self.order(key, change).await.map(|found| found.is_some())
    }

    pub(crate) async fn take(&self, key: &Key) -> Result<Option<Vec<u8>>, Unavailable> {
        self.order(key, Change::Take).await
    }

    pub(crate) async fn release(&self, key: &Key, blob: Vec<u8>) -> Result<(), Unavailable> {
        self.order(key, Change::Release(blob)).await.map(drop)
    }

    async fn order(&self, key: &Key, change: Change) -> Result<Option<Vec<u8>>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Change {
            key: *key,
            change,
            reply,
        };
        let sent = tokio::time::timeout(self.patience, self.orders.send(order));
        sent.await
            .map_err(|_| Unavailable::Away)?
            .map_err(|_| Unavailable::Away)?;
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) | Err(_) => Err(Unavailable::Uncertain),
        }
    }
}

fn unreadable(error: redb::Error) -> Unavailable {
    tracing::error!(%error, "the store cannot be read");
    Unavailable::Away
}

/// Milliseconds since 1970: what is in the file must mean the same after a restart.
fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
