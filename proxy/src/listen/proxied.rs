//! The PROXY protocol: who is behind a balancer that passes bytes on and cannot say so in HTTP.
//!
//! Only those whose addresses are trusted are listened to, and they must say it: a connection of theirs that begins otherwise
//! is closed, because its client could have written the header itself.

use std::io;
use std::net::IpAddr;

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Both versions are longer.
const SHORTEST: usize = 12;
/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;
/// The shortest line of version 1 that names addresses.
const SHORTEST_WITH_ADDRESSES: usize = 32;
/// Addresses and whatever else a header of version 2 may bring; senders bring some hundred bytes.
const LONGEST_REST: usize = 4 << 10;

/// Reads the header, and not one byte more; the client's address. None: the balancer speaks for itself.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut header = vec![0; SHORTEST];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        read_more(stream, &mut header, 4).await?;
        let length = match header.as_slice() {
            [.., high, low] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => 0,
        };
        if length > LONGEST_REST {
            return Err(wrong("the header is too long"));
        }
        read_more(stream, &mut header, length).await?;
        let header = v2::Header::try_from(header.as_slice()).map_err(wrong)?;
        return Ok(match (header.command, header.addresses) {
            (v2::Command::Proxy, v2::Addresses::IPv4(of)) => Some(of.source_address.into()),
            (v2::Command::Proxy, v2::Addresses::IPv6(of)) => Some(of.source_address.into()),
            _ => None,
        });
    }
    if !header.starts_with(b"PROXY ") {
        return Err(wrong("the connection does not begin with a header"));
    }
    if header.starts_with(b"PROXY TCP") {
        read_more(stream, &mut header, SHORTEST_WITH_ADDRESSES - SHORTEST).await?;
    }
    while !header.ends_with(b"\n") {
        if header.len() >= LONGEST_LINE {
            return Err(wrong("the header is too long"));
        }
        read_more(stream, &mut header, 1).await?;
    }
    let header = v1::Header::try_from(header.as_slice()).map_err(wrong)?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(of) => Some(of.source_address.into()),
        v1::Addresses::Tcp6(of) => Some(of.source_address.into()),
        v1::Addresses::Unknown => None,
    })
}

async fn read_more(
    stream: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
    count: usize,
) -> io::Result<()> {
    let from = header.len();
    header.resize(from + count, 0);
    let rest = header.get_mut(from..).unwrap_or_default();
    stream.read_exact(rest).await.map(drop)
}

fn wrong(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    /// What a header says, and what is left behind it.
    fn said(bytes: &[u8]) -> (io::Result<Option<IpAddr>>, &[u8]) {
        let mut rest = bytes;
        let said = read(&mut rest).now_or_never().expect("all bytes are there");
        (said, rest)
    }

    fn version_2(command: u8, family: u8, addresses: &[u8], more: &[u8]) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([0x20 | command, family]);
        let length = u16::try_from(addresses.len() + more.len()).unwrap();
        header.extend(length.to_be_bytes());
        header.extend(addresses);
        header.extend(more);
        header
    }

    proptest! {
        #[test]
        fn addresses_of_both_versions_are_read_and_no_byte_more(
            source in any::<IpAddr>(),
            destination in any::<[u8; 16]>(),
            ports in any::<(u16, u16)>(),
            more in prop_oneof![Just(Vec::new()), (1_u8..=255, proptest::collection::vec(any::<u8>(), 0..60)).prop_map(
                |(kind, value)| [&[kind, 0, u8::try_from(value.len()).unwrap()][..], &value].concat())],
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let (kind, family, own, other, octets) = match source {
                IpAddr::V4(ip) => {
                    let [a, b, c, d, ..] = destination;
                    let other = IpAddr::from([a, b, c, d]);
                    ("TCP4", 0x11, ip.to_string(), other, ip.octets().to_vec())
                }
                IpAddr::V6(ip) => {
                    let other = IpAddr::from(destination);
                    ("TCP6", 0x21, ip.to_string(), other, ip.octets().to_vec())
                }
            };
            let line = format!("PROXY {kind} {own} {other} {} {}\r\n", ports.0, ports.1);
            let whole = [line.as_bytes(), &rest].concat();
            let (said_1, left) = said(&whole);
            prop_assert_eq!(said_1.unwrap(), Some(source));
            prop_assert_eq!(left, &rest[..]);

            let mut addresses = octets.clone();
            addresses.extend(&destination[..octets.len()]);
            addresses.extend(ports.0.to_be_bytes());
            addresses.extend(ports.1.to_be_bytes());
            let whole = [version_2(1, family, &addresses, &more), rest.clone()].concat();
            let (said_2, left) = said(&whole);
            prop_assert_eq!(said_2.unwrap(), Some(source));
            prop_assert_eq!(left, &rest[..]);
        }

        #[test]
        fn whatever_comes_ends_in_an_answer(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            start in prop_oneof![Just(&b""[..]), Just(&b"PROXY "[..]), Just(&b"PROXY TCP4 "[..]), Just(v2::PROTOCOL_PREFIX)],
        ) {
            let _any = said(&[start, &bytes].concat());
        }
    }

    #[test]
    fn who_speaks_for_itself_has_no_other_address() {
        let local = version_2(0, 0, &[], &[]);
        for header in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff:: 1 2 3\r\n".to_vec(),
            local,
        ] {
            let whole = [&header[..], b"GET"].concat();
            let (said, left) = said(&whole);
            assert_eq!(said.unwrap(), None);
            assert_eq!(left, b"GET");
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        let too_long = version_2(1, 0x11, &[0; 5000], &[]);
        for bad in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 70000\r\n",
            b"PROXY TCP4 1.2.3.400 1.2.3.4 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 1.2.3.4 11 22\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1111 2222\n",
            long.as_bytes(),
            &too_long,
            &version_2(1, 0x11, &[1, 2, 3], &[]),
            b"PROXY",
        ] {
            assert!(said(bad).0.is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
