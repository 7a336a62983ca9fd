//! Credentials and grants of every mode, taken back through a broker.

use std::sync::Arc;
use std::time::Duration;

use keystead_broker::{BatchPage, Revocation};
use keystead_core::provider::Mode;
use keystead_testkit::played::{Answer, Door, Reply};

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
