//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::log;

/// Kubernetes-native ingress whose whole point is authentication
///
/// Every flag is also an environment variable, named beside it; a flag wins over its variable.
#[derive(Debug, Parser)]
#[command(
    name = "postern",
    bin_name = "postern",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: log::Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  postern run --manifests examples/quickstart/manifests
  postern check my-manifests/
  postern explain http://shop.test:8000/orders -H 'apikey: KEY'
  postern crds | kubectl apply -f -";

/// What a store is for a controller.
const STORE: &str = "The store that the proxies share, whose tokens the Admin API looks after";
const STORE_LONG: &str = "\
The store that the proxies share, whose tokens the Admin API looks after

redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], redis+cluster://HOST[:PORT],… or redis+sentinel://HOST[:PORT],…/MASTER[/DATABASE]; \
rediss in place of redis is over TLS. [default: none, /oauth2_tokens of the Admin API answers 503]";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<Run>),
    Controller(Box<Controller>),
    Proxy(Box<Proxy>),
    Check(Check),
    Explain(Box<Explain>),
    Import(Import),
    /// Print the manifests of Consumer, Credential and AuthPlugin
    ///
    /// They are what `kubectl apply -f -` takes.
    Crds,
}

/// Serve a folder of manifests: control plane and data plane in one process
///
/// Takes the same YAML as kubectl, and needs nothing else. Changes to the files are in force within milliseconds; what
/// cannot be read keeps its last good state, and the log says so. http://127.0.0.1:8100/readyz answers 200 once
/// everything is in force or refused with a reason, and names the files in force by their digest.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern run --manifests examples/quickstart/manifests
  postern run --manifests base/ overlay/ --access-log off
  kustomize build . | postern run --manifests - --state-dir /var/lib/postern

Gateway listeners are opened on the very ports that they name; Ingresses are served on 8000 and 8443. Without a GatewayClass
or IngressClass among the manifests, the class name \"postern\" is known.")]
pub(crate) struct Run {
    /// Folders and files with manifests; - reads standard input once
    ///
    /// *.yaml, *.yml and *.json in the folders and below are read, apart from names that begin with a dot. In the variable
    /// they are separated by commas.
    #[arg(long, short, env = "POSTERN_MANIFESTS", value_name = "DIR", num_args = 1.., value_delimiter = ',', required = true)]
    pub(crate) manifests: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) admin: controller::api::RunOptions,
    #[command(flatten)]
    pub(crate) proxy: proxy::Options,
}

/// Read Kubernetes objects and tell proxies what to serve: the control plane
///
/// Resolves references, sends differences to the proxies that connect, and writes status. Any number of replicas serve
/// proxies; the holder of the Lease writes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern controller --namespace postern-system
  postern controller --kubeconfig ~/.kube/config --watch-namespaces shop,billing", mut_arg("url", |url| url.help(STORE).long_help(STORE_LONG)))]
pub(crate) struct Controller {
    #[command(flatten)]
    pub(crate) controller: controller::Options,
    #[command(flatten)]
    pub(crate) store: proxy::storage::Place,
}

/// Serve what a control plane elsewhere says: the data plane
///
/// Keeps serving what it got last when the control plane is away; with --state-dir also after a restart. Readiness
/// (http://ADDRESS:8100/readyz) is false until there is something to serve, and from SIGTERM on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern proxy --controller https://postern-controller.postern:8005 \\
    --controller-ca /etc/postern/ca.crt --controller-token /var/run/secrets/postern/token")]
pub(crate) struct Proxy {
    #[command(flatten)]
    pub(crate) controller: proxy::ControllerOptions,
    #[command(flatten)]
    pub(crate) proxy: proxy::Options,
}

/// Validate manifests offline, all of them as one set
///
/// Says everything that `postern run` would say of the same files, each with file and line:
/// `PATH:LINE: error|warning: KIND/NAMESPACE/NAME: FIELD: MESSAGE`. References are followed within the set.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status:
  0  accepted, perhaps with warnings
  1  refused
  2  wrong usage, or a path that is not there

Examples:
  postern check manifests/
  kustomize build . | postern check -")]
