//! The seal: how everything that is stored in confidence becomes bytes, and back (format KS1).
//!
//! ```text
//! blob    = 0x4B | version 0x01 | suite u16be = 0x0001 | key id, 16 | body           header: 20 bytes
//! context = header | tenant, 16 | kind u16be | record, 16 | field u16be | version u64be      64 bytes
//! body    = C2SP chunked encryption with AES-256-GCM (`chunked`), under that context
//! plain   = u32be length | message | zeros to a multiple of 64
//! ```
//!
//! What always holds: a blob opens only under the key, and in the place, that it was sealed for; each
//! failure is the same [`Corrupt`]; what carried a plaintext or a key is zeroized, and never grown.
//!
//! Deliberately not here: randomness (the salt is an argument), where keys come from, permits.

mod chunked;
mod registry;

use aws_lc_rs::{hkdf, hmac};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::ids::SealKeyId;

pub use registry::Kind;

const MAGIC: u8 = 0x4B;
const VERSION: u8 = 0x01;
/// Cobblestone-256. Another construction gets another number, and older programs refuse it.
const SUITE: u16 = 0x0001;
const HEADER: usize = 20;
const CONTEXT: usize = 64;
/// Hides the length of short values.
const PADDING: usize = 64;
const LENGTH: usize = size_of::<u32>();

/// The blob is not what was sealed here, under this key. Says no more, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed record does not open")]
pub struct Corrupt;

/// A key that seals: 32 bytes, zeroized on drop, that nothing can print, copy or compare.
pub struct SealKey(Box<[u8; 32]>);

impl SealKey {
    /// The bytes, for a construction that is not the seal's: a signing key, a database's key.
    pub fn dangerous_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Takes the bytes in, and zeroizes this function's copy of them.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        // Filled on the heap, so that moving the key leaves no copies on the stack.
        let mut key = Self(Box::new([0; 32]));
        key.0.copy_from_slice(&bytes);
        bytes.zeroize();
        key
    }
}

impl Drop for SealKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Bytes in clear, zeroized on drop, that nothing can print, copy, serialise or compare.
pub struct Plaintext(Zeroizing<Vec<u8>>);

impl Plaintext {
    /// Takes the buffer over, spare capacity included; it is never grown, so nothing stays behind.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes in clear.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Where a sealed record stands. Public data, bound into key and commitment: a blob that is moved to
/// any other place does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The raw bytes of the tenant's id.
    pub tenant: [u8; 16],
    /// What the record is.
    pub kind: Kind,
    /// The raw bytes of the record's id.
    pub record: [u8; 16],
    /// Which field of the record, by the numbers of the registry.
    pub field: u16,
    /// The record's version.
    pub version: u64,
}

impl Place {
    fn context(&self, header: &[u8; HEADER]) -> [u8; CONTEXT] {
        let mut context = [0; CONTEXT];
        context[..20].copy_from_slice(header);
        context[20..36].copy_from_slice(&self.tenant);
        context[36..38].copy_from_slice(&self.kind.number().to_be_bytes());
        context[38..54].copy_from_slice(&self.record);
        context[54..56].copy_from_slice(&self.field.to_be_bytes());
        context[56..].copy_from_slice(&self.version.to_be_bytes());
        context
    }
}

/// Seals `message` for `place`. The salt must come fresh from the operating system's generator.
///
/// # Panics
///
/// If the message has 4 GiB or more; every way in has a far smaller limit.
pub fn seal(
    key: &SealKey,
    key_id: &SealKeyId,
    place: &Place,
    salt: [u8; 24],
    message: &[u8],
) -> Vec<u8> {
    let header = header(key_id);
    let plain = pad(message);
    let mut blob = Vec::with_capacity(HEADER + chunked::sealed_len(plain.len()));
    blob.extend_from_slice(&header);
    chunked::seal(&key.0, &place.context(&header), &salt, &plain, &mut blob);
    blob
}

/// Opens what [`seal`] made with the same key, key id and place.
pub fn open(
    key: &SealKey,
    key_id: &SealKeyId,
    place: &Place,
    blob: &[u8],
) -> Result<Plaintext, Corrupt> {
    let (named, body) = split(blob)?;
    if named != *key_id {
        return Err(Corrupt);
    }
    unpad(chunked::open(
        &key.0,
        &place.context(&header(key_id)),
        body,
    )?)
}

/// Seals a key as a record of its own, without a copy of it elsewhere.
pub fn seal_key(
    key: &SealKey,
    key_id: &SealKeyId,
    place: &Place,
    salt: [u8; 24],
    inner: &SealKey,
) -> Vec<u8> {
    seal(key, key_id, place, salt, &*inner.0)
}

