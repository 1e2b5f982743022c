//! Access tokens that were looked up in this very second, so that the store is asked once a second for each. Each worker
//! thread remembers its own; none waits for another.
//!
//! A token that this process takes back is forgotten at once by all its workers; one that another proxy takes back, after
//! a second at most.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use http::HeaderValue;
use store::Key;

use super::ages::{Age, age};
use super::records::{Access, is_over};

/// How many tokens a worker remembers; in a second in which there are more, the store is asked for the others.
const MOST: usize = 1 << 14;

/// An access token, ready to be judged.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) plugin: Box<str>,
    pub(super) global: bool,
    pub(super) client_id: Box<str>,
    pub(super) application: Box<str>,
    pub(super) consumer: Box<str>,
    pub(super) scope: Option<HeaderValue>,
    pub(super) user: Option<HeaderValue>,
    expires: i64,
}

impl Token {
    pub(super) fn of(access: Access) -> Self {
        let header = |text: &str| {
            let value = (!text.is_empty()).then(|| HeaderValue::from_bytes(text.as_bytes()));
            value.and_then(Result::ok)
        };
        let subject = access.subject;
        Self {
            scope: header(&subject.scope),
            user: header(&subject.user),
            plugin: subject.plugin.into(),
            global: subject.global,
            client_id: subject.client_id.into(),
            application: subject.application.into(),
            consumer: subject.consumer.into(),
            expires: access.expires,
        }
    }

    pub(super) const fn is_over(&self, now: i64) -> bool {
        is_over(self.expires, now)
    }
}

#[derive(Default)]
struct Memory {
    /// Seconds since 1970.
    second: i64,
    tokens: HashMap<Key, (Age, Rc<Token>)>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// A token that was looked up in this second and has not been taken back since.
pub(super) fn find(key: &Key, now: i64) -> Option<Rc<Token>> {
    MEMORY.with_borrow(|memory| {
        if memory.second != now {
            return None;
        }
        let (known, token) = memory.tokens.get(key)?;
        (*known == age(key)).then(|| Rc::clone(token))
    })
}

/// Remembers what the store said after `age`.
pub(super) fn note(key: Key, age: Age, token: &Rc<Token>, now: i64) {
    MEMORY.with_borrow_mut(|memory| {
        if memory.second != now {
            memory.second = now;
            memory.tokens.clear();
        }
        if memory.tokens.len() < MOST {
            memory.tokens.insert(key, (age, Rc::clone(token)));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::ages::forget;
    use super::super::records::Subject;
    use super::super::secrets::Digest;
    use super::*;

    fn token() -> Rc<Token> {
        let subject = Subject {
            plugin: "Plugin/shop/it".into(),
            global: false,
            client_id: "app".into(),
            application: "1".into(),
            consumer: "2".into(),
            scope: "email profile".into(),
            user: String::new(),
        };
        Rc::new(Token::of(Access {
            subject,
            line: None,
            issued: 1,
            expires: 10,
        }))
    }

    #[test]
    fn a_token_is_remembered_for_the_second_and_until_it_is_taken_back() {
        let key = Key::of("test", b"a");
        let before = age(&key);
        assert!(find(&key, 5).is_none());
        note(key, before, &token(), 5);
        assert_eq!(
            find(&key, 5).unwrap().scope.as_ref().unwrap(),
            "email profile"
        );
        assert!(find(&key, 6).is_none());
        forget(&Digest::of(&key));
        assert!(find(&key, 5).is_none());
        // What was asked for before it was taken back does not count, though it comes later.
        note(key, before, &token(), 5);
        assert!(find(&key, 5).is_none());
        note(key, age(&key), &token(), 5);
        assert!(find(&key, 5).is_some());
    }

    #[test]
    fn other_threads_forget_it_too() {
        let key = Key::of("test", b"b");
        note(key, age(&key), &token(), 5);
        std::thread::spawn(move || forget(&Digest::of(&key)))
            .join()
            .unwrap();
        assert!(find(&key, 5).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        for number in 0..MOST + 10 {
            let key = Key::of("test", &number.to_be_bytes());
            note(key, age(&key), &token(), 7);
        }
        MEMORY.with_borrow(|memory| assert_eq!(memory.tokens.len(), MOST));
    }

    #[test]
    fn a_token_ends_with_its_last_second() {
        assert!(!token().is_over(9));
        assert!(token().is_over(10));
    }
}
