//! Credentials of every mode, driven through a broker: every rule of every test call, and every place that a
//! credential goes to.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keystead_core::provider::{Mode, ResultClass, Rule, TestCall};
use keystead_testkit::client::Client;
use keystead_testkit::played::{
    Answer, Door, Heard, Reply, Terms, healthy, meaning, near_misses, replies_for,
};
use serde_json::json;

use crate::cases::{Case, cases, catalogue, each};

/// Answers to a test call, each with what it is an example of.
fn answers(rules: &[Rule]) -> Result<Vec<(String, Reply)>, String> {
    let terms: Vec<Terms> = rules.iter().map(Terms::from).collect();
    let mut all = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        let replies = replies_for(&terms, number);
        if replies.is_empty() {
            return Err(format!("rule {} is never the first to fit", number + 1));
        }
        let result = rule.result.as_str();
        let named = |reply| (format!("rule {} ({result})", number + 1), reply);
        all.extend(replies.into_iter().map(named));
        let misses = near_misses(&terms[number]).into_iter();
        all.extend(misses.map(|reply| (format!("short of rule {}", number + 1), reply)));
    }
    for status in [
        200, 201, 302, 400, 401, 402, 403, 404, 418, 429, 500, 503, 529,
    ] {
        all.push((format!("status {status}"), Reply::json(status, &json!({}))));
    }
    for status in [200, 403, 502] {
        all.push((format!("a page with {status}"), Reply::html(status)));
    }
    let away = Reply::json(307, &json!({})).with("location", "/v1/elsewhere");
    all.push(("a redirection".to_owned(), away));
    Ok(all)
}

/// Which call it is that the rules are about.
fn tried(test: &TestCall) -> Door {
    if test.mint { Door::Mint } else { Door::Test }
}

async fn follows_its_rules(case: &Case, mode: &Mode) -> Result<(), String> {
    let Some(test) = mode.test.as_ref().or(case.provider.test.as_ref()) else {
        return Ok(());
    };
    if !test.mint && healthy(&test.rules).is_none() {
        return Err("no answer means that the credential works".to_owned());
    }
    let door = tried(test);
    case.answers(door, Answer::WellPlayed);
    let id = case.connect(mode).await?;
    for (name, reply) in answers(&test.rules)? {
        // A token endpoint that says yes has to send a token with it.
        if test.mint && (200..300).contains(&reply.status) {
            continue;
        }
        let (class, message) = meaning(&test.rules, &reply);
        let asked = case.played.count(door);
        case.answers(door, Answer::With(reply.clone()));
        let report = case.house.broker.test_integration(&case.owner, id).await;
        let report = report.map_err(|fault| format!("{name}: {fault:?}"))?;
        let at = || {
            let body = String::from_utf8_lossy(&reply.body).into_owned();
            format!("{name}: {} {body}", reply.status)
        };
        if report.result != class {
            return Err(format!("{}: {:?}, not {class:?}", at(), report.result));
        }
        if message.is_some() && report.message != message {
            return Err(format!("{}: it says {:?}", at(), report.message));
        }
        if case.played.count(door) != asked + 1 {
            return Err(format!("{}: not one call; {}", at(), case.refused()));
        }
    }
    case.answers(door, Answer::Reset);
    let report = case.house.broker.test_integration(&case.owner, id).await;
    match report.map(|report| report.result) {
        Ok(ResultClass::Down) => {}
        other => return Err(format!("a connection that is closed: {other:?}")),
    }
    case.answers(door, Answer::WellPlayed);
    match case.house.broker.test_integration(&case.owner, id).await {
        Ok(report) if report.result == ResultClass::Ok => Ok(()),
        other => Err(format!("in the end: {other:?}; {}", case.refused())),
    }
}

pub(crate) async fn tries_everything(case: Arc<Case>) -> Vec<String> {
    let mut found = Vec::new();
    for mode in &case.provider.modes {
        let result = follows_its_rules(&case, mode).await;
        found.extend(result.err().map(|fault| case.at(mode, &fault)));
    }
    found
}

