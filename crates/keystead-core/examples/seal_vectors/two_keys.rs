//! A ciphertext that opens under two keys in plain AES-GCM.
//!
//! GCM's tag is a polynomial in the ciphertext's blocks, so whoever holds both keys can choose one
//! block such that both tags agree. Both plaintexts are well padded, so that nothing but the commitment
//! can refuse the second. Not here: anything that the seal itself uses.

use aws_lc_rs::cipher::{AES_256, EncryptingKey, UnboundCipherKey};

use crate::vector::Okm;

/// The four blocks and the tag, for a plaintext of which the first three blocks are given.
///
/// The two keystreams agree in their first four bytes, so the first length stands in both plaintexts.
pub(crate) fn collide(one: &Okm, other: &Okm, plain: &[u8]) -> ([u8; 64], [u8; 16]) {
    let mut blocks = [0u128; 4];
    for (i, block) in plain.chunks_exact(16).enumerate() {
        blocks[i] = block_of(block) ^ one.aes(one.counter(2 + i as u32));
    }
    let (h, k) = (one.aes(0), other.aes(0));
    let mismatch = ghash(h, &blocks)
        ^ one.aes(one.counter(1))
        ^ ghash(k, &blocks)
        ^ other.aes(other.counter(1));
    // The last block enters the sum times h², before the block of lengths.
    blocks[3] = multiply(mismatch, inverse(multiply(h, h) ^ multiply(k, k)));
    let tag = ghash(h, &blocks) ^ one.aes(one.counter(1));
    let mut ciphertext = [0; 64];
    for (bytes, block) in ciphertext.chunks_exact_mut(16).zip(blocks) {
        bytes.copy_from_slice(&block.to_be_bytes());
    }
    (ciphertext, tag.to_be_bytes())
}

impl Okm {
    fn aes(&self, block: u128) -> u128 {
        let key = UnboundCipherKey::new(&AES_256, &self.0[..32]).expect("a key of 32 bytes");
        let mut bytes = block.to_be_bytes();
        EncryptingKey::ecb(key)
            .and_then(|key| key.encrypt(&mut bytes))
            .expect("one block");
        u128::from_be_bytes(bytes)
    }

    fn counter(&self, count: u32) -> u128 {
        block_of(&[self.nonce(0).as_slice(), &count.to_be_bytes()].concat())
    }
}

fn block_of(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(bytes.try_into().expect("16 bytes"))
}

fn ghash(h: u128, blocks: &[u128]) -> u128 {
    let lengths = blocks.len() as u128 * 128;
    let sum = blocks.iter().fold(0, |sum, block| multiply(sum ^ block, h));
    multiply(sum ^ lengths, h)
}

/// In GF(2^128), with the bits in GCM's order.
fn multiply(x: u128, y: u128) -> u128 {
    let (mut product, mut shifted) = (0, y);
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            product ^= shifted;
        }
        let carry = if shifted & 1 == 1 { 0xe1 << 120 } else { 0 };
        shifted = shifted >> 1 ^ carry;
    }
    product
}

/// x to the power 2^128 - 2.
fn inverse(x: u128) -> u128 {
    let (mut power, mut product) = (x, 1 << 127);
    for _ in 1..128 {
        power = multiply(power, power);
        product = multiply(product, power);
    }
    product
}
