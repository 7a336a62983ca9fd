//! The tree against the published cases and against another implementation; tiles against the tree.

#![allow(clippy::unwrap_used, reason = "helpers outside of #[test] functions")]

use std::collections::BTreeMap;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use keystead_core::log::{
    Frontier, Hash, HashSource, Hashes, Read, Tile, TileId, TreeError, complete_tiles,
    consistency_proof, inclusion_proof, leaf_hash, new_tiles, node_hash, plan, verify_consistency,
    verify_inclusion,
};
use proptest::prelude::*;
use serde_json::Value;

/// Every complete subtree of a tree, level by level.
#[derive(Default)]
struct Nodes(Vec<Vec<Hash>>);

impl Nodes {
    fn of(leaves: impl IntoIterator<Item = Vec<u8>>) -> Nodes {
        let mut levels = vec![
            leaves
                .into_iter()
                .map(|l| leaf_hash(&l))
                .collect::<Vec<_>>(),
        ];
        while levels[levels.len() - 1].len() > 1 {
            let (pairs, _) = levels[levels.len() - 1].as_chunks();
            let above = pairs.iter().map(|[l, r]| node_hash(l, r)).collect();
            levels.push(above);
        }
        Nodes(levels)
    }

    /// The tree whose leaf `i` is the decimal text of `i`.
    fn numbered(size: u64) -> Nodes {
        Nodes::of((0..size).map(|i| i.to_string().into_bytes()))
    }

    fn root(&self, size: u64) -> Hash {
        Frontier::from_source(size, self).unwrap().root()
    }
}

impl HashSource for Nodes {
    fn hash(&self, level: u8, index: u64) -> Option<Hash> {
        self.0.get(usize::from(level))?.get(index as usize).copied()
    }
}

fn hex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

fn hash(text: &Value) -> Hash {
    hex(text).try_into().unwrap()
}

fn hashes(list: &Value) -> Vec<Hash> {
    list.as_array().unwrap().iter().map(hash).collect()
}

#[test]
fn the_published_tree_has_its_roots_and_proofs() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../vectors/log/rfc6962.json")).unwrap();
    let leaves: Vec<_> = vectors["leaves"]
        .as_array()
        .unwrap()
        .iter()
        .map(hex)
        .collect();
    let roots = hashes(&vectors["roots"]);
    let nodes = Nodes::of(leaves.clone());

    let mut frontier = Frontier::new();
    assert_eq!(frontier.root(), roots[0]);
    for (leaf, root) in leaves.iter().zip(&roots[1..]) {
        frontier.push(leaf_hash(leaf));
        assert_eq!(frontier.root(), *root);
    }
    for case in vectors["inclusion"].as_array().unwrap() {
        let (index, size) = (
            case["index"].as_u64().unwrap(),
            case["size"].as_u64().unwrap(),
        );
        let proof = hashes(&case["proof"]);
        assert_eq!(inclusion_proof(index, size, &nodes).unwrap(), proof);
        let leaf = leaf_hash(&leaves[index as usize]);
        verify_inclusion(&leaf, index, size, &proof, &roots[size as usize]).unwrap();
    }
    for case in vectors["consistency"].as_array().unwrap() {
        let (old, new) = (case["old"].as_u64().unwrap(), case["new"].as_u64().unwrap());
        let proof = hashes(&case["proof"]);
        assert_eq!(consistency_proof(old, new, &nodes).unwrap(), proof);
        let (from, to) = (&roots[old as usize], &roots[new as usize]);
        verify_consistency(old, from, new, to, &proof).unwrap();
    }
}

