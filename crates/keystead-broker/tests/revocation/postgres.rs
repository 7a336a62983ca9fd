//! The whole of it on PostgreSQL, where tenants are kept apart by the database too.

use std::time::Duration;

use keystead_core::action::Role;
use keystead_core::log::Settled;
use keystead_store::{RevocationState, Setup, StoreConfig, setup_postgres};
use keystead_testkit::played::{Answer, Door, Reply};
use serde_json::json;

use crate::stage::{Stage, of_provider};

async fn database() -> StoreConfig {
    let database = tokio::task::spawn_blocking(|| {
        let cluster = keystead_testkit::postgres::shared().unwrap();
        cluster.database().unwrap()
    });
    let report = setup_postgres(Setup {
        admin_url: database.await.unwrap(),
        app_password: [1; 32],
        system_password: [2; 32],
        context_key: [0x42; 32],
        new_passwords: true,
    });
    let report = report.await.unwrap();
    StoreConfig {
        // A test machine may be busy with much else.
        deadline: Duration::from_secs(20),
        ..StoreConfig::new(report.url).with_system_url(report.system_url)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_of_two_tenants_are_taken_back_over_an_outage_on_postgres() {
    let config = database().await;
    let stage = Stage::over(Some(config.clone())).await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let bob = stage.house.user("bob", "globex", Role::Owner).await;
    let deleted = stage.add(&alice, "one", "revocable").await;
    stage.add(&alice, "two", "revocable").await;
    stage.add(&bob, "three", "revocable").await;
    let other = stage.add(&bob, "other", "mute").await;
    let (broker, store) = (&stage.house.broker, &stage.house.store);
    // One, by its owner.
    let begun = broker.revoke_integration(&alice, deleted, None).await;
    let items = stage.closed(&alice, begun.unwrap().batch.id).await;
    assert_eq!(items[0].state, RevocationState::Confirmed);
    // The others, by the operator, while the provider is away.
    let away = Answer::With(Reply::json(503, &json!({})));
    stage.played.answers(Door::Revoke, away);
    let operator = stage.house.operator().await;
    let preview = broker.preview_revocation(&operator, of_provider("revocable"));
    assert_eq!(preview.await.unwrap().total, 2);
    let batch = broker.create_revocation(&operator, of_provider("revocable"));
    let batch = batch.await.unwrap().id;
    let items = stage.tried(&operator, batch).await;
    assert_eq!(items.len(), 2);
    assert!(items.iter().all(|item| item.settled_at.is_none()));
    let foreign = broker.find_revocation(&bob, batch, 9, None).await;
    assert!(foreign.is_err());
    let kept = store.find_integration(bob.tenant.unwrap(), other).await;
    assert!(!kept.unwrap().unwrap().disabled);
    // Another node takes it up.
    stage.played.answers(Door::Revoke, Answer::WellPlayed);
    stage.at(80);
    let neighbour = stage.neighbour_over(config).await;
    neighbour.due_revocations().await.unwrap();
    let items = stage.closed(&operator, batch).await;
    let sure = |state| state == RevocationState::Confirmed;
    assert!(
        items
            .iter()
            .all(|item| sure(item.state) && item.attempts == 2)
    );
    assert_eq!(stage.asked(), 5);
    let receipt = stage.receipt(&operator, batch).await;
    assert_eq!(receipt.count(Settled::Confirmed), 2);
    for row in store
        .list_revocations(keystead_core::ids::TenantId::PLATFORM, batch, None, 9)
        .await
        .unwrap()
    {
        assert!(row.sealed.is_none() && row.key_id.is_none());
    }
    // The database lets whoever does this remove the duty too.
    neighbour.upkeep().await;
    let fence = store.take_duty(&batch.to_string(), "anybody", 1).await;
    assert_eq!(fence.unwrap(), Some(1));
    stage.house.log_is_clean().await;
}
