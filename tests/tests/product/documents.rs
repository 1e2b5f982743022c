//! Documents whose commands are run as they are written: each must answer what is shown below it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use harness::objects::{consumer, https_listener, route, service, tls_secret, within_namespace};
use harness::tls::Certificate;
use harness::{Reply, Rig, Upstream};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// What stands for values in commands and in expected answers.
type Names = BTreeMap<String, String>;

/// A command of a document, and what it answers.
struct Step {
    command: String,
    status: u16,
    answer: String,
}

/// A shell in a folder of its own, whose curl finds the hosts of a document where they really are.
pub(crate) struct Shell {
    folder: TempDir,
    names: Names,
}

/// A document of the folder `docs`.
pub(crate) fn document(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    std::fs::read_to_string(folder.join(name)).expect("the document")
}

/// What is below a heading, up to the next "## ".
pub(crate) fn chapter<'a>(text: &'a str, heading: &str) -> &'a str {
    let below = text.split(&format!("\n{heading}\n")).nth(1);
    let below = below.expect("the chapter");
    below.split("\n## ").next().unwrap_or_default()
}

/// The blocks of a document that are marked as of one kind.
pub(crate) fn blocks(text: &str, kind: &str) -> Vec<String> {
    let all = fenced(text).into_iter();
    all.filter_map(|(of, block)| (of == kind).then_some(block))
        .collect()
}

impl Shell {
    /// `hosts` leads from "name:port" to ports of this machine.
    pub(crate) fn new<'a>(
        hosts: impl IntoIterator<Item = (&'a str, u16)>,
        names: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut options = String::from(
            "silent\nshow-error\nnoproxy = \"*\"\noutput = \"answer\"\nwrite-out = \"%{http_code}\"\n",
        );
        for (host, port) in hosts {
            options += &format!("connect-to = \"{host}:127.0.0.1:{port}\"\n");
        }
        std::fs::write(folder.path().join(".curlrc"), options).expect("a file");
        let names = names.into_iter().map(|(name, of)| (name.to_owned(), of));
        Self {
            folder,
            names: names.collect(),
        }
    }

    /// A file that commands name.
    pub(crate) fn file(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("a file");
    }

    /// Runs the commands of a document in their order; how many they were.
    pub(crate) async fn run(&mut self, text: &str) -> usize {
        let steps = steps(text);
        for step in &steps {
            self.step(step).await;
        }
        steps.len()
    }

    async fn step(&mut self, step: &Step) {
        let command = &step.command;
        self.file("answer", "");
        let output = tokio::process::Command::new("bash")
            .args(["-euc", command])
            .current_dir(self.folder.path())
            .env("CURL_HOME", self.folder.path())
            .env("CURL_CA_BUNDLE", self.folder.path().join("ca.crt"))
            .envs(&self.names)
            .stdin(Stdio::null())
            .output();
        let output = harness::within("curl", output).await.expect("bash");
        let body = std::fs::read_to_string(self.folder.path().join("answer")).expect("the answer");
        let status = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(status, step.status.to_string(), "{command}: {body}{errors}");
        if step.answer.trim().is_empty() {
            assert_eq!(body, "", "{command}");
            return;
        }
        let expected: Value = serde_json::from_str(&step.answer).expect("an expected answer");
        if expected == "…" {
            return;
        }
        let found = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{command}: {body}"));
        if let Err(why) = fits(&expected, &found, &mut self.names, "") {
            panic!("{command}\n{why}\n{body}");
        }
    }
}

