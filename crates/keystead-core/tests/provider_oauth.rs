//! OAuth in provider files: what they may say, and what a person gives for one.

#![allow(clippy::unwrap_used)]

mod acme;

use acme::{config, fault, file, provider, stored};
use keystead_core::provider::oauth::{API_HOST, RefreshClass};
use keystead_core::provider::{Config, DestinationError, Fields, Provider};
use serde_json::{Value, json};

const KEY_MODE: &str = r#"
[[mode]]
id = "key"
label = "Key"
placement = { kind = "bearer", field = "api_key" }
[[mode.field]]
name = "api_key"
label = "API key"
secret = true
primary = true
"#;

/// The paths and messages of what is refused.
fn refused(provider: &Provider, credentials: Value) -> Vec<(String, String)> {
    match Fields::parse(provider, credentials) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.into_iter().map(|f| (f.path, f.message)).collect(),
    }
}

#[test]
fn a_file_says_all_there_is_to_say_of_a_provider() {
    let provider = provider(
        r#"help = "In the console, press Connect."
links = { console = "https://acme.example/console", revoke = "https://acme.example/apps" }
usage = [{ path = "/v1/chat", input = "/usage/in", output = "/usage/out", cached = "/usage/cached", input_has_cached = true, stream = "merge" }]
price = [{ model = "m", input = 0.2, output = 1, above = { tokens = 272000, input = 0.4, output = 1.8 }, as_of = "2026-08-02" }]"#,
        r#"
device_url = "https://acme.example/device"
issuer = "https://acme.example"
iss_required = true
client_auth = "basic"
request = "json"
pkce = false
scopes = ["read", "write"]
scope_separator = ","
authorize_params = { access_type = "offline" }
reply = { success = [201], ok = "/ok", access_token = "/user/token" }
[mode.oauth.refresh]
class = "single_use"
lifetime = 7200
"#,
        r#"[mode.revoke]
manual = "https://acme.example/by-hand""#,
    );
    let mode = provider.oauth_mode().unwrap();
    let oauth = provider.oauth().unwrap();
    assert_eq!(oauth.refresh.class, RefreshClass::SingleUse);
    assert_eq!(oauth.reply.error, "/error");
    assert_eq!(
        provider.help_of(mode),
        Some("In the console, press Connect.")
    );
    assert_eq!(
        provider.manual_revocation_of(mode),
        Some("https://acme.example/by-hand")
    );
    assert!(provider.usage[0].input_has_cached);
    assert_eq!(provider.prices[0].above.as_ref().unwrap().tokens, 272_000);
}

