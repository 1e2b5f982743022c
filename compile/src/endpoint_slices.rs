//! EndpointSlices: the addresses behind a Service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort};
use serde::Deserialize;
use serde_json::Value;
use snapshot::proto;

use crate::object::{Misfit, decode};

/// Names the Service that a slice belongs to.
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// What is kept of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    /// Whether it holds addresses; slices of names do not.
    pub(crate) addresses: bool,
    /// Name and number; the name is empty where a Service has one port without a name.
    pub(crate) ports: Vec<(String, u16)>,
    pub(crate) endpoints: Vec<SliceEndpoint>,
}

/// One address of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SliceEndpoint {
    pub(crate) address: IpAddr,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) zone: String,
    /// Zones that it is meant for; empty: nobody says.
    pub(crate) for_zones: Vec<String>,
    /// The pod, by its uid; "": nobody says.
    pub(crate) target: String,
}

#[derive(Deserialize)]
struct Fields {
    #[serde(default, rename = "addressType")]
    address_type: String,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
    #[serde(default)]
    ports: Option<Vec<EndpointPort>>,
}

impl Slice {
    pub(crate) fn decode(value: Value) -> Result<Self, Misfit> {
        let fields: Fields = decode("", value)?;
        let ports = fields
            .ports
            .unwrap_or_default()
            .into_iter()
            .filter(|port| {
                port.protocol
                    .as_deref()
                    .is_none_or(|protocol| protocol == "TCP")
            })
            .filter_map(|port| {
                Some((
                    port.name.unwrap_or_default(),
                    u16::try_from(port.port?).ok()?,
                ))
            })
            .collect();
        let endpoints = fields
            .endpoints
            .unwrap_or_default()
            .into_iter()
            .filter_map(SliceEndpoint::of)
            .collect();
        Ok(Self {
            addresses: fields.address_type != "FQDN",
            ports,
            endpoints,
        })
    }
}

impl SliceEndpoint {
    fn of(endpoint: Endpoint) -> Option<Self> {
        // The addresses of one endpoint are interchangeable; the API says to use the first.
        let address = endpoint.addresses.first()?.parse().ok()?;
        let conditions = endpoint.conditions.unwrap_or_default();
        // Absent means unknown, which the API says to take as ready; serving is as ready where it is absent.
        let ready = conditions.ready.unwrap_or(true);
        let serving = conditions.serving.unwrap_or(ready);
        let hints = endpoint.hints.and_then(|hints| hints.for_zones);
        let for_zones = hints.into_iter().flatten().map(|zone| zone.name);
        Some(Self {
            for_zones: for_zones.collect(),
            target: endpoint
                .target_ref
                .and_then(|target| target.uid)
                .unwrap_or_default(),
            address,
            ready,
            serving,
            zone: endpoint.zone.unwrap_or_default(),
        })
    }
}

/// The endpoints of one port of a Service. The two addresses of a pod with both families are one endpoint.
pub(crate) fn endpoints<'a>(
    slices: impl Iterator<Item = &'a Slice>,
    port_name: &str,
    six_first: bool,
) -> proto::Endpoints {
    let mut pods: BTreeMap<(&str, u16), [Option<IpAddr>; 2]> = BTreeMap::new();
    let mut found: BTreeMap<(IpAddr, u16), proto::Endpoint> = BTreeMap::new();
    for slice in slices.filter(|slice| slice.addresses) {
        for (_, port) in slice.ports.iter().filter(|(name, _)| name == port_name) {
            for endpoint in &slice.endpoints {
                let one = found.entry((endpoint.address, *port)).or_default();
                // While a slice is split, an endpoint may stand in two of them for a moment.
                one.ready |= endpoint.ready;
                one.serving |= endpoint.serving || endpoint.ready;
                if one.zone < endpoint.zone {
                    one.zone.clone_from(&endpoint.zone);
                }
                one.for_zones.extend_from_slice(&endpoint.for_zones);
                if !endpoint.target.is_empty() {
                    let families = pods.entry((&endpoint.target, *port)).or_default();
                    let family = usize::from(endpoint.address.is_ipv6() != six_first);
                    if let Some(place) = families.get_mut(family) {
                        *place = Some(endpoint.address);
                    }
                }
            }
        }
    }
    for ((_, port), families) in pods {
        let [Some(first), Some(other)] = families else {
            continue;
        };
        let state = |address| {
            found
                .get(&(address, port))
                .map(|one| (one.ready, one.serving))
        };
        // For a moment one slice may be behind the other.
        if state(first) != state(other) {
            continue;
        }
        found.remove(&(other, port));
        if let Some(one) = found.get_mut(&(first, port)) {
            one.other_address = other.to_string();
        }
    }
    let endpoints = found.into_iter().map(|((address, port), mut one)| {
        one.for_zones.sort_unstable();
        one.for_zones.dedup();
        proto::Endpoint {
            address: address.to_string(),
            port: port.into(),
            ..one
        }
    });
    proto::Endpoints {
        endpoints: endpoints.collect(),
    }
}

/// The one endpoint of a Service that stands for an address.
pub(crate) fn fixed(address: IpAddr, port: u16) -> proto::Endpoints {
    let endpoint = proto::Endpoint {
        address: address.to_string(),
        port: port.into(),
        ready: true,
        serving: true,
        zone: String::new(),
        for_zones: Vec::new(),
        other_address: String::new(),
    };
    proto::Endpoints {
        endpoints: vec![endpoint],
    }
}
