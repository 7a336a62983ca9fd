//! A credential that is taken back while it is rotated: the other key does not live on unnamed.
#![allow(clippy::unwrap_used)]

mod house;
mod keysmith;

use keysmith::{MINUTE, Scene, eventually};
use keystead_broker::{NewRevocation, Revocation};
use keystead_core::provider::rotation::Step;
use keystead_store::RevocationState;

/// Takes it back, deleted or in a batch.
async fn taken_back(scene: &Scene, deleted: bool) -> Revocation {
    let broker = scene.broker();
    let batch = if deleted {
        let begun = broker
            .revoke_integration(&scene.alice, scene.id, None)
            .await;
        begun.unwrap().batch.id
    } else {
        let new = NewRevocation {
            integrations: vec![scene.id],
            ..NewRevocation::default()
        };
        let begun = broker.create_revocation(&scene.alice, new).await;
        begun.unwrap().id
    };
    for _ in 0..1000 {
        let page = broker.find_revocation(&scene.alice, batch, 9, None).await;
        let mut page = page.unwrap();
        if page.batch.closed_at.is_some() {
            return page.items.data.remove(0);
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{batch} is not closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_key_of_a_rotation_is_ended_with_the_one_in_use_or_named() {
    for (deleted, step) in [
        (true, Step::Test),
        (false, Step::Test),
        (true, Step::Grace),
        (false, Step::Grace),
    ] {
        for works in [true, false] {
            let scene = Scene::new("sendgrid").await;
            let first = scene.keys()[0].clone();
            scene.rotate().await;
            scene.until(Step::Test).await;
            if step == Step::Grace {
                scene.through(Step::Grace, MINUTE).await;
            }
            let keys = scene.keys();
            let second = keys.iter().find(|key| **key != first).unwrap();
            // The provider has no call that takes the key in use back: its other key is what is
            // ended here.
            let (kept, other) = match step {
                Step::Test => (&first, second),
                _ => (second, &first),
            };
            if !works {
                scene.provider.world().fails.insert("delete", 503);
            }
            let item = taken_back(&scene, deleted).await;
            assert_eq!(item.state, RevocationState::Unsupported);
            let detail = item.detail.unwrap();
            assert_eq!(
                detail.contains(other.as_str()),
                !works,
                "{step:?}: {detail}"
            );
            assert_eq!(detail.contains("could not be ended"), !works, "{detail}");
            if !works {
                // It is tried on, as long as the process lives.
                scene.provider.world().fails.clear();
            }
            eventually("ended", || scene.keys() == [kept.clone()]).await;
        }
    }
}
