//! Integrations from the making to the destruction, below any transport.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, NOON, Plan, TRUE_KEY};
use keystead_broker::{Changes, Clock, Error, NewIntegration, Selector, Status};
use keystead_core::action::Role;
use keystead_core::ids::IntegrationId;
use serde_json::{Map, json};

const NEW_KEY: &str = "sk-canary-new-key-0123456789abcdwxyz";

fn replace(key: &str) -> Changes {
    Changes {
        credentials: Some(json!(key)),
        ..Changes::default()
    }
}

fn rename(name: &str) -> Changes {
    Changes {
        name: Some(name.into()),
        ..Changes::default()
    }
}

fn switch(disabled: bool) -> Changes {
    Changes {
        disabled: Some(disabled),
        ..Changes::default()
    }
}

fn code<T>(result: Result<T, Error>) -> &'static str {
    match result {
        Err(Error::Conflict { code, .. }) => code,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was done"),
    }
}

#[tokio::test]
async fn a_name_is_taken_once_per_tenant() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let bob = house.user("bob", "globex", Role::Owner).await;
    house.add(&alice, "main", TRUE_KEY).await;
    let again = house.create(&alice, "main", "openai", json!(NEW_KEY), None);
    assert_eq!(code(again.await), "duplicate_name");
    assert_eq!(
        house
            .entries(&[r#""action":"put""#, r#""reason":"duplicate""#])
            .await,
        1
    );
    house.add(&bob, "main", TRUE_KEY).await;

    let other = house.add(&alice, "other", TRUE_KEY).await;
    let renamed = house
        .broker
        .update_integration(&alice, other.id, rename("main"), None);
    assert_eq!(code(renamed.await), "duplicate_name");
    let seen = house.broker.integration(&alice, other.id).await.unwrap();
    assert_eq!(seen.name, "other");
    house.log_is_clean().await;
}

#[tokio::test]
async fn a_change_of_another_revision_changes_nothing() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let made = house.add(&alice, "main", TRUE_KEY).await;
    let id = made.id;
    for stale in ["\"7\"", "W/\"1\"", "1", "\"2\", \"3\"", ""] {
        let stale = Some(stale.to_owned());
        let change = Changes {
            name: Some("renamed".into()),
            ..replace(NEW_KEY)
        };
        let changed = house
            .broker
            .update_integration(&alice, id, change, stale.clone())
            .await;
        assert!(matches!(changed, Err(Error::Precondition)), "{stale:?}");
        let deleted = house
            .broker
            .delete_integration(&alice, id, stale.clone())
            .await;
        assert!(matches!(deleted, Err(Error::Precondition)), "{stale:?}");
    }
    assert_eq!(
        house
            .entries(&[r#""reason":"precondition""#, r#""outcome":"failed""#])
            .await,
        10
    );
    let seen = house.broker.integration(&alice, id).await.unwrap();
    assert_eq!((seen.name.as_str(), seen.credential_version), ("main", 1));
    assert_eq!(seen.etag, made.etag);

    for fresh in [
        made.etag.clone(),
        format!("\"9\", {}", seen.etag),
        "*".to_owned(),
    ] {
        let etag = house.broker.integration(&alice, id).await.unwrap().etag;
        let fresh = fresh.replace(&made.etag, &etag);
        let changed = house
            .broker
            .update_integration(&alice, id, rename("renamed"), Some(fresh));
        assert_ne!(changed.await.unwrap().etag, etag);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_changes_with_one_etag_exactly_one_wins() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let made = house.add(&alice, "main", TRUE_KEY).await;
    for round in 0..5_u64 {
        let etag = house
            .broker
            .integration(&alice, made.id)
            .await
            .unwrap()
            .etag;
        let changes = (0..8).map(|n| {
            let (broker, alice, etag) = (house.broker.clone(), alice.clone(), etag.clone());
            let change = if n % 2 == 0 {
                replace(NEW_KEY)
            } else {
                rename(&format!("{round}-{n}"))
            };
            tokio::spawn(async move {
                broker
                    .update_integration(&alice, made.id, change, Some(etag))
                    .await
            })
        });
        let changes: Vec<_> = changes.collect();
        let mut won = 0;
        for change in changes {
            match change.await.unwrap() {
                Ok(_) => won += 1,
                Err(Error::Precondition) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(won, 1);
    }
    house.store.prove_log().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_replacements_leave_versions_without_a_gap() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let made = house.add(&alice, "main", TRUE_KEY).await;
    let changes: Vec<_> = (0..8)
        .map(|_| {
            let (broker, alice) = (house.broker.clone(), alice.clone());
            tokio::spawn(async move {
                broker
                    .update_integration(&alice, made.id, replace(NEW_KEY), None)
                    .await
            })
        })
        .collect();
    let mut won = 0;
    for change in changes {
        match change.await.unwrap() {
            Ok(_) => won += 1,
            Err(Error::Conflict { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    let seen = house.broker.integration(&alice, made.id).await.unwrap();
    assert_eq!(seen.credential_version, 1 + won);
    let tenant = alice.tenant.unwrap();
    for version in 1..=seen.credential_version {
        let kept = house
            .store
            .find_credential(tenant, made.id, version)
            .await
            .unwrap();
        assert!(kept.is_some(), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_makes_one_thing_however_often_it_is_sent() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let sent: Vec<_> = (0..8)
        .map(|_| {
            let (broker, alice) = (house.broker.clone(), alice.clone());
            tokio::spawn(async move {
                let new = keystead_broker::NewIntegration {
                    name: "main".into(),
                    type_: "openai".into(),
                    credentials: json!(TRUE_KEY),
                    config: Map::new(),
                };
                broker
                    .create_integration(&alice, new, Some("once".into()))
                    .await
            })
        })
        .collect();
    let mut made = Vec::new();
    for one in sent {
        made.push(one.await.unwrap().unwrap());
    }
    assert_eq!(made.iter().filter(|made| !made.replayed).count(), 1);
    let id = made[0].integration.id;
    assert!(made.iter().all(|made| made.integration.id == id));
    let later = house
        .create(&alice, "main", "openai", json!(TRUE_KEY), Some("once"))
        .await
        .unwrap();
    assert!(later.replayed && later.integration.id == id);

    for (name, type_, key) in [
        ("other", "openai", TRUE_KEY),
        ("main", "anthropic", TRUE_KEY),
        ("main", "openai", NEW_KEY),
    ] {
        let other = house
            .create(&alice, name, type_, json!(key), Some("once"))
            .await;
        assert_eq!(code(other), "idempotency_key_reused");
    }
    // Another caller's key of the same text is another key.
    let carol = house.user("carol", "acme", Role::Owner).await;
    let hers = house
        .create(&carol, "hers", "openai", json!(TRUE_KEY), Some("once"))
        .await;
    assert!(!hers.unwrap().replayed);

    house
        .broker
        .delete_integration(&alice, id, None)
        .await
        .unwrap();
    let gone = house
        .create(&alice, "main", "openai", json!(TRUE_KEY), Some("once"))
        .await;
    assert_eq!(code(gone), "idempotency_gone");
    house.log_is_clean().await;
}

#[tokio::test]
async fn an_idempotency_key_stands_for_a_day() {
    let (clock, hand) = Clock::fixed(NOON);
    let house = House::planned(Plan {
        clock,
        ..Plan::default()
    })
    .await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let first = house
        .create(&alice, "main", "openai", json!(TRUE_KEY), Some("k"))
        .await
        .unwrap();
    hand.set(NOON.plus_seconds(24 * 3600 - 1));
    let replayed = house
        .create(&alice, "main", "openai", json!(TRUE_KEY), Some("k"))
        .await
        .unwrap();
    assert!(replayed.replayed && replayed.integration.id == first.integration.id);
    hand.set(NOON.plus_seconds(24 * 3600 + 1));
    let fresh = house
        .create(&alice, "other", "openai", json!(TRUE_KEY), Some("k"))
        .await
        .unwrap();
    assert!(!fresh.replayed);
}

#[tokio::test]
async fn a_new_credential_is_used_at_once_and_the_old_one_never_again() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let service = house.service_key("reveal,use").await;
    let service = house.ctx(&service, Some("acme")).await.unwrap();
    let made = house.add(&alice, "main", NEW_KEY).await;
    assert_eq!(house.settled(&alice, made.id).await.status, Status::Error);
    assert_eq!(
        house.models(&alice, Selector::Id(made.id)).await.unwrap().0,
        401
    );

    let changed = house
        .broker
        .update_integration(&alice, made.id, replace(TRUE_KEY), None);
    let changed = changed.await.unwrap();
    assert_eq!(
        (changed.credential_version, changed.status),
        (2, Status::Verifying)
    );
    assert_eq!(changed.hint.as_deref(), Some("cdef"));
    let (by_id, by_type) = (Selector::Id(made.id), Selector::Type("openai".into()));
    assert_eq!(house.models(&alice, by_id).await.unwrap().0, 200);
    assert_eq!(house.models(&alice, by_type).await.unwrap().0, 200);
    let revealed = house.reveal(&service, made.id).await.unwrap();
    assert_eq!(
        revealed,
        json!({"credentials": TRUE_KEY, "version": 2, "expires_at": null})
    );
    assert_eq!(
        house.settled(&alice, made.id).await.status,
        Status::Connected
    );
    house.log_is_clean().await;
}

#[tokio::test]
async fn a_disabled_integration_does_nothing_until_it_is_enabled_and_verified_again() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let service = house.service_key("reveal").await;
    let service = house.ctx(&service, Some("acme")).await.unwrap();
    let id = house.connected(&alice).await;
    let off = house
        .broker
        .update_integration(&alice, id, switch(true), None)
        .await
        .unwrap();
    assert_eq!(off.status, Status::Disabled);
    let upstream_heard = house.upstream.seen().len();
    assert_eq!(
        code(house.models(&alice, Selector::Id(id)).await),
        "disabled"
    );
    let by_type = house.models(&alice, Selector::Type("openai".into())).await;
    assert!(matches!(by_type, Err(Error::NotFound { .. })));
    assert_eq!(
        code(house.broker.test_integration(&alice, id).await),
        "disabled"
    );
    assert_eq!(code(house.reveal(&service, id).await), "disabled");
    // A new credential does not switch it on, and is not tried either.
    house
        .broker
        .update_integration(&alice, id, replace(NEW_KEY), None)
        .await
        .unwrap();
    assert_eq!(
        code(house.models(&alice, Selector::Id(id)).await),
        "disabled"
    );
    house
        .broker
        .update_integration(&alice, id, replace(TRUE_KEY), None)
        .await
        .unwrap();
    assert_eq!(house.upstream.seen().len(), upstream_heard);
    for action in ["use", "test", "reveal"] {
        let action = format!(r#""action":"{action}""#);
        assert!(
            house.entries(&[&action, r#""reason":"conflict""#]).await > 0,
            "{action}"
        );
    }

    let on = house
        .broker
        .update_integration(&alice, id, switch(false), None)
        .await
        .unwrap();
    assert_eq!(on.status, Status::Verifying);
    assert_eq!(house.settled(&alice, id).await.status, Status::Connected);
    assert_eq!(house.models(&alice, Selector::Id(id)).await.unwrap().0, 200);
}

/// Which of the sealed blobs are anywhere in the database's files, once the log of writes is
/// folded into the main one.
fn found_in_files(house: &House, sealed: &[Vec<u8>]) -> Vec<bool> {
    house.tamper("db.execute('PRAGMA wal_checkpoint(TRUNCATE)')", &[]);
    let files = ["keystead.db", "keystead.db-wal"]
        .map(|file| std::fs::read(house.folder.path().join(file)).unwrap_or_default());
    let found = |sealed: &Vec<u8>| {
        // The end of a blob is its ciphertext; its beginning is the same in many.
        let part = &sealed[sealed.len() - 24..];
        files
            .iter()
            .any(|bytes| bytes.windows(part.len()).any(|window| window == part))
    };
    sealed.iter().map(found).collect()
}

#[tokio::test]
async fn deleting_destroys_every_version_in_the_database() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.connected(&alice).await;
    for _ in 0..3 {
        house
            .broker
            .update_integration(&alice, id, replace(TRUE_KEY), None)
            .await
            .unwrap();
    }
    house.settled(&alice, id).await;
    let mut sealed = Vec::new();
    for version in 1..=4 {
        let row = house
            .store
            .find_credential(alice.tenant.unwrap(), id, version)
            .await
            .unwrap();
        sealed.push(row.unwrap().sealed);
    }
    assert_eq!(found_in_files(&house, &sealed), [true; 4]);
    house
        .broker
        .delete_integration(&alice, id, None)
        .await
        .unwrap();
    let left = house.tamper(
        "print(db.execute('SELECT count(*) FROM credential').fetchone()[0],\n\
         db.execute('SELECT count(*) FROM integration').fetchone()[0])",
        &[],
    );
    assert_eq!(left.trim(), "0 0");
    assert_eq!(found_in_files(&house, &sealed), [false; 4]);
    let missing = house.models(&alice, Selector::Id(id)).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    let again = house.broker.delete_integration(&alice, id, None).await;
    assert!(matches!(again, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn each_denial_leaves_its_entry() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let viewer = house.user("vera", "acme", Role::Viewer).await;
    let id = house.connected(&alice).await;
    let seen_before = house.upstream.seen().len();
    let denied = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Denied { .. })));
    denied(
        house
            .create(&viewer, "x", "openai", json!(TRUE_KEY), None)
            .await
            .map(drop),
    );
    denied(
        house
            .broker
            .update_integration(&viewer, id, rename("x"), None)
            .await
            .map(drop),
    );
    denied(house.broker.delete_integration(&viewer, id, None).await);
    denied(house.broker.test_integration(&viewer, id).await.map(drop));
    denied(house.reveal(&viewer, id).await.map(drop));
    denied(house.models(&viewer, Selector::Id(id)).await.map(drop));
    denied(
        house
            .models(&viewer, Selector::Type("openai".into()))
            .await
            .map(drop),
    );
    for (action, times) in [
        ("put", 2),
        ("delete", 1),
        ("test", 1),
        ("reveal", 1),
        ("use", 2),
    ] {
        let action = format!(r#""action":"{action}""#);
        let denials = house
            .entries(&["vera", &action, r#""outcome":"denied""#])
            .await;
        assert_eq!(denials, times, "{action}");
    }
    assert_eq!(house.upstream.seen().len(), seen_before);
    house.log_is_clean().await;
}

#[tokio::test]
async fn whoever_may_not_use_a_type_does_not_learn_what_there_is_of_it() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let key = house.service_key("use:xai").await;
    let service = house.ctx(&key, Some("acme")).await.unwrap();
    let by_type = || Selector::Type("openai".into());
    let none = house.models(&service, by_type()).await;
    assert!(matches!(none, Err(Error::Denied { .. })), "{none:?}");
    for name in ["one", "two"] {
        let id = house.add(&alice, name, TRUE_KEY).await.id;
        house.settled(&alice, id).await;
    }
    let several = house.models(&service, by_type()).await;
    assert!(matches!(several, Err(Error::Denied { .. })), "{several:?}");
}

#[tokio::test]
async fn of_several_of_a_type_the_connected_one_is_meant() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    for (name, key) in [("one", NEW_KEY), ("two", TRUE_KEY), ("three", NEW_KEY)] {
        let made = house.add(&alice, name, key).await;
        house.settled(&alice, made.id).await;
    }
    let by_type = Selector::Type("openai".into());
    assert_eq!(house.models(&alice, by_type).await.unwrap().0, 200);
}

#[tokio::test]
async fn a_credential_that_nothing_tries_is_taken_with_a_word_about_it() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let new = NewIntegration {
        name: "sms".into(),
        type_: "generic_bearer".into(),
        credentials: json!("canary-generic-key-0123456789"),
        config: Map::from_iter([("base_url".to_owned(), json!(house::APPROVED))]),
    };
    let made = house.broker.create_integration(&alice, new, None).await;
    let seen = house.settled(&alice, made.unwrap().integration.id).await;
    assert_eq!(seen.status, Status::Connected);
    assert!(
        seen.error_message
            .is_some_and(|said| said.contains("test_path"))
    );
}

#[tokio::test]
async fn several_of_a_type_are_listed_to_choose_from() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let mut made = Vec::new();
    for name in ["one", "two"] {
        let id = house.add(&alice, name, TRUE_KEY).await.id;
        house.settled(&alice, id).await;
        made.push(id.to_string());
    }
    let several = house.models(&alice, Selector::Type("openai".into())).await;
    let Err(Error::Conflict { code, among, .. }) = several else {
        panic!("{several:?}");
    };
    assert_eq!((code, among), ("several_integrations", made.clone()));
    // Where one alone works, it is meant.
    let id: IntegrationId = made[0].parse().unwrap();
    house
        .broker
        .update_integration(&alice, id, replace(NEW_KEY), None)
        .await
        .unwrap();
    house.settled(&alice, id).await;
    assert_eq!(
        house
            .models(&alice, Selector::Type("openai".into()))
            .await
            .unwrap()
            .0,
        200
    );
}
