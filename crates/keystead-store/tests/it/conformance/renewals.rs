//! What every database must do with tokens, and with the lease on renewing them.

use std::time::UNIX_EPOCH;

use keystead_core::ids::{IntegrationId, SealKeyId, TenantId};
use keystead_core::time::Time;
use keystead_store::{
    Effect, IntegrationRow, MarkReauthorize, ReleaseRenewal, Status, Store, StoreTokens,
    TakeRenewal, TokenSetRow, TokenState,
};

use crate::fixture::*;

/// An integration with its first tokens: version 1, fence 1.
struct Owned {
    store: Store,
    tenant: TenantId,
    key: SealKeyId,
    row: IntegrationRow,
}

impl Owned {
    async fn new(store: &Store) -> Owned {
        let (tenant, key) = tenant(store).await;
        let row = connected(store, (tenant, key), "main").await;
        let owned = Owned {
            store: store.clone(),
            tenant,
            key,
            row,
        };
        let put = Effect::PutTokenSet(Box::new(token_set(&owned.row, key)));
        assert_eq!(owned.does(put).await, "done");
        owned
    }

    async fn does(&self, effect: Effect) -> String {
        outcome(append(&self.store, self.tenant, vec![effect]).await)
    }

    async fn tokens(&self) -> TokenSetRow {
        let found = self.store.find_token_set(self.tenant, self.row.id).await;
        found.unwrap().unwrap()
    }

    async fn integration(&self) -> IntegrationRow {
        let found = self.store.find_integration(self.tenant, self.row.id).await;
        found.unwrap().unwrap()
    }

    async fn ends(&self, seconds: i64) -> Time {
        later(self.store.clock().await.unwrap(), seconds)
    }

    fn take(&self, token_version: u64, seen_fence: u64, holder: &str, until: Time) -> Effect {
        Effect::TakeRenewal(TakeRenewal {
            tenant: self.tenant,
            integration: self.row.id,
            token_version,
            seen_fence,
            holder: holder.to_owned(),
            until,
        })
    }

    fn store(&self, token_version: u64, fence: u64, restore_status: bool) -> Effect {
        Effect::StoreTokens(Box::new(StoreTokens {
            tenant: self.tenant,
            integration: self.row.id,
            token_version,
            fence,
            key_id: self.key,
            sealed: format!("sealed canary tokens {token_version} of {fence}").into_bytes(),
            expires_at: Some(later(NOW, 7200)),
            refresh_expires_at: Some(later(NOW, 86_400)),
            renew_at: Some(later(NOW, 7000)),
            restore_status,
            at: later(NOW, 9),
        }))
    }

    fn release(&self, token_version: u64, fence: u64, keep_intent: bool) -> Effect {
        Effect::ReleaseRenewal(Box::new(ReleaseRenewal {
            tenant: self.tenant,
            integration: self.row.id,
            token_version,
            fence,
            keep_intent,
            renew_at: Some(later(NOW, 30)),
            failures: 2,
            failing_since: Some(later(NOW, 5)),
            problem: Some("down".to_owned()),
            at: later(NOW, 9),
        }))
    }

    fn give_up(&self, token_version: u64, fence: u64) -> Effect {
        Effect::MarkReauthorize(Box::new(MarkReauthorize {
            tenant: self.tenant,
            integration: self.row.id,
            token_version,
            fence,
            problem: "invalid_grant".to_owned(),
            error_message: "authorise it again".to_owned(),
            at: later(NOW, 9),
        }))
    }
}

const CONFLICT: &str = "conflict: token set";
const MISSING: &str = "missing: token set";

