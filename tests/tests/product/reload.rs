//! Changes of the folder: seen at once, whole, and never at the cost of what worked before.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use harness::objects::{consumer_with_key, http_listener, key_auth, route};
use harness::process::{Folder, Postern};
use harness::raw::{Connection, get, request};
use harness::{Reply, Rig, Upstream};
use serde_json::json;

fn yaml(objects: &[serde_json::Value]) -> String {
    objects
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n---\n")
}

#[tokio::test]
async fn files_come_change_and_go() {
    let mut rig = Rig::with([]).await;
    assert_eq!(rig.get("a.test", "/").await.status, 404);
    rig.folder
        .write("a.yaml", &yaml(&[route("a", "a.test", "echo")]));
    rig.reloaded().await;
    assert_eq!(rig.get("a.test", "/").await.status, 200);
    rig.folder
        .write("a.yaml", &yaml(&[route("a", "b.test", "echo")]));
    rig.reloaded().await;
    assert_eq!(
        (
            rig.get("a.test", "/").await.status,
            rig.get("b.test", "/").await.status
        ),
        (404, 200)
    );
    rig.folder.remove("a.yaml");
    rig.reloaded().await;
    assert_eq!(rig.get("b.test", "/").await.status, 404);
}

#[tokio::test]
async fn every_manifest_below_the_folder_is_read_and_nothing_else() {
    let mut rig = Rig::with([]).await;
    let folder = rig.folder.path().to_owned();
    std::fs::create_dir_all(folder.join("deep/er")).unwrap();
    std::fs::create_dir_all(folder.join(".git")).unwrap();
    for (name, host) in [
        ("deep/er/a.yaml", "a.test"),
        ("deep/b.yml", "b.test"),
        ("c.json", "c.test"),
        ("d.txt", "d.test"),
        (".e.yaml", "e.test"),
        (".git/f.yaml", "f.test"),
    ] {
        std::fs::write(
            folder.join(name),
            route(host.trim_end_matches(".test"), host, "echo").to_string(),
        )
        .unwrap();
    }
    rig.reloaded().await;
    for (host, status) in [
        ("a.test", 200),
        ("b.test", 200),
        ("c.test", 200),
        ("d.test", 404),
        ("e.test", 404),
        ("f.test", 404),
    ] {
        assert_eq!(rig.get(host, "/").await.status, status, "{host}");
    }
}

