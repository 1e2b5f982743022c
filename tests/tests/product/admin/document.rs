//! `docs/admin-api.md` says what happens, and the OpenAPI document what can be called.

use serde_json::{Value, json};

use super::Admin;
use crate::documents::{Shell, document};

#[tokio::test]
async fn the_document_tells_the_truth() {
    let admin = Admin::with([]).await;
    let key = rcgen::KeyPair::generate().expect("a key");
    // The route of the document is for one host.
    let mut shell = Shell::new(
        [("orders.test:80", admin.rig.port)],
        [
            ("ADMIN", format!("http://127.0.0.1:{}", admin.port)),
            ("GATEWAY", "http://orders.test".to_owned()),
            ("OLD_TOKEN", "x".repeat(32)),
        ],
    );
    shell.file("public.pem", &key.public_key_pem());
    let count = shell.run(&document("admin-api.md")).await;
    assert!(count > 20, "the document has {count} calls");
}

#[tokio::test]
async fn every_path_of_the_openapi_document_is_there_and_no_other() {
    let admin = Admin::with([]).await;
    let document = admin.done("GET", "/openapi.json", Value::Null).await;
    assert_eq!(document["openapi"], "3.1.0");
    let paths: Vec<String> = document["paths"]
        .as_object()
        .expect("paths")
        .keys()
        .cloned()
        .collect();
    let listed = admin.done("GET", "/endpoints", Value::Null).await;
    assert_eq!(listed["data"], json!(paths));
    for (path, item) in document["paths"].as_object().expect("paths") {
        let target: String = path
            .split('/')
            .map(|part| {
                if part.starts_with('{') {
                    "nobody"
                } else {
                    part
                }
            })
            .collect::<Vec<_>>()
            .join("/");
        for method in ["get", "post", "put", "patch", "delete"] {
            let answer = admin
                .call(&method.to_uppercase(), &target, &json!({}))
                .await;
            let known = item.get(method).is_some();
            let refused = answer.status == 405 && answer.json()["code"].is_null();
            assert_eq!(known, !refused, "{method} {path}: {}", answer.text());
        }
    }
    assert_eq!(admin.get("/nothing").await.status, 404);
}
