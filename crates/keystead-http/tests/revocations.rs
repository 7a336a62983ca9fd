//! Revocations over HTTP: what is asked in which words, and what the answers are.

#![allow(clippy::unwrap_used)]

mod house;

use house::House;
use keystead_core::action::Role;
use serde_json::{Value, json};

#[tokio::test]
async fn a_deletion_with_revoke_answers_with_where_to_look_and_one_without_with_nothing() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let (one, two) = (
        house.add_any(&alice, "one").await,
        house.add_any(&alice, "two").await,
    );
    for (query, status) in [("?revoke=perhaps", 422), ("?revok=true", 422)] {
        let path = format!("/api/integrations/{one}{query}");
        let answer = house.ask(&alice, "DELETE", &path, Value::Null).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    }
    let path = format!("/api/integrations/{two}?revoke=false");
    let answer = house.ask(&alice, "DELETE", &path, Value::Null).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (204, ""));
    let path = format!("/api/integrations/{one}?revoke=true");
    let answer = house.ask(&alice, "DELETE", &path, Value::Null).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let begun = answer.json();
    assert_eq!(begun["state"], "unsupported");
    assert!(
        begun["manual_url"]
            .as_str()
            .unwrap()
            .starts_with("https://")
    );
    let place = answer.header("location").to_owned();
    let id = begun["revocation"].as_str().unwrap();
    assert_eq!(place, format!("/api/revocations/{id}"));
    let seen = house.ask(&alice, "GET", &place, Value::Null).await.json();
    assert_eq!(
        (&seen["state"], &seen["total"]),
        (&json!("closed"), &json!(1))
    );
    assert_eq!(seen["counts"]["unsupported"], 1);
    assert_eq!(seen["selection"]["deleted"], true);
    assert_eq!(seen["data"][0]["integration"], json!(one));
    assert_eq!(seen["next"], Value::Null);
    let receipt = format!("{place}/receipt");
    let receipt = house.ask(&alice, "GET", &receipt, Value::Null).await;
    assert!(receipt.header("content-type").starts_with("text/plain"));
    assert!(receipt.text().contains(&one) && receipt.text().contains("\n\n— keystead/ins_"));
    let gone = house.ask(&alice, "DELETE", &path, Value::Null).await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn what_is_asked_for_is_read_strictly_and_looked_at_first_where_that_is_wanted() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let id = house.add_any(&alice, "one").await;
    let ask = async |body: Value| house.ask(&alice, "POST", "/api/revocations", body).await;
    for (body, path) in [
        (json!({}), ""),
        (json!({"all": true}), "all"),
        (json!({"integrations": ["int_1"]}), "integrations[0]"),
        (
            json!({"used_between": {"from": "2026-11-20T00:00:00Z"}}),
            "used_between",
        ),
        (
            json!({"used_between": {"from": "yesterday", "until": "2026-11-20T00:00:00Z"}}),
            "used_between.from",
        ),
        (json!({"provider": "opneai"}), "provider"),
    ] {
        let answer = ask(body.clone()).await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
        assert_eq!(answer.json()["errors"][0]["path"], path, "{body}");
    }
    let looked = ask(json!({"integrations": [id], "dry_run": true})).await;
    assert_eq!(looked.status, 200, "{}", looked.text());
    let looked = looked.json();
    assert_eq!(
        (&looked["dry_run"], &looked["total"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(looked["data"][0]["name"], "one");
    let row = format!("/api/integrations/{id}");
    let seen = house.ask(&alice, "GET", &row, Value::Null).await.json();
    assert_ne!(seen["status"], "disabled");
    let begun = ask(json!({"integrations": [id], "reason": "a test"})).await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    let place = begun.header("location").to_owned();
    assert_eq!(begun.json()["state"], "selecting");
    for _ in 0..500 {
        let seen = house.ask(&alice, "GET", &place, Value::Null).await.json();
        if seen["state"] == "closed" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let listed = house
        .ask(&alice, "GET", "/api/revocations", Value::Null)
        .await;
    let listed = listed.json();
    assert_eq!(listed["data"][0]["selection"]["reason"], "a test");
    assert_eq!(listed["data"][0]["state"], "closed");
    let seen = house.ask(&alice, "GET", &row, Value::Null).await.json();
    assert_eq!(seen["status"], "disabled");
    let enable = house
        .ask(&alice, "PUT", &row, json!({"disabled": false}))
        .await;
    assert_eq!(
        (enable.status.as_u16(), &enable.json()["code"]),
        (409, &json!("revoked"))
    );
}
