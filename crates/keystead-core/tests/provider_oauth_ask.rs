//! What goes to the provider: nothing that is put into it leaves its place.

#![allow(clippy::unwrap_used)]

mod acme;

use acme::{app, config, provider};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keystead_core::provider::oauth::{
    App, Ask, IssFault, OAuthError, authorize_url, check_iss, code_request, device_poll_request,
    device_request, pkce, refresh_request,
};
use keystead_core::provider::{Config, Provider, TokenRequest};
use proptest::prelude::*;
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

const REDIRECT: &str = "https://keystead.example/oauth/callback";
const ASK: Ask<'static> = Ask {
    redirect_uri: REDIRECT,
    state: "st",
    challenge: Some("ch"),
};

type Pairs = Vec<(String, String)>;

fn pairs(of: impl Iterator<Item = (String, String)>) -> Pairs {
    let mut pairs: Pairs = of.collect();
    pairs.sort();
    pairs
}

fn query(url: &str) -> Pairs {
    pairs(Url::parse(url).unwrap().query_pairs().into_owned())
}

fn form(request: &TokenRequest) -> Pairs {
    assert_eq!(
        request.headers["content-type"],
        "application/x-www-form-urlencoded"
    );
    pairs(url::form_urlencoded::parse(&request.body).into_owned())
}

fn expected(list: &[(&str, &str)]) -> Pairs {
    pairs(list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())))
}

fn none() -> Config {
    Config::default()
}

/// Id and secret, as a server reads them from the header.
fn basic(request: &TokenRequest) -> Option<(String, String)> {
    let value = request.headers.get("authorization")?;
    assert!(value.is_sensitive());
    let text = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
    let pair = String::from_utf8(STANDARD.decode(text).unwrap()).unwrap();
    let (id, secret) = pair.split_once(':').unwrap();
    let decode = |text: &str| {
        let pair = format!("x={text}");
        let (_, value) = url::form_urlencoded::parse(pair.as_bytes()).next().unwrap();
        value.into_owned()
    };
    Some((decode(id), decode(secret)))
}

#[test]
fn an_authorisation_names_what_is_asked_and_nothing_else() {
    let acme = provider(
        "",
        "scopes = ['read', 'write']\nauthorize_params = { access_type = 'offline' }",
        "",
    );
    let url = authorize_url(&acme, &none(), &app(), &ASK).unwrap();
    assert!(url.starts_with("https://acme.example/authorize?"), "{url}");
    assert_eq!(
        query(&url),
        expected(&[
            ("access_type", "offline"),
            ("client_id", "acme-app"),
            ("code_challenge", "ch"),
            ("code_challenge_method", "S256"),
            ("redirect_uri", REDIRECT),
            ("response_type", "code"),
            ("scope", "read write"),
            ("state", "st"),
        ])
    );
    assert!(!url.contains("canary"));
}

#[test]
fn scopes_are_separated_as_the_provider_has_it_and_a_setting_replaces_them() {
    let acme = provider(
        "config = [{ name = 'scopes', label = 'scopes', required = false }, { name = 'user_scope', label = 'x', required = false }]",
        "scopes = ['a:read', 'b']\nscope_separator = ','\nscope_param = 'scopes'\nauthorize_params = { user_scope = '{user_scope}' }",
        "",
    );
    let of = |config: &Config, name: &str| {
        let url = authorize_url(&acme, config, &app(), &ASK).unwrap();
        let found = query(&url).into_iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value)
    };
    assert_eq!(of(&none(), "scopes").unwrap(), "a:read,b");
    assert_eq!(of(&none(), "user_scope"), None);
    let own = config(&acme, json!({"scopes": "c  d", "user_scope": "u&state=x"}));
    assert_eq!(of(&own, "scopes").unwrap(), "c,d");
    assert_eq!(of(&own, "user_scope").unwrap(), "u&state=x");
    assert_eq!(of(&own, "state").unwrap(), "st");
    // Where nothing is asked for, the parameter is left out.
    let bare = provider("", "", "");
    let url = authorize_url(&bare, &none(), &app(), &ASK).unwrap();
    assert!(!url.contains("scope"));
}

#[test]
fn pkce_is_part_of_the_flow_unless_the_file_says_no() {
    let acme = provider("", "", "");
    let without = Ask {
        challenge: None,
        ..ASK
    };
    assert_eq!(
        authorize_url(&acme, &none(), &app(), &without),
        Err(OAuthError::Pkce)
    );
    assert_eq!(
        code_request(&acme, &none(), &app(), "c", None, REDIRECT).err(),
        Some(OAuthError::Pkce)
    );
    let old = provider("", "pkce = false", "");
    let url = authorize_url(&old, &none(), &app(), &ASK).unwrap();
    assert!(!url.contains("challenge"));
    let request = code_request(&old, &none(), &app(), "c", Some("v"), REDIRECT);
    assert!(
        !form(&request.ok().unwrap())
            .iter()
            .any(|(n, _)| n == "code_verifier")
    );
}

