//! Connecting an account over the wire, as it should go.

#![allow(clippy::unwrap_used)]

mod house;
mod played;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keystead_core::action::Role;
use keystead_core::provider::oauth::pkce;
use played::{CLIENT_URI, REFRESH, Reply, Scene, is_plain_page, tokens};
use serde_json::{Value, json};

#[tokio::test]
async fn a_consent_in_the_browser_connects_an_account() {
    let scene = Scene::new().await;
    let path = "/api/oauth/acme/url?name=main";
    let begun = scene.ask(&scene.alice, "GET", path, Value::Null).await;
    let cookie = begun.header("set-cookie");
    assert!(cookie.starts_with("keystead-oauth="), "{cookie}");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax"), "{cookie}");

    let flow = scene.begin("?name=main").await;
    let callback = format!("http://{}/oauth/callback", scene.house.address);
    assert_eq!(flow.url.path(), "/authorize");
    assert_eq!(flow.param("client_id"), "our-app");
    assert_eq!(flow.param("redirect_uri"), callback);
    assert_eq!(flow.param("scope"), "read write");
    assert_eq!(flow.param("state"), flow.state);
    assert_eq!(flow.param("code_challenge_method"), "S256");

    let query = format!(
        "state={}&code=canary-code&iss=https://acme.example",
        flow.state
    );
    let done = scene.back(&flow.cookie, &query).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(done.text().contains("main"), "{}", done.text());
    is_plain_page(&done);

    let exchange = &scene.exchanges()[0];
    assert_eq!(exchange.field("code"), "canary-code");
    assert_eq!(exchange.field("redirect_uri"), callback);
    assert_eq!(exchange.field("client_secret"), "canary-our-secret");
    let verifier = exchange.field("code_verifier");
    let bytes = URL_SAFE_NO_PAD.decode(verifier).unwrap();
    let (_, challenge) = pkce(bytes.try_into().unwrap());
    assert_eq!(challenge, flow.param("code_challenge"));

    let all = scene.integrations().await;
    assert_eq!((all.len(), &all[0]["name"]), (1, &json!("main")));
    let id = all[0]["id"].as_str().unwrap();
    let (version, tokens) = scene.stored(id).await;
    let (token_version, sealed) = tokens.unwrap();
    assert_eq!((version, token_version), (1, 1));
    let window = |part: &&[u8]| *part == REFRESH.as_bytes();
    assert!(!sealed.windows(REFRESH.len()).any(|part| window(&part)));
    assert_eq!(scene.entries(&["put", "authorisation begun"]).await, 2);
    assert_eq!(
        scene.entries(&["put", "consent came back", "alice"]).await,
        1
    );
    scene.log_is_clean().await;
}

#[tokio::test]
async fn a_client_may_take_the_answer_itself_and_hand_it_in() {
    let scene = Scene::new().await;
    let query = format!("?redirect_uri={CLIENT_URI}");
    let path = format!("/api/oauth/acme/url{query}");
    let begun = scene.ask(&scene.alice, "GET", &path, Value::Null).await;
    assert_eq!(begun.header("set-cookie"), "", "no browser is bound");
    let flow = scene.begin(&query).await;
    assert_eq!(flow.param("redirect_uri"), CLIENT_URI);
    let back = json!({"state": flow.state, "code": "canary-code"});
    let done = scene
        .ask(&scene.alice, "POST", "/api/oauth/callback", back)
        .await;
    assert_eq!(done.status, 201, "{}", done.text());
    let id = done.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(done.header("location"), format!("/api/integrations/{id}"));
    assert_eq!(
        done.json()["name"],
        "Acme",
        "the provider's, as none was given"
    );
    assert!(!done.text().contains("canary"));
    assert_eq!(scene.exchanges()[0].field("redirect_uri"), CLIENT_URI);
}

#[tokio::test]
async fn an_account_that_is_authorised_anew_keeps_its_integration() {
    let scene = Scene::new().await;
    let id = scene.connected().await;
    let query = format!("?integration={id}&redirect_uri={CLIENT_URI}");
    let flow = scene.begin(&query).await;
    let back = json!({"state": flow.state, "code": "canary-code"});
    let done = scene
        .ask(&scene.alice, "POST", "/api/oauth/callback", back)
        .await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(done.json()["id"], json!(id));
    let (version, tokens) = scene.stored(&id).await;
    assert_eq!((version, tokens.unwrap().0), (2, (1 << 32) + 1));
    assert_eq!(scene.integrations().await.len(), 1);
    for wrong in ["&name=other", "&config=%7B%22a%22:%22b%22%7D"] {
        let path = format!("/api/oauth/acme/url{query}{wrong}");
        let answer = scene.ask(&scene.alice, "GET", &path, Value::Null).await;
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text());
    }
    let path = format!("/api/oauth/openai/url?integration={id}");
    let other = scene.ask(&scene.alice, "GET", &path, Value::Null).await;
    assert_eq!(other.status, 422, "{}", other.text());
}

