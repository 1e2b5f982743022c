//! `postern check`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use compile::Level;
use controller::files::{self, Input, Verdict};

use crate::cli::Check;

const REFUSED: u8 = 1;
const USAGE: u8 = 2;

pub(crate) fn run(options: Check) -> ExitCode {
    let inputs: Vec<Input> = options
        .paths
        .iter()
        .map(|path| Input::from_argument(path))
        .collect();
    for input in &inputs {
        if let Input::Path(path) = input
            && let Err(error) = std::fs::metadata(path)
        {
            eprintln!("error: {}: {error}", path.display());
            return ExitCode::from(USAGE);
        }
    }
    let verdict = files::check(inputs, files::settings());
    match io::stdout().lock().write_all(report(&verdict).as_bytes()) {
        // Whoever read has read enough; the exit status still tells.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: standard output: {error}");
            return ExitCode::from(USAGE);
        }
        _ => {}
    }
    if verdict.count(Level::Error) > 0 {
        ExitCode::from(REFUSED)
    } else {
        ExitCode::SUCCESS
    }
}

fn report(verdict: &Verdict) -> String {
    let mut text = String::new();
    for finding in &verdict.findings {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{finding}");
    }
    let count = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    let (errors, warnings) = (verdict.count(Level::Error), verdict.count(Level::Warning));
    let _ = writeln!(
        text,
        "{}: {} in {}, {}, {}",
        if errors > 0 { "refused" } else { "accepted" },
        count(verdict.objects, "object"),
        count(verdict.files, "file"),
        count(errors, "error"),
        count(warnings, "warning"),
    );
    text
}
