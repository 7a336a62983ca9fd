//! Batches: what is selected, who may, and that they are finished whatever happens in between.

use keystead_broker::{BatchState, Context, Error, NewRevocation};
use keystead_core::action::{Action, Outcome, Role, TargetKind};
use keystead_core::entry::Entry;
use keystead_core::ids::{BatchId, IntegrationId, TenantId};
use keystead_core::log::Settled;
use keystead_store::{BatchRow, Effect, RevocationState, Write};
use keystead_testkit::played::{Answer, Door, Reply};
use serde_json::json;
use uuid::Uuid;

use crate::house::NOON;
use crate::stage::{Stage, of_provider};

/// An entry of that time, as a use leaves it.
async fn used(stage: &Stage, tenant: TenantId, id: IntegrationId, seconds: i64) {
    let entry = Entry {
        at: NOON.plus_seconds(seconds),
        tenant,
        caller: "service",
        by: None,
        action: Action::Use,
        on: TargetKind::Integration,
        target: Some(id.to_string()),
        outcome: Outcome::Allowed,
        reason: None,
        version: Some(1),
        tokens: None,
        request: stage.house.broker.new_request_id(),
        address: None,
    };
    let effects = Vec::new();
    let write = Write { entry, effects };
    stage.house.store.append(write).await.unwrap();
}

async fn states(
    stage: &Stage,
    ctx: &Context,
    batch: BatchId,
) -> Vec<(IntegrationId, RevocationState)> {
    let items = stage.closed(ctx, batch).await;
    items
        .iter()
        .map(|item| (item.integration, item.state))
        .collect()
}

#[tokio::test]
async fn an_operator_takes_a_providers_grants_back_from_all_tenants_and_leaves_the_others() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let bob = stage.house.user("bob", "globex", Role::Owner).await;
    let mut meant = Vec::new();
    for (owner, name) in [(&alice, "one"), (&alice, "two"), (&bob, "three")] {
        meant.push((
            stage.add(owner, name, "revocable").await,
            RevocationState::Confirmed,
        ));
    }
    let first = meant[0].0;
    let other = stage.add(&alice, "other", "mute").await;
    let broker = &stage.house.broker;
    let operator = stage.house.operator().await;
    let preview = broker.preview_revocation(&operator, of_provider("revocable"));
    let preview = preview.await.unwrap();
    assert_eq!((preview.total, preview.first.len()), (3, 3));
    assert_eq!(stage.asked(), 0);
    let mut new = of_provider("revocable");
    new.reason = Some("they were breached".to_owned());
    let batch = broker.create_revocation(&operator, new).await.unwrap();
    assert_eq!(batch.state, BatchState::Selecting);
    let mut found = states(&stage, &operator, batch.id).await;
    found.sort_by_key(|(id, _)| *id);
    meant.sort_by_key(|(id, _)| *id);
    assert_eq!(found, meant);
    // One key for all of them: the second time it was gone already.
    assert_eq!(stage.asked(), 3);
    let row = broker.integration(&alice, first).await.unwrap();
    assert_eq!(row.status.as_str(), "disabled");
    let told = row.error_message.unwrap();
    assert!(
        told.starts_with("revoked at ") && told.contains(&batch.id.to_string()),
        "{told}"
    );
    let row = broker.integration(&alice, other).await.unwrap();
    assert_ne!(row.status.as_str(), "disabled");
    let receipt = stage.receipt(&operator, batch.id).await;
    assert_eq!(
        receipt.selection,
        json!({"provider": "revocable", "reason": "they were breached"})
    );
    assert_eq!(receipt.count(Settled::Confirmed), 3);
    // The platform's batch is the platform's.
    let foreign = broker.find_revocation(&alice, batch.id, 9, None).await;
    assert!(matches!(foreign, Err(Error::NotFound { .. })));
    let listed = broker.list_revocations(&operator, 9, None).await.unwrap();
    assert_eq!(listed.data[0].id, batch.id);
    let listed = broker.list_revocations(&alice, 9, None).await.unwrap();
    assert_eq!(listed.data.len(), 0);
    // What was taken back is not taken back again.
    let again = broker.preview_revocation(&operator, of_provider("revocable"));
    assert_eq!(again.await.unwrap().total, 0);
    let again = broker.create_revocation(&operator, of_provider("revocable"));
    assert_eq!(states(&stage, &operator, again.await.unwrap().id).await, []);
    assert_eq!(stage.asked(), 3);
}

