//! A checkpoint: the size and root of the log at a moment, signed.
//!
//! ```text
//! keystead.example.com/audit      origin, the name of the key
//! 20852163                        size, decimal
//! CsUYapGGPo4dkMgIAUqom/Xaj…=     root, base64
//! ```
//!
//! The text of [C2SP tlog-checkpoint](https://c2sp.org/tlog-checkpoint), in a signed note. Extension
//! lines, which the form allows and advises against, are refused: this log never writes any.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::note::{LogKey, NoteError, VerifierKey};
use super::tree::Hash;

/// What the log was at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: the name of its key.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The signed note, in its one spelling; refused for a key of another log.
    pub fn sign(&self, key: &LogKey) -> Result<String, NoteError> {
        if self.origin != key.verifier().name() {
            return Err(NoteError::Origin);
        }
        key.sign(&self.body())
    }

    /// Reads a signed note that this key, of this log, has signed.
    pub fn parse_signed(note: &str, key: &VerifierKey) -> Result<Checkpoint, NoteError> {
        let checkpoint = Checkpoint::parse(key.open(note)?).ok_or(NoteError::Form("checkpoint"))?;
        if checkpoint.origin != key.name() {
            return Err(NoteError::Origin);
        }
        Ok(checkpoint)
    }

    fn body(&self) -> String {
        let root = BASE64.encode(self.root);
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    fn parse(body: &str) -> Option<Checkpoint> {
        let mut lines = body.split('\n');
        let checkpoint = Checkpoint {
            origin: lines.next()?.to_owned(),
            size: lines.next()?.parse().ok()?,
            root: BASE64.decode(lines.next()?).ok()?.try_into().ok()?,
        };
        // Covers leading zeroes, signs, further lines, and whatever else has a second spelling.
        (checkpoint.body() == body).then_some(checkpoint)
    }
}
