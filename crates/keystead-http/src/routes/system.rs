//! What machines ask without a token: alive, ready, numbers, the API's description.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::face::{Shared, plain};
use crate::openapi;

/// Whether the process serves.
#[utoipa::path(get, path = "/healthz", tag = "system", security(()),
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")))]
pub(crate) async fn find_health() -> Response {
    plain("text/plain; charset=utf-8", "ok\n")
}

/// Whether everything that is needed is up. Why not is in the log.
#[utoipa::path(get, path = "/readyz", tag = "system", security(()),
    responses(
        (status = 200, description = "It is", body = BTreeMap<String, String>),
        (status = 503, description = "Something is not: see which", body = BTreeMap<String, String>)))]
pub(crate) async fn find_readiness(State(shared): State<Shared>) -> Response {
    let ready = shared.broker.ready().await;
    for (part, trouble) in ready
        .parts
        .iter()
        .filter_map(|(part, state)| Some((part, state.as_ref().err()?)))
    {
        tracing::warn!(part, trouble, "not ready");
    }
    let parts: BTreeMap<_, _> = ready
        .parts
        .iter()
        .map(|(part, state)| (*part, if state.is_ok() { "ok" } else { "unavailable" }))
        .collect();
    let status = if ready.ok() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(parts)).into_response()
}

/// Numbers for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "system", security(()),
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text")))]
pub(crate) async fn list_metrics(State(shared): State<Shared>) -> Response {
    let ready = shared.broker.ready().await;
    plain(
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        shared.metrics.text(&shared.broker, &ready),
    )
}

/// This API, described.
#[utoipa::path(get, path = "/openapi.json", tag = "system", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(crate) async fn find_openapi() -> Response {
    plain("application/json", openapi::text())
}
