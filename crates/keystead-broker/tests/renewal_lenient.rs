//! A grant outlives what is not its end: refusals of an API, a wrong setting, days without an answer,
//! and a provider that says odd times.
#![allow(clippy::unwrap_used)]

mod renewal_rig;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keystead_broker::{Clock, Error, NewIntegration, OAuthApp, Status};
use keystead_core::ids::IntegrationId;
use keystead_store::TokenState;
use keystead_testkit::token_server::{CLIENT_SECRET, Class, Fault};
use renewal_rig::{Node, Rig};
use serde_json::{Map, json};
use zeroize::Zeroizing;

const HOUR: i64 = 3_600_000_000;

async fn connected(class: Class) -> (Rig, Node, IntegrationId) {
    let rig = Rig::on_file().await;
    let node = rig.first().await;
    let id = node.connect(&rig, "main", class).await;
    (rig, node, id)
}

async fn ended(rig: &Rig, node: &Node, id: IntegrationId) {
    rig.end_tokens();
    node.hear(id).await;
}

async fn status_becomes(node: &Node, id: IntegrationId, status: Status) {
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while node.seen(id).await.status != status {
        assert!(std::time::Instant::now() < until, "{status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An integration with an access token alone.
async fn without_refresh_token(rig: &Rig, node: &Node) -> IntegrationId {
    let (access_token, _) = rig.server.grant(Class::Reusable);
    let new = NewIntegration {
        name: "plain".to_owned(),
        type_: "reusable".to_owned(),
        credentials: json!({ "access_token": access_token }),
        config: Map::new(),
    };
    let ctx = node.ctx().await;
    let made = node.broker.create_integration(&ctx, new, None);
    let id = made.await.unwrap().integration.id;
    status_becomes(node, id, Status::Connected).await;
    id
}

#[tokio::test]
async fn a_refusal_by_its_api_does_not_end_a_grant_without_a_refresh_token() {
    let rig = Rig::on_file().await;
    let node = rig.first().await;
    let id = without_refresh_token(&rig, &node).await;
    rig.forget_ends();
    node.hear(id).await;
    rig.server.close_api(true);
    for body in [Bytes::new(), Bytes::from(vec![b'x'; 200_000])] {
        assert_eq!(node.call_with(id, body).await.unwrap(), 401);
        node.broker.finish_renewals(Duration::from_secs(10)).await;
        let row = node.row(id).await;
        assert_eq!((row.state, row.fence), (TokenState::Live, 1));
        assert_eq!(node.seen(id).await.status, Status::Connected);
    }
    // The provider's own test call is what tells, both ways.
    let test = async || {
        let ctx = node.ctx().await;
        node.broker.test_integration(&ctx, id).await.unwrap()
    };
    assert_eq!(test().await.status, Status::Reauthorize);
    assert_eq!(node.seen(id).await.status, Status::Reauthorize);
    assert_eq!(node.row(id).await.state, TokenState::Live);
    rig.server.close_api(false);
    assert_eq!(test().await.status, Status::Connected);
    assert_eq!(node.call(id).await.unwrap(), 200);
    assert_eq!(rig.server.calls(), 0);
}

#[tokio::test]
async fn a_client_id_that_was_changed_by_mistake_ends_no_grant_and_is_seen_to_be_right_again() {
    let (mut rig, node, id) = connected(Class::SingleUse).await;
    ended(&rig, &node, id).await;
    let right = rig.settings.oauth.apps.clone();
    let wrong = OAuthApp {
        client_id: "another-client".to_owned(),
        client_secret: Some(Zeroizing::new(CLIENT_SECRET.to_owned())),
    };
    rig.settings
        .oauth
        .apps
        .insert("single".to_owned(), Arc::new(wrong));
    let mistaken = rig.another(&node, Clock::default()).await;
    let calls = rig.server.calls();
    let fault = mistaken.call(id).await.unwrap_err();
    assert!(matches!(fault, Error::Credential { .. }), "{fault:?}");
    assert_eq!(rig.server.calls(), calls, "the provider is not asked");
    let row = node.row(id).await;
    assert_eq!(row.state, TokenState::Live);
    assert_eq!(row.problem.as_deref(), Some("client:client_id_changed"));
    node.broker.hear_changes().await.unwrap();
    let seen = node.seen(id).await;
    assert_eq!(seen.status, Status::Error);
    let told = seen.error_message.unwrap();
    assert!(told.contains("client_id"), "{told}");

    // A node that starts with the right one does not wait for the pause to end.
    rig.settings.oauth.apps = right;
    let mended = rig.another(&node, Clock::default()).await;
    mended.broker.upkeep().await;
    assert_eq!(mended.row(id).await.token_version, 3);
    assert_eq!(mended.call(id).await.unwrap(), 200);
    assert_eq!(mended.seen(id).await.status, Status::Connected);
}

#[tokio::test]
async fn what_failed_for_days_is_tried_by_use_each_hour_and_by_itself_later() {
    let (rig, node, id) = connected(Class::Rotating).await;
    ended(&rig, &node, id).await;
    let days_ago = renewal_rig::micros() - 96 * HOUR;
    rig.sql(&format!(
        "UPDATE token_set SET failures = 400, failing_since = {days_ago}, problem = 'down:http_503'"
    ));
    rig.server
        .fail([Fault::Refuse(503, "temporarily_unavailable", None)]);
    node.call(id).await.unwrap_err();
    let calls = rig.server.calls();
    node.call(id).await.unwrap_err();
    assert_eq!(rig.server.calls(), calls, "not at once again");
    let told = node.seen(id).await.error_message.unwrap();
    assert!(told.contains("long time"), "{told}");
    let again = node.row(id).await.renew_at.unwrap().0 - renewal_rig::micros();
    assert!((5 * HOUR..7 * HOUR).contains(&again), "{again}");

    // As if more than an hour had gone by.
    let at = renewal_rig::micros() + 9 * HOUR / 2;
    rig.sql(&format!("UPDATE token_set SET renew_at = {at}"));
    assert_eq!(node.call(id).await.unwrap(), 200);
    assert_eq!(node.seen(id).await.status, Status::Connected);
}

#[tokio::test]
async fn a_pause_that_a_provider_asked_for_is_kept_by_tests_on_all_nodes() {
    for (status, code) in [(429, "slow_down"), (503, "temporarily_unavailable")] {
        let (rig, node, id) = connected(Class::Rotating).await;
        ended(&rig, &node, id).await;
        rig.server.fail([Fault::Refuse(status, code, Some(300))]);
        node.call(id).await.unwrap_err();
        let again = node.row(id).await.renew_at.unwrap().0 - renewal_rig::micros();
        assert!(again > 290_000_000, "{status}: {again}");
        let other = rig.another(&node, Clock::default()).await;
        let calls = rig.server.calls();
        let ctx = other.ctx().await;
        other.broker.test_integration(&ctx, id).await.unwrap();
        assert_eq!(rig.server.calls(), calls, "{status}");
    }
}

#[tokio::test]
async fn a_provider_that_asks_for_decades_is_left_alone_for_a_day() {
    let (rig, node, id) = connected(Class::Rotating).await;
    ended(&rig, &node, id).await;
    rig.server
        .fail([Fault::Refuse(429, "slow_down", Some(1_000_000_000))]);
    node.call(id).await.unwrap_err();
    let again = node.row(id).await.renew_at.unwrap().0 - renewal_rig::micros();
    assert!((23 * HOUR..25 * HOUR).contains(&again), "{again}");
}

#[tokio::test]
async fn tokens_that_live_for_seconds_are_renewed_ahead_only_while_they_are_used() {
    let rig = Rig::on_file().await;
    rig.server.lasting(Some(0));
    let node = rig.first().await;
    let id = node.connect(&rig, "main", Class::Rotating).await;
    let due = || rig.sql("UPDATE token_set SET renew_at = 1");
    let calls = rig.server.calls();
    due();
    node.broker.upkeep().await;
    assert_eq!(rig.server.calls(), calls, "nobody used it");
    assert_eq!(node.row(id).await.renew_at, None);

    let past = renewal_rig::micros() - HOUR;
    rig.sql(&format!("UPDATE token_set SET expires_at = {past}"));
    node.hear(id).await;
    assert_eq!(node.call(id).await.unwrap(), 200);
    assert_eq!(rig.server.calls(), calls + 1, "on demand");
    node.broker.note_uses().await;
    due();
    node.broker.upkeep().await;
    assert_eq!(rig.server.calls(), calls + 2, "ahead of the next use");
    due();
    node.broker.upkeep().await;
    assert_eq!(rig.server.calls(), calls + 2, "which did not come");
}
