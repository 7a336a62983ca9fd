//! What every database must do with entries: their order, their proofs, their readers.

use keystead_core::action::{Outcome, TargetKind};
use keystead_core::entry::Leaf;
use keystead_core::ids::TenantId;
use keystead_core::log::{
    consistency_proof, inclusion_proof, leaf_hash, verify_consistency, verify_inclusion,
};
use keystead_store::{EntryFilter, Error, IntegrationFilter, Store, Write};

use crate::fixture::*;

pub(super) async fn an_entry_gets_the_next_number_and_the_head_is_over_all(store: Store) {
    assert_eq!(store.prove_log().await.unwrap().size, 0);
    let tenant = TenantId::from_uuid(uuid());
    for seq in 0..3 {
        let receipt = append(&store, tenant, vec![]).await.unwrap();
        assert_eq!(receipt.seq, seq);
    }
    assert_eq!(store.prove_log().await.unwrap().size, 3);
    let leaves = store.leaves(0, 10).await.unwrap();
    let read: Leaf<'_> = serde_json::from_str(&leaves[2]).unwrap();
    assert_eq!((read.seq, read.tenant), (2, tenant));
}

pub(super) async fn the_feed_tells_changes_in_order_and_nothing_else(store: Store) {
    let owner = tenant(&store).await;
    append(&store, owner.0, vec![]).await.unwrap();
    connected(&store, owner, "main").await;
    let twice = insert(&integration(owner.0, "main"), owner.1);
    append(&store, owner.0, vec![twice]).await.unwrap_err();
    let changes = store.changes_since(0, 9).await.unwrap();
    assert_eq!(
        changes.iter().map(|change| change.seq).collect::<Vec<_>>(),
        [0, 2]
    );
    assert_eq!(
        (changes[1].tenant, changes[1].on),
        (owner.0, TargetKind::Integration)
    );
    assert_eq!(changes[1].target.as_deref(), Some("int_x"));
    assert_eq!(store.changes_since(1, 9).await.unwrap(), changes[1..]);
    assert_eq!(store.changes_since(0, 1).await.unwrap(), changes[..1]);
    assert_eq!(store.changes_since(3, 9).await.unwrap(), []);
}

pub(super) async fn entries_are_read_newest_first_by_their_tenant_only(store: Store) {
    let (a, b) = (TenantId::from_uuid(uuid()), TenantId::from_uuid(uuid()));
    for tenant in [a, b, a, a] {
        append(&store, tenant, vec![]).await.unwrap();
    }
    let mut denied = entry(a);
    denied.outcome = Outcome::Denied;
    store
        .append(Write {
            entry: denied,
            effects: vec![],
        })
        .await
        .unwrap();
    let all = EntryFilter::default();
    let seqs =
        |rows: Vec<keystead_store::EntryRow>| rows.iter().map(|row| row.seq).collect::<Vec<_>>();
    assert_eq!(
        seqs(store.entries(a, &all, None, 9).await.unwrap()),
        [4, 3, 2, 0]
    );
    assert_eq!(seqs(store.entries(a, &all, Some(3), 1).await.unwrap()), [2]);
    assert_eq!(seqs(store.entries(b, &all, None, 9).await.unwrap()), [1]);
    let filter = EntryFilter {
        outcome: Some(Outcome::Denied),
        ..Default::default()
    };
    assert_eq!(seqs(store.entries(a, &filter, None, 9).await.unwrap()), [4]);
    let filter = EntryFilter {
        target: Some("int_y".to_owned()),
        ..Default::default()
    };
    assert!(seqs(store.entries(a, &filter, None, 9).await.unwrap()).is_empty());
}

pub(super) async fn concurrent_writers_get_one_order_that_verifies(store: Store) {
    let owner = tenant(&store).await;
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut seqs = Vec::new();
                for round in 0..20 {
                    let name = format!("{task}-{round}");
                    let effects = match round % 5 {
                        0 => vec![insert(&integration(owner.0, &name), owner.1)],
                        _ => vec![],
                    };
                    seqs.push(append(&store, owner.0, effects).await.unwrap().seq);
                }
                assert!(seqs.is_sorted());
                seqs
            })
        })
        .collect();
    let mut seqs = Vec::new();
    for task in tasks {
        seqs.extend(task.await.unwrap());
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=320).collect::<Vec<_>>());
    assert_eq!(store.prove_log().await.unwrap().size, 321);
    assert_eq!(
        store.changes_since(0, 1000).await.unwrap().len(),
        1 + 16 * 4
    );
}

