//! `postern import`: files of other gateways as manifests, and what is served of them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use harness::process::binary;
use harness::raw::{Connection, request};
use harness::{Reply, Rig, Upstream};
use serde_json::json;

use crate::jwt::hs256;

mod kong;

/// What an import says: exit status, manifests, notes.
pub(super) struct Imported {
    pub(super) status: i32,
    pub(super) manifests: String,
    pub(super) notes: String,
}

/// Imports a text from standard input.
pub(super) fn import(gateway: &str, text: &str) -> Imported {
    let (status, manifests, notes) = run(&["import", gateway, "-"], text);
    Imported {
        status,
        manifests,
        notes,
    }
}

/// Exit status, standard output and standard error.
fn run(arguments: &[&str], input: &str) -> (i32, String, String) {
    use std::io::Write as _;
    let mut child = std::process::Command::new(binary())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // It may end before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().expect("no signal"),
        text(output.stdout),
        text(output.stderr),
    )
}

/// What `postern check -` says of manifests.
pub(super) fn check(manifests: &str) -> (i32, String) {
    let (status, said, _) = run(&["check", "-"], manifests);
    (status, said)
}

/// A file beside this one.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/product/import")
        .join(name)
}

pub(super) fn fixture(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

/// Compares with a golden file; `POSTERN_BLESS=1` rewrites it.
pub(super) fn golden(name: &str, text: &str) {
    let path = file(name);
    if std::env::var_os("POSTERN_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "{name} is not what is printed; POSTERN_BLESS=1 rewrites it. Printed:\n{text}"
    );
}

/// A gateway that runs on imported manifests, on a port of its own.
pub(super) async fn serve(manifests: &str) -> (Rig, u16) {
    let mut rig = Rig::build().without_gateway();
    let (port, secure) = (rig.port(), rig.port());
    let manifests = manifests
        .replace("port: 8000\n", &format!("port: {port}\n"))
        .replace("port: 8443\n", &format!("port: {secure}\n"));
    let rig = rig.file("imported.yaml", &manifests).start().await;
    (rig, port)
}

/// Answers with the Host and the target that it got.
pub(super) async fn telling() -> Upstream {
    Upstream::answering(|seen| {
        let host = seen.header("host").unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        Reply::ok(&format!("{host} {}", seen.target))
    })
    .await
}

/// "STATUS BODY" of a good answer, else the status.
pub(super) async fn ask(
    port: u16,
    method: &str,
    host: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> String {
    let message = request(method, host, target, headers, b"");
    let answer = Connection::open(port).await.ask(message).await;
    match answer.status {
        200 => format!("200 {}", answer.text()),
        status => status.to_string(),
    }
}

/// A token of an issuer that is good for an hour.
pub(super) fn token(issuer: &str, secret: &str) -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let exp = (now + Duration::from_secs(3600)).as_secs();
    format!(
        "Bearer {}",
        hs256(&json!({"iss": issuer, "exp": exp}), secret)
    )
}
