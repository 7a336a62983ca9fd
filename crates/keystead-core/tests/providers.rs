//! The catalogue: what Keystead brings, what an operator adds, and what is refused.

#![allow(clippy::unwrap_used)]

use keystead_core::provider::Catalogue;

fn catalogue() -> Catalogue {
    Catalogue::embedded().unwrap()
}

#[test]
fn every_embedded_provider_parses_and_names_are_unique() {
    let ids: Vec<String> = catalogue().list().map(|p| p.id.clone()).collect();
    assert_eq!(
        ids,
        [
            "anthropic",
            "aws_access_key",
            "azure_service_principal",
            "gcp_service_account",
            "generic_bearer",
            "google_gemini",
            "kling",
            "openai",
            "twilio",
            "whatsapp_cloud",
            "xai",
            "youtube"
        ]
    );
    assert_eq!(catalogue().get("twilio_sms").unwrap().id, "twilio");
    assert_eq!(catalogue().get("google").unwrap().id, "google_gemini");
    assert!(catalogue().get("OPENAI").is_none());
}

#[test]
fn an_unknown_type_gets_the_near_ones() {
    let catalogue = catalogue();
    assert_eq!(catalogue.near("opnai"), ["openai"]);
    assert_eq!(catalogue.near("twillio")[0], "twilio");
    assert_eq!(catalogue.near("gemni"), ["google_gemini"]);
    assert!(catalogue.near("whatsap").len() <= 3);
    assert!(catalogue.near("zzzzzzzzzzzzz").is_empty());
    assert!(catalogue.near(&"openai".repeat(100)).is_empty());
}
