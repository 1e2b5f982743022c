//! `GRPCRoute`: methods are matched, and what is spoken with the upstream is HTTP/2.

use harness::Rig;
use harness::h2::{Client, GrpcUpstream};
use harness::objects::{backend, consumer_with_key, object, plugin, service};
use serde_json::{Value, json};

fn grpc_route(name: &str, host: &str, rules: &Value) -> Value {
    let spec = json!({"parentRefs": [{"name": "gateway"}], "hostnames": [host], "rules": rules});
    object("gateway.networking.k8s.io/v1", "GRPCRoute", name, &spec)
}

#[tokio::test]
async fn methods_and_headers_are_matched_and_plugins_protect() {
    let app = GrpcUpstream::start().await;
    let other = GrpcUpstream::start().await;
    let mut objects = service("app", app.port());
    objects.extend(service("other", other.port()));
    objects.push(grpc_route("calls", "grpc.test", &json!([
        {"name": "open", "matches": [{"method": {"service": "shop.Orders", "method": "List"}}],
            "backendRefs": [backend("app")]},
        {"name": "closed", "matches": [{"method": {"service": "shop.Admin"}}], "backendRefs": [backend("app")]},
        {"matches": [{"headers": [{"name": "x-to", "value": "other"}]}], "backendRefs": [backend("other")],
            "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-set", "value": "1"}]}}]},
    ])));
    let target = json!({"group": "gateway.networking.k8s.io", "kind": "GRPCRoute", "name": "calls", "sectionName": "closed"});
    objects.push(plugin("key", &[target], "keyAuth", &json!({})));
    objects.extend(consumer_with_key("alice", "secret-1"));
    let rig = Rig::with(objects).await;
    let mut client = Client::open(rig.port).await;
    let call = async |client: &mut Client, path: &str, headers: &[(&str, &str)]| {
        let mut all = vec![("content-type", "application/grpc"), ("te", "trailers")];
        all.extend_from_slice(headers);
        let url = format!("http://grpc.test{path}");
        let answer = client.send("POST", &url, &all, b"payload").await;
        let status = answer
            .trailer("grpc-status")
            .or_else(|| answer.header("grpc-status"));
        status.unwrap_or("none").to_owned()
    };
    for (path, headers, want) in [
        ("/shop.Orders/List", &[][..], "0"),
        ("/shop.Orders/Delete", &[], "12"),
        ("/shop.Admin/Delete", &[], "16"),
        ("/shop.Admin/Delete", &[("apikey", "secret-1")], "0"),
        ("/any.Thing/Else", &[("x-to", "other")], "0"),
    ] {
        assert_eq!(
            call(&mut client, path, headers).await,
            want,
            "{path} {headers:?}"
        );
    }
    assert_eq!(app.seen().len(), 2);
    assert_eq!(other.seen()[0].headers["x-set"], "1");
    assert_eq!(other.seen()[0].body, b"payload");
}
