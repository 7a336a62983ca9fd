//! A whole broker over a store in memory or in a file, a key file, a development issuer, and a
//! strict upstream.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test file uses a part of it

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use keystead_broker::callers::{DevIssuer, IssuerSettings, Verifier};
use keystead_broker::kms::{FileKms, Kms};
use keystead_broker::net::{Client, ClientConfig, ProxyBody};
use keystead_broker::{
    Broker, Clock, Context, Created, Error, Integration, NewIntegration, NewKey, Parts, Selector,
    Settings, Status,
};
use keystead_core::action::Role;
use keystead_core::caller::Scope;
use keystead_core::egress::Guard;
use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::provider::Catalogue;
use keystead_core::time::Time;
use keystead_core::token::KeyKind;
use keystead_store::{Store, StoreConfig};
use keystead_testkit::upstream::Upstream;
use serde_json::{Map, Value, json};

/// The base URL that integrations of the generic provider may choose.
pub const APPROVED: &str = "https://sms.example.com";

pub const TRUE_KEY: &str = "sk-canary-true-key-0123456789abcdef";
/// A provider whose every path may be called, at the upstream.
const SAMPLE: &str = r#"
id = "sample"
name = "Sample"
docs = "https://sample.example/docs"
hosts = ["sample.example"]
base_url = "https://sample.example"
path_prefixes = ["/"]
sdk_token_headers = ["authorization"]

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
path = "/v1/models"
"#;
/// Where a fixed clock stands at first.
pub const NOON: Time = Time(1_795_184_100_000_000);

/// What is to be other than usual.
#[derive(Default)]
pub struct Plan {
    pub settings: Settings,
    /// Keeps rows in a file of the house's folder.
    pub in_file: bool,
    /// Keeps rows there instead.
    pub store: Option<StoreConfig>,
    pub clock: Clock,
    /// Instead of the key file.
    pub kms: Option<Box<dyn Kms>>,
    /// Beside the development issuer.
    pub issuers: Vec<IssuerSettings>,
    /// Providers that are dialled elsewhere, by id.
    pub dial: Vec<(&'static str, String)>,
    /// Providers that are dialled at the house's upstream too.
    pub dial_upstream: Vec<&'static str>,
    /// Instead of the embedded providers: these, as they are.
    pub catalogue: Option<Catalogue>,
}

pub struct House {
    pub broker: Broker,
    pub store: Store,
    pub upstream: Upstream,
    pub issuer: DevIssuer,
    pub operator: String,
    pub clock: Clock,
    pub folder: tempfile::TempDir,
}

impl House {
    pub async fn new() -> House {
        House::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> House {
        House::planned(Plan {
            settings,
            ..Plan::default()
        })
        .await
    }

    pub async fn in_file() -> House {
        House::planned(Plan {
            in_file: true,
            ..Plan::default()
        })
        .await
    }

    pub async fn planned(plan: Plan) -> House {
        let upstream = Upstream::start(TRUE_KEY).await;
        let folder = tempfile::tempdir().unwrap();
        let url = if plan.in_file {
            format!("sqlite:{}", folder.path().join("keystead.db").display())
        } else {
            "sqlite::memory:".to_owned()
        };
        let config = plan.store.unwrap_or_else(|| StoreConfig::new(url));
        let store = Store::open(config).await.unwrap();
        let issuer = DevIssuer::generate().unwrap();
        let kms = plan.kms.unwrap_or_else(|| key_file(&folder));
        let mut issuers = plan.issuers;
        issuers.push(issuer.settings());
        let mut dial = plan.dial;
        let at_upstream = plan.dial_upstream.into_iter().chain(["openai", "sample"]);
        dial.extend(at_upstream.map(|id| (id, upstream.url())));
        let mut parts = parts(
            store.clone(),
            kms,
            issuers,
            &dial,
            plan.settings,
            plan.clock.clone(),
        );
        parts.catalogue = plan.catalogue.unwrap_or(parts.catalogue);
        let broker = Broker::start(parts).await.unwrap();
        let operator = broker.first_operator_key().await.unwrap().unwrap();
        House {
            broker,
            store,
            upstream,
            issuer,
            operator: operator.expose().to_owned(),
            clock: plan.clock,
            folder,
        }
    }

    /// Another node over the same file.
    pub async fn neighbour(&self) -> (Broker, Store) {
        let url = format!("sqlite:{}", self.database().display());
        let store = Store::open(StoreConfig::new(url)).await.unwrap();
        let broker = Broker::start(self.parts_again(store.clone(), key_file(&self.folder)))
            .await
            .unwrap();
        (broker, store)
    }

    /// What another start is made of.
    pub fn parts_again(&self, store: Store, kms: Box<dyn Kms>) -> Parts {
        let dial = [
            ("openai", self.upstream.url()),
            ("sample", self.upstream.url()),
        ];
        let issuers = vec![self.issuer.settings()];
        parts(
            store,
            kms,
            issuers,
            &dial,
            Settings::default(),
            self.clock.clone(),
        )
    }

    pub fn kms(&self) -> Box<dyn Kms> {
        key_file(&self.folder)
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("keystead.db")
    }

    /// Does to the database what somebody does who can write to it, in Python: `db` is the
    /// connection, `arg` the arguments. Returns what it prints.
    pub fn tamper(&self, python: &str, args: &[String]) -> String {
        let script = format!(
            "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)\n\
             arg = sys.argv[2:]\n{python}\ndb.close()\n"
        );
        let done = std::process::Command::new("python3")
            .arg("-c")
            .arg(script)
            .arg(self.database())
            .args(args)
            .output()
            .expect("python3 is needed to write to the database as another program would");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).unwrap()
    }

