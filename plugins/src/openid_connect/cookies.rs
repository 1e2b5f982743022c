//! Cookies: their names, attributes, and how a long one is split.

use std::borrow::Cow;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use super::config::{SameSite, Session as Options};
use crate::handler::ResponseEdits;

/// Browsers take 4096 bytes for name, value and attributes.
const CHUNK: usize = 3500;
/// A session that needs more cookies than this is kept in the store.
pub(super) const MAX_CHUNKS: usize = 4;

/// The cookies of one plugin.
#[derive(Debug)]
pub(super) struct Jar {
    secure_names: Names,
    plain_names: Names,
    attributes: Box<str>,
    same_site: SameSite,
    secure: Option<bool>,
}

/// What the cookies are called.
#[derive(Debug)]
struct Names {
    /// The session's parts.
    session: [Box<str>; MAX_CHUNKS],
    /// What those of logins begin with.
    logins: Box<str>,
}

impl Names {
    fn new(name: &str) -> Self {
        Self {
            session: std::array::from_fn(|at| match at {
                0 => name.into(),
                _ => format!("{name}_{}", at + 1).into(),
            }),
            logins: format!("{name}_l_").into(),
        }
    }
}

/// Whether the client uses TLS, which decides about names and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Tls,
    Plain,
}

impl Channel {
    pub(super) const fn of(https: bool) -> Self {
        if https { Self::Tls } else { Self::Plain }
    }
}

impl Jar {
    pub(super) fn new(options: &Options) -> Self {
        let domain = options.domain.as_ref();
        let domain = domain.map_or_else(String::new, |domain| format!("; Domain={domain}"));
        let name = &options.cookie_name;
        let prefixed = options.path == "/" && domain.is_empty();
        Self {
            secure_names: Names::new(&if prefixed {
                format!("__Host-{name}")
            } else {
                name.clone()
            }),
            plain_names: Names::new(name),
            attributes: format!("; Path={}{domain}; HttpOnly", options.path).into(),
            same_site: options.same_site,
            secure: options.secure,
        }
    }

    fn is_secure(&self, channel: Channel) -> bool {
        self.secure.unwrap_or(channel == Channel::Tls)
    }

    fn names(&self, channel: Channel) -> &Names {
        if self.is_secure(channel) {
            &self.secure_names
        } else {
            &self.plain_names
        }
    }

    /// The parts of the session's cookie; those behind the first have `_2` and so on behind its name.
    fn session(&self, channel: Channel) -> &[Box<str>; MAX_CHUNKS] {
        &self.names(channel).session
    }

    /// What the names of the cookies of logins begin with.
    pub(super) fn logins(&self, channel: Channel) -> &str {
        &self.names(channel).logins
    }

    /// Sets a cookie, or with 0 seconds ends it.
    pub(super) fn set(
        &self,
        edits: &mut ResponseEdits,
        channel: Channel,
        (name, value): (&str, &str),
        seconds: i64,
        across: bool,
    ) {
        let secure = if self.is_secure(channel) {
            "; Secure"
        } else {
            ""
        };
        let same_site = match self.same_site {
            // The provider sends the browser back: to a strict cookie that is another site's doing.
            SameSite::Strict if across => "Lax",
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None if self.is_secure(channel) => "None",
            SameSite::None => "Lax",
        };
        let line = format!(
            "{name}={value}; Max-Age={seconds}{}{secure}; SameSite={same_site}",
            self.attributes
        );
        if let Ok(mut line) = HeaderValue::try_from(line) {
            line.set_sensitive(true);
            edits.append.push((SET_COOKIE, line));
        }
    }

    /// Sets the session's cookie, in as many parts as it takes. False: it is too long for that.
    pub(super) fn set_session(
        &self,
        edits: &mut ResponseEdits,
        channel: Channel,
        headers: &HeaderMap,
        sealed: &str,
        seconds: i64,
    ) -> bool {
        let parts: Vec<&str> = chunks(sealed);
        if parts.len() > MAX_CHUNKS {
            return false;
        }
        let count = parts.len();
        for (number, (name, part)) in self.session(channel).iter().zip(parts).enumerate() {
            if number == 0 {
                let first = format!("{count}.{part}");
                self.set(edits, channel, (name, &first), seconds, false);
            } else {
                self.set(edits, channel, (name, part), seconds, false);
            }
        }
        self.end_parts(edits, channel, headers, count);
        true
    }

    /// Ends the session's cookies that the browser has.
    pub(super) fn end_session(
        &self,
        edits: &mut ResponseEdits,
        channel: Channel,
        headers: &HeaderMap,
    ) {
        self.end_parts(edits, channel, headers, 0);
    }

    fn end_parts(
        &self,
        edits: &mut ResponseEdits,
        channel: Channel,
        headers: &HeaderMap,
        behind: usize,
    ) {
        for part in self.session(channel).iter().skip(behind) {
            if find(headers, part).is_some() {
                self.set(edits, channel, (part, ""), 0, false);
            }
        }
    }

