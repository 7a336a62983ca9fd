//! Service and operator keys: when they end, from where they may be used, and that each use case
//! says so when it cannot begin.
#![allow(clippy::unwrap_used)]

mod house;

use std::net::IpAddr;

use house::{House, NOON, Plan, TRUE_KEY};
use keystead_broker::{Clock, Context, Error, NewKey, Selector, Status};
use keystead_core::action::Role;
use keystead_core::caller::Scope;
use keystead_core::ids::TenantId;
use keystead_core::provider::Catalogue;
use keystead_core::time::Time;
use keystead_core::token::KeyKind;

fn service(scopes: &[&str]) -> NewKey {
    NewKey {
        kind: KeyKind::Service,
        scopes: scopes
            .iter()
            .map(|scope| Scope::parse(scope).unwrap())
            .collect(),
        ..NewKey::operator("backend")
    }
}

async fn from(house: &House, key: &str, address: &str) -> Result<Context, Error> {
    let address: IpAddr = address.parse().unwrap();
    let request = house.broker.new_request_id();
    house
        .broker
        .identify(Some(key), None, request, Some(address))
        .await
}

#[tokio::test]
async fn a_key_ends_when_it_was_said_to_and_not_a_moment_later() {
    let (clock, hand) = Clock::fixed(NOON);
    let house = House::planned(Plan {
        clock,
        ..Plan::default()
    })
    .await;
    let operator = house.operator().await;
    let end = NOON.plus_seconds(90);
    let new = NewKey {
        expires_at: Some(end),
        ..service(&["info"])
    };
    let made = house.broker.create_key(&operator, new).await.unwrap();
    for before in [NOON, NOON.plus_seconds(61), Time(end.0 - 1)] {
        hand.set(before);
        house.broker.hear_changes().await.unwrap();
        house.ctx(made.text.expose(), None).await.unwrap();
    }
    hand.set(end);
    let ended = house.ctx(made.text.expose(), None).await;
    assert!(matches!(ended, Err(Error::Unauthenticated)));
    assert_eq!(house.entries(&[r#""reason":"expired key""#]).await, 1);
}

#[tokio::test]
async fn a_key_with_addresses_is_taken_from_there_alone_each_time() {
    let house = House::new().await;
    let operator = house.operator().await;
    let addresses = vec![
        "192.0.2.0/24".parse().unwrap(),
        "2001:db8::/32".parse().unwrap(),
    ];
    let new = NewKey {
        addresses,
        ..service(&["info"])
    };
    let made = house.broker.create_key(&operator, new).await.unwrap();
    let key = made.text.expose();
    for _ in 0..2 {
        for inside in ["192.0.2.7", "2001:db8::7"] {
            from(&house, key, inside).await.unwrap();
        }
        for outside in ["192.0.3.7", "2001:db9::7", "127.0.0.1"] {
            let refused = from(&house, key, outside).await;
            assert!(matches!(refused, Err(Error::Unauthenticated)), "{outside}");
        }
    }
    let request = house.broker.new_request_id();
    let unknown = house.broker.identify(Some(key), None, request, None).await;
    assert!(matches!(unknown, Err(Error::Unauthenticated)));
    assert_eq!(house.entries(&[r#""reason":"address""#]).await, 7);
}

#[tokio::test]
async fn a_key_that_could_not_be_meant_is_not_made() {
    let house = House::new().await;
    let operator = house.operator().await;
    let past = Some(NOON.plus_seconds(-1_000_000_000));
    let nobody = Some(TenantId::from_uuid(uuid::Uuid::from_u128(7)));
    let wrong = [
        ("scopes", service(&[])),
        ("scopes", service(&["info", "audit:openai"])),
        (
            "name",
            NewKey {
                name: "a\nb".into(),
                ..service(&["info"])
            },
        ),
        (
            "expires_at",
            NewKey {
                expires_at: past,
                ..service(&["info"])
            },
        ),
        (
            "tenant",
            NewKey {
                tenant: nobody,
                ..service(&["info"])
            },
        ),
        (
            "kind",
            NewKey {
                kind: KeyKind::Operator,
                ..service(&["info"])
            },
        ),
    ];
    for (field, new) in wrong {
        let Err(Error::Invalid(faults)) = house.broker.create_key(&operator, new).await else {
            panic!("{field}");
        };
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].path, field);
    }
    assert_eq!(house.broker.list_keys(&operator).await.unwrap().len(), 1);
    assert!(house.broker.first_operator_key().await.unwrap().is_none());
}

#[tokio::test]
async fn no_key_is_in_the_database_in_clear() {
    let house = House::in_file().await;
    let key = house.service_key("info").await;
    house.ctx(&key, None).await.unwrap();
    house.tamper("db.execute('PRAGMA wal_checkpoint(TRUNCATE)')", &[]);
    for file in ["keystead.db", "keystead.db-wal"] {
        let bytes = std::fs::read(house.folder.path().join(file)).unwrap_or_default();
        for text in [&key, &house.operator] {
            // Its random part; what keys begin with is no secret.
            let part = &text.as_bytes()[10..40];
            assert!(
                !bytes.windows(part.len()).any(|window| window == part),
                "{file}"
            );
        }
    }
}

#[tokio::test]
async fn a_use_case_without_a_tenant_leaves_its_entry() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.connected(&alice).await;
    let all = house
        .service_key("list,info,use,reveal,put,test,delete,grant,audit")
        .await;
    let unnamed = house.ctx(&all, None).await.unwrap();
    let nowhere = |fault: Option<Error>| {
        let fault = fault.unwrap();
        assert!(fault.to_string().contains("Keystead-Tenant"), "{fault:?}");
    };
    let broker = &house.broker;
    let before = house.log().await.len();
    nowhere(
        broker
            .list_integrations(&unnamed, Default::default())
            .await
            .err(),
    );
    nowhere(broker.integration(&unnamed, id).await.err());
    nowhere(house.models(&unnamed, Selector::Id(id)).await.err());
    nowhere(
        house
            .models(&unnamed, Selector::Type("openai".into()))
            .await
            .err(),
    );
    nowhere(house.reveal(&unnamed, id).await.err());
    nowhere(broker.delete_integration(&unnamed, id, None).await.err());
    nowhere(broker.list_members(&unnamed).await.err());
    nowhere(broker.checkpoint(&unnamed).await.err());
    assert_eq!(house.log().await.len() - before, 8);
    assert_eq!(house.entries(&[r#""reason":"malformed""#]).await, 8);
}

#[tokio::test]
async fn an_integration_whose_provider_left_the_catalogue_can_still_be_destroyed() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let made = house
        .create(&alice, "sample", "sample", TRUE_KEY.into(), None)
        .await
        .unwrap();
    let id = made.integration.id;
    house.settled(&alice, id).await;
    let mut parts = house.parts_again(house.store.clone(), house.kms());
    parts.catalogue = Catalogue::embedded().unwrap();
    let broker = keystead_broker::Broker::start(parts).await.unwrap();
    let list = broker
        .list_integrations(&alice, Default::default())
        .await
        .unwrap();
    assert_eq!(list.data[0].status, Status::Connected);
    let heard = house.upstream.seen().len();
    let used = house::models_at(&broker, &alice, Selector::Id(id)).await;
    assert!(matches!(
        used,
        Err(Error::Conflict {
            code: "unknown_provider",
            ..
        })
    ));
    assert_eq!(house.upstream.seen().len(), heard);
    let target = id.to_string();
    let left = [r#""action":"use""#, &*target, r#""reason":"conflict""#];
    assert_eq!(house.entries(&left).await, 1);
    broker.delete_integration(&alice, id, None).await.unwrap();
}

#[tokio::test]
async fn the_last_use_of_an_operators_key_is_noted_like_a_services() {
    let house = House::new().await;
    let service = house.service_key("info").await;
    house.ctx(&service, None).await.unwrap();
    let operator = house.operator().await;
    let noted = async {
        loop {
            let keys = house.broker.list_keys(&operator).await.unwrap();
            if keys.iter().all(|key| key.last_used_at.is_some()) {
                return keys.len();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let noted = tokio::time::timeout(std::time::Duration::from_secs(20), noted);
    assert_eq!(noted.await.unwrap(), 2);
}