#[test]
fn pkce_is_that_of_rfc_7636_appendix_b() {
    let bytes = URL_SAFE_NO_PAD
        .decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
        .unwrap();
    let (verifier, challenge) = pkce(bytes.try_into().unwrap());
    assert_eq!(*verifier, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}

#[test]
fn an_issuer_is_compared_to_the_letter() {
    let named = provider("", "issuer = 'https://acme.example'", "");
    let strict = provider(
        "",
        "issuer = 'https://acme.example'\niss_required = true",
        "",
    );
    let silent = provider("", "", "");
    let right = Some("https://acme.example");
    let table: [(&Provider, Option<&str>, Result<(), IssFault>); 9] = [
        (&named, right, Ok(())),
        (&named, None, Ok(())),
        (&named, Some("https://evil.example"), Err(IssFault::Other)),
        (&named, Some("https://acme.example/"), Err(IssFault::Other)),
        (&named, Some(""), Err(IssFault::Other)),
        (&strict, right, Ok(())),
        (&strict, None, Err(IssFault::Missing)),
        (&strict, Some("https://ACME.example"), Err(IssFault::Other)),
        (&silent, Some("https://any.example"), Ok(())),
    ];
    for (provider, iss, verdict) in table {
        let oauth = provider.oauth().unwrap();
        assert_eq!(check_iss(oauth, iss), verdict, "{:?} {iss:?}", oauth.issuer);
    }
}

#[test]
fn a_client_proves_itself_in_one_place_alone() {
    let code = |provider: &Provider, app: &App| {
        code_request(provider, &none(), app, "co", Some("ve"), REDIRECT)
            .ok()
            .unwrap()
    };
    let common = [
        ("code", "co"),
        ("code_verifier", "ve"),
        ("grant_type", "authorization_code"),
        ("redirect_uri", REDIRECT),
    ];
    let with = |more: &[(&str, &str)]| expected(&[&common[..], more].concat());
    let id = ("client_id", "acme-app");

    let body = code(&provider("", "client_auth = 'body'", ""), &app());
    assert_eq!(basic(&body), None);
    assert_eq!(form(&body), with(&[id, ("client_secret", "canary-app")]));
    assert_eq!(body.headers["accept"], "application/json");

    let acme = provider("", "client_auth = 'basic'", "");
    let header = code(&acme, &app());
    let both = ("acme-app".to_owned(), "canary-app".to_owned());
    assert_eq!(basic(&header), Some(both));
    assert_eq!(form(&header), with(&[]));

    let public = App {
        client_id: "acme-app".to_owned(),
        client_secret: None,
    };
    for auth in ["body", "basic", "none"] {
        let acme = provider("", &format!("client_auth = '{auth}'"), "");
        let request = code(&acme, &public);
        assert_eq!(basic(&request), None);
        assert_eq!(form(&request), with(&[id]), "{auth}");
    }
    let never = code(&provider("", "client_auth = 'none'", ""), &app());
    assert_eq!(form(&never), with(&[id]));
}

#[test]
fn basic_credentials_are_form_encoded_first() {
    let acme = provider("", "client_auth = 'basic'", "");
    let odd = App {
        client_id: "a:b c%3A".to_owned(),
        client_secret: Some(Zeroizing::new("canary:+/=ü".to_owned())),
    };
    let request = refresh_request(&acme, &none(), &odd, "r");
    assert_eq!(request.err(), Some(OAuthError::NoRefresh));
    let acme = provider(
        "",
        "client_auth = 'basic'\n[mode.oauth.refresh]\nclass = 'reusable'",
        "",
    );
    let request = refresh_request(&acme, &none(), &odd, "canary-r")
        .ok()
        .unwrap();
    let both = ("a:b c%3A".to_owned(), "canary:+/=ü".to_owned());
    assert_eq!(basic(&request), Some(both));
    assert_eq!(
        form(&request),
        expected(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", "canary-r")
        ])
    );
}

#[test]
fn an_exchange_is_json_and_without_redirect_uri_where_the_file_says_so() {
    let acme = provider(
        "",
        "request = 'json'\nclient_auth = 'basic'\nredirect_uri_in_exchange = false\ntoken_params = { expiring = '1' }",
        "",
    );
    let request = code_request(&acme, &none(), &app(), "c\"o", Some("ve"), REDIRECT)
        .ok()
        .unwrap();
    assert_eq!(request.headers["content-type"], "application/json");
    assert!(basic(&request).is_some());
    assert_eq!(
        serde_json::from_slice::<Value>(&request.body).unwrap(),
        json!({"grant_type": "authorization_code", "code": "c\"o", "code_verifier": "ve", "expiring": "1"})
    );
}

#[test]
fn a_device_asks_at_its_own_endpoint_and_polls_at_the_token_endpoint() {
    let acme = provider("", "scopes = ['a', 'b']", "");
    assert_eq!(
        device_request(&acme, &none(), &app()).err(),
        Some(OAuthError::NoDevice)
    );
    assert_eq!(
        device_poll_request(&acme, &none(), &app(), "d").err(),
        Some(OAuthError::NoDevice)
    );
    let acme = provider(
        "",
        "scopes = ['a', 'b']\nclient_auth = 'none'\ndevice_url = 'https://acme.example/device'",
        "",
    );
    let request = device_request(&acme, &none(), &app()).ok().unwrap();
    assert_eq!(request.path, "/device");
    assert_eq!(
        form(&request),
        expected(&[("client_id", "acme-app"), ("scope", "a b")])
    );
    let request = device_poll_request(&acme, &none(), &app(), "canary-d")
        .ok()
        .unwrap();
    assert_eq!(request.path, "/token");
    assert_eq!(
        form(&request),
        expected(&[
            ("client_id", "acme-app"),
            ("device_code", "canary-d"),
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ])
    );
}

