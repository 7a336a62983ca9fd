//! Nodes over one store, and a provider that grants tokens of each class.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test file uses a part of it

mod seed;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use keystead_broker::callers::Verifier;
use keystead_broker::kms::{FileKms, Kms};
use keystead_broker::net::{Client, ClientConfig};
use keystead_broker::{
    Back, Begin, Broker, Changes, Clock, Context, Error, Integration, NewIntegration, NewKey,
    OAuthApp, Parts, RenewSettings, Selector, Settings, TestReport, Way,
};
use keystead_core::caller::Scope;
use keystead_core::egress::Guard;
use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::provider::Catalogue;
use keystead_core::token::KeyKind;
use keystead_store::{Setup, Store, StoreConfig, TokenSetRow, setup_postgres};
use keystead_testkit::postgres::Cluster;
use keystead_testkit::token_server::{CLIENT_ID, CLIENT_SECRET, Class, TokenServer};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// Of a client that hands in what providers answer.
const REDIRECT_URI: &str = "https://product.example/back";

/// A provider file of that class.
fn provider(class: Class) -> (&'static str, String) {
    let (id, word) = match class {
        Class::Reusable => ("reusable", "reusable"),
        Class::Rotating => ("rotating", "rotating"),
        Class::SingleUse => ("single", "single_use"),
    };
    let text = format!(
        r#"
id = "{id}"
name = "Sample of {word}"
docs = "https://{id}.example/docs"
hosts = ["{id}.example"]
host_choices = ["*.my.{id}.example"]
base_url = "https://{id}.example"
path_prefixes = ["/"]
sdk_token_headers = ["authorization"]

[[mode]]
id = "oauth"
label = "Connect"
placement = {{ kind = "bearer", field = "access_token" }}
[mode.oauth]
authorize_url = "https://{id}.example/authorize"
token_url = "https://{id}.example/token"
client_auth = "body"
scopes = []
reply = {{ host = "/instance_url" }}
[mode.oauth.refresh]
class = "{word}"

[test]
path = "/v1/me"
"#
    );
    (id, text)
}

/// Where the rows are.
enum Rows {
    File(tempfile::TempDir),
    Postgres {
        cluster: &'static Cluster,
        database: String,
        config: StoreConfig,
        folder: tempfile::TempDir,
    },
}

/// A provider, a store, and how to start nodes over it.
pub struct Rig {
    pub server: TokenServer,
    rows: Rows,
    pub settings: Settings,
}

/// A node: a broker and a caller who may use and reveal.
#[derive(Clone)]
pub struct Node {
    pub broker: Broker,
    pub store: Store,
    pub key: String,
    pub tenant: TenantId,
}

impl Rig {
    pub async fn on_file() -> Rig {
        Rig {
            server: TokenServer::start().await,
            rows: Rows::File(tempfile::tempdir().unwrap()),
            settings: settings(),
        }
    }

    pub async fn on_postgres() -> Rig {
        let shared = tokio::task::spawn_blocking(|| keystead_testkit::postgres::shared().unwrap());
        Rig::on_cluster(shared.await.unwrap()).await
    }

    pub async fn on_cluster(cluster: &'static Cluster) -> Rig {
        static ROLES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _one = ROLES.lock().await;
        let database = tokio::task::spawn_blocking(|| cluster.database().unwrap());
        let database = database.await.unwrap();
        let report = setup_postgres(Setup {
            admin_url: database.clone(),
            app_password: [1; 32],
            system_password: [2; 32],
            context_key: [0x42; 32],
            new_passwords: true,
        });
        let report = report.await.unwrap();
        let config = StoreConfig {
            // A test machine may be busy with much else.
            deadline: Duration::from_secs(20),
            ..StoreConfig::new(report.url).with_system_url(report.system_url)
        };
        Rig {
            server: TokenServer::start().await,
            rows: Rows::Postgres {
                cluster,
                database,
                config,
                folder: tempfile::tempdir().unwrap(),
            },
            settings: settings(),
        }
    }

    fn folder(&self) -> &std::path::Path {
        match &self.rows {
            Rows::File(folder) | Rows::Postgres { folder, .. } => folder.path(),
        }
    }

    pub async fn store(&self) -> Store {
        let config = match &self.rows {
            Rows::File(folder) => {
                StoreConfig::new(format!("sqlite:{}", folder.path().join("k.db").display()))
            }
            Rows::Postgres { config, .. } => config.clone(),
        };
        Store::open(config).await.unwrap()
    }

