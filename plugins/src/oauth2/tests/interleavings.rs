//! What is redeemed, refreshed, revoked and changed at the same time, in every order of the operations at the store, and with a
//! process that ends in between at every place.

mod explorer;

use futures::executor::block_on;

use super::super::ledger::{Change, Failure, Ledger};
use super::*;
use explorer::{Task, explore_crashes};

const GRACE: &str = r#"{"enableAuthorizationCode":true,"retryGraceSeconds":10}"#;
const NONE: &str = r#"{"enableAuthorizationCode":true}"#;

/// The first tokens of a line, and the code that they were redeemed for.
struct Line {
    code: String,
    access: String,
    refresh: String,
}

/// What one of those that race asks for, and what it gets.
enum Act {
    Redeem(String),
    Refresh(String),
    /// As the application `spa`, which has no secret.
    RefreshPublicly(String),
    Revoke(String),
    /// What an operator does.
    Remove(String),
    Change(String),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Tokens { access: String, refresh: String },
    Done,
    No,
}

impl End {
    fn of(said: &Said) -> Self {
        match said.status {
            200 if said.json.get("access_token").is_some() => Self::Tokens {
                access: said.text("access_token").to_owned(),
                refresh: said.text("refresh_token").to_owned(),
            },
            200 => Self::Done,
            400 => Self::No,
            _ => panic!("{said:?}"),
        }
    }

    fn tokens(&self) -> Option<(&str, &str)> {
        match self {
            Self::Tokens { access, refresh } => Some((access, refresh)),
            Self::Done | Self::No => None,
        }
    }
}

impl Rig {
    async fn act(&self, act: Act) -> End {
        match act {
            Act::Redeem(code) => End::of(&self.redeem(&code).await),
            Act::Refresh(token) => End::of(&self.refresh(&token).await),
            Act::RefreshPublicly(token) => End::of(&self.refresh_publicly(&token).await),
            Act::Revoke(token) => {
                let parameters = [
                    ("client_id", "app"),
                    ("client_secret", "sec"),
                    ("token", &token),
                ];
                End::of(&self.post("revoke", &parameters).await)
            }
            Act::Remove(access) => {
                let ledger = self.ledger();
                match ledger.find(&access, self.now).await {
                    Ok(issued) => {
                        ledger.remove(&issued).await.unwrap();
                        End::Done
                    }
                    Err(failure) => no(failure),
                }
            }
            Act::Change(access) => {
                let ledger = self.ledger();
                let id = match ledger.find(&access, self.now).await {
                    Ok(issued) => issued.id(),
                    Err(failure) => return no(failure),
                };
                let change = Change {
                    user: Some("u2".to_owned()),
                    ..Change::default()
                };
                match ledger.change(&id, &change, self.now).await {
                    Ok(_) => End::Done,
                    Err(failure) => no(failure),
                }
            }
        }
    }

    fn ledger(&self) -> Ledger {
        Ledger::new(self.store.clone())
    }

    async fn refresh_publicly(&self, token: &str) -> Said {
        let parameters = [
            ("grant_type", "refresh_token"),
            ("client_id", "spa"),
            ("refresh_token", token),
        ];
        self.post("token", &parameters).await
    }

    fn line(&self) -> Line {
        block_on(async {
            let code = self.code(&[]).await;
            let said = self.redeem(&code).await;
            Line {
                code,
                access: said.text("access_token").to_owned(),
                refresh: said.text("refresh_token").to_owned(),
            }
        })
    }

    fn public_line(&self) -> Line {
        block_on(async {
            let code = self
                .code(&[("client_id", "spa"), ("code_challenge", CHALLENGE)])
                .await;
            let parameters = [
                ("grant_type", "authorization_code"),
                ("client_id", "spa"),
                ("code", &code),
                ("code_verifier", VERIFIER),
            ];
            let said = self.post("token", &parameters).await;
            Line {
                access: said.text("access_token").to_owned(),
                refresh: said.text("refresh_token").to_owned(),
                code,
            }
        })
    }

    fn counts(&self, access: &str) -> bool {
        match block_on(self.present(access)) {
            "ok" => true,
            "unknown_token" => false,
            other => panic!("{other}"),
        }
    }

    /// Whether tokens count, the one as the other.
    fn count(&self, (access, refresh): (&str, &str)) -> bool {
        let (used, refreshed) = (self.counts(access), block_on(self.refresh(refresh)));
        assert_eq!(used, refreshed.status == 200, "{refreshed:?}");
        used
    }

