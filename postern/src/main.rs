//! The one binary: control plane, data plane, both in one, and what helps with their configuration.

mod check;
mod cli;
mod control_plane;
mod data_plane;
mod definitions;
mod explain;
mod import;
mod log;
mod run;
mod shutdown;

use std::process::ExitCode;

use cli::Command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::parse();
    // Fails only where a provider is installed already, and then it is this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match cli.command {
        Command::Check(options) => check::run(options),
        Command::Explain(options) => explain::run(*options),
        Command::Import(options) => import::run(options),
        Command::Crds => definitions::run(),
        Command::Run(options) => serve(&cli.log, run::run(*options)),
        Command::Controller(options) => serve(&cli.log, control_plane::run(*options)),
        Command::Proxy(options) => serve(&cli.log, data_plane::run(*options)),
    }
}

/// Runs what serves until it is told to end.
fn serve<E: std::error::Error>(
    log: &log::Options,
    work: impl Future<Output = Result<(), E>>,
) -> ExitCode {
    log::start(log);
    // Workers bring threads of their own; this one only waits.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the system gives no event queue: {error}")),
    };
    match runtime.block_on(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(reason: &str) -> ExitCode {
    eprintln!("error: {reason}");
    ExitCode::FAILURE
}
