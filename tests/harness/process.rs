//! `postern run` as a process.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::message::Answer;
use crate::ports::Port;
use crate::raw::{Connection, get};
use crate::{until, within};

/// In the state folder: whom the system is to trust.
pub(crate) const TRUSTED: &str = "trusted.pem";

/// The binary under test: `$POSTERN`, or what cargo built beside this test.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("POSTERN") {
        return path.into();
    }
    // target/debug/deps/product-… -> target/debug/postern
    let test = std::env::current_exe().expect("the path of this test");
    let built = test
        .ancestors()
        .nth(2)
        .map(|folder| folder.join("postern"))
        .filter(|path| path.is_file());
    built.unwrap_or_else(|| {
        panic!("no binary to test: set POSTERN to one, or run `cargo build -p postern` first")
    })
}

/// A folder of manifests.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Default for Folder {
    fn default() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }
}

impl Folder {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Replaces a file in one step.
    pub fn write(&self, name: &str, text: &str) {
        let new = self.path().join(format!(".{name}.new"));
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(new, self.path().join(name)).expect("its name");
    }

    /// Replaces a file with these objects.
    pub fn put(&self, name: &str, objects: &[Value]) {
        let documents: Vec<_> = objects.iter().map(ToString::to_string).collect();
        self.write(name, &(documents.join("\n---\n") + "\n"));
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path().join(name)).expect("the file");
    }

    /// SHA-256 over the sorted lines that `sha256sum` prints for the files, with relative names.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut lines = Vec::new();
        collect(self.path(), "", &mut lines);
        lines.sort();
        format!("sha256:{}", hex(lines.concat().as_bytes()))
    }
}

fn collect(folder: &Path, prefix: &str, lines: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let manifest = path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), lines);
        } else if manifest {
            let content = std::fs::read(&path).expect("a manifest");
            lines.push(format!("{}  {prefix}{name}\n", hex(&content)));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// Everything that a process printed.
#[derive(Debug, Clone)]
struct Output {
    lines: Arc<Mutex<Vec<String>>>,
    count: watch::Sender<usize>,
}

impl Output {
    fn new() -> Self {
        Self {
            lines: Arc::default(),
            count: watch::Sender::new(0),
        }
    }

    fn follow(&self, stream: impl AsyncRead + Send + Unpin + 'static) {
        let output = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                output.lines.lock().push(line);
                output.count.send_modify(|n| *n += 1);
            }
        });
    }

    fn all(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    async fn line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut watch = self.count.subscribe();
        loop {
            if let Some(line) = self.lines.lock().iter().find(|l| wanted(l)) {
                return line.clone();
            }
            within(what, watch.changed())
                .await
                .expect("the output lives");
        }
    }
}

/// A running `postern run` or `postern proxy`. It is killed when it is dropped.
#[derive(Debug)]
pub struct Postern {
    child: Child,
    stdout: Output,
    stderr: Output,
    status: Port,
    state: Arc<TempDir>,
}

impl Postern {
    /// Starts it on a folder with further flags, its state in `state`; does not wait until it is ready.
    #[must_use]
    pub fn spawn(folder: &Path, state: Arc<TempDir>, flags: &[String]) -> Self {
        let mut command = Command::new(binary());
        command.args(["run", "--manifests"]).arg(folder);
        // Tests run side by side.
        if !flags.iter().any(|flag| flag.starts_with("--admin-address")) {
            command.arg("--admin-address=off");
        }
        Self::start(command, state, flags)
    }

    /// Starts a data plane alone, whose controller is at that URL.
    #[must_use]
    pub fn spawn_proxy(controller: &str, state: Arc<TempDir>) -> Self {
        let mut command = Command::new(binary());
        command.args(["proxy", "--controller", controller]);
        Self::start(command, state, &[])
    }

