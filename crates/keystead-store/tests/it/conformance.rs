//! What every database must do, in named behaviours.

mod consents;
mod log;
mod notes;
mod renewals;
mod revocations;
mod rotations;
mod tenants;

use keystead_core::action::Outcome;
use keystead_core::entry::Leaf;
use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::time::Time;
use keystead_store::{Effect, Error, IntegrationChange, IntegrationFilter, Status, Store};

use self::consents::*;
use self::log::*;
use self::notes::*;
use self::renewals::*;
use self::revocations::*;
use self::rotations::*;
use self::tenants::*;
use crate::fixture::*;

macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        mod postgresql { $(#[tokio::test] async fn $name() { super::$name(super::postgres().await).await; })* }
        mod sqlite_in_memory { $(#[tokio::test] async fn $name() { super::$name(super::sqlite_memory().await.store).await; })* }
        mod sqlite_in_a_file { $(#[tokio::test] async fn $name() { let fixture = super::sqlite_file().await; super::$name(fixture.store.clone()).await; })* }
    };
}

conformance! {
    an_entry_gets_the_next_number_and_the_head_is_over_all,
    a_change_that_misses_is_not_made_and_its_entry_says_failed,
    a_write_of_several_changes_is_made_whole_or_not_at_all,
    a_name_is_taken_once_per_tenant,
    the_first_start_happens_once,
    another_tenants_rows_are_as_if_they_were_not_there,
    lists_are_in_pages_and_filtered,
    credential_versions_follow_one_another_without_a_gap,
    a_verification_of_a_replaced_credential_changes_nothing,
    a_change_against_an_older_revision_is_a_conflict,
    deleting_an_integration_destroys_every_version,
    deleting_a_tenant_destroys_all_it_had,
    members_are_found_changed_and_removed,
    a_key_is_found_by_its_hash_and_revoked_once,
    the_feed_tells_changes_in_order_and_nothing_else,
    entries_are_read_newest_first_by_their_tenant_only,
    concurrent_writers_get_one_order_that_verifies,
    a_caller_who_hangs_up_does_not_stop_the_write,
    proofs_are_answered_from_tiles,
    an_answer_is_kept_once_and_forgotten_later,
    counts_add_up_over_nodes,
    notes_only_move_forward,
    odd_text_of_one_caller_does_not_fail_the_others,
    a_text_that_cannot_be_stored_is_invalid_wherever_it_is_asked_for,
    tokens_are_put_whole_and_only_forward,
    of_two_takers_of_one_lease_one_wins,
    a_lease_is_not_taken_before_its_end_by_the_databases_clock,
    a_holder_whose_lease_was_taken_over_changes_nothing,
    a_writer_with_an_older_version_of_the_tokens_changes_nothing,
    stored_tokens_end_the_lease_and_the_failures,
    an_integration_works_again_only_where_its_renewal_had_failed_it,
    a_lease_that_brought_nothing_is_freed_and_says_why,
    tokens_that_are_given_up_are_not_renewed_and_the_integration_says_so,
    tokens_that_are_due_are_found_across_tenants,
    the_clock_is_the_times,
    a_state_is_taken_once_and_found_by_its_hash,
    a_consent_goes_with_its_integration_and_its_session,
    a_session_is_claimed_by_one_browser_and_closed_once,
    what_has_expired_is_forgotten_and_nothing_else,
    a_revocation_is_settled_once_and_what_was_sealed_goes,
    a_revocation_that_is_tried_again_stays_whole,
    a_batch_of_the_platforms_goes_across_tenants,
    a_closed_batch_has_nothing_pending_and_takes_nothing_more,
    integrations_to_revoke_are_those_that_the_log_says_were_used,
    a_revoked_integration_keeps_nothing_and_only_what_was_seen_is_revoked,
    a_batch_has_its_total_once_all_have_been_found,
    a_rotation_goes_on_for_one_of_two,
    a_duty_is_one_nodes_until_its_end,
}

async fn the_tail(store: &Store) -> String {
    let size = store.head().await.unwrap().size;
    store.leaves(size - 1, size).await.unwrap().remove(0)
}

async fn a_change_that_misses_is_not_made_and_its_entry_says_failed(store: Store) {
    let (tenant, key) = tenant(&store).await;
    let row = connected(&store, (tenant, key), "main").await;
    let mut wrong = Vec::new();
    wrong.push((insert(&integration(tenant, "main"), key), "duplicate"));
    let missing = IntegrationId::from_uuid(uuid());
    let credential = credential(tenant, missing, 2, key);
    let (hint, expected_revision) = (None, None);
    wrong.push((
        Effect::ReplaceCredential {
            credential,
            hint,
            expected_revision,
        },
        "missing",
    ));
    let (integration, expected_revision) = (row.id, Some(9));
    wrong.push((
        Effect::DeleteIntegration {
            tenant,
            integration,
            expected_revision,
        },
        "conflict",
    ));
    let mut negative = crate::fixture::integration(tenant, "negative");
    negative.revision = u64::MAX;
    wrong.push((insert(&negative, key), "invalid"));
    for (effect, reason) in wrong {
        let fault = append(&store, tenant, vec![effect]).await.unwrap_err();
        let told = match fault {
            Error::Conflict {
                what: "integration",
            } => "conflict",
            Error::Duplicate {
                what: "integration",
            } => "duplicate",
            Error::NotFound {
                what: "integration",
            } => "missing",
            Error::Invalid {
                what: "integration",
            } => "invalid",
            other => panic!("{other}"),
        };
        assert_eq!(told, reason);
        let tail = the_tail(&store).await;
        let read: Leaf<'_> = serde_json::from_str(&tail).unwrap();
        assert_eq!(read.outcome, Outcome::Failed);
        assert_eq!(read.reason.as_deref(), Some(reason));
    }
    let all = IntegrationFilter {
        limit: 9,
        ..Default::default()
    };
    assert_eq!(store.list_integrations(tenant, &all).await.unwrap(), [row]);
    store.prove_log().await.unwrap();
}

async fn a_write_of_several_changes_is_made_whole_or_not_at_all(store: Store) {
    let (tenant, key) = tenant(&store).await;
    let good = integration(tenant, "good");
    let twice = member(tenant, "alice");
    let effects = vec![insert(&good, key), Effect::InsertMember(twice)];
    let fault = append(&store, tenant, effects).await.unwrap_err();
    assert!(matches!(fault, Error::Duplicate { what: "member" }));
    assert_eq!(store.find_integration(tenant, good.id).await.unwrap(), None);
}

async fn a_name_is_taken_once_per_tenant(store: Store) {
    let (one, other) = (tenant(&store).await, tenant(&store).await);
    connected(&store, one, "main").await;
    connected(&store, other, "main").await;
    let again = insert(&integration(one.0, "main"), one.1);
    let fault = append(&store, one.0, vec![again]).await.unwrap_err();
    assert!(matches!(
        fault,
        Error::Duplicate {
            what: "integration"
        }
    ));
    let mut same = tenant_row();
    same.external = store.find_tenant(one.0).await.unwrap().unwrap().external;
    let fault = append(&store, same.id, vec![Effect::InsertTenant(same)])
        .await
        .unwrap_err();
    assert!(matches!(fault, Error::Duplicate { what: "tenant" }));
}

async fn the_first_start_happens_once(store: Store) {
    assert_eq!(store.installation().await.unwrap(), None);
    let row = installation();
    let effect = Effect::InsertInstallation(row.clone());
    append(&store, TenantId::PLATFORM, vec![effect.clone()])
        .await
        .unwrap();
    let fault = append(&store, TenantId::PLATFORM, vec![effect])
        .await
        .unwrap_err();
    assert!(matches!(
        fault,
        Error::Duplicate {
            what: "installation"
        }
    ));
    assert_eq!(store.installation().await.unwrap(), Some(row));
    store.ready().await.unwrap();
}

async fn another_tenants_rows_are_as_if_they_were_not_there(store: Store) {
    let (a, b) = (tenant(&store).await, tenant(&store).await);
    let row = connected(&store, a, "main").await;
    assert!(store.find_integration(a.0, row.id).await.unwrap().is_some());
    assert!(
        store
            .find_credential(a.0, row.id, 1)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(store.find_integration(b.0, row.id).await.unwrap(), None);
    assert_eq!(
        store.find_integration_by_name(b.0, "main").await.unwrap(),
        None
    );
    assert_eq!(store.find_credential(b.0, row.id, 1).await.unwrap(), None);
    let all = IntegrationFilter {
        limit: 9,
        ..Default::default()
    };
    assert_eq!(store.list_integrations(b.0, &all).await.unwrap(), []);
    let (tenant, integration) = (b.0, row.id);
    let effects = [
        Effect::DeleteIntegration {
            tenant,
            integration,
            expected_revision: None,
        },
        Effect::ReplaceCredential {
            credential: credential(tenant, row.id, 2, b.1),
            hint: None,
            expected_revision: None,
        },
        Effect::UpdateIntegration {
            tenant,
            integration,
            expected_revision: None,
            change: IntegrationChange {
                disabled: Some(true),
                ..Default::default()
            },
            at: NOW,
        },
    ];
    for effect in effects {
        let fault = append(&store, tenant, vec![effect]).await.unwrap_err();
        assert!(
            matches!(
                fault,
                Error::NotFound {
                    what: "integration"
                }
            ),
            "{fault}"
        );
    }
    // A credential under another tenant's key is refused by the foreign key.
    let foreign = insert(&crate::fixture::integration(b.0, "x"), a.1);
    let fault = append(&store, b.0, vec![foreign]).await.unwrap_err();
    assert!(
        matches!(fault, Error::NotFound { what: "credential" }),
        "{fault}"
    );
    assert_eq!(
        store.find_integration(a.0, row.id).await.unwrap(),
        Some(row)
    );
}

async fn lists_are_in_pages_and_filtered(store: Store) {
    let owner = tenant(&store).await;
    let mut rows = Vec::new();
    for name in ["a", "b", "c"] {
        rows.push(connected(&store, owner, name).await);
    }
    let mut filter = IntegrationFilter {
        limit: 2,
        ..Default::default()
    };
    let first = store.list_integrations(owner.0, &filter).await.unwrap();
    assert_eq!(first, rows[..2]);
    filter.after = Some(first[1].id);
    assert_eq!(
        store.list_integrations(owner.0, &filter).await.unwrap(),
        rows[2..]
    );
    let (tenant, integration) = (owner.0, rows[1].id);
    let change = IntegrationChange {
        disabled: Some(true),
        ..Default::default()
    };
    let at = Time(NOW.0 + 1);
    let update = Effect::UpdateIntegration {
        tenant,
        integration,
        expected_revision: Some(1),
        change,
        at,
    };
    append(&store, tenant, vec![update]).await.unwrap();
    let filters = [
        (
            IntegrationFilter {
                disabled: Some(true),
                ..Default::default()
            },
            1,
        ),
        (
            IntegrationFilter {
                disabled: Some(false),
                ..Default::default()
            },
            2,
        ),
        (
            IntegrationFilter {
                provider: Some("openai".to_owned()),
                ..Default::default()
            },
            3,
        ),
        (
            IntegrationFilter {
                provider: Some("other".to_owned()),
                ..Default::default()
            },
            0,
        ),
        (
            IntegrationFilter {
                status: Some(Status::Verifying),
                ..Default::default()
            },
            3,
        ),
        (
            IntegrationFilter {
                status: Some(Status::Error),
                ..Default::default()
            },
            0,
        ),
    ];
    for (mut filter, expected) in filters {
        filter.limit = 9;
        let found = store.list_integrations(tenant, &filter).await.unwrap();
        assert_eq!(found.len(), expected, "{filter:?}");
    }
    let tenants = store.list_tenants(None, 9).await.unwrap();
    assert!(tenants.iter().any(|row| row.id == tenant));
    assert_eq!(
        store
            .list_tenants(tenants.last().map(|row| row.id), 9)
            .await
            .unwrap(),
        []
    );
}

fn replace(credential: keystead_store::CredentialRow, expected_revision: Option<u64>) -> Effect {
    let hint = Some("next".to_owned());
    Effect::ReplaceCredential {
        credential,
        hint,
        expected_revision,
    }
}

async fn credential_versions_follow_one_another_without_a_gap(store: Store) {
    let owner = tenant(&store).await;
    let row = connected(&store, owner, "main").await;
    for (version, good) in [(3, false), (1, false), (2, true), (2, false), (3, true)] {
        let effect = replace(credential(owner.0, row.id, version, owner.1), None);
        let result = append(&store, owner.0, vec![effect]).await;
        assert_eq!(result.is_ok(), good, "{version}");
        if let Err(fault) = result {
            assert!(
                matches!(
                    fault,
                    Error::Conflict {
                        what: "integration"
                    }
                ),
                "{fault}"
            );
        }
    }
    let now = store
        .find_integration(owner.0, row.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((now.credential_version, now.revision), (3, 3));
    assert_eq!(now.hint.as_deref(), Some("next"));
    let sealed = store
        .find_credential(owner.0, row.id, 3)
        .await
        .unwrap()
        .unwrap()
        .sealed;
    assert_eq!(sealed, b"sealed canary 3");
}

async fn a_verification_of_a_replaced_credential_changes_nothing(store: Store) {
    let (tenant, key) = tenant(&store).await;
    let integration = connected(&store, (tenant, key), "main").await.id;
    let verified = |version, status, error_message: Option<&str>| Effect::SetVerified {
        tenant,
        integration,
        version,
        status,
        error_message: error_message.map(str::to_owned),
        at: NOW,
    };
    let effect = verified(1, Status::Error, Some("bad key"));
    append(&store, tenant, vec![effect]).await.unwrap();
    let row = store
        .find_integration(tenant, integration)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((row.status, row.revision), (Status::Error, 1));
    assert_eq!(row.error_message.as_deref(), Some("bad key"));
    let effect = replace(credential(tenant, integration, 2, key), Some(1));
    append(&store, tenant, vec![effect]).await.unwrap();
    let late = append(&store, tenant, vec![verified(1, Status::Connected, None)]).await;
    assert!(matches!(
        late,
        Err(Error::Conflict {
            what: "integration"
        })
    ));
    let row = store
        .find_integration(tenant, integration)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((row.status, row.error_message), (Status::Verifying, None));
}

async fn a_change_against_an_older_revision_is_a_conflict(store: Store) {
    let (tenant, key) = tenant(&store).await;
    let integration = connected(&store, (tenant, key), "main").await.id;
    let rename = |expected_revision, name: &str| Effect::UpdateIntegration {
        tenant,
        integration,
        expected_revision,
        change: IntegrationChange {
            name: Some(name.to_owned()),
            ..Default::default()
        },
        at: Time(NOW.0 + 1),
    };
    append(&store, tenant, vec![rename(Some(1), "first")])
        .await
        .unwrap();
    let lost = append(&store, tenant, vec![rename(Some(1), "second")]).await;
    assert!(matches!(
        lost,
        Err(Error::Conflict {
            what: "integration"
        })
    ));
    append(&store, tenant, vec![rename(None, "third")])
        .await
        .unwrap();
    let row = store
        .find_integration_by_name(tenant, "third")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (row.revision, row.updated_at, row.config.as_str()),
        (3, Time(NOW.0 + 1), "{}")
    );
}

async fn deleting_an_integration_destroys_every_version(store: Store) {
    let (tenant, key) = tenant(&store).await;
    let row = granted(&store, (tenant, key), "main", 1).await.integration;
    let effect = replace(credential(tenant, row.id, 2, key), None);
    append(&store, tenant, vec![effect]).await.unwrap();
    let (integration, expected_revision) = (row.id, Some(2));
    let delete = Effect::DeleteIntegration {
        tenant,
        integration,
        expected_revision,
    };
    append(&store, tenant, vec![delete]).await.unwrap();
    for version in [1, 2] {
        assert_eq!(
            store
                .find_credential(tenant, row.id, version)
                .await
                .unwrap(),
            None
        );
    }
    assert_eq!(store.find_token_set(tenant, row.id).await.unwrap(), None);
    assert_eq!(store.find_rotation(tenant, row.id).await.unwrap(), None);
    connected(&store, (tenant, key), "main").await;
}