#[test]
fn an_operators_base_url_moves_every_endpoint() {
    let acme = provider(
        "",
        "device_url = 'https://acme.example/v1/device'\n[mode.oauth.refresh]\nclass = 'rotating'",
        "",
    );
    let acme = acme.with_base_url("http://127.0.0.1:9002").unwrap();
    let url = authorize_url(&acme, &none(), &app(), &ASK).unwrap();
    assert!(url.starts_with("http://127.0.0.1:9002/authorize?"), "{url}");
    let requests = [
        (
            code_request(&acme, &none(), &app(), "c", Some("v"), REDIRECT),
            "/token",
        ),
        (refresh_request(&acme, &none(), &app(), "r"), "/token"),
        (device_request(&acme, &none(), &app()), "/v1/device"),
        (device_poll_request(&acme, &none(), &app(), "d"), "/token"),
    ];
    for (request, path) in requests {
        let request = request.ok().unwrap();
        assert_eq!(request.destination.dial.as_str(), "http://127.0.0.1:9002");
        assert_eq!(request.destination.host_header, "127.0.0.1:9002");
        assert_eq!(request.destination.logical_host, "acme.example");
        assert_eq!(request.path, path);
    }
}

#[test]
fn a_setting_never_names_another_host_or_path() {
    let acme = provider(
        "config = [{ name = 'shop', label = 'shop', required = false }, { name = 'team', label = 'team', required = false }]",
        "device_url = 'https://{shop}.acme.example/{team}/device'",
        "",
    );
    let path = |shop: &str, team: &str| {
        let config = config(&acme, json!({"shop": shop, "team": team}));
        let request = device_request(&acme, &config, &app()).ok()?;
        Some(format!(
            "{}{}",
            request.destination.logical_host, request.path
        ))
    };
    assert_eq!(path("s-1", "t").unwrap(), "s-1.acme.example/t/device");
    assert_eq!(
        path("s-1", "a?b#c d").unwrap(),
        "s-1.acme.example/a%3Fb%23c%20d/device"
    );
    for shop in ["evil.example/", "evil.example#", "a.b", "a@b", "a:1", ""] {
        assert_eq!(path(shop, "t"), None, "{shop}");
    }
    for team in ["..", ".", "../x", "a/b", "%2e%2e", "a\\b", ""] {
        assert_eq!(path("s", team), None, "{team}");
    }
}

proptest! {
    #[test]
    fn no_parameter_breaks_out_of_its_place(
        id in any::<String>(),
        secret in any::<String>(),
        state in any::<String>(),
        redirect in any::<String>(),
        code in any::<String>(),
    ) {
        let odd = App { client_id: id.clone(), client_secret: Some(Zeroizing::new(secret.clone())) };
        let acme = provider("", "", "");
        let ask = Ask { redirect_uri: &redirect, state: &state, challenge: Some(&code) };
        let url = authorize_url(&acme, &none(), &odd, &ask).unwrap();
        prop_assert!(url.bytes().all(|b| b.is_ascii_graphic()));
        let parsed = Url::parse(&url).unwrap();
        prop_assert_eq!(parsed.host_str(), Some("acme.example"));
        prop_assert_eq!(parsed.path(), "/authorize");
        prop_assert_eq!(parsed.fragment(), None);
        prop_assert_eq!(query(&url), expected(&[
            ("client_id", &id), ("code_challenge", &code), ("code_challenge_method", "S256"),
            ("redirect_uri", &redirect), ("response_type", "code"), ("state", &state),
        ]));

        let all = [
            ("client_id", id.as_str()), ("client_secret", &secret), ("code", &code),
            ("code_verifier", &state), ("grant_type", "authorization_code"),
            ("redirect_uri", &redirect),
        ];
        let request = code_request(&acme, &none(), &odd, &code, Some(&state), &redirect).ok().unwrap();
        prop_assert_eq!(form(&request), expected(&all));

        let acme = provider("", "request = 'json'", "");
        let request = code_request(&acme, &none(), &odd, &code, Some(&state), &redirect).ok().unwrap();
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let members: serde_json::Map<String, Value> =
            all.iter().map(|(n, v)| ((*n).to_owned(), Value::from(*v))).collect();
        prop_assert_eq!(body, Value::Object(members));

        let acme = provider("", "client_auth = 'basic'", "");
        let request = code_request(&acme, &none(), &odd, &code, Some(&state), &redirect).ok().unwrap();
        prop_assert_eq!(basic(&request), Some((id.clone(), secret.clone())));
        prop_assert_eq!(form(&request), expected(&all[2..]));
    }
}
