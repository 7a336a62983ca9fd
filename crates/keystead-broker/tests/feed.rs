//! Several nodes over one database: what one changes, the others heed within a second.
#![allow(clippy::unwrap_used)]

mod house;

use std::sync::atomic::Ordering;

use house::{House, NOON, Plan, TRUE_KEY, ctx_at, models_at};
use keystead_broker::{Broker, Changes, Clock, Error, Selector};
use keystead_core::action::Role;
use keystead_store::{Store, StoreConfig};
use serde_json::json;

/// Both nodes have the integration and the callers in their caches.
async fn warm(broker: &Broker, token: &str, to: &Selector) {
    for _ in 0..2 {
        let ctx = ctx_at(broker, token, Some("acme")).await.unwrap();
        assert_eq!(models_at(broker, &ctx, to.clone()).await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn a_key_revoked_on_one_node_is_refused_by_the_other() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.connected(&alice).await;
    let key = house.service_key("use").await;
    let (other, _store) = house.neighbour().await;
    warm(&other, &key, &Selector::Id(id)).await;
    house.revoke("backend").await;
    other.hear_changes().await.unwrap();
    let refused = ctx_at(&other, &key, Some("acme")).await;
    assert!(matches!(refused, Err(Error::Unauthenticated)));
    assert_eq!(house.entries(&[r#""reason":"revoked key""#]).await, 1);
}

#[tokio::test]
async fn an_integration_changed_on_one_node_is_changed_on_the_other() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.connected(&alice).await;
    let key = house.service_key("use").await;
    let (other, _store) = house.neighbour().await;
    let (by_id, by_type) = (Selector::Id(id), Selector::Type("openai".into()));
    for to in [&by_id, &by_type] {
        warm(&other, &key, to).await;
    }
    let hits = other.counters().cache_hits.load(Ordering::Relaxed);
    assert!(hits >= 2, "the caches are in use");
    let service = ctx_at(&other, &key, Some("acme")).await.unwrap();
    let change = |disabled, credentials: Option<&str>| Changes {
        disabled: Some(disabled),
        credentials: credentials.map(|key| json!(key)),
        ..Changes::default()
    };
    let update = |change| house.broker.update_integration(&alice, id, change, None);

    update(change(true, None)).await.unwrap();
    other.hear_changes().await.unwrap();
    let used = models_at(&other, &service, by_id.clone()).await;
    assert!(
        matches!(
            used,
            Err(Error::Conflict {
                code: "disabled",
                ..
            })
        ),
        "{used:?}"
    );
    let used = models_at(&other, &service, by_type.clone()).await;
    assert!(matches!(used, Err(Error::NotFound { .. })), "{used:?}");

    update(change(false, Some("sk-canary-wrong-key-0123456789ab")))
        .await
        .unwrap();
    other.hear_changes().await.unwrap();
    for to in [&by_id, &by_type] {
        let used = models_at(&other, &service, to.clone()).await;
        assert_eq!(used.unwrap().0, 401, "the new credential is used");
    }

    house
        .broker
        .delete_integration(&alice, id, None)
        .await
        .unwrap();
    other.hear_changes().await.unwrap();
    for to in [by_id, by_type] {
        let used = models_at(&other, &service, to).await;
        assert!(matches!(used, Err(Error::NotFound { .. })), "{used:?}");
    }
}

#[tokio::test]
async fn a_tenant_deleted_on_one_node_is_gone_on_the_other() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.connected(&alice).await;
    let bound = house.key("bound", "use", alice.tenant).await;
    let (other, _store) = house.neighbour().await;
    warm(&other, &bound, &Selector::Id(id)).await;
    let held = ctx_at(&other, &bound, None).await.unwrap();
    let tenant = alice.tenant.unwrap();
    house.broker.delete_tenant(&alice, tenant).await.unwrap();
    other.hear_changes().await.unwrap();
    let refused = ctx_at(&other, &bound, None).await;
    assert!(matches!(refused, Err(Error::Unauthenticated)));
    let used = models_at(&other, &held, Selector::Id(id)).await;
    assert!(matches!(used, Err(Error::NotFound { .. })), "{used:?}");
}

#[tokio::test]
async fn a_node_that_hears_nothing_for_a_second_believes_none_of_its_caches() {
    let (clock, hand) = Clock::fixed(NOON);
    let house = House::planned(Plan {
        clock,
        in_file: true,
        ..Plan::default()
    })
    .await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.connected(&alice).await;
    let key = house.service_key("use,info").await;
    let hits = || house.broker.counters().cache_hits.load(Ordering::Relaxed);
    let service = house.ctx(&key, Some("acme")).await.unwrap();
    // Once this node has heard of its own changes, the cache is in use.
    house.broker.hear_changes().await.unwrap();
    let cold = hits();
    for _ in 0..100 {
        house.broker.integration(&service, id).await.unwrap();
    }
    assert!(hits() > cold);

    // The feed alone breaks: reading what changed fails, everything else still answers.
    house.tamper(
        "db.execute('ALTER TABLE entry RENAME COLUMN changed TO gone')",
        &[],
    );
    assert!(house.broker.hear_changes().await.is_err());
    let before = hits();
    assert!(
        house.broker.integration(&service, id).await.is_err(),
        "an entry cannot be written"
    );
    assert_eq!(
        hits(),
        before + 1,
        "within the second the cache is believed"
    );
    hand.set(NOON.plus_seconds(1));
    let before = hits();
    let misses = house.broker.counters().cache_misses.load(Ordering::Relaxed);
    assert!(house.broker.integration(&service, id).await.is_err());
    assert_eq!(hits(), before, "a silent node believed its cache");
    assert_eq!(
        house.broker.counters().cache_misses.load(Ordering::Relaxed),
        misses + 1
    );
    assert!(house.broker.ready().await.parts["feed"].is_err());

    // Nor who a caller is: the key is revoked in the database, and no feed tells of it.
    house.tamper(
        "db.execute('UPDATE api_key SET revoked_at = 1 WHERE name = ?', ('backend',))",
        &[],
    );
    assert!(house.ctx(&key, Some("acme")).await.is_err());

    house.tamper(
        "db.execute('ALTER TABLE entry RENAME COLUMN gone TO changed')",
        &[],
    );
    house.broker.hear_changes().await.unwrap();
    assert!(house.broker.ready().await.parts["feed"].is_ok());
    let refused = house.ctx(&key, Some("acme")).await;
    assert!(matches!(refused, Err(Error::Unauthenticated)));
    assert!(house.broker.ready().await.ok(), "that entry was written");
    let before = hits();
    house.broker.integration(&alice, id).await.unwrap();
    house.broker.integration(&alice, id).await.unwrap();
    assert!(hits() > before, "a node that hears again believes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_write_one_log_without_a_gap() {
    let house = House::in_file().await;
    let (other, store) = house.neighbour().await;
    let token = house.jwt("alice", "acme", Role::Owner);
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let broker = if n % 2 == 0 {
                house.broker.clone()
            } else {
                other.clone()
            };
            let token = token.clone();
            tokio::spawn(async move {
                let ctx = ctx_at(&broker, &token, None).await?;
                let new = keystead_broker::NewIntegration {
                    name: format!("integration {n}"),
                    type_: "anthropic".into(),
                    credentials: json!(TRUE_KEY),
                    config: serde_json::Map::new(),
                };
                broker.create_integration(&ctx, new, None).await
            })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap().unwrap().integration.id);
    }
    // One node's are seen by the other, and the log is one.
    for broker in [&house.broker, &other] {
        broker.hear_changes().await.unwrap();
        let ctx = ctx_at(broker, &token, None).await.unwrap();
        for id in &ids {
            broker.integration(&ctx, *id).await.unwrap();
        }
    }
    assert_eq!(
        house
            .entries(&[r#""reason":"first sight""#, r#""outcome":"allowed""#])
            .await,
        1
    );
    store.prove_log().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_agree_on_one_installation() {
    let house = House::in_file().await;
    let url = format!("sqlite:{}", house.folder.path().join("fresh.db").display());
    let mut starts = Vec::new();
    for _ in 0..3 {
        let store = Store::open(StoreConfig::new(url.clone())).await.unwrap();
        let kms = keystead_broker::kms::FileKms::open(&house.folder.path().join("root.key"), false);
        starts.push(tokio::spawn(Broker::start(
            house.parts_again(store, Box::new(kms.unwrap())),
        )));
    }
    let mut keys = Vec::new();
    for start in starts {
        keys.push(start.await.unwrap().unwrap().verifier_key());
    }
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn a_node_whose_entries_cannot_be_written_is_not_ready_until_one_is() {
    let house = House::in_file().await;
    assert!(house.broker.ready().await.ok());
    house.tamper(
        "db.execute(\"CREATE TRIGGER full BEFORE INSERT ON entry BEGIN SELECT RAISE(ABORT, 'full'); END\")",
        &[],
    );
    let operator = house.operator().await;
    let unwritten = house.broker.list_keys(&operator).await;
    assert!(matches!(unwritten, Err(Error::Unavailable { .. })));
    let ready = house.broker.ready().await;
    let said = ready.parts["store"].as_ref().unwrap_err();
    assert!(said.contains("written"), "{said}");
    house.tamper("db.execute('DROP TRIGGER full')", &[]);
    house.broker.list_keys(&operator).await.unwrap();
    assert!(house.broker.ready().await.ok());
}