    /// Takes the plugin's cookies out of a request: with them the upstream could be the user. The others stay as they are.
    pub(super) fn hide(&self, headers: &mut HeaderMap, channel: Channel) {
        let [session, ..] = self.session(channel);
        let is_own = |pair: &[u8]| {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            match name.strip_prefix(session.as_bytes()) {
                Some(b"" | [b'_', b'2'..=b'9'] | [b'_', b'l', b'_', ..]) => true,
                Some(_) | None => false,
            }
        };
        let mut kept = Vec::new();
        for line in headers.get_all(COOKIE) {
            let pairs = line.as_bytes().split(|byte| *byte == b';');
            let others: Vec<&[u8]> = pairs
                .map(<[u8]>::trim_ascii)
                .filter(|pair| !pair.is_empty() && !is_own(pair))
                .collect();
            if let Ok(line) = HeaderValue::from_bytes(&others.join(&b"; "[..]))
                && !line.is_empty()
            {
                kept.push(line);
            }
        }
        headers.remove(COOKIE);
        for line in kept {
            headers.append(COOKIE, line);
        }
    }

    /// The session's cookie, put together.
    pub(super) fn session_of<'h>(
        &self,
        headers: &'h HeaderMap,
        channel: Channel,
    ) -> Option<Cow<'h, str>> {
        let [name, others @ ..] = self.session(channel);
        let (count, first) = find(headers, name)?.split_once('.')?;
        let count: usize = match count.as_bytes() {
            [digit @ b'1'..=b'9'] => usize::from(digit - b'0'),
            _ => return None,
        };
        if count > MAX_CHUNKS {
            return None;
        }
        let mut whole = Cow::Borrowed(first);
        for name in others.iter().take(count - 1) {
            whole.to_mut().push_str(find(headers, name)?);
        }
        Some(whole)
    }
}

/// ASCII in parts.
fn chunks(text: &str) -> Vec<&str> {
    let mut rest = text;
    let mut parts = Vec::new();
    while let Some((part, after)) = rest.split_at_checked(CHUNK) {
        parts.push(part);
        rest = after;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(rest);
    }
    parts
}

/// All cookies of a request.
pub(super) fn all(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(COOKIE).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

/// The first cookie of a name: browsers send that of the longest path first.
pub(super) fn find<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    all(headers).find_map(|(other, value)| (other == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_session_is_split_and_put_together_again() {
        let jar = Jar::new(&Options::default());
        for length in [0, 1, CHUNK, CHUNK + 1, 2 * CHUNK, MAX_CHUNKS * CHUNK] {
            let sealed = "x".repeat(length);
            let mut edits = ResponseEdits::default();
            let mut headers = HeaderMap::new();
            assert!(jar.set_session(&mut edits, Channel::Tls, &headers, &sealed, 60));
            for (_, line) in &edits.append {
                let line = line.to_str().unwrap();
                assert!(line.len() <= 4096);
                assert!(line.starts_with("__Host-session"));
                assert!(line.ends_with("; Path=/; HttpOnly; Secure; SameSite=Lax"));
                let pair = line.split(';').next().unwrap();
                headers.append(COOKIE, HeaderValue::from_str(pair).unwrap());
            }
            assert_eq!(jar.session_of(&headers, Channel::Tls).unwrap(), sealed);
            assert_eq!(jar.session_of(&headers, Channel::Plain), None);
        }
        let mut edits = ResponseEdits::default();
        let long = "x".repeat(MAX_CHUNKS * CHUNK + 1);
        assert!(!jar.set_session(&mut edits, Channel::Tls, &HeaderMap::new(), &long, 60));
    }

    #[test]
    fn what_is_the_plugins_is_kept_from_the_upstream() {
        let jar = Jar::new(&Options::default());
        let mut headers = HeaderMap::new();
        for line in [
            &b"a=\xff; __Host-session=2.x; b"[..],
            b"__Host-session_2=y; __Host-session_l_abc=z",
            b"__Host-sessions=1;__Host-session_x=2;  session=3;",
        ] {
            headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        jar.hide(&mut headers, Channel::Tls);
        let left: Vec<_> = headers
            .get_all(COOKIE)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        assert_eq!(
            left,
            [
                &b"a=\xff; b"[..],
                b"__Host-sessions=1; __Host-session_x=2; session=3",
            ]
        );
        headers.remove(COOKIE);
        jar.hide(&mut headers, Channel::Tls);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_shorter_session_ends_the_parts_that_are_left() {
        let jar = Jar::new(&Options::default());
        let mut headers = HeaderMap::new();
        headers.insert(
            COOKIE,
            HeaderValue::from_static("session=2.a; session_2=b; session_3=c"),
        );
        let mut edits = ResponseEdits::default();
        jar.set_session(&mut edits, Channel::Plain, &headers, "x", 60);
        let lines: Vec<_> = edits
            .append
            .iter()
            .map(|(_, line)| line.to_str().unwrap())
            .collect();
        assert!(lines[0].starts_with("session=1.x; Max-Age=60"));
        assert!(lines[1].starts_with("session_2=; Max-Age=0"));
        assert!(lines[2].starts_with("session_3=; Max-Age=0"));
    }
}
