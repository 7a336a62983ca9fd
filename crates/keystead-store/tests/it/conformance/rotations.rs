//! What every database must do with rotations.

use keystead_core::ids::IntegrationId;
use keystead_store::{Effect, RotationRow, Store};

use crate::fixture::*;

pub(super) async fn a_rotation_goes_on_for_one_of_two(store: Store) {
    let (tenant, key) = tenant(&store).await;
    let integration = connected(&store, (tenant, key), "main").await;
    let row = rotation(&integration, key);
    let does = async |effect| outcome(append(&store, tenant, vec![effect]).await);
    let put = |row: &RotationRow, expected_revision| Effect::PutRotation {
        row: Box::new(row.clone()),
        expected_revision,
    };
    assert_eq!(does(put(&row, Some(1))).await, "missing: rotation");
    let nothing = RotationRow {
        integration: IntegrationId::from_uuid(uuid()),
        ..row.clone()
    };
    assert_eq!(does(put(&nothing, None)).await, "missing: integration");
    assert_eq!(does(put(&row, None)).await, "done");
    assert_eq!(does(put(&row, None)).await, "duplicate: rotation");
    let find = async || store.find_rotation(tenant, integration.id).await.unwrap();
    assert_eq!(find().await, Some(row.clone()));
    let due = async |now| store.due_rotations(now, 9).await.unwrap();
    assert_eq!(due(later(NOW, -1)).await, []);
    assert_eq!(due(NOW).await, std::slice::from_ref(&row));
    let steps = ["test", "activate"].map(|step| RotationRow {
        step: step.to_owned(),
        credential_version: 2,
        every_seconds: None,
        grace_seconds: 0,
        rotated_at: Some(later(NOW, 8)),
        next_at: Some(later(NOW, 60)),
        key_id: None,
        sealed: None,
        attempts: 1,
        detail: Some(step.to_owned()),
        started_at: Some(NOW),
        updated_at: later(NOW, 9),
        ..row.clone()
    });
    let (one, two) = tokio::join!(does(put(&steps[0], Some(1))), does(put(&steps[1], Some(1))));
    let won = if one == "done" { 0 } else { 1 };
    let mut told = [one, two];
    told.sort();
    assert_eq!(told, ["conflict: rotation", "done"]);
    let expected = RotationRow {
        revision: 2,
        ..steps[won].clone()
    };
    assert_eq!(find().await, Some(expected));
    assert_eq!(due(later(NOW, 59)).await, []);
    let (other, _) = crate::fixture::tenant(&store).await;
    let delete = |tenant| Effect::DeleteRotation {
        tenant,
        integration: integration.id,
    };
    let theirs = append(&store, other, vec![delete(other)]).await;
    assert_eq!(outcome(theirs), "missing: rotation");
    assert_eq!(does(delete(tenant)).await, "done");
    assert_eq!(does(delete(tenant)).await, "missing: rotation");
    assert_eq!(does(put(&row, Some(2))).await, "missing: rotation");
    assert_eq!(find().await, None);
}