    /// The first node, which makes the tenant and the key.
    pub async fn first(&self) -> Node {
        let broker = self.start(Clock::default()).await;
        let store = broker.1;
        let broker = broker.0;
        let operator = broker.first_operator_key().await.unwrap().unwrap();
        let request = broker.new_request_id();
        let operator = broker
            .identify(Some(operator.expose()), None, request, None)
            .await
            .unwrap();
        let tenant = broker
            .create_tenant(&operator, "acme".into(), None, None)
            .await
            .unwrap();
        let new = NewKey {
            kind: KeyKind::Service,
            name: "backend".into(),
            tenant: None,
            scopes: vec![Scope::parse("use,reveal,put,test,info,delete").unwrap()],
            addresses: Vec::new(),
            expires_at: None,
        };
        let key = broker.create_key(&operator, new).await.unwrap();
        Node {
            broker,
            store,
            key: key.text.expose().to_owned(),
            tenant: tenant.id,
        }
    }

    /// Another node over the same rows, of that clock.
    pub async fn another(&self, like: &Node, clock: Clock) -> Node {
        let (broker, store) = self.start(clock).await;
        Node {
            broker,
            store,
            ..like.clone()
        }
    }

    pub async fn start(&self, clock: Clock) -> (Broker, Store) {
        let store = self.store().await;
        let kms = FileKms::open(&self.folder().join("root.key"), true).unwrap();
        let kms: Box<dyn Kms> = Box::new(kms);
        let guard = Guard::new(vec!["127.0.0.1/32".parse().unwrap()]);
        let client = Client::new(ClientConfig::new(guard)).unwrap();
        let files = [Class::Reusable, Class::Rotating, Class::SingleUse].map(provider);
        let own = files.iter().map(|(id, text)| (*id, text.as_str()));
        let mut catalogue = Catalogue::embedded()
            .and_then(|catalogue| catalogue.with_own(own, false))
            .unwrap();
        let url = self.server.url();
        for (id, _) in &files {
            catalogue = catalogue.with_settings(id, Some(&url), &[]).unwrap();
        }
        let callers = Verifier::new(Vec::new(), Arc::new(client.clone())).unwrap();
        let parts = Parts {
            store: store.clone(),
            kms,
            client,
            catalogue,
            callers,
            settings: self.settings.clone(),
            clock,
        };
        (Broker::start(parts).await.unwrap(), store)
    }

    /// Changes rows as somebody with the database would.
    pub fn sql(&self, statement: &str) {
        let done = match &self.rows {
            Rows::File(folder) => {
                let script = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)\ndb.execute(sys.argv[2])";
                Command::new("python3")
                    .args(["-c", script])
                    .arg(folder.path().join("k.db"))
                    .arg(statement)
                    .output()
            }
            Rows::Postgres {
                cluster, database, ..
            } => cluster
                .client("psql")
                .args(["-d", database, "-v", "ON_ERROR_STOP=1"])
                .args(["-c", "SET search_path TO keystead", "-c", statement])
                .output(),
        };
        let done = done.unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// All tokens ended an hour ago and are due; they are not new either.
    pub fn end_tokens(&self) {
        let past = past(3600);
        self.sql(&format!(
            "UPDATE token_set SET expires_at = {past}, renew_at = {past}, updated_at = {past}"
        ));
    }

    /// Nobody knows how long the tokens last.
    pub fn forget_ends(&self) {
        let past = past(3600);
        self.sql(&format!(
            "UPDATE token_set SET expires_at = NULL, renew_at = NULL, updated_at = {past}"
        ));
    }

    /// Leases and pauses are over, as if their time had gone by.
    pub fn end_leases(&self) {
        let past = past(1);
        self.sql(&format!(
            "UPDATE token_set SET lease_until = CASE WHEN lease_until IS NULL THEN NULL ELSE {past} END, renew_at = {past}"
        ));
    }
}

#[allow(clippy::disallowed_methods)]
pub fn micros() -> i64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

fn past(seconds: i64) -> i64 {
    micros() - seconds * 1_000_000
}

fn settings() -> Settings {
    let app = OAuthApp {
        client_id: CLIENT_ID.to_owned(),
        client_secret: Some(Zeroizing::new(CLIENT_SECRET.to_owned())),
    };
    let app = Arc::new(app);
    let mut settings = Settings::default();
    settings.oauth.apps = ["reusable", "rotating", "single"]
        .map(|id| (id.to_owned(), app.clone()))
        .into_iter()
        .collect::<BTreeMap<_, _>>();
    settings.oauth.redirect_uris = vec![REDIRECT_URI.to_owned()];
    settings.renew = RenewSettings {
        upkeep: false,
        ..RenewSettings::default()
    };
    settings
}

impl Node {
    pub async fn ctx(&self) -> Context {
        let tenant = self.tenant.to_string();
        let request = self.broker.new_request_id();
        self.broker
            .identify(Some(&self.key), Some(&tenant), request, None)
            .await
            .unwrap()
    }

