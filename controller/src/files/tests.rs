//! What counts of several files, over time.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use compile::{Level, ObjectRef};
use jiff::Timestamp;
use tempfile::TempDir;

use super::collection::{Changes, Collection, FirstSeen, GRACE};
use super::engine::Engine;
use super::scan::{Input, Scanner};
use super::settings;
use super::state::State;

struct Epoch;

impl FirstSeen for Epoch {
    fn first_seen(&mut self, _: &ObjectRef) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

struct Rig {
    folder: TempDir,
    scanner: Scanner,
    collection: Collection,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scanner = Scanner::new(vec![Input::Path(folder.path().to_owned())]);
        Self {
            folder,
            scanner,
            collection: Collection::default(),
            now: Instant::now(),
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.folder.path().join(name)).unwrap();
    }

    fn look(&mut self) -> Changes {
        let scan = self.scanner.scan(false);
        let changes = self
            .collection
            .take(scan, &self.scanner, &mut Epoch, self.now);
        for key in &changes.reread {
            self.scanner.forget(key);
        }
        changes
    }

    /// What a look applies ("+") and deletes ("-").
    fn changes(&mut self) -> Vec<String> {
        described(&self.look())
    }

    /// The findings, without the folder's name.
    fn findings(&self) -> Vec<String> {
        let prefix = format!("{}/", self.folder.path().display());
        self.collection
            .findings(&self.scanner)
            .iter()
            .map(|finding| finding.to_string().replace(&prefix, ""))
            .collect()
    }

    fn digest(&self) -> String {
        self.collection.digest(&self.scanner)
    }
}

fn described(changes: &Changes) -> Vec<String> {
    let applied = changes
        .apply
        .iter()
        .map(|object| format!("+{}", object.reference().name));
    applied
        .chain(
            changes
                .delete
                .iter()
                .map(|reference| format!("-{}", reference.name)),
        )
        .collect()
}

fn consumer(name: &str, custom_id: &str) -> String {
    format!(
        "apiVersion: postern.dev/v1alpha1\nkind: Consumer\nmetadata:\n  name: {name}\nspec:\n  customId: {custom_id}\n---\n"
    )
}

#[test]
fn only_what_changed_is_applied() {
    let mut rig = Rig::new();
    rig.write("a.yaml", &(consumer("one", "x") + &consumer("two", "x")));
    assert_eq!(rig.changes(), ["+one", "+two"]);
    assert!(!rig.look().any);
    rig.write(
        "a.yaml",
        &(consumer("one", "x") + &consumer("two", "w") + &consumer("three", "x")),
    );
    assert_eq!(rig.changes(), ["+three", "+two"]);
    rig.write("a.yaml", &consumer("three", "x"));
    assert_eq!(rig.changes(), ["-one", "-two"]);
    assert_eq!(rig.findings(), Vec::<String>::new());
}

#[test]
fn unreadable_text_keeps_what_the_file_held() {
    let mut rig = Rig::new();
    rig.write("a.yaml", &(consumer("one", "x") + &consumer("two", "x")));
    rig.look();
    let good = rig.digest();
    rig.write(
        "a.yaml",
        &(consumer("one", "w") + "kind: [broken\n---\n" + &consumer("three", "x")),
    );
    assert_eq!(rig.changes(), ["+one", "+three"]);
    let findings = rig.findings();
    assert!(
        findings[0].starts_with("a.yaml:8: error: not YAML: ")
            || findings[0].starts_with("a.yaml:9: error: not YAML: "),
        "{findings:?}"
    );
    assert!(
        findings[1].contains("1 object(s) that this file held before keep their last good state"),
        "{findings:?}"
    );
    assert_eq!(rig.digest(), good);
    rig.write("a.yaml", &consumer("one", "w"));
    assert_eq!(rig.changes(), ["-three", "-two"]);
    assert_eq!(rig.findings(), Vec::<String>::new());
    assert_ne!(rig.digest(), good);
}

