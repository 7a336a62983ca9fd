//! A house whose tenant acme connects accounts at the played provider.

use std::sync::Arc;

use keystead_broker::{Clock, ClockHand, OAuthApp};
use keystead_core::action::Role;
use keystead_core::ids::TenantId;
use keystead_core::time::Time;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{FILE, Heard, Played};
use crate::house::{Answer, House, Plan, request};

/// Ahead of the machine's clock, by which the store forgets what has expired.
pub const NOON: Time = Time(2_082_801_600_000_000);
pub const CLIENT_URI: &str = "https://app.example.com/done";

/// A house, the provider, and the owner of the tenant acme.
pub struct Scene {
    pub house: House,
    pub played: Played,
    pub alice: String,
    pub clock: ClockHand,
}

/// A flow that was begun: what the provider will bring back, and the browser's cookie.
pub struct Flow {
    pub url: url::Url,
    pub state: String,
    pub cookie: String,
}

impl Scene {
    pub async fn new() -> Scene {
        Scene::with(FILE).await
    }

    pub async fn with(file: &'static str) -> Scene {
        Scene::of(file, Plan::default()).await
    }

    /// Addresses may fail so often.
    pub async fn limited(anonymous: &'static str) -> Scene {
        let anonymous = Some(anonymous);
        Scene::of(
            FILE,
            Plan {
                anonymous,
                ..Plan::default()
            },
        )
        .await
    }

    /// Acme has a callback of its own.
    pub async fn apart() -> Scene {
        let mut plan = Plan::default();
        plan.behaviour.oauth.own_callbacks.insert("acme".into());
        Scene::of(FILE, plan).await
    }

    /// A user may ask so often.
    pub async fn asked(user: &'static str) -> Scene {
        let user = Some(user);
        Scene::of(
            FILE,
            Plan {
                user,
                ..Plan::default()
            },
        )
        .await
    }

    async fn of(file: &'static str, plan: Plan) -> Scene {
        let (played, url) = Played::start().await;
        let (clock, hand) = Clock::fixed(NOON);
        let mut behaviour = keystead_broker::Settings::default();
        let app = OAuthApp {
            client_id: "our-app".into(),
            client_secret: Some(Zeroizing::new("canary-our-secret".into())),
        };
        behaviour.oauth.apps.insert("acme".into(), Arc::new(app));
        behaviour.oauth.redirect_uris = vec![CLIENT_URI.into()];
        behaviour.oauth.own_callbacks = plan.behaviour.oauth.own_callbacks.clone();
        let house = House::planned(Plan {
            behaviour,
            clock,
            files: vec![("acme.toml", file)],
            dial: vec![("acme", url)],
            ..plan
        })
        .await;
        let alice = house.jwt("alice", "acme", Role::Owner);
        Scene {
            house,
            played,
            alice,
            clock: hand,
        }
    }

    pub async fn ask(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        self.house.ask(token, method, path, body).await
    }

    /// Begins as alice.
    pub async fn begin(&self, query: &str) -> Flow {
        let path = format!("/api/oauth/acme/url{query}");
        let begun = self.ask(&self.alice, "GET", &path, Value::Null).await;
        assert_eq!(begun.status, 200, "{}", begun.text());
        let url: url::Url = begun.json()["url"].as_str().unwrap().parse().unwrap();
        let cookie = begun.header("set-cookie").split(';').next().unwrap();
        Flow {
            state: begun.json()["state"].as_str().unwrap().to_owned(),
            cookie: cookie.to_owned(),
            url,
        }
    }

    /// A browser with that cookie comes back.
    pub async fn back(&self, cookie: &str, query: &str) -> Answer {
        self.back_to("/oauth/callback", cookie, query).await
    }

    pub async fn back_to(&self, callback: &str, cookie: &str, query: &str) -> Answer {
        let mut request = request("", "GET", &format!("{callback}?{query}"), String::new());
        if !cookie.is_empty() {
            request
                .headers_mut()
                .insert("cookie", cookie.parse().unwrap());
        }
        self.house.send(request).await
    }

    /// A browser brings consent back.
    pub async fn consent(&self, flow: &Flow) -> Answer {
        let query = format!("state={}&code=canary-code", flow.state);
        self.back(&flow.cookie, &query).await
    }

    pub async fn integrations(&self) -> Vec<Value> {
        let list = self.ask(&self.alice, "GET", "/api/integrations", Value::Null);
        list.await.json()["data"].as_array().unwrap().clone()
    }

    /// One that is connected.
    pub async fn connected(&self) -> String {
        let flow = self.begin("?name=main").await;
        let done = self.consent(&flow).await;
        assert_eq!(done.status, 200, "{}", done.text());
        self.integrations().await[0]["id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// What is stored of it: versions, and the sealed bytes.
    pub async fn stored(&self, id: &str) -> (u64, Option<(u64, Vec<u8>)>) {
        let tenant = self.tenant().await;
        let id = id.parse().unwrap();
        let row = self
            .house
            .store
            .find_integration(tenant, id)
            .await
            .unwrap()
            .unwrap();
        let tokens = self.house.store.find_token_set(tenant, id).await.unwrap();
        (
            row.credential_version,
            tokens.map(|row| (row.token_version, row.sealed)),
        )
    }

    pub async fn tenant(&self) -> TenantId {
        let found = self
            .house
            .store
            .find_tenant_by_external("keystead-dev", "acme")
            .await;
        found.unwrap().unwrap().id
    }

    /// Entries with all of these pieces.
    pub async fn entries(&self, pieces: &[&str]) -> usize {
        let log = self.house.log().await;
        let texts = log.iter().map(Value::to_string);
        texts
            .filter(|entry| pieces.iter().all(|piece| entry.contains(piece)))
            .count()
    }

    pub async fn log_is_clean(&self) {
        let log = self.house.log().await;
        let text = log.iter().map(Value::to_string).collect::<String>();
        assert!(!text.contains("canary"), "{text}");
    }

    pub fn exchanges(&self) -> Vec<Heard> {
        self.played.heard("/token")
    }
}

impl Flow {
    pub fn param(&self, name: &str) -> String {
        let found = self.url.query_pairs().find(|(known, _)| known == name);
        found.map_or(String::new(), |(_, value)| value.into_owned())
    }
}

pub fn is_plain_page(answer: &Answer) {
    let text = answer.text();
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    let policy = answer.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'self'; "),
        "{policy}"
    );
    assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
    for odd in ["<script", "<style", "http://", "https://", "canary"] {
        assert!(!text.contains(odd), "{odd} in {text}");
    }
}
