//! The connect page in a real browser: without script, in both themes, on a phone, in Spanish, in
//! a product's frame; and looked over by axe-core. Pictures of each page are left in the target
//! folder, under `tmp/screenshots/connect`.

#![allow(clippy::unwrap_used)]

mod house;

use house::House;
use keystead_core::action::Role;
use keystead_http::{Limits, Settings};
use keystead_testkit::node;
use serde_json::json;

use house::TRUE_KEY;

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
        "out": concat!(env!("CARGO_TARGET_TMPDIR"), "/screenshots/connect"),
        "true_key": TRUE_KEY,
        "links": links,
    });
    let done = tokio::task::spawn_blocking(move || node::run("connect.mjs", &told));
    let done = done.await.unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{said}{complained}");
    println!("{said}");
}
