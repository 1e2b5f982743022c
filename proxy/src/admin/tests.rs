use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

async fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

async fn start() -> (SocketAddr, Arc<Status>, Arc<Metrics>, CancellationToken) {
    let (status, metrics, stop) = (
        Arc::new(Status::default()),
        Metrics::new(1),
        CancellationToken::new(),
    );
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = serve(
        any,
        Arc::clone(&status),
        Arc::clone(&metrics),
        Arc::default(),
        stop.clone(),
    )
    .await
    .unwrap();
    (address, status, metrics, stop)
}

#[tokio::test]
async fn ready_from_the_first_snapshot_until_draining() {
    let (address, status, ..) = start().await;
    assert_eq!(ask(address, "GET /livez").await.0, 200);
    assert_eq!(
        ask(address, "GET /readyz").await,
        (503, "{\"ready\":false}".to_owned())
    );
    status.in_force(&"v1".into(), Some("sha256:00".into()));
    let expected = r#"{"ready":true,"version":"v1","manifests":"sha256:00"}"#;
    assert_eq!(
        ask(address, "GET /readyz").await,
        (200, expected.to_owned())
    );
    status.disconnected("no \"way\"");
    let expected = r#"{"ready":true,"version":"v1","manifests":"sha256:00","controlPlane":{"connected":false,"reason":"no \"way\""}}"#;
    assert_eq!(
        ask(address, "GET /readyz").await,
        (200, expected.to_owned())
    );
    status.drain();
    assert_eq!(ask(address, "GET /readyz").await.0, 503);
    assert_eq!(ask(address, "GET /livez").await.0, 200);
}

#[tokio::test]
async fn metrics_and_nothing_else() {
    let (address, _, metrics, stop) = start().await;
    let worker = metrics.worker(0);
    let rule = metrics.rule(&"HTTPRoute/shop/\"o\"".into());
    worker.request(Some(&rule), StatusCode::OK, Duration::from_millis(3));
    worker.request(Some(&rule), StatusCode::NOT_FOUND, Duration::from_secs(90));
    worker.request(None, StatusCode::NOT_FOUND, Duration::ZERO);
    let plugin = metrics.plugin(&"shop/k".into(), "keyAuth");
    worker.verdict(&plugin, "ok", true);
    worker.verdict(&plugin, "no_key", false);
    worker.verdict(&plugin, "no_key", false);
    let (status, text) = ask(address, "GET /metrics").await;
    assert_eq!(status, 200);
    for line in [
        r#"postern_requests_total{route="HTTPRoute/shop/\"o\"",class="2xx"} 1"#,
        r#"postern_requests_total{route="",class="4xx"} 1"#,
        r#"postern_request_duration_seconds_bucket{le="0.005",route="HTTPRoute/shop/\"o\""} 1"#,
        r#"postern_request_duration_seconds_bucket{le="60.0",route="HTTPRoute/shop/\"o\""} 1"#,
        r#"postern_request_duration_seconds_bucket{le="+Inf",route="HTTPRoute/shop/\"o\""} 2"#,
        r#"postern_request_duration_seconds_count{route="HTTPRoute/shop/\"o\""} 2"#,
        r#"postern_auth_verdicts_total{plugin="shop/k",type="keyAuth",verdict="refuse",reason="no_key"} 2"#,
        r#"postern_auth_verdicts_total{plugin="shop/k",type="keyAuth",verdict="continue",reason="ok"} 1"#,
        "# EOF",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
    // Routes that nobody holds are forgotten; those that somebody does keep their numbers.
    drop(plugin);
    metrics.forget_unused();
    let (_, text) = ask(address, "GET /metrics").await;
    assert!(!text.contains("shop/k") && text.contains("HTTPRoute/shop"));
    assert_eq!(ask(address, "GET /").await.0, 404);
    assert_eq!(ask(address, "POST /livez").await.0, 405);
    stop.cancel();
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_flag() {
    let (address, status, metrics, stop) = start().await;
    let error = serve(address, status, metrics, Arc::default(), stop)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("--status-address") && error.contains(&address.to_string()),
        "{error}"
    );
}