    fn start(mut command: Command, state: Arc<TempDir>, flags: &[String]) -> Self {
        let status = Port::reserve();
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("POSTERN")) {
            command.env_remove(name);
        }
        if !flags.iter().any(|flag| flag.starts_with("--store=")) {
            command.arg("--store=memory:");
        }
        let trusted = state.path().join(TRUSTED);
        if trusted.exists() {
            command.env("SSL_CERT_FILE", trusted);
        }
        let mut child = command
            .args(["--bind", "127.0.0.1", "--workers", "2"])
            .arg("--state-dir")
            .arg(state.path())
            .arg(format!("--status-address=127.0.0.1:{}", status.number()))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", binary().display()));
        let (stdout, stderr) = (Output::new(), Output::new());
        stdout.follow(child.stdout.take().expect("stdout"));
        stderr.follow(child.stderr.take().expect("stderr"));
        Self {
            child,
            stdout,
            stderr,
            status,
            state,
        }
    }

    /// Waits until `/readyz` names this digest.
    ///
    /// # Panics
    /// When the process ends instead, or takes too long.
    pub async fn ready(&mut self, digest: &str) {
        let mut last = String::new();
        let port = self.status.number();
        let wait = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("the child's state") {
                    panic!(
                        "postern ended with {status}:\n{}",
                        self.stderr.all().join("\n")
                    );
                }
                if let Some(answer) = readyz(port).await {
                    if answer.status == 200 && answer.json()["manifests"] == digest {
                        return;
                    }
                    last = answer.text();
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(crate::PATIENCE, wait).await.is_err() {
            panic!(
                "/readyz never said {digest}, but {last}\n{}",
                self.stderr.all().join("\n")
            );
        }
    }

    /// Port of `/readyz` and `/metrics`.
    #[must_use]
    pub const fn status_port(&self) -> u16 {
        self.status.number()
    }

    /// Its state folder.
    #[must_use]
    pub const fn state(&self) -> &Arc<TempDir> {
        &self.state
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("a running process")
    }

    /// What `/readyz` says.
    pub async fn readyz(&self) -> Answer {
        readyz(self.status_port())
            .await
            .expect("an answer of /readyz")
    }

    /// What `/readyz` says, if anybody answers there.
    pub async fn try_readyz(&self) -> Option<Answer> {
        readyz(self.status_port()).await
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        Connection::open(self.status_port())
            .await
            .ask(get("localhost", "/metrics", &[]))
            .await
            .text()
    }

    /// Everything printed so far, standard output first.
    #[must_use]
    pub fn output(&self) -> Vec<String> {
        let mut all = self.stdout.all();
        all.extend(self.stderr.all());
        all
    }

    /// Waits for a line of the log of the program itself.
    pub async fn log_line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.stderr.line(what, wanted).await
    }

    /// Waits for a line of the access log.
    pub async fn access_line(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let line = self
            .stdout
            .line(what, |l| serde_json::from_str(l).is_ok_and(|v| wanted(&v)))
            .await;
        serde_json::from_str(&line).expect("JSON")
    }

    /// Sends a signal: "TERM", "INT".
    pub fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status();
        assert!(sent.expect("kill").success(), "SIG{name} could not be sent");
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        within("the end of postern", self.child.wait())
            .await
            .expect("its status")
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("the child's state").is_none()
    }

    /// Stops it as the system does, and waits.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.end().await
    }

    /// Ends it at once.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("kill");
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status");
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .expect("VmRSS");
        line.trim()
            .trim_end_matches(" kB")
            .parse::<u64>()
            .expect("a number")
            * 1024
    }

    /// The value of a series in `/metrics` whose text starts like this; 0 when there is none.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().await;
        let line = text.lines().find(|l| l.starts_with(series));
        line.and_then(|l| l.rsplit(' ').next())
            .map_or(0.0, |v| v.parse().expect("a number"))
    }

    /// Waits until a metric fits.
    pub async fn until_metric(&self, series: &str, fits: impl Fn(f64) -> bool) {
        until(&format!("metric {series}"), async || {
            fits(self.metric(series).await)
        })
        .await;
    }
}

impl Drop for Postern {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let all = self.stderr.all();
            let tail = all
                .iter()
                .rev()
                .take(40)
                .rev()
                .cloned()
                .collect::<Vec<_>>()
                .join("\n");
            eprintln!("--- the end of postern's log:\n{tail}\n---");
        }
    }
}

async fn readyz(port: u16) -> Option<Answer> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .ok()?;
    let mut connection = Connection::over(stream);
    connection
        .send(get("localhost", "/readyz", &[("Connection", "close")]))
        .await;
    // A process that ends meanwhile closes without an answer.
    if connection.at_end().await {
        None
    } else {
        Some(connection.answer().await)
    }
}

/// A command of the binary that ends by itself.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the binary with these arguments to its end.
pub async fn command(args: &[&str]) -> Done {
    let output = Command::new(binary())
        .args(args)
        .stdin(Stdio::null())
        .output();
    let output = within("the end of the command", output)
        .await
        .expect("a command");
    Done {
        code: output.status.code().expect("no signal"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
