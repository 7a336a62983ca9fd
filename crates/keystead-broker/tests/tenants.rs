//! Tenants at first sight, their members, and who acts in which.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, Plan, TRUE_KEY, ctx_at};
use keystead_broker::callers::{IssuerSettings, KeySource};
use keystead_broker::{Context, Error, NewKey};
use keystead_core::action::Role;
use keystead_core::caller::{Caller, Scope};
use keystead_core::ids::TenantId;
use keystead_core::token::KeyKind;
use keystead_testkit::issuer::{TestKey, jwks};
use serde_json::{Value, json};

const ISSUER: &str = "https://second.example";

/// A house with a second issuer, and that one's key.
async fn two_issuers() -> (House, TestKey) {
    let key = TestKey::es256("k");
    let settings = IssuerSettings {
        tenant_claim: Some("org".into()),
        role_claim: Some("org_role".into()),
        ..IssuerSettings::new(
            "second",
            ISSUER,
            &["keystead"],
            &["ES256"],
            KeySource::Jwks(jwks([&key])),
        )
    };
    let plan = Plan {
        issuers: vec![settings],
        ..Plan::default()
    };
    (House::planned(plan).await, key)
}

fn mint(house: &House, key: &TestKey, subject: &str, org: Value) -> String {
    let now = house.clock.now().seconds();
    key.mint(&json!({
        "iss": ISSUER, "aud": "keystead", "sub": subject, "iat": now, "exp": now + 600,
        "org": org, "org_role": "owner",
    }))
}

fn role(ctx: &Context) -> Role {
    match ctx.caller.as_deref() {
        Some(Caller::User { role, .. }) => *role,
        other => panic!("{other:?}"),
    }
}

