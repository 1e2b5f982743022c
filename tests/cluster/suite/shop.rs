//! A protected application in a namespace of its own.

use std::net::IpAddr;
use std::time::Duration;

use crate::client;
use crate::fleet;
use crate::kubectl::{apply, kubectl};

/// Where proxies listen for requests to Ingresses.
pub(crate) const HTTP: u16 = 8000;
/// Within so long a change must be enforced on every proxy.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);
/// For what waits for pods to start.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The application `hello` behind an Ingress for NAME.test that asks for a key; alice has one, "NAME-alice".
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) name: &'static str,
    pub(crate) host: String,
    pub(crate) key: String,
    /// Addresses of both proxies.
    pub(crate) proxies: Vec<IpAddr>,
}

impl Shop {
    /// Opens it, and waits until both proxies let alice in and refuse others.
    pub(crate) async fn open(name: &'static str) -> Self {
        crate::installation::done().await;
        let proxies = fleet::proxies()
            .await
            .iter()
            .map(|proxy| proxy.address)
            .collect();
        let shop = Self {
            name,
            host: format!("{name}.test"),
            key: format!("{name}-alice"),
            proxies,
        };
        apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"
        ))
        .await;
        apply(&shop.application()).await;
        shop.add_key("alice", &shop.key).await;
        shop.expect(Some(&shop.key), 200, SOON).await;
        shop.expect(None, 401, SOON).await;
        shop
    }

    fn application(&self) -> String {
        let Self { name, host, .. } = self;
        format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: hello, namespace: {name}}}
spec:
  selector: {{matchLabels: {{app: hello}}}}
  template:
    metadata: {{labels: {{app: hello}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {{name: hello, image: localhost/hello:1, imagePullPolicy: Never}}
---
apiVersion: v1
kind: Service
metadata: {{name: hello, namespace: {name}}}
spec:
  selector: {{app: hello}}
  ports: [{{port: 80, targetPort: 8080}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: hello, namespace: {name}}}
spec:
  ingressClassName: postern
  rules:
  - host: {host}
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: hello, port: {{number: 80}}}}}}}}]}}
---
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {{name: key, namespace: {name}}}
spec:
  targetRefs: [{{group: networking.k8s.io, kind: Ingress, name: hello}}]
  keyAuth: {{}}
---
apiVersion: postern.dev/v1alpha1
kind: Consumer
metadata: {{name: alice, namespace: {name}}}
spec: {{groups: [gold]}}
"
        )
    }

    /// A further key of alice's, as a Secret and a Credential.
    pub(crate) async fn add_key(&self, credential: &str, key: &str) {
        self.add_key_with(credential, key, "").await;
    }

    /// As [`Self::add_key`], with further lines of the Credential's spec ("ttl: 2").
    pub(crate) async fn add_key_with(&self, credential: &str, key: &str, more: &str) {
        self.put_secret(credential, key).await;
        apply(&format!(
            "{{apiVersion: postern.dev/v1alpha1, kind: Credential, metadata: {{name: {credential}, namespace: {}}}, \
             spec: {{consumerRef: {{name: alice}}, keyAuth: {{secretRef: {{name: {credential}, key: key}}}}{}{more}}}}}",
            self.name,
            if more.is_empty() { "" } else { ", " }
        ))
        .await;
    }

    /// The Secret that holds a key.
    pub(crate) async fn put_secret(&self, name: &str, key: &str) {
        apply(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {}}}, stringData: {{key: {key}}}}}",
            self.name
        ))
        .await;
    }

    /// Waits until both proxies answer with a status, each within `limit`.
    pub(crate) async fn expect(&self, key: Option<&str>, status: u16, limit: Duration) {
        let waits = self
            .proxies
            .iter()
            .map(|proxy| client::until_status(*proxy, HTTP, &self.host, key, status, limit));
        futures::future::join_all(waits).await;
    }

    /// What each proxy answers now.
    pub(crate) async fn statuses(&self, key: Option<&str>) -> Vec<u16> {
        let mut statuses = Vec::new();
        for proxy in &self.proxies {
            let answer = client::ask(*proxy, HTTP, &self.host, "/", key).await;
            statuses.push(
                answer
                    .unwrap_or_else(|error| panic!("{proxy}: {error}"))
                    .status,
            );
        }
        statuses
    }

    /// Removes the namespace with all in it.
    pub(crate) async fn close(self) {
        kubectl(&format!("delete namespace {} --wait=false", self.name)).await;
    }
}
