//! GatewayClasses and IngressClasses: what is ours.

use std::collections::BTreeSet;

use serde_json::json;

use crate::findings::Reasons;
use crate::object::Body;
use crate::pass::Pass;
use crate::{Kind, Object, ServicePlace, Settings, StatusBody};

/// How Ingresses named their class before `spec.ingressClassName`.
pub(crate) const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Marks the IngressClass of Ingresses that name none.
pub(crate) const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
/// The class that counts as ours where files declare none.
const USUAL_NAME: &str = "postern";

/// Labels and annotations that a Gateway asks for on what is made for it, in its own namespace.
const INFRASTRUCTURE: &str = "GatewayInfrastructure";
/// Features of the Gateway API, by the names of its conformance tests.
const FEATURES: [&str; 46] = [
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    INFRASTRUCTURE,
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "ReferenceGrant",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
];

/// What is true of an installation.
fn features(settings: &Settings) -> impl Iterator<Item = &'static str> {
    let infrastructure = settings.gateway_services == ServicePlace::Gateway;
    FEATURES
        .into_iter()
        .filter(move |name| *name != INFRASTRUCTURE || infrastructure)
}

/// The classes that are ours.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    gateway: BTreeSet<String>,
    ingress: BTreeSet<String>,
    /// Of Ingresses that name no class.
    default_ingress: Option<String>,
}

impl Classes {
    pub(crate) fn has_gateway_class(&self, name: &str) -> bool {
        self.gateway.contains(name)
    }

    pub(crate) fn has_ingress_class(&self, name: &str) -> bool {
        self.ingress.contains(name)
    }

    /// The class of an Ingress, if that is ours.
    pub(crate) fn of_ingress<'a>(
        &'a self,
        object: &'a Object,
        named: Option<&'a str>,
    ) -> Option<&'a str> {
        let annotated = || {
            object
                .meta
                .annotations
                .get(CLASS_ANNOTATION)
                .map(String::as_str)
        };
        match named.or_else(annotated).filter(|name| !name.is_empty()) {
            Some(name) => self.has_ingress_class(name).then_some(name),
            None => self.default_ingress.as_deref(),
        }
    }
}

impl Pass<'_> {
    pub(crate) fn classes(&mut self) -> Classes {
        let mut classes = Classes::default();
        self.gateway_classes(&mut classes);
        self.ingress_classes(&mut classes);
        if self.settings.standalone {
            if self.inputs.all(Kind::GatewayClass).next().is_none() {
                classes.gateway.insert(USUAL_NAME.to_owned());
            }
            if self.inputs.all(Kind::IngressClass).next().is_none() {
                classes.ingress.insert(USUAL_NAME.to_owned());
                classes.default_ingress = Some(USUAL_NAME.to_owned());
            }
        }
        classes
    }

    fn gateway_classes(&mut self, classes: &mut Classes) {
        for object in self.inputs.all(Kind::GatewayClass) {
            let reference = &object.reference;
            match &object.body {
                Body::GatewayClass(class)
                    if class.controller_name == self.settings.gateway_controller =>
                {
                    let mut accepted = Reasons::default();
                    if class.parameters_ref.is_some() {
                        let message = "Postern takes no parameters: remove spec.parametersRef";
                        self.findings.error(
                            reference,
                            "InvalidParameters",
                            "spec.parametersRef",
                            message,
                        );
                        accepted.add("InvalidParameters", message);
                    } else {
                        classes.gateway.insert(reference.name.to_string());
                    }
                    let features: Vec<_> = features(self.settings)
                        .map(|name| json!({ "name": name }))
                        .collect();
                    let body = StatusBody::Conditions {
                        conditions: vec![accepted.condition("Accepted", "Accepted")],
                        fields: [("supportedFeatures", features.into())].into(),
                    };
                    self.findings.status(object, body);
                }
                Body::Unreadable(bad) => {
                    self.findings.error(
                        reference,
                        "InvalidField",
                        bad.field.clone(),
                        bad.message.clone(),
                    );
                }
                _ => {}
            }
        }
    }

    fn ingress_classes(&mut self, classes: &mut Classes) {
        for object in self.inputs.all(Kind::IngressClass) {
            let reference = &object.reference;
            match &object.body {
                Body::IngressClass(class)
                    if class.controller.as_deref() == Some(&self.settings.ingress_controller) =>
                {
                    if object
                        .meta
                        .annotations
                        .get(DEFAULT_ANNOTATION)
                        .is_some_and(|value| value == "true")
                    {
                        classes
                            .default_ingress
                            .get_or_insert_with(|| reference.name.to_string());
                    }
                    if class.parameters.is_some() {
                        let message = "Postern takes no parameters; spec.parameters has no effect";
                        self.findings.warning(
                            reference,
                            "InvalidParameters",
                            "spec.parameters",
                            message,
                        );
                    }
                    classes.ingress.insert(reference.name.to_string());
                }
                Body::Unreadable(bad) => {
                    self.findings.error(
                        reference,
                        "InvalidField",
                        bad.field.clone(),
                        bad.message.clone(),
                    );
                }
                _ => {}
            }
        }
    }
}
