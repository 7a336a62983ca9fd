//! Ids and scopes: an id has one spelling, and a scope read from text allows nothing by absence.
#![no_main]

use keystead_core::caller::Scope;
use keystead_core::ids::{IntegrationId, SealKeyId, TenantId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<IntegrationId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<TenantId>() {
        assert_eq!(id.to_string(), text);
        assert!(text.parse::<SealKeyId>().is_err());
    }
    if let Ok(scope) = Scope::parse(text) {
        assert!(!scope.actions.is_empty());
    }
});
