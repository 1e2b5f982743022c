//! Kong's declarative file.

use harness::tls::Certificate;
use serde_json::json;

use super::{ask, check, fixture, golden, import, serve, telling, token};

/// Method, target, headers, and what is answered.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

/// The fixture, with an upstream that is there.
async fn shop() -> (harness::Rig, u16, harness::Upstream) {
    let upstream = telling().await;
    let text = fixture("kong.yaml").replace("9001", &upstream.port().to_string());
    let imported = import("kong", &text);
    let (rig, port) = serve(&imported.manifests).await;
    (rig, port, upstream)
}

#[tokio::test]
async fn a_shop_is_served_as_it_was() {
    let (_rig, port, _upstream) = shop().await;
    let alice = ("apikey", "alice-key-which-is-secret");
    let bob = ("apikey", "bob-key-which-is-secret");
    let good = token("alice-issuer", "alice-secret-which-nobody-knows");
    let bad = token("alice-issuer", "another secret of the right length");
    let (good, bad) = (
        ("authorization", good.as_str()),
        ("authorization", bad.as_str()),
    );
    let table: &[Case<'_>] = &[
        // A key, a group, the service's path and host.
        ("GET", "/orders/7", &[], "401"),
        ("GET", "/orders/7", &[("apikey", "nobody's")], "401"),
        ("GET", "/orders/7", &[bob], "403"),
        ("GET", "/orders/7", &[alice], "200 localhost /v1/7"),
        // A token, an expression and methods.
        ("GET", "/accounts/7", &[], "401"),
        ("GET", "/accounts/7", &[bad], "401"),
        ("GET", "/accounts/7", &[good], "200 shop.test /accounts/7"),
        ("POST", "/accounts/7", &[good], "404"),
        ("GET", "/accounts/x", &[good], "404"),
        ("GET", "/accounts/7/x", &[good], "404"),
        // Nothing at all, prefixes that end anywhere, and a header.
        ("GET", "/public/a", &[], "200 shop.test /public/a"),
        ("GET", "/publication", &[], "200 shop.test /publication"),
        ("GET", "/public/a", &[("x-beta", "ON")], "200 shop.test /a"),
        // What cannot be carried over is closed, what was disabled is not there.
        ("GET", "/internal", &[], "500"),
        ("GET", "/internal", &[alice, good], "500"),
        ("GET", "/old", &[], "404"),
        ("GET", "/", &[], "404"),
    ];
    for (method, target, headers, want) in table {
        let got = ask(port, method, "shop.test", target, headers).await;
        assert_eq!(got, *want, "{method} {target} {headers:?}");
    }
    assert_eq!(
        ask(port, "GET", "other.test", "/orders/7", &[alice]).await,
        "404"
    );
}

#[test]
fn a_shop_is_written_as_it_is_documented() {
    let imported = import("kong", &fixture("kong.yaml"));
    assert_eq!(imported.status, 1);
    golden("kong.manifests.yaml", &imported.manifests);
    golden("kong.notes.txt", &imported.notes);
    let (status, said) = check(&imported.manifests);
    assert_eq!(status, 0, "{said}");
    for secret in ["alice-key", "alice-secret", "bob-key", "bob-password"] {
        assert!(!imported.notes.contains(secret), "{}", imported.notes);
    }
    // The same again, byte for byte.
    assert_eq!(
        import("kong", &fixture("kong.yaml")).manifests,
        imported.manifests
    );
}

#[test]
fn what_is_carried_whole_is_not_remarked() {
    let imported = import(
        "kong",
        "_format_version: '3.0'\nservices:\n- {name: a, url: 'http://a.test', routes: [{name: r, paths: [/a], strip_path: false}]}\n\
         plugins:\n- name: key-auth\nconsumers:\n- {username: c, keyauth_credentials: [{key: k}]}\n",
    );
    assert_eq!((imported.status, imported.notes.as_str()), (0, ""));
    assert!(
        imported.manifests.contains("value: /a[^/].*"),
        "{}",
        imported.manifests
    );
    assert_eq!(check(&imported.manifests).0, 0);
}

/// A route "/guarded" with what is given, beside an open route "/" of the same service.
fn beside_an_open_route(service: &str, route: &str, rest: &str) -> String {
    format!(
        "_format_version: '3.0'\nservices:\n- name: s\n  host: localhost\n  port: 9001\n{service}  routes:\n  - name: open\n    paths: [/]\n    preserve_host: true\n\
         \x20 - name: guarded\n    paths: [/guarded]\n    strip_path: false\n    preserve_host: true\n{route}{rest}"
    )
}

