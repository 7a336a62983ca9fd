//! What every database must do with what is noted without an entry.

use keystead_core::ids::TenantId;
use keystead_core::time::Time;
use keystead_store::{Effect, Error, IdempotencyRow, LimitCount, Note, Store};

use crate::fixture::*;

pub(super) async fn an_answer_is_kept_once_and_forgotten_later(store: Store) {
    let (tenant, _) = tenant(&store).await;
    let row = IdempotencyRow {
        tenant,
        caller: "dev|alice".to_owned(),
        key: "k1".to_owned(),
        request_hash: [3; 32],
        response: b"sealed answer".to_vec(),
        status: 201,
        created_at: NOW,
    };
    let put = |row: &IdempotencyRow, expire_before| Effect::PutIdempotency {
        row: row.clone(),
        expire_before,
    };
    append(&store, tenant, vec![put(&row, NOW)]).await.unwrap();
    let again = append(&store, tenant, vec![put(&row, NOW)]).await;
    assert!(matches!(
        again,
        Err(Error::Duplicate {
            what: "idempotency key"
        })
    ));
    assert_eq!(
        store
            .find_idempotency(tenant, "dev|bob", "k1")
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        store
            .find_idempotency(tenant, "dev|alice", "k1")
            .await
            .unwrap(),
        Some(row.clone())
    );
    let later = IdempotencyRow {
        key: "k2".to_owned(),
        created_at: Time(NOW.0 + 9),
        ..row
    };
    append(&store, tenant, vec![put(&later, Time(NOW.0 + 1))])
        .await
        .unwrap();
    assert_eq!(
        store
            .find_idempotency(tenant, "dev|alice", "k1")
            .await
            .unwrap(),
        None
    );
}

pub(super) async fn counts_add_up_over_nodes(store: Store) {
    let count = |subject: &str, count| LimitCount {
        subject: subject.to_owned(),
        window_start: NOW,
        count,
    };
    let counts = [count("a", 3), count("b", 1)];
    assert_eq!(
        store.share_limits("node 1", &counts, NOW).await.unwrap(),
        counts
    );
    let sums = store
        .share_limits("node 2", &[count("a", 4)], NOW)
        .await
        .unwrap();
    assert_eq!(sums, [count("a", 7)]);
    let sums = store
        .share_limits("node 1", &[count("a", 5)], NOW)
        .await
        .unwrap();
    assert_eq!(sums, [count("a", 9)]);
    let sums = store
        .share_limits("node 1", &[count("a", 1)], Time(NOW.0 + 1))
        .await
        .unwrap();
    assert_eq!(sums, [count("a", 1)]);
}

pub(super) async fn notes_only_move_forward(store: Store) {
    let owner = tenant(&store).await;
    let row = connected(&store, owner, "main").await;
    let service = key(TenantId::PLATFORM, 5);
    append(
        &store,
        TenantId::PLATFORM,
        vec![Effect::InsertKey(service.clone())],
    )
    .await
    .unwrap();
    for at in [Time(NOW.0 + 5), NOW] {
        let (tenant, integration) = (owner.0, row.id);
        let used = Note::IntegrationUsed {
            tenant,
            integration,
            at,
        };
        let (tenant, key) = (TenantId::PLATFORM, service.id);
        store
            .note(&[used, Note::KeyUsed { tenant, key, at }])
            .await
            .unwrap();
    }
    let found = store
        .find_integration(owner.0, row.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.last_used_at, found.revision),
        (Some(Time(NOW.0 + 5)), 1)
    );
    let found = store.find_key_by_hash([5; 32]).await.unwrap().unwrap();
    assert_eq!(found.last_used_at, Some(Time(NOW.0 + 5)));
}
