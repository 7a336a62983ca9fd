//! Tokens of an app or an installation: what is asked, by whom, and how the answer is read.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keystead_core::provider::{
    Catalogue, Config, Fields, MintError, Provider, ResultClass, TokenRequest, mint_request,
    read_token_response,
};
use keystead_core::time::Time;
use serde_json::{Value, json};

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

fn ask(
    id: &str,
    credentials: Value,
    settings: Value,
    host: &str,
) -> Result<TokenRequest, MintError> {
    let provider = provider(id);
    let (config, _) = Config::parse(provider, &settings).unwrap();
    mint_request(provider, &fields(provider, credentials), &config, host, NOW)
}

fn form(request: &TokenRequest) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(&request.body)
        .into_owned()
        .collect()
}

fn at(request: &TokenRequest) -> String {
    format!("{}{}", request.destination.dial.as_str(), request.path)
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// A private key in PEM of both kinds, and the public half.
fn key() -> ([String; 2], Vec<u8>) {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let pkcs8 = key.as_der().unwrap().as_ref().to_vec();
    // What GitHub gives out is inside of what others do: the octet string at the end.
    let pkcs1 = &pkcs8[26..];
    assert_eq!(&pkcs1[..2], [0x30, 0x82]);
    let pem = |kind: &str, der: &[u8]| {
        format!(
            "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
            STANDARD.encode(der)
        )
    };
    (
        [pem("PRIVATE KEY", &pkcs8), pem("RSA PRIVATE KEY", pkcs1)],
        key.public_key().as_ref().to_vec(),
    )
}

#[test]
fn a_github_app_signs_for_one_installation() {
    let (pems, public) = key();
    for pem in pems {
        let app = json!({"app_id": "1234567", "private_key": pem});
        let settings = json!({"installation_id": "42"});
        let request = ask("github", app, settings, "api.github.com").ok().unwrap();
        assert_eq!(
            at(&request),
            "https://api.github.com/app/installations/42/access_tokens"
        );
        assert!(request.body.is_empty() && !request.headers.contains_key("content-type"));
        assert!(request.headers.contains_key("user-agent"));
        let bearer = &request.headers["authorization"];
        assert!(bearer.is_sensitive());
        let jwt = bearer.to_str().unwrap().strip_prefix("Bearer ").unwrap();
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public)
            .verify(
                signed.as_bytes(),
                &URL_SAFE_NO_PAD.decode(signature).unwrap(),
            )
            .unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let part = |text: &str| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
        };
        assert_eq!(part(header), json!({"alg": "RS256", "typ": "JWT"}));
        let claims = part(claims);
        assert_eq!(claims["iss"], "1234567");
        let (iat, exp) = (
            claims["iat"].as_i64().unwrap(),
            claims["exp"].as_i64().unwrap(),
        );
        assert!(iat < NOW.seconds() && exp - iat <= 600 && exp > NOW.seconds());
    }
}

#[test]
fn an_app_without_its_installation_says_what_is_missing() {
    let ([pem, _], _) = key();
    let app = || json!({"app_id": "1", "private_key": pem});
    let fault = ask("github", app(), json!({}), "api.github.com")
        .err()
        .unwrap();
    assert_eq!(fault, MintError::Scope);
    assert!(
        fault
            .to_string()
            .contains("check the integration's settings")
    );
    // No other path of the API can be named by it.
    let odd = json!({"installation_id": "../../x"});
    let fault = ask("github", app(), odd, "api.github.com").err();
    assert_eq!(fault, Some(MintError::Endpoint));
    let other = json!({"installation_id": "42"});
    let fault = ask("github", app(), other, "github.com.evil.example").err();
    assert_eq!(fault, Some(MintError::Scope));
}

