//! Signed notes and checkpoints: nothing opens but what the key signed, and that in one spelling.
#![no_main]

use keystead_core::log::{Checkpoint, LogKey, VerifierKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let key = LogKey::from_seed("example.test/log", &[7; 32]).expect("a valid name");
    assert!(key.verifier().open(text).is_err());

    if let Ok(note) = key.sign(text) {
        assert_eq!(key.verifier().open(&note).ok(), Some(text));
        if let Ok(checkpoint) = Checkpoint::parse_signed(&note, key.verifier()) {
            assert_eq!(checkpoint.sign(&key).ok(), Some(note));
        }
    }
    if let Ok(verifier) = text.parse::<VerifierKey>() {
        assert_eq!(verifier.to_string(), text);
    }
});
