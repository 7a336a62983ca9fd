//! Rotation of AWS access keys at a real server with IAM's own rules: signatures are checked, and a
//! user has two keys at most.
#![allow(clippy::unwrap_used)]

mod house;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use house::{House, Plan};
use http_body_util::{BodyExt, Full};
use keystead_broker::{
    Broker, Clock, ClockHand, Context, Limits, NewIntegration, RenewSettings, Rotation, Selector,
    Settings, Status,
};
use keystead_core::action::Role;
use keystead_core::ids::IntegrationId;
use keystead_core::provider::rotation::Step;
use keystead_core::provider::{Catalogue, ResultClass};
use keystead_store::{Store, StoreConfig};
use keystead_testkit::process::Process;
use keystead_testkit::python::python;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const DAY: i64 = 86_400;

/// moto, and the way to it: a machine in between that can swallow an answer.
struct Aws {
    _server: Process,
    made: Value,
    url: String,
    /// The action whose answer is swallowed, and how often that happened.
    swallowed: Arc<Mutex<(Option<&'static str>, usize)>>,
}

impl Aws {
    async fn start() -> Aws {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../keystead/tests/clients/aws_server.py");
        let mut command = Command::new(python());
        command.arg("-u").arg(script).stdin(Stdio::piped());
        let server = Process::start(&mut command);
        let line = server.line(|line| line.starts_with('{'), Duration::from_secs(60));
        let line = line.unwrap_or_else(|| panic!("no AWS: {}", server.stderr()));
        let made: Value = serde_json::from_str(&line).unwrap();
        let home = made["url"].as_str().unwrap()["http://".len()..].to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let swallowed = Arc::new(Mutex::new((None, 0)));
        let knob = swallowed.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relay(stream, home.clone(), knob.clone()));
            }
        });
        Aws {
            _server: server,
            made,
            url,
            swallowed,
        }
    }

    fn swallow(&self, action: Option<&'static str>) {
        self.swallowed.lock().unwrap().0 = action;
    }

    fn swallowed(&self) -> usize {
        self.swallowed.lock().unwrap().1
    }
}

/// Hands one request on, and its answer back, unless that is to be swallowed.
async fn relay(
    mut from: TcpStream,
    home: String,
    knob: Arc<Mutex<(Option<&'static str>, usize)>>,
) -> Option<()> {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 8192];
        let read = from.read(&mut piece).await.ok()?;
        request.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let length = text
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next()?.parse().ok())
            .unwrap_or(0);
        let whole = text.split_once("\r\n\r\n");
        if read == 0 || whole.is_some_and(|(_, body)| body.len() >= length) {
            break;
        }
    }
    let text = String::from_utf8(request).ok()?;
    let text = text.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let mut to = TcpStream::connect(home).await.ok()?;
    to.write_all(text.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    to.read_to_end(&mut answer).await.ok()?;
    let lost = {
        let mut knob = knob.lock().unwrap();
        let lost = knob
            .0
            .is_some_and(|action| text.contains(&format!("Action={action}&")));
        knob.1 += usize::from(lost);
        lost
    };
    if lost {
        std::future::pending::<()>().await;
    }
    from.write_all(&answer).await.ok()
}

struct Scene {
    house: House,
    hand: ClockHand,
    aws: Aws,
    id: IntegrationId,
}

fn quiet() -> Settings {
    Settings {
        limits: Limits {
            // They ask often, and the clock stands still.
            user: "1000000/minute".parse().unwrap(),
            ..Limits::default()
        },
        renew: RenewSettings {
            upkeep: false,
            ..RenewSettings::default()
        },
        ..Settings::default()
    }
}

