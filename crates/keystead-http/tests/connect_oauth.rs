//! Connecting an account from the connect page, through the provider's own.

#![allow(clippy::unwrap_used)]

mod house;
mod played;

use house::Answer;
use house::browser::Browser;
use keystead_core::action::Role;
use played::{FILE, REFRESH, Scene};
use serde_json::{Value, json};
use std::time::Duration;

/// A browser on alice's page.
async fn page_of(scene: &Scene) -> Browser<'_> {
    let link = scene.house.link(&scene.alice, json!({})).await;
    Browser::open(&scene.house, &link).await
}

/// Asks for the provider's form, and presses its button.
async fn press(browser: &mut Browser<'_>, fields: &[(&str, &str)]) -> Answer {
    let form = browser.get("/connect/add/acme?mode=oauth").await;
    assert_eq!(form.status, 200, "{}", form.text());
    let once = browser.once.clone();
    let fields: Vec<_> = [("mode", "oauth"), ("once", &once)]
        .into_iter()
        .chain(fields.iter().copied())
        .collect();
    browser.post("/connect/authorise/acme", &fields).await
}

/// Where the page that goes on leads to, by itself and by its link.
fn away(begun: &Answer) -> url::Url {
    let text = begun.text().replace("&#38;", "&");
    let (_, rest) = text.split_once("class=\"button\" href=\"").unwrap();
    let url = rest.split('"').next().unwrap();
    let refresh = format!("http-equiv=\"refresh\" content=\"0; url={url}\"");
    assert!(text.contains(&refresh), "{text}");
    let policy = begun.header("content-security-policy");
    assert!(policy.contains("form-action 'self';"), "{policy}");
    url.parse().unwrap()
}

fn state(begun: &Answer) -> String {
    let url = away(begun);
    let state = url.query_pairs().find(|(name, _)| name == "state");
    state.unwrap().1.into_owned()
}

/// What the browser sends when it comes back from another site: no strict cookie.
fn lax(browser: &Browser<'_>) -> String {
    let cookie = browser
        .cookies
        .iter()
        .find(|(name, _)| *name == "keystead-oauth");
    let (name, value) = cookie.unwrap();
    format!("{name}={value}")
}

#[tokio::test]
async fn an_account_is_connected_from_the_page_and_leads_back_to_it() {
    let scene = Scene::new().await;
    let mut browser = page_of(&scene).await;
    let form = browser.get("/connect/add/acme").await;
    assert!(form.text().contains("Continue to Acme"), "{}", form.text());
    let policy = form.header("content-security-policy");
    assert!(policy.contains("form-action 'self';"), "{policy}");

    let begun = press(&mut browser, &[("name", "Main")]).await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    assert_eq!(away(&begun).path(), "/authorize");
    let query = format!("state={}&code=canary-code", state(&begun));
    let done = scene.back(&lax(&browser), &query).await;
    assert_eq!(
        done.header("location"),
        "/connect/return?did=connected",
        "{}",
        done.text()
    );
    let between = browser.get(done.header("location")).await.text();
    let refresh = "http-equiv=\"refresh\" content=\"0; url=/connect?did=connected\"";
    assert!(between.contains(refresh), "{between}");
    let home = browser.get("/connect?did=connected").await.text();
    assert!(
        home.contains("Main") && home.contains("role=\"status\">Connected."),
        "{home}"
    );
    let all = scene.integrations().await;
    assert_eq!((all.len(), all[0]["type"].as_str()), (1, Some("acme")));

    // Again, from its own page: the same integration, with new tokens.
    let id = all[0]["id"].as_str().unwrap().to_owned();
    let one = browser.get(&format!("/connect/at/{id}")).await.text();
    assert!(one.contains("Connect again"), "{one}");
    let begun = browser
        .post(&format!("/connect/at/{id}/reconnect"), &[])
        .await;
    let query = format!("state={}&code=canary-code", state(&begun));
    let done = scene.back(&lax(&browser), &query).await;
    assert_eq!(done.status, 303, "{}", done.text());
    assert_eq!(scene.integrations().await.len(), 1);
    let (version, tokens) = scene.stored(&id).await;
    assert_eq!((version, tokens.unwrap().0), (2, (1 << 32) + 1));
    scene.log_is_clean().await;
}

