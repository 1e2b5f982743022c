//! The data plane as clients and upstreams see it: real sockets, raw bytes.

mod auth;
mod backends;
mod h1;
mod h2;
mod lifecycle;
mod support;
mod tls;
mod tunnel;

/// What is moved with every request stays small: a larger one is a larger copy at each hand-over.
#[test]
fn what_every_request_moves_is_small() {
    use crate::body::{Body, RequestBody};
    fn future<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }
    let serve = future(crate::pipeline::serve);
    assert!(serve <= 5 << 10, "{serve} bytes");
    assert!(size_of::<RequestBody>() <= 80);
    assert!(size_of::<Body>() <= 120);
}
