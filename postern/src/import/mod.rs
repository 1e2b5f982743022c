//! `postern import`: another gateway's declarative file as manifests.
//!
//! Each gateway is a folder that reads its file and fills [`manifests::Manifests`]; what it cannot carry over it notes, and
//! leaves out what that protects.

mod apisix;
mod kong;
mod manifests;
mod settle;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use controller::files;

use crate::cli::{From, Import};
use manifests::{Imported, Manifests};

const CHANGED: u8 = 1;
const UNREADABLE: u8 = 2;

pub(crate) fn run(options: Import) -> ExitCode {
    let name = options.file.display().to_string();
    let imported = read(&options.file).and_then(|text| import(&options, &text));
    let imported = match imported {
        Ok(imported) => imported,
        Err(reason) => {
            eprintln!("error: {name}: {reason}");
            return ExitCode::from(UNREADABLE);
        }
    };
    match io::stdout().lock().write_all(imported.yaml.as_bytes()) {
        // Whoever read has read enough; the exit status still tells.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: standard output: {error}");
            return ExitCode::from(UNREADABLE);
        }
        _ => {}
    }
    for note in &imported.notes {
        eprintln!("{name}:{note}");
    }
    if imported.notes.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(CHANGED)
    }
}

fn import(options: &Import, text: &str) -> Result<Imported, String> {
    if !manifests::is_label(&options.namespace) {
        return Err(
            "--namespace must be lower-case letters, digits and hyphens, at most 63".to_owned(),
        );
    }
    let file = files::foreign(text).map_err(|error| error.to_string())?;
    let mut manifests = Manifests::new(&options.namespace);
    match options.from {
        From::Kong => kong::import(&file.value, &mut manifests)?,
        From::Apisix => apisix::import(&file.value, &mut manifests)?,
    }
    manifests.finish(|field| file.line_of(field))
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        io::stdin()
            .lock()
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
    } else {
        text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    }
    Ok(text)
}
