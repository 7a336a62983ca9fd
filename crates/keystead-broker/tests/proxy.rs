//! Using a credential: what leaves, what comes back, and what is left on record.
#![allow(clippy::unwrap_used)]

mod house;

use std::time::Duration;

use bytes::Bytes;
use house::{House, Plan, TRUE_KEY, call_at};
use http::Request;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use keystead_broker::{Changes, Context, Error, ProxySettings, Selector, Settings};
use keystead_core::action::Role;
use keystead_core::ids::IntegrationId;
use serde_json::json;
use tokio::sync::mpsc;

async fn sample(house: &House, owner: &Context) -> IntegrationId {
    let made = house
        .create(owner, "sample", "sample", json!(TRUE_KEY), None)
        .await;
    let id = made.unwrap().integration.id;
    house.settled(owner, id).await;
    id
}

#[tokio::test]
async fn a_credential_that_the_provider_echoes_is_taken_out_and_on_record() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = sample(&house, &alice).await;
    let echoed = [
        r#""outcome":"failed","reason":"credential echoed""#,
        "alice",
    ];
    let answer = call_at(&house.broker, &alice, Selector::Id(id), "/v1/models")
        .await
        .unwrap();
    answer.into_body().collect().await.unwrap();
    assert_eq!(house.entries(&echoed).await, 0);
    let answer = call_at(&house.broker, &alice, Selector::Id(id), "/echo")
        .await
        .unwrap();
    let headers = format!("{:?}", answer.headers());
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    assert!(
        !headers.contains("canary") && !body.contains("canary"),
        "{headers} {body}"
    );
    house.comes_to_be_recorded(&echoed).await;
    assert_eq!(house.entries(&echoed).await, 1, "once for one answer");
    house.log_is_clean().await;
}

#[tokio::test]
async fn what_is_made_of_a_credential_and_placed_does_not_come_back_either() {
    let aws = json!({"access_key_id": "AKIACANARYCANARYCANA", "secret_access_key": "canary0123456789canary0123456789canary01", "session_token": "canary-session/token+0123456789"});
    let kling =
        json!({"access_key": "canary-access-key", "secret_key": "canary-secret-0123456789"});
    let plan = Plan {
        dial_upstream: vec!["aws_access_key", "kling"],
        ..Plan::default()
    };
    let house = House::planned(plan).await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    for (type_, credential) in [
        ("aws_access_key", aws),
        ("kling", kling),
        ("sample", json!(TRUE_KEY)),
    ] {
        let made = house.create(&alice, type_, type_, credential, None).await;
        let id = made.unwrap().integration.id;
        let answer = call_at(&house.broker, &alice, Selector::Id(id), "/echo")
            .await
            .unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let seen = house.upstream.seen();
        let sent = seen
            .iter()
            .rfind(|it| it.target == "/echo")
            .unwrap()
            .headers["authorization"]
            .to_str()
            .unwrap();
        // The last part alone is enough: a signature, or the whole of a token.
        let secret = sent
            .rsplit([' ', '=', '.'])
            .find(|it| !it.is_empty())
            .unwrap();
        let told = format!("{:?} {}", head.headers, String::from_utf8_lossy(&body));
        assert!(told.contains("[redacted]"), "{type_}: {told}");
        assert!(!told.contains(secret), "{type_}: {secret} in {told}");
    }
}