/// One whose first mode is tried by a call that is never answered.
async fn waits_no_longer(case: Arc<Case>) -> Vec<String> {
    let mode = &case.provider.modes[0];
    let tried = async {
        let test = mode.test.as_ref().or(case.provider.test.as_ref());
        let door = test.map_or(Door::Test, tried);
        case.answers(door, Answer::WellPlayed);
        let id = case.connect(mode).await?;
        case.answers(door, Answer::Hang);
        let report = case.house.broker.test_integration(&case.owner, id).await;
        match report.map(|report| report.result) {
            Ok(ResultClass::Down) => Ok(()),
            other => Err(format!("silence: {other:?}")),
        }
    };
    let result: Result<(), String> = tried.await;
    result
        .err()
        .map(|fault| case.at(mode, &fault))
        .into_iter()
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_of_a_provider_is_its_trouble_and_no_verdict() {
    each(cases(catalogue(), true).await, waits_no_longer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_of_every_provider_gives_its_result() {
    each(cases(catalogue(), true).await, tries_everything).await;
}

/// Every place of the API where the definition may put the credential differently.
fn places(case: &Case, mode: &Mode) -> Vec<(Option<String>, String)> {
    let path = |prefix: &str| format!("{prefix}kept");
    let prefixes = case
        .provider
        .path_prefixes
        .iter()
        .map(|prefix| path(prefix));
    let under = mode.under.iter().map(|under| path(&under.path));
    let mut places: Vec<_> = prefixes.chain(under).map(|path| (None, path)).collect();
    let first = path(&case.provider.path_prefixes[0]);
    let fixed = case.provider.hosts.iter().map(|rule| rule.text.clone());
    let fixed = fixed.filter(|host| !host.contains(['*', '{']));
    let part = case.played.part();
    let chosen = case.provider.config.iter().filter(|s| s.name == "hosts");
    let chosen = chosen.filter_map(|setting| part.config.get(&setting.name));
    let chosen = chosen.flat_map(|hosts| hosts.split(' ').map(str::to_owned));
    places.extend(fixed.chain(chosen).map(|host| (Some(host), first.clone())));
    places
}

async fn places_the_credential(case: &Case, mode: &Mode) -> Result<(), String> {
    let id = case.connect(mode).await?;
    for (host, path) in places(case, mode) {
        let at = || format!("{}{path}", host.as_deref().unwrap_or_default());
        case.call(id, host.as_deref(), &path)
            .await
            .map_err(|fault| format!("{}: {fault}", at()))?;
        let served = case.played.last(Door::Api).unwrap();
        if served.mode.as_deref() != Some(&mode.id) {
            return Err(format!("{}: as {:?}", at(), served.mode));
        }
        refuses_all_else(case, &served.heard)
            .await
            .map_err(|fault| format!("{}: {fault}", at()))?;
    }
    Ok(())
}

/// The server is as strict as it says: of what arrived, nothing may be twice, elsewhere or missing.
async fn refuses_all_else(case: &Case, heard: &Heard) -> Result<(), String> {
    let mut others: BTreeMap<String, Heard> = BTreeMap::new();
    let carriers = case.played.luggage();
    let placed: Vec<&str> = carriers
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| heard.headers.contains_key(*name))
        .collect();
    if placed.is_empty() && case.played.query_luggage().is_empty() {
        return Err("nothing is placed".to_owned());
    }
    let mut other = |name: String, change: &dyn Fn(&mut Heard)| {
        let mut copy = heard.clone();
        change(&mut copy);
        others.insert(name, copy);
    };
    for name in placed {
        let value = heard.headers[name].clone();
        let text = value.to_str().unwrap().to_owned();
        let secret = text.rsplit(' ').next().unwrap_or_default().to_owned();
        let name: http::HeaderName = name.parse().unwrap();
        other(format!("{name} twice"), &|h| {
            h.headers.append(name.clone(), value.clone());
        });
        other(format!("no {name}"), &|h| {
            h.headers.remove(&name);
        });
        other(format!("{name} with a letter more"), &|h| {
            h.headers
                .insert(name.clone(), format!("{text}x").parse().unwrap());
        });
        for carrier in ["cookie", "proxy-authorization"] {
            other(format!("{name} in {carrier} too"), &|h| {
                h.headers.insert(carrier, value.clone());
            });
        }
        for parameter in case.played.query_luggage() {
            other(format!("{name} in the query as {parameter} too"), &|h| {
                h.target = format!("{}&{parameter}={secret}", h.target);
            });
        }
    }
    for parameter in case.played.query_luggage() {
        other(format!("{parameter} in the query once more"), &|h| {
            h.target = format!("{}&{parameter}=x", h.target);
        });
    }
    other("outside of the prefixes".to_owned(), &|h| {
        h.target = "/../outside".to_owned();
    });
    for (name, other) in others {
        if other.target == "/../outside" && case.provider.path_prefixes.contains(&"/".to_owned()) {
            continue;
        }
        let mut client = Client::new(case.played.url());
        for (name, value) in &other.headers {
            if name != http::header::CONTENT_LENGTH {
                client = client.header(name.as_str(), value.to_str().unwrap());
            }
        }
        let body = Bytes::copy_from_slice(&other.body);
        let answer = client.try_call(other.method.clone(), &other.target, body);
        let answer = answer.await?;
        if answer.status != 401 {
            return Err(format!("{name}: the played provider takes it"));
        }
    }
    Ok(())
}

pub(crate) async fn goes_everywhere(case: Arc<Case>) -> Vec<String> {
    let mut found = Vec::new();
    for mode in &case.provider.modes {
        let result = places_the_credential(&case, mode).await;
        found.extend(result.err().map(|fault| case.at(mode, &fault)));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_credential_arrives_where_its_file_says_and_nothing_of_the_callers_does() {
    for all in [true, false] {
        each(cases(catalogue(), all).await, goes_everywhere).await;
    }
}
