//! `postern run`: control plane and data plane in one process.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use controller::files::{self, Example, InForce, Input, ListenerInForce};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy::options::Networks;
use proxy::{Plane, Source};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cli::Run;
use crate::{log, shutdown};

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the system does not tell of signals: {0}")]
    Signals(std::io::Error),
    #[error(
        "there is no folder for the state: neither XDG_STATE_HOME nor HOME is set; give one with --state-dir"
    )]
    NoStateDir,
    #[error(transparent)]
    Files(#[from] files::Error),
    #[error(transparent)]
    Controller(#[from] controller::Error),
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    #[error("no listener can be opened:{0}")]
    NoListener(String),
}

pub(crate) async fn run(options: Run) -> Result<(), Error> {
    let shutdown = shutdown::on_signal().map_err(Error::Signals)?;
    let Run {
        manifests,
        admin,
        mut proxy,
    } = options;
    let state_dir = match proxy.state_dir.take() {
        Some(folder) => folder,
        None => default_state_dir().ok_or(Error::NoStateDir)?,
    };
    proxy.trusted_proxies.get_or_insert_with(loopback);
    proxy.store.default_to(&state_dir)?;
    proxy.state_dir = Some(state_dir.clone());

    let inputs = manifests
        .iter()
        .map(|path| Input::from_argument(path))
        .collect();
    let (changes, receive_changes) = mpsc::channel(1);
    let (acks, receive_acks) = mpsc::channel(1);
    let mut start = Start {
        shutdown: shutdown.clone(),
        told: false,
        failure: None,
    };
    let status = proxy.status_address;
    let plane = Plane::open(proxy).await?;
    let store = plane.store();
    let source = Source::Local {
        changes: receive_changes,
        acks,
    };
    let serve = plane.run(source, shutdown.clone());
    let files = files::run(
        files::Options {
            inputs,
            state_dir,
            admin,
            store,
        },
        changes,
        receive_acks,
        |in_force| start.programmed(in_force, status),
        shutdown.clone(),
    );
    // Whichever ends first takes the other with it.
    let (served, read) = tokio::join!(ending(serve, &shutdown), ending(files, &shutdown));
    read?;
    served?;
    start.failure.map_or(Ok(()), Err)
}

async fn ending<T>(work: impl Future<Output = T>, shutdown: &CancellationToken) -> T {
    let result = work.await;
    shutdown.cancel();
    result
}

/// Whom `run` believes what they forward: whoever is on the same machine.
pub(crate) fn loopback() -> Networks {
    let (v4, v6) = (Ipv4Addr::new(127, 0, 0, 0), Ipv6Addr::LOCALHOST);
    Networks(vec![
        IpNet::from(Ipv4Net::new_assert(v4, 8)),
        IpNet::from(Ipv6Net::new_assert(v6, 128)),
    ])
}

pub(crate) fn default_state_dir() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    base.map(|base| base.join("postern"))
}

/// Tells what is served, once it is.
struct Start {
    shutdown: CancellationToken,
    told: bool,
    failure: Option<Error>,
}

impl Start {
    fn programmed(&mut self, in_force: &InForce, status: SocketAddr) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let refused: Vec<String> = in_force.listeners.iter().filter_map(refusal).collect();
        // Whoever starts a gateway that can listen nowhere wants to know now. Where a part works, it is served.
        if !refused.is_empty() && refused.len() == in_force.listeners.len() {
            self.failure = Some(Error::NoListener(refused.concat()));
            self.shutdown.cancel();
            return;
        }
        if log::is_terminal() {
            eprint!("{}", summary(in_force, status));
            return;
        }
        for listener in &in_force.listeners {
            tracing::info!(
                listener = listener.name,
                port = listener.port,
                tls = listener.tls,
                "serving"
            );
        }
    }
}

fn refusal(listener: &ListenerInForce) -> Option<String> {
    let reason = listener.refused.as_ref()?;
    Some(format!(
        "\n  listener {}, port {}: {reason}",
        listener.name, listener.port
    ))
}

/// For people.
fn summary(in_force: &InForce, status: SocketAddr) -> String {
    let InForce {
        listeners,
        routes,
        plugins,
        consumers,
        credentials,
        objects,
        errors,
        examples,
    } = in_force;
    let mut text = String::from("\nServing\n");
    // Writing to a String does not fail.
    for listener in listeners {
        let scheme = if listener.tls { "https" } else { "http" };
        let _ = write!(
            text,
            "  {scheme}://localhost:{:<6} {}",
            listener.port, listener.name
        );
        match &listener.refused {
            Some(reason) => {
                let _ = writeln!(text, "  NOT OPEN: {reason}");
            }
            None => text.push('\n'),
        }
    }
    if listeners.is_empty() {
        text.push_str("  nothing: there is no Gateway and no Ingress among the manifests\n");
    }
    let _ = writeln!(
        text,
        "  {objects} objects: {routes} routes, {plugins} plugins, {consumers} consumers, {credentials} credentials"
    );
    if *errors > 0 {
        let _ = writeln!(text, "  {errors} errors: see the log, or `postern check`");
    }
    let _ = writeln!(
        text,
        "  readiness and metrics: http://localhost:{}/readyz, /metrics",
        status.port()
    );
    if !examples.is_empty() {
        text.push_str("Try\n");
    }
    for example in examples {
        let _ = writeln!(text, "  {}", curl(example));
    }
    text.push('\n');
    text
}

fn curl(example: &Example) -> String {
    let Example {
        tls,
        port,
        host,
        path,
        key_header,
    } = example;
    let mut text = String::from("curl -i");
    if *tls {
        text.push('k');
    }
    if let Some(name) = key_header {
        let _ = write!(text, " -H '{name}: KEY'");
    }
    // TLS needs the name in its handshake, too.
    let _ = match (host.as_str(), tls) {
        ("", false) => write!(text, " http://localhost:{port}{path}"),
        ("", true) => write!(text, " https://localhost:{port}{path}"),
        (host, false) => write!(text, " -H 'Host: {host}' http://localhost:{port}{path}"),
        (host, true) => write!(
            text,
            " --connect-to ::localhost:{port} https://{host}:{port}{path}"
        ),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_can_be_tried() {
        let mut in_force = InForce {
            listeners: vec![ListenerInForce {
                name: "shop/gw/http".to_owned(),
                port: 8000,
                tls: false,
                refused: None,
            }],
            routes: 1,
            examples: vec![Example {
                tls: false,
                port: 8000,
                host: "shop.test".to_owned(),
                path: "/orders".to_owned(),
                key_header: Some("apikey".to_owned()),
            }],
            ..InForce::default()
        };
        let status = "0.0.0.0:8100".parse().unwrap();
        let text = summary(&in_force, status);
        assert!(
            text.contains("http://localhost:8000   shop/gw/http\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "curl -i -H 'apikey: KEY' -H 'Host: shop.test' http://localhost:8000/orders\n"
            ),
            "{text}"
        );
        in_force.listeners[0].refused = Some("address in use".to_owned());
        assert!(summary(&in_force, status).contains("NOT OPEN: address in use"));
    }

    #[test]
    fn the_machine_itself_is_trusted() {
        assert_eq!("127.0.0.0/8,::1".parse(), Ok(loopback()));
    }
}
