//! Grants whose tokens are not what a provider has: taken back all the same, and said to be
//! confirmed only where they are.

use keystead_broker::Revocation;
use keystead_core::ids::IntegrationId;
use keystead_store::RevocationState;
use keystead_testkit::played::{Answer, Door, Reply};
use serde_json::json;

use crate::cases::Case;
use crate::receipts::stage;

/// Loses the provider's answer to a renewal: it has other tokens than we, and nobody is at it.
async fn is_in_doubt(case: &Case) -> IntegrationId {
    let id = case.connect(case.oauth_mode()).await.unwrap();
    case.set_tokens(id, "expires_at = 1, renew_at = NULL").await;
    case.answers(Door::Renew, Answer::Lost);
    assert!(case.is_used(id).await.is_err());
    case.answers(Door::Renew, Answer::WellPlayed);
    // The pause after that is over, and nobody else takes it up.
    case.set_tokens(id, "renew_at = NULL, failures = 0, failing_since = NULL")
        .await;
    let python = "print(db.execute('SELECT intent FROM token_set WHERE integration_id = ?', (arg[0],)).fetchone()[0])";
    let intent = case.house.tamper(python, &[id.to_string()]);
    assert_eq!(intent.trim(), "1");
    id
}

fn is_away() -> Answer {
    Answer::With(Reply::json(503, &json!({})))
}

#[track_caller]
fn says(item: &Revocation, state: RevocationState, told: &[&str]) {
    assert_eq!(item.state, state, "{item:?}");
    let detail = item.detail.as_deref().unwrap_or_default();
    assert_eq!(detail.is_empty(), told.is_empty(), "{detail}");
    for piece in told {
        assert!(detail.contains(piece), "{detail}");
    }
    let by_hand = state == RevocationState::Failed;
    assert!(!by_hand || item.manual_url.is_some(), "{item:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_reply_may_have_granted_is_not_said_to_be_taken_back() {
    let case = &stage(&["linear"]).await[0];
    let newer = ["the provider confirmed", "newer tokens may exist"];
    // The old refresh token is tried once more, and refused.
    let id = is_in_doubt(case).await;
    let asked = case.played.count(Door::Renew);
    let item = case.deleted(id).await;
    assert_eq!(case.played.count(Door::Renew), asked + 1);
    assert_eq!(case.played.count(Door::Revoke), 1);
    says(&item, RevocationState::Failed, &newer);
    // It cannot be tried.
    let id = is_in_doubt(case).await;
    case.answers(Door::Renew, is_away());
    let item = case.deleted(id).await;
    case.answers(Door::Renew, Answer::WellPlayed);
    says(&item, RevocationState::Failed, &newer);
    // It was tried long before.
    let id = is_in_doubt(case).await;
    let broker = &case.house.broker;
    broker.test_integration(&case.owner, id).await.unwrap();
    let seen = broker.integration(&case.owner, id).await.unwrap();
    assert_eq!(seen.status.as_str(), "reauthorize");
    let item = case.deleted(id).await;
    says(&item, RevocationState::Failed, &newer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_leaves_no_doubt_where_the_newest_tokens_are_had_or_any_token_ends_all() {
    let case = &stage(&["google_oauth"]).await[0];
    // Its refresh token stays good: another try brings the newest tokens.
    let id = is_in_doubt(case).await;
    let item = case.deleted(id).await;
    assert_eq!(case.played.grants()[0].renewals, 2);
    says(&item, RevocationState::Confirmed, &[]);
    // Whatever token is taken back, the whole grant goes with it.
    let id = is_in_doubt(case).await;
    case.answers(Door::Renew, is_away());
    let item = case.deleted(id).await;
    assert!(case.played.grants()[1].revoked);
    says(&item, RevocationState::Confirmed, &[]);
    // But that this token was gone says nothing of newer ones.
    case.answers(Door::Renew, Answer::WellPlayed);
    let id = is_in_doubt(case).await;
    case.answers(Door::Renew, is_away());
    let gone = Reply::json(400, &json!({"error": "invalid_token"}));
    case.answers(Door::Revoke, Answer::With(gone));
    let item = case.deleted(id).await;
    let told = ["it was gone", "newer tokens may exist"];
    says(&item, RevocationState::Failed, &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_token_that_has_ended_is_renewed_where_it_is_needed_to_take_the_grant_back() {
    let cases = stage(&["github", "linear", "dropbox", "discord"]).await;
    for case in &cases {
        let id = case.connect(case.oauth_mode()).await.unwrap();
        case.set_tokens(id, "expires_at = 1, renew_at = NULL").await;
        case.played.ends_access();
        let item = case.deleted(id).await;
        let by_access = case.provider.id != "discord";
        let grant = &case.played.grants()[0];
        assert_eq!(grant.renewals, usize::from(by_access), "{item:?}");
        assert!(grant.revoked);
        says(&item, RevocationState::Confirmed, &[]);
        let heard = case.played.last(Door::Revoke).unwrap().heard;
        // All are over by now; the newest access token is the last.
        let access = grant.ended.last().unwrap();
        let sent = format!("{:?} {:?}", heard.headers, heard.body).replace("Sensitive", "");
        let placed = heard.headers.get("authorization");
        let placed = placed.is_some_and(|it| it.to_str().unwrap().ends_with(access));
        assert_eq!(placed || sent.contains(access), by_access, "{sent}");
        // It was out of use while that was done.
        let own = format!("\"{id}\"");
        let held = case.house.entries(&["held to be revoked", &own]).await;
        assert_eq!(held, usize::from(by_access));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_back_by_an_access_token_that_has_ended_is_not_said_to_be() {
    let case = &stage(&["linear"]).await[0];
    let id = case.connect(case.oauth_mode()).await.unwrap();
    case.set_tokens(id, "expires_at = 1, renew_at = NULL").await;
    case.played.ends_access();
    // A refusal that leaves the refresh token as it was.
    let later = Reply::json(429, &json!({}));
    case.answers(Door::Renew, Answer::With(later));
    let item = case.deleted(id).await;
    let told = ["access token had ended and could not be renewed"];
    says(&item, RevocationState::Failed, &told);
}
