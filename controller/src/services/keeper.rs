//! When something is to be done: the leader writes, every replica knows where clients reach Gateways.

use std::sync::Arc;
use std::time::Duration;

use compile::GatewayService;
use kube::runtime::events::Recorder;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Plan;
use super::service::reached;
use super::sight::{Sight, Watches};
use super::writer::Writer;
use crate::lease::Leadership;
use crate::status::Addresses;

/// What failed is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// See the module above.
pub(crate) struct Keeper {
    pub(crate) client: kube::Client,
    pub(crate) plan: Plan,
    pub(crate) wanted: watch::Receiver<Arc<[GatewayService]>>,
    pub(crate) addresses: watch::Sender<Addresses>,
    pub(crate) leadership: Leadership,
    /// Nothing is deleted before it is known what is wanted.
    pub(crate) synced: watch::Receiver<bool>,
    /// Of Events about Gateways.
    pub(crate) recorder: Recorder,
}

impl Keeper {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(mut self) {
        if self.synced.wait_for(|synced| *synced).await.is_err() {
            return;
        }
        let (mut watches, sight) = Watches::start(&self.client, &self.plan);
        let (client, plan) = (self.client.clone(), self.plan.clone());
        let mut writer = Writer::new(client, plan, self.recorder.clone());
        let mut retry: Option<Instant> = None;
        let mut leading = false;
        loop {
            let leader = async {
                if leading {
                    self.leadership.lost().await
                } else {
                    self.leadership.gained().await
                }
            };
            let again = async {
                match retry {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = leader => leading = !leading,
                () = again => {}
                changed = self.wanted.changed() => if changed.is_err() { return },
                more = watches.changed() => if !more { return },
            }
            let wanted = Arc::clone(&self.wanted.borrow_and_update());
            retry = None;
            if !watches.is_complete() {
                continue;
            }
            self.announce(&wanted, &sight);
            if leading && !writer.reconcile(&wanted, &sight).await {
                retry = Some(Instant::now() + RETRY);
            }
        }
    }

    fn announce(&self, wanted: &[GatewayService], sight: &Sight) {
        let fleet = sight.service(&self.plan.namespace, &self.plan.fleet);
        // A foreign Service in the place of a Gateway's leads elsewhere.
        let of = |wanted: &GatewayService| {
            let service = sight.service(&wanted.namespace, &wanted.name);
            service
                .filter(|service| self.plan.is_ours(&service.metadata))
                .map(|service| reached(&service))
                .unwrap_or_default()
        };
        let addresses = Addresses {
            ingresses: fleet.map(|fleet| reached(&fleet)).unwrap_or_default(),
            gateways: wanted
                .iter()
                .map(|service| (service.gateway.clone(), of(service)))
                .collect(),
        };
        self.addresses.send_if_modified(|old| {
            let changed = *old != addresses;
            if changed {
                *old = addresses;
            }
            changed
        });
    }
}
