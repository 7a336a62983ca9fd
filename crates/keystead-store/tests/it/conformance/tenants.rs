//! What every database must do with tenants, their members, and keys.

use keystead_core::action::Role;
use keystead_core::ids::TenantId;
use keystead_core::time::Time;
use keystead_store::{Effect, EntryFilter, Error, Store, TenantKeyState, TenantState};

use crate::fixture::*;

pub(super) async fn deleting_a_tenant_destroys_all_it_had(store: Store) {
    let owner = tenant(&store).await;
    let had = granted(&store, owner, "main", 1).await;
    let row = had.integration;
    let external = store
        .find_tenant(owner.0)
        .await
        .unwrap()
        .unwrap()
        .external
        .unwrap();
    assert!(
        store
            .find_tenant_by_external("dev", &external)
            .await
            .unwrap()
            .is_some()
    );
    let delete = Effect::DeleteTenant { tenant: owner.0 };
    append(&store, owner.0, vec![delete.clone()]).await.unwrap();
    assert_eq!(
        store.find_tenant(owner.0).await.unwrap().unwrap().state,
        TenantState::Deleted
    );
    assert_eq!(
        store
            .find_tenant_by_external("dev", &external)
            .await
            .unwrap(),
        None
    );
    assert_eq!(store.find_integration(owner.0, row.id).await.unwrap(), None);
    assert_eq!(store.list_members(owner.0).await.unwrap(), []);
    assert_eq!(store.find_token_set(owner.0, row.id).await.unwrap(), None);
    assert_eq!(store.find_rotation(owner.0, row.id).await.unwrap(), None);
    let state = store.find_authorization_by_state([1; 32]).await;
    assert_eq!(state.unwrap(), None);
    let session = store.find_connect_session_by_hash([1; 32]).await;
    assert_eq!(session.unwrap(), None);
    let batch = had.batch.id;
    assert_eq!(store.find_batch(owner.0, batch).await.unwrap(), None);
    let revocations = store.list_revocations(owner.0, batch, None, 9).await;
    assert_eq!(revocations.unwrap(), []);
    let keys = store.tenant_keys(owner.0).await.unwrap();
    assert_eq!(
        (keys[0].state, keys[0].sealed.len()),
        (TenantKeyState::Destroyed, 0)
    );
    let again = append(&store, owner.0, vec![delete]).await;
    assert!(matches!(again, Err(Error::NotFound { what: "tenant" })));
    assert!(
        !store
            .entries(owner.0, &EntryFilter::default(), None, 9)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(super) async fn members_are_found_changed_and_removed(store: Store) {
    let (tenant, _) = tenant(&store).await;
    let alice = store
        .find_member(tenant, "dev", "alice")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        store.find_member(tenant, "other", "alice").await.unwrap(),
        None
    );
    let (member, role, at) = (alice.id, Role::Viewer, Time(NOW.0 + 1));
    append(
        &store,
        tenant,
        vec![Effect::UpdateMember {
            tenant,
            member,
            role,
            at,
        }],
    )
    .await
    .unwrap();
    let members = store.list_members(tenant).await.unwrap();
    assert_eq!((members[0].role, members[0].updated_at), (role, at));
    let delete = Effect::DeleteMember { tenant, member };
    append(&store, tenant, vec![delete.clone()]).await.unwrap();
    let again = append(&store, tenant, vec![delete]).await;
    assert!(matches!(again, Err(Error::NotFound { what: "member" })));
}

pub(super) async fn a_key_is_found_by_its_hash_and_revoked_once(store: Store) {
    let row = key(TenantId::PLATFORM, 9);
    append(
        &store,
        TenantId::PLATFORM,
        vec![Effect::InsertKey(row.clone())],
    )
    .await
    .unwrap();
    assert_eq!(
        store.find_key_by_hash([9; 32]).await.unwrap(),
        Some(row.clone())
    );
    assert_eq!(store.find_key_by_hash([8; 32]).await.unwrap(), None);
    assert_eq!(
        store.list_keys(None, 9).await.unwrap(),
        std::slice::from_ref(&row)
    );
    let revoke = Effect::RevokeKey {
        tenant: TenantId::PLATFORM,
        key: row.id,
        at: NOW,
    };
    append(&store, TenantId::PLATFORM, vec![revoke.clone()])
        .await
        .unwrap();
    let again = append(&store, TenantId::PLATFORM, vec![revoke]).await;
    assert!(matches!(again, Err(Error::Conflict { what: "key" })));
    let found = store.find_key_by_hash([9; 32]).await.unwrap().unwrap();
    assert_eq!(found.revoked_at, Some(NOW));
}
