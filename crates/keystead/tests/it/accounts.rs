//! Accounts at played providers, connected as a person's browser connects them, on a house of the
//! real program; and what a test does to the rows that no door of the program does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use keystead_core::provider::Catalogue;
use keystead_testkit::client::{Answer as Said, Client};
use keystead_testkit::played::{Door, Part, Played, Served};
use keystead_testkit::postgres::Cluster;
use keystead_testkit::process::Process;
use serde_json::{Value, json};

use crate::rig::{House, PATIENCE, Server, settled};

/// What browsers call the house: where the played providers send them back to.
pub(crate) const HOME: &str = "https://keystead.test";

/// A provider of the catalogue, played.
pub(crate) async fn play(provider: &str) -> Played {
    let catalogue = Catalogue::embedded().unwrap();
    let provider = catalogue.get(provider).unwrap();
    Played::start(Part::invented(Arc::clone(provider), false)).await
}

fn id(played: &Played) -> &str {
    &played.part().provider.id
}

/// Tells a house which apps it has, at which providers, and what browsers call it.
pub(crate) fn introduce(house: &House, all: &[&Played]) {
    let text = std::fs::read_to_string(house.config()).unwrap();
    let server = "[server]\n";
    let mut text = text.replacen(server, &format!("{server}public_url = \"{HOME}\"\n"), 1);
    for played in all {
        let (id, app) = (id(played), played.client());
        let secret = format!("app-secret-{id}");
        house.write(&secret, app.secret.as_deref().unwrap());
        text += &format!(
            "[oauth.{id}]\nclient_id = \"{}\"\nclient_secret = {{ file = \"{}\" }}\n\
             [provider.{id}]\nbase_url = \"{}\"\n",
            app.id,
            house.path(&secret).display(),
            played.url()
        );
    }
    house.write("keystead.toml", &text);
}

/// Starts several servers at once.
pub(crate) fn serve<const N: usize>(house: &House) -> [Server; N] {
    let starting = [(); N].map(|()| Process::start(&mut house.command(&["serve"])));
    starting.map(|process| house.wait(process))
}

/// A consent that was begun: where the person is sent, and what binds it to their browser.
pub(crate) struct Begun {
    pub(crate) url: String,
    pub(crate) cookie: String,
}

pub(crate) async fn begin(user: &Client, provider: &str, query: &str) -> Begun {
    let path = format!("/api/oauth/{provider}/url?{query}");
    let mut begun = user.get(&path).await;
    for _ in 0..20 {
        if begun.status != 503 {
            break;
        }
        // Too much for a busy machine's disk.
        tokio::time::sleep(Duration::from_millis(300)).await;
        begun = user.get(&path).await;
    }
    let cookie = begun.headers["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let url = begun.expect(200)["url"].as_str().unwrap().to_owned();
    Begun { url, cookie }
}

/// The person says yes at the provider: path and query that their browser is sent back with.
pub(crate) async fn agree(url: &str) -> String {
    let there = Client::new(url).get("").await;
    assert_eq!(there.status, 302, "{there:?}");
    let back = there.headers["location"].to_str().unwrap();
    back.strip_prefix(HOME).unwrap().to_owned()
}

/// The browser comes back.
pub(crate) async fn come_back(server: &Server, cookie: &str, path: &str) -> Said {
    Client::new(&server.url)
        .header("cookie", cookie)
        .get(path)
        .await
}

/// Connects an account: begun at the user's node, ended at another. Its integration's id.
pub(crate) async fn connect(
    user: &Client,
    played: &Played,
    name: &str,
    ends_at: &Server,
) -> String {
    for tries in 0.. {
        let begun = begin(user, id(played), &format!("name={name}")).await;
        let back = agree(&begun.url).await;
        let done = come_back(ends_at, &begun.cookie, &back).await;
        if done.status == 200 {
            break;
        }
        // Too much for a busy machine's disk: the person begins again.
        assert!(done.status == 503 && tries < 5, "{}", done.text());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let page = user.get("/api/integrations?limit=200").await.expect(200);
    let all = page["data"].as_array().unwrap();
    let made = all.iter().find(|one| one["name"] == name).unwrap();
    let seen = settled(user, made["id"].as_str().unwrap()).await;
    assert_eq!(seen["status"], "connected", "{seen}");
    seen["id"].as_str().unwrap().to_owned()
}

/// A call through the proxy, by a client that waits longer than any renewal; a fault where its
/// node went away. What a busy machine's disk or a node that stands still in a write holds up for
/// too long is not begun, and is repeated.
pub(crate) async fn try_use(user: &Client, id: &str) -> Result<Said, String> {
    let patient = user.patient(Duration::from_secs(60));
    let path = format!("/proxy/{id}/anything");
    let until = Instant::now() + PATIENCE;
    loop {
        let said = patient.try_call(Method::GET, &path, Bytes::new()).await?;
        let held_up = said.status == 503 && said.text().contains("the store is not available");
        if !held_up || Instant::now() > until {
            return Ok(said);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The same, where its node stays.
pub(crate) async fn use_it(user: &Client, id: &str) -> Said {
    try_use(user, id).await.unwrap()
}

/// Runs SQL on the house's database as its superuser; what it printed.
pub(crate) fn sql(cluster: &Cluster, house: &House, statement: &str) -> String {
    let url = house.admin_url.as_deref().unwrap();
    let output = cluster
        .client("psql")
        .args(["-qtA", "-v", "ON_ERROR_STOP=1", "-d"])
        .arg(url.rsplit('/').next().unwrap())
        .args(["-c", statement])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Ends all access tokens by the rows, and has every node read them anew.
pub(crate) async fn end_tokens(cluster: &Cluster, house: &House, user: &Client, any: &str) {
    sql(
        cluster,
        house,
        "UPDATE keystead.token_set SET expires_at = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    );
    let path = format!("/api/integrations/{any}");
    let name = user.get(&path).await.expect(200)["name"].clone();
    // Any change lets no node believe what it read before.
    for name in [json!("for a moment"), name] {
        user.put(&path, &json!({"name": name})).await.expect(200);
    }
    tokio::time::sleep(Duration::from_millis(1200)).await;
}

/// Has every lease run out now.
pub(crate) fn end_leases(cluster: &Cluster, house: &House) {
    sql(
        cluster,
        house,
        "UPDATE keystead.token_set SET lease_until = 1 WHERE lease_until IS NOT NULL",
    );
}

/// The refresh tokens that the provider was shown, in order.
pub(crate) fn shown(played: &Played) -> Vec<String> {
    let renewals = played.served().into_iter();
    let renewals = renewals.filter(|served| served.door == Door::Renew);
    renewals
        .map(|served| field(&served, "refresh_token").unwrap())
        .collect()
}

/// A field of a form that the provider got.
pub(crate) fn field(served: &Served, name: &str) -> Option<String> {
    let mut fields = url::form_urlencoded::parse(&served.heard.body);
    let found = fields.find(|(known, _)| known == name);
    found.map(|(_, value)| value.into_owned())
}

/// The token that the last call of the API carried.
pub(crate) fn last_used(played: &Played) -> String {
    let last = played.last(Door::Api).unwrap();
    let value = last.heard.headers["authorization"].to_str().unwrap();
    value.strip_prefix("Bearer ").unwrap().to_owned()
}

/// The log is whole.
pub(crate) fn verifies(house: &House) {
    let (code, out, err) = house.keystead(&["audit", "verify"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("in order and unchanged"), "{out}");
}

/// The problem's word of an answer that is one.
pub(crate) fn code(answer: &Said) -> String {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    problem["code"].as_str().unwrap_or_default().to_owned()
}
