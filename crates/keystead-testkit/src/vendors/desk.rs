//! Where calls are heard, remembered, and answered by a vendor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use serde_json::Value;
use tokio::net::TcpListener;

/// A call as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query's parameters.
    pub query: BTreeMap<String, String>,
    /// Headers by name, in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Asked {
    /// The token of a bearer.
    pub fn bearer(&self) -> Option<&str> {
        self.headers.get("authorization")?.strip_prefix("Bearer ")
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as a form.
    pub fn form(&self) -> BTreeMap<String, String> {
        let pairs = url::form_urlencoded::parse(&self.body);
        pairs.into_owned().collect()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Said {
    /// The status.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Said {
    /// JSON.
    pub fn json(status: u16, body: &Value) -> Said {
        Said {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string().into_bytes(),
        }
    }

    /// The same with a header more.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Said {
        self.headers.push((name, value.into()));
        self
    }
}

/// What all vendors have: an address, a memory, and what a test wants said instead.
#[derive(Clone, Default)]
pub struct Desk {
    /// Where it listens.
    pub url: String,
    heard: Arc<Mutex<Vec<Asked>>>,
    given: Arc<Mutex<Vec<String>>>,
    instead: Arc<Mutex<BTreeMap<String, Said>>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

type Answering = Arc<dyn Fn(&Desk, &Asked) -> Said + Send + Sync>;

impl Desk {
    /// Listens, and answers by that.
    pub async fn open(
        answer: impl Fn(&Desk, &Asked) -> Said + Send + Sync + 'static,
    ) -> std::io::Result<Desk> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let desk = Desk {
            url: format!("http://{}", listener.local_addr()?),
            ..Desk::default()
        };
        let answer: Answering = Arc::new(answer);
        let router = axum::Router::new()
            .fallback(any(hear))
            .with_state((desk.clone(), answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(desk)
    }

    /// All calls so far, as `METHOD /path`.
    pub fn calls(&self) -> Vec<String> {
        let heard = lock(&self.heard);
        let line = |asked: &Asked| format!("{} {}", asked.method, asked.path);
        heard.iter().map(line).collect()
    }

    /// The last call to that path.
    pub fn last(&self, path: &str) -> Option<Asked> {
        let heard = lock(&self.heard);
        heard.iter().rfind(|asked| asked.path == path).cloned()
    }

    /// Says this to every call of that path, until it is told otherwise.
    pub fn says(&self, path: &str, said: Option<Said>) {
        let mut instead = lock(&self.instead);
        match said {
            Some(said) => instead.insert(path.to_owned(), said),
            None => instead.remove(path),
        };
    }

    /// An invented secret that is given out.
    pub(super) fn give(&self, what: &str) -> String {
        let mut given = lock(&self.given);
        let secret = format!("{what}canary-{:08}-0123456789abcdef", given.len());
        given.push(secret.clone());
        secret
    }

    /// All secrets that were given out.
    pub fn given(&self) -> Vec<String> {
        lock(&self.given).clone()
    }
}

async fn hear(State((desk, answer)): State<(Desk, Answering)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let query = parts.uri.query().unwrap_or_default();
    let query = url::form_urlencoded::parse(query.as_bytes());
    let headers = parts.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: query.into_owned().collect(),
        headers: headers.collect(),
        body: body.to_vec(),
    };
    lock(&desk.heard).push(asked.clone());
    let instead = lock(&desk.instead).get(&asked.path).cloned();
    let said = instead.unwrap_or_else(|| answer(&desk, &asked));
    let mut response = Response::builder().status(said.status);
    for (name, value) in said.headers {
        response = response.header(name, value);
    }
    response
        .body(Body::from(said.body))
        .unwrap_or_else(|_| Response::new(Body::empty()))
}
