//! What every database must do with revocations and their batches.

use std::collections::BTreeSet;

use keystead_core::action::{Action, Outcome};
use keystead_core::ids::{BatchId, IntegrationId, RevocationId, TenantId};
use keystead_store::{
    BatchRow, Effect, RevocationRow, RevocationSelector, RevocationState, RevokeIntegration,
    SettleRevocation, Store, Write,
};

use crate::fixture::*;

fn settle(row: &RevocationRow, state: RevocationState, seen_attempts: u64) -> Effect {
    Effect::SettleRevocation(SettleRevocation {
        tenant: row.tenant,
        revocation: row.id,
        seen_attempts,
        state,
        detail: Some("http_503".to_owned()),
        attempts: seen_attempts + 1,
        next_at: Some(later(NOW, 60)),
        at: later(NOW, 9),
    })
}

fn close(batch: &BatchRow) -> Effect {
    Effect::CloseBatch {
        tenant: batch.tenant,
        batch: batch.id,
        receipt: "signed".to_owned(),
        at: later(NOW, 9),
    }
}

fn ask(row: &RevocationRow) -> Effect {
    Effect::InsertRevocation(Box::new(row.clone()))
}

async fn does(store: &Store, tenant: TenantId, effect: Effect) -> String {
    outcome(append(store, tenant, vec![effect]).await)
}

async fn items(store: &Store, batch: &BatchRow) -> Vec<RevocationRow> {
    let listed = store.list_revocations(batch.tenant, batch.id, None, 9);
    listed.await.unwrap()
}

pub(super) async fn a_revocation_is_settled_once_and_what_was_sealed_goes(store: Store) {
    let owner = tenant(&store).await;
    for (hash, state) in [
        (1, RevocationState::Confirmed),
        (2, RevocationState::Unsupported),
        (3, RevocationState::Failed),
    ] {
        let had = granted(&store, owner, &format!("n{hash}"), hash).await;
        assert_eq!(
            items(&store, &had.batch).await,
            std::slice::from_ref(&had.revocation)
        );
        let settled = settle(&had.revocation, state, 0);
        assert_eq!(does(&store, owner.0, settled.clone()).await, "done");
        let expected = RevocationRow {
            state,
            key_id: None,
            sealed: None,
            attempts: 1,
            next_at: None,
            detail: Some("http_503".to_owned()),
            settled_at: Some(later(NOW, 9)),
            ..had.revocation.clone()
        };
        let now = items(&store, &had.batch).await;
        assert_eq!(now, std::slice::from_ref(&expected));
        for late in [
            settled,
            settle(&had.revocation, RevocationState::Confirmed, 1),
            settle(&had.revocation, RevocationState::Pending, 1),
        ] {
            let told = does(&store, owner.0, late).await;
            assert_eq!(told, "conflict: revocation");
        }
        assert_eq!(items(&store, &had.batch).await, [expected]);
    }
    let (other, _) = tenant(&store).await;
    let batch = batch(owner.0);
    let nobodys = revocation(other, &batch, owner.1);
    let told = does(&store, other, settle(&nobodys, RevocationState::Failed, 0)).await;
    assert_eq!(told, "missing: revocation");
    let told = does(&store, owner.0, ask(&nobodys)).await;
    assert_eq!(told, "missing: batch");
    // What is settled from the first holds nothing sealed, or is refused.
    let wrong = RevocationRow {
        state: RevocationState::Unsupported,
        settled_at: Some(NOW),
        ..revocation(owner.0, &batch, owner.1)
    };
    let right = RevocationRow {
        key_id: None,
        sealed: None,
        next_at: None,
        ..wrong.clone()
    };
    let insert = Effect::InsertBatch(Box::new(batch.clone()));
    assert_eq!(does(&store, owner.0, insert).await, "done");
    let told = does(&store, owner.0, ask(&wrong)).await;
    assert_eq!(told, "invalid: revocation");
    assert_eq!(does(&store, owner.0, ask(&right)).await, "done");
    assert_eq!(items(&store, &batch).await, [right]);
}