#[test]
fn roots_and_proofs_of_every_size_to_300_are_those_of_ct_merkle() {
    let nodes = Nodes::numbered(300);
    let mut theirs = MemoryBackedTree::<sha2::Sha256, String>::new();
    let mut ours = Frontier::new();
    let mut roots = Vec::new();
    for size in 0..=300 {
        assert_eq!(ours.root()[..], theirs.root().as_bytes()[..], "size {size}");
        assert_eq!(ours, Frontier::from_source(size, &nodes).unwrap());
        assert_eq!(ours, Frontier::from_bytes(&ours.to_bytes()).unwrap());
        roots.push(ours.root());
        for index in 0..size {
            let proof = inclusion_proof(index, size, &nodes).unwrap();
            let other = theirs.prove_inclusion(index as usize);
            assert_eq!(proof.as_flattened(), other.as_bytes(), "{index} in {size}");
            let leaf = leaf_hash(index.to_string().as_bytes());
            verify_inclusion(&leaf, index, size, &proof, &roots[size as usize]).unwrap();
        }
        for old in 0..=size {
            let proof = consistency_proof(old, size, &nodes).unwrap();
            if 0 < old && old < size {
                let other = theirs.prove_consistency((size - old) as usize);
                assert_eq!(proof.as_flattened(), other.as_bytes(), "{old} to {size}");
            }
            let (from, to) = (&roots[old as usize], &roots[size as usize]);
            verify_consistency(old, from, size, to, &proof).unwrap();
        }
        theirs.push(size.to_string());
        ours.push(leaf_hash(size.to_string().as_bytes()));
    }
}

#[test]
fn a_frontier_is_read_back_only_at_its_exact_length() {
    let frontier = Frontier::from_source(11, &Nodes::numbered(11)).unwrap();
    let bytes = frontier.to_bytes();
    assert_eq!(bytes.len(), 8 + 3 * 32);
    let refused = Err(TreeError::Form("frontier"));
    for length in 0..bytes.len() {
        assert_eq!(Frontier::from_bytes(&bytes[..length]), refused);
    }
    assert_eq!(Frontier::from_bytes(&[&bytes[..], &[0]].concat()), refused);
    let mut larger = bytes.clone();
    larger[7] = 15;
    assert_eq!(Frontier::from_bytes(&larger), refused);
    let mut beyond = bytes;
    beyond[0] = 0x80;
    beyond[7] = 3;
    assert_eq!(Frontier::from_bytes(&beyond), refused);
}

#[test]
fn questions_outside_the_tree_are_refused() {
    let nodes = Nodes::numbered(5);
    let root = nodes.root(5);
    let outside = Err(TreeError::NoSuchLeaf { index: 5, size: 5 });
    assert_eq!(inclusion_proof(5, 5, &nodes), outside);
    assert_eq!(
        verify_inclusion(&root, 5, 5, &[], &root),
        outside.map(|_| ())
    );
    let shrunk = Err(TreeError::NotOlder { old: 5, new: 4 });
    assert_eq!(consistency_proof(5, 4, &nodes), shrunk);
    assert_eq!(
        verify_consistency(5, &root, 4, &root, &[]),
        shrunk.map(|_| ())
    );
    let missing = TreeError::Missing { level: 0, index: 5 };
    assert_eq!(inclusion_proof(0, 6, &nodes), Err(missing_level_1()));
    assert_eq!(inclusion_proof(4, 6, &nodes), Err(missing));
    // Nothing stands before the empty tree but itself.
    assert!(verify_consistency(0, &root, 5, &root, &[]).is_err());
    assert!(verify_consistency(0, &Frontier::new().root(), 5, &root, &[root]).is_err());
    assert!(verify_consistency(5, &nodes.root(4), 5, &root, &[]).is_err());
}

fn missing_level_1() -> TreeError {
    TreeError::Missing { level: 1, index: 2 }
}

