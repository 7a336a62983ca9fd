//! The row that the model check reasons about and the rows of the stores follow one rule: random
//! histories are replayed against all, and compared after each step.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod renewal_rig;

use keystead_core::action::{Action, Outcome, TargetKind};
use keystead_core::entry::Entry;
use keystead_core::ids::{IntegrationId, RequestId, TenantId};
use keystead_core::renew::{Change, Holder, Missed, Row};
use keystead_core::time::Time;
use keystead_store::{
    Effect, Error, MarkReauthorize, ReleaseRenewal, Store, StoreTokens, TakeRenewal, TokenSetRow,
    TokenState, Write,
};
use keystead_testkit::token_server::Class;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use renewal_rig::{Node, Rig};

/// A change relative to what is there: how far its version and its fence are off.
#[derive(Clone, Debug)]
struct Ask {
    kind: u8,
    version_off: i64,
    fence_off: i64,
    /// Seconds from now to the end of a lease.
    lease: i64,
    keep_intent: bool,
    time: Option<i64>,
    failures: u64,
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let near = || prop_oneof![4 => Just(0_i64), 1 => -1..=1_i64];
    let time = proptest::option::of(1_000_000..9_000_000_i64);
    // Far from now on both sides: the databases' clocks go on meanwhile.
    let lease = prop_oneof![2 => Just(3600_i64), 1 => Just(-3600_i64)];
    let ask = (
        0..10_u8,
        near(),
        near(),
        lease,
        any::<bool>(),
        time,
        0..5_u64,
    );
    let ask = ask.prop_map(
        |(kind, version_off, fence_off, lease, keep_intent, time, failures)| Ask {
            kind,
            version_off,
            fence_off,
            lease,
            keep_intent,
            time,
            failures,
        },
    );
    proptest::collection::vec(ask, 1..14)
}

fn change(row: &Row, ask: &Ask, now: Time) -> Change {
    let version = row.token_version.saturating_add_signed(ask.version_off);
    let fence = row.fence.saturating_add_signed(ask.fence_off);
    let at = ask.time.map(Time);
    match ask.kind {
        0..=3 => Change::Take {
            token_version: version,
            seen_fence: fence,
            holder: Holder(u128::from(ask.failures) + 1),
            until: now.plus_seconds(ask.lease),
        },
        4 | 5 => Change::Store {
            token_version: version + 1,
            fence,
            expires_at: at,
            renew_at: at,
        },
        6 | 7 => Change::Release {
            token_version: version,
            fence,
            keep_intent: ask.keep_intent,
            renew_at: at,
            failures: ask.failures,
            failing_since: at,
        },
        8 => Change::Reauthorize {
            token_version: version,
            fence,
        },
        _ => Change::Put {
            token_version: version + 1,
            fence: fence + 1,
            expires_at: at,
            renew_at: at,
        },
    }
}

fn effect(stored: &TokenSetRow, change: &Change, at: Time) -> Effect {
    let (tenant, integration) = (stored.tenant, stored.integration);
    match *change {
        Change::Take {
            token_version,
            seen_fence,
            holder,
            until,
        } => Effect::TakeRenewal(TakeRenewal {
            tenant,
            integration,
            token_version,
            seen_fence,
            holder: format!("{:032x}", holder.0),
            until,
        }),
        Change::Store {
            token_version,
            fence,
            expires_at,
            renew_at,
        } => Effect::StoreTokens(Box::new(StoreTokens {
            tenant,
            integration,
            token_version,
            fence,
            key_id: stored.key_id,
            sealed: stored.sealed.clone(),
            expires_at,
            refresh_expires_at: None,
            renew_at,
            restore_status: false,
            at,
        })),
        Change::Release {
            token_version,
            fence,
            keep_intent,
            renew_at,
            failures,
            failing_since,
        } => Effect::ReleaseRenewal(Box::new(ReleaseRenewal {
            tenant,
            integration,
            token_version,
            fence,
            keep_intent,
            renew_at,
            failures,
            failing_since,
            problem: None,
            at,
        })),
        Change::Reauthorize {
            token_version,
            fence,
        } => Effect::MarkReauthorize(Box::new(MarkReauthorize {
            tenant,
            integration,
            token_version,
            fence,
            problem: "dead:invalid_grant".to_owned(),
            error_message: "authorise it again".to_owned(),
            at,
        })),
        Change::Put {
            token_version,
            fence,
            expires_at,
            renew_at,
        } => Effect::PutTokenSet(Box::new(TokenSetRow {
            token_version,
            fence,
            state: TokenState::Live,
            expires_at,
            renew_at,
            holder: None,
            lease_until: None,
            intent: false,
            failures: 0,
            failing_since: None,
            ..stored.clone()
        })),
    }
}

fn as_row(row: &TokenSetRow) -> Row {
    Row {
        token_version: row.token_version,
        fence: row.fence,
        dead: row.state == TokenState::Reauthorize,
        expires_at: row.expires_at,
        renew_at: row.renew_at,
        holder: row
            .holder
            .as_deref()
            .map(|text| Holder(u128::from_str_radix(text, 16).unwrap())),
        lease_until: row.lease_until,
        intent: row.intent,
        failures: row.failures,
        failing_since: row.failing_since,
    }
}

async fn make(store: &Store, tenant: TenantId, effect: Effect) -> Result<(), Missed> {
    let entry = Entry {
        at: Time(renewal_rig::micros()),
        tenant,
        caller: "system",
        by: None,
        action: Action::Rotate,
        on: TargetKind::Integration,
        target: None,
        outcome: Outcome::Allowed,
        reason: None,
        version: None,
        tokens: None,
        request: RequestId::from_uuid(uuid::Uuid::nil()),
        address: None,
    };
    let effects = vec![effect];
    match store.append(Write { entry, effects }).await {
        Ok(_) => Ok(()),
        Err(Error::Conflict { .. } | Error::NotFound { .. }) => Err(Missed),
        Err(fault) => panic!("{fault:?}"),
    }
}

async fn replay(node: &Node, id: IntegrationId, histories: usize) {
    let mut runner = TestRunner::deterministic();
    let (mut made, mut missed) = (0, 0);
    for _ in 0..histories {
        let history = asks().new_tree(&mut runner).unwrap().current();
        for ask in &history {
            let stored = node.row(id).await;
            let mut model = as_row(&stored);
            let now = node.store.clock().await.unwrap();
            let change = change(&model, ask, now);
            let expected = model.apply(&change, now);
            let done = make(&node.store, node.tenant, effect(&stored, &change, now)).await;
            assert_eq!(done, expected, "{change:?} on {stored:?}");
            assert_eq!(
                as_row(&node.row(id).await),
                model,
                "{change:?} on {stored:?}"
            );
            *(if done.is_ok() { &mut made } else { &mut missed }) += 1;
        }
    }
    println!("{made} changes were made, {missed} missed");
    assert!(made > histories && missed > histories, "both are met");
}

#[tokio::test]
async fn the_row_of_the_model_and_the_row_of_sqlite_change_alike() {
    let rig = Rig::on_file().await;
    let node = rig.first().await;
    let id = node.connect(&rig, "main", Class::Reusable).await;
    replay(&node, id, 150).await;
}

#[tokio::test]
async fn the_row_of_the_model_and_the_row_of_postgres_change_alike() {
    let rig = Rig::on_postgres().await;
    let node = rig.first().await;
    let id = node.connect(&rig, "main", Class::Reusable).await;
    replay(&node, id, 60).await;
}
