//! What goes to each provider that is connected by OAuth, and how its answers are read.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use keystead_core::provider::oauth::{
    App, Ask, Means, Refusal, Tokens, authorize_url, code_request, read_tokens, refresh_request,
};
use keystead_core::provider::{
    Catalogue, Config, Fields, Outcome, Provider, TokenRequest, revoke_calls,
};
use keystead_core::time::Time;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use Means::{Client, Dead, Down, Rate, Unclear};

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::embedded().unwrap());
const NOW: Time = Time(1_795_184_100_000_000);
const BACK: &str = "https://keystead.example/oauth/callback";

fn provider(id: &str) -> &'static Provider {
    CATALOGUE.get(id).unwrap()
}

/// The settings that the provider cannot do without, and these.
fn config(provider: &Provider, own: Value) -> Config {
    let mut settings = json!({});
    for (name, value) in [("domain", "canary"), ("shop", "canary")] {
        if provider.setting(name).is_some() {
            settings[name] = value.into();
        }
    }
    for (name, value) in own.as_object().unwrap() {
        settings[name] = value.clone();
    }
    Config::parse(provider, &settings).unwrap().0
}

fn app() -> App {
    App {
        client_id: "canary-id".to_owned(),
        client_secret: Some(Zeroizing::new("canary-secret".to_owned())),
    }
}

fn asked(id: &str, own: Value) -> (String, BTreeMap<String, String>) {
    let provider = provider(id);
    let ask = Ask {
        redirect_uri: BACK,
        state: "canary-state",
        challenge: Some("canary-challenge"),
    };
    let url = authorize_url(provider, &config(provider, own), &app(), &ask).unwrap();
    let url = url::Url::parse(&url).unwrap();
    let at = format!("https://{}{}", url.host_str().unwrap(), url.path());
    (at, url.query_pairs().into_owned().collect())
}

fn form(request: &TokenRequest) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(&request.body)
        .into_owned()
        .collect()
}

fn read(id: &str, status: u16, body: &Value, before: Option<&Fields>) -> Result<Tokens, Refusal> {
    let provider = provider(id);
    let none = HeaderMap::new();
    let config = config(provider, json!({}));
    let body = body.to_string();
    read_tokens(
        provider,
        &config,
        status,
        &none,
        body.as_bytes(),
        NOW,
        before,
    )
}

fn granted(id: &str, status: u16, body: Value) -> Tokens {
    match read(id, status, &body, None) {
        Ok(tokens) => tokens,
        Err(refusal) => panic!("{id}: {refusal:?}"),
    }
}

