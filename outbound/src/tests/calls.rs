use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::net::TcpListener;

use super::servers::{client, fetch, profile, raw, tls};
use crate::{Error, ProfileError, ProfileOptions, Verify};

fn answer(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn answers_are_whole_and_redirects_are_answers() {
    let (address, mut seen) = raw(answer(
        "302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2",
        "ok",
    ))
    .await;
    let client = client(&[]);
    let profile = profile(&client, ProfileOptions::default());
    let url = format!("http://{address}/keys?a=b");
    assert_eq!(fetch(&client, &profile, &url).await.unwrap(), "302 ok");
    let head = seen.recv().await.unwrap();
    assert!(head.starts_with("GET /keys?a=b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
    assert!(head.contains("user-agent: postern/"), "{head}");
}

#[tokio::test]
async fn bodies_and_heads_are_bounded() {
    let client = client(&[]);
    let options = ProfileOptions {
        max_body_bytes: 10,
        ..ProfileOptions::default()
    };
    let profile = profile(&client, options);
    let chunked = "200 OK\r\nTransfer-Encoding: chunked";
    let long_head = format!("200 OK\r\nX: {}\r\nContent-Length: 0", "x".repeat(1 << 20));
    for (sent, got) in [
        (
            answer("200 OK\r\nContent-Length: 10", "0123456789"),
            Ok("200 0123456789"),
        ),
        (
            answer(chunked, "a\r\n0123456789\r\n0\r\n\r\n"),
            Ok("200 0123456789"),
        ),
        // Nothing of the body needs to come.
        (
            answer("200 OK\r\nContent-Length: 11", ""),
            Err(Error::TooLarge),
        ),
        (
            answer(chunked, "a\r\n0123456789\r\n1\r\n0\r\n"),
            Err(Error::TooLarge),
        ),
        (answer(&long_head, ""), Err(Error::Protocol)),
        (answer("what is this", ""), Err(Error::Protocol)),
    ] {
        let (address, _seen) = raw(sent).await;
        let fetched = fetch(&client, &profile, &format!("http://{address}/")).await;
        assert_eq!(fetched.as_deref().map_err(|error| *error), got);
    }
}

#[tokio::test]
async fn time_is_bounded_also_in_the_midst_of_a_body() {
    let client = client(&[]);
    let options = ProfileOptions {
        timeout: Duration::from_millis(200),
        max_calls: 1,
        ..ProfileOptions::default()
    };
    let profile = profile(&client, options);
    for sent in ["", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"] {
        let (address, _seen) = raw(sent.as_bytes().to_vec()).await;
        let fetched = fetch(&client, &profile, &format!("http://{address}/")).await;
        assert_eq!(fetched, Err(Error::Timeout));
    }
    // The one place was given back each time.
    let (address, _seen) = raw(answer("200 OK\r\nContent-Length: 0", "")).await;
    let fetched = fetch(&client, &profile, &format!("http://{address}/")).await;
    assert_eq!(fetched.unwrap(), "200 ");
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = client(&[]);
    let profile = profile(&client, ProfileOptions::default());
    for (url, error) in [
        (format!("http://{address}/"), Error::Unreachable),
        (
            format!("http://localhost:{}/", address.port()),
            Error::Unreachable,
        ),
        ("http://user:secret@127.0.0.1/".to_owned(), Error::Url),
        ("http://2130706433/".to_owned(), Error::Url),
    ] {
        assert_eq!(fetch(&client, &profile, &url).await, Err(error), "{url}");
    }
}

#[tokio::test]
async fn denied_networks_get_no_connection_by_any_name() {
    let (address, mut seen) = raw(answer("200 OK\r\nContent-Length: 0", "")).await;
    let port = address.port();
    let client = client(&["127.0.0.0/8", "::1/128"]);
    let profile = profile(&client, ProfileOptions::default());
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
    ] {
        let fetched = fetch(&client, &profile, &format!("http://{host}:{port}/")).await;
        assert_eq!(fetched, Err(Error::Denied), "{host}");
    }
    assert!(seen.try_recv().is_err());
}

#[tokio::test]
async fn certificates_are_checked() {
    let client = client(&[]);
    let with = |verify| {
        profile(
            &client,
            ProfileOptions {
                verify,
                ..ProfileOptions::default()
            },
        )
    };
    let (h2, ca) = tls(&["h2"]).await;
    let (h1, other_ca) = tls(&["http/1.1"]).await;
    let at = |address: std::net::SocketAddr| format!("https://localhost:{}/x", address.port());
    let trusting = with(Verify::Only(ca));
    assert_eq!(
        fetch(&client, &trusting, &at(h2)).await.unwrap(),
        "200 HTTP/2.0 /x"
    );
    let by_address = format!("https://{h2}/y");
    assert_eq!(
        fetch(&client, &trusting, &by_address).await.unwrap(),
        "200 HTTP/2.0 /y"
    );
    assert_eq!(fetch(&client, &trusting, &at(h1)).await, Err(Error::Tls));
    let other = with(Verify::Only(other_ca));
    assert_eq!(
        fetch(&client, &other, &at(h1)).await.unwrap(),
        "200 HTTP/1.1 /x"
    );
    assert_eq!(
        fetch(&client, &with(Verify::System), &at(h1)).await,
        Err(Error::Tls)
    );
    let blind = with(Verify::Nothing);
    assert_eq!(
        fetch(&client, &blind, &at(h1)).await.unwrap(),
        "200 HTTP/1.1 /x"
    );
}

#[tokio::test]
async fn unusable_options_are_refused() {
    let client = client(&[]);
    let options = |change: fn(&mut ProfileOptions)| {
        let mut options = ProfileOptions::default();
        change(&mut options);
        client.profile(&options).map(drop)
    };
    assert_eq!(
        options(|options| options.verify = Verify::Only(b"nonsense".to_vec())),
        Err(ProfileError::Ca)
    );
    assert_eq!(
        options(|options| options.timeout = Duration::ZERO),
        Err(ProfileError::Zero)
    );
    assert_eq!(
        options(|options| options.max_body_bytes = 0),
        Err(ProfileError::Zero)
    );
    assert_eq!(
        options(|options| options.max_calls = 0),
        Err(ProfileError::Zero)
    );
}

/// Workers have runtimes of their own, which may end; the connection stays with the background.
#[test]
fn connections_outlive_the_runtime_of_who_asked() {
    let background = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (address, client, profile) = background.block_on(async {
        let (address, _) = tls(&["h2"]).await;
        let client = client(&[]);
        let options = ProfileOptions {
            verify: Verify::Nothing,
            ..ProfileOptions::default()
        };
        let profile = profile(&client, options);
        (address, client, profile)
    });
    for _ in 0..3 {
        let worker = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let fetched = worker.block_on(fetch(&client, &profile, &format!("https://{address}/")));
        assert_eq!(fetched.unwrap(), "200 HTTP/2.0 /");
    }
    background.shutdown_background();
    let worker = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let request = Request::get(format!("https://{address}/"))
        .body(Bytes::new())
        .unwrap();
    let sent = worker.block_on(client.send(&profile, request));
    assert_eq!(sent.map(drop), Err(Error::Stopped));
}
