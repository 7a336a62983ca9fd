//! What a provider grants, with each provider's quirks.

#![allow(clippy::unwrap_used)]

mod acme;

use acme::{
    NOW, code, granted, life, of_class, plain, provider, read, refused, renewed, stored, unclear,
};
use keystead_core::provider::oauth::{Means, read_device};
use serde_json::{Value, json};

#[test]
fn a_reply_becomes_tokens() {
    let tokens = granted(
        &of_class("single_use"),
        200,
        json!({
            "access_token": "canary-a", "refresh_token": "canary-r", "token_type": "bEaReR",
            "expires_in": 3600, "refresh_token_expires_in": 15_897_600, "scope": "repo,user",
            "extra": {"a": [1, null, true, -1, 1.5]},
        }),
    );
    assert_eq!(tokens.fields.get("access_token"), Some("canary-a"));
    assert_eq!(tokens.fields.get("refresh_token"), Some("canary-r"));
    assert_eq!(tokens.fields.get("scope"), Some("repo,user"));
    assert_eq!(tokens.fields.get("host"), None);
    assert_eq!(life(&tokens), Some(3600));
    assert_eq!(
        tokens.refresh_expires_at,
        Some(NOW.plus_seconds(15_897_600))
    );
}

#[test]
fn github_refuses_with_200_and_grants_without_an_end() {
    let github = provider(
        "",
        "[mode.oauth.refresh]\nclass = 'single_use'\n[[mode.oauth.rule]]\npointer = '/error'\nequals = 'bad_refresh_token'\nmeans = 'dead'\n[[mode.oauth.rule]]\npointer = '/error'\nequals = 'incorrect_client_credentials'\nmeans = 'client'",
        "",
    );
    let refusal = |error: &str| {
        let body = json!({"error": error, "error_description": "The canary is wrong."});
        refused(&github, 200, body.to_string().as_bytes())
    };
    assert_eq!(
        refusal("bad_refresh_token"),
        code(Means::Dead, "bad_refresh_token")
    );
    assert_eq!(
        refusal("incorrect_client_credentials"),
        code(Means::Client, "incorrect_client_credentials")
    );
    assert_eq!(
        refusal("redirect_uri_mismatch"),
        unclear("redirect_uri_mismatch")
    );
    // A token beside an error is none.
    let both = br#"{"access_token":"canary","error":"bad_verification_code"}"#;
    assert_eq!(
        refused(&github, 200, both),
        unclear("bad_verification_code")
    );
    let tokens = granted(
        &github,
        200,
        json!({"access_token": "gho_canary", "scope": "", "error": null}),
    );
    assert_eq!(
        (tokens.expires_at, tokens.fields.get("refresh_token")),
        (None, None)
    );
    // Not asked for JSON, it answers with a form.
    assert_eq!(
        refused(&github, 200, b"access_token=canary&token_type=bearer"),
        unclear("reply_not_json")
    );
}

#[test]
fn slack_says_ok_and_nests_the_users_token() {
    let slack = provider(
        "",
        "reply = { ok = '/ok', access_token = '/authed_user/access_token', refresh_token = '/authed_user/refresh_token', expires_in = '/authed_user/expires_in', token_type = '/authed_user/token_type', token_types = ['user'], scope = '/authed_user/scope' }\n[[mode.oauth.rule]]\npointer = '/error'\nany_of = ['invalid_refresh_token', 'token_revoked']\nmeans = 'dead'",
        "",
    );
    let user = json!({
        "access_token": "canary-user", "refresh_token": "canary-r", "expires_in": 43_200,
        "token_type": "user", "scope": "chat:write,files:read",
    });
    let tokens = granted(
        &slack,
        200,
        json!({"ok": true, "access_token": "canary-bot", "token_type": "bot", "authed_user": user}),
    );
    assert_eq!(tokens.fields.get("access_token"), Some("canary-user"));
    assert_eq!(life(&tokens), Some(43_200));

    let dead = br#"{"ok":false,"error":"invalid_refresh_token"}"#;
    assert_eq!(
        refused(&slack, 200, dead),
        code(Means::Dead, "invalid_refresh_token")
    );
    let old = br#"{"error":"invalid_grant"}"#;
    assert_eq!(
        refused(&slack, 400, old),
        code(Means::Dead, "invalid_grant")
    );
    for not_ok in [
        json!({"ok": false, "authed_user": user}),
        json!({"ok": "true", "authed_user": user}),
        json!({"authed_user": user}),
    ] {
        assert_eq!(
            refused(&slack, 200, not_ok.to_string().as_bytes()),
            unclear("http_200")
        );
    }
}

