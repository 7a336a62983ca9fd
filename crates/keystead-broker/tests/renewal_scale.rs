//! What renewals cost, at the size that they are built for; `cargo xtask bench --only renew` runs it.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod renewal_rig;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keystead_broker::Clock;
use keystead_core::ids::IntegrationId;
use keystead_core::time::Time;
use keystead_testkit::size::size;
use keystead_testkit::token_server::Class;
use renewal_rig::{Node, Rig};

fn exposed(node: &Node) -> (u64, u64, u64) {
    let counters = node.broker.renewal_counters();
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    (
        of(&counters.renewed),
        of(&counters.exposed_micros),
        of(&counters.exposed_most_micros),
    )
}

/// Single renewals, one after the other: for how long the new tokens are in memory alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, for a minute or more"]
async fn the_window_in_which_a_crash_can_lose_a_token() {
    let rounds = size("ROUNDS", 200);
    for (store, rig) in [
        ("SQLite", Rig::on_file().await),
        ("PostgreSQL", Rig::on_postgres().await),
    ] {
        let node = rig.first().await;
        let id = node.connect(&rig, "main", Class::SingleUse).await;
        let mut times = Vec::new();
        for _ in 0..rounds {
            rig.end_tokens();
            node.hear(id).await;
            let before = exposed(&node).1;
            assert_eq!(node.call(id).await.unwrap(), 200);
            times.push(exposed(&node).1 - before);
        }
        times.sort_unstable();
        println!(
            "{store}: from the last byte of the reply to the commit: median {} µs, p99 {} µs, most {} µs, of {rounds}",
            times[rounds / 2],
            times[rounds * 99 / 100],
            times[rounds - 1],
        );
    }
}

/// How long each of so many callers at once takes, spread over the nodes.
async fn crowd(nodes: &[Node], id: IntegrationId, users: usize) -> Vec<Duration> {
    let mut all = Vec::new();
    for number in 0..users {
        let node = nodes[number % nodes.len()].clone();
        let ctx = node.ctx().await;
        all.push(tokio::spawn(async move {
            let began = Instant::now();
            let done = node.broker.reveal_integration(&ctx, id).await;
            done.map(|_| began.elapsed())
        }));
    }
    let mut times = Vec::new();
    for one in all {
        times.push(one.await.unwrap().unwrap());
    }
    times.sort();
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, for a minute or more"]
async fn a_thousand_users_on_three_nodes_and_one_ended_token() {
    let (users, latency) = (size("USERS", 1000), Duration::from_millis(300));
    let rig = Rig::on_postgres().await;
    let first = rig.first().await;
    let id = first.connect(&rig, "main", Class::SingleUse).await;
    let nodes = [
        first.clone(),
        rig.another(&first, Clock::default()).await,
        rig.another(&first, Clock::default()).await,
    ];
    rig.server.taking(latency);
    // Everything is opened and every connection is made.
    crowd(&nodes, id, users).await;
    let mut added = Vec::new();
    for _ in 0..5 {
        let fresh = crowd(&nodes, id, users).await;
        rig.end_tokens();
        first.hear(id).await;
        for node in &nodes {
            node.broker.hear_changes().await.unwrap();
        }
        let calls = rig.server.calls();
        let ended = crowd(&nodes, id, users).await;
        let calls = rig.server.calls() - calls;
        assert_eq!(calls, 1);
        let (fresh_p50, ended_p50) = (fresh[users / 2], ended[users / 2]);
        added.push(ended_p50.saturating_sub(fresh_p50));
        println!(
            "{users} users, 3 nodes, provider's latency {latency:?}: {calls} call, median {ended_p50:?} (p99 {:?}), {fresh_p50:?} with a fresh token: {:?} added",
            ended[users * 99 / 100],
            added[added.len() - 1],
        );
    }
    added.sort();
    let added = added[added.len() / 2];
    println!(
        "{users} users, 3 nodes: {added:?} added in the median of 5 rounds, of them {:?} ours",
        added.saturating_sub(latency)
    );
}

/// The least that an hour's token has left when it falls due.
const LEFT_SECONDS: i64 = 600;

/// All of them end within one minute and fall due at one moment, which is worse than what is: they fall
/// due over five minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, for a minute or more"]
async fn ten_thousand_grants_that_end_in_one_minute() {
    let (grants, latency) = (size("GRANTS", 10_000), Duration::from_millis(100));
    let rig = Rig::on_postgres().await;
    let node = rig.first().await;
    let began = Instant::now();
    let due = Time(renewal_rig::micros());
    let minute = due.plus_seconds(LEFT_SECONDS);
    let end = |number: usize| Time(minute.0 + (60_000_000 * number / grants) as i64);
    let all = rig.seed(&node, grants, Class::SingleUse, end).await;
    println!("{grants} grants seeded in {:.1?}", began.elapsed());
    rig.server.taking(latency);
    let (calls, before) = (rig.server.calls(), exposed(&node));
    rig.server.forget_most();
    let began = Instant::now();
    node.broker.upkeep().await;
    let took = began.elapsed();
    let (calls, most) = (rig.server.calls() - calls, rig.server.most_at_once());
    let after = exposed(&node);
    let mut late = 0;
    for (number, id) in all.iter().enumerate() {
        let row = node.row(*id).await;
        assert_eq!(row.token_version, 2);
        // Its time is that before the call: what came after it is as long as the longest was.
        let longest = i64::try_from(after.2).unwrap() + 2 * latency.as_micros() as i64;
        late += usize::from(row.updated_at.0 + longest > end(number).0);
    }
    println!(
        "{grants} grants that end in one minute, all due {LEFT_SECONDS} s before, provider's latency {latency:?}: the last is renewed after {took:.1?}, {calls} calls, at most {most} in flight, {late} late; in memory alone {} µs in the mean, {} µs at the most",
        (after.1 - before.1) / (after.0 - before.0),
        after.2
    );
    assert_eq!((calls, late), (grants, 0));
    assert!(most <= 32);
    let now = node.store.clock().await.unwrap();
    assert!(node.store.due_token_sets(now, 1).await.unwrap().is_empty());
}
