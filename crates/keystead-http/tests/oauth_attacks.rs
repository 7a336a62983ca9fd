//! Connecting an account over the wire, as an attacker, a hostile page or a broken provider would
//! have it. Each time: nothing is connected, what was there stays, and the log says why.

#![allow(clippy::unwrap_used)]

mod house;
mod played;

use keystead_core::action::Role;
use played::{CLIENT_URI, FILE, Flow, Reply, Scene, is_plain_page, tokens};
use serde_json::{Value, json};

/// Nothing came of it, and whoever runs Keystead can see why.
async fn came_to_nothing(scene: &Scene, answer: &house::Answer, status: u16, why: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    is_plain_page(answer);
    assert!(
        answer.text().contains("egin again"),
        "what to do: {}",
        answer.text()
    );
    assert_eq!(scene.integrations().await.len(), 0);
    let recorded = scene.entries(&["integration", why]).await;
    assert!(
        recorded > 0,
        "no entry says {why}: {:?}",
        scene.house.log().await
    );
    scene.log_is_clean().await;
}

#[tokio::test]
async fn a_forged_state_is_refused() {
    let scene = Scene::new().await;
    let flow = scene.begin("").await;
    let forged = scene
        .back(&flow.cookie, "state=canary-forged&code=canary-code")
        .await;
    came_to_nothing(&scene, &forged, 409, "state unknown").await;
    assert!(scene.exchanges().is_empty());
}