#[test]
fn supabase_grants_with_201_alone() {
    let supabase = provider("", "reply = { success = [201] }", "");
    let body = json!({"access_token": "canary", "expires_in": 86_400, "token_type": "Bearer"});
    assert_eq!(life(&granted(&supabase, 201, body.clone())), Some(86_400));
    assert_eq!(
        refused(&supabase, 200, body.to_string().as_bytes()),
        unclear("http_200")
    );
    assert_eq!(
        refused(&plain(), 201, body.to_string().as_bytes()),
        unclear("http_201")
    );
}

#[test]
fn atlassian_refuses_a_dead_grant_with_403() {
    let atlassian = provider(
        "",
        "[[mode.oauth.rule]]\nstatus = 403\npointer = '/error'\nequals = 'invalid_grant'\nmeans = 'dead'\n[[mode.oauth.rule]]\nstatus = 403\npointer = '/error'\nequals = 'unauthorized_client'\nmeans = 'dead'",
        "",
    );
    let refusal = |status, error: &str| {
        refused(
            &atlassian,
            status,
            json!({"error": error}).to_string().as_bytes(),
        )
    };
    assert_eq!(refusal(403, "invalid_grant").0, Means::Dead);
    assert_eq!(refusal(403, "unauthorized_client").0, Means::Dead);
    // The first rule that fits decides, and what none fits falls to the standard.
    assert_eq!(refusal(400, "unauthorized_client").0, Means::Client);
    // It also stands for a wrong client secret.
    assert_eq!(refusal(403, "access_denied").0, Means::Unclear);
}

#[test]
fn a_reply_that_leaves_things_out_keeps_what_lives_on() {
    let before = stored(json!({
        "access_token": "canary-a1", "refresh_token": "canary-r1", "scope": "s1", "host": "h.acme.example",
    }));
    let bare = json!({"access_token": "canary-a2"});
    for class in ["reusable", "rotating", "single_use"] {
        let tokens = renewed(&of_class(class), bare.clone(), &before);
        assert_eq!(tokens.fields.get("access_token"), Some("canary-a2"));
        assert_eq!(
            tokens.fields.get("refresh_token"),
            Some("canary-r1"),
            "{class}"
        );
        assert_eq!(tokens.fields.get("scope"), Some("s1"));
        assert_eq!(tokens.fields.get("host"), Some("h.acme.example"));
    }
    let newer = json!({"access_token": "canary-a2", "refresh_token": "canary-r2", "scope": "s2"});
    for class in ["reusable", "rotating", "single_use"] {
        let tokens = renewed(&of_class(class), newer.clone(), &before);
        assert_eq!(tokens.fields.get("refresh_token"), Some("canary-r2"));
        assert_eq!(tokens.fields.get("scope"), Some("s2"));
    }
}

#[test]
fn a_host_that_the_provider_may_not_name_is_refused() {
    let sales = provider(
        "host_choices = ['*.my.acme.example', 'eu.acme.example']",
        "reply = { host = '/instance_url' }",
        "",
    );
    let with = |host: &str| json!({"access_token": "canary", "instance_url": host}).to_string();
    for (named, host) in [
        ("https://Shop.my.acme.example", "shop.my.acme.example"),
        ("https://shop.my.acme.example/", "shop.my.acme.example"),
        ("eu.acme.example", "eu.acme.example"),
        ("https://api.acme.example", "api.acme.example"),
    ] {
        let tokens = read(&sales, 200, with(named).as_bytes()).ok().unwrap();
        assert_eq!(tokens.fields.get("host"), Some(host));
    }
    for odd in [
        "https://evil.example",
        "http://shop.my.acme.example",
        "https://shop.my.acme.example.evil.example",
        "https://shop.my.acme.example@evil.example",
        "https://evil.example/shop.my.acme.example",
        "https://evil.example#.my.acme.example",
        "https://shop.my.acme.example:8443",
        "https://shop.my.acme.example/path",
        "https://https://shop.my.acme.example",
        "//shop.my.acme.example",
        "my.acme.example",
        "127.0.0.1",
        "",
    ] {
        assert_eq!(
            refused(&sales, 200, with(odd).as_bytes()),
            unclear("host"),
            "{odd}"
        );
    }
    let number = json!({"access_token": "canary", "instance_url": 7}).to_string();
    assert_eq!(refused(&sales, 200, number.as_bytes()), unclear("host"));
    let tokens = granted(&sales, 200, json!({"access_token": "canary"}));
    assert_eq!(tokens.fields.get("host"), None);
}

