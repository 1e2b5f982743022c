//! A pause.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Not ready the first time that it is polled; nobody is woken for the second.
#[derive(Debug, Default)]
pub(crate) struct Step(bool);

impl Future for Step {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
