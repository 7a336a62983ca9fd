//! The connect page, from the attacker's side.

#![allow(clippy::unwrap_used)]

mod house;

use house::browser::Browser;
use house::{House, TRUE_KEY};
use keystead_broker::Clock;
use keystead_core::action::Role;
use keystead_core::time::Time;
use keystead_http::{Limits, Settings};
use serde_json::{Value, json};

const EVIL: &str = "</p><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&{{7*7}}";

async fn page_of<'h>(house: &'h House, role: Role) -> Browser<'h> {
    let token = house.jwt("alice", "acme", role);
    let link = house.link(&token, json!({})).await;
    Browser::open(house, &link).await
}

#[tokio::test]
async fn a_stolen_link_is_of_no_use_in_a_second_browser() {
    let house = House::new().await;
    let token = house.jwt("alice", "acme", Role::Owner);
    let link = house.link(&token, json!({})).await;
    let mut owner = Browser::open(&house, &link).await;

    let mut thief = Browser::new(&house);
    let seen = thief.get(&link).await.text();
    assert!(
        seen.contains("already opened") && seen.contains("ask for a new link"),
        "{seen}"
    );
    let taken = thief.post(&link, &[]).await;
    assert_eq!(taken.status, 409, "{}", taken.text());
    assert!(taken.text().contains("ask for a new link") && thief.cookies.is_empty());
    assert_eq!(thief.get("/connect").await.status, 404);
    // Of two that press at once, one has it.
    let link = house.link(&token, json!({})).await;
    let (mut one, mut two) = (Browser::new(&house), Browser::new(&house));
    tokio::join!(one.get(&link), two.get(&link));
    let (first, second) = tokio::join!(one.post(&link, &[]), two.post(&link, &[]));
    let mut statuses = [first.status.as_u16(), second.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 409]);
    assert_eq!(owner.get("/connect").await.status, 200);
    // The link itself is no way in, nor is another session's secret with it.
    for cookie in ["", "x", "a.b.c", link.rsplit('/').next().unwrap()] {
        let mut guess = Browser::new(&house);
        guess
            .cookies
            .insert("keystead-connect".to_owned(), cookie.to_owned());
        assert_eq!(guess.get("/connect").await.status, 404, "{cookie}");
    }
    let (name, own) = owner.cookies.iter().next().unwrap();
    let flipped = format!(
        "{}{}",
        &own[..own.len() - 1],
        if own.ends_with('A') { "B" } else { "A" }
    );
    let mut guess = Browser::new(&house);
    guess.cookies.insert(name.clone(), flipped);
    assert_eq!(guess.get("/connect").await.status, 404);
}

