//! Grants through a broker: renewed by their class, and what becomes of them where that fails.

use std::future::Future;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use keystead_broker::{Changes, Status, TestReport};
use keystead_core::ids::IntegrationId;
use keystead_core::provider::ResultClass;
use keystead_core::provider::oauth::{OAuth, RefreshClass};
use keystead_testkit::played::{Answer, Door, Grant, Reply, dead, refusal};

use crate::cases::{Case, cases_in, catalogue};
use crate::house::{House, Plan};

/// A provider whose tokens are renewed, and grants of it: each is for one purpose.
struct Grants {
    case: Case,
    ids: Vec<IntegrationId>,
}

impl Grants {
    async fn of(case: Case, count: usize) -> Result<Grants, String> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(case.consent().await?);
        }
        for id in &ids {
            let seen = case.house.settled(&case.owner, *id).await;
            if seen.status != Status::Connected {
                return Err(format!("{:?}; {}", seen.error_message, case.refused()));
            }
        }
        Ok(Grants { case, ids })
    }

    fn grant(&self, number: usize) -> Grant {
        self.case.played.grants()[number].clone()
    }

    async fn status(&self, number: usize) -> Status {
        let seen = self
            .case
            .house
            .broker
            .integration(&self.case.owner, self.ids[number]);
        seen.await.unwrap().status
    }

    async fn test(&self, number: usize) -> Result<TestReport, keystead_broker::Error> {
        let id = self.ids[number];
        self.case
            .house
            .broker
            .test_integration(&self.case.owner, id)
            .await
    }

    async fn call(&self, number: usize) -> Result<(), String> {
        let path = format!("{}kept", self.case.provider.path_prefixes[0]);
        self.case.call(self.ids[number], None, &path).await
    }

    /// Any change lets nobody believe what was read before.
    async fn rename(&self) {
        let change = Changes {
            name: Some("renamed".to_owned()),
            ..Changes::default()
        };
        let done =
            self.case
                .house
                .broker
                .update_integration(&self.case.owner, self.ids[0], change, None);
        done.await.unwrap();
    }

    /// Tries it while whoever renews is told this; a token that has ended is not used.
    async fn fails(&self, number: usize, answer: Answer) -> Result<(), String> {
        self.case.answers(Door::Renew, answer);
        let asked = self.case.played.count(Door::Test);
        let used = self.test(number).await;
        self.case.answers(Door::Renew, Answer::WellPlayed);
        if matches!(&used, Ok(report) if report.result == ResultClass::Ok) {
            return Err(format!("{used:?}"));
        }
        if self.case.played.count(Door::Test) != asked {
            return Err("a token that has ended was used".to_owned());
        }
        Ok(())
    }
}

async fn goes_by_its_class(grants: &Grants, oauth: &OAuth) -> Result<(), String> {
    let calls = grants.case.played.count(Door::Renew);
    let uses = (0..5).map(|_| grants.call(0));
    for used in join_all(uses).await {
        used?;
    }
    let grant = grants.grant(0);
    if grant.renewals != 1 || grants.case.played.count(Door::Renew) != calls + 1 {
        return Err(format!("{} renewals for uses at once", grant.renewals));
    }
    let rotated = !grant.spent.is_empty();
    if rotated != (oauth.refresh.class == RefreshClass::SingleUse) || grant.replayed {
        return Err("the refresh token does not go by its class".to_owned());
    }
    Ok(())
}

/// What the provider has ended is over, and is said to be.
async fn ends(grants: &Grants, oauth: &OAuth) -> Result<(), String> {
    let told = [dead(oauth), refusal(oauth, "invalid_grant")];
    for (number, reply) in (1..).zip(told) {
        let at = |fault: String| format!("told it is dead ({number}): {fault}");
        grants
            .fails(number, Answer::With(reply))
            .await
            .map_err(at)?;
        let asked = grants.case.played.count(Door::Renew);
        let used = [grants.call(number).await, grants.call(number).await];
        let seen = grants.status(number).await;
        let again = grants.case.played.count(Door::Renew) - asked;
        if seen != Status::Reauthorize || again > 0 || used.iter().any(Result::is_ok) {
            return Err(at(format!("{seen:?}, asked {again} times more, {used:?}")));
        }
    }
    Ok(())
}

