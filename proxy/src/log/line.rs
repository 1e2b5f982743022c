//! One line.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Version};

use crate::record::{Details, Record, Spoken};

/// Longer texts of clients are cut.
const LONGEST: usize = 1024;

/// Formats the date of a second only once.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    /// Now: "2026-11-22T12:30:00" and the milliseconds.
    pub(super) fn now(&mut self) -> (&str, u32) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        if self.second != now.as_secs() || self.text.is_empty() {
            self.second = now.as_secs();
            let second = i64::try_from(now.as_secs())
                .ok()
                .and_then(|second| jiff::Timestamp::from_second(second).ok());
            self.text = second.unwrap_or_default().to_string();
            // Without the Z.
            self.text.pop();
        }
        (&self.text, now.subsec_millis())
    }
}

/// Appends the line of a request.
pub(super) fn write(out: &mut Vec<u8>, (second, milliseconds): (&str, u32), record: &Record) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(second.as_bytes());
    let mut digits = itoa::Buffer::new();
    out.push(b'.');
    // Always three digits.
    out.extend_from_slice(
        digits
            .format(1000 + milliseconds % 1000)
            .as_bytes()
            .get(1..)
            .unwrap_or_default(),
    );
    out.extend_from_slice(b"Z\"");
    if let Some(details) = &record.details {
        request(out, details);
    }
    number(out, "status", record.status.as_u16().into());
    number(out, "bytes", record.sent);
    milliseconds_of(out, "duration_ms", record.elapsed());
    if let Some(rule) = &record.rule {
        text(out, "route", rule.route.as_bytes());
        text(out, "rule", rule.name.as_bytes());
        let backend = record
            .backend
            .and_then(|backend| rule.backends.get(backend));
        if let Some(upstream) = backend.and_then(|backend| backend.upstream.as_ref()) {
            text(out, "upstream", upstream.name.as_bytes());
        }
    }
    if let Some(endpoint) = &record.endpoint {
        out.extend_from_slice(b",\"endpoint\":\"");
        // An address has nothing to be escaped, and writing to a Vec does not fail.
        let _written = write!(out, "{endpoint}\"");
        number(out, "attempts", record.attempts.into());
    }
    if let Some(took) = record.upstream_time {
        milliseconds_of(out, "upstream_ms", took);
    }
    if let Some(consumer) = &record.consumer {
        text(out, "consumer", consumer.id().as_bytes());
        if record.anonymous {
            out.extend_from_slice(b",\"anonymous\":true");
        }
    }
    if let Some(replaced) = &record.replaced {
        text(out, "replaced_consumer", replaced.id().as_bytes());
    }
    if let Some(last) = record.verdicts.last() {
        text(out, "plugin", last.plugin.as_bytes());
        text(out, "reason", last.reason.as_bytes());
    }
    if record.verdicts.len() > 1 {
        verdicts(out, &record.verdicts);
    }
    if let Some(failure) = record.failure {
        text(out, "failure", failure.as_bytes());
    }
    if let Some(cause) = &record.cause {
        text(out, "cause", cause.as_bytes());
    }
    if record.aborted {
        out.extend_from_slice(b",\"aborted\":true");
    }
    out.extend_from_slice(b"}\n");
}

/// All that was said, where there is more to it than the last word.
fn verdicts(out: &mut Vec<u8>, verdicts: &[Spoken]) {
    name(out, "verdicts");
    out.push(b'[');
    for (at, spoken) in verdicts.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"{" } else { b",{" });
        out.extend_from_slice(b"\"plugin\":\"");
        escape(out, spoken.plugin.as_bytes());
        out.push(b'"');
        if let Some(method) = spoken.method {
            text(out, "method", method.name().as_bytes());
        }
        text(out, "reason", spoken.reason.as_bytes());
        out.push(b'}');
    }
    out.push(b']');
}

fn request(out: &mut Vec<u8>, details: &Details) {
    let header = |out: &mut Vec<u8>, name: &str, value: &Option<HeaderValue>| {
        if let Some(value) = value {
            text(out, name, value.as_bytes());
        }
    };
    header(out, "request_id", &details.request_id);
    out.extend_from_slice(b",\"client\":\"");
    let _written = write!(out, "{}\"", details.client);
    text(out, "method", details.method.as_str().as_bytes());
    header(out, "host", &details.host);
    if let Some(target) = &details.target {
        out.extend_from_slice(b",\"path\":\"");
        escape(out, target.path().as_bytes());
        if let Some(query) = target.query() {
            out.push(b'?');
            redact(out, query);
        }
        out.push(b'"');
    }
    let protocol = match details.version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP",
    };
    text(out, "protocol", protocol.as_bytes());
    number(out, "port", details.port.into());
    out.extend_from_slice(if details.tls {
        b",\"tls\":true"
    } else {
        b",\"tls\":false"
    });
    header(out, "user_agent", &details.user_agent);
}

/// The names of the parameters and nothing else: any value may be a secret, and so may be what does not look like a name.
pub(super) fn redact(out: &mut Vec<u8>, query: &str) {
    for (at, pair) in query.split('&').enumerate() {
        if out.len() > LONGEST * 16 || at > 32 {
            out.extend_from_slice("…".as_bytes());
            return;
        }
        if at > 0 {
            out.push(b'&');
        }
        match pair.split_once('=') {
            Some((name, _)) if is_plain(name) => {
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"=*");
            }
            Some(_) => out.extend_from_slice(b"*=*"),
            None if pair.is_empty() => {}
            None => out.push(b'*'),
        }
    }
}

fn is_plain(name: &str) -> bool {
    name.len() <= 32
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte))
}

fn name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(out: &mut Vec<u8>, of: &str, value: u64) {
    name(out, of);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// With three digits behind the point.
fn milliseconds_of(out: &mut Vec<u8>, of: &str, took: Duration) {
    let micros = took.as_micros();
    name(out, of);
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(micros / 1000).as_bytes());
    out.push(b'.');
    out.extend_from_slice(
        digits
            .format(1000 + micros % 1000)
            .as_bytes()
            .get(1..)
            .unwrap_or_default(),
    );
}

fn text(out: &mut Vec<u8>, of: &str, value: &[u8]) {
    name(out, of);
    out.push(b'"');
    escape(out, value);
    out.push(b'"');
}

/// Writes bytes as the inside of a JSON string; what is not UTF-8 becomes U+FFFD.
fn escape(out: &mut Vec<u8>, value: &[u8]) {
    let (value, cut) = match value.get(..LONGEST) {
        Some(short) if value.len() > LONGEST => (short, true),
        _ => (value, false),
    };
    for chunk in value.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0..=0x1f | 0x7f => {
                    const HEX: [u8; 16] = *b"0123456789abcdef";
                    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                    out.extend_from_slice(&[
                        b'\\',
                        b'u',
                        b'0',
                        b'0',
                        digit(byte >> 4),
                        digit(byte & 15),
                    ]);
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    if cut {
        out.extend_from_slice("…".as_bytes());
    }
}
