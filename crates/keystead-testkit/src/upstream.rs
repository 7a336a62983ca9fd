//! Upstreams: a strict, OpenAI-shaped one, with every fault that a provider is seen to have.
//!
//! What always holds here: `/v1/…` accepts only `Authorization: Bearer <the true key>`, exactly
//! once; every request is recorded as it arrived. Nothing waits for time where a test can wait for
//! an event: `/gated` sends one event per [`Upstream::release`].

mod raw;
mod routes;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, Method, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub use raw::RawUpstream;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// The raw path, with the query if there was one.
    pub target: String,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// All headers.
    pub headers: HeaderMap,
}

impl Seen {
    /// All values of a header, as text.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect()
    }
}

struct Shared {
    key: String,
    seen: Mutex<Vec<Seen>>,
    gate: Semaphore,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running upstream; ends when dropped.
pub struct Upstream {
    address: SocketAddr,
    certificate: Option<String>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts it on a free loopback port; it accepts `key` alone.
    pub async fn start(key: &str) -> Self {
        Self::serve(key, None).await
    }

    /// The same behind TLS, for `localhost` and 127.0.0.1, with HTTP/2 and HTTP/1.1 on offer.
    pub async fn start_tls(key: &str) -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate can be made");
        let key_der = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .expect("the key is PKCS#8");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key_der)
            .expect("certificate and key belong together");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::serve(
            key,
            Some((TlsAcceptor::from(Arc::new(config)), made.cert.pem())),
        )
        .await
    }

    async fn serve(key: &str, tls: Option<(TlsAcceptor, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a loopback port is free");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            key: key.to_owned(),
            seen: Mutex::default(),
            gate: Semaphore::new(0),
        });
        let router = routes::router(shared.clone());
        let (acceptor, certificate) = tls.unzip();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let (router, acceptor) = (router.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => answer(stream, router).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                answer(stream, router).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            certificate,
            shared,
            task,
        }
    }

    /// `http://127.0.0.1:<port>`, or `https://localhost:<port>`.
    pub fn url(&self) -> String {
        match self.certificate {
            None => format!("http://{}", self.address),
            Some(_) => format!("https://localhost:{}", self.address.port()),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The PEM of its certificate, which is its own authority.
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// Every request so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen().clone()
    }

    /// The last request.
    pub fn last_seen(&self) -> Seen {
        self.shared
            .seen()
            .last()
            .cloned()
            .expect("a request has arrived")
    }

    /// Lets `/gated` send one more event.
    pub fn release(&self) {
        self.shared.gate.add_permits(1);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer<S>(stream: S, router: axum::Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // A client that goes away in the middle is part of many tests.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}
