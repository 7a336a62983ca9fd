//! Trying credentials: which call is made, and how tokens are minted.

#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keystead_core::provider::{
    Catalogue, Config, Fields, MintError, MintedToken, Provider, ResultClass, mint_request,
    read_token_response,
};
use keystead_core::time::Time;
use serde_json::{Value, json};

use ResultClass::{BadKey, Indeterminate};

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::embedded().unwrap());
const NOW: Time = Time(1_795_184_100_000_000);

fn provider(id: &str) -> &'static Provider {
    CATALOGUE.get(id).unwrap()
}

fn fields(provider: &Provider, credentials: Value) -> Fields {
    match Fields::parse(provider, credentials) {
        Ok((fields, _)) => fields,
        Err(faults) => panic!("{}: {faults:?}", provider.id),
    }
}

#[test]
fn the_test_call_holds_no_secret_and_needs_its_settings() {
    let call = |id: &str, credentials: Value, config: Value| {
        let provider = provider(id);
        let (config, _) = Config::parse(provider, &config).unwrap();
        provider.test_request(&fields(provider, credentials), &config, NOW)
    };
    let twilio = call(
        "twilio",
        json!({"account_sid": "A/C?", "auth_token": "canary"}),
        json!({}),
    )
    .unwrap();
    assert_eq!(twilio.path, "/2010-04-01/Accounts/A%2FC%3F.json");

    let kling = call("kling", json!("canary"), json!({})).unwrap();
    assert_eq!(kling.path, "/account/costs");
    assert_eq!(
        kling.query.as_deref(),
        Some("start_time=1795097700000&end_time=1795184100000")
    );

    let meta = json!({"access_token": "canary", "phone_number_id": "15550001111"});
    let meta = call("whatsapp", meta, json!({"api_version": "v23.0"})).unwrap();
    assert_eq!(meta.path, "/v23.0/15550001111");

    let aws = json!({"access_key_id": "canary", "secret_access_key": "canary"});
    let aws = call("aws", aws, json!({})).unwrap();
    assert_eq!(aws.method, http::Method::POST);
    assert_eq!(aws.body, b"Action=GetCallerIdentity&Version=2011-06-15");
    assert!(aws.headers.contains_key("content-type"));

    // At a host of its own, where that is not the base URL's.
    let atlassian = json!({"email": "person@canary.example", "api_token": "canary"});
    let settings = json!({"site": "my-canary"});
    let atlassian = call("atlassian", atlassian, settings).unwrap();
    assert_eq!(atlassian.host.as_deref(), Some("my-canary.atlassian.net"));
    let without = json!({"email": "person@canary.example", "api_token": "canary"});
    assert!(call("atlassian", without, json!({})).is_none());

    let generic = Catalogue::embedded()
        .unwrap()
        .with_settings(
            "generic_bearer",
            None,
            &["https://sms.example.com".to_owned()],
        )
        .unwrap();
    let generic = generic.get("generic_bearer").unwrap();
    let key = fields(generic, json!("canary-canary"));
    let mut config = json!({"base_url": "https://sms.example.com"});
    let (without, _) = Config::parse(generic, &config).unwrap();
    assert!(generic.test_request(&key, &without, NOW).is_none());
    config["test_path"] = "/ping?a=%20".into();
    let (with, _) = Config::parse(generic, &config).unwrap();
    let call = generic.test_request(&key, &with, NOW).unwrap();
    assert_eq!(
        (call.path.as_str(), call.query.as_deref()),
        ("/ping", Some("a=%20"))
    );
}

/// A key file with a fresh key, and the public half.
fn key_file() -> (Value, Vec<u8>) {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = key.as_der().unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    let file = json!({
        "type": "service_account",
        "private_key_id": "0123456789abcdef0123456789abcdef01234567",
        "private_key": pem,
        "client_email": "canary@canary.iam.gserviceaccount.com",
        "token_uri": "https://evil.example/token",
    });
    (file, key.public_key().as_ref().to_vec())
}

fn form(body: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(body).into_owned().collect()
}

#[test]
fn a_service_account_signs_for_the_pinned_endpoint() {
    let gcp = provider("gcp");
    let (file, public) = key_file();
    let fields = fields(gcp, file);
    let (config, _) = Config::parse(gcp, &json!({"subject": "user@canary.example"})).unwrap();
    let request = mint_request(gcp, &fields, &config, "storage.googleapis.com", NOW)
        .ok()
        .unwrap();
    assert_eq!(
        request.destination.dial.as_str(),
        "https://oauth2.googleapis.com"
    );
    assert_eq!(request.path, "/token");
    let form = form(&request.body);
    assert_eq!(form[0].1, "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let (signed, signature) = form[1].1.rsplit_once('.').unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
        .verify(
            signed.as_bytes(),
            &URL_SAFE_NO_PAD.decode(signature).unwrap(),
        )
        .unwrap();
    let part = |text: &str| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    };
    let (header, claims) = signed.split_once('.').unwrap();
    assert_eq!(
        part(header),
        json!({"alg": "RS256", "typ": "JWT", "kid": "0123456789abcdef0123456789abcdef01234567"})
    );
    assert_eq!(
        part(claims),
        json!({
            "iss": "canary@canary.iam.gserviceaccount.com",
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "aud": "https://oauth2.googleapis.com/token",
            "iat": 1_795_184_100, "exp": 1_795_187_700,
            "sub": "user@canary.example",
        })
    );
}

