//! What must hold for any input, however broken: asserted for the fuzzers' inputs, their corpus and random ones.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::callback::Returned;
use super::cookies::{Channel, Jar};
use super::seal::Sealing;
use super::token::Token;
use super::{Session, provider, tokens};

/// Cookies, the query of a callback, a discovery document, an answer of the token endpoint, a token.
pub fn anything(data: &[u8]) {
    provider::read_metadata(data);
    if let Some(Ok(tokens)) = tokens::read(StatusCode::OK, data) {
        assert!(!tokens.access_token.secret().is_empty());
        assert!(tokens.ends(3600, 1000) >= 1000);
    }
    assert!(tokens::read(StatusCode::BAD_REQUEST, data).is_some_and(|read| read.is_err()));
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Token::read(text);
        if let Some(returned) = Returned::read(text) {
            let named = text
                .split('&')
                .filter(|pair| pair.starts_with("state="))
                .count();
            assert!(named <= 1 && (named == 0 || returned.state.is_some()));
        }
        let sealing = Sealing::new(b"a secret of enough characters", &["invariants"]);
        assert!(sealing.is_some_and(|sealing| sealing.open("session", text).is_none()));
    }
    let mut headers = HeaderMap::new();
    if let Ok(line) = HeaderValue::from_bytes(data) {
        headers.insert(COOKIE, line);
        let _ = Jar::new(&Session::default()).session_of(&headers, Channel::Plain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invariants_hold_for_the_corpus_of_the_fuzzers() {
        let folder = format!(
            "{}/../fuzz/corpus/openid_connect",
            env!("CARGO_MANIFEST_DIR")
        );
        let mut seeds = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            anything(&std::fs::read(file.unwrap().path()).unwrap());
            seeds += 1;
        }
        assert!(seeds > 5);
    }

    proptest::proptest! {
        #[test]
        fn invariants_hold_for_anything(text in r#"[a-z=&%+2F.;"{}:\[\]0-9]{0,60}"#) {
            anything(text.as_bytes());
        }
    }
}
