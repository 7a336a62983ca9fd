//! The connect page in a real browser: without script, in both themes, on a phone, in Spanish, in
//! a product's frame; and looked over by axe-core. Pictures of each page are left in the target
//! folder, under `tmp/screenshots/connect`.

#![allow(clippy::unwrap_used)]

mod house;
mod played;

use house::House;
use house::Plan;
use keystead_broker::OAuthApp;
use keystead_core::action::Role;
use keystead_http::{Limits, Settings};
use keystead_testkit::node;
use played::{FILE, Played};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::Arc;

use house::TRUE_KEY;

const PICTURES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/screenshots/connect");

async fn drive(script: &'static str, told: Value) {
    let done = tokio::task::spawn_blocking(move || node::run(script, &told));
    let done = done.await.unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{said}{complained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_connect_in_a_real_browser_without_script() {
    let home = "https://keystead.test";
    let house = House::called(Limits::default(), Settings::default(), Some(home)).await;
    let mut links = json!({});
    for (name, embed) in [
        ("light", false),
        ("dark", false),
        ("es", false),
        ("look_light", false),
        ("look_dark", false),
        ("frame", true),
        ("unframed", false),
    ] {
        // Each in a tenant of its own, so that none finds what another left.
        let alice = house.jwt("alice", name, Role::Owner);
        let return_url = "https://product.example/settings";
        let body = json!({"embed": embed, "return_url": return_url});
        let link = house.link(&alice, body).await;
        links[name] = format!("{home}{link}").into();
    }
    let names = ["keystead.test", "product.example", "evil.example"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let told = json!({
        "chromium": node::chromium(),
        "upstream": format!("http://{}", house.address),
        "key": made.signing_key.serialize_pem(),
        "cert": made.cert.pem(),
        "out": PICTURES,
        "true_key": TRUE_KEY,
        "links": links,
    });
    drive("connect.mjs", told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_connected_in_a_real_browser_without_script() {
    let (_played, provider) = Played::start().await;
    // What browsers call the house has to be known before it stands.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let home = format!("http://localhost:{port}");
    let mut behaviour = keystead_broker::Settings::default();
    let app = OAuthApp {
        client_id: "our-app".into(),
        client_secret: None,
    };
    behaviour.oauth.apps.insert("acme".into(), Arc::new(app));
    let house = House::planned(Plan {
        behaviour,
        public_url: Some(home.clone()),
        files: vec![("acme.toml", FILE)],
        dial: vec![("acme", provider)],
        ..Plan::default()
    })
    .await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let link = house.link(&alice, json!({})).await;
    let told = json!({
        "chromium": node::chromium(),
        "upstream": format!("http://{}", house.address),
        "port": port,
        "link": format!("{home}{link}"),
        "out": PICTURES,
    });
    drive("connect_oauth.mjs", told).await;
    let all = house.ask(&alice, "GET", "/api/integrations", Value::Null);
    assert_eq!(all.await.json()["data"][0]["status"], "connected");
}