#[tokio::test]
async fn a_body_over_the_configured_limit_is_told_that_limit() {
    let house = House::with(Settings {
        proxy: ProxySettings {
            max_request_body: 1000,
            max_signed_body: 500,
            ..ProxySettings::default()
        },
        ..Settings::default()
    })
    .await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = sample(&house, &alice).await;
    let aws = json!({"access_key_id": "AKIACANARYCANARYCANA", "secret_access_key": "canary0123456789canary0123456789canary01"});
    let signed = house
        .create(&alice, "aws", "aws_access_key", aws, None)
        .await;
    let signed = signed.unwrap().integration.id;
    for (id, path, limit) in [(id, "/mirror", 1000), (signed, "/", 500)] {
        let body = Full::new(Bytes::from(vec![b'x'; 1001]));
        let request = Request::post("/").body(body).unwrap();
        let to = Selector::Id(id);
        let sent = house
            .broker
            .forward(&alice, &to, None, path, None, request)
            .await;
        let fault = sent.err().unwrap();
        assert!(
            matches!(fault, Error::TooLarge { most } if most == limit),
            "{fault:?}"
        );
    }
    assert_eq!(house.entries(&[r#""reason":"too large""#]).await, 2);
}

#[tokio::test]
async fn a_call_outside_of_the_providers_paths_is_refused_before_anything_is_opened() {
    let house = House::new().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = house.connected(&alice).await;
    let heard = house.upstream.seen().len();
    let allowed = house
        .entries(&[r#""action":"use""#, r#""outcome":"allowed""#])
        .await;
    for path in [
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/admin",
        "/v1\\x",
        "/v1//x",
        "/V1/models",
        "/v1/%252e%252e/x",
    ] {
        let refused = call_at(&house.broker, &alice, Selector::Id(id), path).await;
        assert!(matches!(refused, Err(Error::Malformed(_))), "{path}");
    }
    assert_eq!(house.upstream.seen().len(), heard);
    let after = house
        .entries(&[r#""action":"use""#, r#""outcome":"allowed""#])
        .await;
    assert_eq!(after, allowed);
    assert_eq!(
        house
            .entries(&[r#""action":"use""#, r#""reason":"malformed""#])
            .await,
        7
    );
}

/// A body that comes when the test says so.
fn slow_body() -> (
    mpsc::Sender<Bytes>,
    impl hyper::body::Body<Data = Bytes, Error = std::io::Error> + Send + Unpin + 'static,
) {
    let (sender, pieces) = mpsc::channel::<Bytes>(1);
    let frames = futures_util::stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((Ok::<_, std::io::Error>(Frame::data(piece)), pieces))
    });
    (sender, StreamBody::new(Box::pin(frames)))
}

#[tokio::test]
async fn a_body_that_is_held_to_be_signed_does_not_outlive_the_right_to_the_call() {
    for what in ["disabled", "replaced", "revoked"] {
        let house = aws_house().await;
        let alice = house.user("alice", "acme", Role::Owner).await;
        let aws = json!({"access_key_id": "AKIACANARYCANARYCANA", "secret_access_key": "canary0123456789canary0123456789canary01"});
        let made = house
            .create(&alice, "aws", "aws_access_key", aws.clone(), None)
            .await;
        let id = made.unwrap().integration.id;
        house.settled(&alice, id).await;
        let key = house.service_key("use").await;
        let service = house.ctx(&key, Some("acme")).await.unwrap();
        let heard = house.upstream.seen().len();
        let (sender, body) = slow_body();
        sender.send(Bytes::from_static(b"first")).await.unwrap();
        let broker = house.broker.clone();
        let call = tokio::spawn(async move {
            let request = Request::post("/").body(body).unwrap();
            broker
                .forward(&service, &Selector::Id(id), None, "/", None, request)
                .await
        });
        // The channel holds one: the second is taken once the call has begun to read.
        sender.send(Bytes::from_static(b"second")).await.unwrap();
        let change = Changes {
            disabled: (what == "disabled").then_some(true),
            credentials: (what == "replaced").then_some(aws),
            ..Changes::default()
        };
        match what {
            "revoked" => house.revoke("backend").await,
            _ => drop(
                house
                    .broker
                    .update_integration(&alice, id, change, None)
                    .await
                    .unwrap(),
            ),
        }
        if what == "replaced" {
            house.settled(&alice, id).await;
        }
        let tried = house.upstream.seen().len() - heard;
        drop(sender);
        let refused = call.await.unwrap();
        assert!(
            matches!(refused, Err(Error::Denied { .. })),
            "{what}: {:?}",
            refused.err()
        );
        assert_eq!(
            house.upstream.seen().len() - heard,
            tried,
            "{what}: it was sent"
        );
        let used = house
            .entries(&[r#""action":"use""#, r#""outcome":"allowed""#])
            .await;
        assert_eq!(used, 0, "{what}: it was opened");
    }
}

async fn aws_house() -> House {
    aws_house_with(ProxySettings::default()).await
}

async fn aws_house_with(proxy: ProxySettings) -> House {
    let plan = Plan {
        dial_upstream: vec!["aws_access_key"],
        settings: Settings {
            proxy,
            ..Settings::default()
        },
        ..Plan::default()
    };
    House::planned(plan).await
}

async fn aws(house: &House, owner: &Context) -> IntegrationId {
    let aws = json!({"access_key_id": "AKIACANARYCANARYCANA", "secret_access_key": "canary0123456789canary0123456789canary01"});
    let made = house
        .create(owner, "aws", "aws_access_key", aws, None)
        .await;
    let id = made.unwrap().integration.id;
    house.settled(owner, id).await;
    id
}

#[tokio::test]
async fn a_body_to_be_signed_that_never_ends_is_given_up() {
    let (soon, never) = (Duration::from_millis(50), Duration::from_secs(3600));
    // The one that stands still, and the one that drips.
    for (idle, whole, drips) in [(soon, never, false), (never, soon, true)] {
        let house = aws_house_with(ProxySettings {
            idle_timeout: idle,
            head_timeout: whole,
            ..ProxySettings::default()
        })
        .await;
        let alice = house.user("alice", "acme", Role::Owner).await;
        let id = aws(&house, &alice).await;
        let heard = house.upstream.seen().len();
        let (sender, body) = slow_body();
        let drip = tokio::spawn(async move {
            sender.send(Bytes::from_static(b"x")).await.unwrap();
            while drips && sender.send(Bytes::from_static(b"x")).await.is_ok() {
                tokio::task::yield_now().await;
            }
            sender.closed().await;
        });
        let request = Request::post("/").body(body).unwrap();
        let to = Selector::Id(id);
        let call = house.broker.forward(&alice, &to, None, "/", None, request);
        let given_up = tokio::time::timeout(Duration::from_secs(20), call).await;
        let fault = given_up.unwrap().err().unwrap();
        assert!(
            matches!(&fault, Error::Malformed(why) if why.contains("in time")),
            "{fault:?}"
        );
        drip.await.unwrap();
        assert_eq!(house.upstream.seen().len(), heard);
    }
}

#[tokio::test]
async fn bodies_held_to_be_signed_share_one_bound_and_give_back_what_they_took() {
    let house = aws_house().await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = aws(&house, &alice).await;
    let large = || Bytes::from(vec![b'x'; 16 << 20]);
    let mut calls = Vec::new();
    let post = |body| {
        let (broker, alice) = (house.broker.clone(), alice.clone());
        let request = Request::post("/mirror").body(body).unwrap();
        tokio::spawn(async move {
            let to = Selector::Id(id);
            let sent = broker.forward(&alice, &to, None, "/mirror", None, request);
            let answer = sent.await?;
            // All of it has gone up once all of it has come down.
            answer.into_body().collect().await.unwrap();
            Ok::<_, Error>(())
        })
    };
    for _ in 0..4 {
        let (sender, body) = slow_body();
        let call = post(body);
        sender.send(large()).await.unwrap();
        // The channel holds one: what is held is so once the second is taken.
        sender.send(Bytes::new()).await.unwrap();
        sender.send(Bytes::new()).await.unwrap();
        calls.push((sender, call));
    }
    let (sender, body) = slow_body();
    sender.send(Bytes::from_static(b"x")).await.unwrap();
    let fault = post(body).await.unwrap().err().unwrap();
    assert!(matches!(fault, Error::Unavailable { .. }), "{fault:?}");
    let (sender, call) = calls.pop().unwrap();
    drop(sender);
    call.await.unwrap().unwrap();
    // The others are given up by their callers.
    for (_, call) in calls {
        call.abort();
        let _ = call.await;
    }
    for _ in 0..4 {
        let (sender, body) = slow_body();
        let call = post(body);
        sender.send(large()).await.unwrap();
        drop(sender);
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_providers_fault_is_an_answer_and_an_unreachable_one_leaves_its_entry() {
    let house = House::planned(Plan {
        dial: vec![
            ("anthropic", "http://127.0.0.1:1".to_owned()),
            ("xai", "http://192.168.0.1:1".to_owned()),
        ],
        ..Plan::default()
    })
    .await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = sample(&house, &alice).await;
    let answer = call_at(&house.broker, &alice, Selector::Id(id), "/status/500")
        .await
        .unwrap();
    assert_eq!(answer.status(), 500);
    for type_ in ["anthropic", "xai"] {
        let made = house
            .create(&alice, type_, type_, json!(TRUE_KEY), None)
            .await
            .unwrap();
        let to = Selector::Id(made.integration.id);
        let away = call_at(&house.broker, &alice, to, "/v1/models").await;
        let fault = away.err().unwrap();
        assert!(matches!(fault, Error::Upstream { .. }), "{fault:?}");
        assert!(!fault.to_string().contains("canary"));
        let target = made.integration.id.to_string();
        let left = [
            r#""action":"use""#,
            &*target,
            r#""reason":"upstream unreachable""#,
        ];
        assert_eq!(house.entries(&left).await, 1, "{type_}");
    }
    house.log_is_clean().await;
}
