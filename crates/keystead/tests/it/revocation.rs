//! `keystead revoke` as a person types it at night, and a server that is killed in the middle.

use std::sync::Arc;

use keystead_core::provider::Catalogue;
use keystead_testkit::played::{Answer, Door, Part, Played};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rig::{House, PATIENCE, Server, eventually};

const FILE: &str = r#"id = "revocable"
name = "Revocable"
docs = "https://revocable.example/docs"
hosts = ["revocable.example"]
base_url = "https://revocable.example"
path_prefixes = ["/"]
sdk_token_headers = ["authorization"]

[[mode]]
id = "api_key"
label = "API key"
placement = { kind = "bearer", field = "api_key" }

[[mode.field]]
name = "api_key"
label = "API key"
secret = true
primary = true
example = "canary-revocable-key-0123456789"

[mode.revoke]
manual = "https://revocable.example/settings/keys"
[[mode.revoke.call]]
method = "POST"
url = "https://revocable.example/oauth/revoke"
auth = "none"
form = { token = "{api_key}" }
ok = [200, 204]
gone = [404]

[test]
path = "/v1/models"
"#;

struct Scene {
    house: House,
    played: Played,
    key: String,
    own: TempDir,
}

impl Scene {
    async fn new() -> Scene {
        let own = tempfile::tempdir().unwrap();
        std::fs::write(own.path().join("revocable.toml"), FILE).unwrap();
        let catalogue = Catalogue::embedded()
            .and_then(|catalogue| catalogue.with_own([("revocable.toml", FILE)], false))
            .unwrap();
        let provider = catalogue.get("revocable").unwrap().clone();
        let played = Played::start(Part::invented(Arc::clone(&provider), true)).await;
        let key = played.part().credentials["api_key"]["api_key"].clone();
        let more = format!(
            "[providers]\nfolder = \"{}\"\n[provider.revocable]\nbase_url = \"{}\"\n",
            own.path().display(),
            played.url()
        );
        let house = House::new(&more).await;
        Scene {
            house,
            played,
            key,
            own,
        }
    }

    async fn add(&self, server: &Server, name: &str, type_: &str) -> String {
        let alice = self.house.user(server, "alice", "acme", "owner");
        let new = json!({"name": name, "type": type_, "credentials": self.key});
        let made = alice.post("/api/integrations", &new).await.expect(201);
        made["id"].as_str().unwrap().to_owned()
    }

