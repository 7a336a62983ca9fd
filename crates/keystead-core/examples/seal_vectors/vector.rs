//! The form of a vector, and a second writing of the construction.
//!
//! The second writing makes what the seal itself cannot (bad padding, forged tags), and shares no code
//! with it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf};
use keystead_core::ids::SealKeyId;
use keystead_core::seal::{Kind, Place, SealKey, seal};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One behaviour; the form is told in `vectors/README.md`.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vector {
    pub(crate) comment: String,
    pub(crate) key: String,
    pub(crate) key_id: String,
    pub(crate) place: PlaceText,
    pub(crate) salt: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<Message>,
    pub(crate) blob: Blob,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) plain_gcm_opens: bool,
    pub(crate) result: Outcome,
}

#[derive(Clone, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlaceText {
    pub(crate) tenant: String,
    pub(crate) kind: u16,
    pub(crate) record: String,
    pub(crate) field: u16,
    pub(crate) version: u64,
}

#[derive(Clone, Deserialize, PartialEq, Serialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Message {
    Hex(String),
    Repeat { repeat: String, count: usize },
}

#[derive(Clone, Deserialize, PartialEq, Serialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Blob {
    Hex(String),
    /// Too long to print: what sealing this file's message gives.
    Sealed {
        sha256: String,
    },
    /// Ranges of another file's blob put together, then the lowest bit flipped at each offset.
    Edited {
        file: String,
        ranges: Vec<(usize, usize)>,
        flip: Vec<usize>,
        sha256: String,
    },
    /// Every beginning of another file's blob but the whole: each must be refused.
    Beginnings {
        beginnings_of: String,
    },
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Ok,
    Corrupt,
}

impl Vector {
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data") + "\n"
    }

    pub(crate) fn seal_key(&self) -> SealKey {
        SealKey::from_bytes(array(&self.key))
    }

    pub(crate) fn seal_key_id(&self) -> SealKeyId {
        SealKeyId::from_uuid(Uuid::from_bytes(array(&self.key_id)))
    }

    pub(crate) fn place(&self) -> Place {
        let kinds = [
            Kind::Credential,
            Kind::TenantKey,
            Kind::RootKey,
            Kind::LogKey,
            Kind::ContextKey,
            Kind::LookupKey,
            Kind::MintedToken,
            Kind::Idempotency,
        ];
        Place {
            tenant: array(&self.place.tenant),
            kind: kinds
                .into_iter()
                .find(|kind| kind.number() == self.place.kind)
                .expect("a kind of the registry"),
            record: array(&self.place.record),
            field: self.place.field,
            version: self.place.version,
        }
    }

    pub(crate) fn message(&self) -> Option<Vec<u8>> {
        self.message.as_ref().map(|message| match message {
            Message::Hex(text) => bytes(text),
            Message::Repeat { repeat, count } => bytes(repeat).repeat(*count),
        })
    }

    /// What the seal itself makes of the message.
    pub(crate) fn sealed(&self) -> Vec<u8> {
        let message = self.message().expect("a message to seal");
        seal(
            &self.seal_key(),
            &self.seal_key_id(),
            &self.place(),
            array(&self.salt),
            &message,
        )
    }

    /// What the record's key, nonce and commitment are cut from.
    pub(crate) fn okm(&self) -> Okm {
        struct Length;
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                76
            }
        }
        let info = [
            b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0".as_slice(),
            &bytes(&self.salt),
            &self.header(),
            &bytes(&self.place.tenant),
            &self.place.kind.to_be_bytes(),
            &bytes(&self.place.record),
            &self.place.field.to_be_bytes(),
            &self.place.version.to_be_bytes(),
        ];
        let mut okm = [0; 76];
        hkdf::Prk::new_less_safe(hkdf::HKDF_SHA512, &bytes(&self.key))
            .expand(&info, Length)
            .and_then(|output| output.fill(&mut okm))
            .expect("76 bytes");
        Okm(okm)
    }

    pub(crate) fn header(&self) -> Vec<u8> {
        [&[0x4b, 1, 0, 1], bytes(&self.key_id).as_slice()].concat()
    }

    /// A blob with the right commitment around these chunks.
    pub(crate) fn around(&self, chunks: &[u8]) -> Vec<u8> {
        let okm = self.okm();
        [&self.header(), &bytes(&self.salt), &okm.0[44..], chunks].concat()
    }
}

/// What a file's blob is edited from: ranges put together, then bits flipped.
pub(crate) fn edited(source: &[u8], ranges: &[(usize, usize)], flip: &[usize]) -> Vec<u8> {
    let mut blob: Vec<u8> = ranges
        .iter()
        .flat_map(|(from, to)| &source[*from..*to])
        .copied()
        .collect();
    for at in flip {
        blob[*at] ^= 1;
    }
    blob
}

/// The output of HKDF-Expand.
pub(crate) struct Okm(pub(crate) [u8; 76]);

impl Okm {
    pub(crate) fn nonce(&self, chunk: u8) -> [u8; 12] {
        let mut nonce: [u8; 12] = self.0[32..44].try_into().expect("12 bytes");
        nonce[11] ^= chunk;
        nonce
    }

    pub(crate) fn gcm(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0[..32]).expect("a key of 32 bytes"))
    }

    pub(crate) fn chunk(&self, index: u8, plain: &[u8]) -> Vec<u8> {
        let mut chunk = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(self.nonce(index));
        self.gcm()
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut chunk)
            .expect("a short chunk");
        chunk
    }
}

pub(crate) fn padded(message: &[u8]) -> Vec<u8> {
    let mut plain = [&(message.len() as u32).to_be_bytes(), message].concat();
    plain.resize(plain.len().next_multiple_of(64), 0);
    plain
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).expect("a hex digit") as u8;
    hex.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn array<const N: usize>(hex: &str) -> [u8; N] {
    bytes(hex).try_into().expect("a field of that length")
}
