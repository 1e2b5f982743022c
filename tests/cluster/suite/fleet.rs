//! The proxies and controllers that run, and what can befall them.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use crate::kubectl::{self, SYSTEM, kubectl};

/// A pod that runs.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) container: String,
    pub(crate) restarts: u64,
    pub(crate) ready: bool,
}

/// The pods of a component that are not about to end.
pub(crate) async fn pods(component: &str) -> Vec<Pod> {
    let list = kubectl::get(&format!(
        "pods --namespace={SYSTEM} --selector=app.kubernetes.io/component={component}"
    ))
    .await;
    let items = list["items"].as_array().expect("a list has items");
    items
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter_map(pod)
        .collect()
}

fn pod(pod: &Value) -> Option<Pod> {
    let container = &pod["status"]["containerStatuses"][0];
    Some(Pod {
        name: pod["metadata"]["name"].as_str()?.to_owned(),
        address: pod["status"]["podIP"].as_str()?.parse().ok()?,
        container: container["containerID"]
            .as_str()?
            .strip_prefix("containerd://")?
            .to_owned(),
        restarts: container["restartCount"].as_u64()?,
        ready: container["ready"].as_bool()?,
    })
}

/// Both proxies.
///
/// # Panics
/// When there are not two that are ready.
pub(crate) async fn proxies() -> Vec<Pod> {
    for _ in 0..120 {
        let pods = pods("proxy").await;
        if pods.len() == 2 && pods.iter().all(|pod| pod.ready) {
            return pods;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!(
        "there are not two proxies that are ready: {:?}",
        pods("proxy").await
    );
}

/// Sets the number of controllers, and waits until it is so.
pub(crate) async fn scale_controllers(replicas: usize) {
    kubectl(&format!(
        "scale deployment/postern-controller --namespace={SYSTEM} --replicas={replicas}"
    ))
    .await;
    for _ in 0..240 {
        let list = kubectl::get(&format!(
            "pods --namespace={SYSTEM} --selector=app.kubernetes.io/component=controller"
        ))
        .await;
        let items = list["items"].as_array().expect("a list has items");
        let ready = items.iter().filter_map(pod).filter(|pod| pod.ready).count();
        if items.len() == replicas && ready == replicas {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!(
        "there are not {replicas} controllers: {:?}",
        pods("controller").await
    );
}

/// Ends the process of a pod's container at once, as a crash would; the kubelet starts another in the same pod.
pub(crate) async fn crash(pod: &Pod) {
    let output = kubectl::run(
        "ctr",
        &format!("tasks kill --signal=SIGKILL {}", pod.container),
        "",
    )
    .await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Waits until a pod's container was started again.
pub(crate) async fn restarted(component: &str, before: &Pod) -> Pod {
    for _ in 0..240 {
        let now = pods(component)
            .await
            .into_iter()
            .find(|pod| pod.name == before.name);
        if let Some(now) = now
            && now.restarts > before.restarts
            && now.ready
        {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!(
        "{} was not started again: {:?}",
        before.name,
        pods(component).await
    );
}

/// The address of a Service.
pub(crate) async fn service(name: &str) -> IpAddr {
    let service = kubectl::get(&format!("service {name} --namespace={SYSTEM}")).await;
    service["spec"]["clusterIP"]
        .as_str()
        .expect("a Service has an address")
        .parse()
        .expect("an IP address")
}
