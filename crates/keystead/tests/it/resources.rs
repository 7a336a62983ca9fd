//! Credentials that are made on demand, from the socket to the caller: AWS by a real server that
//! checks signatures, and the program's log, database and entries searched for what was handed out.

use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use keystead_core::time::Time;
use keystead_testkit::canary::Canaries;
use keystead_testkit::client::Client;
use keystead_testkit::vendors::Supabase;
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::rig::{House, Server, settled};

const LOUD: &str = "[log]\nlevel = \"trace\"\nrequests = true\n";

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs().try_into().unwrap()
}

/// A resource's key as one segment of a path.
fn segment(key: &str) -> String {
    key.replace(':', "%3A").replace('/', "%2F")
}

/// Nothing of it is in what the program wrote, or keeps.
async fn nothing_is_kept(house: &House, server: &Server, canaries: &Canaries, planted: &str) {
    let operator = house.operator(server);
    let mut places = vec![
        ("the log at trace", server.process.stderr().into_bytes()),
        (
            "the entries",
            operator.get("/api/audit/export").await.everything(),
        ),
    ];
    for name in ["keystead.db", "keystead.db-wal"] {
        places.push((name, std::fs::read(house.path(name)).unwrap()));
    }
    let log = String::from_utf8_lossy(&places[0].1).into_owned();
    assert!(
        log.contains("TRACE") && log.contains("/resources/"),
        "that is no log at trace: {log}"
    );
    for (place, mut bytes) in places {
        canaries.assert_absent(place, &bytes);
        // The control: the search finds what is planted on purpose.
        bytes.extend_from_slice(planted.as_bytes());
        assert!(!canaries.find(place, &bytes).is_empty(), "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_keys_of_a_user_and_of_a_role_work_and_are_kept_nowhere() {
    let aws = Aws::start();
    let house = House::new(&format!(
        "{LOUD}[provider.aws_access_key]\nbase_url = \"{}\"\n",
        aws.url
    ))
    .await;
    let server = house.serve();
    let alice = house.user(&server, "alice", "acme", "owner");
    let mut new = aws.integration("main", &aws.secret_access_key);
    new["config"] = json!({"roles": aws.role});
    let made = alice.post("/api/integrations", &new).await.expect(201);
    let id = made["id"].as_str().unwrap().to_owned();
    settled(&alice, &id).await;
    let role = format!("role/{}", aws.role);
    let listed = alice
        .get(&format!("/api/integrations/{id}/resources"))
        .await
        .expect(200);
    let keys: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["session", role.as_str()], "{listed}");

    let (_, key) = house.service_key("acme", "reveal,use");
    let backend = Client::new(&server.url).bearer(&key);
    let path = |key: &str| {
        format!(
            "/api/integrations/{id}/resources/{}/credentials",
            segment(key)
        )
    };
    let mut canaries = Canaries::new();
    let mut planted = String::new();
    for (key, lifetime) in [
        ("session", 900),
        ("session", 129_600),
        (role.as_str(), 3600),
    ] {
        let wanted = json!({"lifetime_seconds": lifetime});
        let answer = backend.post(&path(key), &wanted).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.headers["cache-control"], "no-store");
        let issued: Value = serde_json::from_slice(&answer.body).unwrap();
        let own = &issued["credentials"];
        for name in ["secret_access_key", "session_token"] {
            planted = own[name].as_str().unwrap().to_owned();
            canaries.plant(name, &planted);
        }
        let ends = Time::parse_rfc3339(issued["expires_at"].as_str().unwrap()).unwrap();
        let left = ends.seconds() - unix_now();
        assert!(
            (lifetime - 60..=lifetime + 60).contains(&left),
            "{key}: {left}"
        );
        assert_eq!(own["region"], "us-east-1");
        assert_eq!(own["access_key_id"].as_str().map(str::len), Some(20));
        // A role's are good: AWS says whose they are. (For users, this one
        // has the same invented ones each time, and does not take them.)
        if key == "session" {
            continue;
        }
        let name = format!("{key} {lifetime}");
        let mut credentials = own.clone();
        credentials.as_object_mut().unwrap().remove("region");
        let new = json!({"name": name, "type": "aws_access_key", "credentials": credentials});
        let made = alice.post("/api/integrations", &new).await.expect(201);
        let own = made["id"].as_str().unwrap();
        settled(&alice, own).await;
        let form = alice.header("content-type", "application/x-www-form-urlencoded");
        let ask = "Action=GetCallerIdentity&Version=2011-06-15";
        let answer = form
            .try_call(Method::POST, &format!("/proxy/{own}/"), ask.into())
            .await
            .unwrap();
        assert!(
            answer.text().contains("assumed-role/reader/req_"),
            "{}",
            answer.text()
        );
        // And get no further session themselves.
        let listed = alice
            .get(&format!("/api/integrations/{own}/resources"))
            .await;
        assert_eq!(listed.expect(200)["data"], json!([]));
    }
    for (key, lifetime) in [
        ("session", 899),
        ("session", 129_601),
        (role.as_str(), 899),
        (role.as_str(), 43_201),
    ] {
        let wanted = json!({"lifetime_seconds": lifetime});
        let refused = backend.post(&path(key), &wanted).await.expect(422);
        assert_eq!(refused["errors"][0]["path"], "lifetime_seconds");
    }
    for key in ["role/arn:aws:iam::123456789012:role/other", "role/", "x"] {
        backend.post(&path(key), &json!({})).await.expect(404);
    }
    let denied = alice.post(&path("session"), &json!({})).await;
    assert_eq!(denied.status, 403, "{}", denied.text());
    nothing_is_kept(&house, &server, &canaries, &planted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projects_credentials_pass_through_the_program_and_leave_an_entry_alone() {
    let vendor = Supabase::open().await;
    let house = House::new(&format!(
        "{LOUD}[provider.supabase]\nbase_url = \"{}\"\n",
        vendor.desk.url
    ))
    .await;
    let server = house.serve();
    let alice = house.user(&server, "alice", "acme", "owner");
    let new = json!({"name": "shop", "type": "supabase", "credentials": vendor.token()});
    let made = alice.post("/api/integrations", &new).await.expect(201);
    let id = made["id"].as_str().unwrap().to_owned();
    settled(&alice, &id).await;
    let (_, key) = house.service_key("acme", "reveal");
    let backend = Client::new(&server.url).bearer(&key);
    let path = |key: &str| format!("/api/integrations/{id}/resources/{key}/credentials");
    let answer = backend.post(&path(vendor.project()), &json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers["cache-control"], "no-store");
    let mut canaries = Canaries::new();
    for secret in vendor.desk.given() {
        let text = serde_json::to_string(&secret).unwrap();
        assert!(answer.text().contains(&text), "{}", answer.text());
        canaries.plant("what was handed out", secret);
    }
    let paused = backend.post(&path(vendor.paused()), &json!({})).await;
    assert_eq!(paused.expect(409)["code"], "paused");
    let unknown = backend
        .post(&path("zzzzzzzzzzzzzzzzzzzz"), &json!({}))
        .await;
    unknown.expect(404);
    let unread = backend
        .post(&path(vendor.project()), &json!({"canary": 1}))
        .await;
    unread.expect(422);
    let busy = keystead_testkit::vendors::Said::json(429, &json!({}));
    let busy = busy.with("retry-after", "17");
    vendor.desk.says("/v1/projects", Some(busy));
    let busy = backend.post(&path(vendor.project()), &json!({})).await;
    assert_eq!(
        (busy.status.as_u16(), &busy.headers["retry-after"]),
        (429, &"17".parse().unwrap())
    );
    let planted = vendor.desk.given().pop().unwrap();
    nothing_is_kept(&house, &server, &canaries, &planted).await;
}
