//! The program as a user meets it: help, check, crds, and what it says of bad input.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const GATEWAY: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  gatewayClassName: postern
  listeners:
  - {name: web, protocol: HTTP, port: PORT}
";

fn postern() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("POSTERN_"))
    {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> (i32, String, String) {
    said(postern().args(arguments).output().unwrap())
}

fn said(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn check(&self) -> (i32, String) {
        let (code, out, err) = output(&["check", self.path().to_str().unwrap()]);
        assert_eq!(err, "");
        (
            code,
            out.replace(&format!("{}/", self.path().display()), ""),
        )
    }
}

#[test]
fn help_is_in_the_documentation() {
    let mut text = String::from(
        "# Command line\n\nWhat `postern --help` says; a test keeps it equal (`POSTERN_BLESS=1` rewrites it).\n",
    );
    for command in [
        "",
        "run",
        "controller",
        "proxy",
        "check",
        "explain",
        "import",
        "crds",
    ] {
        let (code, help, _) = if command.is_empty() {
            output(&["--help"])
        } else {
            output(&[command, "--help"])
        };
        assert_eq!(code, 0, "{command}");
        let title = format!("postern {command}");
        let lines: String = help
            .lines()
            .flat_map(|line| [line.trim_end(), "\n"])
            .collect();
        write!(text, "\n## {}\n\n```text\n{lines}```\n", title.trim_end()).unwrap();
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    if std::env::var_os("POSTERN_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "docs/cli.md is not what --help says; POSTERN_BLESS=1 cargo test -p postern rewrites it"
    );
}

#[test]
fn wrong_usage_is_exit_status_2() {
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["check"],
        &["run"],
        &["check", "/does/not/exist"],
        &["run", "--manifests", "x", "--store", "mongodb://localhost"],
        &["explain"],
        &["import"],
        &["import", "kong"],
        &["import", "nginx", "x"],
        &["import", "kong", "/does/not/exist"],
        &["explain", "http://a.test/", "-H", "no colon"],
        &[
            "explain",
            "http://a.test/",
            "--manifests",
            "/does/not/exist",
        ],
        &["explain", "http://a.test/", "--request-id", "x"],
        &["run", "--manifests", "x", "--trusted-proxies", "everybody"],
        &["run", "--manifests", "x", "--drain-timeout", "soon"],
        &["run", "--manifests", "x", "--log-level", "loud"],
        &["proxy"],
    ] {
        let (code, out, err) = output(arguments);
        assert_eq!(code, 2, "{arguments:?}: {err}");
        assert_eq!(out, "");
        assert!(!err.is_empty());
    }
    let (_, _, err) = output(&["run", "--manifests", "x", "--store", "mongodb://localhost"]);
    assert!(err.contains("a store is memory:, file:PATH"), "{err}");
}

#[test]
fn help_tells_no_values_of_variables() {
    let output = postern()
        .args(["run", "--help"])
        .env("POSTERN_STORE", "memory:")
        .output()
        .unwrap();
    let (code, help, _) = said(output);
    assert_eq!(code, 0);
    assert!(help.contains("[env: POSTERN_STORE]"), "{help}");
}

#[test]
fn the_definitions_are_what_kubectl_takes() {
    let (code, out, err) = output(&["crds"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for name in [
        "consumers",
        "credentials",
        "authplugins",
        "upstreampolicies",
    ] {
        assert!(out.contains(&format!("name: {name}.postern.dev")), "{name}");
    }
    assert_eq!(out.matches("kind: CustomResourceDefinition").count(), 4);
    assert_eq!(out.matches("\n---\n").count(), 3);
}

#[test]
fn a_gateway_alone_is_accepted() {
    let (code, out) = Folder::new(&[("gateway.yaml", &GATEWAY.replace("PORT", "8000"))]).check();
    assert_eq!(
        (code, out.as_str()),
        (0, "accepted: 1 object in 1 file, 0 errors, 0 warnings\n")
    );
}

#[test]
fn the_quickstart_is_accepted() {
    let manifests =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/manifests");
    let (code, out, _) = output(&["check", manifests.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("0 errors, 0 warnings"), "{out}");
}

#[test]
fn bad_manifests_are_refused_with_file_and_line() {
    let consumer = "apiVersion: postern.dev/v1alpha1\nkind: Consumer\nmetadata: {name: alice}\n";
    for (text, place, expected) in [
        ("a: [1\n".to_owned(), "bad.yaml:", "error: not YAML"),
        (format!("{consumer}spec:\n  usrname: x\n"), "bad.yaml:5: error: Consumer/default/alice: spec", "usrname"),
        (format!("{consumer}spec:\n  groups: gold\n"), "bad.yaml:5: error: Consumer/default/alice: spec.groups: ", ""),
        ("kind: Consumer\n".to_owned(), "bad.yaml:1: error: ", "apiVersion is missing"),
        (
            "# c\napiVersion: postern.dev/v1alpha1\nkind: Credential\nmetadata: {name: key}\nspec:\n  consumerRef: {name: bob}\n  \
             keyAuth:\n    secretRef: {name: none, key: key}\n"
                .to_owned(),
            "bad.yaml:8: error: Credential/default/key: spec.keyAuth.secretRef",
            "none",
        ),
    ] {
        let folder = Folder::new(&[("bad.yaml", &text), ("good/consumer.yaml", &consumer.replace("alice", "bob"))]);
        let (code, out) = folder.check();
        assert_eq!(code, 1, "{text}\n{out}");
        assert!(out.lines().any(|line| line.starts_with(place) && line.contains(expected)), "{place}\n{out}");
        assert!(out.lines().last().unwrap().starts_with("refused: "), "{out}");
        assert!(!out.contains("good/"), "{out}");
    }
    let (code, out) =
        Folder::new(&[("x.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n")]).check();
    assert_eq!(code, 0);
    assert!(
        out.starts_with("x.yaml:1: warning: Postern does not read kind Pod of v1"),
        "{out}"
    );
}

#[test]
fn standard_input_can_be_checked() {
    let mut child = postern()
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a: [").unwrap();
    let (code, out, _) = said(child.wait_with_output().unwrap());
    assert_eq!(code, 1);
    assert!(out.starts_with("-:1: error: not YAML"), "{out}");
}

/// `postern run` of a folder, with a state folder and ports of its own.
fn run(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = postern();
    command.args([
        "run",
        "--manifests",
        folder.path().to_str().unwrap(),
        "--bind",
        "127.0.0.1",
        "--workers",
        "1",
    ]);
    if !arguments.contains(&"--state-dir") {
        command.arg("--state-dir").arg(folder.path().join(".state"));
    }
    if !arguments.contains(&"--status-address") {
        command.args(["--status-address", "127.0.0.1:0"]);
    }
    command.args(arguments);
    command
}

#[test]
fn what_cannot_start_says_why() {
    let folder = Folder::new(&[
        ("gateway.yaml", &GATEWAY.replace("PORT", "23299")),
        ("file", ""),
    ]);
    let state = folder.path().join("file/state");
    let (code, _, err) = said(
        run(&folder, &["--state-dir", state.to_str().unwrap()])
            .output()
            .unwrap(),
    );
    assert_eq!(code, 1);
    assert!(
        err.contains("state folder: cannot make") && err.contains("--state-dir"),
        "{err}"
    );

    let (code, _, err) = output(&[
        "run",
        "--manifests",
        "/does/not/exist",
        "--state-dir",
        "/tmp",
    ]);
    assert_eq!(code, 1);
    assert!(
        err.contains("error: --manifests /does/not/exist: "),
        "{err}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, err) = said(
        run(&folder, &["--status-address", &address])
            .output()
            .unwrap(),
    );
    assert_eq!(code, 1);
    assert!(
        err.contains(&address) || err.contains("--status-address"),
        "{err}"
    );
}

#[test]
fn a_port_in_use_names_the_listener() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = Folder::new(&[("gateway.yaml", &GATEWAY.replace("PORT", &port))]);
    let (code, _, err) = said(run(&folder, &[]).output().unwrap());
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("no listener can be opened"), "{err}");
    assert!(
        err.contains("default/gateway/web") && err.contains(&port),
        "{err}"
    );
}

#[test]
fn bad_edits_are_said_and_take_nothing_away() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let folder = Folder::new(&[("gateway.yaml", &GATEWAY.replace("PORT", &free))]);
    let mut child = run(&folder, &["--log-format", "json"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(
        lines.any(|line| line.contains("manifests are in force")),
        "it ended"
    );
    fs::write(folder.path().join("gateway.yaml"), "kind: [").unwrap();
    assert!(
        lines.any(|line| line.contains("not YAML") && line.contains("gateway.yaml:1")),
        "it ended"
    );
    // The listener is still there.
    drop(std::net::TcpStream::connect(("127.0.0.1", free.parse().unwrap())).unwrap());
    let ended = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(ended.success());
    assert!(child.wait().unwrap().success());
}
