//! Tokens, codes, verifiers, states, apps' secrets and links are in nothing that the program says or
//! keeps, whichever way an account is connected, renewed, refused and removed.

use keystead_testkit::canary::Canaries;
use keystead_testkit::client::Client;
use keystead_testkit::played::{Answer, Door, Played, Reply};
use keystead_testkit::postgres::Cluster;
use serde_json::{Value, json};

use crate::accounts::{
    agree, begin, come_back, connect, end_tokens, field, introduce, play, use_it,
};
use crate::browser::Browser;
use crate::rig::{House, Server, TRUE_KEY, cluster, settled};
use crate::secrets::{LOUD, dump, places, search};

const HER_SECRET: &str = "canary-her-own-app/secret+0123456789";
const FORGED: &str = "canary-forged-state-0123456789abcdef0123456789";
const SAID: &str = "canary-what-the-provider-said-0123456789";

/// What was planted, what of it the person's own browser gets to see, and what users were answered.
#[derive(Default)]
struct Day {
    everywhere: Canaries,
    browsers: Canaries,
    heard: Vec<u8>,
}

impl Day {
    fn hear(&mut self, answer: keystead_testkit::client::Answer) -> Value {
        self.heard.extend(answer.everything());
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    fn begun(&mut self, url: &str, cookie: &str) {
        let url = url::Url::parse(url).unwrap();
        let state = url.query_pairs().find(|(name, _)| name == "state").unwrap();
        self.browsers.plant("a state", state.1.as_bytes());
        let (_, secret) = cookie.split_once('=').unwrap();
        self.browsers.plant("the browser's secret", secret);
    }
}

/// Everything that a person and a provider do, well and badly.
async fn busy_day(
    house: &House,
    server: &Server,
    github: &Played,
    cluster: Option<&Cluster>,
) -> Day {
    let mut day = Day::default();
    let alice = house.user(server, "alice", "acme", "owner");
    let main = connect(&alice, github, "main", server).await;
    // A consent that is refused, one that is forged, and one whose code is used twice.
    let begun = begin(&alice, "github", "name=other").await;
    day.begun(&begun.url, &begun.cookie);
    let back = agree(&begun.url).await;
    let denied = back.replacen(
        "code=",
        &format!("error=access_denied&error_description={SAID}&x="),
        1,
    );
    day.hear(come_back(server, "", &back).await);
    day.hear(come_back(server, &begun.cookie, &denied).await);
    day.hear(come_back(server, &begun.cookie, &back).await);
    day.hear(
        come_back(
            server,
            &begun.cookie,
            &format!("/oauth/callback?state={FORGED}&code={SAID}"),
        )
        .await,
    );
    let by_hand = json!({"state": FORGED, "code": SAID});
    day.hear(alice.post("/api/oauth/callback", &by_hand).await);
    // The provider says things with which nothing can be done.
    for reply in [
        Reply::text(200, "text/html", &format!("<p>{SAID}</p>")),
        Reply::json(
            400,
            &json!({"error": "invalid_grant", "error_description": SAID}),
        ),
        Reply::json(200, &json!({"access_token": SAID, "token_type": "mac"})),
        Reply::json(500, &json!({"error": "server_error", "message": SAID})),
    ] {
        let begun = begin(&alice, "github", "name=other").await;
        day.begun(&begun.url, &begun.cookie);
        let back = agree(&begun.url).await;
        github.answers(Door::Token, Answer::With(reply));
        let said = come_back(server, &begun.cookie, &back).await;
        assert_ne!(said.status, 200);
        day.hear(said);
        github.answers(Door::Token, Answer::WellPlayed);
    }
    // An app of the tenant's own: entered over the API, and on the page.
    let app = json!({"client_id": "canary-her-app", "client_secret": HER_SECRET});
    let own = json!({"name": "own", "type": "github", "credentials": app});
    let made = alice.post("/api/integrations", &own).await;
    assert_eq!(made.status, 201, "{made:?}");
    let own = day.hear(made)["id"].as_str().unwrap().to_owned();
    let begun = begin(&alice, "github", &format!("integration={own}")).await;
    day.begun(&begun.url, &begun.cookie);

    let link = alice
        .post("/api/connect-sessions", &json!({"providers": ["github"]}))
        .await
        .expect(201);
    let link = link["url"].as_str().unwrap();
    day.browsers
        .plant("a link", link.rsplit('/').next().unwrap());
    let mut browser = Browser::open(&server.url, link).await;
    browser.get("/connect/add/github").await.expect(200);
    let form = [
        ("name", "hers"),
        ("c.client_id", "canary-her-app"),
        ("c.client_secret", HER_SECRET),
    ];
    let away = browser.post("/connect/authorise/github", &form).await;
    browser.to(&away);
    browser.get("/connect/add/github").await.expect(200);
    let away = browser
        .post("/connect/authorise/github", &[("name", "by page")])
        .await;
    let url = &browser.to(&away);
    let back = agree(url).await;
    for (name, value) in browser.cookies.clone() {
        if name.contains("keystead-oauth") {
            day.begun(url, &format!("{name}={value}"));
        }
        if name.contains("keystead-connect") {
            day.browsers.plant("a session's cookie", value);
        }
    }
    let done = browser.get(&back).await;
    let home = browser.to(&done);
    browser.get(&home).await.expect(200);
    browser.get("/connect").await.expect(200);
    // A device.
    let device = alice
        .post("/api/oauth/github/device", &json!({"name": "device"}))
        .await;
    let id = day.hear(device)["id"].as_str().unwrap().to_owned();
    github.approves_devices();
    let poll = alice
        .post(&format!("/api/oauth/device/{id}"), &json!({}))
        .await;
    day.hear(poll);

    // Used, renewed, refused, tried, listed, brought to an end.
    day.hear(use_it(&alice, &main).await);
    if let Some(cluster) = cluster {
        end_tokens(cluster, house, &alice, &own).await;
        let renewed = use_it(&alice, &main).await;
        assert_eq!(renewed.status, 200, "{renewed:?}");
        assert!(github.count(Door::Renew) > 0);
        day.hear(renewed);
        end_tokens(cluster, house, &alice, &own).await;
        let refused = json!({"error": "invalid_grant", "error_description": SAID});
        github.answers(Door::Renew, Answer::With(Reply::json(400, &refused)));
        let ended = use_it(&alice, &main).await;
        assert_eq!(ended.status, 409, "{ended:?}");
        day.hear(ended);
    }
    day.hear(
        alice
            .post(&format!("/api/integrations/{main}/test"), &json!({}))
            .await,
    );
    settled(&alice, &main).await;
    for path in [
        "/api/integrations",
        "/api/providers/github",
        "/api/audit?limit=200",
        "/metrics",
    ] {
        day.hear(alice.get(path).await);
    }
    day.hear(alice.get(&format!("/api/integrations/{main}")).await);
    browser
        .get(&format!("/connect/at/{main}"))
        .await
        .expect(200);
    browser.get("/connect").await.expect(200);
    day.hear(Client::new(&server.url).get("/oauth/callback").await);
    day.heard.append(&mut browser.heard);
    let revealed = alice
        .post(&format!("/api/integrations/{main}/reveal"), &json!({}))
        .await;
    assert_ne!(revealed.status, 200);
    day.hear(revealed);
    plant(&mut day, github);
    day
}

fn plant(day: &mut Day, github: &Played) {
    let mut plant = |name: &str, secret: &str| day.everywhere.plant(name, secret);
    plant("the credential of the control", TRUE_KEY);
    plant("a client's own secret", HER_SECRET);
    plant("a forged state", FORGED);
    plant("what a provider said", SAID);
    plant("the app's secret", &github.client().secret.unwrap());
    let (mut tokens, mut verifiers) = (0, 0);
    for grant in github.grants() {
        for token in grant.access.iter().chain(&grant.ended) {
            plant("an access token", token);
        }
        for token in grant.refresh.iter().chain(&grant.spent) {
            plant("a refresh token", token);
            tokens += 1;
        }
    }
    for served in github.served() {
        for (name, form) in [
            ("a code", "code"),
            ("a verifier", "code_verifier"),
            ("a device's code", "device_code"),
        ] {
            if let Some(secret) = field(&served, form) {
                plant(name, &secret);
                verifiers += usize::from(form == "code_verifier");
            }
        }
    }
    assert!(tokens >= 2 && verifiers >= 4, "{tokens} {verifiers}");
}

async fn is_nowhere(house: &House, server: Server, dump: Option<Vec<u8>>, day: Day) {
    let places = places(house, server, dump, &day.heard).await;
    // Its own browser is told, and nobody else.
    for (place, bytes) in &places[1..] {
        day.browsers.assert_absent(place, bytes);
    }
    search(places, &day.everywhere);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_consents_are_made_of_is_nowhere_with_sqlite() {
    let house = House::new(LOUD).await;
    let github = play("github").await;
    introduce(&house, &[&github]);
    let server = house.serve();
    let day = busy_day(&house, &server, &github, None).await;
    is_nowhere(&house, server, None, day).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_consents_are_made_of_is_nowhere_with_postgres() {
    let cluster = cluster();
    let house = House::on_postgres(&cluster, LOUD).await;
    let github = play("github").await;
    introduce(&house, &[&github]);
    let server = house.serve();
    let day = busy_day(&house, &server, &github, Some(&cluster)).await;
    day.everywhere
        .assert_absent("the database server's log", cluster.log().as_bytes());
    let dump = dump(&cluster, &house);
    is_nowhere(&house, server, Some(dump), day).await;
}