#[tokio::test]
async fn a_state_works_once() {
    let scene = Scene::new().await;
    let flow = scene.begin("").await;
    let query = format!("state={}&code=canary-code", flow.state);
    let both = tokio::join!(
        scene.back(&flow.cookie, &query),
        scene.back(&flow.cookie, &query)
    );
    let mut statuses = [both.0.status.as_u16(), both.1.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let replayed = scene.back(&flow.cookie, &query).await;
    assert_eq!(replayed.status, 409, "{}", replayed.text());
    assert_eq!(scene.exchanges().len(), 1, "the code was sent once");
    assert_eq!(scene.integrations().await.len(), 1);
}

#[tokio::test]
async fn an_expired_state_is_refused() {
    let scene = Scene::new().await;
    let flow = scene.begin("").await;
    scene.clock.set(played::NOON.plus_seconds(600));
    let late = scene.consent(&flow).await;
    assert_eq!(late.status, 409, "{}", late.text());
    assert!(scene.exchanges().is_empty());
    assert!(scene.entries(&["integration", "state expired"]).await > 0);
}

#[tokio::test]
async fn the_state_of_another_browser_is_refused_and_still_good_in_its_own() {
    let scene = Scene::new().await;
    let (flow, other) = (scene.begin("").await, scene.begin("").await);
    assert_ne!(flow.cookie, other.cookie, "two browsers");
    for cookie in [
        "",
        &other.cookie,
        "keystead-oauth=",
        "__Host-keystead-oauth=x",
    ] {
        let query = format!("state={}&code=canary-code", flow.state);
        let stolen = scene.back(cookie, &query).await;
        came_to_nothing(&scene, &stolen, 409, "another browser").await;
    }
    assert!(scene.exchanges().is_empty());
    assert_eq!(scene.consent(&flow).await.status, 200);
}

#[tokio::test]
async fn the_state_of_another_caller_is_refused_and_still_good_for_its_own() {
    let scene = Scene::new().await;
    let flow = scene.begin(&format!("?redirect_uri={CLIENT_URI}")).await;
    let back = json!({"state": flow.state, "code": "canary-code"});
    let foreign = [
        (
            "another tenant's owner",
            scene.house.jwt("bob", "globex", Role::Owner),
        ),
        (
            "the same person in another tenant",
            scene.house.jwt("alice", "globex", Role::Owner),
        ),
        (
            "another owner of the tenant",
            scene.house.jwt("carol", "acme", Role::Owner),
        ),
        ("an operator", scene.house.operator.clone()),
    ];
    let mut answers = Vec::new();
    for (who, token) in &foreign {
        let answer = scene
            .ask(token, "POST", "/api/oauth/callback", back.clone())
            .await;
        assert_eq!(answer.status, 409, "{who}: {}", answer.text());
        let mut problem = answer.json();
        problem["request_id"].take();
        answers.push(problem);
    }
    let unknown = json!({"state": "forged", "code": "canary-code"});
    let mut unknown = scene
        .ask(&scene.alice, "POST", "/api/oauth/callback", unknown)
        .await
        .json();
    unknown["request_id"].take();
    answers.push(unknown);
    answers.dedup();
    assert_eq!(
        answers.len(),
        1,
        "whether there is such a state is not told: {answers:?}"
    );
    // Nor does a browser bring it, whatever its cookie.
    let query = format!("state={}&code=canary-code", flow.state);
    let browser = scene.begin("").await;
    assert_eq!(scene.back(&browser.cookie, &query).await.status, 409);
    assert!(scene.exchanges().is_empty());
    let own = scene
        .ask(&scene.alice, "POST", "/api/oauth/callback", back)
        .await;
    assert_eq!(own.status, 201, "{}", own.text());
}

#[tokio::test]
async fn a_browsers_state_is_not_handed_in_by_a_caller() {
    let scene = Scene::new().await;
    let flow = scene.begin("").await;
    let back = json!({"state": flow.state, "code": "canary-code"});
    let answer = scene
        .ask(&scene.alice, "POST", "/api/oauth/callback", back)
        .await;
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(scene.exchanges().is_empty());
}

#[tokio::test]
async fn whoever_lost_the_right_to_connect_ends_nothing_that_they_began() {
    let scene = Scene::new().await;
    assert!(scene.integrations().await.is_empty(), "the tenant is there");
    let new = json!({"kind": "service", "name": "backend", "scopes": ["put"]});
    let key = scene
        .ask(&scene.house.operator, "POST", "/api/keys", new)
        .await
        .json();
    let text = key["text"].as_str().unwrap();
    let mut request = house::request(text, "GET", "/api/oauth/acme/url", String::new());
    let headers = request.headers_mut();
    headers.insert("keystead-tenant", "acme".parse().unwrap());
    let begun = scene.house.send(request).await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    let cookie = begun.header("set-cookie").split(';').next().unwrap();
    let state = begun.json()["state"].as_str().unwrap().to_owned();
    let path = format!("/api/keys/{}", key["id"].as_str().unwrap());
    let revoked = scene
        .ask(&scene.house.operator, "DELETE", &path, Value::Null)
        .await;
    assert_eq!(revoked.status, 204, "{}", revoked.text());
    let late = scene
        .back(cookie, &format!("state={state}&code=canary-code"))
        .await;
    came_to_nothing(&scene, &late, 409, "its caller is gone").await;
    assert!(scene.exchanges().is_empty());
}

#[tokio::test]
async fn a_viewer_begins_nothing() {
    let scene = Scene::new().await;
    let viewer = scene.house.jwt("victor", "acme", Role::Viewer);
    for (method, path) in [
        ("GET", "/api/oauth/acme/url"),
        ("POST", "/api/oauth/acme/device"),
    ] {
        let body = if method == "POST" {
            json!({})
        } else {
            Value::Null
        };
        let answer = scene.ask(&viewer, method, path, body).await;
        assert_eq!(answer.status, 403, "{}", answer.text());
    }
    assert!(scene.played.heard("/device").is_empty());
}

#[tokio::test]
async fn a_redirect_uri_is_compared_to_the_letter() {
    let scene = Scene::new().await;
    for wrong in [
        "https://evil.example/done",
        "https://app.example.com/done/",
        "https://app.example.com/done?x=1",
        "https://app.example.com/",
        "https://app.example.com.evil.example/done",
        "https://APP.example.com/done",
        "http://app.example.com/done",
        "",
    ] {
        let mut path: url::Url = "http://x/api/oauth/acme/url".parse().unwrap();
        path.query_pairs_mut().append_pair("redirect_uri", wrong);
        let path = format!("{}?{}", path.path(), path.query().unwrap());
        let answer = scene.ask(&scene.alice, "GET", &path, Value::Null).await;
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text());
        assert_eq!(answer.json()["errors"][0]["path"], "redirect_uri");
    }
}

