//! Tokens that only their provider can judge (RFC 7662).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use aws_lc_rs::digest::{self, SHA256};
use http::{HeaderMap, HeaderName, StatusCode};
use outbound::SingleFlight;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::super::client::Endpoint;
use super::super::core::Core;
use super::super::token::instant;
use super::super::{AuthMethod, Config};
use super::Rejected;
use super::memory::{self, Mark};
use crate::handler::{BuildContext, Values};

/// How many answers are remembered for all workers, spread over so many parts.
const PARTS: usize = 16;
const PLACES: usize = 2048;

/// Asks the provider, and remembers what it said.
pub(super) struct Introspection {
    how: Arc<How>,
    addon_headers: Box<[HeaderName]>,
    shared: Arc<Shared>,
}

struct How {
    core: Arc<Core>,
    endpoint: Option<String>,
    method: AuthMethod,
    /// Seconds; 0: as long as the token is good.
    interval: i64,
    expiry_claim: Box<str>,
}

/// What the provider says of a token that is good.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) claims: Map<String, Value>,
    /// Until when that may be remembered, in seconds since 1970; none: not at all.
    pub(super) until: Option<i64>,
}

type Answer = Result<Arc<Active>, Rejected>;

/// What plugins of one segment share, over all workers.
struct Shared {
    flights: SingleFlight<Mark, Answer>,
    parts: [Mutex<HashMap<Mark, Arc<Active>>>; PARTS],
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Introspection")
    }
}

impl Introspection {
    pub(super) fn new(core: &Arc<Core>, context: &BuildContext<'_>) -> Result<Self, String> {
        let config = &core.config;
        let header = |name: &String| {
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("introspectionAddonHeaders: {name:?} is no name of a header"))
        };
        let names = config.introspection_addon_headers.iter();
        Ok(Self {
            how: Arc::new(How {
                core: Arc::clone(core),
                endpoint: config.introspection_endpoint.clone(),
                method: config.introspection_endpoint_auth_method,
                interval: config.introspection_interval.into(),
                expiry_claim: config.introspection_expiry_claim.as_str().into(),
            }),
            addon_headers: names.map(header).collect::<Result<_, _>>()?,
            shared: shared(config, context),
        })
    }

    /// What the provider says of a token: remembered, or asked now, once for all who want to know.
    pub(super) async fn ask(&self, token: &str, headers: &HeaderMap, now: i64) -> Answer {
        let mark = self.mark(token, headers);
        if let Some(known) = self.shared.find(&mark, now) {
            return Ok(known);
        }
        let (how, shared) = (Arc::clone(&self.how), Arc::clone(&self.shared));
        let (token, headers) = (token.to_owned(), self.selected(headers));
        let work = move || async move {
            let active = Arc::new(how.ask((&token, headers), now).await?);
            shared.keep(mark, &active, now);
            Ok(active)
        };
        let answer = self.shared.flights.run(mark, work).await;
        answer.unwrap_or(Err(Rejected::Unavailable("stopped")))
    }

    /// What is remembered of a token.
    pub(super) fn known(&self, token: &str, headers: &HeaderMap, now: i64) -> Option<Arc<Active>> {
        self.shared.find(&self.mark(token, headers), now)
    }

    fn mark(&self, token: &str, headers: &HeaderMap) -> Mark {
        let mut context = digest::Context::new(&SHA256);
        self.mark_headers(&mut context, headers);
        context.update(token.as_bytes());
        memory::finish(context)
    }

    /// The headers that go along have a say in the answer.
    pub(super) fn mark_headers(&self, context: &mut digest::Context, headers: &HeaderMap) {
        for (at, name) in self.addon_headers.iter().enumerate() {
            for value in headers.get_all(name) {
                context.update(&at.to_be_bytes());
                context.update(&value.len().to_be_bytes());
                context.update(value.as_bytes());
            }
        }
    }

    fn selected(&self, headers: &HeaderMap) -> HeaderMap {
        let mut selected = HeaderMap::new();
        for name in &self.addon_headers {
            for value in headers.get_all(name) {
                selected.append(name.clone(), value.clone());
            }
        }
        selected
    }
}