/// Opens what [`seal_key`] made.
///
/// # Errors
/// [`Corrupt`], also where what was sealed is no key.
pub fn open_key(
    key: &SealKey,
    key_id: &SealKeyId,
    place: &Place,
    blob: &[u8],
) -> Result<SealKey, Corrupt> {
    let plaintext = open(key, key_id, place, blob)?;
    let bytes: &[u8; 32] = plaintext.expose().try_into().map_err(|_| Corrupt)?;
    let mut inner = SealKey(Box::new([0; 32]));
    inner.0.copy_from_slice(bytes);
    Ok(inner)
}

/// The key that the blob says it is under; to be believed only once [`open`] succeeds.
pub fn key_id_of(blob: &[u8]) -> Result<SealKeyId, Corrupt> {
    split(blob).map(|(key_id, _)| key_id)
}

/// What is stored beside a wrapped key, to tell that the unwrapped bytes are that key. The ids are of
/// fixed length, so their concatenation is not ambiguous.
pub fn check_value(key: &SealKey, ids: &[&[u8]]) -> [u8; 32] {
    let mut info: Vec<&[u8]> = vec![b"keystead/v1/key-check\0"];
    info.extend_from_slice(ids);
    let mut value = [0; 32];
    expand(&key.0, &info, &mut value);
    value
}

/// A key of its own for the use that the label names.
pub fn derive(key: &SealKey, label: &str) -> SealKey {
    let mut derived = SealKey(Box::new([0; 32]));
    let info: [&[u8]; 2] = [b"keystead/v1/derive\0", label.as_bytes()];
    expand(&key.0, &info, &mut *derived.0);
    derived
}

/// How a presented token is looked up: HMAC-SHA-256 under a derived key, so that a stolen table is no
/// list to try guesses against.
pub fn lookup_hash(key: &SealKey, token: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*key.0), token);
    let mut hash = [0; 32];
    hash.copy_from_slice(tag.as_ref());
    hash
}

fn header(key_id: &SealKeyId) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = MAGIC;
    header[1] = VERSION;
    header[2..4].copy_from_slice(&SUITE.to_be_bytes());
    header[4..].copy_from_slice(key_id.bytes());
    header
}

/// Header and body of a blob of this version and suite.
fn split(blob: &[u8]) -> Result<(SealKeyId, &[u8]), Corrupt> {
    let (known, rest) = blob.split_first_chunk::<4>().ok_or(Corrupt)?;
    let [suite_high, suite_low] = SUITE.to_be_bytes();
    if *known != [MAGIC, VERSION, suite_high, suite_low] {
        return Err(Corrupt);
    }
    let (id, body) = rest.split_first_chunk::<16>().ok_or(Corrupt)?;
    Ok((SealKeyId::from_uuid(Uuid::from_bytes(*id)), body))
}

fn pad(message: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = u32::try_from(message.len()).expect("a message is shorter than 4 GiB");
    let padded = padded_len(message.len());
    let mut plain = Zeroizing::new(Vec::with_capacity(padded));
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(message);
    plain.resize(padded, 0);
    plain
}

/// One message has one padding: the length, the zeros and the multiple are all checked.
fn unpad(mut plain: Zeroizing<Vec<u8>>) -> Result<Plaintext, Corrupt> {
    let (length, rest) = plain.split_first_chunk::<LENGTH>().ok_or(Corrupt)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Corrupt)?;
    let padding = rest.get(length..).ok_or(Corrupt)?;
    if plain.len() != padded_len(length) || padding.iter().any(|byte| *byte != 0) {
        return Err(Corrupt);
    }
    // In place: the tail that is cut off stays in the spare capacity, which the drop zeroizes too.
    plain.copy_within(LENGTH..LENGTH + length, 0);
    plain.truncate(length);
    Ok(Plaintext(plain))
}

fn padded_len(message: usize) -> usize {
    (LENGTH + message).next_multiple_of(PADDING)
}

/// HKDF-Expand-SHA-512 over the concatenated `info`.
fn expand(key: &[u8; 32], info: &[&[u8]], out: &mut [u8]) {
    struct Bytes(usize);
    impl hkdf::KeyType for Bytes {
        fn len(&self) -> usize {
            self.0
        }
    }
    hkdf::Prk::new_less_safe(hkdf::HKDF_SHA512, key)
        .expand(info, Bytes(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("no output here is near HKDF's limit");
}

#[cfg(test)]
mod tests;
