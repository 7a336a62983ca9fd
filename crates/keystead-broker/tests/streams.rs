//! Answers under way end when the right to them does.
#![allow(clippy::unwrap_used)]

mod house;

use std::time::Duration;

use bytes::Bytes;
use house::{House, NOON, Plan, TRUE_KEY, call_at, ctx_at};
use http_body_util::BodyExt;
use keystead_broker::net::ProxyBody;
use keystead_broker::{Broker, Changes, Clock, Context, Error, NewKey, Selector};
use keystead_core::action::Role;
use keystead_core::caller::Scope;
use keystead_core::ids::IntegrationId;
use keystead_core::token::KeyKind;
use serde_json::json;

/// An integration of the sample provider, whose upstream has streams.
async fn sample(house: &House, owner: &Context, name: &str) -> IntegrationId {
    let made = house
        .create(owner, name, "sample", json!(TRUE_KEY), None)
        .await;
    let id = made.unwrap().integration.id;
    house.settled(owner, id).await;
    id
}

/// A stream that has begun and has no end.
async fn stream(broker: &Broker, ctx: &Context, id: IntegrationId) -> ProxyBody {
    let answer = call_at(broker, ctx, Selector::Id(id), "/drip").await;
    let mut body = answer.unwrap().into_body();
    assert!(next(&mut body).await.is_ok());
    body
}

/// What comes next: bytes, or how it ended.
async fn next(body: &mut ProxyBody) -> Result<Bytes, &'static str> {
    let frame = tokio::time::timeout(Duration::from_secs(5), body.frame()).await;
    match frame.map_err(|_| "nothing came within five seconds")? {
        None => Err("it ended"),
        Some(Ok(frame)) => frame.into_data().map_err(|_| "trailers"),
        Some(Err(_)) => Err("it was cut"),
    }
}

/// It is cut, though bytes may still be on their way.
async fn is_cut(body: &mut ProxyBody) -> bool {
    let cut = async {
        loop {
            match next(body).await {
                Ok(_) => {}
                Err(how) => return how == "it was cut",
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(5), cut).await;
    in_time.unwrap_or(false)
}

/// It goes on: what was cut would not bring another byte.
async fn goes_on(body: &mut ProxyBody) -> bool {
    next(body).await.is_ok() && next(body).await.is_ok()
}

#[tokio::test]
async fn a_stream_is_cut_when_its_integration_is_disabled_replaced_or_deleted() {
    for what in ["disabled", "replaced", "deleted"] {
        let house = House::new().await;
        let alice = house.user("alice", "acme", Role::Owner).await;
        let bob = house.user("bob", "acme", Role::Member).await;
        let (id, other) = (
            sample(&house, &alice, "one").await,
            sample(&house, &alice, "two").await,
        );
        let mut cut = stream(&house.broker, &bob, id).await;
        let mut kept = stream(&house.broker, &bob, other).await;
        let change = Changes {
            disabled: (what == "disabled").then_some(true),
            credentials: (what == "replaced").then(|| json!(TRUE_KEY)),
            ..Changes::default()
        };
        match what {
            "deleted" => house
                .broker
                .delete_integration(&alice, id, None)
                .await
                .unwrap(),
            _ => drop(
                house
                    .broker
                    .update_integration(&alice, id, change, None)
                    .await
                    .unwrap(),
            ),
        }
        house.broker.check_streams().await;
        assert!(is_cut(&mut cut).await, "{what}");
        assert!(goes_on(&mut kept).await, "{what} cut another stream");
    }
}

#[tokio::test]
async fn a_stream_is_cut_when_its_key_is_revoked_and_no_other() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = sample(&house, &alice, "one").await;
    let (one, two) = (
        house.key("one", "use", None).await,
        house.key("two", "use", None).await,
    );
    let (one, two) = (
        house.ctx(&one, Some("acme")).await.unwrap(),
        house.ctx(&two, Some("acme")).await.unwrap(),
    );
    let mut cut = stream(&house.broker, &one, id).await;
    let mut kept = stream(&house.broker, &two, id).await;
    house.revoke("one").await;
    house.broker.check_streams().await;
    assert!(is_cut(&mut cut).await);
    assert!(goes_on(&mut kept).await);
}

#[tokio::test]
async fn a_stream_whose_key_was_revoked_before_it_began_is_cut_too() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = sample(&house, &alice, "one").await;
    let key = house.service_key("use").await;
    // Proven, then revoked, then the call: as when the two meet.
    let proven = house.ctx(&key, Some("acme")).await.unwrap();
    house.revoke("backend").await;
    // This node also hears of its own change, which is not to be what cuts the stream.
    house.broker.hear_changes().await.unwrap();
    let mut body = stream(&house.broker, &proven, id).await;
    house.broker.check_streams().await;
    assert!(is_cut(&mut body).await);
}

