//! Tokens that are made from a credential: once for all who need one, for as long as they last.
#![allow(clippy::unwrap_used)]

mod house;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use house::{House, NOON, Plan, call_at};
use keystead_broker::{Changes, Clock, ClockHand, Context, Error, Selector, Status};
use keystead_core::action::Role;
use keystead_core::ids::IntegrationId;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A provider that hands out tokens at its token endpoint and takes them everywhere else.
struct Endpoint {
    url: String,
    state: Arc<State>,
}

struct State {
    asked: AtomicUsize,
    /// Answers of the token endpoint wait for a permit.
    gate: Semaphore,
    /// Status and body that the token endpoint answers with, instead of a token.
    refusal: Mutex<Option<(u16, Value)>>,
    /// Credentials in the other calls, and bodies of the token calls.
    heard: Mutex<Vec<String>>,
}

impl Endpoint {
    async fn start() -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            asked: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            refusal: Mutex::default(),
            heard: Mutex::default(),
        });
        let serving = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        Endpoint { url, state }
    }

    fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    fn refuses(&self, refusal: Option<(u16, Value)>) {
        *self.state.refusal.lock().unwrap() = refusal;
    }

    /// Lets nobody through until `open`.
    fn close(&self) {
        self.state.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn open(&self) {
        self.state.gate.add_permits(1000);
    }

    fn last_heard(&self) -> String {
        self.state.heard.lock().unwrap().last().unwrap().clone()
    }
}

/// One request, one answer.
async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let mut request = Vec::new();
    let (head, body) = loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
            _ => return,
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        if body.len() >= length {
            break (head.to_owned(), body.to_owned());
        }
    };
    let (status, answer) = if head.starts_with("POST") && head.contains("/token HTTP") {
        let number = state.asked.fetch_add(1, Ordering::SeqCst) + 1;
        state.heard.lock().unwrap().push(body);
        state.gate.acquire().await.unwrap().forget();
        let refusal = state.refusal.lock().unwrap().clone();
        let token = json!({"access_token": format!("canary-token-{number}"), "expires_in": 3600, "token_type": "Bearer"});
        refusal.unwrap_or((200, token))
    } else {
        let credential = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with("authorization: "))
            .unwrap_or_default();
        state
            .heard
            .lock()
            .unwrap()
            .push(credential["authorization: ".len()..].to_owned());
        (200, json!({"ok": true}))
    };
    let answer = answer.to_string();
    let length = answer.len();
    let text = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

async fn house(endpoint: &Endpoint) -> (House, ClockHand) {
    let (clock, hand) = Clock::fixed(NOON);
    let plan = Plan {
        clock,
        dial: vec![
            ("gcp_service_account", endpoint.url.clone()),
            ("azure_service_principal", endpoint.url.clone()),
        ],
        ..Plan::default()
    };
    (House::planned(plan).await, hand)
}

fn azure(secret: &str) -> Value {
    json!({
        "tenant_id": "00000000-0000-4000-8000-000000000001",
        "client_id": "00000000-0000-4000-8000-000000000002",
        "client_secret": secret,
    })
}

fn gcp() -> Value {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key).unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    json!({
        "type": "service_account", "project_id": "canary-project", "private_key_id": "canary-key-id",
        "private_key": pem, "client_email": "canary@canary-project.iam.gserviceaccount.com",
        "client_id": "1", "token_uri": "https://evil.example/token",
    })
}

async fn add(house: &House, owner: &Context, type_: &str, credentials: Value) -> IntegrationId {
    let made = house
        .create(owner, type_, type_, credentials, None)
        .await
        .unwrap();
    house.settled(owner, made.integration.id).await;
    made.integration.id
}

async fn call(house: &House, ctx: &Context, id: IntegrationId) -> Result<u16, Error> {
    let answer = call_at(&house.broker, ctx, Selector::Id(id), "/v1.0/users").await?;
    Ok(answer.status().as_u16())
}

#[tokio::test]
async fn a_token_is_made_once_and_again_when_it_ends() {
    let endpoint = Endpoint::start().await;
    let (house, hand) = house(&endpoint).await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    for (type_, credentials) in [
        ("azure_service_principal", azure("canary-secret-0123456789")),
        ("gcp_service_account", gcp()),
    ] {
        hand.set(NOON);
        house.broker.hear_changes().await.unwrap();
        let id = add(&house, &alice, type_, credentials).await;
        let seen = house.broker.integration(&alice, id).await.unwrap();
        assert_eq!(seen.status, Status::Connected, "{:?}", seen.error_message);
        let asked = endpoint.asked();
        for _ in 0..3 {
            assert_eq!(call(&house, &alice, id).await.unwrap(), 200);
        }
        assert_eq!(endpoint.asked(), asked + 1, "{type_}");
        assert_eq!(
            endpoint.last_heard(),
            format!("Bearer canary-token-{}", asked + 1)
        );
        // It is not used up to its last minute.
        hand.set(NOON.plus_seconds(3600 - 61));
        assert_eq!(call(&house, &alice, id).await.unwrap(), 200);
        assert_eq!(endpoint.asked(), asked + 1, "{type_}");
        hand.set(NOON.plus_seconds(3600 - 59));
        assert_eq!(call(&house, &alice, id).await.unwrap(), 200);
        assert_eq!(endpoint.asked(), asked + 2, "{type_}");
        assert_eq!(
            endpoint.last_heard(),
            format!("Bearer canary-token-{}", asked + 2)
        );
    }
    house.log_is_clean().await;
}

