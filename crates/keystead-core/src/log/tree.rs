//! Tree hashes, the right edge of a growing tree, and proofs.
//!
//! A subtree is *complete* when it has 2^level leaves and starts at a multiple of that; it is named
//! `(level, index)` and covers the leaves from `index << level`. Every proof is made of hashes of
//! complete subtrees, which never change once they exist. All sizes are below 2^63.

use aws_lc_rs::digest;

/// A SHA-256 hash: of a leaf, of a subtree, of the whole tree.
pub type Hash = [u8; 32];

/// What can be wrong with a proof or a stored part of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The bytes are not those of the named thing.
    #[error("these bytes are not a {0}")]
    Form(&'static str),
    /// The source lacks a hash that the tree needs.
    #[error("the hash of subtree {index} at level {level} is missing")]
    Missing {
        /// Levels above the leaves.
        level: u8,
        /// Place within the level, from 0.
        index: u64,
    },
    /// The leaf lies outside the tree.
    #[error("there is no entry {index} in a log of {size}")]
    NoSuchLeaf {
        /// Place of the leaf, from 0.
        index: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// The tree that should be the older one is the larger one.
    #[error("a log of {old} entries cannot have grown into one of {new}")]
    NotOlder {
        /// Leaves of the older tree.
        old: u64,
        /// Leaves of the newer tree.
        new: u64,
    },
    /// The proof leads to another root than the one of that size.
    #[error("the proof does not lead to the root of the log of {size} entries")]
    OtherRoot {
        /// Leaves of the tree whose root differs.
        size: u64,
    },
    /// The proof has more or fewer hashes than a tree of that shape needs.
    #[error("the proof has {0} hashes, which does not fit the size of the log")]
    ProofLength(usize),
}

/// `SHA-256(0x00 ‖ leaf)`: [RFC 9162 §2.1.1](https://www.rfc-editor.org/rfc/rfc9162#section-2.1.1).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[0x00]);
    context.update(leaf);
    to_hash(&context.finish())
}

/// `SHA-256(0x01 ‖ left ‖ right)`: [RFC 9162 §2.1.1](https://www.rfc-editor.org/rfc/rfc9162#section-2.1.1).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut node = [0x01; 65];
    node[1..33].copy_from_slice(left);
    node[33..].copy_from_slice(right);
    sha256(&node)
}

pub(super) fn sha256(bytes: &[u8]) -> Hash {
    to_hash(&digest::digest(&digest::SHA256, bytes))
}

fn to_hash(digest: &digest::Digest) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}

/// Hashes of complete subtrees, by name.
pub trait HashSource {
    /// The hash of the complete subtree `(level, index)`, if the source has what makes it up.
    fn hash(&self, level: u8, index: u64) -> Option<Hash>;
}

/// The right edge of a tree: all that is needed to append and to know the root.
///
/// ```text
/// bytes = size u64be ‖ hash of each complete subtree, the largest (leftmost) first
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// One for each set bit of `size`, the largest first.
    hashes: Vec<Hash>,
}

impl Frontier {
    /// The empty tree.
    pub fn new() -> Frontier {
        Frontier::default()
    }

    /// The edge of the tree of the first `size` leaves, read from the tree itself.
    pub fn from_source(size: u64, source: &dyn HashSource) -> Result<Frontier, TreeError> {
        let mut hashes = Vec::new();
        let mut start = 0;
        for level in (0..64).rev().filter(|level| size >> level & 1 == 1) {
            hashes.push(subtree(start, start + (1 << level), source)?);
            start += 1 << level;
        }
        Ok(Frontier { size, hashes })
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash: one node hash on average.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// The root; `SHA-256("")` for the empty tree.
    pub fn root(&self) -> Hash {
        self.hashes
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| node_hash(&left, &right))
            .unwrap_or_else(|| sha256(&[]))
    }

    /// The stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        bytes.extend_from_slice(self.hashes.as_flattened());
        bytes
    }

    /// Reads the stored form back; refuses any other length than the size calls for.
    pub fn from_bytes(bytes: &[u8]) -> Result<Frontier, TreeError> {
        const FORM: TreeError = TreeError::Form("frontier");
        let (size, rest) = bytes.split_first_chunk().ok_or(FORM)?;
        let size = u64::from_be_bytes(*size);
        let (hashes, odd) = rest.as_chunks();
        if !odd.is_empty() || hashes.len() != size.count_ones() as usize || size >> 63 != 0 {
            return Err(FORM);
        }
        Ok(Frontier {
            size,
            hashes: hashes.to_vec(),
        })
    }
}

