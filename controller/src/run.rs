//! Puts the control plane together, and takes it down.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use compile::Settings;
use kube::config::{KubeConfigOptions, Kubeconfig};
use plugins::oauth2::ledger::Ledger;
use prometheus_client::registry::Registry;
use store::Store;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authority::{self, Keeper, Lifetimes};
use crate::engine::{Engine, Outputs};
use crate::held::Held;
use crate::http::{self, Readiness};
use crate::lease::{self, Elector, Leadership};
use crate::metrics::Metrics;
use crate::publish::{self, Hub, Limits, TokenReviews};
use crate::status::{Addresses, Inbox, Seen, Writer};
use crate::watch::{Watches, fetch, sources};
use crate::{Options, api, events, reports, secrets, services};

/// Inputs that may wait for the engine before watches wait.
const INPUTS: usize = 4096;
/// How long the parts may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(8);

/// Why the control plane cannot work at all. An API server that does not answer is no such reason: it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing says how to reach a cluster.
    #[error(
        "no way to reach the Kubernetes API: {0}; run in a pod with a ServiceAccount, or give --kubeconfig (KUBECONFIG)"
    )]
    Access(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kubeconfig that was named does not serve.
    #[error("cannot use --kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// The port of /readyz is taken, or not allowed.
    #[error(
        "cannot listen on {address} for /readyz and /metrics: {source}; choose another --status-address"
    )]
    Status {
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The server for proxies cannot work.
    #[error(transparent)]
    Publish(#[from] publish::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS for proxies: {0}")]
    Tls(#[from] rustls::Error),
    /// The Admin API cannot be served.
    #[error(transparent)]
    Admin(#[from] api::Error),
    /// The engine's thread cannot be started, or is gone.
    #[error("the engine {0}")]
    Engine(String),
}

/// Runs the control plane until `shutdown`: then streams end cleanly, so that proxies go to another replica, and the lease
/// is released.
///
/// # Errors
/// What is needed from the start is not there: access to a cluster, ports.
pub async fn run(
    options: Options,
    store: Option<Store>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let config = access(&options).await?;
    let namespace = options
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let client = kube::Client::try_from(config).map_err(|error| Error::Access(error.into()))?;
    let plane = Plane {
        pod: options.pod_name.clone().unwrap_or_else(host_name),
        client,
        namespace,
        options,
        ledger: store.map(Ledger::new),
        hub: Hub::default(),
        metrics: Arc::default(),
        tasks: TaskTracker::new(),
        shutdown: shutdown.child_token(),
    };
    plane.run().await
}

async fn access(options: &Options) -> Result<kube::Config, Error> {
    let Some(path) = &options.kubeconfig else {
        return kube::Config::infer()
            .await
            .map_err(|error| Error::Access(error.into()));
    };
    let wrong = |source| Error::Kubeconfig {
        path: path.clone(),
        source,
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(wrong)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "postern-controller".to_owned()
    } else {
        name.to_owned()
    }
}

struct Plane {
    options: Options,
    namespace: String,
    pod: String,
    client: kube::Client,
    /// Tokens of applications, where the proxies' store is known.
    ledger: Option<Ledger>,
    hub: Hub,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Plane {
    async fn run(self) -> Result<(), Error> {
        let (namespace, pod) = (&self.namespace, &self.pod);
        tracing::info!(namespace, pod, "the control plane starts");
        let status_listener = http::bind(self.options.status_address).await?;
        let admin_listener = api::open_in_cluster(&self.options.admin).await?;
        let keeper = self.keeper();
        let admin_tls = keeper.tls()?;
        let server = self.server(keeper.tls()?).await?;
        let (elector, leadership) = Elector::new(
            self.client.clone(),
            namespace,
            self.options.lease.clone(),
            lease::identity(pod).to_string(),
        );
        let (certified, synced) = (watch::Sender::new(false), watch::Sender::new(false));
        let readiness = Readiness {
            synced: synced.subscribe(),
            certified: certified.subscribe(),
            shutdown: self.shutdown.clone(),
        };
        let mut registry = Registry::default();
        self.metrics
            .register(&mut registry, self.hub.clone(), leadership.clone());
        let status = tokio::spawn(http::serve(status_listener, readiness, registry));
        self.tasks
            .spawn(keeper.run(certified, self.shutdown.clone()));
        // The lease is let go last: until then this replica may still write.
        let ending = CancellationToken::new();
        let electing = tokio::spawn(elector.run(ending.clone()));
        let held = Held::new(self.settings());
        self.start_admin(admin_listener, admin_tls, &held)?;
        let engine_gone = self.start(held, synced, &leadership)?;
        let mut serving = tokio::spawn(server.run());

        let outcome = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Ok(()),
            served = &mut serving => served.unwrap_or(Ok(())).map_err(Error::from),
            () = engine_gone.cancelled() => Err(Error::Engine("has ended unexpectedly".to_owned())),
        };
        tracing::info!("the control plane ends: proxies are sent to another replica");
        self.shutdown.cancel();
        self.hub.close();
        self.tasks.close();
        let ended = tokio::time::timeout(END_TIMEOUT, async {
            self.tasks.wait().await;
            ending.cancel();
            let _ = electing.await;
            if !serving.is_finished() {
                let _ = serving.await;
            }
        });
        if ended.await.is_err() {
            tracing::warn!("some parts did not end within {} s", END_TIMEOUT.as_secs());
        }
        status.abort();
        outcome
    }

    fn keeper(&self) -> Keeper {
        let names = authority::Names {
            namespace: self.namespace.clone(),
            secret: self.options.ca_secret.clone(),
            config_map: self.options.ca_config_map.clone(),
            server: self.options.server_names(&self.namespace),
        };
        Keeper::new(&self.client, names, Lifetimes::default())
    }

    async fn server(&self, tls: Arc<rustls::ServerConfig>) -> Result<publish::Server, Error> {
        let options = &self.options;
        let reviews = TokenReviews::new(
            self.client.clone(),
            options.token_audience.clone(),
            self.namespace.clone(),
            options.proxy_service_accounts.clone(),
        );
        let limits = Limits {
            proxies: options.max_proxies,
            review_every: Duration::from_secs(options.token_review_interval),
            ..Limits::default()
        };
        let (address, hub) = (options.grpc_address, self.hub.clone());
        Ok(publish::Server::bind(address, hub, Arc::new(reviews), tls, limits).await?)
    }

    /// Starts watches, engine, and everything that follows from its results. The token is cancelled when the engine ends.
    fn start(
        &self,
        held: Held,
        synced: watch::Sender<bool>,
        leadership: &Leadership,
    ) -> Result<CancellationToken, Error> {
        let (options, shutdown) = (&self.options, &self.shutdown);
        let statuses = Arc::new(Inbox::default());
        let seen = Arc::new(Seen::new(options.gateway_controller.clone()));
        let (secrets, services, findings) = (
            watch::Sender::new(Arc::from([])),
            watch::Sender::new(Arc::from([])),
            watch::Sender::new(Arc::from([])),
        );
        let addresses = watch::Sender::new(Addresses::default());
        let secrets_may_start = watch::Sender::new(false);
        let (inputs, received) = mpsc::channel(INPUTS);

        let writer = Writer {
            client: self.client.clone(),
            controller: options.gateway_controller.clone(),
            hub: self.hub.clone(),
            inbox: Arc::clone(&statuses),
            seen: Arc::clone(&seen),
            addresses: addresses.subscribe(),
            others: self.others(leadership),
            leadership: leadership.clone(),
            metrics: Arc::clone(&self.metrics),
            per_second: options.status_writes_per_second,
        };
        self.tasks
            .spawn(writer.run(synced.subscribe(), shutdown.clone()));
        let lead = leadership.clone();
        self.tasks.spawn(secrets::run(
            self.client.clone(),
            secrets.subscribe(),
            lead,
            shutdown.clone(),
        ));
        let keeper = services::Keeper {
            client: self.client.clone(),
            plan: self.plan(),
            wanted: services.subscribe(),
            addresses,
            leadership: leadership.clone(),
            synced: synced.subscribe(),
            recorder: events::recorder(&self.client, self.pod.clone()),
        };
        self.tasks.spawn(keeper.run(shutdown.clone()));
        self.tasks.spawn(events::run(
            self.client.clone(),
            self.pod.clone(),
            findings.subscribe(),
            leadership.clone(),
            Arc::clone(&self.metrics),
            shutdown.clone(),
        ));

        let sources = sources(&options.watch_namespaces);
        let watches = Watches {
            client: self.client.clone(),
            inputs: inputs.clone(),
            seen,
            metrics: Arc::clone(&self.metrics),
            secrets_may_start: secrets_may_start.subscribe(),
            shutdown: shutdown.clone(),
        };
        watches.start(&sources);
        let outputs = Outputs {
            hub: self.hub.clone(),
            statuses,
            secrets,
            services,
            diagnostics: findings,
            secrets_may_start,
            synced,
            metrics: Arc::clone(&self.metrics),
            fetch: self.fetcher(inputs),
        };
        let engine = Engine::new(held, sources, outputs);
        spawn_engine(engine, received, shutdown.clone())
    }

    /// Serves the Admin API, with the control plane's own certificate or one of the user's.
    fn start_admin(
        &self,
        listener: Option<TcpListener>,
        own: Arc<rustls::ServerConfig>,
        held: &Held,
    ) -> Result<(), Error> {
        let Some(listener) = listener else {
            return Ok(());
        };
        let options = &self.options.admin;
        let secret = options.admin_tls_secret.as_deref();
        let tls = match secret {
            None => api::http1(&own),
            Some(name) => {
                let (tls, keeping) = api::of_secret(&self.client, &self.namespace, name)?;
                self.tasks.spawn(keeping.run(self.shutdown.clone()));
                tls
            }
        };
        let names = self.options.server_names(&self.namespace);
        let (client, ledger) = (self.client.clone(), self.ledger.clone());
        let api = api::Api::of_cluster(options, held.clone(), client, names, ledger);
        self.tasks
            .spawn(api::serve(listener, Some(tls), api, self.shutdown.clone()));
        Ok(())
    }

    /// Tells other replicas of this one's proxies, and hears of theirs.
    fn others(&self, leadership: &Leadership) -> watch::Receiver<Arc<[reports::Line]>> {
        let (others, heard) = watch::channel(Arc::from([]));
        self.tasks.spawn(reports::run(
            self.client.clone(),
            self.namespace.clone(),
            self.pod.clone(),
            self.hub.clone(),
            leadership.clone(),
            others,
            self.shutdown.clone(),
        ));
        heard
    }

    fn settings(&self) -> Settings {
        Settings {
            gateway_controller: self.options.gateway_controller.clone(),
            ingress_controller: self.options.ingress_controller.clone(),
            standalone: false,
            ingress_ports: (self.options.ingress_ports.0, self.options.ingress_ports.1),
            namespace: self.namespace.clone(),
            gateway_services: self.options.gateway_service_namespace.place(),
        }
    }

    fn plan(&self) -> services::Plan {
        services::Plan {
            namespace: self.namespace.clone(),
            place: self.options.gateway_service_namespace.place(),
            watched: self.options.watch_namespaces.clone(),
            fleet: self.options.fleet_service.clone(),
            selector: self.options.fleet_selector.0.clone(),
            service_type: self.options.gateway_service_type.name().to_owned(),
            annotations: self.options.gateway_service_annotations.0.clone(),
            owner: self.options.gateway_service_owner.clone(),
        }
    }

    /// Fetches on this runtime; the engine's thread has one of its own, without I/O.
    fn fetcher(
        &self,
        inputs: mpsc::Sender<crate::watch::Input>,
    ) -> Box<dyn Fn(compile::ObjectRef) + Send> {
        let (client, runtime, shutdown) = (
            self.client.clone(),
            tokio::runtime::Handle::current(),
            self.shutdown.clone(),
        );
        Box::new(move |secret| {
            let (client, inputs, shutdown) = (client.clone(), inputs.clone(), shutdown.clone());
            runtime.spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = fetch(client, secret, inputs) => {}
                }
            });
        })
    }
}

fn spawn_engine(
    engine: Engine,
    inputs: mpsc::Receiver<crate::watch::Input>,
    shutdown: CancellationToken,
) -> Result<CancellationToken, Error> {
    let cannot = |error: io::Error| Error::Engine(format!("cannot be started: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(cannot)?;
    let gone = CancellationToken::new();
    let guard = gone.clone().drop_guard();
    let work = move || {
        // Dropped also when the thread unwinds: a control plane without its engine must not go on as if nothing were.
        let _guard = guard;
        runtime.block_on(async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = engine.run(inputs) => {}
            }
        });
    };
    std::thread::Builder::new()
        .name("engine".to_owned())
        .spawn(work)
        .map_err(cannot)?;
    Ok(gone)
}
