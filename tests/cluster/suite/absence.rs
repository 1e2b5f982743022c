//! The control plane is away, and proxies go on.

use std::time::Duration;

use crate::client;
use crate::fleet;
use crate::shop::{AT_ONCE, SOON, Shop};

#[tokio::test]
async fn proxies_serve_without_the_controller_also_after_a_restart() {
    let shop = Shop::open("absence").await;
    shop.add_key_with("short", "absence-short", "ttl: 45").await;
    shop.expect(Some("absence-short"), 200, AT_ONCE).await;
    fleet::scale_controllers(0).await;

    // What is declared now, nobody can know yet.
    shop.add_key("late", "absence-late").await;
    assert_eq!(shop.statuses(Some(&shop.key)).await, [200, 200]);
    assert_eq!(shop.statuses(None).await, [401, 401]);

    let crashed = &fleet::proxies().await[0];
    fleet::crash(crashed).await;
    let again = fleet::restarted("proxy", crashed).await;
    assert_eq!(again.address, crashed.address, "it is the same pod");
    client::until_status(
        again.address,
        crate::shop::HTTP,
        &shop.host,
        Some(&shop.key),
        200,
        SOON,
    )
    .await;
    assert_eq!(shop.statuses(Some(&shop.key)).await, [200, 200]);
    assert_eq!(shop.statuses(None).await, [401, 401]);
    assert_eq!(shop.statuses(Some("absence-late")).await, [401, 401]);
    let ready = client::ask(again.address, 8100, "proxy", "/readyz", None)
        .await
        .unwrap();
    assert_eq!(ready.status, 200, "{}", ready.text);

    // Time goes on without the controller, too.
    shop.expect(Some("absence-short"), 401, Duration::from_secs(60))
        .await;

    fleet::scale_controllers(1).await;
    shop.expect(Some("absence-late"), 200, SOON).await;
    assert_eq!(shop.statuses(Some(&shop.key)).await, [200, 200]);
    shop.close().await;
}

#[tokio::test]
async fn a_controller_that_crashes_is_back_and_loses_nothing() {
    let shop = Shop::open("crash").await;
    let controller = &fleet::pods("controller").await[0];
    fleet::crash(controller).await;
    shop.add_key("meanwhile", "crash-meanwhile").await;
    assert_eq!(shop.statuses(Some(&shop.key)).await, [200, 200]);
    fleet::restarted("controller", controller).await;
    shop.expect(Some("crash-meanwhile"), 200, SOON).await;
    shop.close().await;
}
