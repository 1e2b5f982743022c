//! Connections: always made on the store's runtime, where their own work goes on.

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, TlsCertificates, Value, cmd,
};
use tokio::runtime::Handle;

use super::answer;
use crate::url::Servers;
use crate::{OpenError, Settings};

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// An address as servers announce it: IPv6 without brackets, and without a host where it is the same.
    pub(super) fn parse_announced(text: &str, same: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Self {
            host: if host.is_empty() { same } else { host }.to_owned(),
            port: port.parse().ok()?,
        })
    }
}

/// Who may connect, and how.
pub(super) struct Connector {
    runtime: Handle,
    tls: Option<Option<Vec<u8>>>,
    account: RedisConnectionInfo,
    database: i64,
    pub(super) patience: Duration,
    /// Whether a connection to something that is no master is none.
    masters_only: bool,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector(tls: {}, redacted)", self.tls.is_some())
    }
}

impl Connector {
    pub(super) fn new(
        servers: &Servers,
        settings: &Settings,
        runtime: Handle,
    ) -> Result<Self, OpenError> {
        let mut account = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(user) = &servers.user {
            account = account.set_username(user);
        }
        let password = settings.password.as_ref().or(servers.password.as_ref());
        if let Some(password) = password {
            account = account.set_password(password.expose());
        }
        let connector = Self {
            runtime,
            tls: servers.tls.then(|| settings.ca.clone()),
            account,
            database: servers.database,
            patience: settings.patience,
            masters_only: servers.masters_only(),
        };
        // A CA that cannot be read is told now.
        for address in &servers.hosts {
            connector.client(address, connector.account.clone())?;
        }
        Ok(connector)
    }

    /// A way to one server.
    pub(super) fn to(&self, address: &Address) -> Result<Client, OpenError> {
        let account = self.account.clone().set_db(self.database);
        self.client(address, account)
    }

    /// Ways to a Sentinel: with the account of Redis, and without one, for many have none.
    pub(super) fn to_sentinel(&self, address: &Address) -> Result<Vec<Client>, OpenError> {
        let mut accounts = vec![self.account.clone()];
        if self.account.password().is_some() {
            accounts.push(RedisConnectionInfo::default().set_skip_set_lib_name());
        }
        let client = |account| self.client(address, account);
        accounts.into_iter().map(client).collect()
    }

    fn client(&self, address: &Address, account: RedisConnectionInfo) -> Result<Client, OpenError> {
        let Address { host, port } = address.clone();
        let server = match self.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
        };
        let client = server.into_connection_info().and_then(|info| {
            let info = info.set_redis_settings(account);
            match &self.tls {
                None => Client::open(info),
                Some(ca) => Client::build_with_tls(
                    info,
                    TlsCertificates {
                        client_tls: None,
                        root_cert: ca.clone(),
                    },
                ),
            }
        });
        client.map_err(|error| OpenError::Redis(error.to_string()))
    }

    /// Connects, on the store's runtime.
    pub(super) async fn connect(
        &self,
        client: &Client,
    ) -> Result<MultiplexedConnection, RedisError> {
        let (client, masters_only) = (client.clone(), self.masters_only);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.patience))
            // Whoever asks waits no longer than its own patience.
            .set_response_timeout(None);
        let connecting = self.runtime.spawn(async move {
            let mut connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            if masters_only {
                let role = cmd("ROLE").query_async::<Value>(&mut connection).await?;
                if !is_master(&role) {
                    return Err((redis::ErrorKind::Client, "it is no master").into());
                }
            }
            Ok(connection)
        });
        match tokio::time::timeout(self.patience, connecting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(_)) | Err(_) => Err((redis::ErrorKind::Io, "no connection in time").into()),
        }
    }

    /// Connects to what need be no master.
    pub(super) async fn connect_any(
        &self,
        client: &Client,
    ) -> Result<MultiplexedConnection, RedisError> {
        let client = client.clone();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.patience))
            .set_response_timeout(Some(self.patience));
        let connecting = self.runtime.spawn(async move {
            client
                .get_multiplexed_async_connection_with_config(&config)
                .await
        });
        match connecting.await {
            Ok(connected) => connected,
            Err(_) => Err((redis::ErrorKind::Io, "no connection").into()),
        }
    }

    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

fn is_master(role: &Value) -> bool {
    match role {
        Value::Array(parts) => parts.first().and_then(answer::text).as_deref() == Some("master"),
        _ => false,
    }
}
