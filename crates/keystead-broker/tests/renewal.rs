//! Tokens are fresh when they are used, and no fault on the way loses one that could be kept.
#![allow(clippy::unwrap_used)]

mod renewal_rig;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keystead_broker::{Changes, Clock, Error, Status};
use keystead_core::ids::IntegrationId;
use keystead_store::TokenState;
use keystead_testkit::token_server::{Class, Fault};
use renewal_rig::{Node, Rig};
use serde_json::json;

async fn connected(class: Class) -> (Rig, Node, IntegrationId) {
    let rig = Rig::on_file().await;
    let node = rig.first().await;
    let id = node.connect(&rig, "main", class).await;
    (rig, node, id)
}

/// Its tokens have ended, and the node knows.
async fn ended(rig: &Rig, node: &Node, id: IntegrationId) {
    rig.end_tokens();
    node.hear(id).await;
}

#[tokio::test]
async fn many_who_need_one_ended_token_wait_for_one_call() {
    for class in [Class::Reusable, Class::Rotating, Class::SingleUse] {
        let (rig, node, id) = connected(class).await;
        ended(&rig, &node, id).await;
        rig.server.taking(Duration::from_millis(100));
        let calls = rig.server.calls();
        let users: Vec<_> = (0..50)
            .map(|_| {
                let node = node.clone();
                tokio::spawn(async move { node.call(id).await })
            })
            .collect();
        for user in users {
            assert_eq!(user.await.unwrap().unwrap(), 200);
        }
        assert_eq!(rig.server.calls() - calls, 1, "{class:?}");
        let row = node.row(id).await;
        assert_eq!(
            (row.token_version, row.intent, row.holder),
            (3, false, None)
        );
    }
}

