//! `postern explain`.

mod text;

use std::io::{self, Read, Write as _};
use std::process::ExitCode;

use compile::Level;
use controller::files::{self, Input};
use proxy::explain::{Explanation, Question, Token, ask, offline};

use crate::cli::{Explain, Form};
use crate::run::{default_state_dir, loopback};

const REFUSED: u8 = 1;
const USAGE: u8 = 2;

/// Why there is no explanation, and the exit status.
struct Failure(u8, String);

pub(crate) fn run(options: Explain) -> ExitCode {
    let form = options.output;
    let explanation = match explanation(options) {
        Ok(explanation) => explanation,
        Err(Failure(status, reason)) => {
            eprintln!("error: {reason}");
            return ExitCode::from(status);
        }
    };
    let text = match form {
        Form::Text => text::of(&explanation),
        // Plain structs do not fail.
        Form::Json => serde_json::to_string_pretty(&explanation).unwrap_or_default() + "\n",
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever read has read enough; the exit status still tells.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: standard output: {error}");
            return ExitCode::from(USAGE);
        }
        _ => {}
    }
    let redirects = explanation
        .answer
        .as_ref()
        .is_some_and(|answer| answer.location.is_some());
    if explanation.forward.is_some() || redirects {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    }
}

fn explanation(options: Explain) -> Result<Explanation, Failure> {
    let what = match &options.request_id {
        Some(id) => Err(id.clone()),
        None => Ok(question(&options)?),
    };
    match what {
        Ok(question) if !options.manifests.is_empty() => of_manifests(&options, &question),
        what => {
            let token = match (options.token, options.state_dir.or_else(default_state_dir)) {
                (Some(token), _) => Token::Given(token),
                (None, Some(folder)) => Token::In(folder),
                (None, None) => {
                    let reason =
                        "the proxy's state folder is not known: give --state-dir or --token";
                    return Err(Failure(USAGE, reason.to_owned()));
                }
            };
            let event_loop = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure(REFUSED, error.to_string()))?;
            event_loop
                .block_on(ask(options.proxy, &token, what))
                .map_err(|error| Failure(REFUSED, error.to_string()))
        }
    }
}

fn of_manifests(options: &Explain, question: &Question) -> Result<Explanation, Failure> {
    let inputs: Vec<Input> = options
        .manifests
        .iter()
        .map(|path| Input::from_argument(path))
        .collect();
    for input in &inputs {
        if let Input::Path(path) = input {
            std::fs::metadata(path)
                .map_err(|error| Failure(USAGE, format!("{}: {error}", path.display())))?;
        }
    }
    let (verdict, change) = files::compiled(inputs, files::settings());
    let errors = verdict.count(Level::Error);
    if errors > 0 {
        let s = if errors == 1 { "" } else { "s" };
        eprintln!("note: the manifests have {errors} error{s}; see `postern check`");
    }
    let trusted = options.trusted_proxies.clone().unwrap_or_else(loopback);
    offline(change, trusted, question).map_err(|error| Failure(REFUSED, error.to_string()))
}

fn question(options: &Explain) -> Result<Question, Failure> {
    let usage = |reason: String| Failure(USAGE, reason);
    let mut headers = Vec::new();
    for header in &options.headers {
        // What stands in it may be a secret: it is not repeated.
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| usage("a --header is not of the form \"Name: value\"".to_owned()))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let body = match &options.data {
        None => Vec::new(),
        Some(data) => read(data).map_err(|error| usage(format!("--data: {error}")))?,
    };
    let typed = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if options.data.is_some() && !typed {
        let form = "application/x-www-form-urlencoded";
        headers.push(("Content-Type".to_owned(), form.to_owned()));
    }
    let default = if options.data.is_some() {
        "POST"
    } else {
        "GET"
    };
    let method = options.request.as_deref().unwrap_or(default);
    Ok(Question::new(
        options.url.as_deref().unwrap_or_default(),
        method,
        headers,
        &body,
    ))
}

/// A body as it is given, of a file, or of standard input.
fn read(data: &str) -> io::Result<Vec<u8>> {
    match data.strip_prefix('@') {
        None => Ok(data.as_bytes().to_vec()),
        Some("-") => {
            let mut body = Vec::new();
            io::stdin().read_to_end(&mut body)?;
            Ok(body)
        }
        Some(path) => std::fs::read(path),
    }
}