pub(super) async fn a_revocation_that_is_tried_again_stays_whole(store: Store) {
    let owner = tenant(&store).await;
    let had = granted(&store, owner, "main", 1).await;
    let due = async |now| -> Vec<_> {
        let due = store.due_revocations(now, 9).await.unwrap();
        due.into_iter().map(|row| row.id).collect()
    };
    assert_eq!(due(later(NOW, -1)).await, []);
    assert_eq!(due(NOW).await, [had.revocation.id]);
    let again = settle(&had.revocation, RevocationState::Pending, 0);
    assert_eq!(does(&store, owner.0, again.clone()).await, "done");
    let expected = RevocationRow {
        attempts: 1,
        next_at: Some(later(NOW, 60)),
        detail: Some("http_503".to_owned()),
        ..had.revocation.clone()
    };
    let now = items(&store, &had.batch).await;
    assert_eq!(now, std::slice::from_ref(&expected));
    assert_eq!(due(later(NOW, 59)).await, []);
    assert_eq!(due(later(NOW, 60)).await, [had.revocation.id]);
    // One who was paused with what he saw before changes nothing.
    let late = settle(&had.revocation, RevocationState::Failed, 0);
    for late in [again, late] {
        let told = does(&store, owner.0, late).await;
        assert_eq!(told, "conflict: revocation");
    }
    assert_eq!(items(&store, &had.batch).await, [expected]);
    let confirmed = settle(&had.revocation, RevocationState::Confirmed, 1);
    assert_eq!(does(&store, owner.0, confirmed).await, "done");
    assert_eq!(due(later(NOW, 9999)).await, []);
}

pub(super) async fn a_batch_of_the_platforms_goes_across_tenants(store: Store) {
    let (a, b) = (tenant(&store).await, tenant(&store).await);
    let all = batch(TenantId::PLATFORM);
    let (one, two) = (revocation(a.0, &all, a.1), revocation(b.0, &all, b.1));
    let insert = Effect::InsertBatch(Box::new(all.clone()));
    let effects = vec![insert.clone(), ask(&one), ask(&two)];
    append(&store, TenantId::PLATFORM, effects).await.unwrap();
    let told = does(&store, TenantId::PLATFORM, insert).await;
    assert_eq!(told, "duplicate: batch");
    let found = store.find_batch(TenantId::PLATFORM, all.id).await.unwrap();
    assert_eq!(found, Some(all.clone()));
    assert_eq!(store.find_batch(a.0, all.id).await.unwrap(), None);
    assert_eq!(items(&store, &all).await, [one.clone(), two.clone()]);
    let page = async |after, limit| {
        let listed = store.list_revocations(all.tenant, all.id, after, limit);
        listed.await.unwrap()
    };
    assert_eq!(page(None, 1).await, std::slice::from_ref(&one));
    assert_eq!(page(Some(one.id), 9).await, std::slice::from_ref(&two));
    // The same number under another tenant is another batch.
    let other = store.list_revocations(a.0, all.id, None, 9).await.unwrap();
    assert_eq!(other, []);
    // A revocation is its tenant's: nobody settles it in another's name.
    let (tenant, revocation) = (b.0, one.id);
    let foreign = RevocationRow {
        tenant,
        id: revocation,
        ..one.clone()
    };
    let told = does(&store, b.0, settle(&foreign, RevocationState::Failed, 0)).await;
    assert_eq!(told, "missing: revocation");
    let pending = does(&store, TenantId::PLATFORM, close(&all)).await;
    assert_eq!(pending, "conflict: batch");
    for row in [&one, &two] {
        let confirmed = settle(row, RevocationState::Confirmed, 0);
        assert_eq!(does(&store, row.tenant, confirmed).await, "done");
    }
    assert_eq!(does(&store, TenantId::PLATFORM, close(&all)).await, "done");
}

pub(super) async fn a_closed_batch_has_nothing_pending_and_takes_nothing_more(store: Store) {
    let owner = tenant(&store).await;
    let had = granted(&store, owner, "main", 1).await;
    let open = async |after| -> Vec<_> {
        let open = store.open_batches(after, 9).await.unwrap();
        open.into_iter().map(|row| row.id).collect()
    };
    assert_eq!(open(None).await, [had.batch.id]);
    assert_eq!(open(Some(had.batch.id)).await, []);
    let told = does(&store, owner.0, close(&had.batch)).await;
    assert_eq!(told, "conflict: batch");
    let confirmed = settle(&had.revocation, RevocationState::Confirmed, 0);
    assert_eq!(does(&store, owner.0, confirmed).await, "done");
    assert_eq!(does(&store, owner.0, close(&had.batch)).await, "done");
    let expected = BatchRow {
        closed_at: Some(later(NOW, 9)),
        receipt: Some("signed".to_owned()),
        ..had.batch.clone()
    };
    let found = store.find_batch(owner.0, had.batch.id).await.unwrap();
    assert_eq!(found, Some(expected.clone()));
    let told = does(&store, owner.0, close(&had.batch)).await;
    assert_eq!(told, "conflict: batch");
    let more = RevocationRow {
        id: RevocationId::from_uuid(uuid()),
        ..had.revocation.clone()
    };
    let told = does(&store, owner.0, ask(&more)).await;
    assert_eq!(told, "conflict: batch");
    assert_eq!(open(None).await, []);
    let found = store.find_batch(owner.0, had.batch.id).await.unwrap();
    assert_eq!(found, Some(expected));
    let missing = BatchRow {
        id: BatchId::from_uuid(uuid()),
        ..had.batch
    };
    assert_eq!(
        does(&store, owner.0, close(&missing)).await,
        "missing: batch"
    );
}

