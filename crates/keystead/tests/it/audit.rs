//! `keystead audit`: an export is checked away from the server, and any edit of it is found.

use crate::rig::{House, TRUE_KEY, connect, python};

#[tokio::test(flavor = "multi_thread")]
async fn an_export_verifies_and_every_kind_of_edit_of_it_is_found() {
    let house = House::new("").await;
    let server = house.serve();
    let alice = house.user(&server, "alice", "acme", "owner");
    connect(&alice, "one", TRUE_KEY).await;
    let old = house
        .operator(&server)
        .get("/api/audit/checkpoint")
        .await
        .text();
    house.write("old.checkpoint", &old);
    connect(&alice, "two", TRUE_KEY).await;
    let key = house.operator(&server).get("/api/audit/key").await.text();
    let key = key.trim();
    drop(server);

    let export = |words: &[&str]| house.keystead(&[&["audit"], words].concat());
    let (code, out, err) = export(&["export", "--out", "log.ndjson"]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(
        std::fs::read_to_string(house.path("log.ndjson.key"))
            .unwrap()
            .trim(),
        key
    );
    let good = std::fs::read_to_string(house.path("log.ndjson")).unwrap();
    let verify = |more: &[&str]| export(&[&["verify", "log.ndjson", "--key", key], more].concat());
    assert_eq!(verify(&[]).0, 0);
    let (code, out, _) = verify(&["--checkpoint", "old.checkpoint"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("in order and unchanged"), "{out}");

    let lines: Vec<&str> = good.lines().collect();
    let join = |lines: &[&str]| lines.join("\n") + "\n";
    let edited = good.replacen("house|alice", "house|mallo", 1);
    let mut dropped = lines.clone();
    dropped.remove(3);
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    let mut doubled = lines.clone();
    doubled.insert(2, lines[2]);
    // The numbers are put right again, as whoever drops an entry would.
    let renumbered: Vec<String> = dropped
        .iter()
        .enumerate()
        .map(|(seq, line)| {
            let from = line.find("\"seq\":").unwrap() + 6;
            let to = from + line[from..].find(',').unwrap();
            format!("{}{seq}{}", &line[..from], &line[to..])
        })
        .collect();
    let renumbered: Vec<&str> = renumbered.iter().map(String::as_str).collect();
    for (what, text) in [
        ("edited", edited.clone()),
        ("dropped", join(&dropped)),
        ("dropped and renumbered", join(&renumbered)),
        ("reordered", join(&swapped)),
        ("doubled", join(&doubled)),
        ("truncated", join(&lines[..lines.len() - 1])),
        ("emptied", String::new()),
        ("cut in a line", good[..good.len() - 20].to_owned()),
    ] {
        assert_ne!(text, good, "{what}");
        house.write("log.ndjson", &text);
        let (code, out, err) = verify(&["--checkpoint", "old.checkpoint"]);
        assert_eq!(code, 1, "{what}: {out}{err}");
    }
    // A forger who also throws the new head away is found by the head that was kept elsewhere.
    std::fs::remove_file(house.path("log.ndjson.checkpoint")).unwrap();
    let size: usize = old.lines().nth(1).unwrap().parse().unwrap();
    for (what, text) in [("edited", edited), ("truncated", join(&lines[..size - 1]))] {
        house.write("log.ndjson", &text);
        let (code, out, err) = verify(&["--checkpoint", "old.checkpoint"]);
        assert_eq!(code, 1, "{what}: {out}{err}");
    }
    house.write("log.ndjson", &good);
    let (code, _, err) = verify(&[]);
    assert_eq!(
        code, 2,
        "without any head nobody knows where the end is: {err}"
    );
    assert_eq!(verify(&["--checkpoint", "old.checkpoint"]).0, 0);
    // A head signed by another key says nothing.
    let other = House::new("").await;
    let server = other.serve();
    let foreign = other
        .operator(&server)
        .get("/api/audit/checkpoint")
        .await
        .text();
    house.write("foreign.checkpoint", &foreign);
    assert_eq!(verify(&["--checkpoint", "foreign.checkpoint"]).0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_log_is_checked_against_older_heads_and_told_entry_by_entry() {
    let house = House::new("").await;
    let server = house.serve();
    let alice = house.user(&server, "alice", "acme", "owner");
    let made = connect(&alice, "one", TRUE_KEY).await;
    house.write(
        "old.checkpoint",
        &house
            .operator(&server)
            .get("/api/audit/checkpoint")
            .await
            .text(),
    );
    // Beside a server that runs.
    let (code, out, err) = house.keystead(&["audit", "verify", "--checkpoint", "old.checkpoint"]);
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, err) = house.keystead(&["audit", "tail", "-n", "1000"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(made["id"].as_str().unwrap()), "{out}");
    assert!(!out.contains("canary"), "{out}");
    for line in out.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    let (code, out, _) = house.keystead(&["audit", "tail", "-n", "2"]);
    assert_eq!((code, out.lines().count()), (0, 2), "{out}");
    drop(server);
    // An edit in the database itself is found.
    let (code, ..) = house.keystead(&["audit", "verify", "--checkpoint", "old.checkpoint"]);
    assert_eq!(code, 0);
    let mut edit = python("edit_entry.py");
    assert!(
        edit.arg(house.path("keystead.db"))
            .status()
            .unwrap()
            .success()
    );
    let (code, out, err) = house.keystead(&["audit", "verify", "--checkpoint", "old.checkpoint"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains("another root than the checkpoint"), "{err}");
}
