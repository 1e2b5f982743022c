//! Which port of the proxies serves which listener.
//!
//! From files, listeners open the ports that they name, and may share one where their hostnames differ. In a cluster many
//! Gateways want port 80, so each port of each Gateway gets a port of the fleet to itself. That port follows from the
//! Gateway's name and the port alone (a hash), so that it stays what it is while other Gateways come and go; where two
//! hashes meet, the older Gateway has the place and the newer the next free one. Only if that older one is deleted may the
//! newer move. Nothing is recorded, so every replica computes the same.

use std::collections::{BTreeMap, BTreeSet};

use gateway_api::apis::standard::gateways::GatewaySpec;
use snapshot::hash_of;

use crate::{GatewayService, Object, ObjectRef, ServicePlace, Settings, listeners};

const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// The ports that are given out.
#[derive(Debug)]
pub(crate) struct Ports {
    standalone: bool,
    /// Files: whether a port is encrypted, and its hostnames, and who has them.
    shared: BTreeMap<u16, (bool, BTreeMap<String, ObjectRef>)>,
    /// Cluster: whose port it is.
    own: BTreeMap<(ObjectRef, u16), u16>,
    taken: BTreeSet<u16>,
}

impl Ports {
    pub(crate) fn new(settings: &Settings) -> Self {
        let (http, https) = settings.ingress_ports;
        Self {
            standalone: settings.standalone,
            shared: BTreeMap::new(),
            own: BTreeMap::new(),
            taken: [http, https].into(),
        }
    }

    /// The port that proxies open for a listener.
    ///
    /// # Errors
    /// Who has it already.
    pub(crate) fn claim(
        &mut self,
        gateway: &ObjectRef,
        port: u16,
        encrypted: bool,
        hostname: &str,
    ) -> Result<u16, String> {
        if !self.standalone {
            return self.claim_own(gateway, port);
        }
        let (holding, hostnames) = self
            .shared
            .entry(port)
            .or_insert_with(|| (encrypted, BTreeMap::new()));
        if *holding != encrypted {
            let holder = hostnames
                .values()
                .next()
                .map_or_else(String::new, ToString::to_string);
            return Err(format!(
                "port {port} serves another protocol for {holder}; use another port"
            ));
        }
        if let Some(holder) = hostnames.get(hostname) {
            return Err(format!(
                "{holder} has the same hostname on port {port}; use another port or hostname"
            ));
        }
        hostnames.insert(hostname.to_owned(), gateway.clone());
        Ok(port)
    }

    fn claim_own(&mut self, gateway: &ObjectRef, port: u16) -> Result<u16, String> {
        let key = (gateway.clone(), port);
        if let Some(own) = self.own.get(&key) {
            return Ok(*own);
        }
        let [a, b, ..] =
            hash_of(format!("{}/{}/{port}", gateway.namespace, gateway.name).as_bytes());
        let start = u16::from_be_bytes([a, b]) % COUNT;
        let free = (0..COUNT)
            // Neither sum reaches 2^16.
            .map(|step| FIRST + (start + step) % COUNT)
            .find(|candidate| !self.taken.contains(candidate))
            .ok_or_else(|| format!("all {COUNT} ports of the proxies are in use"))?;
        self.taken.insert(free);
        self.own.insert(key, free);
        Ok(free)
    }

    /// Who stands in the way of the Ingresses on this port, if anybody.
    pub(crate) fn holder(&self, port: u16) -> Option<&ObjectRef> {
        self.shared
            .get(&port)
            .and_then(|(_, hostnames)| hostnames.values().next())
    }

    /// The Service that leads to a Gateway's ports, which are given as public port and port of the proxies.
    pub(crate) fn service(
        settings: &Settings,
        gateway: &Object,
        spec: &GatewaySpec,
        open: BTreeMap<u16, u16>,
    ) -> GatewayService {
        let reference = &gateway.reference;
        let hash = hash_of(format!("{}/{}", reference.namespace, reference.name).as_bytes());
        let digits: String = hash
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        // A Service's name has at most 63 characters and no dots; the digits keep shortened names apart.
        let (namespace, readable) = match settings.gateway_services {
            ServicePlace::Release => (
                settings.namespace.clone(),
                format!("gateway-{}-{}", reference.namespace, reference.name),
            ),
            ServicePlace::Gateway => (
                reference.namespace.to_string(),
                format!("postern-{}", reference.name),
            ),
        };
        let readable: String = readable
            .chars()
            .map(|c| if c == '.' { '-' } else { c })
            .take(50)
            .collect();
        GatewayService {
            gateway: reference.clone(),
            gateway_uid: std::sync::Arc::clone(&gateway.meta.uid),
            labels: spec
                .infrastructure
                .as_ref()
                .and_then(|own| own.labels.clone())
                .unwrap_or_default(),
            annotations: spec
                .infrastructure
                .as_ref()
                .and_then(|own| own.annotations.clone())
                .unwrap_or_default(),
            addresses: listeners::addresses(spec),
            namespace,
            name: format!("{}-{digits}", readable.trim_end_matches('-')),
            ports: open
                .into_iter()
                .map(|(public, port)| (format!("port-{public}"), public, port))
                .collect(),
        }
    }
}
