//! Names of upstreams, resolved in the background.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;

use crate::runtime::Upstream;
use crate::upstream::places;

/// Answers are believed for as long as they say, but not for less or more than this.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// An upstream whose addresses are to be asked of the DNS.
#[derive(Debug, Clone)]
pub(crate) struct DnsUpstream {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) name: Box<str>,
    pub(crate) port: u16,
}

impl DnsUpstream {
    /// Whether the same name and port are asked for.
    pub(crate) fn asks_for_what(&self, other: &Self) -> bool {
        self.name == other.name && self.port == other.port
    }
}

/// The resolver of `/etc/resolv.conf` and `/etc/hosts`.
fn resolver() -> io::Result<&'static TokioResolver> {
    static RESOLVER: OnceLock<TokioResolver> = OnceLock::new();
    if let Some(resolver) = RESOLVER.get() {
        return Ok(resolver);
    }
    let made = TokioResolver::builder_tokio()
        .and_then(|builder| builder.build())
        .map_err(io::Error::other)?;
    Ok(RESOLVER.get_or_init(|| made))
}

/// The addresses of a name, sorted, and until when they are believed.
async fn look_up(name: &str) -> io::Result<(Vec<IpAddr>, Instant)> {
    let found = resolver()?
        .lookup_ip(name)
        .await
        .map_err(|error| io::Error::other(format!("{name}: {error}")))?;
    let mut addresses: Vec<IpAddr> = found.iter().collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok((addresses, found.valid_until()))
}

/// The addresses of a host, which may be one.
pub(crate) async fn addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    match host.parse() {
        Ok(address) => Ok(vec![address]),
        Err(_) => Ok(look_up(host).await?.0),
    }
}

/// Asks again whenever an answer has run out. What was known last stays while there is no answer.
pub(crate) async fn refresh(upstream: DnsUpstream) {
    let mut failures: u32 = 0;
    loop {
        let wait = match look_up(&upstream.name).await {
            Ok((addresses, valid_until)) => {
                let addresses: Vec<_> = addresses
                    .into_iter()
                    .map(|address| SocketAddr::new(address, upstream.port))
                    .collect();
                if !addresses.is_empty() {
                    upstream.upstream.set_places(&places(&addresses));
                }
                failures = 0;
                valid_until.saturating_duration_since(Instant::now())
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(upstream = %upstream.upstream.name, %error, "cannot be resolved; trying again");
                }
                failures = failures.saturating_add(1);
                SHORTEST.saturating_mul(1 << failures.min(5))
            }
        };
        tokio::time::sleep(wait.clamp(SHORTEST, LONGEST)).await;
    }
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwap;
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::attend::{Attended, follow};
    use crate::runtime::EndpointSet;

    fn upstream(name: &str, port: u16) -> DnsUpstream {
        let upstream = Upstream {
            name: "shop/db/80".into(),
            scheme: snapshot::proto::upstream::Scheme::Http1,
            endpoints: ArcSwap::from_pointee(EndpointSet::default()),
            missing: false,
            policy: None,
        };
        DnsUpstream {
            upstream: Arc::new(upstream),
            name: name.into(),
            port,
        }
    }

    #[tokio::test]
    async fn upstreams_get_the_addresses_of_their_names_while_they_are_wanted() {
        let (sender, wanted) = watch::channel(Vec::new());
        let shutdown = CancellationToken::new();
        let following = tokio::spawn(follow(wanted, shutdown.clone()));
        // From /etc/hosts; the other one cannot be resolved and must not disturb.
        let (local, unknown) = (upstream("localhost", 81), upstream("unknown.invalid", 82));
        sender
            .send(
                [&unknown, &local]
                    .map(|one| Attended::Resolve(one.clone()))
                    .to_vec(),
            )
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while local.upstream.endpoints.load().usable.is_empty() {
            assert!(Instant::now() < deadline, "localhost was not resolved");
            tokio::task::yield_now().await;
        }
        let endpoints = local.upstream.endpoints.load_full();
        assert!(
            endpoints
                .usable
                .iter()
                .all(|one| one.address.ip().is_loopback() && one.address.port() == 81)
        );
        // What is no longer wanted is let go.
        let (weak, last) = (
            Arc::downgrade(&local.upstream),
            vec![Attended::Resolve(unknown)],
        );
        drop((local, endpoints));
        sender.send(last).unwrap();
        while weak.strong_count() > 0 {
            assert!(Instant::now() < deadline, "the upstream is still held");
            tokio::task::yield_now().await;
        }
        shutdown.cancel();
        following.await.unwrap();
    }

    #[tokio::test]
    async fn addresses_are_not_looked_up() {
        assert_eq!(
            addresses("192.0.2.1").await.unwrap(),
            ["192.0.2.1".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(
            addresses("::1").await.unwrap(),
            ["::1".parse::<IpAddr>().unwrap()]
        );
    }
}
