//! Requests of one client go to one endpoint, where a policy or an Ingress asks for it.

use std::collections::BTreeSet;

use harness::objects::{object, route, service_of};
use harness::{Answer, Rig, Upstream};
use serde_json::{Value, json};

async fn upstreams() -> [Upstream; 4] {
    [
        Upstream::named("a").await,
        Upstream::named("b").await,
        Upstream::named("c").await,
        Upstream::named("d").await,
    ]
}

fn app(upstreams: &[Upstream]) -> Vec<Value> {
    let endpoints: Vec<_> = upstreams.iter().map(|one| (one.port(), true)).collect();
    service_of("app", &endpoints, None)
}

fn hashed(upstreams: &[Upstream], hash: &Value) -> Vec<Value> {
    let spec = json!({"targetRefs": [{"name": "app"}], "consistentHash": hash});
    let policy = object("postern.dev/v1alpha1", "UpstreamPolicy", "app", &spec);
    let mut objects = app(upstreams);
    objects.extend([route("app", "app.test", "app"), policy]);
    objects
}

/// Who answered.
fn who(answer: &Answer) -> String {
    assert_eq!(answer.status, 200);
    answer.header("x-upstream").unwrap().to_owned()
}

async fn asked(rig: &Rig, header: (&str, &str)) -> String {
    who(&rig.get_with("app.test", "/", &[header]).await)
}

#[tokio::test]
async fn a_header_decides_and_only_keys_of_a_lost_endpoint_move() {
    let all = upstreams().await;
    let hash = json!({"header": "x-tenant"});
    let mut rig = Rig::with(hashed(&all, &hash)).await;
    let tenants: Vec<_> = (0..40).map(|number| format!("tenant-{number}")).collect();
    let mut before = Vec::new();
    for tenant in &tenants {
        let first = asked(&rig, ("X-Tenant", tenant)).await;
        assert_eq!(asked(&rig, ("X-Tenant", tenant)).await, first, "{tenant}");
        before.push(first);
    }
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 4);
    rig.replace(hashed(&all[..3], &hash)).await;
    for (tenant, before) in tenants.iter().zip(before) {
        let after = asked(&rig, ("X-Tenant", tenant)).await;
        assert!(
            after == before || before == "d",
            "{tenant} moved from {before} to {after}"
        );
    }
    // Without the header there is nothing to tell a request by.
    let mut seen = BTreeSet::new();
    for _ in 0..12 {
        seen.insert(who(&rig.get("app.test", "/").await));
    }
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn the_address_behind_a_trusted_proxy_decides() {
    let all = upstreams().await;
    let hash = json!({"clientAddress": {}});
    let rig = Rig::build().objects(hashed(&all, &hash));
    let rig = rig.flag("--trusted-proxies", "127.0.0.1").start().await;
    let mut seen = BTreeSet::new();
    for number in 0..30 {
        let address = format!("192.0.2.{number}");
        let first = asked(&rig, ("X-Forwarded-For", &address)).await;
        assert_eq!(asked(&rig, ("X-Forwarded-For", &address)).await, first);
        seen.insert(first);
    }
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn a_cookie_is_given_and_keeps_its_endpoint() {
    let all = upstreams().await;
    let hash = json!({"cookie": {"maxAgeSeconds": 60}});
    let rig = Rig::with(hashed(&all, &hash)).await;
    let mut seen = BTreeSet::new();
    for _ in 0..30 {
        let first = rig.get("app.test", "/").await;
        let set = first.header("set-cookie").unwrap();
        let (cookie, attributes) = set.split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=60");
        assert!(
            cookie.starts_with("postern-affinity=") && cookie.len() == 49,
            "{cookie}"
        );
        for _ in 0..3 {
            let next = rig.get_with("app.test", "/", &[("Cookie", cookie)]).await;
            assert_eq!((who(&next), next.header("set-cookie")), (who(&first), None));
        }
        seen.insert(who(&first));
    }
    assert_eq!(seen.len(), 4);
}