#[test]
fn a_person_is_sent_where_the_provider_asks_for_consent() {
    #[rustfmt::skip]
    let rows = [
        ("airtable", "https://airtable.com/oauth2/v1/authorize", vec![("scope", "data.records:read schema.bases:read")]),
        ("atlassian", "https://auth.atlassian.com/authorize", vec![("audience", "api.atlassian.com"), ("prompt", "consent"), ("scope", "read:jira-work read:jira-user offline_access")]),
        ("discord", "https://discord.com/oauth2/authorize", vec![("scope", "identify")]),
        ("dropbox", "https://www.dropbox.com/oauth2/authorize", vec![("token_access_type", "offline")]),
        ("github", "https://github.com/login/oauth/authorize", vec![("scope", "repo")]),
        ("google_oauth", "https://accounts.google.com/o/oauth2/v2/auth", vec![("access_type", "offline"), ("prompt", "consent"), ("scope", "openid https://www.googleapis.com/auth/drive.file")]),
        ("hubspot", "https://app.hubspot.com/oauth/authorize", vec![("scope", "oauth")]),
        ("huggingface", "https://huggingface.co/oauth/authorize", vec![("scope", "openid profile read-repos inference-api")]),
        ("linear", "https://linear.app/oauth/authorize", vec![("prompt", "consent"), ("scope", "read")]),
        ("microsoft_graph", "https://login.microsoftonline.com/common/oauth2/v2.0/authorize", vec![("prompt", "select_account"), ("scope", "offline_access https://graph.microsoft.com/User.Read")]),
        ("netlify", "https://app.netlify.com/authorize", vec![]),
        ("notion", "https://api.notion.com/v1/oauth/authorize", vec![("owner", "user")]),
        ("pagerduty", "https://identity.pagerduty.com/oauth/authorize", vec![("scope", "openid incidents.read users.read")]),
        ("resend", "https://api.resend.com/oauth/authorize", vec![("scope", "emails:send")]),
        ("salesforce", "https://canary.my.salesforce.com/services/oauth2/authorize", vec![("scope", "api refresh_token")]),
        ("shopify", "https://canary.myshopify.com/admin/oauth/authorize", vec![("scope", "read_products")]),
        ("slack", "https://slack.com/oauth/v2/authorize", vec![("scope", "chat:write")]),
        ("smashrun", "https://secure.smashrun.com/oauth2/authenticate", vec![("scope", "read_activity")]),
        ("supabase", "https://api.supabase.com/v1/oauth/authorize", vec![]),
        ("youtube", "https://accounts.google.com/o/oauth2/v2/auth", vec![("access_type", "offline"), ("prompt", "consent"), ("scope", "https://www.googleapis.com/auth/youtube.readonly")]),
        ("zoom", "https://zoom.us/oauth/authorize", vec![]),
    ];
    let with_oauth = CATALOGUE.list().filter(|p| p.oauth_mode().is_some());
    assert_eq!(rows.len(), with_oauth.count());
    for (id, at, own) in rows {
        let (url, mut params) = asked(id, json!({}));
        assert_eq!(url, at);
        let mut take = |name: &str| params.remove(name);
        assert_eq!(take("client_id").as_deref(), Some("canary-id"), "{id}");
        assert_eq!(take("redirect_uri").as_deref(), Some(BACK), "{id}");
        assert_eq!(take("response_type").as_deref(), Some("code"), "{id}");
        assert_eq!(take("state").as_deref(), Some("canary-state"), "{id}");
        let pkce = provider(id)
            .oauth_mode()
            .unwrap()
            .oauth
            .as_ref()
            .unwrap()
            .pkce;
        assert_eq!(take("code_challenge").is_some(), pkce, "{id}");
        assert_eq!(take("code_challenge_method").is_some(), pkce, "{id}");
        let own: BTreeMap<String, String> = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(params, own, "{id}");
    }
}

#[test]
fn settings_choose_the_scopes_and_each_provider_separates_them_in_its_way() {
    let scope = |id: &str, own: Value| asked(id, own).1.remove("scope").unwrap();
    let two = || json!({"scopes": "a:read b:read"});
    for id in ["linear", "shopify", "slack"] {
        assert_eq!(scope(id, two()), "a:read,b:read", "{id}");
    }
    for id in [
        "github",
        "google_oauth",
        "hubspot",
        "microsoft_graph",
        "salesforce",
    ] {
        assert_eq!(scope(id, two()), "a:read b:read", "{id}");
    }
    let of = |id: &str, own: Value, name: &str| asked(id, own).1.remove(name);
    let users = json!({"user_scopes": "search:read,users:read"});
    assert_eq!(
        of("slack", users, "user_scope").unwrap(),
        "search:read,users:read"
    );
    assert_eq!(
        of("linear", json!({"actor": "app"}), "actor").unwrap(),
        "app"
    );
    let one = json!({"organization": "mine"});
    assert_eq!(of("supabase", one, "organization_slug").unwrap(), "mine");
    let (at, _) = asked("microsoft_graph", json!({"tenant": "contoso.example"}));
    assert!(at.contains("/contoso.example/"), "{at}");
    let sandbox = json!({"domain": "acme--dev", "environment": "sandbox.my"});
    let (at, _) = asked("salesforce", sandbox);
    assert!(
        at.starts_with("https://acme--dev.sandbox.my.salesforce.com/"),
        "{at}"
    );
}