#[test]
fn what_is_no_private_key_is_said_so() {
    let gcp = provider("gcp");
    let (mut file, _) = key_file();
    for pem in [
        "canary",
        "-----BEGIN RSA PRIVATE KEY-----\nAA==\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----",
    ] {
        file["private_key"] = pem.into();
        let fields = fields(gcp, file.clone());
        let fault = mint_request(gcp, &fields, &Config::default(), "www.googleapis.com", NOW).err();
        assert_eq!(fault, Some(MintError::PrivateKey), "{pem}");
    }
}

#[test]
fn an_azure_token_is_for_the_host_that_is_called() {
    let azure = provider("azure");
    let credential = |tenant: &str| {
        fields(
            azure,
            json!({"tenant_id": tenant, "client_id": "c&d", "client_secret": "canary+/="}),
        )
    };
    let config = Config::default();
    let mint =
        |tenant: &str, host: &str| mint_request(azure, &credential(tenant), &config, host, NOW);
    let request = mint("contoso.example", "my.vault.azure.net").ok().unwrap();
    assert_eq!(
        request.destination.dial.as_str(),
        "https://login.microsoftonline.com"
    );
    assert_eq!(request.path, "/contoso.example/oauth2/v2.0/token");
    let body = form(&request.body);
    assert!(body.contains(&("client_id".into(), "c&d".into())));
    assert!(body.contains(&("client_secret".into(), "canary+/=".into())));
    assert!(body.contains(&("scope".into(), "https://vault.azure.net/.default".into())));

    let escaped = mint("x?y#z", "graph.microsoft.com").ok().unwrap();
    assert_eq!(escaped.path, "/x%3Fy%23z/oauth2/v2.0/token");
    // A server that decodes before it splits would go elsewhere.
    for tenant in ["..", "../x", "x/y", "x%2fy"] {
        let refused = mint(tenant, "graph.microsoft.com").err();
        assert_eq!(refused, Some(MintError::Endpoint), "{tenant}");
    }
    assert_eq!(mint("t", "evil.example").err(), Some(MintError::Scope));
    assert_eq!(
        azure
            .token_scope(&credential("t"), &config, "graph.microsoft.com")
            .as_deref(),
        Some("https://graph.microsoft.com/.default")
    );

    let moved = azure
        .clone()
        .with_base_url("http://127.0.0.1:9002")
        .unwrap();
    let request = mint_request(
        &moved,
        &credential("t"),
        &config,
        "graph.microsoft.com",
        NOW,
    )
    .ok()
    .unwrap();
    assert_eq!(request.destination.dial.as_str(), "http://127.0.0.1:9002");
    assert_eq!(
        request.destination.logical_host,
        "login.microsoftonline.com"
    );
}

#[test]
fn a_token_lasts_from_half_a_minute_to_a_year_whatever_is_claimed() {
    let test = provider("gcp").test.as_ref().unwrap();
    let life = |expires_in: &str| {
        let body = format!(r#"{{"access_token":"canary","expires_in":{expires_in}}}"#);
        let token = read_token_response(test, 200, body.as_bytes(), NOW)
            .ok()
            .unwrap();
        assert_eq!(token.expose(), "canary");
        token.expires_at.seconds() - NOW.seconds()
    };
    assert_eq!(life("3599"), 3599);
    assert_eq!(life("\"3599\""), 3599);
    assert_eq!(life("3599.7"), 3599);
    for (claimed, held) in [
        ("0", 30),
        ("-5", 30),
        ("1e300", 366 * 86_400),
        ("99999999999", 366 * 86_400),
        ("null", 300),
        ("{}", 300),
    ] {
        assert_eq!(life(claimed), held, "{claimed}");
    }
}

#[test]
fn an_answer_without_a_usable_token_is_no_token() {
    let test = provider("gcp").test.as_ref().unwrap();
    for body in [
        "",
        "{}",
        r#"{"access_token":""}"#,
        r#"{"access_token":"a\r\nb"}"#,
        r#"{"access_token":7}"#,
    ] {
        let Err((result, _)) = read_token_response(test, 200, body.as_bytes(), NOW) else {
            panic!("{body}");
        };
        assert_eq!(result, Indeterminate, "{body}");
    }
    let Err((result, _)) = read_token_response(test, 400, br#"{"error":"invalid_grant"}"#, NOW)
    else {
        panic!("taken");
    };
    assert_eq!(result, BadKey);
}

#[test]
fn a_minted_token_reads_back_from_its_message() {
    let test = provider("gcp").test.as_ref().unwrap();
    let body = br#"{"access_token":"canary","expires_in":60}"#;
    let token = read_token_response(test, 200, body, NOW).ok().unwrap();
    let read = MintedToken::from_message(&token.to_message()).unwrap();
    assert_eq!(
        (read.expose(), read.expires_at),
        ("canary", NOW.plus_seconds(60))
    );
    assert!(MintedToken::from_message(b"1234567").is_none());
    assert!(MintedToken::from_message(b"12345678\xff").is_none());
}
