//! `UpstreamPolicies`: how the endpoints of Services are treated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::{ActiveHealth, ConsistentHash, PassiveHealth, PolicyTarget, UpstreamPolicySpec};
use snapshot::proto::{self, active_health::Probe, hash_key::Key};

use crate::findings::{Reasons, in_spec};
use crate::object::{Body, decode};
use crate::pass::Pass;
use crate::{Condition, Kind, Object, ObjectRef, StatusBody};

/// All policies.
#[derive(Debug, Default)]
pub(crate) struct UpstreamPolicies<'a> {
    by_service: BTreeMap<ObjectRef, Holder>,
    policies: Vec<Policy<'a>>,
}

/// Whose policy a Service has.
#[derive(Debug)]
struct Holder {
    policy: ObjectRef,
    /// None: nobody can read it. It keeps its place, so that a typing error does not put another policy in force.
    treats: Option<proto::UpstreamPolicy>,
}

/// One policy on its way through a pass.
#[derive(Debug)]
struct Policy<'a> {
    object: &'a Object,
    services: BTreeSet<ObjectRef>,
    accepted: Reasons,
}

impl UpstreamPolicies<'_> {
    /// What is said of a Service.
    pub(crate) fn of(&self, service: &ObjectRef) -> Option<proto::UpstreamPolicy> {
        self.by_service.get(service)?.treats.clone()
    }
}

impl<'a> Pass<'a> {
    /// Reads the policies, the older first: where two are for the same Service, the older counts.
    pub(crate) fn upstream_policies(&mut self) -> UpstreamPolicies<'a> {
        let inputs = self.inputs;
        let mut objects: Vec<&Object> = inputs.all(Kind::UpstreamPolicy).collect();
        objects.sort_by_key(|object| (object.meta.created, &object.reference));
        let mut all = UpstreamPolicies::default();
        for object in objects {
            let mut policy = Policy {
                object,
                services: BTreeSet::new(),
                accepted: Reasons::default(),
            };
            let (treats, targets) = self.read_policy(&mut policy);
            for (index, target) in targets.iter().enumerate() {
                self.claim(&mut all.by_service, &mut policy, (index, target), &treats);
            }
            all.policies.push(policy);
        }
        all
    }

    fn read_policy(
        &mut self,
        policy: &mut Policy<'a>,
    ) -> (Option<proto::UpstreamPolicy>, Vec<PolicyTarget>) {
        let reference = &policy.object.reference;
        let mut wrong = |field: String, message: String| {
            policy
                .accepted
                .add("Invalid", format!("{field}: {message}"));
            self.findings.error(reference, "Invalid", field, message);
        };
        match &policy.object.body {
            Body::UpstreamPolicy(spec) => {
                let problems = spec.check();
                let good = problems.is_empty();
                for problem in problems {
                    wrong(in_spec(&problem.field), problem.message);
                }
                (good.then(|| read(spec)), spec.target_refs.clone())
            }
            Body::Unreadable(bad) => {
                wrong(bad.field.clone(), bad.message.clone());
                let targets = bad.spec.get("targetRefs").cloned().unwrap_or_default();
                (None, decode("", targets).unwrap_or_default())
            }
            _ => (None, Vec::new()),
        }
    }

    /// Gives a policy one of its Services, unless an older one has it.
    fn claim(
        &mut self,
        by_service: &mut BTreeMap<ObjectRef, Holder>,
        policy: &mut Policy<'a>,
        (index, target): (usize, &PolicyTarget),
        treats: &Option<proto::UpstreamPolicy>,
    ) {
        let own = &policy.object.reference;
        let service = ObjectRef::new(Kind::Service, &own.namespace, &target.name);
        let refused = if let Some(holder) = by_service.get(&service) {
            (holder.policy != *own).then(|| {
                let message = format!(
                    "{service} has an older policy, {}; remove one of them",
                    holder.policy
                );
                ("Conflicted", message)
            })
        } else {
            let holder = Holder {
                policy: own.clone(),
                treats: treats.clone(),
            };
            by_service.insert(service.clone(), holder);
            policy.services.insert(service.clone());
            let absent = self.inputs.of(&service).is_none();
            absent.then(|| ("TargetNotFound", format!("{service} does not exist")))
        };
        if let Some((reason, message)) = refused {
            let field = format!("spec.targetRefs[{index}]");
            self.findings.error(own, reason, field, message.clone());
            policy.accepted.add(reason, message);
        }
    }

    /// Writes the statuses, now that it is known which ports of the Services routes lead to.
    pub(crate) fn finish_upstream_policies(&mut self, all: UpstreamPolicies<'_>) {
        for policy in all.policies {
            let has = |service: &&ObjectRef| {
                all.by_service
                    .get(service)
                    .is_some_and(|of| of.treats.is_some())
            };
            let upstreams: Vec<Arc<str>> = policy
                .services
                .iter()
                .filter(has)
                .flat_map(|service| self.upstreams_of(service))
                .collect();
            let programmed = if upstreams.is_empty() {
                let why = "it is in force for no Service that a route leads to";
                Condition::no("Programmed", "Invalid", why)
            } else {
                Condition::programmed(upstreams)
            };
            let conditions = vec![
                policy.accepted.condition("Accepted", "Accepted"),
                programmed,
            ];
            let fields = BTreeMap::new();
            let status = StatusBody::Conditions { conditions, fields };
            self.findings.status(policy.object, status);
        }
    }

    /// Keys of the upstreams that were made of a Service's ports.
    fn upstreams_of(&self, service: &ObjectRef) -> Vec<Arc<str>> {
        let prefix = format!("Upstream/{}/{}/", service.namespace, service.name);
        let from = self.resources.0.range(Arc::from(prefix.as_str())..);
        from.map(|(key, _)| Arc::clone(key))
            .take_while(|key| key.starts_with(&prefix))
            .collect()
    }
}