#[tokio::test]
async fn a_volume_is_swapped_as_kubernetes_mounts_it() {
    // "..data" is a symlink that is replaced; the visible files are symlinks through it.
    let mut rig = Rig::with([]).await;
    let folder = rig.folder.path().to_owned();
    let generation = |number: u32, host: &str| {
        let name = format!("..2026_{number}");
        std::fs::create_dir(folder.join(&name)).unwrap();
        std::fs::write(
            folder.join(&name).join("routes.yaml"),
            route("r", host, "echo").to_string(),
        )
        .unwrap();
        symlink(&name, folder.join("..data_tmp")).unwrap();
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    generation(1, "one.test");
    symlink("..data/routes.yaml", folder.join("routes.yaml")).unwrap();
    rig.reloaded().await;
    assert_eq!(rig.get("one.test", "/").await.status, 200);
    generation(2, "two.test");
    rig.reloaded().await;
    assert_eq!(
        (
            rig.get("one.test", "/").await.status,
            rig.get("two.test", "/").await.status
        ),
        (404, 200)
    );
}

#[tokio::test]
async fn a_bad_file_keeps_the_last_good_state_and_is_named() {
    let mut objects = consumer_with_key("alice", "secret-1");
    objects.extend([route("r", "r.test", "echo"), key_auth("k", "r", &json!({}))]);
    let mut rig = Rig::with([]).await;
    rig.folder.put("good.yaml", &objects);
    rig.reloaded().await;
    let before = rig.postern.readyz().await.json();
    for (round, text) in [
        "{unclosed",
        "kind: [1",
        "just text",
        "apiVersion: v1\nkind: 7\n",
    ]
    .iter()
    .enumerate()
    {
        rig.folder.write("good.yaml", text);
        rig.folder.write(
            "other.yaml",
            &yaml(&[route("o", &format!("o{round}.test"), "echo")]),
        );
        // The file beside it is taken.
        harness::until("the good file", async || {
            rig.get(&format!("o{round}.test"), "/").await.status == 200
        })
        .await;
        rig.postern
            .log_line("the bad file", |l| l.contains("good.yaml"))
            .await;
        assert_eq!(rig.get("r.test", "/").await.status, 401, "{text}");
        assert_eq!(
            rig.get_with("r.test", "/", &[("apikey", "secret-1")])
                .await
                .status,
            200,
            "{text}"
        );
        let now = rig.postern.readyz().await;
        assert_eq!((now.status, &now.json()["ready"]), (200, &json!(true)));
        assert_ne!(
            now.json()["manifests"],
            rig.folder.digest(),
            "what is in the folder is not in force"
        );
    }
    assert!(before["manifests"].as_str().unwrap().starts_with("sha256:"));
    rig.folder.put("good.yaml", &objects[..3]);
    rig.reloaded().await;
    assert_eq!(rig.get("r.test", "/").await.status, 404);
}

/// A gateway with the route "r", which is open, and from the start a file that cannot be read.
struct AtFirst {
    port: harness::ports::Port,
    folder: Folder,
    postern: Postern,
    _upstream: Upstream,
}

impl AtFirst {
    async fn with(file: &str, text: &str) -> Self {
        let upstream = Upstream::named("echo").await;
        let port = harness::ports::Port::reserve();
        let folder = Folder::default();
        let mut objects = harness::objects::service("echo", upstream.port());
        objects.extend([
            harness::objects::gateway_class(),
            harness::objects::gateway("gateway", &[http_listener("http", port.number())]),
            route("r", "r.test", "echo"),
        ]);
        folder.put("good.yaml", &objects);
        folder.write(file, text);
        let state = std::sync::Arc::new(tempfile::TempDir::new().unwrap());
        let postern = Postern::spawn(folder.path(), state, &[]);
        Self {
            port,
            folder,
            postern,
            _upstream: upstream,
        }
    }

    async fn listens(&self) -> bool {
        tokio::net::TcpStream::connect(("127.0.0.1", self.port.number()))
            .await
            .is_ok()
    }

    async fn asked(&self) -> u16 {
        let mut connection = Connection::open(self.port.number()).await;
        connection.ask(get("r.test", "/", &[])).await.status
    }
}

#[tokio::test]
async fn a_file_that_is_bad_from_the_start_harms_nobody_else() {
    let at_first = AtFirst::with("broken.yaml", "kind: [").await;
    at_first
        .postern
        .log_line("the bad file", |l| l.contains("broken.yaml"))
        .await;
    harness::until("the listener", async || at_first.listens().await).await;
    assert_eq!(at_first.asked().await, 200);
}

#[tokio::test]
async fn a_lock_that_cannot_be_read_at_first_keeps_everything_closed() {
    let lock = yaml(&[key_auth("k", "r", &json!({}))]);
    let mut at_first = AtFirst::with("lock.yaml", &lock.replace("metadata", "metadata: [")).await;
    at_first
        .postern
        .log_line("why nothing is served", |l| {
            l.contains("nothing is served until this can be read") && l.contains("lock.yaml")
        })
        .await;
    assert!(!at_first.listens().await, "no listener is open");
    at_first.folder.write("lock.yaml", &lock);
    let digest = at_first.folder.digest();
    at_first.postern.ready(&digest).await;
    assert!(at_first.listens().await);
    assert_eq!(at_first.asked().await, 401);
}

#[tokio::test]
async fn listeners_open_and_close_without_touching_others() {
    let mut build = Rig::build();
    let second = build.port();
    let mut rig = build.objects([route("r", "r.test", "echo")]).start().await;
    let mut kept = rig.connect().await;
    assert_eq!(kept.ask(get("r.test", "/", &[])).await.status, 200);
    let upstream = rig.upstream.port();
    let base = |listeners: &[serde_json::Value]| {
        let mut objects = harness::objects::service("echo", upstream);
        objects.extend([
            harness::objects::gateway_class(),
            harness::objects::gateway("gateway", listeners),
        ]);
        objects
    };
    let first = http_listener("http", rig.port);
    assert!(
        tokio::net::TcpStream::connect(("127.0.0.1", second))
            .await
            .is_err()
    );
    rig.folder.put(
        "base.yaml",
        &base(&[first.clone(), http_listener("second", second)]),
    );
    rig.reloaded().await;
    assert_eq!(
        Connection::open(second)
            .await
            .ask(get("r.test", "/", &[]))
            .await
            .status,
        200
    );
    rig.folder.put("base.yaml", &base(&[first]));
    rig.reloaded().await;
    let closed = async || {
        tokio::net::TcpStream::connect(("127.0.0.1", second))
            .await
            .is_err()
    };
    harness::until("the end of the listener", closed).await;
    assert_eq!(
        kept.ask(get("r.test", "/", &[])).await.status,
        200,
        "the connection to the other one is still there"
    );
}

#[tokio::test]
async fn a_request_that_is_under_way_ends_as_it_began() {
    let upstream = Upstream::answering(|seen| match seen.target.as_str() {
        "/slow" => Reply::After(
            2,
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone".to_vec(),
        ),
        _ => Reply::ok("go"),
    })
    .await;
    let mut rig = Rig::build()
        .upstream(upstream)
        .objects([route("r", "r.test", "echo"), route("s", "s.test", "echo")])
        .start()
        .await;
    let mut slow = rig.connect().await;
    slow.send(get("r.test", "/slow", &[])).await;
    rig.upstream.wait_for(1).await;
    rig.replace([route("s", "s.test", "echo")]).await;
    assert_eq!(rig.get("r.test", "/").await.status, 404);
    assert_eq!(rig.get("s.test", "/").await.status, 200);
    assert_eq!(slow.answer().await.text(), "done");
}

#[tokio::test]
async fn deleting_a_key_a_secret_or_a_consumer_counts_within_a_second() {
    let mut objects = consumer_with_key("alice", "secret-1");
    objects.extend([route("r", "r.test", "echo"), key_auth("k", "r", &json!({}))]);
    let mut rig = Rig::with(objects.clone()).await;
    let mut connection = rig.connect().await;
    for (gone, what) in ["Consumer", "Credential", "Secret"].iter().enumerate() {
        let with_key = get("r.test", "/", &[("apikey", "secret-1")]);
        assert_eq!(
            connection.ask(&with_key).await.status,
            200,
            "before the {what} went"
        );
        let mut less = objects.clone();
        less.remove(gone);
        let started = Instant::now();
        rig.folder.put("test.yaml", &less);
        while connection.ask(&with_key).await.status != 401 {
            assert!(
                started.elapsed() < Duration::from_secs(1),
                "the {what} is gone for {:?}",
                started.elapsed()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        rig.replace(objects.clone()).await;
    }
}

#[tokio::test]
async fn no_request_is_lost_while_the_configuration_changes() {
    let mut rig = Rig::with([route("r", "r.test", "echo")]).await;
    let port = rig.port;
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let load = tokio::spawn(async move {
        let (mut connection, mut answers) = (Connection::open(port).await, 0);
        while !*stopped.borrow_and_update() {
            let answer = connection
                .ask(request("POST", "r.test", "/", &[], b"body"))
                .await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "echo"));
            answers += 1;
        }
        answers
    });
    for round in 0..20 {
        rig.replace([
            route("r", "r.test", "echo"),
            route("other", &format!("o{round}.test"), "echo"),
        ])
        .await;
    }
    stop.send(true).unwrap();
    assert!(load.await.unwrap() > 20);
}

#[tokio::test]
async fn an_object_that_two_files_define_is_refused_by_name() {
    let mut rig = Rig::with([route("r", "one.test", "echo")]).await;
    rig.folder
        .write("second.yaml", &yaml(&[route("r", "two.test", "echo")]));
    rig.postern
        .log_line("the second definition", |l| l.contains("second.yaml"))
        .await;
    assert_eq!(rig.get("one.test", "/").await.status, 200);
    rig.folder.remove("second.yaml");
    rig.reloaded().await;
}

#[tokio::test]
async fn endpoints_change_without_a_new_connection_of_the_client() {
    let (one, two) = (Upstream::named("one").await, Upstream::named("two").await);
    let to = |port| {
        harness::objects::service("moving", port)
            .into_iter()
            .chain([route("r", "r.test", "moving")])
    };
    let mut rig = Rig::with(to(one.port())).await;
    let mut connection = rig.connect().await;
    assert_eq!(
        connection
            .ask(get("r.test", "/", &[]))
            .await
            .header("x-upstream"),
        Some("one")
    );
    rig.replace(to(two.port())).await;
    assert_eq!(
        connection
            .ask(get("r.test", "/", &[]))
            .await
            .header("x-upstream"),
        Some("two")
    );
}
