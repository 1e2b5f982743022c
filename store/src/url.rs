//! Which store is meant.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::redis::Address;

/// A store, as a user names it.
///
/// `memory:`, `file:PATH`, `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `redis+cluster://HOST[:PORT],…` and
/// `redis+sentinel://HOST[:PORT],…/MASTER[/DATABASE]`; with `rediss` in place of `redis` over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(pub(crate) Place);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    File(PathBuf),
    Redis(Servers),
}

/// Servers of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Servers {
    pub(crate) form: Form,
    pub(crate) tls: bool,
    /// At least one: the server, members of the Cluster, or Sentinels.
    pub(crate) hosts: Vec<Address>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Password>,
    pub(crate) database: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    Single,
    Cluster,
    /// The master's name.
    Sentinel(String),
}

/// A password of Redis.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// A password.
    #[must_use]
    pub const fn new(password: Zeroizing<String>) -> Self {
        Self(password)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

/// A text that names no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; a store is memory:, file:PATH, redis://HOST, redis+cluster://HOST,HOST or \
     redis+sentinel://HOST,HOST/MASTER, with rediss for TLS"
)]
pub struct UrlError(String);

impl Servers {
    /// Whether another server may take over.
    pub(crate) const fn fail_over(&self) -> bool {
        !matches!(self.form, Form::Single)
    }

    /// Whether a server could be a replica without saying so.
    pub(crate) const fn masters_only(&self) -> bool {
        matches!(self.form, Form::Sentinel(_))
    }
}

impl Url {
    /// The store that is gone with the process.
    #[must_use]
    pub const fn memory() -> Self {
        Self(Place::Memory)
    }

    /// The store in a file.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(path.into()))
    }

    /// Whether it is gone with the process.
    #[must_use]
    pub const fn is_memory(&self) -> bool {
        matches!(self.0, Place::Memory)
    }

    /// Stands for the store where several proxies may see the same entries: equal for all that were given the same one,
    /// whatever their passwords. None: nobody else sees this one.
    #[must_use]
    pub fn shared_name(&self) -> Option<String> {
        let Place::Redis(servers) = &self.0 else {
            return None;
        };
        let mut hosts: Vec<String> = servers.hosts.iter().map(Address::to_string).collect();
        hosts.sort_unstable();
        let whole = format!("{:?} {hosts:?} {}", servers.form, servers.database);
        let digest = digest(&SHA256, whole.as_bytes());
        let short = digest.as_ref().iter().take(16);
        Some(short.map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether several proxies see the same entries.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.0, Place::Redis(_))
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| UrlError("that is not a URL".to_owned()))?;
        let (tls, form) = match (scheme, rest) {
            ("memory", "") => return Ok(Self::memory()),
            ("file", path) if !path.is_empty() => return Ok(Self::file(path)),
            ("redis", _) => (false, ""),
            ("rediss", _) => (true, ""),
            ("redis+cluster", _) => (false, "cluster"),
            ("rediss+cluster", _) => (true, "cluster"),
            ("redis+sentinel", _) => (false, "sentinel"),
            ("rediss+sentinel", _) => (true, "sentinel"),
            _ => {
                return Err(UrlError(format!(
                    "there is no store of the kind {scheme:?}"
                )));
            }
        };
        servers(tls, form, rest)
            .map(|servers| Self(Place::Redis(servers)))
            .map_err(|wrong| UrlError(wrong.to_owned()))
    }
}

