//! A whole broker over a store in memory, a key file, a development issuer, and a strict upstream.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test file uses a part of it

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use keystead_broker::callers::{DevIssuer, Verifier};
use keystead_broker::kms::FileKms;
use keystead_broker::net::{Client, ClientConfig};
use keystead_broker::{
    Broker, Clock, Context, Error, Integration, NewIntegration, NewKey, Parts, Selector, Settings,
    Status,
};
use keystead_core::action::Role;
use keystead_core::caller::Scope;
use keystead_core::egress::Guard;
use keystead_core::ids::IntegrationId;
use keystead_core::provider::Catalogue;
use keystead_core::token::KeyKind;
use keystead_store::{Store, StoreConfig};
use keystead_testkit::upstream::Upstream;
use serde_json::{Map, json};

pub const TRUE_KEY: &str = "sk-canary-true-key-0123456789abcdef";

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
        let upstream = Upstream::start(TRUE_KEY).await;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(StoreConfig::new("sqlite::memory:"))
            .await
            .unwrap();
        let issuer = DevIssuer::generate().unwrap();
        let guard = Guard::new(vec!["127.0.0.1/32".parse().unwrap()]);
        let client = Client::new(ClientConfig::new(guard)).unwrap();
        let catalogue = Catalogue::embedded()
            .unwrap()
            .with_settings("openai", Some(&upstream.url()), &[])
            .unwrap();
        let clock = Clock::default();
        let callers = Verifier::new(vec![issuer.settings()], Arc::new(client.clone())).unwrap();
        let broker = Broker::start(Parts {
            store: store.clone(),
            kms: Box::new(FileKms::open(&folder.path().join("root.key"), true).unwrap()),
            client,
            catalogue,
            callers,
            settings,
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
        House {
            broker,
            store,
            upstream,
            issuer,
            operator,
            clock,
            folder,
        }
    }

    pub fn jwt(&self, subject: &str, tenant: &str, role: Role) -> String {
        let hour = Duration::from_secs(3600);
        self.issuer
            .mint(subject, Some(tenant), Some(role), hour, self.clock.now())
            .unwrap()
    }

    pub async fn ctx(&self, token: &str, tenant: Option<&str>) -> Result<Context, Error> {
        let request = self.broker.new_request_id();
        self.broker
            .identify(Some(token), tenant, request, Some([127, 0, 0, 1].into()))
            .await
    }

    pub async fn user(&self, subject: &str, tenant: &str, role: Role) -> Context {
        self.ctx(&self.jwt(subject, tenant, role), None)
            .await
            .unwrap()
    }

    pub async fn service_key(&self, scope: &str) -> String {
        let operator = self.ctx(&self.operator, None).await.unwrap();
        let made = self
            .broker
            .create_key(
                &operator,
                NewKey {
                    kind: KeyKind::Service,
                    name: "backend".into(),
                    tenant: None,
                    scopes: vec![Scope::parse(scope).unwrap()],
                    addresses: Vec::new(),
                    expires_at: None,
                },
            )
            .await
            .unwrap();
        made.text.expose().to_owned()
    }

    pub async fn add(&self, ctx: &Context, name: &str, key: &str) -> Integration {
        let new = NewIntegration {
            name: name.into(),
            type_: "openai".into(),
            credentials: json!(key),
            config: Map::new(),
        };
        self.broker
            .create_integration(ctx, new, None)
            .await
            .unwrap()
            .integration
    }

    /// Waits for the background trial to end.
    pub async fn settled(&self, ctx: &Context, id: IntegrationId) -> Integration {
        for _ in 0..200 {
            let seen = self.broker.integration(ctx, id).await.unwrap();
            if seen.status != Status::Verifying {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the integration is still being verified");
    }

    pub async fn models(&self, ctx: &Context, to: Selector) -> Result<(u16, String), Error> {
        let request = http::Request::get("/")
            .body(Full::new(Bytes::new()))
            .unwrap();
        let answer = self
            .broker
            .forward(ctx, &to, None, "/v1/models", None, request)
            .await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        Ok((status, String::from_utf8(body.to_vec()).unwrap()))
    }

    /// All entries of the log, as stored.
    pub async fn log(&self) -> Vec<String> {
        self.store.leaves(0, 100_000).await.unwrap()
    }
}
