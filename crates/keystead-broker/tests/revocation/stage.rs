//! A house with a provider that takes credentials back, and one that does not.

use std::sync::Arc;
use std::time::Duration;

use keystead_broker::{
    BatchPage, Broker, Clock, ClockHand, Context, NewRevocation, Revocation, Settings,
};
use keystead_core::ids::{BatchId, IntegrationId, TenantId};
use keystead_core::log::{RevocationReceipt, VerifierKey};
use keystead_core::provider::Catalogue;
use keystead_core::time::Time;
use keystead_store::{RevocationRow, Store, StoreConfig};
use keystead_testkit::played::{Door, Part, Played};
use serde_json::json;

use crate::house::{House, NOON, Plan};

const REVOCABLE: &str = r#"
id = "revocable"
name = "Revocable"
docs = "https://revocable.example/docs"
hosts = ["revocable.example"]
base_url = "https://revocable.example"
path_prefixes = ["/"]
sdk_token_headers = ["authorization"]
links = { revoke = "https://revocable.example/settings/keys" }

[[mode]]
id = "api_key"
label = "API key"
placement = { kind = "bearer", field = "api_key" }

[[mode.field]]
name = "api_key"
label = "API key"
secret = true
primary = true
example = "canary-revocable-key-0123456789"

[mode.revoke]
[[mode.revoke.call]]
method = "POST"
url = "https://revocable.example/oauth/revoke"
auth = "none"
form = { token = "{api_key}" }
ok = [200, 204]
gone = [404]

[[mode]]
id = "oauth"
label = "Connect with Revocable"
placement = { kind = "bearer", field = "access_token" }
[mode.oauth]
authorize_url = "https://revocable.example/authorize"
token_url = "https://revocable.example/token"
scopes = ["read"]
[mode.oauth.refresh]
class = "single_use"
[mode.revoke]
[[mode.revoke.call]]
method = "POST"
url = "https://revocable.example/grant/revoke"
auth = "app_basic"
form = { token = "{refresh_token|access_token}" }

[test]
path = "/v1/models"
"#;

const MUTE: &str = r#"
id = "mute"
name = "Mute"
docs = "https://mute.example/docs"
hosts = ["mute.example"]
base_url = "https://mute.example"
path_prefixes = ["/"]
sdk_token_headers = ["authorization"]
links = { console = "https://mute.example/console" }

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

/// The page where a person can take a revocable key back.
pub(crate) const PAGE: &str = "https://revocable.example/settings/keys";

pub(crate) struct Stage {
    pub(crate) house: House,
    pub(crate) played: Played,
    pub(crate) hand: ClockHand,
    pub(crate) key: String,
}

fn own() -> Catalogue {
    let files = [("revocable.toml", REVOCABLE), ("mute.toml", MUTE)];
    Catalogue::embedded()
        .and_then(|catalogue| catalogue.with_own(files, false))
        .unwrap()
}

impl Stage {
    pub(crate) async fn new() -> Stage {
        Stage::over(None).await
    }

    /// Over that database, or a file.
    pub(crate) async fn over(store: Option<StoreConfig>) -> Stage {
        let provider = own().get("revocable").unwrap().clone();
        let played = Played::start(Part::invented(Arc::clone(&provider), true)).await;
        let key = played.part().credentials["api_key"]["api_key"].clone();
        let (clock, hand) = Clock::fixed(NOON);
        let house = House::planned(Plan {
            in_file: true,
            store,
            clock,
            catalogue: Some(catalogue(&played)),
            settings: by_hand(),
            ..Plan::default()
        })
        .await;
        Stage {
            house,
            played,
            hand,
            key,
        }
    }

    /// Another node over the same file.
    pub(crate) async fn neighbour(&self) -> Broker {
        let url = format!("sqlite:{}", self.house.database().display());
        self.neighbour_over(StoreConfig::new(url)).await
    }

    /// Another node over the same database.
    pub(crate) async fn neighbour_over(&self, config: StoreConfig) -> Broker {
        let store = Store::open(config).await.unwrap();
        let mut parts = self.house.parts_again(store, self.house.kms());
        parts.catalogue = catalogue(&self.played);
        parts.settings = by_hand();
        Broker::start(parts).await.unwrap()
    }

    pub(crate) async fn add(&self, ctx: &Context, name: &str, type_: &str) -> IntegrationId {
        let made = self
            .house
            .create(ctx, name, type_, json!(self.key), None)
            .await;
        made.unwrap().integration.id
    }

    /// So many seconds after noon.
    pub(crate) fn at(&self, seconds: i64) -> Time {
        let time = NOON.plus_seconds(seconds);
        self.hand.set(time);
        time
    }

    /// How often the provider was asked to take something back.
    pub(crate) fn asked(&self) -> usize {
        self.played.count(Door::Revoke)
    }

    /// Waits until the provider was asked so often.
    pub(crate) async fn comes_to_be_asked(&self, times: usize) {
        for _ in 0..500 {
            if self.asked() >= times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the provider was asked {} times, not {times}", self.asked());
    }

    pub(crate) async fn batch(&self, ctx: &Context, id: BatchId) -> BatchPage {
        let broker = &self.house.broker;
        broker.find_revocation(ctx, id, 200, None).await.unwrap()
    }

    /// Waits until the first attempts of a batch are over, and gives its grants.
    pub(crate) async fn tried(&self, ctx: &Context, id: BatchId) -> Vec<Revocation> {
        self.comes(ctx, id, |page| {
            let over = |item: &Revocation| {
                item.settled_at.is_some() || item.attempts > 0 && item.detail.is_some()
            };
            page.batch.state.as_str() != "selecting" && page.items.data.iter().all(over)
        })
        .await
    }

    /// Waits until a batch is closed, and gives its grants.
    pub(crate) async fn closed(&self, ctx: &Context, id: BatchId) -> Vec<Revocation> {
        self.comes(ctx, id, |page| page.batch.closed_at.is_some())
            .await
    }

    async fn comes(
        &self,
        ctx: &Context,
        id: BatchId,
        is: impl Fn(&BatchPage) -> bool,
    ) -> Vec<Revocation> {
        for _ in 0..1000 {
            let page = self.batch(ctx, id).await;
            if is(&page) {
                return page.items.data;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.batch(ctx, id).await);
    }

    /// The rows of a batch, with what is sealed in them.
    pub(crate) async fn rows(&self, tenant: TenantId, id: BatchId) -> Vec<RevocationRow> {
        let rows = self.house.store.list_revocations(tenant, id, None, 200);
        rows.await.unwrap()
    }

    pub(crate) async fn receipt(&self, ctx: &Context, id: BatchId) -> RevocationReceipt {
        let note = self.house.broker.revocation_receipt(ctx, id).await.unwrap();
        let key: VerifierKey = self.house.broker.verifier_key().parse().unwrap();
        RevocationReceipt::parse_signed(&note, &key).unwrap()
    }
}

/// What is due is done when a test says so.
fn by_hand() -> Settings {
    let mut settings = Settings::default();
    settings.renew.upkeep = false;
    settings
}

fn catalogue(played: &Played) -> Catalogue {
    own()
        .with_settings("revocable", Some(played.url()), &[])
        .and_then(|catalogue| catalogue.with_settings("mute", Some(played.url()), &[]))
        .unwrap()
}

/// All of a provider.
pub(crate) fn of_provider(provider: &str) -> NewRevocation {
    NewRevocation {
        provider: Some(provider.to_owned()),
        ..NewRevocation::default()
    }
}
