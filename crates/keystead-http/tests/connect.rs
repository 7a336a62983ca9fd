//! The connect page, as a person uses it: each thing that it does, over HTTP, without script.

#![allow(clippy::unwrap_used)]

mod house;

use house::browser::Browser;
use house::{House, TRUE_KEY};
use keystead_core::action::Role;
use serde_json::{Value, json};

const WRONG_KEY: &str = "sk-canary-wrong-key-0123456789abcdef";

/// A browser on the page of acme's owner.
async fn alice(house: &House) -> Browser<'_> {
    let token = house.jwt("alice", "acme", Role::Owner);
    let link = house.link(&token, json!({})).await;
    Browser::open(house, &link).await
}

/// Adds an integration, and gives its path.
async fn add(browser: &mut Browser<'_>, name: &str, key: &str) -> String {
    browser.get("/connect/add/openai").await;
    let once = browser.once.clone();
    let fields = [
        ("mode", "api_key"),
        ("once", &once),
        ("name", name),
        ("c.api_key", key),
    ];
    let added = browser.post("/connect/add/openai", &fields).await;
    assert_eq!(added.status, 303, "{}", added.text());
    added
        .header("location")
        .split('?')
        .next()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_person_adds_sees_tests_renames_replaces_disables_and_removes() {
    let house = House::new().await;
    let mut browser = alice(&house).await;
    let home = browser.get("/connect").await.text();
    assert!(
        home.contains("Nothing is connected yet") && home.contains("OpenAI"),
        "{home}"
    );

    let form = browser.get("/connect/add/openai").await.text();
    assert!(
        form.contains("type=\"password\"") && form.contains("for=\"c-api_key\""),
        "{form}"
    );
    let once = browser.once.clone();
    let fields = [
        ("mode", "api_key"),
        ("once", &once),
        ("name", "Main"),
        ("c.api_key", TRUE_KEY),
    ];
    let added = browser.post("/connect/add/openai", &fields).await;
    assert_eq!(added.status, 303, "{}", added.text());
    let one = browser.get(added.header("location")).await.text();
    assert!(
        one.contains("Saved.") && one.contains("Connected") && one.contains("Main"),
        "{one}"
    );
    let path = added
        .header("location")
        .split('?')
        .next()
        .unwrap()
        .to_owned();

    let tested = browser.post(&format!("{path}/test"), &[]).await;
    assert_eq!(tested.header("location"), format!("{path}?tested=ok"));
    assert!(
        browser
            .get(tested.header("location"))
            .await
            .text()
            .contains("It works.")
    );

    let renamed = browser
        .post(&format!("{path}/rename"), &[("name", " Work key ")])
        .await;
    assert!(
        browser
            .get(renamed.header("location"))
            .await
            .text()
            .contains("Work key")
    );

    browser.get(&format!("{path}/replace")).await;
    let fields = [("mode", "api_key"), ("c.api_key", WRONG_KEY)];
    let replaced = browser.post(&format!("{path}/replace"), &fields).await;
    assert_eq!(replaced.status, 303, "{}", replaced.text());
    let one = browser.get(replaced.header("location")).await.text();
    assert!(
        one.contains("OpenAI does not accept this credential"),
        "{one}"
    );
    assert!(browser.get("/connect").await.text().contains("pill error"));

    let disabled = browser.post(&format!("{path}/disable"), &[]).await;
    let one = browser.get(disabled.header("location")).await.text();
    assert!(
        one.contains("Disabled") && !one.contains("Test now"),
        "{one}"
    );
    let enabled = browser.post(&format!("{path}/enable"), &[]).await;
    assert!(
        browser
            .get(enabled.header("location"))
            .await
            .text()
            .contains("Test now")
    );

    let sure = browser.get(&format!("{path}/remove")).await.text();
    assert!(
        sure.contains("Remove Work key?") && sure.contains("cannot be undone"),
        "{sure}"
    );
    let removed = browser.post(&format!("{path}/remove"), &[]).await;
    assert_eq!(removed.header("location"), "/connect?did=removed");
    let home = browser.get(removed.header("location")).await.text();
    assert!(
        home.contains("Removed.") && home.contains("Nothing is connected yet"),
        "{home}"
    );

    // Each of these was an ordinary operation of alice, and is on record as one.
    let by_alice = |entry: &&Value| entry["by"] == "keystead-dev|alice";
    let log = house.log().await;
    let done: Vec<_> = log
        .iter()
        .filter(by_alice)
        .map(|entry| entry["action"].as_str().unwrap())
        .collect();
    for action in ["list", "info", "put", "test", "delete"] {
        assert!(done.contains(&action), "{action} is not among {done:?}");
    }
}

#[tokio::test]
async fn a_service_makes_a_link_for_a_user_of_its_product() {
    let house = House::new().await;
    house.jwt("alice", "acme", Role::Owner);
    let alice = house.jwt("alice", "acme", Role::Owner);
    house.add(&alice, "main").await;
    let service = house
        .service_key(&["list,info,put,test,delete:openai"])
        .await;
    let body = json!({
        "user": {"id": "u-17", "name": "Ana Díaz"}, "providers": ["openai"],
        "return_url": "https://product.example/settings/keys",
    });
    let made = house
        .ask_in("acme", &service, "POST", "/api/connect-sessions", body)
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.header("cache-control"), "no-store");
    let url = made.json()["url"].as_str().unwrap().to_owned();
    assert!(
        url.starts_with(&format!("http://{}/connect/start/", house.address)),
        "{url}"
    );
    let link = url::Url::parse(&url).unwrap().path().to_owned();

    let mut browser = Browser::new(&house);
    let start = browser.get(&link).await;
    assert!(
        start.text().contains("Continue as Ana Díaz of acme"),
        "{}",
        start.text()
    );
    let mut cookies = start.headers.get_all("set-cookie").iter();
    assert!(
        cookies.all(|cookie| cookie.as_bytes().starts_with(b"keystead-start=")),
        "looking at a link claims nothing"
    );
    // Previews and scanners look as often as they like.
    for _ in 0..3 {
        assert_eq!(Browser::new(&house).get(&link).await.status, 200);
    }
    let claimed = browser.post(&link, &[]).await;
    assert_eq!(
        (claimed.status.as_u16(), claimed.header("location")),
        (303, "/connect")
    );
    let home = browser.get("/connect").await.text();
    assert!(
        home.contains("Ana Díaz · acme") && home.contains("main"),
        "{home}"
    );
    assert!(
        home.contains("https://product.example/settings/keys"),
        "{home}"
    );
    assert!(
        !home.contains("/connect/add/anthropic"),
        "only the session's providers"
    );
    assert_eq!(browser.get("/connect/add/anthropic").await.status, 404);

    add(&mut browser, "Second", TRUE_KEY).await;
    let log = house.log().await;
    let by = log
        .iter()
        .rfind(|entry| entry["action"] == "put" && entry["outcome"] == "allowed");
    let by = by.unwrap()["by"].as_str().unwrap();
    assert!(by.starts_with("key_") && by.ends_with("|u-17"), "{by}");
    let browser_answer = browser.post("/connect/close", &[]).await;
    assert!(browser_answer.text().contains("Back to product.example"));
    assert_eq!(browser.get("/connect").await.status, 404);
}

