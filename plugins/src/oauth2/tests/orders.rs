//! Every order in which the operations of two requests on the store can follow each other, and of three as long as they take
//! turns rarely: the code that runs is the product's own, and pauses before each operation.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::oauth2::ledger::{Change, Ledger};

/// More orders than any case has.
const MOST: usize = 100_000;

type Task<'a> = Pin<Box<dyn Future<Output = Said> + 'a>>;

/// Who goes on at each step: choices so far, each of how many.
#[derive(Default)]
struct Order {
    path: Vec<(usize, usize)>,
    at: usize,
    /// How often a task may be left before it is done; none: at any step.
    turns: Option<usize>,
}

impl Order {
    fn choose(&mut self, options: usize) -> usize {
        let at = self.at;
        self.at += 1;
        if at == self.path.len() {
            self.path.push((0, options));
        }
        let (choice, of) = self.path[at];
        assert_eq!(of, options, "the same choices lead to the same place");
        choice
    }

    /// The next order, if there is another.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, options)) = self.path.pop() {
            if choice + 1 < options {
                self.path.push((choice + 1, options));
                return true;
            }
        }
        false
    }

    /// Runs tasks to their ends, a step of one at a time.
    fn run(&mut self, tasks: Vec<Task<'_>>) -> Vec<Said> {
        let mut said: Vec<Option<Said>> = tasks.iter().map(|_| None).collect();
        let mut running: Vec<(usize, Task<'_>)> = tasks.into_iter().enumerate().collect();
        let (mut current, mut left) = (None, self.turns);
        while !running.is_empty() {
            let stays = running
                .iter()
                .position(|(which, _)| Some(*which) == current);
            let at = match stays {
                Some(at) if left == Some(0) => at,
                _ => self.choose(running.len()),
            };
            if let (Some(stays), Some(left)) = (stays, &mut left)
                && stays != at
            {
                *left -= 1;
            }
            let (which, task) = &mut running[at];
            current = Some(*which);
            if let Poll::Ready(one) = poll(task.as_mut()) {
                said[*which] = Some(one);
                drop(running.remove(at));
            }
        }
        said.into_iter().map(Option::unwrap).collect()
    }
}

fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs something that nothing else comes between.
fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(done) = poll(future.as_mut()) {
            return done;
        }
    }
}

/// Runs a case in every order; how many there are.
fn every_order(
    config: &str,
    turns: Option<usize>,
    case: impl Fn(&Rig, &Ledger, &mut Order),
) -> usize {
    let keys = SealingKeys::new(&[[7_u8; 32]]).unwrap();
    let store = Store::stepwise(keys, &stage::services().background);
    let rig = Rig::over(config, store.clone(), None, "it");
    let ledger = Ledger::new(store);
    let mut order = Order {
        turns,
        ..Order::default()
    };
    for count in 1..MOST {
        case(&rig, &ledger, &mut order);
        if !order.advance() {
            return count;
        }
    }
    panic!("there is no end to it");
}

fn with_grace(seconds: u32) -> String {
    ALL.replacen('{', &format!("{{\"retryGraceSeconds\":{seconds},"), 1)
}

fn code(rig: &Rig) -> String {
    finish(rig.code(&[]))
}

fn tokens(rig: &Rig) -> Said {
    finish(rig.redeem(&code(rig)))
}

fn counts(rig: &Rig, said: &Said) -> bool {
    finish(rig.present(said.text("access_token"))) == "ok"
}

/// Those that got tokens; the others must have been refused.
fn winners(said: &[Said]) -> Vec<&Said> {
    assert!(
        said.iter().all(|one| matches!(one.status, 200 | 400)),
        "{said:?}"
    );
    said.iter().filter(|one| one.status == 200).collect()
}

/// Nothing of a line counts any more.
fn is_over(rig: &Rig, said: &Said) {
    assert!(!counts(rig, said), "its access token counts");
    let again = finish(rig.refresh(said.text("refresh_token")));
    assert_eq!(again.status, 400, "its refresh token counts");
}

