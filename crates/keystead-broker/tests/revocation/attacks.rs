//! What somebody tries with an integration that is revoked: none of it works, on no node.

use std::time::Duration;

use http_body_util::BodyExt as _;
use keystead_broker::{Broker, Changes, Context, Error, Selector};
use keystead_core::action::Role;
use keystead_core::ids::{IntegrationId, SealKeyId, TenantId};
use keystead_core::time::Time;
use keystead_store::{
    Effect, ReleaseRenewal, RevocationState, TakeRenewal, TokenSetRow, TokenState, Write,
};
use keystead_testkit::played::{Answer, Door, Reply};
use serde_json::json;

use crate::house::{NOON, call_at, models_at};
use crate::stage::{Stage, of_provider};

async fn add_working(stage: &Stage, owner: &Context) -> IntegrationId {
    let id = stage.add(owner, "main", "revocable").await;
    let seen = stage.house.settled(owner, id).await;
    assert_eq!(
        seen.status.as_str(),
        "connected",
        "{:?}",
        seen.error_message
    );
    id
}

async fn code(broker: &Broker, ctx: &Context, id: IntegrationId) -> &'static str {
    match models_at(broker, ctx, Selector::Id(id)).await {
        Ok(_) => "used",
        Err(Error::Conflict { code, .. }) => code,
        Err(fault) => fault.word(),
    }
}

fn enable(credentials: Option<serde_json::Value>) -> Changes {
    Changes {
        credentials,
        disabled: Some(false),
        ..Changes::default()
    }
}

#[tokio::test]
async fn a_revoked_integration_is_not_used_by_any_way_while_its_provider_does_not_answer() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let id = add_working(&stage, &alice).await;
    let broker = &stage.house.broker;
    let neighbour = stage.neighbour().await;
    let key = stage.house.service_key("use,reveal,test").await;
    let service = stage.house.ctx(&key, Some("acme")).await.unwrap();
    // Both nodes have it in their caches.
    assert_eq!(code(broker, &service, id).await, "used");
    assert_eq!(code(&neighbour, &service, id).await, "used");
    let calls = stage.played.count(Door::Api) + stage.played.count(Door::Test);
    stage.played.answers(Door::Revoke, Answer::Hang);
    let batch = broker.create_revocation(&alice, of_provider("revocable"));
    let batch = batch.await.unwrap();
    stage.comes_to_be_asked(1).await;
    assert_eq!(code(broker, &service, id).await, "disabled");
    let mut last = "";
    for _ in 0..100 {
        neighbour.hear_changes().await.unwrap();
        last = code(&neighbour, &service, id).await;
        if last != "used" {
            break;
        }
    }
    assert_eq!(last, "disabled");
    for node in [broker, &neighbour] {
        assert!(node.test_integration(&alice, id).await.is_err());
        let to = Selector::Type("revocable".to_owned());
        assert!(models_at(node, &service, to).await.is_err());
    }
    // There is nothing in it to be handed out, and nothing to switch on.
    assert_eq!(stage.house.reveal(&service, id).await.ok(), None);
    let enabled = broker.update_integration(&alice, id, enable(None), None);
    assert!(matches!(
        enabled.await,
        Err(Error::Conflict {
            code: "revoked",
            ..
        })
    ));
    assert_eq!(code(broker, &service, id).await, "disabled");
    let now = stage.played.count(Door::Api) + stage.played.count(Door::Test);
    assert!(now <= calls + 1, "a neighbour's last call at the most");
    // A new credential brings it back, and what is under way takes nothing of it.
    let renewed = broker.update_integration(&alice, id, enable(Some(json!(stage.key))), None);
    assert_eq!(renewed.await.unwrap().credential_version, 3);
    stage.played.answers(Door::Revoke, Answer::WellPlayed);
    let items = stage.closed(&alice, batch.id).await;
    assert_eq!(items[0].state, RevocationState::Confirmed);
    assert_eq!(code(broker, &service, id).await, "used");
}

