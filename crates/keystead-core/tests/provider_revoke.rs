//! Calls that take a credential back, and what their answers say.

#![allow(clippy::unwrap_used)]

mod acme;

use acme::{NOW, app, config, fault, provider, stored};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method};
use keystead_core::provider::oauth::{App, OAuthError};
use keystead_core::provider::{Config, Fields, Outcome, Provider, ProviderCall, revoke_calls};
use proptest::prelude::*;
use serde_json::{Value, json};
use zeroize::Zeroizing;

fn revoking(call: &str) -> Provider {
    provider("", "", &format!("[[mode.revoke.call]]\n{call}"))
}

fn tokens() -> Fields {
    stored(json!({"access_token": "canary-a", "refresh_token": "canary-r"}))
}

fn calls(
    provider: &Provider,
    config: &Config,
    app: Option<&App>,
    fields: &Fields,
) -> Result<Vec<ProviderCall>, OAuthError> {
    let mode = fields.mode(provider).unwrap();
    revoke_calls(provider, mode, config, app, fields, NOW)
}

fn one(provider: &Provider, fields: &Fields) -> ProviderCall {
    let mut calls = calls(provider, &Config::default(), Some(&app()), fields)
        .ok()
        .unwrap();
    assert_eq!(calls.len(), 1);
    calls.remove(0)
}

fn text(call: &ProviderCall) -> &str {
    std::str::from_utf8(&call.request.body).unwrap()
}

#[test]
fn an_app_takes_a_grant_back_by_its_own_name() {
    let github = revoking(
        "method = 'DELETE'\nurl = 'https://api.acme.example/applications/{client_id}/grant'\nauth = 'app_basic'\nheaders = { accept = 'application/vnd.acme+json' }\njson = '{\"access_token\":\"{access_token}\",\"keep\":[1,null,\"x\"]}'\nok = [204]\ngone = [404]",
    );
    let call = one(&github, &tokens());
    assert_eq!(call.request.method, Method::DELETE);
    assert_eq!(call.request.path, "/applications/acme-app/grant");
    assert_eq!(
        call.request.destination.dial.as_str(),
        "https://api.acme.example"
    );
    assert_eq!(call.request.headers["accept"], "application/vnd.acme+json");
    assert_eq!(call.request.headers["content-type"], "application/json");
    let basic = format!("Basic {}", STANDARD.encode("acme-app:canary-app"));
    assert_eq!(call.request.headers["authorization"], basic);
    assert!(call.request.headers["authorization"].is_sensitive());
    assert_eq!(
        serde_json::from_str::<Value>(text(&call)).unwrap(),
        json!({"access_token": "canary-a", "keep": [1, null, "x"]})
    );
}

#[test]
fn the_first_alternative_that_is_there_is_taken() {
    let google = revoking(
        "method = 'POST'\nurl = 'https://acme.example/revoke'\nauth = 'none'\nform = { token = '{refresh_token|access_token}', client_id = '{client_id}' }",
    );
    let call = one(&google, &tokens());
    assert_eq!(text(&call), "client_id=acme-app&token=canary-r");
    assert!(!call.request.headers.contains_key("authorization"));
    assert_eq!(call.ok, [200, 204]);
    let call = one(&google, &stored(json!({"access_token": "canary-a"})));
    assert_eq!(text(&call), "client_id=acme-app&token=canary-a");
}

#[test]
fn a_placed_credential_stands_where_it_does_on_any_call() {
    let by_token =
        revoking("method = 'POST'\nurl = 'https://api.acme.example/revoke?all=1'\nauth = 'placed'");
    let call = one(&by_token, &tokens());
    assert_eq!(call.request.headers["authorization"], "Bearer canary-a");
    assert_eq!(call.request.path, "/revoke?all=1");
    assert_eq!(text(&call), "");

    let keyed = provider(
        "header = [{ name = 'acme-version', value = '7' }]",
        "",
        "[[mode]]\nid = 'key'\nlabel = 'Key'\nplacement = { kind = 'header', name = 'x-key', field = 'api_key' }\n[[mode.field]]\nname = 'api_key'\nlabel = 'k'\nsecret = true\n[[mode.field]]\nname = 'key_id'\nlabel = 'id'\n[[mode.revoke.call]]\nmethod = 'DELETE'\nurl = 'https://api.acme.example/keys/{key_id}'\nauth = 'placed'",
    );
    let key = stored(json!({"api_key": "canary-k", "key_id": "k 1"}));
    let calls = calls(&keyed, &Config::default(), None, &key).ok().unwrap();
    assert_eq!(calls[0].request.path, "/keys/k%201");
    assert_eq!(calls[0].request.headers["x-key"], "canary-k");
    assert_eq!(calls[0].request.headers["acme-version"], "7");
}

