//! Consents that come to nothing, through a broker: whatever the token endpoint answers, what was
//! there before stays as it was.

use std::sync::Arc;

use keystead_broker::{IntegrationFilter, Status};
use keystead_core::provider::oauth::OAuth;
use keystead_testkit::played::{Answer, Door, Reply};

use crate::cases::{Case, cases, catalogue, each};
use crate::consent::{failures, unusable};

/// All answers that are no tokens, and some that are hardly answers.
fn answers(case: &Case, oauth: &OAuth) -> Result<Vec<(String, Answer)>, String> {
    let good = case.played.good_reply().ok_or("no reply")?;
    let mut all = Vec::new();
    for (name, reply, _) in failures(oauth)? {
        all.push((name, Answer::With(reply)));
    }
    for (name, reply, _) in unusable(oauth, &good) {
        all.push((name.to_owned(), Answer::With(reply)));
    }
    let big = Reply {
        body: vec![b' '; 10 << 20],
        ..good
    };
    all.push(("10 MB".to_owned(), Answer::With(big)));
    all.push(("a closed connection".to_owned(), Answer::Reset));
    Ok(all)
}

async fn stays_as_it_was(case: &Case, oauth: &OAuth) -> Result<(), String> {
    let path = format!("{}kept", case.provider.path_prefixes[0]);
    let id = case.consent().await?;
    case.house.settled(&case.owner, id).await;
    for (name, answer) in answers(case, oauth)? {
        case.answers(Door::Token, answer);
        for integration in [Some(id), None] {
            let asked = case.played.count(Door::Token);
            let done = case.consent_for(integration).await?;
            if let Ok(id) = done {
                return Err(format!("{name}: {id} is connected"));
            }
            if case.played.count(Door::Token) != asked + 1 {
                return Err(format!("{name}: not one call; {done:?}"));
            }
        }
    }
    case.answers(Door::Token, Answer::WellPlayed);
    let seen = case.house.broker.integration(&case.owner, id).await;
    let seen = seen.map_err(|fault| format!("{fault:?}"))?;
    let filter = IntegrationFilter {
        limit: 10,
        ..IntegrationFilter::default()
    };
    let all = case
        .house
        .broker
        .list_integrations(&case.owner, filter)
        .await;
    let all = all.map_err(|fault| format!("{fault:?}"))?.data.len();
    if seen.status != Status::Connected || all != 1 || case.played.grants().len() != 1 {
        return Err(format!("in the end: {all} of them, {:?}", seen.status));
    }
    // With the tokens of the one consent that there was.
    case.call(id, None, &path).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_that_comes_to_nothing_leaves_what_was_there() {
    each(
        cases(catalogue(), true).await,
        |case: Arc<Case>| async move {
            let part = case.played.part();
            let Some((mode, oauth)) = part.oauth() else {
                return Vec::new();
            };
            let result = stays_as_it_was(&case, oauth).await;
            let fault = result.err();
            fault
                .map(|fault| case.at(mode, &fault))
                .into_iter()
                .collect()
        },
    )
    .await;
}
