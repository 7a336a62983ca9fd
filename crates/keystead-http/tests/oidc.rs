//! Against an OpenID provider that is not ours, with PKCE required, `iss` in callbacks, and refresh
//! tokens that rotate: one that comes again ends its whole family.

#![allow(clippy::unwrap_used)]

mod house;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use house::{Answer, House, Plan};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use keystead_broker::OAuthApp;
use keystead_core::action::Role;
use keystead_testkit::node;
use keystead_testkit::process::Process;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

/// What browsers call Keystead, and the provider; both are on loopback.
const HOME: &str = "https://keystead.example";
const ISSUER: &str = "https://op.example";
const SECRET: &str = "canary-op-secret";
const FILE: &str = r#"
id = "op"
name = "OP"
docs = "https://op.example/docs"
hosts = ["op.example"]
base_url = "https://op.example"
path_prefixes = ["/"]
sdk_token_headers = ["authorization"]

[[mode]]
id = "oauth"
label = "Connect with OP"
placement = { kind = "bearer", field = "access_token" }
[mode.oauth]
authorize_url = "https://op.example/auth"
token_url = "https://op.example/token"
device_url = "https://op.example/device/auth"
issuer = "https://op.example"
iss_required = true
client_auth = "basic"
scopes = ["openid", "offline_access"]
authorize_params = { prompt = "consent" }
[mode.oauth.refresh]
class = "single_use"

[test]
path = "/me"
"#;

/// The provider, Keystead, and a person's browser.
struct Scene {
    house: House,
    provider: Process,
    /// Where the provider listens.
    address: String,
    alice: String,
    service: String,
}

