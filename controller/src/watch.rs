//! Watches every kind in [`Kind::ALL`], and hands what it sees to the engine.
//!
//! Lists are paged. An object that cannot be read harms only itself. A kind that the cluster does not know (the Gateway
//! API may not be installed) counts as empty and is asked for again and again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use compile::{Kind, Object, ObjectRef};
use futures::{StreamExt as _, pin_mut};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::metrics::Metrics;
use crate::status::Seen;

/// How often a kind that is not installed is asked for.
const ABSENT_RETRY: Duration = Duration::from_secs(3);
/// One request for a Secret may not take longer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Objects in one page of a list.
const PAGE: u32 = 500;

/// What the engine is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// An object is there, or changed. Secrets come with their data.
    Apply(Box<Object>),
    /// An object is gone.
    Delete(ObjectRef),
    /// A source has told everything that was there when it began.
    Synced(Source),
    /// A Secret whose data were asked for.
    Fetched(Box<Object>),
}

/// One watch: a kind, and where the controller is restricted, a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) kind: Kind,
    pub(crate) namespace: Option<Arc<str>>,
}

/// All watches for a choice of namespaces (empty: all).
pub(crate) fn sources(namespaces: &[String]) -> Vec<Source> {
    let mut sources = Vec::new();
    for kind in Kind::ALL {
        if kind.namespaced() && !namespaces.is_empty() {
            let each = namespaces.iter().map(|namespace| Source {
                kind,
                namespace: Some(namespace.as_str().into()),
            });
            sources.extend(each);
        } else {
            sources.push(Source {
                kind,
                namespace: None,
            });
        }
    }
    sources
}

/// What all watches share.
#[derive(Clone)]
pub(crate) struct Watches {
    pub(crate) client: kube::Client,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) metrics: Arc<Metrics>,
    /// True as soon as everything but Secrets is known: only then it is known whose data are needed.
    pub(crate) secrets_may_start: watch::Receiver<bool>,
    pub(crate) shutdown: CancellationToken,
}