#[tokio::test]
async fn a_code_that_was_used_before_connects_nothing() {
    let scene = Scene::new().await;
    let flow = scene.begin("").await;
    scene.played.next(Reply::Json(
        400,
        json!({"error": "invalid_grant", "error_description": "canary"}),
    ));
    let answer = scene.consent(&flow).await;
    came_to_nothing(&scene, &answer, 409, "exchange: invalid_grant").await;
}

#[tokio::test]
async fn an_app_that_the_provider_refuses_is_the_operators_to_mend() {
    let scene = Scene::new().await;
    let flow = scene.begin("").await;
    scene
        .played
        .next(Reply::Json(401, json!({"error": "invalid_client"})));
    let answer = scene.consent(&flow).await;
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(answer.text().contains("[oauth.acme]"), "{}", answer.text());
    assert_eq!(scene.entries(&["exchange: invalid_client"]).await, 1);
}

#[tokio::test]
async fn what_a_provider_says_of_an_error_is_never_repeated() {
    let scene = Scene::new().await;
    let evil = "%3Cscript%3Ealert(1)%3C/script%3E canary".replace(' ', "+");
    for (error, why, shown) in [
        ("access_denied", "consent: access_denied", "was not granted"),
        ("invalid_scope", "consent: invalid_scope", "(invalid_scope)"),
        (&*evil, "consent: unreadable", "(unreadable)"),
    ] {
        let flow = scene.begin("").await;
        let query = format!(
            "state={}&error={error}&error_description={evil}&error_uri={evil}",
            flow.state
        );
        let answer = scene.back(&flow.cookie, &query).await;
        came_to_nothing(&scene, &answer, 409, why).await;
        assert!(answer.text().contains(shown), "{}", answer.text());
        assert!(!answer.text().contains("alert"), "{}", answer.text());
        // It is over: the state cannot come again with a code.
        assert_eq!(scene.consent(&flow).await.status, 409);
    }
    assert!(scene.exchanges().is_empty());
}

#[tokio::test]
async fn an_answer_of_another_issuer_is_refused_before_its_code_is_sent() {
    let scene = Scene::new().await;
    let flow = scene.begin("").await;
    let query = format!(
        "state={}&code=canary-code&iss=https://evil.example",
        flow.state
    );
    let answer = scene.back(&flow.cookie, &query).await;
    came_to_nothing(&scene, &answer, 409, "consent: iss").await;

    let strict: &str = Box::leak(
        FILE.replace("issuer =", "iss_required = true\nissuer =")
            .into(),
    );
    let strict = Scene::with(strict).await;
    let flow = strict.begin("").await;
    let answer = strict.consent(&flow).await;
    came_to_nothing(&strict, &answer, 409, "consent: iss").await;
    assert!(scene.exchanges().is_empty() && strict.exchanges().is_empty());
}