#[tokio::test]
async fn a_session_ends_when_it_is_closed_and_with_what_it_rests_on() {
    let house = House::new().await;
    let mut browser = page_of(&house, Role::Owner).await;
    let mut other = Browser::new(&house);
    other.cookies = browser.cookies.clone();
    browser.post("/connect/close", &[]).await;
    assert_eq!(other.get("/connect").await.status, 404);
    assert!(
        other
            .get("/connect")
            .await
            .text()
            .contains("Ask for a new link")
    );

    // The service key that made it is revoked.
    let service = house.service_key(&["list,info,put,test,delete"]).await;
    let made = house
        .ask_in(
            "acme",
            &service,
            "POST",
            "/api/connect-sessions",
            json!({"user": {"id": "u"}}),
        )
        .await;
    let link = url::Url::parse(made.json()["url"].as_str().unwrap())
        .unwrap()
        .path()
        .to_owned();
    let mut browser = Browser::open(&house, &link).await;
    let keys = house
        .ask(&house.operator, "GET", "/api/keys", Value::Null)
        .await
        .json();
    let keys = keys["data"].as_array().unwrap();
    let key = keys.iter().find(|key| key["kind"] == "service").unwrap()["id"]
        .as_str()
        .unwrap();
    let revoked = house
        .ask(
            &house.operator,
            "DELETE",
            &format!("/api/keys/{key}"),
            Value::Null,
        )
        .await;
    assert!(revoked.status.is_success(), "{}", revoked.text());
    assert_eq!(browser.get("/connect").await.status, 404);

    // The member who made it is one no more, or only a lesser one.
    let owner = house.jwt("owner", "acme", Role::Owner);
    let put = |role: &str| json!({"issuer": "keystead-dev", "subject": "carol", "role": role});
    let member = house
        .ask(&owner, "PUT", "/api/members", put("admin"))
        .await
        .json();
    let tenants = house
        .ask(&house.operator, "GET", "/api/tenants", Value::Null)
        .await
        .json();
    let tenants = tenants["data"].as_array().unwrap();
    let acme = tenants
        .iter()
        .find(|one| one["external"] == "acme")
        .unwrap()["id"]
        .as_str()
        .unwrap();
    let carol = house.jwt("carol", "globex", Role::Viewer);
    let made = house
        .ask_in(acme, &carol, "POST", "/api/connect-sessions", json!({}))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let link = url::Url::parse(made.json()["url"].as_str().unwrap())
        .unwrap()
        .path()
        .to_owned();
    let mut browser = Browser::open(&house, &link).await;
    assert!(
        browser
            .get("/connect")
            .await
            .text()
            .contains("/connect/add/openai")
    );
    house
        .ask(&owner, "PUT", "/api/members", put("viewer"))
        .await;
    assert!(
        !browser
            .get("/connect")
            .await
            .text()
            .contains("/connect/add/openai")
    );
    let id = member["id"].as_str().unwrap();
    house
        .ask(&owner, "DELETE", &format!("/api/members/{id}"), Value::Null)
        .await;
    assert_eq!(browser.get("/connect").await.status, 404);
}

#[tokio::test]
async fn a_form_from_elsewhere_changes_nothing() {
    let house = House::new().await;
    let token = house.jwt("alice", "acme", Role::Owner);
    let id = house.add(&token, "main").await;
    let mut browser = page_of(&house, Role::Owner).await;
    let path = format!("/connect/at/{id}/remove");
    browser.get(&path).await;
    let csrf = browser.csrf.clone();
    let own = format!("http://{}", house.address);
    let mut stranger = page_of(&house, Role::Owner).await;
    stranger.get(&path).await;
    let foreign_csrf = stranger.csrf.clone();
    for (site, origin, csrf, why) in [
        (
            Some("cross-site"),
            Some("https://evil.example"),
            csrf.as_str(),
            "another site",
        ),
        (Some("cross-site"), Some("null"), &csrf, "a sandboxed frame"),
        (
            Some("same-site"),
            Some("null"),
            &csrf,
            "a neighbouring host",
        ),
        (Some("none"), None, &csrf, "no page at all"),
        (
            Some("same-origin"),
            Some("https://evil.example"),
            &csrf,
            "two stories",
        ),
        (
            None,
            Some("https://evil.example"),
            &csrf,
            "an old browser on another site",
        ),
        (None, Some("null"), &csrf, "a sandbox, without TLS"),
        (Some("same-origin"), Some(&own), "", "no token"),
        (Some("same-origin"), Some(&own), "x", "a wrong token"),
        (
            Some("same-origin"),
            Some(&own),
            &foreign_csrf,
            "another session's token",
        ),
    ] {
        (browser.site, browser.origin) = (site, origin.map(str::to_owned));
        for (path, fields) in [
            (path.clone(), vec![]),
            (format!("/connect/at/{id}/rename"), vec![("name", "stolen")]),
            (format!("/connect/at/{id}/disable"), vec![]),
            ("/connect/close".to_owned(), vec![]),
        ] {
            let fields: Vec<_> = [("csrf", csrf)].into_iter().chain(fields).collect();
            let answer = browser.post(&path, &fields).await;
            assert_eq!(answer.status, 403, "{why}: {path}: {}", answer.text());
            assert!(
                answer.text().contains("Nothing was changed"),
                "{}",
                answer.text()
            );
        }
    }
    // The link's own button, pressed by another site's page.
    let link = house.link(&token, json!({})).await;
    browser.get(&link).await;
    browser.site = Some("cross-site");
    assert_eq!(browser.post(&link, &[]).await.status, 403);
    let denied = |entry: &&Value| entry["outcome"] == "denied" && entry["on"] == "request";
    assert!(house.log().await.iter().filter(denied).count() >= 36);
    // What a form is not is no form.
    (browser.site, browser.origin) = (Some("same-origin"), None);
    let body = format!("{{\"csrf\": \"{csrf}\"}}").into_bytes();
    assert_eq!(
        browser
            .send("POST", &path, "application/json", body)
            .await
            .status,
        400
    );
    assert_eq!(
        house
            .ask(
                &token,
                "GET",
                &format!("/api/integrations/{id}"),
                Value::Null
            )
            .await
            .json()["name"],
        "main"
    );
}