#[test]
fn a_setting_does_not_choose_whose_host_is_asked() {
    for (id, name) in [("salesforce", "domain"), ("shopify", "shop")] {
        let provider = provider(id);
        for odd in ["evil.example/", "evil.example", "a.b", "x@evil", "x#", ""] {
            let refused = match Config::parse(provider, &json!({ name: odd })) {
                Err(_) => true,
                Ok((config, _)) => {
                    let ask = Ask {
                        redirect_uri: BACK,
                        state: "s",
                        challenge: Some("c"),
                    };
                    authorize_url(provider, &config, &app(), &ask).is_err()
                }
            };
            assert!(refused, "{id}: {odd}");
        }
    }
}

#[test]
fn a_client_proves_itself_in_one_place_and_each_body_has_its_form() {
    let basic = format!("Basic {}", STANDARD.encode("canary-id:canary-secret"));
    for provider in CATALOGUE.list() {
        if provider.oauth_mode().is_none() {
            continue;
        }
        let id = provider.id.as_str();
        let config = config(provider, json!({}));
        let verifier = Some("canary-verifier");
        let request = code_request(provider, &config, &app(), "canary-code", verifier, BACK);
        let request = request.unwrap();
        let in_header = request.headers.get("authorization");
        let by_header = ["airtable", "notion", "supabase", "zoom"].contains(&id);
        assert_eq!(in_header.is_some(), by_header, "{id}");
        assert!(in_header.is_none_or(|value| *value == basic), "{id}");
        assert_eq!(request.headers["accept"], "application/json", "{id}");
        assert!(request.headers.contains_key("user-agent"), "{id}");
        let kind = request.headers["content-type"].to_str().unwrap();
        let params = if id == "notion" {
            assert_eq!(kind, "application/json");
            let body: BTreeMap<String, String> = serde_json::from_slice(&request.body).unwrap();
            body
        } else {
            assert_eq!(kind, "application/x-www-form-urlencoded", "{id}");
            form(&request)
        };
        assert_eq!(params.contains_key("client_secret"), !by_header, "{id}");
        assert_eq!(params["grant_type"], "authorization_code", "{id}");
        assert_eq!(params["code"], "canary-code", "{id}");
        assert_eq!(params["redirect_uri"], BACK, "{id}");
        let whole = format!("{}{}", request.destination.dial.as_str(), request.path);
        assert!(
            !whole.contains("canary-secret") && !whole.contains("canary-code"),
            "{id}"
        );
    }
    // One that has no secret names itself instead.
    let airtable = provider("airtable");
    let public = App {
        client_id: "canary-id".to_owned(),
        client_secret: None,
    };
    let none = Config::default();
    let request = refresh_request(airtable, &none, &public, "canary-refresh").unwrap();
    assert!(!request.headers.contains_key("authorization"));
    assert_eq!(form(&request)["client_id"], "canary-id");
    // Tokens that expire are asked for.
    let shopify = provider("shopify");
    let shop = config(shopify, json!({}));
    let request = code_request(shopify, &shop, &app(), "c", None, BACK).unwrap();
    assert_eq!(form(&request)["expiring"], "1");
}