fn is_not_found<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::NotFound { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_many_see_at_once_for_the_first_time_is_made_once() {
    let house = House::in_file().await;
    let (other, _store) = house.neighbour().await;
    let sights: Vec<_> = (0..16)
        .map(|n| {
            let broker = if n % 2 == 0 {
                house.broker.clone()
            } else {
                other.clone()
            };
            let token = house.jwt(&format!("user-{n}"), "acme", Role::Owner);
            tokio::spawn(async move { ctx_at(&broker, &token, None).await })
        })
        .collect();
    let mut tenants = Vec::new();
    for sight in sights {
        tenants.push(sight.await.unwrap().unwrap().tenant.unwrap());
    }
    assert!(tenants.iter().all(|tenant| *tenant == tenants[0]));
    let operator = house.operator().await;
    let all = house
        .broker
        .list_tenants(&operator, 200, None)
        .await
        .unwrap();
    assert_eq!(all.data.len(), 2, "the platform's and acme: {:?}", all.data);
    assert_eq!(house.store.tenant_keys(tenants[0]).await.unwrap().len(), 1);
    assert_eq!(
        house
            .entries(&[r#""reason":"first sight""#, r#""outcome":"allowed""#])
            .await,
        1
    );
}

#[tokio::test]
async fn one_name_of_two_issuers_is_two_tenants() {
    let (house, key) = two_issuers().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let token = mint(&house, &key, "alice", json!("acme"));
    let other = house.ctx(&token, None).await.unwrap();
    assert_ne!(alice.tenant, other.tenant);
    let made = house.add(&alice, "main", TRUE_KEY).await;
    assert!(is_not_found(
        house.broker.integration(&other, made.id).await
    ));
    // The name alone says no longer which is meant; the id does.
    let service = house.service_key("info").await;
    assert!(is_not_found(house.ctx(&service, Some("acme")).await));
    let id = alice.tenant.unwrap().to_string();
    let service = house.ctx(&service, Some(&id)).await.unwrap();
    house.broker.integration(&service, made.id).await.unwrap();
    // A user's own tenant is meant by the name that the user's own issuer has for it.
    let own = house.ctx(&token, Some("acme")).await.unwrap();
    assert_eq!(own.tenant, other.tenant);
    assert!(is_not_found(house.ctx(&token, Some(&id)).await));
}

#[tokio::test]
async fn a_second_issuer_neither_captures_nor_blocks_a_bare_name() {
    let (house, key) = two_issuers().await;
    let mallory = |name: &str| mint(&house, &key, "mallory", json!(name));
    let service = house.service_key("info").await;
    let operator = house.operator().await;
    let make = |name: &'static str| {
        house
            .broker
            .create_tenant(&operator, name.into(), None, None)
    };
    // First sight makes any name: one that is free, another issuer's, an operator's, a qualified one.
    house.ctx(&mallory("initech"), None).await.unwrap();
    let alice = house.user("alice", "acme", Role::Owner).await;
    let backstage = make("backstage").await.unwrap().id;
    for name in ["acme", "backstage", "keystead-dev|acme", "|backstage"] {
        house.ctx(&mallory(name), None).await.unwrap();
    }
    for bare in ["initech", "acme", "backstage"] {
        assert!(
            is_not_found(house.ctx(&service, Some(bare)).await),
            "{bare} is anybody's"
        );
    }
    for (name, tenant) in [
        ("keystead-dev|acme", alice.tenant.unwrap()),
        ("|backstage", backstage),
    ] {
        let ctx = house.ctx(&service, Some(name)).await.unwrap();
        assert_eq!(ctx.tenant, Some(tenant), "{name}");
    }
    for nobodys in ["keystead-dev|initech", "|acme", "none|acme", "|"] {
        assert!(
            is_not_found(house.ctx(&service, Some(nobodys)).await),
            "{nobodys}"
        );
    }
}

#[tokio::test]
async fn with_one_issuer_a_bare_name_is_that_issuers_before_an_operators() {
    let house = House::new().await;
    let service = house.service_key("info").await;
    let operator = house.operator().await;
    let mut made = Vec::new();
    for name in ["acme", "backstage"] {
        let tenant = house
            .broker
            .create_tenant(&operator, name.into(), None, None);
        made.push(tenant.await.unwrap().id);
    }
    let alice = house.user("alice", "acme", Role::Owner).await;
    let named = |name: &'static str| {
        let (house, service) = (&house, &service);
        async move { house.ctx(service, Some(name)).await.unwrap().tenant }
    };
    assert_eq!(named("acme").await, alice.tenant);
    assert_eq!(named("keystead-dev|acme").await, alice.tenant);
    assert_eq!(named("|acme").await, Some(made[0]));
    assert_eq!(named("backstage").await, Some(made[1]));
}

#[tokio::test]
async fn only_an_operator_acts_in_the_platforms_tenant() {
    let house = House::new().await;
    let platform = TenantId::PLATFORM.to_string();
    let service = house.service_key("audit,list,put").await;
    assert!(is_not_found(house.ctx(&service, Some(&platform)).await));
    let operator = house.operator().await;
    let bound = NewKey {
        tenant: Some(TenantId::PLATFORM),
        kind: KeyKind::Service,
        scopes: vec![Scope::parse("audit").unwrap()],
        ..NewKey::operator("bound")
    };
    let refused = house.broker.create_key(&operator, bound).await;
    assert!(matches!(refused.map(drop), Err(Error::Invalid(_))));
    let key = house
        .broker
        .create_key(&operator, NewKey::operator("second"))
        .await
        .unwrap();
    let named = house.ctx(key.text.expose(), Some(&platform)).await.unwrap();
    assert_eq!(named.tenant, Some(TenantId::PLATFORM));
}

#[tokio::test]
async fn a_user_without_an_organisation_owns_a_tenant_alone() {
    let (house, key) = two_issuers().await;
    let mut tenants = Vec::new();
    for token in [
        house.token("alice", None, Some(Role::Viewer)),
        house.token("bob", None, None),
        mint(&house, &key, "alice", Value::Null),
    ] {
        let ctx = house.ctx(&token, None).await.unwrap();
        assert_eq!(role(&ctx), Role::Owner);
        tenants.push(ctx.tenant.unwrap());
    }
    tenants.dedup();
    assert_eq!(tenants.len(), 3, "each user of each issuer has one");
    let again = house
        .ctx(&house.token("alice", None, None), None)
        .await
        .unwrap();
    assert_eq!(again.tenant.unwrap(), tenants[0]);
}

#[tokio::test]
async fn a_claim_cannot_name_a_users_own_tenant_nor_what_is_no_name() {
    let (house, key) = two_issuers().await;
    let victim = house
        .ctx(&mint(&house, &key, "alice", Value::Null), None)
        .await
        .unwrap();
    for (name, why) in [
        ("user:alice".to_owned(), "reserved tenant name"),
        ("user:".to_owned(), "reserved tenant name"),
        ("a".repeat(201), "unusable tenant name"),
        ("a\nb".to_owned(), "malformed claims"),
    ] {
        let before = house.entries(&[r#""outcome":"denied""#, why]).await;
        let token = mint(&house, &key, "mallory", json!(name));
        let refused = house.ctx(&token, None).await;
        assert!(matches!(refused, Err(Error::Unauthenticated)), "{name:?}");
        let left = house.entries(&[r#""outcome":"denied""#, why]).await;
        assert_eq!(left, before + 1, "{name:?}");
    }
    let mallory = house
        .ctx(
            &mint(&house, &key, "mallory", json!("acme")),
            Some("user:alice"),
        )
        .await;
    assert!(is_not_found(mallory));
    let operator = house.operator().await;
    let all = house
        .broker
        .list_tenants(&operator, 200, None)
        .await
        .unwrap();
    assert!(
        all.data
            .iter()
            .all(|tenant| Some(tenant.id) == victim.tenant
                || tenant.name == "platform"
                || tenant.name == "acme")
    );
}

#[tokio::test]
async fn the_tenant_header_opens_no_other_tenant() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let bob = house.user("bob", "globex", Role::Owner).await;
    let (acme, globex) = (alice.tenant.unwrap(), bob.tenant.unwrap());
    let (acme_id, globex_id) = (acme.to_string(), globex.to_string());
    let jwt = house.jwt("alice", "acme", Role::Owner);
    for own in ["acme", &acme_id] {
        assert_eq!(house.ctx(&jwt, Some(own)).await.unwrap().tenant, Some(acme));
    }
    let platform = TenantId::PLATFORM.to_string();
    for other in [
        "globex", &globex_id, "nobody", "", "platform", &platform, "ten_1", "a\0b",
    ] {
        assert!(
            is_not_found(house.ctx(&jwt, Some(other)).await),
            "{other:?}"
        );
    }

    let free = house.key("free", "info", None).await;
    for (name, tenant) in [("acme", acme), (&*globex_id, globex)] {
        assert_eq!(
            house.ctx(&free, Some(name)).await.unwrap().tenant,
            Some(tenant)
        );
    }
    let unnamed = house.ctx(&free, None).await.unwrap();
    let list = house
        .broker
        .list_integrations(&unnamed, Default::default())
        .await;
    assert!(
        matches!(list, Err(Error::Malformed(_))),
        "a tenant has to be named"
    );
    let bound = house.key("bound", "info", Some(acme)).await;
    for own in [None, Some("acme"), Some(&*acme_id)] {
        assert_eq!(house.ctx(&bound, own).await.unwrap().tenant, Some(acme));
    }
    for other in ["globex", &globex_id] {
        assert!(
            is_not_found(house.ctx(&bound, Some(other)).await),
            "{other}"
        );
    }
}

#[tokio::test]
async fn a_member_acts_in_another_tenant_with_the_role_given_there() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let made = house.add(&alice, "main", TRUE_KEY).await;
    let bob = house.jwt("bob", "globex", Role::Owner);
    assert!(is_not_found(house.ctx(&bob, Some("acme")).await));
    let put = |role| {
        house
            .broker
            .put_member(&alice, "keystead-dev".into(), "bob".into(), role)
    };
    for role_given in [Role::Viewer, Role::Admin, Role::Member] {
        put(role_given).await.unwrap();
        let there = house.ctx(&bob, Some("acme")).await.unwrap();
        assert_eq!((there.tenant, role(&there)), (alice.tenant, role_given));
        house.broker.integration(&there, made.id).await.unwrap();
        let deleted = house
            .broker
            .delete_integration(&there, made.id, Some("\"9\"".into()))
            .await;
        assert_eq!(
            matches!(deleted, Err(Error::Denied { .. })),
            role_given < Role::Admin
        );
    }
    // At home bob is who the token says.
    assert_eq!(role(&house.ctx(&bob, None).await.unwrap()), Role::Owner);
    let members = house.broker.list_members(&alice).await.unwrap();
    assert_eq!(members.len(), 1);
    house
        .broker
        .delete_member(&alice, members[0].id)
        .await
        .unwrap();
    assert!(is_not_found(house.ctx(&bob, Some("acme")).await));
    assert!(is_not_found(
        house.broker.delete_member(&alice, members[0].id).await
    ));
    // Another issuer's user of the same name is somebody else.
    let unknown = house
        .broker
        .put_member(&alice, "third".into(), "bob".into(), Role::Viewer)
        .await;
    assert!(matches!(unknown, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn only_owners_and_operators_manage_members() {
    let house = House::new().await;
    for (role, may) in [
        (Role::Viewer, false),
        (Role::Member, false),
        (Role::Admin, false),
        (Role::Owner, true),
    ] {
        let ctx = house.user("carol", "acme", role).await;
        let put = house
            .broker
            .put_member(&ctx, "keystead-dev".into(), "bob".into(), Role::Viewer)
            .await;
        assert_eq!(put.is_ok(), may, "{role}");
    }
    let operator = house.ctx(&house.operator, Some("acme")).await.unwrap();
    let put = house
        .broker
        .put_member(&operator, "keystead-dev".into(), "dan".into(), Role::Owner);
    put.await.unwrap();
}

#[tokio::test]
async fn a_role_that_was_taken_down_is_down_on_every_node() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let (other, _store) = house.neighbour().await;
    // The token names no role: the member's row decides.
    let bob = house.token("bob", Some("acme"), None);
    let put = |role| {
        house
            .broker
            .put_member(&alice, "keystead-dev".into(), "bob".into(), role)
    };
    let seen = async |broker| role(&ctx_at(broker, &bob, None).await.unwrap());
    assert_eq!(seen(&other).await, Role::Viewer);
    for given in [Role::Admin, Role::Member, Role::Owner, Role::Viewer] {
        put(given).await.unwrap();
        assert_eq!(
            seen(&house.broker).await,
            given,
            "at once on the node that changed it"
        );
        other.hear_changes().await.unwrap();
        assert_eq!(seen(&other).await, given);
    }
}

#[tokio::test]
async fn a_deleted_tenant_takes_everything_with_it() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let bob = house.user("bob", "globex", Role::Owner).await;
    house.connected(&alice).await;
    let his = house.connected(&bob).await;
    let bound = house.key("bound", "info", alice.tenant).await;
    let tenant = alice.tenant.unwrap();
    let refused = house.broker.delete_tenant(&bob, tenant).await;
    assert!(is_not_found(refused));
    house.broker.delete_tenant(&alice, tenant).await.unwrap();
    assert!(matches!(
        house.ctx(&bound, None).await,
        Err(Error::Unauthenticated)
    ));
    let counted = "for table in ('integration', 'credential', 'member', 'api_key', 'idempotency'):\n  \
        print(db.execute('SELECT count(*) FROM ' + table + ' WHERE tenant_id = ?', arg).fetchone()[0])\n\
        print(db.execute('SELECT max(length(sealed)) FROM tenant_key WHERE tenant_id = ?', arg).fetchone()[0])";
    let left = house.tamper(counted, &[tenant.to_string()]);
    assert!(left.split_whitespace().all(|count| count == "0"), "{left}");
    // The name is free again, and means a new tenant.
    let again = house
        .ctx(&house.jwt("alice", "acme", Role::Owner), None)
        .await
        .unwrap();
    assert_ne!(again.tenant, Some(tenant));
    house.broker.integration(&bob, his).await.unwrap();
    house.store.prove_log().await.unwrap();
}