#[tokio::test]
async fn a_stream_is_cut_when_its_key_or_token_ends_and_no_other() {
    let (clock, hand) = Clock::fixed(NOON);
    let house = House::planned(Plan {
        clock,
        ..Plan::default()
    })
    .await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = sample(&house, &alice, "one").await;
    let operator = house.operator().await;
    let new = NewKey {
        kind: KeyKind::Service,
        name: "short".into(),
        tenant: None,
        scopes: vec![Scope::parse("use").unwrap()],
        addresses: Vec::new(),
        expires_at: Some(NOON.plus_seconds(1800)),
    };
    let short = house.broker.create_key(&operator, new).await.unwrap();
    let short = house.ctx(short.text.expose(), Some("acme")).await.unwrap();
    let long = house.key("long", "use", None).await;
    let long = house.ctx(&long, Some("acme")).await.unwrap();
    let mut of_key = stream(&house.broker, &short, id).await;
    let mut of_token = stream(&house.broker, &alice, id).await;
    let mut kept = stream(&house.broker, &long, id).await;
    let turn = async |seconds| {
        hand.set(NOON.plus_seconds(seconds));
        house.broker.hear_changes().await.unwrap();
        house.broker.check_streams().await;
    };
    turn(1799).await;
    assert!(goes_on(&mut of_key).await);
    turn(1800).await;
    assert!(is_cut(&mut of_key).await);
    assert!(goes_on(&mut of_token).await);
    // The token's own hour, and the leeway that it is taken with.
    turn(3660).await;
    assert!(is_cut(&mut of_token).await);
    assert!(goes_on(&mut kept).await);
}

#[tokio::test]
async fn a_stream_of_a_member_is_cut_when_the_place_is_taken_away() {
    for role in [None, Some(Role::Viewer)] {
        let house = House::new().await;
        let alice = house.user("alice", "acme", Role::Owner).await;
        let id = sample(&house, &alice, "one").await;
        let issuer = || "keystead-dev".to_owned();
        let put = |role| {
            house
                .broker
                .put_member(&alice, issuer(), "bob".into(), role)
        };
        let member = put(Role::Member).await.unwrap();
        let bob = house.jwt("bob", "globex", Role::Owner);
        let bob = house.ctx(&bob, Some("acme")).await.unwrap();
        let mut body = stream(&house.broker, &bob, id).await;
        put(Role::Admin).await.unwrap();
        house.broker.check_streams().await;
        assert!(goes_on(&mut body).await, "more is no reason to cut");
        match role {
            None => house.broker.delete_member(&alice, member.id).await.unwrap(),
            Some(role) => drop(put(role).await.unwrap()),
        }
        house.broker.check_streams().await;
        assert!(is_cut(&mut body).await);
    }
}

#[tokio::test]
async fn what_another_node_took_back_cuts_streams_here() {
    let house = House::in_file().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = sample(&house, &alice, "one").await;
    let key = house.service_key("use").await;
    let (other, _store) = house.neighbour().await;
    let ctx = ctx_at(&other, &key, Some("acme")).await.unwrap();
    let mut body = stream(&other, &ctx, id).await;
    house.revoke("backend").await;
    other.hear_changes().await.unwrap();
    other.check_streams().await;
    assert!(is_cut(&mut body).await);
}

#[tokio::test]
async fn by_itself_a_broker_cuts_within_five_seconds() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = sample(&house, &alice, "one").await;
    let mut body = stream(&house.broker, &alice, id).await;
    let began = std::time::Instant::now();
    house
        .broker
        .delete_integration(&alice, id, None)
        .await
        .unwrap();
    assert!(is_cut(&mut body).await);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_call_that_is_cut_before_its_answer_is_denied_and_recorded() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = sample(&house, &alice, "one").await;
    let (broker, bob) = (
        house.broker.clone(),
        house.user("bob", "acme", Role::Member).await,
    );
    let heard = house.upstream.seen().len();
    let call = tokio::spawn(async move { call_at(&broker, &bob, Selector::Id(id), "/hang").await });
    while house.upstream.seen().len() == heard {
        tokio::task::yield_now().await;
    }
    house
        .broker
        .delete_integration(&alice, id, None)
        .await
        .unwrap();
    house.broker.check_streams().await;
    let cut = call.await.unwrap();
    assert!(matches!(cut, Err(Error::Denied { .. })), "{:?}", cut.err());
    assert_eq!(
        house
            .entries(&["bob", r#""outcome":"failed","reason":"denied""#])
            .await,
        1
    );
}
