//! `postern crds`.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::failed;

pub(crate) fn run() -> ExitCode {
    let manifests = match crds::manifests() {
        Ok(manifests) => manifests,
        Err(error) => return failed(&error.to_string()),
    };
    let documents: Vec<String> = manifests.into_iter().map(|(_, text)| text).collect();
    match io::stdout()
        .lock()
        .write_all(documents.join("---\n").as_bytes())
    {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => failed(&format!("standard output: {error}")),
    }
}
