//! The API over the wire: what goes in, what comes out, and what bad input gets.

#![allow(clippy::unwrap_used)]

mod house;

use house::{House, TRUE_KEY, request};
use keystead_core::action::Role;
use serde_json::{Value, json};

#[tokio::test]
async fn an_integration_lives_from_its_making_to_its_end() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let made = house
        .ask(
            &alice,
            "POST",
            "/api/integrations",
            json!({"name": "main", "type": "openai", "credentials": TRUE_KEY}),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("/api/integrations/{id}"));
    assert_eq!(made.header("cache-control"), "no-store");
    assert_eq!(made.header("x-content-type-options"), "nosniff");
    assert!(made.header("keystead-request-id").starts_with("req_"));
    assert!(!made.text().contains("canary"));

    let path = format!("/api/integrations/{id}");
    let seen = house.ask(&alice, "GET", &path, Value::Null).await;
    assert_eq!(
        (seen.status.as_u16(), seen.json()["name"].as_str()),
        (200, Some("main"))
    );
    assert_eq!(seen.header("etag"), seen.json()["etag"].as_str().unwrap());

    let mut stale = request(&alice, "PUT", &path, json!({"name": "other"}).to_string());
    stale
        .headers_mut()
        .insert("if-match", "\"99\"".parse().unwrap());
    let stale = house.send(stale).await;
    assert_eq!(
        (stale.status.as_u16(), stale.json()["code"].as_str()),
        (412, Some("precondition_failed"))
    );

    let changed = house
        .ask(&alice, "PUT", &path, json!({"disabled": true}))
        .await;
    assert_eq!(changed.json()["status"], "disabled", "{}", changed.text());
    let gone = house.ask(&alice, "DELETE", &path, Value::Null).await;
    assert_eq!((gone.status.as_u16(), gone.body.len()), (204, 0));
    assert_eq!(
        house.ask(&alice, "GET", &path, Value::Null).await.status,
        404
    );
}

#[tokio::test]
async fn a_repeated_request_with_the_same_key_is_the_same_request() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let body = json!({"name": "main", "type": "openai", "credentials": TRUE_KEY}).to_string();
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut request = request(&alice, "POST", "/api/integrations", body.clone());
        request
            .headers_mut()
            .insert("idempotency-key", "once".parse().unwrap());
        answers.push(house.send(request).await);
    }
    assert_eq!(answers[0].status, 201, "{}", answers[0].text());
    assert_eq!(answers[1].status, 201, "{}", answers[1].text());
    assert_eq!(answers[0].json()["id"], answers[1].json()["id"]);
    assert_eq!(answers[0].header("idempotency-replayed"), "");
    assert_eq!(answers[1].header("idempotency-replayed"), "true");
}

#[tokio::test]
async fn reveal_is_for_services_and_is_not_stored_by_anyone_between() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let id = house.add(&alice, "main").await;
    let path = format!("/api/integrations/{id}/reveal");
    let denied = house.ask(&alice, "POST", &path, Value::Null).await;
    assert_eq!(
        (denied.status.as_u16(), denied.json()["code"].as_str()),
        (403, Some("denied"))
    );
    let service = house.service_key(&["reveal"]).await;
    let mut request = request(&service, "POST", &path, String::new());
    request
        .headers_mut()
        .insert("keystead-tenant", "acme".parse().unwrap());
    let revealed = house.send(request).await;
    assert_eq!(
        revealed.json()["credentials"],
        TRUE_KEY,
        "{}",
        revealed.text()
    );
    assert_eq!(revealed.header("cache-control"), "no-store");
}

