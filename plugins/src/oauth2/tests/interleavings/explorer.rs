//! Every order in which the operations of tasks at a store can come.
//!
//! Shuttle and loom order threads, atomics and locks; what decides here happens in the store, which may be on another machine.
//! So the real code runs over a real store, stops before each operation there, and a search in depth says who goes on.
//! Orders that differ by operations only that do not meet are tried once (sleep sets; Godefroid, "Partial-Order Methods for the
//! Verification of Concurrent Systems", chapter 5).

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use store::steps::{Step, stopping};

/// What runs beside others.
pub(super) type Task<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A task that ends in the middle, as when its process is killed: nobody hears its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crash {
    pub(super) task: usize,
    /// After so many of its operations.
    pub(super) after: usize,
}

/// What was tried.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tried {
    pub(super) orders: usize,
    /// The most operations that each task made.
    steps: Vec<usize>,
}

/// Has `begin` make tasks, and something to judge by, for each order; `judge` gets what they came to, none of who has crashed.
/// Orders in which it would not come to the crash are left out.
pub(super) fn explore<'a, C, T>(
    crash: Option<Crash>,
    mut begin: impl FnMut() -> (C, Vec<Task<'a, T>>),
    mut judge: impl FnMut(C, Vec<Option<T>>),
) -> Tried {
    let mut path = Vec::new();
    let mut tried = Tried::default();
    loop {
        let (context, tasks) = begin();
        let mut run = Run::of(tasks, crash);
        if run.follow(&mut path) && run.crashed == crash.is_some() {
            tried.orders += 1;
            tried.steps.resize(run.done.len(), 0);
            for (most, done) in tried.steps.iter_mut().zip(&run.done) {
                *most = (*most).max(*done);
            }
            let _told = Told(&path);
            judge(context, run.outcomes());
        }
        if !turn(&mut path) {
            return tried;
        }
    }
}

/// The same without a crash, and then with one at each place. How many orders there were.
pub(super) fn explore_crashes<'a, C, T>(
    mut begin: impl FnMut() -> (C, Vec<Task<'a, T>>),
    mut judge: impl FnMut(C, Vec<Option<T>>),
) -> usize {
    let Tried { mut orders, steps } = explore(None, &mut begin, &mut judge);
    for (task, most) in steps.into_iter().enumerate() {
        for after in 1..=most {
            let crash = Some(Crash { task, after });
            orders += explore(crash, &mut begin, &mut judge).orders;
        }
    }
    orders
}

/// Who went on where several could.
#[derive(Debug)]
struct Choice {
    task: usize,
    open: Vec<usize>,
    /// Whose next step comes first elsewhere, with the same effect.
    asleep: Vec<usize>,
    tried: Vec<usize>,
}

impl Choice {
    fn next(&self) -> Option<usize> {
        let left = |task: &&usize| !self.asleep.contains(task) && !self.tried.contains(task);
        self.open.iter().find(left).copied()
    }
}

/// Turns to the last choice that can be another; none is left where it cannot.
fn turn(path: &mut Vec<Choice>) -> bool {
    while let Some(mut last) = path.pop() {
        last.tried.push(last.task);
        if let Some(next) = last.next() {
            last.task = next;
            path.push(last);
            return true;
        }
    }
    false
}

/// Says in which order it was that a judgement failed.
struct Told<'a>(&'a [Choice]);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let order: Vec<_> = self.0.iter().map(|choice| choice.task).collect();
            eprintln!("the operations came from tasks {order:?}");
        }
    }
}

enum State<'a, T> {
    Before(Step, Task<'a, T>),
    Over(Option<T>),
}

struct Run<'a, T> {
    states: Vec<State<'a, T>>,
    done: Vec<usize>,
    crash: Option<Crash>,
    crashed: bool,
}

impl<'a, T> Run<'a, T> {
    fn of(tasks: Vec<Task<'a, T>>, crash: Option<Crash>) -> Self {
        Self {
            done: vec![0; tasks.len()],
            states: tasks.into_iter().map(resume).collect(),
            crash,
            crashed: false,
        }
    }

