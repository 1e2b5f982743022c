//! The control plane of the same process.

use std::sync::Arc;

use plugins::directory::KeyId;
use snapshot::Change;
use snapshot::proto::Ack;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::KeeperHandle;
use crate::state::Delta;

/// Takes changes in, one after the other, until there are no more.
pub(super) async fn run(
    mut changes: mpsc::Receiver<Change>,
    acks: mpsc::Sender<Ack>,
    keeper: KeeperHandle,
    mut later: mpsc::UnboundedReceiver<Ack>,
    shutdown: CancellationToken,
) {
    loop {
        let ack = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(ack) = later.recv() => Some(ack),
            change = changes.recv() => {
                let Some(Change { version, diff, manifests }) = change else { return };
                let delta = Delta {
                    version: Arc::clone(&version),
                    reset_buckets: Vec::new(),
                    upserts: diff.upserts.into_values().map(|entry| entry.encoded).collect(),
                    known: Vec::new(),
                    removals: diff.removals.iter().map(|key| KeyId::of(key)).collect(),
                };
                keeper.apply(delta, manifests).await
            }
        };
        let Some(ack) = ack else { return };
        tokio::select! {
            () = shutdown.cancelled() => return,
            sent = acks.send(ack) => if sent.is_err() {
                tracing::debug!("nobody waits for acknowledgements any more");
            }
        }
    }
}
