//! How endpoints are asked whether they are well.

use plugins::Problems;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;
use crate::upstream_policy::{Empty, ranges, statuses};

/// How endpoints are asked. Exactly one of http, tcp and grpc must be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::ONE_PROBE])))]
pub struct ActiveHealth {
    /// A GET request, over TLS and HTTP/2 where the upstream speaks them. Exactly one of http, tcp and grpc must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// An endpoint is well that takes a connection. Exactly one of http, tcp and grpc must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::empty")]
    pub tcp: Option<Empty>,
    /// The gRPC health protocol (grpc.health.v1). Exactly one of http, tcp and grpc must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcProbe>,
    /// Seconds between two checks of an endpoint, a tenth more or less, 1 to 3600. Default: 10.
    #[schemars(range(min = 1, max = 3600))]
    pub interval_seconds: u32,
    /// Seconds that a check may take, 1 to 60. Default: 2.
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: u32,
    /// So many passed checks in a row take an endpoint back in, 1 to 100. Default: 2.
    #[schemars(range(min = 1, max = 100))]
    pub healthy_threshold: u32,
    /// So many failed checks in a row leave an endpoint out, 1 to 100. Default: 3.
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold: u32,
}

impl Default for ActiveHealth {
    fn default() -> Self {
        Self {
            http: None,
            tcp: None,
            grpc: None,
            interval_seconds: 10,
            timeout_seconds: 2,
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        }
    }
}

/// A GET request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpProbe {
    /// Its path, with or without a query. Default: /.
    #[schemars(length(min = 1, max = 1024), extend("x-kubernetes-validations" = schema::rules(&[schema::PROBE_PATH])))]
    pub path: String,
    /// Its Host. Default: the endpoint's address and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = schema::rules(&[schema::PROBE_HOST])))]
    pub host: Option<String>,
    /// Statuses that an endpoint which is well answers with, each 100 to 599, at most 32. Default: 200.
    #[schemars(length(min = 1, max = 32), inner(range(min = 100, max = 599)))]
    pub statuses: Vec<u32>,
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            host: None,
            statuses: vec![200],
        }
    }
}

/// A call of grpc.health.v1.Health/Check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GrpcProbe {
    /// The service that is asked about. Default: "", the server as a whole.
    #[schemars(length(max = 253))]
    pub service: String,
}

impl ActiveHealth {
    pub(crate) fn check(&self, found: &mut Problems) {
        let given = [self.http.is_some(), self.tcp.is_some(), self.grpc.is_some()];
        let one = given.into_iter().filter(|given| *given).count() == 1;
        found.rule("activeHealth", one, schema::ONE_PROBE);
        let numbers = [
            ("intervalSeconds", self.interval_seconds, 1, 3600),
            ("timeoutSeconds", self.timeout_seconds, 1, 60),
            ("healthyThreshold", self.healthy_threshold, 1, 100),
            ("unhealthyThreshold", self.unhealthy_threshold, 1, 100),
        ];
        ranges(found, "activeHealth.", &numbers);
        if let Some(http) = &self.http {
            let field = "activeHealth.http.path";
            found.length(field, &http.path, 1, 1024);
            found.rule(field, is_probe_path(&http.path), schema::PROBE_PATH);
            if let Some(host) = &http.host {
                let field = "activeHealth.http.host";
                found.length(field, host, 1, 253);
                found.rule(field, is_host(host), schema::PROBE_HOST);
            }
            let field = "activeHealth.http.statuses";
            if http.statuses.is_empty() {
                found.add(field, "must have at least 1 item");
            }
            statuses(found, field, &http.statuses, 100);
        }
        if let Some(grpc) = &self.grpc {
            found.length("activeHealth.grpc.service", &grpc.service, 0, 253);
        }
    }
}

fn is_probe_path(path: &str) -> bool {
    path.starts_with('/')
        && path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/?=&%._~:@!$'()*+,;-".contains(&byte))
}

fn is_host(host: &str) -> bool {
    host.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".:-[]".contains(&byte))
}