/// What is no end of the grant leaves it whole; as soon as the provider works again, it does.
async fn outlives(grants: &Grants, oauth: &OAuth) -> Result<(), String> {
    let client = refusal(oauth, "invalid_client");
    let told = [
        ("an unknown client", client),
        ("a page", Reply::html(503)),
        ("a page that says yes", Reply::html(oauth.reply.success[0])),
    ];
    for (number, (name, reply)) in (3..).zip(told.clone()) {
        let result = grants.fails(number, Answer::With(reply)).await;
        result.map_err(|fault| format!("{name}: {fault}"))?;
    }
    for (number, (name, _)) in (3..).zip(told) {
        let patience = Instant::now() + Duration::from_secs(30);
        // After a pause it is tried again.
        while grants.grant(number).renewals == 0 && Instant::now() < patience {
            let _ = grants.test(number).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let used = grants.test(number).await;
        let (seen, grant) = (grants.status(number).await, grants.grant(number));
        if seen != Status::Connected || grant.replayed || grant.renewals != 1 {
            return Err(format!("{name}: {seen:?}, {used:?}"));
        }
    }
    // What became of this call is not known: it is tried again when its lease is over, and not here.
    let result = grants.fails(6, Answer::Reset).await;
    result.map_err(|fault| format!("a closed connection: {fault}"))?;
    let (seen, grant) = (grants.status(6).await, grants.grant(6));
    if seen == Status::Reauthorize || grant.refresh.is_empty() {
        return Err(format!("a closed connection: {seen:?}"));
    }
    Ok(())
}

/// Who is asked to call less often does: nobody calls again at once, and nothing is lost.
async fn holds_back(grants: &Grants) -> Result<(), String> {
    let hard = Reply::html(429).with("retry-after", "60");
    let calls = grants.case.played.count(Door::Renew);
    let result = grants.fails(7, Answer::With(hard)).await;
    result.map_err(|fault| format!("too many calls: {fault}"))?;
    let again = [grants.test(7).await, grants.test(8).await];
    if grants.case.played.count(Door::Renew) != calls + 1 {
        return Err(format!("too many calls, and again: {again:?}"));
    }
    let grant = grants.grant(7);
    if grant.refresh.is_empty() || grant.renewals > 0 {
        return Err("too many calls: the grant is another".to_owned());
    }
    Ok(())
}

async fn lives_and_ends(grants: Grants) -> Vec<String> {
    let part = grants.case.played.part();
    let Some((mode, oauth)) = part.oauth() else {
        return Vec::new();
    };
    grants.rename().await;
    let results = [
        goes_by_its_class(&grants, oauth).await,
        ends(&grants, oauth).await,
        outlives(&grants, oauth).await,
        holds_back(&grants).await,
    ];
    let faults = results.into_iter().filter_map(Result::err);
    faults.map(|fault| grants.case.at(mode, &fault)).collect()
}

/// What is refused before its time, where nobody knows when that is, is renewed once and used.
async fn is_renewed_when_refused(grants: Grants) -> Vec<String> {
    let part = grants.case.played.part();
    let Some((mode, _)) = part.oauth() else {
        return Vec::new();
    };
    grants.rename().await;
    grants.case.played.ends_access();
    let used = grants.call(0).await;
    let grant = grants.grant(0);
    if used.is_ok() && grant.renewals == 1 && !grant.replayed {
        return Vec::new();
    }
    let fault = format!("{} renewals after a 401: {used:?}", grant.renewals);
    vec![grants.case.at(mode, &fault)]
}

/// So many grants of each provider whose tokens are renewed.
async fn granted(count: usize) -> Vec<Grants> {
    let plan = Plan {
        in_file: true,
        ..Plan::default()
    };
    let renewed = |case: &Case| {
        let part = case.played.part();
        let class = part.oauth().map(|(_, oauth)| oauth.refresh.class);
        class.is_some_and(|class| class != RefreshClass::None)
    };
    let all = cases_in(catalogue(), plan)
        .await
        .into_iter()
        .filter(renewed);
    let all = all.map(|case| tokio::spawn(Grants::of(case, count)));
    let all = join_all(all).await.into_iter();
    all.map(|made| made.unwrap().unwrap_or_else(|fault| panic!("{fault}")))
        .collect()
}

/// Sets when all tokens end, as if they had been granted an hour ago.
fn granted_an_hour_ago(house: &House, expires_at: &str) {
    let hour = "(strftime('%s','now') - 3600) * 1000000";
    let expires_at = expires_at.replace("HOUR", hour);
    let change = format!(
        "UPDATE token_set SET expires_at = {expires_at}, renew_at = NULL, updated_at = {hour}"
    );
    house.tamper(&format!("db.execute(\"{change}\")"), &[]);
}

async fn each_of<R>(all: Vec<Grants>, drive: fn(Grants) -> R)
where
    R: Future<Output = Vec<String>> + Send + 'static,
{
    let house = all[0].case.house.clone();
    let driven = join_all(all.into_iter().map(|grants| tokio::spawn(drive(grants)))).await;
    let found: Vec<String> = driven.into_iter().flat_map(Result::unwrap).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
    house.log_is_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_grant_is_renewed_by_its_class_and_outlives_what_is_not_its_end() {
    let all = granted(9).await;
    granted_an_hour_ago(&all[0].case.house, "HOUR");
    each_of(all, lives_and_ends).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_whose_end_nobody_knows_is_renewed_when_its_api_refuses_it() {
    let all = granted(1).await;
    granted_an_hour_ago(&all[0].case.house, "NULL");
    each_of(all, is_renewed_when_refused).await;
}
