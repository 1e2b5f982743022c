//! Endpoints that have an address of either family (RFC 8305, happy eyeballs): one that does not answer in time is not waited
//! for, and which of the two is tried first is remembered.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::runtime::Endpoint;

/// How the kernel finds out that the other side of a silent connection is gone: after a minute at the latest.
const PROBES: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// Where an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    /// In the other family.
    pub(crate) other: Option<SocketAddr>,
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            other: None,
        }
    }
}

/// An endpoint's address in the other family.
#[derive(Debug)]
pub(crate) struct Other {
    address: SocketAddr,
    /// Whether it was quicker.
    first: AtomicBool,
}

impl Other {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            first: false.into(),
        }
    }
}

impl Endpoint {
    pub(super) fn at(place: Place) -> Self {
        Self {
            other: place.other.map(|other| Box::new(Other::new(other))),
            ..Self::new(place.address)
        }
    }

    fn place(&self) -> Place {
        Place {
            address: self.address,
            other: self.other.as_ref().map(|other| other.address),
        }
    }
}

/// Whether endpoints are at these places.
pub(super) fn same(endpoints: &[Arc<Endpoint>], places: &[Place]) -> bool {
    let now = endpoints.iter().map(|endpoint| endpoint.place());
    now.eq(places.iter().copied())
}

/// The endpoints at these places: known ones as they are, the others new.
pub(super) fn renewed(
    known: &[Arc<Endpoint>],
    places: &[Place],
    new: impl Fn(Place) -> Endpoint,
) -> Vec<Arc<Endpoint>> {
    let known: HashMap<_, _> = known
        .iter()
        .map(|endpoint| (endpoint.place(), endpoint))
        .collect();
    let endpoint = |place: &Place| match known.get(place) {
        Some(endpoint) => Arc::clone(endpoint),
        None => Arc::new(new(*place)),
    };
    places.iter().map(endpoint).collect()
}

/// The places that a name's addresses stand for: nothing says which belong together, so each of IPv6 is paired with one of
/// IPv4, and where one family has more, its addresses share those of the other.
pub(crate) fn places(addresses: &[SocketAddr]) -> Vec<Place> {
    let (six, four): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| address.is_ipv6());
    let (more, fewer) = if six.len() >= four.len() {
        (six, four)
    } else {
        (four, six)
    };
    let others = fewer.iter().map(|other| Some(*other)).cycle();
    more.iter()
        .zip(others.chain(std::iter::repeat(None)))
        .map(|(address, other)| Place {
            address: *address,
            other,
        })
        .collect()
}

/// A connection to an endpoint.
pub(super) async fn open(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let stream = match &endpoint.other {
        None => {
            let stream = TcpStream::connect(endpoint.address).await?;
            // Without it small writes would wait; a socket that refuses is gone, and the first write will say so.
            let _ = stream.set_nodelay(true);
            stream
        }
        Some(other) => open_either(endpoint.address, other).await?,
    };
    // As far as the system can: without it a silent connection may be dead for hours.
    let _ = SockRef::from(&stream).set_tcp_keepalive(&PROBES);
    Ok(stream)
}

/// A connection to one of two addresses.
async fn open_either(usual: SocketAddr, other: &Other) -> io::Result<TcpStream> {
    let other_first = other.first.load(Relaxed);
    let order = if other_first {
        [other.address, usual]
    } else {
        [usual, other.address]
    };
    let stream = outbound::race(order).await?;
    let other_won = stream
        .peer_addr()
        .is_ok_and(|peer| peer.is_ipv6() == other.address.is_ipv6());
    if other_won != other_first {
        other.first.store(other_won, Relaxed);
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn each_address_of_the_larger_family_is_a_place() {
        let read = |text: &str| {
            let addresses = text.split_whitespace();
            addresses
                .map(|address| SocketAddr::new(address.parse().unwrap(), 80))
                .collect::<Vec<_>>()
        };
        let paired = |text: &str| {
            let text_of = |place: &Place| match place.other {
                None => place.address.ip().to_string(),
                Some(other) => format!("{}|{}", place.address.ip(), other.ip()),
            };
            let places = places(&read(text));
            places.iter().map(text_of).collect::<Vec<_>>().join(" ")
        };
        for (addresses, places) in [
            ("", ""),
            ("10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2"),
            ("fd00::1", "fd00::1"),
            ("10.0.0.1 fd00::1", "fd00::1|10.0.0.1"),
            (
                "10.0.0.1 fd00::1 fd00::2",
                "fd00::1|10.0.0.1 fd00::2|10.0.0.1",
            ),
            (
                "10.0.0.1 10.0.0.2 10.0.0.3 fd00::1 fd00::2",
                "10.0.0.1|fd00::1 10.0.0.2|fd00::2 10.0.0.3|fd00::1",
            ),
        ] {
            assert_eq!(paired(addresses), places, "{addresses}");
        }
    }

    #[tokio::test]
    async fn the_family_that_answers_is_tried_first_from_then_on() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let four = listener.local_addr().unwrap();
        let six = SocketAddr::from((Ipv6Addr::LOCALHOST, four.port()));
        let endpoint = Endpoint::at(Place {
            address: six,
            other: Some(four),
        });
        let other_first = || endpoint.other.as_ref().unwrap().first.load(Relaxed);
        assert!(!other_first());
        let stream = open(&endpoint).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), four);
        assert!(other_first());
        drop(listener);
        let _listener = TcpListener::bind(six).await.unwrap();
        let stream = open(&endpoint).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), six);
        assert!(!other_first());
    }
}