#[tokio::test]
async fn another_tenants_integration_is_as_if_it_were_not_there() {
    let house = House::new().await;
    let bob = house.jwt("bob", "globex", Role::Owner);
    let foreign = house.add(&bob, "theirs").await;
    let mut browser = page_of(&house, Role::Owner).await;
    let missing = "int_00000000000000000000000000000001";
    browser.get("/connect/add/openai").await;
    for (place, fields) in [
        ("", vec![]),
        (
            "/replace",
            vec![("mode", "api_key"), ("c.api_key", TRUE_KEY)],
        ),
        ("/test", vec![]),
        ("/rename", vec![("name", "mine")]),
        ("/disable", vec![]),
        ("/enable", vec![]),
        ("/remove", vec![]),
    ] {
        let mut texts = Vec::new();
        for id in [foreign.as_str(), missing] {
            let path = format!("/connect/at/{id}{place}");
            let answer = if place.is_empty() {
                browser.get(&path).await
            } else {
                browser.post(&path, &fields).await
            };
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
            texts.push(answer.text().replace(id, ""));
        }
        assert_eq!(texts[0], texts[1], "{place}");
    }
    let link = json!({"integration": foreign});
    let alice = house.jwt("alice", "acme", Role::Owner);
    assert_eq!(
        house
            .ask(&alice, "POST", "/api/connect-sessions", link)
            .await
            .status,
        404
    );
    let theirs = house
        .ask(
            &bob,
            "GET",
            &format!("/api/integrations/{foreign}"),
            Value::Null,
        )
        .await;
    assert_eq!(theirs.json()["name"], "theirs");
}