impl Scene {
    async fn new() -> Scene {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../keystead-testkit/node/oidc.mjs");
        let client = json!({"client_id": "keystead", "client_secret": SECRET, "redirect_uris": [format!("{HOME}/oauth/callback")],
            "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"]});
        let told = json!({"issuer": ISSUER, "clients": [client]});
        let mut command = Command::new("node");
        command
            .arg(script)
            .arg(node::modules())
            .arg(told.to_string());
        let provider = Process::start(command.stdin(Stdio::piped()));
        let line = provider.line(|line| line.contains("address"), Duration::from_secs(20));
        let line = line.unwrap_or_else(|| panic!("{}", provider.stderr()));
        let line: Value = serde_json::from_str(&line).unwrap();
        let address = line["address"].as_str().unwrap().to_owned();
        let mut behaviour = keystead_broker::Settings::default();
        let app = OAuthApp {
            client_id: "keystead".into(),
            client_secret: Some(Zeroizing::new(SECRET.into())),
        };
        behaviour.oauth.apps.insert("op".into(), Arc::new(app));
        let house = House::planned(Plan {
            behaviour,
            public_url: Some(HOME.into()),
            files: vec![("op.toml", FILE)],
            dial: vec![("op", format!("http://{address}"))],
            ..Plan::default()
        })
        .await;
        let alice = house.jwt("alice", "acme", Role::Owner);
        house
            .ask(&alice, "GET", "/api/integrations", Value::Null)
            .await;
        let service = house.service_key(&["use"]).await;
        Scene {
            house,
            provider,
            address,
            alice,
            service,
        }
    }

    /// The person's browser, from the address that Keystead gave to the page that it ends on.
    async fn connect(&self) -> Answer {
        let path = "/api/oauth/op/url?name=main";
        let begun = self.house.ask(&self.alice, "GET", path, Value::Null).await;
        assert_eq!(begun.status, 200, "{}", begun.text());
        let cookie = begun.header("set-cookie").to_owned();
        assert!(cookie.starts_with("__Host-keystead-oauth="), "{cookie}");
        assert!(cookie.ends_with("; Secure"), "{cookie}");
        let url = begun.json()["url"].as_str().unwrap().to_owned();
        let mut browser = Browser::default();
        let back = browser.consent(&self.address, &url).await;
        let query = back
            .strip_prefix(&format!("{HOME}/oauth/callback"))
            .unwrap();
        assert!(query.contains("iss=https%3A%2F%2Fop.example"), "{query}");
        let path = format!("/oauth/callback{query}");
        let mut request = house::request("", "GET", &path, String::new());
        let pair = cookie.split(';').next().unwrap();
        request
            .headers_mut()
            .insert("cookie", pair.parse().unwrap());
        self.house.send(request).await
    }

    async fn integration(&self) -> Value {
        let list = self
            .house
            .ask(&self.alice, "GET", "/api/integrations", Value::Null);
        list.await.json()["data"][0].clone()
    }

    /// Waits until the status is that one.
    async fn comes_to(&self, status: &str) -> Value {
        for _ in 0..300 {
            let seen = self.integration().await;
            if seen["status"] == status {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not {status}: {}", self.integration().await);
    }

    /// The userinfo endpoint, through the proxy.
    async fn userinfo(&self) -> Answer {
        let mut request = house::request(&self.service, "GET", "/proxy/@op/me", String::new());
        let headers = request.headers_mut();
        headers.insert("keystead-tenant", "acme".parse().unwrap());
        self.house.send(request).await
    }

    /// What the provider has said of its token calls, each as JSON.
    fn events(&self) -> Vec<Value> {
        let said = self.provider.stdout();
        let lines = said
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &Value| line["event"].is_string())
            .collect()
    }

    /// The refresh token that was granted last.
    fn newest(&self) -> String {
        let events = self.events();
        let granted = events
            .iter()
            .rev()
            .find(|event| event["event"] == "granted");
        granted.unwrap()["refresh_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Puts a refresh token into the integration.
    async fn bring(&self, refresh_token: &str) {
        let id = self.integration().await["id"].as_str().unwrap().to_owned();
        let path = format!("/api/integrations/{id}");
        let change = json!({"credentials": {"refresh_token": refresh_token}});
        let put = self.house.ask(&self.alice, "PUT", &path, change).await;
        assert_eq!(put.status, 200, "{}", put.text());
    }

    fn renewals(&self) -> usize {
        let events = self.events();
        let renewed =
            |event: &&Value| event["event"] == "granted" && event["grant"] == "refresh_token";
        events.iter().filter(renewed).count()
    }
}

/// As much of a browser as it takes to log in: redirects, forms, cookies.
#[derive(Default)]
struct Browser {
    cookies: BTreeMap<String, String>,
}

impl Browser {
    /// Follows the provider's pages, logging in and consenting, to where they lead out.
    async fn consent(&mut self, address: &str, url: &str) -> String {
        let mut path = path_of(url);
        for _ in 0..20 {
            let page = self.visit(address, "GET", &path, "").await;
            let next = match page.header("location") {
                "" => {
                    // The package's own page, with a form.
                    let form = if page.text().contains("name=\"login\"") {
                        "prompt=login&login=ann&password=x"
                    } else {
                        "prompt=consent"
                    };
                    assert!(page.text().contains("prompt"), "{}", page.text());
                    let sent = self.visit(address, "POST", &path, form).await;
                    assert!(sent.status.is_redirection(), "{}", sent.text());
                    sent.header("location").to_owned()
                }
                next => next.to_owned(),
            };
            if next.starts_with(HOME) {
                return next;
            }
            path = path_of(&next);
        }
        panic!("no end of pages");
    }

    async fn visit(&mut self, address: &str, method: &str, path: &str, form: &str) -> Answer {
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", address)
            .header("cookie", cookies.join("; "));
        if !form.is_empty() {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        let request = request
            .body(Full::new(Bytes::from(form.to_owned())))
            .unwrap();
        let answer = send(address, request).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        answer
    }
}

async fn send(address: &str, request: Request<Full<Bytes>>) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let connection = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = connection.await.unwrap();
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

/// Path and query of an address.
fn path_of(url: &str) -> String {
    match url.split_once("://") {
        Some((_, rest)) => rest
            .find('/')
            .map_or("/".into(), |at| rest[at..].to_owned()),
        None => url.to_owned(),
    }
}

#[tokio::test]
async fn an_account_at_a_real_provider_is_connected_and_used() {
    let scene = Scene::new().await;
    let done = scene.connect().await;
    assert_eq!(done.status, 200, "{}\n{:?}", done.text(), scene.events());
    scene.comes_to("connected").await;
    let info = scene.userinfo().await;
    assert_eq!(
        (info.status.as_u16(), &info.json()["sub"]),
        (200, &json!("ann")),
        "{}",
        info.text()
    );
    assert_eq!(scene.renewals(), 0, "it is fresh");
    let log = scene.house.log().await;
    let text = log.iter().map(Value::to_string).collect::<String>();
    for event in scene.events() {
        for token in ["access_token", "refresh_token"] {
            let token = event[token].as_str().unwrap_or("none");
            assert!(
                token == "none" || !text.contains(token),
                "a token in the log"
            );
        }
    }
}

#[tokio::test]
async fn a_refresh_token_rotates_and_its_reuse_ends_the_family() {
    let scene = Scene::new().await;
    let done = scene.connect().await;
    assert_eq!(done.status, 200, "{}", done.text());
    scene.comes_to("connected").await;
    for renewed in 1..=2 {
        // As if it came from another system: nobody knows how old it is, so it is due.
        scene.bring(&scene.newest()).await;
        let info = scene.userinfo().await;
        assert_eq!(
            (info.status.as_u16(), &info.json()["sub"]),
            (200, &json!("ann"))
        );
        assert_eq!(scene.renewals(), renewed, "{:?}", scene.events());
    }
    let events = scene.events();
    let refused = events.iter().filter(|event| event["event"] == "refused");
    assert_eq!(refused.count(), 0, "no old one was ever sent: {events:?}");
    let tokens = events.iter().map(|event| event["refresh_token"].as_str());
    let distinct: std::collections::BTreeSet<_> = tokens.collect();
    assert_eq!(distinct.len(), 3, "each is another: {events:?}");

    // Somebody else uses the first one, which the provider takes for a theft.
    let first = events[0]["refresh_token"].as_str().unwrap();
    let form = format!(
        "grant_type=refresh_token&refresh_token={first}&client_id=keystead&client_secret={SECRET}"
    );
    let request = Request::post("/token")
        .header("host", &scene.address)
        .header("content-type", "application/x-www-form-urlencoded");
    let stolen = send(&scene.address, request.body(Full::from(form)).unwrap()).await;
    assert_eq!(stolen.json()["error"], "invalid_grant", "{}", stolen.text());

    scene.bring(&scene.newest()).await;
    let dead = scene.userinfo().await;
    assert!(dead.status.is_client_error(), "{}", dead.text());
    let seen = scene.comes_to("reauthorize").await;
    assert!(seen["error_message"].is_string(), "{seen}");

    // The account's owner authorises it anew.
    let id = seen["id"].as_str().unwrap();
    let path = format!("/api/oauth/op/url?integration={id}");
    let begun = scene
        .house
        .ask(&scene.alice, "GET", &path, Value::Null)
        .await;
    let url = begun.json()["url"].as_str().unwrap().to_owned();
    let back = Browser::default().consent(&scene.address, &url).await;
    let mut request = house::request("", "GET", &path_of(&back), String::new());
    let cookie = begun.header("set-cookie").split(';').next().unwrap();
    request
        .headers_mut()
        .insert("cookie", cookie.parse().unwrap());
    let done = scene.house.send(request).await;
    assert_eq!(done.status, 200, "{}", done.text());
    scene.comes_to("connected").await;
    assert_eq!(scene.userinfo().await.status, 200);
}

#[tokio::test]
async fn a_code_for_another_device_is_typed_at_a_real_provider() {
    let scene = Scene::new().await;
    let path = "/api/oauth/op/device";
    let begun = scene.house.ask(&scene.alice, "POST", path, json!({})).await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    let begun = begun.json();
    let page = path_of(begun["verification_uri_complete"].as_str().unwrap());
    let poll = format!("/api/oauth/device/{}", begun["id"].as_str().unwrap());
    let pending = scene
        .house
        .ask(&scene.alice, "POST", &poll, Value::Null)
        .await;
    assert_eq!(pending.json()["status"], "pending", "{}", pending.text());

    let mut browser = Browser::default();
    browser.type_code(&scene.address, &page).await;
    for _ in 0..10 {
        let polled = scene
            .house
            .ask(&scene.alice, "POST", &poll, Value::Null)
            .await;
        if polled.json()["status"] == "completed" {
            scene.comes_to("connected").await;
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("it was not heard of: {:?}", scene.events());
}

impl Browser {
    /// Confirms the code that is in the address, logs in and consents.
    async fn type_code(&mut self, address: &str, page: &str) {
        let mut path = page.to_owned();
        for _ in 0..20 {
            let shown = self.visit(address, "GET", &path, "").await;
            let text = shown.text();
            let hidden = |name: &str| {
                let at = text.find(&format!("name=\"{name}\" value=\""))?;
                let value = text[at..].split('"').nth(3)?;
                Some(format!("{name}={value}"))
            };
            let next = if let Some(xsrf) = hidden("xsrf") {
                let fields = [
                    Some(xsrf),
                    hidden("user_code"),
                    Some("confirm=yes".to_owned()),
                ];
                let fields: Vec<_> = fields.into_iter().flatten().collect();
                let sent = self
                    .visit(address, "POST", "/device", &fields.join("&"))
                    .await;
                if !sent.status.is_redirection() {
                    assert_eq!(sent.status, 200, "{}", sent.text());
                    return;
                }
                sent.header("location").to_owned()
            } else if shown.status.is_redirection() {
                shown.header("location").to_owned()
            } else if text.contains("name=\"prompt\"") {
                let form = if text.contains("name=\"login\"") {
                    "prompt=login&login=ann&password=x"
                } else {
                    "prompt=consent"
                };
                let sent = self.visit(address, "POST", &path, form).await;
                sent.header("location").to_owned()
            } else {
                return;
            };
            path = path_of(&next);
        }
        panic!("no end of pages");
    }
}
