//! One form for every path, decided before routing and forwarded as it was matched.
//!
//! Dot segments are resolved, also when they are percent-encoded; runs of slashes become one; percent-encoded unreserved
//! characters are decoded and the hex digits of the others are upper case; characters that RFC 3986 does not allow raw
//! are encoded. What upstreams are known to read in more than one way is refused: an encoded slash or backslash, a raw
//! backslash, an encoded control character, raw bytes outside ASCII, a dot segment with parameters (`..;x`).

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadPath {
    /// `*`, an authority, or nothing.
    NoPath,
    /// `\`, or `%5c`.
    Backslash,
    /// `%2f`.
    EncodedSlash,
    /// `%00` to `%1f`, `%7f`.
    Control,
    /// Raw bytes outside of visible ASCII.
    Raw,
    /// `%` without two hexadecimal digits.
    BadEscape,
    /// `.;x` or `..;x`.
    DotParameters,
}

impl BadPath {
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::NoPath => "the request target must be a path",
            Self::Backslash => "the path must not contain a backslash",
            Self::EncodedSlash => "the path must not contain an encoded slash",
            Self::Control => "the path must not contain control characters",
            Self::Raw => "the request target must be ASCII; encode other characters",
            Self::BadEscape => "the path contains a '%' without two hexadecimal digits",
            Self::DotParameters => "the path must not contain a dot segment with parameters",
        }
    }
}

/// May stand in a path as it is.
const PLAIN: u8 = 1;
/// `/`
const SLASH: u8 = 2;
/// `.`: plain, but may be part of a dot segment.
const DOT: u8 = 3;
/// `%`
const PERCENT: u8 = 4;
/// Not allowed raw; encoded.
const ENCODE: u8 = 5;

/// What may be done with each byte; 0: refused.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte: usize = 0;
    while byte < 128 {
        #[expect(clippy::cast_possible_truncation, reason = "below 128")]
        let b = byte as u8;
        #[expect(
            clippy::indexing_slicing,
            reason = "below 256, and evaluated by the compiler"
        )]
        {
            table[byte] = match b {
                b'/' => SLASH,
                b'.' => DOT,
                b'%' => PERCENT,
                b'-' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+'
                | b',' | b';' | b'=' | b':' | b'@' => PLAIN,
                _ if b.is_ascii_alphanumeric() => PLAIN,
                b'\\' | 0..=0x20 | 0x7f => 0,
                _ => ENCODE,
            };
        }
        byte += 1;
    }
    table
}

fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(0)
}

/// The canonical form of a path; `None` where it is canonical already.
pub(crate) fn canonical(path: &str) -> Result<Option<String>, BadPath> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(BadPath::NoPath);
    }
    if is_canonical(bytes) {
        return Ok(None);
    }
    rebuild(bytes).map(|form| (form != path).then_some(form))
}

/// Whether nothing needs a closer look. Says no too often, `/.a` or `%20`; [`rebuild`] then finds out.
fn is_canonical(bytes: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in bytes {
        let class = class(byte);
        // A dot behind a slash may begin a dot segment; a slash behind a slash is one too many.
        let suspicious = match class {
            PLAIN => false,
            SLASH | DOT => previous == SLASH,
            _ => true,
        };
        if suspicious {
            return false;
        }
        previous = class;
    }
    true
}

fn rebuild(bytes: &[u8]) -> Result<String, BadPath> {
    let mut out: Vec<u8> = Vec::with_capacity(bytes.len() + 8);
    out.push(b'/');
    let mut rest = bytes.iter().copied();
    rest.next();
    // Where the segment that is being written begins.
    let mut start = 1;
    loop {
        let next = rest.next();
        match next {
            None | Some(b'/') => {
                let last = next.is_none();
                end_segment(&mut out, &mut start, last)?;
                if last {
                    break;
                }
            }
            Some(b'%') => {
                let (Some(high), Some(low)) =
                    (rest.next().and_then(hex), rest.next().and_then(hex))
                else {
                    return Err(BadPath::BadEscape);
                };
                decoded(&mut out, high << 4 | low)?;
            }
            Some(byte) => match class(byte) {
                PLAIN | DOT => out.push(byte),
                ENCODE => escape(&mut out, byte),
                _ if byte == b'\\' => return Err(BadPath::Backslash),
                _ => return Err(BadPath::Raw),
            },
        }
    }
    // Only ASCII was written.
    String::from_utf8(out).map_err(|_| BadPath::Raw)
}

/// Writes the byte that an escape stands for: raw where that is allowed and means the same, escaped otherwise.
fn decoded(out: &mut Vec<u8>, byte: u8) -> Result<(), BadPath> {
    match byte {
        b'/' => Err(BadPath::EncodedSlash),
        b'\\' => Err(BadPath::Backslash),
        0..=0x1f | 0x7f => Err(BadPath::Control),
        b'-' | b'.' | b'_' | b'~' => {
            out.push(byte);
            Ok(())
        }
        _ if byte.is_ascii_alphanumeric() => {
            out.push(byte);
            Ok(())
        }
        _ => {
            escape(out, byte);
            Ok(())
        }
    }
}

/// Closes the segment from `start` on: dot segments are resolved, an empty one vanishes.
fn end_segment(out: &mut Vec<u8>, start: &mut usize, last: bool) -> Result<(), BadPath> {
    let segment = out.get(*start..).unwrap_or_default();
    let name = segment
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    // An escaped semicolon counts too: some upstreams decode before they look for parameters.
    let name =
        memchr::memmem::find(name, b"%3B").map_or(name, |at| name.get(..at).unwrap_or_default());
    let dots = match name {
        b"." => 1,
        b".." => 2,
        _ => 0,
    };
    if dots > 0 && name.len() != segment.len() {
        return Err(BadPath::DotParameters);
    }
    match dots {
        0 if segment.is_empty() => return Ok(()),
        0 => {
            if !last {
                out.push(b'/');
            }
        }
        1 => out.truncate(*start),
        _ => {
            out.truncate(*start);
            // `out` ends with a slash; go back behind the one before it.
            let above = out.len().saturating_sub(1);
            let parent = out
                .get(..above)
                .and_then(|above| memchr::memrchr(b'/', above))
                .unwrap_or(0);
            out.truncate(parent + 1);
        }
    }
    *start = out.len();
    Ok(())
}

