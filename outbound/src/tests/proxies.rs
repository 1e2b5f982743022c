use std::net::SocketAddr;

use http::HeaderValue;

use super::servers::{client, connect_proxy, fetch, profile, raw, tls};
use crate::{Error, ForwardProxies, ForwardProxy, ProfileError, ProfileOptions, Verify};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nproxy";

fn at(address: SocketAddr, user: &str) -> Option<ForwardProxy> {
    Some(ForwardProxy {
        url: format!("http://{user}{address}"),
        authorization: None,
    })
}

fn through(proxies: ForwardProxies) -> ProfileOptions {
    ProfileOptions {
        proxies,
        verify: Verify::Nothing,
        ..ProfileOptions::default()
    }
}

#[tokio::test]
async fn http_goes_through_with_the_whole_url_and_credentials() {
    let (address, mut seen) = raw(OK.to_vec()).await;
    let client = client(&["169.254.0.0/16"]);
    let proxies = ForwardProxies {
        http: at(address, "user:pass@"),
        https: None,
        no_proxy: "localhost, 127.0.0.0/8".to_owned(),
    };
    let profile = profile(&client, through(proxies));
    // The proxy resolves the name.
    let fetched = fetch(&client, &profile, "http://idp.invalid:81/keys").await;
    assert_eq!(fetched.unwrap(), "200 proxy");
    let head = seen.recv().await.unwrap();
    assert!(
        head.starts_with("GET http://idp.invalid:81/keys HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains("proxy-authorization: Basic dXNlcjpwYXNz\r\n"),
        "{head}"
    );
    for (url, error) in [
        ("http://localhost:1/", Error::Unreachable),
        ("http://127.0.0.1:1/", Error::Unreachable),
        // It would be called for us.
        ("http://169.254.169.254/latest/meta-data", Error::Denied),
        ("http://[::ffff:169.254.169.254]/latest", Error::Denied),
        ("http://0xa9fea9fe/", Error::Url),
    ] {
        assert_eq!(fetch(&client, &profile, url).await, Err(error), "{url}");
    }
    assert!(seen.try_recv().is_err());
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let (server, _) = tls(&["h2"]).await;
    let (address, mut seen) = connect_proxy(server, "200 Connection established").await;
    let client = client(&[]);
    let mut https = at(address, "user:pass@");
    if let Some(proxy) = &mut https {
        proxy.authorization = Some(HeaderValue::from_static("Bearer given"));
    }
    let proxies = ForwardProxies {
        https,
        ..ForwardProxies::default()
    };
    let profile = profile(&client, through(proxies));
    let fetched = fetch(&client, &profile, "https://idp.invalid/keys").await;
    assert_eq!(fetched.unwrap(), "200 HTTP/2.0 /keys");
    let head = seen.recv().await.unwrap();
    assert!(
        head.starts_with("CONNECT idp.invalid:443 HTTP/1.1\r\n"),
        "{head}"
    );
    // What was given goes before the URL's user.
    assert!(
        head.contains("Proxy-Authorization: Bearer given\r\n"),
        "{head}"
    );
    // Nothing of the request is outside the tunnel, and the credentials are not inside.
    assert!(!head.contains("/keys"), "{head}");
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_away_or_denied() {
    let (server, _) = tls(&["h2"]).await;
    let (refusing, _seen) = connect_proxy(server, "407 Proxy Authentication Required").await;
    let away: SocketAddr = "127.0.0.1:1".parse().unwrap();
    for (deny, address, error) in [
        (vec![], refusing, Error::Proxy),
        (vec![], away, Error::Proxy),
        (vec!["127.0.0.0/8"], refusing, Error::Denied),
    ] {
        let client = client(&deny);
        let proxies = ForwardProxies {
            https: at(address, ""),
            ..ForwardProxies::default()
        };
        let profile = profile(&client, through(proxies));
        let fetched = fetch(&client, &profile, "https://idp.invalid/keys").await;
        assert_eq!(fetched, Err(error), "{address}");
    }
}

#[tokio::test]
async fn what_is_not_the_url_of_a_forward_proxy() {
    let client = client(&[]);
    for url in [
        "",
        "proxy:3128",
        "socks5://proxy",
        "http://",
        "http:///",
        "ht tp://x",
    ] {
        let proxies = ForwardProxies {
            http: Some(ForwardProxy {
                url: url.to_owned(),
                authorization: None,
            }),
            ..ForwardProxies::default()
        };
        let made = client.profile(&through(proxies)).map(drop);
        assert_eq!(made, Err(ProfileError::ProxyUrl), "{url}");
    }
}
