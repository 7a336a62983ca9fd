//! Every operation of the OpenAPI document, as nobody, as another tenant, and with too little.
//!
//! The document decides what is swept: a new operation fails here until it has its row below.

#![allow(clippy::unwrap_used)]

mod house;

use house::House;
use keystead_core::action::Role;
use serde_json::{Value, json};

/// Operations that answer without a token. This list may only shrink: a page is proven otherwise, by
/// what its own tests show.
const PUBLIC: [&str; 6] = [
    "find_health",
    "find_openapi",
    "find_readiness",
    "list_metrics",
    "receive_authorization", // by its state and the browser's cookie
    "receive_own_authorization",
];

/// What the owner of another tenant gets, and what a viewer of the same tenant gets, when they ask
/// for the first tenant's things. 404 where they may not know that it exists.
const EXPECTED: &[(&str, u16, u16)] = &[
    ("create_connect_session", 201, 201), // of their own, with their own role
    ("begin_authorization", 409, 403),    // in the own tenant; openai has no OAuth
    ("begin_device_authorization", 409, 403),
    ("complete_authorization", 409, 409), // nothing is learnt of a state that is not one's own
    ("create_integration", 422, 403),     // in the own tenant; the body is empty on purpose
    ("create_key", 404, 404),
    ("create_revocation", 404, 403),
    ("create_tenant", 404, 404),
    ("delete_integration", 404, 403),
    ("delete_member", 404, 403),
    ("delete_rotation", 404, 403),
    ("delete_tenant", 404, 403),
    ("export_entries", 404, 404),
    ("find_checkpoint", 200, 403),
    ("find_integration", 404, 200),
    ("find_proof", 200, 403),
    ("find_provider", 200, 200),
    ("fetch_resource_credentials", 404, 403),
    ("find_receipt", 404, 200),
    ("find_revocation", 404, 200),
    ("find_rotation", 404, 200),
    ("find_verifier_key", 200, 200),
    ("forward_delete", 404, 403),
    ("forward_get", 404, 403),
    ("forward_patch", 404, 403),
    ("forward_post", 404, 403),
    ("forward_put", 404, 403),
    ("list_entries", 200, 403),
    ("list_integrations", 200, 200),
    ("list_keys", 404, 404),
    ("list_members", 200, 200),
    ("list_providers", 200, 200),
    ("list_resources", 404, 409), // what a viewer sees, this provider has none of
    ("list_revocations", 200, 200),
    ("list_tenants", 404, 404),
    ("poll_device_authorization", 404, 404),
    ("put_member", 200, 403),
    ("put_rotation", 404, 403),
    ("reveal_integration", 404, 403),
    ("revoke_key", 404, 404),
    ("rotate_integration", 404, 403),
    ("test_integration", 404, 403),
    ("update_integration", 404, 403),
];

struct Operation {
    id: String,
    method: String,
    path: String,
}

fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_str(&keystead_http::openapi()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            all.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase(),
                path: path.clone(),
            });
        }
    }
    all
}

fn body(id: &str) -> Value {
    match id {
        "create_integration" => json!({"name": "", "type": "openai", "credentials": ""}),
        "update_integration" => json!({"name": "renamed"}),
        "put_rotation" => json!({"every_days": 30}),
        "put_member" => json!({"issuer": "keystead-dev", "subject": "carol", "role": "viewer"}),
        "create_connect_session" => json!({}),
        "complete_authorization" => json!({"state": "forged", "code": "canary"}),
        "begin_device_authorization" => json!({"name": "x"}),
        "fetch_resource_credentials" => json!({}),
        "create_tenant" => json!({"name": "x"}),
        "create_revocation" => json!({"tenant": "acme"}),
        "create_key" => json!({"kind": "service", "name": "x", "scopes": ["use"]}),
        _ => Value::Null,
    }
}

/// The first tenant, with one of each thing.
struct Acme {
    alice: String,
    integration: String,
    member: String,
    tenant: String,
    key: String,
    batch: String,
}

impl Acme {
    async fn new(house: &House) -> Acme {
        let alice = house.jwt("alice", "acme", Role::Owner);
        let integration = house.add(&alice, "main").await;
        let gone = house.add_any(&alice, "gone").await;
        let gone = format!("/api/integrations/{gone}?revoke=true");
        let gone = house.ask(&alice, "DELETE", &gone, Value::Null).await;
        let batch = gone.json()["revocation"].as_str().unwrap().to_owned();
        let member = house
            .ask(&alice, "PUT", "/api/members", body("put_member"))
            .await
            .json()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        house.service_key(&["use"]).await;
        let first = |list: Value| list["data"][0]["id"].as_str().unwrap().to_owned();
        let tenants = house
            .ask(&house.operator, "GET", "/api/tenants", Value::Null)
            .await
            .json();
        let own = |row: &&Value| row["external"] == "acme";
        let tenant = tenants["data"]
            .as_array()
            .unwrap()
            .iter()
            .find(own)
            .unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let key = first(
            house
                .ask(&house.operator, "GET", "/api/keys", Value::Null)
                .await
                .json(),
        );
        Acme {
            alice,
            integration,
            member,
            tenant,
            key,
            batch,
        }
    }

