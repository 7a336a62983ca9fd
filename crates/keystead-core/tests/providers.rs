//! The catalogue: what Keystead brings, what an operator adds, and what is refused.

#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use keystead_core::placement::Head;
use keystead_core::provider::{
    Catalogue, Config, Fields, MintedToken, Provider, ProviderCall, ProviderRequest, TokenRequest,
    oauth,
};
use keystead_core::sigv4;
use proptest::prelude::*;
use serde_json::{Value, json};

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::embedded().unwrap());

fn catalogue() -> &'static Catalogue {
    &CATALOGUE
}

fn provider(id: &str) -> Provider {
    Provider::clone(catalogue().get(id).unwrap())
}

/// The paths of what is refused.
fn refused(id: &str, credentials: Value) -> Vec<String> {
    match Fields::parse(&provider(id), credentials) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.into_iter().map(|fault| fault.path).collect(),
    }
}

/// The paths of what is warned of; the credential itself is taken.
fn warned(id: &str, credentials: Value) -> Vec<String> {
    match Fields::parse(&provider(id), credentials) {
        Ok((_, warnings)) => warnings.into_iter().map(|warning| warning.path).collect(),
        Err(faults) => panic!("{id}: {faults:?}"),
    }
}

#[test]
fn aliases_lead_to_their_provider_and_names_are_exact() {
    for (alias, id) in [
        ("twilio_sms", "twilio"),
        ("google", "google_gemini"),
        ("supabase_mgmt_oauth", "supabase"),
    ] {
        assert_eq!(catalogue().get(alias).unwrap().id, id);
    }
    assert!(catalogue().get("OPENAI").is_none());
}

#[test]
fn every_provider_file_is_embedded() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../providers");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|file| file.unwrap().file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned))
        .collect();
    files.sort();
    let ids: Vec<String> = catalogue().list().map(|p| p.id.clone()).collect();
    assert_eq!(ids, files);
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

#[test]
fn text_is_the_primary_field_of_the_first_mode_that_needs_no_other() {
    let kling = provider("kling");
    let (fields, _) = Fields::parse(&kling, json!("api-key-kling-canary"))
        .ok()
        .unwrap();
    assert_eq!(fields.get("api_key"), Some("api-key-kling-canary"));
    assert_eq!(fields.mode(&kling).unwrap().id, "api_key");

    // Twilio's auth token alone says nothing of the account.
    assert_eq!(
        refused("twilio", json!("canary")),
        ["credentials.account_sid"]
    );
    assert_eq!(refused("aws", json!("canary")), ["credentials"]);
}

#[test]
fn the_names_of_the_fields_say_the_mode() {
    let twilio = provider("twilio");
    let mode = |value: Value| {
        let (fields, _) = Fields::parse(&twilio, value).ok().unwrap();
        fields.mode(&twilio).unwrap().id.clone()
    };
    assert_eq!(
        mode(json!({"account_sid": "AC1", "auth_token": "canary"})),
        "auth_token"
    );
    assert_eq!(
        mode(json!({"account_sid": "AC1", "api_key_sid": "SK1", "api_key_secret": "canary"})),
        "api_key"
    );
    // The auth token beside an API key is for rotating that.
    let mixed = json!({"account_sid": "AC1", "auth_token": "canary", "api_key_sid": "SK1"});
    assert_eq!(refused("twilio", mixed), ["credentials.api_key_secret"]);
}

#[test]
fn a_wrong_field_is_named_and_the_near_one_said() {
    let Err(faults) = Fields::parse(&provider("openai"), json!({"api_kye": "canary"})) else {
        panic!("taken");
    };
    assert_eq!(faults[0].path, "credentials.api_kye");
    assert_eq!(faults[0].message, "no such field; did you mean `api_key`?");
    assert_eq!(faults[1].path, "credentials.api_key");
    assert_eq!(faults[1].message, "is required");
    assert_eq!(refused("openai", json!(7)), ["credentials"]);
    assert_eq!(
        refused("openai", json!({"api_key": 7})),
        ["credentials.api_key"]
    );
    assert_eq!(
        refused("openai", json!({"api_key": ""})),
        ["credentials.api_key"]
    );
    assert_eq!(
        refused("openai", json!({"api_key": null})),
        ["credentials.api_key"]
    );
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    for value in [
        json!({"sk-canary-as-a-name": "x", "api_key": "sk-canarycanarycanarycanary"}),
        json!({"api_key": "canary\n"}),
        json!({"api_key": {"canary": "canary"}}),
        json!(["canary"]),
    ] {
        let Err(faults) = Fields::parse(&provider("openai"), value) else {
            panic!("taken");
        };
        assert!(!format!("{faults:?}").contains("canary"), "{faults:?}");
    }
    let (_, warnings) = Fields::parse(&provider("openai"), json!("canary"))
        .ok()
        .unwrap();
    assert!(!format!("{warnings:?}").contains("canary"), "{warnings:?}");
}

