//! `UpstreamPolicy`: how a Service's endpoints are treated, where the Gateway API has no field for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use plugins::{Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::active_health::ActiveHealth;
use crate::schema;

/// How the endpoints of Services are treated.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "postern.dev",
    version = "v1alpha1",
    kind = "UpstreamPolicy",
    plural = "upstreampolicies",
    namespaced,
    shortname = "pup",
    category = "postern",
    status = "UpstreamPolicyStatus",
    derive = "PartialEq",
    doc = "How the endpoints of Services are treated: which of them get requests, and how many.",
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpstreamPolicySpec {
    /// The Services that it is for, 1 to 16, in the same namespace. Of two policies for one Service the older counts.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<PolicyTarget>,
    /// Endpoints that fail requests are left out for a while. Default: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive_health: Option<PassiveHealth>,
    /// Endpoints are asked from time to time, and left out while they do not answer as they should. Default: nobody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_health: Option<ActiveHealth>,
    /// Percent of a port's endpoints that may be left out as unhealthy, 0 to 100; where more are unhealthy, all are used.
    /// Default: 50.
    #[serde(default = "half")]
    #[schemars(range(max = 100))]
    pub max_unhealthy_percent: u32,
    /// Seconds in which an endpoint that is new, or healthy again, comes to its full share of requests, from a tenth of it;
    /// 0 to 3600. Default: 0, at once.
    #[serde(default)]
    #[schemars(range(max = 3600))]
    pub slow_start_seconds: u32,
    /// How much each proxy sends at a time. Default: no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<UpstreamLimits>,
    /// How long each proxy waits for it. Default: as long as the proxy's options say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<UpstreamTimeouts>,
    /// How many requests each proxy may send again, whatever routes say. Default: as many as routes say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
    /// Requests with the same key go to the same endpoint. Default: each goes to the less busy of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_hash: Option<ConsistentHash>,
}

const fn half() -> u32 {
    50
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::POLICY_TARGET])))]
pub struct PolicyTarget {
    /// API group of the object. Default: "".
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    /// Kind of the object: Service. Default: Service.
    #[serde(default = "service")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

fn service() -> String {
    "Service".to_owned()
}

/// When an endpoint is left out because of how it serves requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PassiveHealth {
    /// So many failed requests in a row leave an endpoint out, 1 to 1000. A request fails where the endpoint takes no
    /// connection, closes it, does not answer in time, or answers with one of statuses. Default: 5.
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive_failures: u32,
    /// Statuses of responses that are failures, each 400 to 599, at most 32. Default: 502, 503 and 504.
    #[schemars(length(max = 32), inner(range(min = 400, max = 599)))]
    pub statuses: Vec<u32>,
    /// Seconds for which an endpoint is left out, 1 to 3600; twice as long each time it happens again before it has been in
    /// use for as long as it was left out. Default: 30.
    #[schemars(range(min = 1, max = 3600))]
    pub ejection_seconds: u32,
    /// Seconds for which an endpoint is left out at most, 1 to 86400. Default: 300.
    #[schemars(range(min = 1, max = 86400))]
    pub max_ejection_seconds: u32,
}

impl Default for PassiveHealth {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            statuses: vec![502, 503, 504],
            ejection_seconds: 30,
            max_ejection_seconds: 300,
        }
    }
}

/// How much each proxy sends to one port of a Service at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UpstreamLimits {
    /// Requests under way, 1 to 1000000; more get 503. Default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_requests: Option<u32>,
    /// Connections of HTTP/1.1, and those that a TLSRoute passes on, 1 to 1000000; requests beyond that wait for one. Over
    /// HTTP/2 each worker has one connection to an endpoint, and maxRequests limits what it carries. Default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// Requests that may wait for a connection, at most for the time of --connect-timeout, 0 to 1000000; more get 503.
    /// Counts with maxConnections only. Default: 1024.
    #[schemars(range(max = 1_000_000))]
    pub max_pending: u32,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            max_requests: None,
            max_connections: None,
            max_pending: 1024,
        }
    }
}

