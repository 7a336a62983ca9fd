//! Where credentials go, and what is taken off first.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, Method};
use keystead_core::placement::{Head, Material, PlaceError, place, strip};
use keystead_core::provider::{
    Catalogue, Config, Fields, Mode, Provider, oauth::read_tokens, read_token_response,
};
use keystead_core::time::Time;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

static EMBEDDED: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::embedded().unwrap());
const NOW: Time = Time(1_795_184_100_000_000);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    comment: String,
    provider: String,
    credentials: Value,
    config: Value,
    host: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    placed: Option<Placed>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Placed {
    query: Option<String>,
    headers: BTreeMap<String, String>,
}

fn catalogue() -> Catalogue {
    let approved = ["https://sms.example.com".to_owned()];
    Catalogue::embedded()
        .unwrap()
        .with_settings("generic_bearer", None, &approved)
        .unwrap()
}

fn head(host: &str, path: &str, query: Option<&str>) -> Head {
    Head {
        method: Method::GET,
        logical_host: host.to_owned(),
        host_header: host.to_owned(),
        path: path.to_owned(),
        query: query.map(str::to_owned),
        headers: HeaderMap::new(),
    }
}

fn fields(provider: &Provider, credentials: Value) -> Fields {
    match Fields::parse(provider, credentials) {
        Ok((fields, _)) => fields,
        Err(faults) => panic!("{}: {faults:?}", provider.id),
    }
}

#[test]
fn every_provider_is_placed_as_the_vectors_say() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../../vectors/placement/cases.json")).unwrap();
    let catalogue = catalogue();
    let mut seen = Vec::new();
    for case in cases {
        let provider = catalogue.get(&case.provider).unwrap();
        seen.push(provider.id.clone());
        let fields = fields(provider, case.credentials);
        let (config, _) = Config::parse(provider, &case.config).unwrap();
        let mut head = head(&case.host, &case.path, case.query.as_deref());
        for (name, value) in &case.headers {
            let name: HeaderName = name.parse().unwrap();
            head.headers.append(name, value.parse().unwrap());
        }
        let result = place(
            provider,
            Material::Fields(&fields),
            &config,
            &mut head,
            NOW,
            None,
        );
        let placed: BTreeMap<String, String> = head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        assert_eq!(head.headers.len(), placed.len(), "{}: twice", case.comment);
        match (case.placed, case.error.as_deref()) {
            (Some(expected), None) => {
                let derived = result.unwrap();
                let holds = |secret: &str| placed.values().any(|value| value.contains(secret));
                assert!(derived.is_none_or(|it| holds(&it)), "{}", case.comment);
                assert_eq!(placed, expected.headers, "{}", case.comment);
                assert_eq!(head.query, expected.query, "{}", case.comment);
                let shown = format!("{:?}", head.headers);
                assert!(!shown.contains("canary"), "{}: {shown}", case.comment);
            }
            (None, Some(error)) => {
                let expected = match error {
                    "body_hash" => PlaceError::BodyHash,
                    "token_needed" => PlaceError::TokenNeeded,
                    other => panic!("{other}"),
                };
                assert_eq!(result, Err(expected), "{}", case.comment);
                assert!(head.headers.is_empty(), "{}", case.comment);
            }
            _ => panic!("{}: either placed or error", case.comment),
        }
    }
    for provider in catalogue.list() {
        // Minting and grants have tests of their own.
        let given = |mode: &Mode| mode.mint.is_none() && mode.oauth.is_none();
        assert!(
            seen.contains(&provider.id) || !provider.modes.iter().any(given),
            "{} has no vector",
            provider.id
        );
    }
}

#[test]
fn a_minted_token_is_placed_as_a_bearer() {
    let catalogue = catalogue();
    let gcp = catalogue.get("gcp").unwrap();
    let answer = br#"{"access_token":"ya29.canary","expires_in":3599}"#;
    let token = read_token_response(gcp.test.as_ref().unwrap(), 200, answer, NOW)
        .ok()
        .unwrap();
    let mut head = head(
        "storage.googleapis.com",
        "/storage/v1/b",
        Some("access_token=caller"),
    );
    head.headers
        .append("authorization", "Bearer caller".parse().unwrap());
    head.headers
        .append("x-goog-api-key", "caller".parse().unwrap());
    let config = Config::default();
    place(gcp, Material::Token(&token), &config, &mut head, NOW, None).unwrap();
    assert_eq!(head.headers.len(), 1);
    assert_eq!(head.headers["authorization"], "Bearer ya29.canary");
    assert!(head.headers["authorization"].is_sensitive());
    assert_eq!(head.query, None);
}

#[test]
fn a_minted_token_is_placed_where_the_provider_takes_it() {
    let shopify = EMBEDDED.get("shopify").unwrap();
    let (config, _) = Config::parse(shopify, &json!({"shop": "canary"})).unwrap();
    let mode = shopify.mode("client_credentials").unwrap();
    let answer = br#"{"access_token":"shpat_canary","expires_in":86399}"#;
    let token = read_token_response(mode.test.as_ref().unwrap(), 200, answer, NOW);
    let mut head = head("canary.myshopify.com", "/admin/api/2026-07/shop.json", None);
    head.headers
        .append("x-shopify-access-token", "caller".parse().unwrap());
    let token = token.ok().unwrap();
    place(
        shopify,
        Material::Token(&token),
        &config,
        &mut head,
        NOW,
        None,
    )
    .unwrap();
    assert_eq!(head.headers["x-shopify-access-token"], "shpat_canary");
    assert_eq!(head.headers.len(), 1);
}

