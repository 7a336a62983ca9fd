//! `keystead dev`, by its connect link: what a newcomer clicks through.

use bytes::Bytes;
use http::Method;
use keystead_testkit::client::Client;
use keystead_testkit::process::Process;
use serde_json::Value;

use crate::browser::Browser;
use crate::rig::{PATIENCE, keystead, settled};

/// From the provider's form to the provider's page; the address of that.
async fn go_away(browser: &mut Browser, name: &str) -> String {
    let form = browser.get("/connect/add/sample").await;
    assert!(
        form.text().contains("Continue to Sample"),
        "{}",
        form.text()
    );
    let away = browser
        .post("/connect/authorise/sample", &[("name", name)])
        .await;
    browser.to(&away)
}

/// Presses one of the two buttons; where the browser is sent.
async fn press(browser: &Browser, url: &str, button: &str) -> String {
    let page = Client::new(url).get("").await;
    assert_eq!(page.status, 200, "{page:?}");
    let text = page.text();
    assert!(
        text.contains("Allow</button>") && text.contains("Deny</button>"),
        "{text}"
    );
    assert!(!text.contains("<script"), "{text}");
    let form = Client::new(url).header("content-type", "application/x-www-form-urlencoded");
    let pressed = Bytes::from(format!("answer={button}"));
    let back = form.try_call(Method::POST, "", pressed).await.unwrap();
    browser.to(&back)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_clicks_through_a_consent_by_the_link_that_dev_prints() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = keystead();
    dev.args(["dev", "--json", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path());
    let dev = Process::start(&mut dev);
    let line = dev.line(|line| line.starts_with('{'), PATIENCE);
    let line = line.unwrap_or_else(|| panic!("it is not ready: {}", dev.stderr()));
    let ready: Value = serde_json::from_str(&line).unwrap();
    let (url, link) = (
        ready["url"].as_str().unwrap(),
        ready["connect_url"].as_str().unwrap(),
    );
    let mut browser = Browser::open(url, link).await;
    let home = browser.get("/connect").await.text();
    for choice in ["/connect/add/sample", "/connect/add/openai"] {
        assert!(home.contains(choice), "{home}");
    }

    let there = go_away(&mut browser, "Mine").await;
    let back = press(&browser, &there, "deny").await;
    let refused = browser.get(&back).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(
        refused.text().contains("was not allowed"),
        "{}",
        refused.text()
    );

    let there = go_away(&mut browser, "Mine").await;
    let back = press(&browser, &there, "allow").await;
    let done = browser.get(&back).await;
    let home = browser.to(&done);
    browser.get(&home).await.expect(200);
    let alice = Client::new(url).bearer(ready["users"]["alice"].as_str().unwrap());
    let page = alice.get("/api/integrations?type=sample").await.expect(200);
    let id = page["data"][0]["id"].as_str().unwrap();
    let seen = settled(&alice, id).await;
    assert_eq!(
        (&seen["status"], &seen["name"]),
        (&"connected".into(), &"Mine".into())
    );
    let used = alice.get("/proxy/@sample/me").await.expect(200);
    assert_eq!(used["account"], "sample");

    // The sample is strict: it sends browsers to Keystead alone, and takes no other token.
    let elsewhere = there.replace("redirect_uri=http", "redirect_uri=https");
    assert_eq!(Client::new(&elsewhere).get("").await.status, 400);
    let sample = there.split("/authorize").next().unwrap();
    assert_eq!(
        Client::new(sample)
            .bearer("made-up")
            .get("/me")
            .await
            .status,
        401
    );
}

#[test]
fn dev_tells_a_newcomer_where_to_click() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = keystead();
    dev.args(["dev", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path());
    let dev = Process::start(&mut dev);
    let link = dev.line(|line| line.contains("/connect/start/"), PATIENCE);
    assert!(link.is_some(), "{} {}", dev.stdout(), dev.stderr());
    assert!(
        dev.stdout()
            .contains("Click through Connect as alice of acme")
    );
}