#[test]
fn an_odd_format_warns_and_is_taken() {
    assert_eq!(warned("openai", json!("canary")), ["credentials.api_key"]);
    assert_eq!(warned("xai", json!("xai-canary")), ["credentials.api_key"]);
    assert_eq!(
        warned("gemini", json!("AIzacanary")),
        ["credentials.api_key"]
    );
    assert!(warned("gemini", json!("AQ.canarycanarycanarycanary")).is_empty());
    assert_eq!(
        warned(
            "aws",
            json!({"access_key_id": "canary", "secret_access_key": "canary"})
        ),
        ["credentials.access_key_id", "credentials.secret_access_key"]
    );
}

#[test]
fn white_space_at_the_ends_is_refused_but_in_files() {
    for value in [
        "canary\n",
        "\rcanary",
        " canary",
        "canary\t",
        "can\nary",
        "can\u{0}ary",
    ] {
        assert_eq!(
            refused("openai", json!(value)),
            ["credentials.api_key"],
            "{value:?}"
        );
    }
    assert!(refused("openai", json!("can ary")).is_empty());
}

fn key_file() -> Value {
    json!({
        "type": "service_account",
        "project_id": "canary",
        "private_key_id": "0123456789abcdef0123456789abcdef01234567",
        "private_key": "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n",
        "client_email": "canary@canary.iam.gserviceaccount.com",
        "client_id": "1",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://evil.example/token",
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "client_x509_cert_url": "https://www.googleapis.com/robot/v1/metadata/x509/canary",
        "universe_domain": "googleapis.com",
    })
}

#[test]
fn a_key_file_is_taken_as_object_or_text_and_its_token_uri_dropped() {
    for value in [key_file(), json!(key_file().to_string())] {
        let gcp = provider("gcp");
        let (fields, warnings) = Fields::parse(&gcp, value).ok().unwrap();
        assert_eq!(warnings, []);
        assert_eq!(fields.get("token_uri"), None);
        assert!(
            !String::from_utf8(fields.to_message())
                .unwrap()
                .contains("evil")
        );
        assert_eq!(
            fields.hint(&gcp).as_deref(),
            Some("4567"),
            "of the key's id"
        );
    }
}

#[test]
fn only_a_service_account_of_google_itself_is_taken() {
    let with = |name: &str, value: &str| {
        let mut file = key_file();
        file[name] = value.into();
        refused("gcp", file)
    };
    assert_eq!(with("type", "external_account"), ["credentials.type"]);
    assert_eq!(with("type", "authorized_user"), ["credentials.type"]);
    assert_eq!(
        with("universe_domain", "evil.example"),
        ["credentials.universe_domain"]
    );
    assert_eq!(
        with("credential_source", "x"),
        ["credentials.credential_source"]
    );
    assert_eq!(refused("gcp", json!("no json: canary")), ["credentials"]);
    assert_eq!(refused("gcp", json!("[1]")), ["credentials"]);
}

#[test]
fn a_hint_is_at_most_four_characters_and_none_of_a_short_value() {
    let openai = provider("openai");
    let hint = |value: &str| {
        let (fields, _) = Fields::parse(&openai, json!(value)).ok().unwrap();
        fields.hint(&openai)
    };
    assert_eq!(hint("sk-canary-canary-1234").as_deref(), Some("1234"));
    assert_eq!(hint("123456789012345"), None);
    assert_eq!(hint("1234567890123456").as_deref(), Some("3456"));
    assert_eq!(hint("sk-canary-canary-é234"), None);
    assert_eq!(hint("é"), None);
}

#[test]
fn a_message_is_canonical_and_allocated_once() {
    let (fields, _) = Fields::parse(
        &provider("aws"),
        json!({"secret_access_key": "can\"ary\\é", "access_key_id": "canary"}),
    )
    .ok()
    .unwrap();
    let message = fields.to_message();
    assert_eq!(
        std::str::from_utf8(&message).unwrap(),
        r#"{"access_key_id":"canary","secret_access_key":"can\"ary\\é"}"#
    );
    assert_eq!(message.capacity(), message.len());
}

