//! A folder `admin` in the user's folder of manifests: one file per object, replaced in one step.
//!
//! The user's own files are never written. An object that one of them holds can be read here and changed there.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use compile::{Kind, Object, ObjectRef};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::{Change, Edit, decoded, holds, in_force_after, secret, secret_ref};
use crate::api::refused::Refused;
use crate::files::{Places, check_names};
use crate::held::Held;

const HEAD: &str =
    "# Written by the Admin API, which changes it. Whoever moves it elsewhere changes it there.\n";
/// What a file says before it goes. A file that is simply gone counts only after a while.
const TOMBSTONE: &str = "# Deleted by the Admin API.\n";

/// The folder.
pub(crate) struct Folder {
    /// None where no folder is among the inputs.
    path: Option<PathBuf>,
    places: Places,
    /// Asks for a look at the files.
    look: Arc<Notify>,
}

impl Folder {
    pub(crate) fn new(path: Option<PathBuf>, places: Places, look: Arc<Notify>) -> Self {
        Self {
            path: path.map(|path| path.join("admin")),
            places,
            look,
        }
    }

    fn file(&self, reference: &ObjectRef) -> Result<PathBuf, Refused> {
        let folder = self.path.as_ref().ok_or_else(|| {
            Refused::ReadOnly(
                "no folder is among --manifests, so there is nowhere to write to: give one"
                    .to_owned(),
            )
        })?;
        // No name leads out of the folder, whoever checked it before.
        check_names(reference).map_err(|note| Refused::violation(&note.field, &note.message))?;
        let ObjectRef {
            kind,
            namespace,
            name,
        } = reference;
        Ok(folder.join(format!("{}.{namespace}.{name}.yaml", kind.plural())))
    }

