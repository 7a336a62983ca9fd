//! Resources and their credentials, against servers that refuse what the vendors refuse.

#![allow(clippy::unwrap_used)]

mod github;
mod google;
#[path = "../house/mod.rs"]
mod house;
mod policy;
mod refused;
mod supabase;

use house::{House, Plan};
use keystead_broker::{Context, Error, NewIntegration, Settings};
use keystead_core::action::Role;
use keystead_core::ids::IntegrationId;
use keystead_core::provider::resources::{Resource, Wanted};
use keystead_testkit::canary::Canaries;
use keystead_testkit::vendors::Desk;
use serde_json::{Value, json};

/// A house whose provider is at the desk.
async fn house(provider: &'static str, desk: &Desk) -> House {
    house_with(provider, desk, Settings::default()).await
}

async fn house_with(provider: &'static str, desk: &Desk, settings: Settings) -> House {
    House::planned(Plan {
        settings,
        in_file: true,
        dial: vec![(provider, desk.url.clone())],
        ..Plan::default()
    })
    .await
}

/// An integration of acme's.
async fn connect(
    house: &House,
    provider: &str,
    credentials: Value,
    config: Value,
) -> IntegrationId {
    let alice = house.user("alice", "acme", Role::Owner).await;
    let new = NewIntegration {
        name: provider.into(),
        type_: provider.into(),
        credentials,
        config: config.as_object().unwrap().clone(),
    };
    let made = house.broker.create_integration(&alice, new, None).await;
    let id = made.unwrap().integration.id;
    house.settled(&alice, id).await;
    id
}

/// A backend that may reveal.
async fn backend(house: &House) -> Context {
    let key = house.service_key("reveal").await;
    house.ctx(&key, Some("acme")).await.unwrap()
}

async fn list(house: &House, id: IntegrationId) -> Result<Vec<Resource>, Error> {
    let viewer = house.user("victor", "acme", Role::Viewer).await;
    let page = house.broker.list_resources(&viewer, id, None).await?;
    assert_eq!(page.next, None);
    Ok(page.data)
}

/// What a backend is handed.
async fn fetch(
    house: &House,
    id: IntegrationId,
    key: &str,
    wanted: Wanted,
) -> Result<Value, Error> {
    let ctx = backend(house).await;
    let broker = &house.broker;
    let issued = broker
        .fetch_resource_credentials(&ctx, id, key, wanted)
        .await?;
    Ok(serde_json::from_slice(&issued.into_json()).unwrap())
}

fn kind(kind: &str) -> Wanted {
    Wanted {
        kind: Some(kind.to_owned()),
        ..Wanted::default()
    }
}

/// The code and the text of a conflict.
fn conflict(fault: Error) -> (&'static str, String) {
    match fault {
        Error::Conflict { code, message, .. } => (code, message.into_owned()),
        other => panic!("{other:?}"),
    }
}

/// The fields that are refused.
fn invalid(fault: Error) -> Vec<String> {
    match fault {
        Error::Invalid(faults) => faults.into_iter().map(|fault| fault.path).collect(),
        other => panic!("{other:?}"),
    }
}

/// Nothing that the vendor gave out is in the log or in the database, as entries or as files.
async fn nothing_is_kept(house: &House, desk: &Desk) {
    let given = desk.given();
    assert!(!given.is_empty(), "a control: nothing was given out");
    let mut canaries = Canaries::new();
    for secret in &given {
        canaries.plant("what was handed out", secret);
    }
    let log = house.log().await.join("\n");
    assert!(log.contains("\"reveal\""), "{log}");
    canaries.assert_absent("the log", log.as_bytes());
    let mut files = 0;
    for end in ["", "-wal"] {
        let path = format!("{}{end}", house.database().display());
        if let Ok(bytes) = std::fs::read(path) {
            canaries.assert_absent(end, &bytes);
            files += 1;
            // The control: the search finds one that is planted on purpose.
            let planted = [&bytes[..], given[0].as_bytes()].concat();
            assert!(!canaries.find(end, &planted).is_empty());
        }
    }
    assert_eq!(files, 2);
    let dump = house.tamper("print('\\n'.join(db.iterdump()))", &[]);
    assert!(dump.contains("integration"), "{dump}");
    canaries.assert_absent("the dump", dump.as_bytes());
}

/// Says of a call that it was made with nothing secret in its address.
fn no_secret_in_addresses(desk: &Desk) {
    let calls = json!(desk.calls()).to_string();
    assert!(!calls.contains("canary"), "{calls}");
}