#[tokio::test]
async fn what_protects_and_is_not_carried_over_closes_its_route_and_no_other() {
    let upstream = telling().await;
    let plugin = |name: &str| format!("    plugins:\n    - name: {name}\n");
    let cases = [
        plugin("basic-auth"),
        plugin("hmac-auth"),
        plugin("ldap-auth"),
        plugin("mtls-auth"),
        plugin("ip-restriction"),
        plugin("opa"),
        plugin("session"),
        plugin("request-termination"),
        plugin("our-own-plugin"),
        plugin("key-auth\n      config: {option_of_tomorrow: true}"),
        plugin("key-auth\n      config: {anonymous: nobody}"),
        plugin("key-auth\n      protocol_of_tomorrow: x"),
        plugin("acl\n      config: {allow: [a], include_consumer_groups: true}"),
        "    matcher_of_tomorrow: x\n".to_owned(),
        "    methods: [PURGE]\n".to_owned(),
    ];
    for route in cases {
        let text =
            beside_an_open_route("", &route, "").replace("9001", &upstream.port().to_string());
        let imported = import("kong", &text);
        assert_eq!(imported.status, 1, "{route}");
        assert!(
            imported.notes.contains("route \"guarded\": "),
            "{route}: {}",
            imported.notes
        );
        let (status, said) = check(&imported.manifests);
        assert_eq!(status, 0, "{route}: {said}");
        let (_rig, port) = serve(&imported.manifests).await;
        for target in ["/guarded", "/guarded/x", "/guardedx"] {
            assert_eq!(
                ask(port, "GET", "a.test", target, &[]).await,
                "500",
                "{route} {target}"
            );
        }
        assert_eq!(
            ask(port, "GET", "a.test", "/else", &[]).await,
            "200 a.test /else",
            "{route}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_understood_closes_everything_that_it_might_protect() {
    let upstream = telling().await;
    let cases = [
        // The whole file, the whole service.
        ("", "", "plugins:\n- name: basic-auth\n"),
        ("", "", "filter_chains:\n- name: x\n"),
        (
            "",
            "",
            "plugins:\n- {name: key-auth, route: no-such-route}\n",
        ),
        ("  field_of_tomorrow: x\n", "", ""),
        ("  plugins:\n  - name: basic-auth\n", "", ""),
        ("", "", "plugins:\n- {name: basic-auth, service: s}\n"),
        // What a route matches cannot be said, and it is protected: so nobody knows what others must not get.
        (
            "",
            "    expression: http.path == \"/x\"\n    plugins:\n    - name: key-auth\n",
            "",
        ),
        (
            "",
            "    snis: [a.test]\n    plugins:\n    - name: key-auth\n",
            "",
        ),
    ];
    for (service, route, rest) in cases {
        let text = beside_an_open_route(service, route, rest)
            .replace("9001", &upstream.port().to_string());
        let imported = import("kong", &text);
        assert_eq!(imported.status, 1, "{text}");
        let (status, said) = check(&imported.manifests);
        assert_eq!(status, 0, "{text}{said}");
        let (_rig, port) = serve(&imported.manifests).await;
        for target in ["/guarded", "/else"] {
            let got = ask(port, "GET", "a.test", target, &[]).await;
            assert!(got == "500" || got == "404", "{target}: {got}\n{text}");
        }
    }
}

#[tokio::test]
async fn requests_of_a_protected_route_do_not_fall_to_an_open_one() {
    let upstream = telling().await;
    // Kong asks expressions first, HTTPRoutes prefixes: the open route has to stand back.
    let protected = "    plugins:\n    - name: key-auth\n";
    for (open, guarded) in [
        ("[/]", "['~/guarded/[0-9]+$']"),
        ("[/guarded]", "['~/guarded/[0-9]+$']"),
        ("[/guarded/7]", "['~/guarded/[0-9]+$']"),
        ("[/]", "['~/(?!open)guarded/7']"),
        ("[/]", "[/guard]"),
    ] {
        let text = format!(
            "_format_version: '3.0'\nservices:\n- name: s\n  host: localhost\n  port: 9001\n  routes:\n\
             \x20 - {{name: open, paths: {open}, strip_path: true}}\n  - name: guarded\n    paths: {guarded}\n    strip_path: false\n{protected}"
        );
        let imported = import("kong", &text.replace("9001", &upstream.port().to_string()));
        assert_eq!(check(&imported.manifests).0, 0, "{text}");
        let (_rig, port) = serve(&imported.manifests).await;
        let got = ask(port, "GET", "a.test", "/guarded/7", &[]).await;
        assert!(!got.starts_with("200"), "{open} {guarded}: {got}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_route_for_https_alone_is_not_served_without() {
    let upstream = telling().await;
    let certificate = Certificate::of(&["a.test"]);
    let text = json!({
        "_format_version": "1.1",
        "services": [{"name": "s", "url": format!("http://localhost:{}", upstream.port()), "routes": [
            {"name": "moved", "paths": ["/moved"], "protocols": ["https"], "https_redirect_status_code": 301},
            {"name": "closed", "paths": ["/closed"], "protocols": ["https"]},
            {"name": "open", "paths": ["/"], "protocols": ["http", "https"]},
        ]}],
        "certificates": [{"cert": certificate.chain, "key": certificate.key, "snis": [{"name": "a.test"}]}],
    });
    let imported = import("kong", &text.to_string());
    let (status, said) = check(&imported.manifests);
    assert_eq!(status, 0, "{said}{}", imported.notes);
    assert!(!imported.notes.contains("PRIVATE"));
    let (_rig, port) = serve(&imported.manifests).await;
    for (target, want) in [
        ("/moved/x", "301"),
        ("/closed/x", "500"),
        ("/x", "200 localhost /x"),
    ] {
        assert_eq!(
            ask(port, "GET", "a.test", target, &[]).await,
            want,
            "{target}"
        );
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_consumer_with_a_restriction_of_its_own_is_left_out() {
    let upstream = telling().await;
    let text = format!(
        "_format_version: '3.0'\nservices:\n- {{name: s, url: 'http://localhost:{}', routes: [{{paths: [/]}}]}}\n\
         plugins:\n- name: key-auth\n- {{name: ip-restriction, consumer: bob}}\nconsumers:\n\
         - {{username: alice, keyauth_credentials: [{{key: a}}], plugins: [{{name: rate-limiting}}]}}\n\
         - {{username: bob, keyauth_credentials: [{{key: b}}]}}\n\
         - {{username: carol, keyauth_credentials: [{{key: c}}], plugins: [{{name: ip-restriction, enabled: false}}]}}\n\
         - {{username: dave, keyauth_credentials: [{{key: '${{{{ env \"DECK_KEY\" }}}}'}}]}}\n",
        upstream.port()
    );
    let imported = import("kong", &text);
    assert_eq!(
        (imported.status, check(&imported.manifests).0),
        (1, 0),
        "{}",
        imported.notes
    );
    let (_rig, port) = serve(&imported.manifests).await;
    for (key, want) in [
        ("a", "200 localhost /"),
        ("b", "401"),
        ("c", "200 localhost /"),
        ("${{ env \"DECK_KEY\" }}", "401"),
    ] {
        assert_eq!(
            ask(port, "GET", "a.test", "/", &[("apikey", key)]).await,
            want,
            "{key}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_exit_status_2_with_its_line() {
    for (text, line) in [
        ("", "line 1"),
        ("_format_version: '3.0'\nservices: [\n", "line 2"),
        ("[]", "must be a map"),
        ("services: []\n", "_format_version"),
        ("_format_version: '9.9'\n", "_format_version"),
        (
            "_format_version: '3.0'\nservices: {}\n",
            "services must be a list",
        ),
        (
            "_format_version: '3.0'\nservices: [7]\n",
            "services[0] must be a map",
        ),
        ("{\"_format_version\": \"3.0\",\n\"services\": [}", "line 2"),
    ] {
        let imported = import("kong", text);
        assert_eq!(imported.status, 2, "{text}: {}", imported.notes);
        assert!(imported.notes.contains(line), "{text}: {}", imported.notes);
        assert_eq!(imported.manifests, "", "{text}");
    }
}

/// Every value of the fixture is replaced by an odd one; nothing panics, and what comes out is accepted.
#[test]
fn nothing_in_a_file_ends_it() {
    const ODD: [&str; 7] = ["null", "[]", "{}", "-1", r#""\0""#, "[{}]", r#""é/%zz""#];
    let text = fixture("kong.yaml");
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let Some((head, _)) = line.split_once(": ") else {
            continue;
        };
        let mut changed = lines.clone();
        let new = format!("{head}: {}", ODD[index % ODD.len()]);
        changed[index] = &new;
        let imported = import("kong", &changed.join("\n"));
        assert!(
            matches!(imported.status, 0..=2),
            "{new}: {}",
            imported.status
        );
        if imported.status < 2 {
            let (status, said) = check(&imported.manifests);
            assert_eq!(status, 0, "{new}: {said}");
        }
    }
}
