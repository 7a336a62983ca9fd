//! What holds of the seal at any length, any bit and any place; and what its secret types must lack.

use proptest::prelude::*;

use super::*;

/// Fails to compile if the type implements the trait: the path to `probe` is then ambiguous.
macro_rules! lacks {
    ($type:ty: $($trait:path),+) => {$(
        const _: fn() = || {
            trait Ambiguous<A> {
                fn probe() {}
            }
            impl<T> Ambiguous<()> for T {}
            struct Implemented;
            impl<T: $trait> Ambiguous<Implemented> for T {}
            <$type as Ambiguous<_>>::probe();
        };
    )+};
}

lacks!(SealKey: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize, PartialEq);
lacks!(Plaintext: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize, PartialEq);

const PLACE: Place = Place {
    tenant: [1; 16],
    kind: Kind::Credential,
    record: [2; 16],
    field: 3,
    version: 4,
};

fn key() -> SealKey {
    SealKey::from_bytes([7; 32])
}

fn key_id() -> SealKeyId {
    SealKeyId::from_uuid(Uuid::from_bytes([9; 16]))
}

fn sealed(message: &[u8]) -> Vec<u8> {
    seal(&key(), &key_id(), &PLACE, [5; 24], message)
}

/// Without printing what was opened: it has no `Debug`.
fn opens(place: &Place, blob: &[u8]) -> bool {
    open(&key(), &key_id(), place, blob).is_ok()
}

#[test]
fn a_blob_names_its_key() {
    let blob = sealed(b"canary");
    assert_eq!(key_id_of(&blob), Ok(key_id()));
    assert_eq!(key_id_of(&blob[..HEADER - 1]), Err(Corrupt));
    assert_eq!(
        key_id_of(b"K\x01\x00\x02 and then sixteen bytes"),
        Err(Corrupt)
    );
}

#[test]
fn a_blob_is_made_without_growing() {
    for length in [0, 1, 60, 61, 16379, 16380, 16381, 70000] {
        let blob = sealed(&vec![b'c'; length]);
        assert_eq!(blob.capacity(), blob.len(), "{length}");
    }
}

#[test]
fn lengths_within_one_block_of_padding_look_alike() {
    assert_eq!(sealed(b"").len(), sealed(&[b'c'; 60]).len());
    assert!(sealed(&[b'c'; 60]).len() < sealed(&[b'c'; 61]).len());
}

#[test]
fn each_use_of_a_key_gives_another_value() {
    let ids: [&[u8]; 2] = [&[1; 16], &[2; 16]];
    let check = check_value(&key(), &ids);
    assert_ne!(check, check_value(&key(), &[ids[1], ids[0]]));
    assert_ne!(check, check_value(&derive(&key(), "a"), &ids));
    assert_ne!(
        check_value(&derive(&key(), "a"), &ids),
        check_value(&derive(&key(), "b"), &ids)
    );
    assert_eq!(
        check_value(&derive(&key(), "a"), &ids),
        check_value(&derive(&key(), "a"), &ids)
    );
    assert_ne!(lookup_hash(&key(), b"kss_a"), lookup_hash(&key(), b"kss_b"));
    assert_ne!(
        lookup_hash(&key(), b"kss_a"),
        lookup_hash(&derive(&key(), "a"), b"kss_a")
    );
}

#[test]
fn a_lookup_hash_is_hmac_sha_256() {
    // RFC 4231's cases have keys of other lengths; this one is computed with Python's hmac.
    let hash = lookup_hash(&SealKey::from_bytes([0x0b; 32]), b"Hi There");
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7"
    );
}

#[test]
fn a_check_value_is_hkdf_expand_sha_512() {
    // Computed with pyca/cryptography's HKDFExpand.
    let value = check_value(&key(), &[&[1; 16], &[2; 16]]);
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "2b59d19f73276ba8c4532b4675580249635e62285a625557e13a2a5133b2114e"
    );
}

#[test]
fn numbers_of_kinds_never_change() {
    let numbers = [
        (Kind::Credential, 1),
        (Kind::TenantKey, 2),
        (Kind::RootKey, 3),
        (Kind::LogKey, 4),
        (Kind::ContextKey, 5),
        (Kind::LookupKey, 6),
        (Kind::MintedToken, 7),
        (Kind::Idempotency, 8),
        (Kind::TokenSet, 9),
        (Kind::Authorization, 10),
        (Kind::Revocation, 11),
        (Kind::Rotation, 12),
    ];
    for (kind, number) in numbers {
        assert_eq!(kind.number(), number);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sealed_opens_at_any_length(length in 0usize..40000, first in any::<u8>(), salt in any::<[u8; 24]>()) {
        let message: Vec<u8> = (0..length).map(|i| first.wrapping_add(i as u8)).collect();
        let blob = seal(&key(), &key_id(), &PLACE, salt, &message);
        let opened = open(&key(), &key_id(), &PLACE, &blob);
        prop_assert!(opened.is_ok_and(|plain| plain.expose() == message));
    }

    #[test]
    fn no_flipped_bit_opens(length in 0usize..40000, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut blob = sealed(&vec![b'c'; length]);
        let at = at.index(blob.len());
        blob[at] ^= 1 << bit;
        prop_assert!(!opens(&PLACE, &blob));
    }

    #[test]
    fn no_flipped_bit_of_a_short_blob_opens(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut blob = sealed(b"canary");
        let at = at.index(blob.len());
        blob[at] ^= 1 << bit;
        prop_assert!(!opens(&PLACE, &blob));
    }

    #[test]
    fn no_cut_or_lengthened_blob_opens(length in 0usize..40000, at in any::<prop::sample::Index>(), more in 1usize..100) {
        let mut blob = sealed(&vec![b'c'; length]);
        let cut = at.index(blob.len());
        prop_assert!(!opens(&PLACE, &blob[..cut]));
        blob.extend(std::iter::repeat_n(0, more));
        prop_assert!(!opens(&PLACE, &blob));
    }

    #[test]
    fn no_other_place_opens(
        tenant in any::<[u8; 16]>(),
        record in any::<[u8; 16]>(),
        field in any::<u16>(),
        version in any::<u64>(),
    ) {
        let blob = sealed(b"canary");
        for place in [
            Place { tenant, ..PLACE },
            Place { kind: Kind::TenantKey, ..PLACE },
            Place { record, ..PLACE },
            Place { field, ..PLACE },
            Place { version, ..PLACE },
        ] {
            prop_assert_eq!(opens(&place, &blob), place == PLACE);
        }
    }

    #[test]
    fn no_other_key_opens(other in any::<[u8; 32]>()) {
        prop_assume!(other != [7; 32]);
        let opened = open(&SealKey::from_bytes(other), &key_id(), &PLACE, &sealed(b"canary"));
        prop_assert!(opened.is_err());
    }
}
