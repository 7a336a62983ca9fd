//! How credentials are taken back at their providers, and which answers confirm it.

use std::sync::Arc;

use keystead_core::provider::{Call, Fields, Mode, Outcome};
use keystead_testkit::played::{Answer, Door, Reply, Terms, replies_for};
use serde_json::json;

use crate::cases::{Case, cases, catalogue, each};
use crate::known::Known;

/// The fields of a credential that can be taken back: as granted, or as typed.
async fn held(case: &Case, known: &Known, mode: &Mode) -> Result<Fields, String> {
    match &mode.oauth {
        Some(oauth) => Ok(known.consent(case, oauth).await?.fields),
        None => {
            let typed = json!(case.played.part().credentials[&mode.id]);
            let parsed = Fields::parse(&known.provider, typed);
            parsed
                .map(|(fields, _)| fields)
                .map_err(|faults| format!("{faults:?}"))
        }
    }
}

/// A name, an answer, and what it may mean.
type Told = (String, Answer, Vec<Outcome>);

async fn is_taken_back(case: &Case, mode: &Mode) -> Result<(), String> {
    let Some(revoke) = &mode.revoke else {
        return Ok(());
    };
    let known = Known::of(case);
    for (number, call) in revoke.calls.iter().enumerate() {
        case.answers(Door::Revoke, Answer::WellPlayed);
        let fields = held(case, &known, mode).await?;
        let mut first = vec![Outcome::Confirmed];
        // A key that another call took back is gone.
        first.extend((number > 0 && mode.oauth.is_none()).then_some(Outcome::Gone));
        for (name, answer, expected) in answers_of(call, first)? {
            case.answers(Door::Revoke, answer);
            let asked = case.played.count(Door::Revoke);
            let outcome = known
                .takes_back(mode, number, &fields)
                .await
                .map_err(|fault| format!("call {}: {name}: {fault}", number + 1))?;
            let told = || {
                format!(
                    "call {}: {name}: {outcome:?}; {}",
                    number + 1,
                    case.refused()
                )
            };
            if case.played.count(Door::Revoke) != asked + 1 || !expected.contains(&outcome) {
                return Err(told());
            }
        }
        if mode.oauth.is_some() && !case.played.grants().pop().unwrap().revoked {
            return Err(format!("call {}: the grant lives on", number + 1));
        }
    }
    Ok(())
}

/// How the endpoint may answer, and what that may say: at first twice as it is meant.
fn answers_of(call: &Call, first: Vec<Outcome>) -> Result<Vec<Told>, String> {
    let mut all = vec![("the first time".to_owned(), Answer::WellPlayed, first)];
    let over = vec![Outcome::Gone, Outcome::Confirmed];
    all.push(("again".to_owned(), Answer::WellPlayed, over));
    let rules: Vec<Terms> = call.rules.iter().map(|rule| (&rule.when).into()).collect();
    for (number, rule) in call.rules.iter().enumerate() {
        let replies = replies_for(&rules, number);
        if replies.is_empty() {
            return Err(format!("rule {} is never the first to fit", number + 1));
        }
        for reply in replies {
            all.push((
                format!("rule {}", number + 1),
                Answer::With(reply),
                vec![rule.means],
            ));
        }
    }
    for status in [400, 401, 403, 429, 500, 503] {
        let page = Reply::html(status);
        if !call.ok.contains(&status) && !call.gone.contains(&status) {
            all.push((
                format!("status {status}"),
                Answer::With(page),
                vec![Outcome::Failed],
            ));
        }
    }
    let away = Reply::json(302, &json!({})).with("location", "/stolen");
    all.push((
        "a redirection".to_owned(),
        Answer::With(away),
        vec![Outcome::Failed],
    ));
    Ok(all)
}

pub(crate) async fn takes_everything_back(case: Arc<Case>) -> Vec<String> {
    let mut found = Vec::new();
    for mode in &case.provider.modes {
        let result = is_taken_back(&case, mode).await;
        found.extend(result.err().map(|fault| case.at(mode, &fault)));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_revocation_is_asked_as_its_file_says_and_confirmed_by_what_it_says() {
    each(cases(catalogue(), true).await, takes_everything_back).await;
}
