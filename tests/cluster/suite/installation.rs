//! The installation that all tests share, made by README's own commands.

use std::path::PathBuf;

use tokio::sync::OnceCell;

use crate::kubectl::{self, SYSTEM, apply};

/// The chapter of README whose commands are executed.
const CHAPTER: &str = "## In a cluster";

/// What the commands of README printed.
static PRINTED: OnceCell<String> = OnceCell::const_new();

/// Installs Postern, once for all tests; returns what README's commands printed.
pub(crate) async fn done() -> &'static str {
    PRINTED.get_or_init(install).await
}

async fn install() -> String {
    // Before anything is in there: whatever does not fit into Pod Security's `restricted` is refused.
    apply(&format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {SYSTEM}, labels: \
         {{pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}}}}}}"
    ))
    .await;
    let gateway_api = std::env::var("GATEWAY_API").expect("suite.sh sets GATEWAY_API");
    kubectl::kubectl(&format!("apply --server-side --filename={gateway_api}")).await;
    let commands = commands();
    let script = format!(
        "set -euo pipefail\nPATH={}:$PATH\ntrap 'kill $(jobs -p)' EXIT\n{commands}",
        stand_ins().display()
    );
    let output = kubectl::run_with("bash", &["-c", &script], "").await;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "README's commands failed:\n{commands}\n== output\n{printed}\n== errors\n{errors}"
    );
    assert!(!errors.contains("would violate PodSecurity"), "{errors}");
    printed
}

/// The shell commands of the chapter, in their order.
fn commands() -> String {
    let readme = std::fs::read_to_string(PathBuf::from(kubectl::root()).join("README.md"))
        .expect("README.md is there");
    let chapter = readme
        .split(CHAPTER)
        .nth(1)
        .unwrap_or_else(|| panic!("README.md has no chapter {CHAPTER:?}"));
    let chapter = chapter.split("\n## ").next().unwrap_or_default();
    let blocks: Vec<_> = chapter
        .split("```sh\n")
        .skip(1)
        .filter_map(|block| block.split("\n```").next())
        .collect();
    assert!(
        !blocks.is_empty(),
        "the chapter {CHAPTER:?} of README.md has no command"
    );
    blocks.join("\n")
}

/// A folder with what stands in for the two commands that a person runs on their own machine: the cluster is there, and
/// its node has the image, made from the binary under test.
fn stand_ins() -> PathBuf {
    let folder = PathBuf::from(std::env::var("KUBELAB_STATE").expect("in.sh sets KUBELAB_STATE"))
        .join("stand-ins");
    std::fs::create_dir_all(&folder).expect("the state folder can be written");
    for name in ["kind", "make"] {
        let file = folder.join(name);
        std::fs::write(&file, "#!/bin/sh\n").expect("the state folder can be written");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&file, executable).expect("the file is ours");
    }
    folder
}

/// README promises these answers.
#[tokio::test]
async fn the_commands_of_the_readme_end_at_a_protected_route() {
    let printed = done().await;
    let statuses: Vec<_> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("HTTP/1.1 "))
        .map(str::trim)
        .collect();
    assert_eq!(statuses, ["401 Unauthorized", "200 OK"], "{printed}");
}

/// Pods of Postern run as `restricted` asks; the namespace enforces it, and this shows that it really does.
#[tokio::test]
async fn the_namespace_enforces_restricted() {
    done().await;
    let refused = kubectl::kubectl_fails(
        &format!("run root --namespace={SYSTEM} --image=localhost/hello:1 --restart=Never"),
        "",
    )
    .await;
    assert!(
        refused.contains("violates PodSecurity \"restricted"),
        "{refused}"
    );
}
