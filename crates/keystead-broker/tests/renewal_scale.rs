//! What renewals cost, at the size that they are built for; `cargo xtask bench --only renew` runs it.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod renewal_rig;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keystead_broker::Clock;
use keystead_testkit::token_server::Class;
use renewal_rig::{Node, Rig};

fn exposed(node: &Node) -> (u64, u64, u64) {
    let counters = node.broker.renewal_counters();
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
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
    for (store, rig) in [
        ("SQLite", Rig::on_file().await),
        ("PostgreSQL", Rig::on_postgres().await),
    ] {
        let node = rig.first().await;
        let id = node.connect(&rig, "main", Class::SingleUse).await;
        let mut times = Vec::new();
        for _ in 0..200 {
            rig.end_tokens();
            node.hear(id).await;
            let before = exposed(&node).1;
            assert_eq!(node.call(id).await.unwrap(), 200);
            times.push(exposed(&node).1 - before);
        }
        times.sort_unstable();
        println!(
            "{store}: from the last byte of the reply to the commit: median {} µs, p99 {} µs, most {} µs, of {}",
            times[100],
            times[197],
            times[199],
            times.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, for a minute or more"]
async fn a_thousand_users_on_three_nodes_and_one_ended_token() {
    let latency = Duration::from_millis(300);
    let rig = Rig::on_postgres().await;
    let first = rig.first().await;
    let id = first.connect(&rig, "main", Class::SingleUse).await;
    let nodes = [
        first.clone(),
        rig.another(&first, Clock::default()).await,
        rig.another(&first, Clock::default()).await,
    ];
    rig.server.taking(latency);
    for round in 0..6 {
        let ended = round % 2 == 1;
        if ended {
            rig.end_tokens();
            first.hear(id).await;
            for node in &nodes {
                node.broker.hear_changes().await.unwrap();
            }
        }
        let calls = rig.server.calls();
        let mut all = Vec::new();
        for number in 0..1000 {
            let node = nodes[number % 3].clone();
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
        println!(
            "1000 users, 3 nodes, provider's latency {latency:?}, token {}: {} calls, median {:?}, p99 {:?}",
            if ended { "ended" } else { "fresh" },
            rig.server.calls() - calls,
            times[500],
            times[990]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, for a minute or more"]
async fn ten_thousand_grants_that_end_in_one_minute() {
    const GRANTS: usize = 10_000;
    let rig = Arc::new(Rig::on_postgres().await);
    let node = rig.first().await;
    let began = Instant::now();
    node.connect_many(&rig, GRANTS, Class::SingleUse).await;
    println!("{GRANTS} grants connected in {:.1?}", began.elapsed());
    let end = renewal_rig::micros() + 60_000_000;
    rig.sql(&format!(
        "UPDATE token_set SET expires_at = {end}, renew_at = 1"
    ));
    rig.server.taking(Duration::from_millis(100));
    let (calls, before) = (rig.server.calls(), exposed(&node));
    rig.server.forget_most();
    let began = Instant::now();
    node.broker.upkeep().await;
    let took = began.elapsed();
    let after = exposed(&node);
    println!(
        "{GRANTS} grants, provider's latency 100 ms: all renewed in {took:.1?}, {} calls, at most {} at once; in memory alone {} µs in the mean, {} µs at the most",
        rig.server.calls() - calls,
        rig.server.most_at_once(),
        (after.1 - before.1) / (after.0 - before.0),
        after.2
    );
    assert!(rig.server.most_at_once() <= 32);
    assert_eq!(rig.server.calls() - calls, GRANTS);
    let now = node.store.clock().await.unwrap();
    assert!(node.store.due_token_sets(now, 1).await.unwrap().is_empty());
}