#[test]
fn a_file_that_cannot_be_right_is_refused_with_the_key() {
    let oauth_faults = [
        ("pkse = true", "unknown field `pkse`"),
        ("reply = { eror = '/x' }", "unknown field `eror`"),
        (
            "device_url = 'http://acme.example/d'",
            "device_url: must be https",
        ),
        (
            "device_url = 'https://acme.example'",
            "device_url: must be https",
        ),
        (
            "device_url = 'https://u:p@acme.example/d'",
            "device_url: must be a plain",
        ),
        (
            "device_url = 'https://acme.example:8443/d'",
            "device_url: must be a plain",
        ),
        (
            "device_url = 'https://ACME.example/d'",
            "device_url: must be a plain",
        ),
        (
            "device_url = 'https://acme.example/a/../d'",
            "device_url: must be a plain",
        ),
        (
            "device_url = 'https://acme.example/d?x=1'",
            "device_url: parameters go",
        ),
        (
            "device_url = 'https://acme.example/{nix}'",
            "`{nix}` is no setting",
        ),
        (
            "device_url = 'https://acme.example/{x'",
            "braces do not pair",
        ),
        (
            "device_url = 'https://{zone}/d'",
            "a label before a fixed domain",
        ),
        (
            "device_url = 'https://{zone}.example/d'",
            "a label before a fixed domain",
        ),
        (
            "device_url = 'https://acme.{zone}/d'",
            "a label before a fixed domain",
        ),
        (
            "device_url = 'https://{zone}evil.acme.example/d'",
            "a label before a fixed domain",
        ),
        (
            "issuer = 'acme.example'",
            "issuer: must be an https address",
        ),
        ("iss_required = true", "iss_required: needs `issuer`"),
        ("scopes = ['a b']", "scopes: each is one word"),
        ("scope_separator = ';'", "scope_separator"),
        ("scope_param = 'state'", "scope_param"),
        (
            "authorize_params = { state = 'x' }",
            "authorize_params.state",
        ),
        (
            "authorize_params = { response_type = 'token' }",
            "authorize_params.response_type",
        ),
        (
            "authorize_params = { x = '{nix}' }",
            "`{nix}` is no setting",
        ),
        (
            "token_params = { client_secret = 'x' }",
            "token_params.client_secret",
        ),
        ("reply = { success = [] }", "reply.success"),
        ("reply = { success = [302] }", "reply.success"),
        (
            "reply = { access_token = 'token' }",
            "reply.access_token: must begin",
        ),
        (
            "reply = { access_token = '' }",
            "reply.access_token: must begin",
        ),
        (
            "reply = { expires_in = 'expires_in' }",
            "reply.expires_in: must begin",
        ),
        ("reply = { ok = 'ok' }", "reply.ok: must begin"),
        ("reply = { token_types = [] }", "reply.token_types"),
        (
            "reply = { host = '/instance_url' }",
            "reply.host: needs `host_choices`",
        ),
        (
            "reply = { refresh_token = '' }\n[mode.oauth.refresh]\nclass = 'single_use'",
            "reply.refresh_token",
        ),
        (
            "reply = { refresh_token = '' }\n[mode.oauth.refresh]\nclass = 'rotating'",
            "reply.refresh_token",
        ),
        (
            "[mode.oauth.refresh]\nclass = 'twice'",
            "unknown variant `twice`",
        ),
        (
            "[mode.oauth.refresh]\nclass = 'reusable'\nlifetime = -1",
            "refresh.lifetime",
        ),
        (
            "[[mode.oauth.rule]]\npointer = 'x'\nmeans = 'dead'",
            "rule number 1: pointer",
        ),
        (
            "[[mode.oauth.rule]]\nequals = 'x'\nmeans = 'dead'",
            "rule number 1",
        ),
        (
            "[[mode.oauth.rule]]\nstatus = '6xx'\nmeans = 'dead'",
            "rule number 1: status",
        ),
        (
            "[[mode.oauth.rule]]\nstatus = 400\nmeans = 'dead'\nmeens = 1",
            "unknown field `meens`",
        ),
        (
            "[[mode.oauth.rule]]\nstatus = 400\nmeans = 'pending'",
            "unknown variant `pending`",
        ),
        ("[[mode.oauth.rule]]\nstatus = 400", "missing field `means`"),
        (
            "[[mode.field]]\nname = 'api_key'\nlabel = 'k'",
            "`api_key` is no field of such a mode",
        ),
        (
            "client_auth = 'none'\n[[mode.field]]\nname = 'client_secret'\nlabel = 's'",
            "`client_secret` is no field",
        ),
        (
            "[[mode.field]]\nname = 'client_secret'\nlabel = 's'\nprimary = true",
            "`client_secret` is no field",
        ),
    ];
    let zone = "config = [{ name = 'zone', label = 'zone' }]";
    for (oauth, message) in oauth_faults {
        let found = fault(zone, oauth, "");
        assert!(found.contains(message), "{oauth}\n→ {found}");
    }
    let others = [
        ("help = 1", "", "invalid type"),
        ("links = { console = 'http://x' }", "", "links"),
        (
            "links = { dashboard = 'https://x' }",
            "",
            "unknown field `dashboard`",
        ),
        ("usage = [{ path = 'v1', input = '/a' }]", "", "is no path"),
        (
            "usage = [{ path = '/v1', input = 'a' }]",
            "",
            "input: must begin",
        ),
        (
            "usage = [{ path = '/v1', input = '/a', input_has_cached = true }]",
            "",
            "has no pointer",
        ),
        (
            "usage = [{ path = '/v1', input = '/a', stream = 'first' }]",
            "",
            "unknown variant",
        ),
        (
            "price = [{ model = 'm', input = -1, as_of = '2026-08-02' }]",
            "",
            "a figure",
        ),
        (
            "price = [{ model = 'm', input = nan, as_of = '2026-08-02' }]",
            "",
            "a figure",
        ),
        (
            "price = [{ model = 'm', input = 1, as_of = '2026-02-30' }]",
            "",
            "as_of",
        ),
        (
            "config = [{ name = 'api_host', label = 'x' }]",
            "",
            "config.api_host",
        ),
        ("", "[mode.revoke]", "a call, or the page"),
        (
            "",
            "[mode.revoke]\nmanual = 'javascript:x'",
            "revoke.manual",
        ),
        // Both modes would be meant by an app's id and secret.
        (
            "",
            "[[mode]]\nid = 'cc'\nlabel = 'x'\nplacement = { kind = 'bearer', field = 'client_secret' }\n[[mode.field]]\nname = 'client_secret'\nlabel = 's'\nsecret = true",
            "asks for nothing that this one does not have",
        ),
        (
            "",
            "[[mode]]\nid = 'second'\nlabel = 'x'\nplacement = { kind = 'bearer', field = 'access_token' }\n[mode.oauth]\nauthorize_url = 'https://acme.example/a'\ntoken_url = 'https://acme.example/t'",
            "at most one mode",
        ),
    ];
    for (top, after, message) in others {
        let found = fault(top, "", after);
        assert!(found.contains(message), "{top} {after}\n→ {found}");
    }
}

