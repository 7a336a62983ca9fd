//! Rotation at providers that are played strictly: what it does, for whom, and when it does not.
#![allow(clippy::unwrap_used)]

mod house;
mod keysmith;

use std::time::{Duration, Instant};

use house::{House, NOON, call_at};
use keysmith::{ALL, DAY, MINUTE, Scene, quiet};
use keystead_broker::{Broker, Error, NewIntegration, Schedule, Selector, Status};
use keystead_core::action::Role;
use keystead_core::provider::rotation::Step;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn every_provider_is_rotated_and_rotated_again() {
    for id in ALL {
        let scene = Scene::new(id).await;
        let first = scene.keys();
        assert_eq!(scene.rotate().await.step, Step::Create, "{id}");
        let tested = scene.until(Step::Test).await;
        assert!(tested.next.unwrap() > NOON, "{id}: it is given time");
        assert_eq!(
            (scene.version().await, scene.provider.world().keys.len()),
            (1, 2),
            "{id}"
        );
        let grace = scene.through(Step::Grace, MINUTE).await;
        let seen = scene.seen().await;
        assert_eq!(
            (seen.credential_version, seen.status),
            (2, Status::Connected),
            "{id}"
        );
        assert!(grace.last.is_some());
        assert_eq!(
            scene.provider.world().active().len(),
            2,
            "{id}: the old one still works"
        );
        scene.works().await;
        let end = scene.through(Step::Idle, 2 * DAY).await;
        assert_eq!(end.detail, None, "{id}");
        assert_eq!(end.next, None);
        let second = scene.keys();
        assert_eq!(second.len(), 1, "{id}");
        assert_ne!(first, second, "{id}");
        scene.works().await;
        // Now there is a stranger's key beside it, and the one in use is known all the same.
        let stranger = scene.provider.add(Some("by hand"));
        let alice = scene.house.user("alice", "acme", Role::Owner).await;
        scene
            .broker()
            .rotate_integration(&alice, scene.id)
            .await
            .unwrap();
        let end = scene.through(Step::Idle, 2 * DAY).await;
        assert_eq!((end.detail, scene.version().await), (None, 3), "{id}");
        let third = scene.keys();
        assert!(
            third.contains(&stranger) && third.len() == 2 && !third.contains(&second[0]),
            "{id}"
        );
        scene.works().await;
        scene.is_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_keeps_the_form_in_which_it_was_given() {
    let scene = Scene::new("sendgrid").await;
    let key = scene.house.service_key("reveal").await;
    let backend = scene.house.ctx(&key, Some("acme")).await.unwrap();
    scene.rotate().await;
    scene.through(Step::Grace, MINUTE).await;
    let out = scene.house.reveal(&backend, scene.id).await.unwrap();
    assert_eq!(out["version"], 2);
    assert!(
        out["credentials"]
            .as_str()
            .unwrap()
            .starts_with("SG.canaryid0example0exa01.")
    );
    // What only Keystead needs stays here.
    let scene = Scene::new("openai").await;
    let key = scene.house.service_key("reveal").await;
    let backend = scene.house.ctx(&key, Some("acme")).await.unwrap();
    let out = scene.house.reveal(&backend, scene.id).await.unwrap();
    assert_eq!(
        out["credentials"],
        json!({"api_key": "sk-svcacct-canary-0123456789-0000"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_that_works_only_after_a_while_is_waited_for() {
    for id in ["azure_service_principal", "sendgrid"] {
        let scene = Scene::new(id).await;
        scene.provider.world().unready = 4;
        scene.rotate().await;
        scene.until(Step::Test).await;
        scene.pass(25);
        scene.broker().upkeep().await;
        let waits = scene.stands().await;
        assert_eq!(waits.step, Step::Test);
        assert!(waits.detail.unwrap().contains("does not work yet"), "{id}");
        assert_eq!(scene.version().await, 1, "{id}");
        scene.works().await;
        let grace = scene.through(Step::Grace, 4 * MINUTE).await;
        assert_eq!(grace.detail, None);
        assert_eq!(scene.version().await, 2, "{id}");
        scene.works().await;
        scene.is_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_that_never_works_is_ended_and_the_old_one_stays() {
    for id in ALL {
        let scene = Scene::new(id).await;
        let first = scene.keys();
        scene.provider.world().unready = usize::MAX;
        scene.rotate().await;
        let end = scene.through(Step::Idle, 3600).await;
        let detail = end.detail.unwrap();
        assert!(
            detail.contains("did not begin to work") && detail.contains("stays in use"),
            "{id}: {detail}"
        );
        assert_eq!((scene.keys(), scene.version().await), (first, 1), "{id}");
        assert_eq!(end.last, None);
        scene.works().await;
        scene.is_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_that_may_do_less_than_the_old_one_is_not_taken() {
    let scene = Scene::new("sendgrid").await;
    scene.provider.world().limited = true;
    scene.rotate().await;
    let end = scene.through(Step::Idle, 3600).await;
    let detail = end.detail.unwrap();
    assert!(
        detail.contains("did not begin to work: no_perm"),
        "{detail}"
    );
    assert_eq!((scene.keys().len(), scene.version().await), (1, 1));
    // One that is as limited as the one before is.
    let old = scene.keys()[0].clone();
    scene.provider.world().keys.get_mut(&old).unwrap().limited = true;
    let alice = scene.house.user("alice", "acme", Role::Owner).await;
    let begun = scene.broker().rotate_integration(&alice, scene.id).await;
    begun.unwrap();
    scene.through(Step::Idle, 3600).await;
    assert_eq!((scene.keys().len(), scene.version().await), (1, 2));
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_full_is_left_alone_and_what_is_in_the_way_is_named() {
    let scene = Scene::new("gcp_service_account").await;
    let others: Vec<String> = (0..9).map(|_| scene.provider.add(None)).collect();
    scene.rotate().await;
    let detail = scene.until(Step::Idle).await.detail.unwrap();
    assert!(
        detail.contains("takes 10 at once, and there are 10"),
        "{detail}"
    );
    assert!(
        detail.contains("in use here") && detail.contains(&others[0]),
        "{detail}"
    );
    assert!(detail.contains("nothing was changed"), "{detail}");
    assert_eq!(scene.provider.world().count("create"), 0);
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn which_key_is_the_old_one_is_not_guessed() {
    let scene = Scene::new("resend").await;
    let stranger = scene.provider.add(Some("by hand"));
    scene.rotate().await;
    let end = scene.through(Step::Idle, DAY).await;
    let detail = end.detail.unwrap();
    assert!(
        detail.contains("cannot be told: take it back by hand (https://resend.com/api-keys)"),
        "{detail}"
    );
    assert_eq!(scene.version().await, 2);
    assert_eq!(scene.keys().len(), 3);
    assert!(scene.keys().contains(&stranger));
    scene.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_node_uses_the_old_version_a_second_after_the_new_one_is_in_place() {
    let scene = Scene::new("sendgrid").await;
    let (other, _store) = scene.node().await;
    let uses = async |broker: &Broker| {
        let path = "/v3/scopes";
        let answer = call_at(broker, &scene.alice, Selector::Id(scene.id), path).await;
        answer.map(|answer| answer.status().as_u16()).ok()
    };
    assert_eq!(
        (uses(scene.broker()).await, uses(&other).await),
        (Some(200), Some(200))
    );
    scene.rotate().await;
    scene.until(Step::Test).await;
    scene.pass(10);
    scene.broker().upkeep().await;
    let began = Instant::now();
    assert_eq!(scene.stands().await.step, Step::Grace);
    // From now on the old one is refused: whoever still uses it is seen.
    let old = scene.keys()[0].clone();
    scene.provider.world().keys.get_mut(&old).unwrap().active = false;
    assert_eq!(uses(scene.broker()).await, Some(200), "here at once");
    while uses(&other).await != Some(200) {
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "the other node uses the old one"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_rotates_by_itself_until_it_is_stopped() {
    let scene = Scene::new("twilio").await;
    let broker = scene.broker().clone();
    let set = async |every_days, grace_minutes| {
        let alice = scene.house.user("alice", "acme", Role::Owner).await;
        let schedule = Schedule {
            every_days,
            grace_minutes,
        };
        broker.schedule_rotation(&alice, scene.id, schedule).await
    };
    for (every, grace) in [(0, None), (367, None), (30, Some(10_081))] {
        let refused = set(every, grace).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    let stands = set(30, Some(0)).await.unwrap();
    assert_eq!(
        stands.next,
        Some(scene.house.clock.now().plus_seconds(30 * DAY))
    );
    assert_eq!((stands.every_days, stands.grace_minutes), (Some(30), 0));
    broker.upkeep().await;
    assert_eq!(scene.provider.world().count("create"), 0);
    for version in 2..4 {
        scene.pass(30 * DAY + 1);
        broker.upkeep().await;
        scene.through(Step::Idle, DAY).await;
        assert_eq!((scene.version().await, scene.keys().len()), (version, 1));
    }
    // What fails by itself says why, and is tried again before a month has gone.
    scene.provider.world().fails.insert("create", 403);
    scene.pass(30 * DAY + 1);
    broker.upkeep().await;
    let failed = scene.until(Step::Idle).await;
    assert!(failed.detail.unwrap().contains("403"));
    assert!(failed.next.unwrap() <= scene.house.clock.now().plus_seconds(DAY));
    let alice = scene.house.user("alice", "acme", Role::Owner).await;
    broker.stop_rotation(&alice, scene.id).await.unwrap();
    let stopped = scene.stands().await;
    assert_eq!((stopped.next, stopped.every_days), (None, None));
    let none = broker.stop_rotation(&alice, scene.id).await;
    assert!(matches!(none, Err(Error::NotFound { .. })));
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_does_not_and_it_is_on_record() {
    let scene = Scene::new("sendgrid").await;
    let (house, broker) = (&scene.house, scene.broker());
    let mut callers = vec![
        house.user("victor", "acme", Role::Viewer).await,
        house.user("mallory", "acme", Role::Member).await,
    ];
    for scope in ["use", "rotate:openai", "put,delete,reveal,test"] {
        let key = house.key(scope, scope, None).await;
        callers.push(house.ctx(&key, Some("acme")).await.unwrap());
    }
    let schedule = Schedule {
        every_days: 1,
        grace_minutes: Some(0),
    };
    for caller in &callers {
        let denied = [
            broker.rotate_integration(caller, scene.id).await.err(),
            broker
                .schedule_rotation(caller, scene.id, schedule)
                .await
                .err(),
            broker.stop_rotation(caller, scene.id).await.err(),
        ];
        for denied in denied {
            assert!(matches!(denied, Some(Error::Denied { .. })), "{denied:?}");
        }
    }
    let bob = house.user("bob", "globex", Role::Owner).await;
    let foreign = broker.rotate_integration(&bob, scene.id).await;
    assert!(matches!(foreign, Err(Error::NotFound { .. })));
    assert_eq!(
        house.entries(&["\"rotate\"", "\"denied\""]).await,
        3 * callers.len() + 1
    );
    assert_eq!(scene.provider.world().count("list"), 0);
    for (name, scope) in [("all", "rotate"), ("one", "rotate:sendgrid")] {
        let key = house.key(name, scope, None).await;
        let backend = house.ctx(&key, Some("acme")).await.unwrap();
        broker.rotate_integration(&backend, scene.id).await.unwrap();
    }
    scene.through(Step::Idle, DAY).await;
    assert_eq!(
        (
            scene.version().await,
            scene.provider.world().count("create")
        ),
        (2, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_rotated_says_what_to_do() {
    let house = House::with(quiet()).await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let add = async |name: &str, type_: &str, config: serde_json::Value, credentials| {
        let new = NewIntegration {
            name: name.to_owned(),
            type_: type_.to_owned(),
            credentials,
            config: config.as_object().unwrap().clone(),
        };
        let made = house.broker.create_integration(&alice, new, None).await;
        made.unwrap().integration.id
    };
    let said = async |id| match house.broker.rotate_integration(&alice, id).await {
        Err(Error::Conflict { code, message, .. }) => format!("{code}: {message}"),
        Err(Error::Invalid(faults)) => faults
            .iter()
            .map(|f| format!("{}: {}\n", f.path, f.message))
            .collect(),
        other => panic!("{other:?}"),
    };
    let sample = add("sample", "sample", json!({}), json!("sk-canary-sample")).await;
    let told = said(sample).await;
    assert!(told.starts_with("rotation_unsupported: Sample makes no new credential by a call: make one by hand (https://sample.example/docs)"), "{told}");
    let bare = add(
        "bare",
        "openai",
        json!({"project": "proj_1"}),
        json!("sk-canary-0123456789-0123"),
    )
    .await;
    let told = said(bare).await;
    assert!(
        told.contains("credentials.admin_key: is needed to rotate.")
            && told.contains("config.service_account"),
        "{told}"
    );
    let temporary = json!({"access_key_id": "ASIA0123456789ABCDEF", "secret_access_key": "canary", "session_token": "canary"});
    let temporary = add("temporary", "aws_access_key", json!({}), temporary).await;
    let told = said(temporary).await;
    assert!(told.contains("`session_token` is not rotated"), "{told}");
    let stands = house.broker.rotation(&alice, sample).await.unwrap();
    assert_eq!(
        (stands.step, stands.next, stands.detail),
        (Step::Idle, None, None)
    );
    house.log_is_clean().await;
}
