//! The control plane's own options, as `postern controller` takes them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use compile::ServicePlace;

/// Options of the control plane.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Controller options")]
pub struct Options {
    /// Namespace of the controller itself: its Lease, certificates and the Services of Gateways live there
    ///
    /// [default: that of the pod's ServiceAccount, or of the current kubeconfig context]
    #[arg(long, env = "POSTERN_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,

    /// Name of this replica [default: the host name]
    #[arg(long, env = "POSTERN_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// kubeconfig file [default: KUBECONFIG, ~/.kube/config, or the pod's ServiceAccount]
    #[arg(long, env = "POSTERN_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Namespaces whose objects are read; what belongs to no namespace is read in any case [default: all]
    #[arg(
        long,
        env = "POSTERN_WATCH_NAMESPACES",
        value_name = "NAME,…",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,

    /// Controller name of the GatewayClasses that are served
    #[arg(
        long,
        env = "POSTERN_GATEWAY_CONTROLLER",
        value_name = "NAME",
        default_value = "postern.dev/gateway-controller"
    )]
    pub gateway_controller: String,

    /// Controller name of the IngressClasses that are served
    #[arg(
        long,
        env = "POSTERN_INGRESS_CONTROLLER",
        value_name = "NAME",
        default_value = "postern.dev/ingress-controller"
    )]
    pub ingress_controller: String,

    /// Address on which proxies are served (gRPC over TLS)
    #[arg(long, env = "POSTERN_GRPC_ADDRESS", value_name = "IP:PORT", default_value_t = any(8005))]
    pub grpc_address: SocketAddr,

    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "POSTERN_CONTROLLER_STATUS_ADDRESS", value_name = "IP:PORT", default_value_t = any(8101))]
    pub status_address: SocketAddr,

    /// Service through which proxies reach the controller; its DNS names are in the certificate
    #[arg(
        long,
        env = "POSTERN_CONTROLLER_SERVICE",
        value_name = "NAME",
        default_value = "postern-controller"
    )]
    pub controller_service: String,

    /// Further DNS names and IP addresses of the certificate
    #[arg(
        long,
        env = "POSTERN_TLS_NAMES",
        value_name = "NAME,…",
        value_delimiter = ','
    )]
    pub tls_names: Vec<String>,

    /// DNS domain of the cluster
    #[arg(
        long,
        env = "POSTERN_CLUSTER_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local"
    )]
    pub cluster_domain: String,

    /// Secret that the control plane's certificate authority is kept in
    #[arg(
        long,
        env = "POSTERN_CA_SECRET",
        value_name = "NAME",
        default_value = "postern-ca"
    )]
    pub ca_secret: String,

    /// ConfigMap that the authority's certificates are published in, under ca.crt; proxies mount it
    #[arg(
        long,
        env = "POSTERN_CA_CONFIG_MAP",
        value_name = "NAME",
        default_value = "postern-ca"
    )]
    pub ca_config_map: String,

    /// Lease whose holder writes status
    #[arg(
        long,
        env = "POSTERN_LEASE",
        value_name = "NAME",
        default_value = "postern-controller"
    )]
    pub lease: String,

    /// ServiceAccounts of proxies, in the controller's namespace
    #[arg(
        long,
        env = "POSTERN_PROXY_SERVICE_ACCOUNTS",
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "postern-proxy"
    )]
    pub proxy_service_accounts: Vec<String>,

    /// Audience that the tokens of proxies must be for
    #[arg(
        long,
        env = "POSTERN_TOKEN_AUDIENCE",
        value_name = "NAME",
        default_value = "postern-controller"
    )]
    pub token_audience: String,

    /// How often the tokens of connected proxies are reviewed again, in seconds
    #[arg(
        long, env = "POSTERN_TOKEN_REVIEW_INTERVAL", value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub token_review_interval: u64,

    /// Most proxies that one replica serves
    #[arg(
        long,
        env = "POSTERN_MAX_PROXIES",
        value_name = "N",
        default_value_t = 1000
    )]
    pub max_proxies: usize,

    /// Service of the proxies, in the controller's namespace: its addresses are shown in the status of Ingresses
    #[arg(
        long,
        env = "POSTERN_FLEET_SERVICE",
        value_name = "NAME",
        default_value = "postern-proxy"
    )]
    pub fleet_service: String,

    /// Labels of the proxies' pods, which the Services of Gateways select
    #[arg(
        long,
        env = "POSTERN_FLEET_SELECTOR",
        value_name = "LABEL=VALUE,…",
        default_value = "app.kubernetes.io/name=postern,app.kubernetes.io/component=proxy"
    )]
    pub fleet_selector: Pairs,

    /// Where the Services of Gateways are: "release" (beside the proxies) or "gateway" (each in its Gateway's namespace)
    #[arg(
        long,
        env = "POSTERN_GATEWAY_SERVICE_NAMESPACE",
        value_name = "PLACE",
        default_value = "release"
    )]
    pub gateway_service_namespace: Place,

    /// ClusterRole that owns the Services in the namespaces of Gateways: with it, and with the right to change them, they go
    #[arg(
        long,
        env = "POSTERN_GATEWAY_SERVICE_OWNER",
        value_name = "NAME",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub gateway_service_owner: Option<String>,

    /// Type of the Services of Gateways
    #[arg(
        long,
        env = "POSTERN_GATEWAY_SERVICE_TYPE",
        value_name = "TYPE",
        default_value = "LoadBalancer"
    )]
    pub gateway_service_type: ServiceType,

    /// Annotations of the Services of Gateways
    #[arg(
        long,
        env = "POSTERN_GATEWAY_SERVICE_ANNOTATIONS",
        value_name = "NAME=VALUE,…",
        default_value = ""
    )]
    pub gateway_service_annotations: Pairs,

    /// Ports on which the proxies serve Ingresses, HTTP and HTTPS
    #[arg(
        long,
        env = "POSTERN_INGRESS_PORTS",
        value_name = "HTTP,HTTPS",
        default_value = "8000,8443"
    )]
    pub ingress_ports: Ports,

    /// Most writes of status in one second
    #[arg(
        long, env = "POSTERN_STATUS_WRITES_PER_SECOND", value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub status_writes_per_second: u32,

    #[command(flatten)]
    pub admin: crate::api::ClusterOptions,
}