#[test]
fn tokens_are_found_where_each_provider_puts_them() {
    let bearer = |extra: Value| {
        let mut reply = json!({"access_token": "canary-access", "token_type": "bearer"});
        for (name, value) in extra.as_object().unwrap() {
            reply[name] = value.clone();
        }
        reply
    };
    // 201, and nothing else will do for some.
    let supabase = json!({"refresh_token": "canary-refresh", "expires_in": 3600});
    let tokens = granted("supabase", 201, bearer(supabase));
    assert_eq!(tokens.fields.get("refresh_token"), Some("canary-refresh"));
    assert_eq!(tokens.expires_at, Some(NOW.plus_seconds(3600)));

    // The user's token is nested; where there is a bot's, that is taken.
    let user = json!({"access_token": "xoxp-canary", "token_type": "user", "scope": "search:read", "refresh_token": "xoxe-canary", "expires_in": 43200});
    let tokens = granted("slack", 200, json!({"ok": true, "authed_user": user}));
    assert_eq!(tokens.fields.get("access_token"), Some("xoxp-canary"));
    assert_eq!(tokens.fields.get("refresh_token"), Some("xoxe-canary"));
    assert_eq!(tokens.expires_at, Some(NOW.plus_seconds(43200)));
    let both = json!({"ok": true, "access_token": "xoxb-canary", "token_type": "bot", "authed_user": user});
    assert_eq!(
        granted("slack", 200, both).fields.get("access_token"),
        Some("xoxb-canary")
    );

    // No expiry is known, and the API's host is in the reply.
    let host = json!({"instance_url": "https://acme--dev.sandbox.my.salesforce.com", "issued_at": "1795184100000"});
    let tokens = granted("salesforce", 200, bearer(host));
    assert_eq!(tokens.expires_at, None);
    assert_eq!(
        tokens.fields.get("host"),
        Some("acme--dev.sandbox.my.salesforce.com")
    );
    let region = json!({"api_url": "https://api-eu.zoom.us", "expires_in": 3600});
    assert_eq!(
        granted("zoom", 200, bearer(region)).fields.get("host"),
        Some("api-eu.zoom.us")
    );

    assert_eq!(granted("notion", 200, bearer(json!({}))).expires_at, None);
    let airtable = json!({"expires_in": 3600, "refresh_expires_in": 5_184_000});
    let tokens = granted("airtable", 200, bearer(airtable));
    assert_eq!(tokens.refresh_expires_at, Some(NOW.plus_seconds(5_184_000)));
    let github =
        json!({"expires_in": 28800, "refresh_token_expires_in": 15_811_200, "scope": "repo,gist"});
    let tokens = granted("github", 200, bearer(github));
    assert_eq!(
        tokens.refresh_expires_at,
        Some(NOW.plus_seconds(15_811_200))
    );
    // Neither type nor expiry.
    let shop = json!({"access_token": "shpat_canary", "scope": "read_products"});
    assert_eq!(granted("shopify", 200, shop).expires_at, None);
}

#[test]
fn a_reply_cannot_name_a_host_that_is_not_the_providers() {
    for (id, member) in [("salesforce", "instance_url"), ("zoom", "api_url")] {
        for odd in [
            "https://evil.example",
            "https://my.salesforce.com.evil.example",
            "http://127.0.0.1",
            "https://u@x.zoom.us",
            "evil",
        ] {
            let reply = json!({"access_token": "canary", member: odd});
            let Err(refusal) = read(id, 200, &reply, None) else {
                panic!("{id} took {odd}");
            };
            assert_eq!((refusal.means, refusal.code.as_str()), (Unclear, "host"));
        }
    }
}

#[test]
fn a_reply_without_a_refresh_token_leaves_the_old_one_in_force() {
    for id in [
        "dropbox",
        "google_oauth",
        "salesforce",
        "youtube",
        "hubspot",
        "microsoft_graph",
    ] {
        let first = json!({"access_token": "canary-1", "refresh_token": "canary-refresh"});
        let before = granted(id, 200, first).fields;
        let second = read(id, 200, &json!({"access_token": "canary-2"}), Some(&before));
        let fields = second.ok().unwrap().fields;
        assert_eq!(fields.get("access_token"), Some("canary-2"), "{id}");
        assert_eq!(fields.get("refresh_token"), Some("canary-refresh"), "{id}");
        let third = json!({"access_token": "canary-3", "refresh_token": "canary-newer"});
        let fields = read(id, 200, &third, Some(&before)).ok().unwrap().fields;
        assert_eq!(fields.get("refresh_token"), Some("canary-newer"), "{id}");
    }
}

