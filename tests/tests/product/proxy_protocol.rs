//! Balancers that are trusted say in front of a connection who their client is.

use harness::objects::route;
use harness::raw::get;
use harness::{Connection, Rig};

const NAMES_A_CLIENT: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 1111 80\r\n";

async fn rig(from: &str) -> Rig {
    let build = Rig::build().objects([route("app", "app.test", "echo")]);
    build.flag("--proxy-protocol-from", from).start().await
}

/// Version 2 of the protocol, for a client `2001:db8::7`.
fn version_2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    let client: std::net::Ipv6Addr = "2001:db8::7".parse().unwrap();
    header.extend(client.octets());
    header.extend([0; 16]);
    header.extend([4, 87, 0, 80]);
    header
}

async fn ask_behind(rig: &Rig, header: &[u8]) -> Connection {
    let mut connection = rig.connect().await;
    let request = [header, &get("app.test", "/", &[])].concat();
    assert_eq!(connection.ask(request).await.status, 200);
    connection
}

#[tokio::test]
async fn the_client_that_a_trusted_balancer_names_is_the_peer() {
    let rig = rig("127.0.0.0/8").await;
    for (header, client) in [
        (NAMES_A_CLIENT.to_vec(), "192.0.2.7"),
        (version_2(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
    ] {
        let mut connection = ask_behind(&rig, &header).await;
        let seen = rig.upstream.last();
        assert_eq!(seen.header("x-forwarded-for"), Some(client));
        assert_eq!(seen.header("x-real-ip"), Some(client));
        // A header stands in front of a connection, not of each request.
        assert_eq!(connection.ask(get("app.test", "/", &[])).await.status, 200);
    }
    // It may come in pieces.
    let mut connection = rig.connect().await;
    for piece in version_2().chunks(7) {
        connection.send(piece).await;
    }
    assert_eq!(connection.ask(get("app.test", "/", &[])).await.status, 200);
}

#[tokio::test]
async fn a_connection_of_a_balancer_without_a_header_is_closed() {
    let rig = rig("127.0.0.1").await;
    let wrong = [
        get("app.test", "/", &[]),
        [
            b"PROXY TCP4 nobody 192.0.2.1 1 2222222\r\n",
            &get("app.test", "/", &[])[..],
        ]
        .concat(),
    ];
    for bytes in wrong {
        let mut connection = rig.connect().await;
        connection.try_send(&bytes).await;
        assert!(connection.head().await.is_none());
    }
    assert_eq!(rig.upstream.count(), 0);
    let text = rig.postern.metrics().await;
    assert!(
        text.contains("postern_proxy_header_failures_total 2"),
        "{text}"
    );
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let rig = rig("192.0.2.0/24").await;
    let mut connection = rig.connect().await;
    let request = [NAMES_A_CLIENT, &get("app.test", "/", &[])].concat();
    assert_eq!(connection.ask(request).await.status, 400);
    assert_eq!(rig.upstream.count(), 0);
    assert_eq!(rig.get("app.test", "/").await.status, 200);
    assert_eq!(
        rig.upstream.last().header("x-forwarded-for"),
        Some("127.0.0.1")
    );
}