pub(crate) struct Check {
    /// Files and folders; - is standard input
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

/// Say which listener, route, plugins and credential decide a request, and why
///
/// Asks a proxy that runs on this machine, or compiles a folder of manifests. The request is never sent on: it takes the way
/// of a real one and ends where it would leave for its upstream. No value of a header, a query or a body is shown but
/// those that the gateway makes itself.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status:
  0  the request would be forwarded, or redirected by its route
  1  it would be refused, or an explanation could not be had
  2  wrong usage

Examples:
  postern explain http://shop.test:8000/orders -H 'apikey: KEY'
  postern explain https://shop.test/orders -X POST -d @order.json --output json
  postern explain http://shop.test:8000/orders --manifests examples/quickstart/manifests
  postern explain --request-id 0e02b2c3d479f47ac10b58cc4372a567
  kubectl exec -n postern deploy/postern-proxy -- postern explain https://shop.test/orders

It talks to the proxy's status port, and proves that it may with the file explain.token in the proxy's state folder.")]
pub(crate) struct Explain {
    /// The request's URL, as a client would use it
    #[arg(
        value_name = "URL",
        required_unless_present = "request_id",
        conflicts_with = "request_id"
    )]
    pub(crate) url: Option<String>,
    /// A header of the request, "Name: value"; may be given several times
    #[arg(
        long = "header",
        short = 'H',
        env = "POSTERN_EXPLAIN_HEADER",
        value_name = "HEADER"
    )]
    pub(crate) headers: Vec<String>,
    /// The request's body; @FILE is the content of a file, @- standard input
    ///
    /// Without --request the method is then POST, and without a header Content-Type the body is a form, as with curl.
    #[arg(long, short, env = "POSTERN_EXPLAIN_DATA", value_name = "DATA")]
    pub(crate) data: Option<String>,
    /// The request's method [default: GET, with --data POST]
    #[arg(
        long,
        short = 'X',
        env = "POSTERN_EXPLAIN_REQUEST",
        value_name = "METHOD"
    )]
    pub(crate) request: Option<String>,
    /// A request that was refused, by its X-Request-Id, as long as the proxy remembers it
    #[arg(
        long,
        env = "POSTERN_EXPLAIN_REQUEST_ID",
        value_name = "ID",
        conflicts_with_all = ["headers", "data", "request", "manifests"]
    )]
    pub(crate) request_id: Option<String>,
    /// Folders and files with manifests, instead of a proxy that runs; - reads standard input
    ///
    /// Values that the gateway generates are not known then.
    #[arg(
        long,
        short,
        env = "POSTERN_EXPLAIN_MANIFESTS",
        value_name = "DIR",
        num_args = 1..,
        value_delimiter = ','
    )]
    pub(crate) manifests: Vec<PathBuf>,
    /// The proxy's status address; a loopback address
    #[arg(
        long,
        env = "POSTERN_EXPLAIN_PROXY",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:8100"
    )]
    pub(crate) proxy: SocketAddr,
    /// The proxy's state folder, where its token is [default: that of `postern run`]
    #[arg(long, env = "POSTERN_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// The proxy's token, where its state folder cannot be read: the content of explain.token
    #[arg(long, env = "POSTERN_EXPLAIN_TOKEN", value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Lines for people, or JSON for programs
    #[arg(
        long,
        short,
        env = "POSTERN_EXPLAIN_OUTPUT",
        value_name = "FORM",
        default_value = "text"
    )]
    pub(crate) output: Form,
    /// Limits and trust of the proxy, where manifests are explained.
    #[arg(
        long,
        env = "POSTERN_TRUSTED_PROXIES",
        value_name = "CIDR,…",
        help = "With --manifests: networks whose X-Forwarded-* are believed [default: 127.0.0.0/8,::1]"
    )]
    pub(crate) trusted_proxies: Option<proxy::options::Networks>,
}

/// Turn another gateway's declarative file into manifests
///
/// Prints them as one stream of YAML, for `postern check -`, `postern run --manifests -` or kubectl. What is not the same
/// afterwards is said on standard error, a line each, `FILE:LINE: OBJECT: FIELD: MESSAGE`. What is protected by something
/// that cannot be carried over is left out, never opened.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status:
  0  everything is carried over
  1  something was left out or changed; the notes say what
  2  wrong usage, or a file that cannot be read

Examples:
  postern import kong kong.yaml > shop.yaml
  deck gateway dump --output-file - | postern import kong - --namespace shop | postern check -")]
pub(crate) struct Import {
    /// The gateway whose file it is
    #[arg(value_name = "GATEWAY")]
    pub(crate) from: From,
    /// The file, YAML or JSON; - is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Namespace of the manifests
    #[arg(
        long,
        short,
        env = "POSTERN_IMPORT_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "default"
    )]
    pub(crate) namespace: String,
}

/// Another gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum From {
    /// The declarative file of decK and of Kong without a database
    Kong,
    /// The apisix.yaml of APISIX in standalone mode
    Apisix,
}

/// How an explanation is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    Text,
    Json,
}

/// Reads the command line; ends the process where it is wrong, or asks for help.
pub(crate) fn parse() -> Cli {
    let mut matches = without_values(Cli::command()).get_matches();
    match Cli::from_arg_matches_mut(&mut matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    }
}

/// Help names the environment variables, but does not tell what is in them.
fn without_values(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| arg.hide_env_values(true))
        .mut_subcommands(without_values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        without_values(Cli::command()).debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable() {
        for command in Cli::command().get_subcommands() {
            for arg in command
                .get_arguments()
                .filter(|arg| arg.get_long().is_some())
            {
                let (id, env) = (
                    arg.get_id(),
                    arg.get_env()
                        .and_then(|env| env.to_str())
                        .unwrap_or_default(),
                );
                assert!(
                    env.starts_with("POSTERN_"),
                    "{} --{id}: {env:?}",
                    command.get_name()
                );
                assert!(
                    arg.get_help().is_some(),
                    "{} --{id} has no help",
                    command.get_name()
                );
            }
        }
    }
}