    pub fn jwt(&self, subject: &str, tenant: &str, role: Role) -> String {
        self.token(subject, Some(tenant), Some(role))
    }

    pub fn token(&self, subject: &str, tenant: Option<&str>, role: Option<Role>) -> String {
        let hour = Duration::from_secs(3600);
        self.issuer
            .mint(subject, tenant, role, hour, self.clock.now())
            .unwrap()
    }

    pub async fn ctx(&self, token: &str, tenant: Option<&str>) -> Result<Context, Error> {
        ctx_at(&self.broker, token, tenant).await
    }

    pub async fn user(&self, subject: &str, tenant: &str, role: Role) -> Context {
        self.ctx(&self.jwt(subject, tenant, role), None)
            .await
            .unwrap()
    }

    pub async fn operator(&self) -> Context {
        self.ctx(&self.operator, None).await.unwrap()
    }

    /// A service key of that name and scope.
    pub async fn key(&self, name: &str, scope: &str, tenant: Option<TenantId>) -> String {
        let operator = self.operator().await;
        let new = NewKey {
            kind: KeyKind::Service,
            name: name.into(),
            tenant,
            scopes: vec![Scope::parse(scope).unwrap()],
            addresses: Vec::new(),
            expires_at: None,
        };
        let made = self.broker.create_key(&operator, new).await.unwrap();
        made.text.expose().to_owned()
    }

    pub async fn service_key(&self, scope: &str) -> String {
        self.key("backend", scope, None).await
    }

    /// Revokes the keys of that name.
    pub async fn revoke(&self, name: &str) {
        let operator = self.operator().await;
        for key in self.broker.list_keys(&operator).await.unwrap() {
            if key.name == name {
                self.broker.revoke_key(&operator, key.id).await.unwrap();
            }
        }
    }

    pub async fn add(&self, ctx: &Context, name: &str, key: &str) -> Integration {
        self.create(ctx, name, "openai", json!(key), None)
            .await
            .unwrap()
            .integration
    }

    pub async fn create(
        &self,
        ctx: &Context,
        name: &str,
        type_: &str,
        credentials: Value,
        idempotency_key: Option<&str>,
    ) -> Result<Created, Error> {
        let new = NewIntegration {
            name: name.into(),
            type_: type_.into(),
            credentials,
            config: Map::new(),
        };
        self.broker
            .create_integration(ctx, new, idempotency_key.map(str::to_owned))
            .await
    }

