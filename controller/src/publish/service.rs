//! One proxy's stream: greet, bring up to date, tell of changes, hear acknowledgements.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use snapshot::proto::control_plane_server::ControlPlane;
use snapshot::proto::{Delta, FromController, FromProxy, Hello, from_proxy};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::auth::{Authenticate, Denied, Identity};
use super::delta::Parts;
use super::hub::{Hub, Membership};
use super::server::Limits;

/// How long a stream may take to say Hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the reason of an end may take to be sent.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest name of a proxy: that of a pod.
const MAX_NAME: usize = 253;

type Sender = mpsc::Sender<Result<FromController, Status>>;

#[derive(Clone)]
pub(super) struct Service {
    pub(super) hub: Hub,
    pub(super) authenticate: Arc<dyn Authenticate>,
    pub(super) limits: Limits,
}

#[tonic::async_trait]
impl ControlPlane for Service {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<FromController, Status>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<FromProxy>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let peer = request
            .extensions()
            .get::<super::server::PeerAddr>()
            .map(|peer| peer.0);
        let token = bearer(&request)?;
        let identity = self
            .authenticate
            .authenticate(&token)
            .await
            .map_err(|denied| {
                tracing::warn!(?peer, reason = %denied, "a proxy was not let in");
                refusal(&denied)
            })?;
        if self.hub.proxies().len() >= self.limits.proxies {
            return Err(Status::resource_exhausted(format!(
                "{} proxies are connected already, the most that --max-proxies allows",
                self.limits.proxies
            )));
        }
        // One message at a time: what a slow proxy has not taken yet is merged in the hub, not queued here.
        let (sender, mut receiver) = mpsc::channel(1);
        let stream = Conversation {
            service: self.clone(),
            token,
            identity,
            inbound: request.into_inner(),
        };
        tokio::spawn(async move {
            tracing::debug!(
                ?peer,
                user = stream.identity.user,
                "a proxy opened a stream"
            );
            let end = stream.run(&sender).await;
            if let Err(status) = end {
                tracing::info!(?peer, reason = status.message(), "a proxy's stream ended");
                let _ = timeout(FAREWELL_TIMEOUT, sender.send(Err(status))).await;
            }
        });
        let outbound = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        Ok(Response::new(Box::pin(outbound)))
    }
}

struct Conversation {
    service: Service,
    token: String,
    identity: Identity,
    inbound: Streaming<FromProxy>,
}

impl Conversation {
    /// Talks until one side is done; `Ok` is a clean end that asks the proxy to connect again.
    async fn run(mut self, sender: &Sender) -> Result<(), Status> {
        let hub = self.service.hub.clone();
        let greeted = tokio::select! {
            () = hub.closing().cancelled() => return Ok(()),
            hello = timeout(HELLO_TIMEOUT, self.hello()) => hello,
        };
        let hello = greeted.map_err(|_| {
            Status::deadline_exceeded("no Hello came within 10 s of the stream's beginning")
        })??;
        tokio::select! {
            () = hub.closing().cancelled() => return Ok(()),
            () = sender.closed() => return Ok(()),
            () = hub.opened() => {}
        }
        let name = self
            .identity
            .pod
            .clone()
            .unwrap_or_else(|| hello.name.clone());
        let (membership, version, parts) = hub.join(&name, &hello);
        tracing::info!(
            proxy = name, program = hello.version, held = hello.snapshot_version, %version,
            resources = parts.upserts.len(), "a proxy joined"
        );
        drop(hello);
        let replaced = membership.peer.replaced.clone();
        let end = tokio::select! {
            () = replaced.cancelled() => Ok(()),
            () = sender.closed() => Ok(()),
            () = tell(&membership, sender, version, parts) => Ok(()),
            end = hear(&membership, &mut self.inbound) => end,
            status = review(&self.service, &self.token) => Err(status),
        };
        tracing::info!(proxy = name, "a proxy left");
        end
    }

    async fn hello(&mut self) -> Result<Hello, Status> {
        let first = self.inbound.message().await?.and_then(|from| from.message);
        let Some(from_proxy::Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument(
                "the first message of a stream must be Hello",
            ));
        };
        if hello.protocol != snapshot::PROTOCOL {
            return Err(Status::failed_precondition(format!(
                "this controller speaks protocol {}, the proxy speaks {}: run both in versions that fit together",
                snapshot::PROTOCOL,
                hello.protocol
            )));
        }
        if hello.name.is_empty()
            || [&hello.name, &hello.version, &hello.store]
                .into_iter()
                .any(|text| text.len() > MAX_NAME)
        {
            return Err(Status::invalid_argument(format!(
                "Hello.name must have 1 to {MAX_NAME} bytes, Hello.version and Hello.store at most {MAX_NAME}"
            )));
        }
        Ok(hello)
    }
}

/// Brings the proxy up to date, and keeps it there for as long as it listens.
async fn tell(membership: &Membership, sender: &Sender, version: Arc<str>, parts: Parts) {
    let (mut version, mut parts) = (version, parts);
    loop {
        for delta in parts.messages(&version) {
            if send(sender, delta).await.is_err() {
                return;
            }
        }
        (version, parts) = membership.next().await;
    }
}

async fn send(sender: &Sender, delta: Delta) -> Result<(), ()> {
    sender
        .send(Ok(FromController { delta: Some(delta) }))
        .await
        .map_err(drop)
}

/// Takes acknowledgements until the proxy goes.
async fn hear(membership: &Membership, inbound: &mut Streaming<FromProxy>) -> Result<(), Status> {
    while let Some(from) = inbound.message().await? {
        match from.message {
            Some(from_proxy::Message::Ack(ack)) => membership.acknowledge(ack),
            Some(from_proxy::Message::Hello(_)) => {
                return Err(Status::invalid_argument(
                    "Hello may only be the first message of a stream",
                ));
            }
            // A message of a later protocol that this controller may leave out.
            None => {}
        }
    }
    Ok(())
}

/// Ends with a status as soon as the token is no longer good. While nobody can be asked the stream goes on: a proxy must
/// not lose its configuration because the API server is away.
async fn review(service: &Service, token: &str) -> Status {
    loop {
        tokio::time::sleep(service.limits.review_every).await;
        match service.authenticate.authenticate(token).await {
            Err(denied @ Denied::Refused(_)) => return refusal(&denied),
            Err(denied @ Denied::Unavailable(_)) => {
                tracing::debug!(reason = %denied, "kept a stream")
            }
            Ok(_) => {}
        }
    }
}

fn bearer<T>(request: &Request<T>) -> Result<String, Status> {
    let header = request
        .metadata()
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    header
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty())
        .map(|(_, token)| token.trim().to_owned())
        .ok_or_else(|| {
            Status::unauthenticated(
                "metadata `authorization: Bearer <ServiceAccount token>` is missing",
            )
        })
}

fn refusal(denied: &Denied) -> Status {
    match denied {
        Denied::Refused(why) => Status::unauthenticated(why.clone()),
        Denied::Unavailable(_) => Status::unavailable(denied.to_string()),
    }
}
