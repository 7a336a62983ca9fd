//! Where calls go, and what an operator may change of it.

#![allow(clippy::unwrap_used)]

use keystead_core::provider::{Catalogue, Config, DestinationError, Provider};
use serde_json::{Value, json};

fn provider(id: &str) -> Provider {
    Provider::clone(Catalogue::embedded().unwrap().get(id).unwrap())
}

fn config(provider: &Provider, value: Value) -> Config {
    match Config::parse(provider, &value) {
        Ok((config, _)) => config,
        Err(faults) => panic!("{}: {faults:?}", provider.id),
    }
}

/// The paths of what is refused.
fn refused(provider: &Provider, value: Value) -> Vec<String> {
    match Config::parse(provider, &value) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.into_iter().map(|fault| fault.path).collect(),
    }
}

fn dialled(
    provider: &Provider,
    config: &Config,
    host: Option<&str>,
    path: &str,
) -> Result<String, DestinationError> {
    let to = provider.destination(config, host, path)?;
    assert_eq!(to.host_header, to.dial.authority());
    Ok(to.dial.as_str().to_owned())
}

#[test]
fn a_call_goes_to_the_providers_host_within_its_paths() {
    let openai = provider("openai");
    let none = Config::default();
    let to = |host, path| dialled(&openai, &none, host, path);
    assert_eq!(to(None, "/v1/models").unwrap(), "https://api.openai.com");
    assert_eq!(to(None, "/v1").unwrap(), "https://api.openai.com");
    assert_eq!(
        to(Some("EU.api.openai.com"), "/v1/models").unwrap(),
        "https://eu.api.openai.com"
    );
    for path in ["/", "/v1x", "/v2/models", "", "v1/models"] {
        assert_eq!(to(None, path), Err(DestinationError::Path), "{path}");
    }
    for host in [
        "evil.example",
        "api.openai.com.evil.example",
        "xapi.openai.com",
        "api.openai.com:8443",
        "api.openai.com.",
        "user@api.openai.com",
        "api.openai.com/",
        "",
        "127.0.0.1",
    ] {
        assert_eq!(
            to(Some(host), "/v1/models"),
            Err(DestinationError::Host),
            "{host}"
        );
    }
}

#[test]
fn an_operator_moves_what_is_dialled_and_not_what_is_meant() {
    let openai = provider("openai")
        .with_base_url("http://127.0.0.1:9000")
        .unwrap();
    let none = Config::default();
    let to = openai.destination(&none, None, "/v1/models").unwrap();
    assert_eq!(to.logical_host, "api.openai.com");
    assert_eq!(to.dial.as_str(), "http://127.0.0.1:9000");
    assert_eq!(to.host_header, "127.0.0.1:9000");
    let other = openai.destination(&none, Some("127.0.0.1"), "/v1/models");
    assert_eq!(other, Err(DestinationError::Host));
    for wrong in [
        "127.0.0.1:9000",
        "ftp://x.example",
        "https://x.example/path",
        "https://u@x.example",
        "http://2130706433",
    ] {
        assert_eq!(
            provider("openai").with_base_url(wrong).err(),
            Some(DestinationError::BaseUrl),
            "{wrong}"
        );
    }
}

#[test]
fn a_region_makes_the_host_and_cannot_leave_it() {
    let aws = provider("aws");
    let paris = config(&aws, json!({"region": "eu-west-3"}));
    assert_eq!(
        dialled(&aws, &paris, None, "/").unwrap(),
        "https://sts.eu-west-3.amazonaws.com"
    );
    assert_eq!(
        dialled(&aws, &Config::default(), None, "/").unwrap(),
        "https://sts.us-east-1.amazonaws.com"
    );
    for region in [
        "evil.example/",
        "x.evil.example",
        "@evil.example",
        "eu-west-1#",
        "é",
        "",
    ] {
        assert_eq!(
            refused(&aws, json!({"region": region})).len(),
            1,
            "{region}"
        );
    }
}