    /// The operation's path on this tenant's things.
    fn path(&self, operation: &Operation) -> String {
        let id = match operation.path.split('/').nth(2) {
            Some("members") => &self.member,
            Some("tenants") => &self.tenant,
            Some("keys") => &self.key,
            Some("revocations") => &self.batch,
            Some("providers") => "openai",
            _ => &self.integration,
        };
        operation
            .path
            .replace("{id}", id)
            .replace("{type}", "openai")
            .replace("{path}", "v1/models")
            .replace("{key}", "session")
    }
}

#[tokio::test]
async fn every_operation_refuses_nobody_alike() {
    let house = House::new().await;
    let acme = Acme::new(&house).await;
    let mut public = Vec::new();
    let mut seen = Vec::new();
    for operation in operations() {
        let answer = house
            .ask(
                "",
                &operation.method,
                &acme.path(&operation),
                body(&operation.id),
            )
            .await;
        if answer.status != 401 {
            public.push(operation.id);
            continue;
        }
        assert_eq!(
            answer.header("www-authenticate"),
            "Bearer",
            "{}",
            operation.id
        );
        let mut problem = answer.json();
        problem["request_id"].take();
        problem.as_object_mut().unwrap().remove("error");
        seen.push(problem.to_string());
    }
    public.sort();
    assert_eq!(public, PUBLIC);
    seen.dedup();
    assert_eq!(seen.len(), 1, "401 answers differ: {seen:?}");
}

#[tokio::test]
async fn every_operation_refuses_another_tenant_and_too_small_a_role() {
    let house = House::new().await;
    let acme = Acme::new(&house).await;
    let bob = house.jwt("bob", "globex", Role::Owner);
    let viewer = house.jwt("victor", "acme", Role::Viewer);
    for operation in operations() {
        if PUBLIC.contains(&operation.id.as_str()) {
            continue;
        }
        let Some((_, foreign, small)) = EXPECTED.iter().find(|(id, ..)| *id == operation.id) else {
            panic!(
                "{} has no row: say what another tenant's owner and a viewer get",
                operation.id
            );
        };
        for (token, expected, who) in [
            (&bob, foreign, "another tenant's owner"),
            (&viewer, small, "a viewer"),
        ] {
            let answer = house
                .ask(
                    token,
                    &operation.method,
                    &acme.path(&operation),
                    body(&operation.id),
                )
                .await;
            assert_eq!(
                answer.status.as_u16(),
                *expected,
                "{} as {who}: {}",
                operation.id,
                answer.text()
            );
            if who != "a viewer" {
                for secret in [&acme.integration, &acme.member, &acme.tenant, &acme.batch] {
                    assert!(
                        !answer.text().contains(secret),
                        "{} tells of {secret}: {}",
                        operation.id,
                        answer.text()
                    );
                }
            }
        }
    }
    let still = house
        .ask(
            &acme.alice,
            "GET",
            &format!("/api/integrations/{}", acme.integration),
            Value::Null,
        )
        .await;
    assert_eq!(
        (still.status.as_u16(), still.json()["name"].as_str()),
        (200, Some("main"))
    );
    let stale = EXPECTED
        .iter()
        .filter(|(id, ..)| !operations().iter().any(|operation| operation.id == *id))
        .count();
    assert_eq!(stale, 0, "rows of operations that are no more");
}

#[tokio::test]
async fn a_foreign_thing_and_a_missing_one_are_not_told_apart() {
    let house = House::new().await;
    let acme = Acme::new(&house).await;
    let bob = house.jwt("bob", "globex", Role::Owner);
    for (method, end, body) in [
        ("GET", "", Value::Null),
        ("DELETE", "", Value::Null),
        ("POST", "/test", Value::Null),
        ("POST", "/reveal", Value::Null),
        ("GET", "/resources", Value::Null),
        ("POST", "/resources/session/credentials", json!({})),
    ] {
        let mut answers = Vec::new();
        for id in [
            acme.integration.as_str(),
            "int_00000000000000000000000000000001",
            "int_1",
        ] {
            let answer = house
                .ask(
                    &bob,
                    method,
                    &format!("/api/integrations/{id}{end}"),
                    body.clone(),
                )
                .await;
            let mut problem = answer.json();
            problem["request_id"].take();
            answers.push((answer.status, problem.to_string()));
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{method} {end}: {answers:?}");
    }
}

#[tokio::test]
async fn a_service_key_reaches_no_further_than_its_scopes() {
    let house = House::new().await;
    let acme = Acme::new(&house).await;
    let narrow = house.service_key(&["info:anthropic"]).await;
    for operation in operations() {
        let own = operation.path.starts_with("/api/integrations/{id}")
            || operation.path.starts_with("/proxy/");
        if !own {
            continue;
        }
        let mut request = house::request(
            &narrow,
            &operation.method,
            &acme.path(&operation),
            match body(&operation.id) {
                Value::Null => String::new(),
                body => body.to_string(),
            },
        );
        request
            .headers_mut()
            .insert("keystead-tenant", "acme".parse().unwrap());
        let answer = house.send(request).await;
        assert_eq!(answer.status, 403, "{}: {}", operation.id, answer.text());
    }
}
