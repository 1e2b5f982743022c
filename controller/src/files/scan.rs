//! Which files there are, and what is in them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;

/// Where manifests come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file, or a folder with all that is below it.
    Path(PathBuf),
    /// Standard input, read once.
    Stdin,
}

impl Input {
    /// As on the command line: "-" is standard input.
    #[must_use]
    pub fn from_argument(argument: &Path) -> Self {
        if argument.as_os_str() == "-" {
            Self::Stdin
        } else {
            Self::Path(argument.to_owned())
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Stdin => Path::new("-"),
        }
    }
}

/// A file: which input, and its name relative to that; empty where the input is the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileKey {
    pub(super) input: usize,
    pub(super) name: Arc<Path>,
}

/// SHA-256 of a file.
pub(super) type Digest = [u8; 32];

/// What is in a file.
#[derive(Debug)]
pub(super) enum Content {
    /// What the last scan found.
    Same,
    New {
        text: String,
        digest: Digest,
    },
    /// It is there, but cannot be read.
    Unreadable(String),
}

/// One look at all inputs.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) files: BTreeMap<FileKey, Content>,
    /// Folders that could not be listed: what is in them is not known to be gone.
    pub(super) unlisted: Vec<(FileKey, String)>,
    /// Where files really are that stand outside of their input, behind links; to be watched too.
    pub(super) linked: HashSet<PathBuf>,
}

/// Looks at the inputs, and reads only what may have changed.
#[derive(Debug)]
pub(super) struct Scanner {
    inputs: Vec<Input>,
    known: HashMap<FileKey, Known>,
}

#[derive(Debug, PartialEq, Eq)]
struct Known {
    stamp: Stamp,
    digest: Digest,
    /// Whether the file was old enough when it was read that a later write must show in its times.
    settled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Clocks of file systems are coarse: two writes may bear the same time.
const SETTLES_AFTER: Duration = Duration::from_secs(2);

impl Scanner {
    pub(super) fn new(inputs: Vec<Input>) -> Self {
        Self {
            inputs,
            known: HashMap::new(),
        }
    }

    /// How the user would name a file.
    pub(super) fn display(&self, key: &FileKey) -> PathBuf {
        let input = self
            .inputs
            .get(key.input)
            .map_or_else(|| Path::new(""), Input::path);
        if key.name.as_os_str().is_empty() {
            input.to_owned()
        } else {
            input.join(&key.name)
        }
    }

    /// Looks at everything; `thorough` reads also what does not look changed.
    pub(super) fn scan(&mut self, thorough: bool) -> Scan {
        let mut scan = Scan::default();
        let mut seen = HashSet::new();
        for input in 0..self.inputs.len() {
            match self.inputs.get(input) {
                Some(Input::Path(path)) => {
                    let path = path.clone();
                    let real = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
                    let mut walk = Walk {
                        input,
                        real,
                        scan: &mut scan,
                        seen: &mut seen,
                        around: Vec::new(),
                        thorough,
                    };
                    self.visit(&mut walk, &path, Path::new(""));
                }
                Some(Input::Stdin) => self.stdin(input, &mut scan),
                None => {}
            }
        }
        self.known.retain(|key, _| scan.files.contains_key(key));
        scan
    }

    /// What was read of a file has not been taken after all: read it again next time.
    pub(super) fn forget(&mut self, key: &FileKey) {
        self.known.remove(key);
    }

    fn visit(&mut self, walk: &mut Walk<'_>, path: &Path, name: &Path) {
        let key = FileKey {
            input: walk.input,
            name: name.into(),
        };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // Gone since its folder was listed, or a link to nowhere. An input itself must be there.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && !name.as_os_str().is_empty() =>
            {
                return;
            }
            Err(error) => {
                walk.scan.unlisted.push((key, error.to_string()));
                return;
            }
        };
        let identity = (metadata.dev(), metadata.ino());
        if metadata.is_dir() {
            // A link to a folder around it would lead in circles.
            if walk.around.contains(&identity) {
                return;
            }
            walk.around.push(identity);
            self.list(walk, path, name, key);
            walk.around.pop();
        } else if is_manifest(path) || name.as_os_str().is_empty() {
            // The same file by two ways is one file.
            if walk.seen.insert(identity) {
                walk.note_link(path);
                let content = self.read(&key, path, &metadata, walk.thorough);
                walk.scan.files.insert(key, content);
            }
        }
    }