    /// Waits for the background trial to end.
    pub async fn settled(&self, ctx: &Context, id: IntegrationId) -> Integration {
        for _ in 0..1000 {
            let seen = self.broker.integration(ctx, id).await.unwrap();
            if seen.status != Status::Verifying {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the integration is still being verified");
    }

    /// One that works, made by an owner of acme.
    pub async fn connected(&self, owner: &Context) -> IntegrationId {
        let made = self.add(owner, "main", TRUE_KEY).await;
        let seen = self.settled(owner, made.id).await;
        assert_eq!(seen.status, Status::Connected, "{:?}", seen.error_message);
        made.id
    }

    pub async fn models(&self, ctx: &Context, to: Selector) -> Result<(u16, String), Error> {
        models_at(&self.broker, ctx, to).await
    }

    pub async fn reveal(&self, ctx: &Context, id: IntegrationId) -> Result<Value, Error> {
        let revealed = self.broker.reveal_integration(ctx, id).await?;
        Ok(serde_json::from_slice(&revealed.into_json()).unwrap())
    }

    /// All entries of the log, as stored.
    pub async fn log(&self) -> Vec<String> {
        self.store.leaves(0, 100_000).await.unwrap()
    }

    /// How many entries hold all of these pieces of text.
    pub async fn entries(&self, pieces: &[&str]) -> usize {
        let log = self.log().await;
        log.iter()
            .filter(|entry| pieces.iter().all(|piece| entry.contains(piece)))
            .count()
    }

    /// Waits for an entry that is written behind the answer.
    pub async fn comes_to_be_recorded(&self, pieces: &[&str]) {
        for _ in 0..300 {
            if self.entries(pieces).await > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no entry holds {pieces:?}");
    }

    /// No entry shows anything secret.
    pub async fn log_is_clean(&self) {
        let log = self.log().await.join("\n");
        assert!(!log.contains("canary"), "{log}");
    }
}

fn key_file(folder: &tempfile::TempDir) -> Box<dyn Kms> {
    Box::new(FileKms::open(&folder.path().join("root.key"), true).unwrap())
}

fn parts(
    store: Store,
    kms: Box<dyn Kms>,
    issuers: Vec<IssuerSettings>,
    dial: &[(&'static str, String)],
    settings: Settings,
    clock: Clock,
) -> Parts {
    let guard = Guard::new(vec!["127.0.0.1/32".parse().unwrap()]);
    let client = Client::new(ClientConfig::new(guard)).unwrap();
    let own = [("sample.toml", SAMPLE)];
    let mut catalogue = Catalogue::embedded()
        .and_then(|catalogue| catalogue.with_own(own, false))
        .unwrap();
    for (id, url) in dial {
        catalogue = catalogue.with_settings(id, Some(url), &[]).unwrap();
    }
    // What an operator approves of a generic provider, as no host of its own is known.
    let approved = [APPROVED.to_owned()];
    catalogue = catalogue
        .with_settings("generic_bearer", None, &approved)
        .unwrap();
    let callers = Verifier::new(issuers, Arc::new(client.clone())).unwrap();
    Parts {
        store,
        kms,
        client,
        catalogue,
        callers,
        settings,
        clock,
    }
}

pub async fn ctx_at(broker: &Broker, token: &str, tenant: Option<&str>) -> Result<Context, Error> {
    let request = broker.new_request_id();
    broker
        .identify(Some(token), tenant, request, Some([127, 0, 0, 1].into()))
        .await
}

/// Calls a path of the upstream through an integration.
pub async fn call_at(
    broker: &Broker,
    ctx: &Context,
    to: Selector,
    path: &str,
) -> Result<http::Response<ProxyBody>, Error> {
    let request = http::Request::get("/")
        .body(Full::new(Bytes::new()))
        .unwrap();
    broker.forward(ctx, &to, None, path, None, request).await
}

pub async fn models_at(
    broker: &Broker,
    ctx: &Context,
    to: Selector,
) -> Result<(u16, String), Error> {
    let answer = call_at(broker, ctx, to, "/v1/models").await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Ok((status, String::from_utf8(body.to_vec()).unwrap()))
}