    /// An integration with tokens of a grant of that class, which are live.
    pub async fn connect(&self, rig: &Rig, name: &str, class: Class) -> IntegrationId {
        let (access_token, refresh_token) = rig.server.grant(class);
        let new = NewIntegration {
            name: name.to_owned(),
            type_: provider(class).0.to_owned(),
            credentials: json!({ "access_token": access_token, "refresh_token": refresh_token }),
            config: Map::new(),
        };
        let ctx = self.ctx().await;
        let made = self.broker.create_integration(&ctx, new, None);
        let id = made.await.unwrap().integration.id;
        // Tokens that were brought along are renewed at once, by the first trial.
        self.becomes(id, |row| row.token_version == 2).await;
        let connected = keystead_store::Status::Connected;
        loop {
            let found = self.store.find_integration(self.tenant, id).await.unwrap();
            if found.unwrap().status == connected {
                return id;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn row(&self, id: IntegrationId) -> TokenSetRow {
        let found = self.store.find_token_set(self.tenant, id).await;
        found.unwrap().unwrap()
    }

    /// Waits for the row to be so.
    pub async fn becomes(&self, id: IntegrationId, so: impl Fn(&TokenSetRow) -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let found = self.store.find_token_set(self.tenant, id).await;
            if let Ok(Some(row)) = &found
                && so(row)
            {
                return;
            }
            assert!(Instant::now() < until, "{found:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Hears what was changed behind its back.
    pub async fn hear(&self, id: IntegrationId) {
        // A change of any kind has the row read again.
        let ctx = self.ctx().await;
        let changes = Changes {
            name: Some(format!("renamed-{}", micros())),
            ..Changes::default()
        };
        let done = self.broker.update_integration(&ctx, id, changes, None);
        done.await.unwrap();
        self.broker.hear_changes().await.unwrap();
    }

    pub async fn change(&self, id: IntegrationId, changes: Changes) -> Integration {
        let ctx = self.ctx().await;
        let done = self.broker.update_integration(&ctx, id, changes, None);
        done.await.unwrap()
    }

    /// Tries it, as a person who asks for that.
    pub async fn test(&self, id: IntegrationId) -> TestReport {
        let ctx = self.ctx().await;
        self.broker.test_integration(&ctx, id).await.unwrap()
    }

    /// Its owner consents anew, and its first trial ends.
    pub async fn consent(&self, rig: &Rig, id: IntegrationId, class: Class) {
        self.authorise(rig, id, class).await.unwrap();
        self.tried(id).await;
    }

    /// Its owner consents anew.
    pub async fn authorise(&self, rig: &Rig, id: IntegrationId, class: Class) -> Result<(), Error> {
        let ctx = self.ctx().await;
        let begin = Begin {
            type_: provider(class).0.to_owned(),
            integration: Some(id),
            name: None,
            config: Map::new(),
            session: None,
        };
        let way = Way::Caller(REDIRECT_URI.to_owned());
        let begun = self.broker.begin_authorization(&ctx, begin, way).await;
        let back = Back {
            state: begun.unwrap().state,
            code: Some(Zeroizing::new(rig.server.code(class))),
            iss: None,
            error: None,
            browser: None,
            query: None,
            own: None,
        };
        let done = self.broker.complete_authorization(&ctx, back).await;
        done.map(drop).map_err(|incomplete| incomplete.error)
    }

    /// Waits for the trial that is under way.
    pub async fn tried(&self, id: IntegrationId) {
        loop {
            let found = self.store.find_integration(self.tenant, id).await.unwrap();
            if found.unwrap().status != keystead_store::Status::Verifying {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn seen(&self, id: IntegrationId) -> Integration {
        let ctx = self.ctx().await;
        self.broker.integration(&ctx, id).await.unwrap()
    }

    /// Calls the API: its status.
    pub async fn call(&self, id: IntegrationId) -> Result<u16, Error> {
        self.call_with(id, Bytes::new()).await
    }

    pub async fn call_with(&self, id: IntegrationId, body: Bytes) -> Result<u16, Error> {
        let ctx = self.ctx().await;
        let request = http::Request::post("/").body(Full::new(body)).unwrap();
        let answer = self
            .broker
            .forward(&ctx, &Selector::Id(id), None, "/v1/me", None, request)
            .await?;
        let status = answer.status().as_u16();
        let _ = answer.into_body().collect().await;
        Ok(status)
    }

    pub async fn reveal(&self, id: IntegrationId) -> Result<Value, Error> {
        let ctx = self.ctx().await;
        let revealed = self.broker.reveal_integration(&ctx, id).await?;
        Ok(serde_json::from_slice(&revealed.into_json()).unwrap())
    }
}
