//! The audit log's stored and presented forms: frontiers, tiles, entries, proofs.
#![no_main]

use keystead_core::entry::Leaf;
use keystead_core::log::{
    ExportVerifier, Frontier, Hash, Tile, leaf_hash, verify_consistency, verify_inclusion,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], u64, u64)| {
    let (bytes, at, size) = input;
    if let Ok(mut frontier) = Frontier::from_bytes(bytes) {
        assert_eq!(frontier.to_bytes(), bytes);
        let root = frontier.root();
        frontier.push(leaf_hash(bytes));
        assert_ne!(frontier.root(), root);
    }
    if let Ok(tile) = Tile::from_bytes(bytes) {
        assert_eq!(tile.as_bytes(), bytes);
        let _ = tile.root();
    }

    let (hashes, _) = bytes.as_chunks();
    let proof: &[Hash] = hashes;
    let leaf = leaf_hash(bytes);
    // No proof leads from these hashes to a root that is none of their parents.
    assert!(verify_inclusion(&leaf, at, size, proof, &[0; 32]).is_err());
    assert!(at == 0 || verify_consistency(at, &leaf, size, &[0; 32], proof).is_err());

    if let Ok(text) = str::from_utf8(bytes) {
        let mut export = ExportVerifier::new([]).expect("no checkpoints, no fork");
        if export.push(text).is_ok() {
            let leaf: Leaf<'_> = serde_json::from_str(text).expect("it was read just now");
            assert_eq!((leaf.v, leaf.seq), (1, 0));
        }
    }
});