#[test]
fn refusals_mean_what_the_providers_say_they_mean() {
    let error = |code: &str| json!({"error": code});
    let entra = |code: i64| json!({"error": "invalid_grant", "error_codes": [code]});
    let hubspot = |status: &str| json!({"status": status, "message": "m"});
    let slack = |code: &str| json!({"ok": false, "error": code});
    let atlassian = |code: &str, text: &str| json!({"error": code, "error_description": text});
    #[rustfmt::skip]
    let rows = [
        ("airtable", 400, error("invalid_grant"), Dead),
        ("airtable", 409, error("conflict"), Down),
        ("atlassian", 403, error("invalid_grant"), Dead),
        ("atlassian", 403, atlassian("unauthorized_client", "Unknown or invalid refresh token."), Dead),
        ("atlassian", 403, atlassian("access_denied", "Unauthorized"), Client),
        ("atlassian", 401, error("access_denied"), Client),
        ("discord", 400, error("invalid_grant"), Dead),
        ("discord", 401, error("invalid_client"), Client),
        ("dropbox", 400, error("invalid_grant"), Dead),
        ("github", 200, error("bad_refresh_token"), Dead),
        ("github", 200, error("bad_verification_code"), Dead),
        ("github", 200, error("incorrect_client_credentials"), Client),
        ("github", 200, error("redirect_uri_mismatch"), Client),
        ("google_oauth", 400, error("invalid_grant"), Dead),
        ("google_oauth", 400, json!({"error": "invalid_grant", "error_subtype": "invalid_rapt"}), Dead),
        ("google_oauth", 401, error("invalid_client"), Client),
        ("hubspot", 400, hubspot("BAD_REFRESH_TOKEN"), Dead),
        ("hubspot", 400, hubspot("BAD_CLIENT_SECRET"), Client),
        ("linear", 401, error("invalid_grant"), Dead),
        ("microsoft_graph", 400, entra(50173), Dead),
        ("microsoft_graph", 400, entra(700_082), Dead),
        ("microsoft_graph", 400, error("interaction_required"), Dead),
        ("microsoft_graph", 401, json!({"error": "invalid_client", "error_codes": [7_000_222]}), Client),
        ("microsoft_graph", 400, json!({"error": "unauthorized_client", "error_codes": [700_016]}), Client),
        ("microsoft_graph", 400, json!({"error": "e", "error_codes": [50196]}), Rate),
        ("microsoft_graph", 400, error("temporarily_unavailable"), Down),
        ("notion", 400, error("invalid_grant"), Dead),
        ("notion", 401, error("invalid_client"), Client),
        ("pagerduty", 400, error("invalid_grant"), Dead),
        ("resend", 400, error("invalid_grant"), Dead),
        ("salesforce", 400, error("invalid_grant"), Dead),
        ("salesforce", 400, error("inactive_user"), Dead),
        ("salesforce", 400, error("invalid_client_id"), Client),
        ("shopify", 400, error("invalid_grant"), Dead),
        ("slack", 200, slack("invalid_refresh_token"), Dead),
        ("slack", 400, slack("invalid_grant"), Dead),
        ("slack", 200, slack("token_revoked"), Dead),
        ("slack", 200, slack("bad_client_secret"), Client),
        ("slack", 429, slack("ratelimited"), Rate),
        ("slack", 200, slack("internal_error"), Down),
        ("slack", 200, slack("something_new"), Unclear),
        ("smashrun", 400, error("invalid_grant"), Dead),
        ("supabase", 401, json!({"message": "Unauthorized"}), Client),
        ("supabase", 400, json!({"message": "Invalid refresh token"}), Dead),
        ("supabase", 400, json!({"message": "something else"}), Unclear),
        ("supabase", 429, json!({"message": "Too many requests"}), Rate),
        ("youtube", 400, error("invalid_grant"), Dead),
        ("zoom", 401, json!({"reason": "Invalid Token!", "error": "invalid_request"}), Dead),
        ("zoom", 400, error("invalid_grant"), Dead),
        ("zoom", 401, error("invalid_client"), Client),
    ];
    for (id, status, body, expected) in rows {
        let Err(refusal) = read(id, status, &body, None) else {
            panic!("{id}: {status} {body} gave tokens");
        };
        assert_eq!(refusal.means, expected, "{id}: {status} {body}");
    }
}

/// Whatever a gate in front of a token endpoint says, it ends nobody's grant.
#[test]
fn trouble_ends_no_grant() {
    for provider in CATALOGUE.list() {
        if provider.oauth_mode().is_none() {
            continue;
        }
        let config = config(provider, json!({}));
        for body in ["", "<html>error code: 1010</html>", "null", "{}", "[]"] {
            for status in [200, 301, 400, 403, 404, 409, 429, 500, 502, 503] {
                let none = HeaderMap::new();
                let read =
                    read_tokens(provider, &config, status, &none, body.as_bytes(), NOW, None);
                let Err(refusal) = read else {
                    panic!("{}: {status} {body}", provider.id);
                };
                assert_ne!(refusal.means, Dead, "{}: {status} {body}", provider.id);
            }
        }
    }
}

