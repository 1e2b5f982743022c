//! Applications in a namespace of their own, open to everybody, for Ingresses to lead to.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::client::{self, Answer, Request};
use crate::fleet;
use crate::kubectl::{apply, get, kubectl};
use crate::shop::{HTTP, SOON};

/// Where proxies listen for requests to Ingresses over TLS.
pub(crate) const HTTPS: u16 = 8443;
/// A host of no Ingress.
const NOBODY: &str = "nobody.test";

/// A namespace with applications.
#[derive(Debug)]
pub(crate) struct Stage {
    name: &'static str,
    /// Addresses of both proxies.
    pub(crate) proxies: Vec<IpAddr>,
}

impl Stage {
    /// Opens it, with a pod for each name behind a Service, both of that name, and waits until all are ready.
    pub(crate) async fn open(name: &'static str, applications: &[&str]) -> Self {
        let stage = Self::empty(name).await;
        let mut manifests = String::new();
        for application in applications {
            let _ = write!(
                manifests,
                "
---
apiVersion: v1
kind: Pod
metadata: {{name: {application}, namespace: {name}, labels: {{app: {application}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: hello, image: localhost/hello:1, imagePullPolicy: Never}}
{}",
                stage.service(application)
            );
        }
        apply(&manifests).await;
        kubectl(&format!(
            "wait --for=condition=Ready pod --all --namespace={name} --timeout=60s"
        ))
        .await;
        stage
    }

    /// Opens it with one Deployment of one pod behind a Service, both of that name.
    pub(crate) async fn with_deployment(name: &'static str, application: &str) -> Self {
        let stage = Self::empty(name).await;
        apply(&format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {application}, namespace: {name}}}
spec:
  selector: {{matchLabels: {{app: {application}}}}}
  template:
    metadata: {{labels: {{app: {application}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {{name: hello, image: localhost/hello:1, imagePullPolicy: Never}}
{}",
            stage.service(application)
        ))
        .await;
        stage.scale(application, 1).await;
        stage
    }

    async fn empty(name: &'static str) -> Self {
        crate::installation::done().await;
        let proxies = fleet::proxies().await;
        apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"
        ))
        .await;
        let stage = Self {
            name,
            proxies: proxies.iter().map(|proxy| proxy.address).collect(),
        };
        // What a test has left that failed would answer in this one, too.
        stage.clear().await;
        stage
    }

    /// Nobody listens where its first port leads to: whoever picks a port without looking is found out.
    fn service(&self, application: &str) -> String {
        format!(
            "
---
apiVersion: v1
kind: Service
metadata: {{name: {application}, namespace: {}}}
spec:
  selector: {{app: {application}}}
  ports:
  - {{name: nothing, port: 80, targetPort: 9}}
  - {{name: http, port: 8080}}
",
            self.name
        )
    }

    /// Sets the number of a Deployment's pods, and waits until all are ready.
    pub(crate) async fn scale(&self, application: &str, replicas: usize) {
        let deployment = format!("deployment {application} --namespace={}", self.name);
        kubectl(&format!("scale {deployment} --replicas={replicas}")).await;
        kubectl(&format!("rollout status {deployment} --timeout=60s")).await;
    }

    /// A Secret with a certificate.
    pub(crate) async fn secret(&self, name: &str, certificate: &harness::tls::Certificate) {
        let data = serde_json::json!({"tls.crt": certificate.chain, "tls.key": certificate.key});
        apply(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {}}}, type: kubernetes.io/tls, stringData: {data}}}",
            self.name
        ))
        .await;
    }

    /// An Ingress with this spec.
    pub(crate) async fn ingress(&self, name: &str, spec: &str) {
        apply(&format!(
            "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: {}, labels: {{stage: open}}}}
spec:
{spec}",
            self.name
        ))
        .await;
    }

    /// The addresses that an Ingress' status shows now.
    pub(crate) async fn addresses(&self, ingress: &str) -> Vec<IpAddr> {
        let object = get(&format!("ingress {ingress} --namespace={}", self.name)).await;
        let shown = object["status"]["loadBalancer"]["ingress"].as_array();
        shown
            .into_iter()
            .flatten()
            .map(|shown| shown["ip"].as_str().unwrap().parse().unwrap())
            .collect()
    }

    /// Waits until an Ingress' status shows an address, and returns that.
    ///
    /// # Panics
    /// When it does not become so in time.
    pub(crate) async fn address(&self, ingress: &str) -> IpAddr {
        let started = Instant::now();
        loop {
            if let Some(address) = self.addresses(ingress).await.first() {
                return *address;
            }
            assert!(
                started.elapsed() < SOON,
                "the status of {}/{ingress} shows no address",
                self.name
            );
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Waits until a request at each proxy is answered by a pod.
    pub(crate) async fn until_served(&self, host: &str, path: &str, pod: &str) {
        for proxy in &self.proxies {
            until(&format!("{pod} to answer {host}{path}"), async || {
                let answer = client::send(*proxy, HTTP, Request::get(host, path)).await;
                let served = answer.as_ref().is_ok_and(|answer| is_of(answer, pod));
                served.then_some(()).ok_or(answer)
            })
            .await;
        }
    }

    /// Removes its Ingresses, and with the namespace all the rest.
    pub(crate) async fn close(self) {
        self.clear().await;
        kubectl(&format!("delete namespace {} --wait=false", self.name)).await;
    }

    /// Removes the Ingresses of all stages, and waits until no proxy serves a default backend of theirs any more.
    async fn clear(&self) {
        kubectl("delete ingress --all-namespaces --selector=stage=open").await;
        for proxy in &self.proxies {
            client::until_status(*proxy, HTTP, NOBODY, None, 404, SOON).await;
        }
    }
}

/// Whether a pod has answered, and well.
pub(crate) fn is_of(answer: &Answer, pod: &str) -> bool {
    answer.status == 200 && answer.header("hello-pod") == Some(pod)
}

/// Asks until it is well, and returns what then is known.
///
/// # Panics
/// When it does not become so in time; the message has what was the case instead.
pub(crate) async fn until<T, E: std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let started = Instant::now();
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(instead) => assert!(
                started.elapsed() < SOON,
                "waited {SOON:?} in vain for {what}; instead: {instead:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