#[tokio::test]
async fn bad_input_is_told_by_status_and_path_and_leaves_an_entry() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let post = async |body: &str| {
        house
            .send(request(
                &alice,
                "POST",
                "/api/integrations",
                body.to_owned(),
            ))
            .await
    };
    let good = json!({"name": "main", "type": "openai", "credentials": TRUE_KEY});
    let with = |path: &str, value: Value| {
        let mut body = good.clone();
        body[path] = value;
        body.to_string()
    };

    let followed = format!("{good} more");
    for malformed in ["{", "{\"name\":", followed.as_str(), "\u{1}"] {
        let answer = post(malformed).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["code"].as_str()),
            (400, Some("malformed")),
            "{malformed}"
        );
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    for (body, path) in [
        (with("name", json!(7)), "name"),
        (with("config", json!("sk-canary")), "config"),
        (with("conifg", json!({})), "conifg"),
    ] {
        let answer = post(&body).await;
        assert_eq!(
            (
                answer.status.as_u16(),
                answer.json()["errors"][0]["path"].as_str()
            ),
            (422, Some(path)),
            "{}",
            answer.text()
        );
        assert!(!answer.text().contains("canary"));
    }
    let answer = post(&with("type", json!("opneai"))).await;
    assert_eq!(
        (
            answer.status.as_u16(),
            answer.json()["errors"][0]["path"].as_str()
        ),
        (422, Some("type")),
        "{}",
        answer.text()
    );
    assert!(
        answer.text().contains("openai"),
        "near names: {}",
        answer.text()
    );

    let answer = post(&with("credentials", json!("x".repeat(64 * 1024 + 1)))).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    let answer = post(&with("credentials", json!("x".repeat(300 * 1024)))).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].as_str()),
        (413, Some("too_large"))
    );

    let mut no_type = request(&alice, "POST", "/api/integrations", good.to_string());
    no_type
        .headers_mut()
        .insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(house.send(no_type).await.status, 415);

    for (method, path, status) in [
        ("GET", "/api/nothing", 404),
        ("PATCH", "/api/integrations", 405),
        ("GET", "/api/integrations/int_1", 404),
        ("GET", "/api/integrations?limit=0", 422),
        ("GET", "/api/integrations?access_token=x", 422),
        (
            "DELETE",
            "/api/integrations/int_00000000000000000000000000000001?revoked=true",
            422,
        ),
    ] {
        let before = house.log().await.len();
        let answer = house.ask(&alice, method, path, Value::Null).await;
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{method} {path}: {}",
            answer.text()
        );
        assert!(
            house.log().await.len() > before,
            "{method} {path} left no entry"
        );
        if status == 405 {
            let mut allowed: Vec<_> = answer.header("allow").split(',').collect();
            allowed.sort_unstable();
            assert_eq!(allowed, ["GET", "HEAD", "POST"]);
        }
    }
    let bad = |outcome: &Value| outcome["outcome"] != "allowed";
    assert!(house.log().await.iter().filter(|entry| bad(entry)).count() >= 17);
    let listed = house
        .ask(&alice, "GET", "/api/integrations", Value::Null)
        .await;
    assert_eq!(listed.json(), json!({"data": [], "next": null}));
}

#[tokio::test]
async fn all_401_answers_are_the_same_but_for_the_request_id() {
    let house = House::new().await;
    let other = House::new().await;
    let foreign = other.jwt("alice", "acme", Role::Owner);
    let valid = house.jwt("alice", "acme", Role::Owner);
    let (head, _) = valid.rsplit_once('.').unwrap();
    let unsigned = format!("{head}.");
    let get = |authorization: &[&str]| {
        let mut request = request("", "GET", "/api/integrations", String::new());
        for value in authorization {
            request
                .headers_mut()
                .append("authorization", value.parse().unwrap());
        }
        request
    };
    let mut seen = Vec::new();
    for authorization in [
        vec![],
        vec!["Bearer kss_canary".to_owned()],
        vec![format!("Bearer {foreign}")],
        vec![format!("Bearer {unsigned}")],
        vec![format!("Basic {valid}")],
        vec![format!("Bearer {valid}"), format!("Bearer {valid}")],
    ] {
        let values: Vec<_> = authorization.iter().map(String::as_str).collect();
        let answer = house.send(get(&values)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("www-authenticate")),
            (401, "Bearer"),
            "{authorization:?}"
        );
        let mut body = answer.json();
        let id = body["request_id"].take();
        assert_eq!(id, answer.header("keystead-request-id"));
        seen.push(body.to_string());
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[tokio::test]
async fn the_log_is_read_proven_and_exported() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    house.add(&alice, "main").await;
    let page = house
        .ask(
            &alice,
            "GET",
            "/api/audit?action=put&on=integration",
            Value::Null,
        )
        .await;
    assert_eq!(page.status, 200, "{}", page.text());
    let entry = &page.json()["data"][0];
    assert_eq!(
        (entry["action"].as_str(), entry["by"].as_str()),
        (Some("put"), Some("keystead-dev|alice"))
    );
    assert!(entry["at"].as_str().unwrap().ends_with('Z'));
    let seq = entry["seq"].as_u64().unwrap();

    let proof = house
        .ask(
            &alice,
            "GET",
            &format!("/api/audit/proof?seq={seq}"),
            Value::Null,
        )
        .await;
    assert_eq!(proof.json()["inclusion"]["seq"], seq, "{}", proof.text());
    assert_eq!(proof.json()["root"].as_str().unwrap().len(), 64);
    let checkpoint = house
        .ask(&alice, "GET", "/api/audit/checkpoint", Value::Null)
        .await;
    assert!(
        checkpoint.header("content-type").starts_with("text/plain"),
        "{checkpoint:?}"
    );
    let key = house
        .ask(&alice, "GET", "/api/audit/key", Value::Null)
        .await
        .text();
    assert!(checkpoint.text().contains(key.split('+').next().unwrap()));

    assert_eq!(
        house
            .ask(&alice, "GET", "/api/audit/export", Value::Null)
            .await
            .status,
        404
    );
    let export = house
        .ask(
            &house.operator,
            "GET",
            "/api/audit/export?from=2",
            Value::Null,
        )
        .await;
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let leaves = house.store.leaves(2, 100_000).await.unwrap();
    assert_eq!(export.text().lines().collect::<Vec<_>>(), leaves);
}

