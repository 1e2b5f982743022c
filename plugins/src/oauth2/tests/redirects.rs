//! Redirect URIs are compared byte for byte.

use super::*;

/// What looks like https://app.test/cb or https://app.test/other?a=1 to somebody.
const VARIANTS: &[&str] = &[
    "https://app.test/cb/",
    "https://app.test/cb?",
    "https://app.test/cb#",
    "https://app.test/cb?a=1",
    "https://app.test/cb#a",
    "https://app.test/cb/..",
    "https://app.test/cb/../cb",
    "https://app.test/x/../cb",
    "https://app.test/./cb",
    "https://app.test//cb",
    "https://app.test/%63b",
    "https://app.test/c%62",
    "https://app.test%2fcb",
    "https://app.test/cb%00",
    "https://app.test/cb%20",
    "https://app.test/cb ",
    " https://app.test/cb",
    "https://app.test/cb\t",
    "https://app.test/cb\n",
    "\thttps://app.test/cb",
    "https://app.test/CB",
    "https://APP.test/cb",
    "https://app.TEST/cb",
    "HTTPS://app.test/cb",
    "Https://app.test/cb",
    "http://app.test/cb",
    "//app.test/cb",
    "app.test/cb",
    "/cb",
    "cb",
    "https:app.test/cb",
    "https:/app.test/cb",
    "https:///app.test/cb",
    "https:\\\\app.test\\cb",
    "https://app.test\\cb",
    "https://app.test:443/cb",
    "https://app.test:/cb",
    "https://app.test:8443/cb",
    "https://app.test./cb",
    "https://app.test.evil.test/cb",
    "https://evil.test/cb",
    "https://evil.test/https://app.test/cb",
    "https://evil.test?https://app.test/cb",
    "https://evil.test#https://app.test/cb",
    "https://app.test@evil.test/cb",
    "https://app.test%40evil.test/cb",
    "https://app.test:x@evil.test/cb",
    "https://evil.test\\@app.test/cb",
    "https://user@app.test/cb",
    "https://sub.app.test/cb",
    "https://xapp.test/cb",
    "https://app.testx/cb",
    "https://app.test/cbx",
    "https://app.test/cb;x",
    "https://app.test/cb,https://evil.test/",
    "https://app.test/cb https://evil.test/",
    "https://app.test/c",
    "https://app.test/",
    "https://app.test",
    "https://app.test/other",
    "https://app.test/other?",
    "https://app.test/other?a=2",
    "https://app.test/other?a=1&b=2",
    "https://app.test/other?b=2&a=1",
    "https://app.test/other?a=1#x",
    "https://app.test/other?a=%31",
    "https://app.test/other?A=1",
    "https://127.0.0.1/cb",
    "https://localhost/cb",
    "https://[::1]/cb",
    "https://*.test/cb",
    "https://app.test/*",
    "https://\u{ff41}pp.test/cb",
    "https://app\u{3002}test/cb",
    "https://\u{430}pp.test/cb",
    "javascript:alert(1)",
    "data:text/html,x",
    "null",
    "*",
];

#[tokio::test]
async fn what_is_not_registered_leads_to_the_first_that_is() {
    let rig = Rig::new(ALL);
    let distinct: std::collections::HashSet<_> = VARIANTS.iter().collect();
    assert!(distinct.len() == VARIANTS.len() && VARIANTS.len() >= 60);
    for variant in VARIANTS {
        for kind in ["code", "token"] {
            let said = rig
                .authorize(&[("redirect_uri", variant), ("response_type", kind)])
                .await;
            assert_eq!(said.status, 400, "{variant}");
            let uri = said.text("redirect_uri");
            assert!(
                uri.starts_with("https://app.test/cb?error=invalid_request&"),
                "{variant}: {uri}"
            );
            assert_eq!(said.sent("code"), None);
            assert_eq!(said.sent("access_token"), None);
        }
        let code = rig.code(&[("redirect_uri", CALLBACK)]).await;
        let said = rig
            .token(&[
                ("grant_type", "authorization_code"),
                ("code", &code),
                ("redirect_uri", variant),
            ])
            .await;
        assert_eq!(said.status, 400, "{variant}");
    }
}

#[tokio::test]
async fn what_is_registered_keeps_its_query() {
    let rig = Rig::new(ALL);
    let said = rig
        .authorize(&[("redirect_uri", "https://app.test/other?a=1")])
        .await;
    let uri = said.text("redirect_uri");
    assert!(uri.starts_with("https://app.test/other?a=1&code="), "{uri}");
    let said = rig
        .authorize(&[
            ("redirect_uri", "https://app.test/other?a=1"),
            ("response_type", "token"),
        ])
        .await;
    let uri = said.text("redirect_uri");
    assert!(
        uri.starts_with("https://app.test/other?a=1#access_token="),
        "{uri}"
    );
}
