//! The program's own log, on standard error. (Requests have a log of their own.)

use std::io::{IsTerminal, stderr};
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// How the program says what it does.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// What is logged on standard error: error, warn, info, debug or trace
    ///
    /// Levels of parts of the program can follow: "info,controller=debug,hyper=warn".
    #[arg(
        long,
        env = "POSTERN_LOG",
        value_name = "LEVEL",
        default_value = "info",
        global = true
    )]
    #[arg(help_heading = "Log")]
    log_level: Filter,

    /// How it is written: lines for people, or one JSON object a line
    ///
    /// auto: lines on a terminal, JSON elsewhere.
    #[arg(
        long,
        env = "POSTERN_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "auto",
        global = true
    )]
    #[arg(help_heading = "Log")]
    log_format: Format,
}

#[derive(Debug, Clone)]
struct Filter(String);

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = ["error", "warn", "info", "debug", "trace", "off"];
        for part in text.split(',') {
            let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
            if !known.contains(&level.trim()) {
                return Err(format!(
                    "{level:?} is no level; there are {}",
                    known.join(", ")
                ));
            }
        }
        EnvFilter::try_new(text)
            .map(|_| Self(text.to_owned()))
            .map_err(|error| error.to_string())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Auto,
    Human,
    Json,
}

/// Whether people read along.
pub(crate) fn is_terminal() -> bool {
    stderr().is_terminal()
}

/// Starts to log.
pub(crate) fn start(options: &Options) {
    let filter = EnvFilter::new(&options.log_level.0);
    let human = match options.log_format {
        Format::Auto => is_terminal(),
        Format::Human => true,
        Format::Json => false,
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr);
    // A log that was started already stays as it is.
    if human {
        let _ = log.with_ansi(is_terminal()).with_target(false).try_init();
    } else {
        let _ = log
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init();
    }
}
