//! Owns the compiler: takes inputs in, compiles, and hands out what follows.
//!
//! It has a thread of its own, so that a long compilation delays no stream and no watch. A change that comes alone is
//! compiled at once; while changes come faster than they can be compiled, they are gathered for about as long as the last
//! compilation took.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use compile::{Diagnostic, GatewayService, Kind, ObjectRef, Update, WantedSecret};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::held::Held;
use crate::metrics::Metrics;
use crate::publish::Hub;
use crate::status;
use crate::watch::{Input, Source};

/// Inputs that are taken at once.
const BATCH: usize = 1024;
/// Changes are never gathered for longer.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Where the results go. None of these ever makes the engine wait.
pub(crate) struct Outputs {
    pub(crate) hub: Hub,
    pub(crate) statuses: Arc<status::Inbox>,
    pub(crate) secrets: watch::Sender<Arc<[WantedSecret]>>,
    pub(crate) services: watch::Sender<Arc<[GatewayService]>>,
    pub(crate) diagnostics: watch::Sender<Arc<[Diagnostic]>>,
    pub(crate) secrets_may_start: watch::Sender<bool>,
    /// True from the first compilation of everything on.
    pub(crate) synced: watch::Sender<bool>,
    pub(crate) metrics: Arc<Metrics>,
    /// Asks for the data of a Secret; the answer comes as an input.
    pub(crate) fetch: Box<dyn Fn(ObjectRef) + Send>,
}

/// See the module.
pub(crate) struct Engine {
    held: Held,
    waiting: HashSet<Source>,
    /// Secrets whose data were asked for. What the watch tells meanwhile is newer than the answer.
    fetching: HashSet<ObjectRef>,
    outputs: Outputs,
}

impl Engine {
    /// Will compile for the first time when all of `sources` are synced.
    pub(crate) fn new(held: Held, sources: Vec<Source>, outputs: Outputs) -> Self {
        let waiting = sources.into_iter().collect();
        Self {
            held,
            waiting,
            fetching: HashSet::new(),
            outputs,
        }
    }

    /// Works until the inputs end.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut pace = Pace::default();
        while inputs.recv_many(&mut batch, BATCH).await > 0 {
            let mut changed = self.take_all(&mut batch);
            if !self.waiting.is_empty() {
                self.start_secrets();
                continue;
            }
            changed |= !*self.outputs.synced.borrow();
            if !changed {
                self.fetch_missing();
                continue;
            }
            let until = pace.next();
            while Instant::now() < until {
                match tokio::time::timeout_at(until, inputs.recv_many(&mut batch, BATCH)).await {
                    Ok(0) => return,
                    Ok(_) => {
                        self.take_all(&mut batch);
                    }
                    Err(_) => break,
                }
            }
            // Whatever is there already costs nothing to take along.
            while let Ok(input) = inputs.try_recv() {
                self.take(input);
            }
            let began = Instant::now();
            self.compile();
            pace.compiled(began, Instant::now());
        }
    }

    /// True where something that matters changed.
    fn take_all(&mut self, batch: &mut Vec<Input>) -> bool {
        batch
            .drain(..)
            .fold(false, |changed, input| self.take(input) | changed)
    }

    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Apply(mut object) => {
                let reference = object.reference().clone();
                if reference.kind == Kind::Secret {
                    self.fetching.remove(&reference);
                    let needed = object.is_credential_secret()
                        || self
                            .held
                            .read()
                            .needs_secret(&reference.namespace, &reference.name);
                    if !needed {
                        object.drop_secret_data();
                    }
                }
                self.held.write().apply(*object)
            }
            Input::Fetched(object) => {
                self.fetching.remove(object.reference()) && self.held.write().apply(*object)
            }
            Input::Delete(reference) => {
                self.fetching.remove(&reference);
                self.held.write().delete(&reference)
            }
            Input::Synced(source) => {
                self.waiting.remove(&source);
                false
            }
        }
    }

    /// Lets the watches of Secrets begin when everything else is known.
    fn start_secrets(&self) {
        if *self.outputs.secrets_may_start.borrow()
            || self
                .waiting
                .iter()
                .any(|source| source.kind != Kind::Secret)
        {
            return;
        }
        // Resolves references, so that it is known which Secrets are needed. Nobody acts on statuses before the first
        // compilation of everything, which brings newer ones.
        let early = self.held.write().update();
        self.outputs
            .statuses
            .put(early.statuses, early.dropped_statuses);
        self.outputs.secrets_may_start.send_replace(true);
    }

    fn compile(&mut self) {
        let began = Instant::now();
        let update = self.held.write().update();
        let first = !*self.outputs.synced.borrow();
        // Proxies first: everything else may take its time.
        if first {
            self.outputs
                .hub
                .publish(&snapshot::Set::default().diff(self.held.read().snapshot()));
        } else {
            self.outputs.hub.publish(&update.diff);
        }
        self.outputs.metrics.compiled(began.elapsed());
        self.held.compiled();
        let Update {
            statuses,
            dropped_statuses,
            diagnostics,
            wanted_secrets,
            gateway_services,
            ..
        } = update;
        self.outputs.statuses.put(statuses, dropped_statuses);
        replace(&self.outputs.secrets, wanted_secrets.into());
        replace(&self.outputs.services, gateway_services.into());
        if *self.outputs.diagnostics.borrow() != diagnostics {
            self.outputs.metrics.refused(&diagnostics);
            self.outputs.diagnostics.send_replace(diagnostics);
        }
        if first {
            tracing::info!(
                resources = self.held.read().snapshot().len(),
                took = ?began.elapsed(), "everything is read and compiled"
            );
            self.outputs.synced.send_replace(true);
        }
        self.fetch_missing();
    }

    fn fetch_missing(&mut self) {
        for secret in self.held.read().missing_secret_data() {
            if self.fetching.insert(secret.clone()) {
                (self.outputs.fetch)(secret);
            }
        }
    }
}

fn replace<T: PartialEq>(sender: &watch::Sender<Arc<[T]>>, value: Arc<[T]>) {
    sender.send_if_modified(|old| {
        let changed = **old != *value;
        if changed {
            *old = value;
        }
        changed
    });
}

/// When the next compilation may begin.
#[derive(Debug, Default)]
struct Pace {
    free_at: Option<Instant>,
}

impl Pace {
    /// At once, unless the last one ended less than its own duration ago.
    fn next(&self) -> Instant {
        let now = Instant::now();
        self.free_at.map_or(now, |free_at| free_at.max(now))
    }

    fn compiled(&mut self, began: Instant, ended: Instant) {
        self.free_at = Some(ended + (ended - began).min(LONGEST_PAUSE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_alone_is_compiled_at_once_and_a_burst_is_gathered() {
        let mut pace = Pace::default();
        let now = Instant::now();
        assert_eq!(pace.next(), now);
        pace.compiled(now - Duration::from_millis(8), now);
        assert_eq!(pace.next(), now + Duration::from_millis(8));
        pace.compiled(now - Duration::from_secs(3), now);
        assert_eq!(pace.next(), now + LONGEST_PAUSE);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pace.next(), now + Duration::from_secs(1));
    }
}