#[test]
fn further_hosts_must_be_chosen_by_the_integration() {
    let aws = provider("aws");
    let s3 = "s3.eu-west-1.amazonaws.com";
    let none = Config::default();
    assert_eq!(
        dialled(&aws, &none, Some(s3), "/b"),
        Err(DestinationError::Host)
    );
    let chosen = config(
        &aws,
        json!({"hosts": "sqs.eu-west-1.amazonaws.com s3.eu-west-1.amazonaws.com"}),
    );
    assert_eq!(
        dialled(&aws, &chosen, Some(s3), "/b").unwrap(),
        "https://s3.eu-west-1.amazonaws.com"
    );
    assert_eq!(
        dialled(&aws, &chosen, Some("ec2.eu-west-1.amazonaws.com"), "/"),
        Err(DestinationError::Host)
    );
    for hosts in [
        "evil.example",
        "s3.amazonaws.com evil.example",
        "*.amazonaws.com",
        "amazonaws.com",
    ] {
        assert_eq!(
            refused(&aws, json!({"hosts": hosts})),
            ["config.hosts"],
            "{hosts}"
        );
    }
    let azure = provider("azure");
    assert_eq!(
        refused(&azure, json!({"hosts": "my.vault.azure.net.evil.example"})),
        ["config.hosts"]
    );
    assert_eq!(
        refused(&azure, json!({"login_host": "evil.example"})),
        ["config.login_host"]
    );
}

#[test]
fn a_generic_base_url_is_one_that_the_operator_approved() {
    let url = |url: &str| json!({"base_url": url});
    let closed = provider("generic_bearer");
    assert_eq!(
        refused(&closed, url("https://sms.example.com")),
        ["config.base_url"]
    );
    assert_eq!(refused(&closed, json!({})), ["config.base_url"]);

    let open = provider("generic_bearer")
        .with_approved(["https://sms.example.com", "http://127.0.0.1:9001"])
        .unwrap();
    for wrong in [
        "https://evil.example",
        "http://sms.example.com",
        "https://sms.example.com:8443",
        "https://sms.example.com/x",
        "https://sms.example.com@evil.example",
    ] {
        assert_eq!(refused(&open, url(wrong)), ["config.base_url"], "{wrong}");
    }
    let sms = config(&open, url("https://sms.example.com/"));
    assert_eq!(
        dialled(&open, &sms, None, "/send").unwrap(),
        "https://sms.example.com"
    );
    assert_eq!(
        dialled(&open, &sms, Some("127.0.0.1"), "/send"),
        Err(DestinationError::Host)
    );
    // What was approved once and is not any more stops working.
    assert_eq!(
        dialled(&closed, &sms, None, "/send"),
        Err(DestinationError::Settings)
    );
}

#[test]
fn a_setting_cannot_name_a_framing_header_or_an_odd_path() {
    let generic = provider("generic_bearer")
        .with_approved(["https://sms.example.com"])
        .unwrap();
    let with = |name: &str, value: &str| {
        refused(
            &generic,
            json!({"base_url": "https://sms.example.com", name: value}),
        )
    };
    for header in [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "connection",
        "a b",
        "",
        "Keystead-Tenant",
        "X-Forwarded-For",
        "forwarded",
        "Proxy-Authorization",
        "cookie",
        "Range",
        "if-range",
        "content-encoding",
        "accept-encoding",
        "Sec-WebSocket-Protocol",
        "X_Api_Key",
        "te",
        "via",
    ] {
        assert_eq!(
            with("header_name", header),
            ["config.header_name"],
            "{header}"
        );
    }
    for header in ["Authorization", "X-Api-Key", "api-key", "xi-api-key"] {
        assert!(with("header_name", header).is_empty(), "{header}");
    }
    for path in [
        "ping",
        "//evil.example/",
        "/a/../b",
        "/a%2fb",
        "/a b",
        "/a?x#y",
        "/a\r\nX: y",
    ] {
        assert_eq!(with("test_path", path), ["config.test_path"], "{path:?}");
    }
    assert_eq!(
        with("header_prefix", "Bearer \r\n"),
        ["config.header_prefix"]
    );
    assert!(with("test_path", "/v1/ping?x={1}&y=%20").is_empty());
    assert_eq!(with("tset_path", "/"), ["config.tset_path"]);
    assert_eq!(refused(&generic, json!("x")), ["config"]);
}

