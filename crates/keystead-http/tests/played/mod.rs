//! A provider that asks for consent, and does to its token endpoint whatever a test wants.

#![allow(dead_code, unreachable_pub, unused_imports, clippy::unwrap_used)] // each test file uses a part of it

mod scene;

pub use scene::*;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What it is, to Keystead: its hosts are dialled at the played one.
pub const FILE: &str = r#"
id = "acme"
name = "Acme"
docs = "https://acme.example/docs"
hosts = ["acme.example"]
base_url = "https://acme.example"
path_prefixes = ["/"]
sdk_token_headers = ["authorization"]

[[mode]]
id = "oauth"
label = "Connect with Acme"
placement = { kind = "bearer", field = "access_token" }
[mode.oauth]
authorize_url = "https://acme.example/authorize"
token_url = "https://acme.example/token"
device_url = "https://acme.example/device"
issuer = "https://acme.example"
scopes = ["read", "write"]
[mode.oauth.refresh]
class = "single_use"

[[mode]]
id = "api_key"
label = "API key"
placement = { kind = "bearer", field = "api_key" }
[[mode.field]]
name = "api_key"
label = "API key"
secret = true
primary = true

[test]
path = "/me"
"#;

pub const ACCESS: &str = "canary-access-token-1";
pub const REFRESH: &str = "canary-refresh-token-1";

/// What a token call is answered with.
pub enum Reply {
    Json(u16, Value),
    Text(&'static str, Vec<u8>),
    Redirect(&'static str),
    Silence,
}

/// A request that it heard.
#[derive(Clone, Debug)]
pub struct Heard {
    pub path: String,
    pub authorization: String,
    pub form: Vec<(String, String)>,
}

impl Heard {
    pub fn field(&self, name: &str) -> &str {
        let found = self.form.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

#[derive(Clone, Default)]
pub struct Played {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

/// Good tokens.
pub fn tokens() -> Value {
    json!({"access_token": ACCESS, "refresh_token": REFRESH, "token_type": "Bearer", "expires_in": 3600, "scope": "read write"})
}

impl Played {
    /// Starts it; gives its address too.
    pub async fn start() -> (Played, String) {
        let played = Played::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(played.clone());
        tokio::spawn(async move { axum_serve(listener, router).await });
        (played, url)
    }

    /// What the next token call is answered with; good tokens where nothing is said.
    pub fn next(&self, reply: Reply) {
        self.replies.lock().unwrap().push_back(reply);
    }

    pub fn heard(&self, path: &str) -> Vec<Heard> {
        let heard = self.heard.lock().unwrap();
        heard
            .iter()
            .filter(|one| one.path == path)
            .cloned()
            .collect()
    }
}

async fn axum_serve(listener: TcpListener, router: Router) {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use hyper_util::service::TowerToHyperService;
    while let Ok((stream, _)) = listener.accept().await {
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(State(played): State<Played>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let authorization = parts.headers.get("authorization");
    let authorization = authorization
        .map_or("", |value| value.to_str().unwrap())
        .to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    let form = url::form_urlencoded::parse(&body).into_owned().collect();
    played.heard.lock().unwrap().push(Heard {
        path: path.clone(),
        authorization: authorization.clone(),
        form,
    });
    let status = |status: u16| Response::builder().status(status);
    let json = |code: u16, body: Value| {
        let answer = status(code).header("content-type", "application/json");
        answer.body(Body::from(body.to_string())).unwrap()
    };
    match path.as_str() {
        "/authorize" => {
            let page = Body::from(consent(parts.uri.query().unwrap_or_default()));
            let answer = status(200).header("content-type", "text/html");
            answer.body(page).unwrap()
        }
        "/token" | "/device" => {
            let reply = played.replies.lock().unwrap().pop_front();
            match reply.unwrap_or_else(|| Reply::Json(200, tokens())) {
                Reply::Json(code, body) => json(code, body),
                Reply::Text(kind, body) => {
                    let answer = status(200).header("content-type", kind);
                    answer.body(Body::from(body)).unwrap()
                }
                Reply::Redirect(to) => {
                    let answer = status(302).header("location", to);
                    answer.body(Body::empty()).unwrap()
                }
                Reply::Silence => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    json(200, tokens())
                }
            }
        }
        _ if authorization == format!("Bearer {ACCESS}") => json(200, json!({"name": "Ann"})),
        _ => json(StatusCode::UNAUTHORIZED.as_u16(), json!({})),
    }
}

/// The page where an account's owner allows it, or does not.
fn consent(query: &str) -> String {
    let param = |name: &str| {
        let mut all = url::form_urlencoded::parse(query.as_bytes());
        let found = all.find(|(known, _)| known == name);
        found.map_or(String::new(), |(_, value)| value.into_owned())
    };
    let way = |answer: &str| {
        let mut url = url::Url::parse(&param("redirect_uri")).unwrap();
        url.query_pairs_mut().append_pair("state", &param("state"));
        format!("{url}&amp;{answer}")
    };
    format!(
        "<!doctype html><title>Acme</title><h1>Acme</h1><a href=\"{}\">Allow</a> <a href=\"{}\">Deny</a>",
        way("code=canary-code"),
        way("error=access_denied")
    )
}