#[tokio::test]
async fn only_who_may_do_what_the_page_does_makes_links() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    house.add(&alice, "main").await;
    let user = json!({"user": {"id": "u"}});
    let openai = json!({"user": {"id": "u"}, "providers": ["openai"]});
    for (scopes, body, status) in [
        (&["list,info,put,test,delete"][..], &user, 201),
        (&["list,info,put,test,delete:openai"], &openai, 201),
        (&["list,info,put,test,delete:openai"], &user, 403),
        (&["list,info,put,test,delete:anthropic"], &openai, 403),
        (&["list,info,put,test"], &openai, 403),
        (&["list,info,test,delete"], &openai, 403),
        (&["use,reveal"], &openai, 403),
    ] {
        let key = house.service_key(scopes).await;
        let made = house
            .ask_in("acme", &key, "POST", "/api/connect-sessions", body.clone())
            .await;
        assert_eq!(
            made.status.as_u16(),
            status,
            "{scopes:?} {body}: {}",
            made.text()
        );
    }
    let operator = house
        .ask_in(
            "acme",
            &house.operator,
            "POST",
            "/api/connect-sessions",
            user.clone(),
        )
        .await;
    assert_eq!(operator.status, 403, "{}", operator.text());

    for (body, path) in [
        (json!({"user": {"id": "u"}}), "user"),
        (json!({"providers": []}), "providers"),
        (json!({"providers": ["openai", "nothing"]}), "providers.1"),
        (json!({"return_url": "https://evil.example/"}), "return_url"),
        (json!({"return_url": "javascript:alert(1)"}), "return_url"),
        (json!({"embed": "yes"}), "embed"),
        (json!({"minutes": 600}), "minutes"),
    ] {
        let made = house
            .ask(&alice, "POST", "/api/connect-sessions", body.clone())
            .await;
        let fault = made.json()["errors"][0]["path"].as_str().map(str::to_owned);
        assert_eq!(
            (made.status.as_u16(), fault.as_deref()),
            (422, Some(path)),
            "{body}: {}",
            made.text()
        );
    }
}