#[tokio::test]
async fn the_session_of_a_viewer_cannot_put() {
    let house = House::new().await;
    let owner = house.jwt("owner", "acme", Role::Owner);
    let id = house.add(&owner, "main").await;
    let mut browser = page_of(&house, Role::Viewer).await;
    let home = browser.get("/connect").await.text();
    assert!(
        home.contains("main") && !home.contains("/connect/add/"),
        "{home}"
    );
    let one = browser.get(&format!("/connect/at/{id}")).await.text();
    assert!(
        !one.contains("Remove") && !one.contains("Test now"),
        "{one}"
    );
    browser.get("/connect/add/openai").await;
    let once = browser.once.clone();
    let fields = [
        ("mode", "api_key"),
        ("once", once.as_str()),
        ("name", "x"),
        ("c.api_key", TRUE_KEY),
    ];
    for path in [
        "add/openai".to_owned(),
        format!("at/{id}/replace"),
        format!("at/{id}/test"),
        format!("at/{id}/rename"),
        format!("at/{id}/disable"),
        format!("at/{id}/remove"),
    ] {
        let answer = browser.post(&format!("/connect/{path}"), &fields).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        assert!(
            answer.text().contains("Your role does not include this"),
            "{}",
            answer.text()
        );
    }
    let mut member = page_of(&house, Role::Member).await;
    member.get(&format!("/connect/at/{id}")).await;
    assert_eq!(
        member
            .post(&format!("/connect/at/{id}/test"), &[])
            .await
            .status,
        303
    );
    assert_eq!(
        member
            .post(&format!("/connect/at/{id}/remove"), &[])
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn markup_in_names_and_messages_is_shown_as_text() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let id = house.add(&alice, EVIL).await;
    let service = house.service_key(&["list,info,put,test,delete"]).await;
    let body = json!({"user": {"id": "u", "name": EVIL}});
    let made = house
        .ask_in("acme", &service, "POST", "/api/connect-sessions", body)
        .await;
    let link = url::Url::parse(made.json()["url"].as_str().unwrap())
        .unwrap()
        .path()
        .to_owned();
    let mut browser = Browser::new(&house);
    let mut pages = vec![browser.get(&link).await];
    browser.post(&link, &[]).await;
    for path in [
        "/connect".to_owned(),
        format!(
            "/connect?find={}",
            "%3Cscript%3Ealert(1)%3C/script%3E%22%3E%3Cimg%20src=x%20onerror=alert(2)%3E"
        ),
        format!("/connect/at/{id}"),
        format!("/connect/at/{id}/replace"),
        format!("/connect/at/{id}/remove"),
        format!("/connect/at/{id}?did=%3Cscript%3E&tested=%3Cscript%3E&odd=%3Cscript%3E"),
        "/connect/add/openai".to_owned(),
    ] {
        pages.push(browser.get(&path).await);
    }
    let once = browser.once.clone();
    for (path, name) in [
        ("/connect/add/openai".to_owned(), EVIL),
        (format!("/connect/at/{id}/rename"), ""),
    ] {
        let fields = [
            ("mode", "api_key"),
            ("once", once.as_str()),
            ("name", name),
            ("c.api_key", EVIL),
        ];
        pages.push(browser.post(&path, &fields).await);
    }
    for answer in &pages {
        let text = answer.text();
        assert!(text.contains("</html>"), "{text}");
        for markup in ["<script", "<img", "onerror=alert(2)>", "javascript:"] {
            assert!(!text.contains(markup), "{markup} in {text}");
        }
    }
    assert!(
        pages[1].text().contains("&#60;script&#62;") || pages[1].text().contains("&lt;script&gt;")
    );
}

#[tokio::test]
async fn a_large_upload_is_answered_with_a_page() {
    let house = House::new().await;
    let mut browser = page_of(&house, Role::Owner).await;
    browser.get("/connect/add/gcp_service_account").await;
    let once = browser.once.clone();
    let fields = [
        ("mode", "service_account"),
        ("once", once.as_str()),
        ("name", "Cloud"),
    ];
    let ten = vec![b'x'; 10 << 20];
    let answer = browser
        .upload("/connect/add/gcp_service_account", &fields, &ten)
        .await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(answer.text().contains("too large") && answer.text().contains("Nothing was saved"));
    assert!(
        browser
            .get("/connect")
            .await
            .text()
            .contains("Nothing is connected yet")
    );
}

#[tokio::test]
async fn each_page_forbids_all_that_it_does_not_need() {
    let house = House::called(
        Limits::default(),
        Settings::default(),
        Some("https://keystead.test"),
    )
    .await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let id = house.add(&alice, "main").await;
    for (embed, base, ancestors) in [
        (false, "/connect", "'none'"),
        (
            true,
            "/embed",
            "https://product.example http://localhost:3000",
        ),
    ] {
        let link = house.link(&alice, json!({"embed": embed})).await;
        assert!(link.starts_with(&format!("{base}/start/")), "{link}");
        let mut browser = Browser::new(&house);
        let start = browser.get(&link).await;
        let claimed = browser.post(&link, &[]).await;
        let cookie = claimed.header("set-cookie");
        let (name, _) = cookie.split_once('=').unwrap();
        assert_eq!(
            name,
            if embed {
                "__Host-keystead-connect-frame"
            } else {
                "__Host-keystead-connect"
            }
        );
        let reach = if embed {
            "SameSite=None; Partitioned"
        } else {
            "SameSite=Strict"
        };
        for attribute in ["; Path=/;", "; HttpOnly", "; Secure", reach] {
            assert!(cookie.contains(attribute), "{attribute} in {cookie}");
        }
        assert!(!cookie.contains("Domain"));
        let mut pages = vec![start];
        for path in [
            "",
            "/add/openai",
            &format!("/at/{id}"),
            &format!("/at/{id}/remove"),
            "/nowhere",
            "/return",
        ] {
            pages.push(browser.get(&format!("{base}{path}")).await);
        }
        pages.push(Browser::new(&house).get(base).await);
        for answer in pages {
            let policy = answer.header("content-security-policy");
            assert_eq!(
                policy,
                format!(
                    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}"
                )
            );
            assert_eq!(answer.header("cache-control"), "no-store");
            assert_eq!(answer.header("referrer-policy"), "no-referrer");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(
                answer.header("x-frame-options"),
                if embed { "" } else { "DENY" }
            );
            let text = answer.text();
            for word in [
                "<script",
                "onclick",
                "style=",
                "<style",
                "javascript:",
                "canary",
            ] {
                assert!(!text.contains(word), "{word} in {text}");
            }
            assert!(answer.body.len() < 32 * 1024, "{} bytes", answer.body.len());
        }
        // A session shows its pages where it was made for, and nowhere else.
        let other = if embed { "/connect" } else { "/embed" };
        let moved = link.replacen(base, other, 1);
        assert_eq!(Browser::new(&house).get(&moved).await.status, 404);
        let mut browser =
            Browser::open(&house, &house.link(&alice, json!({"embed": embed})).await).await;
        let value = browser.cookies.values().next().unwrap().clone();
        for name in ["__Host-keystead-connect", "__Host-keystead-connect-frame"] {
            browser.cookies.insert(name.to_owned(), value.clone());
        }
        assert_eq!(browser.get(other).await.status, 404);
    }
    // Over TLS a browser that says nothing of where a form comes from is not believed.
    let link = house.link(&alice, json!({})).await;
    let mut browser = Browser::new(&house);
    browser.get(&link).await;
    (browser.site, browser.origin) = (None, None);
    assert_eq!(browser.post(&link, &[]).await.status, 403);
}

#[tokio::test]
async fn a_link_and_its_session_end_after_half_an_hour() {
    // Ahead of the machine's clock, by which the store forgets what has expired.
    let begin = Time::parse_rfc3339("2036-01-01T14:15:00Z").unwrap();
    let (clock, hand) = Clock::fixed(begin);
    let house = House::built(Limits::default(), Settings::default(), None, clock).await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let made = house
        .ask(&alice, "POST", "/api/connect-sessions", json!({}))
        .await;
    assert_eq!(made.json()["expires_at"], "2036-01-01T14:45:00.000000Z");
    let unused = house.link(&alice, json!({})).await;
    let link = house.link(&alice, json!({})).await;
    let mut browser = Browser::open(&house, &link).await;
    hand.set(begin.plus_seconds(30 * 60 - 1));
    assert!(
        browser
            .get("/connect")
            .await
            .text()
            .contains("closes in 1 min")
    );
    hand.set(begin.plus_seconds(30 * 60));
    for path in ["/connect", link.as_str(), unused.as_str()] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(
            answer.text().contains("Ask for a new link"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(browser.post(&unused, &[]).await.status, 404);
    assert_eq!(browser.post("/connect/close", &[]).await.status, 404);
}
