//! Kubernetes objects in short form.

use serde_json::{Value, json};

/// Any object; without a namespace it is in `default`.
#[must_use]
pub fn object(api_version: &str, kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// The same object in a namespace.
#[must_use]
pub fn within_namespace(mut object: Value, namespace: &str) -> Value {
    object["metadata"]["namespace"] = namespace.into();
    object
}

/// The `GatewayClass` "postern".
#[must_use]
pub fn gateway_class() -> Value {
    let spec = json!({"controllerName": "postern.dev/gateway-controller"});
    object(
        "gateway.networking.k8s.io/v1",
        "GatewayClass",
        "postern",
        &spec,
    )
}

/// A `Gateway` of that class whose listeners take routes of every namespace.
#[must_use]
pub fn gateway(name: &str, listeners: &[Value]) -> Value {
    let listeners: Vec<_> = listeners
        .iter()
        .map(|l| {
            let mut l = l.clone();
            if l.get("allowedRoutes").is_none() {
                l["allowedRoutes"] = json!({"namespaces": {"from": "All"}});
            }
            l
        })
        .collect();
    let spec = json!({"gatewayClassName": "postern", "listeners": listeners});
    object("gateway.networking.k8s.io/v1", "Gateway", name, &spec)
}

/// An HTTP listener.
#[must_use]
pub fn http_listener(name: &str, port: u16) -> Value {
    json!({"name": name, "protocol": "HTTP", "port": port})
}

/// An HTTPS listener with the certificate of a Secret.
#[must_use]
pub fn https_listener(name: &str, port: u16, hostname: Option<&str>, secret: &str) -> Value {
    let mut listener = json!({"name": name, "protocol": "HTTPS", "port": port,
        "tls": {"mode": "Terminate", "certificateRefs": [{"name": secret}]}});
    if let Some(hostname) = hostname {
        listener["hostname"] = hostname.into();
    }
    listener
}

/// A Service whose only endpoint is that port of 127.0.0.1; its own port is 80.
#[must_use]
pub fn service(name: &str, port: u16) -> Vec<Value> {
    service_of(name, &[(port, true)], None)
}

/// A Service with these endpoints (port and readiness) and maybe an `appProtocol`.
#[must_use]
pub fn service_of(name: &str, endpoints: &[(u16, bool)], app_protocol: Option<&str>) -> Vec<Value> {
    let mut port = json!({"name": "http", "port": 80});
    if let Some(protocol) = app_protocol {
        port["appProtocol"] = protocol.into();
    }
    let mut all = vec![object(
        "v1",
        "Service",
        name,
        &json!({"selector": {"app": name}, "ports": [port]}),
    )];
    // Endpoints of one slice share their port, so each has a slice of its own.
    for (i, (port, ready)) in endpoints.iter().enumerate() {
        all.push(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("{name}-{i}"), "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready, "serving": ready}}]}));
    }
    all
}

/// A backend reference to port 80 of a Service.
#[must_use]
pub fn backend(service: &str) -> Value {
    json!({"name": service, "port": 80})
}

/// A rule for a path prefix.
#[must_use]
pub fn prefix(path: &str, service: &str) -> Value {
    json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": [backend(service)]})
}

/// An `HTTPRoute` of the Gateway "gateway" with rules of its own.
#[must_use]
pub fn route_with(name: &str, hosts: &[&str], rules: &Value) -> Value {
    let mut spec = json!({"parentRefs": [{"name": "gateway"}], "rules": rules});
    if !hosts.is_empty() {
        spec["hostnames"] = json!(hosts);
    }
    object("gateway.networking.k8s.io/v1", "HTTPRoute", name, &spec)
}

/// An `HTTPRoute` that sends everything for a host to a Service.
#[must_use]
pub fn route(name: &str, host: &str, service: &str) -> Value {
    route_with(name, &[host], &json!([prefix("/", service)]))
}

/// A `targetRefs` entry for an `HTTPRoute`.
#[must_use]
pub fn to_route(name: &str) -> Value {
    json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name})
}

/// A `targetRefs` entry for a core object, a Service for example.
#[must_use]
pub fn to_core(kind: &str, name: &str) -> Value {
    json!({"group": "", "kind": kind, "name": name})
}

/// A `targetRefs` entry for a Consumer.
#[must_use]
pub fn to_consumer(name: &str) -> Value {
    json!({"group": "postern.dev", "kind": "Consumer", "name": name})
}

/// An `AuthPlugin` with one block.
#[must_use]
pub fn plugin(name: &str, targets: &[Value], block: &str, config: &Value) -> Value {
    let spec = json!({"targetRefs": targets, block: config});
    object("postern.dev/v1alpha1", "AuthPlugin", name, &spec)
}

/// An `AuthPlugin` with Key Auth on an `HTTPRoute`.
#[must_use]
pub fn key_auth(name: &str, route: &str, config: &Value) -> Value {
    plugin(name, &[to_route(route)], "keyAuth", config)
}

/// A Consumer.
#[must_use]
pub fn consumer(name: &str, spec: &Value) -> Value {
    object("postern.dev/v1alpha1", "Consumer", name, spec)
}

/// A Secret of text entries.
#[must_use]
pub fn secret(name: &str, entries: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<_, _> = entries
        .iter()
        .map(|(k, v)| ((*k).to_owned(), json!(v)))
        .collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "stringData": data})
}

/// A Secret with a certificate and its key.
#[must_use]
pub fn tls_secret(name: &str, certificate: &crate::tls::Certificate) -> Value {
    let mut secret = secret(
        name,
        &[
            ("tls.crt", &certificate.chain),
            ("tls.key", &certificate.key),
        ],
    );
    secret["type"] = "kubernetes.io/tls".into();
    secret
}

/// A Credential for a key, and the Secret that holds it; `more` is merged into its spec.
#[must_use]
pub fn key_of(consumer: &str, name: &str, key: &str, more: &Value) -> Vec<Value> {
    let mut spec = json!({"consumerRef": {"name": consumer}, "keyAuth": {"secretRef": {"name": name, "key": "key"}}});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    vec![
        object("postern.dev/v1alpha1", "Credential", name, &spec),
        secret(name, &[("key", key)]),
    ]
}

/// A Consumer and one key of its own.
#[must_use]
pub fn consumer_with_key(name: &str, key: &str) -> Vec<Value> {
    let mut all = vec![consumer(name, &json!({}))];
    all.extend(key_of(name, &format!("{name}-key"), key, &json!({})));
    all
}