    fn none_counts<'a>(&self, all: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for tokens in all {
            assert!(!self.count(tokens));
        }
    }

    /// Tries acts in all orders.
    fn race<C>(
        &self,
        mut begin: impl FnMut() -> (C, Vec<Act>),
        mut judge: impl FnMut(C, Vec<Option<End>>),
    ) {
        let orders = explore_crashes(
            || {
                let (context, acts) = begin();
                let tasks = acts
                    .into_iter()
                    .map(|act| -> Task<'_, End> { Box::pin(self.act(act)) });
                (context, tasks.collect())
            },
            &mut judge,
        );
        assert!(orders > 10);
    }
}

fn no(failure: Failure) -> End {
    assert_eq!(failure, Failure::NotFound);
    End::No
}

/// All tokens that somebody got to know of.
fn given(ends: &[Option<End>]) -> Vec<(&str, &str)> {
    ends.iter().flatten().filter_map(End::tokens).collect()
}

fn refused(ends: &[Option<End>]) -> usize {
    ends.iter().flatten().filter(|end| **end == End::No).count()
}

/// Without a grace at most one of the same kind gets tokens, and exactly one where nobody has crashed.
fn assert_one_won(ends: &[Option<End>]) {
    let won = given(ends).len();
    assert!(won <= 1, "{ends:?}");
    assert!(won == 1 || ends.contains(&None), "{ends:?}");
}

#[test]
fn of_redemptions_of_a_code_one_wins_and_a_second_ends_its_line() {
    let rig = Rig::new(NONE);
    for count in [2, 3] {
        rig.race(
            || {
                let code = block_on(rig.code(&[]));
                let acts = (0..count).map(|_| Act::Redeem(code.clone())).collect();
                (code, acts)
            },
            |code, ends| {
                assert_one_won(&ends);
                if refused(&ends) > 0 {
                    rig.none_counts(given(&ends));
                }
                // Whoever crashed may have taken the code with it; it gives nothing twice.
                assert_eq!(block_on(rig.redeem(&code)).status, 400);
                rig.none_counts(given(&ends));
            },
        );
    }
}

#[test]
fn within_the_grace_all_redemptions_of_a_code_get_the_same() {
    let rig = Rig::new(GRACE);
    for count in [2, 3] {
        rig.race(
            || {
                let code = block_on(rig.code(&[]));
                let acts = (0..count).map(|_| Act::Redeem(code.clone())).collect();
                (code, acts)
            },
            |code, ends| {
                // Also what a process has written that crashed before it could answer.
                let again = End::of(&block_on(rig.redeem(&code)));
                assert!(ends.iter().flatten().all(|end| *end == again), "{ends:?}");
                assert!(rig.count(again.tokens().unwrap()));
            },
        );
    }
}

#[test]
fn of_refreshes_one_wins_and_a_proven_application_keeps_what_it_has() {
    let rig = Rig::new(NONE);
    for count in [2, 3] {
        rig.race(
            || {
                let line = rig.line();
                let acts = (0..count).map(|_| Act::Refresh(line.refresh.clone()));
                let acts = acts.collect();
                (line, acts)
            },
            |line, ends| {
                assert_one_won(&ends);
                for tokens in given(&ends) {
                    assert!(!rig.counts(&line.access));
                    assert!(rig.count(tokens));
                    // The code still ends it.
                    assert_eq!(block_on(rig.redeem(&line.code)).status, 400);
                    rig.none_counts([tokens]);
                }
            },
        );
    }
}

#[test]
fn of_public_refreshes_one_wins_and_a_second_ends_the_line() {
    let rig = Rig::new(NONE);
    for count in [2, 3] {
        rig.race(
            || {
                let line = rig.public_line();
                let acts = (0..count).map(|_| Act::RefreshPublicly(line.refresh.clone()));
                let acts = acts.collect();
                (line, acts)
            },
            |line, ends| {
                assert_one_won(&ends);
                let again = block_on(rig.refresh_publicly(&line.refresh));
                if !given(&ends).is_empty() {
                    assert_eq!(again.status, 400);
                }
                if refused(&ends) > 0 || again.status == 400 {
                    assert!(!rig.counts(&line.access));
                    for (access, refresh) in given(&ends) {
                        assert!(!rig.counts(access));
                        assert_eq!(block_on(rig.refresh_publicly(refresh)).status, 400);
                    }
                }
            },
        );
    }
}