#[test]
fn an_own_provider_adds_to_the_catalogue_and_replaces_only_where_allowed() {
    let own = include_str!("../../../providers/openai.toml").replace("\"openai\"", "\"acme\"");
    let embedded = || Catalogue::embedded().unwrap();
    let with = embedded()
        .with_own([("acme.toml", own.as_str())], false)
        .unwrap();
    assert_eq!(with.list().count(), embedded().list().count() + 1);
    assert!(with.get("acme").is_some());

    let again = include_str!("../../../providers/openai.toml")
        .replace("name = \"OpenAI\"", "name = \"Mine\"");
    let fault = embedded()
        .with_own([("mine.toml", again.as_str())], false)
        .unwrap_err();
    assert_eq!(fault.to_string(), "mine.toml: id: `openai` is taken");
    let replaced = embedded()
        .with_own([("mine.toml", again.as_str())], true)
        .unwrap();
    assert_eq!(replaced.get("openai").unwrap().name, "Mine");

    let alias = own.replace("name = \"OpenAI\"", "name = \"A\"\naliases = [\"xai\"]");
    let fault = embedded()
        .with_own([("acme.toml", alias.as_str())], true)
        .unwrap_err();
    assert_eq!(fault.to_string(), "acme.toml: aliases: `xai` is taken");
}

#[test]
fn settings_for_an_unknown_provider_name_the_near_one() {
    let fault = Catalogue::embedded()
        .unwrap()
        .with_settings("opnai", Some("http://127.0.0.1:1"), &[])
        .unwrap_err();
    assert_eq!(
        fault.to_string(),
        "[provider.opnai]: there is no such provider; did you mean `openai`?"
    );
}

#[test]
fn a_faulty_file_is_refused_with_its_name_and_the_key() {
    let text = include_str!("../../../providers/anthropic.toml");
    let cases = [
        ("docs = ", "dcos = ", "dcos"),
        (
            "hosts = [\"api.anthropic.com\"]",
            "hosts = [\"*.com\"]",
            "host pattern `*.com`",
        ),
        (
            "hosts = [\"api.anthropic.com\"]",
            "hosts = [\"other.example\"]",
            "base_url: its host is not within `hosts`",
        ),
        (
            "hosts = [\"api.anthropic.com\"]",
            "hosts = []",
            "hosts: may be left out only",
        ),
        (
            "hosts = [\"api.anthropic.com\"]",
            "hosts = [\"{x}.anthropic.com\"]",
            "hosts: `{x}` is no setting",
        ),
        (
            "https://api.anthropic.com\"",
            "http://api.anthropic.com\"",
            "base_url: must be https",
        ),
        (
            "https://api.anthropic.com\"",
            "https://api.anthropic.com/v1\"",
            "base_url: must be https and host only",
        ),
        ("\"/v1/\"", "\"v1/\"", "path_prefixes"),
        (
            "field = \"api_key\"",
            "field = \"apikey\"",
            "mode.api_key.placement: the mode has no field `apikey`",
        ),
        ("kind = \"header\"", "kind = \"haeder\"", "haeder"),
        (
            "name = \"x-api-key\"",
            "name = \"X Api\"",
            "mode.api_key.placement.name",
        ),
        (
            "primary = true",
            "primary = true\nkind = \"path\"",
            "mode.api_key.field.api_key: that kind is for settings",
        ),
        (
            "secret = true",
            "secret = false",
            "at most one field is primary, and it is secret",
        ),
        ("^sk-ant-api", "^sk-(ant-api", "pattern `^sk-(ant-api"),
        (
            "example = \"sk-ant",
            "example = \"sk-other",
            "the example or default does not fit",
        ),
        (
            "/v1/models?limit=1",
            "/v1/{api_key}",
            "`{api_key}` is no setting and no field that may be shown",
        ),
        ("/v1/models?limit=1", "/v1/{", "braces do not pair"),
        (
            "value = \"2023-06-01\"",
            "value = \"{version}\"",
            "header.anthropic-version: `{version}` is no setting",
        ),
        (
            "status = 529",
            "status = \"9xx\"",
            "mode.api_key.test.rule number 3: status: `9xx`",
        ),
        (
            "result = \"down\"",
            "result = \"ok\"",
            "only an answer of 2xx can be ok",
        ),
        ("result = \"down\"", "result = \"donw\"", "donw"),
        ("text = \"credit balance\"", "equals = 1", "needs `pointer`"),
        (
            "[test]\npath = \"/v1/models?limit=1\"",
            "[test]\nmint = true",
            "`mint` is for modes that mint",
        ),
    ];
    for (from, to, expected) in cases {
        assert!(text.contains(from), "{from}");
        let fault = Provider::parse("mine.toml", &text.replacen(from, to, 1)).unwrap_err();
        assert!(fault.to_string().starts_with("mine.toml: "), "{fault}");
        assert!(fault.message.contains(expected), "{to}: {fault}");
    }
    assert!(Provider::parse("mine.toml", "").is_err());
}