/// How long each proxy waits for an endpoint. Fields of a route, and annotations of an Ingress, come before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UpstreamTimeouts {
    /// Milliseconds until a connection to an endpoint is there, and once more for TLS; 1 to 600000. Default: the time of
    /// --connect-timeout.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 600_000))]
    pub connect_milliseconds: Option<u32>,
    /// Seconds from the end of the request to the head of the response, and between two pieces of the request's body that
    /// the endpoint takes; 1 to 86400. Does not count where the route has a timeout. Default: the time of
    /// --response-timeout.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub response_seconds: Option<u32>,
}

/// How many requests each proxy may send again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetryBudget {
    /// Percent of the requests under way that may be ones which are sent again, 0 to 100. Default: 20.
    #[schemars(range(max = 100))]
    pub percent: u32,
    /// So many may be sent again each second in any case, 0 to 100000. Default: 10.
    #[schemars(range(max = 100_000))]
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent: 20,
            min_per_second: 10,
        }
    }
}

/// What tells clients apart. Exactly one of header, cookie and clientAddress must be given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::ONE_HASH_KEY])))]
pub struct ConsistentHash {
    /// Name of a header, as the upstream gets it before the route's filters: X-Consumer-ID is that of the caller. Requests
    /// without it go to the less busy of two endpoints. Exactly one of header, cookie and clientAddress must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), extend("x-kubernetes-validations" = schema::rules(&[schema::HASH_NAME])))]
    pub header: Option<String>,
    /// A cookie of the gateway's own, which clients without it are given. Exactly one of header, cookie and clientAddress
    /// must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<HashCookie>,
    /// The client's address, that of X-Forwarded-For behind trusted proxies. Exactly one of header, cookie and
    /// clientAddress must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::empty")]
    pub client_address: Option<Empty>,
    /// An endpoint with more than so many percent of the mean number of requests under way is passed over, 100 to 1000.
    /// Default: 125; with cookie none is passed over, so that sessions stay where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 1000))]
    pub max_load_percent: Option<u32>,
}

/// A cookie that holds nothing but chance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HashCookie {
    /// Its name. Default: postern-affinity.
    #[schemars(length(min = 1, max = 128), extend("x-kubernetes-validations" = schema::rules(&[schema::HASH_NAME])))]
    pub name: String,
    /// The path that browsers send it to. Default: /.
    #[schemars(length(min = 1, max = 1024), extend("x-kubernetes-validations" = schema::rules(&[schema::COOKIE_PATH])))]
    pub path: String,
    /// Seconds that browsers keep it, 1 to 31536000. Default: until they are closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub max_age_seconds: Option<u32>,
}

impl Default for HashCookie {
    fn default() -> Self {
        Self {
            name: "postern-affinity".to_owned(),
            path: "/".to_owned(),
            max_age_seconds: None,
        }
    }
}

/// That it is given is all it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// What the gateway made of an `UpstreamPolicy`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UpstreamPolicyStatus {
    /// Accepted: the object is well formed, its Services are there, and none of them has an older policy (reasons Invalid,
    /// TargetNotFound, Conflicted). Programmed: the connected proxies have it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

