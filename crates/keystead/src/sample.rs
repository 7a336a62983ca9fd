//! A sample provider on loopback for `keystead dev`: OpenAI-shaped, with a consent page beside it, and
//! strict: it takes one key and its own tokens, and refuses every other as real ones do.

mod consent;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use consent::Consents;

/// The key that the sample provider takes. It opens nothing but the sample.
pub(crate) const SAMPLE_KEY: &str = "sk-sample-key-of-the-loopback-provider-0000";

/// How it is connected by consent: the provider's id, its file, and the app that it knows.
pub(crate) const SAMPLE: &str = "sample";
pub(crate) const SAMPLE_FILE: &str = include_str!("sample.toml");
pub(crate) use consent::CLIENT_ID;

const ANSWER: [&str; 6] = ["Your ", "key ", "never ", "left ", "the ", "broker."];
const BODY_MOST: usize = 1 << 20;

type Words = stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>;
type Body = Either<Full<Bytes>, StreamBody<Words>>;

/// Starts it on a free port of loopback; it lives as long as the process. `home` is what browsers
/// call Keystead.
pub(crate) async fn start(home: &str) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("the sample provider could not listen")?;
    let address = listener.local_addr()?;
    let consents = Arc::new(Consents::new(format!("{home}/oauth/callback")));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let consents = consents.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(consents.clone(), request));
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(address)
}

async fn answer(
    consents: Arc<Consents>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let presented = parts
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let whole = Limited::new(body, BODY_MOST).collect().await;
    let body = whole.map(|whole| whole.to_bytes()).unwrap_or_default();
    Ok(match (&parts.method, parts.uri.path()) {
        (&Method::GET | &Method::POST, "/authorize") => {
            let query = parts.uri.query().unwrap_or_default();
            consents.authorize(&parts.method, query, &body)
        }
        (&Method::POST, "/token") => consents.token(&body),
        (&Method::POST, "/revoke") => consents.revoke(&body),
        (&Method::GET, "/me") if presented.is_some_and(|token| consents.knows(token)) => {
            reply(StatusCode::OK, &json!({"account": "sample"}))
        }
        _ if presented != Some(SAMPLE_KEY) => {
            let error = json!({"error": {"message": "Incorrect API key provided.", "type": "invalid_request_error", "param": null, "code": "invalid_api_key"}});
            reply(StatusCode::UNAUTHORIZED, &error)
        }
        (&Method::GET, "/v1/models") => reply(
            StatusCode::OK,
            &json!({"object": "list", "data": [{"id": "sample-1", "object": "model"}]}),
        ),
        (&Method::POST, "/v1/chat/completions") => {
            let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
            if asked["stream"] == true {
                streamed()
            } else {
                reply(StatusCode::OK, &whole_answer())
            }
        }
        _ => reply(
            StatusCode::NOT_FOUND,
            &json!({"error": {"message": "Unknown request URL.", "type": "invalid_request_error", "param": null, "code": null}}),
        ),
    })
}

fn reply(status: StatusCode, json: &Value) -> Response<Body> {
    text(status, "application/json", &json.to_string())
}

fn text(status: StatusCode, kind: &'static str, text: &str) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(text.to_owned()))));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn whole_answer() -> Value {
    json!({
        "id": "chatcmpl-sample", "object": "chat.completion", "created": 0, "model": "sample-1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER.concat()}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 6, "total_tokens": 7},
    })
}

/// A word at a time, as server-sent events.
fn streamed() -> Response<Body> {
    let words = stream::unfold(0_usize, |place| async move {
        let event = match ANSWER.get(place) {
            Some(word) => {
                tokio::time::sleep(Duration::from_millis(40)).await;
                json!({
                    "id": "chatcmpl-sample", "object": "chat.completion.chunk", "created": 0, "model": "sample-1",
                    "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": null}],
                })
                .to_string()
            }
            None if place == ANSWER.len() => "[DONE]".to_owned(),
            None => return None,
        };
        Some((
            Ok(Frame::data(Bytes::from(format!("data: {event}\n\n")))),
            place + 1,
        ))
    });
    let mut response = Response::new(Either::Right(StreamBody::new(Box::pin(words) as Words)));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/event-stream"),
    );
    response
}
