//! The proxy's face: where the token goes, what goes on, and whose error an error is.

#![allow(clippy::unwrap_used)]

mod house;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use house::{House, TRUE_KEY, request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keystead_core::action::Role;
use keystead_http::{Limits, Settings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol};

#[tokio::test]
async fn a_call_goes_through_by_id_and_by_type_with_the_true_key_and_without_the_token() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let id = house.add(&alice, "main").await;
    for path in [
        format!("/proxy/{id}/v1/models"),
        "/proxy/@openai/v1/models".to_owned(),
    ] {
        let answer = connected(&house, &alice, &path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["data"][0]["id"], "gpt-4o-mini");
        assert_eq!(answer.header("keystead-error"), "");
        assert!(answer.header("keystead-request-id").starts_with("req_"));
        let seen = house.upstream.last_seen();
        assert_eq!(seen.all("authorization"), [format!("Bearer {TRUE_KEY}")]);
        assert!(!format!("{:?}", seen.headers).contains(&alice));
    }
    let log = house.log().await;
    assert!(log.iter().any(|entry| entry["action"] == "use"
        && entry["target"] == id.as_str()
        && entry["outcome"] == "allowed"));
}

/// Asks again while the credential is still being tried.
async fn connected(house: &House, token: &str, path: &str) -> house::Answer {
    for _ in 0..200 {
        let answer = house.ask(token, "GET", path, Value::Null).await;
        if answer.status != 404 && answer.status != 409 {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    house.ask(token, "GET", path, Value::Null).await
}

#[tokio::test]
async fn the_token_is_taken_wherever_an_sdk_puts_a_key_but_from_one_place_only() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let id = house.add(&alice, "main").await;
    let ask = async |headers: &[(&'static str, String)]| {
        let mut request = request("", "GET", &format!("/proxy/{id}/v1/models"), String::new());
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        house.send(request).await
    };
    let bearer = ("authorization", format!("Bearer {alice}"));
    let api_key = ("x-api-key", alice.clone());
    assert_eq!(ask(std::slice::from_ref(&bearer)).await.status, 200);
    assert_eq!(ask(std::slice::from_ref(&api_key)).await.status, 200);
    assert_eq!(ask(&[bearer, api_key]).await.status, 401);
    let in_query = house
        .ask(
            "",
            "GET",
            &format!("/proxy/{id}/v1/models?key={alice}"),
            Value::Null,
        )
        .await;
    assert_eq!(in_query.status, 401);
}

#[tokio::test]
async fn an_error_of_keystead_is_marked_and_readable_by_an_sdk() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let none = house
        .ask(&alice, "GET", "/proxy/@openai/v1/models", Value::Null)
        .await;
    assert_eq!(
        (none.status.as_u16(), none.header("keystead-error")),
        (404, "not_found"),
        "{}",
        none.text()
    );
    assert_eq!(none.header("x-should-retry"), "false");
    let problem = none.json();
    assert_eq!(
        problem["error"],
        json!({"message": problem["detail"], "type": "keystead_error", "code": "not_found"})
    );
    assert_eq!(problem["request_id"], none.header("keystead-request-id"));
    assert_eq!(none.header("content-type"), "application/problem+json");

    let id = house.add(&alice, "main").await;
    let missing = house
        .ask(
            &alice,
            "GET",
            &format!("/proxy/{id}/v1/models/../../x"),
            Value::Null,
        )
        .await;
    assert_eq!(
        (missing.status.as_u16(), missing.header("keystead-error")),
        (400, "malformed"),
        "{}",
        missing.text()
    );

    house.add(&alice, "second").await;
    let several = connected_conflict(&house, &alice).await;
    assert_eq!(
        (
            several.status.as_u16(),
            several.json()["among"].as_array().map(Vec::len)
        ),
        (409, Some(2)),
        "{}",
        several.text()
    );
}

/// Asks by type until both integrations are connected.
async fn connected_conflict(house: &House, token: &str) -> house::Answer {
    for _ in 0..200 {
        let answer = house
            .ask(token, "GET", "/proxy/@openai/v1/models", Value::Null)
            .await;
        if answer.status == 409 {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    house
        .ask(token, "GET", "/proxy/@openai/v1/models", Value::Null)
        .await
}

#[tokio::test]
async fn an_absolute_url_on_the_request_line_is_refused() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let id = house.add(&alice, "main").await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let head = format!(
        "GET http://other.example/proxy/{id}/v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {alice}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        house
            .upstream
            .seen()
            .iter()
            .all(|seen| !seen.target.contains("other.example"))
    );
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_too() {
    let house = House::with(Limits::default(), Settings::default()).await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let id = house.add(&alice, "main").await;
    let stream = TcpStream::connect(house.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    for path in [
        format!("/api/integrations/{id}"),
        format!("/proxy/{id}/v1/models"),
    ] {
        let request = http::Request::get(format!("http://{}{path}", house.address))
            .header("authorization", format!("Bearer {alice}"))
            .body(Full::new(Bytes::new()))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.into_body().collect().await.unwrap();
    }
}

#[tokio::test]
async fn a_websocket_goes_through() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let id = house.add_any(&alice, "any").await;
    let mut upgrade = request(&alice, "GET", &format!("/proxy/{id}/ws"), String::new());
    for (name, value) in [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ] {
        upgrade.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = house.open(upgrade).await;
    assert_eq!(answer.status(), 101);
    let io = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(io, protocol::Role::Client, None).await;
    socket.send(Message::text("ping")).await.unwrap();
    let back = socket.next().await.unwrap().unwrap();
    assert!(back.to_text().unwrap().contains("ping"), "{back:?}");
}
