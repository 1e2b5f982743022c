//! The compiler with all its objects: the engine writes, the Admin API reads. There is no second copy.

use std::sync::Arc;

use compile::{Compiler, Settings};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;

/// Shared between the engine and who reads.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    compiler: Arc<RwLock<Compiler>>,
    revision: watch::Sender<u64>,
}

impl Held {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            compiler: Arc::new(RwLock::new(Compiler::new(settings))),
            revision: watch::Sender::new(0),
        }
    }

    /// For a moment only: the engine waits.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Compiler> {
        self.compiler.read()
    }

    /// For the engine.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Compiler> {
        self.compiler.write()
    }

    /// Tells who waits that what was compiled is in force, as far as that can be known here.
    pub(crate) fn compiled(&self) {
        self.revision
            .send_modify(|revision| *revision = revision.wrapping_add(1));
    }

    /// Changes with every compilation.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}
