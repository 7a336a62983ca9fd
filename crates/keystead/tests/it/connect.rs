//! `keystead connect` as a process, at providers of the catalogue: clicked through by its link, and
//! what ends its wait otherwise.

use std::process::Command;
use std::time::{Duration, Instant};

use keystead_testkit::played::{Answer, Door, Played, Reply};
use keystead_testkit::process::Process;
use serde_json::{Value, json};

use crate::accounts::{HOME, agree, introduce, play, serve};
use crate::browser::Browser;
use crate::rig::{House, PATIENCE, Server};

fn command(house: &House, server: &Server, words: &[&str]) -> Command {
    let mut command = house.command(&["connect"]);
    command
        .args(words)
        .arg("--no-browser")
        .env("KEYSTEAD_URL", &server.url)
        .env("KEYSTEAD_TOKEN", house.jwt("alice", "acme", "owner"));
    command
}

/// Starts it, and waits until it has said what to do.
fn begin(house: &House, server: &Server, words: &[&str], told: &str) -> (Process, String) {
    let process = Process::start(&mut command(house, server, words));
    let line = process.log_line(|line| line.contains(told), PATIENCE);
    let line = line.unwrap_or_else(|| panic!("{} {}", process.stdout(), process.stderr()));
    (process, line)
}

/// Its exit code and what it said on both outputs.
fn ended(mut process: Process) -> (i32, String, String) {
    let status = process.ended(PATIENCE).expect("it ends by itself");
    let code = status.code().unwrap_or(-1);
    (code, process.stdout(), process.stderr())
}

async fn names(house: &House, server: &Server) -> Vec<String> {
    let alice = house.user(server, "alice", "acme", "owner");
    let page = alice.get("/api/integrations").await.expect(200);
    let all = page["data"].as_array().unwrap().iter();
    all.map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The page that a link opens, up to the provider and back.
async fn click_through(server: &Server, link: &str, played: &Played) {
    let id = &played.part().provider.id;
    let mut browser = Browser::open(&server.url, link).await;
    browser.get(&format!("/connect/add/{id}")).await.expect(200);
    let away = browser
        .post(&format!("/connect/authorise/{id}"), &[("name", "By link")])
        .await;
    let back = agree(&browser.to(&away)).await;
    let done = browser.get(&back).await;
    let home = browser.to(&done);
    browser.get(&home).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_connects_an_account_by_a_code_and_by_a_link() {
    let house = House::new("").await;
    let (github, google) = (play("github").await, play("google_oauth").await);
    introduce(&house, &[&github, &google]);
    let [server] = serve(&house);

    let by_program = Process::start(&mut command(&house, &server, &["github", "--json"]));
    let first = by_program.line(|line| line.starts_with('{'), PATIENCE);
    let first: Value = serde_json::from_str(&first.unwrap()).unwrap();
    assert_eq!(first["user_code"], "PLAY-0001");
    let (by_link, link) = begin(&house, &server, &["google_oauth"], "/connect/start/");
    assert!(by_link.stderr().contains("within half an hour"));
    github.approves_devices();
    click_through(&server, link.trim(), &google).await;

    let (code, out, err) = ended(by_program);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(last["status"], "connected", "{last}");
    assert!(
        !out.contains("canary-device"),
        "the device's own code is shown"
    );
    let (code, out, err) = ended(by_link);
    assert_eq!(code, 0, "{out} {err}");
    assert!(out.contains("connected  By link"), "{out}");
    assert!(link.trim().starts_with(HOME), "{link}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_does_not_get_there_says_why_and_leaves_nothing() {
    let house = House::new("").await;
    let (github, google) = (play("github").await, play("google_oauth").await);
    introduce(&house, &[&github, &google]);
    let [mut server] = serve(&house);

    let mut nobody = command(&house, &server, &["github"]);
    let (code, _, err) = ended(Process::start(nobody.env_remove("KEYSTEAD_TOKEN")));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("set KEYSTEAD_TOKEN"), "{err}");
    // Ctrl-C, at once.
    let (mut process, _) = begin(&house, &server, &["github"], "PLAY-0001");
    let began = Instant::now();
    process.interrupt();
    assert!(!process.ended(PATIENCE).unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(3));
    // A code that nobody typed in time.
    let (process, _) = begin(&house, &server, &["github"], "PLAY-0001");
    let said = Reply::json(200, &json!({"error": "expired_token"}));
    github.answers(Door::Token, Answer::With(said));
    let (code, out, err) = ended(process);
    assert_eq!((code, out.as_str()), (5, ""), "{err}");
    assert!(err.contains("again"), "{err}");
    assert!(names(&house, &server).await.is_empty());

    // The server goes away and stays away.
    let (process, _) = begin(&house, &server, &["google_oauth"], "/connect/start/");
    server.process.kill();
    let (code, _, err) = ended(process);
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("does not answer"), "{err}");
}
