//! On a clock that stands still until everybody waits.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, advance, sleep};

use super::servers::client;
use crate::{Fresh, Refreshed, Schedule};

type Answer = Result<Fresh<u32>, &'static str>;

/// Whoever has the value: what it answers, and when it was asked.
#[derive(Clone)]
struct Source(Arc<Mutex<(Answer, Vec<Instant>)>>);

impl Source {
    fn new(answer: Answer) -> Self {
        Self(Arc::new(Mutex::new((answer, Vec::new()))))
    }

    fn answers(&self, answer: Answer) {
        self.0.lock().0 = answer;
    }

    fn asked(&self) -> usize {
        self.0.lock().1.len()
    }

    /// Seconds between the times it was asked.
    fn pauses(&self) -> Vec<f64> {
        let times = self.0.lock().1.clone();
        times
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect()
    }

    fn followed(&self) -> Refreshed<u32> {
        let source = self.clone();
        client(&[]).refreshed("number".to_owned(), Schedule::default(), move |_| {
            let source = source.clone();
            async move {
                // As long as a call may take.
                sleep(Duration::from_millis(100)).await;
                let mut held = source.0.lock();
                held.1.push(Instant::now());
                held.0
            }
        })
    }
}

fn good(value: u32) -> Answer {
    Ok(Fresh::Value(value, None))
}

#[tokio::test(start_paused = true)]
async fn is_there_before_it_expires() {
    let source = Source::new(good(1));
    let value = source.followed();
    assert!(value.current().is_none());
    // Fetched without being asked for.
    assert_eq!(*value.value().await.unwrap(), 1);
    source.answers(good(2));
    sleep(Duration::from_secs(300)).await;
    assert_eq!(value.current().as_deref(), Some(&2));
    source.answers(Ok(Fresh::Value(3, Some(Duration::from_secs(1)))));
    sleep(Duration::from_secs(300)).await;
    // A second is too short, a day too long.
    source.answers(Ok(Fresh::Value(4, Some(Duration::from_secs(86_400)))));
    sleep(Duration::from_secs(60)).await;
    let before = source.asked();
    sleep(Duration::from_secs(3 * 3600)).await;
    assert!(
        (3..=4).contains(&(source.asked() - before)),
        "{:?}",
        source.pauses()
    );
    let pauses = source.pauses();
    assert!((225.0..=271.0).contains(&pauses[0]), "{pauses:?}");
    assert!((22.0..=28.0).contains(&pauses[2]), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn what_did_not_change_stays_the_same_value() {
    let source = Source::new(good(1));
    let value = source.followed();
    let first = value.value().await.unwrap();
    source.answers(Ok(Fresh::Same(None)));
    sleep(Duration::from_secs(900)).await;
    assert!(source.asked() > 2);
    assert!(Arc::ptr_eq(&first, &value.value().await.unwrap()));
    assert_eq!(value.newer(Some(&first)).await, None);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_value_stays_through_an_outage() {
    let source = Source::new(good(1));
    let value = source.followed();
    value.value().await.unwrap();
    source.answers(Err("unreachable"));
    sleep(Duration::from_secs(7200)).await;
    assert_eq!(value.current().as_deref(), Some(&1));
    assert_eq!(value.failure(), Some("unreachable"));
    let pauses = source.pauses();
    // Growing pauses, which no two proxies share.
    for (pause, longest) in pauses[1..]
        .iter()
        .zip([1.1, 2.1, 4.1, 8.1, 16.1, 30.1, 30.1])
    {
        assert!(
            (longest / 2.0 - 0.05..=longest).contains(pause),
            "{pauses:?}"
        );
    }
    source.answers(good(2));
    sleep(Duration::from_secs(31)).await;
    assert_eq!(value.current().as_deref(), Some(&2));
    assert_eq!(value.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn where_there_is_none_nobody_waits_for_every_failure() {
    let source = Source::new(Err("tls"));
    let value = source.followed();
    assert_eq!(value.value().await, Err("tls"));
    let before = Instant::now();
    // Once somebody may demand it, and waits; then the failure is known.
    for _ in 0..1000 {
        assert_eq!(value.value().await, Err("tls"));
    }
    assert!(before.elapsed() < Duration::from_millis(150));
    assert_eq!(source.asked(), 2);
    source.answers(good(1));
    advance(Duration::from_secs(5)).await;
    assert_eq!(value.value().await.as_deref(), Ok(&1));
}

#[tokio::test(start_paused = true)]
async fn many_who_demand_something_newer_share_one_fetch() {
    let source = Source::new(good(1));
    let value = source.followed();
    let first = value.value().await.unwrap();
    source.answers(good(2));
    let demands = futures::future::join_all((0..1000).map(|_| value.newer(Some(&first)))).await;
    assert!(demands.iter().all(|newer| newer.as_deref() == Some(&2)));
    assert_eq!(source.asked(), 2);
    // Whoever still holds the old one needs no fetch.
    assert_eq!(value.newer(Some(&first)).await.as_deref(), Some(&2));
    let second = value.value().await.unwrap();
    for _ in 0..1000 {
        assert_eq!(value.newer(Some(&second)).await, None);
        advance(Duration::from_millis(4)).await;
    }
    assert_eq!(source.asked(), 2);
    advance(Duration::from_secs(1)).await;
    source.answers(good(3));
    assert_eq!(value.newer(Some(&second)).await.as_deref(), Some(&3));
    assert_eq!(source.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn dropping_it_ends_the_fetching() {
    let source = Source::new(good(1));
    let value = source.followed();
    value.value().await.unwrap();
    drop(value);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(source.asked(), 1);
    assert_eq!(Arc::strong_count(&source.0), 1);
}
