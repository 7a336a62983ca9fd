//! Planted secrets are in nothing that the program says or keeps: logs at their loudest, numbers,
//! answers to users, the audit export, the database as files and as a dump, its own process.

use bytes::Bytes;
use http::Method;
use keystead_testkit::canary::{Canaries, service_account};
use keystead_testkit::client::Client;
use keystead_testkit::issuer::TestKey;
use keystead_testkit::postgres::Cluster;
use serde_json::{Value, json};

use crate::rig::{House, JWT_SECRET, Server, TRUE_KEY, cluster, connect};

const SECOND_KEY: &str = "sk-canary-second-version-0123456789abcdef";
const WRONG_KEY: &str = "sk-canary-wrong-key-\"quoted\"-0123456789";
const TOO_LARGE: &str = "sk-canary-too-large-0123456789abcdef";
const IN_A_FAULT: &str = "sk-canary-in-a-wrong-field-0123456789";

pub(crate) const LOUD: &str = "[log]\nlevel = \"trace\"\nrequests = true\n";

/// Does everything that a tenant does, with a secret in each place where one belongs and in some
/// where none does. Gives what was planted, and every answer that a user got.
async fn busy_day(house: &House, server: &Server) -> (Canaries, Vec<u8>) {
    let mut canaries = Canaries::new();
    for (name, secret) in [
        ("the credential", TRUE_KEY),
        ("its next version", SECOND_KEY),
        ("a wrong credential", WRONG_KEY),
        ("one that is too large", TOO_LARGE),
        ("one in a wrong field", IN_A_FAULT),
        ("the issuer's secret", JWT_SECRET),
    ] {
        canaries.plant(name, secret);
    }
    let (account, parts) = service_account("robot@canary-project.iam.gserviceaccount.com");
    for part in &parts {
        canaries.plant("the service account's key", part);
    }
    let root = std::fs::read_to_string(house.path("root.key")).unwrap();
    let root = root.trim().rsplit(' ').next().unwrap();
    canaries.plant("the root key", root);
    for (name, file) in [
        ("keystead_app's password", "app-url"),
        ("keystead_system's password", "system-url"),
    ] {
        if let Ok(url) = std::fs::read_to_string(house.path(file)) {
            let password = url
                .split('@')
                .next()
                .and_then(|user| user.rsplit(':').next())
                .unwrap();
            canaries.plant(name, password);
        }
    }
    canaries.plant("the operator key", house.operator_key());

    let mut heard = Vec::new();
    let mut hear = |answer: keystead_testkit::client::Answer| {
        heard.extend(answer.everything());
        serde_json::from_slice::<Value>(&answer.body).unwrap_or_default()
    };
    let alice = house.user(server, "alice", "acme", "owner");
    let seen = connect(&alice, "main", TRUE_KEY).await;
    let id = seen["id"].as_str().unwrap().to_owned();
    let path = format!("/api/integrations/{id}");
    let new = |name: &str, type_: &str, credentials: Value| json!({"name": name, "type": type_, "credentials": credentials});
    hear(
        alice
            .post(
                "/api/integrations",
                &new("wrong", "openai", json!(WRONG_KEY)),
            )
            .await,
    );
    hear(
        alice
            .post(
                "/api/integrations",
                &new("robot", "gcp_service_account", account.clone()),
            )
            .await,
    );
    hear(
        alice
            .post(
                "/api/integrations",
                &new(
                    "broken",
                    "gcp_service_account",
                    json!({"private_key": account["private_key"]}),
                ),
            )
            .await,
    );
    hear(
        alice
            .post(
                "/api/integrations",
                &new("large", "openai", json!(TOO_LARGE.repeat(3000))),
            )
            .await,
    );
    for body in [
        new("x", IN_A_FAULT, json!(IN_A_FAULT)),
        json!({"name": {"a": IN_A_FAULT}, "type": "openai", "credentials": IN_A_FAULT}),
        json!({"name": "x", "type": "openai", "credentials": IN_A_FAULT, "config": {"organization": [IN_A_FAULT]}}),
        json!({"name": "x", "type": "openai", "credentials": {"api_key": IN_A_FAULT, "more": IN_A_FAULT}}),
    ] {
        let answer = alice.post("/api/integrations", &body).await;
        assert_eq!(answer.status, 422, "{answer:?}");
        hear(answer);
    }
    let json = alice.header("content-type", "application/json");
    let torn = format!(r#"{{"name": "torn", "type": "openai", "credentials": "{IN_A_FAULT}"#);
    hear(
        json.try_call(Method::POST, "/api/integrations", Bytes::from(torn))
            .await
            .unwrap(),
    );
    hear(alice.put(&path, &json!({"credentials": SECOND_KEY})).await);
    hear(alice.post(&format!("{path}/test"), &json!({})).await);
    hear(alice.put(&path, &json!({"credentials": TRUE_KEY})).await);
    hear(alice.post(&format!("{path}/test"), &json!({})).await);
    hear(alice.get(&format!("/proxy/{id}/v1/models")).await);
    hear(
        alice
            .get(&format!("/proxy/{id}/v1/models?key={}", "in-the-query"))
            .await,
    );
    hear(
        alice
            .post(
                &format!("/proxy/{id}/v1/chat/completions"),
                &json!({"model": "m", "stream": true, "messages": []}),
            )
            .await,
    );
    hear(alice.post(&format!("{path}/reveal"), &json!({})).await);
    // An upstream that says all it was told.
    let echo = json!({"name": "echo", "type": "generic_bearer", "credentials": TRUE_KEY, "config": {"base_url": house.upstream.url()}});
    let echo = hear(alice.post("/api/integrations", &echo).await)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for path in ["/echo", "/echo?chunk=7"] {
        hear(alice.get(&format!("/proxy/{echo}{path}")).await);
    }
    // A credential presented as a token, and a token of another secret.
    let nobody = Client::new(&server.url);
    hear(nobody.bearer(TRUE_KEY).get("/api/integrations").await);
    hear(
        nobody
            .bearer(TRUE_KEY)
            .get("/proxy/@openai/v1/models")
            .await,
    );
    let forged = TestKey::hs256("house", TRUE_KEY.as_bytes())
        .mint(&json!({"sub": "mallory", "iss": "https://issuer.example"}));
    hear(nobody.bearer(&forged).get("/api/integrations").await);
    for path in [
        "/api/integrations",
        "/api/providers",
        "/api/providers/openai",
        "/api/members",
        "/api/audit?limit=200",
        "/openapi.json",
        "/healthz",
        "/readyz",
        "/metrics",
        "/nothing",
    ] {
        hear(alice.get(path).await);
    }
    // A service may see it, once it asks; that answer alone has it, and nothing about it is kept.
    let (_, key) = house.service_key("acme", "reveal,use");
    canaries.plant("the service key", &key);
    let service = Client::new(&server.url).bearer(&key);
    let revealed = service.post(&format!("{path}/reveal"), &json!({})).await;
    assert_eq!(revealed.headers["cache-control"], "no-store");
    assert!(
        !canaries.find("", &revealed.body).is_empty(),
        "control: a reveal shows the credential: {revealed:?}"
    );
    (canaries, heard)
}

/// The database as a dump has it, and its roles.
pub(crate) fn dump(cluster: &Cluster, house: &House) -> Vec<u8> {
    let database = house
        .admin_url
        .as_deref()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap();
    let mut dump = Vec::new();
    for more in [&["--inserts"][..], &["--format=plain"]] {
        let output = cluster
            .client("pg_dump")
            .args(more)
            .arg(database)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        dump.extend(output.stdout);
    }
    let roles = cluster
        .client("pg_dumpall")
        .arg("--roles-only")
        .output()
        .unwrap();
    dump.extend(roles.stdout);
    assert!(String::from_utf8_lossy(&dump).contains("keystead.credential"));
    dump
}

/// Everything that the program says or keeps, by its name; what users were answered is the first.
pub(crate) async fn places(
    house: &House,
    server: Server,
    dump: Option<Vec<u8>>,
    heard: &[u8],
) -> Vec<(String, Vec<u8>)> {
    let operator = house.operator(&server);
    let mut places = vec![
        ("answers to users".to_owned(), heard.to_vec()),
        (
            "the audit export".to_owned(),
            operator.get("/api/audit/export").await.everything(),
        ),
        (
            "the list of keys".to_owned(),
            operator.get("/api/keys").await.everything(),
        ),
        (
            "metrics".to_owned(),
            operator.get("/metrics").await.everything(),
        ),
        (
            "the log at trace".to_owned(),
            server.process.stderr().into_bytes(),
        ),
    ];
    let id = server.process.id();
    for name in ["environ", "cmdline", "status"] {
        // Where they cannot be read, that is the better for it.
        if let Ok(bytes) = std::fs::read(format!("/proc/{id}/{name}")) {
            places.push((format!("/proc/{id}/{name}"), bytes));
        }
    }
    for name in ["keystead.db", "keystead.db-wal", "keystead.db-shm"] {
        if let Ok(bytes) = std::fs::read(house.path(name)) {
            places.push((name.to_owned(), bytes));
        }
    }
    if let Some(dump) = dump {
        places.push(("the dump".to_owned(), dump));
    } else {
        let names: Vec<_> = places.iter().map(|(name, _)| name.as_str()).collect();
        assert!(
            names.contains(&"keystead.db") && names.contains(&"keystead.db-wal"),
            "{names:?}"
        );
    }
    let log = &places[4].1;
    assert!(
        log.len() > 10_000,
        "that is no log at trace: {} bytes",
        log.len()
    );
    places
}

/// None of them is in any place.
pub(crate) fn search(mut places: Vec<(String, Vec<u8>)>, canaries: &Canaries) {
    for (place, bytes) in &places {
        canaries.assert_absent(place, bytes);
    }
    // The control: the search finds one that is planted on purpose in any of these places.
    for (place, bytes) in &mut places {
        let middle = bytes.len() / 2;
        bytes.splice(middle..middle, TRUE_KEY.bytes());
        assert_eq!(canaries.find(place, bytes).len(), 1, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_secrets_are_nowhere_with_sqlite() {
    let house = House::new(LOUD).await;
    let server = house.serve();
    let (canaries, heard) = busy_day(&house, &server).await;
    search(places(&house, server, None, &heard).await, &canaries);
    // Nor once it has ended, in what it leaves.
    for file in std::fs::read_dir(house.folder.path()).unwrap() {
        let path = file.unwrap().path();
        if !path.ends_with("root.key") && !path.ends_with("jwt-secret") {
            canaries.assert_absent(&path.display().to_string(), &std::fs::read(&path).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_secrets_are_nowhere_with_postgres() {
    let cluster = cluster();
    let house = House::on_postgres(&cluster, LOUD).await;
    let server = house.serve();
    let (canaries, heard) = busy_day(&house, &server).await;
    let dump = dump(&cluster, &house);
    canaries.assert_absent("the database server's log", cluster.log().as_bytes());
    search(places(&house, server, Some(dump), &heard).await, &canaries);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_start_do_not_show_the_database_password() {
    let house = House::new("").await;
    let good = std::fs::read_to_string(house.config()).unwrap();
    let mut canaries = Canaries::new();
    canaries.plant("the database's password", "canary-database-password");
    let sqlite = good
        .lines()
        .find(|line| line.starts_with("url = "))
        .unwrap();
    for url in [
        "postgres://app:canary-database-password@127.0.0.1:1/k",
        "postgres://app:canary-database-password@127.0.0.1:nonsense/k",
        "postgres://app:canary-database-password@[::/k",
        "mysql://app:canary-database-password@127.0.0.1/k",
    ] {
        house.write(
            "keystead.toml",
            &good.replace(sqlite, &format!("url = \"{url}\"\nsystem_url = \"{url}\"")),
        );
        for words in [&["config", "check"][..], &["keys", "list"]] {
            let (code, out, err) = house.keystead(words);
            assert_ne!(code, 0);
            canaries.assert_absent("what a command says", format!("{out}{err}").as_bytes());
        }
        let (_, err) = house.refused().expect("there is no such database");
        canaries.assert_absent("a failed start", err.as_bytes());
    }
    house.write(
        "keystead.toml",
        &good.replace(sqlite, "url = [\"canary-database-password\"]"),
    );
    let (code, out, err) = house.keystead(&["config", "check"]);
    assert_eq!(code, 2);
    canaries.assert_absent("what a command says", format!("{out}{err}").as_bytes());
}
