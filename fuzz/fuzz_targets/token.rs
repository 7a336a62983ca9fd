//! Bearer tokens: what reads as a key or as a JWT has one spelling, within the cap.
#![no_main]

use keystead_core::token::{Jwt, MAX_BEARER, PlainKey, Presented};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let presented = Presented::of(text);
    match PlainKey::parse(text) {
        Ok(key) => {
            assert_eq!(key.expose(), text);
            assert_eq!(presented, Presented::Key(key.kind()));
        }
        Err(_) => assert!(!matches!(presented, Presented::Key(_))),
    }
    if let Ok(jwt) = Jwt::read(text) {
        assert_eq!(presented, Presented::Jwt);
        assert!(text.len() <= MAX_BEARER);
        assert!(text.starts_with(jwt.signed));
    }
});
