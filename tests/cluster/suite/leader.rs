//! Two controllers: both serve proxies, one writes.

use std::time::Duration;

use crate::fleet;
use crate::kubectl::{SYSTEM, apply, get, kubectl, wait_for_condition};
use crate::shop::{AT_ONCE, SOON, Shop};

async fn holder() -> String {
    let lease = get(&format!("lease postern-controller --namespace={SYSTEM}")).await;
    lease["spec"]["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn another_controller_takes_over_when_the_leader_is_gone() {
    let shop = Shop::open("leader").await;
    fleet::scale_controllers(2).await;
    let leader = holder().await;
    let pods = fleet::pods("controller").await;
    assert!(
        pods.iter().any(|pod| leader.starts_with(&pod.name)),
        "the holder {leader:?} is one of {pods:?}"
    );

    let gone = pods
        .iter()
        .find(|pod| leader.starts_with(&pod.name))
        .unwrap();
    kubectl(&format!(
        "delete pod {} --namespace={SYSTEM} --grace-period=0 --force",
        gone.name
    ))
    .await;
    // The other one serves proxies already.
    shop.add_key("during", "leader-during").await;
    shop.expect(Some("leader-during"), 200, SOON).await;

    let mut next = holder().await;
    for _ in 0..120 {
        if next != leader && !next.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        next = holder().await;
    }
    assert_ne!(next, leader, "nobody took the lease over");
    wait_for_condition("credential/during --namespace=leader", "Programmed", "True").await;

    // Both controllers, and both proxies, are as before.
    fleet::scale_controllers(2).await;
    apply("{apiVersion: postern.dev/v1alpha1, kind: Consumer, metadata: {name: bob, namespace: leader}, spec: {}}").await;
    wait_for_condition("consumer/bob --namespace=leader", "Accepted", "True").await;
    shop.add_key("after", "leader-after").await;
    shop.expect(Some("leader-after"), 200, AT_ONCE).await;
    fleet::scale_controllers(1).await;
    shop.expect(Some(&shop.key), 200, SOON).await;
    shop.close().await;
}
