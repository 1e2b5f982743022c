//! A thread for what is not a request's own work: calls to other servers, renewals. Workers are kept free of it, because a
//! connection belongs to the event loop that opened it, and a worker's ends with the worker.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use outbound::Client;
use plugins::handler::Services;
use plugins::jwks::KeySets;
use plugins::upstream_oauth::Pool;
use store::Store;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Error;
use crate::options::Networks;

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    handle: Handle,
    outbound: Client,
    key_sets: Arc<KeySets>,
    // Dropped before the thread is waited for.
    stop: Option<DropGuard>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Calls other servers, but for those in denied networks.
    pub(crate) fn start(deny: &Networks) -> Result<Self, Error> {
        let failed = |source| Error::Start {
            what: "starting the background thread".to_owned(),
            source,
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let handle = runtime.handle().clone();
        let outbound = Client::new(outbound::Options {
            deny: deny.0.clone(),
            runtime: handle.clone(),
        });
        let key_sets =
            KeySets::new(outbound.clone()).map_err(|error| failed(io::Error::other(error)))?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("background".to_owned())
            .spawn(move || runtime.block_on(stopped.cancelled()))
            .map_err(failed)?;
        Ok(Self {
            handle,
            outbound,
            key_sets: Arc::new(key_sets),
            stop: Some(stop.drop_guard()),
            thread: Some(thread),
        })
    }

    /// Where its work runs.
    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What plugins get.
    pub(crate) fn services(&self, store: Store) -> Services {
        Services {
            background: self.handle.clone(),
            outbound: self.outbound.clone(),
            key_sets: Arc::clone(&self.key_sets),
            upstream_tokens: Pool::new(&self.outbound),
            store,
        }
    }
}

/// Services that call nobody and keep nothing: what is to run on their runtime never does.
pub(crate) fn idle() -> io::Result<(Runtime, Services)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let background = runtime.handle().clone();
    let outbound = Client::new(outbound::Options {
        deny: Networks::default().0,
        runtime: background.clone(),
    });
    let key_sets = KeySets::new(outbound.clone()).map_err(io::Error::other)?;
    let keys = store::SealingKeys::random().map_err(io::Error::other)?;
    let services = Services {
        store: Store::in_memory(keys, &background),
        upstream_tokens: Pool::new(&outbound),
        background,
        outbound,
        key_sets: Arc::new(key_sets),
    };
    Ok((runtime, services))
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the background thread has panicked");
        }
    }
}

/// A background for tests, one for all of them.
#[cfg(test)]
pub(crate) fn for_tests() -> Services {
    static ONE: std::sync::OnceLock<(Background, Services)> = std::sync::OnceLock::new();
    let (_, services) = ONE.get_or_init(|| {
        let background = Background::start(&Networks::default()).unwrap();
        let keys = store::SealingKeys::random().unwrap();
        let services = background.services(Store::in_memory(keys, background.handle()));
        (background, services)
    });
    services.clone()
}
