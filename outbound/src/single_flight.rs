//! Many who ask for the same thing get one answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The work ended without an answer: it panicked, or the data plane is being shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work ended without an answer")]
pub struct Aborted;

/// Per key, over all workers: one works, all get the answer. The work runs in the background, so that nobody's leaving
/// takes the answer from the others.
pub struct SingleFlight<K, T> {
    runtime: Handle,
    flights: Arc<Flights<K, T>>,
}

type Flight<T> = Shared<BoxFuture<'static, Result<T, Aborted>>>;

struct Flights<K, T>(Mutex<HashMap<K, Flight<T>>>);

impl<K, T> Clone for SingleFlight<K, T> {
    fn clone(&self) -> Self {
        Self {
            runtime: self.runtime.clone(),
            flights: Arc::clone(&self.flights),
        }
    }
}

impl<K, T> fmt::Debug for SingleFlight<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SingleFlight")
    }
}

impl<K, T> SingleFlight<K, T> {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            flights: Arc::new(Flights(Mutex::new(HashMap::new()))),
        }
    }
}

impl<K, T> SingleFlight<K, T>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins the flight of that key, or starts it. It is over before its answer is known: whoever asks afterwards starts the
    /// next.
    ///
    /// # Errors
    /// The work ended without an answer.
    pub async fn run<F>(&self, key: K, work: impl FnOnce() -> F) -> Result<T, Aborted>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let flight = self.join(key, work);
        flight.await
    }

    fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Flight<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (answer, awaited) = oneshot::channel();
        let flight = awaited
            .map(|done| done.map_err(|_| Aborted))
            .boxed()
            .shared();
        match self.flights.0.lock().entry(key.clone()) {
            Entry::Occupied(running) => return running.get().clone(),
            Entry::Vacant(place) => place.insert(flight.clone()),
        };
        // Also where the work panics or is never run. A runtime that has ended drops it right here, so that the lock must
        // not be held any longer.
        let over = Over {
            key,
            flights: Arc::clone(&self.flights),
        };
        let work = work();
        drop(self.runtime.spawn(async move {
            let done = work.await;
            drop(over);
            // Everybody may have left.
            let _ = answer.send(done);
        }));
        flight
    }
}

/// Ends a flight.
struct Over<K: Hash + Eq, T> {
    key: K,
    flights: Arc<Flights<K, T>>,
}

impl<K: Hash + Eq, T> Drop for Over<K, T> {
    fn drop(&mut self) {
        self.flights.0.lock().remove(&self.key);
    }
}
