//! Very many grants in one batch.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use keystead_broker::{BatchState, Context};
use keystead_core::action::Role;
use keystead_core::ids::BatchId;
use keystead_core::log::Settled;

use crate::stage::{Stage, of_provider};

/// How long a batch of so many took until all were out of use, and until it was closed.
async fn takes(stage: &Stage, owner: &Context, count: usize) -> (Duration, Duration) {
    let names: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
    let made = stream::iter(&names).map(|name| stage.add(owner, name, "revocable"));
    made.buffer_unordered(16).collect::<Vec<_>>().await;
    let broker = &stage.house.broker;
    let began = Instant::now();
    let batch = broker.create_revocation(owner, of_provider("revocable"));
    let batch = batch.await.unwrap().id;
    let out = reaches(stage, owner, batch, BatchState::Working, began).await;
    let closed = reaches(stage, owner, batch, BatchState::Closed, began).await;
    let receipt = stage.receipt(owner, batch).await;
    assert_eq!(receipt.items.len(), count);
    assert_eq!(receipt.count(Settled::Confirmed), count);
    assert_eq!(stage.asked(), count);
    (out, closed)
}

async fn reaches(
    stage: &Stage,
    owner: &Context,
    batch: BatchId,
    state: BatchState,
    began: Instant,
) -> Duration {
    let reached = |now: BatchState| now == state || now == BatchState::Closed;
    while !reached(stage.batch(owner, batch).await.batch.state) {
        assert!(began.elapsed() < Duration::from_secs(900));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_grants_of_one_batch_are_confirmed_within_a_minute() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let (_, closed) = takes(&stage, &alice, 1000).await;
    assert!(closed < Duration::from_secs(60), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, for minutes"]
async fn ten_thousand_grants_of_one_batch() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    let (out, closed) = takes(&stage, &alice, 10_000).await;
    println!("10,000 grants: out of use after {out:?}, closed after {closed:?}");
}

#[tokio::test]
async fn of_a_batch_that_is_closed_no_duty_is_left() {
    let stage = Stage::new().await;
    let alice = stage.house.user("alice", "acme", Role::Owner).await;
    stage.add(&alice, "one", "revocable").await;
    stage.add(&alice, "two", "mute").await;
    let broker = &stage.house.broker;
    let held = || {
        let python = "print([row[0] for row in db.execute('SELECT name FROM duty ORDER BY name')])";
        stage.house.tamper(python, &[]).trim().to_owned()
    };
    let store = &stage.house.store;
    store.take_duty("upkeep", "a node", 60).await.unwrap();
    stage.played.answers(
        keystead_testkit::played::Door::Revoke,
        keystead_testkit::played::Answer::Hang,
    );
    let open = broker.create_revocation(&alice, of_provider("revocable"));
    let open = open.await.unwrap().id;
    stage.comes_to_be_asked(1).await;
    let closed = broker.create_revocation(&alice, of_provider("mute"));
    let closed = closed.await.unwrap().id;
    stage.closed(&alice, closed).await;
    broker.upkeep().await;
    assert_eq!(held(), format!("['{open}', 'upkeep']"));
}
