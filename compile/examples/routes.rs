//! How long so many HTTPRoutes take to compile, all of them and after one has changed: `cargo run --release -p postern-compile
//! --example routes -- 10000`.

use std::time::Instant;

use compile::{Compiler, Object, ServicePlace, Settings};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: usize = std::env::args()
        .nth(1)
        .map_or(Ok(10_000), |text| text.parse())?;
    let mut compiler = Compiler::new(Settings {
        gateway_controller: "postern.dev/gateway-controller".to_owned(),
        ingress_controller: "postern.dev/ingress-controller".to_owned(),
        standalone: true,
        ingress_ports: (8000, 8443),
        namespace: "default".to_owned(),
        gateway_services: ServicePlace::default(),
    });
    for object in [
        object(
            "gateway.networking.k8s.io/v1",
            "GatewayClass",
            "postern",
            &json!({"controllerName": "postern.dev/gateway-controller"}),
        ),
        object(
            "gateway.networking.k8s.io/v1",
            "Gateway",
            "gateway",
            &json!({"gatewayClassName": "postern", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}),
        ),
        object("v1", "Service", "up", &json!({"ports": [{"port": 80}]})),
    ] {
        compiler.apply(Object::from_json(object)?);
    }
    for number in 0..count {
        compiler.apply(Object::from_json(route(number, "/"))?);
    }
    let (resources, all) = timed(&mut compiler);
    println!("{count} routes: {all:.1} ms, {resources} resources");
    for attempt in 0..3 {
        compiler.apply(Object::from_json(route(count / 2, &format!("/{attempt}")))?);
        let (resources, one) = timed(&mut compiler);
        println!("one of them changed: {one:.1} ms, {resources} to send");
    }
    Ok(())
}

/// How many resources changed, and how many milliseconds it took.
fn timed(compiler: &mut Compiler) -> (usize, f64) {
    let started = Instant::now();
    let update = compiler.update();
    (
        update.diff.upserts.len(),
        started.elapsed().as_secs_f64() * 1000.0,
    )
}

fn object(api: &str, kind: &str, name: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": "default"});
    json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec})
}

fn route(number: usize, path: &str) -> Value {
    let rule = json!({"matches": [{"path": {"value": format!("/p{number}{path}")}}], "backendRefs": [{"name": "up", "port": 80}]});
    object(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        &format!("r{number}"),
        &json!({"parentRefs": [{"name": "gateway"}], "hostnames": [format!("h{}.test", number / 10)], "rules": [rule]}),
    )
}