    /// Runs `keystead revoke …` as the operator.
    fn revoke(&self, server: &Server, words: &[&str]) -> (i32, String, String) {
        let mut command = self.house.command(&[&["revoke"], words].concat());
        command
            .env("KEYSTEAD_URL", &server.url)
            .env("KEYSTEAD_TOKEN", self.house.operator_key());
        let output = self.house.run(&mut command);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code().unwrap_or(-1),
            text(&output.stdout),
            text(&output.stderr),
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendors_grants_are_taken_back_by_one_command_and_the_receipt_needs_no_server() {
    let scene = Scene::new().await;
    let server = scene.house.serve();
    let id = scene.add(&server, "main", "revocable").await;
    for words in [&[][..], &["--reason", "nothing is named"]] {
        let (code, _, err) = scene.revoke(&server, words);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("--dry-run"), "{err}");
    }
    let (code, out, err) = scene.revoke(&server, &["--provider", "revocable", "--dry-run"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains(&id) && out.contains("1 would be put out of use"),
        "{out}"
    );
    assert_eq!(scene.played.count(Door::Revoke), 0);
    let (code, out, err) = scene.revoke(
        &server,
        &["--provider", "revocable", "--reason", "breached", "--wait"],
    );
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("confirmed    ") && out.contains("1 confirmed"),
        "{out}"
    );
    assert_eq!(scene.played.count(Door::Revoke), 1);

    let (code, out, err) = scene.revoke(&server, &["list", "--json"]);
    assert_eq!(code, 0, "{err}");
    let listed: Value = serde_json::from_str(&out).unwrap();
    let batch = listed["id"].as_str().unwrap();
    let (code, out, err) = scene.revoke(&server, &["show", batch, "--json"]);
    assert_eq!(code, 0, "{err}");
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["data"][0]["state"], "confirmed");
    let (code, receipt, err) = scene.revoke(&server, &["receipt", batch]);
    assert_eq!(code, 0, "{err}");
    let operator = scene.house.operator(&server);
    let key = operator.get("/api/audit/key").await.text();
    let key = key.trim();
    let note = operator.get("/api/audit/checkpoint").await.text();
    // The server is gone; the receipt says the same.
    drop(server);
    for (name, text, expected) in [
        ("receipt", receipt.clone(), 0),
        ("changed", receipt.replace("\"confirmed\"", "\"failed\""), 1),
        ("checkpoint", note, 1),
    ] {
        scene.house.write(name, &text);
        let (code, out, err) = scene
            .house
            .keystead(&["revoke", "verify", name, "--key", key]);
        assert_eq!(code, expected, "{name}: {out}{err}");
        if expected == 0 {
            assert!(out.contains("1 in all, 1 confirmed"), "{out}");
        }
    }
    scene.house.write("receipt", &receipt);
    let (code, _, err) = scene.house.keystead(&[
        "audit",
        "verify",
        "receipt",
        "--checkpoint",
        "receipt",
        "--key",
        key,
    ]);
    assert_ne!(code, 0);
    assert!(err.contains("is not a checkpoint"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_for_a_person_is_said_with_its_page_and_a_code_of_its_own() {
    let scene = Scene::new().await;
    let server = scene.house.serve();
    let id = scene.add(&server, "main", "openai").await;
    let (code, out, err) = scene.revoke(&server, &["--tenant", "acme", "--wait", "1"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        out.contains("unsupported") && out.contains("https://"),
        "{out}"
    );
    assert!(err.contains("left for a person"), "{err}");
    let (code, _, err) = scene.revoke(&server, &["--integration", &id, "--tenant", "nobody"]);
    assert_eq!(code, 4, "{err}");
    let id = scene.add(&server, "second", "revocable").await;
    scene.played.answers(Door::Revoke, Answer::Hang);
    let (code, _, err) = scene.revoke(&server, &["--integration", &id, "--wait", "0"]);
    assert_eq!(code, 6, "{err}");
    scene.played.answers(Door::Revoke, Answer::WellPlayed);
    drop(server);
    drop(scene.own);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_between_the_call_and_its_record_asks_again_after_its_restart() {
    let scene = Scene::new().await;
    let mut server = scene.house.serve();
    let id = scene.add(&server, "main", "revocable").await;
    scene.played.answers(Door::Revoke, Answer::Hang);
    let alice = scene.house.user(&server, "alice", "acme", "owner");
    let path = format!("/api/integrations/{id}?revoke=true");
    let begun = alice.delete(&path).await.expect(202);
    let batch = begun["revocation"].as_str().unwrap().to_owned();
    let asked = |times| {
        let asked = scene.played.count(Door::Revoke);
        async move { asked >= times }
    };
    eventually(PATIENCE, "the provider is asked", || asked(1)).await;
    server.process.kill();
    let python = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)\n\
         sealed, attempts = db.execute('SELECT sealed, attempts FROM revocation').fetchone()\n\
         assert sealed is not None and attempts == 1\n\
         db.execute('UPDATE revocation SET next_at = 1')\n";
    // As if the time of the claim had passed.
    let database = scene.house.path("keystead.db");
    let done = std::process::Command::new("python3")
        .args(["-c", python])
        .arg(&database)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    scene.played.answers(Door::Revoke, Answer::WellPlayed);
    let server = scene.house.serve();
    let alice = scene.house.user(&server, "alice", "acme", "owner");
    let place = format!("/api/revocations/{batch}");
    eventually(PATIENCE, "it is closed", || {
        let (alice, place) = (&alice, &place);
        async move { alice.get(place).await.expect(200)["state"] == "closed" }
    })
    .await;
    let seen = alice.get(&place).await.expect(200);
    assert_eq!(seen["data"][0]["state"], "confirmed", "{seen}");
    assert_eq!(seen["data"][0]["attempts"], 2);
    assert_eq!(scene.played.count(Door::Revoke), 2);
    drop(server);
    // Of the key, nothing is left: neither the integration's nor the revocation's copy, sealed or not.
    let left = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\n\
         print(db.execute('SELECT (SELECT COUNT(*) FROM revocation WHERE sealed IS NOT NULL), (SELECT COUNT(*) FROM credential)').fetchone())\n";
    let left = std::process::Command::new("python3")
        .args(["-c", left])
        .arg(&database)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout).trim(), "(0, 0)");
    for entry in std::fs::read_dir(scene.house.path("")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes
            .windows(scene.key.len())
            .any(|window| window == scene.key.as_bytes());
        assert!(!found, "{}", path.display());
    }
}
