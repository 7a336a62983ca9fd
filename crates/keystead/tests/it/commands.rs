//! The commands, as a person and a script see them: what they say, and how they end.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use keystead_testkit::client::Client;
use serde_json::{Value, json};

use crate::rig::{House, JWT_SECRET, TRUE_KEY, cluster, connect, keystead};

#[tokio::test(flavor = "multi_thread")]
async fn config_check_says_what_is_wrong_and_where() {
    let house = House::new("").await;
    let (code, out, err) = house.keystead(&["config", "check"]);
    assert_eq!(code, 0, "{out}{err}");
    for part in [
        "server",
        "limits",
        "providers",
        "egress",
        "issuers",
        "store",
        "kms",
    ] {
        assert!(out.contains(&format!("ok     {part}")), "{part}: {out}");
    }
    let good = std::fs::read_to_string(house.config()).unwrap();
    let cases = [
        // What is changed, what the answer names, and the exit code.
        ("grace_seconds", "grace_secnds", "line 3", 2),
        ("listen = \"127.0.0.1:0\"", "listen = \"here\"", "line 2", 2),
        (
            "allow = [\"127.0.0.1\"]",
            "allow = [\"127.0.0.0/33\"]",
            "127.0.0.0/33",
            2,
        ),
        ("[provider.openai]", "[provider.opneai]", "opneai", 1),
        (
            "user = \"1000000/minute\"",
            "user = \"many\"",
            "COUNT/second",
            1,
        ),
        (
            "user = \"1000000/minute\"",
            "integration = { opneai = \"1/second\" }",
            "did you mean `openai`",
            1,
        ),
        ("jwt-secret\" }", "no-such-file\" }", "no-such-file", 1),
        (
            "algorithms = [\"HS256\"]",
            "algorithms = [\"none\"]",
            "none",
            1,
        ),
        (
            "hs256_secret = { file",
            "hs256_secret = \"canary-in-the-file\" #",
            "line 13",
            2,
        ),
        ("sqlite:", "sqlite:/dev/null", "store", 1),
    ];
    for (from, to, names, exit) in cases {
        assert!(good.contains(from), "{from}");
        house.write("keystead.toml", &good.replacen(from, to, 1));
        let (code, out, err) = house.keystead(&["config", "check"]);
        assert_eq!(code, exit, "{to}: {out}{err}");
        assert!(format!("{out}{err}").contains(names), "{to}: {out}{err}");
        assert!(!format!("{out}{err}").contains("canary"), "{out}{err}");
        assert!(house.refused().is_some(), "{to}: it started");
    }
    house.write("keystead.toml", &good);
    let output = house.run(
        house
            .command(&["config", "check"])
            .env("KEYSTEAD_SERVER_LISEN", "x"),
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("KEYSTEAD_SERVER_LISEN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_makes_nothing() {
    let house = House::new("").await;
    let there = || {
        let files = std::fs::read_dir(house.path("")).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = there();
    let (code, out, err) = house.keystead(&["config", "check"]);
    assert_eq!(code, 0, "{out}{err}");
    for part in ["store", "kms"] {
        let said = out.lines().find(|line| line.contains(&format!("{part}:")));
        assert!(said.unwrap().ends_with("will be made at the first start"));
    }
    assert_eq!(there(), before);
    // Where there is an installation, its key has to be there.
    drop(house.serve());
    let (code, out, _) = house.keystead(&["config", "check"]);
    assert!(code == 0 && out.contains("holds "), "{out}");
    std::fs::remove_file(house.path("root.key")).unwrap();
    let (code, out, _) = house.keystead(&["config", "check"]);
    assert!(code == 1 && out.contains("wrong  kms"), "{out}");
    assert!(!house.path("root.key").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_that_others_can_read_or_that_is_lost_stops_the_start_with_words() {
    let house = House::new("").await;
    drop(house.serve());
    let path = house.path("root.key");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    for mode in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let (code, err) = house.refused().expect("the start is refused");
        assert_eq!(code, 1, "{mode:o}: {err}");
        assert!(err.contains("root.key") && err.contains("600"), "{err}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&path, house.path("elsewhere")).unwrap();
    let (code, err) = house.refused().expect("the start is refused");
    assert_eq!(code, 1);
    assert!(err.contains("missing") && err.contains("restore"), "{err}");
    assert!(!path.exists(), "a new key would hide the loss");
    // Another installation's key is not taken for it.
    let other = House::new("").await;
    drop(other.serve());
    std::fs::copy(other.path("root.key"), &path).unwrap();
    let (code, err) = house.refused().expect("the start is refused");
    assert_eq!(code, 1, "{err}");
    std::fs::rename(house.path("elsewhere"), &path).unwrap();
    drop(house.serve());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_shown_once_listed_and_revoked() {
    let house = House::new("").await;
    let server = house.serve();
    house
        .user(&server, "alice", "acme", "owner")
        .get("/api/integrations")
        .await
        .expect(200);
    let (id, key) = house.service_key("acme", "list:openai,anthropic");
    let service = Client::new(&server.url).bearer(&key);
    let filtered = "/api/integrations?type=openai";
    service.get(filtered).await.expect(200);
    assert_eq!(
        service
            .post(
                "/api/integrations",
                &json!({"name": "x", "type": "openai", "credentials": TRUE_KEY})
            )
            .await
            .status,
        403
    );
    let (code, out, _) = house.keystead(&["keys", "list", "--json"]);
    assert_eq!(code, 0);
    assert!(!out.contains(&key) && !out.contains("kss_"), "{out}");
    let listed: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        listed
            .iter()
            .any(|listed| listed["id"] == id.as_str() && listed["revoked_at"].is_null()),
        "{out}"
    );
    assert_eq!(house.keystead(&["keys", "revoke", &id]).0, 0);
    // Within a second on a server that runs.
    crate::rig::eventually(
        std::time::Duration::from_secs(1),
        "it is revoked",
        async || service.get(filtered).await.status == 401,
    )
    .await;
    let (_, out, _) = house.keystead(&["keys", "list"]);
    assert!(
        out.lines()
            .any(|line| line.contains(&id) && line.contains("revoked")),
        "{out}"
    );
    for (words, exit) in [
        (
            vec!["keys", "revoke", "key_00000000000000000000000000000000"],
            4,
        ),
        (vec!["keys", "revoke", "nonsense"], 2),
        (vec!["keys", "create", "--name", "x", "--scope", "fly"], 2),
        (vec!["keys", "create", "--name", "x"], 2),
        (
            vec![
                "keys", "create", "--name", "x", "--scope", "use", "--tenant", "nobody",
            ],
            4,
        ),
        (
            vec![
                "keys",
                "create",
                "--name",
                "x",
                "--operator",
                "--scope",
                "use",
            ],
            2,
        ),
    ] {
        let (code, out, err) = house.keystead(&words);
        assert_eq!(code, exit, "{words:?}: {out}{err}");
        assert!(!err.is_empty(), "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_only_looks_makes_no_installation() {
    let folder = tempfile::tempdir().unwrap();
    for words in [
        &["keys", "list"][..],
        &["audit", "tail"],
        &["audit", "verify"],
    ] {
        let done = keystead()
            .args(words)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(4), "{words:?}");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(said.contains("there is no installation"), "{said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn integrations_are_worked_with_over_the_api_and_the_exit_code_says_how_it_went() {
    let house = House::new("").await;
    let server = house.serve();
    let jwt = house.jwt("alice", "acme", "owner");
    let run = |words: &[&str], token: &str, input: &str| -> Output {
        let mut command = keystead();
        command.arg("integrations").args(words);
        command
            .env("KEYSTEAD_URL", &server.url)
            .env("KEYSTEAD_TOKEN", token);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        use std::io::Write;
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    };
    let ok = |output: Output| {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains(TRUE_KEY));
        String::from_utf8(output.stdout).unwrap()
    };
    let exit = |output: Output| {
        assert!(!output.stderr.is_empty(), "{output:?}");
        assert!(
            !String::from_utf8_lossy(&output.stderr).contains("canary"),
            "{output:?}"
        );
        output.status.code().unwrap()
    };
    let made = ok(run(
        &["add", "main", "--type", "openai", "--json"],
        &jwt,
        &format!("{TRUE_KEY}\n"),
    ));
    let made: Value = serde_json::from_str(&made).unwrap();
    let id = made["id"].as_str().unwrap();
    assert!(ok(run(&["list"], &jwt, "")).contains(id));
    assert!(ok(run(&["test", id], &jwt, "")).starts_with("ok"));
    // The name is taken; the type is none; nobody; a viewer; nothing there; nobody home.
    assert_eq!(
        exit(run(&["add", "main", "--type", "openai"], &jwt, TRUE_KEY)),
        5
    );
    assert_eq!(
        exit(run(&["add", "x", "--type", "opneai"], &jwt, TRUE_KEY)),
        1
    );
    assert_eq!(exit(run(&["add", "x", "--type", "openai"], &jwt, "")), 1);
    assert_eq!(exit(run(&["list"], "nonsense", "")), 3);
    assert_eq!(
        exit(run(
            &["remove", id],
            &house.jwt("vic", "acme", "viewer"),
            ""
        )),
        3
    );
    assert_eq!(
        exit(run(
            &["test", "int_00000000000000000000000000000000"],
            &jwt,
            ""
        )),
        4
    );
    assert_eq!(exit(run(&["frobnicate"], &jwt, "")), 2);
    let wrong = ok(run(
        &["add", "wrong", "--type", "openai", "--json"],
        &jwt,
        "sk-canary-wrong-0123456789abcdef",
    ));
    let wrong: Value = serde_json::from_str(&wrong).unwrap();
    assert_eq!(
        exit(run(&["test", wrong["id"].as_str().unwrap()], &jwt, "")),
        1
    );
    assert!(ok(run(&["disable", id], &jwt, "")).contains("disabled"));
    assert_eq!(exit(run(&["test", id], &jwt, "")), 5);
    ok(run(&["remove", id], &jwt, ""));
    assert_eq!(exit(run(&["remove", id], &jwt, "")), 4);
    let url = server.url.clone();
    drop(server);
    let mut away = keystead();
    away.args(["integrations", "list"])
        .env("KEYSTEAD_URL", url)
        .env("KEYSTEAD_TOKEN", &jwt);
    assert_eq!(exit(away.output().unwrap()), 6);
}

#[test]
fn a_token_of_the_development_issuer_is_minted_from_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let mint = || {
        keystead()
            .args([
                "token",
                "mint",
                "--subject",
                "carol",
                "--tenant",
                "acme",
                "--role",
                "viewer",
                "--data",
            ])
            .arg(folder.path())
            .output()
            .unwrap()
    };
    assert!(!mint().status.success(), "there is no issuer yet");
    let once = keystead()
        .args([
            "dev",
            "--once",
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(once.status.success(), "{once:?}");
    let minted = mint();
    assert!(minted.status.success(), "{minted:?}");
    assert_eq!(
        String::from_utf8_lossy(&minted.stdout)
            .trim()
            .split('.')
            .count(),
        3
    );
}

/// A statement as the superuser.
fn sql(command: &mut Command, database: &str, text: &str) {
    let output = command
        .args(["-v", "ON_ERROR_STOP=1", "-d", database, "-c", text])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_set_up_twice_and_a_start_is_refused_where_isolation_does_not_hold() {
    let cluster = cluster();
    let house = House::on_postgres(&cluster, "").await;
    let server = house.serve();
    // The canary: rows that must not be seen.
    connect(
        &house.user(&server, "alice", "acme", "owner"),
        "main",
        TRUE_KEY,
    )
    .await;
    drop(server);
    let admin = house.admin_url.clone().unwrap();
    let database = admin.rsplit('/').next().unwrap();
    let again = house.run(keystead().args(["setup", "postgres", "--json", "--admin-url", &admin]));
    assert!(again.status.success(), "{again:?}");
    let report: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(
        (&report["applied"], &report["passwords_set"]),
        (&json!([]), &json!(false))
    );
    drop(house.serve());
    let (code, out, err) = house.keystead(&["config", "check"]);
    assert_eq!(code, 0, "{out}{err}");
    let mut served = Vec::new();
    for (breaks, mends) in [
        (
            "ALTER ROLE keystead_app SUPERUSER",
            "ALTER ROLE keystead_app NOSUPERUSER",
        ),
        (
            "ALTER ROLE keystead_app BYPASSRLS",
            "ALTER ROLE keystead_app NOBYPASSRLS",
        ),
        (
            "ALTER ROLE keystead_system BYPASSRLS",
            "ALTER ROLE keystead_system NOBYPASSRLS",
        ),
        (
            "ALTER TABLE keystead.integration NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE keystead.integration FORCE ROW LEVEL SECURITY",
        ),
        (
            "ALTER TABLE keystead.credential DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE keystead.credential ENABLE ROW LEVEL SECURITY",
        ),
        (
            "GRANT keystead_owner TO keystead_app",
            "REVOKE keystead_owner FROM keystead_app",
        ),
        // The last: what only the canary rows can show, since the catalogue looks as it should.
        (
            "DROP POLICY only_own ON keystead.credential; CREATE POLICY leak ON keystead.credential FOR SELECT TO keystead_app USING (true)",
            "DROP POLICY leak ON keystead.credential",
        ),
    ] {
        sql(&mut cluster.client("psql"), database, breaks);
        let Some((code, err)) = house.refused() else {
            served.push(breaks);
            sql(&mut cluster.client("psql"), database, mends);
            continue;
        };
        assert_eq!(code, 1, "{breaks}: {err}");
        assert!(
            err.len() > 30 && !err.contains(JWT_SECRET),
            "{breaks}: {err}"
        );
        sql(&mut cluster.client("psql"), database, mends);
    }
    assert!(served.is_empty(), "it serves in spite of {served:#?}");
}
