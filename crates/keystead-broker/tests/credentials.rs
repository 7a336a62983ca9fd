//! Credentials on their way in and out: what is taken, what is told of faults, what comes back.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, TRUE_KEY};
use keystead_broker::{Changes, Error};
use keystead_core::action::Role;
use serde_json::{Value, json};

fn faults<T>(result: Result<T, Error>) -> Vec<(String, String)> {
    match result {
        Err(Error::Invalid(faults)) => faults
            .into_iter()
            .map(|fault| (fault.path, fault.message))
            .collect(),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was done"),
    }
}

#[tokio::test]
async fn a_credential_of_more_than_64_kib_is_too_large() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let made = house.add(&alice, "main", TRUE_KEY).await;
    let large = format!("sk-canary-{}", "a".repeat(64 * 1024));
    let parts = json!({"api_key": large});
    for large in [
        json!(large),
        parts,
        json!([large]),
        json!({"deep": {"er": large}}),
    ] {
        let created = house
            .create(&alice, "large", "openai", large.clone(), None)
            .await;
        assert!(matches!(created, Err(Error::TooLarge { most: 65_536 })));
        let change = Changes {
            credentials: Some(large),
            ..Changes::default()
        };
        let updated = house
            .broker
            .update_integration(&alice, made.id, change, None)
            .await;
        assert!(matches!(updated, Err(Error::TooLarge { most: 65_536 })));
    }
    assert_eq!(house.entries(&[r#""reason":"too large""#]).await, 8);
    let largest = "a".repeat(64 * 1024);
    house
        .create(&alice, "largest", "openai", json!(largest), None)
        .await
        .unwrap();
    house.log_is_clean().await;
}

#[tokio::test]
async fn an_unknown_type_is_answered_with_the_near_ones() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let wrong = house
        .create(&alice, "main", "opnai", json!(TRUE_KEY), None)
        .await;
    let faults = faults(wrong);
    assert_eq!(faults[0].0, "type");
    assert!(faults[0].1.contains("openai"), "{faults:?}");
    assert_eq!(house.entries(&[r#""reason":"invalid""#]).await, 1);
    house.log_is_clean().await;
}

#[tokio::test]
async fn every_wrong_field_is_told_and_none_of_its_content() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let new = keystead_broker::NewIntegration {
        name: " ".into(),
        type_: "twilio".into(),
        credentials: json!({"account_sid": 7, "canary_canary_canary": "canary", "api_key_sid": "canary\n"}),
        config: json!({"canary_setting": "x"}).as_object().unwrap().clone(),
    };
    let wrong = house
        .broker
        .create_integration(&alice, new, Some(String::new()))
        .await;
    let faults = faults(wrong);
    let paths: Vec<&str> = faults.iter().map(|(path, _)| path.as_str()).collect();
    for path in [
        "name",
        "Idempotency-Key",
        "config.canary_setting",
        "credentials.canary_canary_canary",
    ] {
        assert!(paths.contains(&path), "{path} is not in {paths:?}");
    }
    assert!(
        faults
            .iter()
            .all(|(_, message)| !message.contains("canary\n"))
    );
    let list = house
        .broker
        .list_integrations(&alice, Default::default())
        .await
        .unwrap();
    assert!(list.data.is_empty());
    house.log_is_clean().await;
}

#[tokio::test]
async fn what_looks_odd_is_warned_of_and_taken() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let made = house
        .create(
            &alice,
            "odd",
            "openai",
            json!("canary-of-another-form"),
            None,
        )
        .await;
    let made = made.unwrap();
    assert_eq!(made.warnings.len(), 1, "{:?}", made.warnings);
    assert!(made.warnings[0].starts_with("credentials.api_key: "));
    assert!(!made.warnings[0].contains("canary"));
}

#[tokio::test]
async fn a_credential_comes_back_in_the_form_in_which_it_was_given() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let service = house.service_key("reveal").await;
    let service = house.ctx(&service, Some("acme")).await.unwrap();
    let aws = json!({"access_key_id": "AKIACANARYCANARYCANA", "secret_access_key": "canary/\"\\\u{e9}+canary0123456789canary012"});
    let given: [(&str, Value); 3] = [
        ("openai", json!("sk-canary-\"quoted\"\\ back\u{1f511}slash")),
        ("openai", json!({"api_key": TRUE_KEY})),
        ("aws_access_key", aws),
    ];
    for (n, (type_, credentials)) in given.into_iter().enumerate() {
        let made = house
            .create(&alice, &n.to_string(), type_, credentials.clone(), None)
            .await;
        let revealed = house
            .reveal(&service, made.unwrap().integration.id)
            .await
            .unwrap();
        assert_eq!(revealed["credentials"], credentials);
    }
    house.log_is_clean().await;
}

#[tokio::test]
async fn a_hint_is_the_last_four_characters_of_a_long_value_and_nothing_of_a_short_one() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    for (n, (key, hint)) in [
        ("sk-canary-0123456789abcdef", Some("cdef")),
        ("0123456789abcdef", Some("cdef")),
        ("0123456789abcde", None),
        ("sk", None),
        ("sk-canary-0123456789abc\u{e9}ef", None),
    ]
    .into_iter()
    .enumerate()
    {
        let made = house.add(&alice, &n.to_string(), key).await;
        assert_eq!(made.hint.as_deref(), hint, "{key}");
    }
}