#[tokio::test]
async fn machines_are_told_without_a_token() {
    let house = House::new().await;
    assert_eq!(
        house.ask("", "GET", "/healthz", Value::Null).await.text(),
        "ok\n"
    );
    let ready = house.ask("", "GET", "/readyz", Value::Null).await;
    assert_eq!(
        ready.json(),
        json!({"store": "ok", "kms": "ok", "feed": "ok"}),
        "{ready:?}"
    );
    let document = house.ask("", "GET", "/openapi.json", Value::Null).await;
    assert_eq!(document.text(), keystead_http::openapi());
    let alice = house.jwt("alice", "canary-tenant", Role::Owner);
    let id = house.add(&alice, "main").await;
    house
        .ask(
            &alice,
            "GET",
            &format!("/api/integrations/{id}"),
            Value::Null,
        )
        .await;
    let numbers = house.ask("", "GET", "/metrics", Value::Null).await.text();
    assert!(numbers.contains("keystead_http_requests_total{route=\"/api/integrations/{id}\",method=\"GET\",status=\"200\"} 1"), "{numbers}");
    assert!(numbers.contains("keystead_kms_calls_total "));
    assert!(
        numbers.contains(r#"keystead_ready{part="kms"} 1"#),
        "{numbers}"
    );
    assert!(numbers.ends_with("# EOF\n"));
    assert!(!numbers.contains("canary") && !numbers.contains(&id));
}

#[tokio::test]
async fn keys_tenants_and_members_are_managed_over_the_wire() {
    let house = House::new().await;
    let made = house
        .ask(
            &house.operator,
            "POST",
            "/api/tenants",
            json!({"name": "Acme"}),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let listed = house
        .ask(
            &house.operator,
            "GET",
            "/api/tenants?limit=200",
            Value::Null,
        )
        .await;
    assert!(listed.text().contains(&id));
    assert_eq!(
        house
            .ask(
                &house.operator,
                "DELETE",
                &format!("/api/tenants/{id}"),
                Value::Null
            )
            .await
            .status,
        204
    );

    let wrong = house
        .ask(
            &house.operator,
            "POST",
            "/api/keys",
            json!({"kind": "service", "name": "x", "scopes": ["get"]}),
        )
        .await;
    assert_eq!(
        wrong.json()["errors"][0]["path"],
        "scopes[0]",
        "{}",
        wrong.text()
    );
    let key = house.service_key(&["use,info:openai"]).await;
    let keys = house
        .ask(&house.operator, "GET", "/api/keys", Value::Null)
        .await;
    assert!(!keys.text().contains(&key));
    let row = keys.json()["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["kind"] == "service")
        .cloned()
        .unwrap();
    assert_eq!(row["scopes"], json!(["info,use:openai"]));
    let revoked = house
        .ask(
            &house.operator,
            "DELETE",
            &format!("/api/keys/{}", row["id"].as_str().unwrap()),
            Value::Null,
        )
        .await;
    assert_eq!(revoked.status, 204);
    assert_eq!(
        house
            .ask(&key, "GET", "/api/providers", Value::Null)
            .await
            .status,
        401
    );

    let alice = house.jwt("alice", "acme", Role::Owner);
    let put = house
        .ask(
            &alice,
            "PUT",
            "/api/members",
            json!({"issuer": "keystead-dev", "subject": "carol", "role": "viewer"}),
        )
        .await;
    assert_eq!(put.json()["role"], "viewer", "{}", put.text());
    let member = put.json()["id"].as_str().unwrap().to_owned();
    assert!(
        house
            .ask(&alice, "GET", "/api/members", Value::Null)
            .await
            .text()
            .contains(&member)
    );
    assert_eq!(
        house
            .ask(
                &alice,
                "DELETE",
                &format!("/api/members/{member}"),
                Value::Null
            )
            .await
            .status,
        204
    );
}
