//! Providers that make keys when asked, played strictly by what the vendors document: each call has
//! its place, its authorisation and its body, and anything else is refused and remembered.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test file uses a part of it

mod calls;
mod scene;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use calls::call_of;
pub use scene::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A key at the provider.
#[derive(Clone, Debug)]
pub struct Made {
    pub secret: String,
    pub name: Option<String>,
    pub active: bool,
    /// So many trials of it are still refused.
    pub unready: usize,
    pub created: String,
    /// It is genuine, and lacks what the trial asks for.
    pub limited: bool,
}

/// What the provider does other than usual.
#[derive(Default)]
pub struct World {
    pub keys: BTreeMap<String, Made>,
    /// New keys are refused so often before they work.
    pub unready: usize,
    /// New keys may do less.
    pub limited: bool,
    /// Calls that fail with a status, by what they do.
    pub fails: BTreeMap<&'static str, u16>,
    /// Calls that are carried out and never answered, by what they do.
    pub hangs: Option<&'static str>,
    /// What is said of a key made now.
    pub now: String,
    /// What was done, in order.
    pub done: Vec<String>,
    /// What was refused, and why.
    pub wrong: Vec<String>,
    next: usize,
}

impl World {
    pub fn count(&self, what: &str) -> usize {
        let of = |done: &&String| done.split(' ').next() == Some(what);
        self.done.iter().filter(of).count()
    }

    pub fn active(&self) -> Vec<&str> {
        let active = self.keys.iter().filter(|(_, key)| key.active);
        active.map(|(id, _)| id.as_str()).collect()
    }
}

pub struct Provider {
    pub id: &'static str,
    pub url: String,
    world: Arc<Mutex<World>>,
    /// Answers of `create` wait for a permit.
    pub gate: Arc<Semaphore>,
}

/// As the providers' ids in the catalogue; all that are rotated but AWS, which has a server of its own.
pub const ALL: [&str; 7] = [
    "azure_service_principal",
    "gcp_service_account",
    "openai",
    "resend",
    "sendgrid",
    "supabase_project_key",
    "twilio",
];

const PROJECT: &str = "abcdefghijklmnopqrst";
const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const AUTH_TOKEN: &str = "canary0auth0token0123456789abcdef";
const ADMIN_KEY: &str = "sk-admin-canary-0123456789-0123456789";
const PAT: &str = "sbp_canary456789abcdef0123456789abcdef0123456";
const EMAIL: &str = "robot@p.iam.gserviceaccount.com";
const TENANT: &str = "00000000-0000-4000-8000-000000000001";
const APP: &str = "00000000-0000-4000-8000-000000000002";
const PERMITTED: [&str; 3] = ["api_keys.create", "api_keys.read", "mail.send"];

/// Keys take long to make.
static PEMS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let pem = |_| {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key).unwrap();
        let body = STANDARD.encode(der.as_ref());
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    };
    (0..3).map(pem).collect()
});

/// The id and the secret of the key with that number.
fn make(provider: &str, number: usize) -> (String, String) {
    match provider {
        "azure_service_principal" => (
            format!("00000000-0000-4000-8000-0000000001{number:02}"),
            format!("{number:02}~canary-secret-of-an-application-0"),
        ),
        "gcp_service_account" => (format!("{number:040x}"), PEMS[number % PEMS.len()].clone()),
        "openai" => (
            format!("key_{number}"),
            format!("sk-svcacct-canary-0123456789-{number:04}"),
        ),
        "resend" => (
            format!("00000000-0000-4000-8000-0000000002{number:02}"),
            format!("re_canary0123456789abcdef{number:02}"),
        ),
        "sendgrid" => (
            format!("canaryid0example0exa{number:02}"),
            format!(
                "SG.canaryid0example0exa{number:02}.canary-0123456789-0123456789-0123456789-012"
            ),
        ),
        "supabase_project_key" => (
            format!("00000000-0000-4000-8000-0000000003{number:02}"),
            format!("sb_secret_canary0123456789{number:02}"),
        ),
        _ => (
            format!("SK{number:032x}"),
            format!("canary0123456789abcdef0123456{number:03}"),
        ),
    }
}

