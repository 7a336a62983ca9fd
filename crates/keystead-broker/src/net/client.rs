//! The pooled client, and calls of Keystead's own.
//!
//! What always holds here: HTTP/2 where the upstream offers it by ALPN; an idle connection is
//! dropped after [`ClientConfig::pool_idle`], so that a changed name or allow-list takes effect;
//! a call of Keystead's own has a total deadline and a cap on what it reads.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use keystead_core::egress::Guard;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::dial::{Dialler, Offer};
use super::{NetError, RequestBody, Resolver, SystemResolver, Waited};

/// How a [`Client`] connects.
pub struct ClientConfig {
    /// Which addresses it may connect to.
    pub guard: Guard,
    /// Who turns names into addresses.
    pub resolver: Arc<dyn Resolver>,
    /// For name, TCP and TLS together.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept.
    pub pool_idle: Duration,
    /// Trusted beside the system's own certificate authorities.
    pub extra_roots: Vec<CertificateDer<'static>>,
}

impl ClientConfig {
    /// The system's resolver and authorities, 5 s to connect, 30 s idle.
    pub fn new(guard: Guard) -> Self {
        Self {
            guard,
            resolver: Arc::new(SystemResolver),
            connect_timeout: Duration::from_secs(5),
            pool_idle: Duration::from_secs(30),
            extra_roots: Vec::new(),
        }
    }
}

/// Reads the certificates of a PEM file, for [`ClientConfig::extra_roots`].
///
/// # Errors
/// What is wrong with the file, for the operator.
pub fn certificates_from_pem(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let found = read
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    if found.is_empty() {
        Err("no certificate in it".to_owned())
    } else {
        Ok(found)
    }
}

/// Bounds of a call of Keystead's own (JWKS, tokens, test calls).
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// The longest body that is read.
    pub max_body: usize,
    /// From the start to the last byte.
    pub total: Duration,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            max_body: 1 << 20,
            total: Duration::from_secs(10),
        }
    }
}

/// The one outbound HTTP client. A clone shares the connections.
#[derive(Clone)]
pub struct Client {
    pool: Pool<Dialler, RequestBody>,
    upgrades: Pool<Dialler, RequestBody>,
}

impl Client {
    /// Makes a client; nothing is connected yet.
    ///
    /// # Errors
    /// If an extra root is not a certificate.
    pub fn new(config: ClientConfig) -> Result<Self, NetError> {
        let mut roots = rustls::RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "a certificate authority of the system cannot be read");
        }
        let _ = roots.add_parsable_certificates(native.certs);
        for root in config.extra_roots {
            roots
                .add(root)
                .map_err(|error| NetError::Tls(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| NetError::Tls(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let guard = Arc::new(config.guard);
        let pool = |offer| {
            let dialler = Dialler::new(
                guard.clone(),
                config.resolver.clone(),
                tls.clone(),
                offer,
                config.connect_timeout,
            );
            // Only requests that were handed back unsent are retried (hyper-util's default), see net.rs.
            Pool::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(config.pool_idle)
                // All calls share one HTTP/2 connection, so a dead one has to be noticed while in use.
                .http2_keep_alive_interval(Duration::from_secs(20))
                .http2_keep_alive_timeout(Duration::from_secs(10))
                .build(dialler)
        };
        Ok(Self {
            pool: pool(Offer::Both),
            upgrades: pool(Offer::Http1),
        })
    }

    /// Sends `request` and waits for the head of the response until `deadline`. The body is the
    /// caller's to read, and to bound.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn send(
        &self,
        request: Request<RequestBody>,
        deadline: Instant,
    ) -> Result<Response<Incoming>, NetError> {
        match timeout_at(deadline, self.pool.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(NetError::from_client(&error)),
            Err(_) => Err(NetError::Timeout(Waited::Head)),
        }
    }

    /// A whole exchange within `limits`: for calls of Keystead's own. A redirect is an answer. The
    /// body, which may hold a secret, is wiped when it is dropped.
    ///
    /// # Errors
    /// [`NetError`]; `ResponseTooLarge` also for a length that is only announced.
    pub async fn fetch(
        &self,
        request: Request<Bytes>,
        limits: FetchLimits,
    ) -> Result<Response<Bytes>, NetError> {
        let deadline = Instant::now() + limits.total;
        let whole = async {
            let response = self.send(request.map(RequestBody::from), deadline).await?;
            let (head, mut body) = response.into_parts();
            if body.size_hint().lower() > limits.max_body as u64 {
                return Err(NetError::ResponseTooLarge);
            }
            let said = usize::try_from(body.size_hint().lower()).unwrap_or(0);
            let mut read = Zeroizing::new(Vec::with_capacity(said));
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| NetError::Closed)?;
                if let Some(data) = frame.data_ref() {
                    if read.len() + data.len() > limits.max_body {
                        return Err(NetError::ResponseTooLarge);
                    }
                    extend(&mut read, data);
                }
            }
            Ok(Response::from_parts(head, Bytes::from_owner(read)))
        };
        match timeout_at(deadline, whole).await {
            Ok(Err(NetError::Timeout(Waited::Head))) | Err(_) => {
                Err(NetError::Timeout(Waited::Whole))
            }
            Ok(answer) => answer,
        }
    }

    /// The pool to send from: upgrades exist in HTTP/1.1 only.
    pub(super) fn pool(&self, upgrade: bool) -> &Pool<Dialler, RequestBody> {
        if upgrade { &self.upgrades } else { &self.pool }
    }
}

/// Appends; what has to move is wiped where it was.
fn extend(read: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    let needed = read.len() + data.len();
    if needed > read.capacity() {
        let mut roomier = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two()));
        roomier.extend_from_slice(read);
        *read = roomier;
    }
    read.extend_from_slice(data);
}
