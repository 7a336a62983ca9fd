//! The main job with a real client: the vendor's own SDK, unmodified, told a base URL and a key.

use std::time::Duration;

use keystead_testkit::canary::Canaries;
use keystead_testkit::client::Client;
use keystead_testkit::process::Process;
use keystead_testkit::upstream::Upstream;
use serde_json::{Value, json};

use crate::rig::{PATIENCE, TRUE_KEY, keystead, python, settled};

/// `keystead dev`, with an upstream of the test's as OpenAI.
struct Dev {
    process: Process,
    ready: Value,
    upstream: Upstream,
    _folder: tempfile::TempDir,
}

impl Dev {
    async fn start() -> Dev {
        let upstream = Upstream::start(TRUE_KEY).await;
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("keystead.toml");
        let text = format!(
            "[egress]\nallow = [\"127.0.0.1/32\"]\n[provider.openai]\nbase_url = \"{}\"\n[log]\nlevel = \"trace\"\n",
            upstream.url()
        );
        std::fs::write(&config, text).unwrap();
        let data = folder.path().join("data");
        let process = Process::start(
            keystead()
                .args(["dev", "--json", "--listen", "127.0.0.1:0", "--data"])
                .arg(data)
                .arg("--config")
                .arg(config),
        );
        let line = process.line(|line| line.starts_with('{'), PATIENCE);
        let line = line.unwrap_or_else(|| panic!("it is not ready: {}", process.stderr()));
        Dev {
            ready: serde_json::from_str(&line).unwrap(),
            process,
            upstream,
            _folder: folder,
        }
    }

    fn text(&self, pointer: &str) -> &str {
        self.ready.pointer(pointer).and_then(Value::as_str).unwrap()
    }

    fn caller(&self, pointer: &str) -> Client {
        Client::new(self.text("/url")).bearer(self.text(pointer))
    }

    /// The SDK's process: it does its calls, says what it got, and waits.
    fn sdk(&self, key: &str, tenant: Option<&str>) -> Process {
        let mut command = python("openai_sdk.py");
        command.env_clear();
        command.env(
            "SDK_BASE_URL",
            format!("{}/proxy/@openai/v1", self.text("/url")),
        );
        command.env("SDK_KEY", key);
        command.env("SDK_TENANT", tenant.unwrap_or_default());
        Process::start(&mut command)
    }
}

