//! Which endpoints get requests, where an UpstreamPolicy says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::objects::{object, route, service_of};
use harness::{Reply, Rig, Upstream, until};
use serde_json::{Value, json};

/// An `UpstreamPolicy` for the Service "app".
fn policy(spec: &Value) -> Value {
    let mut whole = json!({"targetRefs": [{"name": "app"}]});
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    object("postern.dev/v1alpha1", "UpstreamPolicy", "app", &whole)
}

/// A route for "app.test" to the Service "app" with these endpoints and a policy.
fn objects(ports: &[u16], spec: &Value) -> Vec<Value> {
    let endpoints: Vec<_> = ports.iter().map(|port| (*port, true)).collect();
    let mut objects = service_of("app", &endpoints, None);
    objects.extend([route("app", "app.test", "app"), policy(spec)]);
    objects
}

async fn get_many(rig: &Rig, times: usize) -> Vec<u16> {
    let mut connection = rig.connect().await;
    let mut statuses = Vec::new();
    for _ in 0..times {
        let request = harness::raw::get("app.test", "/", &[]);
        statuses.push(connection.ask(request).await.status);
    }
    statuses
}

async fn metric(rig: &Rig, name: &str) -> f64 {
    let text = rig.postern.metrics().await;
    let line = text.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn failing() -> impl Future<Output = Upstream> {
    Upstream::answering(|_| Reply::status(503, "Broken", &[], "broken"))
}

#[tokio::test]
async fn an_endpoint_that_fails_in_a_row_is_left_out() {
    let (good, bad) = (Upstream::named("good").await, failing().await);
    let spec = json!({"passiveHealth": {"consecutiveFailures": 3, "ejectionSeconds": 3600}});
    let rig = Rig::with(objects(&[good.port(), bad.port()], &spec)).await;
    let states = "postern_upstream_endpoints{upstream=\"default/app/80\",state=";
    assert_eq!(metric(&rig, &format!("{states}\"healthy\"}}")).await, 2.0);
    let statuses = get_many(&rig, 40).await;
    assert_eq!(bad.count(), 3);
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 3);
    assert_eq!(metric(&rig, &format!("{states}\"unhealthy\"}}")).await, 1.0);
    let ejections = "postern_upstream_ejections_total{upstream=\"default/app/80\"}";
    assert_eq!(metric(&rig, ejections).await, 1.0);
}

#[tokio::test]
async fn only_the_statuses_that_the_policy_names_are_failures() {
    let (good, bad) = (Upstream::named("good").await, failing().await);
    let spec = json!({"passiveHealth": {"consecutiveFailures": 1, "statuses": [500]}});
    let rig = Rig::with(objects(&[good.port(), bad.port()], &spec)).await;
    get_many(&rig, 20).await;
    assert!(bad.count() > 5, "{}", bad.count());
}

#[tokio::test]
async fn an_endpoint_that_takes_no_connection_is_asked_no_more() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    let good = Upstream::named("good").await;
    let spec = json!({"passiveHealth": {"consecutiveFailures": 2, "ejectionSeconds": 3600}});
    let rig = Rig::with(objects(&[good.port(), port], &spec)).await;
    assert_eq!(get_many(&rig, 30).await, [200; 30]);
    let failures = "postern_upstream_connect_failures_total";
    assert_eq!(metric(&rig, failures).await, 2.0);
}

#[tokio::test]
async fn an_endpoint_comes_back_when_its_time_is_over() {
    let good = Upstream::named("good").await;
    let count = AtomicUsize::new(0);
    let healed = Upstream::answering(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(502, "Broken", &[], ""),
        _ => Reply::ok("healed"),
    })
    .await;
    let spec = json!({"passiveHealth": {"consecutiveFailures": 1, "ejectionSeconds": 1}});
    let rig = Arc::new(Rig::with(objects(&[good.port(), healed.port()], &spec)).await);
    get_many(&rig, 10).await;
    assert_eq!(healed.count(), 1);
    until("the endpoint's return", || async {
        get_many(&rig, 4).await;
        healed.count() > 1
    })
    .await;
}

#[tokio::test]
async fn where_too_many_are_out_all_are_used() {
    let all = [
        failing().await,
        failing().await,
        Upstream::named("good").await,
    ];
    let ports: Vec<_> = all.iter().map(Upstream::port).collect();
    let passive = json!({"consecutiveFailures": 1, "ejectionSeconds": 3600});
    let spec = json!({"passiveHealth": passive, "maxUnhealthyPercent": 50});
    let mut rig = Rig::with(objects(&ports, &spec)).await;
    get_many(&rig, 30).await;
    assert!(
        all.iter().all(|one| one.count() > 5),
        "two of three are more than half"
    );

    // With leave to do so, those that fail are left out, be they as many as they may.
    let spec = json!({"passiveHealth": passive, "maxUnhealthyPercent": 100});
    rig.replace(objects(&ports, &spec)).await;
    let before: Vec<_> = all.iter().map(Upstream::count).collect();
    get_many(&rig, 30).await;
    let more: Vec<_> = all
        .iter()
        .zip(before)
        .map(|(one, before)| one.count() - before)
        .collect();
    assert_eq!(more, [1, 1, 28]);
}

#[tokio::test]
async fn a_new_endpoint_starts_slowly() {
    let (old, new) = (Upstream::named("old").await, Upstream::named("new").await);
    let spec = json!({"slowStartSeconds": 3600});
    let mut rig = Rig::with(objects(&[old.port()], &spec)).await;
    rig.replace(objects(&[old.port(), new.port()], &spec)).await;
    get_many(&rig, 400).await;
    // A tenth of its turns, which are half of all.
    assert!((3..60).contains(&new.count()), "{}", new.count());
}
