//! The way of a request: hygiene, route, backend, plugins, filters, upstream, response.

mod response;

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use plugins::handler::{Caller, Exchange, Refusal, ResponseEdits, Verdict};
use tokio::time::Instant;

use crate::body::{Body, RequestBody};
use crate::http::path;
use crate::http::request_id::RequestId;
use crate::http::{Admitted, admit, asker, request_id};
use crate::listen::Conn;
use crate::record::{Details, Record, Spoken};
use crate::refusals::Refused;
use crate::respond::{self, Failure, X_REQUEST_ID};
use crate::runtime::{self, Backend, Chain, ChainPlugin, Rule, Upstream};
use crate::upstream::{self, Forward, Lease, Times};
use crate::visit::Visit;
use crate::{clock, extras, filters, identity};

/// Serves one request; never fails, a failure is an answer too.
pub(crate) async fn serve(conn: Rc<Conn>, request: Request<Incoming>) -> Response<Body> {
    let mut visit = Visit::begin(&conn);
    let (mut head, incoming) = request.into_parts();
    let asker = asker(&head);
    let id = request_id(&head.headers, &conn.peer, &conn.worker.dice);
    let mut body = RequestBody::new(incoming, conn.worker.settings.timeouts.body_timeout);
    let mut edits = ResponseEdits::default();
    let mut passage = Passage::new(&conn, &mut visit.record, &id, &mut edits);
    // What waits for the upstream is awaited right here: every function in between would move the request once more.
    let outcome = match passage.prepare(&mut head, &mut body).await {
        Ok(Prepared::Respond(response)) => Ok(response),
        Ok(Prepared::Forward(ready)) => match passage.depart(&ready, head, body) {
            Err(failure) => Err(failure),
            Ok((forward, times, client)) => {
                let (worker, upstream) = (&conn.worker, &ready.upstream);
                let answer = match ready.rule.retry() {
                    None => upstream::forward(worker, upstream, forward, passage.record).await,
                    Some(retry) => {
                        let how = (retry, times);
                        let record = &mut *passage.record;
                        // Rare and large: in a box, so that other requests do not carry it about.
                        Box::pin(upstream::persist(worker, upstream, forward, how, record)).await
                    }
                };
                answer.and_then(|answer| passage.arrive(&ready, answer, client))
            }
        },
        Err(failure) => {
            if failure.status().as_u16() >= 400 {
                passage.remember(&failure, &head);
            }
            Err(failure)
        }
    };
    let mut response = match outcome {
        Ok(response) => response,
        Err(failure) => {
            note(&failure, &mut visit.record);
            respond::answer(&failure, asker, Some(&id))
        }
    };
    for (name, value) in edits.append {
        response.headers_mut().append(name, value);
    }
    // Pages may read refusals, too.
    if let Some(shown) = visit.record.shown.take() {
        shown.tell(response.headers_mut());
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS && conn.state.stays_http() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    visit.record.status = response.status();
    response.body_mut().accompany(visit);
    response
}

/// For the log and the metric; a plugin's refusal or answer is noted as its verdict.
fn note(failure: &Failure, record: &mut Record) {
    match failure {
        Failure::Refused(_) | Failure::Answered(_) => {}
        Failure::Incomplete(why) => {
            record.cause = Some(Arc::clone(why));
            record.failure = Some(failure.label());
        }
        _ => record.failure = Some(failure.label()),
    }
}

/// One request on its way.
pub(crate) struct Passage<'a> {
    conn: &'a Rc<Conn>,
    record: &'a mut Record,
    id: &'a RequestId,
    /// What plugins add to whatever the client gets.
    edits: &'a mut ResponseEdits,
    /// Plugins that want to see the upstream's answer.
    watching: Vec<(Arc<ChainPlugin>, u64)>,
    pub(crate) caller: Caller,
    /// The request is only explained: nobody is to be asked, nothing to be changed.
    rehearsal: bool,
}