pub(super) async fn tokens_are_put_whole_and_only_forward(store: Store) {
    let owned = Owned::new(&store).await;
    let first = token_set(&owned.row, owned.key);
    assert_eq!(owned.tokens().await, first);
    for (token_version, fence) in [(1, 1), (1, 2), (2, 1), (0, 0), (0, 9)] {
        let put = TokenSetRow {
            token_version,
            fence,
            sealed: b"another".to_vec(),
            ..first.clone()
        };
        let told = owned.does(Effect::PutTokenSet(Box::new(put))).await;
        // A version of 0 cannot be stored at all.
        let refused = [CONFLICT, "invalid: token set"];
        assert!(refused.contains(&told.as_str()), "{told}");
        assert_eq!(owned.tokens().await, first);
    }
    let next = TokenSetRow {
        credential_version: 4,
        token_version: 5,
        state: TokenState::Live,
        sealed: b"sealed canary of a new consent".to_vec(),
        expires_at: None,
        refresh_expires_at: Some(later(NOW, 1)),
        renew_at: None,
        holder: Some("node 1".to_owned()),
        fence: 7,
        lease_until: Some(later(NOW, 2)),
        intent: true,
        failures: 3,
        failing_since: Some(later(NOW, 3)),
        problem: Some("rate".to_owned()),
        updated_at: later(NOW, 4),
        ..first.clone()
    };
    let put = Effect::PutTokenSet(Box::new(next.clone()));
    assert_eq!(owned.does(put).await, "done");
    assert_eq!(owned.tokens().await, next);
    // Not another tenant's integration, and not under another tenant's key.
    let (other, foreign_key) = tenant(&store).await;
    let stolen = TokenSetRow {
        tenant: other,
        key_id: foreign_key,
        token_version: 9,
        fence: 9,
        ..first.clone()
    };
    let put = append(&store, other, vec![Effect::PutTokenSet(Box::new(stolen))]).await;
    assert_eq!(outcome(put), "missing: integration");
    let foreign = TokenSetRow {
        key_id: foreign_key,
        token_version: 9,
        fence: 9,
        ..first
    };
    let put = Effect::PutTokenSet(Box::new(foreign));
    assert_eq!(owned.does(put).await, MISSING);
    assert_eq!(owned.tokens().await, next);
    let theirs = store.find_token_set(other, owned.row.id).await.unwrap();
    assert_eq!(theirs, None);
}

pub(super) async fn of_two_takers_of_one_lease_one_wins(store: Store) {
    let owned = Owned::new(&store).await;
    let until = owned.ends(60).await;
    // All in one group of writes, as far as the database groups them.
    let takers = (0..8).map(|node| owned.does(owned.take(1, 1, &format!("node {node}"), until)));
    let told = futures_util::future::join_all(takers).await;
    let won: Vec<usize> = (0..8).filter(|node| told[*node] == "done").collect();
    assert_eq!(won.len(), 1, "{told:?}");
    assert_eq!(told.iter().filter(|told| *told == CONFLICT).count(), 7);
    let tokens = owned.tokens().await;
    assert_eq!(tokens.holder, Some(format!("node {}", won[0])));
    assert_eq!((tokens.fence, tokens.intent), (2, true));
    assert_eq!(tokens.lease_until, Some(until));
    // The one who lost is told so also with the fence that he sees now.
    assert_eq!(owned.does(owned.take(1, 2, "late", until)).await, CONFLICT);
}

pub(super) async fn a_lease_is_not_taken_before_its_end_by_the_databases_clock(store: Store) {
    let owned = Owned::new(&store).await;
    let until = owned.ends(3600).await;
    assert_eq!(owned.does(owned.take(1, 1, "one", until)).await, "done");
    let taken = owned.tokens().await;
    for _ in 0..2 {
        let until = owned.ends(9999).await;
        assert_eq!(owned.does(owned.take(1, 2, "two", until)).await, CONFLICT);
        assert_eq!(owned.tokens().await, taken);
    }
    // One that has ended is free, whoever had it.
    let other = Owned::new(&store).await;
    let over = other.ends(0).await;
    assert_eq!(other.does(other.take(1, 1, "one", over)).await, "done");
    let until = other.ends(60).await;
    assert_eq!(other.does(other.take(1, 2, "two", until)).await, "done");
    let tokens = other.tokens().await;
    assert_eq!((tokens.fence, tokens.holder.as_deref()), (3, Some("two")));
    // The intent of the one before is still to be seen: it is in doubt.
    assert!(tokens.intent);
}

pub(super) async fn a_holder_whose_lease_was_taken_over_changes_nothing(store: Store) {
    let owned = Owned::new(&store).await;
    let over = owned.ends(0).await;
    assert_eq!(owned.does(owned.take(1, 1, "paused", over)).await, "done");
    let until = owned.ends(60).await;
    assert_eq!(owned.does(owned.take(1, 2, "next", until)).await, "done");
    let (tokens, integration) = (owned.tokens().await, owned.integration().await);
    for late in [
        owned.store(2, 2, true),
        owned.release(1, 2, false),
        owned.release(1, 2, true),
        owned.give_up(1, 2),
        owned.take(1, 1, "paused", until),
    ] {
        assert_eq!(owned.does(late.clone()).await, CONFLICT, "{late:?}");
        assert_eq!(owned.tokens().await, tokens);
        assert_eq!(owned.integration().await, integration);
    }
    assert_eq!(owned.does(owned.store(2, 3, false)).await, "done");
}

