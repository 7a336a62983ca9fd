//! What bounds the connect page: who may press a link's button, how much nobody may write into the
//! log, how many sessions and consents may be open, and what a tab of a framed page is part of.

#![allow(clippy::unwrap_used)]

mod house;
mod played;

use house::browser::Browser;
use house::{Answer, House, Plan, request};
use keystead_broker::Clock;
use keystead_core::action::Role;
use keystead_core::ids::TenantId;
use keystead_http::{Limits, Settings};
use played::{NOON, Scene};
use serde_json::{Value, json};

#[tokio::test]
async fn a_link_is_claimed_by_a_browser_that_was_shown_its_page_and_no_other() {
    let house = House::new().await;
    let token = house.jwt("mallory", "acme", Role::Owner);
    let link = house.link(&token, json!({})).await;
    // Somebody else's browser is made to press the button of mallory's link.
    let mut mallory = Browser::new(&house);
    mallory.get(&link).await;
    let mut person = Browser::new(&house);
    person.origin = None;
    for csrf in ["", &mallory.csrf] {
        for site in [Some("same-origin"), None] {
            person.site = site;
            let pressed = person.post(&link, &[("csrf", csrf)]).await;
            assert_eq!(pressed.status, 403, "{}", pressed.text());
        }
    }
    // A page of another link is none of this one.
    let other = house.link(&token, json!({})).await;
    person.get(&other).await;
    assert_eq!(person.post(&link, &[]).await.status, 403);
    assert!(!person.cookies.contains_key("keystead-connect"));
    // Two of its own at once share the cookie.
    person.get(&link).await;
    let csrf = person.csrf.clone();
    person.get(&other).await;
    let pressed = person.post(&link, &[("csrf", &csrf)]).await;
    assert_eq!(pressed.status, 303, "{}", pressed.text());
}

#[tokio::test]
async fn a_page_says_where_its_forms_come_from_where_the_browser_does_not() {
    for (home, policy) in [
        (None, "same-origin"),
        (Some("https://keystead.test"), "no-referrer"),
    ] {
        let house = House::called(Limits::default(), Settings::default(), home).await;
        let token = house.jwt("alice", "acme", Role::Owner);
        let link = house.link(&token, json!({})).await;
        let mut browser = Browser::new(&house);
        let start = browser.get(&link).await;
        browser.post(&link, &[]).await;
        for page in [start, browser.get("/connect").await] {
            assert_eq!(page.header("referrer-policy"), policy);
        }
        let nobody = Browser::new(&house).get("/connect").await;
        assert_eq!(nobody.header("referrer-policy"), "no-referrer");
    }
}

/// Nobody's requests, over the limit: refused, and one entry for all of them.
async fn floods(house: &House, send: impl AsyncFn() -> Answer, status: u16) {
    let before = house.log().await.len();
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(send().await.status.as_u16());
    }
    assert_eq!((statuses[0], statuses[11]), (status, 429), "{statuses:?}");
    let entries = house.log().await.len() - before;
    assert!(entries <= 4, "a flood left {entries} entries");
}

fn rare() -> Plan {
    Plan {
        anonymous: Some("3/minute"),
        // At one moment, so that no minute turns.
        clock: Clock::fixed(NOON).0,
        ..Plan::default()
    }
}

#[tokio::test]
async fn callbacks_without_a_state_leave_no_entry_each() {
    let house = House::planned(rare()).await;
    let empty = async || {
        let request = request("", "GET", "/oauth/callback?code=x", String::new());
        house.send(request).await
    };
    floods(&house, empty, 400).await;
}

#[tokio::test]
async fn forged_presses_of_a_button_leave_no_entry_each() {
    let house = House::planned(rare()).await;
    let token = house.jwt("alice", "acme", Role::Owner);
    let link = house.link(&token, json!({})).await;
    let forged = async || {
        let mut evil = Browser::new(&house);
        (evil.site, evil.origin) = (Some("cross-site"), Some("https://evil.example".into()));
        evil.post(&link, &[]).await
    };
    floods(&house, forged, 403).await;
}

#[tokio::test]
async fn presses_of_a_button_that_was_pressed_leave_no_entry_each() {
    let house = House::planned(rare()).await;
    let token = house.jwt("alice", "acme", Role::Owner);
    let link = house.link(&token, json!({})).await;
    Browser::open(&house, &link).await;
    let late = async || Browser::new(&house).post(&link, &[]).await;
    floods(&house, late, 409).await;
}

/// Opens a tab beside a frame of alice's.
async fn tab_of<'h>(scene: &'h Scene, frame: &mut Browser<'_>) -> Browser<'h> {
    frame.get("/embed/add/acme?mode=oauth").await;
    let once = frame.once.clone();
    let fields = [("mode", "oauth"), ("once", once.as_str()), ("name", "Main")];
    let tab = frame.post("/embed/authorise/acme", &fields).await;
    let text = tab.text();
    let (_, rest) = text.split_once("class=\"button\" href=\"").unwrap();
    let url = url::Url::parse(rest.split('"').next().unwrap()).unwrap();
    Browser::open(&scene.house, url.path()).await
}