#[tokio::test]
async fn a_form_that_is_wrong_comes_back_with_what_is_wrong_and_without_what_is_secret() {
    let house = House::new().await;
    let mut browser = alice(&house).await;
    browser.get("/connect/add/twilio").await;
    let once = browser.once.clone();
    let account = format!("AC{}", "0".repeat(32));
    let fields = [
        ("mode", "auth_token"),
        ("once", &once),
        ("name", "Phone"),
        ("c.account_sid", &account),
        ("c.auth_token", "canary two\twords"),
    ];
    let again = browser.post("/connect/add/twilio", &fields).await;
    assert_eq!(again.status, 422, "{}", again.text());
    let text = again.text();
    assert!(
        text.contains("aria-invalid") && text.contains("role=\"alert\""),
        "{text}"
    );
    assert!(text.contains("invisible character"), "{text}");
    assert!(text.contains("Phone") && text.contains(&account), "{text}");
    assert!(!text.contains("canary"), "{text}");

    add(&mut browser, "Main", TRUE_KEY).await;
    browser.get("/connect/add/openai").await;
    let once = browser.once.clone();
    let fields = [
        ("mode", "api_key"),
        ("once", &once),
        ("name", "Main"),
        ("c.api_key", TRUE_KEY),
    ];
    let again = browser.post("/connect/add/openai", &fields).await;
    assert_eq!(again.status, 409);
    assert!(
        again.text().contains("Another connection has this name")
            && !again.text().contains("canary")
    );
    let fields = [
        ("mode", "api_key"),
        ("once", &once),
        ("name", "Other"),
        ("c.api_key", ""),
    ];
    let again = browser.post("/connect/add/openai", &fields).await;
    assert!(again.text().contains("This is needed"), "{}", again.text());
}

