//! A provider that grants tokens: a strict token endpoint, an API that takes what is current, and
//! every fault that a test wants.
//!
//! What always holds: `/token` takes a form with the right client and exactly one code or refresh token,
//! and treats that by the class of its grant: a single-use token that comes again ends its whole family.
//! What it was asked, and how much of it at once, is counted. Nothing waits for time where a test can
//! wait for an event: [`TokenServer::hold`] keeps answers back until they are let go.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// The client that the endpoint knows.
pub const CLIENT_ID: &str = "client-of-tests";
/// Its proof.
pub const CLIENT_SECRET: &str = "canary-client-secret-0123456789";

/// What becomes of a refresh token that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It stays.
    Reusable,
    /// A new one comes, and the old one lives until that is used.
    Rotating,
    /// A new one comes; the old one, used again, ends all of them.
    SingleUse,
}

/// What the endpoint does instead of answering as it should.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status and body, and a header `Retry-After`; the token is not used up.
    Refuse(u16, &'static str, Option<u32>),
    /// Uses the token up, and closes the connection without an answer.
    Swallow,
    /// A page in HTML, with 200.
    Html,
    /// A redirect to the API.
    Redirect,
    /// Ten megabytes, with 200.
    Huge,
    /// No answer, ever.
    Hang,
}

struct Grant {
    class: Class,
    /// Number of the current refresh token.
    current: usize,
    before: Option<usize>,
    access: String,
    dead: bool,
}

struct Shared {
    grants: Mutex<HashMap<usize, Grant>>,
    next: AtomicUsize,
    faults: Mutex<VecDeque<Fault>>,
    /// Seconds that an access token lasts; `None`: the answer does not say.
    lifetime: Mutex<Option<u64>>,
    /// What else answers say, or say instead.
    says: Mutex<Map<String, Value>>,
    latency: Mutex<Duration>,
    gate: Semaphore,
    held: AtomicBool,
    calls: AtomicUsize,
    carried_out: AtomicUsize,
    in_flight: AtomicUsize,
    most: AtomicUsize,
    api: Mutex<Vec<u16>>,
    closed: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running server; ends when dropped.
pub struct TokenServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl TokenServer {
    /// Starts it on a free loopback port.
    pub async fn start() -> TokenServer {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a loopback port is free");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            grants: Mutex::default(),
            next: AtomicUsize::new(1),
            faults: Mutex::default(),
            lifetime: Mutex::new(Some(3600)),
            says: Mutex::default(),
            latency: Mutex::default(),
            gate: Semaphore::new(0),
            held: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            carried_out: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            api: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let router = Router::new()
            .route("/token", post(token))
            .fallback(any(api))
            .with_state(shared.clone());
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        TokenServer {
            address,
            shared,
            task,
        }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A new grant: its access token and its refresh token.
    pub fn grant(&self, class: Class) -> (String, String) {
        let id = self.shared.number();
        let access = access(id, 0);
        let grant = Grant {
            class,
            current: 0,
            before: None,
            access: access.clone(),
            dead: false,
        };
        lock(&self.shared.grants).insert(id, grant);
        (access, refresh(id, 0))
    }

    /// A code that is good for a new grant, once.
    pub fn code(&self, class: Class) -> String {
        let (_, refresh) = self.grant(class);
        refresh.replace("rt-canary-", "code-canary-")
    }

    /// The owner takes all grants back.
    pub fn revoke_all(&self) {
        for grant in lock(&self.shared.grants).values_mut() {
            grant.dead = true;
        }
    }

    /// The API refuses the access tokens that there are; they can be renewed.
    pub fn end_access(&self) {
        for grant in lock(&self.shared.grants).values_mut() {
            grant.access = "ended".to_owned();
        }
    }

    /// The API refuses whatever token comes, or no longer does.
    pub fn close_api(&self, closed: bool) {
        self.shared.closed.store(closed, Ordering::SeqCst);
    }

    /// What the next calls get instead of an answer.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.shared.faults).extend(faults);
    }

    /// How long access tokens last; `None`: answers do not say.
    pub fn lasting(&self, seconds: Option<u64>) {
        *lock(&self.shared.lifetime) = seconds;
    }

    /// What answers with tokens say besides, or instead.
    pub fn says(&self, name: &str, value: Value) {
        lock(&self.shared.says).insert(name.to_owned(), value);
    }

    /// How long each answer takes.
    pub fn taking(&self, latency: Duration) {
        *lock(&self.shared.latency) = latency;
    }

    /// Keeps answers back, once their calls are carried out or refused, until [`TokenServer::release`].
    pub fn hold(&self) {
        self.shared.held.store(true, Ordering::SeqCst);
    }

    /// Lets all answers go.
    pub fn release(&self) {
        self.shared.held.store(false, Ordering::SeqCst);
        self.shared.gate.add_permits(10_000);
    }

    /// Calls of the token endpoint so far.
    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// How many of them gave tokens.
    pub fn carried_out(&self) -> usize {
        self.shared.carried_out.load(Ordering::SeqCst)
    }

    /// The most that were in flight at once.
    pub fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    /// Begins to look anew for the most at once.
    pub fn forget_most(&self) {
        let now = self.shared.in_flight.load(Ordering::SeqCst);
        self.shared.most.store(now, Ordering::SeqCst);
    }

