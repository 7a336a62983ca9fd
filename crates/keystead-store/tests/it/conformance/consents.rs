//! What every database must do with consents under way, sessions of the connect page, and duties.

use keystead_core::ids::{AuthorizationId, SessionId};
use keystead_store::{AuthorizationRow, ConnectSessionRow, Effect, Store};

use crate::fixture::*;

fn begin(row: &AuthorizationRow) -> Effect {
    Effect::InsertAuthorization(Box::new(row.clone()))
}

fn open(row: &ConnectSessionRow) -> Effect {
    Effect::InsertConnectSession(Box::new(row.clone()))
}

pub(super) async fn a_state_is_taken_once_and_found_by_its_hash(store: Store) {
    let ((tenant, key), (other, foreign_key)) = (tenant(&store).await, tenant(&store).await);
    let row = authorization(tenant, key, 1);
    let does = async |tenant, effect| outcome(append(&store, tenant, vec![effect]).await);
    assert_eq!(does(tenant, begin(&row)).await, "done");
    let twice = AuthorizationRow {
        id: AuthorizationId::from_uuid(uuid()),
        ..row.clone()
    };
    assert_eq!(
        does(tenant, begin(&twice)).await,
        "duplicate: authorization"
    );
    for wrong in [
        authorization(tenant, foreign_key, 2),
        AuthorizationRow {
            session: Some(SessionId::from_uuid(uuid())),
            ..authorization(tenant, key, 2)
        },
    ] {
        assert_eq!(does(tenant, begin(&wrong)).await, "missing: authorization");
    }
    let found = store.find_authorization_by_state([1; 32]).await.unwrap();
    assert_eq!(found, Some(row.clone()));
    let nothing = store.find_authorization_by_state([2; 32]).await.unwrap();
    assert_eq!(nothing, None);
    let by_id = store.find_authorization(tenant, row.id).await.unwrap();
    assert_eq!(by_id, Some(row.clone()));
    let theirs = store.find_authorization(other, row.id).await.unwrap();
    assert_eq!(theirs, None);
    let take = |tenant| Effect::TakeAuthorization {
        tenant,
        authorization: row.id,
    };
    assert_eq!(does(other, take(other)).await, "missing: authorization");
    let takers = (0..4).map(|_| does(tenant, take(tenant)));
    let mut told = futures_util::future::join_all(takers).await;
    told.sort();
    let missing = "missing: authorization";
    assert_eq!(told, ["done", missing, missing, missing]);
    let gone = store.find_authorization_by_state([1; 32]).await.unwrap();
    assert_eq!(gone, None);
}

pub(super) async fn a_consent_goes_with_its_integration_and_its_session(store: Store) {
    let owner = tenant(&store).await;
    let for_it = granted(&store, owner, "one", 1).await;
    let stored = store.find_authorization(owner.0, for_it.authorization.id);
    assert_eq!(stored.await.unwrap(), Some(for_it.authorization));
    let within = granted(&store, owner, "two", 2).await;
    let delete = Effect::DeleteIntegration {
        tenant: owner.0,
        integration: for_it.integration.id,
        expected_revision: None,
    };
    append(&store, owner.0, vec![delete]).await.unwrap();
    let gone = store.find_authorization_by_state([1; 32]).await.unwrap();
    assert_eq!(gone, None);
    // Sessions end by their time only; what began in one goes with it.
    store
        .forget_expired(later(within.session.expires_at, 1))
        .await
        .unwrap();
    let gone = store.find_authorization_by_state([2; 32]).await.unwrap();
    assert_eq!(gone, None);
}