impl Provider {
    pub async fn start(id: &'static str) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let world = Arc::new(Mutex::new(World {
            now: "2026-11-20T14:15:00Z".to_owned(),
            ..World::default()
        }));
        let gate = Arc::new(Semaphore::new(10_000));
        let provider = Provider {
            id,
            url,
            world: world.clone(),
            gate: gate.clone(),
        };
        provider.add(None);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(id, stream, world.clone(), gate.clone()));
            }
        });
        provider
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// A key that was made by somebody else; its id.
    pub fn add(&self, name: Option<&str>) -> String {
        let mut world = self.world();
        let id = world.add(self.id, name);
        world.keys.get_mut(&id).unwrap().unready = 0;
        id
    }

    /// The credential that the first key is.
    pub fn credential(&self) -> Value {
        self.credential_of(&make(self.id, 0))
    }

    pub fn credential_of(&self, (id, secret): &(String, String)) -> Value {
        match self.id {
            "azure_service_principal" => {
                json!({"tenant_id": TENANT, "client_id": APP, "client_secret": secret})
            }
            "gcp_service_account" => {
                json!({"type": "service_account", "private_key_id": id, "private_key": secret, "client_email": EMAIL})
            }
            "openai" => json!({"api_key": secret, "admin_key": ADMIN_KEY}),
            "supabase_project_key" => json!({"secret_key": secret, "management_token": PAT}),
            "twilio" => {
                json!({"account_sid": ACCOUNT, "api_key_sid": id, "api_key_secret": secret, "auth_token": AUTH_TOKEN})
            }
            _ => json!(secret),
        }
    }

    /// A further key of somebody's, and the credential that it is.
    pub fn other(&self) -> Value {
        let id = self.add(Some("by hand"));
        let secret = self.world().keys[&id].secret.clone();
        self.credential_of(&(id, secret))
    }

    pub fn config(&self) -> Value {
        match self.id {
            "openai" => json!({"project": "proj_1", "service_account": "user-1"}),
            "supabase_project_key" => json!({"project": PROJECT}),
            _ => json!({}),
        }
    }
}

impl World {
    fn add(&mut self, provider: &str, name: Option<&str>) -> String {
        let (id, secret) = make(provider, self.next);
        self.next += 1;
        let made = Made {
            secret,
            name: name.map(str::to_owned),
            active: true,
            unready: self.unready,
            created: self.now.clone(),
            limited: self.limited,
        };
        self.keys.insert(id.clone(), made);
        id
    }
}

/// A request as it came.
struct Heard {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    fn form(&self) -> BTreeMap<String, String> {
        let pairs = self.body.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(name, value)| (name.to_owned(), decoded(value)))
            .collect()
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |rest: &mut std::str::Bytes<'_>| {
            let pair = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()
        };
        bytes.push(if byte == b'%' {
            hex(&mut rest).unwrap()
        } else {
            byte
        });
    }
    String::from_utf8(bytes).unwrap()
}

async fn hear(stream: &mut TcpStream) -> Option<Heard> {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 8192];
        let read = stream.read(&mut piece).await.ok()?;
        if read == 0 {
            return None;
        }
        request.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let mut lines = head.lines();
        let mut first = lines.next()?.split(' ');
        let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers
            .get("content-length")
            .map_or(0, |n| n.parse().unwrap());
        if body.len() >= length {
            let body = body.to_owned();
            return Some(Heard {
                method,
                path,
                headers,
                body,
            });
        }
    }
}

