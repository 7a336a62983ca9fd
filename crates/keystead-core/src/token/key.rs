//! The text of service keys and operator keys.
//!
//! ```text
//! kss_ + 43 characters + 6 characters        kss_ service key, kso_ operator key
//!        └ 32 random bytes  └ CRC-32 (IEEE 802.3) of all that stands before it
//! ```
//!
//! Both parts are base62 (`0-9A-Za-z`, most significant digit first, padded with `0`), so a scanner
//! finds keys with `ks[so]_[0-9A-Za-z]{49}` and tells real ones from look-alikes offline, by the
//! checksum. The checksum is no secret and proves nothing else.
//!
//! The random bytes come from the caller. What is stored is a keyed hash of the whole text.

use std::ops::Range;

use zeroize::{Zeroize, Zeroizing};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 is the first power of 62 above 2^256.
const RANDOM: Range<usize> = 4..4 + 43;
/// 62^6 is above 2^32.
const CHECKSUM: Range<usize> = RANDOM.end..RANDOM.end + 6;

/// Whose key it is, as its prefix says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A product's backend: `kss_`.
    Service,
    /// Whoever runs the installation: `kso_`.
    Operator,
}

impl KeyKind {
    /// What the text of such a key starts with.
    pub const fn prefix(self) -> &'static str {
        match self {
            KeyKind::Service => "kss_",
            KeyKind::Operator => "kso_",
        }
    }
}

/// The text is no key of ours; which part of it is wrong is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key of Keystead")]
pub struct InvalidKey;

/// A key in clear. It is shown once and kept nowhere; its memory is overwritten on drop.
pub struct PlainKey {
    kind: KeyKind,
    text: Zeroizing<String>,
}

impl PlainKey {
    /// Makes the key of 32 random bytes, and overwrites this copy of them.
    pub fn new(kind: KeyKind, mut random: [u8; 32]) -> PlainKey {
        // The whole capacity at once: a string that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(CHECKSUM.end));
        text.push_str(kind.prefix());
        push_base62(&mut text, &mut random, RANDOM.len());
        let mut checksum = crc32(text.as_bytes()).to_be_bytes();
        push_base62(&mut text, &mut checksum, CHECKSUM.len());
        random.zeroize();
        PlainKey { kind, text }
    }

    /// Reads a key's text.
    pub fn parse(text: &str) -> Result<PlainKey, InvalidKey> {
        Ok(PlainKey {
            kind: check(text)?,
            text: Zeroizing::new(text.to_owned()),
        })
    }

    /// Whose key it is.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The text, for the one time that it is shown, and for its keyed hash.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

/// Whether the text is of the form, with the right checksum.
pub(super) fn check(text: &str) -> Result<KeyKind, InvalidKey> {
    let kind = [KeyKind::Service, KeyKind::Operator]
        .into_iter()
        .find(|kind| text.starts_with(kind.prefix()))
        .ok_or(InvalidKey)?;
    let bytes = text.as_bytes();
    if bytes.len() != CHECKSUM.end || !bytes[RANDOM.start..].iter().all(u8::is_ascii_alphanumeric) {
        return Err(InvalidKey);
    }
    let mut expected = String::with_capacity(CHECKSUM.len());
    let mut checksum = crc32(&bytes[..RANDOM.end]).to_be_bytes();
    push_base62(&mut expected, &mut checksum, CHECKSUM.len());
    if expected.as_bytes() == &bytes[CHECKSUM] {
        Ok(kind)
    } else {
        Err(InvalidKey)
    }
}

/// Appends `width` base62 digits of a big-endian number, and leaves zero in its place.
fn push_base62(text: &mut String, number: &mut [u8], width: usize) {
    let mut digits = Zeroizing::new([0_u8; RANDOM.end - RANDOM.start]);
    for digit in digits[..width].iter_mut().rev() {
        let mut rest = 0_u32;
        for byte in number.iter_mut() {
            let part = (rest << 8) | u32::from(*byte);
            // Below 256: the rest of a division by 62 is below 62.
            *byte = (part / 62) as u8;
            rest = part % 62;
        }
        *digit = DIGITS[rest as usize];
    }
    text.extend(digits[..width].iter().map(|digit| char::from(*digit)));
}

/// CRC-32 as in IEEE 802.3, zip and PNG: reflected, polynomial 0x04C11DB7.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_the_common_crc32() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn the_form_is_fixed() {
        // Worked out by other means (Python's integers and zlib.crc32).
        let zero = PlainKey::new(KeyKind::Service, [0; 32]);
        assert_eq!(
            zero.expose(),
            "kss_00000000000000000000000000000000000000000003CNvks"
        );
        let full = PlainKey::new(KeyKind::Operator, [255; 32]);
        assert_eq!(
            full.expose(),
            "kso_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp13aMQpQ"
        );
    }

    #[test]
    fn a_key_of_the_other_kind_is_another_key() {
        let service = PlainKey::new(KeyKind::Service, [3; 32]);
        let swapped = service.expose().replacen("kss_", "kso_", 1);
        assert!(PlainKey::parse(service.expose()).is_ok());
        assert!(PlainKey::parse(&swapped).is_err());
    }

    proptest! {
        #[test]
        fn what_is_made_reads_back(random: [u8; 32], operator: bool) {
            let kind = if operator { KeyKind::Operator } else { KeyKind::Service };
            let key = PlainKey::new(kind, random);
            let read = PlainKey::parse(key.expose()).map_err(|fault| TestCaseError::fail(fault.to_string()))?;
            prop_assert_eq!(read.kind(), kind);
            prop_assert_eq!(read.expose(), key.expose());
            prop_assert_eq!(key.expose().len(), 53);
        }

        #[test]
        fn different_randomness_makes_different_keys(one: [u8; 32], other: [u8; 32]) {
            let text = |random| PlainKey::new(KeyKind::Service, random).expose().to_owned();
            prop_assert_eq!(one == other, text(one) == text(other));
        }

        #[test]
        fn one_changed_character_is_noticed(random: [u8; 32], at in 0_usize..53, to in "[ -~]") {
            let key = PlainKey::new(KeyKind::Service, random);
            let mut text = key.expose().to_owned();
            text.replace_range(at..=at, &to);
            prop_assert_eq!(PlainKey::parse(&text).is_ok(), text == key.expose());
        }

        #[test]
        fn any_text_is_read_without_panic(text in "(ks[so]_)?\\PC{0,60}") {
            let _ = PlainKey::parse(&text);
        }
    }
}