pub(super) async fn a_caller_who_hangs_up_does_not_stop_the_write(store: Store) {
    let (tenant, key) = tenant(&store).await;
    let row = integration(tenant, "main");
    {
        let write = append(&store, tenant, vec![insert(&row, key)]);
        let mut write = std::pin::pin!(write);
        // Polled once: handed over, and then dropped.
        std::future::poll_fn(|context| {
            let _ = write.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
    }
    // The log is in order: when a later write is in it, so is that one.
    append(&store, tenant, vec![]).await.unwrap();
    assert_eq!(
        store.find_integration(tenant, row.id).await.unwrap(),
        Some(row)
    );
}

pub(super) async fn proofs_are_answered_from_tiles(store: Store) {
    let tenant = TenantId::from_uuid(uuid());
    let tasks: Vec<_> = (0..600)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { append(&store, tenant, vec![]).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let head = store.prove_log().await.unwrap();
    // The same before there are tiles and after.
    for tiles in [2, 0] {
        for index in [0, 255, 256, 599] {
            let proof = store
                .ask(|source| inclusion_proof(index, 600, source))
                .await
                .unwrap();
            let leaf = store.leaves(index, index + 1).await.unwrap().remove(0);
            verify_inclusion(&leaf_hash(leaf.as_bytes()), index, 600, &proof, &head.root).unwrap();
        }
        assert_eq!(store.build_tiles().await.unwrap(), tiles);
    }
    assert_eq!(store.tiled().await.unwrap(), 512);
    append(&store, tenant, vec![]).await.unwrap();
    let next = store.head().await.unwrap();
    let proof = store
        .ask(|source| consistency_proof(600, 601, source))
        .await
        .unwrap();
    verify_consistency(600, &head.root, 601, &next.root, &proof).unwrap();
}

pub(super) async fn odd_text_of_one_caller_does_not_fail_the_others(store: Store) {
    let (tenant, key) = tenant(&store).await;
    let mut odd = entry(tenant);
    odd.target = Some("nul \0 and é".repeat(100));
    let odd = store.append(Write {
        entry: odd,
        effects: vec![],
    });
    let unnamed = integration(tenant, "a\0b");
    let unnamed = append(&store, tenant, vec![insert(&unnamed, key)]);
    let plain = append(&store, tenant, vec![]);
    let (odd, unnamed, plain) = tokio::join!(odd, unnamed, plain);
    odd.unwrap();
    plain.unwrap();
    let Err(Error::Invalid { what }) = unnamed else {
        panic!("such a name was kept");
    };
    assert_eq!(what, "integration");
    store.prove_log().await.unwrap();
}

pub(super) async fn a_text_that_cannot_be_stored_is_invalid_wherever_it_is_asked_for(store: Store) {
    fn invalid<T>(what: &str, answer: Result<T, Error>) {
        match answer {
            Err(Error::Invalid { .. }) => {}
            Err(other) => panic!("{what}: {other}"),
            Ok(_) => panic!("{what}: was looked for"),
        }
    }
    let (tenant, _) = tenant(&store).await;
    const NUL: &str = "a\0b";
    let of_name = store.find_integration_by_name(tenant, NUL).await;
    invalid("an integration's name", of_name);
    let of_provider = IntegrationFilter {
        provider: Some(NUL.to_owned()),
        limit: 9,
        ..Default::default()
    };
    invalid(
        "a provider",
        store.list_integrations(tenant, &of_provider).await,
    );
    let of_target = EntryFilter {
        target: Some(NUL.to_owned()),
        ..Default::default()
    };
    invalid("a target", store.entries(tenant, &of_target, None, 9).await);
    for (one, other) in [(NUL, "b"), ("a", NUL)] {
        let of_tenant = store.find_tenant_by_external(one, other).await;
        invalid("a tenant's name", of_tenant);
        invalid("a member", store.find_member(tenant, one, other).await);
        let kept = store.find_idempotency(tenant, one, other).await;
        invalid("an idempotency key", kept);
    }
    // Nothing was sent: every connection is as good as before.
    store.ready().await.unwrap();
}