/// Reads what follows the scheme. No error repeats what may hold a password.
fn servers(tls: bool, form: &str, rest: &str) -> Result<Servers, &'static str> {
    let rest = rest.strip_prefix("//").ok_or("// must follow the scheme")?;
    if rest.contains(['?', '#']) {
        return Err("nothing is read after ? or #");
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (account, hosts) = match authority.rsplit_once('@') {
        Some((account, hosts)) => (Some(account), hosts),
        None => (None, authority),
    };
    let (user, password) = match account.map(|account| account.split_once(':')) {
        None => (None, None),
        Some(None) => return Err("a user needs a password: USER:PASSWORD@"),
        Some(Some((user, password))) => (Some(user), Some(password)),
    };
    let user = user
        .filter(|user| !user.is_empty())
        .map(decoded)
        .transpose()?;
    let password = password
        .map(decoded)
        .transpose()?
        .map(|password| Password(Zeroizing::new(password)));
    let usual = if form == "sentinel" { 26_379 } else { 6379 };
    let hosts = hosts
        .split(',')
        .map(|host| address(host, usual))
        .collect::<Result<Vec<_>, _>>()?;
    let (form, database) = match form {
        "cluster" if path.is_empty() => (Form::Cluster, ""),
        "cluster" => return Err("a Cluster has no databases"),
        "sentinel" => {
            let (master, database) = path.split_once('/').unwrap_or((path, ""));
            if master.is_empty() {
                return Err("the master's name is missing");
            }
            (Form::Sentinel(decoded(master)?), database)
        }
        _ if hosts.len() > 1 => return Err("several hosts are a Cluster or Sentinels"),
        _ => (Form::Single, path),
    };
    let database = match database {
        "" => 0,
        number => number
            .parse::<u16>()
            .map_err(|_| "the database is no number")?
            .into(),
    };
    Ok(Servers {
        form,
        tls,
        hosts,
        user,
        password,
        database,
    })
}

fn address(text: &str, usual: u16) -> Result<Address, &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("a ] is missing")?;
            (host, port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a host is missing");
    }
    let port = match port {
        None => usual,
        Some(port) => port.parse().map_err(|_| "a port is no number")?,
    };
    Ok(Address {
        host: host.to_owned(),
        port,
    })
}

fn decoded(text: &str) -> Result<String, &'static str> {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| "what is percent-encoded is no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(text: &str) -> Servers {
        match text.parse() {
            Ok(Url(Place::Redis(servers))) => servers,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn stores_have_names() {
        assert_eq!("memory:".parse(), Ok(Url::memory()));
        assert_eq!("file:/x".parse(), Ok(Url::file("/x")));
        for wrong in [
            "",
            "memory",
            "memory:x",
            "file:",
            "ftp://h",
            "redis:h",
            "redis://",
            "redis://h:x",
            "redis://a,b",
            "redis://h/x",
            "redis://h?db=1",
            "redis://user@h",
            "redis://h:70000",
            "redis+cluster://h/1",
            "redis+sentinel://h",
            "redis+sentinel://h/",
            "redis+sentinel://h,/m",
        ] {
            let error = wrong.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains("memory:, file:PATH"), "{wrong}: {error}");
        }
    }

    #[test]
    fn servers_are_read() {
        let one = redis("rediss://u%40x:p%2Fw@h:1/3");
        assert!(one.tls && one.form == Form::Single && one.database == 3);
        assert_eq!(one.user.as_deref(), Some("u@x"));
        assert_eq!(one.password.as_ref().unwrap().expose(), "p/w");
        assert_eq!(one.hosts[0].to_string(), "h:1");
        let cluster = redis("redis+cluster://a,[::1]:7");
        assert_eq!(cluster.form, Form::Cluster);
        assert_eq!(cluster.hosts[0].to_string(), "a:6379");
        assert_eq!(cluster.hosts[1].to_string(), "[::1]:7");
        let sentinel = redis("redis+sentinel://:p@a,b:1/gw/2");
        assert_eq!(sentinel.form, Form::Sentinel("gw".to_owned()));
        assert_eq!(sentinel.hosts[0].port, 26_379);
        assert_eq!((sentinel.user, sentinel.database), (None, 2));
    }

    #[test]
    fn the_same_servers_are_the_same_store() {
        let name = |url: &str| url.parse::<Url>().unwrap().shared_name();
        let one = name("redis+cluster://:one@a,b:7");
        assert!(one.is_some());
        assert_eq!(one, name("rediss+cluster://u:other@b:7,a:6379"));
        for other in ["redis+cluster://a", "redis://a", "redis://a/1"] {
            assert_ne!(name(other), one, "{other}");
        }
        assert_ne!(name("redis://a"), name("redis://a/1"));
        assert_eq!(name("memory:"), None);
        assert_eq!(name("file:/x"), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        let url: Url = "redis://u:hunter2@h".parse().unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
        let error = "redis://u:hunter2@h:x".parse::<Url>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