/// So many calls at once, while the token endpoint keeps all waiting.
async fn at_once(
    house: &House,
    endpoint: &Endpoint,
    alice: &Context,
    id: IntegrationId,
) -> Vec<Result<u16, Error>> {
    let permitted = [r#""action":"use""#, r#""outcome":"allowed""#];
    let before = house.entries(&permitted).await;
    endpoint.close();
    let asked = endpoint.asked();
    let calls = (0..10).map(|_| call(house, alice, id));
    let calls = futures_util::future::join_all(calls);
    let opened = async {
        // What comes next for a call that is on record is the token.
        while house.entries(&permitted).await < before + 10 || endpoint.asked() == asked {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        endpoint.open();
    };
    tokio::join!(calls, opened).0
}

#[tokio::test]
async fn requests_that_need_a_token_at_once_make_one() {
    let endpoint = Endpoint::start().await;
    let (house, _) = house(&endpoint).await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = add(
        &house,
        &alice,
        "azure_service_principal",
        azure("canary-secret-0123456789"),
    )
    .await;
    let asked = endpoint.asked();
    for answer in at_once(&house, &endpoint, &alice, id).await {
        assert_eq!(answer.unwrap(), 200);
    }
    assert_eq!(endpoint.asked(), asked + 1);
}

#[tokio::test]
async fn a_refused_token_is_asked_for_once_by_all_who_wait_and_again_by_the_next() {
    let endpoint = Endpoint::start().await;
    let (house, _) = house(&endpoint).await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = add(
        &house,
        &alice,
        "azure_service_principal",
        azure("canary-secret-0123456789"),
    )
    .await;
    let refusal = json!({"error": "invalid_client", "error_description": "canary", "error_codes": [7_000_215]});
    for (status, body) in [
        (401, refusal),
        (200, json!("canary, and no token")),
        (503, json!({})),
    ] {
        endpoint.refuses(Some((status, body)));
        let asked = endpoint.asked();
        let answers = at_once(&house, &endpoint, &alice, id).await;
        let refused = answers
            .iter()
            .filter(|answer| matches!(answer, Err(Error::Credential { .. })));
        assert_eq!(refused.count(), 10, "{status}");
        assert_eq!(endpoint.asked(), asked + 1, "{status}");
    }
    endpoint.refuses(None);
    assert_eq!(
        call(&house, &alice, id).await.unwrap(),
        200,
        "a refusal is not kept"
    );
    house.log_is_clean().await;
}

#[tokio::test]
async fn a_new_credential_makes_a_new_token_and_sends_itself_nowhere_else() {
    let endpoint = Endpoint::start().await;
    let (house, _) = house(&endpoint).await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = add(
        &house,
        &alice,
        "azure_service_principal",
        azure("canary-secret-0123456789"),
    )
    .await;
    call(&house, &alice, id).await.unwrap();
    let asked = endpoint.asked();
    let change = Changes {
        credentials: Some(azure("canary-other-9876543210")),
        ..Changes::default()
    };
    house
        .broker
        .update_integration(&alice, id, change, None)
        .await
        .unwrap();
    house.settled(&alice, id).await;
    assert_eq!(call(&house, &alice, id).await.unwrap(), 200);
    assert!(endpoint.asked() > asked);
    let heard = endpoint.state.heard.lock().unwrap().clone();
    let with = |secret: &str| {
        heard
            .iter()
            .rposition(|text| text.contains(secret))
            .unwrap()
    };
    assert!(with("canary-other-9876543210") > with("canary-secret-0123456789"));
    assert_eq!(
        heard.last().unwrap(),
        &format!("Bearer canary-token-{}", endpoint.asked())
    );
}

/// The settings may say whose token it is.
#[tokio::test]
async fn a_token_is_not_used_under_other_settings_than_it_was_made_for() {
    let endpoint = Endpoint::start().await;
    let (house, _) = house(&endpoint).await;
    let alice = house.user("alice", "acme", Role::Owner).await;
    let id = add(&house, &alice, "gcp_service_account", gcp()).await;
    assert_eq!(call(&house, &alice, id).await.unwrap(), 200);
    let asked = endpoint.asked();
    let change = Changes {
        config: json!({"subject": "user@canary.example"})
            .as_object()
            .cloned(),
        ..Changes::default()
    };
    house
        .broker
        .update_integration(&alice, id, change, None)
        .await
        .unwrap();
    house.settled(&alice, id).await;
    assert_eq!(call(&house, &alice, id).await.unwrap(), 200);
    assert!(endpoint.asked() > asked);
    assert_eq!(
        endpoint.last_heard(),
        format!("Bearer canary-token-{}", endpoint.asked())
    );
}