pub(super) async fn integrations_to_revoke_are_those_that_the_log_says_were_used(store: Store) {
    let (a, b) = (tenant(&store).await, tenant(&store).await);
    let one = connected(&store, a, "one").await;
    let two = connected(&store, a, "two").await;
    let three = connected(&store, b, "three").await;
    let used = async |tenant, integration: IntegrationId, seconds, action, outcome| {
        let entry = keystead_core::entry::Entry {
            at: later(NOW, seconds),
            action,
            outcome,
            target: Some(integration.to_string()),
            ..entry(tenant)
        };
        let effects = Vec::new();
        store.append(Write { entry, effects }).await.unwrap();
    };
    used(a.0, one.id, 10, Action::Use, Outcome::Allowed).await;
    used(a.0, one.id, 90, Action::Use, Outcome::Allowed).await;
    used(a.0, two.id, 20, Action::Use, Outcome::Denied).await;
    used(a.0, two.id, 20, Action::Info, Outcome::Allowed).await;
    used(b.0, three.id, 30, Action::Reveal, Outcome::Allowed).await;
    // Nobody's use of another tenant's integration counts.
    used(b.0, two.id, 20, Action::Use, Outcome::Allowed).await;
    let every = RevocationSelector::default();
    let (all_of_a, all) = (vec![one.id, two.id], vec![one.id, two.id, three.id]);
    let of_a = RevocationSelector {
        tenant: Some(a.0),
        ..every.clone()
    };
    let of_provider = |provider: &str| RevocationSelector {
        provider: Some(provider.to_owned()),
        ..every.clone()
    };
    for (selector, expected) in [
        (every.clone(), all.clone()),
        (of_a, all_of_a),
        (of_provider("openai"), all),
        (of_provider("github"), vec![]),
    ] {
        for limit in [1, 2, 9] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = store.list_integrations_for_revocation(&selector, after, limit);
                let page = page.await.unwrap();
                assert!(page.len() <= limit as usize);
                let Some(last) = page.last() else { break };
                after = Some((last.tenant, last.id));
                found.extend(page.iter().map(|row| row.id));
            }
            assert_eq!(found, expected, "{selector:?} {limit}");
        }
    }
    let head = store.head().await.unwrap().size;
    let in_time = |from, until| (later(NOW, from), later(NOW, until));
    for (tenant, span, time, expected) in [
        (None, (0, head), in_time(10, 11), vec![(a.0, one.id)]),
        (
            None,
            (0, head),
            in_time(11, 90),
            vec![(b.0, three.id), (b.0, two.id)],
        ),
        (None, (0, head), in_time(31, 91), vec![(a.0, one.id)]),
        (Some(a.0), (0, head), in_time(0, 91), vec![(a.0, one.id)]),
        (None, (0, head), in_time(91, 99), vec![]),
        (None, (head - 1, head), in_time(0, 91), vec![(b.0, two.id)]),
    ] {
        let found = store.used_integrations(tenant, span, time).await.unwrap();
        let found: BTreeSet<_> = found.into_iter().collect();
        assert_eq!(found, BTreeSet::from_iter(expected), "{span:?} {time:?}");
    }
    assert_eq!(store.entry_time(head).await.unwrap(), None);
    assert!(store.entry_time(head - 1).await.unwrap().is_some());
}