async fn serve(
    id: &'static str,
    mut stream: TcpStream,
    world: Arc<Mutex<World>>,
    gate: Arc<Semaphore>,
) {
    let Some(heard) = hear(&mut stream).await else {
        return;
    };
    let call = call_of(id, &heard);
    let what = call.as_ref().map_or("", |(what, _)| what);
    let (status, answer, hangs) = {
        let mut world = world.lock().unwrap();
        let hangs = world.hangs == Some(what);
        let (status, answer) = match &call {
            Err(why) => {
                world
                    .wrong
                    .push(format!("{} {}: {why}", heard.method, heard.path));
                (418, json!({"error": "wrong"}))
            }
            Ok((what, _)) if world.fails.contains_key(what) => {
                let status = world.fails[what];
                world.done.push(format!("failed-{what}"));
                (
                    status,
                    json!({"error": {"code": "played_failure", "message": "canary"}}),
                )
            }
            Ok((what, key)) => {
                world.done.push(format!("{what} {key}"));
                world.carry_out(id, what, key, &heard)
            }
        };
        (status, answer, hangs)
    };
    if hangs {
        // As a machine that is switched off: the connection stays, and nothing comes.
        std::future::pending::<()>().await;
    }
    if what == "create" {
        gate.acquire().await.unwrap().forget();
    }
    let answer = if answer.is_null() {
        String::new()
    } else {
        answer.to_string()
    };
    let length = answer.len();
    let text = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

impl World {
    /// The key that the request is made with, if it works, by where this provider looks for it.
    fn by_key(&mut self, id: &str, heard: &Heard, counts: bool) -> Option<Made> {
        let authorization = heard.header("authorization").to_owned();
        let form = heard.form();
        let own = |key_id: &str, key: &Made| match id {
            "azure_service_principal" => form.get("client_secret") == Some(&key.secret),
            "gcp_service_account" => {
                let assertion = form.get("assertion").map_or("", String::as_str);
                let head = assertion.split('.').next().unwrap_or_default();
                let head = URL_SAFE_NO_PAD.decode(head).unwrap_or_default();
                let head: Value = serde_json::from_slice(&head).unwrap_or_default();
                head["kid"] == key_id
            }
            "supabase_project_key" => heard.header("apikey") == key.secret,
            "twilio" => {
                authorization
                    == format!(
                        "Basic {}",
                        STANDARD.encode(format!("{key_id}:{}", key.secret))
                    )
            }
            _ => authorization == format!("Bearer {}", key.secret),
        };
        for (key_id, key) in &mut self.keys {
            if key.active && own(key_id, key) {
                if key.unready == 0 {
                    return Some(key.clone());
                }
                key.unready -= usize::from(counts);
                return None;
            }
        }
        None
    }

    fn carry_out(&mut self, id: &str, what: &str, key: &str, heard: &Heard) -> (u16, Value) {
        let refused = match id {
            "gcp_service_account" => (400, json!({"error": "invalid_grant"})),
            "azure_service_principal" => (
                401,
                json!({"error": "invalid_client", "error_codes": [7000215]}),
            ),
            "openai" => (401, json!({"error": {"code": "invalid_api_key"}})),
            "resend" => (403, json!({"name": "invalid_api_key"})),
            _ => (401, json!({"message": "no such key"})),
        };
        let by_key = matches!(what, "test" | "token") || matches!(id, "resend" | "sendgrid");
        if by_key {
            match self.by_key(id, heard, matches!(what, "test" | "token")) {
                None => return refused,
                Some(key) if key.limited && what == "test" => return (403, json!({})),
                Some(_) => {}
            }
        }
        let known = self.keys.contains_key(key);
        match what {
            "token" => (
                200,
                json!({"access_token": "canary-made-token", "expires_in": 3600, "token_type": "Bearer"}),
            ),
            "test" => (200, json!({})),
            "copy" => (200, json!({"api_key_id": key, "scopes": PERMITTED})),
            "list" => (200, self.list(id)),
            "create" => {
                let name = self.name_of(id, heard);
                let key = self.add(id, name.as_deref());
                let made = &self.keys[&key];
                let secret = &made.secret;
                match id {
                    "azure_service_principal" => (
                        200,
                        json!({"keyId": key, "secretText": secret, "displayName": name}),
                    ),
                    "gcp_service_account" => {
                        let file = json!({"type": "service_account", "private_key_id": key, "private_key": secret, "client_email": EMAIL});
                        let name = format!("projects/p/serviceAccounts/{EMAIL}/keys/{key}");
                        (
                            200,
                            json!({"name": name, "privateKeyData": STANDARD.encode(file.to_string())}),
                        )
                    }
                    "openai" => (200, json!({"id": key, "value": secret, "name": name})),
                    "resend" => (201, json!({"id": key, "token": secret})),
                    "sendgrid" => (
                        201,
                        json!({"api_key_id": key, "api_key": secret, "name": name, "scopes": PERMITTED}),
                    ),
                    "supabase_project_key" => (
                        201,
                        json!({"id": key, "api_key": secret, "name": name, "type": "secret"}),
                    ),
                    _ => (
                        201,
                        json!({"sid": key, "secret": secret, "friendly_name": name}),
                    ),
                }
            }
            _ if !known => (404, json!({"message": "no such key"})),
            "disable" | "enable" => {
                self.keys.get_mut(key).unwrap().active = what == "enable";
                (200, json!({}))
            }
            _ => {
                self.keys.remove(key);
                let empty = matches!(id, "azure_service_principal" | "sendgrid" | "twilio");
                if empty {
                    (204, Value::Null)
                } else {
                    (200, json!({}))
                }
            }
        }
    }

    fn name_of(&self, id: &str, heard: &Heard) -> Option<String> {
        let body = heard.json();
        let name = match id {
            "gcp_service_account" => return None,
            "azure_service_principal" => body["passwordCredential"]["displayName"].clone(),
            "twilio" => heard.form()["FriendlyName"].clone().into(),
            _ => body["name"].clone(),
        };
        name.as_str().map(str::to_owned)
    }

    fn list(&self, id: &str) -> Value {
        let items: Vec<Value> = self
            .keys
            .iter()
            .map(|(key, made)| {
                let (name, secret) = (&made.name, &made.secret);
                match id {
                    "azure_service_principal" => json!({"keyId": key, "displayName": name, "hint": secret[..3]}),
                    "gcp_service_account" => json!({"name": format!("projects/p/serviceAccounts/{EMAIL}/keys/{key}"), "validAfterTime": made.created}),
                    "openai" => json!({"id": key, "name": name, "redacted_value": format!("{}**********{}", &secret[..8], &secret[secret.len() - 4..])}),
                    "resend" => json!({"id": key, "name": name, "created_at": made.created}),
                    "sendgrid" => json!({"api_key_id": key, "name": name}),
                    "supabase_project_key" => json!({"id": key, "name": name, "api_key": secret, "type": "secret"}),
                    _ => json!({"sid": key, "friendly_name": name}),
                }
            })
            .collect();
        match id {
            "azure_service_principal" => json!({"passwordCredentials": items}),
            "openai" => json!({"data": items, "has_more": false}),
            "resend" => json!({"data": items, "has_more": false}),
            "sendgrid" => json!({"result": items}),
            "supabase_project_key" => json!(items),
            _ => json!({"keys": items}),
        }
    }
}
