//! The control plane without Kubernetes: objects from files, for the proxy in the same process.
//!
//! `scan` (which files, what text) -> `document`, `manifest` (objects) -> `collection` (what counts) -> `engine`
//! (compile, generated secrets) -> a channel to the proxy. `watch` says when to look again, `state` keeps what must outlive
//! the process. A bad text never takes away what is in force.

mod check;
mod collection;
mod document;
mod engine;
mod finding;
mod foreign;
mod locate;
mod manifest;
mod places;
mod reader;
mod scan;
mod started;
mod state;
mod unknown;
mod watch;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use plugins::oauth2::ledger::Ledger;
use snapshot::Change;
use snapshot::proto::{Ack, Refusal};
use store::Store;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;

pub use check::{Verdict, check, compiled};
pub use finding::Finding;
pub use foreign::{Foreign, Unreadable, foreign};
pub use scan::Input;
pub use started::{Example, InForce, ListenerInForce};
pub use state::StateError;

pub(crate) use manifest::{check_names, is_label};
pub(crate) use places::Places;

use engine::Engine;
use scan::Scanner;
use state::State;
use watch::Watch;

/// What `postern run` needs to know.
#[derive(Debug)]
pub struct Options {
    /// Where the manifests are.
    pub inputs: Vec<Input>,
    /// Where first sights and generated secrets are kept.
    pub state_dir: PathBuf,
    /// The Admin API.
    pub admin: api::RunOptions,
    /// The proxy's, whose tokens the Admin API looks after.
    pub store: Store,
}

/// Why files cannot be served at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input is not there.
    #[error("--manifests {path}: {source}", path = path.display())]
    Input {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The Admin API cannot be served.
    #[error(transparent)]
    Admin(#[from] api::Error),
    /// The thread that reads the files ended.
    #[error("reading the manifests failed: {0}")]
    Reader(tokio::task::JoinError),
}

/// How the compiler is set up for files: Gateways open the ports that they name, usual class names are ours.
#[must_use]
pub fn settings() -> compile::Settings {
    compile::Settings {
        gateway_controller: "postern.dev/gateway-controller".to_owned(),
        ingress_controller: "postern.dev/ingress-controller".to_owned(),
        standalone: true,
        ingress_ports: (8000, 8443),
        namespace: "default".to_owned(),
        gateway_services: compile::ServicePlace::default(),
    }
}

/// Serves files until `shutdown` is cancelled or the proxy ends: sends each change, and waits for its acknowledgement.
///
/// `programmed` is told after each change what is in force.
///
/// # Errors
/// An input is missing at the start; the state folder cannot be used. Everything that comes later is said in the log.
pub async fn run(
    options: Options,
    changes: mpsc::Sender<Change>,
    mut acks: mpsc::Receiver<Ack>,
    mut programmed: impl FnMut(&InForce),
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let Options {
        inputs,
        state_dir,
        admin,
        store,
    } = options;
    check_inputs(&inputs)?;
    let admin_listener = api::open(&admin).await?;
    let state = State::open(&state_dir)?;
    // Watching begins before the first look, so that nothing falls in between.
    let mut watch = Watch::start(&inputs);
    let mut engine = Engine::new(Scanner::new(inputs.clone()), state, settings());
    let look = Arc::new(Notify::new());
    let serving = TaskTracker::new();
    if let Some(listener) = admin_listener {
        let folder = admin_folder(&inputs, &engine, Arc::clone(&look));
        let api = api::Api::of_files(&admin, engine.held(), folder, Ledger::new(store));
        serving.spawn(api::serve(listener, None, api, shutdown.clone()));
    }
    let (mut first, mut thorough) = (true, true);
    let mut refusals = Vec::new();
    loop {
        let looked = tokio::task::spawn_blocking(move || {
            let refresh = engine.refresh(thorough);
            (engine, refresh)
        });
        let (returned, refresh) = looked.await.map_err(Error::Reader)?;
        engine = returned;
        match refresh.trouble {
            Some(trouble) if first => return Err(trouble.into()),
            Some(trouble) => {
                tracing::error!(%trouble, "the state folder cannot be written; changes are in force, but may not outlive a restart")
            }
            None => {}
        }
        first = false;
        watch.follow(refresh.linked);
        if let Some(change) = refresh.change {
            let version = std::sync::Arc::clone(&change.version);
            let acknowledged = async {
                changes.send(change).await.ok()?;
                loop {
                    let ack = acks.recv().await?;
                    if *ack.version == *version {
                        return Some(ack);
                    }
                }
            };
            let ack = tokio::select! {
                ack = acknowledged => ack,
                () = shutdown.cancelled() => None,
            };
            // Without a proxy there is nobody to serve.
            let Some(ack) = ack else { return Ok(()) };
            say_refusals(&refusals, &ack.refusals);
            refusals = ack.refusals;
            let in_force = engine.in_force(&refusals);
            tracing::info!(
                version = &*version,
                objects = in_force.objects,
                routes = in_force.routes,
                credentials = in_force.credentials,
                errors = in_force.errors,
                "manifests are in force"
            );
            programmed(&in_force);
        }
        // Who waits for a change may rely on the proxy's having it.
        engine.held().compiled();
        thorough = tokio::select! {
            thorough = watch.changed(refresh.again) => thorough,
            () = look.notified() => false,
            () = shutdown.cancelled() => {
                serving.close();
                serving.wait().await;
                return Ok(());
            }
        };
    }
}

fn check_inputs(inputs: &[Input]) -> Result<(), Error> {
    for input in inputs {
        if let Input::Path(path) = input {
            std::fs::metadata(path).map_err(|source| Error::Input {
                path: path.clone(),
                source,
            })?;
        }
    }
    Ok(())
}

/// Where the Admin API writes: the first folder.
fn admin_folder(inputs: &[Input], engine: &Engine, look: Arc<Notify>) -> api::Folder {
    let folder = inputs.iter().find_map(|input| match input {
        Input::Path(path) if path.is_dir() => Some(path.clone()),
        _ => None,
    });
    api::Folder::new(folder, engine.places(inputs), look)
}

/// What the proxy could not take, once.
fn say_refusals(before: &[Refusal], now: &[Refusal]) {
    for refusal in now.iter().filter(|refusal| !before.contains(refusal)) {
        tracing::error!(
            resource = refusal.key,
            reason = refusal.reason,
            "the proxy cannot take this resource"
        );
    }
}