impl How {
    async fn ask(&self, (token, headers): (&str, HeaderMap), now: i64) -> Result<Active, Rejected> {
        let Core { idp, client, .. } = &*self.core;
        let failed = Rejected::Unanswered;
        // Only where it is needed: an endpoint that is given works without the metadata.
        let provider = match &self.endpoint {
            Some(_) => None,
            None => Some(idp.provider().await.map_err(failed)?),
        };
        let metadata = provider.as_ref().map(|provider| &provider.metadata);
        let discovered = metadata.and_then(|metadata| metadata.introspection_endpoint.as_ref());
        let discovered = discovered.map(|url| url.as_str());
        let url = self.endpoint.as_deref().or(discovered);
        let url = url.ok_or_else(|| failed("no_introspection_endpoint"))?;
        let supported = metadata.and_then(|metadata| {
            metadata
                .introspection_endpoint_auth_methods_supported
                .as_deref()
        });
        let endpoint = Endpoint {
            url,
            audience: url,
            wanted: self.method,
            supported,
            headers,
        };
        let form = [("token", token), ("token_type_hint", "access_token")];
        let answered = client
            .post(idp, endpoint, &form, now)
            .await
            .map_err(failed)?;
        if answered.status() != StatusCode::OK {
            return Err(failed("introspection_status"));
        }
        let read: Result<Map<String, Value>, _> = serde_json::from_slice(answered.body());
        let claims = read.map_err(|_| failed("introspection_answer"))?;
        if claims.get("active") != Some(&Value::Bool(true)) {
            return Err(Rejected::Invalid("inactive", "invalid token"));
        }
        let until = self.until(&claims, now);
        Ok(Active { claims, until })
    }

    /// A token without a known end is asked about every time.
    fn until(&self, claims: &Map<String, Value>, now: i64) -> Option<i64> {
        let expiry = claims.get(&*self.expiry_claim).and_then(instant)?;
        let until = if &*self.expiry_claim == "exp" {
            expiry
        } else {
            let exp = claims.get("exp").and_then(instant).unwrap_or(i64::MAX);
            now.saturating_add(expiry).min(exp)
        };
        let until = match self.interval {
            0 => until,
            interval => until.min(now.saturating_add(interval)),
        };
        (until > now).then_some(until)
    }
}

impl Shared {
    fn part(&self, mark: &Mark) -> Option<&Mutex<HashMap<Mark, Arc<Active>>>> {
        let [first, ..] = *mark;
        self.parts.get(usize::from(first) % PARTS)
    }

    fn find(&self, mark: &Mark, now: i64) -> Option<Arc<Active>> {
        let part = self.part(mark)?.lock();
        let found = part.get(mark)?;
        found
            .until
            .is_some_and(|until| now < until)
            .then(|| Arc::clone(found))
    }

    fn keep(&self, mark: Mark, active: &Arc<Active>, now: i64) {
        if active.until.is_none() {
            return;
        }
        let Some(part) = self.part(&mark) else { return };
        let mut part = part.lock();
        if part.len() >= PLACES {
            part.retain(|_, old| old.until.is_some_and(|until| now < until));
        }
        if part.len() >= PLACES {
            part.clear();
        }
        part.insert(mark, Arc::clone(active));
    }
}

/// What is shared by plugins of the same namespace with the same provider, endpoint, client and secret, which name the
/// same segment; one that names none has its own.
fn shared(config: &Config, context: &BuildContext<'_>) -> Arc<Shared> {
    static SEGMENTS: Mutex<Option<HashMap<Mark, Weak<Shared>>>> = Mutex::new(None);
    let made = || {
        Arc::new(Shared {
            flights: context.services.outbound.single_flight(),
            parts: std::array::from_fn(|_| Mutex::default()),
        })
    };
    let Some(segment) = &config.cache_segment else {
        return made();
    };
    let mark = segment_mark(config, segment, context.key, &context.values);
    let mut segments = SEGMENTS.lock();
    let segments = segments.get_or_insert_with(HashMap::new);
    if let Some(known) = segments.get(&mark).and_then(Weak::upgrade) {
        return known;
    }
    segments.retain(|_, shared| shared.strong_count() > 0);
    let made = made();
    segments.insert(mark, Arc::downgrade(&made));
    made
}

fn segment_mark(config: &Config, segment: &str, key: &str, values: &Values<'_>) -> Mark {
    let namespace = key.split('/').nth(1).unwrap_or_default();
    let secret = values.find("clientSecretRef").map(|secret| &secret[..]);
    let addons = config
        .introspection_addon_headers
        .join(",")
        .to_ascii_lowercase();
    let mut context = digest::Context::new(&SHA256);
    for part in [
        namespace.as_bytes(),
        segment.as_bytes(),
        config.discovery.as_bytes(),
        config
            .introspection_endpoint
            .as_deref()
            .unwrap_or_default()
            .as_bytes(),
        config.client_id.as_bytes(),
        secret.unwrap_or_default(),
        addons.as_bytes(),
        config.introspection_expiry_claim.as_bytes(),
        &config.introspection_interval.to_be_bytes(),
    ] {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    memory::finish(context)
}
