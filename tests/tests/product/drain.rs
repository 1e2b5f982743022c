//! The end of the process: what runs is finished, nothing new is taken, and it does not take for ever.

use std::time::{Duration, Instant};

use harness::frames::{self, Frame, Outcome};
use harness::objects::route;
use harness::raw::get;
use harness::{Connection, Reply, Rig, Upstream};

/// Answers "/slow" when so many requests have come to the upstream, everything else at once.
async fn rig(release_at: usize, flags: &[(&str, &str)]) -> Rig {
    let upstream = Upstream::answering(move |seen| match seen.target.as_str() {
        "/slow" => Reply::After(
            release_at,
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone".to_vec(),
        ),
        _ => Reply::ok("fast"),
    })
    .await;
    let mut build = Rig::build()
        .upstream(upstream)
        .objects([route("r", "d.test", "echo")]);
    for (name, value) in flags {
        build = build.flag(name, value);
    }
    build.start().await
}

async fn refuses(port: u16) -> bool {
    tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_err()
}

#[tokio::test]
async fn running_requests_are_finished_and_connections_are_told_to_go() {
    let mut rig = rig(3, &[]).await;
    let mut slow = rig.connect().await;
    let mut second = rig.connect().await;
    let mut idle = rig.connect().await;
    assert_eq!(idle.ask(get("d.test", "/", &[])).await.status, 200);
    slow.send(get("d.test", "/slow", &[])).await;
    rig.upstream.wait_for(2).await;
    rig.postern.signal("TERM");
    let port = rig.port;
    harness::until("the end of the listener", async || refuses(port).await).await;
    assert!(idle.at_end().await, "idle connections are closed");
    assert!(second.at_end().await);
    assert!(rig.postern.runs(), "a request is still under way");
    // The upstream lets the slow one go when a third request comes, straight to it.
    Connection::open(rig.upstream.port())
        .await
        .ask(get("d.test", "/", &[]))
        .await;
    let answer = slow.answer().await;
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.closed),
        (200, "done", true)
    );
    assert!(slow.at_end().await);
    assert!(rig.postern.end().await.success());
}

#[tokio::test]
async fn http2_connections_get_goaway_and_finish_their_streams() {
    let mut rig = rig(2, &[]).await;
    let mut connection = rig.connect().await;
    frames::preface(&mut connection).await;
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/slow"),
        (":authority", "d.test"),
    ];
    connection.send(Frame::request(1, &fields).encode()).await;
    rig.upstream.wait_for(1).await;
    rig.postern.signal("TERM");
    let goaway = frames::until(&mut connection, frames::GOAWAY, 0)
        .await
        .expect("GOAWAY");
    assert_eq!(goaway.code(), 0, "an orderly end");
    Connection::open(rig.upstream.port())
        .await
        .ask(get("d.test", "/", &[]))
        .await;
    loop {
        match frames::outcome(&mut connection, 1).await {
            Outcome::Status(status) => break assert_eq!(status, 200),
            Outcome::GoAway(0) => {}
            other => panic!("{other:?}"),
        }
    }
    connection.rest().await;
    assert!(rig.postern.end().await.success());
}

#[tokio::test]
async fn readiness_ends_at_once_and_listeners_stay_for_the_delay() {
    let mut rig = rig(1, &[("--drain-delay", "2s")]).await;
    rig.postern.signal("TERM");
    harness::until("readiness to end", async || {
        rig.postern.readyz().await.status == 503
    })
    .await;
    let answer = rig.get("d.test", "/").await;
    assert_eq!(answer.status, 200, "load balancers need a moment to notice");
    assert!(rig.postern.end().await.success());
}

#[tokio::test]
async fn the_drain_timeout_ends_what_does_not_end() {
    let mut rig = rig(99, &[("--drain-timeout", "1s")]).await;
    let mut slow = rig.connect().await;
    slow.send(get("d.test", "/slow", &[])).await;
    rig.upstream.wait_for(1).await;
    let started = Instant::now();
    rig.postern.signal("TERM");
    rig.postern.end().await;
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(4)).contains(&took),
        "{took:?}"
    );
    slow.rest().await;
}

#[tokio::test]
async fn an_idle_process_ends_at_once() {
    for signal in ["TERM", "INT"] {
        let mut rig = rig(1, &[]).await;
        let mut kept = rig.connect().await;
        assert_eq!(kept.ask(get("d.test", "/", &[])).await.status, 200);
        let started = Instant::now();
        rig.postern.signal(signal);
        assert!(rig.postern.end().await.success());
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{signal}: {:?}",
            started.elapsed()
        );
    }
}

#[tokio::test]
async fn a_restart_on_the_same_port_loses_nothing() {
    let rig = rig(1, &[]).await;
    assert_eq!(rig.get("d.test", "/").await.status, 200);
    let rig = rig.restart().await;
    assert_eq!(rig.get("d.test", "/").await.status, 200);
    assert_eq!(rig.upstream.count(), 2);
}
