//! Provider files, and what callers give for one: what is read is within what the file says.
#![no_main]

use keystead_core::provider::{Catalogue, Config, Fields, Provider};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static CATALOGUE: LazyLock<Catalogue> =
    LazyLock::new(|| Catalogue::embedded().expect("the embedded files are valid"));

fuzz_target!(|text: &str| {
    let _ = Provider::parse("own.toml", text);

    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else {
        return;
    };
    for provider in CATALOGUE.list() {
        let _ = Config::parse(provider, &value);
        if let Ok((fields, _)) = Fields::parse(provider, value.clone()) {
            let message = fields.to_message();
            let again = Fields::from_message(&message).expect("its own message");
            assert_eq!(again.to_message(), message);
            // At most the last four characters may be shown.
            let hint = fields.hint(provider).unwrap_or_default();
            assert!(
                hint.chars().filter(|c| c.is_alphanumeric()).count() <= 4,
                "{hint}"
            );
        }
    }
});