#[tokio::test]
async fn the_tabs_of_a_framed_page_are_closed_with_it() {
    let scene = Scene::new().await;
    let link = scene.house.link(&scene.alice, json!({"embed": true})).await;
    let mut frame = Browser::open(&scene.house, &link).await;
    let mut one = tab_of(&scene, &mut frame).await;
    let mut two = tab_of(&scene, &mut frame).await;
    // A tab's own end is its own.
    one.get("/connect").await;
    one.post("/connect/close", &[]).await;
    assert_eq!(one.get("/connect").await.status, 404);
    assert_eq!(two.get("/connect").await.status, 200);
    frame.get("/embed").await;
    frame.post("/embed/close", &[]).await;
    assert_eq!(two.get("/connect").await.status, 404);
    assert_eq!(two.get("/connect/add/acme").await.status, 404);
}

#[tokio::test]
async fn the_tabs_of_a_framed_page_count_as_it() {
    let scene = Scene::asked("20/minute").await;
    let link = scene.house.link(&scene.alice, json!({"embed": true})).await;
    let mut frame = Browser::open(&scene.house, &link).await;
    let mut tab = tab_of(&scene, &mut frame).await;
    while frame.get("/embed").await.status == 200 {}
    assert_eq!(tab.get("/connect").await.status, 429);
    // Another session of hers is another's.
    let link = scene.house.link(&scene.alice, json!({})).await;
    Browser::open(&scene.house, &link).await;
}

#[tokio::test]
async fn so_many_sessions_may_one_person_have_open_and_no_more() {
    let scene = Scene::new().await;
    let make = async |token: &str| {
        let path = "/api/connect-sessions";
        scene.ask(token, "POST", path, json!({})).await
    };
    for _ in 0..100 {
        assert_eq!(make(&scene.alice).await.status, 201);
    }
    let full = make(&scene.alice).await;
    assert_eq!(full.status, 429, "{}", full.text());
    assert_eq!(full.header("retry-after"), "1800");
    assert!(full.text().contains("wait 1800 s"), "{}", full.text());
    let bob = scene.house.jwt("bob", "acme", Role::Owner);
    assert_eq!(make(&bob).await.status, 201);
    scene.clock.set(NOON.plus_seconds(1800));
    assert_eq!(make(&scene.alice).await.status, 201);
}

#[tokio::test]
async fn so_many_consents_may_one_person_have_under_way_and_no_more() {
    let scene = Scene::new().await;
    for _ in 0..100 {
        scene.begin("").await;
    }
    for (method, path, body) in [
        ("GET", "/api/oauth/acme/url", Value::Null),
        ("POST", "/api/oauth/acme/device", json!({})),
    ] {
        let full = scene.ask(&scene.alice, method, path, body).await;
        assert_eq!(full.status, 429, "{}", full.text());
        assert_eq!(full.header("retry-after"), "600");
    }
    assert!(scene.played.heard("/device").is_empty());
    scene.clock.set(NOON.plus_seconds(600));
    scene.begin("").await;
}

#[tokio::test]
async fn rows_are_counted_by_tenant_and_by_who_made_them() {
    let scene = Scene::new().await;
    scene.house.link(&scene.alice, json!({})).await;
    let bob = scene.house.jwt("bob", "globex", Role::Owner);
    scene.house.link(&bob, json!({})).await;
    scene.begin("").await;
    let tenants = scene.ask(&scene.house.operator, "GET", "/api/tenants", Value::Null);
    let tenants = tenants.await.json();
    for tenant in tenants["data"].as_array().unwrap() {
        let id: TenantId = tenant["id"].as_str().unwrap().parse().unwrap();
        let (store, named) = (&scene.house.store, &tenant["external"]);
        let (sessions, consents) = match named.as_str() {
            Some("acme") => (1, 1),
            Some("globex") => (1, 0),
            _ => continue,
        };
        let all = store.open_connect_sessions(id, "", NOON).await.unwrap();
        assert_eq!(all.count, sessions, "{named}");
        assert_eq!(all.next_end, Some(NOON.plus_seconds(1800)));
        let begun = store.open_authorizations(id, None, NOON).await.unwrap();
        assert_eq!(begun.count, consents, "{named}");
        let nobody = "{\"maker\":{\"user\"%";
        let odd = store.open_connect_sessions(id, nobody, NOON).await.unwrap();
        assert_eq!((odd.count, odd.next_end), (0, None));
        let late = NOON.plus_seconds(1800);
        let over = store.open_connect_sessions(id, "", late).await.unwrap();
        assert_eq!(over.count, 0);
    }
}

#[tokio::test]
async fn the_session_of_a_user_ends_with_their_token() {
    let scene = Scene::new().await;
    let short = scene.house.jwt_for("alice", "acme", Role::Owner, 300);
    let made = scene
        .ask(&short, "POST", "/api/connect-sessions", json!({}))
        .await;
    assert_eq!(made.json()["expires_at"], "2036-01-01T12:06:00.000000Z");
    let link = scene.house.link(&short, json!({})).await;
    let mut browser = Browser::open(&scene.house, &link).await;
    scene.clock.set(NOON.plus_seconds(359));
    assert_eq!(browser.get("/connect").await.status, 200);
    scene.clock.set(NOON.plus_seconds(360));
    assert_eq!(browser.get("/connect").await.status, 404);
    // Nor is there one that outlives it, by a tab or by a further session.
    scene.clock.set(NOON);
    let link = scene.house.link(&short, json!({"embed": true})).await;
    let mut frame = Browser::open(&scene.house, &link).await;
    let mut tab = tab_of(&scene, &mut frame).await;
    scene.clock.set(NOON.plus_seconds(360));
    assert_eq!(tab.get("/connect").await.status, 404);
}
