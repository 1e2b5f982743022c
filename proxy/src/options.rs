//! The data plane's own options, as `postern proxy` and `postern run` take them, and where its snapshot comes from.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::mpsc;

pub use crate::limits::{Limits, Timeouts};

/// Options of the data plane.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Proxy options")]
pub struct Options {
    /// Networks whose X-Forwarded-* and X-Real-IP are believed; `none` for nobody
    ///
    /// What anybody else sends in these headers is replaced. Comma-separated networks or addresses, "10.0.0.0/8,::1".
    /// [default: none; in `postern run`: 127.0.0.0/8,::1]
    #[arg(long, env = "POSTERN_TRUSTED_PROXIES", value_name = "CIDR,…")]
    pub trusted_proxies: Option<Networks>,

    /// Networks whose connections begin with a header of the PROXY protocol, version 1 or 2; `none` for nobody
    ///
    /// The client that it names counts as the peer. Connections of these networks without such a header are closed;
    /// nobody else's is looked for one. On all ports of listeners. Comma-separated networks or addresses.
    #[arg(
        long,
        env = "POSTERN_PROXY_PROTOCOL_FROM",
        value_name = "CIDR,…",
        default_value = "none"
    )]
    pub proxy_protocol_from: Networks,

    /// Zone that this proxy is in, as EndpointSlices name it [default: none]
    ///
    /// Where all ready endpoints of a Service have hints (trafficDistribution, topology-mode), requests go to those that are
    /// meant for this zone, if there are any.
    #[arg(long, env = "POSTERN_ZONE", value_name = "ZONE")]
    pub zone: Option<String>,

    /// Networks that are never called for discovery, key sets and tokens; `none` for no limit
    ///
    /// The default keeps the metadata services of clouds out of reach. Upstreams of routes are not affected.
    #[arg(
        long,
        env = "POSTERN_OUTBOUND_DENY",
        value_name = "CIDR,…",
        default_value = "169.254.0.0/16,fe80::/10"
    )]
    pub outbound_deny: Networks,

    /// Threads that serve requests [default: one per core]
    #[arg(long, env = "POSTERN_WORKERS", value_name = "N")]
    pub workers: Option<NonZeroUsize>,

    /// Folder for what must survive a restart: the last good snapshot, and in `postern run` generated keys
    ///
    /// Made when it is missing, readable by its owner only. [default: none, nothing survives; in `postern run`:
    /// $XDG_STATE_HOME/postern, or ~/.local/state/postern]
    #[arg(long, env = "POSTERN_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// File with the key that seals the last good snapshot: any secret of 32 bytes or more
    ///
    /// [default: a random key in the state folder, which keeps the snapshot from those who get hold of the one file alone]
    #[arg(long, env = "POSTERN_STATE_KEY_FILE", value_name = "FILE")]
    pub state_key_file: Option<PathBuf>,

    /// Where one JSON line per request goes: stdout, off, or a file that is appended to
    #[arg(
        long,
        env = "POSTERN_ACCESS_LOG",
        value_name = "stdout|off|PATH",
        default_value = "stdout"
    )]
    pub access_log: AccessLog,

    /// How long running requests may take after SIGTERM before their connections are closed: "30s", "500ms", "2m"
    #[arg(long, env = "POSTERN_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub drain_timeout: Duration,

    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "POSTERN_STATUS_ADDRESS", value_name = "IP:PORT", default_value_t = STATUS_ADDRESS)]
    pub status_address: SocketAddr,

    /// IP address on which listeners are opened
    #[arg(
        long,
        env = "POSTERN_BIND",
        value_name = "IP",
        default_value = "0.0.0.0"
    )]
    pub bind: std::net::IpAddr,

    /// After SIGTERM: how long listeners stay open while readiness is already false
    #[arg(long, env = "POSTERN_DRAIN_DELAY", value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub drain_delay: Duration,

    #[command(flatten)]
    pub store: crate::storage::Options,

    #[command(flatten)]
    pub limits: Limits,

    #[command(flatten)]
    pub timeouts: Timeouts,
}

/// Where `/readyz` answers when nobody says otherwise.
pub const STATUS_ADDRESS: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8100));

/// Where the snapshot comes from.
#[derive(Debug)]
pub enum Source {
    /// A control plane elsewhere, over gRPC.
    Controller(ControllerOptions),
    /// The control plane of the same process. Every change is acknowledged, in order.
    Local {
        /// Changes; the first one makes the proxy ready.
        changes: mpsc::Receiver<snapshot::Change>,
        /// What became of each change, by its version.
        acks: mpsc::Sender<snapshot::proto::Ack>,
    },
}

/// How the control plane is reached.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Control plane")]
pub struct ControllerOptions {
    /// The control plane, "https://postern-controller.postern:8005"
    #[arg(long, env = "POSTERN_CONTROLLER", value_name = "URL")]
    pub controller: http::Uri,

    /// PEM file with the CA that signed the control plane's certificate; read again for each connection
    #[arg(long, env = "POSTERN_CONTROLLER_CA", value_name = "FILE")]
    pub controller_ca: Option<PathBuf>,

    /// File with the ServiceAccount token that proves this proxy; read again for each connection
    #[arg(long, env = "POSTERN_CONTROLLER_TOKEN", value_name = "FILE")]
    pub controller_token: Option<PathBuf>,

    /// Name of this proxy, unique among all of one control plane [default: the host name]
    #[arg(long, env = "POSTERN_NAME", value_name = "NAME")]
    pub name: Option<String>,
}

/// Networks, "10.0.0.0/8,192.0.2.1", or "none".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if matches!(text.trim(), "" | "none") {
            return Ok(Self::default());
        }
        let network = |part: &str| {
            part.parse::<IpNet>()
                .or_else(|_| part.parse::<std::net::IpAddr>().map(IpNet::from))
                .map(|network| network.trunc())
                .map_err(|_| {
                    format!("{part:?} is neither a network (10.0.0.0/8) nor an address (192.0.2.1)")
                })
        };
        text.split(',')
            .map(str::trim)
            .map(network)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// One line per request on standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// Appended to a file.
    File(PathBuf),
}

impl FromStr for AccessLog {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err("give stdout, off, or the path of a file".to_owned()),
            "stdout" => Ok(Self::Stdout),
            "off" => Ok(Self::Off),
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }
}

/// Reads "30s", "500ms", "2m", "1h"; a number alone counts seconds.
///
/// # Errors
/// Anything else, with what would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let wrong =
        || format!("{text:?} is not a duration; write \"500ms\", \"30s\", \"2m\" or \"1h\"");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit.trim() {
        "ms" => Some(1),
        "s" | "" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    milliseconds
        .and_then(|unit| number.checked_mul(unit))
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_truncated_and_addresses_are_networks_of_one() {
        let read: Networks = "10.1.2.3/8, ::1".parse().unwrap();
        assert_eq!(
            read.0,
            ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]
        );
        assert_eq!("none".parse(), Ok(Networks::default()));
        assert!(
            "10.0.0.0/8,nonsense"
                .parse::<Networks>()
                .unwrap_err()
                .contains("\"nonsense\"")
        );
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in [
            "",
            "s",
            "1y",
            "-1s",
            "99999999999999999999h",
            "18446744073709551615h",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
