//! Endpoints are asked how they are, where a policy says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use harness::h2::GrpcUpstream;
use harness::objects::{object, route, service_of};
use harness::{Reply, Rig, Upstream, until};
use serde_json::{Value, json};

fn objects(ports: &[u16], app_protocol: Option<&str>, health: &Value) -> Vec<Value> {
    let endpoints: Vec<_> = ports.iter().map(|port| (*port, true)).collect();
    let mut spec = json!({"targetRefs": [{"name": "app"}], "activeHealth": health});
    for (field, value) in [
        ("intervalSeconds", 1),
        ("healthyThreshold", 1),
        ("unhealthyThreshold", 1),
    ] {
        spec["activeHealth"][field] = value.into();
    }
    let mut objects = service_of("app", &endpoints, app_protocol);
    objects.push(route("app", "app.test", "app"));
    objects.push(object(
        "postern.dev/v1alpha1",
        "UpstreamPolicy",
        "app",
        &spec,
    ));
    objects
}

async fn count(rig: &Rig, what: &str) -> u64 {
    let text = rig.postern.metrics().await;
    let line = text.lines().find_map(|line| line.strip_prefix(what));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
}

async fn unhealthy(rig: &Rig) -> u64 {
    let what = "postern_upstream_endpoints{upstream=\"default/app/80\",state=\"unhealthy\"}";
    count(rig, what).await
}

async fn passed(rig: &Rig) -> u64 {
    let what =
        "postern_upstream_health_checks_total{upstream=\"default/app/80\",result=\"passed\"}";
    count(rig, what).await
}

/// An upstream whose "/healthz" answers as it is told.
async fn changing(well: &Arc<AtomicBool>) -> Upstream {
    let well = Arc::clone(well);
    Upstream::answering(move |seen| match seen.target.as_str() {
        "/healthz?full" if !well.load(SeqCst) => Reply::status(503, "Unwell", &[], ""),
        _ => Reply::ok("fine"),
    })
    .await
}

#[tokio::test]
async fn an_endpoint_that_says_it_is_unwell_gets_no_requests_until_it_is_well() {
    let well = Arc::new(AtomicBool::new(false));
    let (changing, steady) = (changing(&well).await, Upstream::named("steady").await);
    let health = json!({"http": {"path": "/healthz?full", "host": "app.internal"}});
    let ports = [changing.port(), steady.port()];
    let mut rig = Rig::with(objects(&ports, None, &health)).await;
    until("the endpoint to be left out", || async {
        unhealthy(&rig).await == 1
    })
    .await;
    let asked = changing.last();
    assert_eq!(
        (asked.target.as_str(), asked.header("host")),
        ("/healthz?full", Some("app.internal"))
    );
    let requests = |of: &Upstream| of.seen().iter().filter(|seen| seen.target == "/").count();
    for _ in 0..10 {
        assert_eq!(rig.get("app.test", "/").await.status, 200);
    }
    assert_eq!((requests(&changing), requests(&steady)), (0, 10));
    well.store(true, SeqCst);
    until("the endpoint to be taken back in", || async {
        unhealthy(&rig).await == 0
    })
    .await;
    for _ in 0..10 {
        rig.get("app.test", "/").await;
    }
    assert!(requests(&changing) > 0);

    // Nobody asks an endpoint that is gone, while the other is asked again and again.
    rig.replace(objects(&ports[1..], None, &health)).await;
    let (before, checks) = (changing.count(), steady.count());
    until("further checks", || async { steady.count() > checks + 1 }).await;
    assert!(
        changing.count() <= before + 1,
        "one may have been under way"
    );
}

#[tokio::test]
async fn an_endpoint_that_takes_no_connection_is_unwell() {
    let steady = Upstream::named("steady").await;
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ports = [steady.port(), gone.local_addr().unwrap().port()];
    drop(gone);
    let rig = Rig::with(objects(&ports, None, &json!({"tcp": {}}))).await;
    until("the endpoint to be left out", || async {
        unhealthy(&rig).await == 1
    })
    .await;
    until("a passed check", || async { passed(&rig).await > 0 }).await;
    assert_eq!(rig.get("app.test", "/").await.status, 200);
    assert_eq!(
        count(&rig, "postern_upstream_connect_failures_total").await,
        0
    );
}

/// As gRPC's health protocol says: "shop.Orders" serves, and nothing else does.
fn serves(seen: &harness::h2::Seen) -> Vec<u8> {
    let serves = seen.uri.ends_with("/grpc.health.v1.Health/Check")
        && seen.body == b"\0\0\0\0\x0d\x0a\x0bshop.Orders";
    vec![0, 0, 0, 0, 2, 8, if serves { 1 } else { 2 }]
}

#[tokio::test]
async fn the_health_protocol_of_grpc_is_spoken() {
    let server = GrpcUpstream::answering(serves).await;
    let ports = [server.port()];
    let h2c = Some("kubernetes.io/h2c");
    let serving = json!({"grpc": {"service": "shop.Orders"}});
    let mut rig = Rig::with(objects(&ports, h2c, &serving)).await;
    until("a passed check", || async { passed(&rig).await > 1 }).await;
    assert_eq!(unhealthy(&rig).await, 0);
    rig.replace(objects(&ports, h2c, &json!({"grpc": {}})))
        .await;
    until("the endpoint to be left out", || async {
        unhealthy(&rig).await == 1
    })
    .await;
}
