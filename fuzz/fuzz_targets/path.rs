//! Paths: one that passes has no second meaning, however often a server on the way decodes it.
#![no_main]

use keystead_core::path::check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    if check(path).is_err() {
        return;
    }
    assert!(path.starts_with('/'));
    let mut read = path.as_bytes().to_vec();
    for _ in 0..4 {
        let segments = || read.split(|&byte| byte == b'/');
        assert!(!segments().any(|segment| matches!(segment, b"." | b"..")));
        assert!(!read.contains(&b'\\'));
        assert_eq!(
            segments().count(),
            path.split('/').count(),
            "{path:?} has another slash when read as {read:?}",
        );
        read = decode_once(&read);
    }
});

/// Percent-decoding as lenient servers do it.
fn decode_once(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}