proptest! {
    #[test]
    fn a_changed_inclusion_proof_is_refused(
        size in 2u64..300, index: u64, other: u64, place: usize, bit in 0usize..256,
    ) {
        let nodes = Nodes::numbered(size);
        let (index, other) = (index % size, other % size);
        let root = nodes.root(size);
        let leaf = nodes.0[0][index as usize];
        let proof = inclusion_proof(index, size, &nodes).unwrap();
        let place = place % proof.len();
        let verify = |leaf: &Hash, index, proof: &[Hash]| verify_inclusion(leaf, index, size, proof, &root);
        prop_assert_eq!(verify(&leaf, index, &proof), Ok(()));

        prop_assert!(verify(&flip(leaf, bit), index, &proof).is_err());
        prop_assert_eq!(verify(&leaf, other, &proof).is_ok(), other == index);
        let mut changed = proof.clone();
        changed[place] = flip(changed[place], bit);
        prop_assert_eq!(verify(&leaf, index, &changed), Err(TreeError::OtherRoot { size }));
        let mut longer = proof.clone();
        longer.insert(place, leaf);
        prop_assert!(verify(&leaf, index, &longer).is_err());
        let mut shorter = proof;
        shorter.remove(place);
        prop_assert!(verify(&leaf, index, &shorter).is_err());
    }

    #[test]
    fn a_changed_consistency_proof_is_refused(
        new in 2u64..300, old: u64, place: usize, bit in 0usize..256,
    ) {
        let nodes = Nodes::numbered(new);
        let old = 1 + old % (new - 1);
        let (from, to) = (nodes.root(old), nodes.root(new));
        let proof = consistency_proof(old, new, &nodes).unwrap();
        let place = place % proof.len();
        let verify = |from: &Hash, to: &Hash, proof: &[Hash]| verify_consistency(old, from, new, to, proof);
        prop_assert_eq!(verify(&from, &to, &proof), Ok(()));

        prop_assert!(verify(&flip(from, bit), &to, &proof).is_err());
        prop_assert!(verify(&from, &flip(to, bit), &proof).is_err());
        let mut changed = proof.clone();
        changed[place] = flip(changed[place], bit);
        prop_assert!(verify(&from, &to, &changed).is_err());
        let mut longer = proof.clone();
        longer.insert(place, from);
        prop_assert!(verify(&from, &to, &longer).is_err());
        let mut shorter = proof;
        shorter.remove(place);
        prop_assert!(verify(&from, &to, &shorter).is_err());
    }
}

fn flip(mut hash: Hash, bit: usize) -> Hash {
    hash[bit / 8] ^= 1 << (bit % 8);
    hash
}

/// A store of tiles over the tree of decimal texts, and what was read from it.
#[derive(Default)]
struct Tiles {
    rows: BTreeMap<TileId, (Vec<u8>, Hash)>,
    tiled: u64,
}

impl Tiles {
    fn fetch(&self, read: Read, into: &mut Hashes) {
        match read {
            Read::Leaves { from, to } => {
                (from..to).for_each(|seq| into.add_leaf(seq, seq.to_string().as_bytes()))
            }
            Read::Roots { level, from, to } => (from..to).for_each(|index| {
                let id = TileId { level, index };
                into.add_root(id, self.rows[&id].1);
            }),
            Read::Tile(id) => into.add_tile(id, &Tile::from_bytes(&self.rows[&id].0).unwrap()),
        }
    }

    fn catch_up(&mut self, size: u64) {
        for id in new_tiles(self.tiled, size) {
            let mut hashes = Hashes::default();
            self.fetch(id.source(), &mut hashes);
            let tile = Tile::build(id, &hashes).unwrap();
            let row = (tile.as_bytes().to_vec(), tile.root());
            assert!(self.rows.insert(id, row).is_none(), "{id:?} written twice");
        }
        self.tiled = size;
    }

    /// Plans, reads, and answers; with what was read.
    fn ask<T>(&self, question: impl Fn(&dyn HashSource) -> Result<T, TreeError>) -> (T, Vec<Read>) {
        let reads = plan(self.tiled, &question).unwrap();
        let mut hashes = Hashes::default();
        reads.iter().for_each(|read| self.fetch(*read, &mut hashes));
        (question(&hashes).unwrap(), reads)
    }
}

