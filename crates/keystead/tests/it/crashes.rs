//! Killed at any moment: what was acknowledged is there and whole, the log verifies, the server
//! starts.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use keystead_testkit::client::Client;
use keystead_testkit::process::Process;
use serde_json::{Value, json};

use crate::rig::{House, PATIENCE, cluster, eventually};

const ROUNDS: u32 = 4;
const WRITERS: usize = 8;

/// A number below `most`, another one each time.
fn random(most: u64) -> u64 {
    RandomState::new().hash_one(Instant::now()) % most
}

/// What was acknowledged: the integration's id, and its name and credential.
type Acknowledged = Arc<Mutex<BTreeMap<String, (String, String)>>>;

async fn write_until_killed(client: Client, writer: String, acknowledged: Acknowledged) {
    let client = client.header("content-type", "application/json");
    for number in 0.. {
        let name = format!("{writer}-{number}");
        let credential = format!("sk-canary-{name}-0123456789abcdef0123");
        let new = json!({"name": name, "type": "openai", "credentials": credential});
        let Ok(answer) = client
            .try_call(
                Method::POST,
                "/api/integrations",
                Bytes::from(new.to_string()),
            )
            .await
        else {
            return;
        };
        // Too much for a busy machine: not acknowledged.
        if answer.status == 503 {
            continue;
        }
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        acknowledged.lock().unwrap().insert(id, (name, credential));
    }
}

async fn killed_under_load(house: &House) {
    let server = house.serve();
    house
        .user(&server, "alice", "acme", "owner")
        .get("/api/integrations")
        .await
        .expect(200);
    let (_, reveal) = house.service_key("acme", "reveal,info,list");
    drop(server);
    let acknowledged = Acknowledged::default();
    let mut checked = 0;
    for round in 0..=ROUNDS {
        let mut server = house.serve();
        let service = Client::new(&server.url).bearer(&reveal);
        let all = acknowledged.lock().unwrap().clone();
        for (id, (name, credential)) in &all {
            let seen = service
                .get(&format!("/api/integrations/{id}"))
                .await
                .expect(200);
            assert_eq!(seen["name"], *name);
            let revealed = service
                .post(&format!("/api/integrations/{id}/reveal"), &json!({}))
                .await
                .expect(200);
            assert_eq!(revealed["credentials"], *credential);
            checked += 1;
        }
        let export = house.operator(&server).get("/api/audit/export").await;
        assert_eq!(export.status, 200);
        let log = export.text();
        for id in all.keys() {
            assert!(log.contains(id.as_str()), "no entry of {id}");
        }
        if round == ROUNDS {
            break;
        }
        let alice = house.user(&server, "alice", "acme", "owner");
        let load: Vec<_> = (0..WRITERS)
            .map(|writer| {
                tokio::spawn(write_until_killed(
                    alice.clone(),
                    format!("r{round}-w{writer}"),
                    acknowledged.clone(),
                ))
            })
            .collect();
        // After a few, and somewhere within the next ones.
        let (few, moment) = (
            5 + random(20) as usize,
            Duration::from_micros(random(20_000)),
        );
        let known = all.len();
        eventually(PATIENCE, "a load", async || {
            acknowledged.lock().unwrap().len() >= known + few
        })
        .await;
        tokio::time::sleep(moment).await;
        server.process.kill();
        for writer in load {
            writer.await.unwrap();
        }
        let (code, out, err) = house.keystead(&["audit", "verify"]);
        assert_eq!(
            code, 0,
            "killed {moment:?} after {few} in round {round}: {out}{err}"
        );
        assert!(out.contains("in order and unchanged"), "{out}");
    }
    assert!(checked > 20, "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kills_under_load_on_sqlite() {
    killed_under_load(&House::new("").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kills_under_load_on_postgres() {
    let cluster = cluster();
    killed_under_load(&House::on_postgres(&cluster, "").await).await;
}

/// Kills a first start a little later each time, and starts it again.
async fn killed_in_the_first_start(make: impl AsyncFn() -> House) {
    let first = make().await;
    let began = Instant::now();
    drop(first.serve());
    let whole = began.elapsed();
    for part in 0..8 {
        let house = make().await;
        let mut process = Process::start(&mut house.command(&["serve"]));
        tokio::time::sleep(whole * part / 8).await;
        process.kill();
        let server = house.serve();
        let operator = house.operator(&server);
        operator.get("/api/keys").await.expect(200);
        drop(server);
        let (code, _, err) = house.keystead(&["audit", "verify"]);
        assert_eq!(code, 0, "killed after {part}/8 of {whole:?}: {err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_is_killed_is_finished_by_the_next_on_sqlite() {
    killed_in_the_first_start(async || House::new("").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_is_killed_is_finished_by_the_next_on_postgres() {
    let cluster = cluster();
    killed_in_the_first_start(async || House::on_postgres(&cluster, "").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integration_that_was_being_tried_when_the_server_died_is_tried_after_the_restart() {
    // A provider that takes its time, so that the kill comes while the trial waits for it.
    let house = House::new("[proxy]\nhead_timeout_seconds = 20\n").await;
    let mut server = house.serve();
    let alice = house.user(&server, "alice", "acme", "owner");
    let upstream = house.upstream.url();
    let new = json!({"name": "slow", "type": "generic_bearer", "credentials": "canary-slow-credential",
        "config": {"base_url": upstream, "test_path": "/slow?ms=700"}});
    let made = alice.post("/api/integrations", &new).await.expect(201);
    let path = format!("/api/integrations/{}", made["id"].as_str().unwrap());
    server.process.kill();
    let server = house.serve();
    let alice = alice.at(&server.url);
    let until = Instant::now() + PATIENCE;
    loop {
        let seen: Value = alice.get(&path).await.expect(200);
        if seen["status"] == "connected" {
            break;
        }
        assert!(Instant::now() < until, "{seen}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