/// What is fenced in a text, each with its kind.
fn fenced(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(kind)) => open = Some((kind.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, body)), None) => {
                body.push_str(line);
                body.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

fn steps(text: &str) -> Vec<Step> {
    let blocks: Vec<_> = fenced(text)
        .into_iter()
        .filter(|(kind, _)| kind != "yaml")
        .collect();
    let steps = blocks.chunks(2).map(|pair| {
        let [(kind, command), (answer_kind, answer)] = pair else {
            panic!("a command without an answer");
        };
        assert_eq!(kind, "sh");
        let status = answer_kind
            .strip_prefix("json ")
            .expect("json and a status");
        Step {
            command: command.trim().to_owned(),
            status: status.parse().expect("a status"),
            answer: answer.clone(),
        }
    });
    steps.collect()
}

/// Compares an answer with what is expected: "…" is anything, "$NAME" the value that NAME had before, or has from now on.
fn fits(expected: &Value, found: &Value, names: &mut Names, at: &str) -> Result<(), String> {
    let differs = || Err(format!("{at}: expected {expected}, found {found}"));
    match (expected, found) {
        (Value::String(text), _) if text == "…" => Ok(()),
        (Value::String(text), Value::String(value)) if text_fits(text, value, names) => Ok(()),
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => expected
            .iter()
            .zip(found)
            .enumerate()
            .try_for_each(|(i, (e, f))| fits(e, f, names, &format!("{at}[{i}]"))),
        (Value::Object(expected), Value::Object(found)) => {
            let names_of = |o: &Map<String, Value>| o.keys().cloned().collect::<Vec<_>>();
            if names_of(expected) != names_of(found) {
                return Err(format!(
                    "{at}: expected fields {:?}, found {:?}",
                    names_of(expected),
                    names_of(found)
                ));
            }
            expected
                .iter()
                .try_for_each(|(name, e)| fits(e, &found[name], names, &format!("{at}.{name}")))
        }
        _ if expected == found => Ok(()),
        _ => differs(),
    }
}

/// The same of a text, which may hold several of them.
fn text_fits(expected: &str, found: &str, names: &mut Names) -> bool {
    let Some(at) = expected.find(['…', '$']) else {
        return expected == found;
    };
    let (before, hole) = expected.split_at(at);
    let Some(found) = found.strip_prefix(before) else {
        return false;
    };
    let (name, rest) = match hole.strip_prefix('$') {
        Some(hole) => {
            let end = hole.find(|c: char| !c.is_ascii_uppercase() && c != '_');
            hole.split_at(end.unwrap_or(hole.len()))
        }
        None => ("", hole.strip_prefix('…').unwrap_or_default()),
    };
    let next = rest.split(['…', '$']).next().unwrap_or_default();
    let end = match next {
        "" => Some(found.len()),
        next => found.find(next),
    };
    let Some((value, found)) = end.map(|end| found.split_at(end)) else {
        return false;
    };
    let known = |names: &mut Names| {
        let known = names.entry(name.to_owned());
        known.or_insert_with(|| value.to_owned()) == value
    };
    (name.is_empty() || known(names)) && text_fits(rest, found, names)
}

/// What the gateway tells an upstream of the caller.
fn told(seen: &harness::Seen) -> Reply {
    let told = seen.headers.iter().filter(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name.starts_with("x-authenticated-") || name == "x-credential-identifier"
    });
    let told: Map<_, _> = told
        .map(|(name, value)| (name.to_ascii_lowercase(), json!(value)))
        .collect();
    Reply::ok(&Value::from(told).to_string())
}

#[tokio::test]
async fn the_steps_of_oauth2_are_what_happens() {
    let text = document("oauth2.md");
    let manifests = blocks(&text, "yaml");
    assert_eq!(manifests.len(), 1);
    let upstream = Upstream::answering(told).await;
    let certificate = Certificate::of(&["orders.example"]);
    let mut build = Rig::build();
    let port = build.port();
    let mut listener = https_listener("https", port, None, "tls");
    listener["allowedRoutes"] = json!({"namespaces": {"from": "All"}});
    let mut orders = route("orders", "orders.example", "orders");
    orders["spec"]["parentRefs"] = json!([{"name": "gateway", "namespace": "default"}]);
    let mut shop = service("orders", upstream.port());
    shop.extend([orders, consumer("alice", &json!({}))]);
    let rig = build
        .listener(listener)
        .objects(shop.into_iter().map(|o| within_namespace(o, "shop")))
        .objects([tls_secret("tls", &certificate)])
        .file("oauth2.yaml", &manifests[0])
        .start()
        .await;
    let generated = |name: &str, entry: &str| {
        let file = rig.postern.state().path().join("secrets/shop");
        let file = std::fs::read(file.join(format!("{name}.json"))).expect("the Secret");
        let made: Value = serde_json::from_slice(&file).expect("JSON");
        made["stringData"][entry]
            .as_str()
            .expect("a value")
            .to_owned()
    };
    let mut shell = Shell::new(
        [("orders.example:443", port)],
        [
            ("CLIENT_ID", generated("my-app", "clientId")),
            ("CLIENT_SECRET", generated("my-app", "clientSecret")),
            ("PROVISION_KEY", generated("tokens", "provisionKey")),
        ],
    );
    shell.file("ca.crt", &certificate.chain);
    let count = shell.run(chapter(&text, "## Steps")).await;
    assert!(count > 8, "the document has {count} commands");
}
