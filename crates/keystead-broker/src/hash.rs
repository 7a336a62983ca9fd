//! SHA-256, for what is public or is only compared with itself. What is kept of a token or a key is
//! a keyed hash, and the keyring's.

use aws_lc_rs::digest::{Context, SHA256};

/// SHA-256 over the parts, one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