#[tokio::test]
async fn each_step_of_a_renewal_is_on_record_and_no_entry_holds_a_token() {
    let (_rig, node, id) = connected(Class::SingleUse).await;
    let log = node.store.leaves(0, 1000).await.unwrap();
    let steps = |word: &str| {
        let about = log.iter().filter(|leaf| leaf.contains(&id.to_string()));
        about.filter(|leaf| leaf.contains(word)).count()
    };
    assert_eq!(steps("renewal begun"), 1);
    assert_eq!(steps(r#""reason":"renewed""#), 1);
    assert!(!log.concat().contains("canary"));
}

#[tokio::test]
async fn a_renewal_goes_on_when_all_who_waited_have_hung_up() {
    let (rig, node, id) = connected(Class::SingleUse).await;
    ended(&rig, &node, id).await;
    rig.server.hold();
    let carried = rig.server.carried_out();
    let user = tokio::spawn({
        let node = node.clone();
        async move { node.call(id).await }
    });
    while rig.server.carried_out() == carried {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    user.abort();
    rig.server.release();
    node.becomes(id, |row| row.token_version == 3).await;
    assert_eq!(node.call(id).await.unwrap(), 200);
}

#[tokio::test]
async fn what_is_no_token_reply_leaves_what_was_there_and_the_next_try_works() {
    let refusals = [
        (Fault::Html, "unclear:reply_not_json"),
        (Fault::Redirect, "unclear:"),
        (Fault::Huge, "unclear:reply_too_large"),
        (Fault::Refuse(503, "temporarily_unavailable", None), "down:"),
        (
            Fault::Refuse(401, "invalid_client", None),
            "client:invalid_client",
        ),
    ];
    for (fault, problem) in refusals {
        let (rig, node, id) = connected(Class::SingleUse).await;
        let before = node.row(id).await;
        ended(&rig, &node, id).await;
        rig.server.fail([fault.clone()]);
        let refused = node.call(id).await.unwrap_err();
        assert!(
            matches!(refused, Error::Upstream { .. } | Error::Credential { .. }),
            "{fault:?}: {refused:?}"
        );
        let row = node.row(id).await;
        assert_eq!(row.sealed, before.sealed, "{fault:?}");
        assert_eq!((row.token_version, row.state), (2, TokenState::Live));
        assert_eq!((row.failures, row.holder), (1, None), "{fault:?}");
        let told = row.problem.unwrap();
        assert!(told.starts_with(problem), "{fault:?}: {told}");
        // Nobody asks again before it is time, and then it works.
        let calls = rig.server.calls();
        node.call(id).await.unwrap_err();
        assert_eq!(rig.server.calls(), calls, "{fault:?}");
        rig.end_leases();
        assert_eq!(node.call(id).await.unwrap(), 200, "{fault:?}");
        assert_eq!(node.row(id).await.failures, 0);
    }
}

#[tokio::test]
async fn an_app_that_is_refused_is_an_error_and_no_end_of_the_grant() {
    let (rig, node, id) = connected(Class::Rotating).await;
    ended(&rig, &node, id).await;
    rig.server
        .fail([Fault::Refuse(401, "invalid_client", None)]);
    node.call(id).await.unwrap_err();
    let seen = node.seen(id).await;
    assert_eq!(seen.status, Status::Error);
    assert!(seen.error_message.unwrap().contains("invalid_client"));
    rig.end_leases();
    assert_eq!(node.call(id).await.unwrap(), 200);
    assert_eq!(node.seen(id).await.status, Status::Connected);
}

#[tokio::test]
async fn a_grant_that_its_owner_took_back_is_to_be_authorised_again() {
    let (rig, node, id) = connected(Class::SingleUse).await;
    ended(&rig, &node, id).await;
    rig.server.revoke_all();
    for _ in 0..2 {
        let refused = node.call(id).await.unwrap_err();
        assert!(
            matches!(
                refused,
                Error::Conflict {
                    code: "reauthorize",
                    ..
                }
            ),
            "{refused:?}"
        );
    }
    assert_eq!(
        rig.server.calls(),
        2,
        "one for the first trial, one that was refused"
    );
    let seen = node.seen(id).await;
    assert_eq!(seen.status, Status::Reauthorize);
    assert!(seen.error_message.unwrap().contains("authorise it again"));
    assert_eq!(node.row(id).await.state, TokenState::Reauthorize);
}

#[tokio::test]
async fn a_reply_that_is_lost_ends_in_a_live_token_or_reauthorize_by_the_class() {
    for class in [Class::Reusable, Class::Rotating, Class::SingleUse] {
        let (rig, node, id) = connected(class).await;
        ended(&rig, &node, id).await;
        rig.server.fail([Fault::Swallow]);
        node.call(id).await.unwrap_err();
        let row = node.row(id).await;
        assert!(row.intent, "nobody knows whether it was carried out");
        rig.end_leases();
        let again = node.call(id).await;
        if class == Class::SingleUse {
            assert!(matches!(
                again,
                Err(Error::Conflict {
                    code: "reauthorize",
                    ..
                })
            ));
            let told = node.seen(id).await.error_message.unwrap();
            assert!(told.contains("was lost"), "{told}");
        } else {
            assert_eq!(again.unwrap(), 200, "{class:?}");
        }
    }
}

#[tokio::test]
async fn a_token_that_is_still_valid_is_used_while_its_renewal_fails() {
    let (rig, node, id) = connected(Class::SingleUse).await;
    rig.sql("UPDATE token_set SET renew_at = 1");
    node.hear(id).await;
    rig.server.fail([Fault::Refuse(503, "down", None)]);
    node.broker.upkeep().await;
    assert_eq!(node.row(id).await.failures, 1);
    assert_eq!(node.call(id).await.unwrap(), 200);
    assert_eq!(node.seen(id).await.status, Status::Connected);
}

#[tokio::test]
async fn a_provider_that_asks_to_wait_is_left_alone_for_all_grants_of_the_app() {
    let (rig, node, id) = connected(Class::SingleUse).await;
    let other = node.connect(&rig, "other", Class::SingleUse).await;
    ended(&rig, &node, id).await;
    rig.server
        .fail([Fault::Refuse(429, "slow_down", Some(120))]);
    let refused = node.call(id).await.unwrap_err();
    let Error::Limited { retry_after } = refused else {
        panic!("{refused:?}");
    };
    assert!((120..=160).contains(&retry_after), "{retry_after}");
    let calls = rig.server.calls();
    let refused = node.call(other).await.unwrap_err();
    assert!(matches!(refused, Error::Limited { .. }), "{refused:?}");
    assert_eq!(
        rig.server.calls(),
        calls,
        "not asked, for another grant either"
    );
    let row = node.row(other).await;
    assert!(row.renew_at.unwrap().0 > renewal_rig::micros() + 110_000_000);
}

#[tokio::test]
async fn an_api_that_refuses_a_token_of_unknown_end_gets_a_new_one_once() {
    let rig = Rig::on_file().await;
    rig.server.lasting(None);
    let node = rig.first().await;
    let id = node.connect(&rig, "main", Class::Rotating).await;
    rig.forget_ends();
    node.hear(id).await;
    let calls = rig.server.calls();

    // A call whose body can be sent again is.
    rig.server.end_access();
    assert_eq!(
        node.call_with(id, Bytes::from_static(b"small"))
            .await
            .unwrap(),
        200
    );
    assert_eq!(rig.server.calls() - calls, 1);
    assert!(rig.server.api_statuses().ends_with(&[401, 200]));

    // Tokens that are quite new are not renewed for a refusal: it has another reason.
    rig.server.end_access();
    assert_eq!(node.call(id).await.unwrap(), 401);
    assert_eq!(rig.server.calls() - calls, 1);

    // One that is too long to be held goes on with its refusal, and the next call works.
    rig.forget_ends();
    node.hear(id).await;
    let long = Bytes::from(vec![b'x'; 200_000]);
    assert_eq!(node.call_with(id, long.clone()).await.unwrap(), 401);
    node.becomes(id, |row| row.token_version == 4).await;
    node.broker.hear_changes().await.unwrap();
    assert_eq!(node.call_with(id, long).await.unwrap(), 200);
    assert_eq!(rig.server.calls() - calls, 2);
}

#[tokio::test]
async fn what_is_handed_out_is_the_access_token_and_its_end_and_never_the_refresh_token() {
    let (rig, node, id) = connected(Class::SingleUse).await;
    ended(&rig, &node, id).await;
    let revealed = node.reveal(id).await.unwrap();
    let parts = revealed["credentials"].as_object().unwrap();
    assert_eq!(parts.keys().collect::<Vec<_>>(), ["access_token"]);
    assert!(
        parts["access_token"]
            .as_str()
            .unwrap()
            .starts_with("at-canary-")
    );
    assert!(revealed["expires_at"].is_string());
    assert!(!revealed.to_string().contains("rt-canary"));
}

#[tokio::test]
async fn tokens_of_another_version_or_place_do_not_open() {
    let (rig, node, id) = connected(Class::Reusable).await;
    let other = node.connect(&rig, "other", Class::Reusable).await;
    rig.sql(&format!(
        "UPDATE token_set SET sealed = (SELECT sealed FROM token_set WHERE integration_id = '{other}') WHERE integration_id = '{id}'"
    ));
    node.hear(id).await;
    let refused = node.call(id).await.unwrap_err();
    assert!(matches!(refused, Error::Corrupt { .. }), "{refused:?}");
    rig.sql(&format!(
        "UPDATE token_set SET token_version = 7 WHERE integration_id = '{other}'"
    ));
    node.hear(other).await;
    let refused = node.call(other).await.unwrap_err();
    assert!(matches!(refused, Error::Corrupt { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_node_that_dies_with_the_reply_leaves_the_next_to_recover_or_say_reauthorize() {
    for class in [Class::Rotating, Class::SingleUse] {
        let (rig, node, id) = connected(class).await;
        ended(&rig, &node, id).await;
        rig.server.hold();
        let carried = rig.server.carried_out();
        // A runtime of its own: what is dropped with it is dropped in the middle of its work.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (broker, store) = {
            let _on = runtime.enter();
            rig.start(Clock::default()).await
        };
        let dying = Node {
            broker,
            store,
            ..node.clone()
        };
        runtime.spawn(async move { dying.call(id).await });
        while rig.server.carried_out() == carried {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        runtime.shutdown_background();
        rig.server.release();
        let row = node.row(id).await;
        assert!(row.intent && row.lease_until.is_some() && row.token_version == 2);
        // Nobody waits in a test for a lease to end; its grace is waited for.
        rig.end_leases();
        let began = Instant::now();
        let next = node.call(id).await;
        assert!(
            began.elapsed() >= Duration::from_secs(2),
            "the holder may have been there yet"
        );
        match class {
            Class::SingleUse => {
                assert!(
                    matches!(
                        next,
                        Err(Error::Conflict {
                            code: "reauthorize",
                            ..
                        })
                    ),
                    "{next:?}"
                );
            }
            _ => assert_eq!(next.unwrap(), 200),
        }
    }
}

#[tokio::test]
async fn due_tokens_are_renewed_ahead_of_need_with_a_bounded_number_of_calls_at_once() {
    const GRANTS: usize = 120;
    let mut rig = Rig::on_file().await;
    rig.settings.renew.at_once = 8;
    let node = rig.first().await;
    let mut all = Vec::new();
    for number in 0..GRANTS {
        let class = [Class::Reusable, Class::Rotating, Class::SingleUse][number % 3];
        all.push(node.connect(&rig, &format!("n{number}"), class).await);
    }
    // Ended in a minute, all of them.
    let soon = renewal_rig::micros() + 60_000_000;
    rig.sql(&format!(
        "UPDATE token_set SET expires_at = {soon}, renew_at = 1, updated_at = 1"
    ));
    rig.server.taking(Duration::from_millis(20));
    let (calls, most) = (rig.server.calls(), rig.server.most_at_once());
    assert!(most <= 32);
    node.broker.upkeep().await;
    assert_eq!(rig.server.calls() - calls, GRANTS);
    assert!(rig.server.most_at_once() <= most.max(8));
    for id in all {
        let row = node.row(id).await;
        assert!(row.expires_at.unwrap().0 > soon && row.token_version == 3);
    }
    let counters = node.broker.renewal_counters();
    assert!(counters.renewed.load(Ordering::Relaxed) >= GRANTS as u64);
}

#[tokio::test]
async fn tokens_whose_credential_was_replaced_are_looked_at_once_and_no_more() {
    let mut rig = Rig::on_file().await;
    rig.settings.renew.upkeep = true;
    let node = rig.first().await;
    let id = node.connect(&rig, "main", Class::SingleUse).await;
    let app = json!({"client_id": "another", "client_secret": "canary-another"});
    let change = Changes {
        credentials: Some(app),
        ..Changes::default()
    };
    let ctx = node.ctx().await;
    let replaced = node.broker.update_integration(&ctx, id, change, None);
    replaced.await.unwrap();
    let calls = rig.server.calls();
    rig.end_tokens();
    node.becomes(id, |row| row.renew_at.is_none()).await;
    assert_eq!(rig.server.calls(), calls);
    assert!(
        node.row(id).await.state == TokenState::Live,
        "to be taken back yet"
    );
}
