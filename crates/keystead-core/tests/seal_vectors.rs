//! Holds the seal to `vectors/seal`, and those files to the program that writes them.

#![allow(clippy::disallowed_methods, reason = "the vectors are files")]

#[path = "../examples/seal_vectors/cases.rs"]
mod cases;
#[path = "../examples/seal_vectors/two_keys.rs"]
mod two_keys;
#[path = "../examples/seal_vectors/vector.rs"]
mod vector;

use std::collections::BTreeMap;
use std::path::Path;

use aws_lc_rs::aead::{Aad, Nonce};
use keystead_core::seal::open;
use vector::{Blob, Outcome, Vector, bytes, edited, sha256};

fn committed() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/seal");
    std::fs::read_dir(folder)
        .expect("the folder of vectors")
        .map(|file| {
            let file = file.expect("a file");
            let text = std::fs::read_to_string(file.path()).expect("text");
            (
                file.file_name().into_string().expect("a name in ASCII"),
                text,
            )
        })
        .collect()
}

fn vectors() -> BTreeMap<String, Vector> {
    committed()
        .into_iter()
        .map(|(name, text)| {
            let vector = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, vector)
        })
        .collect()
}

/// The blobs that a file speaks of: one, but for the file of beginnings.
fn blobs(vector: &Vector, all: &BTreeMap<String, Vector>) -> Vec<Vec<u8>> {
    match &vector.blob {
        Blob::Hex(text) => vec![bytes(text)],
        Blob::Sealed { sha256: hash } => {
            let blob = vector.sealed();
            assert_eq!(sha256(&blob), *hash);
            vec![blob]
        }
        Blob::Edited {
            file,
            ranges,
            flip,
            sha256: hash,
        } => {
            let source = all[file].sealed();
            let blob = edited(&source, ranges, flip);
            assert_eq!(sha256(&blob), *hash);
            vec![blob]
        }
        Blob::Beginnings { beginnings_of } => {
            let source = all[beginnings_of].sealed();
            (0..source.len())
                .map(|end| source[..end].to_vec())
                .collect()
        }
    }
}

#[test]
fn the_committed_vectors_are_the_generated_ones() {
    let generated: BTreeMap<String, String> = cases::all()
        .into_iter()
        .map(|(name, vector)| (name, vector.to_text()))
        .collect();
    let committed = committed();
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&generated));
    for (name, text) in generated {
        assert!(
            committed[&name] == text,
            "{name} is not what the example writes"
        );
    }
}

#[test]
fn every_vector_ends_as_it_says() {
    let all = vectors();
    for (name, vector) in &all {
        for blob in blobs(vector, &all) {
            let opened = open(
                &vector.seal_key(),
                &vector.seal_key_id(),
                &vector.place(),
                &blob,
            );
            match vector.result {
                Outcome::Ok => {
                    let plain = opened.unwrap_or_else(|e| panic!("{name}: {e}"));
                    let message = vector.message().expect("what opens has a message");
                    assert!(plain.expose() == message, "{name}: another message");
                    assert!(vector.sealed() == blob, "{name}: sealed to another blob");
                }
                Outcome::Corrupt => assert!(opened.is_err(), "{name}, {} bytes", blob.len()),
            }
        }
    }
}

#[test]
fn only_the_commitment_refuses_a_ciphertext_that_opens_under_two_keys() {
    let all = vectors();
    let marked: Vec<_> = all
        .values()
        .filter(|vector| vector.plain_gcm_opens)
        .collect();
    assert_eq!(marked.len(), 3);
    let mut chunks = Vec::new();
    for vector in marked {
        let [blob] = &blobs(vector, &all)[..] else {
            panic!("one blob a file");
        };
        let nonce = Nonce::assume_unique_for_key(vector.okm().nonce(0));
        let mut chunk = blob[76..].to_vec();
        chunks.push(chunk.clone());
        let plain = vector
            .okm()
            .gcm()
            .open_in_place(nonce, Aad::empty(), &mut chunk)
            .expect("plain GCM opens it");
        assert_eq!(
            plain[..4],
            60u32.to_be_bytes(),
            "well padded under each key"
        );
    }
    assert!(
        chunks.iter().all(|chunk| *chunk == chunks[0]),
        "one ciphertext"
    );
}
