//! Asking the provider: what confirms, what is asked again, and when it is given up.

use keystead_broker::{Context, Error};
use keystead_core::action::Role;
use keystead_core::ids::BatchId;
use keystead_core::log::{Checkpoint, RevocationReceipt, Settled, VerifierKey};
use keystead_store::RevocationState;
use keystead_testkit::played::{Answer, Door, Reply};
use serde_json::json;

use crate::house::NOON;
use crate::stage::{PAGE, Stage};

const DAY: i64 = 24 * 3600;

/// Deletes an integration with its grant, while the provider answers so.
async fn revoked(stage: &Stage, answer: Answer) -> (Context, BatchId) {
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let id = stage.add(&alice, "main", "revocable").await;
    stage.played.answers(Door::Revoke, answer);
    let broker = &stage.house.broker;
    let begun = broker.revoke_integration(&alice, id, None).await.unwrap();
    let gone = broker.integration(&alice, id).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })));
    (alice, begun.batch.id)
}

fn with(reply: Reply) -> Answer {
    Answer::With(reply)
}

#[tokio::test]
async fn a_deleted_grant_is_taken_back_at_once_and_a_signed_receipt_says_so() {
    let stage = Stage::new().await;
    let (alice, batch) = revoked(&stage, Answer::WellPlayed).await;
    let items = stage.closed(&alice, batch).await;
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].state, RevocationState::Confirmed);
    assert_eq!((items[0].attempts, items[0].detail.as_deref()), (1, None));
    // Exactly the call of the file: the played provider refuses any other.
    assert_eq!(stage.asked(), 1);
    assert!(stage.played.last(Door::Revoke).unwrap().fault.is_none());
    let tenant = alice.tenant.unwrap();
    let rows = stage.rows(tenant, batch).await;
    assert!(rows[0].sealed.is_none() && rows[0].key_id.is_none() && rows[0].next_at.is_none());
    let receipt = stage.receipt(&alice, batch).await;
    assert_eq!(receipt.count(Settled::Confirmed), 1);
    assert_eq!(receipt.selection["deleted"], true);
    assert_eq!(receipt.items[0].name, "main");
    assert_eq!(receipt.asked_by, alice.caller.as_ref().unwrap().name());
    // The log names the receipt by its hash, and shows the token to nobody.
    assert_eq!(
        stage
            .house
            .entries(&["closed; the receipt's SHA-256 is "])
            .await,
        1
    );
    assert_eq!(stage.house.entries(&["confirmed, rvb_"]).await, 1);
    stage.house.log_is_clean().await;
    let python = "import glob\nfound = [f for f in glob.glob(sys.argv[1] + '*') if arg[0].encode() in open(f, 'rb').read()]\nprint(found)";
    let found = stage.house.tamper(python, std::slice::from_ref(&stage.key));
    assert_eq!(found.trim(), "[]");
}

#[tokio::test]
async fn a_changed_receipt_is_refused_and_none_is_taken_for_a_checkpoint() {
    let stage = Stage::new().await;
    let (alice, batch) = revoked(&stage, Answer::WellPlayed).await;
    stage.closed(&alice, batch).await;
    let broker = &stage.house.broker;
    let key: VerifierKey = broker.verifier_key().parse().unwrap();
    let note = broker.revocation_receipt(&alice, batch).await.unwrap();
    assert!(RevocationReceipt::parse_signed(&note, &key).is_ok());
    let changed = note.replace("\"attempts\":1", "\"attempts\":2");
    assert_ne!(changed, note);
    assert!(RevocationReceipt::parse_signed(&changed, &key).is_err());
    assert!(Checkpoint::parse_signed(&note, &key).is_err());
    let head = broker
        .checkpoint(&stage.house.operator().await)
        .await
        .unwrap();
    assert!(Checkpoint::parse_signed(&head, &key).is_ok());
    assert!(RevocationReceipt::parse_signed(&head, &key).is_err());
}