#[test]
fn a_call_that_lacks_something_is_left_out_and_nothing_left_is_an_error() {
    let two = provider(
        "",
        "",
        "[[mode.revoke.call]]\nmethod = 'POST'\nurl = 'https://acme.example/r'\nauth = 'none'\nform = { token = '{refresh_token}' }\n[[mode.revoke.call]]\nmethod = 'POST'\nurl = 'https://acme.example/a'\nauth = 'app_basic'\nform = { token = '{access_token}' }",
    );
    let paths = |app: Option<&App>, fields: &Fields| {
        let calls = calls(&two, &Config::default(), app, fields)?;
        Ok::<_, OAuthError>(
            calls
                .into_iter()
                .map(|c| c.request.path)
                .collect::<Vec<_>>(),
        )
    };
    let access = stored(json!({"access_token": "canary-a"}));
    assert_eq!(paths(Some(&app()), &tokens()).unwrap(), ["/r", "/a"]);
    assert_eq!(paths(Some(&app()), &access).unwrap(), ["/a"]);
    assert_eq!(paths(None, &access), Err(OAuthError::NoRevocation));
    let public = App {
        client_id: "a".to_owned(),
        client_secret: None,
    };
    assert_eq!(paths(Some(&public), &access), Err(OAuthError::NoRevocation));

    let none = provider("", "", "");
    let found = calls(&none, &Config::default(), None, &tokens());
    assert_eq!(found.err(), Some(OAuthError::NoRevocation));
    let by_hand = provider(
        "",
        "",
        "[mode.revoke]\nmanual = 'https://acme.example/apps'",
    );
    let found = calls(&by_hand, &Config::default(), None, &tokens());
    assert!(found.ok().unwrap().is_empty());
}

#[test]
fn an_operators_base_url_moves_the_call() {
    let acme = revoking(
        "method = 'POST'\nurl = 'https://acme.example/v1/revoke'\nauth = 'none'\nform = { token = '{access_token}' }",
    );
    let call = one(
        &acme.with_base_url("http://127.0.0.1:9002").unwrap(),
        &tokens(),
    );
    assert_eq!(
        call.request.destination.dial.as_str(),
        "http://127.0.0.1:9002"
    );
    assert_eq!(call.request.path, "/v1/revoke");
}