#[tokio::test]
async fn an_answer_at_another_providers_host_is_refused_where_no_issuer_is_named() {
    let file = FILE.replace("issuer = \"https://acme.example\"\n", "");
    assert!(!file.contains("issuer"));
    let scene = Scene::with(Box::leak(file.into_boxed_str())).await;
    for iss in [
        "https://github.com/login/oauth",
        "https://accounts.google.com",
    ] {
        let flow = scene.begin("").await;
        let query = format!("state={}&code=canary-code&iss={iss}", flow.state);
        let answer = scene.back(&flow.cookie, &query).await;
        came_to_nothing(&scene, &answer, 409, "consent: iss").await;
    }
    assert!(scene.exchanges().is_empty());
    // Its own, and what is nobody's here, say nothing against it.
    for iss in ["https://acme.example/x", "https://nobody.example", "odd"] {
        let flow = scene.begin("").await;
        let query = format!("state={}&code=canary-code&iss={iss}", flow.state);
        let answer = scene.back(&flow.cookie, &query).await;
        assert_eq!(answer.status, 200, "{iss}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_answer_that_its_provider_did_not_sign_is_refused_before_its_code_is_sent() {
    let file = FILE.replace("issuer =", "callback_hmac = \"hmac\"\nissuer =");
    let scene = Scene::with(Box::leak(file.into_boxed_str())).await;
    for forged in [String::new(), format!("&hmac={}", "0".repeat(64))] {
        let flow = scene.begin("").await;
        let query = format!("state={}&code=canary-code{forged}", flow.state);
        let answer = scene.back(&flow.cookie, &query).await;
        came_to_nothing(&scene, &answer, 409, "consent: hmac").await;
        let flow = scene.begin(&format!("?redirect_uri={CLIENT_URI}")).await;
        let back = json!({"state": flow.state, "code": "canary-code"});
        let answer = scene
            .ask(&scene.alice, "POST", "/api/oauth/callback", back)
            .await;
        assert_eq!(answer.status, 409, "{}", answer.text());
    }
    assert!(scene.exchanges().is_empty());
}

#[tokio::test]
async fn a_provider_with_a_callback_of_its_own_answers_there_alone() {
    let scene = Scene::apart().await;
    let flow = scene.begin("").await;
    let uri = flow
        .url
        .query_pairs()
        .find(|(name, _)| name == "redirect_uri");
    let uri = uri.unwrap().1.into_owned();
    assert_eq!(
        uri,
        format!("http://{}/oauth/callback/acme", scene.house.address)
    );
    let query = format!("state={}&code=canary-code", flow.state);
    for wrong in ["", "/github", "/acme/", "/Acme", "/%61cme"] {
        let callback = format!("/oauth/callback{wrong}");
        let answer = scene.back_to(&callback, &flow.cookie, &query).await;
        assert!(
            answer.status.is_client_error(),
            "{wrong}: {}",
            answer.text()
        );
    }
    assert!(scene.exchanges().is_empty());
    assert!(scene.entries(&["state of another callback"]).await >= 2);
    let own = scene
        .back_to("/oauth/callback/acme", &flow.cookie, &query)
        .await;
    assert_eq!(own.status, 200, "{}", own.text());
    assert_eq!(scene.exchanges()[0].field("redirect_uri"), uri);
    // And what began at the shared one does not end there.
    let shared = Scene::new().await;
    let flow = shared.begin("").await;
    let query = format!("state={}&code=canary-code", flow.state);
    let answer = shared
        .back_to("/oauth/callback/acme", &flow.cookie, &query)
        .await;
    came_to_nothing(&shared, &answer, 409, "state of another callback").await;
    assert_eq!(shared.consent(&flow).await.status, 200);
}

#[tokio::test]
async fn a_callback_that_holds_nothing_or_too_much_is_a_plain_page() {
    let scene = Scene::new().await;
    let flow = scene.begin("").await;
    let long = "a".repeat(9000);
    for query in [
        String::new(),
        "code=canary-code".to_owned(),
        format!("state={0}&state={0}&code=x", flow.state),
        format!("state={}&code={long}", flow.state),
    ] {
        let answer = scene.back(&flow.cookie, &query).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        is_plain_page(&answer);
    }
    let neither = scene
        .back(&flow.cookie, &format!("state={}", flow.state))
        .await;
    assert_eq!(neither.status, 400, "{}", neither.text());
    is_plain_page(&neither);
}

fn with(name: &str, value: Value) -> Reply {
    let mut reply = tokens();
    reply[name] = value;
    Reply::Json(200, reply)
}

/// What a broken or hostile token endpoint may do, and what the log says of it.
fn bad_replies() -> Vec<(Reply, u16, &'static str)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let html = "<html><script>canary</script></html>";
    vec![
        (
            Reply::Text("application/json", text("canary")),
            502,
            "reply_not_json",
        ),
        (Reply::Text("text/html", text(html)), 502, "reply_not_json"),
        (
            Reply::Json(200, json!({"token_type": "Bearer"})),
            502,
            "reply_without_token",
        ),
        (with("access_token", json!("")), 502, "token_form"),
        (with("access_token", json!("a b")), 502, "token_form"),
        (
            with("access_token", json!({"canary": 1})),
            502,
            "token_form",
        ),
        (with("token_type", json!("mac")), 502, "token_type"),
        (with("expires_in", json!(-1)), 502, "expires_in"),
        (with("expires_in", json!("soon")), 502, "expires_in"),
        (Reply::Redirect("/elsewhere"), 502, "http_302"),
        (Reply::Json(500, json!({"canary": 1})), 502, "http_500"),
        (Reply::Json(429, json!({})), 502, "http_429"),
        (
            Reply::Text("application/json", vec![b' '; 10 << 20]),
            502,
            "upstream unreachable",
        ),
        (Reply::Silence, 504, "upstream timeout"),
    ]
}

#[tokio::test]
async fn a_token_reply_that_is_none_connects_nothing() {
    let scene = Scene::new().await;
    for (reply, status, why) in bad_replies() {
        let flow = scene.begin("").await;
        scene.played.next(reply);
        let answer = scene.consent(&flow).await;
        assert_eq!(answer.status, status, "{why}: {}", answer.text());
        is_plain_page(&answer);
        let why = format!("exchange: {why}");
        assert!(
            scene.entries(&["put", &why]).await > 0,
            "no entry says {why}"
        );
    }
    assert!(scene.integrations().await.is_empty());
    assert!(
        scene.played.heard("/elsewhere").is_empty(),
        "a redirect was followed"
    );
    scene.log_is_clean().await;
}

#[tokio::test]
async fn a_token_reply_that_is_none_leaves_what_was_connected_as_it_was() {
    let scene = Scene::new().await;
    let id = scene.connected().await;
    let before = scene.stored(&id).await;
    let begin = async || -> Flow { scene.begin(&format!("?integration={id}")).await };
    for (reply, status, _) in bad_replies() {
        if matches!(reply, Reply::Silence) {
            continue; // The other test waits for it.
        }
        let flow = begin().await;
        scene.played.next(reply);
        let answer = scene.consent(&flow).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let flow = begin().await;
    let query = format!("state={}&error=access_denied", flow.state);
    assert_eq!(scene.back(&flow.cookie, &query).await.status, 409);
    assert_eq!(scene.stored(&id).await, before);
}

#[tokio::test]
async fn an_integration_that_went_away_meanwhile_stays_away() {
    let scene = Scene::new().await;
    let id = scene.connected().await;
    let flow = scene.begin(&format!("?integration={id}")).await;
    let path = format!("/api/integrations/{id}");
    scene.ask(&scene.alice, "DELETE", &path, Value::Null).await;
    let answer = scene.consent(&flow).await;
    assert!(answer.status.is_client_error(), "{}", answer.text());
    is_plain_page(&answer);
    assert_eq!(scene.exchanges().len(), 1);
    assert!(scene.integrations().await.is_empty());
}

#[tokio::test]
async fn guesses_at_states_are_limited_by_address() {
    let scene = Scene::limited("3/minute").await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(scene.back("", "state=guess&code=x").await.status.as_u16());
    }
    assert_eq!(statuses, [409, 409, 409, 429, 429, 429]);
    assert!(
        scene.entries(&["state unknown"]).await <= 4,
        "a flood leaves no entry each"
    );
}
