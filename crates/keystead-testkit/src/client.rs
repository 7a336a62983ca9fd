//! A plain HTTP/1.1 client that sends what it is told, and a socket for what no client sends.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for anything that a test waits for; a hang is a failure with a name.
const PATIENCE: Duration = Duration::from_secs(30);

/// A caller of one server.
#[derive(Clone)]
pub struct Client {
    client: legacy::Client<HttpConnector, Full<Bytes>>,
    url: String,
    headers: HeaderMap,
    patience: Duration,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body of an answer that has to have this status.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Head and body, to be searched.
    pub fn everything(&self) -> Vec<u8> {
        [format!("{:?}", self.headers).as_bytes(), &self.body].concat()
    }
}

impl Client {
    /// Nobody in particular.
    pub fn new(url: &str) -> Client {
        Client {
            client: legacy::Client::builder(TokioExecutor::new()).build_http(),
            url: url.to_owned(),
            headers: HeaderMap::new(),
            patience: PATIENCE,
        }
    }

    /// The same, which waits for so long.
    pub fn patient(&self, patience: Duration) -> Client {
        let mut other = self.clone();
        other.patience = patience;
        other
    }

    /// The same with a token.
    pub fn bearer(&self, token: &str) -> Client {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// The same with a header more.
    pub fn header(&self, name: &str, value: &str) -> Client {
        let mut other = self.clone();
        let name: http::HeaderName = name.parse().expect("a header's name");
        other
            .headers
            .append(name, value.parse().expect("a header's value"));
        other
    }

    /// The same at another address.
    pub fn at(&self, url: &str) -> Client {
        let mut other = self.clone();
        other.url = url.to_owned();
        other
    }

    /// Sends a request, and gives the answer when its head has come.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.url).parse().expect("a path");
        *request.headers_mut() = self.headers.clone();
        tokio::time::timeout(self.patience, self.client.request(request))
            .await
            .map_err(|_| "no answer".to_owned())?
            .map_err(|fault| format!("{fault:?}"))
    }

    /// Sends a request and reads the whole answer.
    pub async fn try_call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, String> {
        let (head, body) = self.send(method, path, body).await?.into_parts();
        let body = tokio::time::timeout(self.patience, body.collect())
            .await
            .map_err(|_| "the answer does not end".to_owned())?
            .map_err(|fault| fault.to_string())?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.try_call(Method::GET, path, Bytes::new())
            .await
            .expect(path)
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.try_call(Method::DELETE, path, Bytes::new())
            .await
            .expect(path)
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let json = self.header("content-type", "application/json");
        let body = Bytes::from(body.to_string());
        json.try_call(Method::POST, path, body).await.expect(path)
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        let json = self.header("content-type", "application/json");
        let body = Bytes::from(body.to_string());
        json.try_call(Method::PUT, path, body).await.expect(path)
    }
}

/// Writes these bytes to a server and reads whatever it says until it closes.
pub async fn raw(url: &str, bytes: &[u8]) -> String {
    let mut stream = connect(url).await.expect("the server takes connections");
    // A server may refuse before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut said = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said))
        .await
        .expect("the server closes in the end");
    String::from_utf8_lossy(&said).into_owned()
}

/// A connection to a server.
pub async fn connect(url: &str) -> std::io::Result<TcpStream> {
    TcpStream::connect(url.trim_start_matches("http://")).await
}
