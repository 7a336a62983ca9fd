//! The check of an exported log against checkpoints that were signed earlier.
//!
//! What is caught: an entry before the newest checkpoint that was changed, dropped, moved, added or
//! cut off. What cannot be: the same to entries after it, which is why checkpoints are pushed to
//! where whoever holds the database cannot reach.

use std::collections::VecDeque;

use crate::entry::Leaf;

use super::tree::{Frontier, Hash, leaf_hash};

/// The first place at which the log can be seen to be wrong.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Two checkpoints of one size differ: the log was shown in two versions.
    #[error("two checkpoints over {size} entries have different roots")]
    Fork {
        /// Entries under both.
        size: u64,
    },
    /// The root over the first entries is another than was signed.
    #[error(
        "the tree of the first {size} entries has another root than the checkpoint of that size \
         (over the first {agreed}, the two agree)"
    )]
    OtherRoot {
        /// Entries under the checkpoint.
        size: u64,
        /// Entries under the checkpoint before it, which the log agrees with; else 0.
        agreed: u64,
    },
    /// An entry is not where its own number puts it.
    #[error("entry {expected}: carries seq {found}")]
    OutOfPlace {
        /// Its place in the export, from 0.
        expected: u64,
        /// The number it carries.
        found: u64,
    },
    /// The log ends before a checkpoint does.
    #[error("the log has {size} entries but a checkpoint over {signed} was signed")]
    TooShort {
        /// Entries in the export.
        size: u64,
        /// Entries under the checkpoint.
        signed: u64,
    },
    /// An entry is not in the form of one.
    #[error("entry {seq}: cannot be read")]
    Unreadable {
        /// Its place in the export, from 0.
        seq: u64,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// An entry is of a form that this version does not know.
    #[error("entry {seq}: form {version} is not known here")]
    UnknownForm {
        /// Its place in the export, from 0.
        seq: u64,
        /// The form it claims.
        version: u8,
    },
}

/// What a log that passed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Entries.
    pub size: u64,
    /// Root over all of them.
    pub root: Hash,
    /// Entries that a checkpoint vouches for; those after it only hang together.
    pub covered: u64,
}

/// Takes the entries of a log in order, from the first, and holds only the edge of the tree.
#[derive(Debug)]
pub struct ExportVerifier {
    frontier: Frontier,
    /// Checkpoints not reached yet, the smallest first.
    ahead: VecDeque<(u64, Hash)>,
    covered: u64,
}

impl ExportVerifier {
    /// A check against checkpoints, as (size, root) and in any order; their signatures have been
    /// verified ([`Checkpoint::parse_signed`](super::Checkpoint::parse_signed)).
    pub fn new(
        checkpoints: impl IntoIterator<Item = (u64, Hash)>,
    ) -> Result<ExportVerifier, ExportError> {
        let mut ahead: Vec<_> = checkpoints.into_iter().collect();
        ahead.sort_unstable();
        ahead.dedup();
        if let Some(fork) = ahead.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(ExportError::Fork { size: fork[0].0 });
        }
        let mut verifier = ExportVerifier {
            frontier: Frontier::new(),
            ahead: ahead.into(),
            covered: 0,
        };
        verifier.compare()?;
        Ok(verifier)
    }

    /// The next entry, exactly as stored (without the line end).
    pub fn push(&mut self, text: &str) -> Result<(), ExportError> {
        let seq = self.frontier.size();
        let leaf: Leaf<'_> =
            serde_json::from_str(text).map_err(|source| ExportError::Unreadable { seq, source })?;
        if leaf.v != 1 {
            let version = leaf.v;
            return Err(ExportError::UnknownForm { seq, version });
        }
        if leaf.seq != seq {
            return Err(ExportError::OutOfPlace {
                expected: seq,
                found: leaf.seq,
            });
        }
        self.frontier.push(leaf_hash(text.as_bytes()));
        self.compare()
    }

    /// After the last entry.
    pub fn finish(self) -> Result<Verified, ExportError> {
        let size = self.frontier.size();
        if let Some((signed, _)) = self.ahead.back() {
            let signed = *signed;
            return Err(ExportError::TooShort { size, signed });
        }
        Ok(Verified {
            size,
            root: self.frontier.root(),
            covered: self.covered,
        })
    }

    /// Holds the tree against the checkpoint of its size, if there is one.
    fn compare(&mut self) -> Result<(), ExportError> {
        let size = self.frontier.size();
        let Some((_, root)) = self.ahead.pop_front_if(|(signed, _)| *signed == size) else {
            return Ok(());
        };
        if root != self.frontier.root() {
            let agreed = self.covered;
            return Err(ExportError::OtherRoot { size, agreed });
        }
        self.covered = size;
        Ok(())
    }
}
