//! The Admin API of a cluster, before an API server that reviews tokens and keeps versions as Kubernetes does.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use compile::{Kind, Object, ObjectRef};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Api, ClusterOptions, Held, router};
use crate::api::options::Address;

/// What the API server holds, and who may do what.
struct World {
    objects: BTreeMap<String, Value>,
    version: u64,
    /// User, verb, resource, namespace.
    allowed: Vec<(&'static str, &'static str, &'static str, &'static str)>,
    /// Somebody else writes this object between a read and the write that follows it, so many times.
    interference: u32,
    held: Held,
}

#[derive(Clone)]
struct Server(Arc<Mutex<World>>);

impl tower::Service<Request<kube::client::Body>> for Server {
    type Response = Response<kube::client::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let world = Arc::clone(&self.0);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let bytes = axum::body::to_bytes(Body::new(body), usize::MAX).await;
            let body = serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default();
            let (status, answer) = world.lock().answer(&parts.method, parts.uri.path(), body);
            let text = answer.to_string().into_bytes();
            Ok(Response::builder()
                .status(status)
                .body(kube::client::Body::from(text))
                .unwrap())
        })
    }
}

impl World {
    fn answer(&mut self, method: &Method, path: &str, body: Value) -> (StatusCode, Value) {
        if path.ends_with("/tokenreviews") {
            let user = body["spec"]["token"]
                .as_str()
                .and_then(|token| token.strip_prefix("token-of-"));
            let status = match user {
                Some(user) => json!({"authenticated": true, "user": {"username": user}}),
                None => json!({"authenticated": false}),
            };
            return (
                StatusCode::CREATED,
                json!({"metadata": {}, "spec": {}, "status": status}),
            );
        }
        if path.ends_with("/subjectaccessreviews") {
            let spec = &body["spec"];
            let asked = &spec["resourceAttributes"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let asked = [
                &spec["user"],
                &asked["verb"],
                &asked["resource"],
                &asked["namespace"],
            ]
            .map(text);
            let allowed = self
                .allowed
                .iter()
                .any(|(user, verb, resource, space)| asked == [*user, *verb, *resource, *space]);
            let status = json!({"allowed": allowed});
            return (
                StatusCode::CREATED,
                json!({"metadata": {}, "spec": {}, "status": status}),
            );
        }
        self.object(method, path, body)
    }

    fn object(&mut self, method: &Method, path: &str, mut body: Value) -> (StatusCode, Value) {
        let refused = |code: StatusCode, reason: &str| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": reason, "reason": reason, "code": code.as_u16()});
            (code, status)
        };
        match *method {
            Method::GET => match self.objects.get(path) {
                Some(found) => (StatusCode::OK, found.clone()),
                None => refused(StatusCode::NOT_FOUND, "NotFound"),
            },
            Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                let path = format!("{path}/{name}");
                if self.objects.contains_key(&path) {
                    return refused(StatusCode::CONFLICT, "AlreadyExists");
                }
                body["metadata"]["uid"] = json!(uuid::Uuid::new_v4().to_string());
                body["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
                (StatusCode::CREATED, self.put(&path, body))
            }
            Method::PUT => {
                let Some(current) = self.objects.get(path).cloned() else {
                    return refused(StatusCode::NOT_FOUND, "NotFound");
                };
                if self.interference > 0 {
                    self.interference -= 1;
                    let mut other = current;
                    let group = format!("other-{}", self.version);
                    other["spec"]["groups"]
                        .as_array_mut()
                        .unwrap()
                        .push(json!(group));
                    self.put(path, other);
                    return refused(StatusCode::CONFLICT, "Conflict");
                }
                if body["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"] {
                    return refused(StatusCode::CONFLICT, "Conflict");
                }
                (StatusCode::OK, self.put(path, body))
            }
            Method::DELETE => {
                if let Some(gone) = self.objects.remove(path) {
                    let object = Object::from_json(gone).unwrap();
                    let mut compiler = self.held.write();
                    compiler.delete(object.reference());
                    compiler.update();
                    drop(compiler);
                    self.held.compiled();
                }
                (
                    StatusCode::OK,
                    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}),
                )
            }
            _ => refused(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    /// Keeps it, and lets the watch bring it.
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object["metadata"]["generation"] = json!(self.version);
        self.objects.insert(path.to_owned(), object.clone());
        let mut compiler = self.held.write();
        compiler.apply(Object::from_json(object.clone()).unwrap());
        compiler.update();
        drop(compiler);
        self.held.compiled();
        object
    }
}

const EVERYTHING: [&str; 5] = ["get", "list", "create", "update", "delete"];

struct Cluster {
    world: Arc<Mutex<World>>,
    api: Arc<Api>,
}

impl Cluster {
    /// "root" may do everything in the namespace "shop", with Secrets too; "reader" may read there, but no Secrets.
    fn new() -> Self {
        let mut allowed = Vec::new();
        for verb in EVERYTHING {
            for resource in ["consumers", "credentials", "authplugins", "secrets"] {
                allowed.push(("root", verb, resource, "shop"));
                if matches!(verb, "get" | "list") && resource != "secrets" {
                    allowed.push(("reader", verb, resource, "shop"));
                }
            }
        }
        let settings = compile::Settings {
            standalone: false,
            ..crate::files::settings()
        };
        let held = Held::new(settings);
        let world = Arc::new(Mutex::new(World {
            objects: BTreeMap::new(),
            version: 0,
            allowed,
            interference: 0,
            held: held.clone(),
        }));
        let options = ClusterOptions {
            admin_address: Address::Off,
            admin_hosts: Vec::new(),
            admin_namespace: "shop".to_owned(),
            admin_tls_secret: None,
        };
        let client = kube::Client::new(Server(Arc::clone(&world)), "default");
        let api = Arc::new(Api::of_cluster(&options, held, client, Vec::new(), None));
        Self { world, api }
    }

