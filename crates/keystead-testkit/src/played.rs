//! Providers, played by their definition: a strict small server for any provider file.
//!
//! What always holds: a call is answered only if it carries exactly one true credential, exactly
//! where the definition puts it; everything else is 401, with the reason in the answer and in
//! [`Played::served`]. What is right is read off the definition's data alone: nothing here calls
//! the code under test to build, place, sign or read anything.
//!
//! Not here: any provider by name. What a definition does not say, the server does not do.

mod fill;
mod grants;
mod invent;
mod judge;
mod mint;
mod oauth;
mod revoke;
mod rules;
mod sealed;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use keystead_core::provider::{Placement, Provider, TestCall};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use grants::Grants;

pub use grants::Grant;
pub use invent::own_providers;
pub use oauth::{Client, REDIRECT_URI, Shape, dead, refusal, refused_as};
pub use rules::{Reply, Terms, decides, healthy, meaning, near_misses, replies_for, replies_that};

/// A provider, the settings of an integration, and the true credential of each mode.
#[derive(Clone)]
pub struct Part {
    /// The definition.
    pub provider: Arc<Provider>,
    /// Settings that are given.
    pub config: BTreeMap<String, String>,
    /// Fields by mode.
    pub credentials: BTreeMap<String, BTreeMap<String, String>>,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// Anything within the path prefixes.
    Api,
    /// The test call.
    Test,
    /// Where a credential buys a token.
    Mint,
    /// Where a person consents.
    Authorize,
    /// Where a code becomes tokens, once a person or a device has consented.
    Token,
    /// At the same place, where a refresh token becomes newer tokens.
    Renew,
    /// Where a device begins.
    Device,
    /// Where a credential is taken back.
    Revoke,
}

/// How a door answers from now on.
#[derive(Clone, Debug, Default)]
pub enum Answer {
    /// As the definition says that all is well.
    #[default]
    WellPlayed,
    /// So; the call has no effect then.
    With(Reply),
    /// Not at all, until it is told otherwise; the call has its effect at once.
    Hang,
    /// Not at all, and the call has no effect; when it is told otherwise, by closing the connection.
    Stall,
    /// By closing the connection; the call has no effect.
    Reset,
    /// By closing the connection when all is done: the answer is lost.
    Lost,
}