#[test]
fn within_the_grace_all_refreshes_get_the_same() {
    let rig = Rig::new(GRACE);
    for count in [2, 3] {
        rig.race(
            || {
                let line = rig.line();
                let acts = (0..count).map(|_| Act::Refresh(line.refresh.clone()));
                let acts = acts.collect();
                (line, acts)
            },
            |line, ends| {
                let again = End::of(&block_on(rig.refresh(&line.refresh)));
                assert!(ends.iter().flatten().all(|end| *end == again), "{ends:?}");
                assert!(!rig.counts(&line.access));
                assert!(rig.count(again.tokens().unwrap()));
            },
        );
    }
}

#[test]
fn a_replayed_code_ends_its_line_whoever_refreshes_meanwhile() {
    let rig = Rig::new(NONE);
    rig.race(
        || {
            let line = rig.line();
            let acts = vec![
                Act::Redeem(line.code.clone()),
                Act::Refresh(line.refresh.clone()),
                Act::Refresh(line.refresh.clone()),
            ];
            (line, acts)
        },
        |line, ends| {
            assert!(given(&ends).len() <= 1, "{ends:?}");
            assert_ne!(ends[0], Some(End::Done));
            if ends[0] == Some(End::No) {
                rig.none_counts([(&*line.access, &*line.refresh)]);
                rig.none_counts(given(&ends));
            }
        },
    );
}

#[test]
fn a_revoked_line_stays_so_whoever_refreshes_meanwhile() {
    let rig = Rig::new(NONE);
    rig.race(
        || {
            let line = rig.line();
            let acts = vec![
                Act::Revoke(line.refresh.clone()),
                Act::Refresh(line.refresh.clone()),
                Act::Refresh(line.refresh.clone()),
            ];
            (line, acts)
        },
        |line, ends| {
            let all = given(&ends);
            assert!(all.len() <= 1, "{ends:?}");
            if ends[0] == Some(End::Done) {
                assert!(!rig.counts(&line.access));
                // Whoever refreshed before has another token, which was not revoked; or it ended, too.
                for tokens in all {
                    rig.count(tokens);
                }
                assert_eq!(block_on(rig.refresh(&line.refresh)).status, 400);
            }
        },
    );
}

#[test]
fn what_an_operator_ends_or_changes_is_not_revived_and_revives_nothing() {
    let rig = Rig::new(NONE);
    rig.race(
        || {
            let line = rig.line();
            let acts = vec![
                Act::Remove(line.access.clone()),
                Act::Refresh(line.refresh.clone()),
                Act::Change(line.access.clone()),
            ];
            (line, acts)
        },
        |line, ends| {
            if ends[0] == Some(End::Done) {
                assert!(!rig.counts(&line.access));
                rig.none_counts(given(&ends));
                assert_eq!(block_on(rig.refresh(&line.refresh)).status, 400);
            }
        },
    );
    rig.race(
        || {
            let line = rig.line();
            let acts = vec![
                Act::Redeem(line.code.clone()),
                Act::Change(line.access.clone()),
                Act::Refresh(line.refresh.clone()),
            ];
            (line, acts)
        },
        |line, ends| {
            if ends[0] == Some(End::No) {
                rig.none_counts([(&*line.access, &*line.refresh)]);
                rig.none_counts(given(&ends));
            }
        },
    );
}

#[test]
fn what_an_operator_changes_is_still_refreshed_once() {
    let rig = Rig::new(NONE);
    rig.race(
        || {
            let line = rig.line();
            let acts = vec![
                Act::Change(line.access.clone()),
                Act::Refresh(line.refresh.clone()),
            ];
            (line, acts)
        },
        |line, ends| {
            // A process that has crashed may have refreshed it; nothing else has.
            let again = End::of(&block_on(rig.refresh(&line.refresh)));
            let won = ends[1].iter().filter(|end| end.tokens().is_some());
            let won: Vec<_> = won.collect();
            assert!(!won.is_empty() || ends[1].is_none(), "{ends:?}");
            assert!(won.is_empty() || again == End::No, "{again:?}");
            for tokens in won.into_iter().chain([&again]).filter_map(End::tokens) {
                assert!(!rig.counts(&line.access));
                assert!(rig.count(tokens));
            }
        },
    );
}
