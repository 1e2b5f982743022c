//! A gateway on manifests of a test's own, with an upstream behind it.

use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use crate::message::Answer;
use crate::objects;
use crate::ports::Port;
use crate::process::{Folder, Postern, TRUSTED};
use crate::raw::{Connection, get};
use crate::upstream::Upstream;

/// What is set up: a Gateway "gateway" with the HTTP listener "http", and the Service "echo" for the upstream.
#[derive(Debug)]
pub struct Rig {
    pub postern: Postern,
    pub folder: Folder,
    /// Behind the Service "echo".
    pub upstream: Upstream,
    /// Of the listener "http".
    pub port: u16,
    flags: Vec<String>,
    ports: Vec<Port>,
}

/// A rig to be.
#[derive(Debug, Default)]
pub struct Builder {
    objects: Vec<Value>,
    listeners: Vec<Value>,
    flags: Vec<String>,
    upstream: Option<Upstream>,
    files: Vec<(String, String)>,
    ports: Vec<Port>,
    bare: bool,
    trusted: Option<String>,
}

impl Rig {
    /// A rig to be.
    #[must_use]
    pub fn build() -> Builder {
        Builder::default()
    }

    /// The rig with these objects.
    pub async fn with(objects: impl IntoIterator<Item = Value>) -> Self {
        Self::build().objects(objects).start().await
    }

    /// A new connection to the listener "http".
    pub async fn connect(&self) -> Connection {
        Connection::open(self.port).await
    }

    /// GET on a connection of its own.
    pub async fn get(&self, host: &str, target: &str) -> Answer {
        self.get_with(host, target, &[]).await
    }

    /// GET with headers on a connection of its own.
    pub async fn get_with(&self, host: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.connect().await.ask(get(host, target, headers)).await
    }

    /// Any request on a connection of its own.
    pub async fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        self.connect().await.ask(request).await
    }

    /// Replaces the test's objects, and waits until that is in force.
    pub async fn replace(&mut self, objects: impl IntoIterator<Item = Value>) {
        self.folder
            .put("test.yaml", &objects.into_iter().collect::<Vec<_>>());
        self.reloaded().await;
    }

    /// Waits until the folder as it is now is in force.
    pub async fn reloaded(&mut self) {
        let digest = self.folder.digest();
        self.postern.ready(&digest).await;
    }

    /// Starts a process in place of the one that ran, on the same folder and state.
    pub async fn restart(self) -> Self {
        let Self {
            postern,
            folder,
            upstream,
            port,
            flags,
            ports,
        } = self;
        let state = Arc::clone(postern.state());
        postern.stop().await;
        let mut postern = Postern::spawn(folder.path(), state, &flags);
        postern.ready(&folder.digest()).await;
        Self {
            postern,
            folder,
            upstream,
            port,
            flags,
            ports,
        }
    }

    /// Ends the process at once, as a crash does, and starts another on the same folder and state.
    pub async fn crash(&mut self) {
        self.postern.signal("KILL");
        self.postern.end().await;
        let state = Arc::clone(self.postern.state());
        self.postern = Postern::spawn(self.folder.path(), state, &self.flags);
        self.reloaded().await;
    }

    /// The number of the port reserved by [`Builder::port`], in that order.
    #[must_use]
    pub fn reserved(&self, index: usize) -> u16 {
        self.ports[index + 1].number()
    }
}

impl Builder {
    /// The test's own objects.
    #[must_use]
    pub fn objects(mut self, objects: impl IntoIterator<Item = Value>) -> Self {
        self.objects.extend(objects);
        self
    }

    /// Reserves a port; its number.
    pub fn port(&mut self) -> u16 {
        self.ports.push(Port::reserve());
        self.ports.last().map_or(0, Port::number)
    }

    /// A further listener of the Gateway.
    #[must_use]
    pub fn listener(mut self, listener: Value) -> Self {
        self.listeners.push(listener);
        self
    }

    /// A further flag.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.push(format!("{name}={value}"));
        self
    }

    /// The upstream behind the Service "echo".
    #[must_use]
    pub fn upstream(mut self, upstream: Upstream) -> Self {
        self.upstream = Some(upstream);
        self
    }

    /// A further file.
    #[must_use]
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Whom the system trusts that it runs on, as PEM.
    #[must_use]
    pub fn trusted(mut self, authorities: &str) -> Self {
        self.trusted = Some(authorities.to_owned());
        self
    }

    /// Without the Gateway and the listener "http".
    #[must_use]
    pub const fn without_gateway(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Starts it, and waits until all of it is in force.
    pub async fn start(self) -> Rig {
        let upstream = match self.upstream {
            Some(upstream) => upstream,
            None => Upstream::named("echo").await,
        };
        let mut ports = vec![Port::reserve()];
        let port = ports[0].number();
        ports.extend(self.ports);
        let mut base = objects::service("echo", upstream.port());
        if !self.bare {
            let mut listeners = vec![objects::http_listener("http", port)];
            listeners.extend(self.listeners);
            base.extend([
                objects::gateway_class(),
                objects::gateway("gateway", &listeners),
            ]);
        }
        let folder = Folder::default();
        folder.put("base.yaml", &base);
        folder.put("test.yaml", &self.objects);
        for (name, text) in &self.files {
            folder.write(name, text);
        }
        let state = Arc::new(TempDir::new().expect("a state folder"));
        if let Some(trusted) = self.trusted {
            std::fs::write(state.path().join(TRUSTED), trusted)
                .expect("a file in the state folder");
        }
        let mut postern = Postern::spawn(folder.path(), state, &self.flags);
        postern.ready(&folder.digest()).await;
        Rig {
            postern,
            folder,
            upstream,
            port,
            flags: self.flags,
            ports,
        }
    }
}
