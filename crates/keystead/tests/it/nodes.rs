//! Two servers on one PostgreSQL: what one decides the other knows within a second, and both write
//! one log.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use keystead_testkit::client::Client;
use keystead_testkit::process::Process;
use serde_json::{Value, json};

use crate::rig::{House, TRUE_KEY, cluster, connect, eventually};

/// No use that starts later than this after the word may succeed.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);
const LIMIT: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_revokes_the_other_refuses_within_a_second_and_the_log_is_one() {
    let cluster = cluster();
    let house = House::on_postgres(&cluster, "").await;
    let (one, two) = (house.serve(), house.serve());
    let alice = house.user(&one, "alice", "acme", "owner");
    let there = alice.at(&two.url);
    let seen = connect(&alice, "main", TRUE_KEY).await;
    let path = format!("/api/integrations/{}", seen["id"].as_str().unwrap());
    let proxied = format!("/proxy/{}/v1/models", seen["id"].as_str().unwrap());
    assert_eq!(there.get(&proxied).await.status, 200);

    // A key, a disabled integration, a new version and a removal; each cached there before.
    let (id, key) = house.service_key("acme", "use,info");
    let service = Client::new(&two.url).bearer(&key);
    assert_eq!(service.get(&proxied).await.status, 200);
    house
        .operator(&one)
        .delete(&format!("/api/keys/{id}"))
        .await
        .expect(204);
    eventually(KNOWN_WITHIN, "a revoked key", async || {
        service.get(&proxied).await.status == 401
    })
    .await;
    for _ in 0..20 {
        assert_eq!(service.get(&proxied).await.status, 401);
    }
    alice
        .put(&path, &json!({"disabled": true}))
        .await
        .expect(200);
    eventually(KNOWN_WITHIN, "a disabled integration", async || {
        there.get(&proxied).await.status == 409
    })
    .await;
    alice
        .put(&path, &json!({"disabled": false}))
        .await
        .expect(200);
    eventually(KNOWN_WITHIN, "an enabled integration", async || {
        there.get(&proxied).await.status == 200
    })
    .await;
    alice
        .put(
            &path,
            &json!({"credentials": "sk-canary-another-0123456789abcdef"}),
        )
        .await
        .expect(200);
    eventually(KNOWN_WITHIN, "a new version", async || {
        there.get(&proxied).await.status == 401
    })
    .await;
    alice.delete(&path).await.expect(204);
    eventually(KNOWN_WITHIN, "a removed integration", async || {
        there.get(&proxied).await.status == 404
    })
    .await;

    // Both append at once, also under one name: one order, one winner.
    let json = alice.header("content-type", "application/json");
    let mut writers = Vec::new();
    for (node, url) in [&one.url, &two.url].into_iter().enumerate() {
        for lane in 0..4 {
            let writer = json.at(url);
            writers.push(tokio::spawn(async move {
                let mut won = Vec::new();
                for number in 0..15 {
                    let name = if lane == 0 {
                        format!("both-{number}")
                    } else {
                        format!("{node}-{lane}-{number}")
                    };
                    let new = json!({"name": name, "type": "openai", "credentials": TRUE_KEY});
                    let answer = writer
                        .try_call(
                            Method::POST,
                            "/api/integrations",
                            Bytes::from(new.to_string()),
                        )
                        .await
                        .unwrap();
                    match answer.status.as_u16() {
                        201 => won.push(name),
                        // Taken: by the other node, or by an answer of ours that did not come.
                        409 => {}
                        // Too much for a busy machine: nobody was told that it was kept.
                        503 => assert!(answer.headers.contains_key("retry-after")),
                        _ => panic!("{answer:?}"),
                    }
                }
                won
            }));
        }
    }
    let mut won = Vec::new();
    for writer in writers {
        let writer = writer.await;
        won.extend(writer.unwrap_or_else(|fault| {
            panic!(
                "{fault}\n{}\n{}",
                one.process.stderr(),
                two.process.stderr()
            )
        }));
    }
    won.sort();
    let (all, mut once) = (won.len(), won.clone());
    once.dedup();
    assert_eq!(all, once.len(), "a name was won twice: {won:?}");
    assert!(all > 50, "{all} of 105: that is no load");
    let mut names = Vec::new();
    let page = there.get("/api/integrations?limit=200").await.expect(200);
    for made in page["data"].as_array().unwrap() {
        names.push(made["name"].as_str().unwrap().to_owned());
    }
    assert!(won.iter().all(|name| names.contains(name)), "one is lost");
    let log = house.operator(&two).get("/api/audit/export").await.text();
    for (place, line) in log.lines().enumerate() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["seq"], place, "a gap");
    }
    let (code, out, err) = house.keystead(&["audit", "verify"]);
    assert_eq!(code, 0, "{out}{err}");
    // Heads of both are heads of one log.
    for (name, server) in [("one.checkpoint", &one), ("two.checkpoint", &two)] {
        house.write(
            name,
            &house
                .operator(server)
                .get("/api/audit/checkpoint")
                .await
                .text(),
        );
    }
    let (code, out, err) = house.keystead(&[
        "audit",
        "verify",
        "--checkpoint",
        "one.checkpoint",
        "--checkpoint",
        "two.checkpoint",
    ]);
    assert_eq!(code, 0, "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_for_the_first_time_at_once_are_one_installation() {
    let cluster = cluster();
    for _ in 0..3 {
        let house = House::on_postgres(&cluster, "").await;
        let starting = [(); 3].map(|()| Process::start(&mut house.command(&["serve"])));
        let servers = starting.map(|process| house.wait(process));
        let operator = house.operator(&servers[0]);
        let key = operator.get("/api/audit/key").await.text();
        for server in &servers {
            let there = operator.at(&server.url);
            assert_eq!(there.get("/api/audit/key").await.text(), key);
            // Of the keys that the nodes may have said, each is one of this installation's.
            for said in server.process.stdout().lines() {
                if said.starts_with("kso_") {
                    let said = Client::new(&servers[1].url).bearer(said);
                    said.get("/api/keys").await.expect(200);
                }
            }
            let alice = house.user(server, "alice", "acme", "owner");
            alice.get("/api/integrations").await.expect(200);
        }
        drop(servers);
        let (code, out, err) = house.keystead(&["audit", "verify"]);
        assert_eq!(code, 0, "{out}{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_counted_over_both_nodes_to_within_half_a_second_of_what_they_admit() {
    let cluster = cluster();
    let limits = format!(
        "[limits]\nservice = \"{LIMIT}/hour\"\nuser = \"1000000/minute\"\noperator = \"1000000/minute\"\nanonymous = \"1000000/minute\"\n"
    );
    let house = House::on_postgres(&cluster, &limits).await;
    let (one, two) = (house.serve(), house.serve());
    house
        .user(&one, "alice", "acme", "owner")
        .get("/api/integrations")
        .await
        .expect(200);
    let (_, key) = house.service_key("acme", "list");
    let began = Instant::now();
    let mut lanes = Vec::new();
    for url in [&one.url, &two.url] {
        let client = Client::new(url).bearer(&key);
        lanes.push(tokio::spawn(async move {
            let (mut admitted, mut refused) = (Vec::new(), 0);
            // On beyond the first refusal: what a node was too generous with is not given again.
            while refused < 30 {
                let answer = client.get("/api/integrations").await;
                match answer.status.as_u16() {
                    200 => admitted.push(began.elapsed()),
                    429 => {
                        assert!(answer.headers.contains_key("retry-after"));
                        refused += 1;
                        tokio::time::sleep(Duration::from_millis(40)).await;
                    }
                    _ => panic!("{answer:?}"),
                }
                tokio::time::sleep(Duration::from_millis(12)).await;
            }
            admitted
        }));
    }
    let mut admitted = Vec::new();
    for lane in lanes {
        admitted.extend(lane.await.unwrap());
    }
    admitted.sort();
    // What each may admit before it hears of the other's: an exchange, and the time that it takes.
    let window = Duration::from_millis(500 + 250);
    let busiest = admitted
        .iter()
        .map(|from| {
            admitted
                .iter()
                .filter(|at| *at >= from && **at < *from + window)
                .count()
        })
        .max()
        .unwrap();
    let total = admitted.len();
    assert!(total >= LIMIT, "only {total} of {LIMIT} were admitted");
    assert!(
        total <= LIMIT + busiest,
        "{total} were admitted; the limit is {LIMIT}, and {busiest} are admitted in {window:?}"
    );
    assert!(
        total < 2 * LIMIT - 20,
        "{total}: the nodes did not count together"
    );
}