#[test]
fn an_object_that_does_not_fit_keeps_its_last_good_state() {
    let mut rig = Rig::new();
    rig.write("a.yaml", &consumer("one", "x"));
    rig.look();
    let good = rig.digest();
    rig.write("a.yaml", &consumer("one", "[1]"));
    assert_eq!(rig.changes(), Vec::<String>::new());
    let findings = rig.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(
        findings[0].starts_with("a.yaml:6: error: Consumer/default/one: spec.customId: "),
        "{findings:?}"
    );
    assert!(
        findings[0].ends_with("; the object keeps its last good state"),
        "{findings:?}"
    );
    assert_eq!(rig.digest(), good);
    rig.write("a.yaml", &consumer("one", "z"));
    assert_eq!(rig.changes(), ["+one"]);
    // Without a good state the compiler gets the bad one, and closes what depends on it.
    rig.write("b.yaml", &consumer("two", "[1]"));
    let changes = rig.look();
    assert_eq!(described(&changes), ["+two"]);
    assert!(changes.apply[0].unreadable().is_some());
}

#[test]
fn an_auth_plugin_that_nobody_can_read_closes_what_it_protects() {
    let mut rig = Rig::new();
    let bad = LOCK.replace("keyAuth: {}", "keyAuth: {");
    rig.write("a.yaml", &bad);
    let changes = rig.look();
    assert_eq!(described(&changes), ["+lock"]);
    assert!(changes.apply[0].unreadable().is_some());
    assert_eq!(rig.findings().len(), 1, "{:?}", rig.findings());
    rig.write("a.yaml", LOCK);
    assert_eq!(rig.changes(), ["+lock"]);
    // What was good once stays in force.
    rig.write("a.yaml", &bad);
    assert_eq!(rig.changes(), Vec::<String>::new());
    // Another version is no way out either.
    rig.write("a.yaml", &LOCK.replace("v1alpha1", "v2"));
    assert_eq!(rig.changes(), Vec::<String>::new());
    assert!(
        rig.findings()[0].contains("keeps its last good state"),
        "{:?}",
        rig.findings()
    );
}

#[test]
fn a_route_waits_for_the_lock_beside_it() {
    let mut rig = Rig::new();
    let route = |name: &str, host: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
             spec: {{hostnames: [{host}]}}\n---\n"
        )
    };
    rig.write("a.yaml", &route("old", "a.test"));
    assert_eq!(rig.changes(), ["+old"]);
    let routes = route("new", "a.test") + &route("old", "b.test");
    let lock = LOCK.replace("lock}", "lock");
    rig.write("a.yaml", &(routes.clone() + &lock));
    assert_eq!(rig.changes(), ["+old"]);
    let findings = rig.findings();
    assert!(
        findings
            .iter()
            .any(|f| f.contains("1 new route(s) of this file wait")),
        "{findings:?}"
    );
    // Beside it, nothing waits.
    rig.write("b.yaml", &route("other", "b.test"));
    assert_eq!(rig.changes(), ["+other"]);
    rig.write("a.yaml", &(routes + LOCK));
    assert_eq!(rig.changes(), ["+new", "+lock"]);
    assert_eq!(rig.findings(), Vec::<String>::new());
}

#[test]
fn an_object_in_two_files_counts_from_the_first() {
    let mut rig = Rig::new();
    rig.write("b.yaml", &consumer("one", "x"));
    assert_eq!(rig.changes(), ["+one"]);
    rig.write("a.yaml", &consumer("one", "w"));
    assert_eq!(rig.changes(), Vec::<String>::new());
    let expected = format!(
        "a.yaml:1: error: Consumer/default/one: is also in {}/b.yaml:1",
        rig.folder.path().display()
    );
    let findings = rig.collection.findings(&rig.scanner);
    let found = findings[0].to_string();
    assert!(
        found
            .replace(&format!("{}/a.yaml", rig.folder.path().display()), "a.yaml")
            .starts_with(&expected),
        "{found}"
    );
    rig.remove("b.yaml");
    rig.look();
    rig.now += GRACE;
    assert_eq!(rig.changes(), ["+one"]);
    assert_eq!(rig.findings(), Vec::<String>::new());
    rig.write("a.yaml", &(consumer("one", "w") + &consumer("one", "z")));
    assert_eq!(rig.changes(), Vec::<String>::new());
    assert!(
        rig.findings()[0].contains("a.yaml:8: error: Consumer/default/one: is also on line 1"),
        "{:?}",
        rig.findings()
    );
}

#[test]
fn an_object_that_waited_with_old_text_is_read_again() {
    let mut rig = Rig::new();
    rig.write("a.yaml", &consumer("one", "x"));
    rig.look();
    rig.write("b.yaml", &consumer("one", "x"));
    rig.look();
    rig.write("a.yaml", &consumer("one", "w"));
    assert_eq!(rig.changes(), ["+one"]);
    rig.write("a.yaml", "# nothing\n");
    let changes = rig.look();
    assert_eq!(changes.reread.len(), 1);
    assert_eq!(rig.changes(), ["+one"]);
}

