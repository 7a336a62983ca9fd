//! How often is too often, and that a flood fills neither the log nor the store.
#![allow(clippy::unwrap_used)]

mod house;

use std::collections::HashMap;
use std::net::IpAddr;

use house::{House, NOON, Plan};
use keystead_broker::{Broker, Clock, ClockHand, Error, Limits, Rate, Selector, Settings};
use keystead_core::action::Role;

fn per_minute(count: u32) -> Rate {
    Rate { count, seconds: 60 }
}

async fn house(limits: Limits) -> (House, ClockHand) {
    let (clock, hand) = Clock::fixed(NOON);
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    let plan = Plan {
        settings,
        clock,
        ..Plan::default()
    };
    (House::planned(plan).await, hand)
}

fn wait<T>(result: Result<T, Error>) -> u64 {
    match result {
        Err(Error::Limited { retry_after }) => retry_after,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was admitted"),
    }
}

#[tokio::test]
async fn each_kind_of_caller_has_its_own_limit_and_is_told_when_to_come_back() {
    let (house, hand) = house(Limits {
        user: per_minute(3),
        service: per_minute(5),
        ..Limits::default()
    })
    .await;
    let key = house.service_key("info").await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    for (token, most) in [(&alice, 3), (&key, 5)] {
        for _ in 0..most {
            house.ctx(token, Some("acme")).await.unwrap();
        }
        let seconds = wait(house.ctx(token, Some("acme")).await);
        assert!((1..=60).contains(&seconds), "{seconds}");
        // Another token of the same user is the same caller.
        let again = house.ctx(token, None).await;
        wait(again);
    }
    let bob = house.jwt("bob", "acme", Role::Owner);
    house.ctx(&bob, None).await.unwrap();
    hand.set(NOON.plus_seconds(120));
    house.ctx(&alice, None).await.unwrap();
}

#[tokio::test]
async fn a_flood_on_a_limit_leaves_one_entry_per_window() {
    let (house, hand) = house(Limits {
        user: per_minute(2),
        ..Limits::default()
    })
    .await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let flood = || async {
        for _ in 0..50 {
            let _ = house.ctx(&alice, None).await;
        }
    };
    let limited = [r#""outcome":"denied""#, r#""reason":"limited""#, "alice"];
    flood().await;
    assert_eq!(house.entries(&limited).await, 1);
    hand.set(NOON.plus_seconds(180));
    flood().await;
    assert_eq!(house.entries(&limited).await, 2);
}

#[tokio::test]
async fn an_integration_has_a_limit_of_its_own_over_all_callers() {
    let (house, hand) = house(Limits {
        integration: HashMap::from([("openai".to_owned(), per_minute(3))]),
        ..Limits::default()
    })
    .await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let bob = house.user("bob", "acme", Role::Owner).await;
    let id = house.connected(&alice).await;
    let heard = house.upstream.seen().len();
    for ctx in [&alice, &bob, &alice] {
        house.models(ctx, Selector::Id(id)).await.unwrap();
    }
    for ctx in [&alice, &bob] {
        for _ in 0..20 {
            wait(house.models(ctx, Selector::Id(id)).await);
            wait(house.models(ctx, Selector::Type("openai".into())).await);
        }
    }
    assert_eq!(house.upstream.seen().len(), heard + 3);
    let limited = [r#""action":"use""#, r#""reason":"limited""#];
    assert_eq!(house.entries(&limited).await, 1);
    // Another integration of the same provider has its own count.
    let two = house.add(&alice, "two", house::TRUE_KEY).await.id;
    house.models(&alice, Selector::Id(two)).await.unwrap();
    hand.set(NOON.plus_seconds(120));
    house.models(&alice, Selector::Id(id)).await.unwrap();
}

async fn as_nobody(broker: &Broker, token: Option<&str>, from: &str) -> Result<(), Error> {
    let address: IpAddr = from.parse().unwrap();
    let request = broker.new_request_id();
    let proven = broker.identify(token, None, request, Some(address)).await;
    proven.map(drop)
}

#[tokio::test]
async fn whoever_proves_nothing_is_limited_by_address() {
    let (house, _) = house(Limits {
        anonymous: per_minute(5),
        ..Limits::default()
    })
    .await;
    let entries_before = house.log().await.len();
    let tokens = [
        None,
        Some("kss_canary"),
        Some("canary"),
        Some("a.b.c"),
        Some(""),
    ];
    for token in tokens {
        let refused = as_nobody(&house.broker, token, "192.0.2.1").await;
        assert!(matches!(refused, Err(Error::Unauthenticated)));
    }
    for token in tokens.iter().cycle().take(100) {
        wait(as_nobody(&house.broker, *token, "192.0.2.1").await);
    }
    let left = house.log().await.len() - entries_before;
    assert_eq!(left, 6, "five failures, and that the limit was reached");
    // Another address is another caller; one customer's IPv6 network is one.
    for address in ["192.0.2.2", "2001:db8:0:1::1"] {
        let refused = as_nobody(&house.broker, None, address).await;
        assert!(matches!(refused, Err(Error::Unauthenticated)));
    }
    for host in 2..6 {
        let address = format!("2001:db8:0:1::{host}");
        let _ = as_nobody(&house.broker, None, &address).await;
    }
    wait(as_nobody(&house.broker, None, "2001:db8:0:1:ffff::9").await);
    house.log_is_clean().await;
}

#[tokio::test]
async fn a_full_address_has_no_new_key_looked_up_and_keeps_no_known_one_out() {
    let (house, hand) = house(Limits {
        anonymous: per_minute(5),
        ..Limits::default()
    })
    .await;
    let (known, new) = (
        house.key("known", "info", None).await,
        house.key("new", "info", None).await,
    );
    let ask = |key: &str, from: &'static str| {
        let (broker, key) = (house.broker.clone(), key.to_owned());
        async move { as_nobody(&broker, Some(&key), from).await }
    };
    ask(&known, "192.0.2.1").await.unwrap();
    for _ in 0..5 {
        let _ = as_nobody(&house.broker, None, "192.0.2.1").await;
    }
    wait(ask(&new, "192.0.2.1").await);
    ask(&new, "192.0.2.2").await.unwrap();
    // What was proven here before is proven again, though it is no longer remembered as such.
    hand.set(NOON.plus_seconds(61));
    house.broker.hear_changes().await.unwrap();
    for _ in 0..5 {
        let _ = as_nobody(&house.broker, None, "192.0.2.1").await;
    }
    wait(as_nobody(&house.broker, None, "192.0.2.1").await);
    ask(&known, "192.0.2.1").await.unwrap();
}

#[tokio::test]
async fn whoever_tries_the_names_of_tenants_is_limited_too() {
    let (house, _) = house(Limits {
        anonymous: per_minute(5),
        ..Limits::default()
    })
    .await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    house.ctx(&alice, None).await.unwrap();
    let before = house.log().await.len();
    let mut limited = 0;
    for n in 0..50 {
        match house.ctx(&alice, Some(&format!("guess-{n}"))).await {
            Err(Error::NotFound { .. }) => {}
            Err(Error::Limited { .. }) => limited += 1,
            other => panic!("{:?}", other.err()),
        }
    }
    assert_eq!(limited, 45);
    assert_eq!(house.log().await.len() - before, 6);
    // Who keeps to the own tenant is served on.
    house.ctx(&alice, None).await.unwrap();
}
