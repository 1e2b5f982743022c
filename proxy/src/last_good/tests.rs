use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use zeroize::Zeroizing;

use proptest::prelude::*;
use snapshot::Entry;
use snapshot::proto::{Consumer, Resource, resource::Body};

use super::*;

fn resource(key: &str, value: &str) -> Bytes {
    let body = Body::Consumer(Consumer {
        id: value.to_owned(),
        ..Consumer::default()
    });
    Entry::new(&Resource {
        key: key.to_owned(),
        body: Some(body),
    })
    .encoded
}

/// What a proxy would hold after these changes.
#[derive(Debug, Default, Clone, PartialEq)]
struct Model {
    version: String,
    held: BTreeMap<KeyId, Bytes>,
}

impl Model {
    fn apply(&mut self, delta: Delta) {
        self.version = delta.version.to_string();
        for bucket in delta.reset_buckets {
            self.held.retain(|id, _| u32::from(id.bucket()) != bucket);
        }
        for id in delta.removals {
            self.held.remove(&id);
        }
        for encoded in delta.upserts {
            let key = <Resource as prost::Message>::decode(encoded.clone())
                .unwrap()
                .key;
            self.held.insert(KeyId::of(&key), encoded);
        }
    }
}

fn change(version: usize, upserts: &[(u8, u8)], removals: &[u8]) -> Append {
    let key = |name: u8| format!("Consumer/n/{name}");
    Append {
        version: version.to_string().into(),
        upserts: upserts
            .iter()
            .map(|(name, value)| resource(&key(*name), &value.to_string()))
            .collect(),
        removals: removals.iter().map(|name| KeyId::of(&key(*name))).collect(),
    }
}

fn delta(append: &Append) -> Delta {
    Delta {
        version: Arc::clone(&append.version),
        reset_buckets: vec![],
        upserts: append.upserts.clone(),
        known: vec![],
        removals: append.removals.clone(),
    }
}

fn key() -> MasterKey {
    MasterKey::new(Zeroizing::new(vec![7; 32]))
}

/// What is restored from a file.
fn restore(path: &Path, key: &MasterKey) -> io::Result<Model> {
    let mut model = Model::default();
    if let Some(mut log) = LogFile::open(path, key)? {
        log.replay(&mut |delta| model.apply(delta))?;
    }
    Ok(model)
}

fn writer(path: &Path) -> Writer {
    Writer::new(
        path.to_owned(),
        Arc::new(key()),
        LogFile::open(path, &key()).unwrap(),
    )
}

/// Writes changes; returns what is held after none, one, two … of them, and how long the file is then.
fn write(path: &Path, changes: Vec<Append>) -> Vec<(u64, Model)> {
    let (mut writer, mut model) = (writer(path), Model::default());
    writer.compact().unwrap();
    let mut states = vec![(fs::metadata(path).unwrap().len(), model.clone())];
    for change in changes {
        model.apply(delta(&change));
        writer.push(change);
        writer.write().unwrap();
        states.push((fs::metadata(path).unwrap().len(), model.clone()));
    }
    states
}

fn changes() -> Vec<Append> {
    vec![
        change(1, &[(1, 1), (2, 2), (3, 3)], &[]),
        change(2, &[(1, 9)], &[2]),
        change(3, &[], &[]),
        change(4, &[(2, 4), (4, 4)], &[3, 1]),
    ]
}

#[test]
fn a_file_cut_anywhere_gives_the_last_whole_change() {
    let folder = tempfile::tempdir().unwrap();
    let (path, cut) = (folder.path().join("log"), folder.path().join("cut"));
    let states = write(&path, changes());
    let whole = fs::read(&path).unwrap();
    for length in 0..=whole.len() {
        fs::write(&cut, &whole[..length]).unwrap();
        let expected = states
            .iter()
            .rev()
            .find(|(end, _)| *end <= length as u64)
            .map(|(_, model)| model);
        match (restore(&cut, &key()), expected) {
            (Ok(found), Some(expected)) => assert_eq!(&found, expected, "{length}"),
            // Not even a whole first change, or header.
            (Err(_), None) => {}
            (Err(_), Some(expected)) => assert_eq!(expected, &Model::default(), "{length}"),
            (Ok(found), None) => panic!("{length}: {found:?}"),
        }
        // And it can be added to from there.
        if expected.is_some_and(|model| !model.held.is_empty()) {
            let mut writer = writer(&cut);
            writer.push(change(9, &[(9, 9)], &[]));
            writer.write().unwrap();
            let mut expected = expected.unwrap().clone();
            expected.apply(delta(&change(9, &[(9, 9)], &[])));
            assert_eq!(restore(&cut, &key()).unwrap(), expected, "{length}");
        }
    }
}

