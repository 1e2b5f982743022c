//! The Admin API: the objects of the gateway in the shapes of Kong's Admin API.
//!
//! It reads what the engine holds and writes resources, in a cluster through the API server, with files into a folder
//! beside the user's. `endpoint` is the one table of what can be called; each entity is a file under `entity` that adds
//! to it, and a type of credential is one [`entity::Proof`].

mod access;
mod answer;
mod body;
mod endpoint;
mod entity;
mod guard;
mod info;
mod listen;
mod names;
mod openapi;
mod options;
mod page;
mod refused;
mod schema;
#[cfg(test)]
mod tests;
mod tls;
pub mod translate;
mod tree;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::MethodRouter;
use compile::{Compiler, Kind, ObjectRef};
use plugins::oauth2::ledger::Ledger;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::held::Held;
use access::{Access, Caller};
use endpoint::{Call, Endpoint};
use guard::Hosts;
use names::{renamed, violations};
use refused::Refused;
use writer::Writer;

pub use options::{Address, ClusterOptions, RunOptions};
pub(crate) use tls::{http1, of_secret};
pub(crate) use writer::Folder;

/// Why the Admin API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is taken, or not allowed.
    #[error(
        "cannot listen on {address} for the Admin API: {source}; choose another --admin-address, or off"
    )]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Without tokens, only this machine may reach it.
    #[error(
        "--admin-address {0} is no loopback address: the Admin API of `postern run` asks nobody who they are; choose 127.0.0.1 or [::1], or off"
    )]
    Exposed(SocketAddr),
    /// TLS cannot be set up.
    #[error("cannot set up TLS for the Admin API: {0}")]
    Tls(#[from] rustls::Error),
}

/// The Admin API.
pub(crate) struct Api {
    held: Held,
    writer: Writer,
    access: Access,
    hosts: Hosts,
    /// Tokens of applications; none where the store that the proxies share is out of reach.
    ledger: Option<Ledger>,
    /// Where objects are made when nobody says.
    namespace: String,
}

impl Api {
    /// For files, on loopback.
    pub(crate) fn of_files(
        options: &RunOptions,
        held: Held,
        folder: Folder,
        ledger: Ledger,
    ) -> Self {
        Self {
            held,
            writer: Writer::folder(folder),
            ledger: Some(ledger),
            access: Access::Loopback,
            hosts: Hosts::new(options.admin_hosts.iter().cloned()),
            namespace: options.admin_namespace.clone(),
        }
    }

    /// In a cluster; `names` are those of its certificate.
    pub(crate) fn of_cluster(
        options: &ClusterOptions,
        held: Held,
        client: kube::Client,
        names: Vec<String>,
        ledger: Option<Ledger>,
    ) -> Self {
        Self {
            held,
            ledger,
            writer: Writer::cluster(client.clone()),
            access: Access::cluster(client),
            hosts: Hosts::new(options.admin_hosts.iter().cloned().chain(names)),
            namespace: options.admin_namespace.clone(),
        }
    }

    /// Reads what the engine holds, apart from the threads that answer: it may have to wait for a compilation.
    async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self, &Compiler) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let api = Arc::clone(self);
        tokio::task::spawn_blocking(move || read(&api, &api.held.read()))
            .await
            .map_err(|_| Refused::Unexpected)?
    }

    /// Looks up an object that the caller may do this to. Who may not list its kind does not learn what is not there.
    async fn find(
        self: &Arc<Self>,
        call: &Call,
        verb: &str,
        kind: Kind,
        find: impl FnOnce(&Self, &Compiler) -> Result<ObjectRef, Refused> + Send + 'static,
    ) -> Result<ObjectRef, Refused> {
        match self.look(find).await {
            Ok(reference) => {
                self.access.need_for(&call.caller, verb, &reference).await?;
                Ok(reference)
            }
            Err(refused) => {
                self.need_list(&call.caller, kind, call.namespace()).await?;
                Err(refused)
            }
        }
    }

    async fn need_list(
        &self,
        caller: &Caller,
        kind: Kind,
        namespace: Option<&str>,
    ) -> Result<(), Refused> {
        self.access
            .need(caller, "list", kind, namespace, None)
            .await
    }

    /// Whether the caller may see what is in a Secret, or in all that a list leads to.
    async fn sees(
        &self,
        caller: &Caller,
        namespace: Option<&str>,
        secret: Option<&str>,
    ) -> Result<bool, Refused> {
        let verb = if secret.is_some() { "get" } else { "list" };
        self.access
            .may(caller, verb, Kind::Secret, namespace, secret)
            .await
    }
}

/// Everything that can be called.
fn endpoints() -> Vec<Endpoint> {
    let mut endpoints = entity::endpoints();
    endpoints.extend(info::endpoints());
    endpoints
}

fn router(api: Arc<Api>) -> Router {
    let mut routes: BTreeMap<String, MethodRouter<Arc<Api>>> = BTreeMap::new();
    for endpoint in endpoints() {
        let (path, route) = endpoint.route();
        let merged = match routes.remove(&path) {
            Some(other) => other.merge(route),
            None => route,
        };
        routes.insert(path, merged);
    }
    let router = routes
        .into_iter()
        .fold(Router::new(), |router, (path, route)| {
            router.route(&path, route)
        });
    router
        .fallback(endpoint::not_found)
        .method_not_allowed_fallback(endpoint::not_allowed)
        .with_state(api)
}

/// Opens the port of the Admin API of `postern run`. Where nobody chose it and it is taken, there is none.
///
/// # Errors
/// The chosen port is taken; the address is not loopback.
pub(crate) async fn open(options: &RunOptions) -> Result<Option<TcpListener>, Error> {
    let (address, chosen) = match options.admin_address {
        None => (options::LOOPBACK, false),
        Some(Address::Off) => return Ok(None),
        Some(Address::At(address)) => (address, true),
    };
    if !address.ip().is_loopback() {
        return Err(Error::Exposed(address));
    }
    match listen::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if chosen => Err(error),
        Err(error) => {
            tracing::warn!(%error, "there is no Admin API");
            Ok(None)
        }
    }
}

/// Opens the port of the Admin API in a cluster.
///
/// # Errors
/// It is taken.
pub(crate) async fn open_in_cluster(
    options: &ClusterOptions,
) -> Result<Option<TcpListener>, Error> {
    match options.admin_address {
        Address::Off => Ok(None),
        Address::At(address) => listen::bind(address).await.map(Some),
    }
}

/// Serves it until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    api: Api,
    shutdown: CancellationToken,
) {
    match listener.local_addr() {
        Ok(address) => tracing::info!(%address, "the Admin API is served"),
        Err(error) => tracing::warn!(%error, "the Admin API's address cannot be told"),
    }
    listen::serve(listener, tls, Arc::new(api), shutdown).await;
}
