//! The seal: no bytes at all open by chance, and a sealed record with one bit changed does not open.
#![no_main]

use keystead_core::ids::SealKeyId;
use keystead_core::seal::{Kind, Place, SealKey, key_id_of, open, seal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], u16)| {
    let (bytes, at) = input;
    let key = SealKey::from_bytes([7; 32]);
    let key_id: SealKeyId = "sek_019a9f3c5a7b7c3e8f00112233445566"
        .parse()
        .expect("a valid id");
    let place = Place {
        tenant: [1; 16],
        kind: Kind::Credential,
        record: [2; 16],
        field: 0,
        version: 1,
    };

    let _ = key_id_of(bytes);
    assert!(open(&key, &key_id, &place, bytes).is_err());

    let mut blob = seal(&key, &key_id, &place, [9; 24], bytes);
    let opened = open(&key, &key_id, &place, &blob).expect("it was just sealed");
    assert_eq!(opened.expose(), bytes);
    let bit = usize::from(at) % (blob.len() * 8);
    blob[bit / 8] ^= 1 << (bit % 8);
    assert!(open(&key, &key_id, &place, &blob).is_err());
});