#[test]
fn what_is_no_message_is_not_read() {
    for wrong in [
        "",
        "{",
        "{}x",
        "[]",
        r#"{"a":1}"#,
        r#"{"a":"b""#,
        r#"{"a":"b",}"#,
        r#"{,"a":"b"}"#,
        r#"{"a":"b","a":"c"}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12"}"#,
        r#"{"a":"\"#,
        r#"{"a":"\é"}"#,
        r#"{"a":"b" }"#,
    ] {
        assert!(Fields::from_message(wrong.as_bytes()).is_none(), "{wrong}");
    }
    assert!(Fields::from_message(b"{}").is_some());
    assert!(Fields::from_message(b"\xff").is_none());
}

#[test]
fn the_values_to_look_for_in_an_answer_are_the_secret_ones() {
    let twilio = provider("twilio");
    let value = json!({"account_sid": "AC1", "auth_token": "canary"});
    let (fields, _) = Fields::parse(&twilio, value).ok().unwrap();
    assert_eq!(fields.secrets(&twilio).collect::<Vec<_>>(), ["canary"]);
    // What the provider does not know is not shown either.
    assert_eq!(fields.secrets(&provider("openai")).count(), 2);
}

/// Whether a type has a trait, found without needing it.
macro_rules! has {
    ($bound:path, $type:ty) => {{
        struct Probe<T>(std::marker::PhantomData<T>);
        #[allow(dead_code)]
        trait Fallback {
            const HAS: bool = false;
        }
        impl<T> Fallback for Probe<T> {}
        #[allow(dead_code)]
        impl<T: $bound> Probe<T> {
            const HAS: bool = true;
        }
        Probe::<$type>::HAS
    }};
}

#[test]
fn what_holds_a_secret_cannot_be_printed_copied_compared_or_serialised() {
    macro_rules! closed {
        ($($type:ty)*) => {$(
            assert!(!has!(std::fmt::Debug, $type), stringify!($type));
            assert!(!has!(std::fmt::Display, $type), stringify!($type));
            assert!(!has!(serde::Serialize, $type), stringify!($type));
            assert!(!has!(PartialEq, $type), stringify!($type));
        )*};
    }
    closed!(Fields MintedToken TokenRequest Head sigv4::Credentials<'static>);
    closed!(oauth::App oauth::Tokens oauth::DeviceCode ProviderCall ProviderRequest);
    assert!(!has!(Clone, oauth::App) && !has!(Clone, oauth::Tokens));
    assert!(!has!(Clone, Fields) && !has!(Clone, MintedToken) && !has!(Clone, TokenRequest));
    // The probe itself can tell.
    assert!(has!(std::fmt::Debug, Config) && has!(Clone, Config));
}

proptest! {
    #[test]
    fn a_message_reads_back(key in any::<String>(), secret in any::<String>()) {
        let file = json!({
            "type": "service_account", "private_key_id": "k", "client_email": "e",
            "private_key": format!("{key}{secret}x"),
        });
        let (fields, _) = Fields::parse(&provider("gcp"), file).ok().unwrap();
        let message = fields.to_message();
        prop_assert_eq!(message.capacity(), message.len());
        let as_json: Value = serde_json::from_slice(&message).unwrap();
        prop_assert_eq!(as_json["private_key"].as_str(), fields.get("private_key"));
        let read = Fields::from_message(&message).unwrap();
        prop_assert_eq!(read.get("private_key"), fields.get("private_key"));
        prop_assert_eq!(read.to_message(), message);
    }

    #[test]
    fn any_bytes_are_a_message_or_not_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[{}\":,a\\\\u0-9é]{0,24}") {
        let _ = Fields::from_message(&bytes);
        if let Some(fields) = Fields::from_message(text.as_bytes()) {
            prop_assert!(serde_json::from_slice::<Value>(&fields.to_message()).is_ok());
        }
    }

    #[test]
    fn no_host_and_no_setting_leads_out_of_the_providers_hosts(
        host in "[a-z0-9.@:/?#%-]{0,12}(api.openai.com|amazonaws.com)[a-z0-9.@:/?#%-]{0,12}",
        region in "\\PC{0,20}",
    ) {
        let openai = provider("openai");
        let config = Config::default();
        if let Ok(to) = openai.destination(&config, Some(&host), "/v1/models") {
            prop_assert!(["api.openai.com", "eu.api.openai.com", "us.api.openai.com"].contains(&to.dial.host()));
        }
        let aws = provider("aws");
        if let Ok((config, _)) = Config::parse(&aws, &json!({"region": region})) {
            let to = aws.destination(&config, None, "/").unwrap();
            prop_assert!(to.dial.host().starts_with("sts."));
            prop_assert!(to.dial.host().ends_with(".amazonaws.com"));
            prop_assert_eq!(to.dial.host().split('.').count(), 4);
        }
    }
}
