//! What must hold for any input, however broken: asserted for the fuzzers' inputs, their corpus and random ones.

use super::{Field, Format, Unreadable, in_query, query_without};

/// The name that is looked for.
const NAME: &str = "apikey";

/// A query string.
pub fn query(query: &str) {
    let found = in_query(query, NAME);
    match query_without(query, NAME) {
        Some(rest) => {
            assert_ne!(found, Ok(Field::Absent));
            assert_subsequence(rest.as_bytes(), query.as_bytes());
            assert_eq!(query_without(&rest, NAME), None);
            if found.is_ok() {
                assert_eq!(in_query(&rest, NAME), Ok(Field::Absent));
            }
        }
        None => assert!(matches!(
            found,
            Ok(Field::Absent) | Err(Unreadable::TooMany)
        )),
    }
}

/// A body of a format.
pub fn body(format: &Format, body: &[u8]) {
    let (Ok(found), Ok(without)) = (format.find(body, &[NAME]), format.without(body, NAME)) else {
        return;
    };
    let [found] = &found[..] else {
        unreachable!("one name, one field")
    };
    match without {
        Some(rest) => {
            assert_ne!(*found, Field::Absent);
            assert_subsequence(&rest, body);
            // What is left is of the same format, without that field and with all others.
            assert_eq!(format.find(&rest, &[NAME]), Ok(vec![Field::Absent]));
            assert_eq!(others(format, &rest), others(format, body));
        }
        None => assert_eq!(*found, Field::Absent),
    }
}

fn others(format: &Format, body: &[u8]) -> Result<Vec<String>, Unreadable> {
    let names = ["a", "api", "apikey[]", "key", ""];
    Ok(format
        .find(body, &names)?
        .iter()
        .map(|field| format!("{field:?}"))
        .collect())
}

fn assert_subsequence(part: &[u8], whole: &[u8]) {
    let mut rest = whole.iter();
    assert!(
        part.iter().all(|byte| rest.any(|other| other == byte)),
        "{part:?} is not left of {whole:?}"
    );
}