fn public<'a>(rig: &'a Rig, more: &[(&'static str, &str)]) -> Task<'a> {
    let mut all = vec![("client_id".to_owned(), "spa".to_owned())];
    all.extend(
        more.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    Box::pin(async move {
        let all: Vec<_> = all
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        rig.post("token", &all).await
    })
}

/// An answer of the Admin API, as a status.
fn of_ledger<T>(done: Result<T, crate::oauth2::ledger::Failure>) -> Said {
    Said {
        status: if done.is_ok() { 200 } else { 400 },
        headers: http::HeaderMap::new(),
        json: Value::Null,
    }
}

#[test]
fn a_code_gives_tokens_once_and_they_end_when_it_comes_again() {
    for (requests, turns) in [(2, None), (3, Some(2))] {
        let orders = every_order(ALL, turns, |rig, _, order| {
            let code = code(rig);
            let tasks = (0..requests).map(|_| Box::pin(rig.redeem(&code)) as Task<'_>);
            let said = order.run(tasks.collect());
            let [won] = winners(&said)[..] else {
                panic!("{said:?}")
            };
            is_over(rig, won);
            assert_eq!(finish(rig.redeem(&code)).status, 400);
        });
        eprintln!("{requests} redemptions: {orders} orders");
        assert!(orders > 200, "{orders}");
    }
}

#[test]
fn within_a_grace_all_who_redeem_get_the_same() {
    let orders = every_order(&with_grace(10), None, |rig, _, order| {
        let code = code(rig);
        let tasks: Vec<Task<'_>> = vec![Box::pin(rig.redeem(&code)), Box::pin(rig.redeem(&code))];
        let said = order.run(tasks);
        let [one, other] = winners(&said)[..] else {
            panic!("{said:?}")
        };
        for name in ["access_token", "refresh_token"] {
            assert_eq!(one.text(name), other.text(name));
        }
        assert!(counts(rig, one));
        assert_eq!(finish(rig.refresh(one.text("refresh_token"))).status, 200);
    });
    assert!(orders > 200, "{orders}");
}

#[test]
fn a_refresh_token_of_a_proven_application_is_used_once() {
    for (requests, turns) in [(2, None), (3, Some(2))] {
        let orders = every_order(ALL, turns, |rig, _, order| {
            let before = tokens(rig);
            let token = before.text("refresh_token");
            let tasks = (0..requests).map(|_| Box::pin(rig.refresh(token)) as Task<'_>);
            let said = order.run(tasks.collect());
            let [won] = winners(&said)[..] else {
                panic!("{said:?}")
            };
            assert!(counts(rig, won) && !counts(rig, &before));
            assert_eq!(finish(rig.refresh(won.text("refresh_token"))).status, 200);
        });
        eprintln!("{requests} refreshes: {orders} orders");
        assert!(orders > 50, "{orders}");
    }
}

#[test]
fn a_refresh_token_of_a_public_application_is_used_once_and_all_ends_when_it_comes_again() {
    let orders = every_order(ALL, None, |rig, _, order| {
        let code = finish(rig.code(&[("client_id", "spa"), ("code_challenge", CHALLENGE)]));
        let before = finish(public(
            rig,
            &[
                ("grant_type", "authorization_code"),
                ("code", &code),
                ("code_verifier", VERIFIER),
            ],
        ));
        let token = before.text("refresh_token");
        let fields = [("grant_type", "refresh_token"), ("refresh_token", token)];
        let said = order.run(vec![public(rig, &fields), public(rig, &fields)]);
        let [won] = winners(&said)[..] else {
            panic!("{said:?}")
        };
        assert!(!counts(rig, won) && !counts(rig, &before));
        let next = [
            ("grant_type", "refresh_token"),
            ("refresh_token", won.text("refresh_token")),
        ];
        assert_eq!(finish(public(rig, &next)).status, 400);
    });
    assert!(orders > 50, "{orders}");
}

#[test]
fn what_is_revoked_while_it_is_refreshed_is_refused_or_was_refreshed_before() {
    every_order(ALL, None, |rig, _, order| {
        let before = tokens(rig);
        let token = before.text("refresh_token");
        let own = [
            ("client_id", "app"),
            ("client_secret", "sec"),
            ("token", token),
        ];
        let tasks: Vec<Task<'_>> = vec![
            Box::pin(rig.refresh(token)),
            Box::pin(rig.post("revoke", &own)),
        ];
        let said = order.run(tasks);
        assert_eq!(said[1].status, 200);
        assert!(!counts(rig, &before));
        // Whoever revokes what has been replaced in between is too late, and is told nothing else.
        if let [won] = winners(&said[..1])[..] {
            let lives = counts(rig, won);
            let next = finish(rig.refresh(won.text("refresh_token")));
            assert_eq!(lives, next.status == 200);
        }
    });
}

#[test]
fn what_an_operator_ends_is_over_though_it_is_refreshed() {
    every_order(ALL, None, |rig, ledger, order| {
        let before = tokens(rig);
        let issued = finish(ledger.find(before.text("access_token"), rig.now)).unwrap();
        let token = before.text("refresh_token");
        let end = async { of_ledger(ledger.remove(&issued).await) };
        let said = order.run(vec![Box::pin(rig.refresh(token)), Box::pin(end)]);
        assert_eq!(said[1].status, 200);
        assert!(!counts(rig, &before));
        for won in winners(&said[..1]) {
            is_over(rig, won);
        }
    });
}

#[test]
fn what_an_operator_changes_is_still_refreshed_once() {
    every_order(ALL, None, |rig, ledger, order| {
        let before = tokens(rig);
        let id = finish(ledger.find(before.text("access_token"), rig.now))
            .unwrap()
            .id();
        let change = Change {
            user: Some("u2".to_owned()),
            ..Change::default()
        };
        let token = before.text("refresh_token");
        let edit = async { of_ledger(ledger.change(&id, &change, rig.now).await) };
        let said = order.run(vec![Box::pin(rig.refresh(token)), Box::pin(edit)]);
        assert_eq!(said[0].status, 200, "{said:?}");
        assert!(counts(rig, &said[0]) && !counts(rig, &before));
        assert_eq!(finish(rig.refresh(token)).status, 400);
    });
}
