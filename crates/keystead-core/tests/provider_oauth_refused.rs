//! What is refused of a provider's answer, and what its refusals mean.

#![allow(clippy::unwrap_used)]

mod acme;

use acme::{NOW, code, granted, life, plain, provider, read, refused, renewed, stored, unclear};
use http::HeaderMap;
use keystead_core::provider::Config;
use keystead_core::provider::oauth::{Means, read_tokens};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn the_standards_codes_and_statuses_say_what_a_refusal_means() {
    let table: [(u16, &str, Means, &str); 17] = [
        (
            400,
            r#"{"error":"invalid_grant"}"#,
            Means::Dead,
            "invalid_grant",
        ),
        (
            400,
            r#"{"error":"expired_token"}"#,
            Means::Dead,
            "expired_token",
        ),
        (
            401,
            r#"{"error":"invalid_client"}"#,
            Means::Client,
            "invalid_client",
        ),
        (
            400,
            r#"{"error":"unauthorized_client"}"#,
            Means::Client,
            "unauthorized_client",
        ),
        (
            400,
            r#"{"error":"authorization_pending"}"#,
            Means::Pending,
            "authorization_pending",
        ),
        (
            400,
            r#"{"error":"slow_down"}"#,
            Means::SlowDown,
            "slow_down",
        ),
        (
            400,
            r#"{"error":"temporarily_unavailable"}"#,
            Means::Down,
            "temporarily_unavailable",
        ),
        (429, "", Means::Rate, "http_429"),
        (503, "<html>down</html>", Means::Down, "http_503"),
        (
            400,
            r#"{"error":"invalid_request"}"#,
            Means::Unclear,
            "invalid_request",
        ),
        (401, "", Means::Unclear, "http_401"),
        (302, "", Means::Unclear, "http_302"),
        // A sentence, another type, or too much of it: it could hold anything.
        (
            400,
            r#"{"error":"token canary is bad"}"#,
            Means::Unclear,
            "http_400",
        ),
        (
            400,
            r#"{"error":{"code":"canary"}}"#,
            Means::Unclear,
            "http_400",
        ),
        (400, r#"{"error":""}"#, Means::Unclear, "http_400"),
        (400, "{\"error\":\"a\\nb\"}", Means::Unclear, "http_400"),
        (
            400,
            r#"{"error":"invalid_grant","error":"x"}"#,
            Means::Unclear,
            "http_400",
        ),
    ];
    for (status, body, means, name) in table {
        assert_eq!(
            refused(&plain(), status, body.as_bytes()),
            code(means, name),
            "{body}"
        );
    }
    let long = json!({"error": "a".repeat(65)}).to_string();
    assert_eq!(refused(&plain(), 400, long.as_bytes()), unclear("http_400"));
}

#[test]
fn when_to_ask_again_is_read_in_seconds_or_as_a_date() {
    let after = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", value.parse().unwrap());
        let read = read_tokens(&plain(), &Config::default(), 429, &headers, b"", NOW, None);
        read.err().unwrap().retry_after
    };
    let date = |seconds: i64| {
        let stamp = jiff::Timestamp::from_second(NOW.seconds() + seconds).unwrap();
        jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&stamp)
            .unwrap()
    };
    assert_eq!(after("30"), Some(30));
    assert_eq!(after(&date(90)), Some(90));
    assert_eq!(after(&date(-90)), Some(0));
    // Whoever reads it has a bound of their own.
    assert_eq!(after("99999999999"), Some(u32::MAX));
    for odd in ["soon", "-1", "1.5", ""] {
        assert_eq!(after(odd), None, "{odd}");
    }
}