#[test]
fn a_grant_is_taken_back_by_the_call_that_its_provider_has() {
    #[rustfmt::skip]
    let rows = [
        ("discord", "POST https://discord.com/api/oauth2/token/revoke", 200, "", Outcome::Confirmed),
        ("dropbox", "POST https://api.dropboxapi.com/2/auth/token/revoke", 401, r#"{"error":{".tag":"expired_access_token"}}"#, Outcome::Failed),
        ("dropbox", "POST https://api.dropboxapi.com/2/auth/token/revoke", 401, r#"{"error":{".tag":"invalid_access_token"}}"#, Outcome::Failed),
        ("github", "DELETE https://api.github.com/applications/canary-id/grant", 204, "", Outcome::Confirmed),
        ("github", "DELETE https://api.github.com/applications/canary-id/grant", 404, "", Outcome::Failed),
        ("google_oauth", "POST https://oauth2.googleapis.com/revoke", 400, r#"{"error":"invalid_token"}"#, Outcome::Gone),
        ("google_oauth", "POST https://oauth2.googleapis.com/revoke", 400, r#"{"error":"invalid_request"}"#, Outcome::Failed),
        ("hubspot", "POST https://api.hubapi.com/oauth/2026-03/token/revoke", 204, "", Outcome::Confirmed),
        ("linear", "POST https://api.linear.app/oauth/revoke", 401, "", Outcome::Failed),
        ("notion", "POST https://api.notion.com/v1/oauth/revoke", 200, "{}", Outcome::Confirmed),
        ("resend", "POST https://api.resend.com/oauth/revoke", 200, "", Outcome::Confirmed),
        ("salesforce", "POST https://canary.my.salesforce.com/services/oauth2/revoke", 200, "", Outcome::Confirmed),
        ("shopify", "DELETE https://canary.myshopify.com/admin/api_permissions/current.json", 401, "", Outcome::Failed),
        ("slack", "POST https://slack.com/api/auth.revoke", 200, r#"{"ok":true,"revoked":true}"#, Outcome::Confirmed),
        ("slack", "POST https://slack.com/api/auth.revoke", 200, r#"{"ok":false,"error":"token_revoked"}"#, Outcome::Gone),
        ("slack", "POST https://slack.com/api/auth.revoke", 200, r#"{"ok":false,"error":"token_expired"}"#, Outcome::Failed),
        ("slack", "POST https://slack.com/api/auth.revoke", 200, "<html>", Outcome::Failed),
        ("supabase", "POST https://api.supabase.com/v1/oauth/revoke", 204, "", Outcome::Confirmed),
        ("youtube", "POST https://oauth2.googleapis.com/revoke", 200, "{}", Outcome::Confirmed),
        ("zoom", "POST https://zoom.us/oauth/revoke", 200, r#"{"status":"success"}"#, Outcome::Confirmed),
    ];
    for (id, line, status, answer, expected) in rows {
        let provider = provider(id);
        let mode = provider.oauth_mode().unwrap();
        let reply =
            json!({"ok": true, "access_token": "canary-access", "refresh_token": "canary-refresh"});
        let fields = granted(id, mode.oauth.as_ref().unwrap().reply.success[0], reply).fields;
        let config = config(provider, json!({}));
        let calls = revoke_calls(provider, mode, &config, Some(&app()), &fields, NOW).unwrap();
        let call = &calls[0];
        let request = &call.request;
        let at = format!(
            "{} {}{}",
            request.method,
            request.destination.dial.as_str(),
            request.path
        );
        assert_eq!(at, line);
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        let proof = request
            .headers
            .get("authorization")
            .map(|v| v.to_str().unwrap());
        let placed = request.headers.get("x-shopify-access-token").is_some()
            || proof == Some("Bearer canary-access");
        assert!(placed || body.contains("canary-"), "{id} names no token");
        let outcome = call.outcome(status, &HeaderMap::new(), answer.as_bytes());
        assert_eq!(outcome, expected, "{id}: {status} {answer}");
    }
}
