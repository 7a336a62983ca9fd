//! What the upstream answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Seen, Shared};

type Shape = Arc<Shared>;

pub(super) fn router(shared: Shape) -> Router {
    let api = Router::new()
        .route("/models", get(models))
        .route("/chat/completions", post(completions))
        .layer(middleware::from_fn_with_state(shared.clone(), require_key));
    Router::new()
        .nest("/v1", api)
        .route("/hang", any(std::future::pending::<()>))
        .route("/stall", any(stall))
        .route("/slow", any(slow))
        .route("/drip", any(drip))
        .route("/gated", any(gated))
        .route("/redirect", any(redirect))
        .route("/echo", any(echo))
        .route("/mirror", any(mirror))
        .route("/cookies", any(cookies))
        .route("/big", any(big))
        .route("/status/{code}", any(status))
        .route("/ws", any(websocket))
        .fallback(any(|| async { (StatusCode::OK, "anything") }))
        .layer(middleware::from_fn_with_state(shared.clone(), record))
        .with_state(shared)
}

async fn record(State(shared): State<Shape>, request: Request, next: Next) -> Response {
    let target = request
        .uri()
        .path_and_query()
        .map_or("", |target| target.as_str())
        .to_owned();
    shared.seen().push(Seen {
        method: request.method().clone(),
        target,
        version: request.version(),
        headers: request.headers().clone(),
    });
    next.run(request).await
}

async fn require_key(State(shared): State<Shape>, request: Request, next: Next) -> Response {
    let given: Vec<&HeaderValue> = request
        .headers()
        .get_all(header::AUTHORIZATION)
        .iter()
        .collect();
    let message = match given[..] {
        [] => "You didn't provide an API key.",
        [one] if one.as_bytes() == format!("Bearer {}", shared.key).as_bytes() => {
            return next.run(request).await;
        }
        _ => "Incorrect API key provided.",
    };
    let error = json!({"error": {
        "message": message, "type": "invalid_request_error", "param": null, "code": "invalid_api_key",
    }});
    (StatusCode::UNAUTHORIZED, Json(error)).into_response()
}

async fn models() -> Json<Value> {
    Json(json!({"object": "list", "data": [
        {"id": "gpt-4o-mini", "object": "model", "created": 1_721_172_741, "owned_by": "system"},
        {"id": "gpt-4o", "object": "model", "created": 1_715_367_049, "owned_by": "system"},
    ]}))
}

#[derive(Deserialize)]
struct Completion {
    model: String,
    #[serde(default)]
    stream: bool,
}

const WORDS: [&str; 4] = ["Hello", " from", " the", " upstream"];

/// Streamed, an event comes every 10 ms; of the model `gated`, one per release.
async fn completions(State(shared): State<Shape>, Json(asked): Json<Completion>) -> Response {
    if !asked.stream {
        return Json(json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1_721_172_741, "model": asked.model,
            "choices": [{"index": 0, "finish_reason": "stop", "logprobs": null,
                "message": {"role": "assistant", "content": WORDS.concat(), "refusal": null}}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9},
        }))
        .into_response();
    }
    let gated = asked.model == "gated";
    let chunk = move |delta: Value, finish: Value| {
        let chunk = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_721_172_741,
            "model": asked.model, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        });
        format!("data: {chunk}\n\n")
    };
    let mut events = vec![chunk(
        json!({"role": "assistant", "content": ""}),
        Value::Null,
    )];
    events.extend(
        WORDS
            .iter()
            .map(|word| chunk(json!({"content": word}), Value::Null)),
    );
    events.push(chunk(json!({}), json!("stop")));
    events.push("data: [DONE]\n\n".to_owned());
    let events = stream::iter(events).then(move |event| {
        let shared = shared.clone();
        async move {
            if !gated {
                tokio::time::sleep(Duration::from_millis(10)).await;
            } else if let Ok(permit) = shared.gate.acquire().await {
                permit.forget();
            }
            event
        }
    });
    streamed("text/event-stream", events)
}

