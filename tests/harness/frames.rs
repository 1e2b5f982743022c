//! HTTP/2 frames by hand, for what a well-behaved client library would not send or not show.

use crate::raw::Connection;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// HEADERS of a whole request without a body.
    #[must_use]
    pub fn request(stream: u32, fields: &[(&str, &str)]) -> Self {
        Self {
            kind: HEADERS,
            flags: END_STREAM | END_HEADERS,
            stream,
            payload: literal(fields),
        }
    }

    /// HEADERS of a request whose body follows.
    #[must_use]
    pub fn head(stream: u32, fields: &[(&str, &str)]) -> Self {
        Self {
            kind: HEADERS,
            flags: END_HEADERS,
            stream,
            payload: literal(fields),
        }
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len())
            .expect("a frame")
            .to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The error code of GOAWAY or `RST_STREAM`.
    #[must_use]
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("a code"))
    }

    /// The `:status` of response HEADERS, as far as it is sent without compression by a table that grew.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        // Fields 8 to 14 of the static table are the statuses 200 to 500; all others come as a literal.
        match *self.payload.first()? {
            first @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500]
                .get(usize::from(first - 0x88))
                .copied(),
            _ => {
                let length = usize::from(self.payload.get(1)? & 0x7f);
                let text = self.payload.get(2..2 + length)?;
                if self.payload[1] & 0x80 == 0 {
                    std::str::from_utf8(text).ok()?.parse().ok()
                } else {
                    huffman(text)
                }
            }
        }
    }
}

/// Three digits in HPACK's Huffman code: 5 bits for 0 to 2, 6 bits for 3 to 9.
fn huffman(bytes: &[u8]) -> Option<u16> {
    let bits = bytes.iter().fold(0_u64, |all, b| all << 8 | u64::from(*b));
    let mut left = u32::try_from(bytes.len()).ok()? * 8;
    let mut status = 0;
    for _ in 0..3 {
        let five = (bits >> left.checked_sub(5)?) & 0x1f;
        let digit = if five < 3 {
            left -= 5;
            five
        } else {
            let six = (bits >> left.checked_sub(6)?) & 0x3f;
            left -= 6;
            six.checked_sub(0x19)? + 3
        };
        status = status * 10 + u16::try_from(digit).ok()?;
    }
    Some(status)
}

/// HPACK without compression: literal fields, not indexed.
#[must_use]
pub fn literal(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend(text.bytes());
        }
    }
    block
}

/// An HPACK integer with a prefix of seven bits.
fn integer(block: &mut Vec<u8>, value: usize) {
    if value < 127 {
        return block.push(u8::try_from(value).expect("seven bits"));
    }
    block.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).expect("seven bits") | 0x80);
        rest /= 128;
    }
    block.push(u8::try_from(rest).expect("seven bits"));
}

/// Opens HTTP/2 with prior knowledge: preface and empty SETTINGS.
pub async fn preface(connection: &mut Connection) {
    let settings = Frame {
        kind: SETTINGS,
        flags: 0,
        stream: 0,
        payload: Vec::new(),
    };
    connection
        .send(
            [
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
                &settings.encode(),
            ]
            .concat(),
        )
        .await;
}

/// The next frame, or None at the end. SETTINGS and PING of the other side are acknowledged.
pub async fn next(connection: &mut Connection) -> Option<Frame> {
    if connection.at_end().await {
        return None;
    }
    let head = connection.bytes(9).await;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    let payload = connection
        .bytes(usize::try_from(length).expect("a length"))
        .await;
    let frame = Frame {
        kind: head[3],
        flags: head[4],
        stream,
        payload,
    };
    if (frame.kind == SETTINGS || frame.kind == PING) && frame.flags & ACK == 0 {
        let payload = if frame.kind == PING {
            frame.payload.clone()
        } else {
            Vec::new()
        };
        connection
            .send(
                Frame {
                    kind: frame.kind,
                    flags: ACK,
                    stream: 0,
                    payload,
                }
                .encode(),
            )
            .await;
    }
    Some(frame)
}

/// Reads up to a frame of that kind on that stream; None when the connection ends before.
pub async fn until(connection: &mut Connection, kind: u8, stream: u32) -> Option<Frame> {
    while let Some(frame) = next(connection).await {
        if frame.kind == kind && frame.stream == stream {
            return Some(frame);
        }
    }
    None
}

/// What happened to a stream: the status of its answer, or that it or the whole connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    /// `RST_STREAM`, with its code.
    Reset(u32),
    /// GOAWAY, with its code.
    GoAway(u32),
    Closed,
}

/// What becomes of a stream.
pub async fn outcome(connection: &mut Connection, stream: u32) -> Outcome {
    while let Some(frame) = next(connection).await {
        match frame.kind {
            HEADERS if frame.stream == stream => {
                return Outcome::Status(frame.status().expect("a status"));
            }
            RST_STREAM if frame.stream == stream => return Outcome::Reset(frame.code()),
            GOAWAY => return Outcome::GoAway(frame.code()),
            _ => {}
        }
    }
    Outcome::Closed
}

/// What becomes of a stream whose answer has begun.
pub async fn outcome_after_head(connection: &mut Connection, stream: u32) -> Outcome {
    while let Some(frame) = next(connection).await {
        match frame.kind {
            RST_STREAM if frame.stream == stream => return Outcome::Reset(frame.code()),
            GOAWAY => return Outcome::GoAway(frame.code()),
            _ => {}
        }
    }
    Outcome::Closed
}
