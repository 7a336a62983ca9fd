//! Rotation with everything that goes wrong: replies that are lost, nodes that die, providers that
//! refuse, and people who change things in the middle.
#![allow(clippy::unwrap_used)]

mod house;
mod keysmith;

use std::time::Duration;

use keysmith::{ALL, DAY, MINUTE, Scene, eventually};
use keystead_broker::{Changes, Error};
use keystead_core::action::Role;
use keystead_core::provider::rotation::Step;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_leaves_no_key_that_nobody_knows() {
    for id in ALL {
        let scene = Scene::new(id).await;
        let bystander = scene.provider.add(Some("by hand"));
        if id == "resend" {
            // Which one is in use cannot be told then.
            scene.provider.world().keys.remove(&bystander);
        }
        scene.provider.world().hangs = Some("create");
        scene.rotate().await;
        eventually("asked", || scene.provider.world().count("create") == 1).await;
        // This node is gone, in the middle of the call; another one takes it up.
        let (other, _store) = scene.node().await;
        scene.provider.world().hangs = None;
        let lost: Vec<String> = scene.keys();
        scene.pass(130);
        other.upkeep().await;
        let stands = scene.until(Step::Test).await;
        assert!(stands.detail.is_none(), "{id}: {stands:?}");
        let world = scene.provider.world().done.clone();
        assert_eq!(scene.provider.world().count("create"), 2, "{id}: {world:?}");
        assert_eq!(scene.provider.world().count("delete"), 1, "{id}: {world:?}");
        assert_eq!(scene.keys().len(), lost.len(), "{id}");
        scene.through(Step::Idle, 2 * DAY).await;
        let left = scene.keys();
        assert_eq!(
            left.len(),
            if id == "resend" { 1 } else { 2 },
            "{id}: {left:?}"
        );
        assert!(id == "resend" || left.contains(&bystander), "{id}");
        scene.works().await;
        scene.is_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_is_taken_by_a_node_of_its_own() {
    let scene = Scene::new("gcp_service_account").await;
    scene.rotate().await;
    scene.until(Step::Test).await;
    for (passes, step) in [
        (10, Step::Grace),
        (16 * MINUTE, Step::Delete),
        (DAY + 1, Step::Idle),
    ] {
        let (node, _store) = scene.node().await;
        scene.pass(passes);
        node.upkeep().await;
        assert_eq!(scene.stands().await.step, step);
    }
    assert_eq!((scene.keys().len(), scene.version().await), (1, 2));
    scene.works().await;
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_was_cut_off_is_taken_up_again() {
    // Cut off in the call itself, when the provider has done it and nobody heard.
    for (hangs, before) in [("list", 1), ("token", 1), ("disable", 2), ("delete", 2)] {
        let scene = Scene::new("gcp_service_account").await;
        if matches!(hangs, "list" | "token") {
            scene.provider.world().hangs = Some(hangs);
        }
        scene.rotate().await;
        if matches!(hangs, "disable" | "delete") {
            scene.through(Step::Grace, MINUTE).await;
            if hangs == "delete" {
                scene.pass(16 * MINUTE);
                scene.until(Step::Delete).await;
                scene.pass(DAY);
            }
            scene.provider.world().hangs = Some(hangs);
            scene.pass(16 * MINUTE);
        }
        let (node, _store) = scene.node().await;
        let cut = tokio::spawn(async move { node.upkeep().await });
        let asked = |count| scene.provider.world().count(hangs) >= count;
        let so_far = scene.provider.world().count(hangs);
        eventually(hangs, || asked(so_far.max(1))).await;
        cut.abort();
        assert_eq!(scene.version().await, before, "{hangs}");
        scene.provider.world().hangs = None;
        scene.pass(130);
        scene.through(Step::Idle, 3 * DAY).await;
        assert_eq!(
            (scene.keys().len(), scene.version().await),
            (1, 2),
            "{hangs}"
        );
        assert_eq!(scene.provider.world().count("create"), 1, "{hangs}");
        scene.works().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_key_that_cannot_be_ended_for_hours_works_on_and_is_ended_then() {
    for (id, call) in [("gcp_service_account", "disable"), ("twilio", "delete")] {
        let scene = Scene::new(id).await;
        scene.rotate().await;
        scene.through(Step::Grace, MINUTE).await;
        scene.provider.world().fails.insert(call, 503);
        scene.pass(16 * MINUTE);
        for _ in 0..8 {
            scene.broker().upkeep().await;
            scene.pass(3601);
        }
        let waits = scene.stands().await;
        assert_eq!(waits.step, Step::Disable);
        let detail = waits.detail.unwrap();
        assert!(
            detail.contains("still works: the provider answered 503 played_failure"),
            "{detail}"
        );
        assert_eq!(scene.provider.world().active().len(), 2, "{id}");
        scene.works().await;
        let tried = scene.provider.world().count(&format!("failed-{call}"));
        assert!((7..=8).contains(&tried), "{tried}");
        scene.provider.world().fails.clear();
        let end = scene.through(Step::Idle, 3 * DAY).await;
        assert_eq!((end.detail, scene.keys().len()), (None, 1), "{id}");
        scene.is_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_ended_for_a_week_is_left_to_a_person() {
    let scene = Scene::new("twilio").await;
    scene.rotate().await;
    scene.through(Step::Grace, MINUTE).await;
    scene.provider.world().fails.insert("delete", 403);
    let end = scene.through(Step::Idle, 8 * DAY).await;
    let detail = end.detail.unwrap();
    assert!(
        detail.contains("given up: end SK0") && detail.contains("https://console.twilio.com"),
        "{detail}"
    );
    assert_eq!((scene.keys().len(), scene.version().await), (2, 2));
    scene.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_is_asked_again_later() {
    for call in ["list", "copy", "create"] {
        let scene = Scene::new("sendgrid").await;
        scene.provider.world().fails.insert(call, 503);
        scene.rotate().await;
        eventually(call, || {
            scene.provider.world().count(&format!("failed-{call}")) == 1
        })
        .await;
        scene.pass(31);
        scene.broker().upkeep().await;
        let waits = scene.stands().await;
        assert_eq!(waits.step, Step::Create, "{call}");
        let detail = waits.detail.unwrap();
        assert!(
            detail.contains("no new one was made yet: the provider answered 503"),
            "{detail}"
        );
        scene.works().await;
        scene.provider.world().fails.clear();
        scene.through(Step::Idle, DAY).await;
        assert_eq!(
            (scene.keys().len(), scene.version().await),
            (1, 2),
            "{call}"
        );
        scene.is_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_it_at_once_and_says_what_is_needed() {
    for call in ["list", "copy", "create"] {
        let scene = Scene::new("sendgrid").await;
        scene.provider.world().fails.insert(call, 403);
        scene.rotate().await;
        let end = scene.until(Step::Idle).await;
        let detail = end.detail.unwrap();
        assert!(
            detail.contains("403 played_failure. The key needs the scopes"),
            "{call}: {detail}"
        );
        assert_eq!(
            (scene.keys().len(), scene.version().await),
            (1, 1),
            "{call}"
        );
        scene.works().await;
        scene.is_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_gives_way_to_a_person() {
    let replace = async |scene: &Scene| {
        let alice = scene.house.user("alice", "acme", Role::Owner).await;
        let changes = Changes {
            credentials: Some(scene.provider.other()),
            ..Changes::default()
        };
        let broker = scene.broker();
        broker
            .update_integration(&alice, scene.id, changes, None)
            .await
            .unwrap();
        scene.house.settled(&alice, scene.id).await;
    };
    // While the new one is tried: it is ended.
    let scene = Scene::new("twilio").await;
    scene.rotate().await;
    scene.until(Step::Test).await;
    let made = scene.keys()[1].clone();
    replace(&scene).await;
    let end = scene.through(Step::Idle, DAY).await;
    assert!(end.detail.unwrap().contains("replaced by hand"));
    assert_eq!(scene.version().await, 2);
    assert!(!scene.keys().contains(&made), "what nobody uses is ended");
    assert_eq!(scene.keys().len(), 2);
    scene.works().await;
    scene.is_clean().await;
    // While the old one is left working: all are left as they are.
    let scene = Scene::new("twilio").await;
    scene.rotate().await;
    scene.through(Step::Grace, MINUTE).await;
    replace(&scene).await;
    let end = scene.through(Step::Idle, DAY).await;
    let detail = end.detail.unwrap();
    let keys = scene.keys();
    assert!(
        detail.contains(&keys[0]) && detail.contains(&keys[1]),
        "{detail}"
    );
    assert_eq!((keys.len(), scene.version().await), (3, 3));
    scene.works().await;
    // At the very moment in which the new one is to be put in its place.
    let scene = Scene::new("twilio").await;
    scene.provider.gate.forget_permits(10_000);
    scene.rotate().await;
    eventually("asked", || scene.provider.world().count("create") == 1).await;
    replace(&scene).await;
    scene.provider.gate.add_permits(9);
    let end = scene.through(Step::Idle, DAY).await;
    assert!(end.detail.unwrap().contains("replaced by hand"));
    assert_eq!((scene.keys().len(), scene.version().await), (2, 2));
    scene.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_integration_takes_its_unused_key_along() {
    let delete = async |scene: &Scene| {
        let broker = scene.broker();
        broker
            .delete_integration(&scene.alice, scene.id, None)
            .await
            .unwrap();
    };
    let scene = Scene::new("sendgrid").await;
    scene.rotate().await;
    scene.until(Step::Test).await;
    let first = scene.keys()[0].clone();
    delete(&scene).await;
    eventually("ended", || scene.keys() == [first.clone()]).await;
    scene
        .house
        .comes_to_be_recorded(&["the unused new one was ended"])
        .await;
    let tenant = scene.alice.tenant.unwrap();
    let row = scene.house.store.find_rotation(tenant, scene.id).await;
    assert_eq!(row.unwrap(), None);
    // While the provider makes it.
    let scene = Scene::new("sendgrid").await;
    scene.provider.gate.forget_permits(10_000);
    scene.rotate().await;
    eventually("asked", || scene.provider.world().count("create") == 1).await;
    let first = scene.keys()[0].clone();
    delete(&scene).await;
    scene.provider.gate.add_permits(9);
    eventually("ended", || scene.keys() == [first.clone()]).await;
    scene.is_log_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_integration_waits_with_all_that_it_has() {
    let scene = Scene::new("gcp_service_account").await;
    let switch = async |disabled| {
        let alice = scene.house.user("alice", "acme", Role::Owner).await;
        let changes = Changes {
            disabled: Some(disabled),
            ..Changes::default()
        };
        let broker = scene.broker();
        broker
            .update_integration(&alice, scene.id, changes, None)
            .await
            .unwrap();
        if !disabled {
            scene.house.settled(&alice, scene.id).await;
        }
    };
    scene.rotate().await;
    scene.until(Step::Test).await;
    switch(true).await;
    let so_far = scene.provider.world().done.len();
    for _ in 0..3 {
        scene.pass(3600);
        scene.broker().upkeep().await;
    }
    let waits = scene.stands().await;
    assert_eq!(waits.step, Step::Test);
    assert!(waits.detail.unwrap().contains("disabled"));
    assert_eq!(scene.provider.world().done.len(), so_far, "nothing is used");
    let alice = scene.house.user("alice", "acme", Role::Owner).await;
    let asked = scene.broker().rotate_integration(&alice, scene.id).await;
    assert!(matches!(
        asked,
        Err(Error::Conflict {
            code: "disabled",
            ..
        })
    ));
    switch(false).await;
    scene.through(Step::Idle, 2 * DAY).await;
    assert_eq!((scene.keys().len(), scene.version().await), (1, 2));
    scene.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_one_takes_each_step() {
    let scene = Scene::new("gcp_service_account").await;
    let (other, _store) = scene.node().await;
    let here = scene.broker().clone();
    let asked = tokio::join!(
        here.rotate_integration(&scene.alice, scene.id),
        other.rotate_integration(&scene.alice, scene.id),
        here.rotate_integration(&scene.alice, scene.id),
    );
    assert!(
        asked.0.is_ok() && asked.1.is_ok() && asked.2.is_ok(),
        "{asked:?}"
    );
    for passes in [0, 10, 16 * MINUTE, DAY + 1] {
        scene.pass(passes);
        for _ in 0..3 {
            tokio::join!(here.upkeep(), other.upkeep(), here.upkeep(), other.upkeep());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(scene.stands().await.step, Step::Idle);
    let world = scene.provider.world().done.clone();
    for call in ["create", "disable", "delete"] {
        assert_eq!(scene.provider.world().count(call), 1, "{call}: {world:?}");
    }
    assert_eq!((scene.keys().len(), scene.version().await), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_old_key_is_ended_while_the_new_one_does_not_work() {
    let scene = Scene::new("gcp_service_account").await;
    scene.rotate().await;
    scene.through(Step::Grace, MINUTE).await;
    let (old, new) = (scene.keys()[0].clone(), scene.keys()[1].clone());
    // Before the old one is out of use: it stays.
    scene.provider.world().keys.get_mut(&new).unwrap().active = false;
    scene.pass(16 * MINUTE);
    scene.broker().upkeep().await;
    let waits = scene.stands().await;
    assert_eq!(waits.step, Step::Disable);
    assert!(waits.detail.unwrap().contains("left working"));
    assert!(scene.provider.world().keys[&old].active);
    scene.provider.world().keys.get_mut(&new).unwrap().active = true;
    scene.pass(3600);
    scene.until(Step::Delete).await;
    assert!(!scene.provider.world().keys[&old].active);
    // Nor is it deleted then.
    scene.provider.world().keys.get_mut(&new).unwrap().active = false;
    scene.pass(DAY + 1);
    scene.broker().upkeep().await;
    let waits = scene.stands().await;
    assert_eq!(waits.step, Step::Delete);
    assert!(
        waits
            .detail
            .unwrap()
            .contains("kept until the new one is seen to work")
    );
    assert!(scene.provider.world().keys.contains_key(&old));
    scene.provider.world().keys.get_mut(&new).unwrap().active = true;
    scene.through(Step::Idle, DAY).await;
    assert_eq!(scene.keys(), [new]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_replaced_and_disabled_at_once_leaves_no_unused_key() {
    let scene = Scene::new("twilio").await;
    scene.rotate().await;
    scene.until(Step::Test).await;
    let made = scene.keys()[1].clone();
    let changes = Changes {
        credentials: Some(scene.provider.other()),
        disabled: Some(true),
        ..Changes::default()
    };
    let broker = scene.broker();
    let changed = broker.update_integration(&scene.alice, scene.id, changes, None);
    changed.await.unwrap();
    scene.through(Step::Idle, DAY).await;
    assert!(!scene.keys().contains(&made));
    assert_eq!(scene.keys().len(), 2);
}