#[tokio::test]
async fn a_trial_that_was_under_way_does_not_bring_a_revoked_integration_back() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let id = add_working(&stage, &alice).await;
    let tried = stage.played.count(Door::Test);
    stage.played.answers(Door::Test, Answer::Hang);
    let (broker, ctx) = (stage.house.broker.clone(), alice.clone());
    let trial = tokio::spawn(async move { broker.test_integration(&ctx, id).await });
    while stage.played.count(Door::Test) == tried {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let broker = &stage.house.broker;
    let batch = broker.create_revocation(&alice, of_provider("revocable"));
    stage.closed(&alice, batch.await.unwrap().id).await;
    let before = broker.integration(&alice, id).await.unwrap();
    stage.played.answers(Door::Test, Answer::WellPlayed);
    let _ = trial.await.unwrap();
    let after = broker.integration(&alice, id).await.unwrap();
    assert_eq!(after.error_message, before.error_message);
    assert_eq!(after.status.as_str(), "disabled");
    let tried = stage.played.count(Door::Test);
    // Looking takes up trials that were lost; not this one.
    stage.at(3600);
    broker.integration(&alice, id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(stage.played.count(Door::Test), tried);
}

#[tokio::test]
async fn an_answer_that_is_streamed_is_cut_when_its_grant_is_taken_back() {
    let house = crate::house::House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let made = house.create(
        &alice,
        "main",
        "sample",
        json!(crate::house::TRUE_KEY),
        None,
    );
    let id = made.await.unwrap().integration.id;
    let mut open = call_at(&house.broker, &alice, Selector::Id(id), "/gated")
        .await
        .unwrap();
    house.upstream.release();
    assert!(open.body_mut().frame().await.unwrap().is_ok());
    let new = keystead_broker::NewRevocation {
        integrations: vec![id],
        ..Default::default()
    };
    let batch = house.broker.create_revocation(&alice, new).await.unwrap();
    let cut = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            match open.body_mut().frame().await {
                Some(Ok(_)) => {}
                ended => return ended.is_none_or(|frame| frame.is_err()),
            }
        }
    });
    assert!(cut.await.unwrap());
    let found = house
        .broker
        .find_revocation(&alice, batch.id, 9, None)
        .await;
    assert_eq!(found.unwrap().batch.total, 1);
}

#[tokio::test]
async fn of_a_revision_that_is_gone_nothing_is_revoked_and_of_a_foreign_one_neither() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let id = add_working(&stage, &alice).await;
    let broker = &stage.house.broker;
    let stale = Some("\"9\"".to_owned());
    let refused = broker.revoke_integration(&alice, id, stale).await;
    assert!(matches!(refused, Err(Error::Precondition)));
    let bob = stage.house.user("bob", "globex", Role::Owner).await;
    let refused = broker.revoke_integration(&bob, id, None).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })));
    assert_eq!(stage.asked(), 0);
    // Of one that is taken back already, the deletion is a plain one.
    let batch = broker.create_revocation(&alice, of_provider("revocable"));
    stage.closed(&alice, batch.await.unwrap().id).await;
    let again = broker.revoke_integration(&alice, id, None).await;
    assert!(matches!(
        again,
        Err(Error::Conflict {
            code: "revoked",
            ..
        })
    ));
    broker.delete_integration(&alice, id, None).await.unwrap();
    assert_eq!(stage.asked(), 1);
    // A deletion that is on record is not a row that was set back, and a revocation is none.
    let operator = stage.house.operator().await;
    assert_eq!(broker.find_set_back(&operator).await.unwrap(), []);
}

#[tokio::test]
async fn a_sealed_grant_that_was_moved_to_another_row_is_not_opened_and_not_sent() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let bob = stage.house.user("bob", "globex", Role::Owner).await;
    stage
        .played
        .answers(Door::Revoke, Answer::With(Reply::json(500, &json!({}))));
    let mut batches = Vec::new();
    for owner in [&alice, &bob] {
        let id = add_working(&stage, owner).await;
        let begun = stage.house.broker.revoke_integration(owner, id, None).await;
        let batch = begun.unwrap().batch.id;
        stage.tried(owner, batch).await;
        batches.push(batch);
    }
    let asked = stage.asked();
    stage.house.tamper(
        "db.execute('UPDATE revocation SET sealed = (SELECT sealed FROM revocation AS other WHERE other.batch_id = ?) WHERE batch_id = ?', (arg[0], arg[1]))",
        &[batches[0].to_string(), batches[1].to_string()],
    );
    stage.played.answers(Door::Revoke, Answer::WellPlayed);
    stage.at(1000);
    stage.house.broker.due_revocations().await.unwrap();
    assert_eq!(stage.asked(), asked + 1);
    let (acme, globex) = (alice.tenant.unwrap(), bob.tenant.unwrap());
    let acmes = &stage.rows(acme, batches[0]).await[0];
    assert_eq!(acmes.state, RevocationState::Confirmed);
    let moved = &stage.rows(globex, batches[1]).await[0];
    assert_eq!(moved.state, RevocationState::Pending);
    assert_eq!(moved.detail.as_deref(), Some("corrupt"));
}

