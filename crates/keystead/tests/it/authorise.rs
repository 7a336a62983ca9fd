//! `keystead connect`, as a person at a terminal without a browser uses it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use keystead_testkit::client::Client;
use keystead_testkit::process::Process;
use serde_json::{Value, json};

use crate::rig::{House, PATIENCE, Server, TRUE_KEY, keystead};

const FILE: &str = r#"
id = "acme"
name = "Acme"
docs = "https://acme.example/docs"
hosts = ["acme.example"]
base_url = "https://acme.example"
path_prefixes = ["/"]
sdk_token_headers = ["authorization"]

[[mode]]
id = "oauth"
label = "Connect with Acme"
placement = { kind = "bearer", field = "access_token" }
[mode.oauth]
authorize_url = "https://acme.example/authorize"
token_url = "https://acme.example/token"
device_url = "https://acme.example/device"

[test]
path = "/me"
"#;
const DEVICE: &str = r#"{"device_code":"canary-device","user_code":"WDJB-MJHT","verification_uri":"https://acme.example/activate","interval":1,"expires_in":600}"#;
const TOKENS: &str = r#"{"access_token":"canary-access","token_type":"bearer"}"#;

/// The provider: what its token endpoint says can be changed.
struct Provider {
    url: String,
    token: Arc<Mutex<(u16, String)>>,
}

impl Provider {
    fn start() -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let pending = r#"{"error":"authorization_pending"}"#.to_owned();
        let token = Arc::new(Mutex::new((400, pending)));
        let says = token.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let says = says.clone();
                std::thread::spawn(move || answer(stream, &says));
            }
        });
        Provider { url, token }
    }

    fn says(&self, status: u16, body: &str) {
        *self.token.lock().unwrap() = (status, body.to_owned());
    }
}

/// One request, one answer.
fn answer(mut stream: TcpStream, token: &Mutex<(u16, String)>) {
    let mut bytes = [0; 8192];
    let read = stream.read(&mut bytes).unwrap_or(0);
    let head = String::from_utf8_lossy(&bytes[..read]).into_owned();
    let (status, body) = if head.starts_with("POST /device ") {
        (200, DEVICE.to_owned())
    } else if head.starts_with("POST /token ") {
        token.lock().unwrap().clone()
    } else {
        (200, "{}".to_owned())
    };
    let answer = format!(
        "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(answer.as_bytes());
}

async fn scene() -> (House, Provider, Server, String) {
    let provider = Provider::start();
    // Relative to the house's folder, where the server starts.
    let more = format!(
        "[providers]\nfolder = \"own\"\n[provider.acme]\nbase_url = \"{}\"\n\
         [oauth.acme]\nclient_id = \"app\"\nclient_secret = {{ file = \"app-secret\" }}\n",
        provider.url
    );
    let house = House::new(&more).await;
    std::fs::create_dir(house.path("own")).unwrap();
    house.write("own/acme.toml", FILE);
    house.write("app-secret", "canary-app-secret");
    let server = house.serve();
    let jwt = house.jwt("alice", "acme", "owner");
    (house, provider, server, jwt)
}

fn start(server: &Server, jwt: &str, words: &[&str]) -> Process {
    let mut command = keystead();
    command.arg("connect").args(words).stdin(Stdio::null());
    command
        .env("KEYSTEAD_URL", &server.url)
        .env("KEYSTEAD_TOKEN", jwt);
    Process::start(&mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_connected_from_a_terminal_without_a_browser() {
    let (_house, provider, server, jwt) = scene().await;
    let mut connect = start(&server, &jwt, &["acme", "--name", "mine", "--no-browser"]);
    let told = connect.log_line(|line| line.contains("WDJB-MJHT"), PATIENCE);
    let told = told.unwrap_or_else(|| panic!("{}", connect.stderr()));
    assert!(told.contains("https://acme.example/activate"), "{told}");
    provider.says(200, TOKENS);
    let ended = connect.ended(PATIENCE).unwrap();
    assert_eq!(ended.code(), Some(0), "{}", connect.stderr());
    let said = connect.stdout();
    assert!(
        said.contains("connected") && said.contains("mine"),
        "{said}"
    );
    assert!(!format!("{said}{}", connect.stderr()).contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reads_what_to_open_and_then_the_integration() {
    let (_house, provider, server, jwt) = scene().await;
    provider.says(200, TOKENS);
    let mut connect = start(&server, &jwt, &["acme", "--json"]);
    assert_eq!(connect.ended(PATIENCE).unwrap().code(), Some(0));
    let said = connect.stdout();
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["user_code"], "WDJB-MJHT");
    assert_eq!(lines[1]["status"], "connected", "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_fails_ends_with_a_number_that_means_something() {
    let (house, provider, server, jwt) = scene().await;
    provider.says(400, r#"{"error":"access_denied"}"#);
    let viewer = house.jwt("victor", "acme", "viewer");
    let cases = BTreeMap::from([
        ("refused by its owner", (jwt.as_str(), "acme", 5)),
        ("not allowed", (viewer.as_str(), "acme", 3)),
        ("no such provider", (jwt.as_str(), "nowhere", 4)),
        ("nobody", ("kss_x", "acme", 3)),
        ("no id", (jwt.as_str(), "../x", 2)),
    ]);
    for (what, (token, type_, code)) in cases {
        let mut connect = start(&server, token, &[type_]);
        let ended = connect.ended(PATIENCE).unwrap();
        assert_eq!(ended.code(), Some(code), "{what}: {}", connect.stderr());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_device_flow_a_link_is_shown() {
    let (_house, _provider, server, jwt) = scene().await;
    let mut connect = start(&server, &jwt, &["openai", "--no-browser"]);
    let start = format!("{}/connect/start/", server.url);
    let told = connect.log_line(|line| line.contains(&start), PATIENCE);
    assert!(told.is_some(), "{}", connect.stderr());
    // Whatever way it is connected there: here, a key is pasted.
    let client = Client::new(&server.url).bearer(&jwt);
    let new = json!({"name": "pasted", "type": "openai", "credentials": TRUE_KEY});
    client.post("/api/integrations", &new).await.expect(201);
    assert_eq!(connect.ended(PATIENCE).unwrap().code(), Some(0));
    assert!(connect.stdout().contains("pasted"), "{}", connect.stdout());
}