#[test]
fn an_object_moves_to_another_file_without_a_gap() {
    let mut rig = Rig::new();
    rig.write("a.yaml", &(consumer("one", "x") + &consumer("two", "x")));
    rig.look();
    for (from, to) in [("a.yaml", "b.yaml"), ("b.yaml", "a.yaml")] {
        rig.write(from, &consumer("two", "x"));
        rig.write(to, &consumer("one", "x"));
        let changes = rig.look();
        assert_eq!(changes.delete, [], "{from} to {to}");
        rig.write(from, "# empty\n");
        rig.write(to, &(consumer("one", "x") + &consumer("two", "x")));
        let changes = rig.look();
        assert_eq!(changes.delete, [], "{from} to {to}");
        assert_eq!(rig.findings(), Vec::<String>::new());
    }
}

#[test]
fn files_may_be_gone_or_empty_for_a_moment() {
    let mut rig = Rig::new();
    rig.write("a.yaml", &consumer("one", "x"));
    rig.write("b.yaml", &consumer("two", "x"));
    rig.look();
    rig.remove("a.yaml");
    rig.write("b.yaml", "");
    let changes = rig.look();
    assert_eq!(described(&changes), Vec::<String>::new());
    assert_eq!(changes.again, Some(GRACE));
    rig.now += GRACE / 2;
    rig.write("a.yaml", &consumer("one", "x"));
    rig.write("b.yaml", &consumer("two", "w"));
    assert_eq!(rig.changes(), ["+two"]);
    rig.remove("a.yaml");
    rig.write("b.yaml", "");
    rig.look();
    rig.now += GRACE + Duration::from_millis(1);
    assert_eq!(rig.changes(), ["-one", "-two"]);
    assert_eq!(rig.look().again, None);
}

#[test]
fn a_folder_that_vanishes_takes_nothing_with_it() {
    let mut rig = Rig::new();
    rig.write("a.yaml", &consumer("one", "x"));
    rig.look();
    let away = rig.folder.path().with_extension("away");
    fs::rename(rig.folder.path(), &away).unwrap();
    rig.look();
    rig.now += GRACE * 2;
    assert_eq!(rig.changes(), Vec::<String>::new());
    assert!(
        rig.findings()[0].contains("cannot be read"),
        "{:?}",
        rig.findings()
    );
    fs::rename(&away, rig.folder.path()).unwrap();
    rig.look();
    assert_eq!(rig.findings(), Vec::<String>::new());
}

#[test]
fn the_digest_is_of_the_files_in_force() {
    let mut rig = Rig::new();
    fs::create_dir(rig.folder.path().join("sub")).unwrap();
    rig.write("sub/a.yaml", &consumer("one", "x"));
    rig.write("b.yaml", &consumer("two", "x"));
    rig.write(
        "c.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n",
    );
    rig.look();
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg("sha256sum sub/a.yaml b.yaml c.yaml | LC_ALL=C sort | sha256sum")
        .current_dir(rig.folder.path())
        .output()
        .unwrap();
    let expected = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        rig.digest(),
        format!("sha256:{}", expected.split(' ').next().unwrap())
    );
    assert_eq!(
        rig.findings(),
        ["c.yaml:1: warning: Postern does not read kind Deployment of apps/v1; it is passed over"]
    );
}

fn engine(folder: &Path, state: &Path) -> Engine {
    Engine::new(
        Scanner::new(vec![Input::Path(folder.to_owned())]),
        State::open(state).unwrap(),
        settings(),
    )
}

const CREDENTIAL: &str = "\
apiVersion: postern.dev/v1alpha1
kind: Consumer
metadata: {name: alice}
---
apiVersion: postern.dev/v1alpha1
kind: Credential
metadata: {name: key}
spec: {consumerRef: {name: alice}, ttl: 3600, keyAuth: {}}
";