#[tokio::test]
async fn a_key_file_is_uploaded_or_pasted() {
    let house = House::new().await;
    let mut browser = alice(&house).await;
    let form = browser.get("/connect/add/gcp_service_account").await.text();
    assert!(
        form.contains("type=\"file\"") && form.contains("multipart/form-data"),
        "{form}"
    );
    let file = json!({
        "type": "service_account", "project_id": "p", "private_key_id": "0".repeat(40),
        "private_key": "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n",
        "client_email": "a@p.iam.gserviceaccount.com", "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    })
    .to_string();
    let once = browser.once.clone();
    let fields = [
        ("mode", "service_account"),
        ("once", once.as_str()),
        ("name", "Cloud"),
    ];
    let path = "/connect/add/gcp_service_account";
    let wrong = browser.upload(path, &fields, b"\x00\xffnot a file").await;
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.text().contains("not the content of the key file"),
        "{}",
        wrong.text()
    );
    let added = browser.upload(path, &fields, file.as_bytes()).await;
    assert_eq!(added.status, 303, "{}", added.text());

    browser.get(path).await;
    let once = browser.once.clone();
    let fields = [
        ("mode", "service_account"),
        ("once", once.as_str()),
        ("name", "Pasted"),
        ("file_text", file.as_str()),
    ];
    let added = browser.upload(path, &fields, b"").await;
    assert_eq!(added.status, 303, "{}", added.text());
}

#[tokio::test]
async fn a_double_press_makes_one_integration() {
    let house = House::new().await;
    let mut browser = alice(&house).await;
    browser.get("/connect/add/openai").await;
    let once = browser.once.clone();
    let fields = [
        ("mode", "api_key"),
        ("once", once.as_str()),
        ("name", "Main"),
        ("c.api_key", TRUE_KEY),
    ];
    let mut second = Browser::new(&house);
    second.cookies = browser.cookies.clone();
    second.csrf = browser.csrf.clone();
    let (one, two) = tokio::join!(
        browser.post("/connect/add/openai", &fields),
        second.post("/connect/add/openai", &fields)
    );
    let place = |answer: &house::Answer| {
        answer
            .header("location")
            .split('?')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        (one.status.as_u16(), two.status.as_u16()),
        (303, 303),
        "{}{}",
        one.text(),
        two.text()
    );
    assert_eq!(place(&one), place(&two));
    let home = browser.get("/connect").await.text();
    assert_eq!(home.matches("class=\"card\"").count(), 1, "{home}");

    // Back to the form after the integration was removed: nothing is made a second time.
    let path = place(&one);
    browser.post(&format!("{path}/remove"), &[]).await;
    let again = browser.post("/connect/add/openai", &fields).await;
    assert_eq!(again.status, 409, "{}", again.text());
    for (method, path) in [
        ("GET", path.clone()),
        ("GET", format!("{path}/remove")),
        ("POST", format!("{path}/remove")),
        ("POST", format!("{path}/test")),
        ("POST", format!("{path}/rename")),
    ] {
        let answer = match method {
            "GET" => browser.get(&path).await,
            _ => browser.post(&path, &[("name", "x")]).await,
        };
        assert_eq!(answer.status, 404, "{method} {path}");
        assert!(
            answer.text().contains("no longer there"),
            "{}",
            answer.text()
        );
    }
    assert!(
        browser
            .get("/connect")
            .await
            .text()
            .contains("Nothing is connected yet")
    );
}

#[tokio::test]
async fn a_page_is_in_the_readers_language() {
    let house = House::new().await;
    let mut browser = alice(&house).await;
    browser.language = "es-AR,es;q=0.9";
    let home = browser.get("/connect").await;
    assert_eq!(home.header("content-language"), "es");
    let text = home.text();
    assert!(
        text.contains("<html lang=\"es\">") && text.contains("Nueva integración"),
        "{text}"
    );
    let form = browser.get("/connect/add/openai").await.text();
    assert!(form.contains("Guardar y verificar"), "{form}");
    // The switch in the page is kept.
    let home = browser.get("/connect?lang=en").await.text();
    assert!(home.contains("Add a connection"), "{home}");
    assert!(
        browser
            .get("/connect")
            .await
            .text()
            .contains("Add a connection")
    );
    assert!(
        browser
            .get("/connect?lang=%3Cscript%3E")
            .await
            .text()
            .contains("Add a connection")
    );
}

#[tokio::test]
async fn a_page_for_one_integration_shows_that_one_alone() {
    let house = House::new().await;
    let token = house.jwt("alice", "acme", Role::Owner);
    let id = house.add(&token, "main").await;
    let other = house.add(&token, "other").await;
    let link = house.link(&token, json!({"integration": id})).await;
    let mut browser = Browser::open(&house, &link).await;
    assert_eq!(
        browser.get("/connect").await.header("location"),
        format!("/connect/at/{id}")
    );
    assert_eq!(browser.get(&format!("/connect/at/{id}")).await.status, 200);
    assert_eq!(
        browser.get(&format!("/connect/at/{other}")).await.status,
        404
    );
    browser.get("/connect/add/openai").await;
    let once = browser.once.clone();
    let fields = [
        ("mode", "api_key"),
        ("once", once.as_str()),
        ("name", "New"),
        ("c.api_key", TRUE_KEY),
    ];
    assert_eq!(
        browser.post("/connect/add/openai", &fields).await.status,
        404
    );
}
