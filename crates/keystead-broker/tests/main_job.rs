//! The main job below any transport: connect, seal, use, reveal to a service, prove.

mod house;

use house::{House, TRUE_KEY};
use keystead_broker::{Error, ProofAsk, Selector, Status};
use keystead_core::action::Role;

#[tokio::test]
async fn a_credential_is_sealed_verified_used_and_never_shown_to_a_user() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let made = house.add(&alice, "main", TRUE_KEY).await;
    assert_eq!(made.status, Status::Verifying);
    assert_eq!(made.hint.as_deref(), Some("cdef"));
    let seen = house.settled(&alice, made.id).await;
    assert_eq!(seen.status, Status::Connected, "{:?}", seen.error_message);

    let (status, body) = house
        .models(&alice, Selector::Type("openai".into()))
        .await
        .unwrap();
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        house.upstream.last_seen().all("authorization"),
        [format!("Bearer {TRUE_KEY}")]
    );

    let denied = house.broker.reveal_integration(&alice, made.id).await;
    assert!(matches!(denied, Err(Error::Denied { .. })));
    let service = house.service_key("reveal,info:openai").await;
    let service = house.ctx(&service, Some("acme")).await.unwrap();
    let revealed = house
        .broker
        .reveal_integration(&service, made.id)
        .await
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&revealed.into_json()).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"credentials": TRUE_KEY, "version": 1, "expires_at": null})
    );

    let log = house.log().await.join("\n");
    assert!(!log.contains("canary"), "{log}");
    assert!(log.contains(r#""action":"reveal","on":"integration""#));
}

#[tokio::test]
async fn a_wrong_key_becomes_an_error_with_words_to_act_on() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let made = house
        .add(&alice, "wrong", "sk-canary-wrong-key-0123456789abcdef")
        .await;
    let seen = house.settled(&alice, made.id).await;
    assert_eq!(seen.status, Status::Error);
    assert!(seen.error_message.is_some());
}

#[tokio::test]
async fn another_tenants_integration_does_not_exist_for_anyone_else() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let bob = house.user("bob", "globex", Role::Owner).await;
    let made = house.add(&alice, "main", TRUE_KEY).await;
    let missing = house.broker.integration(&bob, made.id).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    let used = house.models(&bob, Selector::Id(made.id)).await;
    assert!(matches!(used, Err(Error::NotFound { .. })));
    let jwt = house.jwt("bob", "globex", Role::Owner);
    assert!(matches!(
        house.ctx(&jwt, Some("acme")).await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_revoked_key_ends_at_once_and_is_on_record() {
    let house = House::new().await;
    let text = house.service_key("use:openai").await;
    assert!(house.ctx(&text, Some("nobody")).await.is_err());
    let operator = house.ctx(&house.operator, None).await.unwrap();
    let keys = house.broker.list_keys(&operator).await.unwrap();
    let id = keys.iter().find(|key| key.name == "backend").unwrap().id;
    assert!(house.ctx(&text, None).await.is_ok());
    house.broker.revoke_key(&operator, id).await.unwrap();
    assert!(matches!(
        house.ctx(&text, None).await,
        Err(Error::Unauthenticated)
    ));
    assert!(house.log().await.join("\n").contains("revoked key"));
}

#[tokio::test]
async fn the_kms_is_asked_once_however_many_tenants_there_are() {
    let house = House::new().await;
    for tenant in 0..25 {
        let ctx = house
            .user("alice", &format!("tenant-{tenant}"), Role::Owner)
            .await;
        house.add(&ctx, "main", TRUE_KEY).await;
    }
    assert_eq!(
        house.broker.kms_calls(),
        1,
        "the one wrap of the first start"
    );
}

#[tokio::test]
async fn an_entry_is_proven_to_be_in_the_log() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let made = house.add(&alice, "main", TRUE_KEY).await;
    house.settled(&alice, made.id).await;
    let operator = house.ctx(&house.operator, None).await.unwrap();
    let ask = ProofAsk {
        seq: Some(2),
        from: Some(3),
        size: None,
    };
    let proof = house.broker.proof(&operator, ask).await.unwrap();
    let (seq, leaf, hashes) = proof.inclusion.unwrap();
    let hash = keystead_core::log::leaf_hash(leaf.as_bytes());
    keystead_core::log::verify_inclusion(&hash, seq, proof.size, &hashes, &proof.root).unwrap();
    house.store.prove_log().await.unwrap();
}
