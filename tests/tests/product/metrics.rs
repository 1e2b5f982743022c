//! What Prometheus is told.

use harness::Rig;
use harness::objects::{consumer_with_key, key_auth, route};
use harness::raw::get;
use serde_json::json;

/// The sum of all series of a family whose labels contain these words.
fn sum(text: &str, family: &str, words: &[&str]) -> f64 {
    let series = text
        .lines()
        .filter(|l| l.starts_with(&format!("{family}{{")) || l.starts_with(&format!("{family} ")));
    series
        .filter(|l| words.iter().all(|w| l.contains(w)))
        .map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// Every name of a family.
fn families(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|l| l.strip_prefix("# TYPE "))
        .filter_map(|l| l.split(' ').next())
        .collect()
}

fn family<'a>(text: &'a str, words: &[&str]) -> &'a str {
    let all = families(text);
    all.iter()
        .find(|f| words.iter().all(|w| f.contains(w)))
        .unwrap_or_else(|| panic!("no family with {words:?} in {all:?}"))
}

async fn rig() -> Rig {
    let mut objects = consumer_with_key("alice", "secret-1");
    objects.extend([
        route("r", "k.test", "echo"),
        key_auth("k", "r", &json!({})),
        route("o", "open.test", "echo"),
    ]);
    Rig::with(objects).await
}

#[tokio::test]
async fn requests_verdicts_and_latencies_are_counted() {
    let rig = rig().await;
    let mut connection = rig.connect().await;
    for (host, key, times) in [
        ("k.test", "secret-1", 3),
        ("k.test", "wrong", 2),
        ("open.test", "", 1),
        ("none.test", "", 4),
    ] {
        for _ in 0..times {
            connection.ask(get(host, "/", &[("apikey", key)])).await;
        }
    }
    let text = rig.postern.metrics().await;
    let requests = family(&text, &["postern", "requests"]);
    let requests = if text.contains(&format!("{requests}_total")) {
        format!("{requests}_total")
    } else {
        requests.to_owned()
    };
    assert_eq!(
        sum(&text, &requests, &["HTTPRoute/default/r", "2xx"]),
        3.0,
        "{text}"
    );
    assert_eq!(sum(&text, &requests, &["HTTPRoute/default/r", "4xx"]), 2.0);
    assert_eq!(sum(&text, &requests, &["HTTPRoute/default/o"]), 1.0);
    assert_eq!(sum(&text, &requests, &["4xx"]), 6.0);
    let latency = family(&text, &["postern", "duration"]);
    assert_eq!(
        sum(&text, &format!("{latency}_count"), &["HTTPRoute/default/r"]),
        5.0
    );
    let verdicts = text
        .lines()
        .filter(|l| l.contains("default/k"))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        verdicts.contains("unknown") || verdicts.contains("ok"),
        "{text}"
    );
    assert!(!text.contains("secret-1"));
}

#[tokio::test]
async fn the_state_of_the_process_is_there() {
    let mut rig = rig().await;
    let mut connection = rig.connect().await;
    connection.ask(get("open.test", "/", &[])).await;
    let text = rig.postern.metrics().await;
    for words in [
        &["connections"] as &[&str],
        &["upstream"],
        &["snapshot"],
        &["credentials"],
        &["consumers"],
    ] {
        family(&text, words);
    }
    let credentials = family(&text, &["credentials"]);
    assert_eq!(sum(&text, credentials, &[]), 1.0);
    let version = text
        .lines()
        .find(|l| l.contains("version=\""))
        .expect("the snapshot's version")
        .to_owned();
    rig.replace([route("o", "open.test", "echo")]).await;
    let text = rig.postern.metrics().await;
    assert_eq!(sum(&text, credentials, &[]), 0.0);
    assert!(!text.contains(&version), "another version after a change");
}

#[tokio::test]
async fn the_text_is_what_scrapers_read() {
    let rig = rig().await;
    rig.get("open.test", "/").await;
    let mut connection = harness::Connection::open(rig.postern.status_port()).await;
    let answer = connection.ask(get("localhost", "/metrics", &[])).await;
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .contains("openmetrics-text")
            || answer
                .header("content-type")
                .unwrap()
                .starts_with("text/plain")
    );
    let mut seen = std::collections::BTreeSet::new();
    for line in answer.text().lines().filter(|l| !l.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(seen.insert(series.to_owned()), "twice: {series}");
    }
    assert!(seen.len() > 20, "{}", seen.len());
    assert_eq!(
        connection.ask(get("localhost", "/livez", &[])).await.status,
        200
    );
    assert_eq!(
        connection
            .ask(get("localhost", "/nothing", &[]))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn paths_and_hosts_of_clients_do_not_become_series() {
    let rig = rig().await;
    let mut connection = rig.connect().await;
    connection.ask(get("open.test", "/", &[])).await;
    connection.ask(get("none.test", "/", &[])).await;
    let count = async || {
        rig.postern
            .metrics()
            .await
            .lines()
            .filter(|l| !l.starts_with('#'))
            .count()
    };
    let before = count().await;
    for i in 0..100 {
        connection
            .ask(get(
                &format!("h{i}.test"),
                &format!("/{i}"),
                &[("User-Agent", &format!("a{i}"))],
            ))
            .await;
        connection
            .ask(get("open.test", &format!("/{i}?q={i}"), &[]))
            .await;
    }
    assert_eq!(count().await, before);
}
