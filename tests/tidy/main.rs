//! What reviewers would otherwise have to remember: the size of files, modules that nothing names, words that promise
//! instead of do, copies that must stay equal, links that must lead somewhere.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot read the tree must fail"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest a source file may be: past that it holds more than one thing.
const MAX_LINES: usize = 600;

/// What counts as source; data and generated files may be as long as they are.
const SOURCES: [&str; 5] = ["rs", "py", "sh", "proto", "go"];

/// Words that promise work instead of doing it. Written in halves: this file is checked, too.
const PROMISES: [&str; 4] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
];

/// Modules that would gather what has no owner.
const ROOMS_WITHOUT_OWNER: [&str; 6] = ["common", "util", "utils", "helpers", "misc", "shared"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .to_owned()
}

/// Every file that is, or is about to be, committed; relative to the root.
fn files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(
        listed.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let names = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    let files: Vec<_> = names
        .lines()
        .map(PathBuf::from)
        .filter(|file| root().join(file).is_file())
        .collect();
    assert!(!files.is_empty(), "git lists no file at all");
    files
}

fn with_extension<'a>(
    files: &'a [PathBuf],
    extensions: &'a [&str],
) -> impl Iterator<Item = &'a PathBuf> {
    files.iter().filter(|file| {
        file.extension()
            .is_some_and(|found| extensions.iter().any(|wanted| found == *wanted))
    })
}

fn read(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(root().join(file)).expect("a listed file can be read"))
        .into_owned()
}

