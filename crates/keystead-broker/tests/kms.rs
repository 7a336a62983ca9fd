//! A key service that denies, hangs up, or hands back another key.
#![allow(clippy::unwrap_used)]

mod house;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use house::{House, NOON, Plan, TRUE_KEY};
use keystead_broker::kms::{Kms, KmsError, KmsFuture};
use keystead_broker::{Broker, Clock, ClockHand, Error, KeyringSettings, Selector, Settings};
use keystead_core::action::Role;
use keystead_core::ids::InstallationId;
use keystead_core::seal::SealKey;
use keystead_core::time::Time;
use serde_json::json;

/// How it behaves now.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Denies,
    Unreachable,
    /// Gives back a key, and not the one that it was given.
    OtherKey,
}

/// A key service of the tests; it keeps the root key by itself.
struct FakeKms {
    mood: Mutex<Mood>,
    root: Mutex<Option<[u8; 32]>>,
    calls: AtomicUsize,
}

impl FakeKms {
    fn new() -> Arc<FakeKms> {
        Arc::new(FakeKms {
            mood: Mutex::new(Mood::Well),
            root: Mutex::new(None),
            calls: AtomicUsize::new(0),
        })
    }

    fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn driver(self: &Arc<FakeKms>) -> Box<dyn Kms> {
        Box::new(Handle(self.clone()))
    }

    fn answer(&self) -> Result<(), KmsError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match *self.mood.lock().unwrap() {
            Mood::Well | Mood::OtherKey => Ok(()),
            Mood::Denies => Err(KmsError::Denied("the key is disabled".into())),
            Mood::Unreachable => Err(KmsError::Unreachable("connection refused".into())),
        }
    }
}

struct Handle(Arc<FakeKms>);

impl Kms for Handle {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn wrap<'a>(&'a self, root: &'a SealKey, _: InstallationId) -> KmsFuture<'a, Vec<u8>> {
        Box::pin(async move {
            self.0.answer()?;
            *self.0.root.lock().unwrap() = Some(*root.dangerous_bytes());
            Ok(b"wrapped".to_vec())
        })
    }

    fn unwrap<'a>(&'a self, _: &'a [u8], _: InstallationId) -> KmsFuture<'a, SealKey> {
        Box::pin(async move {
            self.0.answer()?;
            let mut root = self.0.root.lock().unwrap().unwrap();
            if *self.0.mood.lock().unwrap() == Mood::OtherKey {
                root[0] ^= 1;
            }
            Ok(SealKey::from_bytes(root))
        })
    }
}

const KEYRING: KeyringSettings = KeyringSettings {
    reopen: Duration::from_secs(3600),
    grace: Duration::from_secs(4 * 3600),
};

async fn house(kms: &Arc<FakeKms>) -> (House, ClockHand) {
    let (clock, hand) = Clock::fixed(NOON);
    let plan = Plan {
        clock,
        kms: Some(kms.driver()),
        settings: Settings {
            keyring: KEYRING,
            ..Settings::default()
        },
        ..Plan::default()
    };
    (House::planned(plan).await, hand)
}

fn later(hours: i64) -> Time {
    NOON.plus_seconds(hours * 3600 + 1)
}

/// The clock moves on, the node hears its feed and asks its key service.
async fn at(broker: &Broker, hand: &ClockHand, time: Time) {
    hand.set(time);
    broker.hear_changes().await.unwrap();
    broker.hear_kms().await;
}

