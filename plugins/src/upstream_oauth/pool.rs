//! The tokens of a process: handlers come and go with the snapshot, tokens stay.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use outbound::SingleFlight;
use parking_lot::Mutex;
use store::Key;

use super::slot::{Slot, Token};

/// What a token is for: a digest of all values under `oauth`, and where it is kept.
pub(super) type Place = (Key, String);

/// All slots that some handler uses, and the requests for tokens that are under way. Clones are the same pool.
#[derive(Clone)]
pub struct Pool {
    slots: Arc<Mutex<HashMap<Place, Weak<Slot>>>>,
    pub(super) flights: SingleFlight<Place, Result<Arc<Token>, &'static str>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(client: &outbound::Client) -> Self {
        Self {
            slots: Arc::default(),
            flights: client.single_flight(),
        }
    }

    /// The slot of a place, the same one as long as some handler uses it.
    pub(super) fn slot(&self, place: &Place) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(place).and_then(Weak::upgrade) {
            return slot;
        }
        slots.retain(|_, slot| slot.strong_count() > 0);
        let slot = Arc::new(Slot::default());
        slots.insert(place.clone(), Arc::downgrade(&slot));
        slot
    }
}
