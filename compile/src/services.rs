//! Services.

use k8s_openapi::api::core::v1::ServiceSpec;

/// What is kept of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceBody {
    /// `externalName` of a Service of type ExternalName.
    pub(crate) external_name: Option<String>,
    pub(crate) ports: Vec<PortBody>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortBody {
    pub(crate) name: String,
    pub(crate) number: u16,
    pub(crate) app_protocol: Option<String>,
}

impl ServiceBody {
    pub(crate) fn of(spec: ServiceSpec) -> Self {
        let external = spec.type_.as_deref() == Some("ExternalName");
        let ports = spec
            .ports
            .unwrap_or_default()
            .into_iter()
            .filter(|port| {
                port.protocol
                    .as_deref()
                    .is_none_or(|protocol| protocol == "TCP")
            })
            .filter_map(|port| {
                Some(PortBody {
                    name: port.name.unwrap_or_default(),
                    number: u16::try_from(port.port).ok()?,
                    app_protocol: port.app_protocol,
                })
            })
            .collect();
        Self {
            external_name: spec.external_name.filter(|_| external),
            ports,
        }
    }
}