#[tokio::test]
async fn what_was_used_in_a_time_is_found_though_it_was_used_again_later() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let tenant = alice.tenant.unwrap();
    let mut ids = Vec::new();
    for name in ["before", "within", "and later", "after", "never"] {
        let id = stage.add(&alice, name, "mute").await;
        // A trial is a use too, and stands in the log with the time of this test.
        stage.house.settled(&alice, id).await;
        ids.push(id);
    }
    const DAY: i64 = 24 * 3600;
    // Entries stand in the order in which they were written, and their times nearly so.
    used(&stage, tenant, ids[0], 10 * DAY - 1).await;
    used(&stage, tenant, ids[1], 10 * DAY).await;
    used(&stage, tenant, ids[3], 10 * DAY + 1000).await;
    used(&stage, tenant, ids[2], 10 * DAY + 999).await;
    for id in &ids[..4] {
        used(&stage, tenant, *id, 20 * DAY).await;
    }
    stage.at(30 * DAY);
    let from = NOON.plus_seconds(10 * DAY);
    let new = NewRevocation {
        used_between: Some((from, from.plus_seconds(1000))),
        ..NewRevocation::default()
    };
    let operator = stage.house.operator().await;
    let broker = &stage.house.broker;
    let preview = broker.preview_revocation(&operator, new.clone()).await;
    assert_eq!(preview.unwrap().total, 2);
    let batch = broker.create_revocation(&operator, new).await.unwrap();
    let mut found = states(&stage, &operator, batch.id).await;
    found.sort_by_key(|(id, _)| *id);
    let mut meant = [ids[1], ids[2]].map(|id| (id, RevocationState::Unsupported));
    meant.sort_by_key(|(id, _)| *id);
    assert_eq!(found, meant);
}

#[tokio::test]
async fn a_batch_whose_node_died_is_taken_up_again_from_wherever_it_was() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let tenant = alice.tenant.unwrap();
    for name in ["one", "two", "three"] {
        stage.add(&alice, name, "revocable").await;
    }
    // As a node leaves it that dies when the batch is made.
    let batch = BatchRow {
        tenant,
        id: BatchId::from_uuid(Uuid::from_u128(7)),
        asked_by: "dev|alice".to_owned(),
        selector: json!({"tenant": tenant, "provider": "revocable"}).to_string(),
        total: None,
        created_at: stage.at(5),
        closed_at: None,
        receipt: None,
    };
    let entry = Entry {
        at: NOON,
        tenant,
        caller: "user",
        by: None,
        action: Action::Delete,
        on: TargetKind::Integration,
        target: None,
        outcome: Outcome::Allowed,
        reason: None,
        version: None,
        tokens: None,
        request: stage.house.broker.new_request_id(),
        address: None,
    };
    let effects = vec![Effect::InsertBatch(Box::new(batch.clone()))];
    stage
        .house
        .store
        .append(Write { entry, effects })
        .await
        .unwrap();
    let found = stage.batch(&alice, batch.id).await;
    assert_eq!(found.batch.state, BatchState::Selecting);
    // While somebody works on it, nobody else does.
    let name = batch.id.to_string();
    let store = &stage.house.store;
    assert!(
        store
            .take_duty(&name, "a node", 3600)
            .await
            .unwrap()
            .is_some()
    );
    stage.house.broker.due_revocations().await.unwrap();
    assert_eq!(stage.asked(), 0);
    assert!(store.take_duty(&name, "a node", 0).await.unwrap().is_some());
    // Its time is over; the provider is down while the next one begins, which dies too.
    stage
        .played
        .answers(Door::Revoke, Answer::With(Reply::json(500, &json!({}))));
    stage.house.broker.due_revocations().await.unwrap();
    assert_eq!(stage.asked(), 3);
    stage.played.answers(Door::Revoke, Answer::WellPlayed);
    stage.at(1000);
    let neighbour = stage.neighbour().await;
    neighbour.due_revocations().await.unwrap();
    assert_eq!(stage.asked(), 6);
    let items = stage.closed(&alice, batch.id).await;
    assert_eq!(items.len(), 3);
    assert!(
        items
            .iter()
            .all(|item| item.state == RevocationState::Confirmed)
    );
    let entries = stage
        .house
        .entries(&["all that it selects is out of use"])
        .await;
    assert_eq!(entries, 1);
}

