//! One compilation of everything but Consumers, Credentials and Endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use snapshot::Entry;
use snapshot::proto::Resource;
use snapshot::proto::resource::Body;

use crate::callbacks::Callback;
use crate::certificates::Certificates;
use crate::credentials::SharedKeys;
use crate::findings::Findings;
use crate::grants::Grants;
use crate::http_matches::Expressions;
use crate::inputs::Inputs;
use crate::plugins::Attachments;
use crate::services::Upstreams;
use crate::{GatewayService, ObjectRef, Settings, WantedSecret};

/// What the parts of a pass read and write.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    pub(crate) inputs: &'a Inputs,
    pub(crate) settings: &'a Settings,
    pub(crate) shared_keys: &'a SharedKeys,
    pub(crate) certificates: &'a mut Certificates,
    pub(crate) expressions: &'a mut Expressions,
    pub(crate) grants: Grants<'a>,
    pub(crate) findings: Findings,
    pub(crate) resources: Resources,
    pub(crate) upstreams: Upstreams,
    /// Keys of upstreams whose endpoints clients keep to, because a route asks for it.
    pub(crate) sticky: BTreeSet<String>,
    /// Secrets to be generated for plugins.
    pub(crate) wanted: Vec<WantedSecret>,
    /// Where providers send browsers back to.
    pub(crate) callbacks: Vec<Callback>,
    /// The Gateways of the route that is being read.
    pub(crate) parents: Vec<ObjectRef>,
    /// Through which Gateways Services are reached.
    pub(crate) reached: BTreeMap<ObjectRef, BTreeSet<ObjectRef>>,
}

/// What passes remember, because it is too slow to find out at every one of them.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) certificates: Certificates,
    expressions: Expressions,
}

/// What came of a pass.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) resources: Resources,
    pub(crate) findings: Findings,
    /// Ports of Services that routes lead to.
    pub(crate) upstreams: Upstreams,
    /// Keys of the plugins attached to Consumers.
    pub(crate) consumer_plugins: BTreeMap<ObjectRef, Vec<String>>,
    pub(crate) gateway_services: Vec<GatewayService>,
    /// Secrets to be generated for plugins.
    pub(crate) wanted: Vec<WantedSecret>,
}

/// Encoded resources by key.
#[derive(Debug, Default)]
pub(crate) struct Resources(pub(crate) BTreeMap<Arc<str>, Entry>);

impl Resources {
    pub(crate) fn put(&mut self, key: &str, body: Body) {
        self.0.insert(key.into(), encode(key, body));
    }
}

/// A resource under its key.
pub(crate) fn encode(key: &str, body: Body) -> Entry {
    Entry::new(&Resource {
        key: key.to_owned(),
        body: Some(body),
    })
}

/// Compiles.
pub(crate) fn run(
    inputs: &Inputs,
    settings: &Settings,
    shared_keys: &SharedKeys,
    Kept {
        certificates,
        expressions,
    }: &mut Kept,
) -> Outcome {
    let mut pass = Pass {
        inputs,
        settings,
        shared_keys,
        certificates,
        expressions,
        grants: Grants::of(inputs),
        findings: Findings::default(),
        resources: Resources::default(),
        upstreams: Upstreams::default(),
        sticky: BTreeSet::new(),
        wanted: Vec::new(),
        callbacks: Vec::new(),
        parents: Vec::new(),
        reached: BTreeMap::new(),
    };
    let classes = pass.classes();
    let attachments = Attachments::collect(&mut pass, &classes);
    let mut gateways = pass.gateways(&classes, &attachments);
    pass.http_routes(&mut gateways, &attachments);
    pass.ingresses(&classes, &gateways, &attachments);
    pass.finish_callbacks();
    let backend_tls = pass.backend_tls();
    let policies = pass.upstream_policies();
    pass.put_upstreams(&attachments, &backend_tls, &policies);
    pass.finish_backend_tls(backend_tls);
    pass.finish_upstream_policies(policies);
    let gateway_services = pass.finish_gateways(gateways);
    pass.expressions.forget_unused();
    Outcome {
        resources: pass.resources,
        findings: pass.findings,
        upstreams: pass.upstreams,
        consumer_plugins: attachments.of_consumers(),
        gateway_services,
        wanted: pass.wanted,
    }
}