#[test]
fn keys_are_generated_once_and_forgotten_with_their_credential() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let manifest = folder.path().join("a.yaml");
    fs::write(&manifest, CREDENTIAL).unwrap();
    let mut first = engine(folder.path(), state.path());
    let change = first.refresh(true).change.expect("a first change");
    let key = "Credential/default/key";
    let programmed = change
        .diff
        .upserts
        .get(key)
        .expect("the credential is programmed")
        .hash;
    let secret = state.path().join("secrets/default/key.json");
    let text = fs::read_to_string(&secret).unwrap();
    drop(first);

    // The same key and the same end of its life after a restart.
    let mut second = engine(folder.path(), state.path());
    let change = second.refresh(true).change.expect("a first change");
    assert_eq!(
        change.diff.upserts.get(key).expect("still programmed").hash,
        programmed
    );
    assert_eq!(fs::read_to_string(&secret).unwrap(), text);

    // Another edit does not lengthen its life.
    fs::write(
        &manifest,
        CREDENTIAL.replace(
            "metadata: {name: alice}",
            "metadata: {name: alice, labels: {a: b}}",
        ),
    )
    .unwrap();
    let change = second.refresh(false).change.expect("the digest changed");
    assert!(change.diff.is_empty(), "{:?}", change.diff);

    fs::write(&manifest, "# nothing\n").unwrap();
    let change = second.refresh(false).change.expect("a change");
    assert!(change.diff.removals.iter().any(|removed| &**removed == key));
    assert!(!secret.exists());
}

#[test]
fn a_check_says_what_is_wrong_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    fs::write(
        &path,
        "\
apiVersion: postern.dev/v1alpha1
kind: Credential
metadata: {name: key}
spec:
  consumerRef: {name: nobody}
  ttl: -1
  keyAuth: {}
",
    )
    .unwrap();
    let verdict = super::check(vec![Input::Path(path.clone())], settings());
    assert!(verdict.count(Level::Error) > 0);
    let lines: Vec<_> = verdict
        .findings
        .iter()
        .map(|finding| (finding.line, finding.field.as_str()))
        .collect();
    assert!(lines.contains(&(6, "spec.ttl")), "{:?}", verdict.findings);
    assert!(verdict.findings.iter().all(|finding| finding.path == path));
}

const LOCK: &str = "\
apiVersion: postern.dev/v1alpha1
kind: AuthPlugin
metadata: {name: lock}
spec:
  targetRefs:
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}
  keyAuth: {}
";

#[test]
fn nothing_is_handed_over_at_first_where_a_lock_may_be_missing() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n";
    let with = |from: &str, to: &str| LOCK.replace(from, to);
    for (name, text, hides) in [
        ("not UTF-8", b"\xff".to_vec(), true),
        ("no name", with("{name: lock}", "{}").into(), true),
        ("a bad name", with("lock", "Lock!").into(), true),
        (
            "a typing error",
            with("AuthPlugin", "AuthPlugn").into(),
            true,
        ),
        ("no group", with("postern.dev/", "").into(), true),
        ("no version", with("apiVersion", "version").into(), true),
        ("broken metadata", with("lock}", "lock").into(), true),
        (
            "two objects in one",
            format!("{service}{LOCK}").into(),
            true,
        ),
        (
            "two locks in one",
            (with("spec:", "spec: [") + LOCK).into(),
            true,
        ),
        ("broken JSON", b"{\"kind\": \"AuthPlugin\", ".to_vec(), true),
        // Its targets can be read, and are closed; or everything is that they may be.
        (
            "broken below",
            with("keyAuth: {}", "keyAuth: {").into(),
            false,
        ),
        ("broken targets", with("orders}", "orders").into(), false),
        ("something else", b"kind: [".to_vec(), false),
        (
            "of another project",
            with("postern.dev", "example.com").into(),
            false,
        ),
    ] {
        let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(folder.path().join("good.yaml"), consumer("one", "x")).unwrap();
        let lock = folder.path().join("lock.yaml");
        fs::write(&lock, text).unwrap();
        let mut engine = engine(folder.path(), state.path());
        let first = engine.refresh(true).change;
        assert_eq!(first.is_none(), hides, "{name}");
        if !hides {
            continue;
        }
        assert!(engine.refresh(false).change.is_none(), "{name}: still");
        fs::write(&lock, LOCK).unwrap();
        let change = engine.refresh(false).change.expect(name);
        for key in ["Consumer/default/one", "Plugin/default/lock"] {
            assert!(change.diff.upserts.contains_key(key), "{name}: {key}");
        }
        // From now on there is a good state to keep.
        fs::write(&lock, b"\xff").unwrap();
        fs::write(folder.path().join("more.yaml"), consumer("two", "z")).unwrap();
        let change = engine.refresh(false).change.expect(name);
        assert!(change.diff.removals.is_empty(), "{name}");
        assert!(change.diff.upserts.contains_key("Consumer/default/two"));
    }
}
