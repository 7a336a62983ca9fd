//! AWS by a real server that checks signatures: moto, with its IAM switched on.

use http::Method;
use keystead_testkit::process::Process;
use serde_json::{Value, json};

use crate::rig::{House, PATIENCE, python, settled};

/// moto as AWS: exactly the set-up's calls are free, then every call has to be signed by a user's key.
pub(crate) struct Aws {
    _server: Process,
    pub(crate) url: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    /// A role that the key's user may take on.
    pub(crate) role: String,
}

impl Aws {
    pub(crate) fn start() -> Aws {
        let server = Process::start(&mut python("aws_server.py"));
        let line = server.line(|line| line.starts_with('{'), PATIENCE);
        let line = line.unwrap_or_else(|| panic!("no AWS: {}", server.stderr()));
        let made: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Aws {
            url: text("url"),
            access_key_id: text("access_key_id"),
            secret_access_key: text("secret_access_key"),
            role: text("role"),
            _server: server,
        }
    }

    pub(crate) fn integration(&self, name: &str, secret: &str) -> Value {
        json!({"name": name, "type": "aws_access_key",
            "credentials": {"access_key_id": self.access_key_id, "secret_access_key": secret}})
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_signed_so_that_a_server_that_checks_signatures_takes_them() {
    let aws = Aws::start();
    let house = House::new(&format!(
        "[provider.aws_access_key]\nbase_url = \"{}\"\n",
        aws.url
    ))
    .await;
    let server = house.serve();
    let alice = house.user(&server, "alice", "acme", "owner");
    let made = alice
        .post(
            "/api/integrations",
            &aws.integration("main", &aws.secret_access_key),
        )
        .await
        .expect(201);
    let id = made["id"].as_str().unwrap();
    let seen = settled(&alice, id).await;
    assert_eq!(seen["status"], "connected", "{seen}");

    let form = alice.header(
        "content-type",
        "application/x-www-form-urlencoded; charset=utf-8",
    );
    let call = async |path: &str, body: &str| {
        form.try_call(Method::POST, path, body.to_owned().into())
            .await
            .unwrap()
    };
    let who = call(
        &format!("/proxy/{id}/"),
        "Action=GetCallerIdentity&Version=2011-06-15",
    )
    .await;
    assert_eq!(who.status, 200, "{}", who.text());
    assert!(who.text().contains("user/backend"), "{}", who.text());
    // Another service of the same provider, by its own host; the signature names that service.
    for path in [
        format!("/proxy/{id}/~iam.amazonaws.com/"),
        "/proxy/@aws_access_key/~iam.amazonaws.com/".to_owned(),
    ] {
        let users = call(&path, "Action=ListUsers&Version=2010-05-08").await;
        assert_eq!(users.status, 200, "{}", users.text());
        assert!(
            users.text().contains("<UserName>backend</UserName>"),
            "{}",
            users.text()
        );
    }
    // The right id with another secret: signed, and found wrong.
    let mut wrong: String = aws.secret_access_key.clone();
    let last = wrong.pop().unwrap();
    wrong.push(if last == 'A' { 'B' } else { 'A' });
    let made = alice
        .post("/api/integrations", &aws.integration("wrong", &wrong))
        .await
        .expect(201);
    let id = made["id"].as_str().unwrap();
    let refused = call(
        &format!("/proxy/{id}/"),
        "Action=GetCallerIdentity&Version=2011-06-15",
    )
    .await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(
        refused.text().contains("SignatureDoesNotMatch"),
        "{}",
        refused.text()
    );
    let seen = settled(&alice, id).await;
    assert_eq!(seen["status"], "error", "{seen}");
    assert!(
        seen["error_message"].as_str().unwrap().contains("secret"),
        "{seen}"
    );
    let report = alice
        .post(&format!("/api/integrations/{id}/test"), &json!({}))
        .await
        .expect(200);
    assert_eq!(report["result"], "bad_key", "{report}");
    for secret in [&aws.secret_access_key, &wrong] {
        assert!(!server.process.stderr().contains(secret.as_str()));
    }
    // A control: unsigned, this server takes nothing.
    let unsigned = keystead_testkit::client::Client::new(&aws.url)
        .header("host", "sts.us-east-1.amazonaws.com")
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = unsigned
        .try_call(
            Method::POST,
            "/",
            "Action=GetCallerIdentity&Version=2011-06-15".into(),
        )
        .await
        .unwrap();
    assert!(!answer.status.is_success(), "{}", answer.text());
}