impl Watches {
    /// Starts a task for each source.
    pub(crate) fn start(&self, sources: &[Source]) {
        for source in sources {
            let (watches, source) = (self.clone(), source.clone());
            tokio::spawn(async move {
                let shutdown = watches.shutdown.clone();
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = watches.run(source) => {}
                }
            });
        }
    }

    async fn run(mut self, source: Source) {
        if source.kind == Kind::Secret && self.secrets_may_start.wait_for(|may| *may).await.is_err()
        {
            return;
        }
        let api: Api<DynamicObject> = match &source.namespace {
            Some(namespace) => {
                Api::namespaced_with(self.client.clone(), namespace, &resource(source.kind))
            }
            None => Api::all_with(self.client.clone(), &resource(source.kind)),
        };
        let config = watcher::Config::default().page_size(PAGE);
        let events = watcher::watcher(api, config);
        pin_mut!(events);
        let mut listing = Listing::default();
        let mut backoff = Backoff::default();
        let mut absent = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if !matches!(event, Event::Init) {
                        if std::mem::take(&mut absent) {
                            tracing::info!(kind = %source.kind, "the cluster now knows this kind");
                        }
                        backoff.reset();
                    }
                    if self.take(&source, event, &mut listing).await.is_err() {
                        return;
                    }
                }
                Err(error) if is_absent(&error) => {
                    if !std::mem::replace(&mut absent, true) {
                        tracing::info!(
                            kind = %source.kind, api = source.kind.api_version(),
                            "the cluster does not know this kind: going on without it, and looking for it again"
                        );
                        // Objects that were seen stay: a cluster that forgets a kind for a moment must not open routes.
                        if self
                            .inputs
                            .send(Input::Synced(source.clone()))
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    self.until_served(source.kind).await;
                }
                Err(error) => {
                    self.metrics.watch_error(source.kind);
                    let wait = if is_expired(&error) {
                        Duration::ZERO
                    } else {
                        backoff.next()
                    };
                    tracing::warn!(kind = %source.kind, %error, "a watch broke; what was seen stays in force");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Waits until the cluster says that it knows a kind. Only for noticing it soon and asking quietly: what is true, the
    /// list says, because an API server that is still starting leaves kinds out here.
    async fn until_served(&self, kind: Kind) {
        loop {
            tokio::time::sleep(ABSENT_RETRY).await;
            let groups = match self.client.list_api_groups().await {
                Ok(groups) => groups.groups,
                // The watch says what is wrong.
                Err(_) => return,
            };
            if !groups.iter().any(|group| group.name == kind.group()) {
                continue;
            }
            let Ok(resources) = self
                .client
                .list_api_group_resources(kind.api_version())
                .await
            else {
                continue;
            };
            if resources
                .resources
                .iter()
                .any(|resource| resource.name == kind.plural())
            {
                return;
            }
        }
    }

    async fn take(
        &self,
        source: &Source,
        event: Event<DynamicObject>,
        listing: &mut Listing,
    ) -> Result<(), Closed> {
        match event {
            Event::Apply(object) => self.apply(source, object, listing).await,
            Event::InitApply(object) => {
                listing.listed.insert(reference(source.kind, &object));
                self.apply(source, object, listing).await
            }
            Event::Delete(object) => {
                let reference = reference(source.kind, &object);
                listing.known.remove(&reference);
                self.metrics.objects(source, listing.known.len());
                self.seen.forget(&reference);
                self.send(Input::Delete(reference)).await
            }
            Event::Init => {
                listing.listed.clear();
                Ok(())
            }
            Event::InitDone => {
                for gone in listing.finish() {
                    self.seen.forget(&gone);
                    self.send(Input::Delete(gone)).await?;
                }
                self.metrics.objects(source, listing.known.len());
                self.send(Input::Synced(source.clone())).await
            }
        }
    }

    async fn apply(
        &self,
        source: &Source,
        object: DynamicObject,
        listing: &mut Listing,
    ) -> Result<(), Closed> {
        let kind = source.kind;
        let reference = reference(kind, &object);
        let value = trimmed(kind, object, |status| self.seen.record(&reference, status));
        match Object::from_json(value) {
            Ok(object) => {
                if listing.known.insert(reference) {
                    self.metrics.objects(source, listing.known.len());
                }
                self.send(Input::Apply(Box::new(object))).await
            }
            Err(error) => {
                self.metrics.watch_error(kind);
                tracing::warn!(object = %reference, %error, "an object cannot be read; what was seen of it before stays");
                Ok(())
            }
        }
    }

    async fn send(&self, input: Input) -> Result<(), Closed> {
        self.inputs.send(input).await.map_err(|_| Closed)
    }
}

/// The engine has ended.
struct Closed;

/// Which objects of one source are known, so that those are noticed that went while the watch was broken.
#[derive(Debug, Default)]
struct Listing {
    known: HashSet<ObjectRef>,
    listed: HashSet<ObjectRef>,
}

impl Listing {
    /// Ends a list; returns what is known and was not in it.
    fn finish(&mut self) -> Vec<ObjectRef> {
        let listed = std::mem::take(&mut self.listed);
        let gone: Vec<ObjectRef> = self.known.difference(&listed).cloned().collect();
        for reference in &gone {
            self.known.remove(reference);
        }
        gone
    }
}

/// Fetches a Secret whose data something began to need; tries until it is there or gone.
pub(crate) async fn fetch(client: kube::Client, secret: ObjectRef, inputs: mpsc::Sender<Input>) {
    let api: Api<DynamicObject> =
        Api::namespaced_with(client, &secret.namespace, &resource(Kind::Secret));
    let mut backoff = Backoff::default();
    loop {
        let error = match tokio::time::timeout(FETCH_TIMEOUT, api.get_opt(&secret.name)).await {
            Ok(Ok(Some(object))) => {
                match Object::from_json(trimmed(Kind::Secret, object, |_| {})) {
                    Ok(object) => {
                        // The engine may have ended meanwhile.
                        let _ = inputs.send(Input::Fetched(Box::new(object))).await;
                        return;
                    }
                    Err(error) => error.to_string(),
                }
            }
            // Its watch says so, too.
            Ok(Ok(None)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within 10 s".to_owned(),
        };
        tracing::warn!(object = %secret, error, "cannot fetch a Secret that is referred to; trying again");
        tokio::select! {
            () = inputs.closed() => return,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

pub(crate) fn resource(kind: Kind) -> ApiResource {
    ApiResource {
        group: kind.group().into(),
        version: kind.version().into(),
        api_version: kind.api_version().into(),
        kind: kind.kind().into(),
        plural: kind.plural().into(),
    }
}

fn reference(kind: Kind, object: &DynamicObject) -> ObjectRef {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    ObjectRef::new(
        kind,
        object.metadata.namespace.as_deref().unwrap_or_default(),
        name,
    )
}

/// The object without what nobody needs; its status is shown to `status` and dropped.
fn trimmed(kind: Kind, mut object: DynamicObject, status: impl FnOnce(Option<&Value>)) -> Value {
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    let mut fields = match object.data {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    status(fields.remove("status").as_ref());
    // Items of a list do not say what they are.
    fields.insert("apiVersion".into(), kind.api_version().into());
    fields.insert("kind".into(), kind.kind().into());
    fields.insert(
        "metadata".into(),
        serde_json::to_value(&object.metadata).unwrap_or_default(),
    );
    Value::Object(fields)
}

fn status_code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

/// Whether the cluster does not know the kind. An API server that is still starting says 503 instead.
fn is_absent(error: &watcher::Error) -> bool {
    status_code(error) == Some(404)
}

/// Whether the watch only fell behind, which a new list repairs.
fn is_expired(error: &watcher::Error) -> bool {
    status_code(error) == Some(410)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Secret, "shop", name)
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let mut listing = Listing::default();
        for name in ["a", "b", "c"] {
            listing.known.insert(secret(name));
        }
        listing.listed.extend([secret("a"), secret("c")]);
        assert_eq!(listing.finish(), [secret("b")]);
        listing.listed.extend([secret("a"), secret("c")]);
        assert!(listing.finish().is_empty());
    }

    #[test]
    fn chosen_namespaces_are_watched_one_by_one_and_what_has_none_as_a_whole() {
        let all = sources(&[]);
        assert_eq!(all.len(), Kind::ALL.len());
        let two = sources(&["a".into(), "b".into()]);
        let of = |kind| two.iter().filter(|source| source.kind == kind).count();
        assert_eq!((of(Kind::Secret), of(Kind::GatewayClass)), (2, 1));
    }

    #[test]
    fn objects_lose_what_nobody_needs_and_say_what_they_are() {
        let object: DynamicObject = serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": "a", "namespace": "shop", "managedFields": [{"manager": "kubectl"}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "postern.dev/plugins": "x"},
            },
            "spec": {"rules": []},
            "status": {"loadBalancer": {}},
        }))
        .unwrap();
        let mut seen = None;
        let value = trimmed(Kind::Ingress, object, |status| seen = status.cloned());
        assert_eq!(seen, Some(serde_json::json!({"loadBalancer": {}})));
        assert_eq!(
            value,
            serde_json::json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {"name": "a", "namespace": "shop", "annotations": {"postern.dev/plugins": "x"}},
                "spec": {"rules": []},
            })
        );
    }
}
