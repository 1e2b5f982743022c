//! What must hold for any bytes of a client, however broken: asserted for the fuzzers' inputs, their corpus and random ones.

use crate::http::path;
use crate::listen::invariants as listen;

/// A connection of a balancer: the header of the PROXY protocol and what follows.
pub fn proxy_header(bytes: &[u8]) {
    listen::proxy_header(bytes);
}

/// The bytes of an HTTP/1.1 connection.
pub fn framing(bytes: &[u8]) {
    listen::framing(bytes);
}

/// The bytes of an HTTP/2 connection after its preface.
pub fn frames(bytes: &[u8]) {
    listen::frames(bytes);
}

/// The path of a request.
pub fn path(path: &str) {
    if let Some(path) = Some(path).filter(|path| path.starts_with('/')) {
        path::assert_canonical(path);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_hold_for_the_corpus_of_the_fuzzers() {
        let text = |bytes: &[u8]| path(&String::from_utf8_lossy(bytes));
        for (name, holds) in [
            ("proxy_header", proxy_header as fn(&[u8])),
            ("framing", framing),
            ("frames", frames),
            ("path", text),
        ] {
            let folder = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
            let mut seeds = 0;
            for file in std::fs::read_dir(folder).unwrap() {
                holds(&std::fs::read(file.unwrap().path()).unwrap());
                seeds += 1;
            }
            assert!(seeds > 4, "{name}");
        }
    }

    proptest! {
        #[test]
        fn they_hold_for_anything(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            proxy_header(&bytes);
            framing(&bytes);
            frames(&bytes);
        }

        #[test]
        fn they_hold_for_what_is_nearly_right(
            parts in proptest::collection::vec(prop_oneof![
                Just("PROXY "), Just("TCP4 "), Just("1.2.3.4 "), Just("80 81\r\n"), Just("UNKNOWN"), Just("\r\n"), Just("\n"),
                Just("GET / HTTP/1.1\r\n"), Just("Content-Length: 3\r\n"), Just("Transfer-Encoding: chunked\r\n"),
                Just("3\r\nabc\r\n"), Just("0\r\n"), Just("Upgrade: x\r\n"), Just("\0\0\u{4}\u{6}\0\0\0\0\0ping"),
            ], 0..20),
        ) {
            let bytes = parts.concat();
            proxy_header(bytes.as_bytes());
            framing(bytes.as_bytes());
            frames(bytes.as_bytes());
        }

        #[test]
        fn they_hold_for_paths(path in "/[a-zA-Z./%;0-9|~#?\\\\-]{0,40}") {
            super::path(&path);
        }
    }
}
