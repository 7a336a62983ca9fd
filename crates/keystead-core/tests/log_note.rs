//! Signed notes, verifier keys and checkpoints against the vectors.

#![allow(clippy::unwrap_used, reason = "helpers outside of #[test] functions")]

use keystead_core::log::{Checkpoint, LogKey, NoteError, VerifierKey};
use serde_json::Value;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn hash(value: &Value, name: &str) -> [u8; 32] {
    let hex = text(value, name);
    std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
}

fn checkpoint_vectors() -> Value {
    serde_json::from_str(include_str!("../../../vectors/log/checkpoint.json")).unwrap()
}

#[test]
fn a_note_is_that_of_the_go_implementation() {
    let vector: Value =
        serde_json::from_str(include_str!("../../../vectors/log/note.json")).unwrap();
    let key = LogKey::from_seed(text(&vector, "name"), &hash(&vector, "seed")).unwrap();
    assert_eq!(key.verifier().to_string(), text(&vector, "verifier_key"));
    assert_eq!(
        key.sign(text(&vector, "text")).unwrap(),
        text(&vector, "note")
    );
    let verifier: VerifierKey = text(&vector, "verifier_key").parse().unwrap();
    assert_eq!(verifier, *key.verifier());
    assert_eq!(
        verifier.open(text(&vector, "note")),
        Ok(text(&vector, "text"))
    );
}

#[test]
fn a_checkpoint_is_signed_and_read_in_one_spelling() {
    let vectors = checkpoint_vectors();
    let key = LogKey::from_seed(text(&vectors, "origin"), &hash(&vectors, "seed")).unwrap();
    let verifier: VerifierKey = text(&vectors, "verifier_key").parse().unwrap();
    for case in [&vectors["older"], &vectors["newest"]] {
        let checkpoint = Checkpoint {
            origin: text(&vectors, "origin").to_owned(),
            size: case["size"].as_u64().unwrap(),
            root: hash(case, "root"),
        };
        assert_eq!(checkpoint.sign(&key).unwrap(), text(case, "note"));
        assert_eq!(
            Checkpoint::parse_signed(text(case, "note"), &verifier).unwrap(),
            checkpoint
        );
    }
    let witnessed = Checkpoint::parse_signed(text(&vectors, "witnessed"), &verifier).unwrap();
    assert_eq!(witnessed.size, 4);
}

#[test]
fn every_spoilt_checkpoint_is_refused_for_its_own_fault() {
    let vectors = checkpoint_vectors();
    let verifier: VerifierKey = text(&vectors, "verifier_key").parse().unwrap();
    for case in vectors["refused"].as_array().unwrap() {
        let fault = match Checkpoint::parse_signed(text(case, "note"), &verifier) {
            Ok(_) => "none",
            Err(NoteError::Form(_)) => "form",
            Err(NoteError::Origin) => "origin",
            Err(NoteError::Signature) => "signature",
            Err(NoteError::Unsigned) => "unsigned",
        };
        assert_eq!(fault, text(case, "fault"), "{}", text(case, "why"));
    }
}

#[test]
fn any_flipped_bit_of_a_checkpoint_is_noticed() {
    let vectors = checkpoint_vectors();
    let verifier: VerifierKey = text(&vectors, "verifier_key").parse().unwrap();
    let note = text(&vectors["newest"], "note").as_bytes();
    for bit in 0..note.len() * 8 {
        let mut changed = note.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(changed) = std::str::from_utf8(&changed) {
            assert!(
                Checkpoint::parse_signed(changed, &verifier).is_err(),
                "bit {bit}"
            );
        }
    }
}

#[test]
fn a_verifier_key_has_one_spelling() {
    let vectors = checkpoint_vectors();
    let good = text(&vectors, "verifier_key");
    let (name, rest) = good.split_once('+').unwrap();
    let (hash, public) = rest.split_once('+').unwrap();
    assert_eq!(good.parse::<VerifierKey>().unwrap().to_string(), good);
    let mistyped = format!("{}B{}", &public[..10], &public[11..]);
    assert_ne!(mistyped, public);
    for bad in [
        String::new(),
        name.to_owned(),
        format!("{name}+{hash}"),
        format!("{name}x+{hash}+{public}"),
        format!("{name} +{hash}+{public}"),
        format!("+{hash}+{public}"),
        format!("{name}+{}+{public}", hash.to_uppercase()),
        format!("{name}+00{hash}+{public}"),
        format!("{name}+{hash}+{mistyped}"),
        format!("{name}+{hash}+{public}\n"),
        format!("{name}+{hash}+Ag{}", &public[2..]),
        format!("{name}+{hash}+{}", &public[..40]),
    ] {
        assert!(bad.parse::<VerifierKey>().is_err(), "{bad:?}");
    }
}

#[test]
fn what_could_not_be_read_back_is_not_signed() {
    let seed = *b"canary canary canary canary 0001";
    for name in ["", "a b", "a+b", "a\u{a0}b", "a\nb", "a\u{7}b"] {
        assert!(LogKey::from_seed(name, &seed).is_err(), "{name:?}");
    }
    let key = LogKey::from_seed("log.example", &seed).unwrap();
    for text in ["", "no newline", "tab\there\n", "cr\r\n", "nul\0\n"] {
        assert_eq!(key.sign(text), Err(NoteError::Form("text")), "{text:?}");
    }
    for text in ["\n", "blank\n\nlines\n\n", "— log.example AAAAAAAA\n"] {
        let note = key.sign(text).unwrap();
        assert_eq!(key.verifier().open(&note), Ok(text));
    }
    let foreign = Checkpoint {
        origin: "other.example".to_owned(),
        size: 0,
        root: [0; 32],
    };
    assert_eq!(foreign.sign(&key), Err(NoteError::Origin));
}

#[test]
fn an_endless_note_is_not_read() {
    let key = LogKey::from_seed("log.example", b"canary canary canary canary 0001").unwrap();
    let note = key.sign(&"line\n".repeat(14_000)).unwrap();
    assert_eq!(key.verifier().open(&note), Err(NoteError::Form("note")));
}
