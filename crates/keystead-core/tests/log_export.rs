//! The check of an export: it finds any edit before the newest checkpoint, and says where.

#![allow(clippy::unwrap_used, reason = "helpers outside of #[test] functions")]

use keystead_core::action::{Action, Outcome, TargetKind};
use keystead_core::entry::Entry;
use keystead_core::ids::{RequestId, TenantId};
use keystead_core::log::{
    Checkpoint, ExportError, ExportVerifier, Frontier, Hash, Verified, VerifierKey, leaf_hash,
};
use keystead_core::time::Time;
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

fn entry(n: u64) -> Entry {
    Entry {
        at: Time(n as i64),
        tenant: TenantId::PLATFORM,
        caller: "service",
        by: Some(format!("worker-{n}")),
        action: Action::Use,
        on: TargetKind::Integration,
        target: Some("int".to_owned()),
        outcome: Outcome::Allowed,
        reason: None,
        version: Some(1),
        tokens: None,
        request: RequestId::from_uuid(Uuid::nil()),
        address: None,
    }
}

/// The stored texts of these entries, numbered from 0.
fn written(entries: &[Entry]) -> Vec<String> {
    (0..).zip(entries).map(|(seq, e)| e.leaf(seq)).collect()
}

fn log(size: u64) -> Vec<String> {
    written(&(0..size).map(entry).collect::<Vec<_>>())
}

fn checkpoint(log: &[String], size: usize) -> (u64, Hash) {
    let mut frontier = Frontier::new();
    for text in &log[..size] {
        frontier.push(leaf_hash(text.as_bytes()));
    }
    (frontier.size(), frontier.root())
}

fn verify(log: &[String], checkpoints: &[(u64, Hash)]) -> Result<Verified, ExportError> {
    let mut verifier = ExportVerifier::new(checkpoints.iter().copied())?;
    log.iter().try_for_each(|text| verifier.push(text))?;
    verifier.finish()
}

fn said(log: &[String], checkpoints: &[(u64, Hash)]) -> String {
    verify(log, checkpoints).unwrap_err().to_string()
}

#[test]
fn an_unchanged_log_agrees_with_each_checkpoint_it_went_through() {
    let log = log(120);
    let (_, root) = checkpoint(&log, 120);
    for sizes in [&[][..], &[0], &[120], &[100, 50, 0, 50, 1, 120]] {
        let checkpoints: Vec<_> = sizes.iter().map(|size| checkpoint(&log, *size)).collect();
        let covered = sizes.iter().max().copied().unwrap_or(0) as u64;
        let size = 120;
        assert_eq!(
            verify(&log, &checkpoints).unwrap(),
            Verified {
                size,
                root,
                covered
            }
        );
    }
    assert_eq!(verify(&log, &[checkpoint(&log, 100)]).unwrap().covered, 100);
}

#[test]
fn the_exported_vector_verifies_against_its_signed_checkpoints() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../vectors/log/checkpoint.json")).unwrap();
    let key: VerifierKey = vectors["verifier_key"].as_str().unwrap().parse().unwrap();
    let checkpoints = ["older", "newest"].map(|which| {
        let note = vectors[which]["note"].as_str().unwrap();
        let read = Checkpoint::parse_signed(note, &key).unwrap();
        (read.size, read.root)
    });
    let log: Vec<_> = vectors["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(verify(&log, &checkpoints).unwrap().covered, 4);
}