#[test]
fn only_a_clear_answer_confirms() {
    let slack = revoking(
        "method = 'POST'\nurl = 'https://acme.example/revoke'\nauth = 'placed'\nok = [200]\ngone = [404]\n[[mode.revoke.call.rule]]\npointer = '/error'\nany_of = ['token_revoked', 'invalid_auth']\nmeans = 'gone'\n[[mode.revoke.call.rule]]\npointer = '/ok'\nequals = false\nmeans = 'failed'",
    );
    let call = one(&slack, &tokens());
    let outcome = |status, body: &str| call.outcome(status, &HeaderMap::new(), body.as_bytes());
    assert_eq!(
        outcome(200, r#"{"ok":true,"revoked":true}"#),
        Outcome::Confirmed
    );
    assert_eq!(
        outcome(200, r#"{"ok":false,"error":"token_revoked"}"#),
        Outcome::Gone
    );
    assert_eq!(
        outcome(200, r#"{"ok":false,"error":"fatal_error"}"#),
        Outcome::Failed
    );
    assert_eq!(outcome(404, ""), Outcome::Gone);
    for status in [201, 204, 302, 400, 401, 403, 429, 500] {
        assert_eq!(outcome(status, ""), Outcome::Failed, "{status}");
    }
}

#[test]
fn a_call_that_cannot_be_right_is_refused_with_the_key() {
    let good = "method = 'POST'\nurl = 'https://acme.example/revoke'\nauth = 'none'\n";
    revoking(good);
    let table = [
        ("method = 'TRACE'\nurl = 'https://acme.example/r'\nauth = 'none'".to_owned(), "`TRACE` is no method"),
        ("method = 'POST'\nurl = 'http://acme.example/r'\nauth = 'none'".to_owned(), "url: must be https"),
        ("method = 'POST'\nurl = 'https://acme.example/r#x'\nauth = 'none'".to_owned(), "url: "),
        ("method = 'POST'\nurl = 'https://acme.example/{access_token}'\nauth = 'none'".to_owned(), "is secret"),
        ("method = 'POST'\nurl = 'https://acme.example/{client_id|client_secret}'\nauth = 'none'".to_owned(), "is secret"),
        ("method = 'POST'\nurl = 'https://acme.example/r?token={refresh_token}'\nauth = 'none'".to_owned(), "is secret"),
        ("method = 'POST'\nurl = 'https://{client_id}.acme.example/r'\nauth = 'none'".to_owned(), "is no setting"),
        (format!("{good}form = {{ token = '{{tokn}}' }}"), "`{tokn}` is no setting and no field"),
        (format!("{good}form = {{ token = '{{access_token|}}' }}"), "`{}` is no setting"),
        (format!("{good}form = {{ token = '{{access_token' }}"), "braces do not pair"),
        (format!("{good}form = {{}}\njson = '{{}}'"), "not both"),
        (format!("{good}json = '{{'"), "json: "),
        (format!("{good}json = '{{\"a\":[\"{{nix}}\"]}}'"), "`{nix}` is no setting"),
        (format!("{good}headers = {{ Accept = 'x' }}"), "`Accept` is no header"),
        (format!("{good}ok = []"), "nothing would confirm it"),
        (format!("{good}ok = [20]"), "are statuses"),
        (format!("{good}[[mode.revoke.call.rule]]\npointer = 'x'\nmeans = 'gone'"), "rule number 1: pointer"),
        (format!("{good}[[mode.revoke.call.rule]]\nstatus = 200\nmeans = 'done'"), "unknown variant `done`"),
        ("method = 'GET'\nurl = 'https://acme.example/r'\nauth = 'none'\nform = {}".to_owned(), "GET has no body"),
        (format!("{good}body = 'x'"), "unknown field `body`"),
    ];
    for (call, message) in table {
        let found = fault("", "", &format!("[[mode.revoke.call]]\n{call}"));
        assert!(found.contains(message), "{call}\n→ {found}");
    }
    let keyed = "[[mode]]\nid = 'key'\nlabel = 'Key'\nplacement = { kind = 'bearer', field = 'api_key' }\n[[mode.field]]\nname = 'api_key'\nlabel = 'k'\nsecret = true\n[[mode.revoke.call]]\nmethod = 'POST'\nurl = 'https://acme.example/r'\nauth = 'app_basic'";
    let found = fault("", "", keyed);
    assert!(found.contains("only an OAuth mode has an app"), "{found}");
}

proptest! {
    #[test]
    fn no_value_breaks_out_of_its_place(
        token in any::<String>().prop_filter("empty is missing", |t| !t.is_empty()),
        id in any::<String>(),
        team in "[!-~]{1,12}",
    ) {
        let form = "method = 'POST'\nurl = 'https://acme.example/{team}/r?x={team}'\nauth = 'none'\nform = { \"a&b\" = 'x{access_token}{team}' }";
        let json = "method = 'POST'\nurl = 'https://acme.example/r/{client_id}'\nauth = 'none'\njson = '{\"a\":{\"b\":[\"x{access_token}\"]}}'";
        let acme = provider(
            "config = [{ name = 'team', label = 'team' }]",
            "",
            &format!("[[mode.revoke.call]]\n{form}\n[[mode.revoke.call]]\n{json}"),
        );
        let own = config(&acme, json!({"team": team}));
        let app = App { client_id: id, client_secret: Some(Zeroizing::new(String::new())) };
        let fields = stored(json!({"access_token": token}));
        for call in calls(&acme, &own, Some(&app), &fields).unwrap_or_default() {
            let url = url::Url::parse(&format!("https://acme.example{}", call.request.path)).unwrap();
            prop_assert!(call.request.path.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(url.path_segments().unwrap().count(), 2);
            prop_assert_eq!(url.fragment(), None);
            if call.request.headers["content-type"] == "application/json" {
                prop_assert_eq!(
                    serde_json::from_str::<Value>(text(&call)).unwrap(),
                    json!({"a": {"b": [format!("x{token}")]}})
                );
            } else {
                let pairs: Vec<_> = url::form_urlencoded::parse(&call.request.body).into_owned().collect();
                prop_assert_eq!(pairs, [("a&b".to_owned(), format!("x{token}{team}"))]);
                let query: Vec<_> = url.query_pairs().into_owned().collect();
                prop_assert_eq!(query, [("x".to_owned(), team.clone())]);
            }
        }
    }
}
