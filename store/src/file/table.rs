//! What is in the file.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use redb::{Builder, Database, DatabaseError, StorageError, TableDefinition};

/// By key: when it ends (eight bytes, milliseconds since 1970, 0 for never), then the sealed value.
pub(super) const ENTRIES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("entries");

/// When entries end, with their keys, for whoever removes them.
pub(super) const ENDS: TableDefinition<'_, (u64, &[u8; 32]), ()> = TableDefinition::new("ends");

/// How much of the file may be kept in memory.
const CACHE: usize = 64 << 20;

/// Opens or makes the file and its tables.
pub(super) fn open(path: &Path) -> io::Result<Database> {
    // Made here, so that nobody else may read it.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    let mut builder = Builder::new();
    let database = builder.set_cache_size(CACHE).create(path).map_err(io)?;
    let tables = || -> Result<(), redb::Error> {
        let write = database.begin_write()?;
        write.open_table(ENTRIES)?;
        write.open_table(ENDS)?;
        write.commit()?;
        Ok(())
    };
    tables().map_err(io::Error::other)?;
    Ok(database)
}

fn io(error: DatabaseError) -> io::Error {
    match error {
        DatabaseError::Storage(StorageError::Io(error)) => error,
        DatabaseError::DatabaseAlreadyOpen => {
            io::Error::new(io::ErrorKind::ResourceBusy, "another process has it open")
        }
        DatabaseError::Storage(StorageError::Corrupted(what)) => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is damaged ({what}); move it away to begin with an empty one"),
        ),
        other => io::Error::other(other),
    }
}

/// When something ends that lives so long; never is 0.
pub(super) fn end(now: u64, ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis())
        .ok()
        .and_then(|ttl| now.checked_add(ttl))
        .unwrap_or(0)
}

/// Splits a row into its end and the sealed value.
pub(super) fn split(row: &[u8]) -> Option<(u64, &[u8])> {
    let (end, blob) = row.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*end), blob))
}

/// The sealed value of a row that has not ended.
pub(super) fn living(row: &[u8], now: u64) -> Option<&[u8]> {
    let (end, blob) = split(row)?;
    (end == 0 || now < end).then_some(blob)
}
