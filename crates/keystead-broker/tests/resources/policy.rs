//! Who gets credentials of a resource: from the side of those who do not.

use keystead_broker::{Changes, Error, Settings};
use keystead_core::action::Role;
use keystead_core::provider::resources::Wanted;
use keystead_testkit::vendors::Supabase;
use serde_json::json;

use crate::house::House;
use crate::{backend, conflict, connect, fetch, house, house_with, kind, list, nothing_is_kept};

const DENIED: [&str; 2] = [r#""action":"reveal""#, r#""outcome":"denied""#];

#[tokio::test]
async fn no_user_of_whatever_role_gets_credentials_and_each_try_is_on_record() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    let calls = vendor.desk.calls().len();
    for (tried, role) in [Role::Viewer, Role::Member, Role::Admin, Role::Owner]
        .into_iter()
        .enumerate()
    {
        let user = house.user("mallory", "acme", role).await;
        let project = vendor.project();
        let broker = &house.broker;
        let denied = broker
            .fetch_resource_credentials(&user, id, project, Wanted::default())
            .await;
        assert!(matches!(denied, Err(Error::Denied { .. })), "{role:?}");
        assert_eq!(house.entries(&DENIED).await, tried + 1);
    }
    let operator = house.operator().await;
    let broker = &house.broker;
    let denied = broker
        .fetch_resource_credentials(&operator, id, vendor.project(), Wanted::default())
        .await;
    assert!(denied.is_err());
    assert_eq!(vendor.desk.calls().len(), calls, "nobody was called");
}

#[tokio::test]
async fn owners_get_them_where_an_operator_opened_it_as_they_get_what_is_revealed() {
    let vendor = Supabase::open().await;
    let mut settings = Settings::default();
    settings.openings.reveal_users.insert(Role::Owner);
    let house = house_with("supabase", &vendor.desk, settings).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    let fetch_as = async |house: &House, role| {
        let user = house.user("alice", "acme", role).await;
        let broker = &house.broker;
        let done = broker
            .fetch_resource_credentials(&user, id, vendor.project(), kind("pooler"))
            .await;
        done.map(drop)
    };
    assert!(fetch_as(&house, Role::Owner).await.is_ok());
    let denied = fetch_as(&house, Role::Admin).await;
    assert!(matches!(denied, Err(Error::Denied { .. })));
}

#[tokio::test]
async fn a_key_without_the_scope_and_another_tenant_get_nothing_and_learn_nothing() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    let calls = vendor.desk.calls().len();
    for scope in ["use", "info", "reveal:openai"] {
        let key = house.key(scope, scope, None).await;
        let ctx = house.ctx(&key, Some("acme")).await.unwrap();
        let broker = &house.broker;
        let denied = broker
            .fetch_resource_credentials(&ctx, id, vendor.project(), Wanted::default())
            .await;
        assert!(matches!(denied, Err(Error::Denied { .. })), "{scope}");
    }
    assert_eq!(house.entries(&DENIED).await, 3);
    let key = house.key("seer", "reveal", None).await;
    let ctx = house.ctx(&key, Some("acme")).await.unwrap();
    let denied = house.broker.list_resources(&ctx, id, None).await;
    assert!(
        matches!(denied, Err(Error::Denied { .. })),
        "reveal is not info"
    );
    let bob = house.user("bob", "globex", Role::Owner).await;
    let broker = &house.broker;
    let missing = broker
        .fetch_resource_credentials(&bob, id, vendor.project(), Wanted::default())
        .await;
    let of_integration = |fault: &Error| {
        matches!(
            fault,
            Error::NotFound {
                what: "integration"
            }
        )
    };
    assert!(missing.is_err_and(|fault| of_integration(&fault)));
    let missing = broker.list_resources(&bob, id, None).await;
    assert!(missing.is_err_and(|fault| of_integration(&fault)));
    assert_eq!(vendor.desk.calls().len(), calls, "nobody was called");
}

#[tokio::test]
async fn a_disabled_integration_and_one_without_resources_are_left_alone() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let calls = vendor.desk.calls().len();
    let change = Changes {
        disabled: Some(true),
        ..Changes::default()
    };
    let broker = &house.broker;
    broker
        .update_integration(&alice, id, change, None)
        .await
        .unwrap();
    for fault in [
        list(&house, id).await.unwrap_err(),
        fetch(&house, id, vendor.project(), kind("all"))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(conflict(fault).0, "disabled");
    }
    assert_eq!(vendor.desk.calls().len(), calls);
    let other = house.connected(&alice).await;
    for fault in [
        list(&house, other).await.unwrap_err(),
        fetch(&house, other, "session", kind("all"))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(conflict(fault).0, "no_resources");
    }
}

#[tokio::test]
async fn each_call_makes_new_ones_and_a_repeated_refusal_is_the_same() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    let project = vendor.project();
    let login = |made: serde_json::Value| made["credentials"]["database"]["password"].clone();
    let first = login(fetch(&house, id, project, kind("database")).await.unwrap());
    let second = login(fetch(&house, id, project, kind("database")).await.unwrap());
    assert_ne!(first, second);
    let ctx = backend(&house).await;
    let mut said = Vec::new();
    for _ in 0..3 {
        let broker = &house.broker;
        let refused = broker
            .fetch_resource_credentials(&ctx, id, vendor.paused(), kind("all"))
            .await;
        said.push(conflict(refused.err().unwrap()));
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
    nothing_is_kept(&house, &vendor.desk).await;
}
