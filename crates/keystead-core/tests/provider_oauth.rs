//! OAuth in provider files, and what goes to the provider.

#![allow(clippy::unwrap_used)]

use keystead_core::provider::Provider;

const FILE: &str = r#"
id = "acme"
name = "Acme"
docs = "https://acme.example/docs"
help = "In the console, press Connect."
links = { console = "https://acme.example/console", revoke = "https://acme.example/apps" }
hosts = ["api.acme.example"]
base_url = "https://api.acme.example"
path_prefixes = ["/"]
sdk_token_headers = ["authorization"]

[[mode]]
id = "oauth"
label = "Connect with Acme"
placement = { kind = "bearer", field = "access_token" }
[mode.oauth]
authorize_url = "https://acme.example/authorize"
token_url = "https://acme.example/token"
[mode.oauth.refresh]
class = "single_use"
[[mode.oauth.rule]]
status = 403
pointer = "/error"
equals = "invalid_grant"
means = "dead"
[mode.revoke]
manual = "https://acme.example/apps"
[[mode.revoke.call]]
method = "DELETE"
url = "https://api.acme.example/applications/{client_id}/grant"
auth = "app_basic"
json = '{"access_token":"{access_token}"}'
gone = [404]

[[usage]]
path = "/v1/chat"
input = "/usage/in"

[[price]]
model = "m"
input = 0.2
as_of = "2026-08-02"

[test]
path = "/me"
"#;

#[test]
fn a_file_with_oauth_is_read() {
    let provider = Provider::parse("acme.toml", FILE).unwrap();
    assert!(provider.oauth().is_some());
}

#[test]
fn an_unknown_key_in_a_rule_is_refused() {
    let odd = FILE.replace("means = \"dead\"", "means = \"dead\"\nmeens = 1");
    assert!(Provider::parse("acme.toml", &odd).is_err());
    let odd = FILE.replace("means = \"dead\"", "means = \"pending\"");
    assert!(Provider::parse("acme.toml", &odd).is_err());
}
