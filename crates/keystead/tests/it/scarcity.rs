//! No room on the disk, and no file left to open: nothing is acknowledged that is not kept, and
//! all is well again without a restart.

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use keystead_testkit::client;
use keystead_testkit::process::{Process, Resource};
use serde_json::json;

use crate::rig::{House, TRUE_KEY, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_503_nothing_is_acknowledged_in_vain_and_it_recovers_by_itself() {
    let house = House::new("").await;
    // A write beyond the limit is then an error, as on a full disk, and no signal.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" serve --config \"$1\""])
        .arg(env!("CARGO_BIN_EXE_keystead"))
        .arg(house.config());
    let server = house.wait(Process::start(&mut command));
    let alice = house.user(&server, "alice", "acme", "owner");
    let json = alice.header("content-type", "application/json");
    let write = async |name: String| {
        let new = json!({"name": name, "type": "openai", "credentials": TRUE_KEY});
        let answer = json.try_call(
            Method::POST,
            "/api/integrations",
            Bytes::from(new.to_string()),
        );
        answer.await.unwrap()
    };
    let mut kept = Vec::new();
    for number in 0..5 {
        kept.push(write(format!("before-{number}")).await.expect(201));
    }
    let largest = ["keystead.db", "keystead.db-wal"]
        .iter()
        .filter_map(|name| std::fs::metadata(house.path(name)).ok())
        .map(|file| file.len())
        .max()
        .unwrap();
    server
        .process
        .limit(Resource::Fsize, Some(largest + 64 * 1024));
    let mut refused = 0;
    for number in 0..200 {
        let answer = write(format!("full-{number}")).await;
        match answer.status.as_u16() {
            201 => kept.push(answer.json()),
            503 => refused += 1,
            _ => panic!("{answer:?}"),
        }
        if refused == 5 {
            break;
        }
    }
    assert_eq!(refused, 5, "the disk was never full");
    // What cannot be recorded is not done: no use without an entry. (No room for a page now: an
    // entry is smaller than what was refused just before.)
    server.process.limit(Resource::Fsize, Some(4096));
    let before = house.upstream.seen().len();
    let path = format!("/proxy/{}/v1/models", kept[0]["id"].as_str().unwrap());
    let used = alice.get(&path).await;
    assert_eq!(used.status, 503, "{used:?}\n{}", server.process.stderr());
    assert_eq!(house.upstream.seen().len(), before, "it was used unseen");
    assert_eq!(alice.get("/healthz").await.status, 200);

    server.process.limit(Resource::Fsize, None);
    eventually(Duration::from_secs(5), "it recovers", async || {
        alice.get("/api/integrations").await.status == 200
    })
    .await;
    kept.push(write("after".to_owned()).await.expect(201));
    for made in &kept {
        let path = format!("/api/integrations/{}", made["id"].as_str().unwrap());
        alice.get(&path).await.expect(200);
    }
    drop(server);
    let (code, out, err) = house.keystead(&["audit", "verify"]);
    assert_eq!(code, 0, "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_left_to_open_it_lives_and_takes_connections_again() {
    let house = House::new("").await;
    let server = house.serve();
    let alice = house.user(&server, "alice", "acme", "owner");
    alice.get("/api/integrations").await.expect(200);
    server.process.limit(Resource::Nofile, Some(64));
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(client::connect(&server.url).await.unwrap());
    }
    let line = server.process.log_line(
        |line| line.contains("could not be accepted"),
        Duration::from_secs(5),
    );
    assert!(line.is_some(), "the limit was not met");
    // Who is connected is served on.
    alice.get("/api/integrations").await.expect(200);
    drop(crowd);
    let anew = house.user(&server, "alice", "acme", "owner");
    anew.get("/api/integrations").await.expect(200);
}
