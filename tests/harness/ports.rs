//! Ports that no other test on this machine uses.

use std::fs::File;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what the kernel gives to outgoing connections, so that none of these takes a port between its choice and its use.
const RANGE: std::ops::RangeInclusive<u16> = 23_500..=23_599;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A free port of 127.0.0.1, reserved against other tests for as long as this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves one.
    ///
    /// # Panics
    /// When all are taken.
    #[must_use]
    pub fn reserve() -> Self {
        let folder = std::env::temp_dir().join("postern-test-ports");
        std::fs::create_dir_all(&folder).expect("a folder for lock files");
        let count = RANGE.end() - RANGE.start() + 1;
        for _ in 0..count {
            let number = RANGE.start() + NEXT.fetch_add(1, Ordering::Relaxed) % count;
            let lock = File::create(folder.join(number.to_string())).expect("a lock file");
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!("no free port in {RANGE:?}");
    }

    /// The port's number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }
}