pub(super) async fn a_writer_with_an_older_version_of_the_tokens_changes_nothing(store: Store) {
    let owned = Owned::new(&store).await;
    let until = owned.ends(60).await;
    assert_eq!(owned.does(owned.take(1, 1, "one", until)).await, "done");
    // A version is not skipped either.
    assert_eq!(owned.does(owned.store(3, 2, false)).await, CONFLICT);
    assert_eq!(owned.does(owned.store(1, 2, false)).await, CONFLICT);
    assert_eq!(owned.does(owned.store(2, 2, false)).await, "done");
    let (tokens, integration) = (owned.tokens().await, owned.integration().await);
    for late in [
        owned.store(2, 2, true),
        owned.release(1, 2, false),
        owned.give_up(1, 2),
        owned.take(1, 2, "one", until),
    ] {
        assert_eq!(owned.does(late.clone()).await, CONFLICT, "{late:?}");
        assert_eq!(owned.tokens().await, tokens);
        assert_eq!(owned.integration().await, integration);
    }
    // A consent that came during a renewal wins over what the renewal brings.
    assert_eq!(owned.does(owned.take(2, 2, "one", until)).await, "done");
    let consent = TokenSetRow {
        token_version: 3,
        fence: 4,
        ..token_set(&owned.row, owned.key)
    };
    let put = Effect::PutTokenSet(Box::new(consent.clone()));
    assert_eq!(owned.does(put).await, "done");
    for late in [owned.store(3, 3, true), owned.give_up(2, 3)] {
        assert_eq!(owned.does(late).await, CONFLICT);
    }
    assert_eq!(owned.tokens().await, consent);
}

pub(super) async fn stored_tokens_end_the_lease_and_the_failures(store: Store) {
    let owned = Owned::new(&store).await;
    assert_eq!(owned.does(owned.release(1, 1, false)).await, "done");
    let until = owned.ends(60).await;
    assert_eq!(owned.does(owned.take(1, 1, "one", until)).await, "done");
    assert_eq!(owned.does(owned.store(2, 2, false)).await, "done");
    let expected = TokenSetRow {
        token_version: 2,
        sealed: b"sealed canary tokens 2 of 2".to_vec(),
        expires_at: Some(later(NOW, 7200)),
        refresh_expires_at: Some(later(NOW, 86_400)),
        renew_at: Some(later(NOW, 7000)),
        fence: 2,
        updated_at: later(NOW, 9),
        ..token_set(&owned.row, owned.key)
    };
    assert_eq!(owned.tokens().await, expected);
    assert_eq!(owned.integration().await, owned.row);
    let gone = Effect::DeleteIntegration {
        tenant: owned.tenant,
        integration: owned.row.id,
        expected_revision: None,
    };
    assert_eq!(owned.does(gone).await, "done");
    for late in [
        owned.take(2, 2, "one", until),
        owned.store(3, 2, true),
        owned.release(2, 2, true),
        owned.give_up(2, 2),
    ] {
        assert_eq!(owned.does(late.clone()).await, MISSING, "{late:?}");
    }
}

pub(super) async fn an_integration_works_again_only_where_its_renewal_had_failed_it(store: Store) {
    let owned = Owned::new(&store).await;
    let mut version = 1;
    for (status, restore, expected) in [
        (Status::Error, false, Status::Error),
        (Status::Error, true, Status::Connected),
        (Status::Reauthorize, true, Status::Connected),
        (Status::Verifying, true, Status::Verifying),
    ] {
        let message = (status != Status::Verifying).then(|| "it fails".to_owned());
        let verified = Effect::SetVerified {
            tenant: owned.tenant,
            integration: owned.row.id,
            version: 1,
            status,
            error_message: message.clone(),
            at: NOW,
        };
        assert_eq!(owned.does(verified).await, "done");
        version += 1;
        assert_eq!(owned.does(owned.store(version, 1, restore)).await, "done");
        let row = owned.integration().await;
        assert_eq!(row.status, expected, "{status:?} {restore}");
        let kept = message.filter(|_| !restore);
        assert_eq!((row.error_message, row.revision), (kept, 1));
    }
}

pub(super) async fn a_lease_that_brought_nothing_is_freed_and_says_why(store: Store) {
    let owned = Owned::new(&store).await;
    for (fence, keep_intent) in [(1, true), (2, false)] {
        let until = owned.ends(60).await;
        let take = owned.take(1, fence, "one", until);
        assert_eq!(owned.does(take).await, "done");
        let release = owned.release(1, fence + 1, keep_intent);
        assert_eq!(owned.does(release).await, "done");
        let expected = TokenSetRow {
            fence: fence + 1,
            intent: keep_intent,
            renew_at: Some(later(NOW, 30)),
            failures: 2,
            failing_since: Some(later(NOW, 5)),
            problem: Some("down".to_owned()),
            updated_at: later(NOW, 9),
            ..token_set(&owned.row, owned.key)
        };
        assert_eq!(owned.tokens().await, expected);
    }
    // Without a call there was no intent to keep.
    assert_eq!(owned.does(owned.release(1, 3, true)).await, "done");
    assert!(!owned.tokens().await.intent);
}

