//! How long upstreams are waited for, where a policy says.

use harness::h2::GrpcUpstream;
use harness::objects::{object, route, service_of};
use harness::raw::get;
use harness::{Answer, Rig};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A proxy that would wait for ever, and an upstream with these timeouts.
async fn rig(port: u16, timeouts: Value) -> Rig {
    rig_of(port, None, timeouts).await
}

async fn rig_of(port: u16, protocol: Option<&str>, timeouts: Value) -> Rig {
    let spec = json!({"targetRefs": [{"name": "app"}], "timeouts": timeouts});
    let mut objects = service_of("app", &[(port, true)], protocol);
    objects.push(route("app", "app.test", "app"));
    objects.push(object(
        "postern.dev/v1alpha1",
        "UpstreamPolicy",
        "app",
        &spec,
    ));
    Rig::build()
        .flag("--connect-timeout", "1h")
        .flag("--response-timeout", "0s")
        .objects(objects)
        .start()
        .await
}

async fn ask(rig: &Rig) -> Answer {
    rig.send(&get("app.test", "/", &[])).await
}

/// Takes connections and does nothing with them.
async fn silent() -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    (port, task)
}

#[tokio::test]
async fn for_an_answer() {
    let (port, _task) = silent().await;
    let rig = rig(port, json!({"responseSeconds": 1})).await;
    assert_eq!(ask(&rig).await.status, 504);
}

#[tokio::test]
async fn for_a_connection() {
    // Its queue is full: what else comes is dropped.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _full = std::net::TcpStream::connect(address).unwrap();
    let rig = rig(address.port(), json!({"connectMilliseconds": 100})).await;
    assert_eq!(ask(&rig).await.status, 504);
}

#[tokio::test]
async fn for_an_upstream_to_take_more_of_a_body() {
    let (port, _task) = silent().await;
    let rig = rig(port, json!({"responseSeconds": 1})).await;
    let stream = TcpStream::connect(("127.0.0.1", rig.port)).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let head = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1073741824\r\n\r\n";
    to.write_all(head.as_bytes()).await.unwrap();
    // More than all buffers on the way hold: the client always has more to send.
    let sending = tokio::spawn(async move {
        let piece = vec![0; 1 << 16];
        while to.write_all(&piece).await.is_ok() {}
    });
    let mut status = [0; 12];
    from.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 504");
    drop(from);
    sending.await.unwrap();
}

/// Passes connections on to a port until it is told to do so no longer; those that come after that are passed on again.
async fn relay(to: u16, freeze: Arc<Notify>) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let freeze = Arc::clone(&freeze);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut stream, &mut server) => {}
                    () = freeze.notified() => std::future::pending().await,
                }
            });
        }
    });
    (port, task)
}

#[tokio::test]
async fn a_shared_connection_that_has_died_in_silence_is_not_used_again() {
    let upstream = GrpcUpstream::start().await;
    let freeze = Arc::new(Notify::new());
    let (port, _task) = relay(upstream.port(), Arc::clone(&freeze)).await;
    let rig = rig_of(
        port,
        Some("kubernetes.io/h2c"),
        json!({"responseSeconds": 1}),
    )
    .await;
    // One connection: one worker.
    let mut connection = rig.connect().await;
    let request = get("app.test", "/", &[]);
    assert_eq!(connection.ask(&request).await.status, 200);
    assert_eq!(connection.ask(&request).await.status, 200);
    freeze.notify_waiters();
    assert_eq!(connection.ask(&request).await.status, 504);
    assert_eq!(connection.ask(&request).await.status, 200);
    let metrics = rig.postern.metrics().await;
    let connects = "postern_upstream_connects_total 2";
    assert!(metrics.lines().any(|line| line == connects), "{metrics}");
}
