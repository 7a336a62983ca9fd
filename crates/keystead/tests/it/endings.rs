//! Ends in good order, and a database that goes away and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use keystead_testkit::client;
use serde_json::json;

use crate::rig::{House, TRUE_KEY, cluster, connect, eventually};

async fn stream(house: &House, server: &crate::rig::Server) -> Incoming {
    let alice = house.user(server, "alice", "acme", "owner");
    connect(&alice, "main", TRUE_KEY).await;
    let ask = json!({"model": "gated", "stream": true, "messages": []}).to_string();
    let json = alice.header("content-type", "application/json");
    let answer = json
        .send(
            Method::POST,
            "/proxy/@openai/v1/chat/completions",
            Bytes::from(ask),
        )
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    house.upstream.release();
    let first = body.frame().await.unwrap().unwrap();
    assert!(first.data_ref().unwrap().starts_with(b"data: "));
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_end_it_takes_no_more_connections_finishes_a_stream_and_exits_well() {
    let house = House::new("").await;
    let mut server = house.serve();
    let body = stream(&house, &server).await;
    server.process.terminate();
    eventually(
        Duration::from_secs(2),
        "new connections are refused",
        async || client::connect(&server.url).await.is_err(),
    )
    .await;
    assert!(
        server.process.ended(Duration::from_millis(200)).is_none(),
        "it did not wait for the stream"
    );
    for _ in 0..7 {
        house.upstream.release();
    }
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(rest.ends_with(b"data: [DONE]\n\n"), "{rest:?}");
    let status = server
        .process
        .ended(Duration::from_secs(4))
        .expect("it ends");
    assert!(status.success(), "{status} {}", server.process.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_an_end_is_cut_when_the_grace_is_over() {
    let house = House::new("").await;
    let config = std::fs::read_to_string(house.config()).unwrap();
    house.write(
        "keystead.toml",
        &config.replace("grace_seconds = 5", "grace_seconds = 1"),
    );
    let mut server = house.serve();
    let body = stream(&house, &server).await;
    let asked = Instant::now();
    server.process.terminate();
    let status = server
        .process
        .ended(Duration::from_secs(5))
        .expect("it ends");
    assert!(status.success(), "{status}");
    assert!(
        asked.elapsed() >= Duration::from_millis(900),
        "the grace was not given"
    );
    assert!(
        body.collect().await.is_err(),
        "a cut stream looks as if it were whole"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_dies_is_answered_503_at_once_and_heard_again_within_five_seconds() {
    let cluster = cluster();
    let house = House::on_postgres(&cluster, "").await;
    let server = house.serve();
    let alice = house.user(&server, "alice", "acme", "owner");
    let seen = connect(&alice, "main", TRUE_KEY).await;
    let (over, writing) = (
        Arc::new(AtomicBool::new(false)),
        alice.header("content-type", "application/json"),
    );
    let load = {
        let over = over.clone();
        tokio::spawn(async move {
            let (mut acknowledged, mut slowest, mut refused) = (Vec::new(), Duration::ZERO, 0);
            for number in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let new = json!({"name": format!("n{number}"), "type": "openai", "credentials": TRUE_KEY});
                let began = Instant::now();
                let answer = writing
                    .try_call(
                        Method::POST,
                        "/api/integrations",
                        Bytes::from(new.to_string()),
                    )
                    .await
                    .unwrap();
                slowest = slowest.max(began.elapsed());
                match answer.status.as_u16() {
                    201 => acknowledged.push(answer.json()["id"].as_str().unwrap().to_owned()),
                    503 => {
                        refused += 1;
                        assert!(answer.headers.contains_key("retry-after"));
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    // The answer was lost and the write was not: its name is taken.
                    409 => {}
                    _ => panic!("{answer:?}"),
                }
            }
            (acknowledged, slowest, refused)
        })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.stop_at_once();
    let probe = alice.clone();
    eventually(Duration::from_secs(3), "503", async || {
        probe.get("/api/integrations").await.status == 503
    })
    .await;
    // Nothing is decided without the log: neither a use nor a look, cached or not.
    for path in ["/api/integrations", "/proxy/@openai/v1/models"] {
        let began = Instant::now();
        assert_eq!(alice.get(path).await.status, 503, "{path}");
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{path} took {:?}",
            began.elapsed()
        );
    }
    assert_eq!(alice.get("/readyz").await.status, 503);
    assert_eq!(alice.get("/healthz").await.status, 200);
    cluster.start_again();
    let took = eventually(Duration::from_secs(5), "it recovers", async || {
        probe.get("/api/integrations").await.status == 200
    })
    .await;
    eventually(Duration::from_secs(5), "it is ready", async || {
        probe.get("/readyz").await.status == 200
    })
    .await;
    let used = alice
        .get(&format!(
            "/proxy/{}/v1/models",
            seen["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(used.status, 200, "after {took:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    over.store(true, Ordering::Relaxed);
    let (acknowledged, slowest, refused) = load.await.unwrap();
    assert!(
        refused > 0 && acknowledged.len() > 5,
        "{refused} refused, {} acknowledged",
        acknowledged.len()
    );
    assert!(
        slowest < Duration::from_secs(4),
        "a request took {slowest:?}"
    );
    for id in acknowledged
        .iter()
        .map(String::as_str)
        .chain(seen["id"].as_str())
    {
        alice
            .get(&format!("/api/integrations/{id}"))
            .await
            .expect(200);
    }
    drop(server);
    let (code, _, err) = house.keystead(&["audit", "verify"]);
    assert_eq!(code, 0, "{err}");
}
