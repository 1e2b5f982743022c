//! What whole-product tests are made of: the binary as a process on a folder of manifests, clients that send and read
//! bytes as they are, and upstreams that remember every byte they got.
//!
//! Nothing here knows the product's code. A helper that cannot do its work panics: that fails the test.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that cannot go on fails its test"
)]

pub mod authority;
pub mod frames;
pub mod h2;
pub mod message;
pub mod objects;
pub mod ports;
pub mod process;
pub mod raw;
pub mod rig;
pub mod tls;
pub mod upstream;

pub use message::{Answer, Seen};
pub use raw::Connection;
pub use rig::Rig;
pub use upstream::{Reply, Upstream};

use std::time::Duration;

/// The longest that anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The result of `future`, which must come in time.
///
/// # Panics
/// When it does not; the message says what was waited for.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Asks until the answer is yes.
///
/// # Panics
/// When it does not become so in time.
pub async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    within(what, async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until the clock shows another second: ages of objects are told apart by whole seconds.
///
/// # Panics
/// When the clock stands before 1970.
pub async fn another_second() {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    tokio::time::sleep(Duration::from_millis(1010 - u64::from(now.subsec_millis()))).await;
}