#[test]
fn an_end_is_a_plain_number_of_seconds_or_the_reply_is_refused() {
    let year = 366 * 86_400;
    let with = |value: Value| json!({"access_token": "canary", "expires_in": value});
    let table = [
        (json!(3600), Some(3600)),
        (json!("3600"), Some(3600)),
        (json!(3599.9), Some(3599)),
        (json!("3599.9"), Some(3599)),
        (json!(0), Some(30)),
        (json!(1), Some(30)),
        (json!(315_360_000), Some(year)),
        (json!(null), None),
    ];
    for (value, seconds) in table {
        let tokens = granted(&plain(), 200, with(value.clone()));
        assert_eq!(life(&tokens), seconds, "{value}");
    }
    for odd in [
        json!(-1),
        json!(-0.5),
        json!("-1"),
        json!("soon"),
        json!(""),
        json!("NaN"),
        json!("inf"),
        json!(true),
        json!([3600]),
        json!({"s": 1}),
        json!(1e300),
        json!(1_795_000_000_000_i64),
        json!("3600 s"),
    ] {
        let body = with(odd.clone()).to_string();
        assert_eq!(
            refused(&plain(), 200, body.as_bytes()),
            unclear("expires_in"),
            "{odd}"
        );
        let body = json!({"access_token": "canary", "refresh_token_expires_in": odd}).to_string();
        assert_eq!(
            refused(&plain(), 200, body.as_bytes()),
            unclear("refresh_expires_in")
        );
    }
    for odd in ["NaN", "Infinity", "1e999", "01", "+1"] {
        let body = format!(r#"{{"access_token":"canary","expires_in":{odd}}}"#);
        assert_eq!(
            refused(&plain(), 200, body.as_bytes()),
            unclear("reply_not_json"),
            "{odd}"
        );
    }
    // Where the reply does not say, the file may.
    let hinted = provider(
        "",
        "[mode.oauth.refresh]\nclass = 'single_use'\nlifetime = 7200",
        "",
    );
    assert_eq!(life(&granted(&hinted, 200, with(json!(null)))), Some(7200));
    assert_eq!(life(&granted(&hinted, 200, with(json!(60)))), Some(60));
    // A refresh token may end later than any access token, or never.
    let refresh = |seconds: i64| {
        let body = json!({"access_token": "canary", "refresh_token_expires_in": seconds});
        let ends = granted(&plain(), 200, body).refresh_expires_at?;
        Some(ends.seconds() - NOW.seconds())
    };
    assert_eq!(refresh(63_072_000), Some(63_072_000));
    assert_eq!(refresh(0), None);
}

#[test]
fn a_renewal_keeps_good_tokens_whatever_end_or_host_comes_with_them() {
    let sales = provider(
        "host_choices = ['*.my.acme.example']",
        "reply = { host = '/instance_url' }\n[mode.oauth.refresh]\nclass = 'single_use'\nlifetime = 7200",
        "",
    );
    let old = json!({"access_token": "canary-1", "refresh_token": "canary-r1", "host": "a.my.acme.example"});
    let before = stored(old);
    for odd in [json!(-1), json!("soon"), json!(1e300), json!(true)] {
        let tokens = renewed(
            &sales,
            json!({
                "access_token": "canary-2", "refresh_token": "canary-r2", "expires_in": odd,
                "refresh_token_expires_in": odd, "instance_url": "https://evil.example",
            }),
            &before,
        );
        assert_eq!(tokens.fields.get("access_token"), Some("canary-2"));
        assert_eq!(tokens.fields.get("refresh_token"), Some("canary-r2"));
        assert_eq!(life(&tokens), Some(30), "{odd}");
        assert_eq!(tokens.refresh_expires_at, None);
        assert_eq!(tokens.fields.get("host"), Some("a.my.acme.example"));
        assert_eq!(tokens.odd, ["expires_in", "refresh_expires_in", "host"]);
    }
    let fine = json!({"access_token": "canary-2", "instance_url": "https://b.my.acme.example"});
    let tokens = renewed(&sales, fine, &before);
    assert_eq!(tokens.fields.get("host"), Some("b.my.acme.example"));
    assert_eq!((life(&tokens), tokens.odd), (Some(7200), vec![]));
}

#[test]
fn another_token_type_is_refused() {
    let with = |kind: Value| json!({"access_token": "canary", "token_type": kind}).to_string();
    for fine in [json!("Bearer"), json!("BEARER"), json!(null)] {
        assert!(read(&plain(), 200, with(fine).as_bytes()).is_ok());
    }
    for odd in [
        json!("mac"),
        json!("DPoP"),
        json!(""),
        json!(1),
        json!(["bearer"]),
        json!("bearer "),
    ] {
        let body = with(odd.clone());
        assert_eq!(
            refused(&plain(), 200, body.as_bytes()),
            unclear("token_type"),
            "{odd}"
        );
    }
}

#[test]
fn what_is_no_reply_with_a_token_is_refused() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = format!(r#"{{"access_token":"canary","x":{deep}}}"#);
    let objects = r#"{"a":"#.repeat(5000);
    for body in [
        "",
        " ",
        "null ,",
        "<html><body>canary</body></html>",
        "access_token=canary",
        "{",
        r#"{"access_token":"canary"} x"#,
        r#"{"access_token":"canary","access_token":"other"}"#,
        "\u{feff}{}",
        &deep,
        &nested,
        &objects,
    ] {
        assert_eq!(
            refused(&plain(), 200, body.as_bytes()),
            unclear("reply_not_json")
        );
    }
    assert_eq!(
        refused(&plain(), 200, b"{\"access_token\":\"\xff\"}"),
        unclear("reply_not_json")
    );
    for body in [
        "null",
        "[]",
        "7",
        "\"canary\"",
        "{}",
        r#"{"access_token":null}"#,
        r#"{"Access_Token":"canary"}"#,
    ] {
        assert_eq!(
            refused(&plain(), 200, body.as_bytes()),
            unclear("reply_without_token"),
            "{body}"
        );
    }
    let large = "a".repeat(16 * 1024 + 1);
    for odd in [
        json!(""),
        json!("a b"),
        json!("a\r\nx-evil: 1"),
        json!("a\u{0}"),
        json!("ü"),
        json!(7),
        json!(["a"]),
        json!(large),
    ] {
        for name in ["access_token", "refresh_token"] {
            let mut body = json!({"access_token": "canary"});
            body[name] = odd.clone();
            let body = body.to_string();
            assert_eq!(
                refused(&plain(), 200, body.as_bytes()),
                unclear("token_form"),
                "{name}"
            );
        }
    }
    assert!(
        read(
            &plain(),
            200,
            json!({"access_token": &large[1..]}).to_string().as_bytes()
        )
        .is_ok()
    );
    // What was granted is for people alone, and not worth the tokens.
    let tokens = granted(
        &plain(),
        200,
        json!({"access_token": "canary", "scope": "a\nb"}),
    );
    assert_eq!(tokens.fields.get("scope"), None);
    let tokens = granted(
        &plain(),
        200,
        json!({"access_token": "canary", "scope": ["a", "b"]}),
    );
    assert_eq!(tokens.fields.get("scope"), Some("a b"));
}

#[test]
fn a_refusal_shows_no_value() {
    let body = br#"{"access_token":"canary-token","token_type":"mac canary","error_description":"canary"}"#;
    let refusal = read(&plain(), 200, body).err().unwrap();
    assert!(!format!("{refusal:?}").contains("canary"));
}

proptest! {
    #[test]
    fn whatever_is_answered_tokens_are_whole_and_codes_are_words(
        status in prop::sample::select(vec![200u16, 400, 401, 429, 500]),
        token in any::<String>(),
        error in prop::option::of("[a-z _.]{0,80}"),
        life in any::<f64>(),
    ) {
        let mut body = json!({"access_token": token, "expires_in": life});
        if let Some(error) = error {
            body["error"] = error.into();
        }
        match read(&plain(), status, body.to_string().as_bytes()) {
            Ok(tokens) => {
                prop_assert_eq!(status, 200);
                prop_assert_eq!(tokens.fields.get("access_token"), Some(token.as_str()));
                prop_assert!(token.bytes().all(|b| b.is_ascii_graphic()));
                prop_assert!(tokens.expires_at.is_none_or(|at| at > NOW));
            }
            Err(refusal) => prop_assert!(
                (1..=64).contains(&refusal.code.len())
                    && refusal.code.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
            ),
        }
    }
}