#[test]
fn proofs_from_tiles_are_those_of_the_tree_and_read_little() {
    const SIZE: u64 = 3 * 65_536 + 5 * 256 + 77;
    let nodes = Nodes::numbered(SIZE);
    let mut tiles = Tiles::default();
    for size in [0, 1, 255, 256, 257, 70_000, 70_001, SIZE] {
        tiles.catch_up(size);
    }
    assert_eq!(tiles.rows.len() as u64, SIZE / 256 + SIZE / 65_536);
    assert_eq!(complete_tiles(0, SIZE), SIZE / 256);
    assert_eq!(complete_tiles(1, SIZE), 3);
    assert_eq!(complete_tiles(6, u64::MAX >> 1), 127);
    assert_eq!(complete_tiles(7, u64::MAX), 0);

    let sizes = [
        1,
        2,
        256,
        257,
        1000,
        65_536,
        65_537,
        131_072,
        196_608,
        196_609,
        SIZE - 78,
        SIZE,
    ];
    for size in sizes {
        let (frontier, _) = tiles.ask(|source| Frontier::from_source(size, source));
        assert_eq!(frontier, Frontier::from_source(size, &nodes).unwrap());
        for index in [0, 255, 256, 65_535, 65_536, size / 2, size / 3, size - 1] {
            if index >= size {
                continue;
            }
            let (proof, reads) = tiles.ask(|source| inclusion_proof(index, size, source));
            assert_eq!(proof, inclusion_proof(index, size, &nodes).unwrap());
            assert_small(&reads);
        }
        for old in sizes {
            if old > size {
                continue;
            }
            let (proof, reads) = tiles.ask(|source| consistency_proof(old, size, source));
            assert_eq!(proof, consistency_proof(old, size, &nodes).unwrap());
            assert_small(&reads);
        }
    }
}

/// A tree of two tile levels and a tail: two paths down, and the edge.
fn assert_small(reads: &[Read]) {
    let tiles = reads.iter().filter(|r| matches!(r, Read::Tile(_))).count();
    let rows: u64 = reads
        .iter()
        .map(|read| match read {
            Read::Leaves { from, to } | Read::Roots { from, to, .. } => to - from,
            Read::Tile(_) => 1,
        })
        .sum();
    assert!(tiles <= 6 && rows <= 3 * 256, "{reads:?}");
}

#[test]
fn a_tile_is_read_back_only_at_its_exact_length() {
    let bytes = [7; 8192];
    assert_eq!(Tile::from_bytes(&bytes).unwrap().as_bytes(), bytes);
    for wrong in [&bytes[..8191], &bytes[..8160], &[]] {
        assert_eq!(Tile::from_bytes(wrong), Err(TreeError::Form("tile")));
    }
    assert!(Tile::from_bytes(&[7; 8224]).is_err());
}

proptest! {
    #[test]
    fn proofs_do_not_depend_on_how_far_the_tiles_have_come(
        size in 1u64..1500, tiled: u64, index: u64, old: u64,
    ) {
        let nodes = Nodes::numbered(size);
        let (tiled, index, old) = (tiled % (size + 1), index % size, old % (size + 1));
        let mut tiles = Tiles::default();
        tiles.catch_up(tiled);
        let (inclusion, reads) = tiles.ask(|source| inclusion_proof(index, size, source));
        let again = |read: &Read| matches!(read, Read::Leaves { from, .. } if *from < tiled / 256 * 256);
        prop_assert!(!reads.iter().any(again), "leaves read that are in tiles: {reads:?}");
        prop_assert_eq!(inclusion, inclusion_proof(index, size, &nodes).unwrap());
        let (consistency, _) = tiles.ask(|source| consistency_proof(old, size, source));
        prop_assert_eq!(consistency, consistency_proof(old, size, &nodes).unwrap());
    }
}