#[test]
fn an_installations_token_is_read_with_its_own_names() {
    let app = provider("github").mode("app").unwrap();
    let test = app.test.as_ref().unwrap();
    let read = |expires_at: &str| {
        let body = json!({"token": "ghs_canary", "expires_at": expires_at}).to_string();
        let token = read_token_response(test, 201, body.as_bytes(), NOW);
        let token = token.ok().unwrap();
        assert_eq!(token.expose(), "ghs_canary");
        token.expires_at.seconds() - NOW.seconds()
    };
    let hour = NOW.plus_seconds(3600).rfc3339();
    assert_eq!(read(&hour), 3600);
    assert_eq!(read("2001-01-01T00:00:00Z"), 30);
    assert_eq!(read("9999-01-01T00:00:00Z"), 366 * 86_400);
    assert_eq!(read("tomorrow"), 300);
    let Err((result, _)) = read_token_response(test, 404, b"{}", NOW) else {
        panic!("taken");
    };
    assert_eq!(result, ResultClass::NoPerm);
}

#[test]
fn a_server_to_server_app_of_zoom_proves_itself_in_the_header() {
    let app = json!({"account_id": "canary&account", "client_id": "canary-id", "client_secret": "canary-secret"});
    let request = ask("zoom", app, json!({}), "api.zoom.us").ok().unwrap();
    assert_eq!(at(&request), "https://zoom.us/oauth/token");
    assert_eq!(
        form(&request),
        pairs([
            ("grant_type", "account_credentials"),
            ("account_id", "canary&account")
        ])
    );
    let basic = &request.headers["authorization"];
    assert!(basic.is_sensitive());
    let expected = format!("Basic {}", STANDARD.encode("canary-id:canary-secret"));
    assert_eq!(basic, expected.as_str());
}

#[test]
fn apps_of_salesforce_and_shopify_prove_themselves_at_their_own_host() {
    let app = json!({"consumer_key": "canary-key", "consumer_secret": "canary-secret"});
    let settings = json!({"domain": "acme--dev", "environment": "sandbox.my"});
    let host = "acme--dev.sandbox.my.salesforce.com";
    let request = ask("salesforce", app, settings, host).ok().unwrap();
    assert_eq!(
        at(&request),
        format!("https://{host}/services/oauth2/token")
    );
    assert!(!request.headers.contains_key("authorization"));
    assert_eq!(
        form(&request),
        pairs([
            ("grant_type", "client_credentials"),
            ("client_id", "canary-key"),
            ("client_secret", "canary-secret")
        ])
    );
    let app = json!({"app_client_id": "canary-id", "app_secret": "shpss_canary"});
    let settings = json!({"shop": "canary"});
    let request = ask("shopify", app, settings, "canary.myshopify.com")
        .ok()
        .unwrap();
    assert_eq!(
        at(&request),
        "https://canary.myshopify.com/admin/oauth/access_token"
    );
    assert_eq!(form(&request)["client_secret"], "shpss_canary");
    let app = json!({"client_id": "OQcanary", "client_secret": "canary"});
    let request = ask("twilio", app, json!({}), "api.twilio.com")
        .ok()
        .unwrap();
    assert_eq!(at(&request), "https://oauth.twilio.com/v2/token");
}

/// A provider that mints in one mode does not do so for what was given in another.
#[test]
fn a_token_is_made_only_from_a_credential_that_makes_one() {
    let ([pem, _], _) = key();
    for (id, placed, minted, settings, host) in [
        (
            "github",
            json!("ghp_canary"),
            json!({"app_id": "1", "private_key": pem}),
            json!({"installation_id": "1"}),
            "api.github.com",
        ),
        (
            "shopify",
            json!("shpat_canary"),
            json!({"app_client_id": "a", "app_secret": "canary"}),
            json!({"shop": "canary"}),
            "canary.myshopify.com",
        ),
        (
            "twilio",
            json!({"account_sid": "AC1", "auth_token": "canary"}),
            json!({"client_id": "a", "client_secret": "canary"}),
            json!({}),
            "api.twilio.com",
        ),
    ] {
        let provider = provider(id);
        let (config, _) = Config::parse(provider, &settings).unwrap();
        let scope =
            |credential: Value| provider.token_scope(&fields(provider, credential), &config, host);
        assert_eq!(scope(placed), None, "{id}");
        assert!(scope(minted).is_some(), "{id}");
    }
}