    /// The statuses that the API answered with.
    pub fn api_statuses(&self) -> Vec<u16> {
        lock(&self.shared.api).clone()
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn number(&self) -> usize {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// Exchanges a code: its grant's tokens. Once its refresh token was used, it was used too.
    fn exchange(&self, code: &str) -> Option<(String, Option<String>)> {
        let id: usize = code
            .strip_prefix("code-canary-")?
            .strip_suffix("-0")?
            .parse()
            .ok()?;
        let grants = lock(&self.grants);
        let grant = grants.get(&id).filter(|grant| grant.current == 0)?;
        Some((grant.access.clone(), Some(refresh(id, 0))))
    }

    /// Uses a refresh token: the new access token, and the new refresh token where there is one.
    fn renew(&self, token: &str) -> Option<(String, Option<String>)> {
        let (id, number) = token.strip_prefix("rt-canary-")?.split_once('-')?;
        let (id, number): (usize, usize) = (id.parse().ok()?, number.parse().ok()?);
        let next = self.number();
        let mut grants = lock(&self.grants);
        let grant = grants.get_mut(&id)?;
        let alive = match grant.class {
            Class::Reusable => true,
            Class::Rotating => number == grant.current || Some(number) == grant.before,
            Class::SingleUse => number == grant.current,
        };
        if grant.dead || !alive {
            grant.dead |= grant.class == Class::SingleUse;
            return None;
        }
        grant.access = access(id, next);
        if grant.class == Class::Reusable {
            return Some((grant.access.clone(), None));
        }
        grant.before = Some(number);
        grant.current = next;
        Some((grant.access.clone(), Some(refresh(id, next))))
    }
}

fn access(id: usize, number: usize) -> String {
    format!("at-canary-{id}-{number}")
}

fn refresh(id: usize, number: usize) -> String {
    format!("rt-canary-{id}-{number}")
}

/// Counts a call for as long as it lasts.
struct Flight(Arc<Shared>);

impl Flight {
    fn begin(shared: &Arc<Shared>) -> Flight {
        shared.calls.fetch_add(1, Ordering::SeqCst);
        let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most.fetch_max(now, Ordering::SeqCst);
        Flight(shared.clone())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

fn refusal(status: u16, error: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    (status, axum::Json(json!({ "error": error }))).into_response()
}

async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let _flight = Flight::begin(&shared);
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
    let one = |name: &str| {
        let mut values = form.iter().filter(|(own, _)| own == name);
        values.next().filter(|_| values.next().is_none())
    };
    let value = |name: &str| one(name).map(|(_, value)| value.as_str());
    let of_form = headers.get(header::CONTENT_TYPE).map(|it| it.as_bytes());
    let grants = |kind: &str| value("grant_type") == Some(kind);
    let strict = of_form == Some(b"application/x-www-form-urlencoded");
    if !strict || !(grants("refresh_token") || grants("authorization_code")) {
        return refusal(400, "invalid_request");
    }
    if (value("client_id"), value("client_secret")) != (Some(CLIENT_ID), Some(CLIENT_SECRET)) {
        return refusal(401, "invalid_client");
    }
    let token = match value("grant_type") {
        Some("refresh_token") => value("refresh_token"),
        _ => value("code"),
    };
    let Some(token) = token else {
        return refusal(400, "invalid_request");
    };
    let latency = *lock(&shared.latency);
    tokio::time::sleep(latency).await;
    let fault = lock(&shared.faults).pop_front();
    match fault {
        Some(Fault::Refuse(status, error, after)) => {
            let mut answer = refusal(status, error);
            if let Some(after) = after {
                answer.headers_mut().insert("retry-after", after.into());
            }
            return answer;
        }
        Some(Fault::Html) => return "<html>Please sign in</html>".into_response(),
        Some(Fault::Redirect) => {
            let to = [(header::LOCATION, "/v1/me")];
            return (StatusCode::TEMPORARY_REDIRECT, to).into_response();
        }
        Some(Fault::Huge) => return vec![b'['; 10 << 20].into_response(),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Swallow) => {
            let _ = shared.renew(token);
            // An answer that breaks off: the connection is closed in its middle.
            let broken =
                futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("cut"))]);
            return Body::from_stream(broken).into_response();
        }
        None => {}
    }
    let granted = shared.exchange(token).or_else(|| shared.renew(token));
    if granted.is_some() {
        shared.carried_out.fetch_add(1, Ordering::SeqCst);
    }
    if shared.held.load(Ordering::SeqCst)
        && let Ok(permit) = shared.gate.acquire().await
    {
        permit.forget();
    }
    let Some((access, refresh)) = granted else {
        return refusal(400, "invalid_grant");
    };
    let mut answer = json!({ "access_token": access, "token_type": "Bearer" });
    if let Some(refresh) = refresh {
        answer["refresh_token"] = refresh.into();
    }
    if let Some(lifetime) = *lock(&shared.lifetime) {
        answer["expires_in"] = lifetime.into();
    }
    for (name, value) in lock(&shared.says).iter() {
        answer[name] = value.clone();
    }
    axum::Json(answer).into_response()
}

/// Takes the current access token of any grant.
async fn api(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let current = given.is_some_and(|given| {
        let grants = lock(&shared.grants);
        let id = given.split('-').nth(2).and_then(|id| id.parse().ok());
        let grant = id.and_then(|id: usize| grants.get(&id));
        grant.is_some_and(|grant| !grant.dead && grant.access == given)
    });
    let current = current && !shared.closed.load(Ordering::SeqCst);
    let status = if current { 200 } else { 401 };
    lock(&shared.api).push(status);
    let told = json!({ "ok": current, "bytes": body.len() });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    (status, axum::Json(told)).into_response()
}