#[tokio::test]
async fn what_was_gone_already_is_confirmed_and_204_too() {
    for (status, detail) in [
        (204, None),
        (404, Some("the provider answered 404: it was gone")),
    ] {
        let stage = Stage::new().await;
        let mut reply = Reply::json(status, &json!({}));
        reply.body.clear();
        let (alice, batch) = revoked(&stage, with(reply)).await;
        let items = stage.closed(&alice, batch).await;
        assert_eq!(items[0].state, RevocationState::Confirmed, "{status}");
        assert_eq!(items[0].detail.as_deref(), detail);
    }
}

#[tokio::test]
async fn what_does_not_clearly_confirm_is_asked_again_and_confirmed_later() {
    let away = Reply::json(302, &json!({})).with("location", "/stolen");
    for (reply, detail) in [
        (Reply::json(500, &json!({})), "the provider answered 500"),
        (
            Reply::json(400, &json!({"error": "unsupported_token_type"})),
            "the provider answered 400",
        ),
        (away, "the provider answered 302"),
        (
            Reply::html(200),
            "a page came back, and no answer of the provider's",
        ),
        (
            Reply::json(200, &json!({"error": "canary-what-it-said"})),
            "the provider answered with an error in its words",
        ),
        (
            Reply::json(200, &json!({"ok": false})),
            "the provider answered with an error in its words",
        ),
    ] {
        let stage = Stage::new().await;
        let (alice, batch) = revoked(&stage, with(reply)).await;
        let items = stage.tried(&alice, batch).await;
        assert_eq!(items[0].state, RevocationState::Pending);
        assert_eq!(items[0].detail.as_deref(), Some(detail));
        assert_eq!(items[0].manual_url.as_deref(), Some(PAGE));
        let wait = items[0].next_at.unwrap().0 - NOON.0;
        assert!((48_000_000..=72_000_000).contains(&wait), "{wait}");
        let broker = &stage.house.broker;
        let early = broker.revocation_receipt(&alice, batch).await;
        assert!(matches!(
            early,
            Err(Error::Conflict {
                code: "not_closed",
                ..
            })
        ));
        // Nothing goes anywhere else, and nothing before its time.
        assert_eq!(stage.played.count(Door::Api), 0);
        stage.played.answers(Door::Revoke, Answer::WellPlayed);
        stage.at(30);
        broker.due_revocations().await.unwrap();
        assert_eq!(stage.asked(), 1);
        stage.at(80);
        broker.due_revocations().await.unwrap();
        let items = stage.closed(&alice, batch).await;
        assert_eq!(items[0].state, RevocationState::Confirmed, "{detail}");
        assert_eq!((items[0].attempts, stage.asked()), (2, 2));
        stage.house.log_is_clean().await;
    }
}

#[tokio::test]
async fn a_provider_that_wants_to_be_left_alone_is() {
    let stage = Stage::new().await;
    let reply = Reply::json(429, &json!({})).with("retry-after", "7200");
    let (alice, batch) = revoked(&stage, with(reply)).await;
    let items = stage.tried(&alice, batch).await;
    assert_eq!(items[0].next_at, Some(NOON.plus_seconds(7200)));
    let broker = &stage.house.broker;
    stage.at(7199);
    broker.due_revocations().await.unwrap();
    assert_eq!(stage.asked(), 1);
    stage.played.answers(Door::Revoke, Answer::WellPlayed);
    stage.at(7200);
    broker.due_revocations().await.unwrap();
    assert_eq!(
        stage.closed(&alice, batch).await[0].state,
        RevocationState::Confirmed
    );
}