    /// Refuses what a file of the user's holds.
    pub(crate) fn writable(&self, reference: &ObjectRef) -> Result<(), Refused> {
        let file = self.file(reference)?;
        match self.places.of(reference) {
            Some((path, line)) if path != file => Err(Refused::ReadOnly(format!(
                "{reference} is in {}, line {line}: change it there",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    pub(crate) async fn create(
        &self,
        held: &Held,
        object: Object,
        edit: &Edit,
    ) -> Result<(), Refused> {
        let reference = object.reference().clone();
        if held.read().object(&reference).is_some() {
            return Err(Refused::Conflict(format!("{reference} is there already")));
        }
        self.put_secret(held, &reference, edit).await?;
        self.put(held, object, &edit.object).await
    }

    pub(crate) async fn update(
        &self,
        held: &Held,
        reference: &ObjectRef,
        change: Change<'_>,
    ) -> Result<Edit, Refused> {
        self.writable(reference)?;
        let (before, edit) = {
            let compiler = held.read();
            let object = compiler.object(reference).ok_or(Refused::NotFound)?;
            let before = manifest(object);
            let edit = change(&compiler, before.clone())?;
            let secret = edit.secret.as_ref().and_then(|data| {
                let held = compiler.object(&secret_ref(reference, data))?;
                let value = |name: &String| {
                    let value = held.secret_entry(name).unwrap_or_default();
                    (name.clone(), String::from_utf8_lossy(value).into_owned())
                };
                Some(super::SecretData {
                    name: data.name.clone(),
                    entries: data.entries.keys().map(value).collect(),
                })
            });
            let before = Edit {
                object: before,
                secret,
            };
            (before, edit)
        };
        let object = decoded(&edit.object)?;
        self.put_secret(held, reference, &edit).await?;
        self.put(held, object, &edit.object).await?;
        Ok(before)
    }

    pub(crate) async fn delete(&self, held: &Held, reference: &ObjectRef) -> Result<(), Refused> {
        self.writable(reference)?;
        self.remove(held, reference).await?;
        if reference.kind == Kind::Credential {
            let own = ObjectRef::new(Kind::Secret, &reference.namespace, &reference.name);
            if self.file(&own)?.exists() {
                self.remove(held, &own).await?;
            }
        }
        Ok(())
    }

    async fn remove(&self, held: &Held, reference: &ObjectRef) -> Result<(), Refused> {
        let file = self.file(reference)?;
        if !file.exists() {
            return Ok(());
        }
        let revisions = held.revisions();
        write(&file, TOMBSTONE.to_owned()).await?;
        self.look.notify_one();
        in_force_after(held, revisions, |compiler| {
            compiler.object(reference).is_none()
        })
        .await?;
        fs::remove_file(&file).map_err(|error| failed(&file, &error))
    }

    async fn put(&self, held: &Held, object: Object, manifest: &Value) -> Result<(), Refused> {
        let file = self.file(object.reference())?;
        let revisions = held.revisions();
        write(&file, text(manifest)?).await?;
        self.look.notify_one();
        in_force_after(held, revisions, |compiler| {
            compiler
                .object(object.reference())
                .is_some_and(|now| now.says_what(&object))
                && compiler.is_compiled(object.reference())
        })
        .await
    }

    async fn put_secret(&self, held: &Held, of: &ObjectRef, edit: &Edit) -> Result<(), Refused> {
        let Some(data) = &edit.secret else {
            return Ok(());
        };
        let reference = secret_ref(of, data);
        self.writable(&reference)?;
        let revisions = held.revisions();
        write(&self.file(&reference)?, text(&secret(of, data))?).await?;
        self.look.notify_one();
        in_force_after(held, revisions, |compiler| {
            holds(compiler, &reference, data)
        })
        .await
    }
}

/// An object as a manifest.
fn manifest(object: &Object) -> Value {
    let reference = object.reference();
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(&*reference.name));
    metadata.insert("namespace".to_owned(), json!(&*reference.namespace));
    let annotations = object.annotations();
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), json!(annotations));
    }
    json!({
        "apiVersion": reference.kind.api_version(),
        "kind": reference.kind.kind(),
        "metadata": metadata,
        "spec": object.spec(),
    })
}

/// JSON is YAML but for a few characters, and needs no second way of quoting.
fn text(manifest: &Value) -> Result<String, Refused> {
    let json = serde_json::to_string_pretty(manifest).map_err(|_| Refused::Unexpected)?;
    let mut text = String::with_capacity(HEAD.len() + json.len() + 1);
    text.push_str(HEAD);
    for character in json.chars() {
        // Within strings only: outside of them JSON is ASCII.
        if is_bare(character) {
            text.push(character);
        } else {
            let _ = write!(text, "\\u{:04x}", u32::from(character));
        }
    }
    text.push('\n');
    Ok(text)
}

/// Whether YAML lets a character stand for itself (YAML 1.2.2, section 5.1), and no reader takes it for the end of a line.
const fn is_bare(character: char) -> bool {
    !matches!(
        character,
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

async fn write(file: &Path, text: String) -> Result<(), Refused> {
    let path = file.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        replace(&path, text.as_bytes()).map_err(|error| failed(&path, &error))
    });
    written.await.map_err(|_| Refused::Unexpected)?
}

/// Files are their owner's alone: some hold keys.
fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(".new");
    let temporary = folder.join(name);
    let mut new = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    new.write_all(text)?;
    new.sync_all()?;
    fs::rename(&temporary, file)?;
    File::open(folder)?.sync_all()
}

fn failed(file: &Path, error: &io::Error) -> Refused {
    tracing::error!(file = %file.display(), %error, "the Admin API cannot write");
    Refused::Unavailable(format!("cannot write {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_yaml_has_no_character_for_is_escaped() {
        for character in [
            '\u{99}',
            '\u{7f}',
            '\u{85}',
            '\u{2028}',
            '\u{feff}',
            '\u{ffff}',
            '\u{1ffff}',
            '\n',
            '\u{1}',
        ] {
            assert_read(&format!("a{character}b"));
        }
    }

    fn assert_read(value: &str) {
        let manifest = json!({"spec": {"tags": [value]}});
        let text = text(&manifest).unwrap();
        let read: Value =
            serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{value:?}: {e}"));
        assert_eq!(read, manifest);
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(value in any::<String>(), other in "\\PC{0,8}[\\x{7f}-\\x{ff}]{0,8}") {
            assert_read(&value);
            assert_read(&other);
        }
    }
}
