//! `docs/admin-api.md` says what happens, and the OpenAPI document what can be called.

use std::process::Stdio;

use serde_json::{Value, json};

use super::{Admin, Names, fits};

/// A command of the document, and what it answers.
struct Step {
    command: String,
    status: u16,
    answer: String,
}

fn steps(text: &str) -> Vec<Step> {
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

#[tokio::test]
async fn the_document_tells_the_truth() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/admin-api.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let admin = Admin::with([]).await;
    let work = tempfile::tempdir().expect("a folder");
    let key = rcgen::KeyPair::generate().expect("a key");
    std::fs::write(work.path().join("public.pem"), key.public_key_pem()).expect("a file");
    let mut names = Names::new();
    names.insert(
        "ADMIN".to_owned(),
        format!("http://127.0.0.1:{}", admin.port),
    );
    names.insert(
        "GATEWAY".to_owned(),
        format!("http://127.0.0.1:{}", admin.rig.port),
    );
    let steps = steps(&text);
    assert!(steps.len() > 20, "the document has {} calls", steps.len());
    for step in steps {
        let command = step
            .command
            .replacen("curl ", "curl -sS -o answer -w '%{http_code}' ", 1);
        // The route of the document is for one host.
        let command = command.replace("$GATEWAY/", "-H 'Host: orders.test' $GATEWAY/");
        let output = tokio::process::Command::new("bash")
            .args(["-ec", &command])
            .current_dir(work.path())
            .envs(&names)
            .stdin(Stdio::null())
            .output();
        let output = harness::within("curl", output).await.expect("bash");
        let body = std::fs::read_to_string(work.path().join("answer")).unwrap_or_default();
        let status = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            status,
            step.status.to_string(),
            "{}: {body}{errors}",
            step.command
        );
        if step.answer.trim().is_empty() {
            assert_eq!(body, "", "{}", step.command);
            continue;
        }
        let expected: Value = serde_json::from_str(&step.answer).expect("an expected answer");
        if expected == "…" {
            continue;
        }
        let found =
            serde_json::from_str(&body).unwrap_or_else(|_| panic!("{}: {body}", step.command));
        if let Err(why) = fits(&expected, &found, &mut names, "") {
            panic!("{}\n{why}\n{body}", step.command);
        }
        std::fs::write(work.path().join("answer"), "").expect("a file");
    }
}

#[tokio::test]
async fn every_path_of_the_openapi_document_is_there_and_no_other() {
    let admin = Admin::with([]).await;
    let document = admin.done("GET", "/openapi.json", Value::Null).await;
    assert_eq!(document["openapi"], "3.1.0");
    let paths: Vec<String> = document["paths"]
        .as_object()
        .expect("paths")
        .keys()
        .cloned()
        .collect();
    let listed = admin.done("GET", "/endpoints", Value::Null).await;
    assert_eq!(listed["data"], json!(paths));
    for (path, item) in document["paths"].as_object().expect("paths") {
        let target: String = path
            .split('/')
            .map(|part| {
                if part.starts_with('{') {
                    "nobody"
                } else {
                    part
                }
            })
            .collect::<Vec<_>>()
            .join("/");
        for method in ["get", "post", "put", "patch", "delete"] {
            let answer = admin
                .call(&method.to_uppercase(), &target, &json!({}))
                .await;
            let known = item.get(method).is_some();
            let refused = answer.status == 405 && answer.json()["code"].is_null();
            assert_eq!(known, !refused, "{method} {path}: {}", answer.text());
        }
    }
    assert_eq!(admin.get("/nothing").await.status, 404);
}
