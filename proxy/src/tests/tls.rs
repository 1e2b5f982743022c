//! TLS: protocols, names, handshakes that do not end.

use std::sync::Arc;

use http::Request;
use http_body_util::Full;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use snapshot::proto::upstream::Scheme;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::h2;
use super::support::{Backstage, Client, Gateway, forward_to, header, soon};
use crate::metrics::Metrics;
use crate::router::{Builder, Match, Order};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

struct Secured {
    gateway: Gateway,
    roots: rustls::RootCertStore,
}

/// Listeners for a.test (with www.a.test's route) and b.test on one port, one certificate for all.
fn secured(flags: &[&str], backstage: &Backstage) -> Secured {
    let made =
        rcgen::generate_simple_self_signed(["a.test", "www.a.test", "b.test"].map(str::to_owned))
            .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let router = |metrics: &Arc<Metrics>| {
        let mut builder = Builder::default();
        let order = Order {
            created: 0,
            name: "shop/echo".into(),
            kind: "HTTPRoute".into(),
            rule: 0,
        };
        for hostname in ["*.a.test", "a.test", "b.test"] {
            let listener = builder.listener(hostname);
            let rule = Arc::new(forward_to(metrics, Scheme::Http1, &[backstage.address]));
            builder.add(
                listener,
                (hostname, false),
                &[Match::everything()],
                &order,
                &rule,
            );
        }
        builder.build()
    };
    Secured {
        gateway: Gateway::with_router(flags, Some(Arc::new(config)), router),
        roots,
    }
}

impl Secured {
    async fn connect(&self, name: &str, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(("127.0.0.1", self.gateway.port))
            .await
            .unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        soon(TlsConnector::from(Arc::new(config)).connect(name, stream))
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn http1_and_http2_are_chosen_by_alpn() {
    let backstage = Backstage::echo().await;
    let secured = secured(&[], &backstage);
    for alpn in [&[b"http/1.1".as_slice()][..], &[]] {
        let answer = Client::new(secured.connect("a.test", alpn).await)
            .ask(GET)
            .await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    }
    let mut http2 = h2::over(secured.connect("a.test", &[b"h2", b"http/1.1"]).await).await;
    let request = Request::get("https://a.test/")
        .body(Full::default())
        .unwrap();
    assert_eq!(
        soon(http2.send_request(request)).await.unwrap().status(),
        200
    );
    for request in backstage.requests() {
        assert_eq!(header(&request, "x-forwarded-proto"), Some("https"));
    }
    // After ALPN h2 nothing but HTTP/2 is understood.
    let mut client = Client::new(secured.connect("a.test", &[b"h2"]).await);
    client.send(GET).await;
    assert!(!client.rest().await.contains("HTTP/1.1"));
}

#[tokio::test]
async fn a_connection_serves_the_listener_that_its_handshake_named() {
    let backstage = Backstage::echo().await;
    let secured = secured(&[], &backstage);
    let mut http2 = h2::over(secured.connect("a.test", &[b"h2"]).await).await;
    for (host, status) in [
        ("a.test", 200),
        ("b.test", 421),
        ("www.a.test", 421),
        ("A.test", 200),
        ("c.test", 421),
    ] {
        let request = Request::get(format!("https://{host}/"))
            .body(Full::default())
            .unwrap();
        assert_eq!(
            soon(http2.send_request(request)).await.unwrap().status(),
            status,
            "{host}"
        );
    }
    let mut client = Client::new(secured.connect("www.a.test", &[]).await);
    for (host, status) in [
        ("x.a.test", 200),
        ("www.a.test", 200),
        ("y.a.test", 200),
        ("b.test", 421),
    ] {
        let answer = client.ask(GET.replace("a.test", host)).await;
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test]
async fn handshakes_that_do_not_end_are_not_waited_for() {
    let backstage = Backstage::echo().await;
    let secured = secured(&["--header-timeout", "300ms"], &backstage);
    let mut silent = secured.gateway.client().await;
    let mut slow = secured.gateway.client().await;
    slow.send(b"\x16\x03\x01").await;
    let mut plain = secured.gateway.client().await;
    plain.send(GET).await;
    for client in [&mut silent, &mut slow, &mut plain] {
        assert!(!client.rest().await.contains("HTTP/1.1"));
    }
    assert_eq!(
        Client::new(secured.connect("a.test", &[]).await)
            .ask(GET)
            .await
            .status,
        200
    );
}
