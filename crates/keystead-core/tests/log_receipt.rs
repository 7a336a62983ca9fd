//! The receipt of a revocation: signed, in one spelling, and never a checkpoint.

#![allow(clippy::unwrap_used, reason = "helpers outside of #[test] functions")]

use keystead_core::ids::{BatchId, IntegrationId, TenantId};
use keystead_core::log::{
    Checkpoint, LogKey, NoteError, ReceiptItem, RevocationReceipt, Settled, VerifierKey,
};
use serde_json::json;
use uuid::Uuid;

const ORIGIN: &str = "keystead/ins_00000000000000000000000000000001";

fn key() -> LogKey {
    LogKey::from_seed(ORIGIN, &[7; 32]).unwrap()
}

fn verifier() -> VerifierKey {
    key().verifier().clone()
}

fn item(number: u128, state: Settled) -> ReceiptItem {
    ReceiptItem {
        tenant: TenantId::from_uuid(Uuid::from_u128(1)),
        integration: IntegrationId::from_uuid(Uuid::from_u128(number)),
        name: "main \"one\"\n— tricky".to_owned(),
        provider: "github".to_owned(),
        state,
        detail: (state == Settled::Failed).then(|| "the provider answered 500".to_owned()),
        manual_url: Some("https://github.com/settings/applications".to_owned()),
        attempts: 1,
        settled_at: "2026-11-20T14:15:00.000000Z".to_owned(),
    }
}

fn receipt() -> RevocationReceipt {
    RevocationReceipt {
        origin: ORIGIN.to_owned(),
        batch: BatchId::from_uuid(Uuid::from_u128(9)),
        asked_by: "key_00000000000000000000000000000002".to_owned(),
        selection: json!({"provider": "github", "reason": "they were breached"}),
        created_at: "2026-11-20T14:00:00.000000Z".to_owned(),
        closed_at: "2026-11-20T14:15:00.000000Z".to_owned(),
        items: vec![
            item(1, Settled::Confirmed),
            item(2, Settled::Unsupported),
            item(3, Settled::Failed),
        ],
    }
}

#[test]
fn a_receipt_is_signed_and_read_back() {
    let note = receipt().sign(&key()).unwrap();
    assert!(note.starts_with(&format!("{ORIGIN} revocations\n{{\"v\":1,\"batch\":\"rvb_")));
    let read = RevocationReceipt::parse_signed(&note, &verifier()).unwrap();
    assert_eq!(read, receipt());
    assert_eq!(read.count(Settled::Confirmed), 1);
    let nothing = RevocationReceipt {
        items: Vec::new(),
        ..receipt()
    };
    let note = nothing.sign(&key()).unwrap();
    let read = RevocationReceipt::parse_signed(&note, &verifier()).unwrap();
    assert_eq!(read, nothing);
}

#[test]
fn no_changed_byte_of_a_receipt_is_accepted() {
    let note = receipt().sign(&key()).unwrap();
    let verifier = verifier();
    for at in 0..note.len() {
        let mut bytes = note.clone().into_bytes();
        bytes[at] ^= 1;
        if let Ok(changed) = String::from_utf8(bytes) {
            let read = RevocationReceipt::parse_signed(&changed, &verifier);
            assert!(read.is_err(), "byte {at} may be another");
        }
    }
    let other = LogKey::from_seed(ORIGIN, &[8; 32]).unwrap();
    let read = RevocationReceipt::parse_signed(&note, other.verifier());
    assert_eq!(read, Err(NoteError::Unsigned));
}

#[test]
fn a_line_that_was_taken_out_before_it_was_signed_shows_in_the_counts() {
    let text = receipt().sign(&key()).unwrap();
    let (body, _) = text.split_once("\n\n").unwrap();
    let mut lines: Vec<&str> = body.lines().collect();
    lines.remove(4);
    let short = key().sign(&format!("{}\n", lines.join("\n"))).unwrap();
    let read = RevocationReceipt::parse_signed(&short, &verifier());
    assert_eq!(read, Err(NoteError::Form("receipt")));
    // The text as such stands: it is what was taken out that is told.
    let whole = key().sign(&format!("{body}\n")).unwrap();
    assert_eq!(whole, text);
}

#[test]
fn a_checkpoint_is_no_receipt_and_a_receipt_no_checkpoint() {
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size: 1,
        root: [1; 32],
    };
    let checkpoint = checkpoint.sign(&key()).unwrap();
    let read = RevocationReceipt::parse_signed(&checkpoint, &verifier());
    assert_eq!(read, Err(NoteError::Form("receipt")));
    let receipt = receipt().sign(&key()).unwrap();
    let read = Checkpoint::parse_signed(&receipt, &verifier());
    assert_eq!(read, Err(NoteError::Form("checkpoint")));
}

#[test]
fn a_receipt_of_another_installation_is_refused() {
    let other = "keystead/ins_00000000000000000000000000000002";
    let foreign = RevocationReceipt {
        origin: other.to_owned(),
        ..receipt()
    };
    assert_eq!(foreign.sign(&key()), Err(NoteError::Origin));
    // Signed all the same, by a key that is used for more than one log.
    let note = receipt().sign(&key()).unwrap();
    let (body, _) = note.split_once("\n\n").unwrap();
    let note = key()
        .sign(&format!("{}\n", body.replace(ORIGIN, other)))
        .unwrap();
    let read = RevocationReceipt::parse_signed(&note, &verifier());
    assert_eq!(read, Err(NoteError::Origin));
}

#[test]
fn a_receipt_of_ten_thousand_is_read() {
    let many = RevocationReceipt {
        items: (0..10_000).map(|n| item(n, Settled::Confirmed)).collect(),
        ..receipt()
    };
    let note = many.sign(&key()).unwrap();
    let read = RevocationReceipt::parse_signed(&note, &verifier()).unwrap();
    assert_eq!(read.count(Settled::Confirmed), 10_000);
}
