//! A client that may dial 127.0.0.1 alone, and a hop to shape.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use keystead_broker::net::{
    Client, ClientConfig, Destination, Head, Hop, HopLimits, NetError, ProxyBody, Resolved,
    Resolver, Secret, forward,
};
use keystead_core::egress::{BaseUrl, Guard, Schemes};

pub(crate) const KEY: &str = "sk-proj-canary-0123456789abcdef";
/// Long enough for a loaded machine; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Answers one lookup after another from a list, the last one for ever.
pub(crate) struct Scripted {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    pub(crate) lookups: AtomicUsize,
}

impl Scripted {
    pub(crate) fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
        let answers = Mutex::new(answers.iter().map(parse).collect());
        Arc::new(Self {
            answers,
            lookups: AtomicUsize::new(0),
        })
    }
}

impl Resolver for Scripted {
    fn resolve<'a>(&'a self, _host: &'a str) -> Resolved<'a> {
        self.lookups.fetch_add(1, SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 {
            answers.pop_front().unwrap()
        } else {
            answers[0].clone()
        };
        Box::pin(async move { Ok(answer) })
    }
}

pub(crate) fn config() -> ClientConfig {
    ClientConfig::new(Guard::new(vec!["127.0.0.1/32".parse().unwrap()]))
}

pub(crate) fn client() -> Client {
    Client::new(config()).unwrap()
}

pub(crate) fn destination(url: &str) -> Destination {
    Destination::new(&BaseUrl::parse(url, Schemes::HttpToo).unwrap()).unwrap()
}

pub(crate) fn hop<'a>(to: &'a Destination, path: &'a str) -> Hop<'a> {
    Hop {
        to,
        path,
        query: None,
        strip_headers: &[],
        strip_query: &[],
        limits: HopLimits {
            head: PATIENCE,
            idle: PATIENCE,
            ..HopLimits::default()
        },
        redact_bodies: true,
        location_prefix: None,
        cut: None,
        on_redacted: None,
    }
}

/// What the broker does once it has opened the credential.
pub(crate) fn place(head: &mut Head<'_>) -> Result<Vec<Secret>, NetError> {
    let bearer = HeaderValue::from_str(&format!("Bearer {KEY}")).unwrap();
    head.headers.insert(header::AUTHORIZATION, bearer);
    Ok(vec![Secret::new(KEY.as_bytes().to_vec())])
}

pub(crate) async fn pass(
    hop: Hop<'_>,
    request: Request<Full<Bytes>>,
) -> Result<Response<ProxyBody>, NetError> {
    tokio::time::timeout(PATIENCE, forward(&client(), hop, request, place))
        .await
        .unwrap()
}

pub(crate) fn get() -> Request<Full<Bytes>> {
    Request::new(Full::default())
}

pub(crate) async fn text(response: Response<ProxyBody>) -> String {
    let body = tokio::time::timeout(PATIENCE, response.into_body().collect())
        .await
        .unwrap();
    String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap()
}