async fn append(stage: &Stage, tenant: TenantId, effect: Effect) {
    let entry = keystead_core::entry::Entry {
        at: NOON,
        tenant,
        caller: "system",
        by: None,
        action: keystead_core::action::Action::Rotate,
        on: keystead_core::action::TargetKind::Integration,
        target: None,
        outcome: keystead_core::action::Outcome::Allowed,
        reason: None,
        version: None,
        tokens: None,
        request: stage.house.broker.new_request_id(),
        address: None,
    };
    let effects = vec![effect];
    stage
        .house
        .store
        .append(Write { entry, effects })
        .await
        .unwrap();
}

fn token_set(tenant: TenantId, integration: IntegrationId, key_id: SealKeyId) -> TokenSetRow {
    TokenSetRow {
        tenant,
        integration,
        credential_version: 1,
        token_version: 1,
        state: TokenState::Live,
        key_id,
        sealed: b"what does not open".to_vec(),
        expires_at: None,
        refresh_expires_at: None,
        renew_at: None,
        holder: None,
        fence: 1,
        lease_until: None,
        intent: false,
        failures: 0,
        failing_since: None,
        problem: None,
        updated_at: NOON,
    }
}

#[tokio::test]
async fn a_renewal_that_is_under_way_is_waited_for_with_the_integration_out_of_use() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let id = add_working(&stage, &alice).await;
    let tenant = alice.tenant.unwrap();
    let store = &stage.house.store;
    let key_id = store.tenant_keys(tenant).await.unwrap()[0].id;
    let row = token_set(tenant, id, key_id);
    append(&stage, tenant, Effect::PutTokenSet(Box::new(row))).await;
    let until = Time(store.clock().await.unwrap().0 + 30_000_000);
    let lease = TakeRenewal {
        tenant,
        integration: id,
        token_version: 1,
        seen_fence: 1,
        holder: "a node".to_owned(),
        until,
    };
    append(&stage, tenant, Effect::TakeRenewal(lease)).await;
    let broker = &stage.house.broker;
    let batch = broker.create_revocation(&alice, of_provider("revocable"));
    let batch = batch.await.unwrap().id;
    stage
        .house
        .comes_to_be_recorded(&["held to be revoked"])
        .await;
    let held = broker.integration(&alice, id).await.unwrap();
    assert_eq!(held.status.as_str(), "disabled");
    // Its answer is to come: what it brings is what has to be taken back.
    assert_eq!(stage.rows(tenant, batch).await.len(), 0);
    let over = ReleaseRenewal {
        tenant,
        integration: id,
        token_version: 1,
        fence: 2,
        keep_intent: false,
        renew_at: None,
        failures: 1,
        failing_since: Some(NOON),
        problem: None,
        at: NOON,
    };
    append(&stage, tenant, Effect::ReleaseRenewal(Box::new(over))).await;
    let items = stage.closed(&alice, batch).await;
    assert_eq!(items.len(), 1);
    // These tokens were invented, and do not open: a person has to look.
    assert_eq!(items[0].state, RevocationState::Failed);
    assert_eq!(store.find_token_set(tenant, id).await.unwrap(), None);
}

#[tokio::test]
async fn tokens_after_a_revocation_have_no_number_of_those_before() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let tenant = alice.tenant.unwrap();
    let granted = json!({"access_token": "canary-access", "refresh_token": "canary-refresh"});
    let made = stage
        .house
        .create(&alice, "main", "revocable", granted.clone(), None);
    let id = made.await.unwrap().integration.id;
    let store = &stage.house.store;
    let before = store.find_token_set(tenant, id).await.unwrap().unwrap();
    let broker = &stage.house.broker;
    let batch = broker.create_revocation(&alice, of_provider("revocable"));
    stage.tried(&alice, batch.await.unwrap().id).await;
    assert_eq!(store.find_token_set(tenant, id).await.unwrap(), None);
    let operator = stage.house.operator().await;
    assert_eq!(broker.find_set_back(&operator).await.unwrap(), []);
    // Those that were revoked are put back by whoever has an old copy.
    append(
        &stage,
        tenant,
        Effect::PutTokenSet(Box::new(before.clone())),
    )
    .await;
    let found = broker.find_set_back(&operator).await.unwrap();
    assert_eq!((found.len(), found[0].tokens), (1, true));
    let again = broker.update_integration(&alice, id, enable(Some(granted)), None);
    again.await.unwrap();
    let after = store.find_token_set(tenant, id).await.unwrap().unwrap();
    assert_eq!(after.credential_version, 3);
    assert!(after.token_version > 2 << 32 && after.fence > 2 << 32);
    assert_eq!(broker.find_set_back(&operator).await.unwrap(), []);
}
