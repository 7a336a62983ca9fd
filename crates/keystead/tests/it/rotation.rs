//! Rotation by the real program: asked for on the command line, carried on by its duties, at a
//! server with IAM's own rules.

use serde_json::{Value, json};

use crate::aws::Aws;
use crate::rig::{House, PATIENCE, eventually, settled};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_from_the_command_line_and_by_the_duties() {
    let aws = Aws::start();
    let house = House::new(&format!(
        "[provider.aws_access_key]\nbase_url = \"{}\"\n",
        aws.url
    ))
    .await;
    let server = house.serve();
    let alice = house.user(&server, "alice", "acme", "admin");
    let made = alice
        .post(
            "/api/integrations",
            &aws.integration("main", &aws.secret_access_key),
        )
        .await
        .expect(201);
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(settled(&alice, &id).await["status"], "connected");

    let (path, rotate) = (
        format!("/api/integrations/{id}/rotation"),
        format!("/api/integrations/{id}/rotate"),
    );
    let idle = alice.get(&path).await.expect(200);
    assert_eq!(
        idle,
        json!({"step": "idle", "last": null, "next": null, "every_days": null, "grace_minutes": 15, "started_at": null, "detail": null})
    );
    for role in ["viewer", "member"] {
        let user = house.user(&server, role, "acme", role);
        user.post(&rotate, &json!({})).await.expect(403);
    }
    let run = |words: &[&str]| {
        let mut command = house.command(words);
        command
            .env("KEYSTEAD_URL", &server.url)
            .env("KEYSTEAD_TOKEN", house.jwt("alice", "acme", "admin"));
        house.run(&mut command)
    };
    let odd = run(&["integrations", "rotate", &id, "--every", "soon"]);
    assert_eq!(odd.status.code(), Some(2), "{odd:?}");
    let done = run(&[
        "integrations",
        "rotate",
        &id,
        "--every",
        "30d",
        "--grace",
        "0",
        "--wait",
        "--json",
    ]);
    assert!(done.status.success(), "{done:?}");
    let stands: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (&stands["every_days"], &stands["grace_minutes"]),
        (&json!(30), &json!(0))
    );
    assert!(stands["last"].is_string(), "{stands}");
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(told.contains("keystead: test"), "{told}");
    // The duties put the one before out of use; the day until it is deleted is not waited for.
    eventually(PATIENCE, "the old key is out of use", || async {
        alice.get(&path).await.expect(200)["step"] == "delete"
    })
    .await;
    let seen = alice
        .get(&format!("/api/integrations/{id}"))
        .await
        .expect(200);
    assert_eq!(
        (&seen["status"], &seen["credential_version"]),
        (&json!("connected"), &json!(2))
    );
    let detail = alice.get(&path).await.expect(200)["detail"].to_string();
    assert!(detail.contains(&aws.access_key_id), "{detail}");
    let again = run(&["integrations", "rotate", &id]);
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(
        again.status.success() && said.starts_with("delete  the old one"),
        "{said}"
    );
    assert_eq!(alice.delete(&path).await.status, 204);
    assert_eq!(alice.delete(&path).await.status, 404);
    // What cannot be rotated says so.
    let plain = crate::rig::connect(&alice, "plain", crate::rig::TRUE_KEY).await;
    let plain = plain["id"].as_str().unwrap();
    let fault = run(&["integrations", "rotate", plain]);
    let said = String::from_utf8(fault.stderr).unwrap();
    assert_eq!(fault.status.code(), Some(1), "{said}");
    assert!(
        said.contains("credentials.admin_key: is needed to rotate"),
        "{said}"
    );
    assert!(!server.process.stderr().contains(&aws.secret_access_key));
}
