//! Several nodes over one PostgreSQL: one call for all of them, whatever their clocks say and whoever
//! dies, and no reply is lost to a database that is away for a while.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod renewal_rig;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keystead_broker::Clock;
use keystead_core::ids::IntegrationId;
use keystead_core::time::Time;
use keystead_testkit::postgres::Cluster;
use keystead_testkit::token_server::Class;
use renewal_rig::{Node, Rig};

/// Nodes that have heard of the integration, with clocks that are off by so many seconds.
async fn nodes(rig: &Rig, skews: &[i64]) -> (Vec<Node>, IntegrationId) {
    let first = rig.first().await;
    let id = first.connect(rig, "main", Class::SingleUse).await;
    let mut all = Vec::new();
    for skew in skews {
        let clock = match skew {
            0 => Clock::default(),
            skew => Clock::fixed(Time(renewal_rig::micros()).plus_seconds(*skew)).0,
        };
        all.push(rig.another(&first, clock).await);
    }
    (all, id)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// So many callers at once, spread over the nodes; how long each took.
async fn storm(nodes: &[Node], id: IntegrationId, callers: usize) -> Vec<Duration> {
    let mut all = Vec::with_capacity(callers);
    for number in 0..callers {
        let node = nodes[number % nodes.len()].clone();
        let ctx = node.ctx().await;
        all.push(tokio::spawn(async move {
            let began = Instant::now();
            let revealed = node.broker.reveal_integration(&ctx, id).await;
            (revealed.map(drop), began.elapsed())
        }));
    }
    let mut times = Vec::with_capacity(callers);
    for caller in all {
        let (done, took) = caller.await.unwrap();
        done.unwrap();
        times.push(took);
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_users_of_one_ended_token_on_three_nodes_make_one_call_and_wait_little_longer() {
    let latency = Duration::from_millis(300);
    let rig = Rig::on_postgres().await;
    let (nodes, id) = nodes(&rig, &[0, 0, 0]).await;
    // The same crowd with a token that is fresh: what is left is the wait for the renewal.
    storm(&nodes, id, 1000).await;
    let fresh = median(storm(&nodes, id, 1000).await);
    rig.end_tokens();
    nodes[0].hear(id).await;
    for node in &nodes {
        node.broker.hear_changes().await.unwrap();
    }
    rig.server.taking(latency);
    let calls = rig.server.calls();
    let ended = median(storm(&nodes, id, 1000).await);
    assert_eq!(rig.server.calls() - calls, 1);
    let added = ended.saturating_sub(fresh);
    println!(
        "1000 users, 3 nodes, latency {latency:?}: median {fresh:?} with a fresh token, {ended:?} with an ended one, {added:?} added"
    );
    // What is to be reached is 50 ms, on a machine with nothing else to do: the bench says.
    assert!(added <= latency + Duration::from_millis(250), "{added:?}");
}

#[tokio::test]
async fn clocks_that_are_an_hour_off_change_nothing() {
    let rig = Rig::on_postgres().await;
    let (nodes, id) = nodes(&rig, &[-3600, 0, 3600]).await;
    let calls = rig.server.calls();
    storm(&nodes, id, 30).await;
    assert_eq!(rig.server.calls(), calls, "fresh for all of them");
    rig.end_tokens();
    nodes[1].hear(id).await;
    for node in &nodes {
        node.broker.hear_changes().await.unwrap();
    }
    rig.server.taking(Duration::from_millis(100));
    storm(&nodes, id, 30).await;
    assert_eq!(rig.server.calls() - calls, 1);
    let row = nodes[0].row(id).await;
    let left = row.expires_at.unwrap().0 - renewal_rig::micros();
    assert!((3_500_000_000..=3_600_000_000).contains(&left), "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_is_kept_and_stored_when_the_database_comes_back() {
    let started = tokio::task::spawn_blocking(|| Cluster::start().unwrap());
    let cluster: &'static Cluster = Box::leak(Box::new(started.await.unwrap()));
    let rig = Rig::on_cluster(cluster).await;
    let (nodes, id) = nodes(&rig, &[0, 0]).await;
    rig.end_tokens();
    nodes[0].hear(id).await;
    nodes[1].broker.hear_changes().await.unwrap();
    rig.server.hold();
    let carried = rig.server.carried_out();
    let user = tokio::spawn({
        let node = nodes[0].clone();
        async move { node.call(id).await }
    });
    while rig.server.carried_out() == carried {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::task::spawn_blocking(|| cluster.stop_at_once())
        .await
        .unwrap();
    rig.server.release();
    // Away for some attempts to store.
    tokio::time::sleep(Duration::from_secs(3)).await;
    tokio::task::spawn_blocking(|| cluster.start_again())
        .await
        .unwrap();
    nodes[1].becomes(id, |row| row.token_version == 3).await;
    let row = nodes[1].row(id).await;
    assert!(!row.intent && row.lease_until.is_none());
    let _ = user.await.unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while nodes[1].broker.hear_changes().await.is_err() {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(nodes[1].call(id).await.unwrap(), 200);
    assert_eq!(rig.server.carried_out() - carried, 1);
    // It was in memory alone for all of that time.
    let most = &nodes[0].broker.renewal_counters().exposed_most_micros;
    assert!(most.load(Ordering::Relaxed) >= 2_000_000);
}
