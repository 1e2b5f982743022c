//! New connections: straight to an address that is not denied, or through a forward proxy.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::Error;
use crate::client::Shared;
use crate::deny::{Host, target};
use crate::race::race;
use crate::tls::Tls;

/// Where the calls of a profile go.
pub(crate) struct Route {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tls: Tls,
    pub(crate) matcher: Matcher,
    pub(crate) http_authorization: Option<HeaderValue>,
    pub(crate) https_authorization: Option<HeaderValue>,
}

impl Route {
    /// What a request that goes to the forward proxy itself must carry; https requests travel inside a tunnel.
    pub(crate) fn proxy_authorization(&self, uri: &Uri) -> Option<HeaderValue> {
        if uri.scheme_str() != Some("http") {
            return None;
        }
        let proxy = self.matcher.intercept(uri)?;
        self.authorization(uri, &proxy)
    }

    fn authorization(&self, uri: &Uri, proxy: &Intercept) -> Option<HeaderValue> {
        let given = match uri.scheme_str() {
            Some("http") => &self.http_authorization,
            _ => &self.https_authorization,
        };
        given.clone().or_else(|| proxy.basic_auth().cloned())
    }

    async fn connect(&self, uri: &Uri) -> Result<Stream, Error> {
        let (host, _) = target(uri)?;
        // A forward proxy would call an address for us.
        if let Host::Address(address) = host
            && self.shared.denied.contains(address)
        {
            return Err(Error::Denied);
        }
        let https = uri.scheme_str() == Some("https");
        let Some(proxy) = self.matcher.intercept(uri) else {
            let tcp = self.tcp(uri).await?;
            return if https {
                handshake(&self.tls.endpoint, uri, Box::new(tcp)).await
            } else {
                Ok(Stream::new(Box::new(tcp)))
            };
        };
        let io = self.proxy(proxy.uri()).await?;
        if !https {
            return Ok(Stream {
                proxied: true,
                ..Stream::new(io)
            });
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), Once(Some(TokioIo::new(io))));
        if let Some(authorization) = self.authorization(uri, &proxy) {
            tunnel = tunnel.with_auth(authorization);
        }
        let io = tunnel.call(uri.clone()).await.map_err(|_| Error::Proxy)?;
        handshake(&self.tls.endpoint, uri, io.into_inner()).await
    }

    async fn proxy(&self, uri: &Uri) -> Result<Box<dyn Io>, Error> {
        let unreachable = |error| match error {
            Error::Unreachable => Error::Proxy,
            error => error,
        };
        let tcp = self.tcp(uri).await.map_err(unreachable)?;
        if uri.scheme_str() == Some("https") {
            let stream = handshake(&self.tls.proxy, uri, Box::new(tcp)).await?;
            return Ok(stream.io.into_inner());
        }
        Ok(Box::new(tcp))
    }

    async fn tcp(&self, uri: &Uri) -> Result<TcpStream, Error> {
        let (host, port) = target(uri)?;
        let addresses = match host {
            Host::Address(address) => vec![address],
            Host::Name(name) => self.shared.look_up(&name).await?,
        };
        let allowed: Vec<IpAddr> = addresses
            .iter()
            .copied()
            .filter(|address| !self.shared.denied.contains(*address))
            .collect();
        match (allowed.is_empty(), addresses.is_empty()) {
            (true, true) => Err(Error::Unreachable),
            (true, false) => Err(Error::Denied),
            (false, _) => {
                let allowed = allowed.into_iter();
                race(allowed.map(|address| SocketAddr::new(address, port)))
                    .await
                    .map_err(|_| Error::Unreachable)
            }
        }
    }
}

async fn handshake(
    config: &Arc<ClientConfig>,
    uri: &Uri,
    io: Box<dyn Io>,
) -> Result<Stream, Error> {
    let name = match target(uri)?.0 {
        Host::Address(address) => ServerName::IpAddress(address.into()),
        Host::Name(name) => ServerName::try_from(name).map_err(|_| Error::Url)?,
    };
    let tls = TlsConnector::from(Arc::clone(config))
        .connect(name, io)
        .await
        .map_err(|_| Error::Tls)?;
    let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Stream {
        h2,
        ..Stream::new(Box::new(tls))
    })
}

/// What hyper's client gets connections from.
#[derive(Clone)]
pub(crate) struct Dial(pub(crate) Arc<Route>);

impl Service<Uri> for Dial {
    type Response = Stream;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Stream, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let route = Arc::clone(&self.0);
        Box::pin(async move { route.connect(&uri).await })
    }
}

/// Hands out the one connection that is there already.
struct Once(Option<TokioIo<Box<dyn Io>>>);

impl Service<Uri> for Once {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = Error;
    type Future = std::future::Ready<Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        std::future::ready(self.0.take().ok_or(Error::Proxy))
    }
}

/// A connection of any kind.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection, and what hyper must know of it.
pub(crate) struct Stream {
    io: TokioIo<Box<dyn Io>>,
    h2: bool,
    proxied: bool,
}

impl Stream {
    fn new(io: Box<dyn Io>) -> Self {
        Self {
            io: TokioIo::new(io),
            h2: false,
            proxied: false,
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied);
        if self.h2 {
            connected.negotiated_h2()
        } else {
            connected
        }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
