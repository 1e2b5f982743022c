//! HTTP/2, both sides.
#![expect(clippy::disallowed_methods, reason = "what is collected is limited")]

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use snapshot::proto::upstream::Scheme;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::{Backstage, Client, Gateway, forward_to, header, soon};

type ClientBody = Full<Bytes>;

pub(super) async fn connect(port: u16) -> SendRequest<ClientBody> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    over(stream).await
}

pub(super) async fn over<S>(stream: S) -> SendRequest<ClientBody>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

pub(super) async fn text(response: Response<Incoming>) -> (u16, HeaderMap, String) {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, 1 << 20)
        .collect()
        .await
        .unwrap()
        .to_bytes();
    (
        head.status.as_u16(),
        head.headers,
        String::from_utf8(body.to_vec()).unwrap(),
    )
}

/// An HTTP/2 upstream over cleartext that answers as gRPC servers do: headers, a message, trailers.
async fn grpc_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                assert_eq!(request.headers()["te"], "trailers");
                assert_eq!(request.uri().authority().unwrap(), "grpc.test");
                let (head, body) = request.into_parts();
                let body = Limited::new(body, 1 << 20)
                    .collect()
                    .await
                    .unwrap()
                    .to_bytes();
                let trailers = HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    http::HeaderValue::from_static("0"),
                )]);
                let frames = [
                    Ok::<_, std::io::Error>(Frame::data(body)),
                    Ok(Frame::trailers(trailers)),
                ];
                let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)));
                response
                    .headers_mut()
                    .insert("x-path", head.uri.path().parse().unwrap());
                Ok::<_, std::io::Error>(response)
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

#[tokio::test]
async fn prior_knowledge_is_served_and_goes_to_http1_upstreams() {
    let backstage = Backstage::echo().await;
    let gateway = Gateway::start(&[], |metrics| {
        forward_to(metrics, Scheme::Http1, &[backstage.address])
    });
    let mut client = connect(gateway.port).await;
    let request = Request::get("http://Shop.test/a/../b?c=d")
        .header("x-consumer-id", "root")
        .header("x-forwarded-for", "1.1.1.1")
        .body(Full::default())
        .unwrap();
    let (status, headers, body) = text(soon(client.send_request(request)).await.unwrap()).await;
    assert_eq!((status, body.as_str()), (200, "hello"));
    assert!(!headers.contains_key("connection"));
    let request = backstage.only();
    assert!(request.starts_with("GET /b?c=d HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(&request, "host"), Some("shop.test"));
    assert_eq!(header(&request, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(header(&request, "x-consumer-id"), None);
}

#[tokio::test]
async fn bodies_of_unknown_length_become_chunks() {
    let backstage = Backstage::echo().await;
    let gateway = Gateway::start(&[], |metrics| {
        forward_to(metrics, Scheme::Http1, &[backstage.address])
    });
    let mut client = connect(gateway.port).await;
    let request = Request::get("http://a.test/")
        .body(Full::from("abc"))
        .unwrap();
    assert_eq!(
        text(soon(client.send_request(request)).await.unwrap())
            .await
            .0,
        200
    );
    assert!(backstage.only().ends_with("abc"), "also with GET");
}

#[tokio::test]
async fn grpc_passes_with_its_trailers() {
    let upstream = grpc_upstream().await;
    let gateway = Gateway::start(&[], |metrics| forward_to(metrics, Scheme::H2c, &[upstream]));
    let mut client = connect(gateway.port).await;
    for _ in 0..2 {
        let request = Request::post("http://grpc.test/shop.Orders/List")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::from("message"))
            .unwrap();
        let response = soon(client.send_request(request)).await.unwrap();
        assert_eq!(response.headers()["x-path"], "/shop.Orders/List");
        let collected = Limited::new(response.into_body(), 1 << 20)
            .collect()
            .await
            .unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(collected.to_bytes(), "message");
    }
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed() {
    let upstream = grpc_upstream().await;
    let gateway = Gateway::start(&["--upstream-idle-timeout", "200ms"], |metrics| {
        forward_to(metrics, Scheme::H2c, &[upstream])
    });
    let mut client = connect(gateway.port).await;
    let request = Request::post("http://grpc.test/")
        .header("te", "trailers")
        .body(Full::default())
        .unwrap();
    let answer = text(soon(client.send_request(request)).await.unwrap()).await;
    assert_eq!(answer.0, 200);
    soon(gateway.until("postern_upstream_connections_open", 0)).await;
}

#[tokio::test]
async fn grpc_clients_get_a_grpc_status() {
    let gateway = Gateway::start(&[], |metrics| forward_to(metrics, Scheme::H2c, &[]));
    let mut client = connect(gateway.port).await;
    let request = Request::post("http://a.test/")
        .header("content-type", "application/grpc")
        .body(Full::default())
        .unwrap();
    let (status, headers, body) = text(soon(client.send_request(request)).await.unwrap()).await;
    assert_eq!((status, body.as_str()), (200, ""));
    assert_eq!(headers["grpc-status"], "14");
    assert_eq!(headers["content-type"], "application/grpc");
    assert!(headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn a_host_beside_the_authority_must_agree() {
    let backstage = Backstage::echo().await;
    let gateway = Gateway::start(&[], |metrics| {
        forward_to(metrics, Scheme::Http1, &[backstage.address])
    });
    let mut client = connect(gateway.port).await;
    let request = Request::get("http://a.test/")
        .header("host", "b.test")
        .body(Full::default())
        .unwrap();
    assert_eq!(
        soon(client.send_request(request)).await.unwrap().status(),
        400
    );
    assert_eq!(backstage.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn floods_of_control_frames_are_cut_off() {
    let backstage = Backstage::echo().await;
    let gateway = Gateway::start(&[], |metrics| {
        forward_to(metrics, Scheme::Http1, &[backstage.address])
    });
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port))
        .await
        .unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for _ in 0..50_000 {
        bytes.extend(b"\0\0\x08\x06\0\0\0\0\0pingpong");
    }
    // The gateway stops reading: writing fails, or what it sent before it closed can be read.
    let (mut reader, mut writer) = stream.split();
    let mut received = Vec::new();
    let (_, _) =
        soon(async { tokio::join!(writer.write_all(&bytes), reader.read_to_end(&mut received)) })
            .await;
    assert!(
        received.len() < 2_000 * 17,
        "{} bytes of answers",
        received.len()
    );
    assert_eq!(
        gateway
            .get("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn what_begins_like_the_preface_is_still_http1() {
    let backstage = Backstage::echo().await;
    let gateway = Gateway::start(&[], |metrics| {
        forward_to(metrics, Scheme::Http1, &[backstage.address])
    });
    let mut client = Client::connect(gateway.port).await;
    client.send("P").await;
    assert_eq!(
        client
            .ask("RI / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .status,
        200
    );
    assert!(backstage.only().starts_with("PRI / HTTP/1.1\r\n"));
}