/// A call as it arrived.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its method.
    pub method: Method,
    /// Path and query, as sent.
    pub target: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Heard {
    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// A call, and what became of it.
#[derive(Clone, Debug)]
pub struct Served {
    /// What it was for.
    pub door: Door,
    /// What was wrong with it.
    pub fault: Option<String>,
    /// The mode whose credential it carried.
    pub mode: Option<String>,
    /// The scope of its token, or region and service of its signature.
    pub scope: Option<String>,
    /// The call.
    pub heard: Heard,
}

/// What a call comes to: the answer as the definition has it.
struct Outcome {
    served: Served,
    reply: Reply,
}

struct Token {
    mode: String,
    scope: String,
}

#[derive(Default)]
struct State {
    served: Vec<Served>,
    tokens: BTreeMap<String, Token>,
    given_out: usize,
    grants: Grants,
    shape: Shape,
    last_code: String,
    /// Modes whose credential was taken back.
    taken_back: BTreeSet<String>,
}

struct Stage {
    part: Part,
    client: Client,
    state: Mutex<State>,
    answers: watch::Sender<BTreeMap<Door, Answer>>,
}

impl Stage {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running provider; ends when dropped.
pub struct Played {
    url: String,
    stage: Arc<Stage>,
    task: JoinHandle<()>,
}

impl Played {
    /// Starts it on a free loopback port.
    pub async fn start(part: Part) -> Played {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let stage = Arc::new(Stage {
            client: part.client(),
            part,
            state: Mutex::default(),
            answers: watch::Sender::default(),
        });
        let serving = stage.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let stage = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| serve(stage.clone(), request));
                    // A client that goes away in the middle is part of many tests.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Played { url, stage, task }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it plays.
    pub fn part(&self) -> &Part {
        &self.stage.part
    }

    /// Switches how a door answers calls that are right. What is wrong is refused as ever.
    pub fn answers(&self, door: Door, answer: Answer) {
        self.stage.answers.send_modify(|all| {
            all.insert(door, answer);
        });
    }

    /// The path and query that a call was made with, without what was placed there.
    pub fn target_of(&self, heard: &Heard) -> String {
        self.stage.part.without_placed(&heard.target)
    }

    /// Every call so far.
    pub fn served(&self) -> Vec<Served> {
        self.stage.state().served.clone()
    }

    /// The last call that was for that door.
    pub fn last(&self, door: Door) -> Option<Served> {
        let state = self.stage.state();
        state
            .served
            .iter()
            .rfind(|served| served.door == door)
            .cloned()
    }

    /// How many calls were for that door.
    pub fn count(&self, door: Door) -> usize {
        let state = self.stage.state();
        state
            .served
            .iter()
            .filter(|served| served.door == door)
            .count()
    }

    /// The app that it knows.
    pub fn client(&self) -> Client {
        self.stage.client.clone()
    }

    /// Every consent so far.
    pub fn grants(&self) -> Vec<Grant> {
        self.stage.state().grants.all.clone()
    }

    /// The last code that a browser was sent back with.
    pub fn last_code(&self) -> String {
        self.stage.state().last_code.clone()
    }

    /// A reply with tokens that are not live.
    pub fn good_reply(&self) -> Option<Reply> {
        let (_, oauth) = self.stage.part.oauth()?;
        let shape = Shape::default();
        let refresh = Some("canary-refresh-0");
        Some(self.stage.granted(oauth, shape, "canary-access-0", refresh))
    }

    /// How replies with tokens are shaped from now on.
    pub fn shapes(&self, shape: Shape) {
        self.stage.state().shape = shape;
    }

    /// Ends every access token; what they can be renewed with lives on.
    pub fn ends_access(&self) {
        for grant in &mut self.stage.state().grants.all {
            grant.ended.append(&mut grant.access);
        }
    }

    /// The person says yes to every device.
    pub fn approves_devices(&self) {
        for device in self.stage.state().grants.devices.values_mut() {
            device.approved = true;
        }
    }

    /// Headers in which a caller could send a credential of its own, with one in each.
    pub fn luggage(&self) -> Vec<(String, String)> {
        let part = &self.stage.part;
        let carriers = part.carriers();
        let forced = part.provider.headers.iter();
        let forced = forced.filter(|rule| rule.force && part.filled(&rule.value).is_some());
        let forced = forced.map(|rule| rule.name.as_str().to_owned());
        carriers
            .into_iter()
            .chain(forced)
            .map(|name| (name, "canary-of-the-caller".to_owned()))
            .collect()
    }

    /// Query parameters likewise.
    pub fn query_luggage(&self) -> Vec<String> {
        self.stage.part.carrying_parameters()
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stage: Arc<Stage>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let target = head.uri.path_and_query();
    let heard = Heard {
        method: head.method,
        target: target.map_or("/", |target| target.as_str()).to_owned(),
        headers: head.headers,
        body,
    };
    let Outcome { served, reply } = stage.play(heard);
    let (door, wrong) = (served.door, served.fault.is_some());
    stage.state().served.push(served);
    if wrong {
        return Ok(response(reply));
    }
    let mut answers = stage.answers.subscribe();
    let stalls = |all: &BTreeMap<Door, Answer>| matches!(all.get(&door), Some(Answer::Stall));
    if stalls(&answers.borrow()) {
        let _ = answers.wait_for(|all| !stalls(all)).await;
        return Err(io::Error::other("as it was told"));
    }
    let hangs = |all: &BTreeMap<Door, Answer>| matches!(all.get(&door), Some(Answer::Hang));
    let answers = answers.wait_for(|all| !hangs(all)).await;
    let answer = answers.map_err(io::Error::other)?.get(&door).cloned();
    match answer {
        Some(Answer::With(reply)) => Ok(response(reply)),
        Some(Answer::Reset | Answer::Lost | Answer::Stall) => {
            Err(io::Error::other("as it was told"))
        }
        Some(Answer::WellPlayed | Answer::Hang) | None => Ok(response(reply)),
    }
}

fn response(reply: Reply) -> Response<Body> {
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(reply.body)).expect("a reply")
}

impl Stage {
    /// Whether calls at that door have no effect.
    fn is_told(&self, door: Door) -> bool {
        let answers = self.answers.borrow();
        matches!(
            answers.get(&door),
            Some(Answer::With(_) | Answer::Stall | Answer::Reset)
        )
    }

    /// What the definition says about a call.
    fn play(&self, heard: Heard) -> Outcome {
        if let Some(outcome) = self.consented(&heard).or_else(|| self.mint(&heard)) {
            return outcome;
        }
        // A revocation may be at an address that is the API's as well.
        let unlike = match self.revoke(&heard) {
            Ok(outcome) => return outcome,
            Err(reason) => reason,
        };
        let token = |mode: &str, text: &str| self.token_scope(mode, text);
        let accepted = match self.part.judge(&heard, &token) {
            Ok(accepted) => accepted,
            Err(reason) => {
                let (door, reason) = match unlike {
                    None => (Door::Api, reason),
                    Some(unlike) => (Door::Revoke, unlike),
                };
                return refused(door, 401, reason, heard);
            }
        };
        let mode = self
            .part
            .provider
            .modes
            .iter()
            .find(|m| m.id == accepted.mode);
        let test = mode.and_then(|mode| {
            Some((
                mode,
                mode.test.as_ref().or(self.part.provider.test.as_ref())?,
            ))
        });
        let mut outcome = match test {
            Some((mode, test)) if self.part.is_test_target(mode, test, &heard.target) => {
                match test_fault(test, &heard) {
                    Some(reason) => refused(Door::Test, 405, reason, heard),
                    None => Outcome {
                        reply: healthy(&test.rules).unwrap_or_else(|| Reply::json(200, &json!({}))),
                        served: Served::right(Door::Test, heard),
                    },
                }
            }
            _ => Outcome {
                reply: Reply::json(200, &json!({"played": self.part.provider.id})),
                served: Served::right(Door::Api, heard),
            },
        };
        outcome.served.mode = Some(accepted.mode);
        outcome.served.scope = accepted.scope;
        outcome
    }
}

impl Stage {
    /// What a token of that mode is good for; `None` where it is not live.
    fn token_scope(&self, mode: &str, text: &str) -> Option<String> {
        let state = self.state();
        let minted = state.tokens.get(text).filter(|token| token.mode == mode);
        if let Some(token) = minted {
            return Some(token.scope.clone());
        }
        let (own, _) = self.part.oauth()?;
        state.grants.by_access(text).filter(|_| own.id == mode)?;
        Some(String::new())
    }
}

impl Served {
    fn right(door: Door, heard: Heard) -> Served {
        Served {
            door,
            fault: None,
            mode: None,
            scope: None,
            heard,
        }
    }
}

fn refused(door: Door, status: u16, reason: String, heard: Heard) -> Outcome {
    Outcome {
        reply: Reply::json(status, &json!({"refused": reason})),
        served: Served {
            fault: Some(reason),
            ..Served::right(door, heard)
        },
    }
}

/// What is wrong with a test call at the right place.
fn test_fault(test: &TestCall, heard: &Heard) -> Option<String> {
    if heard.method != test.method {
        return Some(format!("the test call is {}", test.method));
    }
    if heard.body != test.body.as_bytes() {
        return Some("the test call has another body".to_owned());
    }
    test.headers
        .iter()
        .find_map(|(name, value)| match judge::one(&heard.headers, name) {
            Ok(given) if given == value => None,
            Ok(_) => Some(format!("`{name}` must be `{value}` in the test call")),
            Err(reason) => Some(reason),
        })
}

impl Part {
    /// Path and query without what a placement puts into the query.
    fn without_placed(&self, target: &str) -> String {
        let Some((path, query)) = target.split_once('?') else {
            return target.to_owned();
        };
        let own = |pair: &&str| {
            let name = pair.split('=').next().unwrap_or_default();
            self.provider.modes.iter().any(|mode| {
                matches!(&mode.placement, Placement::Query { name: placed, .. } if placed == name)
            })
        };
        let kept: Vec<&str> = query.split('&').filter(|pair| !own(pair)).collect();
        if kept.is_empty() {
            return path.to_owned();
        }
        format!("{path}?{}", kept.join("&"))
    }

    /// Whether path and query are those of the test call.
    fn is_test_target(
        &self,
        mode: &keystead_core::provider::Mode,
        test: &TestCall,
        target: &str,
    ) -> bool {
        let millis = sealed::now_seconds() * 1000;
        let clock = |name: &str| match name {
            "now_ms" => Some(millis),
            "day_ago_ms" => Some(millis - 86_400_000),
            _ => None,
        };
        // Times are compared piece by piece: each may lie a little back.
        let Some(template) = &test.path else {
            return false;
        };
        let mark = |name: &str| match clock(name) {
            Some(millis) => Some((format!("\u{1}{millis}\u{1}"), true)),
            None => self.open_value(mode, name),
        };
        let Some(expected) = fill::fill(template, fill::Spot::Path, mark) else {
            return false;
        };
        let target = self.without_placed(target);
        let mut rest = target.as_str();
        for (number, piece) in expected.split('\u{1}').enumerate() {
            if number % 2 == 0 {
                let Some(after) = rest.strip_prefix(piece) else {
                    return false;
                };
                rest = after;
                continue;
            }
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            let given: i64 = rest[..end].parse().unwrap_or_default();
            let due: i64 = piece.parse().unwrap_or_default();
            if !(due - 60_000..=due + 1000).contains(&given) {
                return false;
            }
            rest = &rest[end..];
        }
        rest.is_empty()
    }
}
