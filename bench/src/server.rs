//! The two servers that Keystead is measured beside: hyper with one fixed answer, and hyper with a
//! pooled client behind it which streams both bodies. As little as each can be.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

/// Answers everything with one JSON object of about `bytes` bytes.
pub(crate) fn bare(bytes: usize) -> Result<()> {
    let filler = "x".repeat(bytes.saturating_sub(r#"{"filler":""}"#.len()));
    let body = Bytes::from(serde_json::json!({ "filler": filler }).to_string());
    serve(move |stream| {
        let body = body.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let body = body.clone();
            async move {
                // A body that is not read would cost the connection.
                request.into_body().collect().await?;
                let mut response = Response::new(Full::new(body));
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Ok::<_, hyper::Error>(response)
            }
        });
        async move {
            // A client that hangs up is no news.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
}

/// Hands everything on to `upstream`, and its answer back.
pub(crate) fn plain_proxy(upstream: &str) -> Result<()> {
    let upstream: &'static str = upstream.to_owned().leak();
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let pool: Pool = Client::builder(TokioExecutor::new()).build(connector);
    serve(move |stream| {
        let pool = pool.clone();
        let service = service_fn(move |request| forward(pool.clone(), upstream, request));
        async move {
            // A client that hangs up is no news.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
}

type Pool = Client<HttpConnector, Incoming>;
type Body = Either<Incoming, Full<Bytes>>;

async fn forward(
    pool: Pool,
    upstream: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    if let Ok(uri) = Uri::try_from(format!("http://{upstream}{path}")) {
        *request.uri_mut() = uri;
    }
    request.headers_mut().remove(HOST);
    Ok(match pool.request(request).await {
        Ok(response) => response.map(Body::Left),
        Err(_) => {
            let mut response = Response::new(Body::Right(Full::default()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    })
}

/// Runs `connection` for each that comes in, on the threads that Keystead would have.
fn serve<F, R>(connection: F) -> Result<()>
where
    F: Fn(TcpStream) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?.to_string();
            println!("{}", serde_json::json!({ "address": address }));
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(connection(stream));
            }
        })
}