#[tokio::test]
async fn a_key_service_that_denies_stops_every_use_until_it_permits_again() {
    let kms = FakeKms::new();
    let (house, hand) = house(&kms).await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let service = house.service_key("reveal").await;
    let service = house.ctx(&service, Some("acme")).await.unwrap();
    let id = house.connected(&alice).await;
    kms.becomes(Mood::Denies);
    // Not asked yet: the keys at hand serve on.
    at(&house.broker, &hand, NOON.plus_seconds(1800)).await;
    assert_eq!(house.models(&alice, Selector::Id(id)).await.unwrap().0, 200);

    at(&house.broker, &hand, later(1)).await;
    let heard = house.upstream.seen().len();
    let away = |fault: Error| {
        let Error::Unavailable { what, .. } = fault else {
            panic!("{fault:?}");
        };
        assert_eq!(what, "the key service");
    };
    away(house.models(&alice, Selector::Id(id)).await.unwrap_err());
    away(house.reveal(&service, id).await.unwrap_err());
    away(house.broker.test_integration(&alice, id).await.unwrap_err());
    let made = house
        .create(&alice, "new", "openai", json!(TRUE_KEY), None)
        .await;
    away(made.err().unwrap());
    let stranger = house
        .ctx(&house.jwt("carol", "initech", Role::Owner), None)
        .await;
    away(stranger.err().unwrap());
    for action in ["use", "reveal", "test", "put"] {
        let action = format!(r#""action":"{action}""#);
        let refused = [&*action, r#""outcome":"failed","reason":"unavailable""#];
        assert_eq!(house.entries(&refused).await, 1, "{action}");
    }
    assert_eq!(house.upstream.seen().len(), heard);
    let ready = house.broker.ready().await;
    assert!(!ready.ok());
    let why = ready.parts["kms"].clone().unwrap_err();
    assert!(!why.is_empty() && ready.parts["store"].is_ok(), "{ready:?}");
    // What needs no key goes on.
    house.broker.integration(&alice, id).await.unwrap();

    kms.becomes(Mood::Well);
    at(&house.broker, &hand, later(1).plus_seconds(5)).await;
    assert!(house.broker.ready().await.ok());
    let alice = house.user("alice", "acme", Role::Owner).await;
    assert_eq!(house.models(&alice, Selector::Id(id)).await.unwrap().0, 200);
    house.log_is_clean().await;
}

#[tokio::test]
async fn a_key_service_that_cannot_be_reached_is_forgiven_until_the_grace_ends() {
    let kms = FakeKms::new();
    let (house, hand) = house(&kms).await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.connected(&alice).await;
    kms.becomes(Mood::Unreachable);
    for hours in [1, 2, 3] {
        at(&house.broker, &hand, later(hours)).await;
        assert!(house.broker.ready().await.ok());
        assert_eq!(house.models(&alice, Selector::Id(id)).await.unwrap().0, 200);
        // Tenants that are new to this node are served too.
        let new = house
            .user("bob", &format!("tenant-{hours}"), Role::Owner)
            .await;
        house.add(&new, "main", TRUE_KEY).await;
    }
    at(&house.broker, &hand, later(4)).await;
    let used = house.models(&alice, Selector::Id(id)).await;
    assert!(matches!(used, Err(Error::Unavailable { .. })), "{used:?}");
    assert!(house.broker.ready().await.parts["kms"].is_err());
    kms.becomes(Mood::Well);
    at(&house.broker, &hand, later(5)).await;
    assert_eq!(house.models(&alice, Selector::Id(id)).await.unwrap().0, 200);
}

#[tokio::test]
async fn another_key_than_the_one_on_record_is_refused_at_the_start_and_later() {
    let kms = FakeKms::new();
    let (house, hand) = house(&kms).await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.connected(&alice).await;
    for (mood, text) in [
        (Mood::OtherKey, "another key"),
        (Mood::Denies, "refuses"),
        (Mood::Unreachable, "connection refused"),
    ] {
        kms.becomes(mood);
        let parts = house.parts_again(house.store.clone(), kms.driver());
        let fault = Broker::start(parts).await.err().unwrap();
        assert!(format!("{fault:?}").contains(text), "{fault:?}");
    }
    kms.becomes(Mood::OtherKey);
    at(&house.broker, &hand, later(1)).await;
    let used = house.models(&alice, Selector::Id(id)).await;
    assert!(matches!(used, Err(Error::Unavailable { .. })), "{used:?}");
    assert!(house.broker.ready().await.parts["kms"].is_err());
}

#[tokio::test]
async fn another_driver_than_the_one_that_wrapped_is_refused_at_the_start() {
    let house = House::in_file().await;
    let parts = house.parts_again(house.store.clone(), FakeKms::new().driver());
    let fault = Broker::start(parts).await.err().unwrap();
    assert!(
        format!("{fault:?}").contains("set [kms] driver back"),
        "{fault:?}"
    );
}

#[tokio::test]
async fn the_key_service_is_called_as_often_for_200_tenants_as_for_one() {
    let kms = FakeKms::new();
    let (house, hand) = house(&kms).await;
    for tenant in 0..200 {
        let owner = house
            .user("alice", &format!("tenant-{tenant}"), Role::Owner)
            .await;
        let made = house
            .create(&owner, "main", "anthropic", json!(TRUE_KEY), None)
            .await;
        made.unwrap();
    }
    assert_eq!(
        kms.calls.load(Ordering::Relaxed),
        1,
        "the wrap of the first start"
    );
    let parts = house.parts_again(house.store.clone(), kms.driver());
    let again = Broker::start(parts).await.unwrap();
    let service = house.service_key("reveal").await;
    for tenant in 0..200 {
        let tenant = format!("tenant-{tenant}");
        let ctx = house::ctx_at(&again, &service, Some(&tenant))
            .await
            .unwrap();
        let list = house
            .store
            .list_integrations(ctx.tenant.unwrap(), &one())
            .await
            .unwrap();
        again.reveal_integration(&ctx, list[0].id).await.unwrap();
    }
    assert_eq!(again.kms_calls(), 1, "the unwrap of a start");
    at(&again, &hand, later(1)).await;
    at(&again, &hand, later(1).plus_seconds(5)).await;
    assert_eq!(again.kms_calls(), 2, "once an hour");
}

fn one() -> keystead_store::IntegrationFilter {
    keystead_store::IntegrationFilter {
        limit: 1,
        ..Default::default()
    }
}