#[test]
fn a_setting_may_be_a_label_of_an_endpoints_host_or_choose_one() {
    let top = r#"config = [
        { name = "shop", label = "shop" },
        { name = "home", label = "home", kind = "select", options = ["login.acme.example", "test.acme.example"] },
    ]"#;
    provider(top, "device_url = 'https://{shop}.acme.example/d'", "");
    provider(top, "device_url = 'https://{home}/d'", "");
    let top = top.replace("test.acme.example", "test.acme.example/x?");
    let found = fault(&top, "device_url = 'https://{home}/d'", "");
    assert!(found.contains("device_url: must be a plain"), "{found}");
}

#[test]
fn the_parts_of_a_grant_are_implied_and_the_secret_ones_are_secret() {
    let provider = provider("", "", "");
    let mode = provider.oauth_mode().unwrap();
    let list = |granted: bool| -> Vec<(&str, bool)> {
        let fields = mode.fields.iter().filter(|f| f.granted == granted);
        fields.map(|f| (f.name.as_str(), f.secret)).collect()
    };
    assert_eq!(
        list(true),
        [
            ("access_token", true),
            ("refresh_token", true),
            ("scope", false),
            ("host", false)
        ]
    );
    assert_eq!(list(false), [("client_id", false), ("client_secret", true)]);
    assert_eq!(mode.given().count(), 2);
    assert!(mode.fields.iter().all(|field| !field.required));

    let tokens =
        stored(json!({"access_token": "canary-a", "refresh_token": "canary-r", "scope": "s"}));
    assert_eq!(tokens.mode(&provider).unwrap().id, "oauth");
    let secrets: Vec<&str> = tokens.secrets(&provider).collect();
    assert_eq!(secrets, ["canary-a", "canary-r"]);
}

