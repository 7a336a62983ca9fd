//! Whoever can write to the database: what is moved, swapped or put back does not open, is on
//! record, and is sent nowhere.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, Plan, TRUE_KEY};
use keystead_broker::{Changes, Context, Error, NewIntegration, Selector, SetBack, Status};
use keystead_core::action::Role;
use keystead_core::ids::IntegrationId;
use serde_json::{Map, json};

const OLD_KEY: &str = "sk-canary-old-key-0123456789abcdwxyz";

/// The integration does not open in any way, and nothing of it reaches the provider.
async fn nothing_opens(house: &House, user: &Context, id: IntegrationId, tenant: &str) {
    // The row was changed behind the broker's back: no feed tells of it.
    let (broker, store) = house.neighbour().await;
    let heard = house.upstream.seen().len();
    let corrupt = |fault: Error| {
        assert!(
            matches!(&fault, Error::Corrupt { record } if *record == id.to_string()),
            "{fault:?}"
        );
    };
    let service = house.service_key("reveal").await;
    let service = house::ctx_at(&broker, &service, Some(tenant))
        .await
        .unwrap();
    corrupt(
        house::models_at(&broker, user, Selector::Id(id))
            .await
            .unwrap_err(),
    );
    corrupt(broker.test_integration(user, id).await.unwrap_err());
    corrupt(broker.reveal_integration(&service, id).await.err().unwrap());
    for action in ["use", "test", "reveal"] {
        let action = format!(r#""action":"{action}""#);
        let target = id.to_string();
        let pieces = [
            &*action,
            &*target,
            r#""outcome":"failed","reason":"corrupt""#,
        ];
        assert_eq!(house.entries(&pieces).await, 1, "{action}");
    }
    assert_eq!(house.upstream.seen().len(), heard, "something was sent");
    house.log_is_clean().await;
    store.prove_log().await.unwrap();
}

const SEAL_OF: &str = "def seal(id, version): return db.execute('SELECT sealed FROM credential WHERE integration_id = ? AND version = ?', (id, version)).fetchone()[0]\n\
     def put(id, version, sealed): assert db.execute('UPDATE credential SET sealed = ? WHERE integration_id = ? AND version = ?', (sealed, id, version)).rowcount == 1\n";

fn tamper(house: &House, what: &str, ids: &[IntegrationId]) {
    let ids: Vec<String> = ids.iter().map(IntegrationId::to_string).collect();
    house.tamper(&format!("{SEAL_OF}{what}"), &ids);
}

#[tokio::test]
async fn another_tenants_ciphertext_does_not_open_in_this_ones_row() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let bob = house.user("bob", "globex", Role::Owner).await;
    let (hers, his) = (house.connected(&alice).await, house.connected(&bob).await);
    tamper(&house, "put(arg[1], 1, seal(arg[0], 1))", &[hers, his]);
    nothing_opens(&house, &bob, his, "globex").await;
    assert_eq!(
        house.models(&alice, Selector::Id(hers)).await.unwrap().0,
        200
    );
}

#[tokio::test]
async fn two_integrations_of_a_tenant_cannot_be_swapped() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let one = house.connected(&alice).await;
    let two = house.add(&alice, "two", TRUE_KEY).await.id;
    house.settled(&alice, two).await;
    let swap = "a, b = seal(arg[0], 1), seal(arg[1], 1)\nput(arg[0], 1, b)\nput(arg[1], 1, a)";
    tamper(&house, swap, &[one, two]);
    nothing_opens(&house, &alice, one, "acme").await;
}

#[tokio::test]
async fn a_whole_row_of_another_tenant_does_not_open_either() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let bob = house.user("bob", "globex", Role::Owner).await;
    let (hers, his) = (house.connected(&alice).await, house.connected(&bob).await);
    // With her tenant key beside his own.
    let take_over = "db.execute('PRAGMA foreign_keys = OFF')\n\
        theirs = db.execute('SELECT tenant_id FROM integration WHERE integration_id = ?', (arg[1],)).fetchone()[0]\n\
        key = db.execute('SELECT key_id FROM credential WHERE integration_id = ?', (arg[0],)).fetchone()[0]\n\
        db.execute(\"INSERT INTO tenant_key SELECT ?, key_id, 9, 'decrypt_only', sealed, check_value, created_at FROM tenant_key WHERE key_id = ?\", (theirs, key))\n\
        put(arg[1], 1, seal(arg[0], 1))";
    tamper(&house, take_over, &[hers, his]);
    let (broker, _) = house.neighbour().await;
    let heard = house.upstream.seen().len();
    let used = house::models_at(&broker, &bob, Selector::Id(his)).await;
    assert!(matches!(used, Err(Error::Corrupt { .. })), "{used:?}");
    assert_eq!(house.upstream.seen().len(), heard);
    let refused = [
        r#""action":"use""#,
        r#""outcome":"failed","reason":"corrupt""#,
    ];
    assert_eq!(house.entries(&refused).await, 1);
}

