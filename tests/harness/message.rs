//! HTTP/1.1 messages as they were on the wire.

use serde_json::Value;

/// Header lines in their order, names as written.
pub type Headers = Vec<(String, String)>;

/// What an upstream got.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which of the upstream's connections it came on, from 0.
    pub connection: usize,
    /// The request line and the headers, byte for byte, with the empty line.
    pub head: Vec<u8>,
    pub method: String,
    pub target: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    /// Header lines after a chunked body.
    pub trailers: Headers,
}

/// What a client got.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub trailers: Headers,
    /// The 1xx answers that came before it.
    pub informational: Vec<(u16, Headers)>,
    /// Whether the connection was at its end after this answer.
    pub closed: bool,
}

/// All values of a header, in order.
#[must_use]
pub fn values<'a>(headers: &'a Headers, name: &str) -> Vec<&'a str> {
    headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.as_str())
        .collect()
}

fn one<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let all = values(headers, name);
    assert!(
        all.len() < 2,
        "{name} is there {} times: {all:?}",
        all.len()
    );
    all.first().copied()
}

impl Seen {
    /// The only value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        one(&self.headers, name)
    }

    /// All values of a header.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        values(&self.headers, name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Answer {
    /// The only value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        one(&self.headers, name)
    }

    /// All values of a header.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        values(&self.headers, name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("no JSON ({e}): {:?}", self.text()))
    }

    /// The `message` of an error body.
    #[must_use]
    pub fn message(&self) -> String {
        self.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// Splits a head, with or without its empty line, into its first line and its headers.
///
/// # Panics
/// When a line has no colon.
#[must_use]
pub fn parse_head(head: &[u8]) -> (String, Headers) {
    // Latin-1, so that every byte is seen as it was.
    let text: String = head.iter().map(|&b| char::from(b)).collect();
    let mut lines = text.split("\r\n").filter(|l| !l.is_empty());
    let first = lines.next().unwrap_or_default().to_owned();
    (first, lines.map(parse_line).collect())
}

/// One header line.
///
/// # Panics
/// When it has no colon.
#[must_use]
pub fn parse_line(line: &str) -> (String, String) {
    let (name, value) = line
        .split_once(':')
        .unwrap_or_else(|| panic!("no header line: {line:?}"));
    (name.to_owned(), value.trim().to_owned())
}