pub(super) async fn tokens_that_are_given_up_are_not_renewed_and_the_integration_says_so(
    store: Store,
) {
    let owned = Owned::new(&store).await;
    let until = owned.ends(60).await;
    assert_eq!(owned.does(owned.take(1, 1, "one", until)).await, "done");
    assert_eq!(owned.does(owned.give_up(1, 2)).await, "done");
    let expected = TokenSetRow {
        state: TokenState::Reauthorize,
        fence: 2,
        renew_at: None,
        problem: Some("invalid_grant".to_owned()),
        updated_at: later(NOW, 9),
        ..token_set(&owned.row, owned.key)
    };
    assert_eq!(owned.tokens().await, expected);
    let row = owned.integration().await;
    assert_eq!((row.status, row.revision), (Status::Reauthorize, 1));
    assert_eq!(row.error_message.as_deref(), Some("authorise it again"));
    for late in [
        owned.take(1, 2, "one", until),
        owned.store(2, 2, true),
        owned.release(1, 2, true),
        owned.give_up(1, 2),
    ] {
        assert_eq!(owned.does(late.clone()).await, CONFLICT, "{late:?}");
    }
    assert_eq!(owned.integration().await, row);
    let consent = TokenSetRow {
        token_version: 2,
        fence: 3,
        ..token_set(&owned.row, owned.key)
    };
    let put = Effect::PutTokenSet(Box::new(consent));
    assert_eq!(owned.does(put).await, "done");
    assert_eq!(owned.tokens().await.state, TokenState::Live);
}

pub(super) async fn tokens_that_are_due_are_found_across_tenants(store: Store) {
    let (first, second, leased, given_up, later_on) = (
        Owned::new(&store).await,
        Owned::new(&store).await,
        Owned::new(&store).await,
        Owned::new(&store).await,
        Owned::new(&store).await,
    );
    for (owned, renew_at) in [(&second, Some(later(NOW, 2))), (&later_on, None)] {
        let put = TokenSetRow {
            token_version: 2,
            fence: 2,
            renew_at,
            ..token_set(&owned.row, owned.key)
        };
        let put = Effect::PutTokenSet(Box::new(put));
        assert_eq!(owned.does(put).await, "done");
    }
    let until = later(NOW, 10);
    let put = TokenSetRow {
        token_version: 2,
        fence: 2,
        holder: Some("one".to_owned()),
        lease_until: Some(until),
        ..token_set(&leased.row, leased.key)
    };
    let put = Effect::PutTokenSet(Box::new(put));
    assert_eq!(leased.does(put).await, "done");
    assert_eq!(given_up.does(given_up.give_up(1, 1)).await, "done");
    let due = async |now, limit| -> Vec<_> {
        let due = store.due_token_sets(now, limit).await.unwrap();
        due.into_iter().map(|row| row.integration).collect()
    };
    let (one, two, held) = (first.row.id, second.row.id, leased.row.id);
    assert_eq!(due(later(NOW, -1), 9).await, []);
    assert_eq!(due(later(NOW, 1), 9).await, [one]);
    assert_eq!(due(later(NOW, 2), 9).await, [one, two]);
    assert_eq!(due(later(NOW, 2), 1).await, [one]);
    assert_eq!(due(until, 9).await, [one, held, two]);

    // What was refused for the app is found whenever it is due.
    let refused = async |after, limit| -> Vec<_> {
        let rows = store.list_refused_clients(after, limit).await.unwrap();
        rows.into_iter().map(|row| row.integration).collect()
    };
    let none: [IntegrationId; 0] = [];
    assert_eq!(refused(None, 9).await, none);
    for owned in [&first, &second, &given_up] {
        let mut put = token_set(&owned.row, owned.key);
        (put.token_version, put.fence) = (7, 7);
        put.problem = Some("client:invalid_client".to_owned());
        if owned.row.id == given_up.row.id {
            put.state = TokenState::Reauthorize;
        }
        assert_eq!(owned.does(Effect::PutTokenSet(Box::new(put))).await, "done");
    }
    let mut both = [one, two];
    both.sort();
    assert_eq!(refused(None, 9).await, both);
    assert_eq!(refused(None, 1).await, both[..1]);
    assert_eq!(refused(Some(both[0]), 9).await, both[1..]);
}

pub(super) async fn the_clock_is_the_times(store: Store) {
    let machine = || {
        let since = UNIX_EPOCH.elapsed().unwrap();
        i64::try_from(since.as_micros()).unwrap()
    };
    // A thousandth is lost to SQLite's clock, and more to nobody.
    let before = machine() - 1000;
    let (one, two) = (store.clock().await.unwrap(), store.clock().await.unwrap());
    assert!(before <= one.0 && one.0 <= two.0 && two.0 <= machine() + 1000);
}