fn said(process: &Process, word: &str) -> Value {
    let start = format!("{word} ");
    let line = process.line(|line| line.starts_with(&start), PATIENCE);
    let line =
        line.unwrap_or_else(|| panic!("no {word}: {} {}", process.stdout(), process.stderr()));
    serde_json::from_str(&line[start.len()..]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unmodified_openai_sdk_gets_its_answer_and_its_process_never_holds_the_key() {
    let dev = Dev::start().await;
    let alice = dev.caller("/users/alice");
    let new = json!({"name": "main", "type": "openai", "credentials": TRUE_KEY});
    let made = alice.post("/api/integrations", &new).await.expect(201);
    let seen = settled(&alice, made["id"].as_str().unwrap()).await;
    assert_eq!(seen["status"], "connected", "{seen}");

    // A key of the product's backend, for acme alone and for this alone.
    let operator = dev.caller("/operator_key");
    let scope = json!({"kind": "service", "name": "sdk", "tenant": dev.text("/tenants/acme"), "scopes": ["use:openai"]});
    let key = operator.post("/api/keys", &scope).await.expect(201)["text"]
        .as_str()
        .unwrap()
        .to_owned();

    let mut canaries = Canaries::new();
    canaries.plant("the provider's key", TRUE_KEY);
    let mut control = Canaries::new();
    control.plant("the client's own key", &key);

    let callers = [
        (key.as_str(), None),
        (dev.text("/users/alice"), None),
        (dev.text("/service_key"), Some("acme")),
    ];
    for (token, tenant) in callers {
        let sdk = dev.sdk(token, tenant);
        let models = said(&sdk, "models");
        assert!(
            models.as_array().unwrap().contains(&json!("gpt-4o-mini")),
            "{models}"
        );
        assert_eq!(said(&sdk, "whole"), "Hello from the upstream");
        assert_eq!(said(&sdk, "streamed"), "Hello from the upstream");
        // The first word is with the client while the upstream waits for the test to go on.
        dev.upstream.release();
        assert_eq!(said(&sdk, "first"), "");
        assert!(!sdk.stdout().contains("\nlast "), "{}", sdk.stdout());
        for _ in 0..7 {
            dev.upstream.release();
        }
        assert_eq!(said(&sdk, "last"), "Hello from the upstream");
        said(&sdk, "holds");

        let (mut found, mut own) = (Vec::new(), 0);
        let id = sdk.id();
        sdk.memory(|bytes| {
            found.extend(canaries.find("the SDK's memory", bytes));
            own += control.find("", bytes).len();
        })
        .unwrap();
        assert!(found.is_empty(), "{found:?}");
        assert!(
            own > 0 || token != key,
            "the search sees nothing in that memory"
        );
        for name in ["environ", "cmdline"] {
            canaries.assert_absent(name, &std::fs::read(format!("/proc/{id}/{name}")).unwrap());
        }
        canaries.assert_absent("what the SDK said", sdk.stdout().as_bytes());
        canaries.assert_absent("what the SDK said", sdk.stderr().as_bytes());
        // The upstream took the true key, once, and never saw the token.
        let seen = dev.upstream.last_seen();
        assert_eq!(seen.all("authorization"), [format!("Bearer {TRUE_KEY}")]);
        assert!(!format!("{:?}", seen.headers).contains(token));
    }
    canaries.assert_absent("keystead's log at trace", dev.process.stderr().as_bytes());
    canaries.assert_absent("keystead's output", dev.process.stdout().as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_reads_keysteads_refusals_as_errors_of_its_own_kinds() {
    let dev = Dev::start().await;
    let mut sdk = python("openai_errors.py");
    sdk.env(
        "SDK_BASE_URL",
        format!("{}/proxy/@openai/v1", dev.text("/url")),
    );
    sdk.env("SDK_ALICE", dev.text("/users/alice"));
    let mut sdk = Process::start(&mut sdk);
    // Nothing is connected, and a token that is none.
    assert_eq!(
        said(&sdk, "missing"),
        json!(["NotFoundError", 404, "not_found"])
    );
    assert_eq!(
        said(&sdk, "nobody"),
        json!(["AuthenticationError", 401, "unauthenticated"])
    );
    assert!(sdk.ended(PATIENCE).unwrap().success());
}

#[test]
fn dev_once_does_the_job_in_front_of_a_newcomer_and_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = keystead();
    dev.args(["dev", "--once", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path());
    let mut dev = Process::start(&mut dev);
    let status = dev
        .ended(Duration::from_secs(60))
        .expect("it ends by itself");
    let said = dev.stdout();
    assert!(status.success(), "{said} {}", dev.stderr());
    for step in [
        "1 connect",
        "2 verify",
        "3 use",
        "4 deny",
        "5 prove",
        "6 take back",
    ] {
        assert!(said.contains(step), "{said}");
    }
    // And again on the same data, as a newcomer would.
    let mut dev = keystead();
    dev.args([
        "dev",
        "--once",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--data",
    ])
    .arg(folder.path());
    let again = dev.output().unwrap();
    assert!(again.status.success(), "{again:?}");
    let ready: Value = serde_json::from_slice(&again.stdout).unwrap();
    for pointer in [
        "/url",
        "/operator_key",
        "/service_key",
        "/tenants/acme",
        "/tenants/globex",
        "/users/alice",
        "/users/bob",
    ] {
        assert!(
            ready.pointer(pointer).is_some_and(Value::is_string),
            "{pointer}"
        );
    }
    assert!(ready.get("console_url").is_some());
}
