//! Copies of requests for upstreams whose answers nobody waits for.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, request};
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::record::Record;
use crate::runtime::{Backend, Rule, Upstream};
use crate::upstream::{self, Connector, Forward, Patience};
use crate::worker::Worker;

/// Copies that a worker has under way at most: an upstream that does not answer must not fill the memory.
const MAX_UNDER_WAY: usize = 1_024;
/// An upstream that takes longer for a copy is given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who gets copies.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) connector: Option<Arc<Connector>>,
    /// Of `denominator` requests so many are copied.
    pub(crate) numerator: u32,
    pub(crate) denominator: u32,
}

/// Sends copies of a request that is ready to leave.
pub(crate) fn copy(
    worker: &Rc<Worker>,
    (rule, backend): (&Rule, &Backend),
    head: &request::Parts,
    body: &mut RequestBody,
    trailers: bool,
) {
    let of_rule = rule.extras.iter().flat_map(|extras| &extras.mirrors);
    let of_backend = backend.extras.iter().flat_map(|extras| &extras.mirrors);
    let chosen: Vec<_> = of_rule
        .chain(of_backend)
        .filter(|mirror| {
            let all = mirror.numerator >= mirror.denominator;
            all || worker.dice.below(mirror.denominator as usize) < mirror.numerator as usize
        })
        .take(MAX_UNDER_WAY.saturating_sub(worker.copies.number()))
        .collect();
    if chosen.is_empty() {
        return;
    }
    for (mirror, copy) in chosen.iter().zip(body.copies(chosen.len())) {
        let mut request = Request::new(());
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        request.headers_mut().clone_from(&head.headers);
        let (head, ()) = request.into_parts();
        let deadline = Instant::now() + PATIENCE;
        let forward = Forward {
            head,
            body: copy,
            upgrade: None,
            trailers,
            deadline: Some(deadline),
            connector: mirror.connector.clone(),
            key: None,
            patience: Patience::default(),
        };
        let (worker, upstream) = (Rc::clone(worker), Arc::clone(&mirror.upstream));
        tokio::task::spawn_local(async move {
            let _counted = worker.copies.enter();
            let mut record = Record::begin();
            match upstream::forward(&worker, &upstream, forward, &mut record).await {
                Ok((response, lease)) => {
                    let _ = tokio::time::timeout_at(
                        deadline,
                        upstream::discard(response.into_body(), lease),
                    )
                    .await;
                }
                Err(failure) => {
                    tracing::debug!(upstream = %upstream.name, why = failure.label(), "a mirrored request failed");
                }
            }
        });
    }
}
