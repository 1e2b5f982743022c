//! The time as a worker last looked: good enough for timeouts in seconds, and free to ask.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often workers look.
pub(crate) const TICK: Duration = Duration::from_millis(250);

#[derive(Clone, Copy)]
struct Now {
    start: Instant,
    /// Since `start`; never 0, which stands for "not running" elsewhere.
    millis: u64,
    unix: i64,
}

impl Now {
    fn look(start: Instant) -> Self {
        let millis = u64::try_from(start.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self {
            start,
            millis,
            unix: i64::try_from(unix).unwrap_or(i64::MAX),
        }
    }
}

thread_local! {
    static NOW: Cell<Now> = Cell::new(Now::look(Instant::now()));
}

/// Looks.
pub(crate) fn tick() {
    NOW.set(Now::look(NOW.get().start));
}

/// Milliseconds since some moment of this thread's life, never 0.
pub(crate) fn millis() -> u64 {
    NOW.get().millis
}

/// Milliseconds since some moment of the process's life, never 0: the same for all threads, and looked up each time.
pub(crate) fn shared_millis() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis())
        .unwrap_or(u64::MAX)
        .saturating_add(1)
}

/// Seconds since 1970.
pub(crate) fn unix() -> i64 {
    NOW.get().unix
}