pub(super) async fn a_revoked_integration_keeps_nothing_and_only_what_was_seen_is_revoked(
    store: Store,
) {
    let owner = tenant(&store).await;
    let had = granted(&store, owner, "main", 1).await;
    let (id, other) = (had.integration.id, granted(&store, owner, "other", 2).await);
    let tokens = store.find_token_set(owner.0, id).await.unwrap().unwrap();
    let seen = RevokeIntegration {
        credential: credential(owner.0, id, 2, owner.1),
        tokens: Some((tokens.token_version, tokens.fence)),
        expected_revision: had.integration.revision,
        error_message: "revoked".to_owned(),
        at: later(NOW, 9),
    };
    let revoke = |seen: &RevokeIntegration| Effect::RevokeIntegration(Box::new(seen.clone()));
    for (overtaken, told) in [
        (seen.expected_revision + 1, "conflict: integration"),
        (seen.expected_revision, "conflict: tokens"),
    ] {
        let mut stale = seen.clone();
        stale.expected_revision = overtaken;
        stale.tokens = Some((tokens.token_version, tokens.fence + 1));
        assert_eq!(does(&store, owner.0, revoke(&stale)).await, told);
    }
    let mut gap = seen.clone();
    gap.credential.version = 3;
    let told = does(&store, owner.0, revoke(&gap)).await;
    assert_eq!(told, "conflict: integration");
    assert_eq!(does(&store, owner.0, revoke(&seen)).await, "done");
    let row = store.find_integration(owner.0, id).await.unwrap().unwrap();
    assert!(row.disabled && row.hint.is_none() && row.credential_version == 2);
    assert_eq!(row.error_message.as_deref(), Some("revoked"));
    let of_version = async |version| {
        let found = store.find_credential(owner.0, id, version);
        found.await.unwrap().is_some()
    };
    assert!(!of_version(1).await && of_version(2).await);
    assert_eq!(store.find_token_set(owner.0, id).await.unwrap(), None);
    assert_eq!(store.find_rotation(owner.0, id).await.unwrap(), None);
    assert_eq!(
        does(&store, owner.0, revoke(&seen)).await,
        "conflict: integration"
    );
    // The other one has all it had.
    let id = other.integration.id;
    let there = store.find_integration(owner.0, id).await.unwrap();
    assert_eq!(there, Some(other.integration));
    assert!(store.find_token_set(owner.0, id).await.unwrap().is_some());
}

pub(super) async fn a_batch_has_its_total_once_all_have_been_found(store: Store) {
    let owner = tenant(&store).await;
    let open = BatchRow {
        total: None,
        ..batch(owner.0)
    };
    let insert = Effect::InsertBatch(Box::new(open.clone()));
    assert_eq!(does(&store, owner.0, insert).await, "done");
    // While more may come, nothing is closed, though nothing is pending.
    assert_eq!(does(&store, owner.0, close(&open)).await, "conflict: batch");
    for state in [RevocationState::Confirmed, RevocationState::Unsupported] {
        let row = RevocationRow {
            state,
            key_id: None,
            sealed: None,
            next_at: None,
            settled_at: Some(NOW),
            ..revocation(owner.0, &open, owner.1)
        };
        assert_eq!(does(&store, owner.0, ask(&row)).await, "done");
        let found = store.find_revocation(owner.0, row.id).await.unwrap();
        assert_eq!(found.as_ref(), Some(&row));
        let newest = store.find_newest_revocation(owner.0, row.integration);
        assert_eq!(newest.await.unwrap(), Some(row));
    }
    let (tenant, batch) = (open.tenant, open.id);
    let selected = Effect::SelectedBatch { tenant, batch };
    assert_eq!(does(&store, owner.0, selected.clone()).await, "done");
    assert_eq!(does(&store, owner.0, selected).await, "conflict: batch");
    let counts = store.count_revocations(owner.0, open.id).await.unwrap();
    assert_eq!(
        (counts.confirmed, counts.unsupported, counts.all()),
        (1, 1, 2)
    );
    let listed = store.list_batches(owner.0, None, 9).await.unwrap();
    assert_eq!(listed[0].total, Some(2));
    assert_eq!(does(&store, owner.0, close(&open)).await, "done");
    // A list says nothing of receipts, which are long.
    let listed = store.list_batches(owner.0, None, 9).await.unwrap();
    assert!(listed[0].closed_at.is_some() && listed[0].receipt.is_none());
    let before = store.list_batches(owner.0, Some(open.id), 9).await.unwrap();
    assert_eq!(before, []);
    let of = store.find_tenant_of_batch(open.id).await.unwrap();
    assert_eq!(of, Some(owner.0));
}