impl Scene {
    async fn new() -> Scene {
        let aws = Aws::start().await;
        // Its keys carry the time of this machine.
        let (clock, hand) = Clock::fixed(Clock::default().now());
        let house = House::planned(Plan {
            settings: quiet(),
            clock,
            in_file: true,
            catalogue: Some(catalogue(&aws)),
            ..Plan::default()
        })
        .await;
        let credentials = json!({"access_key_id": aws.made["access_key_id"], "secret_access_key": aws.made["secret_access_key"]});
        let alice = house.user("alice", "acme", Role::Owner).await;
        let new = NewIntegration {
            name: "main".to_owned(),
            type_: "aws".to_owned(),
            credentials,
            config: json!({"hosts": "iam.amazonaws.com"})
                .as_object()
                .unwrap()
                .clone(),
        };
        let made = house.broker.create_integration(&alice, new, None).await;
        let id = made.unwrap().integration.id;
        let seen = house.settled(&alice, id).await;
        assert_eq!(seen.status, Status::Connected, "{:?}", seen.error_message);
        Scene {
            house,
            hand,
            aws,
            id,
        }
    }

    async fn node(&self) -> (Broker, Store) {
        let url = format!("sqlite:{}", self.house.database().display());
        let store = Store::open(StoreConfig::new(url)).await.unwrap();
        let mut parts = self.house.parts_again(store.clone(), self.house.kms());
        parts.catalogue = catalogue(&self.aws);
        parts.settings = quiet();
        (Broker::start(parts).await.unwrap(), store)
    }

    async fn alice(&self) -> Context {
        self.house.user("alice", "acme", Role::Owner).await
    }

    fn pass(&self, seconds: i64) {
        self.hand.set(self.house.clock.now().plus_seconds(seconds));
    }

    async fn rotate(&self) {
        let alice = self.alice().await;
        self.house
            .broker
            .rotate_integration(&alice, self.id)
            .await
            .unwrap();
    }

    async fn stands(&self) -> Rotation {
        self.house
            .broker
            .rotation(&self.alice().await, self.id)
            .await
            .unwrap()
    }

    async fn until(&self, step: Step) -> Rotation {
        let began = Instant::now();
        loop {
            let stands = self.stands().await;
            if stands.step == step {
                return stands;
            }
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{step:?}: {stands:?}"
            );
            self.house.broker.upkeep().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn works_as(&self, version: u64) {
        let alice = self.alice().await;
        let report = self
            .house
            .broker
            .test_integration(&alice, self.id)
            .await
            .unwrap();
        assert_eq!(report.result, ResultClass::Ok, "{report:?}");
        let seen = self
            .house
            .broker
            .integration(&alice, self.id)
            .await
            .unwrap();
        assert_eq!(
            (seen.credential_version, seen.status),
            (version, Status::Connected)
        );
    }

    /// A call to IAM with the integration's credential.
    async fn iam(&self, form: &str) -> String {
        let request = http::Request::post("/")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(format!("{form}&Version=2010-05-08"))))
            .unwrap();
        let (broker, alice) = (&self.house.broker, self.alice().await);
        let host = Some("iam.amazonaws.com");
        let to = Selector::Id(self.id);
        let answer = broker
            .forward(&alice, &to, host, "/", None, request)
            .await
            .unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8_lossy(&body).into_owned()
    }

    /// The user's keys and whether they are active, as IAM says it.
    async fn keys(&self) -> Vec<(String, bool)> {
        let list = self.iam("Action=ListAccessKeys").await;
        let within = |text: &str, tag: &str| {
            let rest = text.split(&format!("<{tag}>")).nth(1).unwrap_or_default();
            rest.split(&format!("</{tag}>"))
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let members = list.split("<member>").skip(1);
        members
            .map(|key| {
                (
                    within(key, "AccessKeyId"),
                    within(key, "Status") == "Active",
                )
            })
            .collect()
    }

    async fn is_clean(&self) {
        let log = self.house.log().await.join("\n");
        let secret = self.aws.made["secret_access_key"].as_str().unwrap();
        assert!(!log.contains(secret) && !log.contains("SecretAccessKey"));
        assert!(!format!("{:?}", self.stands().await).contains(secret));
    }
}