#[tokio::test]
async fn what_is_not_granted_is_said_on_a_page_and_changes_nothing() {
    let scene = Scene::new().await;
    let mut browser = page_of(&scene).await;
    for (query, status, words) in [
        (
            "error=access_denied&error_description=%3Cscript%3Ecanary",
            409,
            "was not allowed",
        ),
        ("error=canary%3Cimg%3E", 409, "was not allowed"),
        ("code=", 400, "did not answer as it should"),
    ] {
        let begun = press(&mut browser, &[("name", "Main")]).await;
        let query = format!("state={}&{query}", state(&begun));
        let back = scene.back(&lax(&browser), &query).await;
        let text = back.text();
        assert_eq!(back.status, status, "{query}: {text}");
        assert!(
            text.contains(words) && text.contains("href=\"/connect/return\""),
            "{text}"
        );
        assert!(!text.contains("canary") && !text.contains("<img"), "{text}");
        // The same answer again: the state was used.
        let again = scene.back(&lax(&browser), &query).await;
        assert!(again.text().contains("is done already"), "{}", again.text());
    }
    // Another browser brings the answer, and one that has a cookie of its own.
    let begun = press(&mut browser, &[("name", "Main")]).await;
    let query = format!("state={}&code=canary-code", state(&begun));
    let mut other = page_of(&scene).await;
    press(&mut other, &[("name", "Other")]).await;
    for cookie in [String::new(), lax(&other)] {
        let stolen = scene.back(&cookie, &query).await;
        assert!(
            stolen.text().contains("another browser"),
            "{}",
            stolen.text()
        );
        assert!(
            !stolen.text().contains("/connect/return"),
            "{}",
            stolen.text()
        );
    }
    // The page was closed meanwhile.
    browser.get("/connect").await;
    browser.post("/connect/close", &[]).await;
    let late = scene.back(&lax(&browser), &query).await;
    assert_eq!(late.status, 404, "{}", late.text());
    assert!(scene.exchanges().is_empty());
    assert_eq!(scene.integrations().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_person_brings_an_app_of_their_own_to_the_page() {
    let scene = Scene::new().await;
    let mut browser = page_of(&scene).await;
    let app = [
        ("name", "Own"),
        ("c.client_id", "her-app"),
        ("c.client_secret", "canary-her-secret"),
    ];
    let begun = press(&mut browser, &app).await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    assert!(away(&begun).as_str().contains("client_id=her-app"));
    assert!(!begun.text().contains("canary"), "{}", begun.text());
    assert_eq!(scene.integrations().await.len(), 1);
    // A name that is taken comes back to the form, without what is secret.
    let again = press(&mut browser, &app).await;
    assert_eq!(again.status, 409);
    assert!(
        again.text().contains("has this name") && !again.text().contains("canary"),
        "{}",
        again.text()
    );
}

#[tokio::test]
async fn a_framed_page_goes_on_in_a_tab_for_that_provider_alone() {
    let scene = Scene::new().await;
    let link = scene.house.link(&scene.alice, json!({"embed": true})).await;
    let mut frame = Browser::open(&scene.house, &link).await;
    frame.get("/embed/add/acme?mode=oauth").await;
    let once = frame.once.clone();
    let fields = [("mode", "oauth"), ("once", once.as_str()), ("name", "Main")];
    let tab = frame.post("/embed/authorise/acme", &fields).await;
    assert_eq!(tab.status, 200, "{}", tab.text());
    let text = tab.text();
    let (_, rest) = text.split_once("class=\"button\" href=\"").unwrap();
    let url = rest.split('"').next().unwrap();
    assert!(
        text.contains("target=\"_blank\"") && url.contains("/connect/start/"),
        "{text}"
    );

    let path = url::Url::parse(url).unwrap().path().to_owned();
    let mut other = Browser::open(&scene.house, &path).await;
    let home = other.get("/connect").await.text();
    assert!(
        home.contains("/connect/add/acme") && !home.contains("/connect/add/openai"),
        "{home}"
    );
    let begun = press(&mut other, &[("name", "Main")]).await;
    let query = format!("state={}&code=canary-code", state(&begun));
    let done = scene.back(&lax(&other), &query).await;
    assert_eq!(done.status, 303, "{}", done.text());
    assert!(frame.get("/embed").await.text().contains("Main"));
    // It ends when the frame's does, whenever it was made.
    scene.clock.set(played::NOON.plus_seconds(30 * 60));
    assert_eq!(other.get("/connect").await.status, 404);
}

#[tokio::test]
async fn a_viewer_begins_no_consent() {
    let scene = Scene::new().await;
    let viewer = scene.house.jwt("victor", "acme", Role::Viewer);
    let link = scene.house.link(&viewer, json!({})).await;
    let mut browser = Browser::open(&scene.house, &link).await;
    let refused = press(&mut browser, &[("name", "Main")]).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(!browser.cookies.contains_key("keystead-oauth"));
}

#[tokio::test]
async fn an_integration_is_removed_with_what_was_granted_if_that_is_ticked() {
    let calls = "[mode.revoke]\n[[mode.revoke.call]]\nmethod = \"POST\"\nurl = \"https://acme.example/revoke\"\nauth = \"app_basic\"\nform = { token = \"{refresh_token|access_token}\" }\nok = [200]\n\n[[mode]]\nid = \"api_key\"";
    let file = FILE.replace("[[mode]]\nid = \"api_key\"", calls);
    let scene = Scene::with(Box::leak(file.into_boxed_str())).await;
    let mut browser = page_of(&scene).await;
    for (ticked, did) in [(false, "removed"), (true, "revoked")] {
        let id = scene.connected().await;
        let path = format!("/connect/at/{id}/remove");
        let sure = browser.get(&path).await.text();
        assert!(
            sure.contains("type=\"checkbox\"") && sure.contains("take the access back at Acme"),
            "{sure}"
        );
        let fields: &[(&str, &str)] = if ticked { &[("revoke", "1")] } else { &[] };
        let removed = browser.post(&path, fields).await;
        assert_eq!(
            removed.header("location"),
            format!("/connect?did={did}"),
            "{}",
            removed.text()
        );
        assert_eq!(scene.integrations().await, Vec::<Value>::new());
        assert_eq!(browser.get(&path).await.status, 404);
        if !ticked {
            assert!(scene.played.heard("/revoke").is_empty());
        }
    }
    let asked = async || {
        while scene.played.heard("/revoke").is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked())
        .await
        .unwrap();
    assert_eq!(scene.played.heard("/revoke")[0].field("token"), REFRESH);
    let home = browser.get("/connect?did=revoked").await.text();
    assert!(
        home.contains("is being asked to take the access back"),
        "{home}"
    );
}