#[test]
fn every_grant_places_its_access_token_and_no_other_part() {
    let mut grants = 0;
    for provider in EMBEDDED.list() {
        let Some(mode) = provider.oauth_mode() else {
            continue;
        };
        grants += 1;
        let reply = json!({
            "ok": true, "access_token": "canary-access", "refresh_token": "canary-refresh",
            "token_type": mode.oauth.as_ref().unwrap().reply.token_types[0], "scope": "canary",
        });
        let status = mode.oauth.as_ref().unwrap().reply.success[0];
        let (config, none) = (Config::default(), HeaderMap::new());
        let body = reply.to_string();
        let tokens = read_tokens(provider, &config, status, &none, body.as_bytes(), NOW, None);
        let fields = tokens.ok().unwrap().fields;
        assert_eq!(
            fields.mode(provider).unwrap().id,
            mode.id,
            "{}",
            provider.id
        );
        let mut head = head("of.the.provider", "/x", None);
        head.headers
            .append("authorization", "Bearer caller".parse().unwrap());
        let material = Material::Fields(&fields);
        place(provider, material, &config, &mut head, NOW, None).unwrap();
        let own: Vec<&str> = head
            .headers
            .values()
            .filter(|value| value.is_sensitive())
            .map(|value| value.to_str().unwrap())
            .collect();
        assert!(
            matches!(own[..], ["Bearer canary-access" | "canary-access"]),
            "{}: {own:?}",
            provider.id
        );
        let all: String = head
            .headers
            .values()
            .filter_map(|v| v.to_str().ok())
            .collect();
        assert!(
            !all.contains("refresh") && !all.contains("caller"),
            "{}",
            provider.id
        );
    }
    assert_eq!(grants, 21);
}

#[test]
fn a_credential_of_another_provider_is_not_placed() {
    let catalogue = catalogue();
    let twilio = catalogue.get("twilio").unwrap();
    let foreign = fields(
        catalogue.get("openai").unwrap(),
        json!("sk-canarycanarycanarycanary"),
    );
    let mut head = head("api.twilio.com", "/2010-04-01/", None);
    head.headers
        .append("authorization", "Bearer caller".parse().unwrap());
    let config = Config::default();
    let result = place(
        twilio,
        Material::Fields(&foreign),
        &config,
        &mut head,
        NOW,
        None,
    );
    assert_eq!(result, Err(PlaceError::Credential));
    assert!(
        head.headers.is_empty(),
        "the caller's token must not go out either"
    );
}

/// The model has a query placement, for own providers; no embedded one uses it.
#[test]
fn a_query_placement_escapes_the_value_and_replaces_the_callers() {
    let text = r#"
        id = "acme"
        name = "Acme"
        docs = "https://acme.example"
        hosts = ["api.acme.example"]
        base_url = "https://api.acme.example"
        path_prefixes = ["/"]
        sdk_token_headers = ["authorization"]
        [[mode]]
        id = "token"
        label = "token"
        placement = { kind = "query", name = "token", field = "token" }
        [[mode.field]]
        name = "token"
        label = "token"
        secret = true
        primary = true
        [test]
        path = "/ping"
    "#;
    let acme = Provider::parse("acme.toml", text).unwrap();
    let fields = fields(&acme, json!("canary&x=1"));
    let mut head = head("api.acme.example", "/", Some("a=1&token=caller"));
    let config = Config::default();
    place(
        &acme,
        Material::Fields(&fields),
        &config,
        &mut head,
        NOW,
        None,
    )
    .unwrap();
    assert_eq!(head.query.as_deref(), Some("a=1&token=canary%26x%3D1"));
}

proptest! {
    #[test]
    fn placing_leaves_exactly_one_credential(
        sent in prop::collection::vec((0_usize..7, "[!-~]{1,12}"), 0..12),
    ) {
        let names = [
            "authorization", "x-api-key", "api-key", "proxy-authorization", "cookie",
            "x-goog-api-key", "x-harmless",
        ];
        for id in ["openai", "anthropic", "google_gemini"] {
            let provider = EMBEDDED.get(id).unwrap();
            let fields = fields(provider, json!("sk-canarycanarycanarycanary"));
            let mut head = head(&provider.hosts[0].text, "/v1/models", None);
            for (which, value) in &sent {
                head.headers.append(names[*which], format!("of-the-caller {value}").parse().unwrap());
            }
            let config = Config::default();
            place(provider, Material::Fields(&fields), &config, &mut head, NOW, None).unwrap();
            let ours = head.headers.values().filter(|value| value.is_sensitive()).count();
            prop_assert_eq!(ours, 1);
            for name in provider.sdk_token_headers.iter().chain(&provider.strip_headers) {
                for value in head.headers.get_all(name) {
                    prop_assert!(value.is_sensitive(), "{} {}", id, name);
                }
            }
            strip(provider, &config, &mut head);
            prop_assert_eq!(head.headers.values().filter(|value| value.is_sensitive()).count(), 0);
        }
    }

    #[test]
    fn stripping_a_query_keeps_the_rest_byte_for_byte(
        before in "[a-zA-Z0-9=%._~-]{0,12}", after in "[a-zA-Z0-9=%._~-]{0,12}",
    ) {
        prop_assume!(!before.to_lowercase().starts_with("key") && !before.contains('%'));
        prop_assume!(!after.to_lowercase().starts_with("key") && !after.contains('%'));
        let gemini = EMBEDDED.get("gemini").unwrap();
        let query = format!("{before}&key=caller&{after}");
        let mut head = head("generativelanguage.googleapis.com", "/v1/models", Some(&query));
        strip(gemini, &Config::default(), &mut head);
        prop_assert_eq!(head.query, Some(format!("{before}&{after}")));
    }
}