    fn list(&mut self, walk: &mut Walk<'_>, path: &Path, name: &Path, key: FileKey) {
        let listed = fs::read_dir(path).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<Vec<_>>>()
        });
        match listed {
            Ok(mut entries) => {
                entries.retain(|entry| !entry.as_encoded_bytes().starts_with(b"."));
                entries.sort_unstable();
                for entry in entries {
                    self.visit(walk, &path.join(&entry), &name.join(&entry));
                }
            }
            Err(error) => walk.scan.unlisted.push((key, error.to_string())),
        }
    }

    fn read(&mut self, key: &FileKey, path: &Path, metadata: &Metadata, thorough: bool) -> Content {
        let stamp = Stamp::of(metadata);
        let known = self.known.get(key);
        if !thorough && known.is_some_and(|known| known.settled && known.stamp == stamp) {
            return Content::Same;
        }
        if !metadata.is_file() {
            return Content::Unreadable("not a regular file".to_owned());
        }
        let now = SystemTime::now();
        match fs::read(path) {
            Ok(bytes) => {
                let digest = digest_of(&bytes);
                let settled = metadata.modified().is_ok_and(|modified| {
                    now.duration_since(modified)
                        .is_ok_and(|age| age > SETTLES_AFTER)
                });
                let same = known.is_some_and(|known| known.digest == digest);
                let Ok(text) = String::from_utf8(bytes) else {
                    self.known.remove(key);
                    return Content::Unreadable("not UTF-8".to_owned());
                };
                self.known.insert(
                    key.clone(),
                    Known {
                        stamp,
                        digest,
                        settled,
                    },
                );
                if same {
                    Content::Same
                } else {
                    Content::New { text, digest }
                }
            }
            Err(error) => {
                self.known.remove(key);
                Content::Unreadable(error.to_string())
            }
        }
    }

    fn stdin(&mut self, input: usize, scan: &mut Scan) {
        let key = FileKey {
            input,
            name: Path::new("").into(),
        };
        if self.known.contains_key(&key) {
            scan.files.insert(key, Content::Same);
            return;
        }
        let mut bytes = Vec::new();
        let content = match io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map(|_| String::from_utf8(bytes))
        {
            Ok(Ok(text)) => Content::New {
                digest: digest_of(text.as_bytes()),
                text,
            },
            Ok(Err(_)) => Content::Unreadable("not UTF-8".to_owned()),
            Err(error) => Content::Unreadable(error.to_string()),
        };
        // Standard input can be read only once, whatever was in it.
        self.known.insert(
            key.clone(),
            Known {
                stamp: Stamp::NONE,
                digest: Digest::default(),
                settled: true,
            },
        );
        scan.files.insert(key, content);
    }
}

/// One walk through one input.
struct Walk<'a> {
    input: usize,
    /// The input, links resolved.
    real: PathBuf,
    scan: &'a mut Scan,
    /// Files of all inputs.
    seen: &'a mut HashSet<(u64, u64)>,
    /// The folders around the current one.
    around: Vec<(u64, u64)>,
    thorough: bool,
}

impl Walk<'_> {
    fn note_link(&mut self, path: &Path) {
        if let Ok(real) = fs::canonicalize(path)
            && !real.starts_with(&self.real)
            && let Some(folder) = real.parent()
        {
            self.scan.linked.insert(folder.to_owned());
        }
    }
}

impl Stamp {
    const NONE: Self = Self {
        device: 0,
        inode: 0,
        size: 0,
        modified: (0, 0),
        changed: (0, 0),
    };

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Whether it is JSON rather than YAML.
pub(super) fn is_json(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "json")
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"]
            .iter()
            .any(|known| extension == *known)
    })
}

fn digest_of(bytes: &[u8]) -> Digest {
    let mut result = Digest::default();
    for (to, from) in result
        .iter_mut()
        .zip(digest::digest(&digest::SHA256, bytes).as_ref())
    {
        *to = *from;
    }
    result
}

