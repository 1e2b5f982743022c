//! The one thread that writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redb::{Database, ReadableTable, Table};
use tokio::sync::{mpsc, oneshot};

use super::table::{self, ENDS, ENTRIES};
use crate::condition::Condition;
use crate::stats::Counters;
use crate::{Key, Unavailable, seal};

/// How many changes one commit takes at most.
const BATCH: usize = 512;

/// How many expired entries one commit removes at most: what comes meanwhile waits for it.
const SWEPT: usize = 2000;

/// How long to wait before a file that could not be opened is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What is to be done.
pub(super) enum Order {
    Change {
        key: Key,
        change: Change,
        reply: oneshot::Sender<Outcome>,
    },
    /// Remove what has expired.
    Sweep,
}

/// What becomes of an entry.
pub(super) enum Change {
    Write {
        condition: Condition,
        blob: Vec<u8>,
        expires: u64,
    },
    Take,
    /// Delete it where it is this.
    Release(Vec<u8>),
}

/// What was found: of a write that was done, and of an entry that was taken, something.
type Outcome = Result<Option<Vec<u8>>, Unavailable>;

type Waiting = Vec<(oneshot::Sender<Outcome>, Option<Vec<u8>>)>;

pub(super) struct Writer {
    path: PathBuf,
    database: Arc<ArcSwapOption<Database>>,
    counters: Arc<Counters>,
}

struct Tables<'a> {
    entries: Table<'a, &'static [u8; 32], &'static [u8]>,
    ends: Table<'a, (u64, &'static [u8; 32]), ()>,
    now: u64,
    changed: bool,
}

impl Writer {
    pub(super) const fn new(
        path: PathBuf,
        database: Arc<ArcSwapOption<Database>>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            path,
            database,
            counters,
        }
    }

    /// Works until nobody is left who could order anything.
    pub(super) fn run(self, mut orders: mpsc::Receiver<Order>) {
        let mut batch = Vec::with_capacity(BATCH);
        while orders.blocking_recv_many(&mut batch, BATCH) > 0 {
            let Some(database) = self.database.load_full() else {
                self.refuse(&mut batch);
                continue;
            };
            let mut waiting = Waiting::new();
            match self.commit(&database, batch.drain(..), &mut waiting) {
                Ok(()) => {
                    for (reply, outcome) in waiting {
                        // Whoever has gone meanwhile has given up.
                        let _gone = reply.send(Ok(outcome));
                    }
                }
                Err(error) => {
                    tracing::error!(path = %self.path.display(), %error, "the store cannot be written");
                    for (reply, _) in waiting {
                        let _gone = reply.send(Err(Unavailable::Uncertain));
                    }
                    self.reopen(database);
                }
            }
        }
    }

    fn commit(
        &self,
        database: &Database,
        orders: impl Iterator<Item = Order>,
        waiting: &mut Waiting,
    ) -> Result<(), redb::Error> {
        let write = database.begin_write()?;
        let mut tables = Tables {
            entries: write.open_table(ENTRIES)?,
            ends: write.open_table(ENDS)?,
            now: super::now(),
            changed: false,
        };
        let mut expired = 0;
        let mut result = Ok(());
        for order in orders {
            match order {
                // Whoever has given up is told nothing, and nothing is done for them.
                Order::Change { reply, .. } if reply.is_closed() => {}
                Order::Change { key, change, reply } if result.is_ok() => {
                    let outcome = tables.apply(&key, change);
                    waiting.push((reply, outcome.as_ref().ok().cloned().flatten()));
                    result = outcome.map(drop);
                }
                Order::Change { reply, .. } => waiting.push((reply, None)),
                Order::Sweep if result.is_ok() => match tables.sweep() {
                    Ok(swept) => expired += swept,
                    Err(error) => result = Err(error),
                },
                Order::Sweep => {}
            }
        }
        let changed = tables.changed;
        drop(tables);
        result?;
        if changed {
            write.commit()?;
        } else {
            write.abort()?;
        }
        self.counters.expired(expired);
        Ok(())
    }

    /// Puts the database away and opens the file again.
    fn reopen(&self, database: Arc<Database>) {
        self.database.store(None);
        // The file is locked until the last reader has let go of it.
        let mut database = Some(database);
        while let Some(held) = database.take() {
            if let Err(held) = Arc::try_unwrap(held) {
                database = Some(held);
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        self.open();
    }

    fn open(&self) {
        match table::open(&self.path) {
            Ok(opened) => {
                tracing::info!(path = %self.path.display(), "the store is open again");
                self.database.store(Some(Arc::new(opened)));
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the store cannot be opened");
            }
        }
    }

    /// Says no to all, and tries the file again, but not all the time.
    fn refuse(&self, batch: &mut Vec<Order>) {
        for order in batch.drain(..) {
            if let Order::Change { reply, .. } = order {
                let _gone = reply.send(Err(Unavailable::Away));
            }
        }
        std::thread::park_timeout(RETRY);
        self.open();
    }
}

impl Tables<'_> {
    fn apply(&mut self, key: &Key, change: Change) -> Result<Option<Vec<u8>>, redb::Error> {
        let row = self.entries.get(key.as_bytes())?;
        let row = row.map(|row| row.value().to_vec());
        let found = row.as_deref().and_then(|row| table::living(row, self.now));
        match change {
            Change::Write {
                condition,
                blob,
                expires,
            } => {
                if !holds(&condition, found, &blob) {
                    return Ok(None);
                }
                self.forget_end(key, row.as_deref())?;
                let row = [&expires.to_be_bytes()[..], &blob].concat();
                self.entries.insert(key.as_bytes(), row.as_slice())?;
                if expires != 0 {
                    self.ends.insert((expires, key.as_bytes()), ())?;
                }
                self.changed = true;
                Ok(Some(Vec::new()))
            }
            Change::Take => {
                let taken = found.map(<[u8]>::to_vec);
                self.remove(key, row.as_deref())?;
                Ok(taken)
            }
            Change::Release(blob) => {
                if found == Some(&blob) {
                    self.remove(key, row.as_deref())?;
                }
                Ok(None)
            }
        }
    }

    fn remove(&mut self, key: &Key, row: Option<&[u8]>) -> Result<(), redb::Error> {
        if row.is_some() {
            self.forget_end(key, row)?;
            self.entries.remove(key.as_bytes())?;
            self.changed = true;
        }
        Ok(())
    }

    fn forget_end(&mut self, key: &Key, row: Option<&[u8]>) -> Result<(), redb::Error> {
        if let Some((end, _)) = row.and_then(table::split)
            && end != 0
        {
            self.ends.remove((end, key.as_bytes()))?;
        }
        Ok(())
    }

    fn sweep(&mut self) -> Result<usize, redb::Error> {
        let ended = ..=(self.now, &[0xff; 32]);
        let mut swept = 0;
        for row in self.ends.extract_from_if(ended, |_, ()| true)?.take(SWEPT) {
            let (end, ()) = row.map(|(end, unit)| (end.value().1.to_owned(), unit.value()))?;
            self.entries.remove(&end)?;
            swept += 1;
        }
        self.changed |= swept > 0;
        Ok(swept)
    }
}

fn holds(condition: &Condition, found: Option<&[u8]>, blob: &[u8]) -> bool {
    match (condition, found) {
        (Condition::Any, _) | (Condition::Absent | Condition::Same, None) => true,
        (Condition::Absent, Some(_)) | (Condition::Version(_), None) => false,
        (Condition::Version(expected), Some(found)) => {
            seal::version(found).as_ref() == Some(expected)
        }
        (Condition::Same, Some(found)) => found == blob,
    }
}