/// What holds where no policy says otherwise.
pub(crate) fn usual() -> proto::UpstreamPolicy {
    proto::UpstreamPolicy {
        max_unhealthy_percent: 50,
        ..proto::UpstreamPolicy::default()
    }
}

/// What proxies are told.
fn read(spec: &UpstreamPolicySpec) -> proto::UpstreamPolicy {
    proto::UpstreamPolicy {
        passive_health: spec.passive_health.as_ref().map(passive_health),
        max_unhealthy_percent: spec.max_unhealthy_percent,
        slow_start_ms: milliseconds(spec.slow_start_seconds),
        limits: spec.limits.as_ref().map(|limits| proto::UpstreamLimits {
            max_requests: limits.max_requests.unwrap_or_default(),
            max_connections: limits.max_connections.unwrap_or_default(),
            max_pending: limits.max_pending,
        }),
        active_health: spec.active_health.as_ref().map(active_health),
        patience: spec.timeouts.as_ref().map(|timeouts| proto::Patience {
            connect_ms: timeouts.connect_milliseconds.unwrap_or_default(),
            send_ms: 0,
            response_ms: milliseconds(timeouts.response_seconds.unwrap_or_default()),
        }),
        consistent_hash: spec.consistent_hash.as_ref().map(consistent_hash),
        retry_budget: spec.retry_budget.as_ref().map(|budget| proto::RetryBudget {
            percent: budget.percent,
            min_per_second: budget.min_per_second,
        }),
    }
}

fn active_health(from: &ActiveHealth) -> proto::ActiveHealth {
    let http = from.http.as_ref().map(|http| {
        Probe::Http(proto::HttpProbe {
            path: http.path.clone(),
            host: http.host.clone().unwrap_or_default(),
            statuses: http.statuses.clone(),
        })
    });
    let grpc = || {
        from.grpc
            .as_ref()
            .map(|grpc| Probe::Grpc(grpc.service.clone()))
    };
    proto::ActiveHealth {
        probe: http.or_else(grpc).or(Some(Probe::Tcp(true))),
        interval_ms: milliseconds(from.interval_seconds),
        timeout_ms: milliseconds(from.timeout_seconds),
        healthy_threshold: from.healthy_threshold,
        unhealthy_threshold: from.unhealthy_threshold,
    }
}

fn consistent_hash(from: &ConsistentHash) -> proto::ConsistentHash {
    let cookie = from.cookie.as_ref().map(|cookie| {
        Key::Cookie(proto::HashCookie {
            name: cookie.name.clone(),
            path: cookie.path.clone(),
            max_age: cookie.max_age_seconds.unwrap_or_default(),
        })
    });
    let usual = if cookie.is_some() { 0 } else { 125 };
    let header = from.header.clone().map(Key::Header);
    let key = header.or(cookie).or(Some(Key::ClientAddress(true)));
    proto::ConsistentHash {
        key: Some(proto::HashKey { key }),
        max_load_percent: from.max_load_percent.unwrap_or(usual),
    }
}

fn passive_health(from: &PassiveHealth) -> proto::PassiveHealth {
    proto::PassiveHealth {
        consecutive_failures: from.consecutive_failures,
        statuses: from.statuses.clone(),
        ejection_ms: milliseconds(from.ejection_seconds),
        max_ejection_ms: milliseconds(from.max_ejection_seconds),
    }
}

const fn milliseconds(seconds: u32) -> u32 {
    seconds.saturating_mul(1000)
}
