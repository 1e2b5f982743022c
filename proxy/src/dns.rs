//! Names of upstreams, resolved in the background.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::state::{DnsUpstream, set_endpoints};

/// Answers are believed for as long as they say, but not for less or more than this.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

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

/// Keeps the addresses of upstreams up to date, whichever there are.
pub(crate) async fn follow(
    mut wanted: watch::Receiver<Vec<DnsUpstream>>,
    shutdown: CancellationToken,
) {
    let mut running: HashMap<usize, (DnsUpstream, CancellationToken)> = HashMap::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        running.retain(|_, (upstream, stop)| {
            let keep = now.iter().any(|one| one.is(upstream));
            if !keep {
                stop.cancel();
            }
            keep
        });
        for upstream in now {
            let stop = shutdown.child_token();
            let key = upstream.identity();
            if let std::collections::hash_map::Entry::Vacant(place) = running.entry(key) {
                place.insert((upstream.clone(), stop.clone()));
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = refresh(upstream) => {}
                    }
                });
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// Asks again whenever an answer has run out. What was known last stays while there is no answer.
async fn refresh(upstream: DnsUpstream) {
    let mut failures: u32 = 0;
    loop {
        let wait = match look_up(&upstream.name).await {
            Ok((addresses, valid_until)) => {
                let addresses: Vec<_> = addresses
                    .into_iter()
                    .map(|address| SocketAddr::new(address, upstream.port))
                    .collect();
                if !addresses.is_empty() {
                    set_endpoints(&upstream.upstream, &addresses);
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