fn catalogue(aws: &Aws) -> Catalogue {
    let catalogue = Catalogue::embedded().unwrap();
    catalogue
        .with_settings("aws_access_key", Some(&aws.url), &[])
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_key_is_replaced_put_out_of_use_and_deleted() {
    let scene = Scene::new().await;
    let first = scene.keys().await;
    scene.rotate().await;
    scene.until(Step::Test).await;
    assert_eq!(scene.keys().await.len(), 2);
    scene.pass(11);
    scene.until(Step::Grace).await;
    scene.works_as(2).await;
    assert!(scene.keys().await.iter().all(|(_, active)| *active));
    scene.pass(16 * 60);
    scene.until(Step::Delete).await;
    let old = scene.keys().await;
    assert_eq!(
        old.iter().find(|(id, _)| *id == first[0].0),
        Some(&(first[0].0.clone(), false))
    );
    scene.works_as(2).await;
    scene.pass(DAY + 1);
    let end = scene.until(Step::Idle).await;
    assert_eq!(end.detail, None);
    let left = scene.keys().await;
    assert!(
        left.len() == 1 && left[0].1 && left[0].0 != first[0].0,
        "{left:?}"
    );
    scene.works_as(2).await;
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_are_two_keys_the_other_one_is_named_and_nothing_is_done() {
    let scene = Scene::new().await;
    let own = scene.keys().await[0].0.clone();
    scene.iam("Action=CreateAccessKey").await;
    let keys = scene.keys().await;
    assert_eq!(keys.len(), 2);
    let other = keys.iter().find(|(id, _)| *id != own).unwrap();
    scene.rotate().await;
    let detail = scene.until(Step::Idle).await.detail.unwrap();
    let (mine, way) = (
        format!("{own}, in use here"),
        format!("If nothing uses {}, delete it", other.0),
    );
    assert!(
        detail.contains(&mine) && detail.contains(&way) && detail.contains("nothing was changed"),
        "{detail}"
    );
    assert_eq!(scene.keys().await, keys);
    scene.works_as(1).await;
    // When it is gone, the next one goes through.
    scene
        .iam(&format!("Action=DeleteAccessKey&AccessKeyId={}", other.0))
        .await;
    scene.rotate().await;
    scene.until(Step::Test).await;
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_after_any_call_leaves_no_key_behind() {
    for action in [
        "ListAccessKeys",
        "CreateAccessKey",
        "UpdateAccessKey",
        "DeleteAccessKey",
    ] {
        let scene = Scene::new().await;
        let first = scene.keys().await;
        // A node that takes all steps until it dies, which is when this answer is lost.
        let (doomed, _store) = scene.node().await;
        scene.aws.swallow(Some(action));
        let dying = {
            let (doomed, alice, id) = (doomed.clone(), scene.alice().await, scene.id);
            tokio::spawn(async move {
                doomed.rotate_integration(&alice, id).await.unwrap();
                loop {
                    doomed.upkeep().await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        };
        let began = Instant::now();
        while scene.aws.swallowed() == 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "{action}");
            tokio::time::sleep(Duration::from_millis(50)).await;
            let stands = scene.stands().await;
            let wait = stands
                .next
                .map_or(0, |next| next.seconds() - scene.house.clock.now().seconds());
            // Time goes only while the node waits for it, not while it calls.
            let waits = matches!(stands.step, Step::Test | Step::Grace | Step::Delete);
            if waits && wait > 0 && wait != 120 {
                scene.pass(wait + 1);
            }
        }
        dying.abort();
        scene.aws.swallow(None);
        if action == "CreateAccessKey" {
            assert_eq!(scene.keys().await.len(), 2, "the lost one is there");
        }
        scene.pass(125);
        let end = loop {
            scene.house.broker.upkeep().await;
            let stands = scene.stands().await;
            if stands.step == Step::Idle {
                break stands;
            }
            assert!(
                began.elapsed() < Duration::from_secs(90),
                "{action}: {stands:?}"
            );
            let now = scene.house.clock.now();
            let next = stands.next.unwrap();
            if next > now {
                scene.pass(next.seconds() - now.seconds() + 1);
            }
        };
        assert_eq!(end.detail, None, "{action}");
        let left = scene.keys().await;
        assert!(
            left.len() == 1 && left[0].1 && left[0].0 != first[0].0,
            "{action}: {left:?}"
        );
        scene.works_as(2).await;
        scene.is_clean().await;
    }
}