/// What becomes of a request that is not refused.
pub(crate) enum Prepared {
    /// It is answered here.
    Respond(Response<Body>),
    /// It leaves for its upstream.
    Forward(Ready),
}

/// Where a request leaves for.
#[derive(Debug)]
pub(crate) struct Ready {
    rule: Arc<Rule>,
    /// Index into the rule's backends.
    backend: usize,
    pub(crate) upstream: Arc<Upstream>,
    upgrade: Option<HeaderValue>,
    trailers: bool,
    deadline: Option<Instant>,
    /// Requests with the same one go to the same endpoint.
    pub(crate) key: Option<u64>,
}

impl Ready {
    fn backend(&self) -> Result<&Backend, Failure> {
        let backend = self.rule.backends.get(self.backend);
        backend.ok_or(Failure::NoBackend("the route has no backend"))
    }
}

/// The rule that serves a request.
struct Route {
    rule: Arc<Rule>,
    prefix_len: usize,
    public_port: u16,
}

impl<'a> Passage<'a> {
    fn new(
        conn: &'a Rc<Conn>,
        record: &'a mut Record,
        id: &'a RequestId,
        edits: &'a mut ResponseEdits,
    ) -> Self {
        Self {
            conn,
            record,
            id,
            edits,
            watching: Vec::new(),
            caller: Caller::default(),
            rehearsal: false,
        }
    }

    /// One that ends before the request leaves, and changes nothing: for explanations.
    pub(crate) fn rehearsal(
        conn: &'a Rc<Conn>,
        record: &'a mut Record,
        id: &'a RequestId,
        edits: &'a mut ResponseEdits,
    ) -> Self {
        Self {
            rehearsal: true,
            ..Self::new(conn, record, id, edits)
        }
    }
}

