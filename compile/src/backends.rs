//! Where a rule of an HTTPRoute or GRPCRoute sends requests.

use gateway_api::apis::experimental::httproutes::HttpRouteRules;
use snapshot::proto::{Backend, Rule, filter};

use crate::grants::{Side, remedy};
use crate::http_routes::Verdict;
use crate::kind::GATEWAY_GROUP;
use crate::pass::Pass;
use crate::route_filters::Place;
use crate::services::{PortRef, Speech};
use crate::{Kind, Object};

/// How a route names a Service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackendRef<'a> {
    pub(crate) group: Option<&'a str>,
    pub(crate) kind: Option<&'a str>,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) port: Option<i32>,
}

impl Pass<'_> {
    /// Reads the backends of a rule. One that is invalid keeps its share of the requests, which get 500.
    pub(crate) fn backends(
        &mut self,
        place: Place<'_>,
        spec: &HttpRouteRules,
        verdict: &mut Verdict,
        rule: &mut Rule,
    ) {
        let object = place.object;
        for (index, backend) in spec.backend_refs.iter().flatten().enumerate() {
            let field = format!("{}.backendRefs[{index}]", place.field);
            let named = BackendRef {
                group: backend.group.as_deref(),
                kind: backend.kind.as_deref(),
                namespace: backend.namespace.as_deref(),
                name: &backend.name,
                port: backend.port,
            };
            let mut read = self.backend(object, named, &field, verdict);
            read.weight = u32::try_from(backend.weight.unwrap_or(1))
                .unwrap_or_default()
                .min(1_000_000);
            let filters = backend.filters.as_deref().unwrap_or_default();
            let inner = Place {
                field: &field,
                ..place
            };
            match self.backend_filters(inner, filters, verdict) {
                Ok(filters) => read.filters = filters,
                Err(refusal) => {
                    let field = format!("{field}.{}", refusal.field);
                    verdict.refuse(
                        &mut self.findings,
                        object,
                        refusal.reason,
                        &field,
                        &refusal.message,
                    );
                    read.invalid = format!("{field}: {}", refusal.message);
                    read.upstream.clear();
                }
            }
            rule.backends.push(read);
        }
        let redirects = rule
            .filters
            .iter()
            .any(|one| matches!(one.filter, Some(filter::Filter::Redirect(_))));
        if rule.backends.is_empty() && !redirects && rule.invalid.is_empty() {
            // The Gateway API says 500 for a rule that leads nowhere; it is not an error of the object.
            let field = place.field;
            rule.invalid = format!("{field} has no backendRefs");
            self.findings.warning(
                &object.reference,
                "NoBackends",
                format!("{field}.backendRefs"),
                "the rule has no backendRefs and no redirect: it answers 500",
            );
        }
    }

    /// A backend without weight and filters.
    pub(crate) fn backend(
        &mut self,
        object: &Object,
        named: BackendRef<'_>,
        field: &str,
        verdict: &mut Verdict,
    ) -> Backend {
        match self.service_of(object, named) {
            Ok(upstream) => Backend {
                upstream,
                ..Backend::default()
            },
            Err((reason, message)) => {
                verdict.unresolved(&mut self.findings, object, reason, field, &message);
                Backend {
                    invalid: message,
                    ..Backend::default()
                }
            }
        }
    }

    /// The key of the upstream that a route names.
    ///
    /// # Errors
    /// Reason and message for `ResolvedRefs`.
    pub(crate) fn service_of(
        &mut self,
        object: &Object,
        named: BackendRef<'_>,
    ) -> Result<String, (&'static str, String)> {
        let group = named.group.unwrap_or_default();
        let kind = named.kind.unwrap_or("Service");
        if (group, kind) != ("", "Service") {
            return Err((
                "InvalidKind",
                format!("a backend is a Service, not {kind} of group {group:?}"),
            ));
        }
        let own = &object.reference.namespace;
        let namespace = named.namespace.unwrap_or(own);
        let from = Side {
            group: GATEWAY_GROUP,
            kind: object.reference.kind.kind(),
            namespace: own,
        };
        let to = Side {
            group: "",
            kind: "Service",
            namespace,
        };
        if !self.grants.permit(from, to, named.name) {
            return Err((
                "RefNotPermitted",
                format!("Service {namespace}/{}: {}", named.name, remedy(from, to)),
            ));
        }
        let port = named
            .port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port > 0);
        let Some(port) = port else {
            return Err((
                "BackendNotFound",
                format!("Service {namespace}/{}: port is missing", named.name),
            ));
        };
        let speech = match object.reference.kind {
            Kind::GrpcRoute => Speech::Grpc,
            _ => Speech::AsItsPort,
        };
        self.upstream(namespace, named.name, PortRef::Number(port), speech)
            .map_err(|message| ("BackendNotFound", message))
    }
}
