//! The serving loop against slow, idle, many and leaving clients.

#![allow(clippy::unwrap_used)]

mod house;

use std::time::Duration;

use house::{House, request};
use http_body_util::BodyExt;
use keystead_core::action::Role;
use keystead_http::{Limits, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn short() -> Limits {
    Limits {
        head: Duration::from_millis(200),
        idle: Duration::from_secs(2),
        ..Limits::default()
    }
}

/// Reads until the server ends the connection; fails where it does not.
async fn ended(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes))
        .await
        .expect("the connection stays open");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_client_that_sends_no_whole_head_is_cut() {
    let house = House::with(short(), Settings::default()).await;
    // Nothing; the beginning of what may be HTTP/2; a head without an end; the HTTP/2 preface alone.
    for start in [
        "",
        "PRI",
        "GET /healthz HTTP/1.1\r\nhost: x\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        ended(&mut stream).await;
    }
    let mut dripping = TcpStream::connect(house.address).await.unwrap();
    dripping
        .write_all(b"GET /healthz HTTP/1.1\r\n")
        .await
        .unwrap();
    let mut cut = false;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if dripping.write_all(b"a: b\r\n").await.is_err() {
            cut = true;
            break;
        }
    }
    assert!(cut, "a head that drips has no end");
}

#[tokio::test]
async fn a_connection_may_rest_longer_than_a_head_may_take_and_is_then_ended() {
    let house = House::with(short(), Settings::default()).await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut buffer = [0; 4096];
    stream.write_all(ask).await.unwrap();
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    tokio::time::sleep(Duration::from_millis(600)).await;
    stream.write_all(ask).await.unwrap();
    assert!(
        stream.read(&mut buffer).await.unwrap() > 0,
        "cut while it rested"
    );
    assert_eq!(ended(&mut stream).await, "");
}

#[tokio::test]
async fn connections_above_the_limit_are_told_so() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let house = House::with(limits, Settings::default()).await;
    let mut first = TcpStream::connect(house.address).await.unwrap();
    first
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut buffer = [0; 1024];
    assert!(first.read(&mut buffer).await.unwrap() > 0);
    let mut second = TcpStream::connect(house.address).await.unwrap();
    assert!(ended(&mut second).await.starts_with("HTTP/1.1 503 "));
    drop(first);
    for _ in 0..100 {
        let mut third = TcpStream::connect(house.address).await.unwrap();
        let _ = third
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await;
        if ended(&mut third).await.starts_with("HTTP/1.1 200 ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a place that became free is not given again");
}

#[tokio::test]
async fn the_end_waits_for_an_answer_that_is_streaming_and_takes_nothing_new() {
    let mut house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let mut idle = TcpStream::connect(house.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut buffer = [0; 1024];
    assert!(idle.read(&mut buffer).await.unwrap() > 0);

    let id = house.add_any(&alice, "any").await;
    let gated = request(&alice, "GET", &format!("/proxy/{id}/gated"), String::new());
    let mut streaming = house.open(gated).await;
    assert_eq!(streaming.status(), 200);
    house.upstream.release();
    assert!(streaming.frame().await.unwrap().unwrap().is_data());

    house.stop.take().unwrap().send(()).unwrap();
    assert_eq!(ended(&mut idle).await, "", "a resting connection is ended");
    for _ in 0..200 {
        if TcpStream::connect(house.address).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(
        TcpStream::connect(house.address).await.is_err(),
        "a new connection is taken"
    );
    assert!(!house.served.is_finished());
    for _ in 0..8 {
        house.upstream.release();
    }
    let rest = tokio::time::timeout(Duration::from_secs(5), streaming.collect())
        .await
        .unwrap()
        .unwrap()
        .to_bytes();
    assert!(!rest.is_empty());
    tokio::time::timeout(Duration::from_secs(5), &mut house.served)
        .await
        .expect("it does not end")
        .unwrap();
}

#[tokio::test]
async fn the_grace_is_kept_short_for_what_does_not_end() {
    let limits = Limits {
        grace: Duration::from_millis(100),
        ..Limits::default()
    };
    let mut house = House::with(limits, Settings::default()).await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let id = house.add_any(&alice, "any").await;
    let streaming = house
        .open(request(
            &alice,
            "GET",
            &format!("/proxy/{id}/gated"),
            String::new(),
        ))
        .await;
    assert_eq!(streaming.status(), 200);
    house.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), &mut house.served)
        .await
        .expect("it does not end")
        .unwrap();
    assert!(
        tokio::time::timeout(Duration::from_secs(5), streaming.collect())
            .await
            .unwrap()
            .is_err(),
        "cut, and seen to be cut"
    );
}

#[tokio::test]
async fn a_peer_that_takes_no_bytes_is_cut() {
    let limits = Limits {
        write_stall: Duration::from_millis(200),
        ..Limits::default()
    };
    let house = House::with(limits, Settings::default()).await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let id = house.add_any(&alice, "any").await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let head = format!(
        "GET /proxy/{id}/big?bytes=67108864 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {alice}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(800)).await;
    let taken = ended(&mut stream).await.len();
    assert!(
        taken > 0 && taken < 67_108_864,
        "{taken} bytes were sent to a peer that took none"
    );
}

#[tokio::test]
async fn two_lengths_of_one_body_hide_no_second_request() {
    let house = House::new().await;
    let second = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
    for lengths in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ncontent-length: 6",
        "transfer-encoding: chunked, identity",
    ] {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        let sent =
            format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{lengths}\r\n\r\n0\r\n\r\n{second}");
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answers = ended(&mut stream).await;
        assert_eq!(
            answers.matches("HTTP/1.1 ").count(),
            1,
            "{lengths}: {answers}"
        );
    }
}

#[tokio::test]
async fn a_head_request_gets_a_head_alone() {
    let house = House::new().await;
    for path in ["/healthz", "/api/integrations", "/proxy/@openai/v1/models"] {
        let answer = house.ask("", "HEAD", path, serde_json::Value::Null).await;
        assert_eq!(answer.status, if path == "/healthz" { 200 } else { 401 });
        assert!(answer.body.is_empty() && !answer.header("keystead-request-id").is_empty());
    }
}
