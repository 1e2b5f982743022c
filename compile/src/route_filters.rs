//! The filters of a rule or a backend: which may stand together, and those that lead to other Services.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesBackendRefsFilters, HttpRouteRulesFilters, HttpRouteRulesFiltersRequestMirror,
    HttpRouteRulesFiltersType as Type,
};
use snapshot::proto::{Filter, Mirror, filter};

use crate::Object;
use crate::backends::BackendRef;
use crate::http_filters::{self, Refusal};
use crate::http_routes::Verdict;
use crate::pass::Pass;

/// Where filters are: the object, the field of the rule or backend, and whether all matches are path prefixes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) object: &'a Object,
    pub(crate) field: &'a str,
    pub(crate) prefixes: bool,
}

impl Pass<'_> {
    /// Reads filters.
    pub(crate) fn filters(
        &mut self,
        place: Place<'_>,
        filters: &[HttpRouteRulesFilters],
        verdict: &mut Verdict,
    ) -> Result<Vec<Filter>, Refusal> {
        let mut read = Vec::new();
        for (index, spec) in filters.iter().enumerate() {
            let field = format!("filters[{index}]");
            let again = filters
                .iter()
                .take(index)
                .any(|other| other.r#type == spec.r#type);
            if again && spec.r#type != Type::RequestMirror {
                let kind = &spec.r#type;
                let message =
                    format!("there is a second filter of type {kind:?}; put both into one");
                return Err(Refusal::value(field, message));
            }
            let filter = if spec.r#type == Type::RequestMirror {
                self.mirror(place, spec.request_mirror.as_ref(), &field, verdict)?
            } else {
                let filter =
                    http_filters::one(spec, place.prefixes).map_err(|(inner, message)| {
                        let field = if inner.is_empty() {
                            field.clone()
                        } else {
                            format!("{field}.{inner}")
                        };
                        Refusal::value(field, message)
                    })?;
                Some(filter)
            };
            read.extend(filter.map(|filter| Filter {
                filter: Some(filter),
            }));
        }
        let has = |kind: Type| filters.iter().any(|filter| filter.r#type == kind);
        if has(Type::RequestRedirect) && has(Type::UrlRewrite) {
            let message = "RequestRedirect and URLRewrite exclude each other; remove one of them";
            return Err(Refusal {
                reason: "IncompatibleFilters",
                field: "filters".to_owned(),
                message: message.to_owned(),
            });
        }
        Ok(read)
    }

    /// Reads the filters of a backend.
    pub(crate) fn backend_filters(
        &mut self,
        place: Place<'_>,
        filters: &[HttpRouteRulesBackendRefsFilters],
        verdict: &mut Verdict,
    ) -> Result<Vec<Filter>, Refusal> {
        if filters.is_empty() {
            return Ok(Vec::new());
        }
        // The two types have the same fields; generated code cannot say so.
        let same = serde_json::to_value(filters)
            .and_then(serde_json::from_value::<Vec<HttpRouteRulesFilters>>);
        let filters =
            same.map_err(|error| Refusal::value("filters".to_owned(), error.to_string()))?;
        if let Some(index) = filters
            .iter()
            .position(|filter| filter.r#type == Type::Cors)
        {
            let message = "CORS is not possible on a backend, which is chosen after the preflight; put it on the rule";
            return Err(Refusal::value(format!("filters[{index}]"), message));
        }
        self.filters(place, &filters, verdict)
    }

    /// Reads a mirror; none where it leads nowhere: then nothing is copied, and the request itself is served.
    fn mirror(
        &mut self,
        place: Place<'_>,
        spec: Option<&HttpRouteRulesFiltersRequestMirror>,
        field: &str,
        verdict: &mut Verdict,
    ) -> Result<Option<filter::Filter>, Refusal> {
        let refuse = |inner: &str, message: &str| {
            Refusal::value(format!("{field}.requestMirror{inner}"), message)
        };
        let Some(spec) = spec else {
            return Err(refuse(
                "",
                "is missing, although the filter's type says that it is there",
            ));
        };
        let (numerator, denominator) = match (spec.percent, &spec.fraction) {
            (None, None) => (1, 1),
            (Some(percent), None) => (percent, 100),
            (None, Some(fraction)) => (fraction.numerator, fraction.denominator.unwrap_or(100)),
            (Some(_), Some(_)) => {
                return Err(refuse("", "give one of percent and fraction"));
            }
        };
        let share = u32::try_from(numerator)
            .ok()
            .zip(u32::try_from(denominator).ok());
        let Some((numerator, denominator)) =
            share.filter(|(numerator, denominator)| *denominator > 0 && numerator <= denominator)
        else {
            return Err(refuse("", "the share must be between none and all"));
        };
        let to = &spec.backend_ref;
        let backend = BackendRef {
            group: to.group.as_deref(),
            kind: to.kind.as_deref(),
            namespace: to.namespace.as_deref(),
            name: &to.name,
            port: to.port,
        };
        match self.service_of(place.object, backend) {
            Ok(upstream) => Ok(Some(filter::Filter::Mirror(Mirror {
                upstream,
                numerator,
                denominator,
            }))),
            Err((reason, message)) => {
                let field = format!("{}.{field}.requestMirror.backendRef", place.field);
                verdict.unresolved(&mut self.findings, place.object, reason, &field, &message);
                Ok(None)
            }
        }
    }
}
