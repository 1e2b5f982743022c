//! Ports, slow clients, limits, and the end.

use std::sync::Arc;
use std::time::Duration;

use snapshot::proto::upstream::Scheme;
use tokio::net::TcpStream;

use super::h2;
use super::support::{Backstage, Client, Does, Gateway, forward_to, free_port, ok, router, soon};
use http::Request;
use http_body_util::Full;

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

async fn through(flags: &[&str], backstage: &Backstage) -> Gateway {
    Gateway::start(flags, |metrics| {
        forward_to(metrics, Scheme::Http1, &[backstage.address])
    })
}

#[tokio::test]
async fn ports_come_and_go_and_others_do_not_notice() {
    let backstage = Backstage::echo().await;
    let mut gateway = through(&[], &backstage).await;
    let rule = || {
        router(forward_to(
            &gateway.metrics,
            Scheme::Http1,
            &[backstage.address],
        ))
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (second, in_use) = (free_port(), taken.local_addr().unwrap().port());
    let mut first = gateway.client().await;
    assert_eq!(first.ask(GET).await.status, 200);

    let three = Gateway::runtime_of([
        (gateway.port, None, rule()),
        (second, None, rule()),
        (in_use, None, rule()),
    ]);
    let one = Gateway::runtime_of([(gateway.port, None, rule())]);
    let (three, one) = (Arc::new(three), Arc::new(one));
    gateway.runtime.store(Arc::clone(&three));
    let mut fleet = gateway.fleet.take().unwrap();
    let failed = fleet.follow(&three);
    assert_eq!(failed.keys().collect::<Vec<_>>(), [&in_use]);
    assert!(failed[&in_use].contains("in use"), "{failed:?}");
    let mut client = Client::connect(second).await;
    assert_eq!(client.ask(GET).await.status, 200);
    drop(taken);
    assert!(fleet.follow(&three).is_empty(), "it is tried again");
    assert_eq!(Client::connect(in_use).await.ask(GET).await.status, 200);

    gateway.runtime.store(Arc::clone(&one));
    assert!(fleet.follow(&one).is_empty());
    assert_eq!(client.rest().await, "", "the connection is told to go");
    soon(async { while TcpStream::connect(("127.0.0.1", second)).await.is_ok() {} }).await;
    assert_eq!(first.ask(GET).await.status, 200);
}

#[tokio::test]
async fn slow_heads_are_not_waited_for() {
    let backstage = Backstage::echo().await;
    let gateway = through(&["--header-timeout", "300ms"], &backstage).await;
    let mut slow = Vec::new();
    for start in [
        "",
        "G",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: ",
        "PRI * HTTP/2.0\r\n",
    ] {
        let mut client = gateway.client().await;
        client.send(start).await;
        slow.push(client);
    }
    let mut idle = gateway.client().await;
    assert_eq!(idle.ask(GET).await.status, 200);
    for mut client in slow {
        assert_eq!(client.rest().await, "");
    }
    assert_eq!(
        idle.ask(GET).await.status,
        200,
        "between requests another time counts"
    );
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let backstage = Backstage::echo().await;
    let gateway = through(&["--idle-timeout", "300ms"], &backstage).await;
    let mut client = gateway.client().await;
    assert_eq!(client.ask(GET).await.status, 200);
    assert_eq!(client.rest().await, "");
    let mut http2 = h2::connect(gateway.port).await;
    soon(async {
        while http2.ready().await.is_ok() {
            tokio::task::yield_now().await
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let backstage = Backstage::echo().await;
    let gateway = through(&["--body-timeout", "200ms"], &backstage).await;
    let answer = gateway
        .get("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc")
        .await;
    assert_eq!(answer.status, 408);
}

#[tokio::test]
async fn clients_that_do_not_read_are_given_up() {
    let big = "x".repeat(32 << 20);
    let backstage = Backstage::start(move |_, _| ok("", &big)).await;
    let gateway = through(&["--body-timeout", "300ms"], &backstage).await;
    let mut client = gateway.client().await;
    client.send(GET).await;
    soon(gateway.until_open(1)).await;
    // Nothing is read until the gateway has closed the connection.
    soon(gateway.until_open(0)).await;
}

#[tokio::test]
async fn streams_that_are_not_read_are_given_up() {
    let big = "x".repeat(16 << 20);
    let backstage = Backstage::start(move |_, _| ok("", &big)).await;
    let gateway = through(&["--body-timeout", "300ms"], &backstage).await;
    let mut http2 = h2::connect(gateway.port).await;
    let request = Request::get("http://a.test/")
        .body(Full::default())
        .unwrap();
    // The connection is alive and answers pings; only this stream's window is full.
    let response = soon(http2.send_request(request)).await.unwrap();
    soon(gateway.until_open(0)).await;
    drop(response);
}

#[tokio::test]
async fn pipelined_requests_are_as_many_as_were_sent() {
    let backstage = Backstage::start(|number, _| ok("", &number.to_string())).await;
    let gateway = through(&[], &backstage).await;
    let mut client = gateway.client().await;
    let post = "POST /b HTTP/1.1\r\nHost: a.test\r\nContent-Length: 36\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a.test\r\n";
    let chunked = "POST /c HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n";
    client.send(format!("{GET}{post}{chunked}{GET}")).await;
    for number in 0..4 {
        assert_eq!(client.answer().await.body, number.to_string());
    }
    let lines: Vec<_> = backstage
        .requests()
        .iter()
        .map(|request| request.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(lines, ["GET /", "POST /b", "POST /c", "GET /"]);
}

#[tokio::test]
async fn there_are_no_more_connections_than_allowed() {
    let backstage = Backstage::echo().await;
    let gateway = through(&["--max-connections", "2"], &backstage).await;
    let (mut first, mut second, mut third) = (
        gateway.client().await,
        gateway.client().await,
        gateway.client().await,
    );
    assert_eq!(first.ask(GET).await.status, 200);
    assert_eq!(second.ask(GET).await.status, 200);
    third.send(GET).await;
    let waits = tokio::time::timeout(Duration::from_millis(300), third.answer()).await;
    assert!(waits.is_err(), "the third waits");
    drop(first);
    assert_eq!(third.answer().await.status, 200);
    assert_eq!(second.ask(GET).await.status, 200);
}

#[tokio::test]
async fn running_requests_are_finished_before_the_end() {
    let release = Arc::new(tokio::sync::Notify::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut gateway = Gateway::start(&[], |metrics| {
        forward_to(metrics, Scheme::Http1, &[address])
    });
    let (mut running, mut silent) = (gateway.client().await, gateway.client().await);
    let mut idle = gateway.client().await;
    assert_eq!(
        idle.ask("TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .status,
        405
    );
    let mut http2 = h2::connect(gateway.port).await;
    running.send(GET).await;
    let request = Request::get("http://a.test/")
        .body(Full::default())
        .unwrap();
    let streaming = tokio::spawn(http2.send_request(request));
    let (mut upstreams, held) = (Vec::new(), Arc::clone(&release));
    for _ in 0..2 {
        upstreams.push(soon(listener.accept()).await.unwrap().0);
    }
    tokio::spawn(async move {
        held.notified().await;
        for stream in &mut upstreams {
            let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";
            tokio::io::AsyncWriteExt::write_all(stream, bytes)
                .await
                .unwrap();
        }
        std::future::pending::<()>().await;
    });
    let end = tokio::spawn(gateway.fleet.take().unwrap().drain(Duration::from_secs(20)));
    assert_eq!(idle.rest().await, "", "idle connections are closed at once");
    assert_eq!(silent.rest().await, "", "also those that have not begun");
    soon(async {
        while TcpStream::connect(("127.0.0.1", gateway.port))
            .await
            .is_ok()
        {}
    })
    .await;
    release.notify_one();
    let answer = running.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "done"));
    assert_eq!(answer.header("connection"), Some("close"));
    let (status, _, body) = h2::text(soon(streaming).await.unwrap().unwrap()).await;
    assert_eq!((status, body.as_str()), (200, "done"));
    drop(http2);
    soon(end).await.unwrap();
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let backstage = Backstage::start(|_, _| Does::Hang).await;
    let mut gateway = through(&[], &backstage).await;
    let mut running = gateway.client().await;
    running.send(GET).await;
    soon(async {
        while backstage.requests().is_empty() {
            tokio::task::yield_now().await
        }
    })
    .await;
    soon(
        gateway
            .fleet
            .take()
            .unwrap()
            .drain(Duration::from_millis(100)),
    )
    .await;
    assert_eq!(running.rest().await, "");
}