/// The path as upstreams read it that know parameters of segments (`/a;x=1/b` is `/a/b`); `None` where nobody could.
/// It takes a canonical path.
pub(crate) fn without_parameters(path: &str) -> Option<String> {
    memchr::memchr2(b';', b'%', path.as_bytes())?;
    // Some upstreams decode before they look for parameters.
    if !path.contains(';') && !path.contains("%3B") {
        return None;
    }
    let mut plain = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let name = segment.split(';').next().unwrap_or_default();
        let name = name.split("%3B").next().unwrap_or_default();
        if !name.is_empty() || segments.peek().is_none() {
            plain.push('/');
            plain.push_str(name);
        }
    }
    Some(plain)
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    let digit = |nibble: u8| {
        if nibble < 10 {
            b'0' + nibble
        } else {
            b'A' + nibble - 10
        }
    };
    out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
}

/// The one form of a path is its own form and holds nothing that could be read in two ways.
#[cfg(any(test, feature = "invariants"))]
pub(crate) fn assert_canonical(path: &str) {
    let Ok(form) = canonical(path) else {
        return;
    };
    let form = form.unwrap_or_else(|| path.to_owned());
    assert_eq!(canonical(&form), Ok(None));
    assert!(form.starts_with('/') && !form.contains("//"));
    assert!(
        !form
            .split('/')
            .any(|segment| segment == "." || segment == "..")
    );
    let lower = form.to_ascii_lowercase();
    assert!(!lower.contains("%2f") && !lower.contains("%5c") && !lower.contains("%2e"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form(path: &str) -> Result<String, BadPath> {
        canonical(path).map(|changed| changed.unwrap_or_else(|| path.to_owned()))
    }

    #[test]
    fn canonical_paths_are_not_copied() {
        for path in [
            "/",
            "/a",
            "/a/b/",
            "/a.b/c..d",
            "/a;v=1/b",
            "/x:y@z/!$&'()*+,=-_~",
        ] {
            assert_eq!(canonical(path), Ok(None), "{path}");
        }
    }

    #[test]
    fn every_spelling_of_a_path_has_one_form() {
        for spelling in [
            "/private/x",
            "//private/x",
            "/./private/x",
            "/a/../private/x",
            "/a/%2e%2e/private/x",
            "/a/%2E./private/x",
            "/../private/x",
            "/%70rivate/x",
            "/private//x",
            "/private/./x",
            "/private/y/../x",
            "/%2e/private/%78",
            "/a/b/../../private/x",
            "/../../../private/x",
        ] {
            assert_eq!(form(spelling).as_deref(), Ok("/private/x"), "{spelling}");
        }
    }

    #[test]
    fn ends_and_escapes() {
        for (path, expected) in [
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a//", "/a/"),
            ("/..", "/"),
            ("/a/b/..", "/a/"),
            ("/.hidden", "/.hidden"),
            ("/...", "/..."),
            ("/a%c3%a9", "/a%C3%A9"),
            ("/a%252f", "/a%252f"),
            ("/a|b[1]", "/a%7Cb%5B1%5D"),
            ("/a%20b", "/a%20b"),
            ("/a%3fb", "/a%3Fb"),
            ("/a;x=..", "/a;x=.."),
        ] {
            assert_eq!(form(path).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (path, expected) in [
            ("", BadPath::NoPath),
            ("*", BadPath::NoPath),
            ("/a%2fb", BadPath::EncodedSlash),
            ("/a%2Fb", BadPath::EncodedSlash),
            ("/a\\b", BadPath::Backslash),
            ("/a%5cb", BadPath::Backslash),
            ("/a%00", BadPath::Control),
            ("/a%0d%0ab", BadPath::Control),
            ("/a%7f", BadPath::Control),
            ("/é", BadPath::Raw),
            ("/a%", BadPath::BadEscape),
            ("/a%2", BadPath::BadEscape),
            ("/a%zz", BadPath::BadEscape),
            ("/..;/admin", BadPath::DotParameters),
            ("/a/..;x=1/admin", BadPath::DotParameters),
            ("/%2e%2e;x/admin", BadPath::DotParameters),
            ("/..%3b/admin", BadPath::DotParameters),
            ("/.;/admin", BadPath::DotParameters),
        ] {
            assert_eq!(canonical(path), Err(expected), "{path}");
        }
    }

    #[test]
    fn parameters_of_segments_can_be_left_out() {
        for (path, plain) in [
            ("/a/b", None),
            ("/a%20b", None),
            ("/a;x/b", Some("/a/b")),
            ("/a;x=1;y/b;z", Some("/a/b")),
            ("/;/private", Some("/private")),
            ("/;a=b/;/private", Some("/private")),
            ("/private%3Bx/y", Some("/private/y")),
            ("/a/;x", Some("/a/")),
            ("/;", Some("/")),
        ] {
            assert_eq!(without_parameters(path).as_deref(), plain, "{path}");
        }
    }

    proptest! {
        #[test]
        fn canonical_forms_are_stable_and_hold_nothing_ambiguous(path in "/[a-z./%;A-F0-9|~-]{0,40}") {
            assert_canonical(&path);
        }
    }
}
