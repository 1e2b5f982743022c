use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;

use super::servers::client;
use crate::{Aborted, SingleFlight};

#[tokio::test]
async fn one_works_and_all_get_the_answer() {
    let flights: SingleFlight<&'static str, usize> = client(&[]).single_flight();
    let runs = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Semaphore::new(0));
    let ask = |key| {
        let (flights, runs, gate) = (flights.clone(), Arc::clone(&runs), Arc::clone(&gate));
        async move {
            flights
                .run(key, || async move {
                    gate.acquire().await.unwrap().forget();
                    runs.fetch_add(1, Ordering::SeqCst) + 1
                })
                .await
        }
    };
    // The first, who started it, leaves.
    let mut first = Box::pin(ask("a"));
    assert!(futures::poll!(&mut first).is_pending());
    drop(first);
    let many = join_all((0..100).map(|_| ask("a")));
    let opened = async { gate.add_permits(1) };
    let (answers, ()) = tokio::join!(many, opened);
    assert_eq!(answers, [Ok(1); 100]);
    // The next flight is a new one, and other keys do not wait for it.
    gate.add_permits(2);
    let mut both = tokio::join!(ask("a"), ask("b"));
    if both.0 == Ok(3) {
        both = (both.1, both.0);
    }
    assert_eq!(both, (Ok(2), Ok(3)));
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn work_that_panics_ends_for_all_and_may_be_tried_again() {
    let flights: SingleFlight<u8, u8> = client(&[]).single_flight();
    let broken = || async {
        tokio::task::yield_now().await;
        panic!("broken")
    };
    let both = tokio::join!(flights.run(1, broken), flights.run(1, broken));
    assert_eq!(both, (Err(Aborted), Err(Aborted)));
    assert_eq!(flights.run(1, || async { 7 }).await, Ok(7));
}

#[test]
fn nobody_waits_for_a_runtime_that_has_ended() {
    let background = Builder::new_current_thread().build().unwrap();
    let flights: SingleFlight<u8, u8> = background.block_on(async { client(&[]).single_flight() });
    drop(background);
    let worker = Builder::new_current_thread().build().unwrap();
    for _ in 0..2 {
        assert_eq!(
            worker.block_on(flights.run(1, || async { 7 })),
            Err(Aborted)
        );
    }
}
