//! Where a rule of an HTTPRoute sends requests.

use gateway_api::apis::standard::httproutes::{HttpRouteRules, HttpRouteRulesBackendRefs};
use snapshot::proto::{Backend, Rule, filter};

use crate::grants::{Side, remedy};
use crate::http_filters;
use crate::http_routes::Verdict;
use crate::kind::GATEWAY_GROUP;
use crate::pass::Pass;
use crate::services::PortRef;
use crate::{Kind, Object};

impl Pass<'_> {
    /// Reads the backends of a rule. One that is invalid keeps its share of the requests, which get 500.
    pub(crate) fn backends(
        &mut self,
        object: &Object,
        spec: &HttpRouteRules,
        field: &str,
        prefixes: bool,
        verdict: &mut Verdict,
        rule: &mut Rule,
    ) {
        for (index, backend) in spec.backend_refs.iter().flatten().enumerate() {
            let field = format!("{field}.backendRefs[{index}]");
            let mut read = match self.backend(object, backend) {
                Ok(upstream) => Backend {
                    upstream,
                    ..Backend::default()
                },
                Err((reason, message)) => {
                    verdict.unresolved(&mut self.findings, object, reason, &field, &message);
                    Backend {
                        invalid: message,
                        ..Backend::default()
                    }
                }
            };
            read.weight = u32::try_from(backend.weight.unwrap_or(1))
                .unwrap_or_default()
                .min(1_000_000);
            match http_filters::of_backend(backend.filters.as_deref().unwrap_or_default(), prefixes)
            {
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
            rule.invalid = format!("{field} has no backendRefs");
            self.findings.warning(
                &object.reference,
                "NoBackends",
                format!("{field}.backendRefs"),
                "the rule has no backendRefs and no redirect: it answers 500",
            );
        }
    }

    fn backend(
        &mut self,
        object: &Object,
        spec: &HttpRouteRulesBackendRefs,
    ) -> Result<String, (&'static str, String)> {
        let group = spec.group.as_deref().unwrap_or_default();
        let kind = spec.kind.as_deref().unwrap_or("Service");
        if (group, kind) != ("", "Service") {
            return Err((
                "InvalidKind",
                format!("a backend is a Service, not {kind} of group {group:?}"),
            ));
        }
        let own = &object.reference.namespace;
        let namespace = spec.namespace.as_deref().unwrap_or(own);
        let from = Side {
            group: GATEWAY_GROUP,
            kind: Kind::HttpRoute.kind(),
            namespace: own,
        };
        let to = Side {
            group: "",
            kind: "Service",
            namespace,
        };
        if !self.grants.permit(from, to, &spec.name) {
            return Err((
                "RefNotPermitted",
                format!("Service {namespace}/{}: {}", spec.name, remedy(from, to)),
            ));
        }
        let port = spec
            .port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port > 0);
        let Some(port) = port else {
            return Err((
                "BackendNotFound",
                format!("Service {namespace}/{}: port is missing", spec.name),
            ));
        };
        self.upstream(namespace, &spec.name, PortRef::Number(port))
            .map_err(|message| ("BackendNotFound", message))
    }
}
