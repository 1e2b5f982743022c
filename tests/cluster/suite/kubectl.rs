//! The clients of a cluster, as processes: what people and scripts use.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Where Postern is installed.
pub(crate) const SYSTEM: &str = "postern-system";

/// A command for a shell: split at blanks, so arguments hold none.
pub(crate) async fn run(program: &str, arguments: &str, input: &str) -> Output {
    let words: Vec<_> = arguments.split_whitespace().collect();
    run_with(program, &words, input).await
}

/// A command with arguments as they are.
pub(crate) async fn run_with(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // Whoever does not read its input says on standard error what was wrong.
    let _closed = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    tokio::time::timeout(Duration::from_secs(240), child.wait_with_output())
        .await
        .unwrap_or_else(|_| panic!("{program} {arguments:?} did not end"))
        .expect("the output can be read")
}

/// The project's folder.
pub(crate) fn root() -> String {
    std::env::var("POSTERN_ROOT").expect("POSTERN_ROOT is set: run this with `make test-cluster`")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// What `kubectl ARGUMENTS` prints.
///
/// # Panics
/// When it fails.
pub(crate) async fn kubectl(arguments: &str) -> String {
    let output = run("kubectl", arguments, "").await;
    assert!(
        output.status.success(),
        "kubectl {arguments}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// What `kubectl ARGUMENTS` says on standard error when it fails, as it must.
pub(crate) async fn kubectl_fails(arguments: &str, input: &str) -> String {
    let output = run("kubectl", arguments, input).await;
    assert!(
        !output.status.success(),
        "kubectl {arguments} was to fail; it printed {}\n{input}",
        text(&output.stdout)
    );
    text(&output.stderr)
}

/// What `helm ARGUMENTS` prints.
pub(crate) async fn helm(arguments: &str) -> String {
    let output = run("helm", arguments, "").await;
    assert!(
        output.status.success(),
        "helm {arguments}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// An object, or a list of them, as JSON.
pub(crate) async fn get(arguments: &str) -> Value {
    let printed = kubectl(&format!("get {arguments} --output=json")).await;
    serde_json::from_str(&printed).expect("kubectl prints JSON")
}

/// Applies manifests.
pub(crate) async fn apply(manifests: &str) {
    let output = run("kubectl", "apply --filename=-", manifests).await;
    assert!(
        output.status.success(),
        "kubectl apply: {}\n{manifests}",
        text(&output.stderr)
    );
}

/// The condition of an object, as (status, reason, message); of routes, the first parent's.
pub(crate) fn condition(object: &Value, kind: &str) -> Option<(String, String, String)> {
    let status = &object["status"];
    let conditions = [&status["conditions"], &status["parents"][0]["conditions"]]
        .into_iter()
        .find_map(Value::as_array)?;
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind)?;
    let field = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    Some((field("status"), field("reason"), field("message")))
}

/// Waits until an object's condition has a status, and returns its reason and message.
pub(crate) async fn wait_for_condition(object: &str, kind: &str, status: &str) -> (String, String) {
    let mut last = None;
    for _ in 0..120 {
        last = condition(&get(object).await, kind);
        if let Some((found, reason, message)) = &last
            && found == status
        {
            return (reason.clone(), message.clone());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("{object}: {kind} did not become {status}; it is {last:?}");
}

/// Messages of the events that tell of an object.
pub(crate) async fn events(namespace: &str, name: &str) -> Vec<String> {
    let list = get(&format!(
        "events --namespace={namespace} --field-selector=involvedObject.name={name}"
    ))
    .await;
    let items = list["items"].as_array().expect("a list has items");
    items
        .iter()
        .filter_map(|event| event["message"].as_str().map(str::to_owned))
        .collect()
}