    /// Goes on as `path` says, and at its end by the first choice; whether to an end that was not reached before.
    fn follow(&mut self, path: &mut Vec<Choice>) -> bool {
        let mut asleep = Vec::new();
        for depth in 0.. {
            if depth == path.len() {
                let open = self.open();
                if open.is_empty() {
                    return true;
                }
                let mut choice = Choice {
                    task: 0,
                    open,
                    asleep,
                    tried: Vec::new(),
                };
                let Some(task) = choice.next() else {
                    return false;
                };
                choice.task = task;
                path.push(choice);
            }
            let choice = &path[depth];
            let step = self.step(choice.task).expect("a step to make");
            let others = choice.asleep.iter().chain(&choice.tried);
            asleep = others
                .copied()
                .filter(|other| self.step(*other).is_some_and(|other| !other.meets(&step)))
                .collect();
            self.go_on(choice.task);
        }
        unreachable!()
    }

    fn open(&self) -> Vec<usize> {
        let all = 0..self.states.len();
        all.filter(|task| self.step(*task).is_some()).collect()
    }

    fn step(&self, task: usize) -> Option<Step> {
        match &self.states[task] {
            State::Before(step, _) => Some(*step),
            State::Over(_) => None,
        }
    }

    fn go_on(&mut self, task: usize) {
        let state = std::mem::replace(&mut self.states[task], State::Over(None));
        let State::Before(_, running) = state else {
            panic!("task {task} is over")
        };
        let next = resume(running);
        self.done[task] += 1;
        let dies = Crash {
            task,
            after: self.done[task],
        };
        if self.crash == Some(dies) {
            self.crashed = true;
        } else {
            self.states[task] = next;
        }
    }

    fn outcomes(self) -> Vec<Option<T>> {
        let over = |state| match state {
            State::Over(outcome) => outcome,
            State::Before(..) => panic!("a task is not over"),
        };
        self.states.into_iter().map(over).collect()
    }
}

fn resume<T>(mut task: Task<'_, T>) -> State<'_, T> {
    let mut context = Context::from_waker(Waker::noop());
    match stopping(|| task.as_mut().poll(&mut context)) {
        (Poll::Ready(outcome), _) => State::Over(Some(outcome)),
        (Poll::Pending, Some(step)) => State::Before(step, task),
        (Poll::Pending, None) => panic!("a task waits for something else than the store"),
    }
}

mod tests {
    use store::{Key, Store};

    use super::*;
    use crate::stage;

    fn key(name: &str) -> Key {
        Key::of("test", name.as_bytes())
    }

    /// Counts as somebody would who does not know better.
    async fn add_one(store: &Store) {
        let found = store.get(&key("count")).await.unwrap();
        let count = found.map_or(0, |entry| entry.value[0]);
        store.put(&key("count"), &[count + 1], None).await.unwrap();
    }

    fn count(store: &Store) -> u8 {
        let found = futures::executor::block_on(store.take(&key("count")));
        found.unwrap().map_or(0, |entry| entry.value[0])
    }

    #[test]
    fn lost_updates_are_found_in_every_order_that_makes_a_difference() {
        let store = stage::services().store;
        let mut counts = Vec::new();
        let tried = explore(
            None,
            || -> ((), Vec<Task<'_, ()>>) {
                ((), (0..2).map(|_| Box::pin(add_one(&store)) as _).collect())
            },
            |(), _| counts.push(count(&store)),
        );
        // Of six orders two do not differ in what is read.
        counts.sort_unstable();
        assert_eq!(counts, [1, 1, 2, 2]);
        assert_eq!((tried.orders, tried.steps), (4, vec![2, 2]));
    }

    #[test]
    fn operations_that_do_not_meet_come_in_one_order() {
        let store = stage::services().store;
        let put = async |name: &'static str| {
            for _ in 0..3 {
                store.put(&key(name), b"x", None).await.unwrap();
            }
        };
        let tried = explore(
            None,
            || -> ((), Vec<Task<'_, ()>>) {
                let tasks = ["a", "b", "c"].map(|name| Box::pin(put(name)) as _);
                ((), tasks.into())
            },
            |(), outcomes| assert_eq!(outcomes, [Some(()); 3]),
        );
        assert_eq!(tried.orders, 1);
    }

    #[test]
    fn a_task_crashes_at_every_place() {
        let store = stage::services().store;
        let mut outcomes = Vec::new();
        let orders = explore_crashes(
            || -> ((), Vec<Task<'_, ()>>) { ((), vec![Box::pin(add_one(&store))]) },
            |(), came| outcomes.push((came[0].is_some(), count(&store))),
        );
        assert_eq!(outcomes, [(true, 1), (false, 0), (false, 1)]);
        assert_eq!(orders, 3);
    }
}