fn assert_none(problems: &BTreeSet<String>) {
    assert!(
        problems.is_empty(),
        "\n{}\n",
        problems.iter().cloned().collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn source_files_are_short() {
    let files = files();
    let long = with_extension(&files, &SOURCES)
        .map(|file| (file, read(file).lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(file, lines)| {
            format!(
                "{} has {lines} lines, more than {MAX_LINES}: split it",
                file.display()
            )
        })
        .collect();
    assert_none(&long);
}

#[test]
fn no_word_promises_what_is_not_done() {
    let mut found = BTreeSet::new();
    for file in with_extension(
        &files(),
        &[
            "rs", "py", "sh", "proto", "go", "md", "yaml", "yml", "toml", "tpl",
        ],
    ) {
        for (number, line) in read(file).lines().enumerate() {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric());
            if let Some(word) = words.into_iter().find(|word| PROMISES.contains(word)) {
                found.insert(format!(
                    "{}:{}: {word}: do it, or file an issue",
                    file.display(),
                    number + 1
                ));
            }
        }
    }
    assert_none(&found);
}

/// The names that a source file declares with `mod name;`, `#[path]` included as the path that it gives.
fn declared(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut path = None;
    for line in source.lines().map(str::trim) {
        if let Some(given) = line.strip_prefix("#[path = \"") {
            path = given.split('"').next().map(str::to_owned);
            continue;
        }
        let declaration = line
            .split_once("mod ")
            .filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
        if let Some(name) = declaration.and_then(|(_, rest)| rest.strip_suffix(';')) {
            names.insert(path.take().unwrap_or_else(|| name.to_owned()));
        }
    }
    names
}

/// The files that may declare `file` as their module, nearest first.
fn parents(file: &Path) -> Vec<PathBuf> {
    let folder = file.parent().expect("a file has a folder");
    // `a/mod.rs` is the module `a`, declared one level up.
    let folder = if file.ends_with("mod.rs") {
        folder.parent().expect("a module has a parent")
    } else {
        folder
    };
    let mut parents: Vec<_> = ["mod.rs", "lib.rs", "main.rs"]
        .iter()
        .map(|name| folder.join(name))
        .collect();
    parents.push(folder.with_extension("rs"));
    parents
}

/// Every target of the workspace, as cargo describes it.
fn targets() -> Vec<serde_json::Value> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(root())
        .output()
        .expect("cargo describes the workspace");
    let metadata: serde_json::Value =
        serde_json::from_slice(&metadata.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"]
        .as_array()
        .expect("a workspace has packages");
    packages
        .iter()
        .flat_map(|package| package["targets"].as_array().cloned().unwrap_or_default())
        .collect()
}

/// The files that cargo itself starts from.
fn crate_roots(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let roots: BTreeSet<_> = targets()
        .iter()
        .filter_map(|target| {
            Path::new(target["src_path"].as_str()?)
                .strip_prefix(root())
                .ok()
                .map(Path::to_owned)
        })
        .collect();
    assert!(
        files.iter().any(|file| roots.contains(file)),
        "cargo metadata names no file of the workspace"
    );
    roots
}

/// `make` names the integration tests, because one of them needs a cluster: a new one must not be forgotten.
#[test]
fn make_runs_every_integration_test() {
    let run = read(Path::new("Makefile")) + &read(Path::new("tests/cluster/suite.sh"));
    let words: Vec<_> = run.split_whitespace().collect();
    let forgotten = targets()
        .iter()
        .filter(|target| target["kind"][0] == "test")
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .filter(|name| {
            !words
                .windows(2)
                .any(|pair| pair[0] == "--test" && pair[1] == name)
        })
        .map(|name| format!("Makefile: no command has `--test {name}`"))
        .collect();
    assert_none(&forgotten);
}

/// Folders with a workspace of their own, which cargo does not describe here.
fn is_in_another_workspace(file: &Path) -> bool {
    file.ancestors().skip(1).any(|folder| {
        let manifest = root().join(folder).join("Cargo.toml");
        !folder.as_os_str().is_empty()
            && std::fs::read_to_string(manifest).is_ok_and(|text| text.contains("[workspace]"))
    })
}

#[test]
fn every_module_is_named_by_another() {
    let files = files();
    let roots = crate_roots(&files);
    let mut orphans = BTreeSet::new();
    for file in with_extension(&files, &["rs"])
        .filter(|file| !roots.contains(*file) && !is_in_another_workspace(file))
    {
        let stem = if file.ends_with("mod.rs") {
            file.parent().expect("a file has a folder")
        } else {
            file
        };
        let module = stem
            .file_stem()
            .expect("a module has a name")
            .to_string_lossy()
            .into_owned();
        let file_name = file
            .file_name()
            .expect("a file has a name")
            .to_string_lossy()
            .into_owned();
        if ROOMS_WITHOUT_OWNER.contains(&module.as_str()) {
            orphans.insert(format!(
                "{}: a module named `{module}` has no owner",
                file.display()
            ));
        }
        let named = parents(file)
            .iter()
            .filter(|parent| *parent != file && root().join(parent).is_file())
            .any(|parent| {
                let names = declared(&read(parent));
                names.contains(&module)
                    || names
                        .iter()
                        .any(|path| path.ends_with(&file_name) && path.contains(".rs"))
            });
        if !named {
            orphans.insert(format!(
                "{}: no `mod {module};` names it, so it is never compiled",
                file.display()
            ));
        }
    }
    assert_none(&orphans);
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    let files = files();
    let mut without = BTreeSet::new();
    for file in files
        .iter()
        .filter(|file| file.ends_with("Cargo.toml") && !is_in_another_workspace(file))
    {
        let text = read(file);
        if text.contains("[package]") && !text.contains("[lints]\nworkspace = true") {
            without.insert(format!(
                "{}: add `[lints]` with `workspace = true`",
                file.display()
            ));
        }
    }
    assert_none(&without);
}

/// The manifests are generated into `crds/`; Helm wants them inside the chart.
#[test]
fn the_chart_holds_the_generated_crds() {
    let manifests = |folder: &str| {
        let entries = std::fs::read_dir(root().join(folder)).expect("the folder of CRDs is there");
        let paths = entries.map(|entry| entry.expect("a folder can be listed").path());
        let yaml = paths.filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        });
        yaml.map(|path| {
            let text = std::fs::read_to_string(&path).expect("a manifest can be read");
            (
                path.file_name().expect("a manifest has a name").to_owned(),
                text,
            )
        })
        .collect::<std::collections::BTreeMap<_, _>>()
    };
    let generated = manifests("crds");
    assert!(!generated.is_empty(), "crds/ holds no manifest");
    assert!(
        generated == manifests("charts/postern/crds"),
        "charts/postern/crds differs from crds: run `cp crds/*.yaml charts/postern/crds/`"
    );
}

#[test]
fn the_chart_has_the_version_of_the_workspace() {
    let chart = read(Path::new("charts/postern/Chart.yaml"));
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        format!("version: {version}"),
        format!("appVersion: \"{version}\""),
    ] {
        assert!(
            chart.lines().any(|found| found == line),
            "charts/postern/Chart.yaml has no line `{line}`"
        );
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = BTreeSet::new();
    for file in with_extension(&files(), &["md"]) {
        for target in read(file)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next().map(str::to_owned))
        {
            let target = target.split('#').next().unwrap_or_default();
            let folder = file.parent().expect("a file has a folder");
            if !target.is_empty()
                && !target.contains("://")
                && !root().join(folder).join(target).exists()
            {
                broken.insert(format!("{}: there is no {target}", file.display()));
            }
        }
    }
    assert_none(&broken);
}
