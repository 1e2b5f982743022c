//! Changes of protocol.

use std::sync::Arc;

use snapshot::proto::upstream::Scheme;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::support::{Backstage, Client, Gateway, forward_to, header, ok, soon};

const ASK: &str =
    "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn nothing_is_forwarded_before_the_upstream_agrees() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = Gateway::start(&[], |metrics| {
        forward_to(metrics, Scheme::Http1, &[address])
    });
    let agree = Arc::new(Notify::new());
    let upstream = {
        let agree = Arc::clone(&agree);
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut early = vec![0; 4096];
            let count = stream.read(&mut early).await.unwrap();
            let head = String::from_utf8(early[..count].to_vec()).unwrap();
            agree.notified().await;
            let mut more = [0; 64];
            assert!(stream.try_read(&mut more).is_err(), "bytes before the 101");
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi").await.unwrap();
            let mut echoed = [0; 5];
            stream.read_exact(&mut echoed).await.unwrap();
            stream.write_all(&echoed).await.unwrap();
            head
        })
    };
    let mut client = gateway.client().await;
    client.send(format!("{ASK}early")).await;
    // A request on another connection has gone all the way: the early bytes would have gone, too.
    let other = Backstage::echo().await;
    let second = Gateway::start(&[], |metrics| {
        forward_to(metrics, Scheme::Http1, &[other.address])
    });
    assert_eq!(
        second
            .get("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .status,
        200
    );
    agree.notify_one();
    let answer = client.answer().await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(client.bytes(7).await, "hiearly");
    let head = soon(upstream).await.unwrap();
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert_eq!(header(&head, "connection"), Some("upgrade"));
}

#[tokio::test]
async fn after_a_refusal_the_connection_speaks_http_again() {
    let backstage = Backstage::start(|_, _| ok("", "no")).await;
    let gateway = Gateway::start(&[], |metrics| {
        forward_to(metrics, Scheme::Http1, &[backstage.address])
    });
    let mut client = gateway.client().await;
    assert_eq!(client.ask(ASK).await.status, 200);
    assert_eq!(
        client
            .ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .status,
        200
    );
    let answer = client.ask("GET / HTTP/1.1\nHost: a.test\r\n\r\n").await;
    assert_eq!(answer.status, 400, "bytes are looked at again");
}

#[tokio::test]
async fn what_was_sent_blindly_behind_a_refused_upgrade_is_not_served() {
    let backstage = Backstage::start(|_, _| ok("", "no")).await;
    let gateway = Gateway::start(&[], |metrics| {
        forward_to(metrics, Scheme::Http1, &[backstage.address])
    });
    let mut client = gateway.client().await;
    let hidden = "GET /hidden HTTP/1.1\nHost: a.test\n\n";
    client.send(format!("{ASK}{hidden}")).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.rest().await, "");
    assert_eq!(backstage.requests().len(), 1);
}

#[tokio::test]
async fn no_tunnel_to_http2() {
    let backstage = Backstage::echo().await;
    let gateway = Gateway::start(&[], |metrics| {
        forward_to(metrics, Scheme::Http1, &[backstage.address])
    });
    let lines =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    let mut client = Client::connect(gateway.port).await;
    let answer = client
        .ask(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n"))
        .await;
    assert_eq!(answer.status, 200);
    for name in ["connection", "upgrade", "http2-settings"] {
        assert_eq!(header(&backstage.only(), name), None, "{name}");
    }
    assert_eq!(
        client
            .ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .status,
        200
    );
}
