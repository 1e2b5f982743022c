//! Options of the Admin API.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::str::FromStr;

/// Where it is served in `postern run`.
pub(super) const LOOPBACK: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8001));

/// An address, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// There is no Admin API.
    Off,
    /// It is served here.
    At(SocketAddr),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse().map(Self::At);
        address.map_err(|_| format!("{text:?} is neither IP:PORT nor off"))
    }
}

/// Options of the Admin API of `postern run`.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Admin API")]
pub struct RunOptions {
    /// Loopback address of the Admin API, or off
    ///
    /// [default: 127.0.0.1:8001; without an Admin API where that is taken]
    #[arg(long, env = "POSTERN_ADMIN_ADDRESS", value_name = "IP:PORT|off")]
    pub admin_address: Option<Address>,

    /// Names in a Host header under which the Admin API may be called, besides loopback addresses and localhost
    #[arg(
        long,
        env = "POSTERN_ADMIN_HOSTS",
        value_name = "NAME,…",
        value_delimiter = ','
    )]
    pub admin_hosts: Vec<String>,

    /// Namespace of what the Admin API creates where a call names none
    #[arg(
        long,
        env = "POSTERN_ADMIN_NAMESPACE",
        value_name = "NAME",
        default_value = "default",
        value_parser = namespace
    )]
    pub admin_namespace: String,
}

/// Options of the Admin API of `postern controller`.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Admin API")]
pub struct ClusterOptions {
    /// Address of the Admin API (HTTPS, for bearers of Kubernetes tokens), or off
    #[arg(
        long,
        env = "POSTERN_ADMIN_ADDRESS",
        value_name = "IP:PORT|off",
        default_value = "off"
    )]
    pub admin_address: Address,

    /// Names in a Host header under which the Admin API may be called, besides those of its certificate and loopback
    #[arg(
        long,
        env = "POSTERN_ADMIN_HOSTS",
        value_name = "NAME,…",
        value_delimiter = ','
    )]
    pub admin_hosts: Vec<String>,

    /// Namespace of what the Admin API creates where a call names none
    #[arg(
        long,
        env = "POSTERN_ADMIN_NAMESPACE",
        value_name = "NAME",
        default_value = "default",
        value_parser = namespace
    )]
    pub admin_namespace: String,

    /// Secret of type kubernetes.io/tls, in the controller's namespace, that the Admin API is served with
    ///
    /// [default: a certificate of the control plane's own authority]
    #[arg(long, env = "POSTERN_ADMIN_TLS_SECRET", value_name = "NAME")]
    pub admin_tls_secret: Option<String>,
}

fn namespace(text: &str) -> Result<String, String> {
    if crate::files::is_label(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no name of a namespace"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_none() {
        assert_eq!("off".parse(), Ok(Address::Off));
        assert_eq!("127.0.0.1:8001".parse(), Ok(Address::At(LOOPBACK)));
        assert!("8001".parse::<Address>().is_err());
        assert!(namespace("a.b").is_err());
    }
}