#[test]
fn a_file_may_say_more_of_an_implied_field_but_not_make_it_another() {
    let provider = provider(
        "",
        "",
        "[[mode.field]]\nname = 'client_id'\nlabel = 'app id'\nhint = 'On the app page.'\n
         [[mode.field]]\nname = 'access_token'\nlabel = 'token'\nsecret = false\nrequired = true",
    );
    let mode = provider.oauth_mode().unwrap();
    assert_eq!(mode.field("client_id").unwrap().label, "app id");
    let token = mode.field("access_token").unwrap();
    assert!(token.secret && token.granted && !token.required);
    assert_eq!(mode.fields.len(), 6);
}

#[test]
fn a_person_gives_nothing_or_a_whole_app_and_never_a_token() {
    let provider = provider("", "", KEY_MODE);
    let mode = |credentials: Value| {
        let (fields, _) = Fields::parse(&provider, credentials).ok().unwrap();
        fields.mode(&provider).unwrap().id.clone()
    };
    assert_eq!(mode(json!({})), "oauth");
    assert_eq!(
        mode(json!({"client_id": "", "client_secret": null})),
        "oauth"
    );
    assert_eq!(
        mode(json!({"client_id": "a", "client_secret": "canary"})),
        "oauth"
    );
    assert_eq!(mode(json!({"api_key": "canary"})), "key");
    assert_eq!(mode(json!("canary")), "key");

    for (half, missing) in [
        ("client_id", "client_secret"),
        ("client_secret", "client_id"),
    ] {
        let faults = refused(&provider, json!({half: "canary"}));
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].0, format!("credentials.{missing}"));
        assert!(faults[0].1.contains(half) && !faults[0].1.contains("canary"));
    }
    for granted in ["access_token", "refresh_token", "scope", "host"] {
        let faults = refused(&provider, json!({granted: "canary"}));
        assert_eq!(faults[0].0, format!("credentials.{granted}"));
        assert!(faults[0].1.contains("authorise"), "{}", faults[0].1);
        assert!(!faults[0].1.contains("canary"));
    }
    let mixed = refused(
        &provider,
        json!({"client_id": "a", "client_secret": "b", "api_key": "c"}),
    );
    assert!(!mixed.is_empty());
}

#[test]
fn a_public_client_is_its_id_alone() {
    let provider = provider("", "client_auth = 'none'", "");
    assert!(Fields::parse(&provider, json!({"client_id": "a"})).is_ok());
    let faults = refused(
        &provider,
        json!({"client_id": "a", "client_secret": "canary"}),
    );
    assert_eq!(faults[0].0, "credentials.client_secret");
}

#[test]
fn the_host_of_a_reply_becomes_the_apis_within_the_choices() {
    let provider = provider(
        r#"host_choices = ["*.my.acme.example"]"#,
        "reply = { host = '/instance_url' }",
        "",
    );
    let to = |config: &Config, host: Option<&str>| {
        let to = provider.destination(config, host, "/me")?;
        Ok::<_, DestinationError>(to.dial.as_str().to_owned())
    };
    assert_eq!(
        to(&Config::default(), None).unwrap(),
        "https://api.acme.example"
    );
    let own = config(&provider, json!({API_HOST: "shop.my.acme.example"}));
    assert_eq!(to(&own, None).unwrap(), "https://shop.my.acme.example");
    // The setting permits that host alone.
    for other in ["other.my.acme.example", "evil.example"] {
        assert_eq!(to(&own, Some(other)), Err(DestinationError::Host));
    }
    for odd in [
        "evil.example",
        "shop.my.acme.example.evil.example",
        "a.my.acme.example b.my.acme.example",
        "a.my.acme.example:8443",
        "a.my.acme.example/x",
        "u@a.my.acme.example",
        "127.0.0.1",
    ] {
        let refused = Config::parse(&provider, &json!({API_HOST: odd}));
        assert!(refused.is_err(), "{odd}");
    }
    assert!(!file("", "", "").contains(API_HOST));
}
