//! The floor of a proxy on hyper: one thread, a pool of upstream connections, a table of API keys, and nothing else: no
//! routing, timeouts, limits, logs or metrics.
//!
//! `hyper-floor LISTEN UPSTREAM [KEYS]`: KEYS is a file of lines "key consumer".

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;

use aws_lc_rs::digest::{SHA256, digest};
use hashbrown::HashMap;
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1 as client;
use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::server::conn::http1 as server;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;
type Keys = HashMap<[u8; 32], Box<str>>;

const X_CONSUMER: HeaderName = HeaderName::from_static("x-consumer");

/// What requests share.
struct Floor {
    upstream: String,
    keys: Option<Keys>,
    idle: RefCell<Vec<client::SendRequest<Incoming>>>,
}

impl Floor {
    /// `Some(None)`: no check wanted. `Some(Some(name))`: who calls. `None`: refused.
    fn check(&self, request: &Request<Incoming>) -> Option<Option<HeaderValue>> {
        let Some(keys) = &self.keys else {
            return Some(None);
        };
        let key = request.headers().get("apikey")?;
        Some(Some(
            HeaderValue::from_str(keys.get(&hash(key.as_bytes())?)?).ok()?,
        ))
    }

    async fn serve(&self, mut request: Request<Incoming>) -> Response<Body> {
        let Some(who) = self.check(&request) else {
            return empty(StatusCode::UNAUTHORIZED);
        };
        request.headers_mut().remove(CONNECTION);
        if let Some(who) = who {
            request.headers_mut().insert(X_CONSUMER, who);
        }
        match self.forward(request).await {
            Ok(response) => response,
            Err(_) => empty(StatusCode::BAD_GATEWAY),
        }
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Body>, Box<dyn Error>> {
        let mut connection = self.connection().await?;
        let response = connection.send_request(request).await?;
        self.idle.borrow_mut().push(connection);
        Ok(response.map(BodyExt::boxed_unsync))
    }

    async fn connection(&self) -> Result<client::SendRequest<Incoming>, Box<dyn Error>> {
        loop {
            let Some(mut kept) = self.idle.borrow_mut().pop() else {
                break;
            };
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = TcpStream::connect(&self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok(sender)
    }
}

fn hash(key: &[u8]) -> Option<[u8; 32]> {
    digest(&SHA256, key).as_ref().try_into().ok()
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn read_keys(path: &str) -> Result<Keys, Box<dyn Error>> {
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    Ok(lines
        .filter_map(|(key, consumer)| Some((hash(key.as_bytes())?, consumer.into())))
        .collect())
}

async fn listen(listener: TcpListener, floor: Rc<Floor>) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let floor = Rc::clone(&floor);
        tokio::task::spawn_local(async move {
            let service = hyper::service::service_fn(move |request| {
                let floor = Rc::clone(&floor);
                async move { Ok::<_, std::convert::Infallible>(floor.serve(request).await) }
            });
            server::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
        });
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(upstream)) = (arguments.next(), arguments.next()) else {
        return Err("usage: hyper-floor LISTEN UPSTREAM [KEYS]".into());
    };
    let keys = arguments.next().map(|path| read_keys(&path)).transpose()?;
    let floor = Rc::new(Floor {
        upstream,
        keys,
        idle: RefCell::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let all = async { listen(TcpListener::bind(&address).await?, floor).await };
    Ok(runtime.block_on(tokio::task::LocalSet::new().run_until(all))?)
}
