//! [C2SP signed notes](https://c2sp.org/signed-note) with Ed25519: a text that carries its
//! signatures.
//!
//! ```text
//! note         = text "\n" 1*signature           text ends in a newline
//! signature    = "— " name " " base64( key hash, 4 bytes ‖ Ed25519 over text ) "\n"
//! key hash     = SHA-256( name ‖ "\n" ‖ 0x01 ‖ public key ), its first 4 bytes
//! verifier key = name "+" hex( key hash ) "+" base64( 0x01 ‖ public key )
//! ```
//!
//! Signatures of other keys are let stand (witnesses add theirs); one by the wanted key name and
//! hash that fails refuses the note.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::tree::sha256;

/// The signature type of plain Ed25519 in a note.
const ED25519_TYPE: u8 = 0x01;
/// Longer notes are refused unread. A checkpoint with a dozen witnesses is under 2 KiB.
const LONGEST: usize = 64 * 1024;

/// Why a note or a key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is not in the form; the text says where.
    #[error("malformed: {0}")]
    Form(&'static str),
    /// The checkpoint is of another log than the key.
    #[error("the checkpoint names another log than the key")]
    Origin,
    /// The key's own signature does not fit the text.
    #[error("the signature does not fit the text")]
    Signature,
    /// No signature by this key.
    #[error("no signature by this key")]
    Unsigned,
}

/// The log's signing key. It cannot be printed or copied; the memory it lies in is wiped when freed.
pub struct LogKey {
    // AWS-LC holds the seed, and wipes what it frees.
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl LogKey {
    /// The key of the log `name` (its origin). The caller wipes its copy of the seed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<LogKey, NoteError> {
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::Form("key seed"))?;
        let public = pair.public_key().as_ref();
        let public = public.try_into().map_err(|_| NoteError::Form("key seed"))?;
        Ok(LogKey {
            verifier: VerifierKey::new(name, public)?,
            pair,
        })
    }

    /// What others verify with.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The note of this text.
    pub fn sign(&self, text: &str) -> Result<String, NoteError> {
        if !text.ends_with('\n') || text.contains(is_forbidden) {
            return Err(NoteError::Form("text"));
        }
        let signature = self
            .pair
            .try_sign(text.as_bytes())
            .map_err(|_| NoteError::Signature)?;
        let signature = [&self.verifier.hash, signature.as_ref()].concat();
        let (name, signature) = (&self.verifier.name, BASE64.encode(signature));
        Ok(format!("{text}\n— {name} {signature}\n"))
    }
}

/// The public half of a [`LogKey`], with the name it goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    hash: [u8; 4],
    public: [u8; 32],
}

impl VerifierKey {
    /// From a name without spaces and `+`, and an Ed25519 public key.
    pub fn new(name: &str, public: [u8; 32]) -> Result<VerifierKey, NoteError> {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if name.is_empty() || name.contains(odd) {
            return Err(NoteError::Form("key name"));
        }
        let [a, b, c, d, ..] =
            sha256(&[name.as_bytes(), b"\n", &[ED25519_TYPE], &public[..]].concat());
        Ok(VerifierKey {
            name: name.to_owned(),
            hash: [a, b, c, d],
            public,
        })
    }

    /// The name of the key: the origin of its log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of a note, if this key signed it.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        self.open_up_to(note, LONGEST)
    }

    /// The same of a note of at most so many bytes.
    pub(super) fn open_up_to<'a>(&self, note: &'a str, most: usize) -> Result<&'a str, NoteError> {
        if note.len() > most || note.contains(is_forbidden) {
            return Err(NoteError::Form("note"));
        }
        let end = note.rfind("\n\n").ok_or(NoteError::Form("note"))?;
        let (text, signatures) = (&note[..=end], &note[end + 2..]);
        let signatures = signatures
            .strip_suffix('\n')
            .ok_or(NoteError::Form("signature line"))?;
        let mut signed = false;
        for line in signatures.split('\n') {
            let (name, bytes) = parse_signature(line).ok_or(NoteError::Form("signature line"))?;
            let (hash, signature) = bytes
                .split_first_chunk()
                .ok_or(NoteError::Form("signature line"))?;
            if name == self.name && *hash == self.hash {
                UnparsedPublicKey::new(&ED25519, &self.public)
                    .verify(text.as_bytes(), signature)
                    .map_err(|_| NoteError::Signature)?;
                signed = true;
            }
        }
        signed.then_some(text).ok_or(NoteError::Unsigned)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = u32::from_be_bytes(self.hash);
        let public = BASE64.encode([&[ED25519_TYPE], &self.public[..]].concat());
        write!(f, "{}+{hash:08x}+{public}", self.name)
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<VerifierKey, NoteError> {
        const FORM: NoteError = NoteError::Form("verifier key");
        // The base64 may hold a `+` of its own; the name cannot.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(public)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(FORM);
        };
        let public = BASE64.decode(public).map_err(|_| FORM)?;
        let Some((&ED25519_TYPE, public)) = public.split_first() else {
            return Err(FORM);
        };
        let key = VerifierKey::new(name, public.try_into().map_err(|_| FORM)?)?;
        // One spelling, and the hash is the check against a mistyped key.
        if key.to_string() != text {
            return Err(FORM);
        }
        Ok(key)
    }
}

/// Control characters other than the newline have no place in a note.
fn is_forbidden(c: char) -> bool {
    c < ' ' && c != '\n'
}

fn parse_signature(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, signature) = line.strip_prefix("— ")?.split_once(' ')?;
    Some((name, BASE64.decode(signature).ok()?))
}