#[tokio::test]
async fn a_selection_of_many_is_taken_out_in_pages() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    for number in 0..450 {
        stage.add(&alice, &format!("n{number}"), "mute").await;
    }
    let broker = &stage.house.broker;
    let batch = broker.create_revocation(&alice, of_provider("mute"));
    let batch = batch.await.unwrap();
    stage.closed(&alice, batch.id).await;
    let mut seen = 0;
    let mut after = None;
    loop {
        let page = broker.find_revocation(&alice, batch.id, 200, after).await;
        let page = page.unwrap();
        assert_eq!(page.batch.total, 450);
        seen += page.items.data.len();
        after = page.items.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, 450);
    assert_eq!(stage.receipt(&alice, batch.id).await.items.len(), 450);
}

#[tokio::test]
async fn who_may_not_delete_all_that_is_selected_may_revoke_none_of_it() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let acme = alice.tenant.unwrap();
    let id = stage.add(&alice, "main", "revocable").await;
    let bob = stage.house.user("bob", "globex", Role::Owner).await;
    let others = stage.add(&bob, "main", "revocable").await;
    let user = async |role| stage.house.user("carol", "acme", role).await;
    let service = async |scope: &str| {
        let key = stage.house.key(scope, scope, Some(acme)).await;
        stage.house.ctx(&key, None).await.unwrap()
    };
    let all = || NewRevocation {
        tenant: Some(acme.to_string()),
        ..NewRevocation::default()
    };
    let one = |id| NewRevocation {
        integrations: vec![id],
        ..NewRevocation::default()
    };
    let scoped = format!("delete:revocable:{id}");
    let broker = &stage.house.broker;
    for (who, ctx, new, expected) in [
        ("a viewer", user(Role::Viewer).await, all(), "denied"),
        ("a member", user(Role::Member).await, all(), "denied"),
        ("an admin", user(Role::Admin).await, all(), "allowed"),
        (
            "the owner of another tenant",
            bob.clone(),
            all(),
            "not found",
        ),
        (
            "the owner of another tenant",
            bob.clone(),
            one(id),
            "not found",
        ),
        (
            "an owner of another's",
            alice.clone(),
            one(others),
            "not found",
        ),
        (
            "a key that may not",
            service("use,info,reveal").await,
            all(),
            "denied",
        ),
        ("a key that may", service("delete").await, all(), "allowed"),
        (
            "a key of a provider",
            service("delete:revocable").await,
            all(),
            "denied",
        ),
        (
            "a key of a provider",
            service("delete:revocable").await,
            of_provider("revocable"),
            "allowed",
        ),
        (
            "a key of another provider",
            service("delete:mute").await,
            of_provider("revocable"),
            "denied",
        ),
        (
            "a key of one",
            service(&scoped).await,
            of_provider("revocable"),
            "denied",
        ),
        ("a key of one", service(&scoped).await, one(id), "allowed"),
        (
            "an operator",
            stage.house.operator().await,
            all(),
            "allowed",
        ),
        (
            "an operator",
            stage.house.operator().await,
            one(others),
            "allowed",
        ),
    ] {
        // Looking first is decided as doing it is.
        let told = match broker.preview_revocation(&ctx, new).await {
            Ok(_) => "allowed",
            Err(fault) => fault.word(),
        };
        assert_eq!(told, expected, "{who}");
    }
    let nobody = Context::anonymous(broker.new_request_id(), None);
    let told = broker.create_revocation(&nobody, all()).await;
    assert!(matches!(told, Err(Error::Unauthenticated)));
    let viewer = user(Role::Viewer).await;
    assert!(broker.create_revocation(&viewer, all()).await.is_err());
    assert!(broker.revoke_integration(&viewer, id, None).await.is_err());
    assert_eq!(stage.asked(), 0);
    assert_eq!(
        broker
            .list_revocations(&alice, 9, None)
            .await
            .unwrap()
            .data
            .len(),
        0
    );
}

#[tokio::test]
async fn what_selects_nothing_or_is_no_provider_is_refused() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let broker = &stage.house.broker;
    let backwards = NewRevocation {
        used_between: Some((NOON, NOON)),
        ..NewRevocation::default()
    };
    let long = NewRevocation {
        reason: Some("two\nlines".to_owned()),
        ..of_provider("mute")
    };
    for (new, path) in [
        (NewRevocation::default(), ""),
        (of_provider("revocabel"), "provider"),
        (backwards, "used_between"),
        (long, "reason"),
    ] {
        let Err(Error::Invalid(faults)) = broker.create_revocation(&alice, new).await else {
            panic!("{path}");
        };
        assert_eq!(faults[0].path, path);
    }
}
