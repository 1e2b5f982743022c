//! What follows a change of protocol: bytes both ways, until one side has no more.

use std::rc::Rc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::metrics::Event;
use crate::worker::Worker;

/// Passes bytes on between client and upstream. Nothing of the client's has been forwarded before: hyper holds it back
/// until the upstream's 101 has been written to the client.
pub(crate) fn open(
    worker: &Rc<Worker>,
    client: OnUpgrade,
    upstream: OnUpgrade,
    lease: super::Lease,
) {
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let _guard = worker.tunnels.enter();
        let _lease = lease;
        let (Ok(client), Ok(upstream)) = futures::future::join(client, upstream).await else {
            return;
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        worker.metrics.event(Event::TunnelOpened);
        // Either side may break off at any time; there is nobody to tell.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
        worker.metrics.event(Event::TunnelClosed);
    });
}
