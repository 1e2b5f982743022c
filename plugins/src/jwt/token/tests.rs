//! What strangers send is read or refused, and nothing else.

use proptest::prelude::*;

use super::*;

fn token(header: &str, payload: &str) -> String {
    let encode = |part: &str| URL_SAFE_NO_PAD.encode(part);
    format!("{}.{}.c2ln", encode(header), encode(payload))
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, key in "[a-z.]{1,5}") {
        if let Ok(mut parts) = Parts::of(&bytes) {
            let _ = parts.read(&key).map(|token| token.signature.len());
        }
    }

    #[test]
    fn any_json_is_read_or_refused(header in "[{}\\[\\]\",:a-z0-9.e-]{0,40}", payload in ".{0,60}") {
        if let Ok(mut parts) = Parts::of(token(&header, &payload).as_bytes()) {
            let _ = parts.read("iss").map(|token| token.signature.len());
        }
    }

    /// Whatever stands around them, the members that matter are read as any reader of JSON reads them.
    #[test]
    fn claims_are_those_of_the_json(iss in ".{1,20}", exp: i32, other in ".{0,20}", name in "[a-z]{4,8}") {
        let payload = serde_json::json!({
            (name.as_str()): {"exp": 1, "iss": [other]}, "iss": iss, "exp": exp, "list": [[{"iss": "x"}]],
        });
        let text = token(r#"{"alg":"ES256","typ":"JWT"}"#, &payload.to_string());
        let mut parts = Parts::of(text.as_bytes()).unwrap();
        let token = parts.read("iss").unwrap();
        prop_assert_eq!(token.algorithm, Algorithm::ES256);
        prop_assert_eq!(token.key, Some(Value::Text(iss.into())));
        prop_assert_eq!(token.exp, Some(Value::Number(exp.into())));
        prop_assert_eq!(token.nbf, None);
        prop_assert_eq!(token.signature, b"sig");
        prop_assert_eq!(token.signed, text.rsplit_once('.').unwrap().0.as_bytes());
    }
}

#[test]
fn depth_costs_no_stack() {
    let deep = format!(
        r#"{{"iss":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let text = token(r#"{"alg":"HS256"}"#, &deep);
    let mut parts = Parts::of(text.as_bytes()).unwrap();
    assert_eq!(parts.read("iss").unwrap().key, Some(Value::Other));
    let text = token(r#"{"alg":"HS256"}"#, &deep.replace("iss", "other"));
    assert!(Parts::of(text.as_bytes()).unwrap().read("iss").is_ok());
}