#[tokio::test]
async fn an_old_version_does_not_open_in_the_place_of_a_new_one() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.add(&alice, "main", OLD_KEY).await.id;
    house.settled(&alice, id).await;
    let change = Changes {
        credentials: Some(json!(TRUE_KEY)),
        ..Changes::default()
    };
    house
        .broker
        .update_integration(&alice, id, change, None)
        .await
        .unwrap();
    house.settled(&alice, id).await;
    tamper(&house, "put(arg[0], 2, seal(arg[0], 1))", &[id]);
    nothing_opens(&house, &alice, id, "acme").await;
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_the_blob_does_not_open() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.connected(&alice).await;
    tamper(
        &house,
        "old = seal(arg[0], 1)\nput(arg[0], 1, old[:-1] + bytes([old[-1] ^ 1]))",
        &[id],
    );
    nothing_opens(&house, &alice, id, "acme").await;
}

#[tokio::test]
async fn whoever_looks_is_told_that_a_credential_does_not_open() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.connected(&alice).await;
    tamper(&house, "put(arg[0], 1, seal(arg[0], 1)[:-1] + b'x')", &[id]);
    let enable = |disabled| Changes {
        disabled: Some(disabled),
        ..Changes::default()
    };
    for disabled in [true, false] {
        let changed = house
            .broker
            .update_integration(&alice, id, enable(disabled), None);
        changed.await.unwrap();
    }
    let seen = house.settled(&alice, id).await;
    assert_eq!(seen.status, Status::Error);
    assert!(seen.error_message.unwrap().contains("does not open"));
}

#[tokio::test]
async fn a_version_that_was_set_back_is_told_from_the_one_on_record() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.add(&alice, "main", OLD_KEY).await.id;
    house.settled(&alice, id).await;
    let change = Changes {
        credentials: Some(json!(TRUE_KEY)),
        ..Changes::default()
    };
    house
        .broker
        .update_integration(&alice, id, change, None)
        .await
        .unwrap();
    house.settled(&alice, id).await;
    let operator = house.operator().await;
    let found = house.broker.find_set_back(&operator).await.unwrap();
    assert_eq!(found, []);
    let set_back = "db.execute('UPDATE integration SET credential_version = 1, revision = 1 WHERE integration_id = ?', (arg[0],))";
    tamper(&house, set_back, &[id]);
    let found = house.broker.find_set_back(&operator).await.unwrap();
    let expected = SetBack {
        tenant: alice.tenant.unwrap(),
        integration: id,
        tokens: false,
        on_record: Some(2),
        stored: 1,
    };
    assert_eq!(found, [expected]);
    let denied = house.broker.find_set_back(&alice).await;
    assert!(matches!(
        denied,
        Err(Error::NotFound { .. } | Error::Denied { .. })
    ));
}

#[tokio::test]
async fn a_destroyed_integration_that_was_put_back_is_told_from_a_live_one() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.connected(&alice).await;
    let keep = "db.execute('CREATE TABLE kept AS SELECT * FROM integration')\n\
        db.execute('CREATE TABLE kept_too AS SELECT * FROM credential')";
    tamper(&house, keep, &[]);
    house
        .broker
        .delete_integration(&alice, id, None)
        .await
        .unwrap();
    let restore = "db.execute('INSERT INTO integration SELECT * FROM kept')\n\
        db.execute('INSERT INTO credential SELECT * FROM kept_too')";
    tamper(&house, restore, &[]);
    let operator = house.operator().await;
    let found = house.broker.find_set_back(&operator).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].integration, found[0].on_record), (id, None));
}

#[tokio::test]
async fn tokens_that_were_set_back_are_told_from_those_on_record() {
    let house = House::planned(Plan {
        in_file: true,
        dial_upstream: vec!["salesforce"],
        ..Plan::default()
    })
    .await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let granted = |number: u8| json!({"access_token": format!("canary-a{number}"), "refresh_token": format!("canary-r{number}")});
    let new = NewIntegration {
        name: "main".to_owned(),
        type_: "salesforce".to_owned(),
        credentials: granted(1),
        config: Map::from_iter([("domain".to_owned(), json!("acme"))]),
    };
    let made = house.broker.create_integration(&alice, new, None).await;
    let id = made.unwrap().integration.id;
    let keep = "db.execute('CREATE TABLE kept AS SELECT * FROM token_set')";
    tamper(&house, keep, &[]);
    let change = Changes {
        credentials: Some(granted(2)),
        ..Changes::default()
    };
    let changed = house.broker.update_integration(&alice, id, change, None);
    changed.await.unwrap();
    let operator = house.operator().await;
    assert_eq!(house.broker.find_set_back(&operator).await.unwrap(), []);
    let set_back = "db.execute('DELETE FROM token_set')\n\
        db.execute('INSERT INTO token_set SELECT * FROM kept')";
    tamper(&house, set_back, &[]);
    let found = house.broker.find_set_back(&operator).await.unwrap();
    let expected = SetBack {
        tenant: alice.tenant.unwrap(),
        integration: id,
        tokens: true,
        on_record: Some((1 << 32) + 1),
        stored: 1,
    };
    assert_eq!(found, [expected]);
}
