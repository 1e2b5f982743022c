//! Which backend is asked, and for how long.

use std::time::Duration;

use snapshot::proto::upstream::Scheme;

use super::support::{Backstage, Does, Gateway, forward_to, ok, routes};
use crate::runtime::{Backend, Chain, HeaderEdit, Rule};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

#[tokio::test]
async fn weights_are_shares() {
    let (one, three, none) = (
        Backstage::echo().await,
        Backstage::echo().await,
        Backstage::echo().await,
    );
    let gateway = Gateway::start(&[], |metrics| {
        let backend = |backstage: &Backstage, weight| {
            let mut rule = forward_to(metrics, Scheme::Http1, &[backstage.address]);
            Backend {
                weight,
                ..rule.backends.remove(0)
            }
        };
        Rule {
            backends: vec![backend(&none, 0), backend(&one, 1), backend(&three, 3)],
            total_weight: 4,
            ..forward_to(metrics, Scheme::Http1, &[])
        }
    });
    let mut client = gateway.client().await;
    for _ in 0..400 {
        assert_eq!(client.ask(get("/")).await.status, 200);
    }
    let (one, three) = (one.requests().len(), three.requests().len());
    assert_eq!(none.requests().len(), 0);
    assert!(
        one + three == 400 && (50..150).contains(&one),
        "{one} and {three}"
    );
}

#[tokio::test]
async fn a_route_without_a_backend_that_could_be_asked_is_the_gateways_fault() {
    let gateway = Gateway::with_router(&[], None, |metrics| {
        let empty = || forward_to(metrics, Scheme::Http1, &[]);
        let invalid = Backend {
            weight: 1,
            upstream: None,
            request_filters: Vec::new(),
            response_filters: Vec::new(),
            chain: std::sync::Arc::new(Chain::default()),
            connector: None,
            extras: None,
        };
        let mut missing = empty();
        let upstream =
            std::sync::Arc::get_mut(missing.backends[0].upstream.as_mut().unwrap()).unwrap();
        upstream.missing = true;
        let tls = forward_to(metrics, Scheme::Https, &["127.0.0.1:1".parse().unwrap()]);
        routes(vec![
            (
                "/zero",
                Rule {
                    total_weight: 0,
                    ..empty()
                },
            ),
            (
                "/none",
                Rule {
                    backends: Vec::new(),
                    total_weight: 0,
                    ..empty()
                },
            ),
            (
                "/invalid",
                Rule {
                    backends: vec![invalid],
                    ..empty()
                },
            ),
            ("/missing", missing),
            ("/tls", tls),
            (
                "/closed",
                Rule {
                    closed: Some("a filter is not known".into()),
                    ..empty()
                },
            ),
            ("/empty", empty()),
        ])
    });
    for path in ["/zero", "/none", "/invalid", "/missing", "/tls", "/closed"] {
        let answer = gateway.get(&get(path)).await;
        assert_eq!(answer.status, 500, "{path}");
        assert!(answer.body.starts_with("{\"message\":\""), "{path}");
    }
    assert_eq!(gateway.get(&get("/empty")).await.status, 503);
}

#[tokio::test]
async fn routes_set_limits_to_time() {
    let backstage = Backstage::start(|_, request| {
        if request.starts_with("GET /partly") {
            Does::Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec())
        } else {
            Does::Hang
        }
    })
    .await;
    let gateway = Gateway::with_router(&[], None, |metrics| {
        let rule = || forward_to(metrics, Scheme::Http1, &[backstage.address]);
        let limit = Some(Duration::from_millis(100));
        routes(vec![
            (
                "/request",
                Rule {
                    request_timeout: limit,
                    ..rule()
                },
            ),
            (
                "/backend",
                Rule {
                    backend_timeout: limit,
                    ..rule()
                },
            ),
            (
                "/partly",
                Rule {
                    request_timeout: limit,
                    ..rule()
                },
            ),
        ])
    });
    assert_eq!(gateway.get(&get("/request")).await.status, 504);
    assert_eq!(gateway.get(&get("/backend")).await.status, 504);
    let mut client = gateway.client().await;
    client.send(get("/partly")).await;
    assert!(
        client.rest().await.ends_with("\r\n\r\nhalf"),
        "the end is missing, and the connection is closed"
    );
}

#[tokio::test]
async fn an_upload_may_take_longer_than_a_response() {
    let backstage = Backstage::echo().await;
    let gateway = Gateway::start(&["--response-timeout", "300ms"], |metrics| {
        forward_to(metrics, Scheme::Http1, &[backstage.address])
    });
    let mut client = gateway.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 8\r\n\r\n")
        .await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send("x").await;
    }
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn responses_are_filtered() {
    let backstage = Backstage::start(|_, _| ok("X-Gone: 1\r\nX-Own: theirs\r\n", "")).await;
    let gateway = Gateway::start(&[], |metrics| {
        let mut rule = forward_to(metrics, Scheme::Http1, &[backstage.address]);
        let name = http::HeaderName::from_static;
        rule.backends[0].response_filters = vec![HeaderEdit {
            remove: vec![name("x-gone")],
            ..HeaderEdit::default()
        }];
        let set = vec![(name("x-own"), http::HeaderValue::from_static("ours"))];
        Rule {
            response_filters: vec![HeaderEdit {
                set,
                ..HeaderEdit::default()
            }],
            ..rule
        }
    });
    let answer = gateway.get(&get("/")).await;
    assert_eq!(
        (answer.header("x-gone"), answer.header("x-own")),
        (None, Some("ours"))
    );
}
