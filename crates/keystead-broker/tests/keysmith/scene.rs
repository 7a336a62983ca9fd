//! A house with one such provider, and the steps of a rotation taken by hand.

use std::time::{Duration, Instant};

use keystead_broker::{
    Broker, Clock, ClockHand, Context, Limits, NewIntegration, RenewSettings, Rotation, Settings,
    Status,
};
use keystead_core::action::Role;
use keystead_core::ids::IntegrationId;
use keystead_core::provider::rotation::Step;
use keystead_core::provider::{Catalogue, ResultClass};
use keystead_store::Store;

use super::Provider;
use crate::house::{House, NOON, Plan};

pub const MINUTE: i64 = 60;
pub const DAY: i64 = 86_400;
/// How long a step is its taker's.
pub const CLAIM: i64 = 120;

/// A house with one such provider, one integration of alice's that works, and a clock that is set.
pub struct Scene {
    pub house: House,
    pub hand: ClockHand,
    pub provider: Provider,
    pub alice: Context,
    pub id: IntegrationId,
}

pub fn catalogue(provider: &Provider) -> Catalogue {
    let catalogue = Catalogue::embedded().unwrap();
    catalogue
        .with_settings(provider.id, Some(&provider.url), &[])
        .unwrap()
}

/// Nothing happens by itself: tests take the steps.
pub fn quiet() -> Settings {
    Settings {
        limits: Limits {
            // They ask often, and the clock stands still.
            user: "1000000/minute".parse().unwrap(),
            ..Limits::default()
        },
        renew: RenewSettings {
            upkeep: false,
            ..RenewSettings::default()
        },
        ..Settings::default()
    }
}

impl Scene {
    pub async fn new(id: &'static str) -> Scene {
        let provider = Provider::start(id).await;
        let (clock, hand) = Clock::fixed(NOON);
        let house = House::planned(Plan {
            settings: quiet(),
            clock,
            in_file: true,
            catalogue: Some(catalogue(&provider)),
            ..Plan::default()
        })
        .await;
        let alice = house.user("alice", "acme", Role::Owner).await;
        let new = NewIntegration {
            name: "main".to_owned(),
            type_: id.to_owned(),
            credentials: provider.credential(),
            config: provider.config().as_object().unwrap().clone(),
        };
        let made = house.broker.create_integration(&alice, new, None).await;
        let id = made.unwrap().integration.id;
        let seen = house.settled(&alice, id).await;
        assert_eq!(seen.status, Status::Connected, "{:?}", seen.error_message);
        let scene = Scene {
            house,
            hand,
            provider,
            alice,
            id,
        };
        scene.provider.world().now = NOON.rfc3339();
        scene
    }

    pub fn broker(&self) -> &Broker {
        &self.house.broker
    }

    /// Another node.
    pub async fn node(&self) -> (Broker, Store) {
        let url = format!("sqlite:{}", self.house.database().display());
        let store = Store::open(keystead_store::StoreConfig::new(url))
            .await
            .unwrap();
        let mut parts = self.house.parts_again(store.clone(), self.house.kms());
        parts.catalogue = catalogue(&self.provider);
        parts.settings = quiet();
        (Broker::start(parts).await.unwrap(), store)
    }

    pub fn pass(&self, seconds: i64) {
        self.hand.set(self.house.clock.now().plus_seconds(seconds));
        self.provider.world().now = self.house.clock.now().rfc3339();
    }

    pub async fn rotate(&self) -> Rotation {
        self.broker()
            .rotate_integration(&self.alice, self.id)
            .await
            .unwrap()
    }

    pub async fn stands(&self) -> Rotation {
        // The owner's token ends; the house's clock goes far.
        let alice = self.house.user("alice", "acme", Role::Owner).await;
        self.broker().rotation(&alice, self.id).await.unwrap()
    }

    /// Takes due steps until that step is reached, which is not itself taken.
    pub async fn until(&self, step: Step) -> Rotation {
        let began = Instant::now();
        loop {
            let stands = self.stands().await;
            if stands.step == step {
                return stands;
            }
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{step:?}: {stands:?}"
            );
            self.broker().upkeep().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The same, with the clock going from one appointment to the next, at most for so long.
    pub async fn through(&self, step: Step, most: i64) -> Rotation {
        let until = self.house.clock.now().plus_seconds(most);
        let mut claimed: Option<Instant> = None;
        loop {
            let stands = self.stands().await;
            if stands.step == step {
                return stands;
            }
            let now = self.house.clock.now();
            assert!(now <= until, "{step:?}: {stands:?}");
            let wait = stands.next.map_or(0, |next| next.0 - now.0) / 1_000_000;
            // Somebody is at it, and the clock is not to run away from under them.
            let since = claimed.get_or_insert_with(Instant::now);
            if wait == CLAIM && since.elapsed() < Duration::from_secs(10) {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            claimed = None;
            if wait > 0 {
                self.pass(wait + 1);
            }
            self.broker().upkeep().await;
        }
    }

    pub async fn version(&self) -> u64 {
        self.seen().await.credential_version
    }

    pub async fn seen(&self) -> keystead_broker::Integration {
        let alice = self.house.user("alice", "acme", Role::Owner).await;
        self.broker().integration(&alice, self.id).await.unwrap()
    }

    pub async fn works(&self) {
        let alice = self.house.user("alice", "acme", Role::Owner).await;
        let report = self
            .broker()
            .test_integration(&alice, self.id)
            .await
            .unwrap();
        assert_eq!(report.result, ResultClass::Ok, "{report:?}");
        assert_eq!(self.seen().await.status, Status::Connected);
    }

    /// Nothing of any key is in what people see, and the provider was asked nothing odd.
    pub async fn is_clean(&self) {
        self.house.log_is_clean().await;
        let stands = format!("{:?}", self.stands().await);
        let world = self.provider.world();
        assert_eq!(world.wrong, Vec::<String>::new());
        let log: String = stands;
        for key in world.keys.values() {
            assert!(!log.contains(&key.secret), "{log}");
        }
    }

    /// The keys at the provider.
    pub fn keys(&self) -> Vec<String> {
        self.provider.world().keys.keys().cloned().collect()
    }
}

/// Waits for what goes on in the background.
pub async fn eventually(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Scene {
    pub async fn is_log_clean(&self) {
        self.house.log_is_clean().await;
        assert_eq!(self.provider.world().wrong, Vec::<String>::new());
    }
}
