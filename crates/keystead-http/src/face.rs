//! One request in, one answer out.
//!
//! What always holds: every answer carries `Keystead-Request-Id`, a fresh one of ours; a panic
//! fails one request; what may change something runs in a task of its own, so that a caller who
//! hangs up does not cut it in two; a failure is logged once, here. The proxy goes past the API's
//! router and layers.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use keystead_broker::{Broker, Error};
use keystead_core::ids::RequestId;

use crate::address::client_address;
use crate::metrics::{Metrics, method_word};
use crate::openapi;
use crate::pages::{self, Told};
use crate::problem::{self, Failed, Fault};
use crate::proxy;

/// The request's id, as logs and entries name it.
const REQUEST_ID: HeaderName = HeaderName::from_static("keystead-request-id");

/// What an operator sets.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether each request leaves a line in the log, beside the failures, which always do.
    pub log_requests: bool,
}

/// All faces over one broker. Cheap to clone.
#[derive(Clone)]
pub struct Face(Arc<Inner>);

struct Inner {
    shared: Shared,
    router: Router,
    settings: Settings,
}

/// What handlers use.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Tools>);

pub(crate) struct Tools {
    pub(crate) broker: Broker,
    pub(crate) metrics: Metrics,
}

impl std::ops::Deref for Shared {
    type Target = Tools;

    fn deref(&self) -> &Tools {
        &self.0
    }
}

/// The route template that served a request, on its answer.
#[derive(Clone, Copy)]
pub(crate) struct Route(pub(crate) &'static str);

/// Which request this is and where it came from, on the request.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) request: RequestId,
    pub(crate) address: IpAddr,
}

impl Face {
    /// Faces over a broker.
    pub fn new(broker: Broker, settings: Settings) -> Face {
        let shared = Shared(Arc::new(Tools {
            broker,
            metrics: Metrics::new(),
        }));
        let router = openapi::router().merge(pages::router());
        let router = router.with_state(shared.clone());
        Face(Arc::new(Inner {
            shared,
            router,
            settings,
        }))
    }

    /// Answers one request of a peer.
    pub(crate) async fn answer(&self, mut request: Request<Incoming>, peer: IpAddr) -> Response {
        let started = Instant::now();
        let Inner {
            shared,
            router,
            settings,
        } = &*self.0;
        let arrival = Arrival {
            request: shared.broker.new_request_id(),
            address: client_address(peer, request.headers(), &settings.trusted_proxies),
        };
        let method = request.method().clone();
        let proxied = request.uri().path().starts_with(proxy::PREFIX);
        let answer = if proxied {
            // Boxed: every open connection has room for its request's future, also while it rests.
            contain(proxy::forward(shared, request, arrival).boxed()).await
        } else {
            request.extensions_mut().insert(arrival);
            let handled = TowerToHyperService::new(router.clone()).call(request);
            let handled = handled.map(|answer| answer.unwrap_or_else(|never| match never {}));
            if method.is_safe() {
                contain(handled).await
            } else {
                detach(handled).await
            }
        };
        let answer = answer.unwrap_or_else(|| {
            shared.metrics.panics.inc();
            Fault::Broker(Error::internal("the handler panicked")).into_response()
        });
        let route = if proxied {
            proxy::ROUTE
        } else {
            answer
                .extensions()
                .get()
                .map_or("none", |Route(route)| route)
        };
        let status = answer.status();
        let took = started.elapsed();
        shared.metrics.answered(route, &method, status, took);
        if settings.log_requests {
            tracing::info!(
                request = %arrival.request, method = method_word(&method), route, status = status.as_u16(),
                address = %arrival.address, micros = took.as_micros() as u64, "request"
            );
        }
        finish(answer, arrival.request, route, proxied)
    }

    /// Counts a connection that is open, until the value is dropped.
    pub(crate) fn opened_connection(&self) -> impl Drop + use<> {
        struct Open(Shared);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.metrics.connections.dec();
            }
        }
        self.0.shared.metrics.connections.inc();
        Open(self.0.shared.clone())
    }

    /// Counts a connection above the limit.
    pub(crate) fn refused_connection(&self) {
        self.0.shared.metrics.refused_connections.inc();
    }
}

/// Works here; `None` where it panics.
fn contain<T>(work: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
    AssertUnwindSafe(work).catch_unwind().map(Result::ok)
}

/// Works to the end in a task of its own, whether or not somebody waits; `None` where it panics.
async fn detach<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(work).await.ok()
}

/// Writes the problem, where there is one, and what stands on every answer.
fn finish(
    mut answer: Response,
    request: RequestId,
    route: &'static str,
    proxied: bool,
) -> Response {
    let failed = answer.extensions_mut().remove::<Failed>();
    let own = !proxied || failed.is_some();
    if let Some(Failed(fault)) = failed {
        log(&fault, request, route);
        answer = problem::write(
            &fault,
            request,
            proxied,
            std::mem::take(answer.headers_mut()),
        );
    }
    if let Some(Told(fault)) = answer.extensions_mut().remove::<Told>() {
        log(&fault, request, route);
    }
    let headers = answer.headers_mut();
    if let Ok(id) = HeaderValue::try_from(request.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    if own {
        headers
            .entry(CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Pages bring a policy of their own, and may be framed where an operator said so.
        if !headers.contains_key(CONTENT_SECURITY_POLICY) {
            headers.insert(
                CONTENT_SECURITY_POLICY,
                HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
            );
            headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        }
        headers
            .entry(REFERRER_POLICY)
            .or_insert(HeaderValue::from_static("no-referrer"));
    }
    answer
}

/// A failure of ours is an error in the log, with its context; a fault of the request is detail.
fn log(fault: &Fault, request: RequestId, route: &'static str) {
    let row = problem::row(fault);
    let (status, code) = (row.status.as_u16(), row.code);
    let context = match fault {
        Fault::Broker(Error::Unavailable { context, .. } | Error::Internal { context }) => {
            context.as_str()
        }
        Fault::Broker(Error::Corrupt { record }) => record.as_str(),
        Fault::Broker(Error::Upstream { reason }) => reason,
        _ => "",
    };
    match row.status {
        // The provider's doing, and anybody's to bring about.
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            tracing::warn!(%request, route, status, code, context, "a provider failed");
        }
        status_code if status_code.is_server_error() => {
            tracing::error!(%request, route, status, code, context, "a request failed");
        }
        _ => tracing::debug!(%request, route, status, code, "a request was refused"),
    }
}

/// A plain answer.
pub(crate) fn plain(content_type: &'static str, body: impl Into<Body>) -> Response {
    (
        [(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static(content_type),
        )],
        body.into(),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_contained() {
        async fn broken() -> u8 {
            panic!("on purpose")
        }
        assert_eq!(contain(broken()).await, None);
        assert_eq!(detach(broken()).await, None);
    }

    #[tokio::test]
    async fn work_with_an_effect_goes_on_when_the_caller_hangs_up() {
        let (go, gone) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let mut work = Box::pin(detach(async {
            let _ = gone.await;
            let _ = done.send(());
        }));
        assert!((&mut work).now_or_never().is_none());
        drop(work);
        let _ = go.send(());
        assert_eq!(is_done.await, Ok(()));
    }
}