#[tokio::test]
async fn a_person_may_bring_an_app_of_their_own() {
    let scene = Scene::new().await;
    let app = json!({"client_id": "her-app", "client_secret": "canary-her-secret"});
    let new = json!({"name": "hers", "type": "acme", "credentials": app});
    let made = scene
        .ask(&scene.alice, "POST", "/api/integrations", new)
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["status"], "reauthorize");
    let said = made.json()["error_message"].as_str().unwrap().to_owned();
    assert!(said.contains("authorise it"), "{said}");
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let flow = scene.begin(&format!("?integration={id}")).await;
    assert_eq!(flow.param("client_id"), "her-app");
    let done = scene.consent(&flow).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(
        scene.exchanges()[0].field("client_secret"),
        "canary-her-secret"
    );
    // Her app is still there: the next consent goes by it too.
    let again = scene.begin(&format!("?integration={id}")).await;
    assert_eq!(again.param("client_id"), "her-app");
    let half = json!({"name": "half", "type": "acme", "credentials": {"client_id": "her-app"}});
    let half = scene
        .ask(&scene.alice, "POST", "/api/integrations", half)
        .await;
    assert_eq!(half.status, 422, "{}", half.text());
    scene.log_is_clean().await;
}

#[tokio::test]
async fn an_app_that_replaces_another_awaits_a_consent_of_its_own() {
    let scene = Scene::new().await;
    let id = scene.connected().await;
    let app = json!({"client_id": "her-app", "client_secret": "canary-her-secret"});
    let path = format!("/api/integrations/{id}");
    let change = json!({"credentials": app});
    let changed = scene.ask(&scene.alice, "PUT", &path, change).await;
    assert_eq!(
        changed.json()["status"],
        "reauthorize",
        "{}",
        changed.text()
    );
    // Nothing but a consent ends that.
    for change in [
        json!({"disabled": true}),
        json!({"disabled": false}),
        json!({"config": {}}),
    ] {
        scene.ask(&scene.alice, "PUT", &path, change).await;
    }
    let seen = scene.ask(&scene.alice, "GET", &path, Value::Null).await;
    assert_eq!(seen.json()["status"], "reauthorize", "{}", seen.text());
    let flow = scene.begin(&format!("?integration={id}")).await;
    assert_eq!(flow.param("client_id"), "her-app");
}

#[tokio::test]
async fn tokens_of_another_system_are_taken_over_and_due_at_once() {
    let scene = Scene::new().await;
    let brought =
        json!({"access_token": "canary-old-access", "refresh_token": "canary-old-refresh"});
    let new = json!({"name": "moved", "type": "acme", "credentials": brought});
    let made = scene
        .ask(&scene.alice, "POST", "/api/integrations", new)
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["hint"], Value::Null);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let tenant = scene.tenant().await;
    let row = scene
        .house
        .store
        .find_token_set(tenant, id.parse().unwrap());
    let row = row.await.unwrap().unwrap();
    // By the database's clock.
    assert!(
        row.renew_at.is_some_and(|at| at <= row.updated_at),
        "{row:?}"
    );
    assert!(row.credential_version == 1);
    for (wrong, path) in [
        (
            json!({"access_token": "two words"}),
            "credentials.access_token",
        ),
        (json!({"refresh_token": 7}), "credentials.refresh_token"),
    ] {
        let new = json!({"name": "odd", "type": "acme", "credentials": wrong});
        let odd = scene
            .ask(&scene.alice, "POST", "/api/integrations", new)
            .await;
        assert_eq!(odd.status, 422, "{}", odd.text());
        assert_eq!(odd.json()["errors"][0]["path"], path);
        assert!(!odd.text().contains("two words"));
    }
    scene.log_is_clean().await;
}

