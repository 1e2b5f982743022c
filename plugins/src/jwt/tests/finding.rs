//! Where tokens are found.

use super::*;

#[tokio::test]
async fn searches_what_is_configured() {
    let directory = directory();
    let t = token("alice-iss");
    let cookies = r#"{"cookieNames": ["crumble", "c2"]}"#;
    let headers = r#"{"headerNames": ["x-token", "authorization"]}"#;
    let parameters = r#"{"uriParamNames": ["tk", "t k"], "headerNames": []}"#;
    let ok = "ok: alice";
    for (config, request, verdict) in [
        ("{}", format!("GET /a\nauthorization: Bearer {t}"), ok),
        ("{}", format!("GET /a\nauthorization: bearer    {t}"), ok),
        ("{}", format!("GET /a\nauthorization: BEARER {t}"), MISSING),
        ("{}", format!("GET /a\nauthorization: Bearer{t}"), MISSING),
        ("{}", format!("GET /a\nauthorization: Token {t}"), MISSING),
        (
            "{}",
            "GET /a\nauthorization: Basic Ym9iOnB3".to_owned(),
            MISSING,
        ),
        ("{}", format!("GET /a\nauthorization: {t}"), MISSING),
        ("{}", "GET /a\nauthorization: Bearer".to_owned(), MISSING),
        ("{}", format!("GET /a?x=1&jwt={t}"), ok),
        ("{}", format!("GET /a?%6Awt={t}"), ok),
        ("{}", format!("GET /a?JWT={t}"), MISSING),
        ("{}", "GET /a?jwt".to_owned(), MISSING),
        ("{}", "GET /a?jwt=".to_owned(), MISSING),
        ("{}", format!("GET /a\ncookie: jwt={t}"), MISSING),
        (parameters, format!("GET /a?tk={t}"), ok),
        (parameters, format!("GET /a?t+k={t}"), ok),
        (parameters, format!("GET /a?jwt={t}"), MISSING),
        (
            parameters,
            format!("GET /a\nauthorization: Bearer {t}"),
            MISSING,
        ),
        (
            cookies,
            format!("GET /a\ncookie: a=b; crumble={t}; c=d"),
            ok,
        ),
        (cookies, format!("GET /a\ncookie: a=b\ncookie: c2={t}"), ok),
        (cookies, format!("GET /a\ncookie: crumble=\"{t}\""), ok),
        (cookies, format!("GET /a\ncookie: Crumble={t}"), MISSING),
        (
            cookies,
            format!("GET /a\ncookie: xcrumble={t};crumble"),
            MISSING,
        ),
        (headers, format!("GET /a\nx-token: Bearer {t}"), ok),
        (headers, format!("GET /a\nX-Token: Bearer {t}"), ok),
        (headers, format!("GET /a\nx-token: {t}"), MISSING),
    ] {
        assert_eq!(
            judge(&directory, config, &request).await,
            verdict,
            "{config}\n{request}"
        );
    }
}

#[tokio::test]
async fn several_tokens_are_refused_unless_they_are_the_same() {
    let directory = directory();
    let (t, u) = (token("alice-iss"), token("bob-iss"));
    let several = &*format!("401 Multiple tokens provided (several_tokens) {INVALID}");
    let everywhere = r#"{"cookieNames": ["c"], "headerNames": ["authorization", "x-token"]}"#;
    let ok = "ok: alice";
    for (request, verdict) in [
        (format!("GET /a?jwt={t}\nauthorization: Bearer {t}"), ok),
        (
            format!("GET /a?jwt={u}\nauthorization: Bearer {t}"),
            several,
        ),
        (format!("GET /a?jwt={t}&jwt={t}"), ok),
        (format!("GET /a?jwt={t}&jwt={u}"), several),
        (format!("GET /a?jwt={t}&jwt={u}&jwt={t}"), several),
        (format!("GET /a?jwt=&jwt={t}"), ok),
        (format!("GET /a?jwt=\nauthorization: Bearer {t}"), ok),
        (format!("GET /a?jwt=zz\nauthorization: Bearer {t}"), several),
        (
            format!("GET /a\nauthorization: Bearer {t}\nx-token: Bearer {u}"),
            several,
        ),
        (
            format!("GET /a\nauthorization: Bearer {t}\nx-token: Bearer {t}"),
            ok,
        ),
        (format!("GET /a\ncookie: c={t}; c={u}"), several),
        (format!("GET /a\ncookie: c={t}\ncookie: c={u}"), several),
        (format!("GET /a?jwt={t}\ncookie: c={u}"), several),
        // Of a repeated header the first line counts.
        (
            format!("GET /a\nauthorization: Bearer {t}\nauthorization: Bearer {u}"),
            ok,
        ),
        (
            format!("GET /a\nauthorization: Basic x\nauthorization: Bearer {u}"),
            MISSING,
        ),
    ] {
        assert_eq!(
            judge(&directory, everywhere, &request).await,
            verdict,
            "{request}"
        );
    }
}

#[tokio::test]
async fn too_many_parameters_are_refused() {
    let directory = directory();
    let query = "a&".repeat(10_001);
    let verdict = judge(&directory, GUEST, &format!("GET /a?{query}")).await;
    assert_eq!(verdict, "400 Too many parameters (too_many_fields)");
}