const fn any(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

impl Options {
    /// What the control plane's certificate is for, in a namespace.
    #[must_use]
    pub fn server_names(&self, namespace: &str) -> Vec<String> {
        let service = &self.controller_service;
        let mut names = vec![
            service.clone(),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.{}", self.cluster_domain),
        ];
        names.extend(
            self.tls_names
                .iter()
                .filter(|name| !name.is_empty())
                .cloned(),
        );
        names
    }
}

/// "name=value,name=value".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs(pub BTreeMap<String, String>);

impl FromStr for Pairs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let pair = |part: &str| match part.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(format!("{part:?} is not NAME=VALUE")),
        };
        parts.map(pair).collect::<Result<_, _>>().map(Self)
    }
}

/// HTTP and HTTPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports(pub u16, pub u16);

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not two different ports; write \"8000,8443\"");
        let (http, https) = text.split_once(',').ok_or_else(wrong)?;
        let port = |part: &str| {
            part.trim()
                .parse()
                .ok()
                .filter(|port| *port != 0_u16)
                .ok_or_else(wrong)
        };
        let ports = Self(port(http)?, port(https)?);
        if ports.0 == ports.1 {
            Err(wrong())
        } else {
            Ok(ports)
        }
    }
}

/// "release" or "gateway".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(ServicePlace);

impl Place {
    pub(crate) const fn place(self) -> ServicePlace {
        self.0
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "release" => Ok(Self(ServicePlace::Release)),
            "gateway" => Ok(Self(ServicePlace::Gateway)),
            _ => Err(format!(
                "{text:?} is no place for the Services of Gateways; write \"release\" or \"gateway\""
            )),
        }
    }
}

/// How a Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ServiceType {
    /// From within the cluster.
    #[value(name = "ClusterIP")]
    ClusterIp,
    /// Through a port of every node.
    #[value(name = "NodePort")]
    NodePort,
    /// Through what the cluster's provider makes for it.
    #[value(name = "LoadBalancer")]
    LoadBalancer,
}

impl ServiceType {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn every_option_is_an_environment_variable_too() {
        let command = <Program as clap::CommandFactory>::command();
        command.clone().debug_assert();
        for argument in command
            .get_arguments()
            .filter(|argument| argument.get_id() != "help")
        {
            let variable = argument
                .get_env()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            assert!(variable.starts_with("POSTERN_"), "{}", argument.get_id());
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_chart() {
        let Program { options } = Program::parse_from(["postern"]);
        assert_eq!(options.grpc_address.port(), 8005);
        assert_eq!(
            options.fleet_selector.0["app.kubernetes.io/component"],
            "proxy"
        );
        assert_eq!(
            (options.ingress_ports, options.gateway_service_type.name()),
            (Ports(8000, 8443), "LoadBalancer")
        );
        assert!(
            options.gateway_service_annotations.0.is_empty() && options.watch_namespaces.is_empty()
        );
        assert_eq!(
            options.gateway_service_namespace.place(),
            ServicePlace::Release
        );
        assert_eq!(
            options.server_names("postern")[2],
            "postern-controller.postern.svc"
        );
    }

    #[test]
    fn the_services_of_gateways_are_in_one_of_two_places() {
        let parse = |place: &str| {
            Program::try_parse_from(["postern", "--gateway-service-namespace", place])
                .map(|program| program.options.gateway_service_namespace.place())
                .map_err(|error| error.to_string())
        };
        assert_eq!(parse("release"), Ok(ServicePlace::Release));
        assert_eq!(parse("gateway"), Ok(ServicePlace::Gateway));
        for wrong in ["Gateway", "", "shop"] {
            let refusal = parse(wrong).unwrap_err();
            let first = refusal.lines().next().unwrap();
            assert_eq!(
                first,
                format!(
                    "error: invalid value '{wrong}' for '--gateway-service-namespace <PLACE>': {wrong:?} is no place for the \
                     Services of Gateways; write \"release\" or \"gateway\""
                )
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert!("a=b,c".parse::<Pairs>().unwrap_err().contains("\"c\""));
        for wrong in ["8000", "0,1", "80,80", "x,y", "1,70000"] {
            assert!(
                wrong.parse::<Ports>().unwrap_err().contains(wrong),
                "{wrong}"
            );
        }
    }
}
