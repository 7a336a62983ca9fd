//! The audit log as a Merkle tree: hashes, proofs, tiles, signed checkpoints, and the check of an
//! export.
//!
//! ```text
//! entries ─ leaf_hash ─► Frontier ─ root ─► Checkpoint ─ LogKey ─► signed note
//!             └─► Tile (256 hashes) ─► inclusion and consistency proofs
//! ```
//!
//! What always holds: hashing is that of [RFC 9162 §2.1](https://www.rfc-editor.org/rfc/rfc9162#section-2.1)
//! (the same as RFC 6962's), notes and checkpoints are in the
//! [C2SP](https://c2sp.org/tlog-checkpoint) form, so an outsider needs nothing of ours to verify;
//! what is hashed is the stored text of an entry, never a re-serialised one.
//!
//! Deliberately not here: where leaves and tiles lie (store), when a checkpoint is signed (broker).

mod checkpoint;
mod export;
mod note;
mod receipt;
mod tile;
mod tree;

pub use checkpoint::Checkpoint;
pub use export::{ExportError, ExportVerifier, Verified};
pub use note::{LogKey, NoteError, VerifierKey};
pub use receipt::{ReceiptItem, RevocationReceipt, Settled};
pub use tile::{Hashes, Read, Tile, TileId, complete_tiles, new_tiles, plan};
pub use tree::{
    Frontier, Hash, HashSource, TreeError, consistency_proof, inclusion_proof, leaf_hash,
    node_hash, verify_consistency, verify_inclusion,
};