/// The digest of all files: SHA-256 of what `sha256sum` prints of them, sorted.
pub(super) fn digest_of_files<'a>(files: impl Iterator<Item = (&'a Path, &'a Digest)>) -> String {
    let mut lines: Vec<Vec<u8>> = files.map(|(name, digest)| sum_line(name, digest)).collect();
    lines.sort_unstable();
    format!("sha256:{}", hex(&digest_of(&lines.concat())))
}

/// A line of `sha256sum`, which escapes the few names that would break it.
fn sum_line(name: &Path, digest: &Digest) -> Vec<u8> {
    let mut line = format!("{}  ", hex(digest)).into_bytes();
    let mut escaped = false;
    for byte in name.as_os_str().as_encoded_bytes() {
        match byte {
            b'\\' => line.extend(b"\\\\"),
            b'\n' => line.extend(b"\\n"),
            b'\r' => line.extend(b"\\r"),
            plain => {
                line.push(*plain);
                continue;
            }
        }
        escaped = true;
    }
    if escaped {
        line.insert(0, b'\\');
    }
    line.push(b'\n');
    line
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(scan: &Scan) -> Vec<&str> {
        scan.files
            .keys()
            .map(|key| key.name.to_str().unwrap())
            .collect()
    }

    fn scanner(path: &Path) -> Scanner {
        Scanner::new(vec![Input::Path(path.to_owned())])
    }

    #[test]
    fn manifests_below_are_found_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("sub/deep")).unwrap();
        fs::create_dir_all(at("..2024")).unwrap();
        for name in [
            "b.yaml",
            "a.yml",
            "c.json",
            "x.txt",
            ".hidden.yaml",
            "sub/deep/d.yaml",
            "..2024/e.yaml",
        ] {
            fs::write(at(name), "").unwrap();
        }
        symlink("..2024", at("..data")).unwrap();
        symlink("..data/e.yaml", at("e.yaml")).unwrap();
        symlink(folder.path(), at("sub/circle")).unwrap();
        symlink("b.yaml", at("z-again.yaml")).unwrap();
        symlink("nowhere", at("dangling.yaml")).unwrap();
        let scan = scanner(folder.path()).scan(false);
        assert_eq!(
            names(&scan),
            ["a.yml", "b.yaml", "c.json", "e.yaml", "sub/deep/d.yaml"]
        );
        assert!(scan.unlisted.is_empty());
    }

    #[test]
    fn changes_are_told_from_sameness() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, "one").unwrap();
        let mut scanner = scanner(folder.path());
        let changed = |scanner: &mut Scanner| {
            matches!(
                scanner.scan(false).files.values().next(),
                Some(Content::New { .. })
            )
        };
        assert!(changed(&mut scanner));
        assert!(!changed(&mut scanner));
        // In place, of the same length, perhaps within the same tick of the file system's clock.
        fs::write(&file, "two").unwrap();
        assert!(changed(&mut scanner));
        assert!(!changed(&mut scanner));
        fs::write(&file, b"\xff").unwrap();
        assert!(matches!(
            scanner.scan(false).files.values().next(),
            Some(Content::Unreadable(_))
        ));
    }

    #[test]
    fn files_outside_are_to_be_watched() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("x.yaml"), "").unwrap();
        symlink(outside.path().join("x.yaml"), folder.path().join("x.yaml")).unwrap();
        let scan = scanner(folder.path()).scan(false);
        assert_eq!(
            scan.linked,
            [fs::canonicalize(outside.path()).unwrap()].into()
        );
    }

    #[test]
    fn a_missing_input_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let scan = scanner(&folder.path().join("missing")).scan(false);
        assert_eq!(scan.unlisted.len(), 1);
    }

    #[test]
    fn the_digest_is_that_of_sha256sum() {
        // printf 1 >a.yaml; printf 2 >b.yaml; sha256sum a.yaml b.yaml | LC_ALL=C sort | sha256sum
        let (one, two) = (digest_of(b"1"), digest_of(b"2"));
        let files = [(Path::new("b.yaml"), &two), (Path::new("a.yaml"), &one)];
        assert_eq!(
            digest_of_files(files.into_iter()),
            "sha256:1ea36f985e375066fef676251af99ed3f3f78f2d21d02ffd5d09a99e39f0a0de"
        );
        assert!(sum_line(Path::new("a\\b"), &one).starts_with(b"\\6b86"));
    }
}