    async fn call(&self, user: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let token = format!("Bearer {user}");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", token)
            .header("content-type", "application/json")
            .body(Body::from(if body.is_null() {
                String::new()
            } else {
                body.to_string()
            }))
            .unwrap();
        let response = router(Arc::clone(&self.api))
            .oneshot(request)
            .await
            .unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn root(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call("token-of-root", method, path, body).await;
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }
}

#[tokio::test]
async fn callers_may_do_what_the_cluster_lets_them() {
    let cluster = Cluster::new();
    cluster
        .root("POST", "/consumers", json!({"username": "alice"}))
        .await;
    for (caller, method, path, status) in [
        ("nonsense", "GET", "/consumers?namespace=shop", 401),
        ("nonsense", "GET", "/", 401),
        ("token-of-reader", "GET", "/consumers?namespace=shop", 200),
        // Without a namespace it is all of them.
        ("token-of-reader", "GET", "/consumers", 403),
        ("token-of-reader", "GET", "/consumers/alice", 200),
        ("token-of-reader", "GET", "/consumers?namespace=other", 403),
        ("token-of-reader", "POST", "/consumers", 403),
        ("token-of-reader", "PATCH", "/consumers/alice", 403),
        ("token-of-reader", "DELETE", "/consumers/alice", 403),
        ("token-of-reader", "POST", "/consumers/alice/key-auth", 403),
        ("token-of-reader", "POST", "/consumers/alice/acls", 403),
        // Whether there is a consumer is not told to who may not list them.
        ("token-of-nobody", "GET", "/consumers/alice", 403),
        ("token-of-nobody", "GET", "/consumers/bob", 403),
        (
            "token-of-reader",
            "GET",
            "/consumers/bob?namespace=shop",
            404,
        ),
    ] {
        let body = match (method, path) {
            ("GET" | "DELETE", _) => Value::Null,
            (_, path) if path.ends_with("acls") => json!({"group": "gold"}),
            (_, path) if path.ends_with("key-auth") => json!({}),
            _ => json!({"username": "bob"}),
        };
        let (found, answer) = cluster.call(caller, method, path, body).await;
        assert_eq!(found, status, "{caller} {method} {path}: {answer}");
    }
}

#[tokio::test]
async fn a_key_is_shown_once_and_then_to_who_may_read_its_secret() {
    let cluster = Cluster::new();
    cluster
        .root("POST", "/consumers", json!({"username": "alice"}))
        .await;
    let made = cluster
        .root("POST", "/consumers/alice/key-auth", json!({}))
        .await;
    let key = made["key"].as_str().unwrap().to_owned();
    let id = made["id"].as_str().unwrap().to_owned();
    let path = format!("/key-auths/{id}?namespace=shop");
    assert_eq!(
        cluster.root("GET", &path, Value::Null).await["key"],
        json!(key)
    );
    let (status, shown) = cluster
        .call("token-of-reader", "GET", &path, Value::Null)
        .await;
    assert_eq!((status, &shown["key"]), (200, &Value::Null));
    let list = "/key-auths?namespace=shop";
    let (_, shown) = cluster
        .call("token-of-reader", "GET", list, Value::Null)
        .await;
    assert_eq!(shown["data"][0]["key"], Value::Null);
    assert_eq!(
        cluster.root("GET", list, Value::Null).await["data"][0]["key"],
        json!(key)
    );
    // The Credential owns its Secret, so that it goes with it.
    let world = cluster.world.lock();
    let secret = world
        .objects
        .iter()
        .find(|(path, _)| path.contains("/secrets/"));
    let (_, secret) = secret.unwrap();
    assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], json!(id));
}

#[tokio::test]
async fn what_others_write_meanwhile_is_kept() {
    let cluster = Cluster::new();
    let body = json!({"username": "alice"});
    cluster.root("POST", "/consumers", body).await;
    cluster
        .root("POST", "/consumers/alice/acls", json!({"group": "first"}))
        .await;
    cluster.world.lock().interference = 3;
    cluster
        .root("POST", "/consumers/alice/acls", json!({"group": "mine"}))
        .await;
    let reference = ObjectRef::new(Kind::Consumer, "shop", "alice");
    let groups = {
        let compiler = cluster.api.held.read();
        compiler
            .object(&reference)
            .unwrap()
            .consumer()
            .unwrap()
            .groups
            .clone()
    };
    assert_eq!(groups.len(), 5, "{groups:?}");
    assert_eq!((groups[0].as_str(), groups[4].as_str()), ("first", "mine"));
    // One that is always overtaken is told so.
    cluster.world.lock().interference = 1000;
    let (status, _) = cluster
        .call(
            "token-of-root",
            "POST",
            "/consumers/alice/acls",
            json!({"group": "late"}),
        )
        .await;
    assert_eq!(status, 409);
}
