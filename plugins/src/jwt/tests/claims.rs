//! Which claims count, and how.

use super::*;

/// Runs rows of (configuration, claims beside the key, verdict without its challenge).
async fn run(rows: &[(&str, &str, &str)]) {
    let directory = directory();
    for (config, claims, verdict) in rows {
        let payload = format!(r#"{{"iss":"alice-iss",{claims}}}"#);
        let token = hs256(HS256, &payload, b"alice-secret");
        let verdict = if verdict.starts_with("401") {
            format!("{verdict} {INVALID}")
        } else {
            (*verdict).to_owned()
        };
        let found = self::verdict(&directory, config, &token).await;
        assert_eq!(found, verdict, "{config} {claims}");
    }
}

#[tokio::test]
async fn verifies_the_claims_that_are_configured() {
    let both = r#"{"claimsToVerify": ["exp", "nbf"]}"#;
    let exp = r#"{"claimsToVerify": ["exp"]}"#;
    let nbf = r#"{"claimsToVerify": ["nbf"]}"#;
    let expired = "401 exp=token expired (expired)";
    let early = "401 nbf=token not valid yet (not_yet_valid)";
    let no_exp = "401 exp=must be a number (bad_claims)";
    let no_nbf = "401 nbf=must be a number (bad_claims)";
    let ok = "ok: alice";
    run(&[
        ("{}", r#""exp":1"#, ok),
        ("{}", r#""exp":"x","nbf":9e9"#, ok),
        (exp, r#""exp":2001"#, ok),
        (exp, r#""exp":2000.5"#, ok),
        (exp, r#""exp":2000"#, expired),
        (exp, r#""exp":-1"#, expired),
        (exp, r#""exp":-1e300"#, expired),
        (exp, r#""exp":1e300"#, ok),
        (exp, r#""exp":18446744073709551615"#, ok),
        (exp, r#""exp":"2001""#, no_exp),
        (exp, r#""exp":null"#, no_exp),
        (exp, r#""exp":true"#, no_exp),
        (exp, r#""exp":[2001]"#, no_exp),
        (exp, r#""nbf":9e9"#, no_exp),
        (exp, r#""exp":2001,"nbf":9e9"#, ok),
        (nbf, r#""nbf":2000"#, ok),
        (nbf, r#""nbf":2001"#, early),
        (nbf, r#""nbf":"x","exp":1"#, no_nbf),
        (both, r#""exp":2060,"nbf":1940"#, ok),
        (
            both,
            r#""sub":"x""#,
            "401 exp=must be a number, nbf=must be a number (bad_claims)",
        ),
        (
            both,
            r#""exp":1,"nbf":3000"#,
            "401 exp=token expired, nbf=token not valid yet (expired)",
        ),
        (both, r#""exp":3000,"nbf":{}"#, no_nbf),
    ])
    .await;
}

#[tokio::test]
async fn bounds_lifetimes_and_knows_that_clocks_differ() {
    let max = r#"{"claimsToVerify": ["exp"], "maximumExpiration": 300}"#;
    let max_nbf = r#"{"claimsToVerify": ["exp", "nbf"], "maximumExpiration": 300}"#;
    let skew =
        r#"{"claimsToVerify": ["exp", "nbf"], "maximumExpiration": 300, "clockSkewSeconds": 10}"#;
    let expired = "401 exp=token expired (expired)";
    let early = "401 nbf=token not valid yet (not_yet_valid)";
    let ok = "ok: alice";
    run(&[
        (max, r#""exp":2300"#, ok),
        (
            max,
            r#""exp":2301"#,
            "403 exp=exceeds maximum allowed expiration (too_long_lived)",
        ),
        (
            max,
            r#""exp":1e300"#,
            "403 exp=exceeds maximum allowed expiration (too_long_lived)",
        ),
        (max, r#""exp":1"#, expired),
        // What is not valid is said before what is valid for too long.
        (max_nbf, r#""exp":9000,"nbf":3000"#, early),
        (skew, r#""exp":1991,"nbf":2010"#, ok),
        (skew, r#""exp":1990,"nbf":2010"#, expired),
        (skew, r#""exp":2001,"nbf":2011"#, early),
        (skew, r#""exp":2310,"nbf":0"#, ok),
        (
            skew,
            r#""exp":2311,"nbf":0"#,
            "403 exp=exceeds maximum allowed expiration (too_long_lived)",
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_signature_comes_before_the_claims() {
    let directory = directory();
    let token = hs256(HS256, r#"{"iss":"alice-iss","exp":1}"#, b"x");
    let verdict = verdict(&directory, r#"{"claimsToVerify": ["exp"]}"#, &token).await;
    assert_eq!(verdict, "403 Invalid signature (bad_signature)");
}

#[tokio::test]
async fn the_key_is_in_the_payload_or_else_in_the_header() {
    let directory = directory();
    let app = r#"{"keyClaimName": "app"}"#;
    let kid = r#"{"keyClaimName": "kid"}"#;
    let dotted = r#"{"keyClaimName": "a.b"}"#;
    let alg = r#"{"keyClaimName": "alg"}"#;
    let exp = r#"{"keyClaimName": "exp", "claimsToVerify": ["exp"]}"#;
    let header = r#"{"alg":"HS256","kid":"alice-iss","iss":"alice-iss"}"#;
    let none =
        |name: &str| format!("401 No mandatory '{name}' in claims (bad_key_claim) {INVALID}");
    for (config, header, payload, verdict) in [
        (app, HS256, r#"{"app":"alice-iss"}"#, "ok: alice".to_owned()),
        (app, HS256, ALICE, none("app")),
        (kid, header, "{}", "ok: alice".to_owned()),
        ("{}", header, "{}", "ok: alice".to_owned()),
        (
            "{}",
            header,
            r#"{"iss":"nobody"}"#,
            "403 No credentials found for given 'iss' (unknown_key)".to_owned(),
        ),
        (
            "{}",
            header,
            r#"{"iss":""}"#,
            format!("401 Invalid 'iss' in claims (bad_key_claim) {INVALID}"),
        ),
        (
            "{}",
            header,
            r#"{"iss":null}"#,
            format!("401 Invalid 'iss' in claims (bad_key_claim) {INVALID}"),
        ),
        (dotted, HS256, r#"{"a":{"b":"alice-iss"}}"#, none("a.b")),
        (
            dotted,
            HS256,
            r#"{"a.b":"alice-iss"}"#,
            "ok: alice".to_owned(),
        ),
        (
            dotted,
            HS256,
            r#"{"a\u002eb":"alice-iss"}"#,
            "ok: alice".to_owned(),
        ),
        // A name that means something else as well means both.
        (
            alg,
            HS256,
            "{}",
            "403 No credentials found for given 'alg' (unknown_key)".to_owned(),
        ),
        (
            exp,
            HS256,
            r#"{"exp":"alice-iss"}"#,
            format!("401 exp=must be a number (bad_claims) {INVALID}"),
        ),
    ] {
        let token = hs256(header, payload, b"alice-secret");
        assert_eq!(
            self::verdict(&directory, config, &token).await,
            verdict,
            "{config} {header} {payload}"
        );
    }
}
