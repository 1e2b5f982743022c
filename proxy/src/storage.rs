//! The store of tokens and sessions, as options name it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use store::{Password, SealingKeys, Settings, Store, Url};
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use crate::Error;
use crate::key_file::{own_key, read_key};
use crate::options::duration;

/// Options of a proxy's store.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Store options")]
// The name of the type is that of the options around it, and names of groups must be unique.
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    pub place: Place,

    /// Bytes that memory: may hold; when it is full, nothing new is taken until something has expired
    #[arg(
        long = "store-memory-limit",
        env = "POSTERN_STORE_MEMORY_LIMIT",
        value_name = "BYTES",
        default_value_t = 256 << 20
    )]
    pub memory_limit: usize,
}

/// Which store, and how it is used.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Place {
    /// Where tokens and sessions are kept
    ///
    /// memory: is gone with the process. file:PATH is used by one proxy at a time, and keeps what was acknowledged through
    /// any crash. Several proxies share redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], redis+cluster://HOST[:PORT],… or
    /// redis+sentinel://HOST[:PORT],…/MASTER[/DATABASE]; rediss in place of redis is over TLS. [default: memory:; in
    /// `postern run`: file:store.redb in the state folder]
    #[arg(
        long = "store",
        env = "POSTERN_STORE",
        value_name = "URL",
        hide_env_values = true
    )]
    pub url: Option<Url>,

    /// Files with the keys that seal what the store holds: any secrets of 32 bytes or more
    ///
    /// The first one seals, all of them open. To rotate, give all proxies the new key as the last one, then as the first
    /// one; leave the old one out when all that it sealed has expired. [default: none is needed in memory; in `postern run`:
    /// a random one, store.key in the state folder]
    #[arg(
        long = "store-key-file",
        env = "POSTERN_STORE_KEY_FILE",
        value_name = "FILE,…",
        value_delimiter = ','
    )]
    pub key_files: Vec<PathBuf>,

    /// File with the password of Redis, in place of one in the URL
    #[arg(
        long = "store-password-file",
        env = "POSTERN_STORE_PASSWORD_FILE",
        value_name = "FILE"
    )]
    pub password_file: Option<PathBuf>,

    /// PEM file with the CAs that Redis may be known by over TLS [default: those of the system]
    #[arg(
        long = "store-ca-file",
        env = "POSTERN_STORE_CA_FILE",
        value_name = "FILE"
    )]
    pub ca_file: Option<PathBuf>,

    /// How many replicas of Redis must have a write before it counts
    ///
    /// A write that does not reach them in time fails. [default: with Sentinel or Cluster 1, or 0 while the master has no
    /// replica; with one server 0]
    #[arg(
        long = "store-replicas",
        env = "POSTERN_STORE_REPLICAS",
        value_name = "N"
    )]
    pub replicas: Option<u32>,

    /// How long a request waits for a store that does not answer: "2s", "500ms"
    #[arg(long = "store-timeout", env = "POSTERN_STORE_TIMEOUT", value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub timeout: Duration,
}

impl Options {
    /// Where nothing else is said, the store is a file in this folder, sealed with a key beside it.
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn default_to(&mut self, folder: &Path) -> Result<(), Error> {
        let place = &mut self.place;
        let url = place
            .url
            .get_or_insert_with(|| Url::file(folder.join("store.redb")));
        if !url.is_memory() && place.key_files.is_empty() {
            crate::last_good::make_folder(folder)?;
            let path = folder.join("store.key");
            own_key(&path).map_err(|source| wrong("making the store's key", &path, source))?;
            place.key_files.push(path);
        }
        Ok(())
    }
}

impl Options {
    /// Opens the store; its own work goes on on `runtime`.
    pub(crate) async fn open(&self, runtime: Handle) -> Result<Store, Error> {
        open(&self.place, self.memory_limit, runtime).await
    }
}

impl Place {
    /// Opens a store that others have, too; its own work goes on on `runtime`.
    ///
    /// # Errors
    /// Nobody else can have this store; it cannot be used.
    pub async fn open_shared(&self, runtime: Handle) -> Result<Store, Error> {
        if !self.url.as_ref().is_some_and(Url::is_shared) {
            return Err(failed("--store", OWN));
        }
        open(self, Settings::default().memory_limit, runtime).await
    }
}

/// What is wrong with a store of one process for another.
const OWN: &str = "only a store that the proxies share can be looked into from here: one in Redis";

fn failed(what: &str, error: impl ToString) -> Error {
    Error::Start {
        what: what.to_owned(),
        source: std::io::Error::other(error.to_string()),
    }
}

async fn open(options: &Place, memory_limit: usize, runtime: Handle) -> Result<Store, Error> {
    let url = options.url.clone().unwrap_or_else(Url::memory);
    let mut secrets = Vec::with_capacity(options.key_files.len());
    for path in &options.key_files {
        let secret =
            read_key(path).map_err(|source| wrong("reading the store's key", path, source))?;
        secrets.push(secret);
    }
    let keys = if secrets.is_empty() && url.is_memory() {
        SealingKeys::random()
    } else {
        SealingKeys::new(&secrets)
    };
    let keys = keys.map_err(|error| failed("--store-key-file", error))?;
    let settings = Settings {
        patience: options.timeout,
        memory_limit,
        ca: read(options.ca_file.as_deref(), "--store-ca-file")?,
        password: password(options.password_file.as_deref())?,
        replicas: options.replicas,
    };
    Store::open_with(&url, keys, runtime, settings)
        .await
        .map_err(|error| failed("--store", error))
}

fn read(path: Option<&Path>, flag: &str) -> Result<Option<Vec<u8>>, Error> {
    let Some(path) = path else { return Ok(None) };
    std::fs::read(path)
        .map(Some)
        .map_err(|source| Error::Start {
            what: format!("reading {} ({flag})", path.display()),
            source,
        })
}

/// The first line; editors end files with one.
fn password(path: Option<&Path>) -> Result<Option<Password>, Error> {
    let flag = "--store-password-file";
    let Some(bytes) = read(path, flag)?.map(Zeroizing::new) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::Start {
        what: flag.to_owned(),
        source: std::io::Error::other("the password is no text"),
    })?;
    let line = text.lines().next().unwrap_or_default();
    Ok(Some(Password::new(Zeroizing::new(line.to_owned()))))
}

fn wrong(what: &str, path: &Path, source: std::io::Error) -> Error {
    Error::Start {
        what: format!("{what} {} (--store-key-file)", path.display()),
        source,
    }
}