impl Passage<'_> {
    /// Everything that is decided before the request leaves. Calls no upstream: what is explained goes this way too.
    pub(crate) async fn prepare(
        &mut self,
        head: &mut request::Parts,
        body: &mut RequestBody,
    ) -> Result<Prepared, Failure> {
        let worker = &self.conn.worker;
        let admitted = admit(head, &self.conn.peer, &worker.settings.limits);
        self.describe(head);
        let admitted = admitted?;
        let route = self.route(head, &admitted)?;
        let rule = Arc::clone(&route.rule);
        self.record.rule = Some(Arc::clone(&rule));
        if let Some(why) = &rule.closed {
            return Err(Failure::Incomplete(Arc::clone(why)));
        }
        if let Some(extras) = &rule.extras
            && let Some(response) = extras.begin(
                self.conn,
                (&*head, host_of(head, &admitted)?),
                body,
                self.record,
            )?
        {
            return Ok(Prepared::Respond(response));
        }
        let deadline = rule.request_timeout.map(|timeout| Instant::now() + timeout);
        if let Some(redirect) = &rule.redirect {
            self.authorize(&rule.redirect_chain, &admitted, head, body)
                .await?;
            return self
                .redirect(redirect, &route, head, &admitted)
                .map(Prepared::Respond);
        }
        let (index, backend) = self.choose(&rule)?;
        self.authorize(&backend.chain, &admitted, head, body)
            .await?;
        if let Some(redirect) = backend.redirect() {
            return self
                .redirect(redirect, &route, head, &admitted)
                .map(Prepared::Respond);
        }
        let upstream = Arc::clone(backend.upstream()?);
        // The table grows once for all that is told, not with every few headers.
        let _ = head.headers.try_reserve(match self.caller.consumer {
            Some(_) => 12,
            None => 6,
        });
        self.conn
            .peer
            .tell(&mut head.headers, &worker.settings.trusted_proxies);
        head.headers.insert(X_REQUEST_ID, self.id.header());
        identity::tell(&self.caller, &mut head.headers);
        let key = match rule.affinity().or_else(|| upstream.hash()) {
            None => None,
            Some(hash) => hash.key(self.conn, &head.headers, self.edits),
        };
        filters::apply(&rule.request_filters, head, route.prefix_len)?;
        filters::apply(&backend.request_filters, head, route.prefix_len)?;
        Ok(Prepared::Forward(Ready {
            rule,
            backend: index,
            upstream,
            upgrade: admitted.upgrade,
            trailers: admitted.trailers,
            deadline,
            key,
        }))
    }

    /// Keeps what may have to be explained later.
    fn remember(&self, failure: &Failure, head: &request::Parts) {
        let peer = &self.conn.peer;
        let worker = &self.conn.worker;
        let client = peer.client(&head.headers, &worker.settings.trusted_proxies);
        let refused = Refused::new(failure, head, self.id, (peer, client), self.record);
        worker.refusals.push(refused);
    }

    /// What goes to the upstream, with the client's side of a change of protocol.
    fn depart(
        &self,
        ready: &Ready,
        mut head: request::Parts,
        mut body: RequestBody,
    ) -> Result<(Forward, Times, Option<OnUpgrade>), Failure> {
        let rule = &ready.rule;
        let backend = ready.backend()?;
        // A change of protocol comes instead of a body, never beside one.
        let upgrade = ready.upgrade.clone().filter(|_| body.progress().is_none());
        let client = upgrade
            .is_some()
            .then(|| head.extensions.remove::<OnUpgrade>())
            .flatten();
        let times = Times {
            deadline: ready.deadline,
            each: rule.backend_timeout,
        };
        let upgrading = client.is_some();
        if !upgrading && (rule.extras.is_some() || backend.extras.is_some()) {
            let worker = &self.conn.worker;
            extras::copy(worker, (rule, backend), &head, &mut body, ready.trailers);
        }
        let forward = Forward {
            head,
            body,
            upgrade: upgrade.filter(|_| upgrading),
            trailers: ready.trailers,
            deadline: times.due(),
            connector: backend.connector.clone(),
            key: ready.key,
            patience: rule.patience(),
        };
        Ok((forward, times, client))
    }

    /// What the client gets of the upstream's answer.
    fn arrive(
        &mut self,
        ready: &Ready,
        (response, lease): (Response<Incoming>, Lease),
        client: Option<OnUpgrade>,
    ) -> Result<Response<Body>, Failure> {
        self.record.upstream_time = Some(self.record.elapsed());
        let backend = ready.backend()?;
        self.respond(
            response,
            lease,
            client,
            ready.deadline,
            &ready.rule,
            backend,
        )
    }

    /// Notes what only the access log needs.
    fn describe(&mut self, head: &request::Parts) {
        let conn = self.conn;
        if conn.worker.log.is_off() {
            return;
        }
        self.record.details = Some(Box::new(Details {
            method: head.method.clone(),
            version: head.version,
            target: head.uri.path_and_query().cloned(),
            host: head.headers.get(HOST).cloned(),
            request_id: Some(self.id.header()),
            client: conn
                .peer
                .client(&head.headers, &conn.worker.settings.trusted_proxies),
            user_agent: head.headers.get(USER_AGENT).cloned(),
            port: conn.peer.port,
            tls: conn.peer.tls,
        }));
    }

    fn route(&self, head: &request::Parts, admitted: &Admitted) -> Result<Route, Failure> {
        let host = host_of(head, admitted)?;
        self.conn.worker.with_runtime(|runtime| {
            let port = runtime
                .ports
                .get(&self.conn.peer.port)
                .ok_or(Failure::NoRoute)?;
            if let Some(sni) = self.conn.sni.as_deref().filter(|sni| *sni != host) {
                self.check_listener(port, sni, host, &runtime.version)?;
            }
            let request = runtime::Request {
                host,
                path: head.uri.path(),
                query: head.uri.query(),
                method: &head.method,
                headers: &head.headers,
            };
            let found = port.find(&request).ok_or(Failure::NoRoute)?;
            // An upstream may drop the parameters of a path's segments. What it would then serve must be what was matched:
            // else "/private;x" would be a way around whatever protects "/private".
            if let Some(path) = path::without_parameters(request.path)
                && let Some(other) = port.find(&runtime::Request {
                    path: &path,
                    ..request
                })
                && !Arc::ptr_eq(other.rule, found.rule)
            {
                return Err(Failure::BadRequest(
                    "the path's parameters make it ambiguous",
                ));
            }
            Ok(Route {
                rule: Arc::clone(found.rule),
                prefix_len: found.prefix_len,
                public_port: port.public_port,
            })
        })
    }

    /// A connection serves the hosts of one listener: the one that the handshake named.
    fn check_listener(
        &self,
        port: &runtime::Port,
        sni: &str,
        host: &str,
        version: &Arc<str>,
    ) -> Result<(), Failure> {
        let mut also = self.conn.also.borrow_mut();
        if also
            .as_ref()
            .is_some_and(|(known, of)| **known == *host && of == version)
        {
            return Ok(());
        }
        if port.listener(sni) != port.listener(host) {
            return Err(Failure::Misdirected);
        }
        *also = Some((host.into(), Arc::clone(version)));
        Ok(())
    }

    /// One of the rule's backends, by weight.
    fn choose<'r>(&mut self, rule: &'r Rule) -> Result<(usize, &'r Backend), Failure> {
        const NONE: Failure = Failure::NoBackend("the route has no backend");
        if rule.total_weight == 0 {
            return Err(NONE);
        }
        let chosen = match rule.backends.as_slice() {
            [_] => 0,
            backends => {
                let mut point = self.conn.worker.dice.below(rule.total_weight as usize);
                backends
                    .iter()
                    .position(|backend| {
                        let weight = backend.weight as usize;
                        let here = point < weight;
                        point = point.saturating_sub(weight);
                        here
                    })
                    .ok_or(NONE)?
            }
        };
        self.record.backend = Some(chosen);
        let backend = rule.backends.get(chosen).ok_or(NONE)?;
        Ok((chosen, backend))
    }

    /// Asks the plugins: those of the route first, then those of the Consumer that they found.
    async fn authorize(
        &mut self,
        chain: &Chain,
        admitted: &Admitted,
        head: &mut request::Parts,
        body: &mut RequestBody,
    ) -> Result<(), Failure> {
        let mut own: Option<Vec<Option<Arc<ChainPlugin>>>> = None;
        for plugin in &chain.plugins {
            if plugin.kind.is_some_and(|kind| !kind.authenticates()) {
                let own = own.get_or_insert_with(|| self.plugins_of(&self.caller));
                if own.iter().flatten().any(|other| other.kind == plugin.kind) {
                    continue;
                }
            }
            self.ask(plugin, head, body).await?;
        }
        for plugin in own.unwrap_or_else(|| self.plugins_of(&self.caller)) {
            let gone = || Failure::Incomplete(Arc::from("a plugin of the Consumer is not there"));
            let plugin = plugin.ok_or_else(gone)?;
            self.ask(&plugin, head, body).await?;
        }
        self.note_caller();
        // No plugin says which of them counts, and upstreams differ.
        if admitted.several_authorizations {
            return Err(Failure::BadRequest("more than one Authorization"));
        }
        Ok(())
    }

    fn note_caller(&mut self) {
        self.record.anonymous = self.caller.anonymous;
        self.record.consumer.clone_from(&self.caller.consumer);
    }

    fn plugins_of(&self, caller: &Caller) -> Vec<Option<Arc<ChainPlugin>>> {
        let Some(consumer) = &caller.consumer else {
            return Vec::new();
        };
        self.conn.worker.with_runtime(|runtime| {
            runtime
                .plugins_of(consumer)
                .into_iter()
                .map(|plugin| plugin.map(Arc::clone))
                .collect()
        })
    }

    async fn ask(
        &mut self,
        plugin: &Arc<ChainPlugin>,
        head: &mut request::Parts,
        body: &mut RequestBody,
    ) -> Result<(), Failure> {
        let worker = &self.conn.worker;
        let handler = match &plugin.handler {
            Ok(handler) => handler,
            Err(why) => {
                self.spoken(plugin, "closed", false);
                return Err(Failure::Incomplete(Arc::clone(why)));
            }
        };
        // Only where somebody is authenticated already there is anything to compare.
        let before = match &self.caller.consumer {
            Some(consumer) if self.caller.is_authenticated() && plugin.authenticates() => {
                Some(consumer.clone())
            }
            _ => None,
        };
        let https = self.conn.peer.is_https(&head.headers);
        let mut exchange = Exchange {
            head,
            body,
            caller: &mut self.caller,
            directory: &worker.directory,
            now: clock::unix(),
            https,
            request_id: self.id.as_str(),
            tls: self.conn.peer.tls,
            response: self.edits,
            watch: None,
            rehearsal: self.rehearsal,
        };
        let mut verdict = handler.request(&mut exchange).await;
        if let Some(watch) = exchange.watch {
            self.watching.push((Arc::clone(plugin), watch));
        }
        for (method, reason) in self.caller.tried.drain(..) {
            self.record.verdicts.push(Spoken {
                plugin: Arc::clone(&plugin.name),
                method: Some(method),
                reason,
                passed: matches!(reason, "ok" | "session" | "preflight"),
            });
        }
        if let Some(before) = before
            && let Some(after) = &self.caller.consumer
            && !before.is_same(after)
        {
            if plugin.same_consumer {
                verdict = Verdict::Refuse(different_consumers());
            }
            self.record.replaced = Some(before);
        }
        let (reason, passed) = match &verdict {
            Verdict::Continue(reason) => (*reason, true),
            Verdict::Refuse(refusal) => (refusal.reason, false),
            Verdict::Answer(answer) => (answer.reason, answer.status.as_u16() < 400),
            Verdict::Undecided(reason) => (*reason, false),
        };
        self.spoken(plugin, reason, passed);
        let failure = match verdict {
            Verdict::Continue(_) => return Ok(()),
            Verdict::Refuse(refusal) => Failure::Refused(refusal),
            Verdict::Answer(answer) => Failure::Answered(answer),
            Verdict::Undecided(_) => Failure::Undecided,
        };
        self.note_caller();
        Err(failure)
    }

    /// Counts and notes what a plugin said.
    fn spoken(&mut self, plugin: &ChainPlugin, reason: &'static str, passed: bool) {
        let metrics = &self.conn.worker.metrics;
        metrics.verdict(&plugin.metrics, reason, passed);
        self.record.verdicts.push(Spoken {
            plugin: Arc::clone(&plugin.name),
            method: None,
            reason,
            passed,
        });
    }

    fn redirect(
        &self,
        redirect: &runtime::Redirect,
        route: &Route,
        head: &request::Parts,
        admitted: &Admitted,
    ) -> Result<Response<Body>, Failure> {
        let peer = &self.conn.peer;
        let origin = filters::Origin {
            https: peer.is_https(&head.headers),
            host: host_of(head, admitted)?,
            port: route.public_port,
            uri: &head.uri,
            prefix_len: route.prefix_len,
        };
        let location = filters::location(redirect, &origin)?;
        let mut response = respond::redirect(redirect.status, location, Some(self.id));
        for edit in &route.rule.response_filters {
            filters::apply_headers(edit, response.headers_mut());
        }
        Ok(response)
    }
}

/// Two credentials of one request prove two Consumers, and a plugin asks for one.
fn different_consumers() -> Refusal {
    Refusal {
        status: StatusCode::FORBIDDEN,
        message: "The credentials belong to different consumers".into(),
        members: Vec::new(),
        challenges: Vec::new(),
        reason: "different_consumer",
    }
}

fn host_of<'h>(head: &'h request::Parts, admitted: &Admitted) -> Result<&'h str, Failure> {
    head.headers
        .get(HOST)
        .and_then(|host| host.to_str().ok()?.get(..admitted.host_len))
        .ok_or(Failure::BadRequest("the Host is missing"))
}
