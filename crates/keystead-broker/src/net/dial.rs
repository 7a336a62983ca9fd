//! From a host name to a connected, encrypted stream.
//!
//! What always holds here: a name is resolved once per connection, by our own resolver; any refused
//! address refuses the whole answer, so that a mix of public and private ones (rebinding) fails
//! instead of being a matter of luck; and the stream goes to one of the addresses just checked.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use keystead_core::egress::Guard;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

use super::{BoxError, NetError, Waited};

/// What a [`Resolver`] answers.
pub type Resolved<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Turns names into addresses. What it answers is checked by the guard, and then connected to.
pub trait Resolver: Send + Sync {
    /// All addresses of `host`, which is a name and not an address.
    fn resolve<'a>(&'a self, host: &'a str) -> Resolved<'a>;
}

/// The operating system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolved<'a> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

#[derive(Clone)]
pub(super) struct Tcp {
    guard: Arc<Guard>,
    resolver: Arc<dyn Resolver>,
    limit: Duration,
}

impl Tcp {
    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, NetError> {
        let until = Instant::now() + self.limit;
        let host = uri.host().ok_or(NetError::Malformed)?;
        let port = uri
            .port_u16()
            .unwrap_or(if uri.scheme_str() == Some("http") {
                80
            } else {
                443
            });
        let literal = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let addresses = match literal.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self
                .resolver
                .resolve(host)
                .await
                .map_err(|_| NetError::Resolve)?,
        };
        for address in &addresses {
            self.guard.permits(*address).map_err(NetError::Address)?;
        }
        let mut fault = NetError::Resolve;
        for (at, address) in addresses.iter().enumerate() {
            // Each gets a share of the time that is left, so that a dead first one is not the end.
            let left = until.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - at).unwrap_or(1);
            match timeout(share, TcpStream::connect(SocketAddr::new(*address, port))).await {
                Ok(Ok(stream)) => {
                    // Nagle's algorithm would hold back small writes; a stream without it still works.
                    let _ = stream.set_nodelay(true);
                    return Ok(TokioIo::new(stream));
                }
                Ok(Err(error)) => fault = NetError::Connect(error.kind()),
                Err(_) => fault = NetError::Timeout(Waited::Connect),
            }
        }
        Err(fault)
    }
}

type Dialling<T> = Pin<Box<dyn Future<Output = Result<T, NetError>> + Send>>;

impl Service<Uri> for Tcp {
    type Response = TokioIo<TcpStream>;
    type Error = NetError;
    type Future = Dialling<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// TCP, and TLS where the scheme says so, within one time limit.
#[derive(Clone)]
pub(super) struct Dialler {
    https: HttpsConnector<Tcp>,
    limit: Duration,
}

/// Which protocols are offered to an encrypted upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// HTTP/2 or HTTP/1.1, as the upstream likes.
    Both,
    /// HTTP/1.1, for upgrades.
    Http1,
}

impl Dialler {
    pub(super) fn new(
        guard: Arc<Guard>,
        resolver: Arc<dyn Resolver>,
        tls: rustls::ClientConfig,
        offer: Offer,
        limit: Duration,
    ) -> Self {
        let tcp = Tcp {
            guard,
            resolver,
            limit,
        };
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http();
        let https = match offer {
            Offer::Both => builder.enable_all_versions().wrap_connector(tcp),
            Offer::Http1 => builder.enable_http1().wrap_connector(tcp),
        };
        Self { https, limit }
    }
}

impl Service<Uri> for Dialler {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = NetError;
    type Future = Dialling<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let until = Instant::now() + self.limit;
        let dialling = self.https.call(uri);
        Box::pin(async move {
            match timeout_at(until, dialling).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => {
                    let error: BoxError = error;
                    Err(NetError::from_dial(&*error))
                }
                Err(_) => Err(NetError::Timeout(Waited::Connect)),
            }
        })
    }
}