/// The largest power of two below `width`, where a tree of that many leaves divides.
fn split(width: u64) -> u64 {
    1 << (width - 1).ilog2()
}

/// The root over the leaves from `start` to before `end`, a range that the division of a tree yields.
fn subtree(start: u64, end: u64, source: &dyn HashSource) -> Result<Hash, TreeError> {
    let width = end - start;
    if width.is_power_of_two() {
        let level = width.ilog2() as u8;
        let index = start >> level;
        let missing = TreeError::Missing { level, index };
        return source.hash(level, index).ok_or(missing);
    }
    let middle = start + split(width);
    let left = subtree(start, middle, source)?;
    Ok(node_hash(&left, &subtree(middle, end, source)?))
}

/// That leaf `index` is in the tree of the first `size` leaves:
/// [RFC 9162 §2.1.3.1](https://www.rfc-editor.org/rfc/rfc9162#section-2.1.3.1).
pub fn inclusion_proof(
    index: u64,
    size: u64,
    source: &dyn HashSource,
) -> Result<Vec<Hash>, TreeError> {
    if index >= size {
        return Err(TreeError::NoSuchLeaf { index, size });
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(subtree(middle, end, source)?);
            end = middle;
        } else {
            proof.push(subtree(start, middle, source)?);
            start = middle;
        }
    }
    // The walk goes down; a proof is read from the leaf up.
    proof.reverse();
    Ok(proof)
}

/// That the tree of the first `new` leaves begins with the tree of the first `old`:
/// [RFC 9162 §2.1.4.1](https://www.rfc-editor.org/rfc/rfc9162#section-2.1.4.1). Empty where `old` is
/// 0 or `new`.
pub fn consistency_proof(
    old: u64,
    new: u64,
    source: &dyn HashSource,
) -> Result<Vec<Hash>, TreeError> {
    if old > new {
        return Err(TreeError::NotOlder { old, new });
    }
    let mut proof = Vec::new();
    if old == 0 {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, new);
    while old < end {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(subtree(middle, end, source)?);
            end = middle;
        } else {
            proof.push(subtree(start, middle, source)?);
            start = middle;
        }
    }
    // Where the old tree is itself a subtree of the new one, the verifier holds its root already.
    if start > 0 {
        proof.push(subtree(start, end, source)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks an inclusion proof: [RFC 9162 §2.1.3.2](https://www.rfc-editor.org/rfc/rfc9162#section-2.1.3.2).
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), TreeError> {
    if index >= size {
        return Err(TreeError::NoSuchLeaf { index, size });
    }
    let length = TreeError::ProofLength(proof.len());
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for step in proof {
        if last == 0 {
            return Err(length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(step, &hash);
            skip_unpaired(&mut node, &mut last);
        } else {
            hash = node_hash(&hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length);
    }
    if hash != *root {
        return Err(TreeError::OtherRoot { size });
    }
    Ok(())
}

/// Checks a consistency proof: [RFC 9162 §2.1.4.2](https://www.rfc-editor.org/rfc/rfc9162#section-2.1.4.2).
/// The empty tree begins every tree, by the empty proof.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), TreeError> {
    if old > new {
        return Err(TreeError::NotOlder { old, new });
    }
    let length = TreeError::ProofLength(proof.len());
    let expect = |hash: Hash, root: &Hash, size| match hash == *root {
        true => Ok(()),
        false => Err(TreeError::OtherRoot { size }),
    };
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(length);
        }
        let same = if old == 0 { sha256(&[]) } else { *new_root };
        return expect(same, old_root, old);
    }
    let (first, rest) = if old.is_power_of_two() {
        (old_root, proof)
    } else {
        proof.split_first().ok_or(length)?
    };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for step in rest {
        if last == 0 {
            return Err(length);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(step, &old_hash);
            new_hash = node_hash(step, &new_hash);
            skip_unpaired(&mut node, &mut last);
        } else {
            new_hash = node_hash(&new_hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length);
    }
    expect(old_hash, old_root, old)?;
    expect(new_hash, new_root, new)
}

/// Goes up the levels at which the last node has no sibling, and so no hash in the proof.
fn skip_unpaired(node: &mut u64, last: &mut u64) {
    while *node & 1 == 0 && *node != 0 {
        *node >>= 1;
        *last >>= 1;
    }
}
