//! Credentials and grants of every mode, taken back through a broker.

use std::sync::Arc;
use std::time::Duration;

use keystead_broker::{BatchPage, Changes, Revocation};
use keystead_core::provider::oauth::RefreshClass;
use keystead_core::provider::{Catalogue, Config, Fields, Mode, Outcome, revoke_calls};
use keystead_core::time::Time;
use keystead_testkit::played::{Answer, Door, Reply};
use serde_json::{Value, json};

use crate::cases::{Case, cases, catalogue, each};

/// Waits until the one item of a batch was tried so many times, or is settled.
async fn tried(case: &Case, mut page: BatchPage, times: u64) -> Result<Revocation, String> {
    for _ in 0..1000 {
        let item = page.items.data.into_iter().next().ok_or("an empty batch")?;
        if item.settled_at.is_some() || item.attempts >= times {
            return Ok(item);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        let id = page.batch.id;
        let found = case.house.broker.find_revocation(&case.owner, id, 10, None);
        page = found.await.map_err(|fault| format!("{fault:?}"))?;
    }
    Err("it is not settled".to_owned())
}

async fn is_taken_back(case: &Case, mode: &Mode) -> Result<(), String> {
    let calls = mode.revoke.as_ref().map_or(0, |revoke| revoke.calls.len());
    let path = format!("{}kept", case.provider.path_prefixes[0]);
    for works in [false, true] {
        let refuses = Answer::With(Reply::html(503));
        case.answers(
            Door::Revoke,
            if works { Answer::WellPlayed } else { refuses },
        );
        let id = case.connect(mode).await?;
        let number = case.played.grants().len();
        let (revoked, known) = (
            case.played.count(Door::Revoke),
            case.played.count(Door::Api),
        );
        let page = case
            .house
            .broker
            .revoke_integration(&case.owner, id, None)
            .await;
        let page = page.map_err(|fault| format!("{fault:?}"))?;
        let times = if works { u64::MAX } else { 1 };
        let item = tried(case, page, times).await?;
        let told = || format!("{item:?}; {}", case.refused());
        if case.call(id, None, &path).await.is_ok() || case.played.count(Door::Api) != known {
            return Err(format!("it is used yet: {}", told()));
        }
        let state = item.state.as_str();
        let expected = match (calls, works) {
            (0, _) => "unsupported",
            (_, false) => "pending",
            (_, true) => "confirmed",
        };
        if state != expected {
            return Err(format!("not {expected}: {}", told()));
        }
        let first = mode.revoke.as_ref().and_then(|revoke| revoke.calls.first());
        let remark = first.and_then(|call| call.remark.as_ref());
        let detail = item.detail.clone().unwrap_or_default();
        if works && remark.is_some_and(|remark| !detail.ends_with(remark)) {
            return Err(format!("the remark is lost: {}", told()));
        }
        if calls == 0 {
            let page = page_for(case, mode);
            if item.manual_url.as_ref() != Some(&page) || case.played.count(Door::Revoke) != revoked
            {
                return Err(format!("by hand: {}", told()));
            }
            continue;
        }
        let lives = mode.oauth.is_some() && !case.played.grants()[number - 1].revoked;
        if lives == works && mode.oauth.is_some() {
            return Err(format!("the provider has another mind: {}", told()));
        }
    }
    Ok(())
}

/// Where a person can do it: what the mode says, else what the provider says. What no mode of a
/// provider has a call for is not opened, so that its mode is not known.
fn page_for(case: &Case, mode: &Mode) -> String {
    let asked = |mode: &Mode| {
        let calls = mode.revoke.as_ref().map(|revoke| revoke.calls.len());
        mode.oauth.is_some() || calls > Some(0)
    };
    let opened = case.provider.modes.iter().any(asked);
    let own = mode.revoke.as_ref().filter(|_| opened);
    let own = own.and_then(|revoke| revoke.manual.clone());
    let links = &case.provider.links;
    own.or(links.revoke.clone())
        .or(links.console.clone())
        .unwrap_or(case.provider.docs.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_grant_is_taken_back_through_the_broker_and_used_no_more() {
    each(
        cases(catalogue(), true).await,
        |case: Arc<Case>| async move {
            let mut found = Vec::new();
            for mode in &case.provider.modes {
                let result = is_taken_back(&case, mode).await;
                found.extend(result.err().map(|fault| case.at(mode, &fault)));
            }
            found
        },
    )
    .await;
}

/// An account that is connected, whose credential was replaced by an own app or a key since.
async fn is_taken_back_though_replaced(case: &Case, by: Value) -> Result<(), String> {
    case.answers(Door::Revoke, Answer::WellPlayed);
    let Some(mode) = case.provider.oauth_mode() else {
        return Ok(());
    };
    let id = case.connect(mode).await?;
    let number = case.played.grants().len();
    let broker = &case.house.broker;
    let change = Changes {
        credentials: Some(by),
        ..Changes::default()
    };
    let replaced = broker.update_integration(&case.owner, id, change, None);
    replaced.await.map_err(|fault| format!("{fault:?}"))?;
    let page = broker.revoke_integration(&case.owner, id, None).await;
    let batch = page.map_err(|fault| format!("{fault:?}"))?.batch.id;
    let mut page = broker.find_revocation(&case.owner, batch, 10, None).await;
    for _ in 0..1000 {
        if matches!(&page, Ok(page) if page.batch.closed_at.is_some()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        page = broker.find_revocation(&case.owner, batch, 10, None).await;
    }
    let items = page.map_err(|fault| format!("{fault:?}"))?.items.data;
    let told = format!("{items:?}; {}", case.refused());
    let revoked = case.played.grants()[number - 1].revoked;
    let confirmed = items.iter().all(|item| item.state.as_str() == "confirmed");
    match revoked
        == mode
            .revoke
            .as_ref()
            .is_some_and(|revoke| !revoke.calls.is_empty())
    {
        true if revoked || !confirmed => Ok(()),
        _ => Err(told),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_whose_credential_was_replaced_is_taken_back_and_never_called_confirmed_unasked() {
    each(
        cases(catalogue(), true).await,
        |case: Arc<Case>| async move {
            let mut all =
                vec![json!({"client_id": "another-app", "client_secret": "canary-another"})];
            let modes = case.provider.modes.iter();
            let typed = modes.filter(|mode| mode.oauth.is_none());
            all.extend(typed.map(|mode| json!(case.played.part().credentials[&mode.id])));
            let mut found = Vec::new();
            for by in all {
                let result = is_taken_back_though_replaced(&case, by).await;
                found.extend(
                    result
                        .err()
                        .map(|fault| format!("{}: {fault}", case.provider.id)),
                );
            }
            found
        },
    )
    .await;
}

#[test]
fn the_end_of_an_access_token_is_no_proof_of_its_refresh_tokens() {
    for provider in Catalogue::embedded().unwrap().list() {
        let Some(mode) = provider.oauth_mode() else {
            continue;
        };
        let renewed = mode.oauth.as_ref().unwrap().refresh.class != RefreshClass::None;
        for call in mode.revoke.iter().flat_map(|revoke| &revoke.calls) {
            let sent = format!("{:?} {:?}", call.form, call.json);
            let gone =
                !call.gone.is_empty() || call.rules.iter().any(|rule| rule.means == Outcome::Gone);
            let knows = sent.contains("refresh_token") || call.remark.is_some();
            assert!(!renewed || !gone || knows, "{}: {}", provider.id, call.url);
        }
    }
    let github = catalogue().get("github").unwrap().clone();
    let fields = json!({"access_token": "canary-a", "refresh_token": "canary-r"});
    let fields = Fields::from_message(fields.to_string().as_bytes()).unwrap();
    let mode = github.oauth_mode().unwrap();
    let calls = revoke_calls(&github, mode, &Config::default(), None, &fields, Time(0));
    let [call] = &calls.ok().unwrap()[..] else {
        panic!("without an app there is one call");
    };
    let sent: Value = serde_json::from_slice(&call.request.body).unwrap();
    assert_eq!(sent, json!({"credentials": ["canary-a", "canary-r"]}));
    assert!(call.remark.is_some());
}

/// What may have ended before is not confirmed by being unknown.
#[tokio::test]
async fn a_404_of_github_is_asked_again() {
    let mut all = cases(catalogue(), true).await.into_iter();
    let case = all.find(|case| case.provider.id == "github").unwrap();
    let mode = case.provider.oauth_mode().unwrap();
    let id = case.connect(mode).await.unwrap();
    let unknown = Reply::json(404, &json!({"message": "Not Found"}));
    case.answers(Door::Revoke, Answer::With(unknown));
    let page = case.house.broker.revoke_integration(&case.owner, id, None);
    let item = tried(&case, page.await.unwrap(), 1).await.unwrap();
    assert_eq!(item.state.as_str(), "pending");
}