#[test]
fn the_first_place_that_tells_is_named() {
    let whole = log(120);
    let signed = [checkpoint(&whole, 100), checkpoint(&whole, 50)];

    let mut dropped = whole.clone();
    dropped.remove(17);
    assert_eq!(said(&dropped, &signed), "entry 17: carries seq 18");

    let mut swapped = whole.clone();
    swapped.swap(3, 4);
    assert_eq!(said(&swapped, &signed), "entry 3: carries seq 4");

    let mut inserted = whole.clone();
    inserted.insert(30, inserted[29].clone());
    assert_eq!(said(&inserted, &signed), "entry 30: carries seq 29");

    assert_eq!(
        said(&whole[..90], &signed),
        "the log has 90 entries but a checkpoint over 100 was signed"
    );

    let mut changed = whole.clone();
    changed[60] = changed[60].replace("allowed", "denied");
    assert_eq!(
        said(&changed, &signed),
        "the tree of the first 100 entries has another root than the checkpoint of that size \
         (over the first 50, the two agree)"
    );

    let mut broken = whole.clone();
    broken[7] = "not an entry".to_owned();
    assert_eq!(said(&broken, &signed), "entry 7: cannot be read");

    let mut future = whole.clone();
    future[8] = future[8].replace(r#""v":1"#, r#""v":2"#);
    assert_eq!(said(&future, &signed), "entry 8: form 2 is not known here");
}

#[test]
fn the_stored_bytes_count_and_not_their_meaning() {
    let whole = log(2);
    let mut spaced = whole.clone();
    spaced[1] = spaced[1].replace(r#""v":1,"#, r#""v": 1,"#);
    assert!(verify(&spaced, &[]).is_ok());
    assert!(matches!(
        verify(&spaced, &[checkpoint(&whole, 2)]),
        Err(ExportError::OtherRoot { size: 2, agreed: 0 })
    ));
}

#[test]
fn two_checkpoints_of_one_size_are_a_fork() {
    let whole = log(3);
    let (size, root) = checkpoint(&whole, 3);
    assert_eq!(
        said(&whole, &[(size, root), (size, [7; 32])]),
        "two checkpoints over 3 entries have different roots"
    );
    let empty = ExportVerifier::new([(0, [7; 32])]);
    assert!(matches!(
        empty,
        Err(ExportError::OtherRoot { size: 0, agreed: 0 })
    ));
}

proptest! {
    // Each edit twice: as a careless hand does it, and with the later entries numbered anew, so that
    // only the tree can tell.
    #[test]
    fn the_log_finds_any_edit(
        size in 2u64..60, signed: usize, older: usize, a: usize, b: usize, bit in 0usize..7,
    ) {
        let entries: Vec<_> = (0..size).map(entry).collect();
        let whole = written(&entries);
        let signed = 1 + signed % whole.len();
        let checkpoints = [checkpoint(&whole, signed), checkpoint(&whole, older % signed)];
        prop_assert!(verify(&whole, &checkpoints).is_ok());
        let finds = |log: &[String]| verify(log, &checkpoints).is_err();
        let (a, other) = (a % signed, b % whole.len());

        let mut bytes = whole[a].clone().into_bytes();
        let place = b % bytes.len();
        bytes[place] ^= 1 << bit;
        let mut flipped = whole.clone();
        flipped[a] = String::from_utf8(bytes).unwrap();
        prop_assert!(finds(&flipped));

        type Edit = fn(&mut Vec<Entry>, usize, usize);
        let edits: [Edit; 5] = [
            |log, a, _| log[a].outcome = Outcome::Denied,
            |log, a, _| drop(log.remove(a)),
            |log, a, other| {
                // Swapped with itself it would be the same log.
                let other = if other == a { (a + 1) % log.len() } else { other };
                log.swap(a, other);
            },
            |log, a, _| log.insert(a, entry(1000)),
            |log, a, _| log.truncate(a),
        ];
        for (number, edit) in edits.iter().enumerate() {
            let mut edited = entries.clone();
            edit(&mut edited, a, other);
            prop_assert!(finds(&written(&edited)), "edit {} numbered anew", number);
        }

        let mut dropped = whole.clone();
        dropped.remove(a);
        prop_assert!(finds(&dropped));
        let mut inserted = whole.clone();
        inserted.insert(a, entry(1000).leaf(a as u64));
        prop_assert!(finds(&inserted));
        prop_assert!(finds(&whole[..a]));
    }
}
