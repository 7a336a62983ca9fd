//! A provider that is connected by OAuth, in as many ways as tests need.

#![allow(dead_code, reason = "each test file uses its part")]

use http::HeaderMap;
use keystead_core::provider::oauth::{App, Means, Refusal, Tokens, read_tokens};
use keystead_core::provider::{Config, Fields, Provider};
use keystead_core::time::Time;
use serde_json::Value;
use zeroize::Zeroizing;

pub(crate) const NOW: Time = Time(1_795_000_000_000_000);

/// The file: what stands at its top, in `[mode.oauth]`, and after it.
pub(crate) fn file(top: &str, oauth: &str, after: &str) -> String {
    format!(
        r#"
id = "acme"
name = "Acme"
docs = "https://acme.example/docs"
hosts = ["api.acme.example"]
base_url = "https://api.acme.example"
path_prefixes = ["/"]
sdk_token_headers = ["authorization"]
test = {{ path = "/me" }}
{top}

[[mode]]
id = "oauth"
label = "Connect with Acme"
placement = {{ kind = "bearer", field = "access_token" }}
[mode.oauth]
authorize_url = "https://acme.example/authorize"
token_url = "https://acme.example/token"
{oauth}
{after}
"#
    )
}

pub(crate) fn provider(top: &str, oauth: &str, after: &str) -> Provider {
    let text = file(top, oauth, after);
    Provider::parse("acme.toml", &text).unwrap_or_else(|fault| panic!("{fault}"))
}

/// What the file is refused for.
pub(crate) fn fault(top: &str, oauth: &str, after: &str) -> String {
    match Provider::parse("acme.toml", &file(top, oauth, after)) {
        Ok(_) => panic!("taken: {top} {oauth} {after}"),
        Err(fault) => fault.message,
    }
}

pub(crate) fn config(provider: &Provider, value: Value) -> Config {
    match Config::parse(provider, &value) {
        Ok((config, _)) => config,
        Err(faults) => panic!("{faults:?}"),
    }
}

pub(crate) fn app() -> App {
    App {
        client_id: "acme-app".to_owned(),
        client_secret: Some(Zeroizing::new("canary-app".to_owned())),
    }
}

/// Parts as they are stored: what a person gives is read by `Fields::parse`.
pub(crate) fn stored(value: Value) -> Fields {
    Fields::from_message(value.to_string().as_bytes()).unwrap()
}

pub(crate) fn read(provider: &Provider, status: u16, body: &[u8]) -> Result<Tokens, Refusal> {
    let headers = HeaderMap::new();
    read_tokens(
        provider,
        &Config::default(),
        status,
        &headers,
        body,
        NOW,
        None,
    )
}

pub(crate) fn renewed(provider: &Provider, body: Value, before: &Fields) -> Tokens {
    let body = body.to_string();
    let headers = HeaderMap::new();
    let config = Config::default();
    read_tokens(
        provider,
        &config,
        200,
        &headers,
        body.as_bytes(),
        NOW,
        Some(before),
    )
    .unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

pub(crate) fn granted(provider: &Provider, status: u16, body: Value) -> Tokens {
    read(provider, status, body.to_string().as_bytes())
        .unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

pub(crate) fn refused(provider: &Provider, status: u16, body: &[u8]) -> (Means, String) {
    match read(provider, status, body) {
        Ok(_) => panic!("taken: {status} {}", String::from_utf8_lossy(body)),
        Err(refusal) => (refusal.means, refusal.code),
    }
}

pub(crate) fn unclear(code: &str) -> (Means, String) {
    (Means::Unclear, code.to_owned())
}

pub(crate) fn code(means: Means, code: &str) -> (Means, String) {
    (means, code.to_owned())
}

pub(crate) fn life(tokens: &Tokens) -> Option<i64> {
    Some(tokens.expires_at?.seconds() - NOW.seconds())
}

pub(crate) fn plain() -> Provider {
    provider("", "", "")
}

pub(crate) fn of_class(class: &str) -> Provider {
    provider("", &format!("[mode.oauth.refresh]\nclass = '{class}'"), "")
}