pub(super) async fn a_session_is_claimed_by_one_browser_and_closed_once(store: Store) {
    let ((tenant, _), (other, _)) = (tenant(&store).await, tenant(&store).await);
    let row = connect_session(tenant, 1);
    let does = async |effect| outcome(append(&store, tenant, vec![effect]).await);
    assert_eq!(does(open(&row)).await, "done");
    let twice = connect_session(tenant, 1);
    assert_eq!(does(open(&twice)).await, "duplicate: session");
    let find = async || {
        let found = store.find_connect_session(tenant, row.id).await;
        found.unwrap().unwrap()
    };
    assert_eq!(find().await, row);
    let by_hash = store.find_connect_session_by_hash([1; 32]).await.unwrap();
    assert_eq!(by_hash, Some(row.clone()));
    let nothing = store.find_connect_session_by_hash([2; 32]).await.unwrap();
    assert_eq!(nothing, None);
    let theirs = store.find_connect_session(other, row.id).await.unwrap();
    assert_eq!(theirs, None);
    let claim = |session, browser: u8| Effect::ClaimConnectSession {
        tenant,
        session,
        browser_hash: [browser; 32],
    };
    let close = |session| Effect::CloseConnectSession {
        tenant,
        session,
        at: later(NOW, 5),
    };
    let missing = SessionId::from_uuid(uuid());
    assert_eq!(does(claim(missing, 1)).await, "missing: session");
    assert_eq!(does(close(missing)).await, "missing: session");
    let claims = (1..=4).map(|browser| does(claim(row.id, browser)));
    let told = futures_util::future::join_all(claims).await;
    let won = told.iter().position(|told| told == "done").unwrap();
    let lost = told.iter().filter(|told| *told == "conflict: session");
    assert_eq!(lost.count(), 3);
    assert_eq!(find().await.browser_hash, Some([won as u8 + 1; 32]));
    assert_eq!(does(close(row.id)).await, "done");
    assert_eq!(does(close(row.id)).await, "conflict: session");
    assert_eq!(find().await.closed_at, Some(later(NOW, 5)));
    let closed = ConnectSessionRow {
        closed_at: Some(NOW),
        ..connect_session(tenant, 3)
    };
    assert_eq!(does(open(&closed)).await, "done");
    assert_eq!(does(claim(closed.id, 1)).await, "conflict: session");
}

pub(super) async fn what_has_expired_is_forgotten_and_nothing_else(store: Store) {
    for hash in [1, 3] {
        let (tenant, key) = tenant(&store).await;
        for (hash, seconds) in [(hash, 10), (hash + 1, 20)] {
            let consent = AuthorizationRow {
                expires_at: later(NOW, seconds),
                ..authorization(tenant, key, hash)
            };
            let session = ConnectSessionRow {
                expires_at: later(NOW, seconds),
                ..connect_session(tenant, hash)
            };
            let effects = vec![begin(&consent), open(&session)];
            append(&store, tenant, effects).await.unwrap();
        }
    }
    let left = async || {
        let mut left = Vec::new();
        for hash in 1..=4 {
            let consent = store.find_authorization_by_state([hash; 32]).await.unwrap();
            let session = store.find_connect_session_by_hash([hash; 32]).await;
            assert_eq!(consent.is_some(), session.unwrap().is_some());
            left.extend(consent.map(|_| hash));
        }
        left
    };
    let size = store.head().await.unwrap().size;
    store.forget_expired(later(NOW, 10)).await.unwrap();
    assert_eq!(left().await, [1, 2, 3, 4]);
    store.forget_expired(later(NOW, 11)).await.unwrap();
    assert_eq!(left().await, [2, 4]);
    store.forget_expired(later(NOW, 11)).await.unwrap();
    assert_eq!(left().await, [2, 4]);
    assert_eq!(store.head().await.unwrap().size, size);
}

pub(super) async fn a_duty_is_one_nodes_until_its_end(store: Store) {
    let take = async |name, holder, seconds| store.take_duty(name, holder, seconds).await.unwrap();
    let takers = ["one", "two", "three", "four"].map(|node| take("upkeep", node, 3600));
    let taken = futures_util::future::join_all(takers).await;
    assert_eq!(taken.iter().filter(|taken| **taken == Some(1)).count(), 1);
    assert_eq!(taken.iter().filter(|taken| taken.is_none()).count(), 3);
    // Another duty is another matter.
    assert_eq!(take("other", "one", 0).await, Some(1));
    // It has ended by the database's clock: it is the next one's, and that one's alone.
    assert_eq!(take("other", "two", 3600).await, Some(2));
    assert_eq!(take("other", "one", 3600).await, None);
    // Prolonged without a break, it is the same one; with a break it is not.
    assert_eq!(take("other", "two", 3600).await, Some(2));
    assert_eq!(take("other", "two", 0).await, Some(2));
    assert_eq!(take("other", "two", 3600).await, Some(3));
    assert_eq!(take("other", "one", 3600).await, None);
}
