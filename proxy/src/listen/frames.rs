//! Counts the HTTP/2 frames that cost much and bring nothing: PING, SETTINGS, PRIORITY, RST_STREAM, empty DATA, unknown
//! ones. A client that sends them in masses is cut off. (Resets, CONTINUATION and empty DATA have limits of their own in
//! hyper; PING and PRIORITY have none.)
//!
//! Work earns them: gRPC clients send a PING with what they send or receive, to measure how much may be on its way, and a long
//! stream of messages has as many of them as it likes.

use super::connections::State;
use crate::clock;

/// How many may come at once.
const BURST: u32 = 1_000;
/// How many more in a second.
const PER_SECOND: u32 = 100;
/// Bytes written to the client that earn one more: more than the answer to a PING (17) or to SETTINGS (9), so that masses of
/// them do not earn their own answers.
const EARNS: usize = 32;
const HEADER: usize = 9;
const PREFACE: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Where the scanner is in a client's bytes.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the preface, or of a frame's payload, that are still to come.
    skip: usize,
    header: [u8; HEADER],
    filled: usize,
    budget: u32,
    /// Bytes written that have not earned one yet.
    written: usize,
    refilled: u64,
}

/// Too many.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many HTTP/2 control frames")]
pub(super) struct TooMany;

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            skip: PREFACE,
            header: [0; HEADER],
            filled: 0,
            budget: BURST,
            written: 0,
            refilled: clock::millis(),
        }
    }

    /// Follows the next bytes of the client.
    pub(super) fn scan(&mut self, bytes: &[u8], state: &State) -> Result<(), TooMany> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.skip > 0 {
                let taken = self.skip.min(rest.len());
                self.skip -= taken;
                rest = rest.get(taken..).unwrap_or_default();
                continue;
            }
            let wanted = self.header.get_mut(self.filled..).unwrap_or_default();
            let taken = wanted.len().min(rest.len());
            for (to, from) in wanted.iter_mut().zip(rest) {
                *to = *from;
            }
            self.filled += taken;
            rest = rest.get(taken..).unwrap_or_default();
            if self.filled == HEADER {
                self.filled = 0;
                self.frame(state)?;
            }
        }
        Ok(())
    }

    /// Counts what was written to the client.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        self.earn(u32::try_from(self.written / EARNS).unwrap_or(BURST));
        self.written %= EARNS;
    }

    fn earn(&mut self, more: u32) {
        self.budget = self.budget.saturating_add(more).min(BURST);
    }

    fn frame(&mut self, state: &State) -> Result<(), TooMany> {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.skip = length;
        match kind {
            HEADERS => {
                // Old browsers send a PRIORITY with each request, and cancel some.
                self.earn(2);
                state.await_head(flags & END_HEADERS == 0);
                Ok(())
            }
            CONTINUATION => {
                state.await_head(flags & END_HEADERS == 0);
                Ok(())
            }
            DATA if length > 0 => {
                self.earn(1);
                Ok(())
            }
            DATA if flags & END_STREAM != 0 => Ok(()),
            WINDOW_UPDATE => Ok(()),
            _ => self.spend(),
        }
    }

    fn spend(&mut self) -> Result<(), TooMany> {
        if self.budget == 0 {
            let now = clock::millis();
            let more = now.saturating_sub(self.refilled) * u64::from(PER_SECOND) / 1000;
            self.refilled = now;
            self.budget = u32::try_from(more).unwrap_or(BURST).min(BURST);
        }
        self.budget = self.budget.checked_sub(1).ok_or(TooMany)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend(vec![6; usize::from(length)]);
        frame
    }

    fn sent(frames: &[Vec<u8>], step: usize) -> Result<(), TooMany> {
        let (mut meter, state) = (Frames::new(), State::new());
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frames.concat());
        bytes
            .chunks(step)
            .try_for_each(|part| meter.scan(part, &state))
    }

    #[test]
    fn control_frames_in_masses_are_too_many() {
        for (kind, flags, length) in [
            (PING, 0, 8),
            (2, 0, 5),
            (4, 0, 0),
            (3, 0, 4),
            (DATA, 0, 0),
            (0xfa, 0, 1),
        ] {
            let one = frame(kind, flags, length);
            for step in [1, 5, 100_000] {
                assert_eq!(sent(&vec![one.clone(); 1000], step), Ok(()), "{kind}");
                assert_eq!(sent(&vec![one.clone(); 1001], step), Err(TooMany), "{kind}");
            }
        }
    }

    #[test]
    fn a_ping_with_each_message_is_no_flood() {
        let (ping, message) = (frame(PING, 0, 8), frame(DATA, 0, 1));
        let sending = [message, ping.clone()].concat();
        assert_eq!(sent(&vec![sending; 5000], 1000), Ok(()));

        let received = |bytes: usize| {
            let (mut meter, state) = (Frames::new(), State::new());
            meter.skip = 0;
            (0..5000).try_for_each(|_| {
                meter.wrote(bytes);
                meter.scan(&ping, &state)
            })
        };
        assert_eq!(received(EARNS), Ok(()));
        assert_eq!(received(17), Err(TooMany), "the answer to a PING");
    }

    #[test]
    fn requests_and_their_bodies_are_not_counted() {
        for (kind, flags, length) in [
            (HEADERS, 5, 10),
            (DATA, 0, 1),
            (DATA, END_STREAM, 0),
            (WINDOW_UPDATE, 0, 4),
        ] {
            assert_eq!(
                sent(&vec![frame(kind, flags, length); 5000], 1000),
                Ok(()),
                "{kind}"
            );
        }
        let request_with_priority = [frame(2, 0, 5), frame(HEADERS, 5, 10)].concat();
        assert_eq!(sent(&vec![request_with_priority; 5000], 1000), Ok(()));
    }
}
