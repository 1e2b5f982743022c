//! A thread for what is not a request's own work: calls to other servers, renewals. Workers are kept free of it, because a
//! connection belongs to the event loop that opened it, and a worker's ends with the worker.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use outbound::Client;
use plugins::handler::Services;
use plugins::jwks::KeySets;
use tokio::runtime::Builder;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Error;
use crate::options::Networks;

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    services: Services,
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
        let background = runtime.handle().clone();
        let outbound = Client::new(outbound::Options {
            deny: deny.0.clone(),
            runtime: background.clone(),
        });
        let key_sets =
            KeySets::new(outbound.clone()).map_err(|error| failed(io::Error::other(error)))?;
        let services = Services {
            background,
            outbound,
            key_sets: Arc::new(key_sets),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("background".to_owned())
            .spawn(move || runtime.block_on(stopped.cancelled()))
            .map_err(failed)?;
        Ok(Self {
            services,
            stop: Some(stop.drop_guard()),
            thread: Some(thread),
        })
    }

    /// What plugins get of it.
    pub(crate) fn services(&self) -> Services {
        self.services.clone()
    }
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
    static ONE: std::sync::OnceLock<Background> = std::sync::OnceLock::new();
    ONE.get_or_init(|| Background::start(&Networks::default()).unwrap())
        .services()
}
