//! The Admin API: its document, its files, who may call, and what is never lost.

mod document;
mod files;
mod pages;
mod tokens;
mod writers;

use harness::Rig;
use harness::message::Answer;
use harness::objects::{consumer, route};
use harness::ports::Port;
use harness::raw::{Connection, request};
use serde_json::{Value, json};

/// A gateway with an Admin API.
struct Admin {
    rig: Rig,
    port: u16,
    _port: Port,
}

impl Admin {
    /// With a route "orders", a consumer "carol" in the user's own file, and these objects.
    async fn with(objects: impl IntoIterator<Item = Value>) -> Self {
        let port = Port::reserve();
        let address = format!("127.0.0.1:{}", port.number());
        let mut all = vec![
            route("orders", "orders.test", "echo"),
            consumer("carol", &json!({"customId": "c-1"})),
        ];
        all.extend(objects);
        let rig = Rig::build()
            .objects(all)
            .flag("--admin-address", &address)
            .start()
            .await;
        Self {
            rig,
            port: port.number(),
            _port: port,
        }
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let headers = [("Content-Type", "application/json")];
        self.send(method, path, &headers, text.as_bytes()).await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let host = format!("127.0.0.1:{}", self.port);
        Connection::open(self.port)
            .await
            .ask(request(method, &host, path, headers, body))
            .await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &Value::Null).await
    }

    /// A call that must succeed; its JSON.
    async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.call(method, path, &body).await;
        assert!(
            (200..300).contains(&answer.status),
            "{method} {path}: {} {}",
            answer.status,
            answer.text()
        );
        if answer.body.is_empty() {
            Value::Null
        } else {
            answer.json()
        }
    }
}
