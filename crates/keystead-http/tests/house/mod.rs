//! A whole server on a loopback port: real broker, store in memory, development issuer, strict
//! upstream; and a client that sends what it is told.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test file uses a part of it

pub mod browser;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use keystead_broker::callers::{DevIssuer, Verifier};
use keystead_broker::kms::FileKms;
use keystead_broker::net::{Client, ClientConfig};
use keystead_broker::{Broker, Clock, ConnectSettings, Parts};
use keystead_core::action::Role;
use keystead_core::egress::Guard;
use keystead_core::provider::Catalogue;
use keystead_http::{Face, Limits, Settings, serve};
use keystead_store::{Store, StoreConfig};
use keystead_testkit::upstream::Upstream;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const TRUE_KEY: &str = "sk-canary-true-key-0123456789abcdef";

/// What is to be other than usual.
#[derive(Default)]
pub struct Plan {
    pub limits: Limits,
    pub settings: Settings,
    pub behaviour: keystead_broker::Settings,
    pub clock: Clock,
    /// What browsers call it, where that is not its own address.
    pub public_url: Option<String>,
    /// How often an address may fail to prove anything.
    pub anonymous: Option<&'static str>,
    /// How often a user may ask.
    pub user: Option<&'static str>,
    /// Provider files beside the catalogue's.
    pub files: Vec<(&'static str, &'static str)>,
    /// Where providers are dialled, by id.
    pub dial: Vec<(&'static str, String)>,
}

pub struct House {
    pub address: SocketAddr,
    pub store: Store,
    pub upstream: Upstream,
    pub issuer: DevIssuer,
    pub operator: String,
    pub stop: Option<oneshot::Sender<()>>,
    pub served: JoinHandle<()>,
    clock: Clock,
    _folder: tempfile::TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl House {
    pub async fn new() -> House {
        House::with(Limits::default(), Settings::default()).await
    }

    pub async fn with(limits: Limits, settings: Settings) -> House {
        House::planned(Plan {
            limits,
            settings,
            ..Plan::default()
        })
        .await
    }

    /// The same, with what browsers call it, where that is not its own address.
    pub async fn called(limits: Limits, settings: Settings, public_url: Option<&str>) -> House {
        House::built(limits, settings, public_url, Clock::default()).await
    }

    /// The same, at the time that this clock tells.
    pub async fn built(
        limits: Limits,
        settings: Settings,
        public_url: Option<&str>,
        clock: Clock,
    ) -> House {
        House::planned(Plan {
            limits,
            settings,
            public_url: public_url.map(str::to_owned),
            clock,
            ..Plan::default()
        })
        .await
    }

    pub async fn planned(plan: Plan) -> House {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = Upstream::start(TRUE_KEY).await;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(StoreConfig::new("sqlite::memory:"))
            .await
            .unwrap();
        let issuer = DevIssuer::generate().unwrap();
        let guard = Guard::new(vec!["127.0.0.1/32".parse().unwrap()]);
        let client = Client::new(ClientConfig::new(guard)).unwrap();
        let mut catalogue = Catalogue::embedded()
            .and_then(|catalogue| catalogue.with_own(plan.files, false))
            .unwrap();
        for (id, url) in plan.dial {
            catalogue = catalogue.with_settings(id, Some(&url), &[]).unwrap();
        }
        let catalogue = catalogue
            .with_settings("openai", Some(&upstream.url()), &[])
            .unwrap()
            .with_settings("generic_bearer", None, &[upstream.url()])
            .unwrap();
        let clock = plan.clock;
        let callers = Verifier::new(vec![issuer.settings()], Arc::new(client.clone())).unwrap();
        let mut behaviour = plan.behaviour;
        let own = format!("http://{address}");
        let home = plan.public_url.unwrap_or(own);
        behaviour.oauth.public_url = Some(home.clone());
        // Sweeps are many at once, and not what the limit is for.
        let anonymous = plan.anonymous.unwrap_or("100000/minute");
        behaviour.limits.anonymous = anonymous.parse().unwrap();
        let user = plan.user.unwrap_or("100000/minute");
        behaviour.limits.user = user.parse().unwrap();
        behaviour.connect = ConnectSettings::new(
            Some(&home),
            &["https://product.example/settings".to_owned()],
            &[
                "https://product.example".to_owned(),
                "http://localhost:3000".to_owned(),
            ],
        )
        .unwrap();
        let broker = Broker::start(Parts {
            store: store.clone(),
            kms: Box::new(FileKms::open(&folder.path().join("root.key"), true).unwrap()),
            client,
            catalogue,
            callers,
            settings: behaviour,
            clock: clock.clone(),
        })
        .await
        .unwrap();
        let operator = broker
            .first_operator_key()
            .await
            .unwrap()
            .unwrap()
            .expose()
            .to_owned();
        let (stop, stopped) = oneshot::channel::<()>();
        let face = Face::new(broker, plan.settings);
        let served = tokio::spawn(serve(listener, face, plan.limits, async {
            let _ = stopped.await;
        }));
        House {
            address,
            store,
            upstream,
            issuer,
            operator,
            stop: Some(stop),
            served,
            clock,
            _folder: folder,
        }
    }

    pub fn jwt(&self, subject: &str, tenant: &str, role: Role) -> String {
        self.jwt_for(subject, tenant, role, 3600)
    }

    /// One that ends after so many seconds.
    pub fn jwt_for(&self, subject: &str, tenant: &str, role: Role, seconds: u64) -> String {
        let life = Duration::from_secs(seconds);
        self.issuer
            .mint(subject, Some(tenant), Some(role), life, self.clock.now())
            .unwrap()
    }

    /// Sends a request on a connection of its own, and reads the answer's head.
    pub async fn open(
        &self,
        request: Request<Full<Bytes>>,
    ) -> http::Response<hyper::body::Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.unwrap()
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let (parts, body) = self.open(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// Sends with a bearer token (none where it is empty) and a JSON body (none where it is null).
    pub async fn ask(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.send(request(token, method, path, text)).await
    }

    /// The same, in the tenant that is named.
    pub async fn ask_in(
        &self,
        tenant: &str,
        token: &str,
        method: &str,
        path: &str,
        body: Value,
    ) -> Answer {
        let mut request = request(token, method, path, body.to_string());
        let tenant = tenant.parse().unwrap();
        request.headers_mut().insert("keystead-tenant", tenant);
        self.send(request).await
    }

    /// Makes an integration that reaches every path of the upstream.
    pub async fn add_any(&self, token: &str, name: &str) -> String {
        let config = json!({"base_url": self.upstream.url()});
        let body = json!({"name": name, "type": "generic_bearer", "credentials": TRUE_KEY, "config": config});
        let made = self.ask(token, "POST", "/api/integrations", body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["id"].as_str().unwrap().to_owned()
    }

    /// Makes an integration with the true key.
    pub async fn add(&self, token: &str, name: &str) -> String {
        let body = json!({"name": name, "type": "openai", "credentials": TRUE_KEY});
        let made = self.ask(token, "POST", "/api/integrations", body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["id"].as_str().unwrap().to_owned()
    }

    pub async fn service_key(&self, scopes: &[&str]) -> String {
        let body = json!({"kind": "service", "name": "backend", "scopes": scopes});
        let made = self.ask(&self.operator, "POST", "/api/keys", body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["text"].as_str().unwrap().to_owned()
    }

    /// All entries of the log, as stored.
    pub async fn log(&self) -> Vec<Value> {
        let leaves = self.store.leaves(0, 100_000).await.unwrap();
        leaves
            .iter()
            .map(|leaf| serde_json::from_str(leaf).unwrap())
            .collect()
    }
}

/// A request with a bearer token, where there is one, and a JSON body, where there is one.
pub fn request(token: &str, method: &str, path: &str, body: String) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "keystead.test");
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    request.body(Full::from(body)).unwrap()
}