#[test]
fn a_pointer_is_that_of_rfc_6901() {
    let odd = provider("", "reply = { access_token = '/a~1b/0/m~0n' }", "");
    let tokens = granted(&odd, 200, json!({"a/b": [{"m~n": "canary"}]}));
    assert_eq!(tokens.fields.get("access_token"), Some("canary"));
}

#[test]
fn a_device_gets_its_codes_and_a_page_that_a_person_may_be_sent_to() {
    let body = |change: Value| {
        let mut body = json!({
            "device_code": "canary-d", "user_code": "WDJB-MJHT",
            "verification_uri": "https://acme.example/device", "interval": 5, "expires_in": 900,
        });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        body.to_string()
    };
    let read = |change: Value| read_device(200, body(change).as_bytes());
    let codes = read(json!({})).ok().unwrap();
    assert_eq!(*codes.device_code, "canary-d");
    assert_eq!(codes.user_code, "WDJB-MJHT");
    assert_eq!(codes.verification_uri, "https://acme.example/device");
    assert_eq!(codes.verification_uri_complete, None);
    assert_eq!((codes.interval, codes.expires_in), (5, 900));

    let codes = read(
        json!({"interval": null, "expires_in": 1e9, "verification_uri": null,
        "verification_url": "https://old.acme.example", "verification_uri_complete": "javascript:x"}),
    );
    let codes = codes.ok().unwrap();
    assert_eq!(codes.verification_uri, "https://old.acme.example");
    assert_eq!(codes.verification_uri_complete, None);
    assert_eq!((codes.interval, codes.expires_in), (5, 3600));

    let page = |url: &str| (json!({ "verification_uri": url }), "verification_uri");
    for (change, name) in [
        page("http://acme.example/device"),
        page("javascript:alert(1)"),
        page("https://user:pass@acme.example"),
        page("https://acme.example/\u{1b}[2J"),
        (json!({"device_code": null}), "reply_without_token"),
        (json!({"device_code": "a b"}), "token_form"),
        (json!({"user_code": "\u{1b}[31m"}), "user_code"),
        (json!({"user_code": ""}), "user_code"),
        (json!({"user_code": null}), "user_code"),
        (json!({"interval": -5}), "interval"),
        (json!({"expires_in": "soon"}), "expires_in"),
    ] {
        let refusal = read(change).err().unwrap();
        assert_eq!((refusal.means, refusal.code), unclear(name));
    }
    let refusal = read_device(400, br#"{"error":"unauthorized_client"}"#)
        .err()
        .unwrap();
    assert_eq!(refusal.means, Means::Client);
    let refusal = read_device(200, br#"{"error":"device_flow_disabled"}"#)
        .err()
        .unwrap();
    assert_eq!(refusal.code, "device_flow_disabled");
    assert_eq!(
        read_device(200, b"<html>").err().unwrap().code,
        "reply_not_json"
    );
}

#[test]
fn of_several_pointers_the_first_that_leads_anywhere_is_followed() {
    let odd = provider(
        "",
        "reply = { access_token = '/user/token|/access_token' }",
        "",
    );
    let both = json!({"access_token": "canary-bot", "user": {"token": "canary-user"}});
    for (body, token) in [
        (both, "canary-user"),
        (json!({"access_token": "canary-bot"}), "canary-bot"),
        (
            json!({"access_token": "canary-bot", "user": {"token": null}}),
            "canary-bot",
        ),
    ] {
        assert_eq!(
            granted(&odd, 200, body).fields.get("access_token"),
            Some(token)
        );
    }
}