fn streamed<S, T>(kind: &'static str, chunks: S) -> Response
where
    S: stream::Stream<Item = T> + Send + 'static,
    T: Into<Bytes>,
{
    let body = Body::from_stream(chunks.map(|chunk| Ok::<Bytes, Infallible>(chunk.into())));
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

#[derive(Deserialize)]
struct Wanted {
    ms: Option<u64>,
    bytes: Option<usize>,
    chunk: Option<usize>,
    to: Option<String>,
}

/// A head, and then nothing.
async fn stall() -> Response {
    streamed("text/plain", stream::pending::<Bytes>())
}

/// A head after a while.
async fn slow(Query(wanted): Query<Wanted>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(wanted.ms.unwrap_or(300))).await;
    "at last"
}

/// A byte now and then, without an end.
async fn drip(Query(wanted): Query<Wanted>) -> Response {
    let pause = Duration::from_millis(wanted.ms.unwrap_or(20));
    let drops = stream::repeat(()).then(move |()| async move {
        tokio::time::sleep(pause).await;
        Bytes::from_static(b".")
    });
    streamed("text/plain", drops)
}

/// One event per release; the end after the third.
async fn gated(State(shared): State<Shape>) -> Response {
    let events = stream::iter(1..=3).then(move |number| {
        let shared = shared.clone();
        async move {
            if let Ok(permit) = shared.gate.acquire().await {
                permit.forget();
            }
            format!("data: {number}\n\n")
        }
    });
    streamed("text/event-stream", events)
}

async fn redirect(Query(wanted): Query<Wanted>) -> Response {
    let to = wanted
        .to
        .unwrap_or_else(|| "https://evil.example/".to_owned());
    (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
}

/// Says all that it was told, the credential included, in a header and in the body.
async fn echo(Query(wanted): Query<Wanted>, headers: HeaderMap, body: Bytes) -> Response {
    let told: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let text = Bytes::from([told.concat().into_bytes(), body.to_vec()].concat());
    let mut response = match wanted.chunk {
        None => ([(header::CONTENT_TYPE, "text/plain")], text).into_response(),
        Some(size) => {
            let pieces: Vec<Bytes> = text
                .chunks(size.max(1))
                .map(Bytes::copy_from_slice)
                .collect();
            // A turn of the scheduler between two lets each leave in a write of its own.
            let pieces = stream::iter(pieces).then(|piece| async {
                tokio::task::yield_now().await;
                piece
            });
            streamed("text/plain", pieces)
        }
    };
    if let Some(credential) = headers.get(header::AUTHORIZATION) {
        response.headers_mut().insert("x-echo", credential.clone());
    }
    response
}

/// The request's body as the response's, as it comes.
async fn mirror(request: Request) -> Response {
    (
        [(header::CONTENT_TYPE, "application/octet-stream")],
        request.into_body(),
    )
        .into_response()
}

/// Everything that would act on the origin of whoever passes it on.
async fn cookies() -> Response {
    let mut response = "tastes".into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        ("set-cookie", "session=stolen; Path=/"),
        ("set-cookie", "second=too"),
        ("clear-site-data", "\"*\""),
        ("service-worker-allowed", "/"),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("refresh", "0; url=https://evil.example/"),
        ("strict-transport-security", "max-age=1"),
        ("alt-svc", "h3=\":443\""),
        ("public-key-pins", "max-age=1"),
        ("content-security-policy", "default-src *"),
        ("x-content-type-options", "none"),
        ("keystead-tenant", "forged"),
        ("proxy-authenticate", "Basic"),
        ("x-request-id", "req_1"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    response
}

async fn big(Query(wanted): Query<Wanted>) -> Response {
    const PIECE: usize = 64 << 10;
    let total = wanted.bytes.unwrap_or(8 << 20);
    let piece = Bytes::from(vec![b'b'; PIECE]);
    let pieces =
        (0..total.div_ceil(PIECE)).map(move |n| piece.slice(..PIECE.min(total - n * PIECE)));
    streamed("application/octet-stream", stream::iter(pieces))
}

async fn status(Path(code): Path<u16>) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (
        status,
        Json(json!({"error": {"message": "as asked", "code": code}})),
    )
        .into_response()
}

/// A WebSocket that says back what it hears.
async fn websocket(mut request: Request) -> Response {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await;
        let (mut to, mut from) = socket.split();
        while let Some(Ok(message)) = from.next().await {
            if message.is_close() || to.send(message).await.is_err() {
                break;
            }
        }
    });
    let headers = [
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
