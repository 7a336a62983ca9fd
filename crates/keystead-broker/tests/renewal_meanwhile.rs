//! What happens to tokens when something else changes meanwhile: their credential, their API's host, a
//! switch, the node that has the duty; and when time goes by without an answer.
#![allow(clippy::unwrap_used)]

mod renewal_rig;

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keystead_broker::{Changes, Clock, Error, Status};
use keystead_core::ids::IntegrationId;
use keystead_store::TokenState;
use keystead_testkit::token_server::{CLIENT_ID, CLIENT_SECRET, Class, Fault};
use renewal_rig::{Node, Rig};
use serde_json::{Map, Value, json};

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

/// A call that waits for a renewal whose answer is held back.
async fn held(rig: &Rig, node: &Node, id: IntegrationId) -> tokio::task::JoinHandle<Error> {
    rig.server.hold();
    let calls = rig.server.calls();
    let node = node.clone();
    let user = tokio::spawn(async move { node.call(id).await.unwrap_err() });
    while rig.server.calls() == calls {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    user
}

fn own_app() -> Changes {
    Changes {
        credentials: Some(json!({ "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET })),
        ..Changes::default()
    }
}

fn switched(off: bool) -> Changes {
    Changes {
        disabled: Some(off),
        ..Changes::default()
    }
}

fn is_reauthorize(fault: &Error) -> bool {
    let code = "reauthorize";
    matches!(fault, Error::Conflict { code: own, .. } if *own == code)
}

fn renewed(node: &Node) -> u64 {
    let counters = node.broker.renewal_counters();
    counters.renewed.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_trial_renews_refused_tokens_of_unknown_end_once_before_it_says_error() {
    let rig = Rig::on_file().await;
    rig.server.lasting(None);
    let node = rig.first().await;
    let id = node.connect(&rig, "main", Class::SingleUse).await;
    // However new they are: here they came by a consent a moment ago.
    node.consent(&rig, id, Class::SingleUse).await;
    rig.server.end_access();
    let calls = rig.server.calls();
    let report = node.test(id).await;
    assert_eq!(report.status, Status::Connected, "{report:?}");
    assert_eq!(rig.server.calls() - calls, 1);
    assert!(rig.server.api_statuses().ends_with(&[401, 200]));

    // An API that refuses the new ones too has another reason.
    rig.server.close_api(true);
    let calls = rig.server.calls();
    assert_eq!(node.test(id).await.status, Status::Error);
    assert_eq!(rig.server.calls() - calls, 1);
    assert_eq!(node.test(id).await.status, Status::Error);
    assert_eq!(rig.server.calls() - calls, 1, "not again within the minute");

    // Where the grant is dead, that is what it says.
    rig.forget_ends();
    node.hear(id).await;
    rig.server.revoke_all();
    assert_eq!(node.test(id).await.status, Status::Reauthorize);
}

#[tokio::test]
async fn a_trial_that_has_renewed_already_does_not_renew_again_for_a_refusal() {
    let rig = Rig::on_file().await;
    rig.server.lasting(None);
    let node = rig.first().await;
    let id = node.connect(&rig, "main", Class::SingleUse).await;
    ended(&rig, &node, id).await;
    rig.server.close_api(true);
    let calls = rig.server.calls();
    assert_eq!(node.test(id).await.status, Status::Error);
    assert_eq!(rig.server.calls() - calls, 1);
}

#[tokio::test]
async fn tokens_of_a_replaced_credential_are_neither_used_nor_renewed_until_there_is_consent() {
    let rig = Rig::on_postgres().await;
    let node = rig.first().await;
    let id = node.connect(&rig, "main", Class::SingleUse).await;
    // A node that does not hear of the change.
    let deaf = rig.another(&node, Clock::default()).await;
    assert_eq!(deaf.call(id).await.unwrap(), 200);
    ended(&rig, &node, id).await;
    deaf.broker.hear_changes().await.unwrap();
    deaf.seen(id).await;

    node.change(id, own_app()).await;
    let (calls, asked) = (rig.server.calls(), rig.server.api_statuses().len());
    assert!(is_reauthorize(&node.call(id).await.unwrap_err()));
    assert!(is_reauthorize(&node.reveal(id).await.unwrap_err()));
    node.test(id).await;
    node.broker.upkeep().await;
    deaf.call(id).await.unwrap_err();
    assert_eq!(rig.server.calls(), calls, "not renewed");
    assert_eq!(rig.server.api_statuses().len(), asked, "not used");
    assert_eq!(node.seen(id).await.status, Status::Reauthorize);
    let row = node.row(id).await;
    assert_eq!((row.token_version, row.credential_version), (2, 1));

    node.consent(&rig, id, Class::SingleUse).await;
    let row = node.row(id).await;
    assert_eq!(
        (row.token_version, row.credential_version),
        ((2 << 32) + 1, 3)
    );
    assert_eq!(node.call(id).await.unwrap(), 200);
    ended(&rig, &node, id).await;
    assert_eq!(node.call(id).await.unwrap(), 200);
    assert_eq!(node.row(id).await.token_version, (2 << 32) + 2);
}

#[tokio::test]
async fn a_renewal_says_nothing_of_a_credential_that_was_replaced_meanwhile() {
    for dead in [false, true] {
        let (rig, node, id) = connected(Class::SingleUse).await;
        ended(&rig, &node, id).await;
        if dead {
            rig.server.revoke_all();
        }
        // One that failed before, and would say now that all is well.
        rig.sql("UPDATE token_set SET failures = 1");
        let user = held(&rig, &node, id).await;
        node.change(id, own_app()).await;
        let before = node.seen(id).await;
        assert_eq!(before.status, Status::Reauthorize);
        rig.server.release();
        user.await.unwrap();
        node.broker.finish_renewals(Duration::from_secs(10)).await;
        let after = node.seen(id).await;
        assert_eq!(after.status, Status::Reauthorize, "dead: {dead}");
        assert_eq!(after.error_message, before.error_message, "dead: {dead}");
        assert!(is_reauthorize(&node.call(id).await.unwrap_err()));
    }
}

/// What was logged, of all levels.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Said {
    /// On this thread, which is all that such a test has.
    fn listen() -> (Said, tracing::subscriber::DefaultGuard) {
        let said = Said::default();
        let to = said.clone();
        let listener = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || to.clone())
            .finish();
        (said, tracing::subscriber::set_default(listener))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn good_tokens_with_an_odd_end_are_kept_for_the_least_time_and_the_operator_is_told() {
    let (said, _listening) = Said::listen();
    let (rig, node, id) = connected(Class::SingleUse).await;
    for (version, odd) in [(3, json!(-1)), (4, json!("soon")), (5, json!(1e300))] {
        ended(&rig, &node, id).await;
        rig.server.says("expires_in", odd.clone());
        assert_eq!(node.call(id).await.unwrap(), 200, "{odd}");
        let row = node.row(id).await;
        assert_eq!(
            (row.token_version, row.failures, row.problem),
            (version, 0, None)
        );
        let left = row.expires_at.unwrap().0 - renewal_rig::micros();
        assert!(
            (20_000_000..=30_000_000).contains(&left),
            "{left} after {odd}"
        );
        assert!(row.renew_at.unwrap() < row.expires_at.unwrap());
    }
    let said = said.text();
    let told = |line: &&str| {
        line.contains("WARN")
            && line.contains("expires_in")
            && line.contains(&id.to_string())
            && line.contains("single")
    };
    assert_eq!(said.lines().filter(told).count(), 3, "{said}");
    assert!(!said.contains("canary"));

    // Nothing would be lost by refusing them at the consent.
    let refused = node
        .authorise(&rig, id, Class::SingleUse)
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Provider { .. }), "{refused:?}");
    assert_eq!(node.row(id).await.token_version, 5);
}

/// The setting that names the API's host.
async fn api_host(node: &Node, id: IntegrationId) -> Option<Value> {
    node.seen(id).await.config.get("api_host").cloned()
}

#[tokio::test]
async fn a_host_that_a_renewal_names_is_the_apis_from_then_on_if_it_may_be() {
    let (said, _listening) = Said::listen();
    let (rig, node, id) = connected(Class::SingleUse).await;
    assert_eq!(api_host(&node, id).await, None);
    for (named, known) in [
        ("https://one.my.single.example", "one.my.single.example"),
        ("https://two.my.single.example", "two.my.single.example"),
        // Not one of the provider's: the tokens are kept, and go where they went.
        ("https://evil.example", "two.my.single.example"),
        ("https://single.example", "single.example"),
    ] {
        ended(&rig, &node, id).await;
        rig.server.says("instance_url", json!(named));
        assert_eq!(node.call(id).await.unwrap(), 200, "{named}");
        assert_eq!(api_host(&node, id).await.unwrap(), known, "{named}");
        assert_eq!(node.call(id).await.unwrap(), 200, "{named}");
    }
    let row = node.row(id).await;
    assert_eq!((row.token_version, row.failures), (6, 0));
    let odd = |line: &&str| line.contains("WARN") && line.contains("host");
    assert_eq!(said.text().lines().filter(odd).count(), 1);
}

#[tokio::test]
async fn a_host_that_changes_does_not_cost_what_is_set_meanwhile() {
    let (rig, node, id) = connected(Class::SingleUse).await;
    ended(&rig, &node, id).await;
    let named = "one.my.single.example";
    rig.server.says("instance_url", json!(named));
    rig.server.hold();
    let carried = rig.server.carried_out();
    let user = tokio::spawn({
        let node = node.clone();
        async move { node.call(id).await }
    });
    while rig.server.carried_out() == carried {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let name = Some("renamed".to_owned());
    let renamed = Changes {
        name,
        ..Changes::default()
    };
    let set = node.change(id, renamed).await;
    rig.server.release();
    assert_eq!(user.await.unwrap().unwrap(), 200);
    let seen = node.seen(id).await;
    assert_eq!(
        (seen.name.as_str(), &seen.config["api_host"]),
        ("renamed", &json!(named))
    );
    assert_ne!(seen.etag, set.etag, "a change of settings is one");
    // Nobody else says where tokens go.
    let elsewhere = Map::from_iter([("api_host".to_owned(), json!("two.my.single.example"))]);
    let by_hand = Changes {
        config: Some(elsewhere),
        ..Changes::default()
    };
    let ctx = node.ctx().await;
    let set = node.broker.update_integration(&ctx, id, by_hand, None);
    assert!(matches!(set.await, Err(Error::Invalid(_))));
    assert_eq!(api_host(&node, id).await, Some(json!(named)));
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_given_up_at_the_deadline_and_not_overtaken() {
    let (rig, node, id) = connected(Class::Rotating).await;
    ended(&rig, &node, id).await;
    let began = Instant::now();
    let user = held(&rig, &node, id).await;
    let leased = node.row(id).await.lease_until.unwrap();
    // The deadline comes now.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let refused = user.await.unwrap();
    assert!(matches!(refused, Error::Upstream { .. }), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(9));
    let row = node.row(id).await;
    assert_eq!(row.problem.as_deref(), Some("down:timeout"));
    assert!(row.intent, "it may have been carried out");
    assert!(row.renew_at.unwrap() >= leased, "or be yet");
    let calls = rig.server.calls();
    node.call(id).await.unwrap_err();
    assert_eq!(rig.server.calls(), calls);
    rig.server.release();
    rig.end_leases();
    assert_eq!(node.call(id).await.unwrap(), 200);
}

#[tokio::test]
async fn what_has_failed_for_days_is_tried_again_by_whoever_tests_it() {
    let (rig, node, id) = connected(Class::SingleUse).await;
    ended(&rig, &node, id).await;
    let days = renewal_rig::micros() - 4 * 86_400_000_000;
    rig.sql(&format!(
        "UPDATE token_set SET failures = 300, failing_since = {days}"
    ));
    rig.server
        .fail([Fault::Refuse(503, "temporarily_unavailable", None)]);
    let refused = node.call(id).await.unwrap_err();
    assert!(matches!(refused, Error::Upstream { .. }), "{refused:?}");
    assert_eq!(node.row(id).await.state, TokenState::Live);
    let seen = node.seen(id).await;
    assert_eq!(seen.status, Status::Error);
    assert!(seen.error_message.unwrap().contains("for a long time"));
    let calls = rig.server.calls();
    node.broker.upkeep().await;
    node.call(id).await.unwrap_err();
    assert_eq!(rig.server.calls(), calls, "not by itself for hours");
    // As if the lease of the last call had ended, which nobody overtakes.
    rig.sql("UPDATE token_set SET renew_at = renew_at - 31000000");
    assert_eq!(node.test(id).await.status, Status::Connected);
    assert_eq!(node.call(id).await.unwrap(), 200);
}

#[tokio::test]
async fn a_stop_waits_for_tokens_that_are_nowhere_else_and_not_for_ever() {
    let (rig, node, id) = connected(Class::SingleUse).await;
    node.broker.finish_renewals(Duration::ZERO).await;
    ended(&rig, &node, id).await;
    rig.server.hold();
    let carried = rig.server.carried_out();
    let user = tokio::spawn({
        let node = node.clone();
        async move { node.call(id).await }
    });
    while rig.server.carried_out() == carried {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Nobody waits for it but the stop.
    user.abort();
    node.broker
        .finish_renewals(Duration::from_millis(100))
        .await;
    assert_eq!(node.row(id).await.token_version, 2);
    rig.server.release();
    node.broker.finish_renewals(Duration::from_secs(20)).await;
    let row = node.row(id).await;
    assert_eq!((row.token_version, row.intent), (3, false));
}

#[tokio::test]
async fn a_disabled_integration_is_not_renewed_and_is_again_after_it_is_enabled() {
    let (rig, node, id) = connected(Class::SingleUse).await;
    node.change(id, switched(true)).await;
    rig.end_tokens();
    let calls = rig.server.calls();
    node.broker.upkeep().await;
    node.call(id).await.unwrap_err();
    assert_eq!(rig.server.calls(), calls);
    let row = node.row(id).await;
    assert!(
        row.renew_at.unwrap().0 > renewal_rig::micros(),
        "not due again and again"
    );
    // Its first trial renews what has ended meanwhile.
    node.change(id, switched(false)).await;
    node.becomes(id, |row| row.token_version == 3).await;
    node.tried(id).await;
    assert_eq!(node.call(id).await.unwrap(), 200);
    assert_eq!(rig.server.calls() - calls, 1);
    rig.sql("UPDATE token_set SET renew_at = 1");
    node.broker.upkeep().await;
    assert_eq!(node.row(id).await.token_version, 4, "ahead of need too");
}

#[tokio::test]
async fn an_integration_that_is_deleted_in_the_middle_of_a_renewal_leaves_nothing() {
    let (rig, node, id) = connected(Class::SingleUse).await;
    let other = node.connect(&rig, "other", Class::SingleUse).await;
    ended(&rig, &node, id).await;
    let user = held(&rig, &node, id).await;
    let ctx = node.ctx().await;
    let deleted = node.broker.delete_integration(&ctx, id, None);
    deleted.await.unwrap();
    rig.server.release();
    let refused = user.await.unwrap();
    let told = matches!(refused, Error::Conflict { .. } | Error::NotFound { .. });
    assert!(told, "{refused:?}");
    node.broker.finish_renewals(Duration::from_secs(10)).await;
    let left = node.store.find_token_set(node.tenant, id).await.unwrap();
    assert_eq!(left, None);
    let overtaken = &node.broker.renewal_counters().overtaken;
    assert_eq!(overtaken.load(Ordering::Relaxed), 1);
    let gone = node.call(id).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone:?}");
    assert_eq!(node.call(other).await.unwrap(), 200);
}

#[tokio::test]
async fn one_of_two_nodes_does_the_upkeep_and_the_other_takes_over_when_it_dies() {
    const GRANTS: u64 = 3;
    let mut rig = Rig::on_postgres().await;
    let first = rig.first().await;
    let mut all = Vec::new();
    for number in 0..GRANTS {
        let name = format!("n{number}");
        all.push(first.connect(&rig, &name, Class::SingleUse).await);
    }
    // A runtime of its own: what is dropped with it is dropped in the middle of its work.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    rig.settings.renew.upkeep = true;
    let dying = {
        let _on = runtime.enter();
        rig.another(&first, Clock::default()).await
    };
    fall_due(&rig, &first, &all, 3).await;
    assert_eq!(renewed(&dying), GRANTS);
    let heir = rig.another(&first, Clock::default()).await;
    // Twice: whatever moment the heir looks at, one of the two comes to it first.
    fall_due(&rig, &first, &all, 4).await;
    fall_due(&rig, &first, &all, 5).await;
    assert_eq!((renewed(&dying), renewed(&heir)), (3 * GRANTS, 0));
    runtime.shutdown_background();
    // Its duty ends, and the other asks for it again, some seconds later.
    rig.sql("UPDATE duty SET until = 1 WHERE name = 'upkeep'");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    fall_due(&rig, &first, &all, 6).await;
    assert_eq!(renewed(&heir), GRANTS);
    assert_eq!(rig.server.calls() as u64, 5 * GRANTS);
}

/// All of them fall due, and are renewed by whoever does that.
async fn fall_due(rig: &Rig, node: &Node, all: &[IntegrationId], version: u64) {
    rig.sql("UPDATE token_set SET renew_at = 1");
    for id in all {
        node.becomes(*id, |row| row.token_version == version).await;
    }
}
