//! `UpstreamPolicy`: how a Service's endpoints are treated, where the Gateway API has no field for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use plugins::{Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
        if let Some(passive) = &self.passive_health {
            passive.check(&mut found);
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

/// Checks statuses of responses.
fn statuses(found: &mut Problems, field: &str, statuses: &[u32], least: u32) {
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
fn ranges(found: &mut Problems, parent: &str, numbers: &[(&str, u32, u32, u32)]) {
    for (field, value, least, most) in numbers {
        if !(least..=most).contains(&value) {
            found.add(
                format!("{parent}{field}"),
                format!("must be between {least} and {most}, it is {value}"),
            );
        }
    }
}
