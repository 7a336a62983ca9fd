//! Credentials on their way in and out: what is taken, what is told of faults, what comes back.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, Plan, TRUE_KEY};
use keystead_broker::{Changes, Context, Error, NewIntegration};
use keystead_core::action::Role;
use keystead_core::ids::IntegrationId;
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

fn settings(value: Value) -> Option<serde_json::Map<String, Value>> {
    value.as_object().cloned()
}

async fn made(house: &House, ctx: &Context, type_: &str, new: (Value, Value)) -> IntegrationId {
    let new = NewIntegration {
        name: type_.to_owned(),
        type_: type_.to_owned(),
        credentials: new.0,
        config: settings(new.1).unwrap(),
    };
    let made = house.broker.create_integration(ctx, new, None).await;
    made.unwrap().integration.id
}

#[tokio::test]
async fn a_change_of_where_a_credential_goes_needs_the_credential_again() {
    let house = House::planned(Plan {
        dial_upstream: vec!["supabase_project_key", "salesforce", "zoom"],
        ..Plan::default()
    })
    .await;
    let alice = house.user("alice", "acme", Role::Admin).await;
    let project = json!({"project": "abcdefghijklmnopqrst"});
    let secret = json!("sb_secret_canary0canary0canary0ca_canary00");
    let id = made(
        &house,
        &alice,
        "supabase_project_key",
        (secret.clone(), project.clone()),
    )
    .await;
    let change = |config: Value, credentials: Option<Value>| Changes {
        config: settings(config),
        credentials,
        ..Changes::default()
    };
    let broker = &house.broker;
    let update = |id, change| broker.update_integration(&alice, id, change, None);
    // Their own project, to which the secret would be sent.
    let theirs = json!({"project": "zyxwvutsrqponmlkjihg"});
    let refused = faults(update(id, change(theirs.clone(), None)).await);
    assert_eq!(refused[0].0, "config.project");
    assert!(
        refused[0].1.contains("needs the credential again"),
        "{refused:?}"
    );
    let kept = broker.integration(&alice, id).await.unwrap();
    assert_eq!(Value::from(kept.config), project);
    assert!(update(id, change(project, None)).await.is_ok());
    assert!(
        update(id, change(theirs.clone(), Some(secret)))
            .await
            .is_ok()
    );
    // A grant does not change its home at all, not even for a new app.
    let granted = json!({"access_token": "canary-access", "refresh_token": "canary-refresh"});
    let home = json!({"domain": "acme", "environment": "my"});
    let id = made(
        &house,
        &alice,
        "salesforce",
        (granted.clone(), home.clone()),
    )
    .await;
    let app = json!({"client_id": "other-app", "client_secret": "canary-of-the-other"});
    let away = json!({"domain": "evil", "environment": "my"});
    for credentials in [None, Some(app)] {
        let refused = faults(update(id, change(away.clone(), credentials)).await);
        assert_eq!(refused[0].0, "config.domain");
        assert!(refused[0].1.contains("authorise it again"), "{refused:?}");
    }
    // Which host an API has is the provider's to say: never a caller's, with or without a credential.
    let named =
        json!({"domain": "acme", "environment": "my", "api_host": "evil.my.salesforce.com"});
    for credentials in [None, Some(granted.clone())] {
        let refused = faults(update(id, change(named.clone(), credentials)).await);
        assert_eq!(refused[0].0, "config.api_host");
    }
    let new = house.create(&alice, "new", "zoom", granted.clone(), None);
    assert!(new.await.is_ok());
    let new = NewIntegration {
        name: "named".to_owned(),
        type_: "salesforce".to_owned(),
        credentials: granted.clone(),
        config: settings(named).unwrap(),
    };
    let refused = faults(broker.create_integration(&alice, new, None).await);
    assert_eq!(refused[0].0, "config.api_host");
    assert!(update(id, change(away, Some(granted))).await.is_ok());
}

#[tokio::test]
async fn a_setting_that_moves_a_credential_is_compared_with_what_it_replaces() {
    let house = House::planned(Plan {
        dial_upstream: vec!["supabase_project_key"],
        ..Plan::default()
    })
    .await;
    let alice = house.user("alice", "acme", Role::Admin).await;
    let secret = |end| {
        Some(json!(format!(
            "sb_secret_canary0canary0canary0ca_canary0{end}"
        )))
    };
    let [ours, theirs] = ["abcdefghijklmnopqrst", "zyxwvutsrqponmlkjihg"]
        .map(|project| settings(json!({ "project": project })));
    let id = made(
        &house,
        &alice,
        "supabase_project_key",
        (secret(1).unwrap(), json!(theirs)),
    )
    .await;
    // Both at once, often: who keeps the settings must not have them outlive their credential.
    for _ in 0..20 {
        let mine = Changes {
            config: theirs.clone(),
            ..Changes::default()
        };
        let owners = Changes {
            config: ours.clone(),
            credentials: secret(2),
            ..Changes::default()
        };
        let (_, put) = tokio::join!(
            house.broker.update_integration(&alice, id, mine, None),
            house.broker.update_integration(&alice, id, owners, None)
        );
        let now = house.broker.integration(&alice, id).await.unwrap().config;
        if put.is_ok() {
            assert_eq!(Some(now), ours);
        }
        let back = Changes {
            config: theirs.clone(),
            credentials: secret(1),
            ..Changes::default()
        };
        house
            .broker
            .update_integration(&alice, id, back, None)
            .await
            .unwrap();
    }
}