#[test]
fn a_byte_changed_anywhere_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (path, bad) = (folder.path().join("log"), folder.path().join("bad"));
    let states = write(&path, changes());
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for bit in [1, 128] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            fs::write(&bad, &bytes).unwrap();
            // What was before the damage, or nothing; never anything else.
            if let Ok(found) = restore(&bad, &key()) {
                let before = states
                    .iter()
                    .filter(|(end, _)| *end <= at as u64)
                    .map(|(_, model)| model);
                assert!(
                    before.clone().any(|model| *model == found),
                    "byte {at}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn frames_of_other_places_files_and_keys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let states = write(&path, changes());
    let whole = fs::read(&path).unwrap();
    let ends: Vec<usize> = states
        .iter()
        .map(|(end, _)| usize::try_from(*end).unwrap())
        .collect();
    // The first change once more, in the place of the second.
    let first = &whole[ends[0]..ends[1]];
    fs::write(&path, [&whole[..ends[1]], first].concat()).unwrap();
    assert_eq!(restore(&path, &key()).unwrap(), states[1].1);
    // Frames of another file, under the same key.
    let other = folder.path().join("other");
    write(&other, changes());
    let header_of_other = &fs::read(&other).unwrap()[..ends[0]];
    fs::write(&path, [header_of_other, &whole[ends[0]..]].concat()).unwrap();
    assert!(restore(&path, &key()).is_err());
    fs::write(&path, &whole).unwrap();
    assert!(restore(&path, &MasterKey::new(Zeroizing::new(vec![8; 32]))).is_err());
}

#[test]
fn nothing_can_be_read_without_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut change = change(1, &[], &[]);
    change.upserts = vec![resource("Consumer/n/canary-name", "canary-value")];
    write(&path, vec![change]);
    assert!(memchr::memmem::find(&fs::read(&path).unwrap(), b"canary").is_none());
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn large_changes_take_several_frames_and_come_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let big = Append {
        version: "big".into(),
        upserts: (0..35)
            .map(|at| resource(&format!("Consumer/n/{at}"), &"x".repeat(100_000)))
            .collect(),
        removals: vec![],
    };
    let states = write(&path, vec![change(1, &[(1, 1)], &[]), big]);
    assert_eq!(restore(&path, &key()).unwrap(), states[2].1);
    let whole = fs::read(&path).unwrap();
    for length in [
        whole.len() - 1,
        whole.len() - 900_000,
        whole.len() - 2_500_000,
    ] {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(restore(&path, &key()).unwrap(), states[1].1, "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn compaction_changes_nothing(steps in proptest::collection::vec(
        (proptest::collection::vec((0u8..8, any::<u8>()), 0..6), proptest::collection::vec(0u8..8, 0..3), 0u8..4), 1..20)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut writer, mut model) = (writer(&path), Model::default());
        for (at, (upserts, removals, what)) in steps.into_iter().enumerate() {
            let change = change(at, &upserts, &removals);
            model.apply(delta(&change));
            writer.push(change);
            writer.write().unwrap();
            if what == 0 {
                writer.compact().unwrap();
            }
            prop_assert_eq!(&restore(&path, &key()).unwrap(), &model);
        }
        writer.compact().unwrap();
        let length = fs::metadata(&path).unwrap().len();
        prop_assert_eq!(&restore(&path, &key()).unwrap(), &model);
        writer.compact().unwrap();
        prop_assert_eq!(fs::metadata(&path).unwrap().len(), length);
    }
}

#[test]
fn it_does_not_grow_without_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut writer = writer(&path);
    let value = "x".repeat(100_000);
    for at in 0..200 {
        let upserts = vec![resource("Consumer/n/1", &format!("{at}{value}"))];
        writer.push(Append {
            version: at.to_string().into(),
            upserts,
            removals: vec![],
        });
        writer.write().unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 6 << 20);
    }
}

#[test]
fn a_failed_write_is_made_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    write(&path, changes());
    // Open for reading only: every write fails.
    let mut broken = LogFile::open(&path, &key()).unwrap().unwrap();
    broken.make_read_only(&path);
    let mut writer = Writer::new(path.clone(), Arc::new(key()), Some(broken));
    writer.push(change(5, &[(7, 7)], &[]));
    assert!(writer.write().is_err());
    writer.mark_damaged();
    writer.write().unwrap();
    let found = restore(&path, &key()).unwrap();
    assert_eq!(found.version, "5");
    assert!(
        found.held.contains_key(&KeyId::of("Consumer/n/7"))
            && found.held.contains_key(&KeyId::of("Consumer/n/4"))
    );
}

#[test]
fn folder_key_and_log_are_made_for_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("a/b");
    let mut last_good = LastGood::open(&state, None).unwrap();
    last_good.load(|_| panic!("there is nothing yet"));
    let secret = fs::read(state.join(KEY)).unwrap();
    assert_eq!(secret.len(), 32);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state), mode(&state.join(KEY))), (0o700, 0o600));
    drop(last_good);
    LastGood::open(&state, None).unwrap();
    assert_eq!(
        fs::read(state.join(KEY)).unwrap(),
        secret,
        "a key that is there stays"
    );

    let short = folder.path().join("short");
    fs::write(&short, "short").unwrap();
    let error = LastGood::open(&state, Some(&short))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("--state-key-file") && error.contains("32 bytes"),
        "{error}"
    );
    let error = LastGood::open(&short, None).unwrap_err().to_string();
    assert!(
        error.contains("--state-dir") && error.contains("short"),
        "{error}"
    );
}

#[test]
fn whatever_is_in_the_file_nothing_panics() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    for content in [
        &b""[..],
        b"POSTERN1",
        b"POSTERN1aaaaaaaaaaaaaaaa\xff\xff\xff\xff",
        &[0; 100],
        b"something else entirely, long",
    ] {
        fs::write(state.join(LOG), content).unwrap();
        let mut last_good = LastGood::open(state, None).unwrap();
        last_good.load(|_| panic!("nothing in it is good"));
    }
}
