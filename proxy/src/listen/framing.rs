//! What hyper's HTTP/1 parser lets pass, or hides: looked at before it.
//!
//! hyper takes bare line feeds for line ends, resolves a Content-Length beside a Transfer-Encoding silently and cuts `#`
//! off the target. This scanner follows the framing of a client's bytes and, where a message could be read in two ways,
//! puts a byte in its place that no parser takes; hyper then answers 400 and closes.

use super::connections::State;
use std::sync::atomic::Ordering::Relaxed;

/// The longest line that says how long a chunk is.
const MAX_CHUNK_LINE: usize = 1024;

/// What hyper gets instead of what is refused: in a head, a chunk size or a trailer, it is never valid.
pub(super) const POISON: &[u8] = b"\0\r\n\r\n";

/// Where the scanner is in a client's bytes.
#[derive(Debug)]
pub(super) struct Framing {
    at: At,
    /// The line that is not complete yet.
    line: Vec<u8>,
    head: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a head, or between requests.
    Head,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    /// Behind a head that asks for another protocol; `State::upgrading` says whether the answer is out.
    Other,
    /// Refused; nothing more is read.
    Dead,
}

/// What the current head says.
#[derive(Debug, Default)]
struct Head {
    begun: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

/// The message can be read in more than one way, or in none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// How many bytes are fine.
    pub(super) fine: usize,
}

impl Framing {
    pub(super) const fn new() -> Self {
        let head = Head {
            begun: false,
            length: None,
            chunked: false,
            upgrade: false,
        };
        Self {
            at: At::Head,
            line: Vec::new(),
            head,
        }
    }

    /// Whether the scanner refused something; whatever comes is not read.
    pub(super) fn is_dead(&self) -> bool {
        self.at == At::Dead
    }

    /// Whether the client is in the middle of something: it may go on, whatever it was told.
    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.at, At::Head | At::Other) || self.head.begun
    }

    /// Follows the next bytes of the client.
    pub(super) fn scan(&mut self, bytes: &[u8], state: &State) -> Result<(), Refused> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let fine = bytes.len() - rest.len();
            match self.step(rest, state) {
                Some(taken) => rest = rest.get(taken..).unwrap_or_default(),
                None => {
                    self.at = At::Dead;
                    // An incomplete line has been handed on already; what follows makes it invalid.
                    return Err(Refused { fine });
                }
            }
        }
        state.await_head(self.at == At::Head && (self.head.begun || !self.line.is_empty()));
        Ok(())
    }

    /// Takes some bytes; none: refused.
    fn step(&mut self, rest: &[u8], state: &State) -> Option<usize> {
        match self.at {
            At::Head | At::ChunkSize | At::Trailers => self.take_line(rest, state),
            At::Body(left) => {
                let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - taken as u64;
                self.at = if left == 0 { At::Head } else { At::Body(left) };
                Some(taken)
            }
            At::ChunkData(left) => {
                let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - taken as u64;
                self.at = if left == 0 {
                    At::ChunkEnd
                } else {
                    At::ChunkData(left)
                };
                Some(taken)
            }
            At::ChunkEnd => {
                let expected: &[u8] = if self.line.is_empty() { b"\r" } else { b"\n" };
                if rest.first() != expected.first() {
                    return None;
                }
                if self.line.is_empty() {
                    self.line.push(b'\r');
                } else {
                    self.line.clear();
                    self.at = At::ChunkSize;
                }
                Some(1)
            }
            At::Other if state.upgrading.load(Relaxed) => {
                state.unseen.store(true, Relaxed);
                Some(rest.len())
            }
            At::Other => {
                // The answer is out, and it was no change of protocol.
                self.at = At::Head;
                Some(0)
            }
            At::Dead => None,
        }
    }

    fn take_line(&mut self, rest: &[u8], state: &State) -> Option<usize> {
        let Some(end) = memchr::memchr(b'\n', rest) else {
            if self.at == At::ChunkSize && self.line.len() + rest.len() > MAX_CHUNK_LINE {
                return None;
            }
            // Bounded by hyper, which holds the same bytes and has a limit for heads.
            self.line.extend_from_slice(rest);
            return Some(rest.len());
        };
        let line = rest.get(..end)?;
        let fine = if self.line.is_empty() {
            self.end_line(line, state)
        } else {
            let mut whole = std::mem::take(&mut self.line);
            whole.extend_from_slice(line);
            let fine = self.end_line(&whole, state);
            whole.clear();
            self.line = whole;
            fine
        };
        fine.then_some(end + 1)
    }

    /// A line is complete; false: it is not one that may stand here.
    fn end_line(&mut self, line: &[u8], state: &State) -> bool {
        let Some(line) = line.strip_suffix(b"\r") else {
            return false;
        };
        match self.at {
            At::Head if !self.head.begun => {
                // Blank lines in front of a request are skipped; a fragment has no business in a request.
                self.head.begun = !line.is_empty();
                memchr::memchr(b'#', line).is_none()
            }
            At::Head if line.is_empty() => self.end_head(state),
            At::Head => self.header(line),
            At::ChunkSize => self.chunk_size(line),
            _ => {
                if line.is_empty() {
                    self.at = At::Head;
                }
                true
            }
        }
    }

    fn header(&mut self, line: &[u8]) -> bool {
        // Only the names that begin with one of these letters matter.
        match line.first() {
            Some(b' ' | b'\t') => return false,
            Some(b'c' | b'C' | b't' | b'T' | b'u' | b'U') => {}
            _ => return true,
        }
        let Some(colon) = memchr::memchr(b':', line) else {
            return false;
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = decimal(value);
            let contradicts = self.head.length.is_some() && self.head.length != length;
            self.head.length = length;
            return length.is_some() && !contradicts && !self.head.chunked;
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let again = std::mem::replace(&mut self.head.chunked, true);
            return !again && self.head.length.is_none() && value.eq_ignore_ascii_case(b"chunked");
        }
        self.head.upgrade |= name.eq_ignore_ascii_case(b"upgrade");
        true
    }

    fn end_head(&mut self, state: &State) -> bool {
        let head = std::mem::take(&mut self.head);
        self.at = match (head.chunked, head.length) {
            (true, _) => At::ChunkSize,
            (false, Some(length)) if length > 0 => At::Body(length),
            _ if head.upgrade => {
                state.upgrading.store(true, Relaxed);
                At::Other
            }
            _ => At::Head,
        };
        true
    }

    fn chunk_size(&mut self, line: &[u8]) -> bool {
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let (size, extension) = line.split_at(digits);
        let plain = extension
            .iter()
            .all(|byte| *byte == b'\t' || (b' '..=b'~').contains(byte) || *byte >= 0x80);
        if !(1..=15).contains(&digits)
            || !plain
            || !(extension.is_empty() || extension.trim_ascii_start().starts_with(b";"))
        {
            return false;
        }
        let size = size.iter().fold(0_u64, |size, digit| {
            size << 4 | u64::from((*digit as char).to_digit(16).unwrap_or(0))
        });
        self.at = if size == 0 {
            At::Trailers
        } else {
            At::ChunkData(size)
        };
        true
    }
}

fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + u64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdict(bytes: &[u8], step: usize) -> Result<(), usize> {
        let (mut framing, state) = (Framing::new(), State::new());
        let mut at = 0;
        for part in bytes.chunks(step) {
            if let Err(refused) = framing.scan(part, &state) {
                return Err(at + refused.fine);
            }
            at += part.len();
        }
        Ok(())
    }

    #[test]
    fn well_formed_messages_pass() {
        for message in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nPOST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n\n\n\n\n\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\n\n\n\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
            "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x01\n\n\n",
        ] {
            for step in [1, 2, 3, 7, 1000] {
                assert_eq!(
                    verdict(message.as_bytes(), step),
                    Ok(()),
                    "{message:?} in steps of {step}"
                );
            }
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for message in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nX: X \nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET /#x HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: +3\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nX: 1\r\n folded\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;\0\r\nabc\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        ] {
            for step in [1, 2, 3, 7, 1000] {
                assert!(
                    verdict(message.as_bytes(), step).is_err(),
                    "{message:?} in steps of {step}"
                );
            }
        }
    }

    #[test]
    fn a_refused_change_of_protocol_is_followed_by_requests_again() {
        let (mut framing, state) = (Framing::new(), State::new());
        framing
            .scan(b"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n", &state)
            .unwrap();
        assert!(state.upgrading.load(Relaxed));
        state.upgrading.store(false, Relaxed);
        assert!(
            framing
                .scan(b"GET / HTTP/1.1\nHost: a\r\n\r\n", &state)
                .is_err()
        );
    }

    #[test]
    fn a_head_is_awaited_from_its_first_byte_to_its_last() {
        let (mut framing, state) = (Framing::new(), State::new());
        state.await_request();
        let waits = |state: &State| format!("{state:?}").contains("head: 0,");
        assert!(waits(&state));
        framing.scan(b"GET", &state).unwrap();
        assert!(!waits(&state));
        framing.scan(b" / HTTP/1.1\r\n\r\n", &state).unwrap();
        assert!(waits(&state));
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_does_not_matter(
            bytes in proptest::collection::vec(prop_oneof![
                Just("\r\n"), Just("\n"), Just("\r"), Just("GET / HTTP/1.1\r\n"), Just("Content-Length: 3\r\n"),
                Just("Transfer-Encoding: chunked\r\n"), Just("3\r\nabc\r\n"), Just("0\r\n"), Just("abc"), Just(":"),
            ], 0..20),
            step in 1..9_usize,
        ) {
            let bytes = bytes.concat();
            prop_assert_eq!(verdict(bytes.as_bytes(), step).is_ok(), verdict(bytes.as_bytes(), 10_000).is_ok());
        }
    }
}