#[tokio::test]
async fn a_name_that_was_taken_meanwhile_does_not_cost_the_consent() {
    let scene = Scene::new().await;
    let (first, second) = (
        scene.begin("?name=main").await,
        scene.begin("?name=main").await,
    );
    for flow in [&first, &second] {
        let done = scene.consent(flow).await;
        assert_eq!(done.status, 200, "{}", done.text());
    }
    let all = scene.integrations().await;
    let mut names: Vec<_> = all
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["main", "main 2"]);
    let path = "/api/oauth/acme/url?name=main";
    let taken = scene.ask(&scene.alice, "GET", path, Value::Null).await;
    assert_eq!(taken.json()["code"], "duplicate_name", "{}", taken.text());
}

fn device() -> Value {
    json!({"device_code": "canary-device-code", "user_code": "WDJB-MJHT", "verification_uri": "https://acme.example/device", "expires_in": 900, "interval": 5})
}

#[tokio::test]
async fn a_code_typed_on_another_device_connects_an_account() {
    let scene = Scene::new().await;
    scene.played.next(Reply::Json(200, device()));
    let path = "/api/oauth/acme/device";
    let begun = scene
        .ask(&scene.alice, "POST", path, json!({"name": "box"}))
        .await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    let begun = begun.json();
    assert_eq!(begun["user_code"], "WDJB-MJHT");
    assert_eq!(begun["interval"], 5);
    assert!(!begun.to_string().contains("canary"), "{begun}");
    let path = format!("/api/oauth/device/{}", begun["id"].as_str().unwrap());
    let poll = async || {
        scene
            .ask(&scene.alice, "POST", &path, Value::Null)
            .await
            .json()
    };

    scene
        .played
        .next(Reply::Json(400, json!({"error": "authorization_pending"})));
    assert_eq!(
        poll().await,
        json!({"status": "pending", "interval": 5, "integration": null})
    );
    // Asked at once again: the provider is spared.
    assert_eq!(poll().await["status"], "pending");
    assert_eq!(scene.exchanges().len(), 1);

    scene.clock.set(played::NOON.plus_seconds(6));
    scene
        .played
        .next(Reply::Json(400, json!({"error": "slow_down"})));
    assert_eq!(
        poll().await,
        json!({"status": "slow_down", "interval": 10, "integration": null})
    );
    scene.clock.set(played::NOON.plus_seconds(12));
    assert_eq!(poll().await["status"], "pending");
    assert_eq!(scene.exchanges().len(), 2, "it was to be slower");

    // Somebody else's is as if it were not there.
    let bob = scene.house.jwt("bob", "acme", Role::Owner);
    let other = scene.ask(&bob, "POST", &path, Value::Null).await;
    assert_eq!(other.status, 404, "{}", other.text());

    scene.clock.set(played::NOON.plus_seconds(17));
    scene.played.next(Reply::Json(200, tokens()));
    let done = poll().await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(done["integration"]["name"], "box");
    assert_eq!(
        scene.exchanges()[2].field("device_code"),
        "canary-device-code"
    );
    let gone = scene.ask(&scene.alice, "POST", &path, Value::Null).await;
    assert_eq!(gone.status, 404, "{}", gone.text());
    scene.log_is_clean().await;
}

#[tokio::test]
async fn a_device_that_is_refused_or_late_connects_nothing() {
    let scene = Scene::new().await;
    let begin = async || {
        scene.played.next(Reply::Json(200, device()));
        let begun = scene.ask(&scene.alice, "POST", "/api/oauth/acme/device", json!({}));
        format!(
            "/api/oauth/device/{}",
            begun.await.json()["id"].as_str().unwrap()
        )
    };
    let refused = begin().await;
    scene
        .played
        .next(Reply::Json(400, json!({"error": "access_denied"})));
    let answer = scene.ask(&scene.alice, "POST", &refused, Value::Null).await;
    assert_eq!(
        answer.json()["code"],
        "authorization_refused",
        "{}",
        answer.text()
    );
    let late = begin().await;
    scene.clock.set(played::NOON.plus_seconds(901));
    let answer = scene.ask(&scene.alice, "POST", &late, Value::Null).await;
    assert_eq!(
        answer.json()["code"],
        "authorization_expired",
        "{}",
        answer.text()
    );
    let none = scene
        .ask(&scene.alice, "POST", "/api/oauth/openai/device", json!({}))
        .await;
    assert_eq!(none.status, 409, "{}", none.text());
    assert!(scene.integrations().await.is_empty());
}