#[tokio::test]
async fn after_a_week_it_is_given_up_and_left_to_a_person_with_nothing_kept() {
    let stage = Stage::new().await;
    let (alice, batch) = revoked(&stage, with(Reply::json(503, &json!({})))).await;
    stage.tried(&alice, batch).await;
    let broker = &stage.house.broker;
    let tenant = alice.tenant.unwrap();
    // Each time that it is due, for as long as it is.
    let mut attempts = 1;
    while let Some(next) = stage.rows(tenant, batch).await[0].next_at {
        assert!(next <= NOON.plus_seconds(7 * DAY), "{next:?}");
        stage.hand.set(next);
        broker.due_revocations().await.unwrap();
        attempts += 1;
        assert!(attempts < 60);
    }
    assert!((20..40).contains(&attempts), "{attempts}");
    let items = stage.closed(&alice, batch).await;
    assert_eq!(items[0].state, RevocationState::Failed);
    assert_eq!(items[0].manual_url.as_deref(), Some(PAGE));
    assert_eq!(items[0].attempts as usize, stage.asked());
    assert!(stage.rows(tenant, batch).await[0].sealed.is_none());
    assert_eq!(stage.receipt(&alice, batch).await.count(Settled::Failed), 1);
    // Never again, and by nobody.
    stage.at(30 * DAY);
    broker.due_revocations().await.unwrap();
    assert_eq!(stage.asked(), attempts);
}

#[tokio::test]
async fn a_provider_without_a_call_is_unsupported_at_once_with_its_page_and_nothing_is_kept() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let id = stage.add(&alice, "main", "mute").await;
    let broker = &stage.house.broker;
    let begun = broker.revoke_integration(&alice, id, None).await.unwrap();
    let item = &begun.items.data[0];
    assert_eq!(item.state, RevocationState::Unsupported);
    assert_eq!(
        item.manual_url.as_deref(),
        Some("https://mute.example/console")
    );
    let rows = stage.rows(alice.tenant.unwrap(), begun.batch.id).await;
    assert!(rows[0].sealed.is_none());
    // The receipt is there with the answer.
    let receipt = stage.receipt(&alice, begun.batch.id).await;
    assert_eq!(receipt.count(Settled::Unsupported), 1);
    assert_eq!(stage.asked(), 0);
    // Nothing was opened for it.
    assert_eq!(stage.house.entries(&["opened to be revoked"]).await, 0);
}

#[tokio::test]
async fn two_nodes_do_not_both_ask_and_a_claim_that_nobody_followed_up_is_asked_again() {
    let stage = Stage::new().await;
    let neighbour = stage.neighbour().await;
    let (alice, batch) = revoked(&stage, Answer::Hang).await;
    stage.comes_to_be_asked(1).await;
    // One asks; the others leave it alone for as long as asking can take.
    for seconds in [0, 60, 119] {
        stage.at(seconds);
        neighbour.due_revocations().await.unwrap();
        stage.house.broker.due_revocations().await.unwrap();
    }
    assert_eq!(stage.asked(), 1);
    // As if the first had been killed between the call and its record.
    stage.at(121);
    let (one, two, ()) = tokio::join!(
        neighbour.due_revocations(),
        stage.house.broker.due_revocations(),
        // The first call is answered too then, and what it brings comes too late.
        async {
            stage.comes_to_be_asked(2).await;
            stage.played.answers(Door::Revoke, Answer::WellPlayed);
        }
    );
    one.unwrap();
    two.unwrap();
    let items = stage.closed(&alice, batch).await;
    assert_eq!(items[0].state, RevocationState::Confirmed);
    // Of the two that looked at once, one asked.
    assert_eq!((items[0].attempts, stage.asked()), (2, 2));
}

#[tokio::test]
async fn a_provider_that_never_answers_is_asked_again_later() {
    let stage = Stage::new().await;
    let (alice, batch) = revoked(&stage, Answer::Hang).await;
    // The call has ten seconds, which pass.
    let items = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        loop {
            let page = stage.batch(&alice, batch).await;
            if page.items.data[0].detail.is_some() {
                return page.items.data;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
    let items = items.await.unwrap();
    assert_eq!(items[0].state, RevocationState::Pending);
    assert_eq!(
        items[0].detail.as_deref(),
        Some("the provider did not answer in time")
    );
    stage.played.answers(Door::Revoke, Answer::WellPlayed);
    stage.at(200);
    stage.house.broker.due_revocations().await.unwrap();
    assert_eq!(
        stage.closed(&alice, batch).await[0].state,
        RevocationState::Confirmed
    );
}