impl UpstreamPolicySpec {
    /// Values that the API server's schema refuses.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut found = Problems::default();
        if !(1..=16).contains(&self.target_refs.len()) {
            found.add("targetRefs", "must have between 1 and 16 items");
        }
        for (index, target) in self.target_refs.iter().enumerate() {
            let field = format!("targetRefs[{index}]");
            let known = target.group.is_empty() && target.kind == "Service";
            found.rule(&field, known, schema::POLICY_TARGET);
            found.length(&format!("{field}.name"), &target.name, 1, 253);
        }
        let top = [
            ("maxUnhealthyPercent", self.max_unhealthy_percent, 0, 100),
            ("slowStartSeconds", self.slow_start_seconds, 0, 3600),
        ];
        ranges(&mut found, "", &top);
        if let Some(active) = &self.active_health {
            active.check(&mut found);
        }
        if let Some(passive) = &self.passive_health {
            passive.check(&mut found);
        }
        if let Some(limits) = &self.limits {
            let some = [
                ("maxRequests", limits.max_requests),
                ("maxConnections", limits.max_connections),
            ];
            for (field, value) in some {
                ranges(
                    &mut found,
                    "limits.",
                    &[(field, value.unwrap_or(1), 1, 1_000_000)],
                );
            }
            let pending = [("maxPending", limits.max_pending, 0, 1_000_000)];
            ranges(&mut found, "limits.", &pending);
        }
        if let Some(timeouts) = &self.timeouts {
            let connect = timeouts.connect_milliseconds.unwrap_or(1);
            let response = timeouts.response_seconds.unwrap_or(1);
            let numbers = [
                ("connectMilliseconds", connect, 1, 600_000),
                ("responseSeconds", response, 1, 86_400),
            ];
            ranges(&mut found, "timeouts.", &numbers);
        }
        if let Some(hash) = &self.consistent_hash {
            hash.check(&mut found);
        }
        if let Some(budget) = &self.retry_budget {
            let numbers = [
                ("percent", budget.percent, 0, 100),
                ("minPerSecond", budget.min_per_second, 0, 100_000),
            ];
            ranges(&mut found, "retryBudget.", &numbers);
        }
        found.0
    }
}

impl PassiveHealth {
    fn check(&self, found: &mut Problems) {
        let numbers = [
            ("consecutiveFailures", self.consecutive_failures, 1, 1000),
            ("ejectionSeconds", self.ejection_seconds, 1, 3600),
            ("maxEjectionSeconds", self.max_ejection_seconds, 1, 86_400),
        ];
        ranges(found, "passiveHealth.", &numbers);
        statuses(found, "passiveHealth.statuses", &self.statuses, 400);
    }
}

impl ConsistentHash {
    fn check(&self, found: &mut Problems) {
        let given = [
            self.header.is_some(),
            self.cookie.is_some(),
            self.client_address.is_some(),
        ];
        let one = given.into_iter().filter(|given| *given).count() == 1;
        found.rule("consistentHash", one, schema::ONE_HASH_KEY);
        let load = self.max_load_percent.unwrap_or(100);
        ranges(
            found,
            "consistentHash.",
            &[("maxLoadPercent", load, 100, 1000)],
        );
        let cookie = self.cookie.as_ref();
        let names = [
            ("consistentHash.header", self.header.as_ref()),
            (
                "consistentHash.cookie.name",
                cookie.map(|cookie| &cookie.name),
            ),
        ];
        for (field, name) in names {
            if let Some(name) = name {
                found.length(field, name, 1, 128);
                found.rule(field, is_token(name), schema::HASH_NAME);
            }
        }
        if let Some(cookie) = cookie {
            let field = "consistentHash.cookie.path";
            found.length(field, &cookie.path, 1, 1024);
            found.rule(field, is_cookie_path(&cookie.path), schema::COOKIE_PATH);
            let age = cookie.max_age_seconds.unwrap_or(1);
            let ages = [("maxAgeSeconds", age, 1, 31_536_000)];
            ranges(found, "consistentHash.cookie.", &ages);
        }
    }
}

/// Whether it can be the name of a header or of a cookie.
#[must_use]
pub fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Whether it can be the path of a cookie.
#[must_use]
pub fn is_cookie_path(path: &str) -> bool {
    path.starts_with('/')
        && path
            .bytes()
            .all(|byte| (b'!'..=b'~').contains(&byte) && byte != b';')
}

/// Checks statuses of responses.
pub(crate) fn statuses(found: &mut Problems, field: &str, statuses: &[u32], least: u32) {
    if statuses.len() > 32 {
        found.add(field, "must have at most 32 items");
    }
    for (index, status) in statuses.iter().enumerate() {
        ranges(
            found,
            field,
            &[(&format!("[{index}]"), *status, least, 599)],
        );
    }
}

/// Checks numbers: field, value, least and most.
pub(crate) fn ranges(found: &mut Problems, parent: &str, numbers: &[(&str, u32, u32, u32)]) {
    for (field, value, least, most) in numbers {
        if !(least..=most).contains(&value) {
            found.add(
                format!("{parent}{field}"),
                format!("must be between {least} and {most}, it is {value}"),
            );
        }
    }
}
